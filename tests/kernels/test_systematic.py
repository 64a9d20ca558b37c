"""Systematic errors seen in the maps themselves: none in noise, and all of what is put in."""

import numpy as np
import pytest
from scipy import ndimage

from hyperspy_lfp.kernels.concentration.systematic import (
    common_scale,
    frame_trend,
    local_mean,
    systematic,
)

WIDTH = (3.0, 2.0)  # unequal steps of the map
PRIOR = 6e-4
NOISE = 4e-4  # of a length
SHAPE = (60, 76)
SLOPE = np.array([0.052, -0.0192])
#: dx by the lengths, for equal weights.
SENSITIVITY = SLOPE / (SLOPE**2).sum()


def strain_noise(random, n=1, shape=SHAPE, width=WIDTH):
    """Noise with the correlation of a strain along x: the derivative of smoothed white noise."""
    white = random.standard_normal((n, *(s + 40 for s in shape)))
    smooth = ndimage.gaussian_filter(white, (0, *width), order=(0, 0, 1))[:, 20:-20, 20:-20]
    return smooth / smooth.std()


def maps(x, lengths_error, noise=NOISE):
    """Arguments of `systematic` for a true x and errors of the two lengths."""
    x = x + np.tensordot(SENSITIVITY, lengths_error, 1)
    across = np.array([SLOPE[1], -SLOPE[0]]) / np.hypot(*SLOPE)
    return {
        "x": x,
        "noise": np.full(x.shape, (SENSITIVITY**2).sum() * noise**2),
        "sensitivity": np.broadcast_to(SENSITIVITY[:, None, None, None], (2, *x.shape)),
        "misfit": np.tensordot(across, lengths_error, 1),
        "misfit_noise": np.full(x.shape, noise**2),
        "width": WIDTH,
        "prior": PRIOR,
    }


def test_local_mean():
    random = np.random.default_rng(0)
    values = random.standard_normal((2, *SHAPE))
    values[:, 10:20, 30:40] = np.nan
    mean, share = local_mean(values, WIDTH)
    assert np.array_equal(np.isnan(mean), np.isnan(values))
    constant, _ = local_mean(np.where(np.isnan(values), np.nan, 3.0), WIDTH)
    np.testing.assert_allclose(constant[np.isfinite(constant)], 3.0, rtol=1e-12)
    # half of the window at a straight edge, less half a sample
    assert share[0, 0, 60] == pytest.approx(0.5 + 0.5 * 0.4 / WIDTH[0], abs=0.02)
    assert share[0, 45, 60] == pytest.approx(1, abs=1e-6)


def test_noise_alone_is_not_systematic():
    random = np.random.default_rng(1)
    error = NOISE * np.stack([strain_noise(random, 20), strain_noise(random, 20)])
    found = systematic(**maps(np.full((20, *SHAPE), 0.4), error))
    noise = (SENSITIVITY**2).sum() * NOISE**2
    # a tenth of the standard error is what a predicted error may be off by
    assert found.variance.mean() < 0.21 * noise
    assert found.chi_squared.mean() == pytest.approx(1, abs=0.1)
    assert np.mean(found.chi_squared > 25) == 0


@pytest.mark.parametrize("length", [0, 1])
def test_an_error_of_one_length_is_covered(length):
    """A rim in which one length is wrong: x is off, by an error that is predicted to a factor."""
    random = np.random.default_rng(2)
    error = NOISE * np.stack([strain_noise(random, 4), strain_noise(random, 4)])
    wrong = np.zeros(SHAPE, dtype=bool)
    wrong[:, :14] = True
    error[length][:, wrong] += 5e-3
    found = systematic(**maps(np.full((4, *SHAPE), 0.4), error))
    inside = np.zeros(SHAPE, dtype=bool)
    inside[8:-8, 3:8] = True
    actual = SENSITIVITY[length] * 5e-3
    predicted = np.sqrt(found.variance[:, inside].mean())
    # either length may be the wrong one: both are given the error that explains the misfit
    both = np.hypot(*SENSITIVITY) * 5e-3 * np.abs(SLOPE[1 - length]) / np.hypot(*SLOPE)
    assert predicted == pytest.approx(both, rel=0.1)
    assert 0.3 * abs(actual) < predicted < 3 * abs(actual)
    assert np.all(found.chi_squared[:, inside] > 5)
    far = np.zeros(SHAPE, dtype=bool)
    far[:, 30:] = True
    assert found.variance[:, far].mean() < 0.3 * (SENSITIVITY**2).sum() * NOISE**2


def test_wrong_tables_are_common_to_the_frame_and_no_local_error():
    """A misfit of alpha + beta x, as a magnification and a wrong lattice parameter make it."""
    random = np.random.default_rng(3)
    x = np.broadcast_to(np.linspace(0, 1, SHAPE[1]), (3, *SHAPE))
    arguments = maps(x, NOISE * np.stack([strain_noise(random, 3), strain_noise(random, 3)]))
    plain = systematic(**arguments)
    arguments["misfit"] = arguments["misfit"] - 0.02 + 1.5e-3 * x
    shifted = systematic(**arguments)
    np.testing.assert_allclose(shifted.trend - plain.trend, [[-0.02, 1.5e-3]] * 3, atol=3e-4)
    assert shifted.variance.mean() < 1.3 * plain.variance.mean() + 1e-6


@pytest.mark.parametrize("offset", [0.0, 1e-3, 0.04, -0.04])
def test_trend_in_spite_of_a_rim(offset):
    random = np.random.default_rng(4)
    misfit = NOISE * strain_noise(random) + offset
    misfit[:, :, :20] += 0.01 * np.linspace(1, 0, 20)
    x = 0.5 + 0.01 * strain_noise(random)
    noise = np.full(x.shape, NOISE**2)
    alpha, beta = frame_trend(misfit, noise, x, WIDTH, PRIOR)[0]
    # the error of the mean of some hundred independent values, and what the rim still weighs
    assert alpha + beta * 0.5 == pytest.approx(offset, abs=2e-4)


def test_trend_of_nothing():
    empty = np.full((2, *SHAPE), np.nan)
    assert np.array_equal(frame_trend(empty, empty, empty, WIDTH, PRIOR), np.zeros((2, 2)))


@pytest.mark.parametrize("scale", [0.0, 2e-3, -0.03])
def test_common_scale(scale):
    random = np.random.default_rng(5)
    response = np.full((6, *SHAPE), -1.28)
    misfit = scale * response + NOISE * strain_noise(random, 6)
    misfit[:, :5] += 0.02
    found, variance = common_scale(misfit, np.full(response.shape, NOISE**2), response, WIDTH)
    # strain noise averages out faster than the number of windows says, so that this is safe
    assert np.all(np.abs(found - scale) < 4 * np.sqrt(variance))
    assert np.all(np.sqrt(variance) < 1e-4)


def test_a_front_loses_resolution():
    """The bias of a smoothed front is predicted from the smoothed map alone."""
    x, width = np.arange(SHAPE[1], dtype=float), 2.0
    truth = 0.5 + 0.5 * np.tanh((x - 38) / 5)
    smooth = ndimage.gaussian_filter1d(truth, width, mode="nearest")
    error = np.zeros((2, 1, *SHAPE))
    found = systematic(**maps(np.broadcast_to(smooth, (1, *SHAPE)), error, noise=1e-5))
    middle = found.variance[0, 30, 15:60]
    bias = (smooth - truth)[15:60]
    # one more smoothing lowers it by a part that a front of this width sets
    assert np.sqrt(middle.mean() / np.mean(bias**2)) == pytest.approx(0.85, abs=0.15)
    # no bias, and none predicted, where the map is straight
    assert middle[23] < 1e-2 * middle.max()


def test_uniform_map_without_noise():
    found = systematic(**maps(np.full((1, *SHAPE), 0.7), np.zeros((2, 1, *SHAPE)), noise=1e-9))
    assert np.all(found.variance < 1e-12)


def test_missing_pixels_and_unknown_noise():
    arguments = maps(np.full((2, *SHAPE), 0.4), np.zeros((2, 2, *SHAPE)))
    for name in ("x", "misfit"):
        arguments[name][0, :10] = np.nan
    arguments["noise"][1] = arguments["misfit_noise"][1] = np.nan
    found = systematic(**arguments)
    assert np.isnan(found.variance[0, :10]).all() and np.isfinite(found.variance[0, 10:]).all()
    assert np.isfinite(found.variance[1]).all()
    assert np.isnan(found.chi_squared[1]).all()
