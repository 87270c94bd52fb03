"""What a dataset's chain came to, in a terminal."""

import io
from pathlib import Path

import duckdb
from rich.console import Console

from opencs_assets.cli.summary import print_summary
from resources.settings import load_settings

USAGE = """
create table llm_usage as
select 'data' as dataset, 'open_tags' as stage, 'gpt' as model, 5 as calls,
    10 as prompt_tokens, 2 as completion_tokens, 0.5 as cost_usd
"""


def test_a_warehouse_of_another_release_is_shown_as_far_as_it_goes(tmp_path: Path):
    with duckdb.connect(tmp_path / "warehouse.duckdb") as connection:
        connection.execute(USAGE)
    console = Console(file=io.StringIO(), width=400)
    print_summary(console, load_settings(tmp_path), "data", {})
    printed = console.file.getvalue()
    assert "was built by another release and has no answer_scores" in printed
    assert "opencs materialize group:evaluation" in printed
    assert "open_tags" in printed
