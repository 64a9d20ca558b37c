r"""Errors of a composition map that noise does not tell of, measured in the map itself.

Three of them can be seen without knowing the truth.

- **Disagreement of the two lengths.** Near rims, at contrast reversals and where structure factors
  change, phases shift, and the lengths along a and c then ask for different compositions. Of their
  misfit (`hyperspy_lfp.kernels.concentration.composition.misfit`) a trend
  :math:`\alpha + \beta x` is taken off first: that is what lattice parameters that are tabulated
  slightly wrong, or a magnification, look like, and it is common to the whole frame. What remains
  beyond the noise, averaged locally, is the variance of an error that either length may have.
- **Loss of resolution.** A window that averages over a front reads
  :math:`b = (G - 1)\,x`, with G the Gaussian mean of the resolution. Of the map itself
  :math:`(G - 1)\,G x`, a little less, is known. Towards the edge of the lattice, where a
  parabola is fitted, it fades.
- **The reference and the tables** are common to all pixels, or to all times: they are kept apart,
  since differences within a map do not feel them.

Both local ones are counted only as far as they exceed what noise alone would give.
"""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels._arrays import get_array_module, get_ndimage, to_host

#: How far a square must be above what noise makes it, in units of that, to be believed; then all
#: that noise does not explain counts. A window holds two or three independent values only, whose
#: mean square exceeds five times its expectation a few times in a thousand.
_EXCESS = 5.0
#: Part of the variance of a strain's noise that is left in the difference to its Gaussian mean.
#: With the power spectrum :math:`k_x^2 e^{-\sigma^2k^2}` of the noise it is the mean of
#: :math:`(1 - e^{-\sigma^2k^2/2})^2`, which is 1 - 2/1.5^2 + 1/2^2.
_ROUGHNESS = 1 - 2 / 1.5**2 + 1 / 2**2
#: Width of the local means of the misfit's square, in resolutions. Rims are narrow.
_NEAR = 0.7
#: Reach of the Gaussian means in standard deviations.
_TRUNCATE = 3.0
#: Samples of a map along each axis, about, that the trend of a frame is taken from; rounds of
#: reweighting; and the misfit in standard deviations beyond which a sample loses its weight, so
#: that a rim, however wrong, does not draw the trend.
_SAMPLES = 64
_ROUNDS = 8
_ROBUST = 2.0


class Systematic(NamedTuple):
    """Local systematic error of composition maps."""

    variance: np.ndarray  # (n, y, x): of x
    chi_squared: np.ndarray  # (n, y, x): local mean square of the misfit over that of its noise
    trend: np.ndarray  # (n, 2): alpha and beta of the misfit of each frame


def local_mean(maps, width):
    """Gaussian mean of the finite pixels around each, NaN where a pixel itself is.

    Parameters
    ----------
    maps : array of shape (n, y, x)
    width : pair of float
        Standard deviation along (y, x), in samples.

    Returns
    -------
    mean : array of shape (n, y, x)
    share : array of shape (n, y, x)
        Part of the Gaussian that lies on finite pixels; outside of the map there are none.
    """
    xp = get_array_module(maps)
    known = xp.isfinite(maps)
    share = _gaussian(known.astype(maps.dtype), width)
    total = _gaussian(xp.where(known, maps, 0), width)
    return xp.where(known, total / xp.where(known, share, 1), xp.nan), share


def systematic(x, noise, sensitivity, misfit, misfit_noise, width, prior):
    """Systematic variance of composition maps, from the maps themselves.

    Parameters
    ----------
    x, noise : array of shape (n, y, x)
        Composition and its variance due to noise.
    sensitivity : array of shape (2, n, y, x)
        dx by the two lengths.
    misfit, misfit_noise : array of shape (n, y, x)
        See `hyperspy_lfp.kernels.concentration.composition.misfit`.
    width : pair of float
        Resolution along (y, x), in samples.
    prior : float
        Standard deviation of the misfit that wrong tables are expected to cause.

    Returns
    -------
    Systematic
    """
    xp = get_array_module(x)
    trend = frame_trend(misfit, misfit_noise, x, width, prior)
    alpha, beta = xp.asarray(trend.T[:, :, None, None], dtype=x.dtype)
    rest = misfit - alpha - beta * x
    near = tuple(_NEAR * w for w in width)
    square, _ = local_mean(rest**2, near)
    # what noise is not known explains nothing
    known_noise = xp.where(xp.isnan(misfit_noise) & xp.isfinite(x), 0, misfit_noise)
    expected, _ = local_mean(known_noise, near)
    excess = _beyond(square, expected, xp)
    wrong = excess > 0
    variance = excess * (sensitivity**2).sum(axis=0) + _lost_resolution(x, noise, wrong, width)
    nothing = expected <= 0
    chi_squared = xp.where(nothing, xp.nan, square / xp.where(nothing, 1, expected))
    return Systematic(variance, chi_squared, trend)


def frame_trend(misfit, noise, x, width, prior):
    """Coefficients of alpha + beta x in the misfit of each frame, by robust least squares.

    Parameters
    ----------
    misfit, noise, x : array of shape (n, y, x)
    width : pair of float
        See `systematic`.
    prior : float
        Standard deviation both are expected to have about zero.

    Returns
    -------
    array of shape (n, 2); zero for frames without a finite pixel. NumPy float64.
    """
    every = tuple(max(1, n // _SAMPLES) for n in misfit.shape[-2:])
    thin = (slice(None), slice(None, None, every[0]), slice(None, None, every[1]))
    # a sample is not an independent value: a window holds 4 pi width^2 of them
    share = min(1.0, every[0] * every[1] / (4 * np.pi * width[0] * width[1]))
    result = np.zeros((len(misfit), 2))
    for out, *frame in zip(result, misfit[thin], noise[thin], x[thin], strict=True):
        r, v, at = (_host_float(a) for a in frame)
        good = np.isfinite(r) & np.isfinite(at)
        r, v, at = r[good], v[good], at[good]
        if not r.size:
            continue
        v = np.where(np.isfinite(v) & (v > 0), v, np.median(r**2) + prior**2)
        design = np.stack([np.ones_like(at), at])
        # far from it, every sample would lose its weight
        out[0] = np.median(r)
        for _ in range(_ROUNDS):
            weight = share / v * _belief((r - out @ design) ** 2 / v)
            # a wrong pixel size is far from what tables may cause, and must be found all the same;
            # nothing but tables makes a misfit that goes with x, while bending can look like it
            penalty = np.diag([_belief((out[0] / prior) ** 2), 1.0]) / prior**2
            normal = (design * weight) @ design.T + penalty
            out[:] = np.linalg.lstsq(normal, (design * weight) @ r, rcond=1e-9)[0]
    return result


def common_scale(misfit, noise, response, width):
    """Size of a distortion that is the same everywhere in a frame, from its misfit.

    Parameters
    ----------
    misfit, noise : array of shape (n, y, x)
    response : array of shape (n, y, x)
        Misfit that a distortion of one would cause.
    width : pair of float
        See `systematic`.

    Returns
    -------
    scale, variance : array of shape (n,)
        NumPy. Zero and NaN for frames without a finite pixel.
    """
    scale, variance = np.zeros(len(misfit)), np.full(len(misfit), np.nan)
    share = min(1.0, 1 / (4 * np.pi * width[0] * width[1]))
    for i, frame in enumerate(zip(misfit, noise, response, strict=True)):
        r, v, q = (_host_float(a) for a in frame)
        good = np.isfinite(r) & np.isfinite(q)
        r, v, q = r[good], v[good], q[good]
        if not r.size:
            continue
        known = np.isfinite(v) & (v > 0)
        v = np.where(known, v, np.median(r**2) or 1.0)
        scale[i] = np.median(r) / np.median(q)
        for _ in range(_ROUNDS):
            weight = share / v * _belief((r - scale[i] * q) ** 2 / v)
            scale[i] = (weight * q * r).sum() / (weight * q**2).sum()
        if known.any():
            variance[i] = 1 / (share * q**2 / v).sum()
    return scale, variance


def _beyond(square, expected, xp):
    """What of a square the noise does not explain; nothing unless it is clearly beyond."""
    rest = square - expected
    # not-a-number stays
    return xp.where(square <= _EXCESS * expected, 0, rest)


def _belief(z):
    """Weight that is left to what is off by the square root of z standard deviations."""
    return 1 / (1 + z / _ROBUST**2) ** 2


def _lost_resolution(x, noise, wrong, width):
    """Square of (G - 1) x beyond the noise; less where the edge cuts the window.

    Pixels that are known to be wrong count as outside, so that they do not look like a front.
    """
    xp = get_array_module(x)
    mean, share = local_mean(xp.where(wrong, xp.nan, x), width)
    noise = xp.where(xp.isnan(noise), 0, noise)
    excess = _beyond((mean - x) ** 2, _ROUGHNESS * noise, xp)
    excess = excess * xp.maximum(2 * share - 1, 0) ** 2
    return xp.where(wrong & xp.isfinite(x), 0, excess)


def _gaussian(maps, width):
    return get_ndimage(maps).gaussian_filter(maps, (0, *width), mode="constant", truncate=_TRUNCATE)


def _host_float(array):
    return np.asarray(to_host(array), dtype=float)
