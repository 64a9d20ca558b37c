"""Gaussians fitted to all spots of a pattern at once.

Each spot is ``A exp(-|L^-1 (r - r0)|^2 / 2)`` on a background plane, where L L^T is the covariance
of the spot, L = [[exp p, 0], [q, exp s]] in (y, x) order, so that it is positive definite whatever
the step. The sum of squares is weighted by the variance that the model itself predicts, which makes
the result that of the maximum likelihood of counts (Mortensen et al., Nature Methods 7 (2010) 377,
doi 10.1038/nmeth.1447: with weights from the data the intensity would come out too low).
Overlapping spots are fitted on what their neighbours' models leave.
"""

from typing import NamedTuple

import numpy as np

#: Half a window in standard deviations of a spot: outside is background only.
_REACH = 3.5
#: Aperture in standard deviations that intensities are summed in; 98.9 % of a Gaussian.
_APERTURE = 3.0
_ITERATIONS = 15
#: A fit has settled when no position moves by more than this, pixels.
_SETTLED = 1e-3
#: Movement of a neighbour that a fit must follow, pixels: overlap passes on a small part of it.
_FOLLOWED = 0.02
#: Damping of the steps, relative to the diagonal (Levenberg and Marquardt).
_DAMPING = 1e-2
#: Largest step of a position in standard deviations, and of the logarithm of a width.
_STEP = 0.5
#: Narrowest standard deviation in pixels: below it the spot is a pixel.
_NARROWEST = 0.3


class Fit(NamedTuple):
    """Fitted spots; all arrays have one row a spot."""

    position: np.ndarray  # (m, 2), (y, x), pixels
    covariance: np.ndarray  # (m, 2, 2) of the position
    intensity: np.ndarray  # (m,) sum above the background
    variance: np.ndarray  # (m,) of the intensity
    width: np.ndarray  # (m,) standard deviation, geometric mean of the two axes
    settled: np.ndarray  # (m,) bool
    coverage: np.ndarray  # (m,) part of the Gaussian that lies on valid pixels


def fit_gaussians(frame, valid, starts, width, noise, gain):
    """Fit a Gaussian on a plane to every spot.

    Parameters
    ----------
    frame : array of shape (ny, nx)
    valid : bool array of shape (ny, nx)
        Pixels that count.
    starts : array of shape (m, 2)
        Start positions, (y, x) order.
    width : float or array of shape (m,)
        Standard deviation to start from, pixels; the largest sets the size of the windows.
    noise : array of shape (ny, nx)
        Standard deviation of the background.
    gain : float
        Increase of the variance with the intensity. Only the ratio to `noise` matters: all
        standard errors are scaled by what the fit leaves.

    Returns
    -------
    Fit
    """
    starts = np.asarray(starts, dtype=float).reshape(-1, 2)
    m = len(starts)
    if not m:
        none = np.empty(0)
        return Fit(np.empty((0, 2)), np.empty((0, 2, 2)), none, none, none, none > 0, none)
    width = np.broadcast_to(np.asarray(width, dtype=float), m)
    origin = np.rint(starts).astype(int)
    reach = int(np.ceil(_REACH * width.max()))
    rows, columns = (d.ravel() for d in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    data, use, floor = _windows(frame, valid, noise, origin, rows, columns)
    grid = np.stack([rows, columns], axis=1).astype(float)
    p = _start_parameters(data, use, grid, starts - origin, width)
    pairs = _overlapping(starts, 1.5 * reach)
    limits = p[:, 1:3].copy(), np.log(_NARROWEST), np.log(reach / 1.5)
    moving = np.ones(m, dtype=bool)
    for _ in range(_ITERATIONS):
        neighbours = _light_of_neighbours(p, origin, grid, pairs, m)
        at = np.flatnonzero(moving)
        normal, gradient, *_ = _linearise(
            p[at], data[at] - neighbours[at], use[at], floor[at], grid, gain, neighbours[at]
        )
        diagonal = np.einsum("mii->mi", normal)
        diagonal += _DAMPING * diagonal + 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-30
        step = np.linalg.solve(normal, gradient[..., None])[..., 0]
        moved = _advance(p, at, step, limits)
        far = np.zeros(m)
        far[at] = moved
        moving = far > _SETTLED
        # what stands beside a spot that still moves must follow
        np.logical_or.at(moving, pairs[:, 0], far[pairs[:, 1]] > _FOLLOWED)
        if not moving.any():
            break
    return _summary(p, data, use, floor, grid, gain, origin, pairs, ~moving)


def _windows(frame, valid, noise, origin, rows, columns):
    y, x = origin[:, :1] + rows, origin[:, 1:] + columns
    inside = (y >= 0) & (y < frame.shape[0]) & (x >= 0) & (x < frame.shape[1])
    y, x = np.clip(y, 0, frame.shape[0] - 1), np.clip(x, 0, frame.shape[1] - 1)
    use = inside & valid[y, x]
    data = np.where(use, frame[y, x], 0).astype(float)
    return data, use, noise[y, x].astype(float) ** 2


def _start_parameters(data, use, grid, offset, width):
    """Columns: A, y, x, p, q, s, background, its slope along y and along x."""
    p = np.zeros((len(data), 9))
    ordered = np.sort(np.where(use, data, np.nan), axis=1)
    number = use.sum(axis=1)
    rows = np.arange(len(data))
    # windows are large against spots, and neighbours may be in them: below the median
    p[:, 6] = np.where(number > 0, ordered[rows, (0.3 * np.maximum(number - 1, 0)).astype(int)], 0)
    p[:, 1:3] = offset
    p[:, 3] = p[:, 5] = np.log(width)
    core = use & (np.square(grid - offset[:, None]).sum(-1) <= width[:, None] ** 2 + 1)
    top = np.where(core, data, -np.inf).max(axis=1)
    top = np.where(np.isfinite(top), top, np.where(use, data, 0).max(axis=1))
    p[:, 0] = np.maximum(top - p[:, 6], 1e-12)
    return p


def _gaussian(p, grid):
    """Gaussian of unit height and its coordinates in standard deviations."""
    d = grid - p[:, None, 1:3]
    z1 = d[..., 0] * np.exp(-p[:, 3, None])
    z2 = (d[..., 1] - p[:, 4, None] * z1) * np.exp(-p[:, 5, None])
    return np.exp(-0.5 * (z1**2 + z2**2)), z1, z2


def _linearise(p, data, use, floor, grid, gain, neighbours):
    """Normal matrix, right side, chi^2 and what belongs to it."""
    g, z1, z2 = _gaussian(p, grid)
    light = p[:, :1] * g
    e1, e2, q = np.exp(-p[:, 3, None]), np.exp(-p[:, 5, None]), p[:, 4, None]
    one = np.ones_like(g)
    jacobian = np.stack(
        [
            g,
            light * e1 * (z1 - q * e2 * z2),
            light * e2 * z2,
            light * (z1**2 - q * e2 * z1 * z2),
            light * e2 * z1 * z2,
            light * z2**2,
            one,
            one * grid[:, 0],
            one * grid[:, 1],
        ],
        axis=-1,
    )
    model = light + np.einsum("mi,ki->mk", p[:, 7:], grid) + p[:, 6, None]
    variance = floor + gain * np.maximum(light + neighbours, 0)
    weight = use / variance
    rest = data - model
    weighted = jacobian * weight[..., None]
    normal = jacobian.swapaxes(1, 2) @ weighted
    gradient = (weighted * rest[..., None]).sum(axis=1)
    return normal, gradient, (weight * rest**2).sum(axis=1), variance, g, z1, z2


def _overlapping(positions, distance):
    """Ordered pairs of spots closer than this."""
    apart = abs(positions[:, None] - positions).max(axis=-1)
    near = apart <= distance
    np.fill_diagonal(near, False)
    return np.argwhere(near)


def _light_of_neighbours(p, origin, grid, pairs, m):
    """The other spots' models in each spot's window."""
    light = np.zeros((m, len(grid)))
    if len(pairs):
        i, j = pairs.T
        other = p[j].copy()
        other[:, 1:3] += origin[j] - origin[i]
        np.add.at(light, i, other[:, :1] * _gaussian(other, grid)[0])
    return light


def _advance(p, at, step, limits):
    """Take clipped steps; return how far the positions moved."""
    start, narrowest, widest = limits
    sigma = np.exp(0.5 * (p[at, 3] + p[at, 5]))[:, None]
    before = p[at, 1:3]
    step[:, 1:3] = np.clip(step[:, 1:3], -_STEP * sigma, _STEP * sigma)
    step[:, [3, 5]] = np.clip(step[:, [3, 5]], -0.3, 0.3)
    step[:, 4] = np.clip(step[:, 4], -0.5 * sigma[:, 0], 0.5 * sigma[:, 0])
    new = p[at] + step
    away = 2 * sigma + 1  # a spot is not one that lies elsewhere in its window
    new[:, 1:3] = np.clip(new[:, 1:3], start[at] - away, start[at] + away)
    new[:, [3, 5]] = np.clip(new[:, [3, 5]], narrowest, widest)
    new[:, 0] = np.maximum(new[:, 0], 0.1 * p[at, 0])
    p[at] = new
    return abs(p[at, 1:3] - before).max(axis=1)


def _summary(p, data, use, floor, grid, gain, origin, pairs, settled):
    neighbours = _light_of_neighbours(p, origin, grid, pairs, len(p))
    normal, _, chi2, variance, g, z1, z2 = _linearise(
        p, data - neighbours, use, floor, grid, gain, neighbours
    )
    freedom = np.maximum(use.sum(axis=1) - 9, 1)
    scale = chi2 / freedom
    # a window without enough pixels has a singular matrix: infinite, not invented, errors
    diagonal = np.einsum("mii->mi", normal)
    good = (use.sum(axis=1) > 12) & (diagonal.min(axis=1) > 1e-12 * diagonal.max(axis=1))
    covariance = np.full_like(normal, np.inf)
    covariance[good] = np.linalg.pinv(normal[good], hermitian=True) * scale[good, None, None]

    whole = 2 * np.pi * np.exp(p[:, 3] + p[:, 5])
    aperture = use & (z1**2 + z2**2 <= _APERTURE**2)
    plane = p[:, 6, None] + np.einsum("mi,ki->mk", p[:, 7:], grid)
    coverage = (g * use).sum(axis=1) / whole
    part = np.maximum((g * aperture).sum(axis=1) / whole, 1e-3)
    intensity = ((data - neighbours - plane) * aperture).sum(axis=1) / part
    n_pixels = aperture.sum(axis=1)
    spread = (variance * aperture).sum(axis=1) * scale + n_pixels**2 * covariance[:, 6, 6]
    return Fit(
        p[:, 1:3] + origin,
        covariance[:, 1:3, 1:3],
        intensity,
        spread / part**2,
        np.exp(0.5 * (p[:, 3] + p[:, 5])),
        settled & good,
        np.minimum(coverage, 1.0),
    )
