import json

import pytest

from opencs_assets.selection.choice import WHOLE, SelectionError, SelectorOptions
from opencs_assets.selection.pins import Pins
from opencs_assets.selection.registry import select
from tests.unit.selection.test_select import NO_PINS, samples

DATASET = samples(
    [
        ("s0", "Add 1 and 2.", "It is 3."),
        ("s1", "Name a colour.", "Red."),
        ("s2", "Say hi.", "Hi!"),
    ]
)


def chosen(tmp_path, rows, dataset=DATASET, pins=NO_PINS, **options):
    path = tmp_path / "set.json"
    path.write_text(json.dumps(rows))
    given = SelectorOptions(**{"k": WHOLE, "file": path, **options})
    return select("fixed", {"raw_dataset": dataset}.__getitem__, pins, given)


def row(instruction, output, given_input=""):
    return {"instruction": instruction, "input": given_input, "output": output}


def test_samples_are_found_by_their_words_in_the_order_of_the_file(tmp_path):
    subset = chosen(tmp_path, [row("say hi", "hi"), row("Add 1 and 2.", "It is 3.")])
    assert subset.rows["sample_id"].to_list() == ["s2", "s0"]
    assert subset.rows["reason"][0] == "row 0 of set.json"
    assert not subset.outside.height


def test_samples_that_the_dataset_lacks_come_from_the_file(tmp_path):
    subset = chosen(tmp_path, [row("Name a colour.", "Red."), row("Name a fruit.", "Pear.")])
    assert subset.rows.height == subset.requested_size == 2
    assert subset.outside["instruction"].to_list() == ["Name a fruit."]
    assert subset.outside["sample_id"].to_list() == [subset.rows["sample_id"][1]]
    assert "2 samples of set.json, 1 not in the dataset" in subset.notes


@pytest.mark.parametrize("other", [("Name a colour.", "Blue."), ("Name a flag.", "Red.")])
def test_the_same_instruction_or_response_alone_is_another_sample(tmp_path, other):
    assert chosen(tmp_path, [row(*other)]).outside.height == 1


def test_one_sample_twice_is_chosen_once_and_said(tmp_path):
    subset = chosen(tmp_path, [row("Say hi.", "Hi!"), row("say hi", "Hi")])
    assert subset.rows.select("sample_id", "reason").rows() == [("s2", "row 0 of set.json")]
    assert subset.notes == (
        "2 samples of set.json, 0 not in the dataset",
        "1 of them are the dataset's same sample twice",
    )


def test_of_the_datasets_samples_with_the_same_words_the_first_is_meant(tmp_path):
    dataset = samples([("s1", "Say hi.", "Hi!"), ("s0", "say hi", "hi")])
    for rows in (dataset, dataset.reverse()):
        subset = chosen(tmp_path, [row("Say: hi", "Hi")], rows)
        assert subset.rows["sample_id"].to_list() == ["s1"]


def test_k_takes_the_first_that_are_not_excluded(tmp_path):
    rows = [row("Name a colour.", "Red."), row("Say hi.", "Hi!"), row("Name a fruit.", "Pear.")]
    subset = chosen(tmp_path, rows, pins=Pins({}, {"s1": "dull"}), k=1)
    assert subset.rows.select("sample_id", "reason").rows() == [("s2", "row 1 of set.json")]
    # What the dataset lacks is left out too.
    assert not subset.outside.height
    assert subset.notes[0] == "3 samples of set.json, 0 not in the dataset"
    reasons = dict(subset.unselected.select("sample_id", "reason").iter_rows())
    assert reasons == {"s0": "not in set.json", "s1": "banned by pins.csv: dull"}
    both = chosen(tmp_path, [*rows[1:], rows[0]], k=1).unselected
    assert dict(both.select("sample_id", "reason").iter_rows())["s1"] == (
        "in set.json, but k leaves it out"
    )


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("gone.json", None, "gone.json"),
        ("bad.json", "{", "bad.json"),
        ("set.txt", "hello", "set.txt"),
    ],
)
def test_a_file_that_can_not_be_read_is_one_clear_error(tmp_path, name, text, says):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    tables = {"raw_dataset": DATASET}
    with pytest.raises(SelectionError, match=f"selector method fixed can't be read: .*{says}"):
        select("fixed", tables.__getitem__, Pins({}, {}), SelectorOptions(k=WHOLE, file=path))


def test_without_a_file_it_says_how_to_name_one():
    tables = {"raw_dataset": DATASET}
    with pytest.raises(SelectionError, match=r"method: fixed, file: lima.jsonl"):
        select("fixed", tables.__getitem__, Pins({}, {}), SelectorOptions(k=WHOLE))


def test_the_dataset_keeps_its_own_sample_where_ids_are_equal(tmp_path):
    given = DATASET.select("instruction", output="response").head(1).to_dicts()
    subset = chosen(tmp_path, given)
    assert subset.rows["sample_id"].to_list() == ["s0"]
    assert not subset.outside.height
