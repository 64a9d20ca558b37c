r"""Means over regions, with the standard error that correlated pixels leave.

Neighbouring pixels of a map share the window, and with it the noise. A strain is a derivative:
where no edge cuts the window, a Gaussian of standard deviation :math:`\sigma`, its noise at two
pixels D apart has the correlation

.. math::

   \rho(\mathbf D) = \Bigl(1 - \frac{\mathbf D^\mathsf{T} T\,\mathbf D}{2\sigma^2}\Bigr)
   e^{-D^2/4\sigma^2}, \qquad T = \sum_i f_i\,\mathbf v_i\mathbf v_i^\mathsf{T},

the autocorrelation of the derivative of a Gaussian, with shares :math:`f_i` of the variance from
derivatives along the unit vectors :math:`\mathbf v_i`. With the standard errors :math:`s_i` of
the pixels, the variance of the mean of N pixels is

.. math::

   \operatorname{Var} = \frac{1}{N^2}\sum_{ij} s_i s_j\,\rho(\mathbf r_i - \mathbf r_j).

The integral of :math:`\rho` is zero: what one pixel gains its neighbours lose, and the variance
of a large region goes with its perimeter, far below the variance over the number of resolution
elements, :math:`\text{area}/4\pi\sigma^2`.

Most of it therefore comes from the edge of the region. Where that is the edge of the crystal or
of the frame, windows are cut, and the slope under a cut window is another function of the noise.
So the double sum is not taken with :math:`\rho`, but as what it is, a sum of squares: the slope
at :math:`\mathbf r_i` weights the white noise at :math:`\mathbf r'` with

.. math::

   \kappa_i(\mathbf r') = w(\mathbf r' - \mathbf r_i)\,
   \mathbf v^\mathsf{T} M_i^{-1} (\mathbf r' - \mathbf m_i),

:math:`\mathbf m_i` and :math:`M_i` being the centroid and the central second moments of the
window w that is left, and

.. math::

   \operatorname{Var} = \sum_{\mathbf r'} \Bigl(\frac1N \sum_i \frac{s_i}{\lVert\kappa_i\rVert}
   \kappa_i(\mathbf r')\Bigr)^2 .

The inner sum is a convolution with separable windows. Nothing cancels, the result is never
negative, and in the interior it is the formula with :math:`\rho`, on any grid.

Reference: M. J. Hÿtch, E. Snoeck, R. Kilaas, Ultramicroscopy 74 (1998) 131,
:doi:`10.1016/S0304-3991(98)00035-7`, for the derivative of the phase; weighted least squares for
the weights.
"""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels._arrays import get_array_module, to_host

#: Windows reach so many sigma: what is beyond holds less than 1e-5 of their noise.
_REACH = 4.0
#: Largest step of the sum over the noise, in sigma: there its error is exp(-pi^2), 5e-5.
_COARSEST = 1.0
#: The frame ends at a border of the map where the variance along it is so many times that of two
#: sigma further inside: cut windows have two to three times as much, and a border that is only a
#: cut through the map has as much.
_RAISED = 1.4
_INSIDE = 2.0
#: The fit lets pixels near the border of the frame in over two lattice spacings, which is one
#: sigma at the default resolution.
_TAPER = 1.0
#: Added to the second moments of windows, in sigma^2, for those that hold a row of pixels only.
_LEAST = 1e-3
#: Pixels of maps that are worked on at a time: some thirty intermediate maps of 256 KiB.
_PART = 2**15
#: Convolutions are products with banded matrices, in blocks of so many pixels, on any array
#: module.
_BLOCK = 32


class _Operators(NamedTuple):
    """Windows along y and x, for powers 0, 1, 2 of the distance in sigma."""

    window: tuple
    squared: tuple
    spread: tuple  # the windows as the noise sees them


class _Windows(NamedTuple):
    """The slopes under the windows at all places of some maps, scaled to unit variance."""

    weights: np.ndarray  # (n, y, x): what of the crystal takes part, 0 to 1
    slopes: list  # for each direction, its weights of 1, y and x in the window: 3 x (n, y, x)


def region_means(values, variance, masks, spacing, sigma, tensor=None):
    r"""Mean over each region and the variance of the mean.

    Valid pixels are taken for the crystal: where they end, windows are cut. Where they reach the
    border of the map, the crystal goes on unless the variance rises towards it, as it does at the
    border of a frame.

    Parameters
    ----------
    values, variance : array of shape (..., y, x)
        NaN pixels are left out.
    masks : bool array of shape (n, y, x) or (n, ..., y, x)
        One for all maps, or one for each.
    spacing : pair of float
        Distances (y, x) of the pixels of the map.
    sigma : float
        Standard deviation of the window; the same unit of length. Zero: pixels are independent.
    tensor : array of shape (2, 2), optional
        T of the correlation, (y, x) order, symmetric, of trace one: what share of the variance
        comes from derivatives along which direction. Default: all directions alike.

    Returns
    -------
    mean, variance : array of shape (n, ...)
        NaN where a region has no valid pixel; the variance also where that of a pixel is NaN.
        On the device if the values are.

    Raises
    ------
    ValueError
        If the tensor is not symmetric with positive trace and no negative eigenvalue.
    """
    xp = get_array_module(values)
    directions = _directions(tensor)
    lead, shape = values.shape[:-2], values.shape[-2:]
    values = values.reshape(-1, *shape)
    variance = xp.broadcast_to(xp.asarray(variance), (*lead, *shape)).reshape(-1, *shape)
    masks = xp.asarray(masks)
    masks = masks.reshape(len(masks), -1, *shape)
    out = xp.empty((2, len(masks), len(values)), dtype=xp.float64)
    size = max(1, _PART // max(1, shape[0] * shape[1]))
    for first in range(0, len(values), size):
        part = slice(first, first + size)
        of_part = masks if masks.shape[1] == 1 else masks[:, part]
        out[:, :, part] = _means(
            values[part], variance[part], of_part, spacing, sigma, directions, xp
        )
    return out[0].reshape(-1, *lead), out[1].reshape(-1, *lead)


def _directions(tensor):
    """Directions of the derivatives (y, x), each times the root of its share of the variance."""
    tensor = np.eye(2) / 2 if tensor is None else np.asarray(tensor, dtype=float)
    if tensor.shape == (2, 2) and np.isfinite(tensor).all() and np.trace(tensor) > 0:
        tensor = tensor / np.trace(tensor)
        values, vectors = np.linalg.eigh(tensor)
        if np.allclose(tensor, tensor.T) and values[0] > -1e-6:
            return [np.sqrt(f) * v for f, v in zip(values, vectors.T, strict=True) if f > 1e-12]
    raise ValueError(
        f"tensor={tensor!r} must be a symmetric (2, 2) matrix without negative eigenvalues, for "
        "example [[0.5, 0], [0, 0.5]]: the shares of the variance along y and x."
    )


def _means(values, variance, masks, spacing, sigma, directions, xp):
    """`region_means` of some maps (n, y, x)."""
    valid = xp.isfinite(values)
    inside = valid & masks
    count = inside.sum(axis=(-2, -1))
    values = xp.where(valid, values, 0).astype(xp.float64)
    mean = xp.where(inside, values, 0).sum(axis=(-2, -1)) / xp.where(count > 0, count, xp.nan)
    # noise that is not known
    lacking = (inside & ~xp.isfinite(variance)).any(axis=(-2, -1)) | (count == 0)
    variance = xp.where(valid & xp.isfinite(variance), variance, 0).astype(xp.float64)
    if sigma == 0:
        total = xp.where(inside, variance, 0).sum(axis=(-2, -1))
    elif bool(lacking.all()):
        total = xp.zeros(count.shape)
    else:
        total = _summed_variance(variance, valid, inside, spacing, sigma, directions, xp)
    noise = total / xp.maximum(count, 1) ** 2
    return xp.stack([mean, xp.where(lacking, xp.nan, noise)])


def _summed_variance(variance, valid, inside, spacing, sigma, directions, xp):
    """Variance of the sum of the pixels inside, (n_regions, n)."""
    parts = [_parts(step, sigma) for step in spacing]
    widths = [p * sigma / step for p, step in zip(parts, spacing, strict=True)]
    reach = [int(np.ceil(_REACH * w)) for w in widths]
    ends = _frame_ends(variance, valid, [sigma / step for step in spacing], xp)
    support = xp.repeat(xp.repeat(valid, parts[0], axis=-2), parts[1], axis=-1)
    support = _beyond(support, ends, widths, reach, xp)
    if bool((support == support[:1]).all()):  # windows once for all maps
        support = support[:1]
    operators = _operators(widths, reach, xp)
    windows = _windows(support, operators, directions, xp)
    error = xp.sqrt(variance)
    totals = []
    for region in inside:
        chosen = _neighbourhood(region, parts, reach)
        placed = xp.zeros((len(region), *(s.stop - s.start for s in chosen)))
        # each pixel in the middle of its parts
        own = [slice(r + p // 2, placed.shape[i + 1] - r, p) for i, (r, p) in _each(reach, parts)]
        rows, columns = (
            slice(s.start // p, (s.stop - 2 * r) // p)
            for s, p, r in zip(chosen, parts, reach, strict=True)
        )
        placed[:, own[0], own[1]] = xp.where(region, error, 0)[:, rows, columns]
        totals.append(_square_of_sum(placed, windows, chosen, operators, xp))
    return xp.stack(totals)


def _each(*pairs):
    return enumerate(zip(*pairs, strict=True))


def _parts(step, sigma):
    """Into how many parts a pixel is cut along an axis: an odd number, so that one is central."""
    return 2 * int(np.ceil((step / (_COARSEST * sigma) - 1) / 2 - 1e-9)) + 1 if step > sigma else 1


def _frame_ends(variance, valid, widths, xp):
    """Whether the frame ends at the borders of the maps: {(axis, side): (n,) bool}."""
    ends = {}
    for axis, width in zip((1, 2), widths, strict=True):
        size = variance.shape[axis]
        depth = min(int(np.ceil(_INSIDE * width)), size // 2)
        for side, line, further in ((0, 0, depth), (1, size - 1, size - 1 - depth)):
            both = xp.take(valid, line, axis) & xp.take(valid, further, axis)
            at, inner = (
                xp.where(both, xp.take(variance, i, axis), 0).sum(axis=-1) for i in (line, further)
            )
            ends[axis, side] = at > _RAISED * inner
    return ends


def _beyond(support, ends, widths, reach, xp):
    """What takes part in the fits: the valid pixels, and what lies beyond a map that was cut."""
    pad = ((0, 0), *((r, r) for r in reach))
    weights = xp.pad(support.astype(xp.float64), pad, mode="edge")
    for (axis, side), there in ends.items():
        size = weights.shape[axis]
        depth = (np.arange(size) - reach[axis - 1] + 0.5) / widths[axis - 1]
        rise = np.sin(np.pi / 2 * np.clip(depth / _TAPER, 0, 1)) ** 2
        rise = xp.asarray(rise[::-1] if side else rise)
        rise = rise.reshape(-1, 1) if axis == 1 else rise
        weights *= xp.where(there[:, None, None], rise, 1.0)
    return weights


def _windows(weights, operators, directions, xp):
    """Slopes along the directions, for unit variance of their sum."""
    left = _moments(weights, operators.window, xp)
    noise = _moments(weights**2, operators.squared, xp)
    slopes = [_slope(left, v, xp) for v in directions]
    total = 0
    for one, y, x in slopes:
        total = total + one**2 * noise[0, 0] + y**2 * noise[2, 0] + x**2 * noise[0, 2]
        total = total + 2 * (one * y * noise[1, 0] + one * x * noise[0, 1] + y * x * noise[1, 1])
    # a single pixel in a window has no slope, only its noise
    alone = total <= _LEAST**2 * noise[0, 0]
    scale = xp.where(alone, 0, 1 / xp.sqrt(xp.where(alone, 1, total)))
    slopes = [[coefficient * scale for coefficient in slope] for slope in slopes]
    own = 1 / xp.sqrt(xp.where(noise[0, 0] > 0, noise[0, 0], xp.inf))
    slopes[0][0] = xp.where(alone, own, slopes[0][0])
    return _Windows(weights, slopes)


def _slope(left, direction, xp):
    """Weights of 1, y and x that measure the slope along a direction under what is left."""
    mass = xp.where(left[0, 0] > 0, left[0, 0], xp.inf)
    y, x = left[1, 0] / mass, left[0, 1] / mass
    yy = left[2, 0] / mass - y**2 + _LEAST
    xx = left[0, 2] / mass - x**2 + _LEAST
    xy = left[1, 1] / mass - y * x
    inverse = 1 / (mass * (yy * xx - xy**2))
    along_y = (xx * direction[0] - xy * direction[1]) * inverse
    along_x = (yy * direction[1] - xy * direction[0]) * inverse
    return -(along_y * y + along_x * x), along_y, along_x


def _square_of_sum(error, windows, chosen, operators, xp):
    """Sum over the noise of the square of the sum over the pixels, (n,)."""
    along_y, along_x = operators.spread
    chosen = (slice(None), *chosen)
    weights = windows.weights[chosen]
    total = 0
    for slope in windows.slopes:
        one, y, x = (error * coefficient[chosen] for coefficient in slope)
        rows = _along(one, along_x[0], -1, xp) + _along(x, along_x[1], -1, xp)
        summed = _along(rows, along_y[0], -2, xp)
        summed += _along(_along(y, along_x[0], -1, xp), along_y[1], -2, xp)
        total = total + ((summed * weights) ** 2).sum(axis=(-2, -1))
    return total


def _neighbourhood(region, parts, reach):
    """Slices of the maps with their surroundings that hold the windows of a region."""
    slices = []
    for axis, (part, far) in _each(parts, reach):
        used = np.flatnonzero(to_host(region.any(axis=(0, 2 - axis))))
        first, last = (int(used[0]), int(used[-1])) if len(used) else (0, 0)
        slices.append(slice(first * part, (last + 1) * part + 2 * far))
    return slices


def _operators(widths, reach, xp):
    """Gaussian windows times powers of the distance."""
    window, squared = (
        tuple(_toeplitz(w, far, exponent, xp) for w, far in zip(widths, reach, strict=True))
        for exponent in (0.5, 1.0)
    )
    # seen from the noise, the centres of the windows lie the other way
    spread = tuple([-m if p % 2 else m for p, m in enumerate(along)] for along in window)
    return _Operators(window, squared, spread)


def _toeplitz(width, far, exponent, xp):
    """Matrices (block + 2 far, block) that correlate with exp(-exponent r^2) r^p, p = 0, 1, 2."""
    offset = np.arange(_BLOCK + 2 * far)[:, None] - far - np.arange(_BLOCK)
    r = offset / width
    gaussian = np.where(np.abs(offset) <= far, np.exp(-exponent * r**2), 0)
    return [xp.asarray(gaussian * r**p) for p in range(3)]


def _moments(array, operators, xp):
    """Moments of the window times the array, up to the second, by their exponents (y, x)."""
    rows = [_along(array, matrix, -1, xp) for matrix in operators[1]]
    return {
        (p, q): _along(rows[q], operators[0][p], -2, xp) for p in range(3) for q in range(3 - p)
    }


def _along(array, matrix, axis, xp):
    """Correlate along the last axis or the one before, a block of it at a time."""
    far = (matrix.shape[0] - _BLOCK) // 2
    pad = [(0, 0)] * array.ndim
    pad[axis] = (far, far)
    padded = xp.pad(array, pad)
    out = xp.empty(array.shape, dtype=array.dtype)
    for first in range(0, array.shape[axis], _BLOCK):
        number = min(_BLOCK, array.shape[axis] - first)
        part = matrix[: number + 2 * far, :number]
        reached, own = slice(first, first + number + 2 * far), slice(first, first + number)
        if axis == -1:
            out[..., own] = padded[..., reached] @ part
        else:
            out[..., own, :] = part.T @ padded[..., reached, :]
    return out
