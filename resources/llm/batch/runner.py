"""One stage's calls, made in batches.

A batch's way: its requests are written to a file on this machine → it stands in the store with the
keys of its calls (``prepared``) → the provider has its file (``uploaded``) → the provider has the
batch (``created``) → its replies are in the store (``done``). Each step is on disk before the next
begins, and what the provider has can be found there by the batch's own id. So a process that dies
leaves nothing that would be sent twice: the next process takes the batch up where it stands.

Calls that a batch brings no reply for (it expired, failed or was refused) are sent the ordinary
way.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from resources.llm.batch.batching import Batching, BatchStage
from resources.llm.batch.claims import Claims
from resources.llm.batch.following import BatchFollower
from resources.llm.batch.ledger import Batch, Ledger
from resources.llm.batch.pauses import beating, sleep
from resources.llm.batch.provider import Provider
from resources.llm.batch.results import Keeper
from resources.llm.batch.sending import Sender
from resources.llm.capabilities import Capabilities
from resources.llm.coordination import Coordination
from resources.llm.errors import StoreError
from resources.llm.request import PreparedCall
from resources.llm.store import ReplyStore
from resources.llm.types import Usage

# Seconds between two looks whether another process has made its batches.
_TURN_S = 1.0


class BatchRunner:
    """Has the calls of one stage made in batches, at a role's first endpoint."""

    def __init__(
        self,
        stage: BatchStage,
        store: ReplyStore,
        shared: Coordination,
        say: Callable[[str], None],
    ) -> None:
        self._stage = stage
        self._store = store
        self._shared = shared
        self._say_line = say
        self._lacks = Capabilities(shared, stage.role.base_url, stage.role.model, say).lacks
        self._keeper = Keeper(store)

    @property
    def usage(self) -> Usage:
        """Tokens and dollars of the replies that ``run`` brought, without a number of calls."""
        return self._keeper.usage

    def run(self, missing: Iterable[PreparedCall], *, submit: bool = True) -> None:
        """Have calls made in batches; returns when each is stored or left to the ordinary way.

        Batches that any process left open for this model and endpoint are taken up first. Batches
        of other processes are waited for where they hold one of the calls.

        Args:
            missing: Calls that are not in the store; they are read once.
            submit: Whether calls that are in no batch yet are put into new ones.

        Raises:
            LLMError: The provider can't be asked, or does not serve this model in batches. Open
                batches stay open, and the next run takes them up.
            StoreError: The store can't be read or written.
        """
        ledger = Ledger(self._store.database)
        claims = Claims(self._shared, ledger)
        with Provider(self._stage.role_name, self._stage.role) as provider:
            batching = Batching(self._stage, ledger, claims, provider, self._say)
            sender = Sender(batching, self._store, self._lacks, submit=submit)
            follower = BatchFollower(batching, self._keeper)
            with _tidied(sender, claims), beating(self._shared):
                with self._alone():
                    sender.take_up()
                    sender.sort(missing)
                follower.wait()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the claim to make batches of a model, so that equal calls meet in one batch."""
        name = f"batching {self._stage.role.model_label}"
        waits = False
        while not self._shared.claim([name]):
            if not waits:
                self._say_line(
                    f"{self._stage.role_name}: another process is making batches; waiting"
                )
            waits = True
            sleep(_TURN_S)
        try:
            yield
        finally:
            self._shared.claim([], [name])

    def _say(self, batch: Batch, line: str) -> None:
        self._say_line(f"{self._stage.role_name}: batch {batch.batch_id[:8]}: {line}")


@contextmanager
def _tidied(sender: Sender, claims: Claims) -> Iterator[None]:
    """Give up claims and reservations at the end of the block, however it ends."""
    try:
        yield
    finally:
        # A store in trouble has raised already, and this must not hide it.
        with suppress(StoreError):
            sender.drop_draft()
            for batch in list(claims.mine.values()):
                claims.let_go(batch)
