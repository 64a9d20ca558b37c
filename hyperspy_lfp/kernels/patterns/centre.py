r"""Centre of diffraction patterns: the direct beam, or the centre of inversion.

By Friedel's law the spots +g and -g stand opposite each other about the direct beam, so that
2c = r(+g) + r(-g) for every pair, and a pattern of spots or rings agrees with its inversion,

.. math:: f(r) = f(2c - r) .

The first guess is the highest peak of the self-convolution of the pattern, as a covariance over the
pixels that are valid at r and at 2c - r (masked as in Padfield, IEEE Trans. Image Process. 21
(2012) 2706, doi 10.1109/TIP.2011.2181402). It is not divided by the variance: bright spots beside
their bright partners then count for more than a large overlap.
It is refined by the fitted positions of pairs of spots, or, where there are none (rings), by the
shift that best superposes the pattern and its inversion (Lucas and Kanade, Proc. 7th IJCAI (1981)
674). Everything here runs on the host.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from hyperspy_lfp.kernels.patterns.frames import background_and_noise, check_frames
from hyperspy_lfp.kernels.patterns.inversion import binned, self_convolution, superpose
from hyperspy_lfp.kernels.patterns.spot_fit import fit_gaussians
from hyperspy_lfp.kernels.patterns.spots import (
    THRESHOLD,
    estimate_gain,
    saturated_pixels,
    spot_candidates,
)

METHODS = ("auto", "direct beam", "friedel")

#: Side that frames are binned to, about, for all searches; the fits are done on all pixels.
_SEARCHED = 400
#: Most candidates that pairs are looked for among: enough for a few hundredths of a pixel.
_SPOTS = 60
#: Most pairs that are fitted.
_PAIRS = 20
#: Fewest pairs, and part of the spots with a visible opposite place that must have a partner
#: (spots strewn at random along rings have one in ten).
_FEWEST, _PAIRED = 3, 0.3
#: Sums of positions that belong to one centre agree so well before the fit, pixels.
_AGREE = 1.5
#: Part of the spacing of the spots that the centre may have moved from its start; at half of it
#: stands the next centre of inversion of the lattice.
_MOVE = 0.22
#: The direct beam is looked for within this part of the frame's side of a given start.
_SEARCH = 0.125
#: The direct beam is preferred below this part of Friedel's standard error: its own does not know
#: of the halo and the stop that it stands on, which many pairs average out.
_BETTER = 0.5
#: Largest disagreement of direct beam and inversion, in pixels, and in standard errors.
_DISAGREE = (0.5, 5.0)


class Centres(NamedTuple):
    """Centres of frames."""

    position: np.ndarray  # (n, 2), (y, x), pixels; NaN where none was found
    error: np.ndarray  # (n, 2) standard errors
    method: np.ndarray  # (n,) str: "direct beam", "pairs", "inversion" or "" where none was found


class _Frame(NamedTuple):
    """A frame, for the fits, and its means over blocks of pixels, for all searches."""

    raw: np.ndarray
    usable: np.ndarray  # valid and not saturated
    noise: np.ndarray
    gain: float
    factor: int  # side of a block
    image: np.ndarray  # means
    valid: np.ndarray
    excess: np.ndarray  # above the background
    block_noise: np.ndarray

    def to_pixels(self, blocks):
        """Positions in pixels from those in blocks."""
        return np.asarray(blocks) * self.factor + 0.5 * (self.factor - 1)

    def to_blocks(self, pixels):
        """Positions in blocks from those in pixels."""
        return (np.asarray(pixels) - 0.5 * (self.factor - 1)) / self.factor


class _Found(NamedTuple):
    position: np.ndarray
    error: np.ndarray
    method: str


def find_centre(frames, method="auto", *, mask=None, start=None):
    """Find the centre of diffraction patterns.

    Parameters
    ----------
    frames : array of shape (n, ny, nx) or (ny, nx)
        Any real dtype; NaN pixels are ignored.
    method : {"auto", "direct beam", "friedel"}
        "direct beam" fits the brightest spot (near `start`, if given), without its saturated
        pixels. "friedel" uses pairs of spots, or the whole pattern where it has no pairs.
        "auto" takes the direct beam where it agrees with Friedel's centre and has less than half
        of its standard error, and Friedel's centre otherwise.
    mask : bool array of shape (ny, nx) or (n, ny, nx), optional
        True for pixels to ignore, such as the beam stop.
    start : array of shape (2,), optional
        (y, x) to start from. Each later frame starts from the centre of the frame before.

    Returns
    -------
    Centres
        NaN, and an empty method, for frames without a centre: empty ones, or noise only.

    Raises
    ------
    TypeError
        Frames that are not real numbers.
    ValueError
        Unknown method, wrong shapes, a start outside the frame.

    Notes
    -----
    A perfect lattice has an inversion centre on every spot and half-way between; the one where
    most of the pattern agrees is taken. Where the true one is not the most complete (a strongly
    tilted crystal, discs of a convergent beam, a beam stop that is not masked), give `start` or
    take the direct beam. The start must be within about a fifth of the spacing of the spots.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[:96, :96]
    >>> light = np.full((96, 96), 10.0)
    >>> for g in [(25, 4), (-25, -4), (-6, 30), (6, -30), (19, 34), (-19, -34)]:
    ...     light += 900 * np.exp(-((y - 45.2 - g[0]) ** 2 + (x - 50.6 - g[1]) ** 2) / 4)
    >>> found = find_centre(np.random.default_rng(0).poisson(light))
    >>> found.position.round(1), found.method
    (array([[45.2, 50.6]]), array(['pairs'], dtype='<U11'))
    """
    frames, valid = check_frames(frames, mask)
    if method not in METHODS:
        raise ValueError(f"method={method!r}: one of {', '.join(map(repr, METHODS))} is needed")
    if start is not None:
        start = np.asarray(start, dtype=float)
        size = np.array(frames.shape[1:])
        if start.shape != (2,) or not ((start >= 0) & (start <= size - 1)).all():
            raise ValueError(f"start={start}: (y, x) within the frame of {tuple(size)} pixels")
    quantum = 1.0 if frames.dtype.kind in "iu" else 0.0
    saturation = np.iinfo(frames.dtype).max if frames.dtype.kind in "iu" else None
    position, error = np.full((2, len(frames), 2), np.nan)
    names = np.full(len(frames), "", dtype="<U11")
    for i, (frame, known) in enumerate(zip(frames, valid, strict=True)):
        prepared = _prepare(frame, known, quantum, saturation)
        found = None if prepared is None else _centre_of(prepared, method, start)
        if found is not None:
            position[i], error[i], names[i] = found
            start = found.position
    return Centres(position, error, names)


def _prepare(frame, valid, quantum, saturation):
    frame = frame.astype(np.float32)
    usable = valid & ~saturated_pixels(frame, valid, saturation)
    factor = max(1, round(max(frame.shape) / _SEARCHED))
    image, known, unsaturated = frame, valid, usable
    if factor > 1:
        known, unsaturated = (binned(v.astype(np.float32), factor) > 0.999 for v in (valid, usable))
        image = binned(frame if valid.all() else np.where(valid, frame, 0), factor)
    background, noise, levels = background_and_noise(image, unsaturated, quantum / factor)
    if not len(levels) or np.ptp(image[known]) == 0:
        return None
    # means of f^2 pixels have 1 / f of their noise
    fine = np.repeat(np.repeat(noise * factor, factor, axis=0), factor, axis=1)
    extra = [(0, n - m) for n, m in zip(frame.shape, fine.shape, strict=True)]
    fine = np.pad(fine, extra, mode="edge") if any(e for _, e in extra) else fine
    gain = estimate_gain(levels, quantum / factor**2) * factor**2
    excess = np.where(known, image - background, 0)
    return _Frame(frame, usable, fine, gain, factor, image, known, excess, noise)


def _centre_of(frame, method, start):
    if method == "direct beam":
        return _direct_beam(frame, start)
    friedel = _friedel(frame, start)
    if method == "friedel":
        return friedel
    direct = _direct_beam(frame, start if friedel is None else friedel.position, near=True)
    if friedel is None or direct is None:
        return friedel if direct is None else direct
    apart = np.hypot(*(direct.position - friedel.position))
    limit = max(_DISAGREE[0], _DISAGREE[1] * np.hypot(*friedel.error))
    better = np.hypot(*direct.error) < _BETTER * np.hypot(*friedel.error)
    return direct if better and apart < limit else friedel


# --- direct beam ---


def _direct_beam(frame, start, near=False):
    """Fit of the brightest spot; with `near`, only right where it is expected."""
    excess, allowed, corner = frame.excess, frame.valid, np.zeros(2)
    widest = min(excess.shape) / 12
    if start is not None:
        radius = 5.0 if near else _SEARCH * min(excess.shape)
        begin = frame.to_blocks(start)
        # the area above half of the height must fit in as well
        corner = np.maximum(np.floor(begin - radius - 3 * widest).astype(int), 0)
        end = np.ceil(begin + radius + 3 * widest).astype(int) + 1
        window = tuple(slice(c, e) for c, e in zip(corner, end, strict=True))
        excess = excess[window]
        y, x = (np.arange(n) + c - b for n, c, b in zip(excess.shape, corner, begin, strict=True))
        allowed = allowed[window] & (np.hypot(y[:, None], x) <= radius)
    if not allowed.any():
        return None
    smooth = ndimage.gaussian_filter(excess, 2.0, truncate=3.0)
    peak = np.unravel_index(np.where(allowed, smooth, -np.inf).argmax(), smooth.shape)
    top = excess[tuple(slice(max(i - 3, 0), i + 4) for i in peak)].max()
    labels, _ = ndimage.label(excess > top / 2)
    if top <= 0 or not labels[peak]:
        return None
    inside = labels == labels[peak]
    width = np.sqrt(np.count_nonzero(inside) / (2 * np.pi * np.log(2)))
    if width > widest:
        return None
    begin = frame.to_pixels(np.array(np.nonzero(inside)).mean(axis=1) + corner)
    width = max(width * frame.factor, 0.6)
    fit = fit_gaussians(frame.raw, frame.usable, begin, width, frame.noise, frame.gain)
    good = fit.settled[0] and fit.intensity[0] > THRESHOLD * np.sqrt(fit.variance[0])
    if not good or fit.width[0] < 0.5:
        return None
    return _Found(fit.position[0], np.sqrt(np.diag(fit.covariance[0])), "direct beam")


# --- inversion ---


def _friedel(frame, start):
    width, candidates = spot_candidates(frame.excess, frame.valid, frame.block_noise)
    candidates = candidates[:_SPOTS]
    starts = [] if start is None else [frame.to_blocks(start)]
    for begin in starts:
        found = _pairs(frame, candidates, width, begin)
        if found is not None:
            return found
    guess = self_convolution(frame.image, frame.valid)
    found = _pairs(frame, candidates, width, guess)
    if found is not None:
        return found
    contrast = np.arcsinh(frame.excess / frame.block_noise)
    for begin in [*starts, guess]:
        found = superpose(contrast, frame.valid, begin)
        if found is not None:
            position, error = frame.to_pixels(found[0]), found[1] * frame.factor
            return _Found(position, error, "inversion")
    return None


def _pairs(frame, candidates, width, start):
    """Mean of the middles of opposite spots."""
    if len(candidates) < 2 * _FEWEST:
        return None
    first, second = np.triu_indices(len(candidates), 1)
    sums = (candidates[first] + candidates[second]).astype(float)
    apart = np.square(candidates[:, None] - candidates).sum(axis=-1).astype(float)
    np.fill_diagonal(apart, np.inf)
    spacing = np.sqrt(np.median(apart.min(axis=1)))
    near = np.hypot(*(sums - 2 * start).T) <= 2 * max(3.0, _MOVE * spacing)
    first, second, sums = first[near], second[near], sums[near]
    if len(sums) < _FEWEST:
        return None
    agree = np.square(sums[:, None] - sums).sum(axis=-1) <= _AGREE**2
    best = agree.sum(axis=1).argmax()
    # the strongest candidates come first
    chosen = np.flatnonzero(np.hypot(*(sums - sums[agree[best]].mean(axis=0)).T) <= _AGREE)[:_PAIRS]
    if len(chosen) < _FEWEST:
        return None
    opposite = np.rint(sums[chosen].mean(axis=0) - candidates).astype(int)
    visible = ((opposite >= 0) & (opposite < frame.valid.shape)).all(axis=1)
    visible[visible] = frame.valid[tuple(opposite[visible].T)]
    if 2 * len(chosen) < min(_PAIRED * np.count_nonzero(visible), 2 * _PAIRS):
        return None
    return _middle_of_pairs(frame, candidates, width, first[chosen], second[chosen])


def _middle_of_pairs(frame, candidates, width, first, second):
    used, where = np.unique(np.concatenate([first, second]), return_inverse=True)
    begin = frame.to_pixels(candidates[used])
    width = width * frame.factor
    fit = fit_gaussians(frame.raw, frame.usable, begin, width, frame.noise, frame.gain)
    first, second = where[: len(first)], where[len(first) :]
    good = fit.settled & np.isfinite(fit.covariance).all(axis=(1, 2)) & (fit.coverage > 0.5)
    both = good[first] & good[second]
    first, second = first[both], second[both]
    if len(first) < _FEWEST:
        return None
    middles = (fit.position[first] + fit.position[second]) / 2
    variance = np.einsum("mii->mi", fit.covariance[first] + fit.covariance[second]) / 4
    away = abs(middles - np.median(middles, axis=0))
    scale = np.maximum(1.4826 * np.median(away, axis=0), np.sqrt(np.median(variance, axis=0)))
    keep = (away <= 3.5 * scale).all(axis=1)
    if np.count_nonzero(keep) < _FEWEST:
        return None
    mean, error = _random_effects(middles[keep], variance[keep])
    return _Found(mean, error, "pairs")


def _random_effects(values, variance):
    """Weighted mean of values that scatter more than their errors say, and its standard error.

    The excess is that of DerSimonian and Laird, Control. Clin. Trials 7 (1986) 177,
    doi 10.1016/0197-2456(86)90046-2.
    """
    weight = 1 / variance
    mean = (weight * values).sum(axis=0) / weight.sum(axis=0)
    excess = (weight * (values - mean) ** 2).sum(axis=0) - (len(values) - 1)
    excess /= weight.sum(axis=0) - (weight**2).sum(axis=0) / weight.sum(axis=0)
    weight = 1 / (variance + np.maximum(excess, 0))
    mean = (weight * values).sum(axis=0) / weight.sum(axis=0)
    return mean, np.sqrt(1 / weight.sum(axis=0))
