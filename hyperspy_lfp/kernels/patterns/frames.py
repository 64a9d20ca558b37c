"""Diffraction patterns made fit to be measured: bad pixels, x-ray spikes, background and noise.

A hot or dead pixel and an x-ray spike are told from a diffraction spot by their sharpness: of the
eight neighbours of a pixel, at most one takes part in a spike of one or two pixels, whereas at
least two share a spot of standard deviation s, with exp(-1 / 2 s^2) of its height or more. A bad
pixel lasts, a spike is gone in the next frame. Everything here runs on the host.
"""

import numpy as np
from scipy import ndimage

from hyperspy_lfp.kernels._arrays import to_host

#: A second neighbour with less than this part of a pixel's excess leaves it alone: spots down to
#: a standard deviation of 0.65 pixel (exp(-1 / 2 s^2) = 0.31) are kept, with room for noise.
_SHARP = 0.2
#: Significance of a bad pixel or spike in standard deviations of the local noise: less than one
#: false alarm in a thousand frames of 4096^2, were the noise normal.
_SIGNIFICANCE = 7.0
#: Most frames that the search for bad pixels looks at: their median has a fifth of the noise.
_SAMPLE = 32
#: Part of the frames in which a bad pixel is bad.
_LASTING = 0.7
#: Side of the blocks that background and noise are estimated in, pixels.
BLOCK = 16


def check_frames(frames, mask=None):
    """Frames as a NumPy stack of real numbers, and the pixels that count.

    Parameters
    ----------
    frames : array of shape (n, ny, nx) or (ny, nx)
        Any real dtype.
    mask : bool array of shape (ny, nx) or (n, ny, nx), optional
        True where a pixel is to be ignored.

    Returns
    -------
    frames : array of shape (n, ny, nx)
    valid : bool array of shape (n, ny, nx)
        False where masked or not finite.

    Raises
    ------
    TypeError
        Frames that are complex or not numbers, such as RGB.
    ValueError
        Wrong number of dimensions, or a mask of another shape.
    """
    frames = np.asarray(to_host(frames))
    if frames.dtype.kind not in "buif":
        raise TypeError(
            f"frames of dtype {frames.dtype}: real numbers are needed; take the amplitude of "
            "complex data, or one channel of a colour image"
        )
    if frames.ndim not in (2, 3):
        raise ValueError(f"frames of shape {frames.shape}: (n, ny, nx) or (ny, nx) is needed")
    frames = frames[None] if frames.ndim == 2 else frames
    valid = np.isfinite(frames)
    if mask is not None:
        mask = np.asarray(to_host(mask), dtype=bool)
        if mask.shape not in (frames.shape, frames.shape[1:]):
            raise ValueError(f"mask of shape {mask.shape} for frames of shape {frames.shape}")
        valid &= ~mask
    return frames, valid


def background_and_noise(frame, valid, quantum=0.0, block=BLOCK):
    """Background and noise of a pattern, as medians and lower quantiles of blocks.

    The noise is the distance from the median to the 16 % quantile, since spots are all on the
    other side.

    Parameters
    ----------
    frame : array of shape (ny, nx)
    valid : bool array of shape (ny, nx)
    quantum : float
        Step between two values; noise is at least that of rounding to it.
    block : int

    Returns
    -------
    background, noise : float32 arrays of shape (ny, nx)
        NaN without valid pixels.
    levels : float array of shape (m, 2)
        Median and noise of the blocks that have enough pixels.
    """
    shape = frame.shape
    # a quarter of the pixels in each block is enough for a median
    thin = np.where(valid, frame, np.nan)[::2, ::2].astype(np.float32)
    side = max(1, block // 2)
    counts = [-(-s // side) for s in thin.shape]
    padding = [(0, c * side - s) for c, s in zip(counts, thin.shape, strict=True)]
    thin = np.pad(thin, padding, constant_values=np.nan)
    blocks = thin.reshape(counts[0], side, counts[1], side).swapaxes(1, 2)
    blocks = np.sort(blocks.reshape(*counts, -1), axis=-1)  # NaN comes last
    number = np.isfinite(blocks).sum(-1)

    def quantile(q):
        index = np.clip((q * (number - 1)).round().astype(int), 0, None)
        return np.take_along_axis(blocks, index[..., None], -1)[..., 0]

    median = quantile(0.5)
    noise = median - quantile(0.16)
    known = number >= min(8, side**2 // 2)
    if not known.any():
        nothing = np.full(shape, np.nan, dtype=np.float32)
        return nothing, nothing, np.empty((0, 2))
    scale = np.ptp(blocks[np.isfinite(blocks)])
    # rounding to steps of q adds q^2 / 12, and identical values must not divide by zero
    noise = np.maximum(noise, max(quantum / np.sqrt(12), 1e-6 * scale, np.finfo(np.float32).tiny))
    levels = np.stack([median[known], noise[known]], axis=1).astype(float)
    if not known.all():
        nearest = ndimage.distance_transform_edt(
            ~known, return_distances=False, return_indices=True
        )
        median, noise = median[tuple(nearest)], noise[tuple(nearest)]
    return _enlarge(median, shape, block), _enlarge(noise, shape, block), levels


def bad_pixels(frames, mask=None):
    """Find hot and dead pixels, one or two side by side, that last over frames.

    Looked for in the median of the frames, where spikes are gone. Dead rows, columns and larger
    patches are the caller's to mask.

    Parameters
    ----------
    frames : array of shape (n, ny, nx) or (ny, nx)
        With one frame, its spikes are reported as well.
    mask : bool array, optional
        Pixels to ignore.

    Returns
    -------
    hot, dead : bool arrays of shape (ny, nx)

    Examples
    --------
    >>> import numpy as np
    >>> frames = np.random.default_rng(0).poisson(100, (5, 64, 64))
    >>> frames[:, 10, 20] = 900
    >>> hot, dead = bad_pixels(frames)
    >>> np.argwhere(hot), dead.any()
    (array([[10, 20]]), np.False_)
    """
    frames, valid = check_frames(frames, mask)
    chosen = np.unique(np.linspace(0, len(frames) - 1, _SAMPLE).round().astype(int))
    sample, kept = frames[chosen], valid[chosen]
    quantum = _quantum(frames) / np.sqrt(len(chosen))
    if kept.all():
        median = np.median(sample, axis=0).astype(np.float32)
    else:
        ordered = np.sort(np.where(kept, sample, np.nan), axis=0)
        number = kept.sum(axis=0)
        middle = np.stack([np.maximum(number - 1, 0) // 2, number // 2])
        middle = np.minimum(middle, len(sample) - 1)
        median = np.take_along_axis(ordered, middle, axis=0).mean(axis=0).astype(np.float32)
    known = np.isfinite(median)
    background, noise, _ = background_and_noise(median, known, quantum)
    hot = _sharp(median, known, background, noise, quantum)
    # Poisson's tail below the mean is shorter than the normal one
    dead = _sharp(-median, known, -background, noise, 0.0)
    for found, sign in ((hot, 1), (dead, -1)):
        found[found] = _last(sample, kept, median, np.nonzero(found), sign)
    return hot, dead


def clean(frames, bad=None, mask=None, fill="nan"):
    """Take bad pixels and x-ray spikes out of frames.

    A spike is sharper than a spot (see the module), and above the same pixel of the frames
    before and after.

    Parameters
    ----------
    frames : array of shape (n, ny, nx)
    bad : bool array of shape (ny, nx), optional
        Bad pixels; default: those that `bad_pixels` finds in these frames.
    mask : bool array, optional
        Pixels to ignore; they are left as they are.
    fill : {"nan", "median"}
        What bad pixels and spikes become; the median is that of the valid neighbours (NaN if
        there is none).

    Returns
    -------
    cleaned : float32 array of shape (n, ny, nx)
    replaced : bool array of shape (n, ny, nx)
    """
    if fill not in ("nan", "median"):
        raise ValueError(f"fill={fill!r}: 'nan' or 'median' is needed")
    frames, valid = check_frames(frames, mask)
    if bad is None:
        hot, dead = bad_pixels(frames, mask)
        bad = hot | dead
    bad = np.asarray(to_host(bad), dtype=bool)
    if bad.shape != frames.shape[1:]:
        raise ValueError(f"bad of shape {bad.shape} for frames of shape {frames.shape}")
    quantum = _quantum(frames)
    cleaned = frames.astype(np.float32)
    replaced = np.broadcast_to(bad, frames.shape) & valid
    usable = valid & ~bad
    for t, (frame, known) in enumerate(zip(frames, usable, strict=True)):
        frame = frame.astype(np.float32)
        background, noise, _ = background_and_noise(frame, known, quantum)
        spikes = _sharp(frame, known, background, noise, quantum)
        for other in (t - 1, t + 1):
            if spikes.any() and 0 <= other < len(frames):
                at = np.nonzero(spikes)
                # the average of neighbouring values says how far noise reaches here
                before = frames[other][at].astype(np.float32)
                limit = _SIGNIFICANCE * noise[at]
                lasting = usable[other][at] & (frame[at] - before < limit + 0.5 * abs(before))
                spikes[at] &= ~lasting
        replaced[t] |= spikes
    if fill == "nan":
        cleaned[replaced] = np.nan
    else:
        for frame, holes, known in zip(cleaned, replaced, valid, strict=True):
            frame[holes] = _medians_around(frame, holes, known & ~holes)
    return cleaned, replaced


def _quantum(frames):
    return 0.0 if frames.dtype.kind == "f" else 1.0


def _sharp(frame, valid, background, noise, quantum):
    """Pixels far above all but one of their neighbours."""
    low = np.float32(-np.inf)
    padded = np.pad(np.where(valid, frame, low), 1, constant_values=low)
    first = np.full(frame.shape, low)
    second = first.copy()
    ny, nx = frame.shape
    for dy in range(3):
        for dx in range(3):
            if dy == dx == 1:
                continue
            value = padded[dy : dy + ny, dx : dx + nx]
            second = np.maximum(second, np.minimum(first, value))
            first = np.maximum(first, value)
    second = np.maximum(second, background)
    # Bernstein's bound: k^2 / 3 more than k standard deviations, for counts that are few
    limit = _SIGNIFICANCE * noise + _SIGNIFICANCE**2 / 3 * quantum
    sharp = valid & (frame - second > limit)
    return sharp & (second - background < _SHARP * (frame - background))


def _last(sample, kept, median, at, sign):
    """Whether pixels stand out from their neighbours in most frames, as in the median.

    The median of a moving spot has odd remains that are sharp, but its frames are not.
    """
    rows, columns = at
    dy, dx = (np.delete(d.ravel(), 4) for d in np.mgrid[-1:2, -1:2])
    y, x = rows[:, None] + dy, columns[:, None] + dx
    inside = (y >= 0) & (y < median.shape[0]) & (x >= 0) & (x < median.shape[1])
    y, x = np.clip(y, 0, median.shape[0] - 1), np.clip(x, 0, median.shape[1] - 1)

    def height(frame, known):
        around = np.where(known[y, x] & inside, sign * frame[y, x].astype(float), -np.inf)
        return sign * frame[at].astype(float) - np.sort(around, axis=1)[:, -2]

    whole = height(median, np.isfinite(median))
    seen = [k[at] for k in kept]
    high = [k & (height(f, v) > 0.5 * whole) for f, v, k in zip(sample, kept, seen, strict=True)]
    return np.sum(high, axis=0) >= _LASTING * np.sum(seen, axis=0)


def _medians_around(frame, holes, known):
    rows, columns = np.nonzero(holes)
    dy, dx = (d.ravel() for d in np.mgrid[-2:3, -2:3])
    y = np.clip(rows[:, None] + dy, 0, frame.shape[0] - 1)
    x = np.clip(columns[:, None] + dx, 0, frame.shape[1] - 1)
    values = np.where(known[y, x], frame[y, x], np.nan)
    result = np.full(len(rows), np.nan, dtype=np.float32)
    some = np.isfinite(values).any(axis=1)
    result[some] = np.nanmedian(values[some], axis=1)
    return result


def _enlarge(blocks, shape, block):
    """Values of blocks, interpolated linearly to pixels between the blocks' middles."""
    rows, columns = (
        _interpolation(n, size, block) for n, size in zip(blocks.shape, shape, strict=True)
    )
    return rows @ blocks.astype(np.float32) @ columns.T


def _interpolation(number, size, block):
    at = np.clip((np.arange(size) + 0.5) / block - 0.5, 0, number - 1)
    return np.maximum(1 - abs(at[:, None] - np.arange(number)), 0).astype(np.float32)
