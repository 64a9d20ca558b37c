"""Means over regions and their standard errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.special import erf

from hyperspy_lfp.kernels.concentration.regions import region_means

ALONG_X = np.array([[0.0, 0.0], [0.0, 1.0]])
ANGLE = np.deg2rad(25)
DIRECTION = np.array([np.sin(ANGLE), np.cos(ANGLE)])  # (y, x)


def box(shape, rows, columns):
    mask = np.zeros(shape, dtype=bool)
    mask[rows, columns] = True
    return mask


def by_correlation(error, mask, spacing, sigma, tensor):
    """The double sum of the module's docstring, written out."""
    places = np.argwhere(mask) * spacing
    apart = places[:, None] - places
    correlation = 1 - np.einsum("abi,ij,abj->ab", apart, tensor, apart) / (2 * sigma**2)
    correlation *= np.exp(-(apart**2).sum(axis=-1) / (4 * sigma**2))
    s = error[mask]
    return s @ correlation @ s / len(s) ** 2


def plane_fits(valid, width, direction):
    """Slopes that planes fitted under a Gaussian have for each value of the valid pixels."""
    places = np.argwhere(valid) / width
    rows = []
    for place in places:
        root = np.exp(-((places - place) ** 2).sum(axis=1) / 4)
        basis = np.column_stack([np.ones(len(places)), places - place])
        rows.append(direction @ (np.linalg.pinv(basis * root[:, None]) * root)[1:])
    return np.array(rows)


def test_means_of_valid_pixels():
    values = np.arange(24.0).reshape(2, 3, 4)
    values[0, 1, 1] = np.nan
    masks = np.zeros((2, 3, 4), dtype=bool)
    masks[0, :2, :2] = True
    masks[1, 2, 3] = True
    mean, variance = region_means(values, np.full(values.shape, 0.5), masks, (1.0, 1.0), 0.0)
    np.testing.assert_allclose(mean, [[(0 + 1 + 4) / 3, (12 + 13 + 16 + 17) / 4], [11, 23]])
    # sigma 0: every pixel counts
    np.testing.assert_allclose(variance, [[0.5 / 3, 0.5 / 4], [0.5, 0.5]])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_region_without_valid_pixels(sigma):
    values = np.full((2, 3, 3), np.nan)
    values[1, 0, 0] = 7.0
    masks = np.zeros((2, 3, 3), dtype=bool)
    masks[0, 0, 0] = True
    mean, variance = region_means(values, np.ones_like(values), masks, (1.0, 1.0), sigma)
    np.testing.assert_array_equal(mean, [[np.nan, 7.0], [np.nan, np.nan]])
    np.testing.assert_allclose(variance, [[np.nan, 1.0], [np.nan, np.nan]], rtol=1e-12)


def test_noise_that_is_not_known():
    """It spoils the regions that hold it, and no others."""
    variance = np.ones((1, 9, 12))
    variance[0, 4, 2] = np.nan
    masks = np.array(
        [box((9, 12), slice(3, 6), slice(0, 4)), box((9, 12), slice(3, 6), slice(8, 12))]
    )
    mean, noise = region_means(np.zeros((1, 9, 12)), variance, masks, (1.0, 1.0), 2.0)
    assert np.isfinite(mean).all()
    assert np.isnan(noise[0, 0]) and noise[1, 0] > 0


@pytest.mark.parametrize(
    ("spacing", "sigma"),
    [((1.0, 1.0), 3.0), ((0.8, 1.3), 2.5), ((1.0, 1.0), 1.1), ((2.0, 1.5), 0.9)],
    ids=["fine", "unequal", "one sigma", "coarse"],
)
@pytest.mark.parametrize("tensor", [np.eye(2) / 2, ALONG_X, np.outer(DIRECTION, DIRECTION)])
def test_whole_windows(spacing, sigma, tensor):
    """Where no edge is, the closed form of the correlation, for any region and any errors."""
    shape = (41, 44)
    y, x = np.indices(shape)
    masks = np.array(
        [
            box(shape, slice(20, 21), slice(20, 21)),
            box(shape, slice(14, 27), slice(16, 25)),
            np.hypot(y - 20, x - 21) < 9,
            (y + 2 * x) % 5 == 0,
        ]
    )
    error = 1 + 0.2 * np.sin(0.3 * y) * np.cos(0.2 * x)
    _, found = region_means(np.zeros((1, *shape)), error[None] ** 2, masks, spacing, sigma, tensor)
    expected = [by_correlation(error, m, np.array(spacing), sigma, tensor) for m in masks]
    # windows end at four sigma
    np.testing.assert_allclose(found[:, 0], expected, rtol=2e-3)


@pytest.mark.parametrize("side", [4.0, 8.0, 14.0])
def test_box_along_its_direction(side):
    """The mean of a derivative is the difference of the phase on two sides of the box."""
    sigma, step = 1.0, 0.2
    n = round(side / step)
    shape = (n + 4, n + 6)
    masks = box(shape, slice(2, n + 2), slice(3, n + 3))[None]
    _, found = region_means(
        np.zeros((1, *shape)), np.ones((1, *shape)), masks, (step, step), sigma, ALONG_X
    )
    fall = 1 - np.exp(-(side**2) / 4 / sigma**2)
    inner = 2 * (np.sqrt(np.pi) * sigma * side * erf(side / 2 / sigma) - 2 * sigma**2 * fall)
    expected = 4 * sigma**2 * fall * inner / side**4
    # a sum for an integral: (step / sigma)^2 / 24 and a few times that
    assert found[0, 0] == pytest.approx(expected, rel=0.01)


def test_far_fewer_than_the_independent_values_suggest():
    """The variance of a large box goes with its perimeter: twice the side, an eighth of it."""
    variance = np.ones((1, 130, 130))
    masks = np.array([box((130, 130), slice(5, 5 + n), slice(5, 5 + n)) for n in (60, 120)])
    _, found = region_means(np.zeros_like(variance), variance, masks, (1.0, 1.0), 3.0)
    assert found[0, 0] / found[1, 0] == pytest.approx(8, rel=0.05)


@pytest.mark.parametrize("angle", [0, 25, 90])
def test_windows_that_the_edge_of_the_crystal_cuts(angle):
    """Exact covariance of weighted least squares over the pixels of a disc with a hole."""
    width, shape = 3.0, (34, 37)
    y, x = np.indices(shape)
    valid = (np.hypot(y - 17, x - 18) < 14) & (np.hypot(y - 12, x - 22) > 3)
    direction = np.array([np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))])
    fits = plane_fits(valid, width, direction)
    covariance = fits @ fits.T
    variance = np.full(shape, np.nan)
    variance[valid] = np.diagonal(covariance)
    masks = np.array([np.ones(shape, bool), y < 17, x > 20, np.hypot(y - 17, x - 18) < 5])
    values = np.where(valid, 0.0, np.nan)
    tensor = np.outer(direction, direction)
    _, found = region_means(values, variance, masks, (1.0, 1.0), width, tensor)
    for mask, one in zip(masks, found, strict=True):
        weights = mask[valid] / mask[valid].sum()
        # windows end at four sigma
        assert one == pytest.approx(weights @ covariance @ weights, rel=5e-3)


def test_border_of_the_frame_and_border_of_a_cut():
    """Where the variance rises towards the border the frame ends, and windows are cut."""
    shape, width = (40, 44), 3.0
    mask = np.ones((1, *shape), dtype=bool)
    fits = plane_fits(np.ones(shape, dtype=bool), width, np.array([0.0, 1.0]))
    covariance = fits @ fits.T
    variance = np.diagonal(covariance).reshape(1, *shape)
    expected = covariance.mean()
    _, found = region_means(np.zeros((1, *shape)), variance, mask, (1, 1), width, ALONG_X)
    # the taper at the border is in the kernel, and not in this fit
    assert np.sqrt(found[0, 0] / expected) == pytest.approx(1, abs=0.1)
    inside = np.zeros(shape, dtype=bool)
    inside[10:-10, 10:-10] = True
    cut = covariance[np.ix_(inside.ravel(), inside.ravel())].mean()
    _, found = region_means(
        np.zeros((1, 20, 24)),
        variance[:, 10:-10, 10:-10],
        mask[:, :20, :24],
        (1, 1),
        width,
        ALONG_X,
    )
    assert np.sqrt(found[0, 0] / cut) == pytest.approx(1, abs=0.02)


def test_standard_error_of_simulated_noise():
    """Coverage of the nominal 95 % intervals, by the gate of 90 to 98 %."""
    sigma, n = 2.5, 1200
    random = np.random.default_rng(0)
    noise = random.standard_normal((n, 72, 72)).astype(np.float32)
    maps = gaussian_filter(noise, (0, sigma, sigma), order=(0, 0, 1), mode="wrap")[:, 8:64, 8:64]
    variance = np.full(maps.shape, 1 / (8 * np.pi * sigma**4))
    sides = (3, 10, 28, 50)
    masks = np.array([box((56, 56), slice(3, 3 + k), slice(3, 3 + k)) for k in sides])
    mean, predicted = region_means(maps, variance, masks, (1, 1), sigma, ALONG_X)
    covered = (np.abs(mean) < 1.96 * np.sqrt(predicted)).mean(axis=1)
    assert np.all((covered > 0.90) & (covered < 0.98))
    # the standard deviation of n values is good to 1 / sqrt(2 n) = 2 %
    np.testing.assert_allclose(mean.std(axis=1) / np.sqrt(predicted.mean(axis=1)), 1, atol=0.08)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    factor=st.floats(0.1, 10),
    step=st.floats(0.2, 2.5),
)
def test_invariances(seed, factor, step):
    """Unit of length, order of axes, direction of axes, and never below zero."""
    random = np.random.default_rng(seed)
    values = random.standard_normal((2, 11, 14))
    values[random.random(values.shape) < 0.2] = np.nan
    variance = random.uniform(0.5, 2, values.shape)
    masks = random.random((3, 11, 14)) < 0.6
    tensor = np.array([[0.3, 0.2], [0.2, 0.7]])
    spacing = np.array([step, 1.3 * step])
    mean, noise = region_means(values, variance, masks, spacing, 1.0, tensor)
    assert np.all(noise > 0)
    same = [
        region_means(values, variance, masks, factor * spacing, factor, 5 * tensor),
        region_means(
            *(np.swapaxes(a, -1, -2) for a in (values, variance, masks)),
            spacing[::-1],
            1.0,
            tensor[::-1, ::-1],
        ),
        region_means(
            *(a[..., ::-1, ::-1] for a in (values, variance, masks)), spacing, 1.0, tensor
        ),
        region_means(values + 3, variance, masks, spacing, 1.0, tensor)
        - np.array([[[3.0]], [[0]]]),
    ]
    for other in same:
        np.testing.assert_allclose(other[0], mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(other[1], noise, rtol=1e-6)


def test_pixels_that_are_alone():
    """What no window joins is independent."""
    values = np.full((1, 50, 50), np.nan)
    values[0, [10, 10, 40], [10, 40, 25]] = 1.0, 2.0, 6.0
    variance = np.where(np.isnan(values), np.nan, 0.25)
    mean, noise = region_means(values, variance, np.ones((1, 50, 50), bool), (1, 1), 2.0)
    np.testing.assert_allclose((mean, noise), ([[3.0]], [[0.25 / 3]]), rtol=1e-12)


def test_one_mask_for_each_map():
    random = np.random.default_rng(3)
    values, variance = random.standard_normal((2, 3, 12, 13))
    variance = variance**2 + 0.5
    masks = random.random((2, 3, 12, 13)) < 0.5
    mean, noise = region_means(values, variance, masks, (1, 1), 1.5)
    assert mean.shape == noise.shape == (2, 3)
    for i in range(3):
        one = region_means(values[i], variance[i], masks[:, i], (1, 1), 1.5)
        np.testing.assert_allclose((mean[:, i], noise[:, i]), one, rtol=1e-9)


def test_large_stacks_go_through_in_parts():
    values = np.random.default_rng(4).standard_normal((3, 150, 160))
    masks = np.ones((1, 150, 160), dtype=bool)
    _, whole = region_means(values, np.ones_like(values), masks, (1, 1), 2.0)
    _, one = region_means(values[0], np.ones_like(values[0]), masks, (1, 1), 2.0)
    np.testing.assert_allclose(whole[0], one[0], rtol=1e-9)


@pytest.mark.parametrize(
    "tensor",
    [
        np.eye(3),
        np.zeros((2, 2)),
        [[1.0, 0.5], [0.0, 0.0]],
        np.diag([1.5, -0.5]),
        [[np.nan, 0], [0, 1]],
    ],
)
def test_no_tensor_of_a_variance(tensor):
    values = np.zeros((1, 4, 4))
    with pytest.raises(ValueError, match="must be a symmetric"):
        region_means(values, values + 1, np.ones((1, 4, 4), bool), (1, 1), 1.0, tensor)
