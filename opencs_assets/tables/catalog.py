"""All tables of the lake, by name."""

from collections.abc import Mapping

from opencs_assets.tables import (
    answers,
    benchmarks,
    checkpoints,
    clusters,
    datasets,
    evaluation,
    imports,
    open_tags,
    scores,
    selection,
    verdicts,
)
from resources.llm import replies_table
from resources.schema import Table

# In the order of data; within a stage, tables stand in the order of its file.
_STAGES = (
    *(datasets, open_tags, clusters, scores, selection, checkpoints, benchmarks, answers),
    *(verdicts, imports, evaluation, replies_table),
)

TABLES: Mapping[str, Table] = {
    value.name: value
    for stage in _STAGES
    for value in vars(stage).values()
    if isinstance(value, Table)
}
