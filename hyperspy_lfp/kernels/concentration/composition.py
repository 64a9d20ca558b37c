r"""Composition from lattice lengths.

A material gives the relative lengths :math:`\lambda_i(x)` of some lattice vectors as piecewise
linear functions of the composition x (two knots: Vegard's law). Measured lengths with their
variances give x by generalised least squares,
:math:`x = \arg\min \sum_q (W_q\cdot(\lambda - \lambda(x)))^2/\sigma_q^2`, where the rows of W are
the quantities that are fitted (the lengths themselves, or their difference or sum) and
:math:`\sigma_q^2` is the variance of the noise and of a small systematic part. On each linear
piece this is a closed form; the pieces at the ends are extended, so that x is never clipped.

Two lengths and one unknown leave one check: the part of the lengths that no x explains.
"""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels._arrays import get_array_module

#: Error of a relative length that noise does not tell of. Tabulated lattice parameters of one
#: compound differ by up to 1e-3 between sources, and fringes shift near edges. In the fit it only
#: weights: without it, a strong lattice would let the length with the least noise decide alone.
TABULATED = 1e-3


class Composition(NamedTuple):
    """Composition with its noise, and how it depends on what was measured."""

    x: np.ndarray  # (...)
    variance: np.ndarray  # (...): due to the noise
    sensitivity: np.ndarray  # (n, ...): dx by the n lengths


def invert_lengths(stretch, variance, knots, lengths, weights=None, tabulated=TABULATED):
    """Generalised least squares of one unknown on piecewise linear models.

    Parameters
    ----------
    stretch : array of shape (n, ...)
        Measured relative lengths.
    variance : array of shape (n, ...)
        Their variances due to noise; they are taken as independent. NaN if not known.
    knots : array of shape (m,)
        Compositions, increasing.
    lengths : array of shape (n, m)
        The lengths at the knots.
    weights : array of shape (p, n), optional
        Quantities that are fitted, as combinations of the lengths. Default: each length.
    tabulated : float or array of shape (n,)
        Systematic error of each length, which weights.

    Returns
    -------
    Composition
    """
    xp = get_array_module(stretch)
    knots, lengths = np.asarray(knots, dtype=float), np.asarray(lengths, dtype=float)
    combine = np.eye(len(lengths)) if weights is None else np.asarray(weights, dtype=float)
    model = combine @ lengths
    measured = _combined(combine, stretch, xp)
    # where the noise is not known the lengths weigh the same
    known = xp.where(xp.isnan(variance), 0, variance)
    spread = _combined(combine**2, known, xp)
    floor = combine**2 @ np.broadcast_to(np.square(tabulated, dtype=float), len(lengths))
    weight = 1 / (spread + _column(floor, stretch, xp))
    best_x = best_gain = best_misfit = None
    last = len(knots) - 2
    for piece in range(last + 1):
        start, width = knots[piece], knots[piece + 1] - knots[piece]
        slope = _column((model[:, piece + 1] - model[:, piece]) / width, stretch, xp)
        rest = measured - _column(model[:, piece], stretch, xp)
        gain = weight * slope
        gain /= (gain * slope).sum(axis=0)
        x = (gain * rest).sum(axis=0)
        if last > 0:
            low = -np.inf if piece == 0 else 0.0
            high = np.inf if piece == last else width
            x = xp.clip(x, low, high)
        if last == 0:
            best_x, best_gain = x + start, gain
            break
        misfit = (weight * (rest - slope * x) ** 2).sum(axis=0)
        if best_x is None:
            best_x, best_gain, best_misfit = x + start, gain, misfit
        else:
            better = misfit < best_misfit
            best_x = xp.where(better, x + start, best_x)
            best_gain = xp.where(better, gain, best_gain)
            best_misfit = xp.where(better, misfit, best_misfit)
    sensitivity = _combined(combine.T, best_gain, xp)
    noise = (sensitivity**2 * variance).sum(axis=0)
    nan = xp.isnan(stretch).any(axis=0)
    return Composition(xp.where(nan, xp.nan, best_x), xp.where(nan, xp.nan, noise), sensitivity)


def misfit(stretch, variance, x, knots, lengths):
    r"""The part of two lengths that no composition explains.

    With the slopes :math:`s_i = d\lambda_i/dx` it is the component of the residual across them,
    :math:`(s_1\,\delta_0 - s_0\,\delta_1)/|s|`, :math:`\delta_i = m_i - \lambda_i(x)`: a strain,
    which an error of x itself leaves alone.

    Parameters
    ----------
    stretch, variance : array of shape (2, ...)
    x : array of shape (...)
    knots : array of shape (m,)
    lengths : array of shape (2, m)

    Returns
    -------
    misfit, variance : array of shape (...)
        Zero where the lengths are right; the variance due to the noise.
    """
    xp = get_array_module(stretch)
    expected, slope = expected_lengths(x, knots, lengths)
    rest = stretch - expected
    size = xp.sqrt((slope**2).sum(axis=0))
    across = xp.stack([slope[1], -slope[0]]) / size
    return (across * rest).sum(axis=0), (across**2 * variance).sum(axis=0)


def expected_lengths(x, knots, lengths):
    """Lengths and their derivatives at a composition, (n, ...) each; the end pieces extended."""
    xp = get_array_module(x)
    knots, lengths = np.asarray(knots, dtype=float), np.asarray(lengths, dtype=float)
    slopes = np.diff(lengths, axis=1) / np.diff(knots)
    value = xp.empty((len(lengths), *x.shape), dtype=x.dtype)
    slope = xp.empty_like(value)
    piece = xp.searchsorted(xp.asarray(knots[1:-1], dtype=x.dtype), x, side="right")
    start = xp.asarray(knots[:-1], dtype=x.dtype)[piece]
    for i in range(len(lengths)):
        slope[i] = xp.asarray(slopes[i], dtype=x.dtype)[piece]
        value[i] = xp.asarray(lengths[i, :-1], dtype=x.dtype)[piece] + slope[i] * (x - start)
    return value, slope


def _combined(matrix, arrays, xp):
    """Linear combinations along the first axis, in the arrays' own precision."""
    return xp.tensordot(xp.asarray(matrix.astype(arrays.dtype)), arrays, 1)


def _column(values, like, xp):
    return xp.asarray(values, dtype=like.dtype).reshape((-1,) + (1,) * (like.ndim - 1))
