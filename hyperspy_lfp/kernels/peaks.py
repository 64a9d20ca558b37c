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
all of them: `hyperspy_lfp.kernels.phases.choose_model`.

All of this runs on the host: the profiles of a long movie are less than one of its frames.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from hyperspy_lfp.kernels._arrays import to_host

MODELS = ("one", "two", "graded", "tailed")
BACKGROUNDS = ("linear", "power")

#: Bits of `PeakFit.flags`.
NO_DATA, NOT_CONVERGED, AT_BOUND, NO_PEAK = 1, 2, 4, 8

#: A peak is there if its area is so many standard errors.
_DETECTION = 3.0
#: Decrease of the deviance that the next step promises where the iteration ends: the parameters
#: are then within 1e-3 of their standard errors.
_TOLERANCE = 1e-7
_MAX_ITERATIONS = 100
#: A peak that is hardly there has a flat likelihood, in which the last decimals take hundreds of
#: iterations: after the first number of them, within 3 % of the standard errors is enough.
_PATIENCE, _LOOSE_TOLERANCE = 40, 1e-3
#: Iterations after which starts that go to the place of the best are dropped, and more of them
#: after which only the best start of a frame goes on.
_TRIAL, _SECOND_TRIAL = 4, 12
#: A neighbour's solution is taken over when it lowers the deviance by so much (1 is one standard
#: error of one parameter).
_IMPROVEMENT = 1e-3
_ROUNDS = 4
#: Solutions that are nearer than this part of a width, in position and width, are the same one.
_NEAR = 0.2
#: Narrowest peak, in bins. Below it all of the peak is in one bin and the width is unknown.
_NARROWEST = 0.2
#: Positions and widths of the search for starts. The linear part of the model is solved for each
#: pair of positions, so that no two peaks are missed for want of a start.
_POSITIONS, _WIDTHS = 32, 5
#: Relative error of the search's templates, whose eta and width are not those of the peaks: what
#: keeps a strong peak's shape from being taken for a second peak beside it.
_SHAPE = 0.1
#: The best single peak in two, for what the grid does not resolve: two equal ones, a weak one at
#: either side; in the tailed model a tail to either side.
_SPLITS = (
    ((-0.3, 0.3, 0.5), (-0.1, 0.7, 0.8), (-0.7, 0.1, 0.2)),
    ((-0.1, 0.7, 0.8), (0.1, -0.7, 0.8)),
)
#: Rows of a batch: what stays in a processor's cache.
_BLOCK = 256
#: Least background in a fit of counts, as a part of the mean count, and least ends of the graded
#: model, as a part of its width. Both keep logarithms and quotients finite.
_LEAST_BACKGROUND, _LEAST_SPREAD = 1e-6, 0.05

_GAUSS = 2 * np.sqrt(np.log(2.0))


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
    >>> from hyperspy_lfp.kernels.peaks import expected_profile, fit_peaks
    >>> k = np.linspace(1.8, 2.2, 41)
    >>> counts = expected_profile(k, [1.94, 2.03], 0.05, [2e4, 1e4], eta=0.3, background=(90, 80))
    >>> fit = fit_peaks(counts[None], k, "two")
    >>> fit.position.round(4)
    array([[1.94, 2.03]])
    """
    data = _check(profiles, k, variance, model, background, eta)
    layout = _Layout(model, background, 2 if model == "two" and not shared_width else 1)
    if data.y.shape[1] <= layout.size:
        raise ValueError(f"{layout.size} parameters need more than {data.y.shape[1]} bins of k")
    lower, upper = _bounds(data, layout, eta)
    usable = (data.used.sum(axis=1) > layout.size) & (np.abs(data.y).sum(axis=1) > 0)
    rows = np.flatnonzero(usable)
    best = _State.empty(len(data.y), layout.size)
    if rows.size:
        starts = np.clip(_starts(data, layout, rows, eta), lower[rows], upper[rows])
        _best_of(data, layout, rows, starts, lower, upper, best)
        _from_neighbours(data, layout, rows, lower, upper, best)
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
    layout = _Layout(name, kind, fwhm.size)
    centre = (position - k[0]) / step + 0.5
    parts = (centre, area, np.log(fwhm / step), [eta], background)
    fraction = _fraction(k, kind)
    return _evaluate(np.concatenate(parts)[None], layout, fraction)[0][0]


# --- the model -----------------------------------------------------------------------------------


class _Layout(NamedTuple):
    """Where the parameters are: positions, areas, logarithms of widths, eta, two of background."""

    model: str
    background: str
    n_widths: int

    @property
    def n_peaks(self):
        return 1 if self.model == "one" else 2

    @property
    def positions(self):
        return slice(0, self.n_peaks)

    @property
    def areas(self):
        return slice(self.n_peaks, 2 * self.n_peaks)

    @property
    def widths(self):
        return slice(2 * self.n_peaks, 2 * self.n_peaks + self.n_widths)

    @property
    def eta(self):
        return 2 * self.n_peaks + self.n_widths

    @property
    def size(self):
        return self.eta + 3

    @property
    def names(self):
        def numbered(name, n):
            return [f"{name}_{i + 1}" for i in range(n)] if n > 1 else [name]

        return (
            *numbered("position", self.n_peaks),
            *numbered("area", self.n_peaks),
            *numbered("fwhm", self.n_widths),
            "eta",
            "background_1",
            "background_2",
        )


def _evaluate(theta, layout, fraction):
    """Expected contents (N, m) and their derivatives (N, q, m); positions and widths in bins."""
    n_bins = len(fraction)
    mean = np.zeros((len(theta), n_bins))
    slopes = np.zeros((len(theta), layout.size, n_bins))
    if layout.model in ("graded", "tailed"):
        _add_graded(theta, layout, n_bins, mean, slopes)
    else:
        _add_peaks(theta, layout, n_bins, mean, slopes)
    low, high = theta[:, -2, None], theta[:, -1, None]
    if layout.background == "linear":
        mean += low + (high - low) * fraction
        slopes[:, -2] = 1 - fraction
        slopes[:, -1] = fraction
    else:
        base = low * (high / low) ** fraction
        mean += base
        slopes[:, -2] = base * (1 - fraction) / low
        slopes[:, -1] = base * fraction / high
    return mean, slopes


def _add_peaks(theta, layout, n_bins, mean, slopes):
    edges = np.arange(n_bins + 1.0)
    centre, area = theta[:, layout.positions, None], theta[:, layout.areas, None]
    width = np.exp(theta[:, layout.widths, None])
    eta = theta[:, layout.eta, None, None]
    x = (edges - centre) / width
    gauss, lorentz = special.erf(_GAUSS * x) / 2, np.arctan(2 * x) / np.pi
    density = _density(x, eta)
    unit = np.diff(gauss + eta * (lorentz - gauss))
    mean += (area * unit).sum(axis=1)
    slopes[:, layout.positions] = -area / width * np.diff(density)
    slopes[:, layout.areas] = unit
    by_width = -area * np.diff(x * density)
    slopes[:, layout.widths] = by_width if layout.n_widths > 1 else by_width.sum(1, keepdims=True)
    slopes[:, layout.eta] = (area * np.diff(lorentz - gauss)).sum(axis=1)


def _density(x, eta):
    """The pseudo-Voigt of unit area and unit width."""
    gauss = _GAUSS / np.sqrt(np.pi) * np.exp(-((_GAUSS * x) ** 2))
    return gauss + eta * (2 / np.pi / (1 + 4 * x**2) - gauss)


def _integrals(x):
    """First, second and third integral of the Gaussian and of the Lorentzian of unit width."""
    c = _GAUSS
    erf, bell = special.erf(c * x), np.exp(-((c * x) ** 2)) / (c * np.sqrt(np.pi))
    gauss = (
        erf / 2,
        (x * erf + bell) / 2,
        ((x**2 / 2 + 1 / (4 * c**2)) * erf + x * bell / 2) / 2,
    )
    arc, log = np.arctan(2 * x), np.log1p(4 * x**2)
    lorentz = (
        arc / np.pi,
        (x * arc - log / 4) / np.pi,
        ((x**2 / 2 - 1 / 8) * arc + x / 4 - x * log / 4) / np.pi,
    )
    return np.stack(gauss), np.stack(lorentz)


def _add_graded(theta, layout, n_bins, mean, slopes):
    r"""Peaks at k_1 + t (k_2 - k_1), t from 0 to 1, with the density 2 a_1 (1 - t) + 2 a_2 t.

    With the integrals F, F2, F3 of the peak and :math:`x(t) = x_1 - t\delta` the moments
    :math:`\int t^n F(x(t))\,dt` are closed forms in the values at both ends, by parts. The tailed
    model has 2 a_2 (1 - t) alone, and the sharp peak of area a_1 at k_1.
    """
    tailed = layout.model == "tailed"
    edges = np.arange(n_bins + 1.0)
    width = np.exp(theta[:, layout.widths])
    eta = theta[:, layout.eta, None]
    first, last = theta[:, 0, None], theta[:, 1, None]
    a1, a2 = (theta[:, 3, None], 0) if tailed else (theta[:, 2, None], theta[:, 3, None])
    # ends that are closer than this are as good as one
    spread = (last - first) / width
    delta = np.where(spread < 0, -1, 1) * np.maximum(np.abs(spread), _LEAST_SPREAD)
    x1, x2 = (edges - first) / width, (edges - first) / width - delta
    parts1, parts2 = _integrals(x1), _integrals(x2)

    def moments(i1, i2):
        level = (i1[1] - i2[1]) / delta
        tilt = (-i2[1] + (i1[2] - i2[2]) / delta) / delta
        return level, tilt

    gauss, lorentz = (moments(i1, i2) for i1, i2 in zip(parts1, parts2, strict=True))
    level, tilt = (g + eta * (ll - g) for g, ll in zip(gauss, lorentz, strict=True))
    f1, f2 = (g[0] + eta * (ll[0] - g[0]) for g, ll in (parts1, parts2))
    # of the density of the peak: its moments in t
    m0, m1, m2 = (f1 - f2) / delta, (level - f2) / delta, (2 * tilt - f2) / delta
    lead, trail = 2 * (m0 - 2 * m1 + m2), 2 * (m1 - m2)
    by_width = x1 * (2 * a1 * (m0 - m1) + 2 * a2 * m1) - delta * (2 * a1 * (m1 - m2) + 2 * a2 * m2)
    first_part, second_part = np.diff(2 * (level - tilt)), np.diff(2 * tilt)
    mean += a1 * first_part + a2 * second_part
    slopes[:, 0] = -np.diff(a1 * lead + a2 * trail) / width
    slopes[:, 1] = -np.diff(a1 * trail + a2 * 2 * m2) / width
    slopes[:, 4] = -np.diff(by_width)
    level, tilt = (ll - g for g, ll in zip(gauss, lorentz, strict=True))
    slopes[:, 5] = np.diff(2 * a1 * (level - tilt) + 2 * a2 * tilt)
    still = np.abs(spread[:, 0]) < _LEAST_SPREAD
    slopes[still, 0] += slopes[still, 1]
    slopes[still, 1] = 0
    slopes[:, 2], slopes[:, 3] = first_part, second_part
    if tailed:
        slopes[:, 3] = first_part
        _add_sharp(theta, layout, edges, mean, slopes)


def _add_sharp(theta, layout, edges, mean, slopes):
    """The sharp peak of the tailed model."""
    width, eta, area = np.exp(theta[:, layout.widths]), theta[:, 5, None], theta[:, 2, None]
    x = (edges - theta[:, 0, None]) / width
    gauss, lorentz = special.erf(_GAUSS * x) / 2, np.arctan(2 * x) / np.pi
    density = _density(x, eta)
    slopes[:, 2] = np.diff(gauss + eta * (lorentz - gauss))
    mean += area * slopes[:, 2]
    slopes[:, 0] -= area / width * np.diff(density)
    slopes[:, 4] -= area * np.diff(x * density)
    slopes[:, 5] += area * np.diff(lorentz - gauss)


# --- input ---------------------------------------------------------------------------------------


class _Data(NamedTuple):
    y: np.ndarray  # (n, m), 0 where not used
    used: np.ndarray  # (n, m), bool
    weight: np.ndarray | None  # (n, m); None: counts
    fraction: np.ndarray  # (m,): where between the first and the last bin the background is
    k: np.ndarray
    step: float

    def rows(self, index):
        weight = None if self.weight is None else self.weight[index]
        return self._replace(y=self.y[index], used=self.used[index], weight=weight)


def _check(profiles, k, variance, model, background, eta):
    if model not in MODELS:
        raise ValueError(f"model {model!r} is not one of {', '.join(MODELS)}")
    if background not in BACKGROUNDS:
        raise ValueError(f"background {background!r} is not one of {', '.join(BACKGROUNDS)}")
    if eta is not None and not 0 <= eta <= 1:
        raise ValueError(f"eta is the Lorentzian part, from 0 to 1, not {eta}")
    y = np.asarray(to_host(profiles), dtype=float)
    k = np.asarray(to_host(k), dtype=float)
    if y.ndim != 2 or k.shape != y.shape[1:]:
        raise ValueError(f"profiles of shape {y.shape} and k of shape {k.shape}: (n, m) and (m,)")
    steps = np.diff(k)
    if not (steps.min() > 0 and np.allclose(steps, steps.mean(), rtol=1e-3, atol=0)):
        raise ValueError("k has to increase evenly: resample the profiles on even bins")
    if background == "power" and k[0] <= 0:
        raise ValueError(f"a power of k needs k > 0, the first is {k[0]}: take a linear background")
    used = np.isfinite(y)
    weight = None
    if variance is None:
        if (y[used] < 0).any():
            raise ValueError("negative counts: give the variance of profiles that are no counts")
    else:
        variance = np.broadcast_to(np.asarray(to_host(variance), dtype=float), y.shape)
        used &= np.isfinite(variance)
        if not (variance[used] > 0).all():
            raise ValueError("the variance has to be positive: set bins without one to NaN")
        weight = np.divide(1.0, variance, out=np.zeros_like(y), where=used)
    y = np.where(used, y, 0.0)
    return _Data(y, used, weight, _fraction(k, background), k, (k[-1] - k[0]) / (len(k) - 1))


def _fraction(k, background):
    place = np.log(k) if background == "power" else k
    return (place - place[0]) / (place[-1] - place[0])


def _bounds(data, layout, eta):
    n, m = data.y.shape
    lower, upper = np.full((n, layout.size), -np.inf), np.full((n, layout.size), np.inf)
    lower[:, layout.positions], upper[:, layout.positions] = 0, m
    lower[:, layout.areas] = 0
    lower[:, layout.widths], upper[:, layout.widths] = np.log(_NARROWEST), np.log(m)
    lower[:, layout.eta], upper[:, layout.eta] = (0, 1) if eta is None else (eta, eta)
    if data.weight is None or layout.background == "power":
        mean = np.abs(data.y).sum(axis=1) / np.maximum(data.used.sum(axis=1), 1)
        lower[:, -2:] = _LEAST_BACKGROUND * np.maximum(mean, np.finfo(float).tiny)[:, None]
    return lower, upper


# --- starts --------------------------------------------------------------------------------------


def _starts(data, layout, rows, eta):
    """Starts (s, N, q): the best places of a grid, the background and areas solved for."""
    data = data.rows(rows)
    m = data.y.shape[1]
    eta = 0.5 if eta is None else eta
    place = np.linspace(0.5, m - 0.5, min(m, _POSITIONS))
    widths = np.geomspace(max(1.5, 1.5 * (place[1] - place[0])), max(3.0, m / 2.5), _WIDTHS)
    plain, weight = _search_weights(data)
    shapes = [_templates(place, width, eta, m) for width in widths]
    blocks = [slice(i, i + _BLOCK) for i in range(0, len(rows), _BLOCK)]
    parts = [
        [_normal_equations(data.y[b], weight[b], shape, data.fraction) for shape in shapes]
        for b in blocks
    ]

    def pick(best, number):
        found = [best(part, number) for part in parts]
        return [
            tuple(np.concatenate(a) for a in zip(*f, strict=True)) for f in zip(*found, strict=True)
        ]

    def start(one_or_two, which, at):
        return _start(data, plain, one_or_two, place, widths, shapes, which, at)

    if layout.n_peaks == 1:
        return np.stack([start(layout, *p) for p in pick(_best_single, 2)])
    picks = pick(_best_pairs, 2)
    if layout.model == "tailed":
        picks += [(which, at[:, ::-1]) for which, at in picks]
    starts = [start(layout, *p) for p in picks]
    single = start(_Layout("one", "linear", 1), *pick(_best_single, 1)[0])
    starts += [_split(single, layout, *how) for how in _SPLITS[layout.model == "tailed"]]
    if m > 2 * _POSITIONS:
        starts.append(_greedy(data, plain, weight, layout, eta))
    starts = np.stack(starts)
    starts[:, :, layout.eta] = eta
    if layout.model == "graded":  # the ends of an even density lie outside of two equal peaks
        middle = starts[:, :, :2].mean(axis=2, keepdims=True)
        starts[:, :, :2] = middle + 1.4 * (starts[:, :, :2] - middle)
    if layout.model == "tailed":  # the middle of the tail is a third of its length away
        starts[:, :, 1] += starts[:, :, 1] - starts[:, :, 0]
    return starts


def _greedy(data, plain, weight, layout, eta):
    """The best narrow peak at any bin, and the best one beside it: for the grid's gaps."""
    n, m = data.y.shape
    place = np.arange(m) + 0.5
    widths = np.geomspace(1.5, max(3.0, 2.0 * m / _POSITIONS), 4)
    base = np.stack([1 - data.fraction, data.fraction])
    own = (weight[:, None] * base) @ base.T
    own += 1e-9 * np.trace(own, axis1=1, axis2=2)[:, None, None] * np.eye(2)
    line = np.linalg.solve(own, ((weight * data.y) @ base.T)[..., None])[..., 0] @ base
    rest, shapes, at = data.y - line, [], np.empty((n, 2), int)
    gains = []
    for width in widths:
        shape = _templates(place, width, eta, m)
        value, size = (weight * rest) @ shape.T, np.maximum(weight @ (shape**2).T, 1e-300)
        gains.append(np.maximum(value, 0) ** 2 / size)
        shapes.append(shape)
    gains = np.stack(gains, axis=1)
    which = gains.max(axis=2).argmax(axis=1)
    at[:, 0] = gains[np.arange(n), which].argmax(axis=1)
    for i, row in enumerate(weight):
        shape = shapes[which[i]]
        first = shape[at[i, 0]]
        u, a, c = (row * rest[i]) @ first, row @ first**2, shape @ (row * first)
        value, size = shape @ (row * rest[i]) - c * u / a, shape**2 @ row - c**2 / a
        far = np.abs(place - place[at[i, 0]]) > widths[which[i]]
        gain = np.where(far & (value > 0), value**2 / np.maximum(size, 1e-9 * a), -np.inf)
        at[i, 1] = gain.argmax()
    return _start(data, plain, layout, place, widths, shapes, which, at)


def _search_weights(data):
    """Weights of the bins, and those in which a bin is known no better than a template's shape."""
    padded = np.pad(data.y, ((0, 0), (1, 1)), mode="edge")
    smooth = np.abs(padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
    if data.weight is None:
        # a pattern of few counts in wide gaps must not get all the weight in the gaps
        variance = np.maximum(smooth, np.maximum(0.1 * smooth.mean(1, keepdims=True), 1e-12))
    else:
        variance = 1 / np.where(data.used, data.weight, 1)
    return data.used / variance, data.used / (variance + (_SHAPE * smooth) ** 2)


def _templates(place, width, eta, m):
    x = (np.arange(m + 1.0) - place[:, None]) / width
    gauss, lorentz = special.erf(_GAUSS * x) / 2, np.arctan(2 * x) / np.pi
    return np.diff(gauss + eta * (lorentz - gauss))


def _normal_equations(y, weight, shape, fraction):
    """Of one or two templates, after the background has been fitted out.

    The diagonal (N, p), the right-hand side (N, p), and what couples each pair (N, pairs).
    """
    base = np.stack([1 - fraction, fraction])
    own = (weight[:, None] * base) @ base.T
    # frames of which one side is missing do not determine both ends
    own += 1e-9 * np.trace(own, axis1=1, axis2=2)[:, None, None] * np.eye(2)
    cross = np.stack([weight @ (b * shape).T for b in base], axis=1)
    solved = np.linalg.solve(own, cross)
    first, second = np.triu_indices(len(shape), 1)
    diagonal = weight @ (shape**2).T - (cross * solved).sum(axis=1)
    coupling = weight @ (shape[first] * shape[second]).T
    for b in (0, 1):
        coupling -= cross[:, b, first] * solved[:, b, second]
    weighted = weight * y
    value = weighted @ shape.T - np.einsum("nbp,nb->np", solved, weighted @ base.T)
    return np.maximum(diagonal, 1e-300), value, coupling


def _best_single(equations, number):
    gains = np.stack([np.maximum(value, 0) ** 2 / own for own, value, _ in equations], axis=1)
    at = gains.argmax(axis=2)  # (N, widths)
    order = np.argsort(-gains.max(axis=2), axis=1)
    rows = np.arange(len(at))
    return [(order[:, i], at[rows, order[:, i]][:, None]) for i in range(number)]


def _best_pairs(equations, number):
    first, second = np.triu_indices(equations[0][0].shape[1], 1)
    gains, at = [], []
    for own, value, c in equations:
        a, b, u, v = own[:, first], own[:, second], value[:, first], value[:, second]
        det = np.maximum(a * b - c**2, 1e-9 * a * b)
        up, vp = b * u - c * v, a * v - c * u  # areas times the determinant
        gain = np.where((up > 0) & (vp > 0), (up * u + vp * v) / det, -np.inf)
        best = gain.argmax(axis=1)
        gains.append(gain[np.arange(len(best)), best])
        at.append(np.stack([first[best], second[best]], axis=1))
    gains, at = np.stack(gains, axis=1), np.stack(at, axis=1)
    order = np.argsort(-gains, axis=1)
    rows = np.arange(len(at))
    return [(order[:, i], at[rows, order[:, i]]) for i in range(number)]


def _start(data, weight, layout, place, widths, shapes, which, at):
    """Parameters of the picked places, the linear ones solved for."""
    n_peaks = at.shape[1]
    shapes = np.stack(shapes)[which[:, None], at]  # (N, P, m)
    base = np.broadcast_to(
        np.stack([1 - data.fraction, data.fraction]), (len(at), 2, len(data.fraction))
    )
    design = np.concatenate([shapes, base], axis=1)
    normal = (design * weight[:, None]) @ np.swapaxes(design, 1, 2)
    scale = np.maximum(np.einsum("nii->ni", normal), 1e-300)
    normal += 1e-9 * scale[:, None] * np.eye(n_peaks + 2)
    linear = np.linalg.solve(normal, (design @ (weight * data.y)[..., None]))[..., 0]
    total = np.abs(data.y).sum(axis=1, keepdims=True)
    theta = np.zeros((len(at), layout.size))
    theta[:, layout.positions] = place[at]
    theta[:, layout.areas] = np.maximum(linear[:, :n_peaks], 1e-3 * total)
    theta[:, layout.widths] = np.log(widths[which])[:, None]
    theta[:, layout.eta] = 0.5
    theta[:, -2:] = linear[:, n_peaks:]
    if layout.background == "power" or data.weight is None:
        mean = total / data.y.shape[1]
        theta[:, -2:] = np.maximum(theta[:, -2:], 1e-2 * mean)
    return theta


def _split(single, layout, first, second, part):
    """One peak in two: at so many of its widths from it, the first with this part of its area."""
    theta = np.zeros((len(single), layout.size))
    width = np.exp(single[:, 2])
    theta[:, 0], theta[:, 1] = single[:, 0] + first * width, single[:, 0] + second * width
    theta[:, 2], theta[:, 3] = part * single[:, 1], (1 - part) * single[:, 1]
    theta[:, layout.widths] = np.log(0.85 * width)[:, None]
    theta[:, -2:] = single[:, -2:]
    return theta


# --- iteration -----------------------------------------------------------------------------------


class _State(NamedTuple):
    theta: np.ndarray  # (N, q)
    deviance: np.ndarray  # (N,)
    damping: np.ndarray  # (N,)
    done: np.ndarray  # (N,)

    @classmethod
    def empty(cls, n, q):
        fill = np.full(n, np.inf)
        return cls(np.full((n, q), np.nan), fill, np.full(n, 1e-2), np.zeros(n, bool))

    def put(self, rows, other):
        for mine, theirs in zip(self, other, strict=True):
            mine[rows] = theirs

    def pick(self, rows):
        return _State(*(a[rows] for a in self))


def _best_of(data, layout, rows, starts, lower, upper, best):
    """Iterate several starts (s, N, q) of each row, and to the end the best that is left."""
    place = np.tile(np.arange(len(rows)), len(starts))
    trial = _climb(data, layout, rows[place], starts.reshape(-1, layout.size), lower, upper, _TRIAL)
    first = trial.deviance.reshape(len(starts), -1).argmin(axis=0) * len(rows)
    first += np.arange(len(rows))
    # what goes to the same place needs no second look, nor does anything where the best already
    # leaves no more than noise; else another start may overtake it
    other = np.isfinite(trial.deviance)
    other &= _elsewhere(trial.theta, trial.theta[first[place]], layout)
    freedom = data.used[rows].sum(axis=1) - layout.size
    other &= (trial.deviance[first] > freedom + 3 * np.sqrt(2 * freedom))[place]
    other[first] = True
    place, trial = place[other], trial.pick(other)
    trial = _resume(data, layout, rows[place], trial, lower, upper, _SECOND_TRIAL)
    order = np.lexsort((trial.deviance, place))
    winner = order[np.searchsorted(place[order], np.arange(len(rows)))]
    final = _resume(data, layout, rows, trial.pick(winner), lower, upper, _MAX_ITERATIONS)
    best.put(rows, final)


def _resume(data, layout, rows, state, lower, upper, max_iterations):
    return _climb(
        data, layout, rows, state.theta, lower, upper, max_iterations, state.damping, state.done
    )


def _from_neighbours(data, layout, rows, lower, upper, best):
    """Start again from the frames before and after while that is better anywhere."""
    changed = np.ones(len(data.y), bool)
    usable = np.zeros(len(data.y), bool)
    usable[rows] = True
    for _ in range(_ROUNDS):
        now = np.zeros_like(changed)
        for side in (-1, 1):
            at = rows + side
            inside = (at >= 0) & (at < len(usable))
            target, source = rows[inside], at[inside]
            keep = usable[source] & changed[source]
            keep &= _elsewhere(best.theta[target], best.theta[source], layout)
            target, source = target[keep], source[keep]
            if not target.size:
                continue
            start = np.clip(best.theta[source], lower[target], upper[target])
            trial = _climb(data, layout, target, start, lower, upper, _TRIAL)
            better = trial.deviance < best.deviance[target] - _IMPROVEMENT
            if better.any():
                at, part = target[better], trial.pick(better)
                final = _resume(data, layout, at, part, lower, upper, _MAX_ITERATIONS)
                best.put(target[better], final)
                now[target[better]] = True
        changed = now
        if not changed.any():
            break


def _elsewhere(theta, other, layout):
    """Whether other parameters are so different that they can lead to another maximum."""
    width = np.exp(theta[:, layout.widths]).min(axis=1, keepdims=True)
    far = np.abs(theta[:, layout.positions] - other[:, layout.positions]) > _NEAR * width
    wide = np.abs(theta[:, layout.widths] - other[:, layout.widths]) > _NEAR
    return far.any(axis=1) | wide.any(axis=1)


def _climb(data, layout, rows, theta, lower, upper, max_iterations, damping=None, done=None):
    """Damped scoring of a batch, in blocks."""
    state = _State.empty(len(rows), layout.size)
    state.theta[:] = theta
    if damping is not None:
        state.damping[:] = damping
    if done is not None:
        state.done[:] = done
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        part = state.pick(block)
        index = rows[block]
        _climb_block(data.rows(index), layout, part, lower[index], upper[index], max_iterations)
    return state


def _climb_block(data, layout, state, lower, upper, max_iterations):
    mean, slopes = _evaluate(state.theta, layout, data.fraction)
    state.deviance[:] = _deviance(data, mean)
    go = np.flatnonzero(~state.done)
    data, mean, slopes = data.rows(go), mean[go], slopes[go]
    for iteration in range(max_iterations):
        tolerance = _TOLERANCE if iteration < _PATIENCE else _LOOSE_TOLERANCE
        if not go.size:
            break
        theta = state.theta[go]
        step, promise = _step(data, theta, mean, slopes, state.damping[go], lower[go], upper[go])
        _limit(step, theta, layout)
        trial = np.clip(theta + step, lower[go], upper[go])
        trial_mean, trial_slopes = _evaluate(trial, layout, data.fraction)
        deviance = _deviance(data, trial_mean)
        better = deviance <= state.deviance[go]
        took = go[better]
        state.theta[took], state.deviance[took] = trial[better], deviance[better]
        mean[better], slopes[better] = trial_mean[better], trial_slopes[better]
        damping = np.where(better, state.damping[go] / 5, state.damping[go] * 4)
        state.damping[go] = np.clip(damping, 1e-9, 1e12)
        # so much damping that no step can be seen any more: this is the floor of rounding
        finished = (promise < tolerance) & (better | (promise < 1e-3 * tolerance))
        finished |= (damping > 1e9) & (promise < 1e-9 * np.maximum(1, state.deviance[go]))
        state.done[go[finished]] = True
        stay = ~finished & (damping < 1e12)
        if not stay.all():
            go, data, mean, slopes = go[stay], data.rows(stay), mean[stay], slopes[stay]


def _weights(data, mean):
    return data.used / mean if data.weight is None else data.weight


def _deviance(data, mean):
    rest = data.y - mean
    if data.weight is not None:
        return (data.weight * rest**2).sum(axis=1)
    positive = mean > 0
    safe = np.where(positive, mean, 1.0)
    terms = special.xlogy(data.y, np.where(data.y > 0, data.y, 1) / safe) - rest
    bad = (data.used & ~positive).any(axis=1)
    return np.where(bad, np.inf, 2 * (data.used * terms).sum(axis=1))


def _step(data, theta, mean, slopes, damping, lower, upper):
    """Damped scoring step, and the decrease of the deviance that the undamped one promises."""
    weight = _weights(data, mean)
    weighted = slopes * weight[:, None]
    normal = weighted @ np.swapaxes(slopes, 1, 2)
    gradient = (weighted @ (data.y - mean)[..., None])[..., 0]
    held = (theta <= lower) & (gradient <= 0) | (theta >= upper) & (gradient >= 0)
    diagonal = np.einsum("nii->ni", normal)
    held |= diagonal <= 0
    free = ~held
    scale = np.where(free, np.sqrt(np.where(free, diagonal, 1)), 1)
    gradient = np.where(free, gradient / scale, 0)
    normal = normal / (scale[:, :, None] * scale[:, None]) * (free[:, :, None] & free[:, None])
    eye = np.eye(theta.shape[1])
    # in units of the diagonal a relative 1e-12 is rounding, and keeps the system regular
    matrix = normal + eye * np.where(free, damping[:, None] + 1e-12, 1)[:, None]
    step = np.linalg.solve(matrix, gradient[..., None])[..., 0]
    promise = (gradient * step).sum(axis=1) * (1 + damping)
    return step / scale, promise


def _limit(step, theta, layout):
    """No step across more than a width, nor a width by more than a factor of two."""
    width = np.exp(theta[:, layout.widths])
    at = step[:, layout.positions]
    np.clip(at, -width, width, out=at)
    by = step[:, layout.widths]
    np.clip(by, -0.7, 0.7, out=by)


# --- output --------------------------------------------------------------------------------------


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
        model[rows], slopes = _evaluate(theta[rows], layout, data.fraction)
        weight = _weights(part, model[rows])
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


# --- without a model, and what follows from the parameters ---------------------------------------


class Moments(NamedTuple):
    """Moments of the profiles less a straight line, (n,) each, with their standard errors."""

    area: np.ndarray
    centroid: np.ndarray
    variance: np.ndarray
    skewness: np.ndarray
    area_error: np.ndarray
    centroid_error: np.ndarray
    variance_error: np.ndarray
    skewness_error: np.ndarray


def profile_moments(profiles, k, *, variance=None, n_side=None):
    r"""Centroid, variance and skewness of the profiles: no shape is assumed.

    The background is the straight line through the bins at both sides. What is left is linear in
    the profile, so that the errors follow exactly to first order, those of the line included:
    for the moment :math:`M = \sum w_i s_i/\sum s_i` of :math:`s = (1 - H)y` it is
    :math:`\sum_i V_i\,[(1 - H)^T(w - M)]_i^2/(\sum s)^2`.

    Lorentzian tails make the variance grow with the range: compare equal ranges only.

    Parameters
    ----------
    profiles : array of shape (n, m)
    k : array of shape (m,)
        Bin centres.
    variance : array of shape (m,) or (n, m), optional
        None: the profiles are counts.
    n_side : int, optional
        Bins at each side that are background alone. Default: an eighth of them, at least two.

    Returns
    -------
    Moments
        NaN for frames with a bin that is not finite: a gap in a peak shifts its centroid.
    """
    y, k = np.asarray(to_host(profiles), dtype=float), np.asarray(to_host(k), dtype=float)
    n_side = max(2, len(k) // 8) if n_side is None else n_side
    if not 1 <= n_side < len(k) / 2:
        raise ValueError(f"n_side={n_side} of {len(k)} bins leaves none for the peak")
    v = np.maximum(y, 0) if variance is None else np.asarray(to_host(variance), dtype=float)
    v = np.broadcast_to(v, y.shape)
    x = (k - k.mean()) / (k[1] - k[0])
    sides = np.r_[0:n_side, len(k) - n_side : len(k)]
    line = np.stack([np.ones_like(x), x], axis=1)
    hat = np.zeros((len(k), len(k)))
    hat[:, sides] = line @ np.linalg.pinv(line[sides])
    clean = np.eye(len(k)) - hat
    s = y @ clean.T

    def error(slope):
        return np.sqrt(((slope @ clean) ** 2 * v).sum(axis=1))

    with np.errstate(invalid="ignore", divide="ignore"):
        area = s.sum(axis=1)
        centre = s @ x / area
        off = x - centre[:, None]
        second = (s * off**2).sum(axis=1) / area
        third = (s * off**3).sum(axis=1) / area
        second_slope = (off**2 - second[:, None]) / area[:, None]
        third_slope = (off**3 - third[:, None] - 3 * second[:, None] * off) / area[:, None]
        positive = np.where(second > 0, second, np.nan)
        skewness = third / positive**1.5
        skew_slope = third_slope / positive[:, None] ** 1.5
        skew_slope -= (1.5 * skewness / positive)[:, None] * second_slope
        errors = [error(np.ones_like(off)), error(off / area[:, None])]
        errors += [error(second_slope), error(skew_slope)]
    step = k[1] - k[0]
    return Moments(
        area,
        k.mean() + step * centre,
        step**2 * second,
        skewness,
        errors[0],
        step * errors[1],
        step**2 * errors[2],
        errors[3],
    )


def half_asymmetry(profiles, k, position, background=0.0):
    """(right - left) / (right + left) of the content on both sides of a position.

    Parameters
    ----------
    profiles : array of shape (n, m)
    k : array of shape (m,)
    position : array of shape (n,)
        Where to cut; the bin that holds it is divided. Of the highest point, the number tells a
        skew; of the centroid or of a symmetric fit it is 0 to first order.
    background : array of shape (n, m), optional

    Returns
    -------
    array of shape (n,)
        Within the reach that both sides have.
    """
    s = np.asarray(to_host(profiles), dtype=float) - background
    k = np.asarray(to_host(k), dtype=float)
    at = (np.asarray(position, dtype=float) - k[0]) / (k[1] - k[0]) + 0.5
    reach = np.minimum(at, len(k) - at)[:, None]
    edges = np.arange(len(k) + 1.0) - at[:, None]
    inside = np.clip(edges, 0, reach)
    right = (s * np.diff(inside)).sum(axis=1)
    left = (s * np.diff(np.clip(edges, -reach, 0))).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (right - left) / (right + left)


def d_spacing(position, error):
    """Lattice spacing 1/k and its standard error."""
    return 1 / position, error / position**2


#: Scherrer's constant for the full width at half maximum: 0.89 for a slab, 0.94 for a cube seen
#: along an edge; 0.9 is what is meant where none is named.
SCHERRER = 0.9


def size_and_strain(position, fwhm, fwhm_error, eta, instrument=0.0):
    r"""Crystallite size, or relative breadth of d, from the width beyond the instrument's.

    With :math:`\beta^n = w^n - w_0^n` the size is :math:`0.9/\beta` if size is the only cause of
    the width, and the breadth :math:`\beta/k` if a distribution of d is. One reflection cannot
    tell the two apart. n = 2 - eta: exact for Gaussians (2) and Lorentzians (1), an interpolation
    between (Scherrer, Nachr. Ges. Wiss. Göttingen (1918) 98; Langford & Wilson, J. Appl. Cryst.
    11 (1978) 102, doi:10.1107/S0021889878012844).

    Parameters
    ----------
    position, fwhm, fwhm_error : array
        In units of k.
    eta : array
        Of the peaks, broadcast against them.
    instrument : float
        Full width at half maximum of a spot of a large perfect crystal.

    Returns
    -------
    size, size_error, breadth, breadth_error : array
        Size in units of 1/k, breadth (full width at half maximum) without a unit. NaN where the
        spot is not wider than the instrument's.
    """
    power = 2 - np.asarray(eta, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        rest = fwhm**power - instrument**power
        beta = np.where(rest > 0, rest, np.nan) ** (1 / power)
        error = (fwhm / beta) ** (power - 1) * fwhm_error
        size = SCHERRER / beta
        return size, size * error / beta, beta / position, error / position
