"""What is asked, by protocol, and which version it has."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from opencs_assets.protocols import choice, preference, scores, single, words
from opencs_assets.protocols.fastchat import JudgePrompts, read_prompts
from opencs_assets.protocols.protocol import JudgeProtocol
from opencs_assets.protocols.registry import choose_pair, choose_single, family_of, refuse_misfits
from opencs_assets.protocols.tasks import (
    JudgedQuestion,
    PairTask,
    SingleTask,
    pair_tasks,
    single_tasks,
)
from resources.settings import SettingsError, load_settings
from tests.unit.protocols.conftest import prompt_rows, write_prompts
from tests.unit.protocols.frames import (
    both_turns,
    pair_of,
    question_frame,
    single_of,
    text_of,
)

GENERATED = {"judge": {"base_url": "http://judge/v1", "model": "gpt-4"}}
PAIRS = ("scores", "choice", "preference")


def tasks_of(by_turn: bool, **questions) -> list[PairTask]:
    return pair_tasks(
        question_frame("q1", **questions),
        both_turns("q1", words="alpha"),
        both_turns("q1", words="beta"),
        "smoke",
        by_turn=by_turn,
    )


class TestPrompts:
    @pytest.mark.parametrize("reading", ["generated", "logprobs"])
    def test_the_second_turn_is_shown_with_the_first(self, reading):
        task = single_tasks(question_frame("q1"), both_turns("q1"))[1]
        text = text_of(single_of(reading).call(task, 0, None))
        assert all(part in text for part in ("q1 first?", "q1.1", "q1 second?", "q1.2"))
        assert "last answer" in text

    def test_a_choice_of_the_second_turn_shows_all_and_asks_about_the_last_question(self):
        first, _, second, _ = (
            text_of(pair_of("choice").call(task, 0, None)) for task in tasks_of(True)
        )
        assert "q1 second?" not in first
        assert "last question" not in first
        assert all(part in second for part in ("q1 first?", "alpha q1.1", "beta q1.2"))
        assert "Judge the answers to the last question" in second

    @pytest.mark.parametrize("name", PAIRS)
    def test_the_reversed_order_shows_b_as_assistant_a(self, name):
        tasks = tasks_of(pair_of(name).by_turn)[:2]
        first, second = (text_of(pair_of(name).call(task, 0, None)) for task in tasks)
        label = "[Assistant B's answers]"
        assert first.index("alpha") < first.index(label) < first.index("beta")
        assert second.index("beta") < second.index(label) < second.index("alpha")

    def test_references_are_shown_where_an_answer_is_right_or_wrong(self):
        references = ["the first is 4", "the second is 5"]
        for category, shown in (("math", True), ("writing", False)):
            known = {"category": category, "references": references}
            task = single_tasks(question_frame("q1", **known), both_turns("q1"))[1]
            text = text_of(single_of("generated").call(task, 0, None))
            assert ("the second is 5" in text) is shown
            assert single_of("generated").shows_reference(task) is shown
            for name in PAIRS:
                task = tasks_of(pair_of(name).by_turn, **known)[-1]
                assert ("2. the second is 5" in text_of(pair_of(name).call(task, 0, None))) is shown

    def test_a_first_turn_is_not_shown_the_reference_of_the_second(self):
        known = {"category": "math", "references": ["the first is 4", "the second is 5"]}
        text = text_of(pair_of("choice").call(tasks_of(True, **known)[0], 0, None))
        assert "the first is 4" in text
        assert "the second is 5" not in text

    def test_an_empty_reference_is_none(self):
        """MT-Bench's own file has questions with a reference for one turn only."""
        question = JudgedQuestion("b", "q", "math", ("x", "y"), ("the reference", ""))
        tasks = [SingleTask(question, turn, ("a", "b")[:turn]) for turn in (1, 2)]
        assert [single_of("generated").shows_reference(task) for task in tasks] == [
            True,
            False,
        ]
        assert "eference" not in text_of(single_of("generated").call(tasks[1], 0, None))

    def test_a_reference_keeps_the_number_of_its_turn(self):
        question = JudgedQuestion("b", "q", "math", ("x", "y"), ("", "it is 5"))
        text = text_of(
            pair_of("scores").call(PairTask(question, 0, "a", ("1", "2"), ("3", "4")), 0, None)
        )
        assert "[Reference answers]\n2. it is 5" in text

    @pytest.mark.parametrize("name", PAIRS)
    def test_nothing_is_cut_and_nothing_is_the_printed_form_of_a_list(self, name):
        long = "word " * 5000
        tasks = pair_tasks(
            question_frame("q1"), both_turns("q1", words=long), both_turns("q1"), "smoke",
            by_turn=pair_of(name).by_turn,
        )  # fmt: skip
        text = text_of(pair_of(name).call(tasks[-1], 0, None))
        assert long in text
        assert "['" not in text

    def test_an_empty_answer_is_shown_as_empty(self):
        answers = both_turns("q1").with_columns(answer=pl.lit(""))
        task = single_tasks(question_frame("q1"), answers)[0]
        assert words.NOTHING in text_of(single_of("generated").call(task, 0, None))

    def test_short_prompts_for_the_small_model(self):
        call = pair_of("preference").call(tasks_of(False)[0], 0, None)
        assert len(text_of(call).split()) < 60

    def test_a_retry_says_why_and_has_another_key(self):
        task = single_tasks(question_frame("q1"), both_turns("q1"))[0]
        call = single_of("generated").call(task, 1, "the reply has no score")
        assert call.attempt == 1
        assert "the reply has no score" in text_of(call)

    def test_probabilities_are_asked_for_where_they_are_read(self):
        assert pair_of("preference").call(tasks_of(False)[0], 0, None).top_logprobs
        for name in ("scores", "choice"):
            assert (
                pair_of(name).call(tasks_of(pair_of(name).by_turn)[0], 0, None).top_logprobs is None
            )


def ways_to_ask(published: JudgePrompts) -> dict[str, JudgeProtocol]:
    return {
        "single": single_of("generated"),
        "digit": single_of("logprobs"),
        **{name: pair_of(name) for name in PAIRS},
        "fastchat single": single_of("generated", published),
        "fastchat choice": pair_of("choice", published),
    }


def versions(published: JudgePrompts) -> dict[str, str]:
    """Versions as they are now: a protocol remembers its own, a copy does not."""
    return {name: replace(protocol).version for name, protocol in ways_to_ask(published).items()}


class TestVersions:
    def test_each_way_of_asking_has_its_own(self, published):
        found = versions(published)
        assert len(set(found.values())) == len(found)
        assert {name: family_of(version) for name, version in found.items()} == {
            name: "fastchat" if name.startswith("fastchat") else "own" for name in found
        }

    def test_results_of_before_stay_the_same_results(self, published):
        """Verdicts of another version are another result: an edit must be wanted."""
        assert versions(published) == {
            "single": "own-single-generated-50d70f86",
            "digit": "own-single-logprobs-db416a4f",
            "scores": "own-scores-47e1ded2",
            "choice": "own-choice-35771fe3",
            "preference": "own-preference-a21ac803",
            "fastchat single": "fastchat-single-generated-a9489eb9",
            "fastchat choice": "fastchat-choice-e191dd93",
        }

    @pytest.mark.parametrize(
        ("module", "constant", "changed"),
        [
            (single, "_ASKED", {"single"}),
            (single, "_LAST", {"single"}),
            (single, "_REFERENCE", {"single"}),
            (single, "_DIGIT", {"digit"}),
            (words, "PAIR", {"scores", "choice"}),
            (scores, "_ASKED", {"scores"}),
            (choice, "_ASKED", {"choice"}),
            (choice, "_LAST", {"choice"}),
            (words, "_PAIR_REFERENCE", {"scores", "choice"}),
            (preference, "_ASKED", {"preference"}),
        ],
    )
    def test_an_edited_prompt_is_another_version(
        self, monkeypatch, published, module, constant, changed
    ):
        before = versions(published)
        monkeypatch.setattr(module, constant, "Edited. {which}")
        after = versions(published)
        assert {name for name in before if before[name] != after[name]} == changed

    def test_an_edited_parser_is_another_version(self, published):
        for protocol in ways_to_ask(published).values():
            assert replace(protocol, parser="edited").version != protocol.version

    @pytest.mark.parametrize("field", ["system_prompt", "prompt_template"])
    @pytest.mark.parametrize("at", range(8))
    def test_an_edited_file_is_another_version_of_what_asks_with_it(
        self, tmp_path, published, field, at
    ):
        rows = prompt_rows()
        rows[at][field] += " "
        edited = read_prompts(write_prompts(tmp_path / "edited.jsonl", rows))
        changed = "fastchat choice" if rows[at]["name"].startswith("pair") else "fastchat single"
        before, after = versions(published), versions(edited)
        assert {name for name in before if before[name] != after[name]} == {changed}

    def test_where_the_file_stands_does_not_matter(self, tmp_path, published):
        moved = read_prompts(write_prompts(tmp_path / "x" / "judge_prompts.jsonl", prompt_rows()))
        assert versions(moved) == versions(published)

    def test_turns_categories_and_retries_share_one(self):
        known = {"category": "math", "references": ["4", "5"]}
        calls = [
            pair_of("choice").call(task, attempt, "why" if attempt else None)
            for task in [*tasks_of(True), *tasks_of(True, **known)]
            for attempt in (0, 1)
        ]
        assert {call.prompt_version for call in calls} == {pair_of("choice").version}


class TestSettings:
    @pytest.fixture
    def home(self, tmp_path: Path) -> Path:
        write_prompts(tmp_path / "judge_prompts.jsonl", prompt_rows())
        return tmp_path

    @pytest.mark.parametrize(
        ("judging", "reading", "turns", "pair", "alone"),
        [
            # Where nothing is set, what the judge can do decides: an endpoint may turn out to give
            # no probabilities.
            ({}, "logprobs", 2, "preference", "own logprobs"),
            ({}, "generated", 2, "scores", "fastchat generated"),
            ({"pair": "scores"}, "generated", 2, "scores", "fastchat generated"),
            ({"pair": "choice"}, "generated", 2, "fastchat choice", "fastchat generated"),
            ({"prompts": "fastchat"}, "generated", 2, "scores", "fastchat generated"),
            # FastChat's prompts are not made for a third turn, nor for what is set to be own.
            ({"pair": "choice"}, "generated", 3, "choice", "own generated"),
            ({"pair": "choice", "prompts": "own"}, "generated", 2, "choice", "own generated"),
        ],
    )
    def test_what_settings_reading_and_turns_lead_to(
        self, home, judging, reading, turns, pair, alone
    ):
        settings = load_settings(home, judging=judging, roles=GENERATED)
        chosen = choose_pair(settings, reading, turns)
        fastchat = "fastchat " if chosen.family == "fastchat" else ""
        assert fastchat + chosen.name == pair
        single_chosen = choose_single(settings, reading, turns)
        assert f"{single_chosen.family} {single_chosen.reading}" == alone

    def test_without_the_file_all_prompts_are_own(self, tmp_path):
        settings = load_settings(tmp_path, judging={"pair": "choice"}, roles=GENERATED)
        assert choose_pair(settings, "generated", 2) == pair_of("choice")
        assert choose_single(settings, "generated", 2) == single_of("generated")

    @pytest.mark.parametrize(
        ("judging", "reading"),
        [({"pair": "preference"}, "generated"), ({"pair": "choice"}, "logprobs"),
         ({"pair": "scores"}, "logprobs"), ({"prompts": "fastchat"}, "logprobs")],
    )  # fmt: skip
    def test_a_contradiction_is_one_clear_error(self, tmp_path, judging, reading):
        roles = {"judge": {**GENERATED["judge"], "reading": reading}}
        with pytest.raises(SettingsError, match=r"judging\.\w+ = .*roles\.judge\.reading") as error:
            refuse_misfits(load_settings(tmp_path, judging=judging, roles=roles), reading)
        assert str(error.value).count("judging") < 4

    def test_an_unknown_protocol_is_one_clear_error_that_names_the_known(self, tmp_path):
        settings = load_settings(tmp_path, judging={"pair": "chioce"}, roles=GENERATED)
        with pytest.raises(SettingsError, match=r"'chioce'.* scores, choice, preference"):
            refuse_misfits(settings, "generated")

    def test_a_preference_needs_probabilities_that_the_endpoint_gives(self, tmp_path):
        roles = {"judge": {**GENERATED["judge"], "reading": "logprobs"}}
        settings = load_settings(tmp_path, judging={"pair": "preference"}, roles=roles)
        assert choose_pair(settings, "logprobs", 2).name == "preference"
        with pytest.raises(SettingsError, match="preference"):
            choose_pair(settings, "generated", 2)

    def test_fastchat_without_the_file_or_with_a_third_turn_is_one_clear_error(
        self, home, tmp_path_factory
    ):
        judging = {"prompts": "fastchat"}
        other = tmp_path_factory.mktemp("other")
        with pytest.raises(SettingsError, match=r"needs FastChat's file .*judge_prompts\.jsonl"):
            choose_single(load_settings(other, judging=judging, roles=GENERATED), "generated", 2)
        settings = load_settings(home, judging=judging, roles=GENERATED)
        with pytest.raises(SettingsError, match="3 turns"):
            choose_single(settings, "generated", 3)

    def test_stopping_is_off_by_default(self, tmp_path):
        judging = load_settings(tmp_path).judging
        assert (judging.stop_early, judging.stop_level, judging.batch) == (False, 0.95, 20)
