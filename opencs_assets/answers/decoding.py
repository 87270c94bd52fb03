"""Decoding many prompts at once, so that no row of the batch waits for the longest.

A plain batch runs until its longest answer ends, and computes nothing for the rows that ended
before. Here a row that has ended leaves the batch, and the next prompt takes its place. Keys and
values are written into room that was set aside; the usual cache copies all of them every step.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

# Rows leave and come in groups of one in so many, because each change copies the others' cache.
REFILL_SHARE = 4
# A cache has room for so many tokens beyond those in it.
ROOM = 64


@dataclass(frozen=True)
class Ended:
    """The answer to the prompt at ``place``: its tokens without the one that ended it.

    ``cut`` says that the limit ended it.
    """

    place: int
    tokens: list[int]
    cut: bool


class Sampler:
    """Chooses tokens: the greedy choice, or a sample at each row's own temperature.

    The largest of logits / T plus Gumbel noise is distributed as softmax(logits / T) (the
    Gumbel-max trick), so that prompts of several temperatures share a batch. Each prompt draws from
    a generator of its own, so that its answer does not depend on its neighbours. A temperature of 0
    is greedy.
    """

    def __init__(self, temperatures: Sequence[float], seeds: Sequence[int]) -> None:
        self._temperatures = temperatures
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, places: Sequence[int | None], logits: Tensor) -> Tensor:
        """The next token of each row.

        Args:
            places: The prompt of each row; ``None`` for a row that has ended.
            logits: Logits (float, rows by vocabulary); may be changed.
        """
        for row, place in enumerate(places):
            if place is None or (temperature := self._temperatures[place]) <= 0:
                continue
            noise = torch.empty(logits.shape[-1])
            noise.exponential_(generator=self._generators[place]).log_()
            logits[row] = logits[row] / temperature - noise.to(logits.device)
        return logits.argmax(dim=-1)


class _Layer(DynamicLayer):  # type: ignore[misc]
    """Keys and values (rows, heads, tokens, size) with room for tokens to come."""

    def __init__(self) -> None:
        super().__init__()
        self._length = 0
        self._stored: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self._length + key_states.shape[-2]
        if self._stored is None or end > self._stored[0].shape[-2]:
            self._stored = tuple(  # type: ignore[assignment]
                self._with_room(new, None if self._stored is None else self._stored[at], end)
                for at, new in enumerate((key_states, value_states))
            )
        keys, values = self._stored  # type: ignore[misc]
        keys[:, :, self._length : end] = key_states
        values[:, :, self._length : end] = value_states
        return self._show(keys, values, end)

    def get_seq_length(self) -> int:
        return self._length

    def rearrange(self, kept_rows: Tensor, cut: int, more: "_Layer | None", width: int) -> None:
        """Keep some rows without their first tokens, and put another cache's rows below.

        Args:
            kept_rows: Indices of the rows to keep.
            cut: Tokens to drop from the left, where no kept row has any.
            more: Rows to add; those that are shorter are padded on the left.
            width: Tokens of every row afterwards.
        """
        parts = [(self, kept_rows, cut)]
        if more is not None:
            parts.append((more, torch.arange(more.keys.shape[0], device=kept_rows.device), 0))
        self._stored = (self._joined("keys", parts, width), self._joined("values", parts, width))
        self._show(*self._stored, width)

    def _joined(
        self, name: str, parts: "Sequence[tuple[_Layer, Tensor, int]]", width: int
    ) -> Tensor:
        """The rows of each layer without their first tokens, one below the other, with room."""
        first: Tensor = getattr(self, name)
        height = sum(len(rows) for _, rows, _ in parts)
        # The room is zeros: masked values are multiplied by 0, and a NaN would stay one.
        joined = first.new_zeros((height, first.shape[1], width + ROOM, first.shape[3]))
        top = 0
        for layer, rows, skipped in parts:
            old = getattr(layer, name)[:, :, skipped:]
            if rows.numel():
                target = joined[top : top + len(rows), :, width - old.shape[2] : width]
                target.copy_(old[rows])
            top += len(rows)
        return joined

    def _with_room(self, new: Tensor, old: Tensor | None, end: int) -> Tensor:
        kept = new[:, :, :0] if old is None else old[:, :, : self._length]
        return torch.nn.functional.pad(kept, (0, 0, 0, end + ROOM - self._length))

    def _show(self, keys: Tensor, values: Tensor, end: int) -> tuple[Tensor, Tensor]:
        self._length = end
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values


@dataclass
class _Rows:
    """The rows that are decoded together, with the tokens that each has answered so far.

    The mask (rows by tokens) says which tokens are real; padding is on the left. The place of a row
    is its prompt's; ``None`` once it has ended.
    """

    cache: Cache
    mask: Tensor
    places: list[int | None]
    answers: list[list[int]] = field(default_factory=list)

    @property
    def live(self) -> list[int]:
        return [row for row, place in enumerate(self.places) if place is not None]

    @torch.inference_mode()
    def merge(self, more: "_Rows | None") -> "_Rows":
        """The rows that have not ended, with the rows of ``more`` below them."""
        live = self.live
        live_rows = torch.tensor(live, dtype=torch.long, device=self.mask.device)
        mask = self.mask[live_rows]
        cut = int(mask.any(dim=0).int().argmax()) if live else mask.shape[1]
        mask = mask[:, cut:]
        added = more.mask if more else mask[:0]
        width = max(mask.shape[1], added.shape[1])
        layers = more.cache.layers if more else [None] * len(self.cache.layers)
        for layer, other in zip(self.cache.layers, layers, strict=True):
            layer.rearrange(live_rows, cut, other, width)
        padded = [
            torch.nn.functional.pad(part, (width - part.shape[1], 0)) for part in (mask, added)
        ]
        return _Rows(
            self.cache,
            torch.cat(padded),
            [self.places[row] for row in live] + (more.places if more else []),
            [self.answers[row] for row in live] + (more.answers if more else []),
        )


class Decoder:
    """Decodes prompts, ``batch_size`` at most at once, with a model of plain attention layers.

    The tokens ``stops`` end an answer; the token ``pad`` is masked.
    """

    def __init__(
        self, model: PreTrainedModel, stops: Collection[int], pad: int, batch_size: int
    ) -> None:
        self._model = model
        self._stops = frozenset(stops)
        self._pad = pad
        self._batch_size = batch_size

    def decode(
        self,
        prompts: Sequence[Sequence[int]],
        sampler: Sampler,
        max_new_tokens: int,
        stepped: Callable[[int], None] = lambda rows: None,
    ) -> Iterator[list[Ended]]:
        """Decode all prompts in their order, and yield the answers that end at a step.

        Neighbours of similar length are padded least. ``stepped`` is called after each step with
        the number of rows that go on.
        """
        waiting = deque(range(len(prompts)))
        rows: _Rows | None = None
        while waiting or (rows and rows.live):
            live = len(rows.live) if rows else 0
            ended_rows = len(rows.places) - live if rows else 0
            free = self._batch_size - live
            group = max(1, (len(rows.places) if rows else 0) // REFILL_SHARE)
            ended: list[Ended] = []
            if (waiting and free >= max(1, self._batch_size // REFILL_SHARE)) or not live:
                taken = [waiting.popleft() for _ in range(min(free, len(waiting)))]
                new, logits = self._prefill(taken, prompts)
                ended += self._say(new, logits, sampler, max_new_tokens)
                rows = rows.merge(new) if rows and live else new
            elif rows and ended_rows >= group:
                rows = rows.merge(None)
            if rows and rows.live:
                ended += self._say(rows, self._step(rows), sampler, max_new_tokens)
                stepped(len(rows.live))
            if ended:
                yield ended

    @torch.inference_mode()
    def _prefill(
        self, places: Sequence[int], prompts: Sequence[Sequence[int]]
    ) -> tuple[_Rows, Tensor]:
        width = max(len(prompts[place]) for place in places)
        device = self._model.device
        ids = torch.full((len(places), width), self._pad)
        mask = torch.zeros((len(places), width), dtype=torch.bool)
        for row, place in enumerate(places):
            prompt = torch.tensor(prompts[place])
            ids[row, width - len(prompt) :] = prompt
            mask[row, width - len(prompt) :] = True
        ids, mask = ids.to(device), mask.to(device)
        cache = Cache(layer_class_to_replicate=_Layer)
        output = self._model(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=(mask.long().cumsum(dim=1) - 1).clamp(min=0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return _Rows(cache, mask, list(places), [[] for _ in places]), output.logits[:, -1]

    @torch.inference_mode()
    def _step(self, rows: _Rows) -> Tensor:
        """Logits after each row's last token."""
        device = rows.mask.device
        last = torch.tensor([[answer[-1]] for answer in rows.answers], device=device)
        positions = rows.mask.long().sum(dim=1, keepdim=True)
        rows.mask = torch.cat([rows.mask, rows.mask.new_ones((len(rows.places), 1))], dim=1)
        output = self._model(
            input_ids=last,
            attention_mask=rows.mask.long(),
            position_ids=positions,
            past_key_values=rows.cache,
            use_cache=True,
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    @torch.inference_mode()
    def _say(
        self, rows: _Rows, logits: Tensor, sampler: Sampler, max_new_tokens: int
    ) -> list[Ended]:
        """Give each row its next token, and return the answers that end with it."""
        ended = []
        for row, token in enumerate(sampler(rows.places, logits.float()).tolist()):
            place = rows.places[row]
            if place is None:
                continue
            stops = token in self._stops
            answer = rows.answers[row]
            answer.append(token)
            if stops or len(answer) >= max_new_tokens:
                ended.append(Ended(place, answer[:-1] if stops else answer, cut=not stops))
                rows.places[row] = None
        return ended
