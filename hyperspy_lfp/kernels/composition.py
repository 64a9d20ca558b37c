r"""Composition from lattice lengths.

A material gives the relative lengths :math:`\lambda_i(x)` of some lattice vectors as piecewise
linear functions of the composition x (two knots: Vegard's law). Measured lengths with their
variances give x by generalised least squares,
:math:`x = \arg\min \sum_i (\lambda_i - \lambda_i(x))^2/\sigma_i^2`, where :math:`\sigma_i^2` is
the variance of the noise and of a small systematic part. On each linear piece this is a closed
form; the pieces at the ends are extended, so that x is never clipped.
"""

import numpy as np

from hyperspy_lfp.kernels._arrays import get_array_module

#: Error of a relative length that noise does not tell of. Tabulated lattice parameters of one
#: compound differ by up to 1e-3 between sources, and fringes shift near edges. It only weights:
#: without it, a strong lattice would let the length with the least noise decide alone.
_SYSTEMATIC = 1e-3


def invert_lengths(stretch, variance, knots, model):
    """Generalised least squares of one unknown on piecewise linear models.

    Parameters
    ----------
    stretch : array of shape (n, ...)
        Measured quantities.
    variance : array of shape (n, ...)
        Their variances due to noise; they are taken as independent. NaN if not known.
    knots : array of shape (m,)
        Compositions, increasing.
    model : array of shape (n, m)
        The quantities at the knots.

    Returns
    -------
    x : array of shape (...)
    variance_x : array of shape (...)
        Due to the noise.
    """
    xp = get_array_module(stretch)
    knots, model = np.asarray(knots, dtype=float), np.asarray(model, dtype=float)
    # where the noise is not known the lengths weigh the same
    weight = 1 / (xp.where(xp.isnan(variance), 0, variance) + _SYSTEMATIC**2)
    best_x = best_variance = best_misfit = None
    last = len(knots) - 2
    for piece in range(last + 1):
        start, width = knots[piece], knots[piece + 1] - knots[piece]
        slope = _column((model[:, piece + 1] - model[:, piece]) / width, stretch, xp)
        rest = stretch - _column(model[:, piece], stretch, xp)
        information = (weight * slope**2).sum(axis=0)
        x = (weight * slope * rest).sum(axis=0) / information
        if last > 0:
            low = -np.inf if piece == 0 else 0.0
            high = np.inf if piece == last else width
            x = xp.clip(x, low, high)
        misfit = (weight * (rest - slope * x) ** 2).sum(axis=0)
        x_variance = ((weight * slope) ** 2 * variance).sum(axis=0) / information**2
        if best_x is None:
            best_x, best_variance, best_misfit = x + start, x_variance, misfit
        else:
            better = misfit < best_misfit
            best_x = xp.where(better, x + start, best_x)
            best_variance = xp.where(better, x_variance, best_variance)
            best_misfit = xp.where(better, misfit, best_misfit)
    nan = xp.isnan(stretch).any(axis=0)
    return xp.where(nan, xp.nan, best_x), xp.where(nan, xp.nan, best_variance)


def _column(values, like, xp):
    return xp.asarray(values, dtype=like.dtype).reshape((-1,) + (1,) * (like.ndim - 1))
