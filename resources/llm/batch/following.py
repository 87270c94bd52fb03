"""Following batches to their end: those of this process, and others that hold calls needed here."""

import time
from contextlib import closing

from resources.llm.batch.batching import Batching
from resources.llm.batch.ledger import AT_ONCE, Batch
from resources.llm.batch.pauses import sleep
from resources.llm.batch.provider import Refused, Seen, Unreached, denies_batches
from resources.llm.batch.results import Keeper, ResultReader
from resources.llm.batch.sending import ABANDONED, adopt
from resources.llm.batch.sheet import Sheet
from resources.llm.batch.spool import Spool
from resources.llm.request import provider_of
from resources.llm.store import chunked

# Seconds between the first two looks at a batch; later ones are further apart.
POLL_S = 5.0
_MOST_POLL_S = 60.0
_POLL_GROWTH = 1.5
# Seconds without an answer after which a provider is given up; the batch can be taken up later.
_PATIENCE_S = 900.0
_OVER = frozenset({"completed", "expired", "cancelled"})


class BatchFollower:
    """Looks at batches until they are over, and keeps their replies."""

    def __init__(self, batching: Batching, keeper: Keeper) -> None:
        self._stage = batching.stage
        self._ledger = batching.ledger
        self._claims = batching.claims
        self._provider = batching.provider
        self._say = batching.say
        self._keeper = keeper

    def wait(self) -> None:
        """Look at the batches until none is left that holds a call needed here."""
        pause = POLL_S
        while self._claims.mine or self._claims.others:
            for batch in list(self._claims.mine.values()):
                self._look(batch)
            for batch_id in list(self._claims.others):
                self._follow(batch_id)
            for batch in [batch for batch in self._claims.mine.values() if not batch.needed]:
                # One look is enough at a batch without calls that this stage needs.
                self._claims.let_go(batch)
            if self._claims.mine or self._claims.others:
                sleep(pause)
                pause = min(pause * _POLL_GROWTH, _MOST_POLL_S)

    def _look(self, batch: Batch) -> None:
        """See how far a batch is; where it is over, read it."""
        try:
            seen = self._provider.batch(batch.provider_id or "")
            self._tell_counts(batch, seen)
            if seen.status == "failed":
                self._failed(batch, seen)
            elif seen.status in _OVER:
                self._read(batch, seen)
            # The provider counts as reached only when it has given the files too.
            batch.unreached_since = None
        except Unreached as error:
            now = time.monotonic()
            if batch.unreached_since is None:
                batch.unreached_since = now
                self._say(batch, f"{error.reason}; asked again later")
            elif now - batch.unreached_since > _PATIENCE_S:
                raise self._provider.error(
                    f"{error.reason}; run again to take the open batches up"
                ) from None
        except Refused as error:
            if error.status != 404:
                raise self._provider.no_access(error) from None
            self._claims.close(batch, f"lost: {error.reason}")
            self._say(batch, f"lost ({error.reason}); its calls are sent the ordinary way")

    def _follow(self, batch_id: str) -> None:
        """See how far another process is with a batch; where that process is gone, take it up."""
        batch = self._ledger.find(batch_id)
        if batch is None or batch.state == "done":
            self._claims.others.discard(batch_id)
            return
        taken = self._claims.take(batch_id)
        if taken is None:
            return
        self._claims.others.discard(batch_id)
        taken.needed = True
        if (taken.model, taken.endpoint) != (
            self._stage.role.model_label,
            self._stage.role.base_url,
        ):
            self._say(
                taken, f"left at {provider_of(taken.endpoint)}; its calls are sent the ordinary way"
            )
            self._claims.let_go(taken)
            return
        if taken.state != "created":
            adopt(self._provider, self._ledger, [taken])
        if taken.state != "created":
            self._claims.close(taken, ABANDONED)

    def _tell_counts(self, batch: Batch, seen: Seen) -> None:
        counts = (seen.status, seen.completed, seen.failed)
        if counts == batch.reported_counts:
            return
        batch.reported_counts = counts
        failed = f", {seen.failed:,} failed" if seen.failed else ""
        self._say(batch, f"{seen.completed:,}/{seen.total:,} done{failed} ({seen.status})")

    def _failed(self, batch: Batch, seen: Seen) -> None:
        """Close a batch that the provider did not begin with, and say why."""
        sheet = self._sheet_of(batch, seen)
        reasons = "; ".join(
            {problem.words(self._provider.key, sheet): None for problem in seen.problems[:3]}
        )
        reason = reasons or "no reason given"
        self._claims.close(batch, f"failed: {reason}")
        if denies_batches(reason):
            raise self._provider.no_batches(reason)
        self._say(batch, f"failed ({reason}); its calls are sent the ordinary way")

    def _read(self, batch: Batch, seen: Seen) -> None:
        """Keep the replies of a batch that is over, and close it."""
        keys = self._ledger.keys(batch.batch_id)
        sheet = self._sheet_of(batch, seen)
        reader = ResultReader(batch, keys, sheet, seen.version, self._stage.price)
        for file_id in (seen.output_file_id, seen.error_file_id):
            if file_id is not None:
                with closing(self._downloaded(batch, file_id)) as results:
                    for records in chunked(reader.records(results.lines()), AT_ONCE):
                        self._keeper.keep(records)
        summary = f"{seen.status}: {reader.summary()}"
        self._claims.close(batch, summary)
        self._say(batch, summary)

    def _downloaded(self, batch: Batch, file_id: str) -> Spool:
        """A copy of a provider's file; empty where the provider does not have it any more."""
        spool = Spool(self._stage.folder)
        try:
            self._provider.download(file_id, spool)
        except Refused as error:
            if error.status != 404:
                raise
            self._say(batch, f"the provider does not have file {file_id} any more")
        return spool

    def _sheet_of(self, batch: Batch, seen: Seen) -> Sheet | None:
        """A batch's requests as they were written here, else as the provider has them."""
        if batch.sheet is None and seen.input_file_id is not None:
            sheet = Sheet(self._stage.folder)
            try:
                self._provider.download(seen.input_file_id, sheet)
            except Refused:
                # Providers delete files after a while; replies can be kept without their requests.
                return None
            batch.sheet = sheet
        return batch.sheet
