"""FastChat's prompts: word for word, and clear errors where the file is not as it must be."""

import json
import re
from pathlib import Path

import pytest

from opencs_assets.benchmarks.questions import BenchmarkFiles, read_benchmark
from opencs_assets.protocols.fastchat import (
    JudgePromptsError,
    find_prompts,
    read_prompts,
)
from opencs_assets.protocols.tasks import (
    REFERENCE_CATEGORIES,
    JudgedQuestion,
    PairTask,
    SingleTask,
    single_tasks,
)
from tests.unit.protocols.conftest import prompt_rows, write_prompts
from tests.unit.protocols.frames import answer_frame, pair_of, single_of

MT_BENCH = Path("benchmarks") / "mt_bench"
RECORDED = "llama2-13b-alpaca_tips_WHAT_1k_sharegpt-e15lr1e-05"
ALL_PLACES = "{question_1}{question_2}{answer_1}{answer_2}"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def questions(shared_data: Path):
    folder = shared_data / MT_BENCH
    return read_benchmark(
        BenchmarkFiles(
            "mt_bench", folder / "question.jsonl", folder / "reference_answer_gpt-4.jsonl"
        )
    )


class TestWordForWord:
    def test_single_prompts_are_those_that_fastchat_sent(self, shared_data, questions):
        prompts = read_prompts(shared_data / MT_BENCH / "judge_prompts.jsonl")
        given = {
            str(row["question_id"]): row["choices"][0]["turns"]
            for row in lines(shared_data / f"model_answers/mt_bench/{RECORDED}.jsonl")
        }
        answers = answer_frame(*[(name, turn) for name in given for turn in (1, 2)])
        answers = answers.with_columns(
            benchmark=answers["benchmark"].replace("smoke", "mt_bench"),
            answer=answers.select("question_id", "turn").map_rows(
                lambda row: given[row[0]][row[1] - 1]
            )["map"],
        )
        tasks = {
            (task.question.question_id, task.turn): task
            for task in single_tasks(questions, answers)
        }
        recorded = lines(shared_data / f"judgments/mt_bench_single/{RECORDED}_single.jsonl")
        systems = {
            row["name"]: row["system_prompt"]
            for row in lines(shared_data / MT_BENCH / "judge_prompts.jsonl")
        }
        assert len(recorded) == len(tasks) == 160
        for row in recorded:
            task = tasks[str(row["question_id"]), row["turn"]]
            system, user = single_of("generated", prompts).messages(task, None)
            assert user == {"role": "user", "content": row["user_prompt"]}
            assert system == {"role": "system", "content": systems[row["judge"][1]]}

    def test_pair_prompts_are_those_that_fastchat_sent(self, shared_data, questions):
        """The two models' answers are public only within the prompts: taken from one order, they
        must give both."""
        prompts = read_prompts(shared_data / MT_BENCH / "judge_prompts.jsonl")
        (path,) = (shared_data / "judgments/mt_bench_pair").glob("*.jsonl")
        recorded = {(str(row["question_id"]), row["turn"]): row for row in lines(path)}
        assert len(recorded) == 160
        for (name, turn), row in recorded.items():
            asked = questions.filter(question_id=name).row(0, named=True)
            known = asked["references"] if asked["category"] in REFERENCE_CATEGORIES else ()
            question = JudgedQuestion(
                "mt_bench", name, asked["category"], tuple(asked["turns"]), tuple(known)
            )
            first, second = answers_in(row["g1_user_prompt"], question, turn)
            for order, side in (("g1", "a"), ("g2", "b")):
                task = PairTask(question, turn, side, first, second)
                _, user = pair_of("choice", prompts).messages(task, None)
                assert user["content"] == row[f"{order}_user_prompt"]

    def test_what_is_sent_beside_the_words(self, published):
        """As ``gen_judgment.py``: temperature 0, 2048 tokens, and a system message."""
        task = SingleTask(JudgedQuestion("b", "q", "writing", ("x",), ()), 1, ("y",))
        call = single_of("generated", published).call(task, 0, None)
        assert (call.temperature, call.max_tokens) == (0.0, 2048)
        assert [message["role"] for message in call.messages] == ["system", "user"]
        assert call.top_logprobs is None
        assert call.grammar is None

    def test_a_reply_that_cannot_be_read_is_asked_for_once(self, published):
        assert single_of("generated", published).attempts == 1
        assert pair_of("choice", published).attempts == 1

    def test_braces_in_answers_are_answers(self, published):
        task = SingleTask(JudgedQuestion("b", "q", "coding", ("{x}?",), ()), 1, ("{question} {0}",))
        assert (
            single_of("generated", published).messages(task, None)[1]["content"]
            == "Q: {x}?\nA: {question} {0}"
        )


def answers_in(prompt: str, question: JudgedQuestion, turn: int) -> tuple[tuple[str, ...], ...]:
    """Both assistants' answers as a recorded prompt shows them."""
    found = []
    for label in "AB":
        if turn == 1:
            begin = f"[The Start of Assistant {label}'s Answer]\n"
            end = f"\n[The End of Assistant {label}'s Answer]"
            found.append((prompt.split(begin)[1].split(end)[0],))
            continue
        begin = f"<|The Start of Assistant {label}'s Conversation with User|>"
        end = f"\n\n<|The End of Assistant {label}'s Conversation with User|>"
        shown = prompt.split(begin)[1].split(end)[0]
        _, first, second = re.split(
            "|".join(
                re.escape(f"\n\n### User:\n{asked}\n\n### Assistant {label}:\n")
                for asked in question.turns
            ),
            shown,
        )
        found.append((first, second))
    return tuple(found)


class TestPlaces:
    def test_the_file_is_found_in_the_home_or_beside_mt_bench(self, tmp_path):
        assert find_prompts(tmp_path) is None
        own = write_prompts(tmp_path / "judge_prompts.jsonl", prompt_rows())
        assert find_prompts(tmp_path).path == own
        beside = write_prompts(tmp_path / MT_BENCH / "judge_prompts.jsonl", prompt_rows())
        assert find_prompts(tmp_path).path == beside

    def test_references_are_shown_where_fastchat_shows_them(self, published):
        for references, shown in ((("r1", "r2"), True), ((), False)):
            question = JudgedQuestion("b", "q", "math", ("x", "y"), references)
            for turn in (1, 2):
                task = SingleTask(question, turn, ("1", "2")[:turn])
                text = single_of("generated", published).messages(task, None)[1]["content"]
                assert (f"R: r{turn}" in text) is shown
                assert single_of("generated", published).shows_reference(task) is shown


class TestMalformed:
    @pytest.mark.parametrize(
        ("field", "value", "said"),
        [
            ("system_prompt", None, "system_prompt: must be a text, not None"),
            ("prompt_template", ["a"], "prompt_template: must be a text"),
            ("prompt_template", "{question_1}", "single-v1-multi-turn has no {answer_1}"),
            ("prompt_template", f"{ALL_PLACES}{{more}}", "has an unknown {more}"),
            ("prompt_template", f"{ALL_PLACES}{{0}}", "has an unknown {0}"),
            ("prompt_template", f"{ALL_PLACES}{{answer_1!r}}", "has an unknown {answer_1!r}"),
            ("prompt_template", "{question_1", "prompt_template: expected '}'"),
            (
                "output_format",
                "[[A]]",
                "output_format: single-v1-multi-turn must have '[[rating]]'",
            ),
            ("type", "pairwise", "type: single-v1-multi-turn must have 'single'"),
            ("name", 7, "name: must be a text"),
        ],
    )
    def test_a_wrong_field_is_named_with_its_line(self, tmp_path, field, value, said):
        rows = prompt_rows()
        rows[2][field] = value
        path = write_prompts(tmp_path / "judge_prompts.jsonl", rows)
        with pytest.raises(JudgePromptsError, match=re.escape(said)) as error:
            read_prompts(path)
        assert f"{path} line 3, {field}: " in str(error.value)
        assert "\n" not in str(error.value)

    def test_a_missing_field_a_missing_prompt_and_one_twice(self, tmp_path):
        path = tmp_path / "judge_prompts.jsonl"
        rows = prompt_rows()
        del rows[0]["system_prompt"]
        with pytest.raises(JudgePromptsError, match="line 1, system_prompt: is missing"):
            read_prompts(write_prompts(path, rows))
        with pytest.raises(JudgePromptsError, match="no prompt named single-v1;"):
            read_prompts(write_prompts(path, prompt_rows()[1:]))
        with pytest.raises(JudgePromptsError, match="line 9, name: single-v1 stands in line 1"):
            read_prompts(write_prompts(path, [*prompt_rows(), prompt_rows()[0]]))

    @pytest.mark.parametrize(
        ("text", "said"),
        [(b"{half", "broken JSON at line 1"), (b"[1]", "row 0: it is a JSON int, not an object"),
         (b"\xff\xfe\x00", "UTF-16"), (b"", "is empty"), (b"[]", "has no prompt named")],
    )  # fmt: skip
    def test_what_is_no_file_of_prompts(self, tmp_path, text, said):
        path = tmp_path / "judge_prompts.jsonl"
        path.write_bytes(text)
        with pytest.raises(JudgePromptsError, match=re.escape(said)):
            read_prompts(path)

    def test_prompts_of_other_names_are_passed_over(self, tmp_path):
        path = write_prompts(tmp_path / "p.jsonl", [{"name": "mine"}, *prompt_rows()])
        assert len(read_prompts(path).prompts) == 8
