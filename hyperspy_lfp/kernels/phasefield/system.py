r"""The equations of one implicit stage as a bordered sparse system.

Unknowns are the compositions of the cells, the potential of the electrons :math:`\mu_e` and the
mean composition :math:`\bar x`; with the rate of change

.. math::
    F = k\,r(x, \mu, \mu_e) + \nabla\cdot[D\,x(1-x)\,\nabla\mu]

a stage of length :math:`\tau` from the state b solves

.. math::
    x - \tau F(x, \mu_e, \bar x) = b, \qquad \bar x - \langle x\rangle = 0, \qquad
    \text{control}(\mu_e, \bar x) = 0.

The constraints are linear, so that a whole Newton step fulfils them to rounding: no lithium is
lost. Every entry of the Jacobian is linear in a few vectors (slopes of the rate in the cells,
mobilities at the faces), so that the sparse pattern and the map from these vectors to the entries
are made once; see `build_pattern`.

Host only: SciPy's sparse matrices.
"""

from typing import NamedTuple

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.linalg import splu

from hyperspy_lfp.kernels.phasefield.energy import chemical_potential, local_slope


class Galvanostatic(NamedTuple):
    """The mean composition changes at a given rate."""

    rate: float  # 1/time, negative while lithium leaves

    def residual(self, mu_e, mean, wanted, base_mean, stage):
        return mean - wanted

    def slopes(self, stage):
        """Derivatives with respect to mu_e and to the mean."""
        return 0.0, 1.0


class Potentiostatic(NamedTuple):
    """Given potential of the electrons, over a resistance in series."""

    mu_e: float  # kT
    resistance: float = 0.0  # kT per (1/time) of the rate of the mean

    def residual(self, mu_e, mean, wanted, base_mean, stage):
        return mu_e - self.mu_e + self.resistance * (mean - base_mean) / stage

    def slopes(self, stage):
        """Derivatives with respect to mu_e and to the mean."""
        return 1.0, self.resistance / stage


class Problem(NamedTuple):
    """A particle and how it is driven."""

    grid: object  # Grid
    energy: object  # Energy
    rate_law: object  # of (x, mu, mu_e); see `hyperspy_lfp.kernels.phasefield.kinetics`
    rate_constant: np.ndarray  # (n,), 1/time
    diffusivity: np.ndarray  # (f,) at the faces, length squared per time
    control: object  # Galvanostatic or Potentiostatic


class Linearised(NamedTuple):
    """Rate of change of the cells, and the vectors that its derivatives are linear in."""

    rate: np.ndarray  # (n,)
    coefficients: np.ndarray  # of the derivatives with respect to x; see `build_pattern`
    of_mu_e: np.ndarray  # (n,)
    of_mean: np.ndarray  # (n,)


class Pattern(NamedTuple):
    """Where the entries of the Jacobian are, and how they follow from the coefficients."""

    entries: sparse.csr_array  # (entries, coefficients)
    indices: np.ndarray
    indptr: np.ndarray
    size: int


def linearise(x, mu_e, mean, problem):
    """Rate of change at a state, with its derivatives."""
    grid, energy = problem.grid, problem.energy
    mu = chemical_potential(x, mean, energy)
    rate, of_x, of_mu, of_mu_e = problem.rate_law(x, mu, mu_e)
    k = problem.rate_constant
    slope = local_slope(x, energy)
    cells = [k * (of_x + of_mu * slope), k * of_mu]
    rate = k * rate
    faces = []
    if problem.diffusivity.any():
        at = x[grid.faces].mean(axis=1)
        mobility = problem.diffusivity * at * (1 - at)
        gradient = grid.gradient @ mu
        rate = rate - grid.gradient.T @ (mobility * gradient)
        with_slope = mobility[:, None] * slope[grid.faces]
        of_mobility = problem.diffusivity * (0.5 - at) * gradient
        faces = [mobility, with_slope[:, 0], with_slope[:, 1], of_mobility]
    return Linearised(
        rate, np.concatenate(cells + faces), k * of_mu_e, -energy.mean_field * cells[1]
    )


def rate_of_change(x, mu_e, mean, problem):
    """Rate of change of the cells, (n,)."""
    return linearise(x, mu_e, mean, problem).rate


def build_pattern(problem):
    """The Jacobian of a stage: its sparse pattern, and the map from the coefficients to it.

    The coefficients are one, those of `linearise` (in the cells the slope of the rate with
    respect to x and to mu; at the faces the mobility, the mobility times the slope of mu in
    either cell, and the slope of the mobility times the gradient of mu), the derivatives with
    respect to mu_e and to the mean, and the two of the control.
    """
    n = problem.grid.size
    cells = np.arange(n)
    parts = [_entries(cells, cells, np.zeros(n, dtype=int), np.ones(n))]  # identity
    start = 1
    for part, length in _derivatives(problem):
        rows, columns, coefficients, weights = part
        parts.append(_entries(rows, columns, start + coefficients, weights))
        start += length
    for column in (n, n + 1):
        parts.append(_entries(cells, np.full(n, column), start + cells, np.ones(n)))
        start += n
    parts.append(_entries(np.full(n, n), cells, np.zeros(n, dtype=int), np.full(n, -1 / n)))
    parts.append(_entries([n, n + 1, n + 1], [n + 1, n, n + 1], [0, start, start + 1], [1.0] * 3))
    rows, columns, coefficients, weights = (np.concatenate(p) for p in zip(*parts, strict=True))
    places, entry = np.unique(columns * (n + 2) + rows, return_inverse=True)
    entries = sparse.coo_array((weights, (entry, coefficients)), (len(places), start + 2))
    indptr = np.searchsorted(places // (n + 2), np.arange(n + 3))
    return Pattern(entries.tocsr(), places % (n + 2), indptr, n + 2)


def factorise(linearised, stage, problem, pattern):
    """A function that solves the Jacobian of a stage of length `stage`."""
    coefficients = np.concatenate(
        [
            [1.0],
            -stage * linearised.coefficients,
            -stage * linearised.of_mu_e,
            -stage * linearised.of_mean,
            problem.control.slopes(stage),
        ]
    )
    matrix = sparse.csc_array(
        (pattern.entries @ coefficients, pattern.indices, pattern.indptr),
        (pattern.size, pattern.size),
    )
    if not np.isfinite(matrix.data).all():
        raise FloatingPointError("the Jacobian is not finite")
    if problem.energy.is_dense:
        return _dense_solver(matrix, linearised, stage, problem)
    # the pattern is symmetric; pivots that need not be the largest keep the ordering
    return splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.01).solve


def residual(x, mu_e, mean, base, wanted, stage, problem, rate):
    """What the equations of a stage lack, (n + 2,)."""
    control = problem.control.residual(mu_e, mean, wanted, base.mean(), stage)
    return np.concatenate([x - base - stage * rate, [mean - x.mean(), control]])


def _entries(rows, columns, coefficients, weights):
    return tuple(np.asarray(a) for a in (rows, columns, coefficients, weights))


def _derivatives(problem):
    """Entries of each kind of coefficient of `linearise`, and how many coefficients it has."""
    grid = problem.grid
    n, cells = grid.size, np.arange(grid.size)
    dense = problem.energy.is_dense
    operator = sparse.csr_array((n, n)) if dense else problem.energy.operator
    yield (cells, cells, cells, np.ones(n)), n
    coo = operator.tocoo()
    yield (coo.row, coo.col, coo.row, coo.data), n
    if not problem.diffusivity.any():
        return
    faces = grid.faces
    f, number = len(faces), np.arange(len(faces))
    of_face = np.stack(
        [np.asarray(grid.gradient[number, faces[:, side]]).ravel() for side in (0, 1)], axis=1
    )
    # what flows out of either side with a gradient of mu: of the operator, ...
    product = (grid.gradient @ operator).tocoo()
    yield _of_both_sides(faces, of_face, product.row, product.col, product.data), f
    for side in (0, 1):  # ... of the local slope, ...
        yield _of_both_sides(faces, of_face, number, faces[:, side], of_face[:, side]), f
    # ... and with the mobility, which is that of the mean of both
    both = np.concatenate([number, number])
    yield _of_both_sides(faces, of_face, both, faces.T.ravel(), np.ones(2 * f)), f


def _of_both_sides(faces, of_face, face, column, weight):
    """Entries of -G^T diag(coefficient) W with W given as (face, column, weight)."""
    rows = np.concatenate([faces[face, 0], faces[face, 1]])
    weights = np.concatenate([-of_face[face, 0] * weight, -of_face[face, 1] * weight])
    return rows, np.tile(column, 2), np.tile(face, 2), weights


def _dense_solver(matrix, linearised, stage, problem):
    """The Jacobian with an operator that joins each cell with every other."""
    n = problem.grid.size
    full = matrix.toarray()
    operator = problem.energy.operator
    change = linearised.coefficients[n : 2 * n, None] * operator
    if problem.diffusivity.any():
        mobility = linearised.coefficients[2 * n : 2 * n + len(problem.grid.faces), None]
        gradient = problem.grid.gradient
        change -= gradient.T @ (mobility * (gradient @ operator))
    full[:n, :n] -= stage * change
    factor = linalg.lu_factor(full, check_finite=False)
    return lambda right: linalg.lu_solve(factor, right, check_finite=False)
