"""When stages run by themselves, and what that may cost."""

import dagster as dg


def free_stage() -> dg.AutomationCondition:
    """For partitioned stages that cost nothing: as soon as what they read is new and sound.

    Never for a stage that calls a model or trains one: one new file would start paid work for
    every selector and experiment that is declared.
    """
    return (
        dg.AutomationCondition.eager() & dg.AutomationCondition.all_deps_blocking_checks_passed()
    ).with_label("free stage: when its inputs are new and sound")


def warehouse() -> dg.AutomationCondition:
    """For the unpartitioned warehouse: when anything that it reads has been updated.

    ``eager`` would wait until every experiment of every dataset exists. What counts is a table
    that has been written, not one that is about to be, and one that is written in the same tick
    as the last build is looked at or asked for is not forgotten: it leads to one more build.
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
    """For tables of what ``experiments.yaml`` declares: when it says something else."""
    condition = dg.AutomationCondition
    changed = condition.code_version_changed() | condition.missing().newly_true()
    handled = condition.newly_requested() | condition.newly_updated()
    return (changed.since(handled) & ~condition.in_progress()).with_label(
        "declared: when experiments.yaml says something else"
    )


def build_automation_sensor() -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates these conditions; Dagster's own would be stopped at first."""
    return dg.AutomationConditionSensorDefinition(
        "automation",
        target=dg.AssetSelection.all(),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
        description="Runs the stages that cost nothing when what they read is new.",
    )
