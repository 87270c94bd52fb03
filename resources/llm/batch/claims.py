"""Which process takes a batch forward, and with it its calls."""

from resources.llm.batch.ledger import Batch, Ledger
from resources.llm.coordination import Coordination
from resources.llm.store import chunked


class Claims:
    """The batches that this process takes forward, and no other.

    Args:
        shared: What processes share.
        ledger: The batches in the store.

    Attributes:
        mine: Those batches by id.
        others: Batches of other processes that hold calls needed here.
    """

    def __init__(self, shared: Coordination, ledger: Ledger) -> None:
        self.shared = shared
        self._ledger = ledger
        self.mine: dict[str, Batch] = {}
        self.others: set[str] = set()

    def take(self, batch_id: str) -> Batch | None:
        """Claim an open batch with its calls; ``None`` where somebody else has it or it is done."""
        if not self.shared.claim([_claim(batch_id)]):
            return None
        # Read now: its owner may have brought it forward up to the moment that it was let go.
        batch = self._ledger.find(batch_id)
        if batch is None or batch.state == "done":
            self.shared.claim([], [_claim(batch_id)])
            return None
        self.mine[batch_id] = batch
        for keys in chunked(self._ledger.keys(batch_id)):
            self.shared.claim(keys)
        return batch

    def add(self, batch: Batch) -> None:
        """Claim a batch that is new."""
        self.shared.claim([_claim(batch.batch_id)])
        self.mine[batch.batch_id] = batch

    def still_has(self, batch: Batch) -> bool:
        """Whether a batch is this process's yet; where not, it is one of the others' now."""
        if self.shared.claim([_claim(batch.batch_id)]):
            found = self._ledger.find(batch.batch_id)
            if found is not None and found.state == batch.state:
                return True
            # Another process had it in between, and brought it forward or to its end.
            self.shared.claim([], [_claim(batch.batch_id)])
        self.mine.pop(batch.batch_id)
        self.others.add(batch.batch_id)
        return False

    def close(self, batch: Batch, detail: str) -> None:
        """A batch is done; its calls may be asked for again where they have no reply."""
        self._ledger.change(batch, state="done", detail=detail)
        self.let_go(batch)

    def let_go(self, batch: Batch) -> None:
        """Give back a batch and those of its calls that are this process's."""
        self.mine.pop(batch.batch_id, None)
        if batch.sheet is not None:
            batch.sheet.close()
        for keys in chunked(self._ledger.keys(batch.batch_id)):
            self.shared.claim([], keys)
        self.shared.claim([], [_claim(batch.batch_id)])


def _claim(batch_id: str) -> str:
    return f"batch {batch_id}"
