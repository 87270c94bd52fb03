"""Files and batches at a provider, over the openai package, and what goes wrong with them."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from resources.llm.batch.sheet import Sheet
from resources.llm.batch.spool import Spool
from resources.llm.errors import LLMError
from resources.llm.faults import shown_message
from resources.llm.request import provider_of
from resources.llm.transport import http_settings, quiet_loggers
from resources.settings import Role

if TYPE_CHECKING:
    import openai

# Seconds that the upload of a file of the largest size may take.
_UPLOAD_S = 600.0
CODE = re.compile(r"[\w.-]{1,60}")
_NOT_SUPPORTED = re.compile(
    r"(?:\bnot|n't) (?:be )?(?:support|available|enabled|allowed)|unsupported", re.IGNORECASE
)


class _ProviderError(LLMError):
    """A request came to nothing; ``reason`` is in the provider's words where it has some."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.reason = reason


class Unreached(_ProviderError):  # noqa: N818 (what the provider did, no fault of the program)
    """The provider gave no answer, or one that may change in a while."""


class Refused(_ProviderError):  # noqa: N818
    """The provider refused, with an HTTP status."""

    def __init__(self, where: str, reason: str, status: int) -> None:
        super().__init__(where, reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault that the provider names in a batch's file."""

    code: str | None
    line: int | None
    message: str | None

    def words(self, key: str, sheet: Sheet | None) -> str:
        """The provider's words, unless they hold the API key or a prompt.

        Without the sheet nobody can tell whether a line's message quotes its prompt, so such a
        message is left out.
        """
        code = self.code if self.code and CODE.fullmatch(self.code) else "not valid"
        if self.line is None:
            return code + shown_message(self.message, key, ())
        messages = sheet.messages(self.line) if sheet is not None else None
        place = f"{code} in line {self.line}"
        return place if messages is None else place + shown_message(self.message, key, messages)


@dataclass(frozen=True, slots=True)
class Seen:
    """A batch as the provider describes it; ``created_at`` is a Unix time.

    ``batch_id`` is the platform's own id, where the platform made the batch, and ``version`` the
    prompt version of the calls, where all have the same. ``problems`` are faults of the file of
    requests.
    """

    provider_id: str
    status: str
    created_at: float
    total: int = 0
    completed: int = 0
    failed: int = 0
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    batch_id: str | None = None
    version: str | None = None
    problems: tuple[Problem, ...] = ()


class Provider:
    """Files and batches at a role's endpoint, over the openai package.

    All methods raise ``Refused`` and ``Unreached`` with the provider's words.
    """

    def __init__(self, role_name: str, role: Role) -> None:
        import openai

        quiet_loggers()
        self._openai = openai
        self._role_name, self._role = role_name, role
        self._where = f"{role_name}: batches at {provider_of(role.base_url)}"
        self.key = os.environ.get(role.api_key_env, "")
        options: dict[str, Any] = {
            "api_key": self.key or "none",
            "max_retries": 2,
            "timeout": role.timeout_s,
            "http_client": openai.DefaultHttpxClient(**http_settings(role.base_url)),
        }
        self._client: openai.OpenAI
        if role.api_version:
            self._client = openai.AzureOpenAI(
                azure_endpoint=role.base_url, api_version=role.api_version, **options
            )
        else:
            self._client = openai.OpenAI(base_url=role.base_url, **options)
        # A request that makes something is never repeated before somebody has looked for it there.
        self._once = self._client.with_options(max_retries=0)

    def __enter__(self) -> "Provider":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def upload(self, name: str, file: IO[bytes]) -> str:
        """Upload a file of requests; returns its id."""
        with self._faults():
            uploaded = self._once.files.create(
                file=(name, file, "application/jsonl"), purpose="batch", timeout=_UPLOAD_S
            )
            return self._id(uploaded)

    def create(self, url: str, file_id: str, batch_id: str, version: str | None) -> str:
        """Create a batch; returns its id."""
        metadata = {"opencs_batch": batch_id}
        if version is not None:
            metadata["prompt_version"] = version[:512]
        with self._faults():
            created = self._once.batches.create(
                completion_window="24h",
                # The SDK's type leaves Azure's URL out.
                endpoint=cast(Any, url),
                input_file_id=file_id,
                metadata=metadata,
            )
            return self._id(created)

    def batch(self, provider_id: str) -> Seen:
        """A batch as it stands."""
        with self._faults():
            return self._seen(self._client.batches.retrieve(provider_id))

    def batches(self, since: float) -> Iterator[Seen]:
        """Batches that were created since a moment (Unix time)."""
        with self._faults():
            # Some providers don't list the newest first, so all batches are read.
            for listed in self._client.batches.list(limit=100):
                seen = self._seen(listed)
                if seen.created_at >= since:
                    yield seen

    def find_file(self, name: str) -> str | None:
        """Id of a file of requests; ``None`` where the provider has none of the name."""
        with self._faults():
            for listed in self._client.files.list(purpose="batch"):
                if getattr(listed, "filename", None) == name:
                    return self._id(listed)
        return None

    def download(self, file_id: str, spool: Spool) -> None:
        """Append a file of the provider's to a file here."""
        streamed = self._client.files.with_streaming_response
        with self._faults(), streamed.content(file_id) as response:
            try:
                for chunk in response.iter_bytes():
                    spool.write(chunk)
            except LLMError:
                raise
            except Exception as error:  # The SDK does not wrap the errors of its HTTP library.
                raise self._unreached(type(error).__name__) from None

    def no_access(self, error: Refused) -> LLMError:
        """The error that says that the key may not do this."""
        variable = self._role.api_key_env
        return self.error(f"{error.reason}; check the key in {variable} and what it may use")

    def no_batches(self, reason: str) -> LLMError:
        """The error that says that the model is not served in batches."""
        return self.error(
            f"no batches: {reason}; unset roles.{self._role_name}.batch_from and run again"
        )

    def error(self, reason: str) -> LLMError:
        """An error that ends the run and names role, model and provider."""
        where = f"{self._role.model} at {provider_of(self._role.base_url)}"
        return LLMError(f"{self._role_name}: {where}: {reason}")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        openai = self._openai
        try:
            yield
        except LLMError:
            raise
        except openai.APIStatusError as error:
            raise self._fault(error) from None
        except openai.APITimeoutError:
            raise self._unreached("no answer in time") from None
        except openai.APIConnectionError as error:
            raise self._unreached(type(error.__cause__ or error).__name__) from None
        except openai.OpenAIError as error:
            raise self._unreached(type(error).__name__) from None

    def _fault(self, error: "openai.APIStatusError") -> LLMError:
        body = error.body if isinstance(error.body, dict) else {}
        status = error.status_code
        detail = f"HTTP {status}{shown_message(body.get('message'), self.key, ())}"
        passes = status in (408, 409, 425, 429) or status >= 500
        if passes and status != 501 and body.get("code") != "insufficient_quota":
            return self._unreached(detail)
        return Refused(self._where, detail, status)

    def _unreached(self, reason: str) -> Unreached:
        return Unreached(self._where, reason)

    def _id(self, answer: Any) -> str:
        name = getattr(answer, "id", None)
        if not isinstance(name, str):
            raise self._unreached("the answer is not the Batch API's")
        return name

    def _seen(self, batch: Any) -> Seen:
        """What the platform needs of a batch; the SDK does not check the provider's answer."""
        counts = getattr(batch, "request_counts", None)
        metadata = getattr(batch, "metadata", None)
        metadata = metadata if isinstance(metadata, dict) else {}
        errors = getattr(getattr(batch, "errors", None), "data", None) or ()
        return Seen(
            provider_id=self._id(batch),
            status=str(getattr(batch, "status", "")),
            created_at=getattr(batch, "created_at", None) or 0,
            total=getattr(counts, "total", None) or 0,
            completed=getattr(counts, "completed", None) or 0,
            failed=getattr(counts, "failed", None) or 0,
            # Some providers write an empty id where there is no file.
            input_file_id=getattr(batch, "input_file_id", None) or None,
            output_file_id=getattr(batch, "output_file_id", None) or None,
            error_file_id=getattr(batch, "error_file_id", None) or None,
            batch_id=metadata.get("opencs_batch"),
            version=metadata.get("prompt_version"),
            problems=tuple(
                Problem(*(getattr(error, name, None) for name in ("code", "line", "message")))
                for error in errors
            ),
        )


def denies_batches(words: str) -> bool:
    """Whether the provider says that it has no batches for this model."""
    return "batch" in words.lower() and bool(_NOT_SUPPORTED.search(words))
