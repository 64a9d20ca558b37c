r"""Profiles through diffraction spots: counts in the cells of a band.

A band is a row of equal parallelograms, its bins, laid anywhere over the pixels. Bins that are
rectangles in reciprocal space are parallelograms of pixels when the scales along y and x differ
or the pattern is distorted, so that a linear map from pixels to k is all that is needed for both.

**Areas.** In the coordinates (u, v) in which bin i is i <= u <= i + 1, -1/2 <= v <= 1/2, a pixel
is a parallelogram too. Green's theorem turns the area that it has below u = t within the strip
``|v| <= 1/2`` into a sum over its four edges, each cut to the strip,

.. math:: A(t) = \int_{u \le t} du\,dv = -\sum_{edges} \Delta v \,\langle (t - u)_+ \rangle,

where the mean over an edge, along which u is linear, is a polynomial on either side of t. Bins
are differences of A at neighbouring t, so that they share out a pixel without gap or overlap, and
the moments of the overlap are sums of the same kind with the next two powers of
:math:`(t - u)_+`, and with v. Nothing is sampled; areas hold to rounding.

**Inside a pixel.** Counts spread evenly over a pixel would blur the profile by the pixel's own
shadow, 1.3 % of the peak for a spot of 3 pixels rms width. They are spread as

.. math:: f = I + f_u\,\delta u + f_v\,\delta v
          + \tfrac12 f_{uu} (\delta u^2 - \langle \delta u^2 \rangle)

instead, which keeps the counts of every pixel. The bins then hold what a camera with the bins for
pixels would have counted: to 1e-3 of the peak for spots of at least 2 pixels rms width and
bins of at least one pixel. Curvatures are second differences. Slopes are sums over neighbouring
pixels whose coefficients are fitted to the exact shares of a wave of frequency f, for which the
halves of a pixel ask for the slope 4i tan(pi f / 2).
Beside missing pixels and the frame's border the spread is even.

Everything is a weight of a pixel in a bin, w, so that the counting variance of a bin is the sum of
w^2 times the pixel's variance. Neighbouring bins share pixels: their errors are correlated, which
the variances alone do not say.

Host code: bands hold a few thousand pixels, too few to be worth a device.
"""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels._arrays import to_host

#: Bins of which less than this fraction is seen are NaN: more would be made up than measured.
_LEAST_VALID = 0.5
#: Neighbours on either side from which slopes are taken: with two of them spots of 2 pixels rms
#: width are 1.3e-3 of the peak wrong, with three 5e-4.
_REACH = 3


class Band(NamedTuple):
    """Place of a band in every frame: three arrays of shape (n, 2), pixels, (y, x).

    Bin i covers ``origin + s * along + t * across`` with i <= s <= i + 1 and -1/2 <= t <= 1/2.
    """

    origin: np.ndarray
    along: np.ndarray
    across: np.ndarray


class BandProfile(NamedTuple):
    """What `band_profiles` gives: four float64 arrays of shape (n, n_bins)."""

    counts: np.ndarray
    variance: np.ndarray
    valid: np.ndarray
    background: np.ndarray


def radial_band(centres, directions, start, step, width, to_k=None, offset=0.0):
    """Band whose bins are rectangles in reciprocal space, at a fixed k from the pattern's centre.

    Parameters
    ----------
    centres : array of shape (n, 2) or (2,)
        Centre of the pattern in every frame, or another point that the profile starts from,
        pixels, (y, x).
    directions : array of shape (n, 2) or (2,)
        Direction of the profile in reciprocal space, (y, x) order, of any length.
    start : float
        k of the first bin's near edge, measured from `centres` along `directions`.
    step, width : float
        Size of a bin along and across, units of k.
    to_k : array of shape (2, 2), optional
        Matrix that takes (y, x) pixels to (y, x) units of k; default the unit matrix. Unequal
        scales are a diagonal matrix, an elliptical distortion a full one.
    offset : float
        Distance of the band's middle line from `centres`, units of k, towards y if the
        direction is x.

    Returns
    -------
    Band

    Examples
    --------
    >>> band = radial_band((100, 100), (0, 1), start=2.0, step=0.1, width=1.0, to_k=np.eye(2) / 10)
    >>> band.origin.tolist(), band.along.tolist(), band.across.tolist()
    ([[100.0, 120.0]], [[0.0, 1.0]], [[10.0, 0.0]])
    """
    for name, value in (("step", step), ("width", width)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value}; a positive size in units of k is needed")
    to_pixels = np.linalg.inv(_k_matrix(to_k))
    centres, directions = np.broadcast_arrays(
        _pairs(centres, "centres"), _pairs(directions, "directions")
    )
    length = np.hypot(*directions.T)
    if np.any(length == 0):
        raise ValueError("directions has a vector of length zero; give one that points somewhere")
    unit = directions / length[:, None]
    normal = np.column_stack([unit[:, 1], -unit[:, 0]])
    origin = centres + (start * unit + offset * normal) @ to_pixels.T
    return Band(origin, step * unit @ to_pixels.T, width * normal @ to_pixels.T)


def band_profiles(
    frames,
    band,
    n_bins,
    *,
    mask=None,
    exclude=None,
    exclude_radius=None,
    to_k=None,
    background="none",
    side_width=0.5,
    gain=1.0,
    gain_offset=0.0,
):
    """Counts in the bins of a band, frame by frame, with their counting variance.

    Pixels count by the area that they share with a bin, with the spread inside a pixel of the
    module's docstring: counts are conserved, a uniform image gives its value times the bin's
    area, and a linear ramp is exact. Pixels that are masked, excluded, not finite or outside
    the frame are missing. They are filled with the mean of the bin's other pixels, or, when the
    background is subtracted, with the background: what lies at the rim of a band beside a spot
    is background. Either way a uniform background stays uniform. Bins of which less than half
    is seen are NaN.

    Parameters
    ----------
    frames : array of shape (n, ny, nx)
        Any real dtype.
    band : Band
        One place for every frame, or one for all. Frames whose place is not finite give NaN.
    n_bins : int
    mask : bool array of shape (ny, nx) or (n, ny, nx), optional
        True where pixels are not to be used (beam stop, dead pixels).
    exclude : array of shape (K, 2) or (n, K, 2), optional
        Positions of other spots, pixels, (y, x); those that are NaN are ignored.
    exclude_radius : float, optional
        Pixels whose centre is nearer than this to one of `exclude` are not used; units of k.
    to_k : array of shape (2, 2), optional
        Matrix from (y, x) pixels to k, in which `exclude_radius` is measured; default pixels.
    background : {"none", "sides"}
        "sides" subtracts the mean of the two strips beside the band, bin by bin, which is exact
        for a background that is linear across. Where one strip is not seen the other counts
        alone; where both are not, bins are NaN.
    side_width : float
        Width of each strip in units of the band's width.
    gain, gain_offset : float
        Variance of a pixel is ``gain * counts + gain_offset``, as in HyperSpy's linear model of
        noise. Single pixels may be negative in it, which keeps the sum unbiased. A bin has at
        least the variance that one electron, `gain` counts somewhere in it, would give: bins
        without a count are not infinitely certain.

    Returns
    -------
    BandProfile
        `counts`, `variance` of the counts, the fraction `valid` of the bin that was seen, and
        the `background` in the bin, which was subtracted (0 if none). NumPy.

    Raises
    ------
    TypeError
        If the frames are complex.
    ValueError
        If shapes do not fit, the band has no area, or an option is unknown.

    Examples
    --------
    >>> band = radial_band((10.2, 9.7), (0.3, 1), start=-4, step=1, width=5)
    >>> band_profiles(np.full((1, 21, 21), 3), band, 8).counts.round(9)
    array([[15., 15., 15., 15., 15., 15., 15., 15.]])
    """
    band, mask, exclude = _checked(frames, band, n_bins, mask, exclude, exclude_radius)
    matrix = _k_matrix(to_k)
    if background not in ("none", "sides"):
        raise ValueError(f'background is {background!r}; "none" and "sides" are known')
    if not (gain > 0 and gain_offset >= 0):
        raise ValueError(
            f"gain is {gain} and gain_offset {gain_offset}; positive, and not negative, are needed"
        )
    if background == "sides" and not side_width > 0:
        raise ValueError(f"side_width is {side_width}; a positive multiple of the width is needed")
    strips = [(0.0, 1.0)]
    if background == "sides":
        shift = (1 + side_width) / 2
        strips += [(-shift, side_width), (shift, side_width)]
    noise = (gain, gain_offset)

    kept = [_Kept((), None, None)] * len(strips)
    profiles = np.full((4, len(frames), n_bins), np.nan)
    profiles[2:] = 0.0
    for i in range(len(frames)):
        place = [np.asarray(part[i]) for part in band]
        if not np.isfinite(place).all():
            continue
        sums = []
        for j, (shift, share) in enumerate(strips):
            strip = (place[0] + shift * place[2], place[1], share * place[2])
            window = _bounding_box(strip, n_bins)
            pixels = _window(frames[i], window)
            if mask is not None:
                pixels[_window(mask[i], window) > 0] = np.nan
            if exclude is not None:
                pixels[_in_discs(window, exclude[i], exclude_radius, matrix)] = np.nan
            finite = np.isfinite(pixels)
            if not kept[j].fits(strip, finite):
                kept[j] = _Kept(strip, finite, _weights(finite, window, strip, n_bins))
            sums.append(_bin_sums(pixels, kept[j].weights, n_bins, noise))
        area = abs(_cross(place[1], place[2]))
        profiles[:, i] = _with_background(sums, area, side_width)
    return BandProfile(*profiles)


class _Kept(NamedTuple):
    """Weights of the frame before, which serve again where neither band nor pixels changed."""

    strip: tuple
    finite: np.ndarray
    weights: tuple

    def fits(self, strip, finite):
        return np.array_equal(self.strip, strip) and np.array_equal(self.finite, finite)


def _with_background(sums, area, side_width):
    """Counts, variance, seen fraction and background of a band from its sums and its sides'."""
    counts, variance, seen = sums[0]
    valid = np.clip(seen / area, 0.0, 1.0)
    enough = valid >= _LEAST_VALID
    if len(sums) == 1:
        fill = np.divide(1.0, valid, out=np.full_like(valid, np.nan), where=enough)
        return counts * fill, variance * fill**2, valid, np.zeros_like(counts)
    density, uncertainty = _side_density(sums[1:], area * side_width)
    nothing = np.where(enough, 0.0, np.nan)
    net = counts - density * seen + nothing
    return net, variance + uncertainty * seen**2 + nothing, valid, density * area


def _side_density(sides, area):
    """Background counts per pixel beside every bin and their variance: the mean of both sides."""
    density, variance, known = np.zeros((3, len(sides[0][0])))
    for counts, spread, seen in sides:
        use = seen >= _LEAST_VALID * area
        inverse = np.divide(1.0, seen, out=np.zeros_like(seen), where=use)
        density += counts * inverse
        variance += spread * inverse**2
        known += use
    known[known == 0] = np.nan
    return density / known, variance / known**2


def _bin_sums(pixels, weights, n_bins, noise):
    """Sums of counts and variances over the bins of one strip, and the area of pixels seen."""
    weights, pixel, bins, seen = weights
    values = pixels.ravel()[pixel]
    gain, offset = noise

    counts = _totals(bins, weights * values, n_bins)
    weights = weights**2
    squares = _totals(bins, weights, n_bins)
    # one electron spread evenly over what is seen of the bin
    floor = np.divide(squares, seen, out=np.zeros(n_bins), where=seen > 0) * gain**2
    variance = np.maximum(gain * _totals(bins, weights * values, n_bins), floor) + squares * offset
    return counts, variance, seen


def _weights(valid, window, strip, n_bins):
    """Weights of the pixels of a window in the bins, those that are not zero.

    Returns
    -------
    weights, pixel, bins : arrays of shape (number of weights,)
        `pixel` counts along the window, row by row.
    seen : array of shape (n_bins,)
        Area of the valid pixels in each bin.
    """
    inverse = np.linalg.inv(np.column_stack(strip[1:]))
    offset = np.array(window[:2]) - strip[0]
    y, x = (np.arange(size) + start for size, start in zip(valid.shape, offset, strict=True))
    u, v = (row[0] * y[:, None] + row[1] * x for row in inverse)
    reach_u, reach_v = np.abs(inverse).sum(axis=1) / 2
    touches = (u > -reach_u) & (u < n_bins + reach_u) & (np.abs(v) < 0.5 + reach_v) & valid
    # near sharp corners of slanted bins the test above takes in what only their sides, made
    # longer, would touch: no such pixel is far enough within the window for its neighbours
    inner = slice(_REACH, -_REACH)
    index = np.flatnonzero(np.pad(touches[inner, inner], _REACH))
    u, v = u.ravel(), v.ravel()[index]
    lowest = np.floor(u - reach_u).astype(int)
    first = lowest[index]
    n_near = int(np.ceil(2 * reach_u)) + 1
    limits = (first - u[index]) + np.arange(1, n_near + 1)[:, None]
    moments = _overlap(limits, v, inverse) * abs(_cross(*strip[1:]))
    near = first + np.arange(n_near)[:, None]
    beyond = (near < 0) | (near >= n_bins)
    moments[:, beyond] = 0.0
    near[beyond] = 0
    seen = _totals(near, moments[0], n_bins)

    # slots of a pixel: the bins that it touches or feels through its neighbours' slopes
    offsets, taps = _stencil(*strip[1:])
    reach = int(np.ceil(np.abs(offsets @ inverse[0]).max())) + 1
    lowest -= reach
    n_slots = n_near + 2 * reach
    table = _slope_weights(valid, index, lowest, first, n_slots, moments, offsets, taps, inverse)
    own = index * n_slots + first - lowest[index]
    table[own + np.arange(n_near)[:, None]] += moments[0]
    used = np.flatnonzero(table)
    pixel = used // n_slots
    return table[used], pixel, lowest[pixel] + used - pixel * n_slots, seen


def _totals(index, terms, number):
    """Sums of the terms with the same index, float64 (bincount of nothing is integer)."""
    total = np.bincount(index.ravel(), terms.ravel(), minlength=number)
    return total.astype(float, copy=False)


def _slope_weights(valid, index, lowest, first, n_slots, moments, offsets, taps, inverse):
    """What the spread inside the pixels `index` adds to the weights of their neighbours.

    Returns an array of shape (number of pixels * n_slots,).
    """
    # the window is wider than the band by the reach of the stencil: no step leaves it
    steps = (offsets[:, 0] * valid.shape[1] + offsets[:, 1])[:, None]
    complete = valid.ravel()[index + steps].all(axis=0)
    index, first, moments = index[complete], first[complete], moments[..., complete]
    spread = (inverse[0] ** 2).sum() / 12
    shapes = np.stack([moments[1], moments[2], (moments[3] - spread * moments[0]) / 2])
    added = taps.T @ shapes.reshape(3, -1)
    to = index + steps
    place = (to * n_slots + first - lowest[to])[:, None] + np.arange(moments.shape[1])[:, None]
    return _totals(place, added, valid.size * n_slots)


def _overlap(limits, v, inverse):
    """Area and moments of pixels between limits of u, about their centres, in units of bins.

    Parameters
    ----------
    limits : array of shape (K, P)
        Upper limits of u relative to the pixel's centre, one apart. Below the first one's
        lower limit there is nothing of the pixel, and beyond the last one neither.
    v : array of shape (P,)
        v of the pixels' centres; the strip is ``|v| <= 1/2``.
    inverse : array of shape (2, 2)
        From (y, x) to (u, v).

    Returns
    -------
    array of shape (4, K, P)
        The integrals of 1, u, v and u^2.
    """
    corners = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5]]) @ inverse.T
    # the order of the corners takes the sign of the module's equation
    if np.linalg.det(inverse) < 0:
        corners = corners[::-1]
    ends = np.stack([corners, np.roll(corners, -1, axis=0)])[..., None]  # end, edge, (u, v), 1
    moments = np.empty((4, *limits.shape))
    cut = np.abs(v) + np.abs(inverse[1]).sum() / 2 > 0.5
    moments[..., cut] = _below(limits[:, cut], *_clipped(ends, v[cut]))
    whole = ~cut
    moments[:, :-1, whole] = _below(limits[:-1, whole], ends[:, :, 0], ends[:, :, 1])
    area = abs(np.linalg.det(inverse))
    spread = area * (inverse[0] ** 2).sum() / 12
    moments[:, -1, whole] = np.array([area, 0.0, 0.0, spread])[:, None]
    moments[:, 1:] -= moments[:, :-1].copy()
    return moments


def _clipped(ends, v):
    """u and v of both ends of the edges' parts within the strip, (end, edge, pixel)."""
    run = ends[1] - ends[0]
    rise = np.where(run[:, 1] == 0, 1.0, run[:, 1])
    part = (np.clip(v + ends[:, :, 1], -0.5, 0.5) - v - ends[0, :, 1]) / rise
    part = np.clip(part, 0.0, 1.0)
    return ends[0, :, 0] + part * run[:, 0], ends[0, :, 1] + part * run[:, 1]


def _below(limits, u, v):
    """Integrals of 1, u, v and u^2 over the polygons with edges (u, v), below limits of u."""
    u, v = u[:, :, None], v[:, :, None]
    height = v[1] - v[0]
    means = _edge_means(limits, u, v)
    area, once, across, twice = ((height * mean).sum(axis=0) for mean in means)
    first = limits * area - once
    return np.stack([area, first, across, limits * (first - once) + 2 * twice])


def _edge_means(limits, u, v):
    """Means of r, r^2/2, r v and r^3/6 with r = (limit - u)_+ over edges from end 0 to end 1."""
    a, b = limits - u[0], limits - u[1]
    length = np.abs(u[1] - u[0])
    lower = np.minimum(a, b)
    a, b = np.maximum(a, 0), np.maximum(b, 0)
    both = a + b
    # part of the edge where r > 0: the rest, if any, lies at the end where r is zero
    share = np.where(lower >= 0, 1.0, both / np.where(length > 0, length, 1.0))
    rest = (1 - share) * (v[1] - v[0])
    v_a = v[0] + np.where(a > 0, 0.0, rest)
    v_b = v[1] - np.where(b > 0, 0.0, rest)
    product = a * b
    squares = both * both - product
    with_v = both * (v_a + v_b) + a * v_a + b * v_b
    cubes = both * (squares - product)
    return share * both / 2, share * squares / 6, share * with_v / 6, share * cubes / 24


def _slope_taps():
    """Coefficients of a pixel's slope at distances 1, 2, ...

    Least squares over the frequencies of a spot of one pixel rms width, the sharpest that
    pixels still resolve, under the condition that ramps are exact.
    """
    frequency = np.linspace(0, 0.5, 400)[1:-1]
    weight = np.exp(-2 * (np.pi * frequency) ** 2)
    distance = np.arange(1, _REACH + 1)
    waves = 2 * np.sin(2 * np.pi * np.outer(frequency, distance))
    # a ramp: 2 * distance @ taps = 1, which gives the first of the taps from the others
    others = waves[:, 1:] - waves[:, :1] * distance[1:]
    target = 4 * np.tan(np.pi * frequency / 2) - waves[:, 0] / 2
    taps = np.linalg.lstsq(others * weight[:, None], target * weight, rcond=None)[0]
    return np.concatenate([[0.5 - distance[1:] @ taps], taps])


_SLOPE = _slope_taps()


def _stencil(along, across):
    """Offsets (y, x) of neighbours and the coefficients of d/du, d/dv and d2/du2 on them."""
    slope = np.concatenate([-_SLOPE[::-1], [0.0], _SLOPE])
    curve = np.zeros_like(slope)
    curve[_REACH - 1 : _REACH + 2] = 1, -2, 1
    taps = np.zeros((3, slope.size, slope.size))
    for part, vector in zip(taps, (along, across), strict=False):
        part[:, _REACH] = vector[0] * slope
        part[_REACH] += vector[1] * slope
    taps[2, :, _REACH] = along[0] ** 2 * curve
    taps[2, _REACH] += along[1] ** 2 * curve
    near = slice(_REACH - 1, _REACH + 2)
    taps[2, near, near] += along[0] * along[1] / 2 * np.outer([-1, 0, 1], [-1, 0, 1])
    used = np.nonzero(taps.any(axis=0))
    return np.column_stack(used) - _REACH, taps[:, used[0], used[1]]


def _bounding_box(strip, n_bins):
    """First row and column of the pixels that matter to a strip, and their numbers."""
    origin, along, across = strip
    corners = [origin + s * along + t * across for s in (0, n_bins) for t in (-0.5, 0.5)]
    # the pixels that a strip touches, their slopes, and those pixels' own steps in turn
    low = np.floor(np.min(corners, axis=0)).astype(int) - 1 - _REACH
    high = np.ceil(np.max(corners, axis=0)).astype(int) + 2 + _REACH
    return (*low, *(high - low))


def _window(frame, window):
    """A window of one frame as float64 on the host, NaN where it is outside the frame."""
    y, x, ny, nx = window
    pixels = np.full((ny, nx), np.nan)
    inside = [slice(max(a, 0), max(min(a + n, size), 0)) for a, n, size in
              zip((y, x), (ny, nx), frame.shape, strict=True)]  # fmt: skip
    part = to_host(frame[tuple(inside)])
    if part.size:
        rows, columns = inside
        pixels[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x] = part
    return pixels


def _in_discs(window, positions, radius, matrix):
    """Pixels of a window whose centre is in one of the discs."""
    y, x, ny, nx = window
    inside = np.zeros((ny, nx), dtype=bool)
    rows, columns = np.arange(y, y + ny)[:, None], np.arange(x, x + nx)
    for position in positions[np.isfinite(positions).all(axis=1)]:
        k = [row[0] * (rows - position[0]) + row[1] * (columns - position[1]) for row in matrix]
        inside |= np.hypot(*k) < radius
    return inside


def _checked(frames, band, n_bins, mask, exclude, exclude_radius):
    """Band, mask and excluded positions as arrays with one entry a frame."""
    if frames.ndim != 3:
        raise ValueError(f"frames has {frames.ndim} dimensions; (n, ny, nx) is needed")
    if frames.dtype.kind not in "buif":
        raise TypeError(f"frames has dtype {frames.dtype}; real counts are needed")
    if n_bins < 1:
        raise ValueError(f"n_bins is {n_bins}; at least one bin is needed")
    n = len(frames)
    parts = []
    for name, part in zip(Band._fields, band, strict=True):
        part = _pairs(part, f"band.{name}")
        if len(part) not in (1, n):
            raise ValueError(f"band.{name} has {len(part)} rows; one or {n} (frames) are needed")
        parts.append(np.broadcast_to(part, (n, 2)))
    if np.any(_cross(parts[1].T, parts[2].T) == 0):
        raise ValueError("band.along and band.across are parallel or zero; bins need an area")
    if mask is not None:
        if mask.shape not in (frames.shape, frames.shape[1:]):
            raise ValueError(f"mask has shape {mask.shape}; {frames.shape} or one frame is needed")
        mask = np.broadcast_to(to_host(mask), frames.shape)
    if exclude is not None:
        exclude = np.asarray(to_host(exclude), dtype=float)
        if exclude.ndim not in (2, 3) or exclude.shape[-1] != 2:
            raise ValueError(f"exclude has shape {exclude.shape}; (K, 2) or (n, K, 2) is needed")
        if exclude_radius is None or not exclude_radius > 0:
            raise ValueError(
                f"exclude_radius is {exclude_radius}; a positive radius goes with exclude"
            )
        exclude = np.broadcast_to(exclude, (n, *exclude.shape[-2:]))
    return Band(*parts), mask, exclude


def _pairs(vectors, name):
    """(y, x) pairs as a float64 array of shape (n, 2)."""
    vectors = np.atleast_2d(np.asarray(to_host(vectors), dtype=float))
    if vectors.ndim != 2 or vectors.shape[1] != 2:
        raise ValueError(f"{name} has shape {vectors.shape}; (n, 2) pairs (y, x) are needed")
    return vectors


def _k_matrix(to_k):
    """The map from pixels to k as a matrix that can be inverted."""
    matrix = np.eye(2) if to_k is None else np.asarray(to_k, dtype=float)
    if matrix.shape != (2, 2) or not abs(np.linalg.det(matrix)) > 0:
        raise ValueError(f"to_k is {to_k}; a 2 x 2 matrix with an inverse is needed")
    return matrix


def _cross(a, b):
    return a[0] * b[1] - a[1] * b[0]
