"""The expected content of the bins of a profile with peaks, and the data it is compared with.

The equations are those of `hyperspy_lfp.kernels.peaks.fit`.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from hyperspy_lfp.kernels._arrays import to_host

MODELS = ("one", "two", "graded", "tailed")
BACKGROUNDS = ("linear", "power")
#: Narrowest peak, in bins. Below it all of the peak is in one bin and the width is unknown.
_NARROWEST = 0.2
#: Rows of a batch: what stays in a processor's cache.
BLOCK = 256
#: Least background in a fit of counts, as a part of the mean count, and least ends of the graded
#: model, as a part of its width. Both keep logarithms and quotients finite.
LEAST_BACKGROUND, LEAST_SPREAD = 1e-6, 0.05
GAUSS = 2 * np.sqrt(np.log(2.0))


class Layout(NamedTuple):
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


def evaluate(theta, layout, fraction):
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
    gauss, lorentz = special.erf(GAUSS * x) / 2, np.arctan(2 * x) / np.pi
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
    gauss = GAUSS / np.sqrt(np.pi) * np.exp(-((GAUSS * x) ** 2))
    return gauss + eta * (2 / np.pi / (1 + 4 * x**2) - gauss)


def _integrals(x):
    """First, second and third integral of the Gaussian and of the Lorentzian of unit width."""
    c = GAUSS
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
    delta = np.where(spread < 0, -1, 1) * np.maximum(np.abs(spread), LEAST_SPREAD)
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
    still = np.abs(spread[:, 0]) < LEAST_SPREAD
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
    gauss, lorentz = special.erf(GAUSS * x) / 2, np.arctan(2 * x) / np.pi
    density = _density(x, eta)
    slopes[:, 2] = np.diff(gauss + eta * (lorentz - gauss))
    mean += area * slopes[:, 2]
    slopes[:, 0] -= area / width * np.diff(density)
    slopes[:, 4] -= area * np.diff(x * density)
    slopes[:, 5] += area * np.diff(lorentz - gauss)


class Data(NamedTuple):
    y: np.ndarray  # (n, m), 0 where not used
    used: np.ndarray  # (n, m), bool
    weight: np.ndarray | None  # (n, m); None: counts
    fraction: np.ndarray  # (m,): where between the first and the last bin the background is
    k: np.ndarray
    step: float

    def rows(self, index):
        weight = None if self.weight is None else self.weight[index]
        return self._replace(y=self.y[index], used=self.used[index], weight=weight)


def check_data(profiles, k, variance, model, background, eta):
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
    return Data(y, used, weight, fraction_of(k, background), k, (k[-1] - k[0]) / (len(k) - 1))


def fraction_of(k, background):
    place = np.log(k) if background == "power" else k
    return (place - place[0]) / (place[-1] - place[0])


def bounds(data, layout, eta):
    n, m = data.y.shape
    lower, upper = np.full((n, layout.size), -np.inf), np.full((n, layout.size), np.inf)
    lower[:, layout.positions], upper[:, layout.positions] = 0, m
    lower[:, layout.areas] = 0
    lower[:, layout.widths], upper[:, layout.widths] = np.log(_NARROWEST), np.log(m)
    lower[:, layout.eta], upper[:, layout.eta] = (0, 1) if eta is None else (eta, eta)
    if data.weight is None or layout.background == "power":
        mean = np.abs(data.y).sum(axis=1) / np.maximum(data.used.sum(axis=1), 1)
        lower[:, -2:] = LEAST_BACKGROUND * np.maximum(mean, np.finfo(float).tiny)[:, None]
    return lower, upper
