r"""One or two peaks in spot profiles: maximum likelihood for all frames at once.

The expected content of a bin is

.. math:: \mu_i = \sum_j A_j \int_i V(k - k_j; w_j, \eta)\,dk + b(k_i),

:math:`V = \eta L + (1 - \eta) G`, the weighted Lorentzian and Gaussian of unit area and equal
full width at half maximum w (pseudo-Voigt: Thompson, Cox, Hastings, J. Appl. Cryst. 20 (1987) 79,
doi:10.1107/S0021889887087090). The integral over a bin is exact, so that a spot that is hardly
wider than a bin has no bias; the background b, linear or a power of k, is that of the bin centre.

Counts are fitted by maximum likelihood (Poisson), everything else by least squares with the given
variances. Both are damped scoring: with the weights W = 1/mu or 1/variance,

.. math:: (J^T W J + \lambda\,\mathrm{diag})\,\delta = J^T W (y - \mu),

so that the inverse of :math:`J^T W J` at the end is the covariance. All frames and all starts are
one batch of small systems; parameters at a bound that the gradient pushes outwards are held.
A step is taken only where it lowers the deviance.

**One or two?** A spot that composition gradients have smeared is not two phases, but two peaks fit
it better than one. In the model *graded* the positions fill the range between two ends, with a
density that is linear in between; in *tailed* they fall off from a sharp peak, linearly to an end.
Both have the parameters of the two peaks, one by one. Two phases are found where two peaks beat
all of them: `hyperspy_lfp.kernels.peaks.phases.choose_model`.

All of this runs on the host: the profiles of a long movie are less than one of its frames.
"""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels.peaks.model import Layout, bounds, check_data, evaluate, fraction_of
from hyperspy_lfp.kernels.peaks.search import State, best_of, from_neighbours, weights_of
from hyperspy_lfp.kernels.peaks.starts import starts

#: Bits of `PeakFit.flags`.
NO_DATA, NOT_CONVERGED, AT_BOUND, NO_PEAK = 1, 2, 4, 8
#: A peak is there if its area is so many standard errors.
_DETECTION = 3.0


class PeakFit(NamedTuple):
    """Peaks of n frames, P of them in a frame, in the order of k.

    Where a peak is not there (its area is less than three standard errors) its position and width
    are NaN. In the graded model the positions are the two ends, and the areas the parts that the
    density at either end stands for; in the tailed one the first is the sharp peak, the second the
    end of the tail.
    """

    position: np.ndarray  # (n, P), units of k
    fwhm: np.ndarray  # (n, P), units of k
    area: np.ndarray  # (n, P), units of the profiles, summed over the bins
    eta: np.ndarray  # (n,): 0 Gaussian, 1 Lorentzian
    background: np.ndarray  # (n, 2): in the first and the last bin
    position_error: np.ndarray
    fwhm_error: np.ndarray
    area_error: np.ndarray
    eta_error: np.ndarray
    covariance: np.ndarray  # (n, q, q), in the order of `names`; NaN for what was held
    names: tuple
    deviance: np.ndarray  # (n,): twice the log-likelihood short of the perfect one
    chi_square: np.ndarray  # (n,): Pearson's
    n_bins: np.ndarray  # (n,): bins that count
    n_parameters: int
    flags: np.ndarray  # (n,): sum of NO_DATA, NOT_CONVERGED, AT_BOUND, NO_PEAK
    model: np.ndarray  # (n, m)

    @property
    def reduced_chi_square(self):
        """Pearson's chi-square per degree of freedom: the dispersion that the noise shows."""
        return self.chi_square / np.maximum(self.n_bins - self.n_parameters, 1)

    @property
    def bic(self):
        """Bayesian information criterion with the bins as observations."""
        return self.deviance + self.n_parameters * np.log(np.maximum(self.n_bins, 1))


def fit_peaks(
    profiles,
    k,
    model="one",
    *,
    variance=None,
    background="linear",
    shared_width=True,
    eta=None,
    scale_errors=False,
):
    """Fit one or two pseudo-Voigt peaks to each frame's profile.

    Parameters
    ----------
    profiles : array of shape (n, m)
        Content of the bins, frames in the order of time: a frame is also started from its
        neighbours' solutions, of which the better likelihood decides; nothing is smoothed.
        Bins that are not finite (saturated, behind the beam stop) are left out.
    k : array of shape (m,)
        Bin centres, evenly spaced and increasing.
    model : {"one", "two", "graded", "tailed"}
        One peak, two, one smeared between two ends, or one with a tail (see the module).
    variance : array of shape (m,) or (n, m), optional
        Variances of the bins. None: the profiles are counts. Variances that were themselves
        estimated from few counts bias areas downwards by about a count a bin: give counts then.
    background : {"linear", "power"}
        A straight line or A k^-r.
    shared_width : bool
        One width for both peaks. Two widths are badly determined where the splitting is less than
        the width.
    eta : float, optional
        Lorentzian part if known (0: Gaussian, 1: Lorentzian); fitted by default, shared by the
        peaks.
    scale_errors : bool
        Multiply standard errors with the root of each frame's reduced chi-square: for variances
        that are known up to a factor.

    Returns
    -------
    PeakFit
        NumPy.

    Raises
    ------
    ValueError
        Unknown model or background, k not evenly spaced, negative counts, non-positive variances,
        fewer bins than parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_lfp.kernels.peaks.fit import expected_profile, fit_peaks
    >>> k = np.linspace(1.8, 2.2, 41)
    >>> counts = expected_profile(k, [1.94, 2.03], 0.05, [2e4, 1e4], eta=0.3, background=(90, 80))
    >>> fit = fit_peaks(counts[None], k, "two")
    >>> fit.position.round(4)
    array([[1.94, 2.03]])
    """
    data = check_data(profiles, k, variance, model, background, eta)
    layout = Layout(model, background, 2 if model == "two" and not shared_width else 1)
    if data.y.shape[1] <= layout.size:
        raise ValueError(f"{layout.size} parameters need more than {data.y.shape[1]} bins of k")
    lower, upper = bounds(data, layout, eta)
    usable = (data.used.sum(axis=1) > layout.size) & (np.abs(data.y).sum(axis=1) > 0)
    rows = np.flatnonzero(usable)
    best = State.empty(len(data.y), layout.size)
    if rows.size:
        first = np.clip(starts(data, layout, rows, eta), lower[rows], upper[rows])
        best_of(data, layout, rows, first, lower, upper, best)
        from_neighbours(data, layout, rows, lower, upper, best)
    return _report(data, layout, best, usable, lower, upper, scale_errors, eta is None)


def expected_profile(
    k, position, fwhm, area, *, eta=0.5, background=(0.0, 0.0), kind="linear", model=None
):
    """Expected contents of the bins: the model of `fit_peaks` with these parameters.

    Parameters
    ----------
    k : array of shape (m,)
        Bin centres, evenly spaced.
    position, area : float or sequence of P floats
    fwhm : float or sequence of P floats
    eta : float
    background : (float, float)
        In the first and the last bin.
    kind : {"linear", "power"}
        How the background goes from one to the other.
    model : str, optional
        As in `fit_peaks`; by default one or two sharp peaks, as there are positions.

    Returns
    -------
    array of shape (m,)
    """
    k = np.asarray(k, dtype=float)
    position, area, fwhm = (np.atleast_1d(np.asarray(v, float)) for v in (position, area, fwhm))
    step = (k[-1] - k[0]) / (len(k) - 1)
    name = model or ("one", "two")[position.size - 1]
    layout = Layout(name, kind, fwhm.size)
    centre = (position - k[0]) / step + 0.5
    parts = (centre, area, np.log(fwhm / step), [eta], background)
    fraction = fraction_of(k, kind)
    return evaluate(np.concatenate(parts)[None], layout, fraction)[0][0]


def _report(data, layout, best, usable, lower, upper, scale_errors, eta_is_free):
    theta = best.theta.copy()
    order = None
    if layout.model in ("two", "graded"):
        order = np.argsort(theta[:, :2], axis=1)
        theta = _in_order(theta, order, layout)
    n, m = data.y.shape
    model, covariance = np.full((n, m), np.nan), np.full((n, layout.size, layout.size), np.nan)
    chi_square = np.full(n, np.nan)
    rows = np.flatnonzero(usable)
    if rows.size:
        part = data.rows(rows)
        model[rows], slopes = evaluate(theta[rows], layout, data.fraction)
        weight = weights_of(part, model[rows])
        chi_square[rows] = (weight * (part.y - model[rows]) ** 2).sum(axis=1)
        covariance[rows] = _covariance(theta[rows], slopes, weight, lower, upper, rows, layout)
    n_parameters = layout.size - (not eta_is_free)
    if scale_errors:
        freedom = np.maximum(data.used.sum(axis=1) - n_parameters, 1)
        covariance *= (chi_square / freedom)[:, None, None]
    bound = _at_bound(theta, lower, upper, layout)
    flags = np.where(usable, 0, NO_DATA)
    flags |= np.where(usable & ~best.done, NOT_CONVERGED, 0)
    flags |= np.where(usable & bound, AT_BOUND, 0)
    return _in_units(
        theta, covariance, chi_square, model, flags, usable, best, data, layout, n_parameters
    )


def _in_order(theta, order, layout):
    theta = theta.copy()
    for part in (layout.positions, layout.areas, layout.widths):
        if part.stop - part.start == 2:
            theta[:, part] = np.take_along_axis(theta[:, part], order, axis=1)
    return theta


def _covariance(theta, slopes, weight, lower, upper, rows, layout):
    """Inverse of the Fisher information of what is free, in bins; widths, not logarithms."""
    normal = (slopes * weight[:, None]) @ np.swapaxes(slopes, 1, 2)
    diagonal = np.einsum("nii->ni", normal)
    held = (theta <= lower[rows]) | (theta >= upper[rows])
    held[:, layout.areas] = False  # the error of an area that is zero tells what would be seen
    held |= diagonal <= 1e-30 * diagonal.max(axis=1, keepdims=True)
    scale = np.where(held, 1, np.sqrt(np.where(held, 1, diagonal)))
    free = ~held
    both = free[:, :, None] & free[:, None]
    normal = np.where(both, normal / (scale[:, :, None] * scale[:, None]), np.eye(len(scale[0])))
    inverse = np.linalg.pinv(normal, rcond=1e-13, hermitian=True)
    inverse = inverse / (scale[:, :, None] * scale[:, None])
    unit = np.ones_like(theta)
    unit[:, layout.widths] = np.exp(theta[:, layout.widths])
    inverse = inverse * unit[:, :, None] * unit[:, None]
    return np.where(both, inverse, np.nan)


def _at_bound(theta, lower, upper, layout):
    at = (theta <= lower) | (theta >= upper)
    # a background of nothing is no failure, nor is a pure Gaussian or Lorentzian
    at[:, layout.eta :] = False
    return at.any(axis=1)


def _in_units(
    theta, covariance, chi_square, model, flags, usable, best, data, layout, n_parameters
):
    step = data.step
    unit = np.ones(layout.size)
    unit[layout.positions] = unit[layout.widths] = step
    covariance = covariance * unit[:, None] * unit
    with np.errstate(invalid="ignore"):
        error = np.sqrt(np.einsum("nii->ni", covariance))
    n_peaks = layout.n_peaks
    position = data.k[0] + step * (theta[:, layout.positions] - 0.5)
    width = np.repeat(step * np.exp(theta[:, layout.widths]), n_peaks // layout.n_widths, axis=1)
    width_error = np.repeat(error[:, layout.widths], n_peaks // layout.n_widths, axis=1)
    area, area_error = theta[:, layout.areas], error[:, layout.areas]
    missing = ~(area > _DETECTION * area_error)
    flags = flags | np.where(usable & missing.any(axis=1), NO_PEAK, 0)

    def seen(values):
        return np.where(missing, np.nan, values)

    nothing = missing.all(axis=1)
    return PeakFit(
        seen(position),
        seen(width),
        area,
        np.where(nothing, np.nan, theta[:, layout.eta]),
        theta[:, -2:],
        seen(error[:, layout.positions]),
        seen(width_error),
        area_error,
        np.where(nothing, np.nan, error[:, layout.eta]),
        covariance,
        layout.names,
        np.where(usable, best.deviance, np.nan),
        chi_square,
        data.used.sum(axis=1),
        n_parameters,
        flags,
        model,
    )
