"""Domains from curves: phantoms with known places and number of domains."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hyperspy_lfp.kernels.concentration.domains import find_domains

SIGMA = 3.0  # pixels of the map
TIMES = np.linspace(0, 1, 30)
COURSES = np.array([TIMES**0.5, TIMES**2, np.clip(2 * TIMES - 0.5, 0, 1)])


def derivative_noise(shape, random):
    """Noise of variance one, correlated as that of a strain."""
    white = random.standard_normal(shape)
    noise = gaussian_filter(white, (0, SIGMA, SIGMA), order=(0, 0, 1), mode="wrap")
    return noise * np.sqrt(8 * np.pi) * SIGMA**2


def phantom(number, noise, seed=0, shape=(48, 54)):
    """A particle in vacuum; maps as the window smooths them, their variance, and the truth."""
    y, x = np.indices(shape)
    particle = np.hypot((y - 24) / 1.0, (x - 27) / 1.1) < 22
    truth = np.zeros(shape, dtype=int)
    if number > 1:
        truth[x > 30] = 1
    if number > 2:
        truth[(x <= 30) & (y > 26)] = 2
    maps = COURSES[truth].transpose(2, 0, 1)
    maps = gaussian_filter(maps, (0, SIGMA, SIGMA), mode="nearest")
    # the rim is noisier
    depth = np.clip(22 - np.hypot(y - 24, (x - 27) / 1.1), 0, SIGMA) / SIGMA
    error = noise * (3 - 2 * depth)
    maps += error * derivative_noise(maps.shape, np.random.default_rng(seed))
    maps[:, ~particle] = np.nan
    variance = np.broadcast_to(error**2, maps.shape)
    truth = np.where(particle, truth + 1, 0)
    away = particle & ~_near_border(truth)
    return maps, variance, particle.astype(float), truth, away


def _near_border(truth):
    """Within a resolution of another domain."""
    y, x = np.indices(truth.shape)
    near = np.zeros(truth.shape, dtype=bool)
    for j in range(-3, 4):
        for i in range(-3, 4):
            other = truth[
                np.clip(y + j, 0, None) % truth.shape[0], np.clip(x + i, 0, None) % truth.shape[1]
            ]
            near |= (other != truth) & (other > 0)
    return near


def agreement(labels, truth, where):
    """Share of the pixels with the right label, whatever the numbers of the domains."""
    counts = np.zeros((truth.max() + 1, labels.max() + 1))
    np.add.at(counts, (truth[where], labels[where]), 1)
    return counts.max(axis=1).sum() / where.sum()


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("noise", [0.01, 0.05, 0.15])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_phantoms(number, noise, given):
    maps, variance, present, truth, away = phantom(number, noise)
    labels = find_domains(maps, variance, present, (1, 1), SIGMA, number if given else None)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels > 0, truth > 0)
    assert labels.max() == number
    # the gate of the brief: 95 % of the pixels away from borders
    assert agreement(labels, truth, away) > 0.95
    sizes = np.bincount(labels.ravel())[1:]
    assert np.all(np.diff(sizes) <= 0)


def test_gradual_change_is_no_domain():
    """A linear gradient in space has no border; clusters would cut it anywhere."""
    x = np.linspace(0, 1, 60)
    maps = TIMES[:, None, None] * np.broadcast_to(x, (48, 60))
    random = np.random.default_rng(1)
    maps = maps + 0.02 * derivative_noise(maps.shape, random)
    variance = np.full(maps.shape, 0.02**2)
    assert find_domains(maps, variance, np.ones((48, 60)), (1, 1), SIGMA).max() == 1


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_one_domain(seed):
    maps = derivative_noise((40, 45, 50), np.random.default_rng(seed))
    labels = find_domains(maps, np.ones_like(maps), np.ones((45, 50)), (1, 1), SIGMA)
    np.testing.assert_array_equal(labels, 1)


@pytest.mark.parametrize("unknown", [np.nan, 0.0])
@pytest.mark.filterwarnings("error")
def test_noise_that_is_not_known(unknown):
    """As of exact maps: what is there in clear steps is found."""
    maps, variance, present, truth, away = phantom(3, 0.0)
    labels = find_domains(maps, np.full_like(variance, unknown), present, (1, 1), SIGMA)
    assert labels.max() == 3 and agreement(labels, truth, away) > 0.95


@pytest.mark.filterwarnings("error")
def test_gaps_in_time():
    """Missing frames are bridged; what is missing in most of them is no pixel."""
    maps, variance, present, truth, away = phantom(2, 0.05)
    gaps = np.random.default_rng(2).random(maps.shape) < 0.3
    maps[gaps] = np.nan
    variance = np.where(gaps, np.nan, variance)
    present = present.copy()
    present[20:24, 10:14] = 0.4
    labels = find_domains(maps, variance, present, (1, 1), SIGMA)
    np.testing.assert_array_equal(labels > 0, present >= 0.5)
    away &= present >= 0.5
    assert labels.max() == 2 and agreement(labels, truth, away) > 0.95


def test_unequal_spacing_and_unit_of_length():
    maps, variance, present, *_ = phantom(2, 0.05)
    expected = find_domains(maps, variance, present, (1, 1), SIGMA)
    found = find_domains(maps, variance, present, (0.25, 0.25), SIGMA / 4)
    np.testing.assert_array_equal(found, expected)
    coarse = find_domains(maps[:, :, ::2], variance[:, :, ::2], present[:, ::2], (1, 2), SIGMA)
    assert (coarse == expected[:, ::2]).mean() > 0.97


def test_deterministic():
    maps, variance, present, *_ = phantom(3, 0.15)
    first, second = (find_domains(maps, variance, present, (1, 1), SIGMA) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_islands_join_their_surroundings():
    """A spot smaller than 4 pi sigma^2 with a course of its own is no domain."""
    maps = np.tile(COURSES[0][:, None, None], (1, 40, 40))
    maps[:, 18:21, 18:21] = COURSES[1][:, None, None]
    variance = np.full(maps.shape, 1e-4)
    for n in (None, 2):
        labels = find_domains(maps, variance, np.ones((40, 40)), (1, 1), SIGMA, n)
        np.testing.assert_array_equal(labels, 1)


def test_bad_input():
    maps, variance = np.zeros((2, 5, 4, 4))
    with pytest.raises(ValueError, match="no pixel has a lattice"):
        find_domains(maps, variance, np.full((4, 4), 0.3), (1, 1), 1.0)
    with pytest.raises(ValueError, match="n=17 domains are more than the 16 pixels"):
        find_domains(maps, variance, np.ones((4, 4)), (1, 1), 1.0, 17)
