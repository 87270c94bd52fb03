"""Files are kept as they came, once, with what was said about them."""

import pytest

from opencs_assets.imports.errors import VerdictFileError
from opencs_assets.imports.kept import files_under, find_kept, kept_files
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.taking import take


def listing(desk) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (desk.home / "verdicts").iterdir()}


def test_the_same_content_again_changes_nothing(desk, score_row):
    file = desk.write("a.jsonl", [score_row()])
    assert desk.take(file, benchmark="two").state == "new"
    before, table = listing(desk), desk.read().verdicts
    copy = desk.write("other name.json", file.read_bytes())
    for again, options in ((file, {"benchmark": "two"}), (file, {}), (copy, {})):
        assert desk.take(again, **options).state == "unchanged"
    assert listing(desk) == before
    assert desk.read().verdicts.equals(table)


def test_a_kept_file_is_the_file(desk, score_row):
    file = desk.write("a.jsonl", [score_row()])
    kept = desk.take(file)
    assert kept.path.read_bytes() == file.read_bytes()
    assert kept.path.name == f"{kept.sha256}.jsonl"


def test_other_words_about_it_are_the_ones_that_count(desk, score_row):
    file = desk.write("a.jsonl", [score_row()])
    desk.take(file)
    assert desk.read().verdicts.is_empty()
    assert desk.take(file, benchmark="two").state == "other options"
    assert desk.read().verdicts.height == 1
    assert len(listing(desk)) == 2


def test_what_means_nothing_to_the_form_is_not_kept(desk, score_row):
    kept = desk.take(desk.write("a.jsonl", [score_row()]), benchmark="two", model_a="x", judge="y")
    assert kept.options == ImportOptions(benchmark="two")


def test_a_kept_file_that_was_edited_is_not_read(desk, score_row, reasons):
    kept = desk.take(desk.write("a.jsonl", [score_row()]), benchmark="two")
    kept.path.write_bytes(kept.path.read_bytes().replace(b'"score": 7', b'"score": 9'))
    found = desk.read()
    assert found.verdicts.is_empty()
    assert reasons(found) == [(-1, "unreadable_file")]
    # The file itself, imported again, mends it.
    assert desk.take(desk.write("a.jsonl", [score_row()])).state == "unchanged"
    assert desk.read().verdicts.height == 1


def test_a_kept_file_that_is_gone_is_said(desk, score_row, reasons):
    desk.take(desk.write("a.jsonl", [score_row()]), benchmark="two").path.unlink()
    assert reasons(desk.read()) == [(-1, "unreadable_file")]


def test_a_damaged_note_beside_a_file_is_an_error_with_its_name(desk, score_row):
    desk.take(desk.write("a.jsonl", [score_row()]))
    (note,) = (desk.home / "verdicts").glob("*.import.json")
    note.write_text("{")
    with pytest.raises(VerdictFileError, match=note.name):
        desk.read()


def test_files_stand_in_the_order_of_their_import(desk, score_row):
    for name in ("z.jsonl", "a.jsonl", "m.jsonl"):
        desk.take(desk.write(name, [score_row(note=name)]))
    assert [kept.name for kept in kept_files(desk.home)] == ["z.jsonl", "a.jsonl", "m.jsonl"]


def test_a_file_is_found_by_path_name_and_hash(desk, score_row):
    file = desk.write("a.jsonl", [score_row()])
    kept = desk.take(file)
    for named in (str(file), "a.jsonl", kept.sha256[:8], kept.sha256):
        assert find_kept(desk.home, named).sha256 == kept.sha256
    for named in ("b.jsonl", kept.sha256[:7]):
        with pytest.raises(VerdictFileError, match=r"imported are: a\.jsonl"):
            find_kept(desk.home, named)
    other = file.parent / "below" / "a.jsonl"
    other.parent.mkdir()
    desk.write("b.jsonl", [score_row(2)]).rename(other)
    desk.take(other)
    with pytest.raises(VerdictFileError, match="fits several"):
        find_kept(desk.home, "a.jsonl")


def test_a_folder_gives_all_that_are_such_files(desk, score_row):
    good = desk.write("a.jsonl", [score_row()])
    desk.write("LICENSE", "Some words, and more.")
    desk.write(".hidden.jsonl", [score_row(2)])
    below = good.parent / "below"
    below.mkdir()
    (below / "b.jsonl").write_bytes(good.read_bytes().replace(b'"m"', b'"n"'))
    taken = take(desk.home, [good.parent], ImportOptions(benchmark="two"))
    assert [kept.name for kept in taken.kept_files] == ["a.jsonl", "b.jsonl"]
    assert not taken.refused
    assert "LICENSE" in taken.notes[0]


def test_a_file_that_is_named_must_be_one(desk):
    bad = desk.write("LICENSE", "Some words.")
    taken = take(desk.home, [bad], ImportOptions())
    assert not taken.kept_files
    assert "AlpacaEval" in taken.refused[0]
    empty = bad.parent / "empty"
    empty.mkdir()
    for path in (empty, bad.parent / "nowhere"):
        with pytest.raises(VerdictFileError, match=path.name):
            files_under(path)
