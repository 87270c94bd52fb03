"""What the platform declares: a snapshot of every asset, and when stages run by themselves."""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from syrupy.assertion import SnapshotAssertion

from definitions import build_defs
from opencs_assets.tables.catalog import TABLES
from opencs_assets.wiring.jobs import FAMILY_TAG, FamilyError, family_assets, graph_tags

PAID_OR_LONG = {
    "open_tags",
    "score_comparisons",
    "contrastive_scores",
    "single_scores",
    "checkpoint",
    "model_answers",
    "outside_answers",
    "single_verdicts",
    "pairwise_verdicts",
}


@pytest.fixture(scope="module")
def defs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.Definitions]:
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("OPENCS_") and name != "OPENCS_MODELS_DIR":
                patch.delenv(name)
        yield build_defs(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def specs(defs: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}


def test_definitions_are_loadable(defs):
    dg.Definitions.validate_loadable(defs)


def test_snapshot_of_all_assets(specs, snapshot: SnapshotAssertion):
    """A changed graph, partition, group, kind or pool is seen in review."""
    described = {
        name: {
            "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
            "group": spec.group_name,
            "kinds": sorted(spec.kinds),
            "owners": sorted(spec.owners),
            "partitions": sorted(spec.partitions_def.partition_dimension_names)
            if isinstance(spec.partitions_def, dg.MultiPartitionsDefinition)
            else ["dataset"]
            if spec.partitions_def
            else [],
            "automation": spec.automation_condition.get_label()
            if spec.automation_condition
            else None,
        }
        for name, spec in sorted(specs.items())
    }
    assert described == snapshot


def test_every_asset_is_described(specs):
    for name, spec in specs.items():
        assert spec.description, name
        assert spec.owners, name
        assert spec.kinds, name
        assert spec.group_name not in (None, "default"), name


def test_every_table_is_an_asset_with_its_column_schema(specs):
    for name in TABLES:
        assert "dagster/column_schema" in specs[name].metadata, name


def test_what_costs_money_or_hours_never_starts_by_itself(specs):
    for name in PAID_OR_LONG:
        assert specs[name].automation_condition is None, name


def test_every_family_has_its_job_and_every_asset_its_family(defs):
    jobs = {job.name for job in defs.resolve_all_job_defs()}
    tags = graph_tags(defs.resolve_asset_graph())
    families = family_assets(tags)
    assert {family.job for family, _ in families.values()} <= jobs
    assert all(members for _, members in families.values())
    assert frozenset().union(*(members for _, members in families.values())) == tags.keys()


@pytest.mark.parametrize("tags", [{}, {FAMILY_TAG: "unheard of"}])
def test_an_asset_without_a_family_is_an_error_and_not_the_warehouses(tags):
    with pytest.raises(FamilyError, match="asset lost is tagged with no family"):
        family_assets({dg.AssetKey("lost"): tags})


def test_every_stage_has_a_blocking_check(defs):
    graph = defs.resolve_asset_graph()
    blocking = {
        key.asset_key.to_user_string()
        for key in graph.asset_check_keys
        if graph.get_check_spec(key).blocking
    }
    assert {
        "raw_dataset",
        "open_tags",
        "normalized_tags",
        "sample_clusters",
        "contrastive_scores",
        "selected_subset",
        "checkpoint",
        "model_answers",
        "single_verdicts",
        "pairwise_verdicts",
    } <= blocking


def test_subsets_follow_when_scores_are_new_and_the_warehouse_follows_subsets():
    """The conditions by themselves, on assets of the same shape that compute nothing."""
    from opencs_assets.wiring import automation

    @dg.asset
    def scores() -> None: ...

    @dg.asset(deps=[scores], automation_condition=automation.free_stage())
    def subset() -> None: ...

    @dg.asset(deps=[subset], automation_condition=automation.warehouse())
    def tables() -> None: ...

    defs = dg.Definitions(assets=[scores, subset, tables])
    instance = dg.DagsterInstance.ephemeral()

    def requested(cursor=None):
        result = dg.evaluate_automation_conditions(defs, instance, cursor=cursor)
        keys = {
            key.to_user_string()
            for key in ("scores", "subset", "tables")
            for key in [dg.AssetKey(key)]
            if result.get_num_requested(key)
        }
        return keys, result.cursor

    def wrote(name):
        instance.report_runless_asset_event(dg.AssetMaterialization(name))

    keys, cursor = requested()
    assert keys == set()
    wrote("scores")
    keys, cursor = requested(cursor)
    assert keys == {"subset"}
    wrote("subset")
    keys, cursor = requested(cursor)
    assert keys == {"tables"}
    # Another subset is written while the build goes on: it is not forgotten.
    wrote("subset")
    keys, cursor = requested(cursor)
    assert keys == {"tables"}
    wrote("tables")
    keys, cursor = requested(cursor)
    assert keys == set()


def test_an_experiment_of_the_users_own_is_there_without_a_rebuild(tmp_path: Path):
    (tmp_path / "experiments.yaml").write_text(
        "experiments: {longest@smollm2-135m: "
        "{selector: longest, base_model: smollm2-135m, recipe: demo}}\n"
    )
    own = build_defs(tmp_path)
    spec = next(s for s in own.resolve_all_asset_specs() if s.key == dg.AssetKey("checkpoint"))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("dataset", ["d"])
        keys = spec.partitions_def.get_partition_keys(dynamic_partitions_store=instance)
    assert "d|longest@smollm2-135m" in keys
