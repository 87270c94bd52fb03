import json
import os
import uuid

import duckdb
import polars as pl
import pytest

from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.lake import Lake
from opencs_assets.tables.selection import SELECTED_SUBSET
from resources.lake import LakeError
from resources.schema import SchemaError

PARTITION = {"dataset": "2024", "selector": "opencs"}


def frame(rows=2):
    return pl.DataFrame(
        [
            {
                "rank": i,
                "sample_id": f"s{i}",
                "cluster": None,
                "score": 0.5,
                "reason": "x",
                "pinned": False,
            }
            for i in range(rows)
        ],
        schema=SELECTED_SUBSET.schema,
    )


@pytest.fixture(params=["folder", "memory"])
def lake(request, tmp_path):
    if request.param == "folder":
        return Lake(str(tmp_path / "lake"))
    return Lake(f"memory://{uuid.uuid4().hex}")


def test_what_is_written_is_read_with_its_partition(lake):
    assert lake.find("selected_subset", PARTITION) is None
    assert not lake.exists("selected_subset", PARTITION)
    lake.write("selected_subset", frame(), PARTITION)
    for found in (
        lake.read("selected_subset", PARTITION),
        lake.find("selected_subset", PARTITION),
    ):
        assert found.drop("dataset", "selector").equals(frame())
        assert found["dataset"].to_list() == ["2024", "2024"]
    assert lake.exists("selected_subset", PARTITION)


@pytest.mark.parametrize("folder", ["lake", "a [b] *? {c}"])
def test_partitions_are_found_under_any_path_in_order(tmp_path, folder):
    lake = Lake(str(tmp_path / folder))
    lake.ensure_schemas()
    written = [{"dataset": "b", "selector": each} for each in ("z", "k=5=6", "a")]
    for partition in written:
        lake.write("selected_subset", frame(), partition)
    assert lake.partitions("selected_subset") == sorted(written, key=lambda each: each["selector"])
    assert lake.partitions("declared_models") == []
    lake.write("declared_models", TABLES["declared_models"].empty(), {})
    assert lake.partitions("declared_models") == [{}]


def test_writing_again_replaces(lake):
    lake.write("selected_subset", frame(5), PARTITION)
    lake.write("selected_subset", frame(1), PARTITION)
    assert lake.read("selected_subset", PARTITION).height == 1


@pytest.mark.parametrize(
    ("table", "partition", "says"),
    [
        ("selected_subset", PARTITION, "for 2024|opencs yet * --dataset 2024 --selector opencs"),
        ("refined_samples", {"dataset": "d", "refined": "r"}, "* --dataset d --selector r"),
        ("pairwise_verdicts", {"dataset": "d", "matchup": "m"}, "for d|m yet * --dataset d"),
        ("outside_answers", {"outside_model": "o"}, "for o yet * --all"),
        ("declared_models", {}, "for its one partition yet *"),
    ],
)
def test_what_is_not_there_says_what_to_do(lake, table, partition, says):
    with pytest.raises(LakeError) as raised:
        lake.read(table, partition)
    where, command = says.split("*")
    assert where.strip() in str(raised.value)
    assert str(raised.value).endswith(f"it first: opencs materialize {table}{command.rstrip()}")


def test_what_does_not_fit_leaves_the_old_file(lake):
    lake.write("selected_subset", frame(), PARTITION)
    with pytest.raises(SchemaError):
        lake.write("selected_subset", frame().drop("rank"), PARTITION)
    assert lake.read("selected_subset", PARTITION).height == 2


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path, monkeypatch):
    lake = Lake(str(tmp_path))
    lake.write("selected_subset", frame(), PARTITION)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LakeError, match="No space left on device"):
        lake.write("selected_subset", frame(9), PARTITION)
    monkeypatch.undo()
    assert lake.read("selected_subset", PARTITION).height == 2
    files = [file.name for file in tmp_path.rglob("*") if file.is_file()]
    assert sorted(files) == ["part.parquet", "schema.parquet"]


def test_a_lake_that_is_a_file_is_a_clear_error(tmp_path):
    (tmp_path / "lake").write_text("")
    with pytest.raises(LakeError, match="can't be written"):
        Lake(str(tmp_path / "lake")).write("selected_subset", frame(), PARTITION)


def test_every_table_can_be_read_by_duckdb_from_the_start(tmp_path):
    lake = Lake(str(tmp_path))
    lake.ensure_schemas()
    for table in TABLES.values():
        glob = "/".join([str(tmp_path), table.name, *["*"] * len(table.dimensions), "*.parquet"])
        found = duckdb.sql(
            f"select * from read_parquet('{glob}', hive_partitioning = true, "
            "hive_types_autocast = false)"
        )
        assert set(table.columns) | set(table.dimensions) == set(found.columns)
        assert found.fetchall() == []


def test_a_dataset_named_2024_stays_text(tmp_path):
    lake = Lake(str(tmp_path))
    lake.ensure_schemas()
    lake.write("selected_subset", frame(), PARTITION)
    found = duckdb.sql(
        f"select dataset from read_parquet('{tmp_path}/selected_subset/*/*/*.parquet', "
        "hive_partitioning = true, hive_types_autocast = false)"
    ).fetchall()
    assert found == [("2024",), ("2024",)]


def test_only_a_changed_schema_is_written_anew(tmp_path):
    Lake(str(tmp_path)).ensure_schemas()
    folder = tmp_path / "selected_subset" / "dataset=__schema__" / "selector=__schema__"
    (changed,) = folder.iterdir()
    pl.DataFrame(schema={"old": pl.Int64}).write_parquet(changed)
    # A file that is written anew is another one.
    before = {path: path.stat().st_ino for path in tmp_path.rglob("*") if path.is_file()}
    Lake(str(tmp_path)).ensure_schemas()
    assert {path for path, inode in before.items() if path.stat().st_ino != inode} == {changed}
    assert pl.read_parquet(changed, hive_partitioning=False).columns == [*SELECTED_SUBSET.columns]


class TestFormat:
    def test_a_lake_says_which_format_it_has(self, tmp_path):
        Lake(str(tmp_path)).ensure_schemas()
        # Homes of this release have this number on disk.
        assert json.loads((tmp_path / "format.json").read_text()) == {"format": 1}

    @pytest.mark.parametrize("written", [None, 0, 1])
    def test_one_of_this_release_or_an_older_one_opens(self, tmp_path, written):
        Lake(str(tmp_path)).ensure_schemas()
        (tmp_path / "format.json").unlink()
        if written is not None:
            (tmp_path / "format.json").write_text(json.dumps({"format": written}))
        assert Lake(str(tmp_path)).partitions("raw_dataset") == []

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ('{"format": 2}', "a newer release of OpenCS wrote"),
            ('{"format": "next"}', "a newer release of OpenCS wrote"),
            ("{", "does not say which format"),
            ("[]", "does not say which format"),
        ],
    )
    def test_a_newer_one_is_neither_read_nor_changed(self, tmp_path, content, says):
        (tmp_path / "format.json").write_text(content)
        tries = (
            lambda lake: lake.ensure_schemas(),
            lambda lake: lake.partitions("raw_dataset"),
            lambda lake: lake.read("clusters", {"dataset": "d"}),
            lambda lake: lake.write("declared_models", TABLES["declared_models"].empty(), {}),
        )
        for use in tries:
            with pytest.raises(LakeError, match=says):
                use(Lake(str(tmp_path)))
        assert [path.name for path in tmp_path.iterdir()] == ["format.json"]
