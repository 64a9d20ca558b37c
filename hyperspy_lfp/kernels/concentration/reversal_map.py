r"""Concentration reversal of every pixel of a map.

The steps are those of `hyperspy_lfp.kernels.concentration.reversal`, made cheap enough for
thousands of pixels: one width of smoothing instead of many scales, the isotonic regression of the
series itself instead of a search for corners, and the same unit noise for all pixels, smoothed once
for each serial correlation. The null course is the isotonic regression with a price :math:`\lambda`
on its rise,

.. math:: h = \arg\min_{h_1 \le \dots \le h_n}
          \tfrac12 \sum_i w_i (x_i - h_i)^2 + \lambda (h_n - h_1),

with :math:`\lambda = \sigma\sqrt{n(1+\rho)/(1-\rho)}`: without it, the noise of a constant course
alone makes h rise, and the falls of the simulated series too small. A p-value is read from the
Gumbel distribution with the mean and the variance of the simulated falls. A pixel's result depends
on that pixel alone, so that a map may be computed in parts.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import ndtri

from hyperspy_lfp.kernels._arrays import get_array_module, to_host
from hyperspy_lfp.kernels.concentration.reversal import (
    FEWEST_FRAMES,
    FWHM,
    check_options,
    drawdown,
    drawdown_places,
    fit_course_noise,
    frame_scale,
    local_linear,
)
from hyperspy_lfp.kernels.concentration.serial_noise import RHO, known_noise, unit_noise

#: Simulated series for each pixel: mean and standard deviation of their falls are good to an
#: eighth of the standard deviation.
_SERIES = 64
#: Amplitudes for which they are simulated, and the highest in units of the measured drawdown.
_AMPLITUDES = 6
_HIGHEST = 1.5


class ReversalMap(NamedTuple):
    """The largest reversal of each pixel, significant or not; arrays of the shape of a frame."""

    amplitude: np.ndarray  # without the bias, >= 0
    bias: np.ndarray  # what the smoothed series' maximum drawdown exceeds it by
    t_b: np.ndarray  # where the reversal starts and ends
    t_c: np.ndarray
    p_value: np.ndarray  # one-sided; null hypothesis: x(t) never falls
    sigma: np.ndarray  # noise: standard deviation of an average frame
    rho: np.ndarray  # and its correlation from one frame to the next


def reversal_map(times, x, variance=None, *, direction=1, smoothing=8.0, noise=None, seed=0):
    """Measure the largest concentration reversal in each pixel of a movie.

    Works on the host; a CuPy array is copied.

    Parameters
    ----------
    times : array of shape (n,)
        Increasing, not necessarily even.
    x : array of shape (n, ...)
        Concentration. NaN is left out; many different patterns of NaN take time.
    variance : array of shape (n, ...), optional
        Of each value. Its mean over the pixels weights the frames; only ratios are used.
    direction : {1, -1}
        1 if the particle fills (a reversal is a fall), -1 if it empties.
    smoothing : float
        Full width at half maximum of the Gaussian that smooths the series, in median frame
        intervals. Twice that of a region, since a pixel is noisier.
    noise : tuple (sigma, rho), optional
        Known noise; sigma a number or an array of the shape of a frame. By default from the series.
    seed : int or numpy.random.Generator

    Returns
    -------
    ReversalMap
        float32 arrays; NaN in pixels with fewer than 8 valid frames. Neighbouring pixels share
        their noise: a map of p-values shows where to look, the significance is that of a region
        (`hyperspy_lfp.kernels.reversal.reversal`).

    Examples
    --------
    >>> times = np.arange(200.0)
    >>> x = np.interp(times, [0, 80, 110, 199], [0, 0.5, 0.3, 1])[:, None, None] * np.ones((2, 3))
    >>> x += np.random.default_rng(1).normal(0, 0.05, x.shape)
    >>> found = reversal_map(times, x)
    >>> found.amplitude.shape, bool((found.p_value < 0.01).all())
    ((2, 3), True)
    """
    xp = get_array_module(x)
    times, x = (np.asarray(to_host(a), dtype=float) for a in (times, x))
    if times.ndim != 1 or x.shape[:1] != times.shape:
        raise ValueError(f"x must have a frame for each of the {times.shape} times; got {x.shape}.")
    check_options(times, direction, smoothing)
    series = direction * x.reshape(len(x), math.prod(x.shape[1:]))
    scale = _mean_scale(variance, x.shape)
    known = None if noise is None else _known(noise, x.shape[1:])
    if len(times) < FEWEST_FRAMES:
        nan = np.full(x.shape[1:], np.nan, dtype=np.float32)
        return ReversalMap(*(xp.asarray(nan) for _ in ReversalMap._fields))
    draws = _Draws(times, RHO if known is None else known.rho, seed)
    result = np.full((len(ReversalMap._fields), series.shape[1]), np.nan)
    patterns, member = np.unique(np.isfinite(series), axis=1, return_inverse=True)
    for k, frames in enumerate(patterns.T):
        if frames.sum() < FEWEST_FRAMES:
            continue
        pixels = np.flatnonzero(member.ravel() == k)
        group = _Group(times, scale, frames, smoothing / FWHM, draws)
        values = series[np.ix_(frames, pixels)]
        if known is None:
            posterior = fit_course_noise(group.u, values, group.scale)
        else:
            posterior = known.of(pixels)
        result[:, pixels] = group.measure(values, posterior)
    result = result.reshape((-1, *x.shape[1:])).astype(np.float32)
    return ReversalMap(*(xp.asarray(a) for a in result))


def _mean_scale(variance, shape):
    """Relative standard deviation of the frames; 1 where no pixel is valid."""
    if variance is None:
        return np.ones(shape[0])
    variance = np.asarray(to_host(variance), dtype=float)
    if variance.shape != shape:
        raise ValueError(f"variance must have the shape of x, {shape}; got {variance.shape}.")
    variance = variance.reshape(len(variance), -1)
    there = np.isfinite(variance)
    number = there.sum(axis=1)
    mean = np.where(there, variance, 0).sum(axis=1) / np.maximum(number, 1)
    scale = np.ones(len(mean))
    scale[number > 0] = frame_scale(mean, number > 0)
    return scale


def _known(noise, shape):
    """A `NoisePosterior` of all pixels from (sigma, rho)."""
    if len(noise) != 2 or not 0 <= noise[1] < 1 or np.any(np.asarray(noise[0]) < 0):
        raise ValueError(
            f"noise must be (sigma, rho) with sigma >= 0, 0 <= rho < 1; got {noise!r}."
        )
    sigma = np.broadcast_to(np.asarray(to_host(noise[0]), dtype=float), shape)
    return known_noise(sigma.ravel(), float(noise[1]))


class _Draws:
    """Unit noise for each serial correlation, the same for all pixels."""

    def __init__(self, times, rho, seed):
        rng = np.random.default_rng(seed)
        gaps = np.diff(times) / np.median(np.diff(times))
        self.rho = rho
        repeated = np.repeat(rho, _SERIES)
        unit = rng.standard_normal((len(times), _SERIES))
        # the same innovations for each rho, so that results change smoothly with it
        self.unit = unit_noise(gaps, repeated, np.tile(unit, (1, len(rho))))
        self.unit = self.unit.reshape(len(times), len(rho), _SERIES)
        # evenly spread in probability, in random order
        self.quantile = (rng.permutation(_SERIES) + 0.5) / _SERIES
        self.normal = ndtri((rng.permutation(_SERIES) + 0.5) / _SERIES)


class _Group:
    """Pixels that are valid in the same frames.

    Parameters
    ----------
    times, scale, frames : array of shape (n_all,)
        Of the movie; which frames are valid.
    width : float
        Standard deviation of the smoothing in median intervals.
    draws : _Draws
    """

    def __init__(self, times, scale, frames, width, draws):
        self.times, self.scale = times[frames], scale[frames]
        self.u = (self.times - self.times[0]) / np.median(np.diff(times))
        self.weights = self.scale**-2
        self.smooth = local_linear(self.u, self.weights, width)
        self.draws = draws
        unit = self.scale[:, None] * draws.unit[frames].reshape(len(self.u), -1)
        smoothed = (self.smooth @ unit).reshape(len(self.u), len(draws.rho), _SERIES)
        self.unit = np.ascontiguousarray(np.moveaxis(smoothed, 0, -1))

    def measure(self, values, posterior):
        """The fields of `ReversalMap`, shape (n_fields, n_pixels)."""
        sigma, rho = posterior.mean
        smoothed = self.smooth @ values
        # twicing gives back most of what the smoothing takes from the corners of the course
        shapes = smoothed + self.smooth @ (values - smoothed)
        columns = []
        for k in range(values.shape[1]):
            errors = self._errors(posterior, k)
            null = self._null(values[:, k], sigma[k], rho[k])
            b, c = drawdown_places(smoothed[:, k])
            measured = smoothed[b, k] - smoothed[c, k]
            falls = drawdown((self.smooth @ null)[:, None] + errors)
            amplitude = self._amplitude(measured, shapes[:, k], (b, c), null, falls, errors)
            p_value = _gumbel_tail(measured, falls)
            bias = measured - amplitude
            row = (amplitude, bias, self.times[b], self.times[c], p_value, sigma[k], rho[k])
            columns.append(row)
        return np.array(columns).T

    def _errors(self, posterior, k):
        """Smoothed noise, shape (n, _SERIES), over what is left open about it."""
        total = np.cumsum(posterior.weight[:, k])
        chosen = np.searchsorted(total, self.draws.quantile * total[-1])
        sigma = np.sqrt(posterior.variance[chosen, k])
        if np.isfinite(posterior.degrees):
            # Wilson and Hilferty's approximation of chi squared
            small = 2 / (9 * posterior.degrees)
            sigma = sigma * (1 - small + np.sqrt(small) * self.draws.normal) ** -1.5
        return np.ascontiguousarray(self.unit[chosen, np.arange(_SERIES)].T) * sigma

    def _null(self, x, sigma, rho):
        """Isotonic regression with a price on its rise; see the module's docstring."""
        price = sigma * np.sqrt(len(x) * (1 + rho) / (1 - rho))
        lifted = x.copy()
        lifted[0] += price / self.weights[0]
        lifted[-1] -= price / self.weights[-1]
        return isotonic_regression(lifted, weights=self.weights).x

    def _amplitude(self, measured, shape, place, null, falls, errors):
        """Amplitude at which the simulated falls are in the mean the measured one."""
        b, c = place
        if measured <= falls.mean():
            return 0.0
        split = np.concatenate(
            [
                isotonic_regression(shape[: b + 1]).x,
                isotonic_regression(shape[b + 1 : c], increasing=False).x,
                isotonic_regression(shape[c:]).x,
            ]
        )
        rest = split - isotonic_regression(split).x
        factors = np.linspace(0, _HIGHEST, _AMPLITUDES)
        amplitudes = np.maximum.accumulate(drawdown(null[:, None] + factors * rest[:, None]))
        means = self.smooth @ np.stack([null, rest], axis=1)
        expected = [falls.mean()]
        for factor in factors[1:]:
            expected.append(drawdown((means @ [1, factor])[:, None] + errors).mean())
        return np.interp(measured, np.maximum.accumulate(expected), amplitudes)


def _gumbel_tail(value, sample):
    """Probability of at least the value under the Gumbel distribution fitted by its moments."""
    sd = sample.std()
    if sd == 0:
        return 1.0 if value <= sample.mean() else 0.0
    return -np.expm1(-np.exp(-np.pi / np.sqrt(6) * (value - sample.mean()) / sd - np.euler_gamma))
