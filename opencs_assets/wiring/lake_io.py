"""The IO manager that writes assets' outputs to the lake and reads their inputs from it."""

import dagster as dg
import polars as pl

from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.lake import Lake
from opencs_assets.wiring.metadata import preview
from resources.lake import LakeError
from resources.settings import load_settings


class LakeIOManager(dg.ConfigurableIOManager):
    """Assets' tables in the lake.

    An asset's output is written to the file of its partition. An input is the upstream's
    partition with the partition's columns added; several upstream partitions arrive in one frame.
    The settings of ``home`` name the lake.
    """

    home: str

    def lake(self) -> Lake:
        """The lake of the home's settings."""
        return Lake(load_settings(self.home).lake)

    def handle_output(self, context: dg.OutputContext, obj: pl.DataFrame) -> None:
        """Write the asset's partition and describe what was written."""
        name = context.asset_key.path[-1]
        partition = (
            _dimension_values(context, [context.partition_key])[0]
            if context.has_partition_key
            else {}
        )
        path = self.lake().write(name, obj, partition)
        context.add_output_metadata(
            {"dagster/row_count": obj.height, "path": path, "preview": preview(obj)}
        )

    def load_input(self, context: dg.InputContext) -> pl.DataFrame:
        """Read the upstream partitions that this one depends on."""
        name = context.asset_key.path[-1]
        lake = self.lake()
        if not context.has_asset_partitions:
            return lake.read(name, {})
        keys = list(context.asset_partition_keys)
        if not keys:
            raise LakeError(f"{name}: no partition of it belongs to this one")
        return pl.concat(
            [lake.read(name, partition) for partition in _dimension_values(context, keys)]
        )


def _dimension_values(
    context: dg.OutputContext | dg.InputContext, keys: list[str]
) -> list[dict[str, str]]:
    definition = context.asset_partitions_def
    table = TABLES[context.asset_key.path[-1]]
    if isinstance(definition, dg.MultiPartitionsDefinition):
        return [dict(definition.get_partition_key_from_str(key).keys_by_dimension) for key in keys]
    return [{table.dimensions[0]: key} for key in keys]
