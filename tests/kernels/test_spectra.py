"""Power spectra against the plain transform, for even and odd sizes."""

import numpy as np
import pytest

from hyperspy_lfp.kernels.gpa.spectra import power_spectra


def _plain(frame, padding):
    ny, nx = frame.shape
    window = np.outer(*(0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n) for n in (ny, nx)))
    mean = (frame * window).sum() / window.sum()
    transform = np.fft.fft2((frame - mean) * window, s=(padding * ny, padding * nx))
    return np.fft.fftshift(np.abs(transform) ** 2) / (window**2).sum()


@pytest.mark.parametrize("padding", [1, 2])
@pytest.mark.parametrize("shape", [(32, 40), (33, 40), (32, 41), (33, 41)])
def test_plain_transform(shape, padding):
    frame = np.random.default_rng(0).poisson(20, shape)
    found = power_spectra(frame[None].astype(np.uint16), padding)[0]
    np.testing.assert_allclose(found, _plain(frame.astype(float), padding), rtol=2e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(64, 80), (65, 81)])
def test_a_wave_is_where_its_frequency_says(shape):
    y, x = np.indices(shape)
    g = np.array([5 / shape[0], 12 / shape[1]])
    frame = 100 + np.cos(2 * np.pi * (g[0] * y + g[1] * x))
    spectrum = power_spectra(frame[None])[0]
    at = np.unravel_index(spectrum.argmax(), shape)
    k = (np.array(at) - np.array(shape) // 2) / shape
    np.testing.assert_allclose(np.abs(k), g, atol=1e-12)
    # the centre is dark: no mean is left
    assert spectrum[shape[0] // 2, shape[1] // 2] < 1e-3 * spectrum.max()


def test_white_noise_has_its_variance_everywhere():
    noise = 3 * np.random.default_rng(1).standard_normal((40, 48, 50))
    mean = power_spectra(noise).mean(axis=0)
    # 40 spectra of one value each: 16 % a pixel, and 1 % over the plane
    assert mean[8:-8, 8:-8].mean() == pytest.approx(9, rel=0.03)


def test_missing_pixels_and_empty_frames():
    frames = np.random.default_rng(2).standard_normal((2, 20, 22))
    frames[0, 3, 4] = np.nan
    frames[1] = np.nan
    found = power_spectra(frames)
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()
