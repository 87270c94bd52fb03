"""Decoding many prompts at once, so that no row of the batch waits for the longest.

Plain batches run until their longest answer ends, and compute nothing for the rows that ended
before. Here a row that has ended leaves the batch, and the next prompt takes its place; keys and
values are written into room that was set aside, where a usual cache copies all of it every step.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

# Rows leave and come in groups of this share of the batch: each time, the others' cache is copied.
REFILL_SHARE = 4
# Tokens that a cache has room for beyond those in it.
ROOM = 64


@dataclass(frozen=True)
class Ended:
    """A prompt that was answered.

    Attributes:
        place: Its place among the prompts.
        tokens: What was said, without the token that ended it.
        cut: Whether it was cut at the limit.
    """

    place: int
    tokens: list[int]
    cut: bool


class Sampler:
    """Chooses tokens: the greedy choice, or a sample at each row's own temperature.

    The largest of logits / T plus Gumbel noise is distributed as softmax(logits / T) (the
    Gumbel-max trick), so that prompts of several temperatures share a batch, and each draws from a
    generator of its own: what it says does not depend on its neighbours.

    Args:
        temperatures: Temperature of each prompt; 0 is greedy.
        seeds: Seed of each prompt.
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
            if place is None or (heat := self._temperatures[place]) <= 0:
                continue
            noise = torch.empty(logits.shape[-1])
            noise.exponential_(generator=self._generators[place]).log_()
            logits[row] = logits[row] / heat - noise.to(logits.device)
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

    def rearrange(self, kept: Tensor, cut: int, more: "_Layer | None", width: int) -> None:
        """Keep some rows without their first tokens, and put another cache's rows below.

        Args:
            kept: Rows to keep.
            cut: Tokens to drop from the left, where no kept row has any.
            more: Rows to add; those that are shorter are padded on the left.
            width: Tokens of all rows then.
        """
        parts = [(self, kept, cut)]
        if more is not None:
            parts.append((more, torch.arange(more.keys.shape[0], device=kept.device), 0))
        made = []
        for name in ("keys", "values"):
            first: Tensor = getattr(self, name)
            rows = sum(len(which) for _, which, _ in parts)
            shape = (rows, first.shape[1], width + ROOM, first.shape[3])
            # Zeros: what is masked is multiplied by 0, which must not meet a NaN.
            joined = first.new_zeros(shape)
            at = 0
            for layer, which, skipped in parts:
                old = getattr(layer, name)[:, :, skipped:]
                if which.numel():
                    target = joined[at : at + len(which), :, width - old.shape[2] : width]
                    target.copy_(old[which])
                at += len(which)
            made.append(joined)
        self._stored = (made[0], made[1])
        self._show(*self._stored, width)

    def _with_room(self, new: Tensor, old: Tensor | None, end: int) -> Tensor:
        made = new.new_zeros((new.shape[0], new.shape[1], end + ROOM, new.shape[3]))
        if old is not None:
            made[:, :, : self._length] = old[:, :, : self._length]
        return made

    def _show(self, keys: Tensor, values: Tensor, end: int) -> tuple[Tensor, Tensor]:
        self._length = end
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values


@dataclass
class _Rows:
    """The rows that are decoded together.

    Attributes:
        cache: Their keys and values.
        mask: Which tokens are real (rows by tokens); padding is on the left.
        places: The prompt of each row; ``None`` once it has ended.
        said: What each row has said.
    """

    cache: Cache
    mask: Tensor
    places: list[int | None]
    said: list[list[int]] = field(default_factory=list)

    @property
    def live(self) -> list[int]:
        return [row for row, place in enumerate(self.places) if place is not None]

    @torch.inference_mode()
    def merge(self, more: "_Rows | None") -> "_Rows":
        """The rows that have not ended, and others."""
        live = self.live
        kept = torch.tensor(live, dtype=torch.long, device=self.mask.device)
        mask = self.mask[kept]
        cut = int(mask.any(dim=0).int().argmax()) if live else mask.shape[1]
        mask = mask[:, cut:]
        added = more.mask if more else mask[:0]
        width = max(mask.shape[1], added.shape[1])
        layers = more.cache.layers if more else [None] * len(self.cache.layers)
        for layer, other in zip(self.cache.layers, layers, strict=True):
            layer.rearrange(kept, cut, other, width)
        padded = [
            torch.nn.functional.pad(each, (width - each.shape[1], 0)) for each in (mask, added)
        ]
        return _Rows(
            self.cache,
            torch.cat(padded),
            [self.places[row] for row in live] + (more.places if more else []),
            [self.said[row] for row in live] + (more.said if more else []),
        )


class Decoder:
    """Decodes prompts with a model of plain attention layers.

    Args:
        model: The model.
        stops: Tokens that end an answer.
        pad: Token to pad with; it is masked.
        batch_size: Most rows at once.
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
        """Decode all prompts, those first that come first.

        Args:
            prompts: Tokens of each; neighbours of like length are padded least.
            sampler: Chooses each token.
            max_new_tokens: Most tokens of an answer.
            stepped: Told after each step how many rows go on.

        Yields:
            The answers that ended at a step.
        """
        waiting = deque(range(len(prompts)))
        rows: _Rows | None = None
        while waiting or (rows and rows.live):
            live = len(rows.live) if rows else 0
            gone = len(rows.places) - live if rows else 0
            free = self._batch_size - live
            group = max(1, (len(rows.places) if rows else 0) // REFILL_SHARE)
            ended: list[Ended] = []
            if (waiting and free >= max(1, self._batch_size // REFILL_SHARE)) or not live:
                taken = [waiting.popleft() for _ in range(min(free, len(waiting)))]
                new, logits = self._prefill(taken, prompts)
                ended += self._say(new, logits, sampler, max_new_tokens)
                rows = rows.merge(new) if rows and live else new
            elif rows and gone >= group:
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
        last = torch.tensor([[said[-1]] for said in rows.said], device=device)
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
        """Give each row its next token; the rows that end with it."""
        ended = []
        for row, token in enumerate(sampler(rows.places, logits.float()).tolist()):
            place = rows.places[row]
            if place is None:
                continue
            stops = token in self._stops
            rows.said[row].append(token)
            if stops or len(rows.said[row]) >= max_new_tokens:
                said = rows.said[row][:-1] if stops else rows.said[row]
                ended.append(Ended(place, said, cut=not stops))
                rows.places[row] = None
        return ended
