import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opencs_assets.datasets.catalog import (
    add_source,
    check_name,
    current_source,
    list_sources,
    name_of_file,
    slug_error,
    suggest_name,
)
from opencs_assets.datasets.errors import DatasetError


@pytest.fixture
def home(tmp_path) -> Path:
    return tmp_path / "home"


def write(folder, name, text) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def contents(home, name) -> set[str]:
    return {entry.name for entry in (home / "datasets" / name).iterdir()}


@pytest.mark.parametrize(
    ("name", "problem", "suggestion"),
    [
        ("", "is empty", "dataset"),
        ("a/b", "`/`", "a-b"),
        ("a\\b", "`\\`", "a-b"),
        ("a|b", "partition key", "a-b"),
        ("..", "`..`", "dataset"),
        ("a..b", "`..`", "a-b"),
        ("my data", "space", "my-data"),
        ("Alpaca", "'A' is not allowed", "alpaca"),
        ("_a", "starts with '_'", "a"),
        ("-a", "starts with '-'", "a"),
        ("a\n", "is not allowed", "a"),
        ("größe", "'ö' is not allowed", "groe"),
        ("a" * 65, "65 characters", "a" * 64),
    ],
)
def test_invalid_names_are_explained_and_mended(name, problem, suggestion):
    with pytest.raises(DatasetError) as error:
        check_name(name)
    assert problem in str(error.value)
    assert repr(suggestion) in str(error.value)


@given(st.text())
def test_suggested_names_are_valid(text):
    assert slug_error(suggest_name(text)) is None


@given(st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?", fullmatch=True))
@example("2024").via("digits alone")
@example("a" * 64).via("the longest")
def test_valid_names_are_suggested_as_they_are(name):
    assert slug_error(name) is None
    check_name(name)
    assert suggest_name(name) == name


@pytest.mark.parametrize("name", ["a_", "0-"])
def test_a_name_may_end_with_what_no_suggestion_ends_with(name):
    assert slug_error(name) is None


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("alpaca_52k.json", "alpaca_52k"),
        ("Alpaca Data.JSONL.gz", "alpaca-data"),
        ("v1.2.parquet", "v1-2"),
        (".json", "json"),
        ("data", "data"),
    ],
)
def test_default_name_of_a_file(file, name):
    assert name_of_file(Path("/some/where") / file) == name


def test_versions_are_kept_and_the_current_one_is_switched(tmp_path, home):
    file = write(tmp_path, "Data.jsonl.gz", "one")
    first = add_source(home, file, None)
    assert (first.name, first.original, first.bytes) == ("data", "Data.jsonl.gz", 3)
    assert first.path == home / "datasets" / "data" / f"{first.sha256[:16]}.jsonl.gz"
    assert first.is_new_version
    assert first.added_at.endswith("+00:00")

    file.write_text("two")
    second = add_source(home, file, "data")
    assert second.is_new_version
    assert first.path.read_text() == "one"
    assert second.path.read_text() == "two"
    assert current_source(home, "data").path == second.path
    assert contents(home, "data") == {first.path.name, second.path.name, "current.json"}

    file.write_text("one")
    back = add_source(home, file, "data")
    assert (back.path, back.is_new_version) == (first.path, True)
    assert current_source(home, "data").sha256 == first.sha256


def test_the_same_content_again_changes_nothing(tmp_path, home):
    first = add_source(home, write(tmp_path, "a.json", "[]"), "data")
    entry = home / "datasets" / "data" / "current.json"
    before = (entry.stat().st_mtime_ns, entry.stat().st_ino, first.path.stat().st_ino)
    again = add_source(home, write(tmp_path, "renamed.json", "[]"), "data")
    assert not again.is_new_version
    assert (again.path, again.added_at, again.original) == (first.path, first.added_at, "a.json")
    assert (entry.stat().st_mtime_ns, entry.stat().st_ino, first.path.stat().st_ino) == before
    assert contents(home, "data") == {first.path.name, "current.json"}


def test_a_lost_version_is_restored(tmp_path, home):
    file = write(tmp_path, "a.json", "[]")
    add_source(home, file, "data").path.unlink()
    with pytest.raises(DatasetError, match="is missing"):
        current_source(home, "data")
    assert add_source(home, file, "data").path.read_text() == "[]"


def test_current_json_says_what_and_when(tmp_path, home):
    added = add_source(home, write(tmp_path, "a.json", "[]"), "data")
    entry = json.loads((home / "datasets" / "data" / "current.json").read_text())
    assert entry == {
        "file": added.path.name,
        "sha256": added.sha256,
        "original": "a.json",
        "bytes": 2,
        "added_at": added.added_at,
    }


def test_sources_are_listed_by_name(tmp_path, home):
    assert list_sources(home) == []
    for name in ("b", "a"):
        add_source(home, write(tmp_path, "x.csv", name), name)
    (home / "datasets" / "half-added").mkdir()
    assert [source.name for source in list_sources(home)] == ["a", "b"]
    assert not any(source.is_new_version for source in list_sources(home))


def test_an_unknown_dataset_is_refused_with_the_known_ones(tmp_path, home):
    add_source(home, write(tmp_path, "x.csv", "x"), "known")
    with pytest.raises(DatasetError, match=r"no dataset 'other'.*known: known"):
        current_source(home, "other")
    with pytest.raises(DatasetError, match="`/`"):
        current_source(home, "../known")


@pytest.mark.parametrize("text", ["", "{}", "[]", "{broken"])
def test_a_damaged_entry_is_named(tmp_path, home, text):
    add_source(home, write(tmp_path, "x.csv", "x"), "data")
    (home / "datasets" / "data" / "current.json").write_text(text)
    with pytest.raises(DatasetError, match=r"data/current\.json: can't be read"):
        current_source(home, "data")


def test_files_that_cannot_be_added(tmp_path, home):
    with pytest.raises(DatasetError, match=r"absent\.json: can't be read \(No such file"):
        add_source(home, tmp_path / "absent.json", None)
    with pytest.raises(DatasetError, match="Is a directory"):
        add_source(home, tmp_path, "data")
    with pytest.raises(DatasetError, match="not a regular file"):
        add_source(home, Path("/dev/null"), "data")
    with pytest.raises(DatasetError, match=r"empty\.json: is empty"):
        add_source(home, write(tmp_path, "empty.json", ""), "data")
    assert list_sources(home) == []
    assert contents(home, "data") == set()


def test_a_home_that_cannot_be_written(tmp_path):
    file = write(tmp_path, "a.json", "[]")
    for home in (write(tmp_path, "home", ""), tmp_path / "home" / "below", Path("/proc/opencs")):
        with pytest.raises(DatasetError, match=r"can't be written.*OPENCS_HOME") as error:
            add_source(home, file, "data")
        assert str(home / "datasets" / "data") in str(error.value)


@pytest.mark.parametrize(("succeeding", "files"), [(0, 2), (1, 3)])
def test_a_failure_on_the_way_leaves_the_old_version(
    tmp_path, home, monkeypatch, succeeding, files
):
    first = add_source(home, write(tmp_path, "a.json", "one"), "data")
    results = iter([None] * succeeding)

    def disk(_):
        if next(results, OSError) is OSError:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", disk)
        with pytest.raises(DatasetError, match="No space left"):
            add_source(home, write(tmp_path, "a.json", "two"), "data")
    assert current_source(home, "data").path == first.path
    assert len(contents(home, "data")) == files
    assert not [name for name in contents(home, "data") if name.startswith(".")]
    assert add_source(home, tmp_path / "a.json", "data").path.read_text() == "two"


def test_other_users_may_read_the_catalog(tmp_path, home):
    added = add_source(home, write(tmp_path, "a.json", "one"), "data")
    for file in (added.path, added.path.with_name("current.json")):
        assert file.stat().st_mode & 0o777 == 0o644
