"""Profiles without a model: moments, and what follows from position and width."""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels._arrays import to_host


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
