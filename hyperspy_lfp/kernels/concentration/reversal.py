r"""Concentration reversal: how far a region empties again while the particle fills.

The amplitude is the largest fall of the true mean x(t) of the region,

.. math:: A = \max_{t_b \le t_c} \left[ x(t_b) - x(t_c) \right],

its maximum drawdown. That of a measured series is useless: 200 frames with :math:`\sigma = 0.03`
that do not fall at all give 0.14, since the highest noise comes before the lowest somewhere.
Here the series is compared with what the same analysis makes of simulated ones:

1. The noise, :math:`\sigma` and its serial correlation :math:`\rho`, is judged from what a
   flexible course cannot explain (`hyperspy_lfp.kernels.concentration.serial_noise`).
2. Falls of the mean over w frames to the mean over w later ones are searched for all w.
   Short falls are seen with small w, long shallow ones with large w.
3. The course is fitted by few straight pieces, of which two meet the fall that stands out most
   (`hyperspy_lfp.kernels.concentration.hinges`), rounded at the corners. It is split in its
   isotonic regression h (the nearest course that never falls) and the rest d: the courses h + a d
   have reversals of all amplitudes A(a), of the shape and at the place that the data have.
4. **p-value**: of the largest of the standardised falls of step 2, among series of h + noise.
5. **Amplitude**: that A(a) for which smoothed series of h + a d + noise have, in the mean, the
   maximum drawdown that the smoothed data have; zero if those of h have it already. The difference
   of the two is the bias: what noise adds less what smoothing takes away. **Interval**: those A
   under which the drawdown of the data is within the central part of the simulated ones [1]_.

Sigma and rho of each simulated series are drawn from what the data leave open, so that doubt
about the noise is part of the p-value and of the interval.

References
----------
.. [1] Test inversion: Carpenter, Journal of the Royal Statistical Society B 61 (1999) 159,
   doi:10.1111/1467-9868.00169. Steps 2 and 4: Dümbgen and Spokoiny, Annals of Statistics 29 (2001)
   124, doi:10.1214/aos/996986504. Step-down correction: Holm, Scandinavian Journal of Statistics 6
   (1979) 65.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import isotonic_regression

from hyperspy_lfp.kernels._arrays import to_host
from hyperspy_lfp.kernels.concentration.hinges import HingeFit, hinge_basis
from hyperspy_lfp.kernels.concentration.serial_noise import (
    draw_noise,
    fit_noise,
    known_noise,
    spline_basis,
    straight_line,
    without_steps,
)

#: Fewest frames from which course and noise can be told apart.
FEWEST_FRAMES = 8
#: Full width at half maximum of a Gaussian in units of its standard deviation.
FWHM = 2 * np.sqrt(2 * np.log(2))
#: Standard deviation of the smoothing before steps are looked for, frames.
_FEW_FRAMES = 1.7
#: Standard deviation of the smoothing, in units of the w at which the reversal stands out most:
#: long reversals need not be smoothed as little as short ones; and the largest, in frames.
_WIDTH = 1 / 12
_WIDEST = 64.0
#: Largest part of a series that the least smoothing may take.
_SHARE = 0.1
#: Rounding of the corners of the fitted course, in units of the fall's duration: about half way
#: between sharp corners and a sinusoidal fall, of which data like these cannot tell which is true.
_ROUNDING = 0.04
#: Those that the interval allows for: sharp corners, and about a sinusoidal fall.
_ROUNDINGS = (0.0, _ROUNDING, 0.1)
#: Amplitudes for which series are simulated, and the highest: what is measured if smoothing takes
#: half of it, and standard deviations of the smoothed drawdown on top.
_AMPLITUDES = 40
_MORE = 2.0
_HIGHEST = 6.0
#: From this p-value on the amplitude is zero: most courses without reversal look more like one.
_NO_EVIDENCE = 0.5
#: Least fall of the fitted course, in standard deviations of the smoothed noise, that has a shape.
_SHAPE = 0.01


class Reversal(NamedTuple):
    """The largest reversal in a series, significant or not; see `reversal`."""

    amplitude: float  # without the bias, >= 0
    bias: float  # of x_b - x_c: that minus the amplitude
    ci: tuple  # (low, high) of the amplitude
    p_value: float  # one-sided; null hypothesis: x(t) never falls (rises, for direction=-1)
    t_b: float  # where the reversal starts and ends, and the smoothed x there
    t_c: float
    x_b: float
    x_c: float
    duration: float  # t_c - t_b
    recovery: float  # from t_c until the smoothed x is back at x_b; NaN if it never is
    standard_error: float  # of the amplitude
    sigma: float  # noise: standard deviation of an average frame
    rho: float  # and its correlation from one frame to the next
    smoothing: float  # full width at half maximum that was used, in median frame intervals


def reversal(
    times,
    x,
    variance=None,
    *,
    direction=1,
    smoothing=4.0,
    noise=None,
    confidence=0.95,
    n_bootstrap=500,
    seed=0,
):
    """Measure the largest concentration reversal in one series.

    Works on the host; a CuPy array is copied.

    Parameters
    ----------
    times : array of shape (n,)
        Increasing, not necessarily even.
    x : array of shape (n,)
        Mean concentration of a region. NaN frames are left out.
    variance : array of shape (n,), optional
        Of each frame. Only the ratios are used, to weight the frames: how much the series
        scatters is seen in the series.
    direction : {1, -1}
        1 if the particle fills (a reversal is a fall), -1 if it empties (a reversal is a rise).
    smoothing : float
        Least full width at half maximum of the Gaussian that smooths the series, in median frame
        intervals. Long reversals are smoothed more.
    noise : tuple (sigma, rho) or array of shape (m,), optional
        Known noise, or a series of at least 8 values at the same median interval from a place or
        a time in which x does not change (a linear drift is removed). By default from the series.
    confidence : float
        Of the interval.
    n_bootstrap : int
        Simulated series: the smallest p-value is 1 / (n_bootstrap + 1).
    seed : int or numpy.random.Generator
        The same seed gives the same result.

    Returns
    -------
    Reversal
        Start and end are those of the largest fall of the smoothed series, which noise alone
        makes as well: look at the p-value first. Amplitudes of two regions are compared by means
        of their standard errors.

    Raises
    ------
    ValueError
        With fewer than 8 valid frames, times that do not increase, and other bad input.

    Examples
    --------
    >>> times = np.arange(200.0)
    >>> x = np.interp(times, [0, 80, 110, 199], [0, 0.5, 0.4, 1])
    >>> x += np.random.default_rng(1).normal(0, 0.03, 200)
    >>> found = reversal(times, x)
    >>> found.p_value < 0.01, found.ci[0] < 0.1 < found.ci[1]
    (True, True)
    """
    times, x, scale = _checked(times, x, variance, direction, smoothing)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a number between 0 and 1, as 0.95.")
    if n_bootstrap < 50:
        raise ValueError(f"n_bootstrap is {n_bootstrap}; give 50 or more.")
    rng = np.random.default_rng(seed)
    interval = np.median(np.diff(times))
    u, x = (times - times[0]) / interval, direction * x
    posterior, first = _first_noise(u, x, scale, noise)

    scales = _scales(len(x))
    falls = Falls(scale**-2, scales)
    trial = isotonic_regression(x, weights=scale**-2).x
    null = falls(trial[:, None] + scale[:, None] * draw_noise(first, np.diff(u), 100, rng))
    stands_out = int(np.argmax(((falls(x[:, None]) - null.mean(1)[:, None]) / _sd(null))[:, 0]))
    shapes, corners = _courses(u, x, scale, first, falls.place(x, stands_out))
    course = shapes[_ROUNDINGS.index(_ROUNDING)]
    if posterior is None:
        basis = hinge_basis(u, corners) / scale[:, None]
        if len(x) - basis.shape[1] - len(corners) >= FEWEST_FRAMES // 2:
            # the place of a corner costs as much as its slope
            posterior = fit_noise(x / scale, basis, np.diff(u), lost=len(corners))
        else:
            posterior = first
    errors = scale[:, None] * draw_noise(posterior, np.diff(u), n_bootstrap, rng)
    isotonic = isotonic_regression(course, weights=scale**-2).x
    null = falls(isotonic[:, None] + errors)
    mean, sd = null.mean(axis=1, keepdims=True), _sd(null)
    largest = ((falls(x[:, None]) - mean) / sd).max()
    p_value = (1 + ((null - mean) / sd >= largest).any(axis=0).sum()) / (n_bootstrap + 1)

    # a short series is smoothed less, or nothing would be left of it
    least = min(smoothing, _SHARE * len(x)) / FWHM
    width = min(max(least, _WIDTH * scales[stands_out]), _WIDEST)
    smooth = local_linear(u, scale**-2, width)
    smoothed = smooth @ x
    b, c = drawdown_places(smoothed)
    measured = smoothed[b] - smoothed[c]
    amplitude, low, high, error = 0.0, np.inf, 0.0, 0.0
    for rounding, shape in zip(_ROUNDINGS, shapes, strict=True):
        rising = isotonic_regression(shape, weights=scale**-2).x
        family = _family(rising, shape - rising, u, (b, c), measured, smooth @ errors, smooth)
        found = _invert(measured, *family, confidence)
        low, high = min(low, found[1]), max(high, found[2])
        if rounding == _ROUNDING:
            amplitude, error = found[0], found[3]
    if p_value >= _NO_EVIDENCE:
        amplitude = low = 0.0
    sigma, rho = posterior.mean
    return Reversal(
        amplitude=amplitude,
        bias=float(measured - amplitude),
        ci=(low, high),
        p_value=float(p_value),
        t_b=float(times[b]),
        t_c=float(times[c]),
        x_b=float(direction * smoothed[b]),
        x_c=float(direction * smoothed[c]),
        duration=float(times[c] - times[b]),
        recovery=recovery_time(times, smoothed, b, c),
        standard_error=error,
        sigma=float(sigma),
        rho=float(rho),
        smoothing=float(width * FWHM),
    )


def adjusted_p_values(p_values):
    """Holm's correction of p-values for the number of regions that were searched.

    Parameters
    ----------
    p_values : array
        NaN is carried and does not count as searched.

    Returns
    -------
    array of the same shape
        Regions with at most 0.05 are significant, with a probability of at most 5 % that any of
        them is not, whatever the correlation between regions.

    Examples
    --------
    >>> adjusted_p_values([0.01, 0.04, np.nan, 0.03])
    array([0.03, 0.06,  nan, 0.06])
    """
    p = np.asarray(to_host(p_values), dtype=float)
    valid = ~np.isnan(p)
    if ((p[valid] < 0) | (p[valid] > 1)).any():
        raise ValueError(f"p_values must be between 0 and 1; got {p[valid].min()} to {p.max()}.")
    order = np.argsort(p[valid], kind="stable")
    factors = np.arange(len(order), 0, -1)
    steps = np.minimum(np.maximum.accumulate(p[valid][order] * factors), 1)
    adjusted = np.empty(len(order))
    adjusted[order] = steps
    result = np.full(p.shape, np.nan)
    result[valid] = adjusted
    return result


class Falls:
    """Largest fall from the mean over w frames to that over w later ones, for each w."""

    def __init__(self, weights, scales):
        self.weights, self.scales = weights, scales

    def _means(self, x, w):
        total = np.cumsum(np.concatenate([[0], self.weights]))
        sums = np.cumsum(np.concatenate([np.zeros((1, x.shape[1])), self.weights[:, None] * x]), 0)
        return (sums[w:] - sums[:-w]) / (total[w:] - total[:-w])[:, None]

    def __call__(self, x):
        """Of series (n, B), an array (len(scales), B)."""
        falls = []
        for w in self.scales:
            means = self._means(x, w)
            highest = np.maximum.accumulate(means, axis=0)[:-w]
            falls.append((highest - means[w:]).max(axis=0))
        return np.array(falls)

    def place(self, x, k):
        """Centres of the two stretches of frames of the largest fall at scale k."""
        w = self.scales[k]
        means = self._means(x[:, None], w)[:, 0]
        c = int(np.argmax(np.maximum.accumulate(means)[:-w] - means[w:])) + w
        b = int(np.argmax(means[: c - w + 1]))
        return b + (w - 1) / 2, c + (w - 1) / 2


def local_linear(times, weights, width):
    """Gaussian smoothing by weighted local straight lines, which are right at the ends as well.

    Parameters
    ----------
    times, weights : array of shape (n,)
    width : float
        Standard deviation of the Gaussian, in units of the times.

    Returns
    -------
    sparse array of shape (n, n)
    """
    n = len(times)
    # where frames are sparse as many of them are averaged as elsewhere, not one alone
    before, after = np.maximum(np.arange(n) - 2, 0), np.minimum(np.arange(n) + 2, n - 1)
    intervals = (times[after] - times[before]) / (after - before)
    width = width * np.maximum(1, intervals / np.median(np.diff(times)))
    # at least the neighbours, however far
    first = np.minimum(np.searchsorted(times, times - 4 * width), np.maximum(np.arange(n) - 1, 0))
    last = np.maximum(
        np.searchsorted(times, times + 4 * width, side="right"), np.minimum(np.arange(n) + 2, n)
    )
    rows = []
    for i, (start, stop) in enumerate(zip(first, last, strict=True)):
        off = (times[start:stop] - times[i]) / width[i]
        kernel = np.exp(-(off**2) / 2) * weights[start:stop]
        s0, s1, s2 = kernel.sum(), kernel @ off, kernel @ off**2
        spread = s0 * s2 - s1**2
        if spread > 1e-9 * s0**2:
            rows.append(kernel * (s2 - s1 * off) / spread)
        else:  # no other frame within reach
            rows.append(kernel / s0)
    columns = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])
    starts = np.concatenate([[0], np.cumsum(last - first)])
    return sparse.csr_array((np.concatenate(rows), columns, starts), shape=(n, n))


def drawdown(series):
    """Maximum drawdown along the first axis."""
    return (np.maximum.accumulate(series, axis=0) - series).max(axis=0)


def drawdown_places(series):
    """Frames at which the maximum drawdown starts and ends."""
    c = int(np.argmax(np.maximum.accumulate(series) - series))
    return int(np.argmax(series[: c + 1])), c


def recovery_time(times, smoothed, b, c):
    """Time from frame c until the series is back at its value in frame b; NaN if it never is."""
    back = np.flatnonzero(smoothed[c:] >= smoothed[b])
    if c == b or not len(back):
        return 0.0 if c == b else float("nan")
    i = c + int(back[0])
    share = (smoothed[b] - smoothed[i - 1]) / (smoothed[i] - smoothed[i - 1])
    return float(times[i - 1] + share * (times[i] - times[i - 1]) - times[c])


def _checked(times, x, variance, direction, smoothing):
    """Valid frames only, in float64, and the standard deviations of frames, one on average."""
    times, x = (np.asarray(to_host(a), dtype=float) for a in (times, x))
    if x.ndim != 1 or times.shape != x.shape:
        raise ValueError(
            f"times and x must be of one shape (n,); got {times.shape} and {x.shape}. "
            "For maps there is reversal_map."
        )
    check_options(times, direction, smoothing)
    valid = np.isfinite(x)
    if valid.sum() < FEWEST_FRAMES:
        raise ValueError(
            f"x has {valid.sum()} valid frames; at least {FEWEST_FRAMES} are needed to tell a "
            "reversal from noise."
        )
    if variance is not None and np.shape(variance) != x.shape:
        raise ValueError(f"variance must have the shape of x, {x.shape}; got {np.shape(variance)}.")
    return times[valid], x[valid], frame_scale(variance, valid)


def check_options(times, direction, smoothing):
    """What `reversal` and `reversal_map` have in common."""
    if direction not in (1, -1):
        raise ValueError(f"direction is {direction!r}; give 1 (filling) or -1 (emptying).")
    if not smoothing > 0:
        raise ValueError(f"smoothing is {smoothing}; give a width of more than 0 frames.")
    if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
        raise ValueError("times must be finite and increase from frame to frame; sort the frames.")


def frame_scale(variance, valid):
    """Relative standard deviation of the valid frames, with a mean square of one."""
    if variance is None:
        return np.ones(valid.sum())
    variance = np.asarray(to_host(variance), dtype=float)[valid]
    if not (np.isfinite(variance).all() and (variance > 0).all()):
        raise ValueError(
            "variance must be positive and finite where x is valid; give None if it is not known."
        )
    return np.sqrt(variance / variance.mean())


def fit_course_noise(u, series, scale):
    """Noise of series (n, n_series) of any course, a `NoisePosterior`."""
    rest = without_steps(series, local_linear(u, scale**-2, _FEW_FRAMES))
    basis = spline_basis(u) / scale[:, None]
    return fit_noise(rest / scale[:, None], basis, np.diff(u))


def _first_noise(u, x, scale, noise):
    """The noise as it is known, or None, and what serves until the course is known."""
    if noise is None:
        return None, fit_course_noise(u, x[:, None], scale).of(0)
    noise = np.asarray(to_host(noise), dtype=float)
    if noise.shape == (2,):
        sigma, rho = noise
        if not (sigma >= 0 and 0 <= rho < 1):
            raise ValueError(
                f"noise is (sigma, rho) = ({sigma}, {rho}); give sigma >= 0, 0 <= rho < 1."
            )
        posterior = known_noise(sigma, rho)
    else:
        static = noise[np.isfinite(noise)] if noise.ndim == 1 else np.empty(0)
        if len(static) < FEWEST_FRAMES:
            raise ValueError(
                f"noise has the shape {noise.shape}; give (sigma, rho) or a static series of at "
                f"least {FEWEST_FRAMES} valid values."
            )
        t = np.flatnonzero(np.isfinite(noise)).astype(float)
        posterior = fit_noise(static, straight_line(t), np.diff(t))
    return posterior, posterior


def _scales(n):
    """Numbers of frames w over which means are compared: about half an octave apart."""
    scales = [1, 2, 3]
    while scales[-1] < n:
        scales.append(2 * scales[-2])
    return [w for w in scales if 3 * w <= n]


def _sd(null):
    """Of each row; a null so steep that it always rises has the same fall in all series."""
    sd = null.std(axis=1, keepdims=True)
    return np.where(sd > 0, sd, 1)


def _courses(u, x, scale, noise, place):
    """Piecewise linear fit with a fall at the place (b, c), rounded, and its corners."""
    sigma, rho = noise.mean
    fit = HingeFit(u, x, scale, max(sigma, np.finfo(float).tiny), rho)
    corners = fit.search(np.interp(place, np.arange(len(u)), u))
    course = fit.course(corners)
    b, c = drawdown_places(course)
    if b == c:  # no fall, even when asked for one: two corners too many
        corners = fit.search()
        return [fit.course(corners)] * len(_ROUNDINGS), corners
    fall = u[c] - u[b]
    return [_rounded(course, u, rounding * fall) for rounding in _ROUNDINGS], corners


def _rounded(course, u, width):
    return local_linear(u, np.ones_like(u), width) @ course if width > 0 else course


def _family(isotonic, rest, u, place, measured, errors, smooth):
    """Amplitudes, and smoothed drawdowns (n_amplitudes, B) of simulated series of each."""
    noise = errors.std()
    if not drawdown(isotonic + rest) > _SHAPE * noise:
        # no shape to go by: a fall between two rises of the same length
        b, c = u[place[0]], u[place[1]]
        half = max((c - b) / 2, 1.0)
        middle = np.clip((b + c) / 2, half, u[-1] - half)
        rest = np.interp(u, middle + half * np.array([-3, -1, 1, 3]), [0, 0.5, -0.5, 0])
    highest = _MORE * measured + _HIGHEST * np.sqrt(2) * noise
    factor = 1.0
    while drawdown(isotonic + factor * rest) < highest:
        factor *= 2
    factors = np.linspace(0, factor, 400)
    amplitudes = drawdown(isotonic[:, None] + factors * rest[:, None])
    chosen = np.linspace(0, highest, _AMPLITUDES)
    factors = np.interp(chosen, amplitudes, factors)
    means = smooth @ np.stack([isotonic, rest], axis=1)
    drawdowns = np.array([drawdown((means @ [1, f])[:, None] + errors) for f in factors])
    return chosen, drawdowns


def _invert(measured, amplitudes, drawdowns, confidence):
    """Amplitude, interval and standard error from the drawdowns that amplitudes lead to."""
    tail = (1 - confidence) / 2
    curves = [drawdowns.mean(axis=1), *np.quantile(drawdowns, [1 - tail, tail], axis=1)]
    # more amplitude never lessens the drawdown, but for the sampling of the simulation; where
    # several amplitudes lead to the same one, none of them is excluded
    amplitude, low, high = (
        _crossing(np.maximum.accumulate(c), measured, amplitudes, side)
        for c, side in zip(curves, ("left", "left", "right"), strict=True)
    )
    spread = drawdowns.std(axis=1)
    return amplitude, low, high, float(np.interp(amplitude, amplitudes, spread))


def _crossing(curve, value, places, side):
    """Where a curve that never falls reaches a value, at the first or last place that has it."""
    i = int(np.searchsorted(curve, value, side=side))
    if i in (0, len(curve)):
        return float(places[min(i, len(curve) - 1)])
    part = (value - curve[i - 1]) / (curve[i] - curve[i - 1])
    return float(places[i - 1] + part * (places[i] - places[i - 1]))
