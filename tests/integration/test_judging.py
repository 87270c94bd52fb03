"""Judging through the platform's client: what is asked, what is paid once, and when it stops."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import duckdb
import httpx
import polars as pl
import pytest

from definitions import build_defs
from opencs_assets.cli.running import plan_runs
from opencs_assets.config.experiments import load_experiments
from opencs_assets.evaluation.declared import prepare_lake
from opencs_assets.protocols.registry import pair_protocols
from opencs_assets.tables.benchmarks import BENCHMARK_QUESTIONS
from opencs_assets.tables.lake import Lake
from opencs_assets.wiring import running
from resources.dbt_project import DbtError, NodeResult, dbt_build, refuse_broken
from resources.settings import SettingsError, load_settings
from tests.integration.servers.started import started
from tests.integration.warehouse.conftest import table as table_of
from tests.unit.protocols.conftest import TEMPLATES, prompt_rows, write_prompts

OURS, THEIRS = "random@smollm2-135m", "gpt-4"
PARTITION = {"dataset": "d", "matchup": "ours_vs_gpt-4"}
EXPERIMENTS = """
outside_models:
  gpt-4: {{base_url: "{url}/v1", model: gpt-4, api_key_env: TEST_API_KEY}}
matchups:
  ours_vs_gpt-4: {{model_a: random@smollm2-135m, model_b: gpt-4, benchmark: own}}
"""
JUDGE = """
[roles.judge]
base_url = "{url}/v1"
model = "judge"
api_key_env = "TEST_API_KEY"
reading = "{reading}"
concurrency = 2
"""
NAMES = [f"q{n:03}" for n in range(12)]
# The matchup judged in a process of its own, which has nothing else to start.
JUDGES = f"""
import sys
import polars as pl
from opencs_assets.protocols import registry, tasks
from opencs_assets.verdicts import judging
from opencs_assets.tables.lake import Lake
from resources.llm.resource import LLMResource
from resources.settings import SettingsError, load_settings

settings = load_settings(sys.argv[1])
lake = Lake(settings.lake)
protocol = registry.choose_pair(settings, "generated", 2)
expected = tasks.pair_tasks(
    lake.read("benchmark_questions", {{}}),
    lake.read("model_answers", {{"dataset": "d", "experiment": {OURS!r}}}),
    lake.read("outside_answers", {{"outside_model": {THEIRS!r}}}),
    "own",
    by_turn=protocol.by_turn,
)
with LLMResource(home=sys.argv[1]).client("judge", stage="pairwise_verdicts") as client:
    judging.judge_pairs(client, expected, protocol, model_a={OURS!r}, model_b={THEIRS!r})
"""
# One question's answers of both models, by turn.
Worths = tuple[tuple[float, float], tuple[float, float]]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with started("verdict_server.py") as url:
        yield url


class Platform:
    """A home with one matchup of an experiment and an outside model, whose answers are there."""

    def __init__(self, home: Path, url: str) -> None:
        self.home, self.url = home, url
        (home / "experiments.yaml").write_text(EXPERIMENTS.format(url=url))
        # Of definitions' own: what is judged is written into the lake by ``answer``.
        (home / "benchmarks").mkdir()
        (home / "benchmarks" / "own.jsonl").write_text('{"turns": ["Why?"]}\n')
        self.instance = dg.DagsterInstance.ephemeral()
        self.defs = build_defs(home)
        self.lake = Lake(load_settings(home).lake)
        running.register_dataset(self.instance, "d")

    def forget(self) -> None:
        """As it was at first: no tables, no replies."""
        for name in ("lake", "llm"):
            shutil.rmtree(self.home / name, ignore_errors=True)
        (self.home / "judge_prompts.jsonl").unlink(missing_ok=True)
        self.configure()
        self.set()

    def configure(self, **values) -> None:
        httpx.post(f"{self.url}/configure", json=values)

    def set(self, reading: str = "generated", **judging) -> None:
        lines = [f"{name} = {json.dumps(value)}" for name, value in judging.items()]
        text = JUDGE.format(url=self.url, reading=reading) + "\n".join(["[judging]", *lines])
        (self.home / "settings.toml").write_text(text)

    def asked(self) -> list[dict]:
        return httpx.get(f"{self.url}/asked").json()

    def answer(self, *worths: Worths, first: int = 0, category: str = "math") -> None:
        """Two turns a question; ``worths`` are what both models' answers are worth, by turn."""
        names = [f"q{n:03}" for n in range(first, first + len(worths))]
        questions = [
            {
                "benchmark": "own",
                "question_id": name,
                "category": category,
                "turns": [f"{name} why?", f"{name} and?"],
                "references": [f"{name} because", f"{name} so"],
            }
            for name in names
        ]
        self.add("benchmark_questions", pl.DataFrame(questions, BENCHMARK_QUESTIONS.schema), {})
        for model, side in ((OURS, 0), (THEIRS, 1)):
            rows = [
                {
                    "benchmark": "own",
                    "question_id": name,
                    "category": category,
                    "turn": turn,
                    "answer": f"{name}.{turn} by {model}: worth={worth[turn - 1][side]:g}",
                    "finish_reason": "stop",
                    "prompt_tokens": 1,
                    "answer_tokens": 1,
                    "temperature": 0.0,
                }
                for name, worth in zip(names, worths, strict=True)
                for turn in (1, 2)
            ]
            table, partition = (
                ("model_answers", {"dataset": "d", "experiment": OURS})
                if model == OURS
                else ("outside_answers", {"outside_model": THEIRS})
            )
            made = table_of(table, rows, checkpoint="c", reply_id=None, detail=None)
            self.add(table, made, partition)

    def add(self, table: str, rows: pl.DataFrame, partition: dict[str, str]) -> None:
        """Rows beside those that are there."""
        if self.lake.exists(table, partition):
            rows = pl.concat([self.lake.read(table, partition).select(rows.columns), rows])
        self.lake.write(table, rows, partition)

    def run(self, selection: str = "pairwise_verdicts") -> str | None:
        """Materialize for our experiment; returns what failed."""
        steps = plan_runs(
            self.defs,
            self.instance,
            load_experiments(self.home),
            selection,
            chosen_experiments=[OURS],
        )
        assert steps
        errors = (running.run(self.defs, self.instance, step).error for step in steps)
        return next(filter(None, errors), None)

    def pairs(self) -> pl.DataFrame:
        assert self.run() is None
        return self.lake.read("pairwise_verdicts", PARTITION)

    def singles(self) -> pl.DataFrame:
        assert self.run("single_verdicts") is None
        return self.lake.read("single_verdicts", {"dataset": "d", "experiment": OURS})

    def build(self, database: Path) -> list[NodeResult]:
        lake = str(self.home / "lake")
        prepare_lake(lake)
        return dbt_build(self.home, lake, database)

    def metadata(self, asset: str) -> dict[str, object]:
        event = self.instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert event
        assert event.asset_materialization
        return {name: value.value for name, value in event.asset_materialization.metadata.items()}


@pytest.fixture(scope="module")
def shared(tmp_path_factory, url) -> Platform:
    return Platform(tmp_path_factory.mktemp("home"), url)


@pytest.fixture
def platform(shared, monkeypatch) -> Platform:
    monkeypatch.setenv("TEST_API_KEY", "sk-test")
    shared.forget()
    return shared


WINS: Worths = ((8, 3), (7, 2))
LOSES: Worths = ((2, 9), (3, 8))
TIES: Worths = ((5, 5), (6, 6))
MIXED: Worths = ((8, 3), (2, 9))


def prompt_of(body: dict) -> str:
    return "\n".join(message["content"] for message in body["messages"])


class TestProtocols:
    def test_scores_of_whole_conversations_in_both_orders(self, platform):
        platform.answer(WINS, LOSES, TIES)
        table = platform.pairs()
        assert table.select("question_id", "turn", "shown_first", "winner").rows() == [
            (f"q{n:03}", 0, side, winner)
            for n, winner in enumerate(("a", "b", "tie"))
            for side in ("a", "b")
        ]
        assert table["score_a"].to_list()[:4] == [7, 7, 3, 3]
        assert set(table["protocol"]) == {"scores"}
        assert len(platform.asked()) == 6

    def test_a_choice_is_made_of_each_turn_in_both_orders(self, platform):
        platform.set(pair="choice")
        platform.answer(MIXED, TIES)
        table = platform.pairs()
        assert table.select("question_id", "turn", "shown_first", "winner").rows() == [
            (name, turn, side, winner)
            for name, turn, winner in (
                ("q000", 1, "a"), ("q000", 2, "b"), ("q001", 1, "tie"), ("q001", 2, "tie"),
            )
            for side in ("a", "b")
        ]  # fmt: skip
        assert set(table["status"]) == {"ok"}
        told = platform.metadata("pairwise_verdicts")
        assert (told["win"], told["lose"], told["tie"], told["unparsable"]) == (1, 1, 2, 0)
        assert (told["rule"], told["protocol"]) == ("both_agree", "choice")
        assert told["orders_disagree_pct"] == 0

    def test_a_judge_of_positions_is_seen_and_wins_nothing(self, platform):
        platform.set(pair="choice")
        platform.configure(mode="first")
        platform.answer(WINS, LOSES)
        assert platform.pairs()["winner"].to_list() == ["a", "b"] * 4
        told = platform.metadata("pairwise_verdicts")
        assert (told["tie"], told["orders_disagree_pct"]) == (4, 100)

    def test_single_scores_by_turn_with_their_references(self, platform):
        platform.answer(MIXED)
        table = platform.singles()
        assert table.select("turn", "score", "with_reference").rows() == [
            (1, 8, True),
            (2, 2, True),
        ]
        told = platform.metadata("single_verdicts")
        assert (told["mean_score_turn_1"], told["mean_score_turn_2"]) == (8, 2)
        assert (told["mean_score"], told["expected"], told["read"]) == (5, 2, 2)

    def test_a_preference_that_the_endpoint_cannot_give_is_one_clear_error(self, platform):
        platform.answer(WINS)
        platform.set(reading="logprobs", pair="preference")
        error = platform.run()
        assert "judging.pair = 'preference'" in error
        # Where nothing is set, what it can do is asked for.
        platform.set(reading="logprobs")
        assert set(platform.pairs()["protocol"]) == {"scores"}


@pytest.fixture
def brevity(tmp_path, monkeypatch) -> Iterator[str]:
    """A package that adds a protocol, as pip would have installed it."""
    installed = tmp_path / "opencs_brevity-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Name: opencs-brevity\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(
        "[opencs.protocols]\nbrevity = tests.integration.added_protocol:BREVITY\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    pair_protocols.cache_clear()
    yield "brevity"
    pair_protocols.cache_clear()


class TestAddedProtocol:
    @pytest.mark.parametrize(
        ("value", "says"),
        [
            ("no_such_module:X", "opencs-brevity adds 'brevity' .* can't be loaded: .*uninstall"),
            ("math:pi", "not a PairProtocol"),
            ("opencs_assets.protocols.choice:CHOICE", "'choice', which is taken"),
        ],
    )
    def test_what_is_no_protocol_is_one_clear_error(self, brevity, tmp_path, value, says):
        (tmp_path / "opencs_brevity-1.dist-info" / "entry_points.txt").write_text(
            f"[opencs.protocols]\nbrevity = {value}\n"
        )
        with pytest.raises(SettingsError, match=says):
            pair_protocols()

    def test_it_reaches_the_win_rates_and_without_its_package_the_build_ends_and_names_it(
        self, platform, brevity, tmp_path
    ):
        platform.set(pair=brevity)
        platform.answer(WINS, MIXED, TIES, LOSES)
        table = platform.pairs()
        assert set(table["turn"]) == {1, 2}
        assert platform.metadata("pairwise_verdicts")["rule"] == "win_or_tie"
        platform.lake.write(
            "checkpoint",
            table_of("checkpoint", [{"provenance": "c", "packages": [], "log": []}]),
            {"dataset": "d", "experiment": OURS},
        )
        refuse_broken(platform.build(tmp_path / "built.duckdb"), platform.home)
        with duckdb.connect(str(tmp_path / "built.duckdb")) as built:
            rows = built.sql(
                "select protocol, rule, win, tie, lose, expected from win_rates "
                "where is_default_rule"
            ).fetchall()
        assert rows == [(brevity, "win_or_tie", 3, 2, 3, 8)]
        (tmp_path / "opencs_brevity-1.dist-info" / "entry_points.txt").unlink()
        pair_protocols.cache_clear()
        results = platform.build(tmp_path / "built.duckdb")
        with pytest.raises(DbtError, match=r"the judge protocol brevity.*install the package"):
            refuse_broken(results, platform.home)


class TestFastChat:
    def rendered(self, name: str, **places: str) -> str:
        return TEMPLATES[name].format(**places)

    def test_the_file_is_used_word_for_word(self, platform):
        write_prompts(platform.home / "judge_prompts.jsonl", prompt_rows())
        platform.set(pair="choice")
        platform.answer(WINS)
        table = platform.pairs()
        assert set(table["status"]) == {"ok"}
        contents = [body["messages"][1]["content"] for body in platform.asked()]
        two = {f"{name}_{turn}": text for turn, question in ((1, "why?"), (2, "and?"))
               for name, text in (
                   ("question", f"q000 {question}"),
                   ("ref_answer", f"q000 {'because' if turn == 1 else 'so'}"),
               )}  # fmt: skip
        ours = [f"q000.{turn} by {OURS}: worth={worth}" for turn, worth in ((1, 8), (2, 7))]
        theirs = [f"q000.{turn} by {THEIRS}: worth={worth}" for turn, worth in ((1, 3), (2, 2))]
        expected = []
        for first, second in ((ours, theirs), (theirs, ours)):
            expected.append(
                self.rendered(
                    "pair-math-v1",
                    question="q000 why?",
                    ref_answer_1="q000 because",
                    answer_a=first[0],
                    answer_b=second[0],
                )
            )
            shown = {
                "answer_a_1": first[0], "answer_a_2": first[1],
                "answer_b_1": second[0], "answer_b_2": second[1],
            }  # fmt: skip
            expected.append(self.rendered("pair-math-v1-multi-turn", **two, **shown))
        assert sorted(contents) == sorted(expected)
        (sampling,) = table["sampling"].unique()
        assert json.loads(sampling) == {"max_tokens": 2048, "temperature": 0.0}

    def test_edited_words_are_another_version_and_asked_anew(self, platform):
        path = platform.home / "judge_prompts.jsonl"
        write_prompts(path, prompt_rows())
        platform.answer(WINS)
        (before,) = platform.singles()["prompt_version"].unique()
        assert before.startswith("fastchat-single-")
        assert len(platform.asked()) == 2
        rows = prompt_rows()
        rows[1]["system_prompt"] += " Be brief."
        write_prompts(path, rows)
        (after,) = platform.singles()["prompt_version"].unique()
        assert after != before
        # The second turn is asked with another of the file's prompts, which is as it was.
        assert len(platform.asked()) == 3
        platform.set(prompts="own")
        (own,) = platform.singles()["prompt_version"].unique()
        assert own.startswith("own-single-")

    def test_a_malformed_file_is_one_clear_error(self, platform):
        rows = prompt_rows()
        del rows[4]["prompt_template"]
        write_prompts(platform.home / "judge_prompts.jsonl", rows)
        platform.answer(WINS)
        error = platform.run("single_verdicts")
        assert "judge_prompts.jsonl line 5, prompt_template: is missing" in error
        assert platform.asked() == []


class TestOnlyWhatIsMissing:
    def test_a_rerun_asks_nothing_and_added_questions_only_their_own(self, platform):
        platform.set(pair="choice")
        platform.answer(WINS, LOSES)
        table = platform.pairs()
        calls = len(platform.asked())
        assert platform.pairs().equals(table)
        assert len(platform.asked()) == calls
        platform.answer(TIES, first=2)
        longer = platform.pairs()
        new = platform.asked()[calls:]
        assert len(new) == calls / 2
        assert all("q002 why?" in prompt_of(body) for body in new)
        assert longer.filter(pl.col("question_id") != "q002").equals(table)

    def test_a_killed_run_leaves_whole_questions_and_is_gone_on_with(self, platform):
        platform.set(pair="choice")
        platform.configure(delay=0.05)
        platform.answer(*[WINS] * 12)
        process = subprocess.Popen(
            [sys.executable, "-c", JUDGES, str(platform.home)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        try:
            while len(platform.asked()) < 14:
                assert process.poll() is None
                time.sleep(0.02)
        finally:
            process.kill()
            process.wait()
        time.sleep(0.3)
        before = platform.asked()
        assert 14 <= len(before) < 40
        names = Counter(next(n for n in NAMES if f"{n} why?" in prompt_of(body)) for body in before)
        # With two requests in flight, two questions at most are begun and not ended.
        assert sum(count < 4 for count in names.values()) <= 2
        assert sorted(names) == NAMES[: len(names)]
        platform.configure()
        table = platform.pairs()
        assert set(table["status"]) == {"ok"}
        assert table.height == 48
        # What was on its way when the run was killed is lost, and nothing else.
        assert 48 - len(before) <= len(platform.asked()) <= 48 - len(before) + 2


class TestBadInput:
    def test_an_answer_file_that_is_shorter_than_its_partner(self, platform):
        platform.set(pair="choice")
        platform.answer(WINS, LOSES)
        answers = platform.lake.read("outside_answers", {"outside_model": THEIRS})
        platform.lake.write(
            "outside_answers",
            answers.filter((pl.col("question_id") == "q001") & (pl.col("turn") == 1)).drop(
                "outside_model"
            ),
            {"outside_model": THEIRS},
        )
        table = platform.pairs()
        assert table.height == 8
        assert table.filter(pl.col("status") == "ok").select(
            "question_id", "turn"
        ).unique().rows() == [("q001", 1)]
        assert Counter(table["status"]) == {"no_answer": 6, "ok": 2}
        assert len(platform.asked()) == 2
        assert platform.metadata("pairwise_verdicts")["by_status"] == {"no_answer": 6, "ok": 2}

    def test_a_judge_that_repeats_the_prompt_gives_no_verdict(self, platform):
        write_prompts(platform.home / "judge_prompts.jsonl", prompt_rows())
        platform.set(pair="choice")
        platform.configure(mode="echo")
        platform.answer(WINS)
        assert set(platform.pairs()["status"]) == {"unparsable"}
        singles = platform.singles()
        assert set(singles["status"]) == {"unparsable"}
        assert singles["score"].null_count() == 2
        assert "mean_score" not in platform.metadata("single_verdicts")


class TestStoppingEarly:
    EARLY = {"stop_early": True, "batch": 5}

    def test_it_stops_where_the_result_is_clear_and_says_so(self, platform):
        platform.set(**self.EARLY)
        platform.answer(*[WINS] * 60)
        table = platform.pairs()
        counts = Counter(table["status"])
        assert set(counts) == {"ok", "stopped"}
        assert counts["ok"] == len(platform.asked())
        assert counts["ok"] % 10 == 0
        assert table.height == 120
        assert (
            table.filter(pl.col("status") == "stopped")["winner"].null_count() == counts["stopped"]
        )
        assert table["sampling"].n_unique() == table["prompt_version"].n_unique() == 1
        told = platform.metadata("pairwise_verdicts")
        assert told["result_is_clear"]
        assert told["questions_judged"] == told["win"] == counts["ok"] / 2
        assert told["win_or_half_tie_low"] > 0.5
        for name in ("both_orders", "few_unread"):
            (record,) = platform.instance.event_log_storage.get_asset_check_execution_history(
                dg.AssetCheckKey(dg.AssetKey("pairwise_verdicts"), name), limit=1
            )
            assert record.status.value == "SUCCEEDED"
        # Both orders of a question are asked for or none.
        by_question = table.group_by("question_id").agg(pl.col("status").n_unique())
        assert set(by_question["status"]) == {1}

        # Going on from there asks only for the rest.
        assert platform.pairs().equals(table)
        assert len(platform.asked()) == counts["ok"]
        platform.set()
        assert set(platform.pairs()["status"]) == {"ok"}
        assert len(platform.asked()) == 120
