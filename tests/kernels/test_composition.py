"""Composition from lattice lengths: exact inverses of piecewise linear models."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperspy_lfp.kernels.concentration.composition import expected_lengths, invert_lengths, misfit

VEGARD = np.array([[1.0, 1.052], [1.0, 0.9808]])  # a and c of LixFePO4 relative to x = 0
BENT_KNOTS = np.array([0.0, 0.3, 0.55, 1.0])
BENT = np.array([[1.0, 1.02, 1.03, 1.052], [1.0, 0.996, 0.989, 0.9808]])
#: Part of every variance that only weights; see the module.
SYSTEMATIC = 1e-6


def _model(x, knots, model):
    """The lengths at x, the end pieces extended."""
    x = np.asarray(x, dtype=float)
    result = []
    for row in model:
        slopes = np.diff(row) / np.diff(knots)
        value = np.interp(x, knots, row)
        value = np.where(x < knots[0], row[0] + slopes[0] * (x - knots[0]), value)
        value = np.where(x > knots[-1], row[-1] + slopes[-1] * (x - knots[-1]), value)
        result.append(value)
    return np.array(result)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("knots", "model"), [((0.0, 1.0), VEGARD), (BENT_KNOTS, BENT), ((0.2, 0.9), VEGARD)]
)
def test_inverse_of_the_model(knots, model, dtype):
    """Exact on every piece and at the kinks, and not clipped beyond the ends."""
    x = np.linspace(-0.6, 1.7, 47).reshape(1, 47)
    stretch = _model(x, np.array(knots), model).astype(dtype)
    found, variance, _ = invert_lengths(stretch, np.full(stretch.shape, 1e-6, dtype), knots, model)
    assert found.shape == variance.shape == x.shape
    # a rounding of a length counts 1 / slope
    np.testing.assert_allclose(found, x, atol=5e-6 if dtype == np.float32 else 1e-12)
    assert np.all(variance > 0)


@pytest.mark.parametrize("row", [0, 1])
def test_one_length_alone(row):
    x = np.linspace(-0.5, 1.5, 21)
    model = BENT[row : row + 1]
    found, variance, _ = invert_lengths(
        _model(x, BENT_KNOTS, model), np.full((1, 21), 4e-6), BENT_KNOTS, model
    )
    np.testing.assert_allclose(found, x, atol=1e-12)
    # the standard deviation of x is that of the length over the slope of its piece
    slopes = np.diff(model[0]) / np.diff(BENT_KNOTS)
    piece = np.clip(np.searchsorted(BENT_KNOTS, x) - 1, 0, 2)
    inside = np.abs(x[:, None] - BENT_KNOTS).min(axis=1) > 1e-6
    expected = 2e-3 / np.abs(slopes[piece])
    np.testing.assert_allclose(np.sqrt(variance)[inside], expected[inside], rtol=1e-10)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.floats(-0.3, 1.3),
    st.floats(-0.01, 0.01),
    st.floats(-0.01, 0.01),
    st.floats(1e-8, 1e-4),
    st.floats(1e-8, 1e-4),
)
def test_generalised_least_squares(x, error_a, error_c, variance_a, variance_c):
    """x = e C^-1 m / e C^-1 e, with the noise propagated, for inconsistent lengths."""
    stretch = _model(x, np.array([0.0, 1.0]), VEGARD) + [error_a, error_c]
    variance = np.array([variance_a, variance_c])
    found, noise, sensitivity = invert_lengths(stretch[:, None], variance[:, None], (0, 1), VEGARD)
    slope = VEGARD[:, 1] - VEGARD[:, 0]
    weight = 1 / (variance + SYSTEMATIC)
    gain = weight * slope / (weight * slope**2).sum()
    assert found.item() == pytest.approx(gain @ (stretch - VEGARD[:, 0]), abs=1e-12)
    assert noise.item() == pytest.approx(gain**2 @ variance, rel=1e-10)
    np.testing.assert_allclose(sensitivity[:, 0], gain, rtol=1e-10)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.floats(-0.3, 1.3), st.floats(-0.006, 0.006), st.floats(-0.006, 0.006))
def test_least_squares_on_a_table(x, error_a, error_c):
    """With kinks: the smallest misfit of all x, found by trying them all."""
    variance = np.array([2e-6, 5e-6])
    stretch = _model(x, BENT_KNOTS, BENT) + [error_a, error_c]
    found, *_ = invert_lengths(stretch[:, None], variance[:, None], BENT_KNOTS, BENT)
    grid = np.linspace(-1.5, 2.5, 8001)
    misfit = ((stretch[:, None] - _model(grid, BENT_KNOTS, BENT)) ** 2).T / (variance + SYSTEMATIC)
    misfit = misfit.sum(axis=1)
    mine = (stretch - _model(found.item(), BENT_KNOTS, BENT)) ** 2 / (variance + SYSTEMATIC)
    # no grid point is better, and the best one is next to it unless two are equally good
    assert mine.sum() <= misfit.min() + 1e-12
    assert abs(grid[misfit.argmin()] - found.item()) < 2e-3 or mine.sum() < misfit.min() - 1e-9


def test_not_a_number_stays():
    stretch = _model(np.array([0.2, 0.4, 0.6]), np.array([0.0, 1.0]), VEGARD)
    stretch[0, 0] = stretch[1, 2] = np.nan
    x, variance, _ = invert_lengths(stretch, np.full((2, 3), 1e-6), (0, 1), VEGARD)
    assert np.isnan(x).tolist() == [True, False, True]
    assert np.isnan(variance).tolist() == [True, False, True]


def test_unknown_noise_weighs_the_same():
    """Without a variance there still is an x; its own noise is then unknown, not zero."""
    x = np.array([0.2, 0.9])
    stretch = _model(x, np.array([0.0, 1.0]), VEGARD) + [[1e-3], [2e-3]]
    found, noise, _ = invert_lengths(stretch, np.full((2, 2), np.nan), (0, 1), VEGARD)
    slope = VEGARD[:, 1] - VEGARD[:, 0]
    np.testing.assert_allclose(found, x + slope @ [1e-3, 2e-3] / (slope @ slope), atol=1e-12)
    assert np.isnan(noise).all()


def test_a_strong_lattice_does_not_let_one_length_decide():
    """Without noise both lengths count by their slopes, since tables are good to 1e-3 only."""
    stretch = VEGARD[:, 1:] + np.array([[0.0], [1e-3]])
    found, *_ = invert_lengths(stretch, np.array([[1e-9], [1e-15]]), (0, 1), VEGARD)
    slope = VEGARD[:, 1] - VEGARD[:, 0]
    expected = 1 + slope[1] * 1e-3 / (slope**2).sum()
    assert found.item() == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(("knots", "model"), [((0.0, 1.0), VEGARD), (BENT_KNOTS, BENT)])
def test_expected_lengths(knots, model):
    x = np.linspace(-0.4, 1.4, 37)
    value, slope = expected_lengths(x, knots, model)
    np.testing.assert_allclose(value, _model(x, np.array(knots), model), atol=1e-12)
    step = 1e-7
    derivative = (_model(x + step, np.array(knots), model) - value) / step
    inside = np.abs(x[:, None] - np.array(knots)).min(axis=1) > 1e-3
    np.testing.assert_allclose(slope[:, inside], derivative[:, inside], atol=1e-6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.floats(-0.3, 1.3), st.floats(-0.01, 0.01), st.floats(-0.3, 0.3))
def test_misfit_is_what_no_composition_explains(x, error, shift):
    """An error across the line of all compositions is read as it is, and one of x is not."""
    slope = VEGARD[:, 1] - VEGARD[:, 0]
    across = np.array([slope[1], -slope[0]]) / np.hypot(*slope)
    stretch = (_model(x, np.array([0.0, 1.0]), VEGARD) + error * across)[:, None]
    variance = np.array([[4e-6], [1e-6]])
    found, noise = misfit(stretch, variance, np.array([x + shift]), (0, 1), VEGARD)
    assert found.item() == pytest.approx(error, abs=1e-12)
    assert noise.item() == pytest.approx(across**2 @ [4e-6, 1e-6], rel=1e-12)


@pytest.mark.parametrize("weights", [[[1.0, -1.0]], [[1.0, 1.0]], [[1.0, 0.0]]])
def test_combinations_of_the_lengths(weights):
    x = np.linspace(-0.2, 1.2, 15)
    stretch = _model(x, np.array([0.0, 1.0]), VEGARD)
    variance = np.array([3e-6, 1e-6])[:, None] * np.ones(15)
    found = invert_lengths(stretch, variance, (0, 1), VEGARD, weights)
    np.testing.assert_allclose(found.x, x, atol=1e-12)
    gain = np.array(weights[0]) / (np.array(weights[0]) @ (VEGARD[:, 1] - VEGARD[:, 0]))
    np.testing.assert_allclose(found.sensitivity, gain[:, None] * np.ones(15), rtol=1e-10)
    np.testing.assert_allclose(found.variance, gain**2 @ [3e-6, 1e-6], rtol=1e-10)


def test_a_change_of_scale_cancels_in_the_difference():
    x = np.linspace(0, 1, 11)
    stretch = 1.03 * _model(x, np.array([0.0, 1.0]), VEGARD)
    found = invert_lengths(stretch, np.full((2, 11), 1e-6), (0, 1), VEGARD, [[1.0, -1.0]])
    # to first order: what is left is the product of both changes
    np.testing.assert_allclose(found.x, 1.03 * x, atol=1e-12)
