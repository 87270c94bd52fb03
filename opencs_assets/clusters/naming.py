"""Names of clusters, made of their most characteristic tags."""

import polars as pl


def name_clusters(
    tag_clusters: pl.DataFrame, documents: pl.DataFrame, *, most: int = 3
) -> pl.DataFrame:
    """Name each cluster by the tags in it with the highest c-TF-IDF (Grootendorst 2022).

    W(t, c) = tf(t, c) · log(1 + A / f(t)): tf counts a tag among the tags of the cluster's samples,
    f counts it among all, and A is the mean number of tags of a cluster's samples. Samples carry
    tags of other clusters too; only the cluster's own can name it.

    Args:
        tag_clusters: ``tag`` (String) and ``cluster`` (Int64), one row a tag.
        documents: ``cluster`` and ``tag``, one row a tag of a sample whose primary cluster it is.
        most: Most tags in a name.

    Returns:
        ``cluster`` and ``name``, by cluster. A cluster that no sample has as its primary one is
        named by those of its tags that are commonest elsewhere.
    """
    of_cluster = documents.group_by("cluster", "tag").agg(tf=pl.len())
    overall = documents.group_by("tag").agg(f=pl.len())
    mean = documents.height / max(documents["cluster"].n_unique(), 1)
    return (
        tag_clusters.select("tag", "cluster")
        .join(of_cluster, on=["cluster", "tag"], how="left")
        .join(overall, on="tag", how="left")
        .with_columns(pl.col("tf", "f").fill_null(0))
        .with_columns(
            weight=pl.when(pl.col("f") > 0)
            .then(pl.col("tf") * (1 + mean / pl.col("f")).log())
            .otherwise(0.0)
        )
        .sort(["cluster", "weight", "f", "tag"], descending=[False, True, True, False])
        .group_by("cluster", maintain_order=True)
        .agg(name=pl.col("tag").head(most).str.join(", "))
    )
