"""Rigid drift of frames, and shifting them back.

Shifts and phases are a few numbers for each frame; they are NumPy arrays, wherever the frames are.
"""

import numpy as np
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from hyperspy_lfp.kernels._arrays import get_array_module, get_ndimage, to_host


def shift_by_correlation(frames, reference, sigma=0.0, upsampling=50):
    """Shift of frames relative to a reference frame by cross-correlation.

    The correlation is that of scikit-image, which runs on the host: frames that are on a device
    are copied there one by one.

    Parameters
    ----------
    frames : array of shape (n, ny, nx)
    reference : array of shape (ny, nx)
    sigma : float
        Width of a Gaussian low-pass in pixels; about a lattice spacing leaves the outline of the
        particle only, which has one best shift where a lattice has many.
    upsampling : int
        The shift is found to one part in so many of a pixel.

    Returns
    -------
    array of shape (n, 2), (y, x) order, pixels; NaN for frames without finite pixels. NumPy.
    """
    # No window: it would stay in place, and pull the best shift of a large particle to zero.
    fixed = _prepare(reference, sigma)
    result = np.full((len(frames), 2), np.nan)
    for frame, out in zip(frames, result, strict=True):
        moving = _prepare(frame, sigma)
        if fixed is None or moving is None:
            continue
        shift, *_ = phase_cross_correlation(
            fixed, moving, upsample_factor=upsampling, normalization=None
        )
        out[:] = -np.asarray(shift)
    return result


def mean_phases(coefficients, reference):
    """Mean phase of each reflection relative to a reference frame.

    Parameters
    ----------
    coefficients : array of shape (n, K, 4, y, x)
    reference : array of shape (K, y, x)
        The value coefficients of the reference frame.

    Returns
    -------
    array of shape (n, K), radian, in (-pi, pi]; NumPy
    """
    xp = get_array_module(coefficients)
    product = coefficients[:, :, 0] * xp.conj(reference)
    return to_host(xp.angle(xp.nansum(product, axis=(-2, -1))))


def shift_frames(frames, shifts, fill_value=np.nan, order=3):
    """Move the content of frames back by the drift.

    Parameters
    ----------
    frames : array of shape (n, ny, nx)
    shifts : array of shape (n, 2)
        Drift of each frame, (y, x) order, pixels.
    fill_value : float
        For pixels that were outside the frame.
    order : int
        Order of the spline.

    Returns
    -------
    array of shape (n, ny, nx), float32
        On the device if the frames are.
    """
    xp, module = get_array_module(frames), get_ndimage(frames)
    out = xp.full(frames.shape, fill_value, dtype=xp.float32)
    for frame, shift, result in zip(frames, to_host(shifts), out, strict=True):
        if np.isfinite(shift).all():
            frame = frame.astype(xp.float32)
            moved = module.shift(frame, (-shift).tolist(), order=order, mode="nearest")
            inside = _inside(frame.shape, shift)
            result[inside] = moved[inside]
    return out


def _inside(shape, shift):
    """Slices of the pixels whose content was within the frame."""
    slices = []
    for size, d in zip(shape, shift, strict=True):
        last = int(np.floor(size - 1 - d))
        slices.append(slice(max(0, int(np.ceil(-d))), max(0, min(size, last + 1))))
    return tuple(slices)


def _prepare(frame, sigma):
    frame = np.asarray(to_host(frame), dtype=np.float32)
    finite = np.isfinite(frame)
    if not finite.any():
        return None
    frame = np.where(finite, frame - frame[finite].mean(dtype=np.float64), 0)
    return ndimage.gaussian_filter(frame, sigma) if sigma > 0 else frame


def refine_by_phases(shifts, phases, g):
    """Refine shifts by mean phases, within the lattice period they are in.

    Parameters
    ----------
    shifts : array of shape (n, 2), (y, x) order, pixels
    phases : array of shape (n, K), radian
    g : array of shape (K, 2), (y, x) order, cycles per pixel

    Returns
    -------
    array of shape (n, 2)
        NumPy.
    """
    shifts, phases = to_host(shifts), to_host(phases)
    expected = -2 * np.pi * shifts @ g.T
    rest = (phases - expected + np.pi) % (2 * np.pi) - np.pi
    return shifts - rest @ np.linalg.pinv(g).T / (2 * np.pi)
