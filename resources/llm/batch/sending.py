"""Putting calls into batches, and batches to the provider."""

import time
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing

from resources.llm.batch.batching import Batching
from resources.llm.batch.ledger import AT_ONCE, Batch, Ledger
from resources.llm.batch.pauses import sleep
from resources.llm.batch.provider import Provider, Refused, Unreached, denies_batches
from resources.llm.batch.sheet import Line, Sheet, line_of, url_of
from resources.llm.request import PreparedCall
from resources.llm.store import ReplyStore, chunked

# OpenAI's limits are 50,000 requests and 200 MB a file.
MOST_CALLS = 50_000
MOST_BYTES = 190_000_000
# Seconds to wait before each further try to send a file or a batch.
_AGAIN_S = (1.0, 4.0, 15.0)
# Seconds by which the provider's clock and this machine's may differ.
_CLOCKS_S = 3_600.0
ABANDONED = "abandoned: it was never at the provider"


class Sender:
    """Puts calls into batches, new ones only with ``submit``, and has the provider start them.

    ``lacks`` names what the endpoint can't do.
    """

    def __init__(
        self, batching: Batching, store: ReplyStore, lacks: Collection[str], *, submit: bool
    ) -> None:
        self._stage = batching.stage
        self._ledger = batching.ledger
        self._claims = batching.claims
        self._provider = batching.provider
        self._say = batching.say
        self._store = store
        self._lacks = lacks
        self._draft: Sheet | None = None
        self._full = not submit

    def take_up(self) -> None:
        """Claim the batches that were left open, and see what became of them at the provider."""
        for batch_id in self._ledger.open_ids(
            self._stage.role.model_label, self._stage.role.base_url
        ):
            self._claims.take(batch_id)
        adopt(
            self._provider,
            self._ledger,
            [batch for batch in self._claims.mine.values() if batch.state != "created"],
        )

    def sort(self, missing: Iterable[PreparedCall]) -> None:
        """Put each call into the open batch that holds it, or else into a new one."""
        for chunk in chunked(missing, AT_ONCE):
            unplaced = {prepared.key: prepared for prepared in chunk}
            for key, batch_id in self._ledger.holding(list(unplaced)).items():
                prepared = unplaced.pop(key)
                batch = self._claims.mine.get(batch_id)
                if batch is None:
                    self._claims.others.add(batch_id)
                    continue
                batch.needed = True
                if batch.state != "created":
                    if batch.sheet is None:
                        batch.sheet = Sheet(self._stage.folder)
                    if key not in batch.sheet:
                        batch.sheet.add(self._line(prepared))
            if not self._full:
                self._take_in(list(unplaced.values()))
        for batch in list(self._claims.mine.values()):
            if batch.state != "created":
                self._resume(batch)
        self._send_draft()
        if self._stage.budget:
            self._stage.budget.release()

    def drop_draft(self) -> None:
        """Give up the claims and reservations of a batch that was not written down."""
        sheet, self._draft = self._draft, None
        if sheet is None:
            return
        with closing(sheet):
            for keys in chunked(sheet.keys):
                self._claims.shared.claim([], keys)
            self._unreserve(sheet)

    def _resume(self, batch: Batch) -> None:
        """Go on with a batch that the provider does not have, or give it up and place its calls."""
        sheet = batch.sheet
        batches_are_on = self._stage.role.batch_from is not None
        calls = len(self._ledger.keys(batch.batch_id))
        if batches_are_on and sheet is not None and len(sheet) == calls:
            batch.file_id = self._provider.find_file(_file_name(batch.batch_id))
            self._submit(batch)
            return
        # The sheet is taken off the batch, because closing the batch would close it too.
        batch.sheet = None
        self._claims.close(batch, ABANDONED)
        if sheet is not None:
            with closing(sheet):
                self._place_again(sheet)

    def _place_again(self, sheet: Sheet) -> None:
        """Put the calls of a batch that was given up into a new one."""
        mine: set[str] = set()
        for keys in chunked(sheet.keys):
            mine |= self._claims.shared.claim(keys)
        unused = [line.key for line in sheet.added() if line.key in mine and not self._put(line)]
        self._claims.shared.claim([], unused)

    def _take_in(self, calls: Sequence[PreparedCall]) -> None:
        """Put the calls that no other process asks for into the draft of a new batch."""
        keys = [prepared.key for prepared in calls if self._may_fit(prepared)]
        mine = self._claims.shared.claim(keys)
        # The store is read again, because another process may have had a call made since.
        kept_replies = self._store.get_many(list(mine))
        unused = []
        for prepared in calls:
            key = prepared.key
            if key not in mine or (self._draft is not None and key in self._draft):
                continue
            if key in kept_replies or not self._put(self._line(prepared)):
                unused.append(key)
        self._claims.shared.claim([], unused)

    def _may_fit(self, prepared: PreparedCall) -> bool:
        """Whether a prompt may fit; the ordinary way reports prompts that are surely too long."""
        return prepared.least_prompt_tokens + prepared.max_tokens <= self._stage.role.context

    def _line(self, prepared: PreparedCall) -> Line:
        return line_of(prepared, self._stage.role, self._lacks, self._stage.price)

    def _put(self, line: Line) -> bool:
        """Put a call into the draft, after sending a full one; return whether it went in."""
        size = len(line.data)
        if self._full or size > MOST_BYTES:
            return False
        draft = self._draft
        if draft is not None and (len(draft) >= MOST_CALLS or draft.size + size > MOST_BYTES):
            self._send_draft()
        # Where the batch that was just sent is refused, the next one would be refused too.
        if self._full or not self._fits_budget(line.most_usd):
            self._full = True
            return False
        if self._draft is None:
            self._draft = Sheet(self._stage.folder)
        self._draft.add(line)
        return True

    def _fits_budget(self, most: float) -> bool:
        """Reserve the most dollars that a call can cost; return whether the budget has them."""
        budget = self._stage.budget
        if budget is None:
            return True
        return budget.reserve(most) or (budget.book(most) and budget.reserve(most))

    def _send_draft(self) -> None:
        """Write the drafted batch down, and have the provider start it."""
        sheet, self._draft = self._draft, None
        if sheet is None:
            return
        batch = Batch(
            batch_id=uuid.uuid4().hex,
            role=self._stage.role_name,
            stage=self._stage.name,
            dataset=self._stage.dataset,
            run=self._stage.run,
            model=self._stage.role.model_label,
            endpoint=self._stage.role.base_url,
            state="prepared",
            most_usd=sheet.most_usd if self._stage.price else None,
            created_at=time.time_ns() // 1_000,
            sheet=sheet,
            needed=True,
        )
        self._claims.add(batch)
        self._ledger.add(batch, sheet.keys)
        # From here on the store counts the batch's cost as spent.
        self._unreserve(sheet)
        self._submit(batch)

    def _unreserve(self, sheet: Sheet) -> None:
        if self._stage.budget:
            self._stage.budget.settle(sheet.most_usd, 0.0)
            self._stage.budget.release()

    def _submit(self, batch: Batch) -> None:
        """Upload a batch's file, unless the provider has it, and create the batch."""
        sheet = batch.sheet
        assert sheet is not None  # noqa: S101 (callers have written it; for the type checker)
        count, most = len(sheet), batch.most_usd
        sheet.forget_keys()
        try:
            file_id = batch.file_id or self._upload(batch, sheet)
            if not self._claims.still_has(batch):
                # The machine slept, say, so that another process took this one for dead.
                sheet.close()
                return
            self._ledger.change(batch, state="uploaded", file_id=file_id)
            provider_id = self._create(batch, file_id, sheet.version)
        except Refused as error:
            self._refused(batch, error)
            return
        self._ledger.change(batch, state="created", provider_id=provider_id)
        cost = "" if most is None else f", at most ${most:.4g}"
        self._say(batch, f"{count:,} calls handed to the provider ({provider_id}){cost}")

    def _upload(self, batch: Batch, sheet: Sheet) -> str:
        name = _file_name(batch.batch_id)
        return _insisting(
            lambda: self._provider.upload(name, sheet.whole()),
            lambda: self._provider.find_file(name),
        )

    def _create(self, batch: Batch, file_id: str, version: str | None) -> str:
        """Create a batch once, though answers may be lost; return the provider's id."""

        def created_id() -> str | None:
            adopt(self._provider, self._ledger, [batch])
            return batch.provider_id

        return _insisting(
            lambda: self._provider.create(
                url_of(self._stage.role), file_id, batch.batch_id, version
            ),
            created_id,
        )

    def _refused(self, batch: Batch, error: Refused) -> None:
        """Stop making batches after a refusal, and raise where it holds for all of them."""
        self._full = True
        self._claims.close(batch, f"refused: {error.reason}")
        if error.status in (401, 403):
            raise self._provider.no_access(error)
        if error.status in (404, 405, 501) or denies_batches(error.reason):
            raise self._provider.no_batches(error.reason)
        self._say(batch, f"not taken ({error.reason}); its calls are sent the ordinary way")


def adopt(provider: Provider, ledger: Ledger, batches: Sequence[Batch]) -> None:
    """Look for batches that the provider has created without this being written down."""
    if not batches:
        return
    since = min(batch.created_at for batch in batches) / 1e6 - _CLOCKS_S
    by_name = {batch.batch_id: batch for batch in batches}
    by_file = {batch.file_id: batch for batch in batches}
    by_file.pop(None, None)
    for seen in provider.batches(since):
        batch = by_name.get(seen.batch_id or "") or by_file.get(seen.input_file_id)
        if batch is not None and batch.state != "created":
            ledger.change(batch, state="created", provider_id=seen.provider_id)


def _insisting(make: Callable[[], str], find: Callable[[], str | None]) -> str:
    """Make something at the provider once, though the answer to it may be lost."""
    for wait in _AGAIN_S:
        try:
            return make()
        except Unreached:
            sleep(wait)
        try:
            made_id = find()
        except Refused as error:
            # What was sent may have been made, so nobody may take it for refused.
            raise Unreached("looking for what was sent", error.reason) from None
        if made_id is not None:
            return made_id
    return make()


def _file_name(batch_id: str) -> str:
    return f"opencs-{batch_id}.jsonl"
