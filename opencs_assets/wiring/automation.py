"""When stages run by themselves, and what that may cost."""

import dagster as dg


def free_stage() -> dg.AutomationCondition:
    """Partitioned stages that cost nothing run as soon as their inputs are new and sound.

    A stage that calls or trains a model must not have this condition: one new file would start
    paid work for every selector and experiment that is declared.
    """
    return (
        dg.AutomationCondition.eager() & dg.AutomationCondition.all_deps_blocking_checks_passed()
    ).with_label("free stage: when its inputs are new and sound")


def warehouse() -> dg.AutomationCondition:
    """The unpartitioned warehouse is built when any table that it reads has been written.

    ``eager`` would wait until every experiment of every dataset exists. A table that is about to
    be written does not count. A table that is written in the tick in which a build is requested or
    seen to have ended leads to one more build.
    """
    condition = dg.AutomationCondition
    written = condition.any_deps_match(
        condition.newly_updated() & ~condition.executed_with_root_target()
    )
    handled = condition.newly_requested() | condition.newly_updated()
    return (
        written.since(handled & ~written)
        & ~condition.in_progress()
        & ~condition.any_deps_in_progress()
    ).with_label("warehouse: when any table has new rows")


def declared() -> dg.AutomationCondition:
    """Tables of what is declared, in experiments.yaml or in code, are written when that changes."""
    condition = dg.AutomationCondition
    changed = condition.code_version_changed() | condition.missing().newly_true()
    handled = condition.newly_requested() | condition.newly_updated()
    return (changed.since(handled) & ~condition.in_progress()).with_label(
        "declared: when what is declared has changed"
    )


def build_automation_sensor() -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates these conditions; Dagster's default one is stopped at first."""
    return dg.AutomationConditionSensorDefinition(
        "automation",
        target=dg.AssetSelection.all(),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
        description="Runs the stages that cost nothing when what they read is new.",
    )
