import pytest

from opencs_assets.config.profiles import PUBLISHED_SAMPLES, resolve_constants
from resources.settings import Method


@pytest.mark.parametrize("profile", ["corrected", "faithful"])
def test_published_values_at_published_size(profile):
    constants = resolve_constants(profile, Method(), PUBLISHED_SAMPLES)
    assert (
        constants.alpha.value,
        constants.clusters.value,
        constants.k.value,
        constants.quota.value,
    ) == (20, 50, 1000, 20)
    assert constants.longest_only


def test_corrected_scales_and_says_so():
    small = resolve_constants("corrected", Method(), 240)
    assert 1 <= small.alpha.value <= 2
    assert 2 <= small.clusters.value < 50
    assert small.k.value < 240
    assert small.quota.value * small.clusters.value >= small.k.value
    assert "240" in small.table()
    large = resolve_constants("corrected", Method(), 1_000_000)
    assert large.clusters.value > 50
    assert large.k.value > 1000


def test_alpha_is_the_same_share_of_the_samples_and_at_least_one():
    alphas = [
        resolve_constants("corrected", Method(), samples).alpha.value
        for samples in (1, 500, 5_200, 52_000, 520_000)
    ]
    assert alphas == [1, 1, 2, 20, 200]


def test_faithful_keeps_the_constants():
    assert resolve_constants("faithful", Method(), 240).k.value == 1000


def test_settings_win():
    constants = resolve_constants("corrected", Method(alpha=7, clusters=3, k=11, quota=2), 240)
    assert (constants.alpha.value, constants.clusters.value) == (7, 3)
    assert (constants.k.value, constants.quota.value) == (11, 2)
    assert constants.alpha.reason == "set in the settings"
