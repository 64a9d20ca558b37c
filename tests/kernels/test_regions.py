"""Means over regions and their standard errors."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hyperspy_lfp.kernels.regions import region_means


def test_means_of_valid_pixels():
    values = np.arange(24.0).reshape(2, 3, 4)
    values[0, 1, 1] = np.nan
    masks = np.zeros((2, 3, 4), dtype=bool)
    masks[0, :2, :2] = True
    masks[1, 2, 3] = True
    mean, variance = region_means(values, np.full(values.shape, 0.5), masks, 1.0, 0.0)
    np.testing.assert_allclose(mean, [[(0 + 1 + 4) / 3, (12 + 13 + 16 + 17) / 4], [11, 23]])
    # sigma 0: every pixel counts
    np.testing.assert_allclose(variance, [[0.5 / 3, 0.5 / 4], [0.5, 0.5]])


@pytest.mark.filterwarnings("error")
def test_region_without_valid_pixels():
    values = np.full((2, 3, 3), np.nan)
    values[1, 0, 0] = 7.0
    masks = np.zeros((1, 3, 3), dtype=bool)
    masks[0, 0, 0] = True
    mean, variance = region_means(values, np.ones_like(values), masks, 1.0, 2.0)
    np.testing.assert_array_equal(mean, [[np.nan, 7.0]])
    np.testing.assert_array_equal(variance, [[np.nan, 1.0]])


@pytest.mark.parametrize("step", [0.5, 1.0, 2.0])
def test_number_of_independent_values(step):
    """Area / (4 pi sigma^2), however finely the map is sampled; at least one."""
    sigma, side = 3.0, 48.0
    size = round(side / step)
    values, variance = np.zeros((1, size, size)), np.full((1, size, size), 2.0)
    masks = np.ones((2, size, size), dtype=bool)
    masks[1, 2:] = False
    masks[1, :, 2:] = False
    _, found = region_means(values, variance, masks, step**2, sigma)
    assert found[0, 0] == pytest.approx(2.0 * 4 * np.pi * sigma**2 / side**2)
    assert found[1, 0] == pytest.approx(2.0)


def test_standard_error_of_smoothed_noise():
    """What is smoothed by a Gaussian sigma has just that many independent values."""
    sigma, size = 2.0, 60
    random = np.random.default_rng(0)
    noise = random.standard_normal((400, 90, 90))
    maps = gaussian_filter(noise, (0, sigma, sigma), mode="wrap")[:, 15:75, 15:75]
    variance = np.full(maps.shape, 1 / (4 * np.pi * sigma**2))
    masks = np.ones((1, size, size), dtype=bool)
    mean, predicted = region_means(maps, variance, masks, 1.0, sigma)
    # 400 means: 3.5 %; the border of the region adds (1 + 2 sigma / side)
    assert mean.std() == pytest.approx(np.sqrt(predicted[0, 0]), rel=0.12)
