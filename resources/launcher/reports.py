"""The orchestrator's side of a mailbox: Dagster Pipes' messages of all attempts of a job."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dagster import PipesMessageReader
from dagster._core.pipes.context import PipesMessageHandler
from dagster_pipes import PipesParams

from resources.launcher.mailbox import Mailbox, Message, MessageFile

OPENED, CLOSED, CUSTOM = "opened", "closed", "report_custom_message"


class MailboxReader(PipesMessageReader):
    """Reads a mailbox at each poll: at first of the job that would be made, later of any other."""

    def __init__(
        self, mailbox: type[Mailbox] | type[MessageFile], url: str, log: logging.Logger
    ) -> None:
        self._url, self._log = url, log
        self._mailbox = mailbox(url)
        self._handler: PipesMessageHandler | None = None
        self._attempts: list[str] = []
        self._closing: Message | None = None
        self._custom: list[tuple[str, Mapping[str, Any]]] = []

    @contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[PipesParams]:
        """Give the parameters for the job's side of the mailbox."""
        self._handler = handler
        try:
            yield {self._mailbox.parameter: self._url}
        finally:
            # Several attempts close several times; Dagster expects it once, at the end.
            if self._closing is not None:
                handler.handle_message(self._closing)  # type: ignore[arg-type]
            self._handler = None

    def turn_to(self, url: str) -> None:
        """Read the mailbox of a job that is there already, from its start."""
        self._url, self._mailbox = url, type(self._mailbox)(url)

    def poll(self) -> None:
        """Pass new messages on; where the storage can't be read now, the next poll reads them."""
        try:
            for attempt, message in self._mailbox.new():
                if attempt not in self._attempts:
                    self._attempts.append(attempt)
                    self._closing = None
                self._take(attempt, message)
        except Exception as error:
            # Each storage driver has errors of its own.
            self._log.warning(f"reports can't be read now: {error}")

    def result(self) -> dict[str, Any] | None:
        """The result that the job has reported by now, if it did."""
        self.poll()
        result = self._last("result")
        if result is None:
            return None
        return {name: value for name, value in result.items() if name != "kind"}

    def error(self, process: str | None = None) -> tuple[str, bool] | None:
        """The last error that was reported by now, and whether a repeat would end in it, too.

        Asked for one process, it is named by its ``OPENCS_POD``, or else by its host.
        """
        self.poll()
        error = self._last("error", "" if process is None else f".{process}")
        return None if error is None else (str(error["message"]), bool(error["final"]))

    def _last(self, kind: str, attempt_end: str = "") -> Mapping[str, Any] | None:
        messages = [payload for name, payload in self._custom if name.endswith(attempt_end)]
        return next((each for each in reversed(messages) if each.get("kind") == kind), None)

    def _take(self, attempt: str, message: Message) -> None:
        method = message.get("method")
        if method == CUSTOM:
            self._custom.append((attempt, message["params"]["payload"]))
        if method == CLOSED:
            self._closing = message
            return
        if self._handler is None or (method == OPENED and len(self._attempts) > 1):
            return
        self._handler.handle_message(message)  # type: ignore[arg-type]

    def no_messages_debug_text(self) -> str:
        """What Dagster logs where nothing was reported."""
        return f"Attempted to read messages in {self._url}."
