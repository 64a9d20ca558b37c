"""Coherent average over frames: exact without noise, and the noise falls as one over sqrt n."""

import numpy as np
import pytest

from hyperspy_lfp.kernels.gpa import lattice
from hyperspy_lfp.kernels.gpa.averaging import coherent_mean
from hyperspy_lfp.kernels.gpa.lockin import plane_wave_fit
from hyperspy_lfp.kernels.gpa.plan import plan_lockin

SIGMA = 10.0
SHAPE = (151, 170)


def _plan(g):
    positions = [np.arange(35.0, n - 35, 10) for n in SHAPE]
    return plan_lockin(SHAPE, g[:, ::-1], (SIGMA, SIGMA), positions)


def _drifted(synthetic, waves, drift):
    """The lattice moved by whole and part pixels, (x, y)."""
    moved = [(v, a, p - 2 * np.pi * v @ drift) for v, a, p in waves]
    return synthetic.image(SHAPE, moved)


def test_rigid_drift_is_taken_off(synthetic):
    """Frames of one lattice at any place average to the first of them."""
    g, waves = synthetic.lattice("rotated")
    drifts = np.array([[0, 0], [0.37, -2.1], [13.3, 4.4], [-5.15, 60.0]])
    frames = np.stack([_drifted(synthetic, waves, d) for d in drifts])
    coefficients = plane_wave_fit(frames, _plan(g))
    mean = coherent_mean(coefficients[None])[0]
    np.testing.assert_allclose(mean[:, :3], coefficients[0, :, :3], atol=2e-6)
    # a plain mean would have lost the amplitude
    assert np.all(np.abs(coefficients[:, :, 0].mean(axis=0)) < 0.9 * np.abs(mean[:, 0]))


@pytest.mark.parametrize("n", [2, 8])
def test_noise_falls_to_the_bound(synthetic, n):
    """Gate: 1.05 of the bound of one frame over sqrt n, and predicted right."""
    g, waves = synthetic.lattice("rotated")
    plan, dose, random = _plan(g), 20, np.random.default_rng(1)
    actual, predicted = [], []
    for _ in range(640 // n // 8):
        drifts = random.uniform(-30, 30, (8 * n, 2))
        frames = [random.poisson(dose * _drifted(synthetic, waves, d)) for d in drifts]
        coefficients = plane_wave_fit(np.array(frames, dtype=np.uint16), plan)
        mean = coherent_mean(coefficients.reshape(8, n, *coefficients.shape[1:]))
        gradient = lattice.phase_gradient(mean)
        across = np.einsum("ki,imkyx->mkyx", g / np.hypot(*g.T)[:, None] ** 2, gradient)
        actual.append((across / (2 * np.pi)) ** 2)
        predicted.append(lattice.precision(mean, g, SIGMA) ** 2)
    rms = np.sqrt(np.mean(actual))
    spacing, contrast = 1 / np.hypot(*g[0]), 0.2
    bound = spacing / (4 * np.pi**1.5 * SIGMA**2 * contrast * np.sqrt(dose * n))
    # 640 / n averages of 2 x 80 samples, a third of them independent: 1 % at n = 8
    assert 0.96 < rms / bound < 1.05
    assert 0.9 < np.sqrt(np.mean(predicted)) / rms < 1.1


def test_frames_without_lattice_are_left_out(synthetic):
    g, waves = synthetic.lattice("square")
    frames = np.stack([_drifted(synthetic, waves, (0.0, 3.0 * i)) for i in range(3)])
    coefficients = plane_wave_fit(frames, _plan(g))
    broken = coefficients.copy()
    broken[1, :, :, 2:4] = np.nan
    broken[0] = np.nan
    mean = coherent_mean(broken[None])[0]
    expected = coherent_mean(coefficients[None, 1:])[0]
    np.testing.assert_allclose(
        lattice.phase_gradient(mean), lattice.phase_gradient(expected), atol=1e-7
    )
    # one frame has twice the variance of the mean of two
    ratio = mean[:, 3, 2:4].real / mean[:, 3, 5:7].real
    np.testing.assert_allclose(ratio, 2, rtol=0.05)
    broken[:] = np.nan
    assert np.isnan(coherent_mean(broken[None])).all()
