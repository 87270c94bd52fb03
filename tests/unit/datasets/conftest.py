"""The published Alpaca, read once for all tests that compare with it."""

import pytest

from opencs_assets.datasets.canonical import read_dataset


@pytest.fixture(scope="session")
def alpaca(shared_data):
    return read_dataset(shared_data / "alpaca" / "alpaca_52k.json")
