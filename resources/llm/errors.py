"""The errors of the language models' calls; no message ever holds prompt text or a key."""

from resources.errors import InternalError, MendableError


class LLMError(MendableError):
    """The calls of a stage can't go on; replies so far are kept.

    A fault of a single call is not raised: it is the ``status`` and ``detail`` of its reply.
    """


class BudgetError(LLMError):
    """The next call would exceed the budget; ``remaining`` calls were not made."""

    def __init__(self, message: str, *, spent_usd: float, limit_usd: float, remaining: int):
        super().__init__(message)
        self.spent_usd = spent_usd
        self.limit_usd = limit_usd
        self.remaining = remaining


class StoreError(LLMError):
    """The reply store can't be opened, read or written; the message names file and reason."""


class Unparsable(InternalError):  # noqa: N818 (it is a verdict on a reply, not a fault)
    """A reply does not say what was asked for; the message is the reason.

    The next attempt may show the reason to the model and tables show it to people, so it never
    quotes the reply.
    """
