"""The dbt project says everything about the marts' columns, once, and the report takes it."""

from collections import Counter
from collections.abc import Iterator

import pytest
import yaml

from opencs_assets.evaluation.mart_columns import ReportColumn, columns_of
from opencs_assets.evaluation.report_sections import SECTIONS, TableSpec
from resources.dbt_project import MARTS, declared_marts

TABLES = [table for section in SECTIONS for table in section.tables]
FIRST_OF_TITLE = {f"{each.reads} {each.title}".strip(): each for each in TABLES}


def nodes(node: yaml.Node, seen: set[int]) -> Iterator[yaml.MappingNode]:
    """The mappings of a file; one that aliases refer to is given once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from nodes(value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from nodes(value, seen)


@pytest.mark.parametrize("table", FIRST_OF_TITLE.values(), ids=FIRST_OF_TITLE)
def test_what_the_report_shows_is_declared(table: TableSpec):
    declared = columns_of(table.reads).keys()
    ranges = [(each,) if isinstance(each, str) else each for each in table.columns
              if not isinstance(each, ReportColumn)]  # fmt: skip
    assert {name for names in ranges for name in names} <= declared
    assert table.key
    assert table.relation or set(table.key) <= declared


def test_every_mart_and_column_is_described():
    marts = declared_marts()
    assert marts.keys() == {path.stem for path in MARTS.parent.rglob("*.sql")}
    for name, mart in marts.items():
        assert mart["description"], name
        for column in mart["columns"]:
            assert column["description"], (name, column["name"])
            assert column["data_type"], (name, column["name"])


def test_no_column_is_described_twice():
    described = Counter()
    for node in nodes(yaml.compose(MARTS.read_text(encoding="utf-8")), set()):
        given = {name.value: value.value for name, value in node.value}
        if "data_type" in given:
            described[given["name"], given["data_type"], given["description"]] += 1
    assert [column for column, times in described.items() if times > 1] == []
    assert len(described) > 200


def test_heading_and_format_follow_from_name_and_type_unless_they_are_declared():
    wins = columns_of("win_rates")
    assert wins["steps_a"] == ReportColumn(("steps_a",), "steps a", ",d")
    assert wins["parity"] == ReportColumn(("parity",), "parity")
    assert wins["lose_pct"] == ReportColumn(("lose_pct",), "lose %", ".1f")
    assert [wins[name].look for name in ("parity", "steps_a")] == ["text", "number"]
    assert columns_of("win_rates_all")["badge"].look == "badge"


def test_a_mart_shows_a_shared_column_in_a_format_of_its_own():
    assert columns_of("answer_scores")["score"].form == ".4f"
    assert columns_of("answer_scores_by_category")["score"].form == ".2f"


def test_a_range_has_the_heading_and_format_of_its_first_column():
    (table,) = (each for each in TABLES if each.reads == "leaderboard")
    assert ReportColumn(("ci_low", "ci_high"), "95 % interval", ",.1f") in table.shown
