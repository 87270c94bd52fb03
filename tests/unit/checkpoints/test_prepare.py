"""Which samples are trained on, held out and dropped; room on the disk; errors in plain words."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from opencs_assets.checkpoints import fit, states, train
from opencs_assets.checkpoints.place import TrainingPlace
from opencs_assets.checkpoints.states import State
from opencs_assets.checkpoints.training import Training
from opencs_assets.checkpoints.workers import DEFAULT_PORT, World, world
from opencs_assets.config.recipes import Recipe
from opencs_assets.tables.columns import MESSAGES
from resources.launcher.job import Channel, JobError
from resources.provenance import content_hash, write_marker
from resources.settings import TrainingSettings
from tests.unit.checkpoints.stand_in import Pieces

FIELDS = {"what": "a test"}


def subset(*answers: str, question: str = "Say.") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "sample_id": [f"s{place}" for place in range(len(answers))],
            "system": [None] * len(answers),
            "messages": [
                [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
                for answer in answers
            ],
        },
        schema={"sample_id": pl.String, "system": pl.String, "messages": MESSAGES},
    )


def prepared(samples: pl.DataFrame, **recipe):
    return train.prepare(samples, Pieces(), Recipe(**{"max_length": 16, **recipe}))


# <user>, Say., </s> and <assistant> stand before the words of the answer and its </s>.
FITS, OVER, LONG = " ".join("x" * 11), " ".join("x" * 12), " ".join("x" * 40)


def test_an_overlong_sample_is_cut_at_its_end_or_dropped():
    samples = subset("Yes.", FITS, OVER, LONG)
    cut = prepared(samples)
    assert [len(each.input_ids) for each in cut.encoded] == [6, 16, 16, 16]
    assert (cut.truncated, cut.dropped, cut.held_out) == (2, [], [])
    whole = prepared(samples, max_length=100)
    assert whole.truncated == 0
    assert cut.encoded[3].input_ids == whole.encoded[3].input_ids[:16]
    dropping = prepared(samples, overlong="drop")
    assert [len(each.input_ids) for each in dropping.encoded] == [6, 16]
    assert (dropping.truncated, dropping.dropped) == (0, ["s2", "s3"])


def test_a_sample_without_a_response_in_the_limit_is_dropped_and_counted():
    samples = pl.concat([subset("Yes."), subset("No.", question=LONG)])
    samples = samples.with_columns(sample_id=pl.Series(["fits", "not"]))
    for overlong in ("cut", "drop"):
        found = prepared(samples, overlong=overlong)
        assert (len(found.encoded), found.dropped, found.truncated) == (1, ["not"], 0)
    with pytest.raises(JobError, match=r"none of the 1 samples can be trained on.*max_length 16"):
        prepared(samples.tail(1))
    with pytest.raises(JobError, match="does not mark where the assistant's turn begins"):
        train.prepare(
            samples, Pieces("{% for m in messages %}{{ m['content'] }}\n{% endfor %}"), Recipe()
        )
    refusing = Pieces(
        "{% for m in messages %}{% if m['content'] == 'Yes.' %}{{ raise_exception('no') }}"
        "{% endif %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
    )
    with pytest.raises(JobError, match="sample fits: the chat template refuses"):
        train.prepare(samples, refusing, Recipe())


def test_which_samples_are_held_out_follows_from_the_seed_alone():
    samples = subset(*"abcdefghij")

    def held_out(rows: pl.DataFrame, **recipe) -> set[str]:
        found = prepared(rows, **recipe)
        assert len(found.encoded) + len(found.held_out) == rows.height
        ids = train._held_out(rows, Recipe(**recipe))
        assert len(ids) == len(found.held_out)
        return ids

    some = held_out(samples, held_out=0.5)
    assert len(some) == 5
    assert held_out(samples.reverse(), held_out=0.5) == some
    assert held_out(samples, held_out=0.5, seed=1) != some
    assert held_out(samples, held_out=0.09) == set()
    assert len(held_out(samples, held_out=0.1)) == 1
    # A larger share holds out more, not others.
    assert held_out(samples, held_out=0.7) > some


@pytest.fixture
def training(tmp_path: Path) -> Training:
    """A training whose base model has ten parameters in two files."""
    model = tmp_path / "model"
    model.mkdir()
    for name, shape in (("a", [2, 3]), ("b", [4])):
        header = json.dumps({"__metadata__": {}, name: {"shape": shape}}).encode()
        content = len(header).to_bytes(8, "little") + header + b"x" * 100
        (model / f"{name}.safetensors").write_bytes(content)
    place = TrainingPlace(str(tmp_path / "out" / "made"), content_hash(FIELDS), None)
    settings = TrainingSettings(keep_states=2)
    return Training(
        subset("Yes."), Recipe(), model, "", settings, FIELDS, place, 1, 1, force=False, launch=""
    )


def test_parameters_are_counted_in_the_header_of_the_weights(training, tmp_path):
    assert train._parameters(training.base_model / "a.safetensors") == 6
    (tmp_path / "broken").write_bytes(b"\xff" * 20)
    assert train._parameters(tmp_path / "broken") == 0


@pytest.mark.parametrize(
    ("recipe", "already", "needed"),
    [
        # Two states are kept while a third is written, of 12 bytes a parameter; what is larger
        # comes last: the third state or the weights (of 100 bytes a file and their headers).
        ({}, 0, "both"),
        ({}, 50, "both"),
        ({"adapter": {}}, 0, "weights"),
    ],
)
def test_a_disk_has_room_for_all_states_and_the_checkpoint(
    training, monkeypatch, recipe, already, needed
):
    weights = sum(path.stat().st_size for path in training.base_model.iterdir())
    assert weights > 120
    least = weights + (240 if needed == "both" else 0) - already
    training = replace(training, recipe=Recipe(**recipe))
    place = training.place
    place.folder.mkdir(parents=True)
    (place.folder / "there").write_bytes(b"x" * already)
    for free, fits in ((least, True), (least - 1, False)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: type("", (), {"free": free}))
        if fits:
            train._refuse_small_disk(training)
        else:
            with pytest.raises(JobError, match=r"GB free, and training .* takes about"):
                train._refuse_small_disk(training)


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (OSError(errno.ENOSPC, "no space"), True),
        (OSError(errno.EDQUOT, "quota"), True),
        (RuntimeError("PytorchStreamWriter failed"), True),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (OSError(errno.EACCES, "denied"), False),
        (RuntimeError("another"), False),
    ],
)
def test_an_error_of_a_full_disk_says_what_is_kept(training, error, is_full):
    place = training.place
    place.states.mkdir(parents=True)
    for kept in ("no state is kept", "the state of step 7 is kept"):
        found = train._plain_error(error, place)
        assert isinstance(found, JobError) is is_full
        assert kept in str(found) if is_full else found is error
        (place.states / "checkpoint-7").mkdir(exist_ok=True)
        states.seal(place.states / "checkpoint-7", {})


@pytest.mark.parametrize(
    ("force", "launch", "of_launch", "reused"),
    [
        (False, "", "", True),
        (False, "a", "b", True),
        (True, "", "", False),
        (True, "a", "a", True),
        (True, "a", "b", False),
    ],
)
def test_a_forced_training_reuses_what_its_own_launch_made(
    training, force, launch, of_launch, reused
):
    training = replace(training, force=force, launch=launch)
    assert train._usable_result(training) is None
    output = Path(training.place.output)
    output.mkdir(parents=True)
    write_marker(output, training.place.provenance, FIELDS, {"launch": of_launch})
    assert (train._usable_result(training) is not None) is reused


def test_work_of_others_is_cleared_where_it_holds_no_state(training):
    lines: list[str] = []
    channel = type("Heard", (Channel,), {"say": lambda self, text: lines.append(text)})()
    empty, kept = (training.place.folder.with_name(f".training-{name}") for name in "ab")
    empty.mkdir(parents=True)
    (kept / "states" / "checkpoint-1").mkdir(parents=True)
    train._clear_other_work(training.place, channel)
    assert not empty.exists()
    assert kept.exists()
    assert lines == [
        f"{kept} holds the state of another training that was not finished; remove it if nobody "
        "will go on with that"
    ]


NODES = {"OPENCS_NODE_RANK": "1", "OPENCS_MASTER_ADDR": "first", "OPENCS_MASTER_PORT": "7"}


def test_the_nodes_of_a_training_meet_at_the_first():
    alone = world(3, 1, NODES)
    assert (alone.size, alone.node, alone.address) == (3, 0, "127.0.0.1")
    assert world(2, 2, NODES) == World(2, 2, 1, "first", 7)
    assert world(2, 2, NODES).size == 4
    indexed = {"JOB_COMPLETION_INDEX": "0", "OPENCS_MASTER_ADDR": "first"}
    assert world(1, 2, indexed) == World(1, 2, 0, "first", DEFAULT_PORT)
    assert world(1, 2, {**indexed, **NODES}).node == 1
    for wrong in (
        {"OPENCS_NODE_RANK": ""},
        {"OPENCS_NODE_RANK": "first"},
        {"OPENCS_NODE_RANK": "2"},
        {"OPENCS_MASTER_ADDR": ""},
    ):
        with pytest.raises(JobError, match="on 2 nodes needs OPENCS_MASTER_ADDR and a rank below"):
            world(1, 2, {**NODES, **wrong})


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"zero": 1}, {}),
        ({"zero": 2, "offload": True}, {"offload_optimizer"}),
        (
            {"zero": 3, "offload": True, "bf16": True},
            {"offload_optimizer", "offload_param", "stage3_gather_16bit_weights_on_model_save"},
        ),
        ({"zero": 3}, {"stage3_gather_16bit_weights_on_model_save"}),
    ],
)
def test_deepspeed_splits_and_offloads_as_the_recipe_says(recipe, expected):
    found = fit._deepspeed(Recipe(**recipe))
    stage = found["zero_optimization"]
    assert stage["stage"] == recipe["zero"]
    named = {"offload_optimizer", "offload_param", "stage3_gather_16bit_weights_on_model_save"}
    assert named & stage.keys() == set(expected)
    assert found["bf16"]["enabled"] is recipe.get("bf16", False)


@pytest.mark.parametrize(
    ("zero", "written_by", "world_size", "refused"),
    [(2, 2, 1, True), (2, 2, 2, False), (0, 2, 1, False)],
)
def test_zero_goes_on_with_as_many_processes_only(tmp_path, zero, written_by, world_size, refused):
    begun = State(4, tmp_path, {"world_size": written_by})
    fit._refuse_another_world(None, world_size, Recipe(zero=zero))
    if refused:
        with pytest.raises(JobError, match=r"step 4 in .* was written by 2 processes.*not 1"):
            fit._refuse_another_world(begun, world_size, Recipe(zero=zero))
    else:
        fit._refuse_another_world(begun, world_size, Recipe(zero=zero))
