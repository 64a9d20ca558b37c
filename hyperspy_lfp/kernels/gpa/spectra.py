r"""Power spectra of lattice images: their diffraction patterns.

:math:`|\sum_r w(r)\,(I(r) - \bar I)\,e^{-2\pi i k r}|^2 / \sum_r w^2` under a Hann window w, with
zero frequency at index N // 2 along each axis, whatever the parity of N. In counts of the image:
white noise of variance v per pixel has the expectation v everywhere.
"""

import numpy as np
import scipy.fft

from hyperspy_lfp.kernels._arrays import get_array_module


def padded_sizes(shape, padding):
    """Sizes of the spectra along (y, x) for frames that are padded with zeros."""
    return tuple(int(n * padding) for n in shape)


def power_spectra(frames, padding=1):
    """Power spectra of frames.

    Parameters
    ----------
    frames : array of shape (n, ny, nx)
        NaN pixels count as the mean.
    padding : int
        How many times as large the frames are made with zeros: so many times finer is the
        sampling of the spectrum.

    Returns
    -------
    array of shape (n, padding * ny, padding * nx), float32
        NaN for frames without a finite pixel.
    """
    xp = get_array_module(frames)
    ny, nx = frames.shape[-2:]
    window = [0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n) for n in (ny, nx)]
    window = xp.asarray(np.outer(*window), dtype=xp.float32)
    size = padded_sizes((ny, nx), padding)
    fft = scipy.fft if xp is np else xp.fft
    out = xp.empty((len(frames), *size), dtype=xp.float32)
    scale = 1 / float((window.astype(xp.float64) ** 2).sum())
    for frame, result in zip(frames, out, strict=True):
        image = frame.astype(xp.float32)
        known = xp.isfinite(image)
        number = int(known.sum())
        if not number:
            result[...] = xp.nan
            continue
        # the mean under the window, or it would leave its own spot in the middle
        weight = xp.where(known, window, 0)
        mean = (xp.where(known, image, 0) * weight).sum(dtype=xp.float64)
        mean = mean / weight.sum(dtype=xp.float64)
        image = xp.where(known, image - xp.float32(mean), 0) * window
        spectrum = fft.rfft2(image, s=size)
        power = (spectrum.real**2 + spectrum.imag**2) * xp.float32(scale)
        _unfold(power, result, xp)
    return out


def _unfold(half, whole, xp):
    """From the half plane of a real transform to all frequencies, zero at N // 2."""
    ny, nx = whole.shape
    # along x: frequencies 0 to nx // 2; along y in the order of the transform
    rows = xp.asarray((np.arange(ny) - ny // 2) % ny)
    opposite = xp.asarray((ny // 2 - np.arange(ny)) % ny)
    positive = (nx + 1) // 2
    whole[:, nx // 2 :] = half[rows][:, :positive]
    # |F(-k)| = |F(k)|; for even sizes the lowest frequency is the highest
    columns = xp.asarray(np.arange(nx // 2, 0, -1))
    whole[:, : nx // 2] = half[opposite][:, columns]
