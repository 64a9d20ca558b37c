"""What the local plane-wave fit (`hyperspy_lfp.kernels.lockin`) knows before it sees the data.

The operators of both stages and their moments depend on the shape of a frame, the reciprocal
vectors and the resolution only, and are built once for a movie.
"""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels.noise import NoisePlan, plan_noise

#: Share of the width given to the first stage, spacing of the intermediate grid in units of the
#: first width, and the cut of all windows. A spot at any distance from g aliases through the grid
#: with an amplitude below exp(-2 pi^2 (0.6 * 0.8)^2 / (0.6 * 0.9)^2) = 2e-7. Beyond 5 sigma a
#: float32 Gaussian only adds denormal numbers, which are 50 times slower.
_FIRST_STAGE = 0.6
_GRID_STEP = 0.9
_CUT = 5.0
#: Pixels at the border of the frame are weighted down over so many lattice spacings. A window cut
#: off sharply has side lobes that let the other spots in; this lowers the error near the border
#: tenfold, and its noise as well, since the true moments of the window keep the fit unbiased.
_TAPER = 2.0


class AxisPlan(NamedTuple):
    """Operators along one axis of the frame; see `plan_axis`."""

    demodulate: list  # [(pixels slice, grid slice, (K, 2, n_grid, n_pixels) float32)]
    fit: list  # [(output slice, grid slice, (2, n_out, n_grid) float32)]: mean, derivative
    tests: np.ndarray  # (2, n_out, n_grid) float64: normalised windows w and w.x
    survey: np.ndarray  # (2, n_few, n_grid) float32: the fit at a few places only
    grid: np.ndarray  # (n_grid,) nodes of the intermediate grid, pixels
    smooth: np.ndarray  # (n_grid, n_pixels) float64: first stage without the carrier
    weight: np.ndarray  # (n_pixels,) float32: less near the border
    centroid: np.ndarray  # (n_out,) first moment of the window, pixels
    noise_gain: np.ndarray  # (2, n_out): sum of squares of the mean and derivative weights
    positions: np.ndarray  # (n_out,) centres of the windows, pixels
    size: int


class LockinPlan(NamedTuple):
    """All that does not depend on the data; built once per movie by `plan_lockin`."""

    y: AxisPlan
    x: AxisPlan
    g: np.ndarray  # (K, 2), (y, x) order, cycles per pixel
    sigma: tuple  # (y, x), pixels
    noise: NoisePlan


def plan_axis(size, sigma, g, positions, origin=0.0, taper=0.0):
    """Build the operators of the plane-wave fit along one axis.

    Parameters
    ----------
    size : int
        Number of pixels.
    sigma : float
        Standard deviation of the Gaussian window in pixels.
    g : array of shape (K,)
        Component of the reciprocal vectors along the axis, in cycles per pixel.
    positions : array of shape (n_out,)
        Centres of the windows in pixels.
    origin : float
        Coordinate of the first pixel, in pixels: the phase is that of a carrier that is zero
        at coordinate 0.
    taper : float
        Width in pixels over which the weight of the pixels rises from zero at the border.

    Returns
    -------
    AxisPlan
    """
    g = np.asarray(g, dtype=float)
    positions = np.asarray(positions, dtype=float)
    pixels = np.arange(size, dtype=float)
    carrier = np.exp(-2j * np.pi * g[:, None] * (pixels + origin))

    weight = _border_weight(size, taper)
    sigma1 = _FIRST_STAGE * sigma
    if _GRID_STEP * sigma1 > 1:
        reach = _CUT * sigma1
        n_grid = int(np.ceil((size - 1 + 2 * reach) / (_GRID_STEP * sigma1))) + 1
        grid = np.linspace(-reach, size - 1 + reach, n_grid)
        smooth = _gaussian(pixels - grid[:, None], sigma1) * weight
        rows = int(np.clip(3 * sigma1, 48, 128))
    else:  # the intermediate grid would be finer than the pixels
        sigma1, grid, smooth = 0.0, pixels, np.diag(weight)
        rows = 48

    demodulate = []
    for start in range(0, size, rows):
        span = slice(start, min(start + rows, size))
        nodes = _support(smooth[:, span])
        block = smooth[None, nodes, span] * carrier[:, None, span]
        demodulate.append(
            (span, nodes, np.stack([block.real, block.imag], axis=1).astype(np.float32))
        )

    moments = smooth.sum(axis=1), smooth @ pixels
    sigma2 = np.sqrt(sigma**2 - sigma1**2)
    mean, first, derivative, centroid = _second_stage(grid, positions, sigma, sigma2, moments)
    few = np.linspace(0, size - 1, max(2, int(size / (2 * sigma)) + 1))
    survey = _second_stage(grid, few, sigma, sigma2, moments)

    gram = smooth @ smooth.T
    noise_gain = np.stack([((m @ gram) * m).sum(axis=1) for m in (mean, derivative)])

    fit, per_block = [], max(8, int(2 * sigma2 / _median_step(positions)))
    for start in range(0, len(positions), per_block):
        span = slice(start, min(start + per_block, len(positions)))
        nodes = _support(mean[span].T)
        fit.append(
            (span, nodes, np.stack([mean[span, nodes], derivative[span, nodes]]).astype("f4"))
        )
    return AxisPlan(
        demodulate=demodulate,
        fit=fit,
        tests=np.stack([mean, first]),
        survey=np.stack([survey[0], survey[2]]).astype(np.float32),
        grid=grid,
        smooth=smooth,
        weight=weight.astype(np.float32),
        centroid=centroid.astype(np.float32),
        noise_gain=noise_gain,
        positions=positions,
        size=size,
    )


def _second_stage(grid, positions, sigma, sigma2, moments):
    """Weights of the mean, of the first moment and of the derivative, and the window's centroid.

    `moments` are the sums of the first stage and of its first moment, so that those used here
    are the ones of the two stages together over the pixels of this frame.
    """
    sums, sums_x = moments
    offset = grid - positions[:, None]
    window = _gaussian(offset, sigma2)
    first = offset * window * (sigma / sigma2) ** 2
    w0 = window @ sums
    w1 = window @ sums_x - positions * w0
    k0 = first @ sums
    k1 = first @ sums_x - positions * k0
    centroid = w1 / w0
    mean = window / w0[:, None]
    first = first / w0[:, None]
    derivative = (first - (k0 / w0)[:, None] * mean) / (k1 / w0 - k0 / w0 * centroid)[:, None]
    return mean, first, derivative, centroid


def plan_lockin(shape, g, sigma, positions, origin=(0.0, 0.0)):
    """Build the operators for frames of one shape.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) of a frame.
    g : array of shape (K, 2)
        Reciprocal vectors, (y, x) order, cycles per pixel.
    sigma : tuple of float
        Standard deviation of the window along (y, x), pixels.
    positions : tuple of array
        Centres of the windows along (y, x), pixels.
    origin : tuple of float
        Coordinates (y, x) of the first pixel, pixels.

    Returns
    -------
    LockinPlan
    """
    g = np.atleast_2d(np.asarray(g, dtype=float))
    # sigma has the same physical length along both axes: it turns |g| into spacings in pixels
    spacing = 1 / np.hypot(*(g * sigma).T).min()
    y, x = (
        plan_axis(shape[i], sigma[i], g[:, i], positions[i], origin[i], _TAPER * spacing * sigma[i])
        for i in (0, 1)
    )
    noise = plan_noise((y.grid, x.grid), (y.smooth, x.smooth), g)
    return LockinPlan(y=y, x=x, g=g, sigma=tuple(float(s) for s in sigma), noise=noise)


def _gaussian(offset, sigma):
    cut = np.abs(offset) > _CUT * sigma
    return np.where(cut, 0.0, np.exp(-0.5 * (np.where(cut, 0.0, offset) / sigma) ** 2))


def _border_weight(size, taper):
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    taper = min(taper, size / 4)
    return np.where(distance < taper, np.sin(np.pi / 2 * distance / max(taper, 0.5)) ** 2, 1.0)


def _support(columns):
    """Slice of the rows of a (rows, columns) array that are not all zero."""
    rows = np.flatnonzero(columns.any(axis=1))
    return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 1)


def _median_step(positions):
    return float(np.median(np.diff(positions))) if len(positions) > 1 else 1.0
