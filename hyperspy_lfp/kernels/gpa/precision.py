r"""Noise of strain and composition to be expected from reflections, before a map is made.

Of each reflection the variance of the phase gradient is known: from the dose D per pixel and the
contrast C of its fringes, :math:`\operatorname{var}(\partial_j P) = 1/(4\pi\sigma^4 D C^2)` with
the resolution :math:`\sigma` in pixels, or as measured. Each row of the displacement gradient e
then has the covariance

.. math::

   Q = \Bigl(4\pi^2 \sum_k \frac{\mathbf g_k \mathbf g_k^\mathsf{T}}
   {\operatorname{var}(\partial P_k)}\Bigr)^{-1} = \frac{M^{-1}}{16\pi^3\sigma^4 D}, \qquad
   M = \sum_k C_k^2\,\mathbf g_k \mathbf g_k^\mathsf{T},

and its columns are independent. The lengths of lattice vectors along the unit vectors
:math:`\mathbf v_i` change by :math:`\mathbf v_i^\mathsf{T} e \mathbf v_i`, whose covariance is
:math:`C_{ij} = (\mathbf v_i^\mathsf{T} Q \mathbf v_j)(\mathbf v_i\cdot\mathbf v_j)`: lengths along
perpendicular vectors are independent. With :math:`s_i`, the change of the length per unit of x,
generalised least squares has the variance :math:`1/(s^\mathsf{T} C^{-1} s)`.
"""

import numpy as np

from hyperspy_lfp.kernels._arrays import get_array_module
from hyperspy_lfp.kernels.gpa.lattice import quadratic_form


def strain_covariance(g, variance):
    """Covariance of each row of the displacement gradient.

    Parameters
    ----------
    g : array of shape (K, 2)
        Reciprocal vectors of two or more reflections, not all collinear.
    variance : array of shape (K, ...)
        Variance of the components of their phase gradients, in the square of the same unit.

    Returns
    -------
    array of shape (3, ...)
        Q_xx, Q_yy and Q_xy in the order of the components of g; NaN where a variance is.
    """
    xp = get_array_module(variance)
    weight = 4 * np.pi**2 / variance
    g = np.asarray(g, dtype=float)
    xx, yy, xy = (
        xp.tensordot(xp.asarray(product), weight, 1)
        for product in (g[:, 0] ** 2, g[:, 1] ** 2, g[:, 0] * g[:, 1])
    )
    det = xx * yy - xy**2
    return xp.stack([yy / det, xx / det, -xy / det])


def composition_variance(q, directions, slopes, systematic=0.0):
    """Variance of x from the lengths of lattice vectors.

    Parameters
    ----------
    q : array of shape (3, ...)
        See `strain_covariance`.
    directions : array of shape (n, 2)
        Unit vectors along the lattice vectors, in the same order of components.
    slopes : array of shape (n,)
        Relative change of their lengths per unit of x.
    systematic : float
        Error of a relative length that the weights allow for besides noise; zero gives the
        smallest variance there is.

    Returns
    -------
    array of shape (...)
        Due to the noise alone.
    """
    xp = get_array_module(q)
    slopes = np.asarray(slopes, dtype=float)
    noise = xp.stack(
        [
            xp.stack([quadratic_form(q, v, w) * float(np.dot(v, w)) for w in directions], axis=-1)
            for v in np.asarray(directions, dtype=float)
        ],
        axis=-2,
    )
    allowed_for = noise + systematic**2 * xp.eye(len(slopes))
    column = xp.broadcast_to(xp.asarray(slopes)[:, None], (*noise.shape[:-1], 1))
    weights = xp.linalg.solve(allowed_for, column)[..., 0]
    information = weights @ xp.asarray(slopes)
    return (weights[..., None, :] @ noise @ weights[..., None])[..., 0, 0] / information**2
