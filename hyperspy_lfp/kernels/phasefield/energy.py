r"""Chemical potential of a regular solution with gradient energy and coherency [Bazant2013]_.

All energies in units of :math:`k_BT`, per site:

.. math::
    \mu = \Delta\mu + \ln\frac{x}{1-x} + \Omega\,(1-2x) + (Hx)
        - \tilde B\,\langle x\rangle,

where the linear operator :math:`H` holds the gradient energy, :math:`-\tilde\kappa\nabla^2`, and
the local part of coherency, :math:`\tilde B` (mean field: a cell is strained against the
particle's mean), or that of elasticity. :math:`\Delta\mu` and :math:`\Omega` may differ from cell
to cell.

References
----------
.. [Bazant2013] M. Z. Bazant, Theory of chemical kinetics and charge transfer based on
   nonequilibrium thermodynamics, Acc. Chem. Res. 46 (2013) 1144, doi:10.1021/ar300145c
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import brentq
from scipy.special import logit


class Energy(NamedTuple):
    """What the chemical potential of the cells is made of, in kT."""

    shift: np.ndarray  # (n,)
    interaction: np.ndarray  # (n,)
    operator: object  # (n, n), sparse, or dense for elasticity
    mean_field: float  # B~

    @property
    def is_dense(self):
        return isinstance(self.operator, np.ndarray)


def make_energy(shift, interaction, operator, mean_field=0.0):
    """The energy of cells, with the local part of the mean field in the operator.

    Parameters
    ----------
    shift, interaction : array of shape (n,)
    operator : sparse or dense array of shape (n, n)
        Gradient energy and elasticity; symmetric.
    mean_field : float
        B~.
    """
    shift = np.asarray(shift, dtype=float)
    if isinstance(operator, np.ndarray):
        operator = operator + mean_field * np.eye(len(shift))
    else:
        operator = (operator + mean_field * sparse.eye_array(len(shift))).tocsr()
    return Energy(shift, np.asarray(interaction, dtype=float), operator, float(mean_field))


def chemical_potential(x, mean, energy):
    """Chemical potential of the cells in kT.

    Parameters
    ----------
    x : array of shape (n,)
        Within 0 and 1.
    mean : float
        Mean of x.
    energy : Energy
    """
    local = energy.shift + logit(x) + energy.interaction * (1 - 2 * x)
    return local + energy.operator @ x - energy.mean_field * mean


def local_slope(x, energy):
    """Derivative of the chemical potential without the operator, (n,)."""
    return 1 / (x * (1 - x)) - 2 * energy.interaction


def free_energy(x, energy):
    """Free energy of all cells in kT per site of one cell, up to a constant of x.

    Its derivative with respect to the cells is `chemical_potential`.
    """
    entropy = x * np.log(x) + (1 - x) * np.log1p(-x)
    local = energy.shift * x + entropy + energy.interaction * x * (1 - x)
    mean_field = -energy.mean_field * x.mean() ** 2 * len(x) / 2
    return float(np.sum(local) + x @ (energy.operator @ x) / 2 + mean_field)


def spinodal(interaction):
    """Lower composition at which a regular solution becomes unstable; NaN if it never does.

    Examples
    --------
    >>> from hyperspy_lfp.kernels.phasefield.energy import spinodal
    >>> round(float(spinodal(4.51)), 3)
    0.127
    """
    omega = np.asarray(interaction, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (1 - np.sqrt(1 - 2 / omega)) / 2


def binodal(interaction):
    r"""Lower composition of the two phases of a regular solution; NaN if it does not separate.

    :math:`\ln[x/(1-x)] + \Omega(1-2x) = 0`; the other phase is at 1 - x.

    Examples
    --------
    >>> from hyperspy_lfp.kernels.phasefield.energy import binodal
    >>> round(binodal(4.51), 4)
    0.0121
    """
    omega = float(interaction)
    if not omega > 2:
        return float("nan")

    # in y = logit x, in which neither end is singular
    def excess(y):
        return y - omega * np.tanh(y / 2)

    return float(1 / (1 + np.exp(-brentq(excess, -omega - 1, _barely_unstable(omega)))))


def _barely_unstable(omega):
    """The logit of the spinodal: between it and minus infinity the excess has one zero."""
    return float(logit(spinodal(omega)))
