"""Resolves a selection of assets in Dagster's syntax, with their place in the asset graph."""

from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg

from opencs_assets.wiring.jobs import Family, family_assets, graph_tags
from resources.errors import MendableError


class PlanError(MendableError):
    """The selection can't be planned; the message says what to give."""


@dataclass(frozen=True)
class SelectedAssets:
    """Selected assets by name, with what the asset graph says of all assets.

    Attributes:
        names: The selected assets, and those that are written together with one of them.
        families: Each family, in the order in which data flows, with all its assets.
        together: For each asset, all assets that the same computation writes.
        readers: For each asset, the assets that read it.
    """

    names: frozenset[str]
    families: tuple[tuple[Family, frozenset[str]], ...]
    together: Mapping[str, frozenset[str]]
    readers: Mapping[str, frozenset[str]]


def select_assets(defs: dg.Definitions, selection: str) -> SelectedAssets:
    """The assets of a selection in Dagster's syntax, such as ``*selected_subset``.

    Raises:
        PlanError: The text is not a selection, or it selects no asset.
    """
    graph = defs.resolve_asset_graph()
    readers = {
        key.to_user_string(): frozenset(
            child.to_user_string() for child in graph.get(key).child_keys
        )
        for key in graph.get_all_asset_keys()
    }
    together = {
        key.to_user_string(): frozenset(
            member.to_user_string()
            for member in graph.get_execution_set_asset_and_check_keys(key)
            if isinstance(member, dg.AssetKey)
        )
        for key in graph.get_all_asset_keys()
    }
    try:
        keys = dg.AssetSelection.from_string(selection).resolve(graph)
    except (dg.DagsterError, ValueError):
        raise PlanError(
            f"{selection!r} is not a selection of assets. Write names and Dagster's operators "
            "(`+name`, `name+`, `group:name`, `key:a or key:b`, `*`); the assets are "
            f"{', '.join(sorted(readers))}"
        ) from None
    if not keys:
        raise PlanError(f"{selection!r} selects no asset; see `opencs materialize --help`")
    return SelectedAssets(
        frozenset(member for key in keys for member in together[key.to_user_string()]),
        tuple(
            (family, frozenset(key.to_user_string() for key in members))
            for family, members in family_assets(graph_tags(graph)).values()
        ),
        together,
        readers,
    )
