"""Answer benchmarks from a checkpoint: ``python -m opencs_assets.answers.generate job.json``.

Runs anywhere, with or without Dagster. The job file holds:

- ``checkpoint``: the checkpoint's folder; ``provenance``: what it must have been made from;
- ``questions``: Parquet file of ``benchmark_questions``;
- ``outputs``: Parquet file to write by benchmark; ``fields``: what its provenance is the hash of,
  by benchmark;
- ``max_new_tokens``, ``batch_size``, ``seed``: how to answer;
- ``force``: answer again what is already there.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock
from jinja2.exceptions import TemplateError

from opencs_assets.answers.sampling import answer_seed, temperature
from opencs_assets.answers.store import (
    PartialAnswers,
    Row,
    expected_keys,
    read_answers,
    write_answers,
)
from opencs_assets.external import (
    Channel,
    Job,
    JobError,
    Progress,
    cores,
    prepare_models,
    run_job,
)
from opencs_assets.provenance import ProvenanceError, content_hash, verify

TOO_LONG = "too_long"


@dataclass(frozen=True)
class Prompt:
    """One turn that the model is asked.

    Attributes:
        row: The answer's row, without what comes from the answer.
        ids: The prompt's tokens.
    """

    row: Row
    ids: list[int]


@dataclass(frozen=True)
class Reply:
    """What the model said to one prompt.

    Attributes:
        text: The answer.
        tokens: Its tokens, without the end-of-turn token.
        finish_reason: ``stop``, or ``length`` where it was cut at the limit.
    """

    text: str
    tokens: int
    finish_reason: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the job that the file on the command line describes; returns the exit status."""
    return run_job(work, sys.argv[1:] if arguments is None else arguments)


def work(job: Job, channel: Channel) -> dict[str, Any]:
    """Answer every question, or reuse what is there; see the module's docstring for the job.

    Returns:
        ``generated`` and ``kept``: answers made now, and answers found on disk.

    Raises:
        JobError: The checkpoint is not the one asked for, or there is nothing to ask.
    """
    questions = pl.read_parquet(job["questions"])
    if not questions.height:
        raise JobError("there are no questions to answer; materialize benchmark_questions first")
    try:
        verify(Path(job["checkpoint"]), job["provenance"])
    except ProvenanceError as error:
        raise JobError(f"{error}; materialize the checkpoint again") from None
    folder = Path(next(iter(job["outputs"].values()))).parent
    folder.mkdir(parents=True, exist_ok=True)
    counts = {"generated": 0, "kept": 0}
    with FileLock(folder / ".answers.lock"):
        asked = {
            str(name[0]): part
            for name, part in questions.partition_by(
                "benchmark", as_dict=True, maintain_order=True
            ).items()
        }
        model: Model | None = None
        for benchmark, part in asked.items():
            run = _Run(job, benchmark, part)
            if run.finished():
                counts["kept"] += len(run.keys)
                continue
            model = model or Model(Path(job["checkpoint"]), int(job["max_new_tokens"]))
            generated = run.answer(model, int(job["batch_size"]), channel)
            counts["generated"] += generated
            counts["kept"] += len(run.keys) - generated
    return counts


class _Run:
    """The answers to one benchmark."""

    def __init__(self, job: Job, benchmark: str, questions: pl.DataFrame) -> None:
        self.questions = questions
        self.keys = expected_keys(questions)
        self.output = Path(job["outputs"][benchmark])
        self.provenance = content_hash(job["fields"][benchmark])
        self.checkpoint = str(job["provenance"])
        self.seed = int(job["seed"])
        self.force = bool(job.get("force"))
        self.partial = PartialAnswers(self.output.with_suffix(".partial.jsonl"))
        if self.force:
            self.partial.path.unlink(missing_ok=True)

    def finished(self) -> bool:
        """Whether the table is there already."""
        found = read_answers(self.output, self.questions, self.provenance)
        return found is not None and not self.force

    def answer(self, model: "Model", batch_size: int, channel: Channel) -> int:
        """Answer turn by turn, each turn in batches of prompts of like length; returns how many."""
        done = {
            key: row
            for key, row in self.partial.read().items()
            if row["provenance"] == self.provenance
        }
        kept = len(done)
        if kept:
            channel.say(f"{kept} of {len(self.keys)} answers were made before; going on from there")
        progress = Progress("answering", len(self.keys) - kept, "answers")
        for turn in range(1, max(key[2] for key in self.keys) + 1):
            prompts = []
            for question in self.questions.iter_rows(named=True):
                key = (question["benchmark"], question["question_id"], turn)
                if turn > len(question["turns"]) or key in done:
                    continue
                before = [done[(*key[:2], earlier)] for earlier in range(1, turn)]
                prompts.append(self._prompt(model, question, before))
            refused = [prompt for prompt in prompts if self._refused(prompt, model)]
            self._keep(done, [(prompt.row, Reply("", 0, TOO_LONG)) for prompt in refused])
            progress.advance(len(refused))
            asked = sorted(
                (prompt for prompt in prompts if not self._refused(prompt, model)),
                key=lambda prompt: (-len(prompt.ids), prompt.row["question_id"]),
            )
            for start in range(0, len(asked), batch_size):
                batch = asked[start : start + batch_size]
                replies = model.reply(batch, lambda note: progress.advance(0, note))
                pairs = zip(batch, replies, strict=True)
                self._keep(done, [(prompt.row, reply) for prompt, reply in pairs])
                progress.advance(len(batch))
        write_answers(self.output, [done[key] for key in self.keys])
        self.partial.path.unlink(missing_ok=True)
        return len(self.keys) - kept

    def _prompt(self, model: "Model", question: Mapping[str, Any], before: list[Row]) -> Prompt:
        """The turn with the model's own earlier answers; no tokens where one of them is missing."""
        turn = len(before) + 1
        unasked = any(row["finish_reason"] == TOO_LONG for row in before)
        messages: list[dict[str, str]] = []
        for text, row in zip(question["turns"][: turn - 1], before, strict=True):
            messages.append({"role": "user", "content": text})
            messages.append({"role": "assistant", "content": row["answer"]})
        messages.append({"role": "user", "content": question["turns"][turn - 1]})
        ids = [] if unasked else model.tokens(messages)
        key = (question["benchmark"], question["question_id"], turn)
        row = {
            **dict(zip(("benchmark", "question_id", "turn"), key, strict=True)),
            "category": question["category"],
            "prompt_tokens": len(ids),
            "temperature": temperature(question["category"]),
            "seed": answer_seed(self.seed, *key),
            "provenance": self.provenance,
            "checkpoint": self.checkpoint,
        }
        return Prompt(row, ids)

    def _refused(self, prompt: Prompt, model: "Model") -> bool:
        return not prompt.ids or len(prompt.ids) + model.max_new_tokens > model.context

    def _keep(
        self, done: dict[tuple[str, str, int], Row], answers: Sequence[tuple[Row, Reply]]
    ) -> None:
        rows = [
            {
                **row,
                "answer": reply.text,
                "answer_tokens": reply.tokens,
                "finish_reason": reply.finish_reason,
            }
            for row, reply in answers
        ]
        self.partial.append(rows)
        done.update({(row["benchmark"], row["question_id"], row["turn"]): row for row in rows})


class Model:
    """A checkpoint that answers.

    Args:
        folder: The checkpoint's folder.
        max_new_tokens: Most tokens of an answer.
    """

    def __init__(self, folder: Path, max_new_tokens: int) -> None:
        prepare_models()
        # Heavy, and only after everything cheap was checked.
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        torch.set_num_threads(cores())
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32 if device == "cpu" else "auto"
        ).to(device)
        self._model.eval()
        self._stops = _stop_tokens(self._model.generation_config, self._tokenizer)
        self.max_new_tokens = max_new_tokens
        self.context = int(self._model.config.max_position_embeddings)
        # Not the checkpoint's own, which may hold penalties and cut-offs that nobody declared.
        self._model.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=sorted(self._stops),
            pad_token_id=self._tokenizer.pad_token_id,
            bos_token_id=self._tokenizer.bos_token_id,
        )

    def tokens(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The conversation as tokens, by the checkpoint's chat template.

        Raises:
            JobError: The template refuses it.
        """
        try:
            text = self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, ValueError) as error:
            raise JobError(f"the checkpoint's chat template can't be used: {error}") from None
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def reply(self, batch: Sequence[Prompt], note: Callable[[str], None]) -> list[Reply]:
        """Answer prompts together; each answer is what it would be alone.

        Args:
            batch: Prompts, with temperature and seed of each.
            note: Told how far the longest answer is.
        """
        import torch
        from transformers import LogitsProcessorList

        inputs = self._tokenizer.pad(
            {"input_ids": [prompt.ids for prompt in batch]}, return_tensors="pt"
        ).to(self._model.device)
        sampler = _sampler(
            [prompt.row["temperature"] for prompt in batch],
            [prompt.row["seed"] for prompt in batch],
            lambda token: note(f"token {token} of {self.max_new_tokens}"),
        )
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                logits_processor=LogitsProcessorList([sampler]),
            )
        width = inputs["input_ids"].shape[1]
        return [self._read(ids) for ids in output[:, width:].tolist()]

    def _read(self, ids: list[int]) -> Reply:
        end = next((at for at, token in enumerate(ids) if token in self._stops), None)
        said = ids[:end]
        text = self._tokenizer.decode(said, skip_special_tokens=True).strip()
        return Reply(text, len(said), "length" if end is None else "stop")


def _stop_tokens(config: Any, tokenizer: Any) -> set[int]:
    """Tokens that end an answer: the tokenizer's, which training put behind it, and the model's."""
    own = config.eos_token_id
    stops = set(own) if isinstance(own, list) else {own}
    return {int(token) for token in {*stops, tokenizer.eos_token_id} if token is not None}


def _sampler(
    temperatures: Sequence[float], seeds: Sequence[int], stepped: Callable[[int], None]
) -> Any:
    """A logits processor after which the greedy choice is a sample at each row's temperature.

    The largest of logits / T plus Gumbel noise is distributed as softmax(logits / T) (the
    Gumbel-max trick), so that questions of several temperatures share a batch, and each draws from
    a generator of its own. Made by a function, because its base class must not be imported early.
    """
    import torch
    from transformers import LogitsProcessor

    class Sampler(LogitsProcessor):  # type: ignore[misc]
        def __init__(self) -> None:
            self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
            self.step = 0

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            self.step += 1
            stepped(self.step)
            scores = scores.clone()
            for row, (heat, generator) in enumerate(
                zip(temperatures, self.generators, strict=True)
            ):
                if heat > 0:
                    noise = torch.empty(scores.shape[-1]).exponential_(generator=generator).log()
                    scores[row] = scores[row] / heat - noise.to(scores.device)
            return scores

    return Sampler()


if __name__ == "__main__":
    sys.exit(main())
