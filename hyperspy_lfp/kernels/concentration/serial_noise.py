r"""Noise of a time series: its standard deviation and its serial correlation.

A series is taken as a smooth course plus noise, :math:`x_i = f(t_i) + \sigma c_i u_i`, where the
known :math:`c_i` (one on average) tell good frames from bad ones and :math:`u` is a stationary
Gaussian process of unit variance with the correlation :math:`\rho^{|t_i - t_j|/\Delta t}`: AR(1)
on even times, and what it becomes where frames are missing or uneven, since drift and charging go
on between frames (Ornstein-Uhlenbeck process). :math:`\Delta t` is the median interval.

The course is spanned by a basis, and :math:`(\sigma, \rho)` are judged by the restricted
likelihood of what the basis cannot explain [1]_, so that the course itself cannot pass for serial
correlation. Whitening needs the previous frame only, so a likelihood costs one QR of the basis.

References
----------
.. [1] Patterson and Thompson, Biometrika 58 (1971) 545, doi:10.1093/biomet/58.3.545.
"""

from typing import NamedTuple

import numpy as np
from scipy.interpolate import BSpline
from scipy.optimize import isotonic_regression

#: Serial correlations that are tried. Negative ones have no meaning between uneven times.
RHO = np.linspace(0, 0.95, 20)
#: Prior probability that there is no serial correlation at all. Without it every white series is
#: given some, and every test loses power.
_WHITE = 0.5
#: Smallest noise, in units of the range of the series, so that noise-free series are no exception.
_SMALLEST = 1e-9
#: Frames between the knots of the spline that follows a course. Reversals of ten frames leave
#: less than a third of sigma behind.
_SPACING = 10
#: Rises from frame to frame, in units of sigma, that are taken off before: of the smoothed series,
#: and of the series itself. Noise alone rarely makes them.
_STEEP, _JUMP = 0.75, 3.0
#: Median of the modulus of a normal variable.
_NORMAL = 0.6745
#: Frames that must be left over for the noise.
_FEWEST = 4


class NoisePosterior(NamedTuple):
    """What a series tells of its noise: a distribution of (sigma, rho); see `fit_noise`."""

    rho: np.ndarray  # (R,): the values tried
    weight: np.ndarray  # (R, ...): posterior probability of each
    variance: np.ndarray  # (R, ...): variance of one average frame, given rho
    degrees: float  # degrees of freedom of the variance; inf where it is known

    @property
    def mean(self):
        """Posterior means of sigma and rho."""
        rho = np.tensordot(self.rho, self.weight, 1)
        return np.sqrt((self.weight * self.variance).sum(axis=0)), rho

    def of(self, series):
        """That of one or several of the series."""
        return self._replace(weight=self.weight[:, series], variance=self.variance[:, series])


def known_noise(sigma, rho):
    """A `NoisePosterior` without doubt."""
    variance = np.asarray(sigma, dtype=float)[None] ** 2
    return NoisePosterior(np.array([rho]), np.ones(variance.shape), variance, np.inf)


def fit_noise(x, basis, gaps, lost=0.0):
    """Restricted likelihood of the noise of series on a common basis.

    Parameters
    ----------
    x : array of shape (n, ...)
        In units of c, see the module's docstring.
    basis : array of shape (n, k)
        Spans the course, in the same units.
    gaps : array of shape (n - 1,)
        Intervals between frames, in units of the median one.
    lost : float
        Degrees of freedom that were spent on choosing the basis, beyond its k columns.

    Returns
    -------
    NoisePosterior
    """
    n, k = basis.shape
    series = x.reshape(n, -1)
    spread = np.ptp(series, axis=0)
    floor = (_SMALLEST * np.where(spread > 0, spread, 1)) ** 2
    likelihood, variance = [], []
    for rho in RHO:
        q, r = np.linalg.qr(whiten(basis, gaps, rho))
        white = whiten(series, gaps, rho)
        rest = white - q @ (q.T @ white)
        squares = np.maximum((rest**2).sum(axis=0), floor)
        entropy = np.log1p(-(rho ** (2 * gaps))).sum() / 2
        entropy += np.log(np.abs(np.diagonal(r))).sum()
        likelihood.append(-(n - k) / 2 * np.log(squares) - entropy)
        variance.append(squares / (n - k - lost))
    likelihood = np.array(likelihood)
    prior = np.where(RHO == 0, _WHITE, (1 - _WHITE) / (len(RHO) - 1))
    weight = np.exp(likelihood - likelihood.max(axis=0)) * prior[:, None]
    weight /= weight.sum(axis=0)
    shape = (len(RHO), *x.shape[1:])
    return NoisePosterior(RHO, weight.reshape(shape), np.reshape(variance, shape), n - k - lost)


def draw_noise(posterior, gaps, n_series, rng):
    """Series of noise, each with its own sigma and rho from the posterior.

    Returns
    -------
    array of shape (n, n_series)
        In units of c.
    """
    chosen = rng.choice(len(posterior.rho), n_series, p=posterior.weight)
    variance = posterior.variance[chosen]
    if np.isfinite(posterior.degrees):
        variance = variance * posterior.degrees / rng.chisquare(posterior.degrees, n_series)
    white = rng.standard_normal((len(gaps) + 1, n_series))
    return np.sqrt(variance) * unit_noise(gaps, posterior.rho[chosen], white)


def unit_noise(gaps, rho, white):
    """Series of unit variance with serial correlation, made from white noise.

    Parameters
    ----------
    gaps : array of shape (n - 1,)
    rho : array of shape (n_series,)
    white : array of shape (n, n_series)
        Unit variance; changed in place.
    """
    noise = white
    kept = rho ** gaps[:, None]
    new = np.sqrt(1 - kept**2)
    for i in range(len(gaps)):
        noise[i + 1] = kept[i] * noise[i] + new[i] * noise[i + 1]
    return noise


def whiten(series, gaps, rho):
    """What is new in each frame, in units of its standard deviation, along the first axis."""
    kept = (rho**gaps).reshape((-1,) + (1,) * (series.ndim - 1))
    new = (series[1:] - kept * series[:-1]) / np.sqrt(1 - kept**2)
    return np.concatenate([series[:1], new])


def straight_line(times):
    """The basis of a course that is straight, shape (n, 2)."""
    return np.stack([np.ones_like(times), times - times.mean()], axis=1)


def spline_basis(times):
    """Cubic B-splines with knots every ten frames, shape (n, k).

    A straight line where fewer than four frames would be left over for the noise. Times are in
    units of the median interval.
    """
    n = len(times)
    number = n // _SPACING + 2
    knots = np.interp(np.linspace(0, n - 1, number), np.arange(n), times)
    if n - (number + 2) < _FEWEST:
        return straight_line(times)
    padded = np.concatenate([[knots[0]] * 3, knots, [knots[-1]] * 3])
    return BSpline.design_matrix(times, padded, 3).toarray()


def without_steps(series, smooth):
    """Series less the rises that are too steep for splines, which would pass for noise.

    Parameters
    ----------
    series : array of shape (n, n_series)
    smooth : array of shape (n, n)
        Smoothing over a few frames.

    Returns
    -------
    array of shape (n, n_series)
    """
    # standard deviation of the noise if it is white, whatever the course
    sigma = np.median(np.abs(np.diff(series, 2, axis=0)), axis=0) / (_NORMAL * np.sqrt(6))
    series = series - _steep(series, _JUMP * sigma)
    return series - _steep(smooth @ series, _STEEP * sigma)


def _steep(series, limit):
    """What remains of the isotonic regressions if they may rise by a limit without notice."""
    isotonic = np.stack([isotonic_regression(s).x for s in series.T], axis=1)
    rise = np.diff(isotonic, axis=0, prepend=isotonic[:1])
    return np.cumsum(np.maximum(rise - limit, 0), axis=0)
