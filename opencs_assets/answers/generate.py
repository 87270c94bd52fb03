"""Answer benchmarks from a checkpoint: ``python -m opencs_assets.answers.generate job.json``.

Runs anywhere, with or without Dagster. The job file holds:

- ``checkpoint``: the checkpoint's folder, here or as an fsspec URL; ``provenance``: what it must
  have been made from;
- ``scratch``: folder for a copy of a checkpoint that is not here; absent: the temporary one;
- ``questions``: Parquet file of ``benchmark_questions``, those to be answered;
- ``outputs``: the Parquet file to write for each benchmark; ``fields``: what its provenance is the
  hash of, from which temperatures, seed and most tokens of an answer are taken;
- ``batch_size``: how many questions are answered at once;
- ``endpoint``: where the checkpoint is served (``served.ServingPlace``); absent: it is loaded here;
- ``force``: answer again what is already there; ``launch`` names the launch that is to do so.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock

from opencs_assets.answers.asking import (
    TOO_LONG,
    Answered,
    Answerer,
    AnswerPrompt,
    GeneratedReply,
    conversation,
)
from opencs_assets.answers.store import (
    KEY,
    Key,
    PartialAnswers,
    Row,
    expected_keys,
    read_answers,
    split_by_benchmark,
    write_answers,
)
from resources.launcher.job import Channel, Job, JobError, read_table, run_job
from resources.progress import Reporter
from resources.provenance import SHORT, ProvenanceError, content_hash
from resources.remote import is_url, local_copy, verify_at

# A served checkpoint is only read for its tokenizer, its template and its configuration.
WEIGHTS = ("*.safetensors", "*.bin")
# So many answers are awaited before they are written through to the disk together.
KEPT_AT_ONCE = 16
SEED_MASK = 2**31 - 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the job that the file on the command line describes; returns the exit status."""
    return run_job(work, sys.argv[1:] if arguments is None else arguments)


def work(job: Job, channel: Channel) -> dict[str, Any]:
    """Answer every question, or reuse what is there; see the module's docstring for the job.

    Returns:
        ``generated``, the answers made now, and ``kept``, those that were on disk before.

    Raises:
        JobError: The checkpoint is not the one asked for, or there is nothing to ask.
    """
    questions = read_table(job["questions"])
    if not questions.height:
        raise JobError("there are no questions to answer; materialize benchmark_questions first")
    with _known_errors():
        verify_at(job["checkpoint"], job["provenance"])
    folder = Path(next(iter(job["outputs"].values()))).parent
    folder.mkdir(parents=True, exist_ok=True)
    counts = {"generated": 0, "kept": 0}
    with FileLock(folder / ".answers.lock"):
        if job.get("force"):
            _begin_anew(job, folder)
        model: Answerer | None = None
        for benchmark, part in split_by_benchmark(questions).items():
            run = _Run(job, benchmark, part)
            if read_answers(run.output, part, run.provenance) is not None:
                counts["kept"] += len(run.keys)
                continue
            model = model or _open(job, channel)
            generated = run.answer(model, channel)
            counts["generated"] += generated
            counts["kept"] += len(run.keys) - generated
        if is_url(job["checkpoint"]):
            # A job that fails leaves the copy, so that the next try need not make it again.
            shutil.rmtree(_scratch(job), ignore_errors=True)
    return counts


def _begin_anew(job: Job, folder: Path) -> None:
    """Remove earlier answers, once in a launch and not in each of its processes."""
    file, launch = folder / ".launch", str(job.get("launch") or "")
    if launch and file.exists() and file.read_text() == launch:
        return
    for output in job["outputs"].values():
        Path(output).unlink(missing_ok=True)
        partial_of(output).unlink(missing_ok=True)
    if launch:
        file.write_text(launch)


def partial_of(output: str | Path) -> Path:
    """The file that keeps the answers of a table while it is made."""
    return Path(output).with_suffix(".partial.jsonl")


def _scratch(job: Job) -> Path:
    """The folder for this job's own copy of the checkpoint, which it removes in the end."""
    parent = Path(job.get("scratch") or tempfile.gettempdir()) / "opencs"
    outputs = sorted(map(str, job["outputs"].values()))
    return parent / f"answers-{content_hash(outputs)[:SHORT]}"


@contextmanager
def _known_errors() -> Iterator[None]:
    try:
        yield
    except ProvenanceError as error:
        raise JobError(f"{error}; materialize the checkpoint again") from None


class _Run:
    """The answering of one benchmark."""

    def __init__(self, job: Job, benchmark: str, questions: pl.DataFrame) -> None:
        self.questions = questions
        self.keys = expected_keys(questions)
        self.output = Path(job["outputs"][benchmark])
        fields = job["fields"][benchmark]
        self.provenance = content_hash(fields)
        self.checkpoint = str(job["provenance"])
        self.seed = int(fields["seed"])
        self.max_new_tokens = int(fields["max_new_tokens"])
        self.temperatures: Mapping[str, float] = fields["temperatures"]
        self.partial = PartialAnswers(partial_of(self.output))

    def answer(self, model: Answerer, channel: Channel) -> int:
        """Answer turn by turn, for a turn shows the answers before it; returns how many."""
        done = {
            key: row
            for key, row in self.partial.read().items()
            if row["provenance"] == self.provenance
        }
        earlier = len(done)
        if earlier:
            channel.say(
                f"{earlier} of {len(self.keys)} answers were made before; going on from there"
            )
        with Reporter("answering", len(self.keys) - earlier, unit="answers") as progress:
            for turn in range(1, max(key[2] for key in self.keys) + 1):
                self._answer_turn(turn, model, done, progress)
        write_answers(self.output, [done[key] for key in self.keys])
        self.partial.path.unlink(missing_ok=True)
        return len(self.keys) - earlier

    def _answer_turn(
        self, turn: int, model: Answerer, done: dict[Key, Row], progress: Reporter
    ) -> None:
        prompts: list[AnswerPrompt] = []
        too_long: list[AnswerPrompt] = []
        for question in self.questions.iter_rows(named=True):
            key = (question["benchmark"], question["question_id"], turn)
            if turn > len(question["turns"]) or key in done:
                continue
            before = [done[(*key[:2], earlier)] for earlier in range(1, turn)]
            prompt = self._prompt(model, question, before)
            fits = prompt.ids and len(prompt.ids) + self.max_new_tokens <= model.context
            (prompts if fits else too_long).append(prompt)
        self._keep(done, [(prompt, GeneratedReply("", 0, TOO_LONG)) for prompt in too_long])
        progress.advance(len(too_long))
        unsaved: Answered = []
        try:
            for answered in model.answer(
                prompts, self.max_new_tokens, lambda note: progress.advance(0, note)
            ):
                unsaved += answered
                progress.advance(len(answered))
                if len(unsaved) >= KEPT_AT_ONCE:
                    self._keep(done, unsaved)
                    unsaved = []
        finally:
            self._keep(done, unsaved)

    def _prompt(
        self, model: Answerer, question: Mapping[str, Any], before: list[Row]
    ) -> AnswerPrompt:
        """The turn with the model's own earlier answers; no tokens where one of them is missing."""
        incomplete = any(row["finish_reason"] == TOO_LONG for row in before)
        messages = conversation(question["turns"], [row["answer"] for row in before])
        ids = [] if incomplete else model.tokens(messages)
        key = (question["benchmark"], question["question_id"], len(before) + 1)
        row = {
            **dict(zip(KEY, key, strict=True)),
            "category": question["category"],
            "prompt_tokens": len(ids),
            "temperature": self.temperatures[question["category"]],
            "seed": answer_seed(self.seed, *key),
            "provenance": self.provenance,
            "checkpoint": self.checkpoint,
        }
        return AnswerPrompt(row, ids)

    def _keep(self, done: dict[Key, Row], answers: Answered) -> None:
        if not answers:
            return
        rows = [
            {
                **prompt.row,
                "answer": reply.text,
                "answer_tokens": reply.tokens,
                "finish_reason": reply.finish_reason,
            }
            for prompt, reply in answers
        ]
        self.partial.append(rows)
        done.update({(row["benchmark"], row["question_id"], row["turn"]): row for row in rows})


def answer_seed(seed: int, benchmark: str, question_id: str, turn: int) -> int:
    """The seed of one answer, made of the recipe's seed and the 1-based turn's key.

    So it does not depend on which questions are answered together, nor on a resumed run.
    """
    return int(content_hash([seed, benchmark, question_id, turn]), 16) & SEED_MASK


def _open(job: Job, channel: Channel) -> Answerer:
    """The checkpoint, loaded here or at its endpoint; only what that needs is imported."""
    served, scratch = bool(job.get("endpoint")), _scratch(job)
    if is_url(job["checkpoint"]):
        channel.say(f"copying {job['checkpoint']} to {scratch}")
    with _known_errors():
        folder = local_copy(
            job["checkpoint"], job["provenance"], scratch, leave_out=WEIGHTS if served else ()
        )
    if served:
        from opencs_assets.answers.served import ServedModel, ServingPlace

        return ServedModel(ServingPlace(**job["endpoint"]), folder, channel.say)
    from opencs_assets.answers.local import LocalModel

    return LocalModel(folder, int(job["batch_size"]))


if __name__ == "__main__":
    sys.exit(main())
