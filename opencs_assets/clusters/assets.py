"""The assets that embed and cluster a dataset's samples."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from opencs_assets.clusters import plots
from opencs_assets.clusters.membership import Clustering, cluster_samples
from opencs_assets.config.profiles import Constants, resolve_constants
from opencs_assets.tables.clusters import SAMPLE_EMBEDDINGS
from opencs_assets.tables.embeddings import to_column
from opencs_assets.wiring.automation import free_stage
from opencs_assets.wiring.failures import clear_failures
from opencs_assets.wiring.home import Home
from opencs_assets.wiring.jobs import DATASET
from opencs_assets.wiring.metadata import bullets, plot, table_metadata, table_out
from opencs_assets.wiring.partitions import Partitions
from resources.embedder import EmbedderResource

GROUP = "clusters"
DESCRIPTIONS = {
    "sample_clusters": (
        "Which clusters each sample is in by its tags, and which samples are candidates."
    ),
    "unclustered_samples": "Samples that are in no cluster, each with the reason.",
    "representatives": (
        "The samples that stand for a label set, by the longest responses; the "
        "scorer compares these."
    ),
    "clusters": "The clusters: names by their most characteristic tags, and sizes.",
}


def build_cluster_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """The assets that embed and cluster a dataset."""

    @dg.asset(
        partitions_def=partitions.dataset,
        io_manager_key="lake",
        description="Sentence embeddings of the instructions, for k-center and maps.",
        kinds={"sentencetransformers", "parquet"},
        owners=["team:data"],
        group_name=GROUP,
        tags=DATASET.tags,
        metadata=table_metadata("sample_embeddings"),
        code_version="1",
        automation_condition=free_stage(),
    )
    def sample_embeddings(
        raw_dataset: pl.DataFrame, embedder: EmbedderResource, home: Home
    ) -> dg.MaterializeResult:
        with clear_failures():
            vectors = embedder.embed(raw_dataset["instruction"].to_list())
        name = home.settings().method.embedder
        table = pl.DataFrame(
            {
                "sample_id": raw_dataset["sample_id"],
                "embedding": to_column(vectors),
                "model": [name] * raw_dataset.height,
            },
            schema=SAMPLE_EMBEDDINGS.schema,
        )
        return dg.MaterializeResult(
            value=table, metadata={"model": name, "dimensions": vectors.shape[1]}
        )

    @dg.multi_asset(
        name="sample_clusters",
        partitions_def=partitions.dataset,
        outs={
            name: table_out(
                name,
                description,
                group=GROUP,
                family=DATASET,
                kinds={"faiss", "parquet"},
                code_version="2",
                automation_condition=free_stage(),
            )
            for name, description in DESCRIPTIONS.items()
        },
    )
    def sample_clusters(
        context: dg.AssetExecutionContext,
        raw_dataset: pl.DataFrame,
        normalized_tags: pl.DataFrame,
        embedder: EmbedderResource,
        home: Home,
    ) -> Iterator[dg.MaterializeResult]:
        settings = home.settings()
        constants = resolve_constants(settings.profile, settings.method, raw_dataset.height)
        with clear_failures():
            clustering = cluster_samples(
                normalized_tags,
                raw_dataset.select("sample_id", "row", length=pl.col("response").str.len_chars()),
                embedder.embed,
                constants,
            )
        for note in clustering.notes:
            context.log.info(note)
        yield from _results(clustering, constants, normalized_tags)

    return [sample_embeddings, sample_clusters]


def _results(
    clustering: Clustering, constants: Constants, normalized_tags: pl.DataFrame
) -> Iterator[dg.MaterializeResult]:
    """The tables of a clustering, each with what its asset's page shows."""
    yield dg.MaterializeResult(
        asset_key="sample_clusters",
        value=clustering.samples,
        metadata={
            "clusters": clustering.clusters.height,
            "samples": clustering.samples["sample_id"].n_unique(),
            "clusterer": constants.clusterer,
            "constants": dg.MetadataValue.md(constants.table()),
            **({"notes": bullets(clustering.notes)} if clustering.notes else {}),
            **(
                {"number_of_clusters": plot(plots.criterion(curve))}
                if (curve := clustering.curve)
                else {}
            ),
            "sizes": plot(plots.cluster_sizes(clustering.clusters)),
            "map": plot(plots.tag_map(clustering.map, clustering.clusters)),
        },
    )
    reasons = clustering.unclustered["reason"].value_counts().sort("reason")
    yield dg.MaterializeResult(
        asset_key="unclustered_samples",
        value=clustering.unclustered,
        metadata={"reasons": dict(reasons.iter_rows())},
    )
    representatives = clustering.representatives
    yield dg.MaterializeResult(
        asset_key="representatives",
        value=representatives,
        metadata={
            "label_sets": representatives.filter(pl.col("place") == 0).height,
            "tags_a_representative": plot(
                plots.tags_a_representative(representatives, normalized_tags)
            ),
        },
    )
    yield dg.MaterializeResult(asset_key="clusters", value=clustering.clusters)
