"""Which process takes a batch forward, and with it its calls."""

from resources.llm.batch.ledger import Batch, Ledger
from resources.llm.coordination import Coordination
from resources.llm.store import chunked


class Claims:
    """The batches that this process takes forward, and no other.

    Attributes:
        shared: What processes share, claims among it.
        mine: The batches of this process, by id.
        others: Ids of other processes' batches that hold calls needed here.
    """

    def __init__(self, shared: Coordination, ledger: Ledger) -> None:
        self.shared = shared
        self._ledger = ledger
        self.mine: dict[str, Batch] = {}
        self.others: set[str] = set()

    def take(self, batch_id: str) -> Batch | None:
        """Claim an open batch with its calls; ``None`` where another has it or it is done."""
        if not self.shared.claim([_claim(batch_id)]):
            return None
        # It is read only now, because its owner may have worked on it until it let the claim go.
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
        """Whether a batch is still this process's; where not, it now counts among the others."""
        if self.shared.claim([_claim(batch.batch_id)]):
            stored = self._ledger.find(batch.batch_id)
            if stored is not None and stored.state == batch.state:
                return True
            # Another process had the batch in between, and brought it forward or to its end.
            self.shared.claim([], [_claim(batch.batch_id)])
        self.mine.pop(batch.batch_id)
        self.others.add(batch.batch_id)
        return False

    def close(self, batch: Batch, detail: str) -> None:
        """Mark a batch as done; its calls without a reply may be asked again."""
        self._ledger.change(batch, state="done", detail=detail)
        self.let_go(batch)

    def let_go(self, batch: Batch) -> None:
        """Give up the claims of a batch and of its calls."""
        self.mine.pop(batch.batch_id, None)
        if batch.sheet is not None:
            batch.sheet.close()
        for keys in chunked(self._ledger.keys(batch.batch_id)):
            self.shared.claim([], keys)
        self.shared.claim([], [_claim(batch.batch_id)])


def _claim(batch_id: str) -> str:
    return f"batch {batch_id}"
