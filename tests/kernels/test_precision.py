"""Noise of strain and composition against closed forms and against simulated noise."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperspy_lfp.kernels.gpa import precision

_SPEC = importlib.util.spec_from_file_location(
    "array_modules", Path(__file__).parents[1] / "array_modules.py"
)
modules = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(modules)

examples = settings(max_examples=25, deadline=None, derandomize=True)


def _turn(angle):
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _gradient_variance(contrast, dose, sigma):
    """Of each component, by counting noise alone, in (radians per pixel)^2."""
    return 1 / (4 * np.pi * sigma**4 * dose * contrast**2)


def test_closed_form_of_a_square_pair():
    """sigma(strain across the planes) = d / (4 pi^(3/2) sigma^2 C sqrt(D)), 2.3e-3 in gpa.md."""
    d, sigma, contrast, dose = 10.3, 10.0, 0.2, 100.0
    variance = np.full(2, _gradient_variance(contrast, dose, sigma))
    q = precision.strain_covariance(np.eye(2) / d, variance)
    expected = d / (4 * np.pi**1.5 * sigma**2 * contrast * np.sqrt(dose))
    np.testing.assert_allclose(np.sqrt(q[:2]), expected, rtol=1e-12)
    assert q[2] == 0
    assert expected == pytest.approx(2.3e-3, abs=5e-5)


@examples
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_general_closed_form(seed, number):
    """Cov(row i of e) = (M^-1)_ii / (16 pi^3 sigma^4 D) with M = sum C_k^2 g_k g_k^T."""
    random = np.random.default_rng(seed)
    g = random.normal(size=(number, 2))
    g[1] = _turn(1.2) @ g[0]  # never all collinear
    contrast = random.uniform(0.05, 0.4, number)
    sigma, dose = 8.0, 50.0
    q = precision.strain_covariance(g, _gradient_variance(contrast, dose, sigma))
    m = (g * contrast[:, None] ** 2).T @ g
    expected = np.linalg.inv(m) / (16 * np.pi**3 * sigma**4 * dose)
    np.testing.assert_allclose([[q[0], q[2]], [q[2], q[1]]], expected, rtol=1e-9)


def test_gain_of_further_reflections():
    """gpa.md: three equal hexagonal g lower the strain noise by 29 %, {11} beside a square pair
    by 42 %, in the standard error averaged over the directions."""

    def noise(g):
        q = precision.strain_covariance(g, np.ones(len(g)))
        return np.sqrt(q[0] + q[1])

    hexagon = np.array([[np.cos(a), np.sin(a)] for a in np.deg2rad([0, 60, 120])])
    assert noise(hexagon) / noise(hexagon[:2]) == pytest.approx(np.sqrt(1 / 2), rel=1e-12)
    square = np.array([[1, 0], [0, 1], [1, 1], [1, -1]])
    assert noise(square) / noise(square[:2]) == pytest.approx(np.sqrt(1 / 3), rel=1e-12)


def test_lengths_along_perpendicular_axes_are_independent():
    """1/sigma_x^2 = sum of (e_i / sigma_i)^2, whatever the reflections and their angle."""
    g = np.array([[0.1, 0.02], [0.05, -0.13]])
    q = precision.strain_covariance(g, np.array([1e-6, 3e-6]))
    slopes = np.array([0.052, -0.0192])
    axes = _turn(0.3)
    along = np.array([v @ [[q[0], q[2]], [q[2], q[1]]] @ v for v in axes])
    expected = 1 / (slopes**2 / along).sum()
    assert precision.composition_variance(q, axes, slopes) == pytest.approx(expected, rel=1e-12)


def test_lengths_along_oblique_axes_are_not():
    """Against 1/(s^T C^-1 s) with the covariance of v_i^T e v_i by simulation of e."""
    random = np.random.default_rng(5)
    q = np.array([2.0, 1.0, 0.6])
    axes = np.array([[1.0, 0.0], [np.cos(1.0), np.sin(1.0)]])
    slopes = np.array([0.5, 0.2])
    root = np.linalg.cholesky([[q[0], q[2]], [q[2], q[1]]])
    e = root @ random.standard_normal((200_000, 2, 2))  # columns independent, rows with Q
    lengths = np.einsum("vi,nij,vj->nv", axes, e, axes)
    weights = np.linalg.solve(np.cov(lengths.T), slopes)
    expected = 1 / (slopes @ weights)
    # the variance of 200 000 normal values has a relative error of sqrt(2/200000) = 0.3 %
    assert precision.composition_variance(q, axes, slopes) == pytest.approx(expected, rel=0.015)


def test_weights_that_allow_for_a_systematic_error():
    """x = w.m / w.s with w = s / (var + systematic^2): its noise is larger than the smallest."""
    q = np.array([1e-6, 4e-6, 0.0])
    slopes = np.array([0.05, -0.02])
    weight = slopes / (q[:2] + 1e-6)
    expected = (weight**2 * q[:2]).sum() / (weight @ slopes) ** 2
    found = precision.composition_variance(q, np.eye(2), slopes, 1e-3)
    assert found == pytest.approx(expected, rel=1e-12)
    assert found > precision.composition_variance(q, np.eye(2), slopes)


def test_one_length():
    """The a axis alone: sigma_x = sigma_strain / 0.052."""
    q = np.array([9e-6, 1e-6, 0.0])
    found = precision.composition_variance(q, np.array([[1.0, 0.0]]), [0.052])
    assert np.sqrt(found) == pytest.approx(3e-3 / 0.052, rel=1e-12)


@examples
@given(st.floats(0, 2 * np.pi))
def test_turning_everything_changes_nothing(angle):
    g = np.array([[0.1, 0.02], [0.05, -0.13], [0.15, -0.11]])
    variance = np.array([1e-6, 3e-6, 2e-6])
    slopes = [0.052, -0.0192]

    def noise(turn):
        q = precision.strain_covariance(g @ turn.T, variance)
        return precision.composition_variance(q, np.eye(2) @ turn.T, slopes, 1e-3)

    assert noise(_turn(angle)) == pytest.approx(noise(np.eye(2)), rel=1e-9)


@pytest.mark.parametrize("name", modules.NAMES)
def test_maps_with_missing_pixels(name):
    """Not-a-number pixels stay so, the others are those of single values; on a device as well."""
    random = np.random.default_rng(3)
    variance = random.uniform(1e-6, 2e-6, (2, 3, 4))
    variance[1, 2, 1] = np.nan
    g = np.array([[0.1, 0.0], [0.02, 0.12]])
    slopes = [0.05, -0.02]
    with modules.array_module(name) as xp:
        q = precision.strain_covariance(g, xp.asarray(variance))
        found = precision.composition_variance(q, np.eye(2), slopes, 1e-3)
        assert isinstance(found, xp.ndarray)
        found = modules.to_numpy(found)
    assert found.shape == (3, 4)
    assert np.isnan(found[2, 1]) and np.isnan(found).sum() == 1
    one = precision.composition_variance(
        precision.strain_covariance(g, variance[:, 0, 3]), np.eye(2), slopes, 1e-3
    )
    assert found[0, 3] == pytest.approx(one, rel=1e-12)
