"""One stage's calls, made in batches.

A batch's way: its requests are written to a file on this machine → it stands in the store with the
keys of its calls (``prepared``) → the provider has its file (``uploaded``) → the provider has the
batch (``created``) → its replies are in the store (``done``). Each step is on disk before the next
begins, and what the provider has can be found there by the batch's own id. So a process that dies
leaves nothing that would be sent twice: who comes next takes the batch up where it stands.

What a batch does not bring (expired, failed, refused) is left to the ordinary way.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from resources.llm.batch.claims import Claims
from resources.llm.batch.following import BatchFollower
from resources.llm.batch.ledger import Batch, Ledger
from resources.llm.batch.pauses import beating, sleep
from resources.llm.batch.provider import Provider
from resources.llm.batch.results import Keeper
from resources.llm.batch.sending import Sender
from resources.llm.batch.stage import BatchStage
from resources.llm.capabilities import Capabilities
from resources.llm.coordination import Coordination
from resources.llm.errors import StoreError
from resources.llm.request import PreparedCall
from resources.llm.store import ReplyStore
from resources.llm.types import Usage

# Seconds between two looks whether another process has made its batches.
_TURN_S = 1.0


class BatchRunner:
    """Has the calls of one stage made in batches, at a role's first endpoint.

    Args:
        stage: Who asks, and of which model.
        store: Where batches and replies are kept.
        shared: What processes share.
        say: Takes a line for a person.
    """

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
        """What the replies took that came by ``run``: tokens and dollars, no calls."""
        return self._keeper.usage

    def run(self, missing: Iterable[PreparedCall], *, submit: bool = True) -> None:
        """Have calls made in batches; returns when each is stored or left to the ordinary way.

        Batches that were left open for this model and endpoint, by whatever process, are taken up
        first; those that another process takes forward are waited for where they hold a call.

        Args:
            missing: Calls that are not in the store; read once.
            submit: Whether calls that stand in no batch yet are put into new ones.

        Raises:
            LLMError: The provider can't be asked, or does not serve this model in batches. Open
                batches stay so, and the next run takes them up.
            StoreError: The store can't be read or written.
        """
        ledger = Ledger(self._store.database)
        claims = Claims(self._shared, ledger)
        with Provider(self._stage.role_name, self._stage.role) as provider:
            sender = Sender(
                self._stage,
                lacks=self._lacks,
                store=self._store,
                ledger=ledger,
                claims=claims,
                provider=provider,
                say=self._say,
                submit=submit,
            )
            follower = BatchFollower(
                self._stage,
                ledger=ledger,
                claims=claims,
                provider=provider,
                keeper=self._keeper,
                say=self._say,
            )
            with _tidied(sender, claims), beating(self._shared):
                with self._alone():
                    sender.take_up()
                    sender.sort(missing)
                follower.wait()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time makes batches of a model, so that equal calls meet in one."""
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
    """Whatever happens, claims and reservations end with the run."""
    try:
        yield
    finally:
        # Where the store is the trouble, this must not hide it.
        with suppress(StoreError):
            sender.drop_draft()
            for batch in list(claims.mine.values()):
                claims.let_go(batch)
