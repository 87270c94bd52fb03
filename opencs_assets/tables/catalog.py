"""All tables of the lake, by name."""

from collections.abc import Mapping

from opencs_assets.tables.answers import MODEL_ANSWERS, OUTSIDE_ANSWERS
from opencs_assets.tables.benchmarks import BENCHMARK_QUESTIONS
from opencs_assets.tables.checkpoints import CHECKPOINT
from opencs_assets.tables.clusters import (
    CLUSTERS,
    REPRESENTATIVES,
    SAMPLE_CLUSTERS,
    SAMPLE_EMBEDDINGS,
    UNCLUSTERED_SAMPLES,
)
from opencs_assets.tables.datasets import (
    CONTAMINATED_SAMPLES,
    NEAR_DUPLICATES,
    RAW_DATASET,
    REJECTED_ROWS,
)
from opencs_assets.tables.evaluation import DECLARED_MATCHUPS, DECLARED_MODELS, JUDGE_PROTOCOLS
from opencs_assets.tables.imports import IMPORTED_ANSWERS, IMPORTED_VERDICTS, REJECTED_VERDICTS
from opencs_assets.tables.open_tags import NORMALIZED_TAGS, OPEN_TAGS, TAG_LINEAGE, UNPARSABLE_TAGS
from opencs_assets.tables.scores import (
    CONTRASTIVE_SCORES,
    SCORE_COMPARISONS,
    SINGLE_SCORES,
    WHOLE_SET_COMPARISONS,
    WHOLE_SET_SCORES,
)
from opencs_assets.tables.selection import (
    OUTSIDE_SAMPLES,
    REFINED_SAMPLES,
    SELECTED_SUBSET,
    STABILITY_RUNS,
    STABILITY_SAMPLES,
    SUBSET_EXPORTS,
    UNSELECTED_SAMPLES,
)
from opencs_assets.tables.verdicts import PAIRWISE_VERDICTS, SINGLE_VERDICTS
from resources.llm.replies_table import LLM_REPLIES
from resources.schema import Table

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
        JUDGE_PROTOCOLS,
        LLM_REPLIES,
    )
}
