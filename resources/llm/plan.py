"""Plans a known number of calls: which of them have to be sent, and what these will take."""

from resources.llm.concurrency import FIRST
from resources.llm.embedded import SLOTS
from resources.llm.prices import Price
from resources.llm.request import PreparedCall
from resources.llm.store import Measured
from resources.llm.tokens import TokenCounter
from resources.llm.types import Estimate
from resources.settings import Role

# Prompt tokens by byte before any reply was measured; English has about a quarter.
_TOKENS_PER_BYTE = 0.27
# So many prompts are counted by the model's own tokenizer; their ratio holds for the rest.
_TOKENIZED_CALLS = 500


class Plan:
    """The calls of a stage that have no stored reply, of all that were looked up.

    ``missing`` are the numbers of the items whose calls are missing, ``keys`` the keys of those
    calls; equal calls have one.
    """

    def __init__(self, role: Role, price: Price | None, tokens: TokenCounter) -> None:
        self._role = role
        self._price = price
        self._tokens = tokens
        self.calls = 0
        self.missing: list[int] = []
        self.keys: set[str] = set()
        self._prompt_bytes = 0
        self._most_completion_tokens = 0
        self._tokenized = self._tokenized_bytes = 0
        self._tokens_per_byte = _TOKENS_PER_BYTE
        self._mean_completion: float | None = None

    def note(self, number: int, prepared: PreparedCall) -> None:
        """Note that an item's call has no stored reply."""
        self.missing.append(number)
        if prepared.key in self.keys:
            return
        self.keys.add(prepared.key)
        self._prompt_bytes += prepared.prompt_bytes
        self._most_completion_tokens += prepared.max_tokens
        if self._tokens.known and len(self.keys) <= _TOKENIZED_CALLS:
            texts = [message["content"] for message in prepared.call.messages]
            self._tokenized += self._tokens.count(texts)
            self._tokenized_bytes += prepared.prompt_bytes

    @property
    def goes_in_batches(self) -> bool:
        """Whether so many missing calls go to the provider's Batch API."""
        return self._role.batch_from is not None and len(self.keys) >= self._role.batch_from

    def estimate(self, measured: Measured | None) -> Estimate:
        """What the missing calls will take, given means over the model's latest replies."""
        new = len(self.keys)
        if self._tokenized_bytes:
            self._tokens_per_byte = self._tokenized / self._tokenized_bytes
        elif measured:
            self._tokens_per_byte = measured.tokens_per_byte
        prompt = round(self._tokens_per_byte * self._prompt_bytes)
        completion = self._most_completion_tokens
        seconds: float | None = None if new else 0.0
        if measured:
            self._mean_completion = measured.completion_tokens
            completion = min(completion, round(measured.completion_tokens * new))
            at_once = self._role.concurrency or (2 * SLOTS if self._role.embedded else FIRST)
            seconds = measured.latency_s * new / min(at_once, new or 1)
        cost: float | None = None
        if self._price:
            cost = self._price.cost(prompt, completion, batch=self.goes_in_batches)
        return Estimate(
            self.calls, self.calls - len(self.missing), prompt, completion, cost, seconds
        )

    def expected_tokens(self, prepared: PreparedCall) -> int:
        """Tokens of prompt and reply that a call is expected to have, by the last estimate."""
        prompt = round(prepared.prompt_bytes * self._tokens_per_byte)
        completion = min(self._mean_completion or prepared.max_tokens, prepared.max_tokens)
        return prompt + round(completion)

    def announcement(self, estimate: Estimate) -> str:
        """The sentence that tells a person what the calls will take."""
        if self._price is None:
            label = self._role.model_label
            cost = f"at an unknown price ({label} is neither listed nor in prices.toml)"
        elif estimate.cost_usd == 0:
            cost = "at no cost"
        else:
            cost = f"about ${estimate.cost_usd:.4g} (prices of {self._price.source})"
        return (
            f"{estimate.calls:,} calls: {estimate.stored:,} stored, {len(self.keys):,} to send, "
            f"about {estimate.prompt_tokens:,} tokens in and {estimate.completion_tokens:,} out, "
            f"{cost}"
        )
