r"""Rates of insertion at a surface, thermodynamically consistent.

Every rate is an exchange rate times a function of the overpotential
:math:`\eta = \mu - \mu_e` (in kT; negative: lithium enters),

.. math::
    r = f(x, \mu)\,h(\eta), \qquad h(0) = 0, \quad h'(0) = -1,

so that it vanishes in equilibrium. In units of the rate constant k:

- `butler_volmer`: :math:`(1-x)[e^{\mu_e/2} - e^{\mu-\mu_e/2}]`, that is
  :math:`f = (1-x)\,e^{\mu/2}`, :math:`h = -2\sinh(\eta/2)`. The factor 1 - x is the exclusion of
  the transition state, which needs an empty site [Bazant2013]_.
- `hump`: :math:`f = 2x\sqrt{1-x}` with the same h: an exchange rate that the composition alone
  determines.
- `marcus`: f of `butler_volmer`, and the Marcus-Hush-Chidsey h in the closed form of
  [Zeng2014]_, :math:`h \propto -\tanh(\eta/2)\,\mathrm{erfc}
  [(\lambda - \sqrt{1+\sqrt\lambda+\eta^2})/(2\sqrt\lambda)]`, scaled to :math:`h'(0) = -1`.
  :math:`\lambda` is the reorganisation energy in kT; it saturates where Butler-Volmer grows
  exponentially. The closed form is within 5 % of the integral for :math:`\lambda` from 8 to 15,
  within 9 % from 5 to 20.

A rate law is a function of ``(x, mu, mu_e)`` that returns the rate and its derivatives with
respect to each of the three.

References
----------
.. [Bazant2013] M. Z. Bazant, Theory of chemical kinetics and charge transfer based on
   nonequilibrium thermodynamics, Acc. Chem. Res. 46 (2013) 1144, doi:10.1021/ar300145c
.. [Zeng2014] Y. Zeng, R. B. Smith, P. Bai, M. Z. Bazant, Simple formula for
   Marcus-Hush-Chidsey kinetics, J. Electroanal. Chem. 735 (2014) 77,
   doi:10.1016/j.jelechem.2014.09.038
"""

import functools

import numpy as np
from scipy.special import erfc

#: Step of the numerical derivatives of a rate law of the user: the cube root of the rounding.
_STEP = 6e-6


def butler_volmer(x, mu, mu_e):
    """Butler-Volmer rate with an excluded transition state."""
    into, out = np.exp(mu_e / 2), np.exp(mu - mu_e / 2)
    free = 1 - x
    return (
        free * (into - out),
        out - into,
        -free * out,
        free * (into + out) / 2,
    )


def hump(x, mu, mu_e):
    """Exchange rate with a maximum at x = 2/3, and Butler-Volmer's dependence on potential."""
    exchange = 2 * x * np.sqrt(1 - x)
    slope = 2 * np.sqrt(1 - x) - x / np.sqrt(1 - x)
    eta = mu - mu_e
    drive, of_eta = -2 * np.sinh(eta / 2), -np.cosh(eta / 2)
    return exchange * drive, slope * drive, exchange * of_eta, -exchange * of_eta


def marcus(reorganisation):
    """The Marcus-Hush-Chidsey rate law for a reorganisation energy in kT."""
    return functools.partial(_marcus, reorganisation=float(reorganisation))


def from_function(function):
    """A rate law from a function of (x, mu, mu_e), differentiated numerically."""
    return functools.partial(_differentiated, function=function)


def _marcus(x, mu, mu_e, reorganisation):
    exchange = (1 - x) * np.exp(mu / 2)
    drive, of_eta = _marcus_drive(mu - mu_e, reorganisation)
    value = exchange * drive
    return (
        value,
        -np.exp(mu / 2) * drive,
        value / 2 + exchange * of_eta,
        -exchange * of_eta,
    )


def _marcus_drive(eta, reorganisation):
    """h and its derivative."""
    width = 2 * np.sqrt(reorganisation)
    root = np.sqrt(1 + np.sqrt(reorganisation) + eta**2)
    at_rest = erfc((reorganisation - np.sqrt(1 + np.sqrt(reorganisation))) / width)
    part = (reorganisation - root) / width
    tail, tanh = erfc(part), np.tanh(eta / 2)
    of_tail = 2 / np.sqrt(np.pi) * np.exp(-(part**2)) * eta / (root * width)
    slope = (1 - tanh**2) / 2 * tail + tanh * of_tail
    return -2 * tanh * tail / at_rest, -2 * slope / at_rest


def _differentiated(x, mu, mu_e, function):
    # a step that keeps x between 0 and 1
    h = _STEP * np.minimum(x, 1 - x)
    of_x = (function(x + h, mu, mu_e) - function(x - h, mu, mu_e)) / (2 * h)
    of_mu = (function(x, mu + _STEP, mu_e) - function(x, mu - _STEP, mu_e)) / (2 * _STEP)
    of_mu_e = (function(x, mu, mu_e + _STEP) - function(x, mu, mu_e - _STEP)) / (2 * _STEP)
    return function(x, mu, mu_e), of_x, of_mu, of_mu_e
