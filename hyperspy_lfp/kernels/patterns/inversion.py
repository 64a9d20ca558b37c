"""Centre of inversion of a whole pattern, whatever is in it.

The self-convolution of a pattern has its highest peak at twice the centre; the shift that
superposes the pattern and its inversion refines it. The equations and sources are those of
`centre`. Host only.
"""

import numpy as np
from scipy import fft, ndimage

#: Longest side of the binned frame that the self-convolution is taken of.
_COARSE = 160
#: Quantile of a frame that is taken as dark.
_DARK = 0.02
#: Least overlap of a frame with its inversion, as a part of the largest one.
_OVERLAP = 0.1
#: Smoothing for the comparison with the inversion, pixels.
_SMOOTH = 2.0
#: Side of the tiles that are left out in turn for its standard error: number along a side.
_TILES = 8
#: Significance of the correlation of a pattern with its inversion, in standard deviations; its
#: centre is the best of many, so that three would not do.
_SIGNIFICANT = 6.0


def self_convolution(image, valid):
    """Twice the centre is the peak of the self-convolution, mean products taken off.

    The background stays in: it falls off from the direct beam on all sides, and so tells the
    centre from the other centres of inversion of a lattice.

    Parameters
    ----------
    image : array of shape (ny, nx)
    valid : bool array of shape (ny, nx)

    Returns
    -------
    array of shape (2,)
        (y, x) of the centre, to about a pixel of the coarsely binned image.
    """
    dark = np.quantile(image[valid], _DARK)
    image = np.sqrt(np.maximum(np.where(valid, image - dark, 0), 0))
    factor = max(1, -(-max(image.shape) // _COARSE))
    known = binned(valid.astype(np.float32), factor)
    image = ndimage.gaussian_filter(binned(image, factor), 1.0)
    shape = [fft.next_fast_len(2 * s - 1, real=True) for s in image.shape]
    a, w = (fft.rfft2(v.astype(np.float32), shape) for v in (image, known))
    products, overlap, total = (fft.irfft2(v, shape) for v in (a * a, w * w, a * w))
    # over each overlap the image and its inversion have the same mean
    covariance = products - total**2 / np.maximum(overlap, 1)
    covariance[overlap < _OVERLAP * overlap.max()] = -np.inf
    peak = np.array(np.unravel_index(covariance.argmax(), covariance.shape))
    return 0.5 * peak * factor + 0.5 * (factor - 1)


def binned(image, factor):
    """Means over blocks of pixels; what is left at the ends is cut off."""
    ny, nx = (s // factor * factor for s in image.shape)
    blocks = image[:ny, :nx].reshape(ny // factor, factor, nx // factor, factor)
    return blocks.mean(axis=(1, 3))


def superpose(contrast, valid, start):
    """Twice the centre is the shift that superposes the pattern and its inversion.

    Parameters
    ----------
    contrast : array of shape (ny, nx)
        Pattern above its background, in units of its noise and compressed.
    valid : bool array of shape (ny, nx)
    start : array of shape (2,)
        (y, x), within a few pixels.

    Returns
    -------
    centre, error : arrays of shape (2,), or None
        None where pattern and inversion agree no better than noise does.
    """
    smooth = ndimage.gaussian_filter(contrast, _SMOOTH)
    known = valid
    if not valid.all():
        known = ndimage.binary_erosion(valid, iterations=int(2 * _SMOOTH), border_value=1)
    slope = np.gradient(smooth)
    twice = 2 * np.asarray(start, dtype=float)
    for _ in range(12):
        whole = np.rint(twice).astype(int)
        cut = tuple(
            slice(max(0, w - s + 1), min(s - 1, w) + 1)
            for w, s in zip(whole, contrast.shape, strict=True)
        )
        if min(c.stop - c.start for c in cut) < 4 * _TILES:
            return None
        step, error = _shift_of_inversion(smooth[cut], known[cut], [s[cut] for s in slope])
        if step is None:
            return None
        twice = whole + np.clip(step, -3, 3)
        if (abs(step) <= 0.51).all():
            inside = (twice / 2 >= 0) & (twice / 2 <= np.array(contrast.shape) - 1)
            if not inside.all() or not _agrees(smooth[cut], known[cut]):
                return None
            return twice / 2, error / 2
    return None


def _agrees(image, known):
    """Whether the correlation with the inversion is more than that of noise."""
    half = image.shape[0] // 2
    both = (known & known[::-1, ::-1])[:half]
    a, b = image[:half][both], image[::-1, ::-1][:half][both]
    if len(a) < 3 or a.std() == 0 or b.std() == 0:
        return False
    # noise smoothed by a Gaussian is worth one value in 2 pi sigma^2 pixels
    return np.corrcoef(a, b)[0, 1] * np.sqrt(len(a) / (2 * np.pi * _SMOOTH**2)) > _SIGNIFICANT


def _shift_of_inversion(image, known, slope):
    """Least squares over the upper half (the lower one says the same), error by jackknife."""
    half = image.shape[0] // 2
    both = (known & known[::-1, ::-1])[:half]
    rest = (image - image[::-1, ::-1])[:half][both]
    # the slope of the pattern and that of its inversion have independent noise
    gy, gx = (0.5 * (s[::-1, ::-1] - s)[:half][both] for s in slope)
    rows, columns = (
        np.minimum(np.arange(s) * n // s, n - 1)
        for s, n in ((half, _TILES // 2), (image.shape[1], _TILES))
    )
    tile = (rows[:, None] * _TILES + columns)[both]
    products = [gy * gy, gy * gx, gx * gx, gy * rest, gx * rest]
    yy, yx, xx, yr, xr = (
        np.bincount(tile, p, minlength=_TILES**2 // 2).astype(float) for p in products
    )
    used = (yy + xx) > 0
    if np.count_nonzero(used) < 4:
        return None, None
    normal = np.stack([yy, yx, yx, xx], axis=1)[used].reshape(-1, 2, 2)
    right = np.stack([yr, xr], axis=1)[used]
    total = normal.sum(axis=0)
    if np.linalg.det(total) <= 1e-6 * np.trace(total) ** 2:
        return None, None
    step = np.linalg.solve(total, right.sum(axis=0))
    n = len(normal)
    left_out = np.linalg.solve(total - normal, (right.sum(axis=0) - right)[..., None])[..., 0]
    error = np.sqrt((n - 1) / n * np.square(left_out - left_out.mean(axis=0)).sum(axis=0))
    return step, error
