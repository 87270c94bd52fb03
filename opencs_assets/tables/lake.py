"""The lake of this project: the declared tables in a folder or on object storage."""

from opencs_assets.tables.catalog import TABLES
from resources.lake import TableStore


class Lake(TableStore):
    """The declared tables under one folder or fsspec URL.

    Args:
        url: Folder or fsspec URL (``s3://bucket/lake``).
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, TABLES)
