"""Diffraction spots of patterns: found, measured to a fraction of a pixel, listed by intensity.

Candidates are local maxima of the smoothed pattern above the local background and noise; each is
then fitted by a Gaussian on a plane, all spots of a frame together (`spot_fit`). Everything here
runs on the host.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from hyperspy_lfp.kernels.patterns.frames import background_and_noise, check_frames
from hyperspy_lfp.kernels.patterns.spot_fit import fit_gaussians

#: Bits of `Spots.flags`.
SATURATED, AT_BORDER, NEAR_MASK, UNSETTLED = 1, 2, 4, 8

#: Default of how many standard errors the intensity of a spot stands above zero.
THRESHOLD = 6.0
#: Standard deviation of the first smoothing, pixels, and the range that spots are looked for in.
_SMOOTHING = 1.2
_WIDTHS = (0.6, 5.0)
#: Part of the threshold that a candidate must reach: the smoothing fits no spot exactly.
_LENIENT = 0.75
#: The typical width is that of so many of the strongest candidates.
_TYPICAL = 12
#: The mean of a pixel's four neighbours is above this part of its own height in a spot (0.36 for a
#: standard deviation of 0.7) and below it in a bad pixel or one with one bright neighbour (0.25).
_SHARPNESS = 0.27
#: Narrowest fitted spot, in pixels; what is narrower is a pixel.
_NARROWEST = 0.5
#: Most candidates that are fitted; patterns have tens to a few hundred spots.
_MOST = 300
#: Flat top: so many pixels at the largest value of a frame are saturated.
_FLAT = 4
#: Part of the Gaussian that must lie on valid pixels for a spot to be measured at all.
_COVERAGE = 0.3


class Spots(NamedTuple):
    """Spots of one frame, strongest first; all arrays have one row a spot."""

    position: np.ndarray  # (m, 2), (y, x), pixels
    error: np.ndarray  # (m, 2) standard errors of the position
    intensity: np.ndarray  # (m,) sum above the background, counts
    variance: np.ndarray  # (m,) of the intensity
    width: np.ndarray  # (m,) standard deviation in pixels, geometric mean of the two axes
    flags: np.ndarray  # (m,) SATURATED | AT_BORDER | NEAR_MASK | UNSETTLED


def find_spots(
    frames,
    centre=None,
    *,
    n=None,
    min_distance=None,
    mask=None,
    threshold=THRESHOLD,
    saturation=None,
):
    """Find and measure the spots of diffraction patterns.

    Parameters
    ----------
    frames : array of shape (n, ny, nx) or (ny, nx)
        Any real dtype; NaN pixels are ignored.
    centre : array of shape (2,) or (n, 2), optional
        (y, x) of the direct beam, which is then left out of the list.
    n : int, optional
        Number of spots wanted, the strongest of each frame; default all.
    min_distance : float, optional
        Smallest distance of two spots in pixels; default 2.5 times their standard deviation,
        where two equal Gaussians show two maxima.
    mask : bool array of shape (ny, nx) or (n, ny, nx), optional
        True for pixels to ignore (beam stop, bad pixels).
    threshold : float
        Smallest ratio of an intensity to its standard error.
    saturation : float, optional
        Pixels at or above this value are saturated: they are left out of the fit and the spot is
        flagged. Default: the largest value of an integer dtype, or the largest value of a frame
        where a flat top of four or more pixels has it.

    Returns
    -------
    Spots, or a list of one for each frame of a stack
        Empty for a frame without spots or valid pixels. A spot whose fit did not settle is
        flagged; one with more than 70 % of its light on invalid pixels is not listed.

    Notes
    -----
    Standard errors come from the weighted fit and are scaled by its residuals, so that they hold
    for any gain of the camera, and grow where a spot is no Gaussian.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[:64, :64]
    >>> light = 20 + 800 * np.exp(-((y - 20.3) ** 2 + (x - 40.6) ** 2) / (2 * 1.5**2))
    >>> spots = find_spots(np.random.default_rng(0).poisson(light))
    >>> spots.position.round(1)
    array([[20.3, 40.6]])
    """
    single = np.ndim(frames) == 2
    frames, valid = check_frames(frames, mask)
    if n is not None and n < 1:
        raise ValueError(f"n={n}: at least one spot must be wanted")
    if min_distance is not None and not min_distance > 0:
        raise ValueError(f"min_distance={min_distance}: a positive distance in pixels is needed")
    centres = [None] * len(frames)
    if centre is not None:
        centres = np.broadcast_to(np.asarray(centre, dtype=float), (len(frames), 2))
    is_integer = frames.dtype.kind in "iu"
    if saturation is None and is_integer:
        saturation = float(np.iinfo(frames.dtype).max)
    result = [
        _spots_of_frame(f, v, c, n, min_distance, threshold, saturation, float(is_integer))
        for f, v, c in zip(frames, valid, centres, strict=True)
    ]
    return result[0] if single else result


def _spots_of_frame(frame, valid, centre, n, min_distance, threshold, saturation, quantum):
    frame = frame.astype(np.float32)
    saturated = saturated_pixels(frame, valid, saturation)
    background, noise, levels = background_and_noise(frame, valid & ~saturated, quantum)
    if not len(levels):
        return _none()
    excess = np.where(valid, frame - background, 0)
    width, candidates = spot_candidates(excess, valid, noise, min_distance, threshold)
    if n is not None:
        # some candidates will not be accepted, and the order by height is not that by intensity
        candidates = candidates[: 2 * n + 10]
    gain = estimate_gain(levels, quantum)
    fit = fit_gaussians(frame, valid & ~saturated, candidates, width, noise, gain)
    distance = 0.8 * (2.5 * width if min_distance is None else min_distance)
    keep = _accepted(fit, candidates, width, distance, threshold, frame.shape)
    if centre is not None:
        keep &= np.hypot(*(fit.position - centre).T) > max(4 * width, 2 * distance)
    order = np.flatnonzero(keep)
    order = order[np.argsort(-fit.intensity[order], kind="stable")][:n]
    fit = type(fit)(*(part[order] for part in fit))
    return Spots(
        fit.position,
        np.sqrt(np.einsum("mii->mi", fit.covariance)),
        fit.intensity,
        fit.variance,
        fit.width,
        _flags(fit, valid, saturated),
    )


def saturated_pixels(frame, valid, saturation=None):
    """Pixels at the saturation, or in a flat top at a frame's largest value.

    Parameters
    ----------
    frame : array of shape (ny, nx)
    valid : bool array of shape (ny, nx)
    saturation : float, optional

    Returns
    -------
    bool array of shape (ny, nx)
    """
    if not valid.any():
        return np.zeros(frame.shape, dtype=bool)
    top = np.max(frame, where=valid, initial=-np.inf)
    if saturation is not None and top >= saturation:
        return valid & (frame >= saturation)
    flat = valid & (frame == top)
    if np.count_nonzero(flat) < _FLAT or flat[valid].all():
        return np.zeros(frame.shape, dtype=bool)
    labels, _ = ndimage.label(flat)
    size = np.bincount(labels.ravel())
    size[0] = 0
    # a few counts are equal by chance, but hardly ever side by side at the top
    return (size >= _FLAT)[labels]


def estimate_gain(levels, quantum):
    """Increase of the variance with the mean over the blocks of a frame.

    Parameters
    ----------
    levels : array of shape (m, 2)
        Background and noise of blocks.
    quantum : float
        Gain where the background is too even to tell: 1 for counts, 0 for other numbers.

    Returns
    -------
    float
    """
    mean, variance = levels[:, 0], levels[:, 1] ** 2
    low, high = (mean <= np.quantile(mean, 0.25)), (mean >= np.quantile(mean, 0.75))
    rise = np.median(mean[high]) - np.median(mean[low])
    typical = np.median(levels[:, 1])
    if rise > typical:
        gain = (np.median(variance[high]) - np.median(variance[low])) / rise
        if gain > 0:
            return float(gain)
    # the scale of the noise itself is the only one that is left in numbers that are no counts
    return float(quantum or typical)


def spot_candidates(excess, valid, noise, min_distance=None, threshold=THRESHOLD):
    """Where spots may be, to the pixel.

    Parameters
    ----------
    excess : array of shape (ny, nx)
        Pattern above its background, 0 where it is not valid.
    valid : bool array of shape (ny, nx)
    noise : array of shape (ny, nx)
        Standard deviation of the background.
    min_distance : float, optional
    threshold : float

    Returns
    -------
    width : float
        Standard deviation of the typical spot, pixels.
    peaks : int array of shape (m, 2)
        (y, x), in the order of their height above the noise.
    """
    peaks = _maxima(excess, valid, noise, _SMOOTHING, 3.0, threshold)
    width = _typical_width(excess, peaks[:_TYPICAL])
    if width > 1.5 * _SMOOTHING:
        distance = 2.5 * width if min_distance is None else min_distance
        peaks = _maxima(excess, valid, noise, 0.7 * width, distance, threshold)
        width = _typical_width(excess, peaks[:_TYPICAL])
    else:
        peaks = _thinned(peaks, 2.5 * width if min_distance is None else min_distance)
    return width, peaks


def _maxima(excess, valid, noise, sigma, distance, threshold):
    """Local maxima of the smoothed excess, none of them a single bright pixel."""
    smooth = ndimage.gaussian_filter(excess, sigma, truncate=3.0)
    # smoothing averages over 4 pi sigma^2 pixels; the fit decides in the end
    least = _LENIENT * threshold / (2 * np.sqrt(np.pi) * sigma)
    y, x = np.nonzero((smooth > np.float32(least) * noise) & valid)
    inside = (y > 0) & (x > 0) & (y < excess.shape[0] - 1) & (x < excess.shape[1] - 1)
    y, x = y[inside], x[inside]
    top = np.ones(len(y), dtype=bool)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if dy or dx:
                top &= smooth[y, x] >= smooth[y + dy, x + dx]
    y, x = y[top], x[top]
    order = np.argsort(-smooth[y, x] / noise[y, x], kind="stable")[: 2 * _MOST]
    peaks = _thinned(np.stack([y[order], x[order]], axis=1), distance)
    return peaks[~_single_pixels(excess, peaks)][:_MOST]


def _thinned(peaks, distance):
    """Without those closer than a distance to a higher one."""
    kept, number = np.empty((len(peaks), 2), dtype=int), 0
    for peak in peaks:
        apart = np.square(kept[:number] - peak).sum(axis=1)
        if not (apart < distance**2).any():
            kept[number] = peak
            number += 1
    return kept[:number]


def _single_pixels(excess, peaks):
    """Whether the brightest pixel near a peak has neighbours too dark for a spot."""
    if not len(peaks):
        return np.zeros(0, dtype=bool)
    padded = np.pad(excess, 2, mode="edge")
    dy, dx = (d.ravel() for d in np.mgrid[-1:2, -1:2])
    y, x = peaks[:, :1] + dy + 2, peaks[:, 1:] + dx + 2
    best = padded[y, x].argmax(axis=1)
    rows = np.arange(len(peaks))
    y, x = y[rows, best], x[rows, best]
    around = padded[y - 1, x] + padded[y + 1, x] + padded[y, x - 1] + padded[y, x + 1]
    return around / 4 < _SHARPNESS * padded[y, x]


def _typical_width(excess, peaks):
    """Standard deviation from the area above half of the height, median over peaks."""
    widths = []
    reach = int(2.5 * _WIDTHS[1])
    for y, x in peaks:
        y0, x0 = max(y - reach, 0), max(x - reach, 0)
        patch = excess[y0 : y + reach + 1, x0 : x + reach + 1]
        height = patch[y - y0, x - x0]
        labels, _ = ndimage.label(patch > height / 2)
        area = np.count_nonzero(labels == labels[y - y0, x - x0])
        # area above half of the height: 2 pi ln 2 sigma^2
        widths.append(np.sqrt(area / (2 * np.pi * np.log(2))))
    return float(np.clip(np.median(widths), *_WIDTHS)) if widths else _SMOOTHING


def _accepted(fit, candidates, width, distance, threshold, shape):
    keep = fit.intensity > threshold * np.sqrt(fit.variance)
    keep &= np.isfinite(fit.covariance).all(axis=(1, 2)) & (fit.coverage > _COVERAGE)
    keep &= (fit.width > _NARROWEST) & (fit.width < 2.5 * width)
    keep &= (fit.position > -0.5).all(axis=1) & (fit.position < np.array(shape) - 0.5).all(axis=1)
    # of two fits that fell into one spot the stronger stays
    for i in np.argsort(-fit.intensity, kind="stable"):
        if keep[i]:
            near = np.square(fit.position - fit.position[i]).sum(axis=1) < distance**2
            near[i] = False
            keep &= ~near
    return keep


def _flags(fit, valid, saturated):
    flags = np.where(fit.settled, 0, UNSETTLED)
    reach = 3 * fit.width
    for i, ((y, x), r) in enumerate(zip(fit.position, reach, strict=True)):
        low = np.maximum(np.floor([y - r, x - r]).astype(int), 0)
        high = np.ceil([y + r, x + r]).astype(int) + 1
        window = slice(low[0], high[0]), slice(low[1], high[1])
        yy, xx = np.mgrid[window[0], window[1]][
            :, : valid.shape[0] - low[0], : valid.shape[1] - low[1]
        ]
        near = np.hypot(yy - y, xx - x) <= r
        if (saturated[window] & near).any():
            flags[i] |= SATURATED
        if (~valid[window] & near).any():
            flags[i] |= NEAR_MASK
        if (
            y - r < -0.5
            or x - r < -0.5
            or (np.array([y + r, x + r]) > np.array(valid.shape) - 0.5).any()
        ):
            flags[i] |= AT_BORDER
    return flags


def _none():
    none = np.empty(0)
    return Spots(np.empty((0, 2)), np.empty((0, 2)), none, none, none, np.empty(0, dtype=int))
