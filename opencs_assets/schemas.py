"""The schema of every table in the lake, declared once.

A table is written only in its schema (``resources.lake`` enforces it), shown in the UI as its
column schema and exists from the start as a zero-row file, so that the warehouse can always read
it. Columns that name the partition (``dataset``, ``selector``, ``experiment``, ``matchup``) are not
in the files: they are the folders, and readers add them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from resources.errors import MendableError

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))


@dataclass(frozen=True)
class Column:
    """One column: its dtype and one sentence for a person."""

    dtype: pl.DataType | type[pl.DataType]
    description: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """One table of the lake.

    Attributes:
        name: Folder in the lake, asset name in the UI and source name in dbt.
        dimensions: Partition dimensions in folder order; empty for an unpartitioned table.
        columns: Columns in file order, without the partition dimensions.
        key: Columns that are unique together within one partition.
    """

    name: str
    dimensions: tuple[str, ...]
    columns: Mapping[str, Column]
    key: tuple[str, ...] = field(default=())

    @property
    def schema(self) -> pl.Schema:
        """The Polars schema of the file, without the partition dimensions."""
        return pl.Schema({name: column.dtype for name, column in self.columns.items()})

    def empty(self) -> pl.DataFrame:
        """A frame of zero rows in this schema."""
        return pl.DataFrame(schema=self.schema)


class SchemaError(MendableError):
    """A frame does not fit its table."""


def conform(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Return the frame in the table's column order, or say what does not fit.

    Args:
        frame: Rows of one partition.
        table: The table that they are written to.

    Raises:
        SchemaError: A column is missing, unknown, of another dtype, null where it may not be, or
            the key is not unique. The message names table, column and the first offending row.
    """
    missing = [name for name in table.columns if name not in frame.columns]
    unknown = [name for name in frame.columns if name not in table.columns]
    if missing or unknown:
        raise SchemaError(f"{table.name}: missing columns {missing}, unknown columns {unknown}")
    frame = frame.select(list(table.columns))
    for name, column in table.columns.items():
        found = frame.schema[name]
        if found != column.dtype:
            if found == pl.Null or frame.height == 0:
                frame = frame.with_columns(pl.col(name).cast(column.dtype))
            else:
                raise SchemaError(f"{table.name}.{name}: is {found}, must be {column.dtype}")
        if not column.nullable and frame[name].null_count():
            first = frame[name].is_null().arg_true()[0]
            raise SchemaError(f"{table.name}.{name}: null at row {first}, but may not be null")
    if table.key and frame.height:
        duplicated = frame.select(table.key).is_duplicated()
        if duplicated.any():
            first = frame.select(table.key).row(duplicated.arg_true()[0], named=True)
            raise SchemaError(f"{table.name}: {first} stands more than once, but is the key")
    return frame


def _table(
    name: str,
    dimensions: tuple[str, ...],
    key: tuple[str, ...],
    columns: Mapping[str, Column],
) -> Table:
    return Table(name=name, dimensions=dimensions, columns=columns, key=key)


_SAMPLE_ID = Column(pl.String, "Hash of the sample's system prompt and messages")
_REPLY_ID = Column(pl.String, "Key of the reply in the reply store", nullable=True)
_MODEL = Column(pl.String, "Model that replied; `embedded:` in front for the embedded default")
_PROMPT_VERSION = Column(pl.String, "Version of the prompt and its parser")
_READING = Column(pl.String, "How the reply was read: generated or logprobs")
_STATUS = Column(
    pl.String,
    "ok, or why there is no value: unparsable, truncated, too_long, refused, failed, no_answer",
)
_BENCHMARK = Column(pl.String, "Benchmark that the question is from")
_QUESTION_ID = Column(pl.String, "Stable id of the question within its benchmark")

_PROTOCOL = Column(
    pl.String,
    "What the judge is asked for: single (a score), scores (two of them), choice (A, B or a tie), "
    "preference (the probability of a label)",
)
_SAMPLING = Column(pl.String, "How the judge was sampled, as JSON")

_CUT = Column(
    pl.Float64, "Value of the last one that was chosen of those ranked with it", nullable=True
)
_LEFT = "was left as it was: unparsable, truncated, refused, failed, too_long, several_turns"

RAW_DATASET = _table(
    "raw_dataset",
    ("dataset",),
    ("sample_id",),
    {
        "sample_id": _SAMPLE_ID,
        "row": Column(pl.Int64, "0-based row in the source file"),
        "system": Column(pl.String, "System prompt, where the sample has one", nullable=True),
        "messages": Column(MESSAGES, "The conversation: user and assistant in turn"),
        "instruction": Column(pl.String, "All that the user asks in the first turn"),
        "response": Column(pl.String, "The first answer"),
        "turns": Column(pl.Int64, "Number of user turns"),
        "template": Column(
            pl.String, "Prompt template that was found inside and stripped", nullable=True
        ),
        "source_format": Column(pl.String, "Shape of the row: alpaca, sharegpt, openai, ..."),
    },
)
REJECTED_ROWS = _table(
    "rejected_rows",
    ("dataset",),
    ("row",),
    {
        "row": Column(pl.Int64, "0-based row in the source file"),
        "line": Column(pl.Int64, "1-based line in the source file", nullable=True),
        "reason": Column(pl.String, "Code of the reason, such as no_response or duplicate"),
        "detail": Column(pl.String, "One sentence for a person"),
        "excerpt": Column(pl.String, "The row's first 200 characters"),
    },
)
OPEN_TAGS = _table(
    "open_tags",
    ("dataset",),
    ("sample_id",),
    {
        "sample_id": _SAMPLE_ID,
        "tags": Column(
            pl.List(pl.Struct({"tag": pl.String, "explanation": pl.String})),
            "The tagger's tags in its own words; empty where there is none",
        ),
        "status": _STATUS,
        "detail": Column(pl.String, "Why the last reply could not be used", nullable=True),
        "attempts": Column(pl.Int64, "Calls made for this sample, stored ones included"),
        "reply_id": _REPLY_ID,
        "model": _MODEL,
        "prompt_version": _PROMPT_VERSION,
    },
)
NORMALIZED_TAGS = _table(
    "normalized_tags",
    ("dataset",),
    ("sample_id",),
    {
        "sample_id": _SAMPLE_ID,
        "tags": Column(pl.List(pl.String), "Normalized tags, unique, sorted; may be empty"),
        "raw_tags": Column(pl.Int64, "Number of raw tags behind them"),
        "reason": Column(
            pl.String, "Why no tag is left: not_tagged, all_infrequent, all_blank", nullable=True
        ),
    },
)
TAG_LINEAGE = _table(
    "tag_lineage",
    ("dataset",),
    ("raw_tag", "place"),
    {
        "raw_tag": Column(pl.String, "Tag as the tagger wrote it"),
        "count": Column(pl.Int64, "Samples that carry the raw tag"),
        "place": Column(pl.Int64, "0-based place of the step"),
        "step": Column(
            pl.String,
            "Step of normalization that it reached: rule, semantic, association or frequency; "
            "none where all are switched off",
        ),
        "tag": Column(pl.String, "What it was before the step"),
        "became": Column(
            pl.String, "What the step made of it; null where it was dropped", nullable=True
        ),
        "became_count": Column(pl.Int64, "Samples that carry what it became", nullable=True),
        "normalized_tag": Column(
            pl.String, "What it is after all steps; null where one dropped it", nullable=True
        ),
    },
)
UNPARSABLE_TAGS = _table(
    "unparsable_tags",
    ("dataset",),
    ("sample_id", "attempt"),
    {
        "sample_id": _SAMPLE_ID,
        "attempt": Column(pl.Int64, "1-based attempt; there are at most three"),
        "status": _STATUS,
        "reason": Column(pl.String, "Why the reply could not be used, as the next prompt said it"),
        "reply": Column(pl.String, "What the tagger replied"),
        "reply_id": _REPLY_ID,
        "model": _MODEL,
        "prompt_version": _PROMPT_VERSION,
    },
)
NEAR_DUPLICATES = _table(
    "near_duplicates",
    ("dataset",),
    ("sample_id",),
    {
        "sample_id": _SAMPLE_ID,
        "group": Column(pl.Int64, "Group of samples that say nearly the same, by first row"),
        "duplicate_of": Column(pl.String, "The group's first sample by row"),
        "kind": Column(pl.String, "first, exact (equal words) or near"),
        "similarity": Column(
            pl.Float64, "Jaccard similarity of word 5-grams with the group's first sample"
        ),
    },
)
CONTAMINATED_SAMPLES = _table(
    "contaminated_samples",
    ("dataset",),
    ("sample_id", "benchmark", "question_id", "turn"),
    {
        "sample_id": _SAMPLE_ID,
        "benchmark": _BENCHMARK,
        "question_id": _QUESTION_ID,
        "turn": Column(pl.Int64, "0-based turn of the question"),
        "match": Column(pl.String, "equal (the same words) or 13-gram (13 words in a row)"),
        "text": Column(pl.String, "What they share, at most 300 characters of it"),
    },
)
SAMPLE_EMBEDDINGS = _table(
    "sample_embeddings",
    ("dataset",),
    ("sample_id",),
    {
        "sample_id": _SAMPLE_ID,
        "embedding": Column(pl.List(pl.Float32), "Unit-length embedding of the instruction"),
        "model": Column(pl.String, "Embedding model"),
    },
)
SAMPLE_CLUSTERS = _table(
    "sample_clusters",
    ("dataset",),
    ("sample_id", "cluster"),
    {
        "sample_id": _SAMPLE_ID,
        "cluster": Column(pl.Int64, "Cluster that one of the sample's tags is in"),
        "is_primary": Column(pl.Boolean, "The one cluster in which the sample is scored"),
        "label_set": Column(pl.List(pl.Int64), "All clusters of the sample, sorted"),
        "is_candidate": Column(
            pl.Boolean, "Stands for its label set (longest responses of the set)"
        ),
    },
)
UNCLUSTERED_SAMPLES = _table(
    "unclustered_samples",
    ("dataset",),
    ("sample_id",),
    {
        "sample_id": _SAMPLE_ID,
        "reason": Column(
            pl.String,
            "Why it is in no cluster: not_tagged, all_infrequent, all_blank, or noise (DBSCAN put "
            "none of its tags into a cluster)",
        ),
    },
)
REPRESENTATIVES = _table(
    "representatives",
    ("dataset",),
    ("sample_id",),
    {
        "sample_id": _SAMPLE_ID,
        "label_set": Column(pl.List(pl.Int64), "Clusters of the sample, sorted"),
        "cluster": Column(pl.Int64, "The one cluster in which it is scored"),
        "place": Column(pl.Int64, "0-based place among its label set, longest response first"),
        "length": Column(pl.Int64, "Characters of its response"),
        "stands_for": Column(pl.Int64, "Samples with this label set"),
    },
)
CLUSTERS = _table(
    "clusters",
    ("dataset",),
    ("cluster",),
    {
        "cluster": Column(pl.Int64, "Number of the cluster, 0-based"),
        "name": Column(pl.String, "Its most characteristic tags by c-TF-IDF"),
        "tags": Column(pl.List(pl.String), "Normalized tags in it, most frequent first"),
        "members": Column(pl.Int64, "Samples with a tag in it"),
        "primary_members": Column(pl.Int64, "Samples whose primary cluster it is"),
        "candidates": Column(pl.Int64, "Candidates whose primary cluster it is"),
    },
)
SCORE_COMPARISONS = _table(
    "score_comparisons",
    ("dataset",),
    ("cluster", "sample_a", "sample_b", "shown_first"),
    {
        "cluster": Column(pl.Int64, "Cluster in which the two were compared"),
        "sample_a": Column(pl.String, "First sample of the pair, in candidate order"),
        "sample_b": Column(pl.String, "Second sample of the pair"),
        "shown_first": Column(pl.String, "a or b: which one the prompt showed first"),
        "score_a": Column(pl.Float64, "Score of sample_a in [1, 100]", nullable=True),
        "score_b": Column(pl.Float64, "Score of sample_b in [1, 100]", nullable=True),
        "round": Column(pl.Int64, "0-based round in which the scorer was asked"),
        "status": _STATUS,
        "reading": _READING,
        "reply_id": _REPLY_ID,
        "model": _MODEL,
        "prompt_version": _PROMPT_VERSION,
    },
)
CONTRASTIVE_SCORES = _table(
    "contrastive_scores",
    ("dataset",),
    ("cluster", "sample_id"),
    {
        "cluster": Column(pl.Int64, "Cluster that the score holds in"),
        "sample_id": _SAMPLE_ID,
        "score": Column(
            pl.Float64,
            "Score in [1, 100] beside the average of the cluster; null where no reply could be "
            "read",
            nullable=True,
        ),
        "low": Column(pl.Float64, "Lower end of the score's 95 % interval", nullable=True),
        "high": Column(pl.Float64, "Upper end of the score's 95 % interval", nullable=True),
        "comparisons": Column(pl.Int64, "Readable comparisons behind the score"),
        "opponents": Column(pl.Int64, "Different samples that it was readably compared with"),
        "missing": Column(pl.Int64, "Comparisons whose reply could not be read"),
        "order_gap": Column(
            pl.Float64, "Mean score when shown first minus when shown second", nullable=True
        ),
    },
)
WHOLE_SET_COMPARISONS = _table(
    "whole_set_comparisons", ("dataset",), SCORE_COMPARISONS.key, SCORE_COMPARISONS.columns
)
WHOLE_SET_SCORES = _table(
    "whole_set_scores", ("dataset",), CONTRASTIVE_SCORES.key, CONTRASTIVE_SCORES.columns
)
SINGLE_SCORES = _table(
    "single_scores",
    ("dataset",),
    ("sample_id", "criterion"),
    {
        "sample_id": _SAMPLE_ID,
        "criterion": Column(pl.String, "helpfulness (0 to 5), complexity or quality (0 to 6)"),
        "score": Column(pl.Float64, "Score by the criterion", nullable=True),
        "status": _STATUS,
        "reading": _READING,
        "reply_id": _REPLY_ID,
        "model": _MODEL,
        "prompt_version": _PROMPT_VERSION,
    },
)
SELECTED_SUBSET = _table(
    "selected_subset",
    ("dataset", "selector"),
    ("sample_id",),
    {
        "rank": Column(pl.Int64, "0-based order of choice"),
        "sample_id": _SAMPLE_ID,
        "cluster": Column(pl.Int64, "Cluster it was chosen for", nullable=True),
        "score": Column(pl.Float64, "Value that it was ranked by, if any", nullable=True),
        "place": Column(pl.Int64, "1-based place among those ranked with it", nullable=True),
        "places": Column(pl.Int64, "How many were ranked with it", nullable=True),
        "cut": _CUT,
        "scored_by": Column(
            pl.String, "Table that the score is from, where a model gave it", nullable=True
        ),
        "reason": Column(pl.String, "Why it was chosen, for a person"),
        "pinned": Column(pl.Boolean, "Kept by pins.csv"),
    },
)
UNSELECTED_SAMPLES = _table(
    "unselected_samples",
    ("dataset", "selector"),
    ("sample_id",),
    {
        "sample_id": _SAMPLE_ID,
        "cluster": Column(pl.Int64, "Cluster in which it stands best, if any", nullable=True),
        "score": Column(pl.Float64, "Value that it was ranked by, if any", nullable=True),
        "place": Column(pl.Int64, "1-based place among those ranked with it", nullable=True),
        "places": Column(pl.Int64, "How many were ranked with it", nullable=True),
        "cut": _CUT,
        "reason": Column(pl.String, "Why it was not chosen, for a person"),
    },
)
OUTSIDE_SAMPLES = _table(
    "outside_samples",
    ("dataset", "selector"),
    ("sample_id",),
    {
        "sample_id": _SAMPLE_ID,
        "row": Column(pl.Int64, "0-based row in the set's file"),
        "system": RAW_DATASET.columns["system"],
        "messages": RAW_DATASET.columns["messages"],
        "instruction": RAW_DATASET.columns["instruction"],
        "response": RAW_DATASET.columns["response"],
    },
)
REFINED_SAMPLES = _table(
    "refined_samples",
    ("dataset", "refined"),
    ("sample_id",),
    {
        "rank": Column(pl.Int64, "0-based order of choice"),
        "sample_id": _SAMPLE_ID,
        "instruction_before": Column(pl.String, "The instruction as it was"),
        "instruction": Column(pl.String, "The instruction to train on"),
        "response_before": Column(pl.String, "The response as it was"),
        "response": Column(pl.String, "The response to train on"),
        "response_status": Column(pl.String, f"ok, or why the response {_LEFT}"),
        "response_detail": Column(pl.String, f"Why the response {_LEFT}", nullable=True),
        "instruction_status": Column(pl.String, f"ok, or why the instruction {_LEFT}"),
        "instruction_detail": Column(pl.String, f"Why the instruction {_LEFT}", nullable=True),
        "response_reply_id": _REPLY_ID,
        "instruction_reply_id": _REPLY_ID,
        "model": _MODEL,
        "prompt_version": _PROMPT_VERSION,
    },
)
SUBSET_EXPORTS = _table(
    "subset_exports",
    ("dataset", "selector"),
    ("file",),
    {
        "file": Column(pl.String, "Name of the file"),
        "path": Column(pl.String, "Where it is"),
        "rows": Column(
            pl.Int64, "Samples in it; null of the card and the description", nullable=True
        ),
        "bytes": Column(pl.Int64, "Its size"),
        "sha256": Column(pl.String, "Hex SHA-256 of its bytes"),
    },
)
STABILITY_SAMPLES = _table(
    "stability_samples",
    ("dataset",),
    ("sample_id",),
    {
        "sample_id": _SAMPLE_ID,
        "chosen": Column(pl.Boolean, "Chosen with the settings as they are"),
        "runs": Column(pl.Int64, "Runs with other settings"),
        "times": Column(pl.Int64, "Runs that chose it"),
        "inclusion": Column(pl.Float64, "Share of the runs that chose it", nullable=True),
    },
)
STABILITY_RUNS = _table(
    "stability_runs",
    ("dataset",),
    ("run",),
    {
        "run": Column(pl.Int64, "Number of the run"),
        "factor": Column(pl.String, "What it varies: seed, clusters, alpha or quota"),
        "seed": Column(pl.Int64, "Its seed"),
        "alpha": Column(pl.Int64, "Its α"),
        "clusters": Column(pl.Int64, "Its K"),
        "quota": Column(pl.Int64, "Its quota"),
        "chosen": Column(pl.Int64, "Samples that it chose"),
        "candidates": Column(pl.Int64, "Candidates that it chose from"),
        "unscored": Column(pl.Int64, "Of these, without a kept comparison in their cluster"),
        "jaccard": Column(
            pl.Float64,
            "Jaccard index with the subset as it is; null where it failed",
            nullable=True,
        ),
        "failed": Column(pl.String, "Why it chose nothing", nullable=True),
    },
)
CHECKPOINT = _table(
    "checkpoint",
    ("dataset", "experiment"),
    ("provenance",),
    {
        "provenance": Column(pl.String, "Hash of all that determined the weights"),
        "path": Column(pl.String, "Folder of the checkpoint"),
        "base_model": Column(pl.String, "Base model"),
        "selector": Column(pl.String, "Selector whose subset it was trained on"),
        "recipe": Column(pl.String, "Resolved recipe as JSON"),
        "subset_hash": Column(pl.String, "Hash of the subset's sample ids in order"),
        "template_hash": Column(pl.String, "Hash of the chat template in the checkpoint"),
        "samples": Column(pl.Int64, "Samples trained on"),
        "truncated_samples": Column(pl.Int64, "Samples cut at the length limit"),
        "dropped_samples": Column(
            pl.Int64, "Samples without a response token in the limit, or dropped as too long"
        ),
        "held_out_samples": Column(pl.Int64, "Samples that were evaluated instead"),
        "held_out_loss": Column(
            pl.Float64, "Loss on these in the end; null where there are none", nullable=True
        ),
        "epochs": Column(pl.Float64, "Passes over the subset"),
        "steps": Column(pl.Int64, "Optimizer steps"),
        "tokens": Column(pl.Int64, "Tokens seen, padding left out"),
        "packed": Column(pl.Boolean, "Samples of a forward pass stood one after the other"),
        "first_loss": Column(pl.Float64, "Loss of the first logged step"),
        "final_loss": Column(pl.Float64, "Loss of the last logged step"),
        "train_seconds": Column(pl.Float64, "Seconds of training, those before a stop included"),
        "tokens_per_second": Column(pl.Float64, "Tokens a second, over all devices"),
        "mfu": Column(
            pl.Float64,
            "Model FLOPs utilization: share of the devices' peak; null where the peak is unknown",
            nullable=True,
        ),
        "device": Column(pl.String, "Name of a device, or cpu"),
        "devices": Column(pl.Int64, "Devices that trained together"),
        "gpu_hours": Column(pl.Float64, "Devices times hours of training; 0 on CPUs"),
        "cost_usd": Column(
            pl.Float64, "GPU hours times their price; null where no price is set", nullable=True
        ),
        "peak_memory_mb": Column(pl.Float64, "Peak memory of a GPU, else of the process, in MB"),
        "resumed_from_step": Column(
            pl.Int64, "Step of the kept state that it went on from; null: none", nullable=True
        ),
        "packages": Column(
            pl.List(pl.Struct({"name": pl.String, "version": pl.String})),
            "Versions of the packages that trained",
        ),
        "log": Column(
            pl.List(
                pl.Struct(
                    {
                        "step": pl.Int64,
                        "loss": pl.Float64,
                        "learning_rate": pl.Float64,
                        "grad_norm": pl.Float64,
                        "tokens": pl.Int64,
                        "tokens_per_second": pl.Float64,
                    }
                )
            ),
            "Loss curve",
        ),
    },
)
BENCHMARK_QUESTIONS = _table(
    "benchmark_questions",
    (),
    ("benchmark", "question_id"),
    {
        "benchmark": _BENCHMARK,
        "question_id": _QUESTION_ID,
        "category": Column(pl.String, "Category of the question"),
        "turns": Column(pl.List(pl.String), "What the user asks, turn by turn"),
        "references": Column(
            pl.List(pl.String), "Reference answer by turn; empty where there is none"
        ),
        "difficulty": Column(
            pl.Float64,
            "AlpacaEval's difficulty of the instruction for the baseline, where the file has it",
            nullable=True,
        ),
    },
)
MODEL_ANSWERS = _table(
    "model_answers",
    ("dataset", "experiment"),
    ("benchmark", "question_id", "turn"),
    {
        "benchmark": _BENCHMARK,
        "question_id": _QUESTION_ID,
        "category": Column(pl.String, "Category of the question"),
        "turn": Column(pl.Int64, "1-based turn"),
        "answer": Column(pl.String, "The model's answer; empty where it said nothing"),
        "finish_reason": Column(
            pl.String,
            "stop, length, what else an endpoint says, or too_long where it was not asked",
        ),
        "prompt_tokens": Column(pl.Int64, "Tokens of the prompt"),
        "answer_tokens": Column(pl.Int64, "Tokens of the answer"),
        "temperature": Column(pl.Float64, "Sampling temperature; 0 is greedy"),
        "seed": Column(pl.Int64, "Seed of the answer"),
        "provenance": Column(pl.String, "Hash of all that determined the answers"),
        "checkpoint": Column(pl.String, "Provenance of the checkpoint"),
    },
)
OUTSIDE_ANSWERS = _table(
    "outside_answers",
    ("outside_model",),
    ("benchmark", "question_id", "turn"),
    {
        "benchmark": _BENCHMARK,
        "question_id": _QUESTION_ID,
        "category": Column(pl.String, "Category of the question"),
        "turn": Column(pl.Int64, "1-based turn"),
        "answer": Column(pl.String, "The model's answer; empty where it said nothing"),
        "finish_reason": Column(
            pl.String,
            "stop or length, or why there is no answer: refused, garbled, failed, too_long",
        ),
        "detail": Column(pl.String, "Why there is no answer, for a person", nullable=True),
        "prompt_tokens": Column(pl.Int64, "Tokens of the prompt, as the provider counts"),
        "answer_tokens": Column(pl.Int64, "Tokens of the answer, as the provider counts"),
        "temperature": Column(pl.Float64, "Sampling temperature; 0 is greedy"),
        "seed": Column(pl.Int64, "Seed that was sent; null where it was greedy", nullable=True),
        "model": _MODEL,
        "reply_id": Column(
            pl.String, "Key of the reply in the reply store; null if not asked", nullable=True
        ),
    },
)
SINGLE_VERDICTS = _table(
    "single_verdicts",
    ("dataset", "experiment"),
    ("benchmark", "question_id", "turn"),
    {
        "benchmark": _BENCHMARK,
        "question_id": _QUESTION_ID,
        "category": Column(pl.String, "Category of the question"),
        "turn": Column(pl.Int64, "1-based turn that was judged"),
        "score": Column(pl.Float64, "Score in [1, 10]", nullable=True),
        "status": _STATUS,
        "with_reference": Column(pl.Boolean, "The judge was shown a reference answer"),
        "protocol": _PROTOCOL,
        "reading": _READING,
        "judge": _MODEL,
        "prompt_version": _PROMPT_VERSION,
        "sampling": _SAMPLING,
        "reply_id": _REPLY_ID,
    },
)
PAIRWISE_VERDICTS = _table(
    "pairwise_verdicts",
    ("dataset", "matchup"),
    ("benchmark", "question_id", "turn", "shown_first"),
    {
        "benchmark": _BENCHMARK,
        "question_id": _QUESTION_ID,
        "category": Column(pl.String, "Category of the question"),
        "turn": Column(
            pl.Int64, "1-based turn that was judged; 0 where the whole conversation was, at once"
        ),
        "model_a": Column(pl.String, "First model of the matchup"),
        "model_b": Column(pl.String, "Second model of the matchup"),
        "shown_first": Column(pl.String, "a or b: whose answer the prompt showed first"),
        "winner": Column(
            pl.String, "a, b or tie, already swapped back; null if unread", nullable=True
        ),
        "score_a": Column(pl.Float64, "Score of model_a in [1, 10]", nullable=True),
        "score_b": Column(pl.Float64, "Score of model_b in [1, 10]", nullable=True),
        "status": _STATUS,
        "protocol": _PROTOCOL,
        "reading": _READING,
        "judge": _MODEL,
        "prompt_version": _PROMPT_VERSION,
        "sampling": _SAMPLING,
        "reply_id": _REPLY_ID,
    },
)
_FILE = Column(pl.String, "Hex SHA-256 of the imported file's bytes")
_FILE_NAME = Column(pl.String, "Name that the file had")
_FILE_ROW = Column(pl.Int64, "0-based row in the file")
IMPORTED_VERDICTS = _table(
    "imported_verdicts",
    (),
    ("file", "row", "shown_first", "turn"),
    {
        "kind": Column(pl.String, "single (one answer scored) or pair (two compared)"),
        "benchmark": _BENCHMARK,
        "question_id": _QUESTION_ID,
        "category": Column(pl.String, "Category of the question"),
        "turn": Column(
            pl.Int64, "1-based turn that was judged; 0 where the whole conversation was, at once"
        ),
        "model_a": Column(pl.String, "The model that was judged; of a pair the first by name"),
        "model_b": Column(pl.String, "The pair's second model; null of a single", nullable=True),
        "shown_first": Column(
            pl.String,
            "a or b: whose answer the prompt showed first; merged where the file holds one outcome "
            "of both orders; unknown of a vote or of a single",
        ),
        "winner": Column(
            pl.String, "a, b or tie, already swapped back; null if unread", nullable=True
        ),
        "score_a": Column(
            pl.Float64,
            "Score of model_a in [1, 10], or 0 where the judge gave that",
            nullable=True,
        ),
        "score_b": Column(pl.Float64, "Score of model_b, likewise", nullable=True),
        "orders_disagree": Column(
            pl.Boolean, "The two orders behind a merged outcome disagreed", nullable=True
        ),
        "status": Column(pl.String, "ok, or unparsable where the judge gave no value"),
        "judge": Column(pl.String, "Model or person that judged"),
        "judge_group": Column(
            pl.String,
            "Who is counted as one judge: the model, or of people their kind, such as expert",
        ),
        "is_human": Column(pl.Boolean, "A person judged"),
        "protocol": _PROTOCOL,
        "prompt": Column(pl.String, "Name of the prompt as the file has it", nullable=True),
        "prompt_version": Column(
            pl.String, "The prompt's family, one for all turns and categories of a result"
        ),
        "sampling": _SAMPLING,
        "reply": Column(pl.String, "What the judge wrote, where the file has it", nullable=True),
        "format": Column(pl.String, "Form that the file was recognized by"),
        "file": _FILE,
        "file_name": _FILE_NAME,
        "row": _FILE_ROW,
        "state": Column(
            pl.String,
            "used; duplicate (another row says the same of the same judgment), conflict (another "
            "file says otherwise and no person has chosen) or overruled (a person chose another)",
        ),
    },
)
REJECTED_VERDICTS = _table(
    "rejected_verdicts",
    (),
    ("file", "row"),
    {
        "file": _FILE,
        "file_name": _FILE_NAME,
        "row": Column(pl.Int64, "0-based row in the file; -1 of the whole file"),
        "reason": Column(pl.String, "Code of the reason, such as unknown_question"),
        "detail": Column(pl.String, "One sentence for a person"),
        "excerpt": Column(pl.String, "The row's first 200 characters"),
    },
)
IMPORTED_ANSWERS = _table(
    "imported_answers",
    (),
    ("model", "benchmark", "question_id", "turn"),
    {
        "model": Column(pl.String, "Model that answered"),
        "benchmark": _BENCHMARK,
        "question_id": _QUESTION_ID,
        "category": Column(pl.String, "Category of the question"),
        "turn": Column(pl.Int64, "1-based turn"),
        "answer": Column(pl.String, "The model's answer; empty where it said nothing"),
        "file": _FILE,
        "file_name": _FILE_NAME,
        "row": _FILE_ROW,
    },
)
_BUDGET = {
    "budget_unit": Column(
        pl.String,
        "Unit of the recipe's budget: epochs, steps or tokens; null of outside models",
        nullable=True,
    ),
    "budget": Column(pl.Float64, "The budget in that unit", nullable=True),
}
DECLARED_MODELS = _table(
    "declared_models",
    (),
    ("model",),
    {
        "model": Column(pl.String, "Experiment or outside model"),
        "is_outside": Column(pl.Boolean, "It is not trained here"),
        "selector": Column(pl.String, "Selector of the experiment", nullable=True),
        "refined": Column(pl.Boolean, "It is trained on the refined subset", nullable=True),
        "base_model": Column(pl.String, "Base model of the experiment", nullable=True),
        "recipe": Column(pl.String, "Name of its recipe", nullable=True),
        **_BUDGET,
    },
)
DECLARED_MATCHUPS = _table(
    "declared_matchups",
    (),
    ("matchup",),
    {
        "matchup": Column(pl.String, "Matchup"),
        "model_a": Column(pl.String, "First side"),
        "model_b": Column(pl.String, "Second side"),
        "benchmark": _BENCHMARK,
        "parity": Column(pl.String, "epochs, steps, tokens, or declared"),
    },
)
LLM_REPLIES = _table(
    "llm_replies",
    (),
    ("reply_id",),
    {
        "reply_id": Column(
            pl.String, "Key of the reply in the reply store; lost:… of a call without a reply"
        ),
        "role": Column(pl.String, "tagger, scorer, refiner, judge, or outside_models.NAME"),
        "stage": Column(pl.String, "Asset that asked"),
        "dataset": Column(pl.String, "Dataset that it was asked for first", nullable=True),
        "model": _MODEL,
        "provider": Column(pl.String, "Host of the endpoint, or embedded"),
        "prompt_version": _PROMPT_VERSION,
        "run": Column(pl.String, "Run that paid for it", nullable=True),
        "status": Column(
            pl.String,
            "ok, truncated, refused or garbled, as it was completed; lost where the call was in "
            "flight when its process was killed",
        ),
        "readable": Column(
            pl.Boolean,
            "Whether the stage could read it; null where it was not tried",
            nullable=True,
        ),
        "via": Column(pl.String, "call, or batch for the provider's Batch API"),
        "request_id": Column(pl.String, "The provider's id of the request", nullable=True),
        "finish_reason": Column(pl.String, "As the provider gave it", nullable=True),
        "prompt_tokens": Column(pl.Int64, "Tokens of the prompt"),
        "cached_tokens": Column(pl.Int64, "Of these, from the provider's prompt cache"),
        "completion_tokens": Column(pl.Int64, "Tokens of the reply"),
        "cost_usd": Column(
            pl.Float64,
            "Cost in US dollars, of a lost call the most that it can have cost; null where the "
            "price is unknown",
            nullable=True,
        ),
        "latency_s": Column(pl.Float64, "Seconds from request to reply"),
        "created_at": Column(
            pl.Datetime("us", "UTC"), "When the reply was stored, or the lost call was sent"
        ),
    },
)

TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        RAW_DATASET,
        REJECTED_ROWS,
        NEAR_DUPLICATES,
        CONTAMINATED_SAMPLES,
        OPEN_TAGS,
        UNPARSABLE_TAGS,
        NORMALIZED_TAGS,
        TAG_LINEAGE,
        SAMPLE_EMBEDDINGS,
        SAMPLE_CLUSTERS,
        UNCLUSTERED_SAMPLES,
        REPRESENTATIVES,
        CLUSTERS,
        SCORE_COMPARISONS,
        CONTRASTIVE_SCORES,
        WHOLE_SET_COMPARISONS,
        WHOLE_SET_SCORES,
        SINGLE_SCORES,
        SELECTED_SUBSET,
        UNSELECTED_SAMPLES,
        OUTSIDE_SAMPLES,
        REFINED_SAMPLES,
        SUBSET_EXPORTS,
        STABILITY_SAMPLES,
        STABILITY_RUNS,
        CHECKPOINT,
        BENCHMARK_QUESTIONS,
        MODEL_ANSWERS,
        OUTSIDE_ANSWERS,
        SINGLE_VERDICTS,
        PAIRWISE_VERDICTS,
        IMPORTED_VERDICTS,
        REJECTED_VERDICTS,
        IMPORTED_ANSWERS,
        DECLARED_MODELS,
        DECLARED_MATCHUPS,
        LLM_REPLIES,
    )
}
