"""The benchmarks that the platform knows: files, where they are from, and how they are answered.

A new benchmark is one entry here. Because of licences and size, files are not part of the project:
``opencs benchmarks fetch`` fetches them, or people put them into ``<home>/benchmarks`` as they were
published. Files are recognized by their hashes, so that a result under a published name is one on
the published questions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

# Files come from fixed commits, and their bytes must have the hashes below.
# OpenCS's repository has the test sets as OpenCS answered them.
_OPENCS = (
    "https://raw.githubusercontent.com/hexixiang/OpenCS/"
    "e711447e1d62112e72768970deb71caaced6934c/data/test"
)
# OpenCS took its test sets from Cherry LLM's repository, whose LIMA file differs in form.
_CHERRY = (
    "https://raw.githubusercontent.com/tianyi-lab/Cherry_LLM/"
    "01fac8d2febb51dbd1501ec594a20e499b51fe7d/evaluation/test_data"
)
# FastChat is MT-Bench's own project.
_FASTCHAT = (
    "https://raw.githubusercontent.com/lm-sys/FastChat/"
    "0e6d3e4beaab66f4d3f93db72541a4abab8af28d/fastchat/llm_judge/data/mt_bench"
)


# MT-Bench's temperatures by category (FastChat, fastchat/llm_judge/common.py: temperature_config).
MT_BENCH_TEMPERATURES: Mapping[str, float] = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
# FastChat answers any other category, and OpenCS the test sets, at this temperature.
OTHER_TEMPERATURE = 0.7
# The published comparisons allow an answer so many tokens (OpenCS,
# infer/fastchat/llm_judge/gen_answer.sh).
MAX_NEW_TOKENS = 512


@dataclass(frozen=True)
class BenchmarkSampling:
    """How a benchmark's questions are answered.

    Attributes:
        max_new_tokens: Most tokens of an answer, where the recipe does not say otherwise.
        temperatures: Sampling temperature by category; 0 is greedy.
        other_temperature: That of any other category.
    """

    max_new_tokens: int = MAX_NEW_TOKENS
    temperatures: Mapping[str, float] = field(default_factory=lambda: MT_BENCH_TEMPERATURES)
    other_temperature: float = OTHER_TEMPERATURE

    def temperature(self, category: str) -> float:
        """Sampling temperature of a category; 0 is greedy."""
        return self.temperatures.get(category, self.other_temperature)

    def by_category(self, categories: Iterable[str]) -> dict[str, float]:
        """Sampling temperature by category."""
        return {name: self.temperature(name) for name in sorted(set(categories))}


# Benchmarks in MT-Bench's form and the user's own are answered as FastChat does.
BY_CATEGORY = BenchmarkSampling()
# The test sets' categories are topics: Vicuna's ``coding`` is answered at 0.7 like all else of it.
TEST_SET = BenchmarkSampling(temperatures={})


@dataclass(frozen=True)
class File:
    """A file of a benchmark, as it was published.

    Attributes:
        name: Path in the folder of benchmarks.
        sha256: Hash of its bytes.
        urls: Where it can be had; each is tried in turn.
    """

    name: str
    sha256: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class DeclaredBenchmark:
    """A benchmark that the platform knows.

    Attributes:
        name: Its name in tables and matchups.
        title: What it is called, and whose it is.
        questions: How many questions it has.
        turns: Turns of a question.
        file: Its questions; ``None`` where the package brings them.
        prompt: Field of the file that holds the prompt (``turns``: all turns).
        question_id: Field that holds the question's id; ``None``: it is made from the question.
        category: Field that holds the category; ``None``: it has none.
        references: Its reference answers, where they are a file of their own.
        other_names: Further names that the file of questions may have.
        repeats: Whether the published file asks something twice, under different ids.
        sampling: How it is answered.
    """

    name: str
    title: str
    questions: int
    turns: int
    file: File | None
    prompt: str
    question_id: str | None
    category: str | None = None
    references: File | None = None
    other_names: tuple[str, ...] = ()
    repeats: bool = False
    sampling: BenchmarkSampling = TEST_SET

    @property
    def files(self) -> tuple[File, ...]:
        """All its files."""
        return tuple(file for file in (self.file, self.references) if file is not None)


def _test_set(name: str, sha256: str, *urls: str) -> File:
    return File(name, sha256, tuple(f"{url}/{name}" for url in urls))


DECLARED: Mapping[str, DeclaredBenchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        DeclaredBenchmark(
            name="smoke",
            title="Twelve questions in MT-Bench's form, of this project",
            questions=12,
            turns=2,
            file=None,
            prompt="turns",
            question_id="question_id",
            category="category",
            sampling=BY_CATEGORY,
        ),
        DeclaredBenchmark(
            name="koala",
            title="Koala test set (Berkeley)",
            questions=180,
            turns=1,
            file=_test_set(
                "koala_test_set.jsonl",
                "c8cda5c53810dc30aad34fabbb828fe3eba0957119e00916650c971905d19886",
                _OPENCS,
                _CHERRY,
            ),
            prompt="prompt",
            question_id="id",
        ),
        DeclaredBenchmark(
            name="lima",
            title="LIMA test prompts (Meta)",
            questions=300,
            turns=1,
            file=_test_set(
                "lima_test.jsonl",
                "4584225a820754afd473de7a37c2ff912cd9a4b6ae44ec5c7419d6e875f01fac",
                _OPENCS,
            ),
            prompt="conversations",
            question_id=None,
        ),
        DeclaredBenchmark(
            name="self_instruct",
            title="Self-Instruct user-oriented tasks",
            questions=252,
            turns=1,
            file=_test_set(
                "sinstruct_test_set.jsonl",
                "81d60a117db495cecedecd9193504fd07c5b5a42f6699ef6b0f9da10fc22f42e",
                _OPENCS,
                _CHERRY,
            ),
            prompt="instruction",
            question_id="id",
        ),
        DeclaredBenchmark(
            name="vicuna",
            title="Vicuna questions (LMSYS)",
            questions=80,
            turns=1,
            file=_test_set(
                "vicuna_test_set.jsonl",
                "590c39157bc561eadd7f03cad4be18c2b597f93029780af65f86718f39eafa87",
                _OPENCS,
                _CHERRY,
            ),
            prompt="text",
            question_id="question_id",
            category="category",
        ),
        DeclaredBenchmark(
            name="wizardlm",
            title="WizardLM test set",
            questions=218,
            turns=1,
            file=_test_set(
                "wizardlm_test_set.jsonl",
                "1a39103c4ad7e0b68a0f7ed770f13a60cc60749418263dafb20cfe8f5e51901e",
                _OPENCS,
                _CHERRY,
            ),
            prompt="Instruction",
            question_id="idx",
            category="Skill",
            # Questions 20 and 27; both are counted in the published 218.
            repeats=True,
        ),
        DeclaredBenchmark(
            name="mt_bench",
            title="MT-Bench (LMSYS), with GPT-4's references",
            questions=80,
            turns=2,
            file=File(
                "mt_bench/question.jsonl",
                "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
                (f"{_FASTCHAT}/question.jsonl",),
            ),
            prompt="turns",
            question_id="question_id",
            category="category",
            references=File(
                "mt_bench/reference_answer_gpt-4.jsonl",
                "f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f",
                (f"{_FASTCHAT}/reference_answer/gpt-4.jsonl",),
            ),
            other_names=("mt_bench.jsonl",),
            sampling=BY_CATEGORY,
        ),
    )
}


def sampling_of(name: str) -> BenchmarkSampling:
    """How a benchmark is answered; those of users are answered as FastChat does, by category."""
    declared = DECLARED.get(name)
    return declared.sampling if declared else BY_CATEGORY
