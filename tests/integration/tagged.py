"""A home with a dataset that is tagged already: stages after tagging, without its calls."""

import json
import shutil

import dagster as dg
import polars as pl

from definitions import build_defs
from opencs_assets.cli.running import plan_runs
from opencs_assets.config.experiments import load_experiments
from opencs_assets.datasets import catalog
from opencs_assets.tables.lake import Lake
from opencs_assets.tables.open_tags import OPEN_TAGS
from opencs_assets.wiring import running

TOPICS = ("cooking", "poetry", "algebra", "travel", "history")
QUESTION = "Please write a short poem about the sea in autumn."


class Platform:
    """A home with the dataset ``facts``, by turns of five topics; its first row has no tag."""

    def __init__(self, home, rows):
        self.open(home)
        (home / "benchmarks").mkdir(parents=True)
        (home / "benchmarks" / "poems.jsonl").write_text(
            json.dumps({"question_id": "p1", "turns": [QUESTION]}) + "\n"
        )
        self.file = home / "facts.json"
        self.file.write_text(json.dumps(rows))
        catalog.add_source(home, self.file, "facts")
        self.run("raw_dataset")
        samples = self.read("raw_dataset")
        tags = [
            {
                "sample_id": sample,
                "tags": [
                    {"tag": topic.upper() if row % 2 else topic, "explanation": ""}
                    for topic in [TOPICS[row % 5], *(["facts"] if row % 3 else [])]
                    if row
                ],
                "status": "ok" if row else "unparsable",
                "detail": None,
                "attempts": 1,
                "reply_id": "r",
                "model": "m",
                "prompt_version": "v",
            }
            for row, sample in enumerate(samples["sample_id"])
        ]
        self.lake.write(
            "open_tags", pl.DataFrame(tags, schema=OPEN_TAGS.schema), {"dataset": "facts"}
        )
        self.matching = samples.filter(pl.col("row") == 7)["sample_id"][0]

    def open(self, home):
        """Use a home, with an instance of its own that has seen no run yet."""
        self.home = home
        self.defs = build_defs(home)
        self.lake = Lake(str(home / "lake"))
        self.instance = dg.DagsterInstance.ephemeral()
        running.register_dataset(self.instance, "facts")

    def copy(self, home):
        """The same at another place."""
        shutil.copytree(self.home, home)
        copied = Platform.__new__(Platform)
        copied.open(home)
        return copied

    def run(self, selection, **given):
        """Materialize a selection; the results, whose runs must all have succeeded."""
        steps = plan_runs(self.defs, self.instance, load_experiments(self.home), selection, **given)
        results = [running.run(self.defs, self.instance, step) for step in steps]
        if errors := [result.error for result in results if result.error]:
            raise AssertionError("\n".join(errors))
        return results

    def read(self, name, **partition):
        return self.lake.read(name, {"dataset": "facts", **partition})

    def check(self, asset, name):
        """The last evaluation of a check."""
        key = dg.AssetCheckKey(dg.AssetKey(asset), name)
        record = self.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])
        return record[key].event.dagster_event.event_specific_data
