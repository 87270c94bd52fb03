"""Rows that end at different steps, and others that take their place, say what each says alone."""

from typing import Any

import pytest

from opencs_assets.answers.decoding import Decoder, Sampler

LIMIT = 12
PROMPTS = [list(range(5 + at, 8 + at + 3 * (at % 5))) for at in range(18)]
HEATS = [(0.0, 0.7, 1.3)[at % 3] for at in range(18)]
# Every sixth token ends an answer, so that lengths differ and places are refilled.
STOPS = set(range(0, 64, 6))


@pytest.fixture(scope="module")
def model() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def alone(model) -> dict[int, tuple[list[int], bool]]:
    """What each prompt says with no cache and no neighbour: the whole text is read every step."""
    import torch

    said = {}
    for place, prompt in enumerate(PROMPTS):
        sampler, tokens = Sampler([HEATS[place]], [place]), []
        while len(tokens) < LIMIT:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[:, -1]
            (token,) = sampler([0], logits).tolist()
            if token in STOPS:
                break
            tokens.append(token)
        said[place] = (tokens, len(tokens) == LIMIT)
    return said


@pytest.mark.parametrize(
    ("size", "places"),
    [
        (1, list(range(18))),
        (2, list(range(18))),
        (7, list(range(18))),
        (8, list(range(17, -1, -1))),
        (18, list(range(18))),
        (40, list(range(18))),
        (4, []),
    ],
)
def test_answers_are_those_of_each_prompt_alone(model, alone, size, places):
    import torch

    steps: list[int] = []
    sampler = Sampler([HEATS[at] for at in places], places)
    decoder = Decoder(model, STOPS, 0, size)
    batches = list(decoder.decode([PROMPTS[at] for at in places], sampler, LIMIT, steps.append))
    ended = [each for batch in batches for each in batch]
    assert all(batches)
    found = {places[each.place]: (each.tokens, each.cut) for each in ended}
    assert len(found) == len(ended) == len(places)
    assert found == {at: alone[at] for at in places}
    assert not torch.is_inference_mode_enabled()
    # No more rows than allowed go on, and their places are filled again: a plain batch of all
    # would run to its longest answer each time.
    assert all(rows <= size for rows in steps)
    longest = max((len(tokens) for tokens, _ in found.values()), default=0)
    if size < len(places):
        assert len(steps) < longest * -(-len(places) // size)


def test_the_scenario_has_what_it_should(alone):
    lengths = {len(tokens) for tokens, _ in alone.values()}
    assert len(lengths) > 5
    assert 0 in lengths
    assert any(cut for _, cut in alone.values())


def test_an_answer_of_one_token_is_cut_or_ended_by_it(model, alone):
    decoder = Decoder(model, STOPS, 0, 3)
    ended = [
        each for some in decoder.decode(PROMPTS, Sampler(HEATS, range(18)), 1) for each in some
    ]
    assert {each.place: (each.tokens, each.cut) for each in ended} == {
        place: (tokens[:1], bool(tokens)) for place, (tokens, _) in alone.items()
    }


def test_others_come_in_groups_and_in_their_order(model):
    """Each change copies the cache, so that a place is not filled as soon as it is free."""
    order: list[int | None] = []

    class Noted(Sampler):
        def __call__(self, places, logits):
            order.extend(place for place in places if place not in order)
            return super().__call__(places, logits)

    steps: list[int] = []
    sampler = Noted([0.0] * 18, range(18))
    ended = [
        sorted(each.place for each in some)
        for some in Decoder(model, STOPS, 0, 8).decode(PROMPTS, sampler, 6, steps.append)
    ]
    assert [place for place in order if place is not None] == list(range(18))
    assert sorted(place for some in ended for place in some) == list(range(18))
    assert max(steps) <= 8
