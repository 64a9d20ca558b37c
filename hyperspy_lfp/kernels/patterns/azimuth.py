"""The azimuth of a diffraction spot, which turns with its crystal.

A profile along k must not follow its spot in k: then the spot would rest in it. What is followed is
the azimuth alone, in each frame by itself, so that results do not depend on how a series is cut
into blocks. Host code: a window holds a few hundred pixels.
"""

import numpy as np

from hyperspy_lfp.kernels._arrays import to_host

#: Pixels of a spot stand so many times the noise above the background around it.
_ABOVE = 4.0
#: The window of a spot is centred on it so many times: it may begin at the window's border.
_CENTRED = 3


def turned_spots(
    frames, centres, spot, width, *, to_k=None, mask=None, exclude=None, exclude_radius=None
):
    """Where a spot is in each frame: its azimuth as it is seen, its k as given.

    The azimuth is that of the centroid of what stands above the median in a window of twice the
    width about it.

    Parameters
    ----------
    frames : array of shape (n, ny, nx)
        Any real dtype; NaN pixels are left out.
    centres : array of shape (n, 2)
        Centre of the pattern in every frame, pixels, (y, x).
    spot : array of shape (2,)
        Relative to the centre, units of k, (y, x) order.
    width : float
        How far the spot may be from there, units of k.
    to_k : array of shape (2, 2), optional
        Matrix from (y, x) pixels to k; default the unit matrix.
    mask : bool array of shape (ny, nx), optional
        True where pixels are not to be used.
    exclude : array of shape (K, 2), optional
        Other spots, relative to the centre, units of k, (y, x) order. They turn with the spot.
    exclude_radius : float, optional
        Pixels nearer than this to one of `exclude` are not used, units of k.

    Returns
    -------
    array of shape (n, 2)
        Units of k, (y, x) order; the given place where nothing stands out, where more than half of
        the window is not seen, or where there is no centre.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.indices((60, 60))
    >>> frame = 100 * np.exp(-((y - 33.0) ** 2 + (x - 47.0) ** 2) / 8)
    >>> turned_spots(frame[None], [[30, 30]], (0, 17), 8).round(2)
    array([[ 2.95, 16.74]])
    """
    spot = np.asarray(spot, dtype=float)
    to_k = np.eye(2) if to_k is None else np.asarray(to_k, dtype=float)
    pairs = zip(to_host(frames), to_host(np.asarray(centres)), strict=True)
    return np.array(
        [_turned(*pair, spot, width, to_k, mask, exclude, exclude_radius) for pair in pairs]
    )


def turned_with(vectors, before, after):
    """Vectors (m, 2) turned as `before` (2,) is to each of `after` (n, 2): (n, m, 2)."""
    vectors, before, after = (
        v[..., 0] + 1j * v[..., 1] for v in (np.asarray(v) for v in (vectors, before, after))
    )
    turned = vectors * (after / before)[:, None]
    return np.stack([turned.real, turned.imag], axis=-1)


def _turned(frame, centre, given, width, to_k, mask, exclude, radius):
    to_pixels = np.linalg.inv(to_k)
    size = np.hypot(*given)
    reach = np.abs(to_pixels).sum(axis=1) * width
    spot = given
    for _ in range(_CENTRED):
        at = centre + to_pixels @ spot
        window = _window(at, reach, frame.shape)
        if window is None:
            return given
        patch = frame[window].astype(float)
        if mask is not None:
            patch[mask[window]] = np.nan
        rows, columns = (np.arange(w.start, w.stop) for w in window)
        if exclude is not None:
            for other in turned_with(exclude, given, spot[None])[0]:
                off = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1) - centre
                patch[np.hypot(*np.moveaxis(off @ to_k.T - other, -1, 0)) < radius] = np.nan
        found = _centroid(patch, rows, columns)
        if found is None:
            return given
        now = to_k @ (found - centre)
        spot = now * size / np.hypot(*now)
    return spot


def _window(at, reach, shape):
    """Slices about a place, or None if nothing of it is in the pattern."""
    if not np.isfinite(at).all():
        return None
    low = np.maximum(np.floor(at - reach), 0).astype(int)
    high = np.minimum(np.ceil(at + reach) + 1, shape).astype(int)
    if np.any(high - low < 3):
        return None
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def _centroid(patch, rows, columns):
    """Centroid of what stands out, or None if nothing does or more than half is not seen."""
    known = np.isfinite(patch)
    if known.sum() < patch.size / 2:
        return None
    level = np.median(patch[known])
    noise = 1.4826 * np.median(np.abs(patch[known] - level))
    excess = np.where(known, patch - level, 0)
    excess[excess < _ABOVE * noise] = 0
    total = excess.sum()
    if not total > 0:
        return None
    return np.array([excess.sum(axis=1) @ rows, excess.sum(axis=0) @ columns]) / total
