r"""Where in the undeformed particle each point of an image is.

A point R of the undeformed particle is seen at

.. math:: r = s + T\,[R + u(R)], \qquad
    T = \begin{pmatrix} \cos\theta & \sin\theta \\ -\sin\theta & \cos\theta \end{pmatrix}

in (x, y) order, y down, so that :math:`\theta` turns counter-clockwise as displayed. What an image
needs is the inverse. With :math:`q = T^\mathsf{T}(r - s)` it is :math:`R = q + v(r)`,
:math:`v = -u(R)`, solved by iterating :math:`R \leftarrow q - u(R)`, which gains a digit or more
each time for the strains of crystals, on a coarse grid of image points; v is the cubic spline
through them. That spline is what is drawn, and its own derivative gives the deformation,
:math:`F^{-1} = \partial R/\partial r = T^\mathsf{T} + \partial v/\partial r`: of the image there is
no better truth.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import map_coordinates, spline_filter

#: Nodes of the coarse grid beyond the frame on each side: the spline's ends, which mirror it, fall
#: off by a factor of four a node.
_MARGIN = 9
#: Change of R at which the iteration stops, in units of the coarse step, and its most steps. A
#: gradient of 0.9 is reached in so many.
_CONVERGED = 1e-8
_MOST = 250


class Grid(NamedTuple):
    """Places of samples, (y, x) order, any unit of length."""

    origin: tuple
    step: tuple
    shape: tuple

    def axis(self, i):
        """Places of the samples along axis i."""
        return self.origin[i] + self.step[i] * np.arange(self.shape[i])

    def index(self, y, x):
        """Indices, with fractions, of places."""
        return np.stack([(y - self.origin[0]) / self.step[0], (x - self.origin[1]) / self.step[1]])


def coarse_grid(shape, pixel, step, border=0.0):
    """Grid of image points that covers a frame with the margin its spline needs.

    Parameters
    ----------
    shape : (int, int)
        Of the frame, (y, x).
    pixel, step : float
        Distance of the pixels, of which the first is at zero, and of the grid's nodes.
    border : float
        Width around the frame that is covered as well.

    Returns
    -------
    Grid
    """
    before = _MARGIN + int(np.ceil(border / step))
    nodes = [int(np.ceil((n - 1) * pixel / step)) + 1 + 2 * before for n in shape]
    return Grid((-before * step,) * 2, (step, step), tuple(nodes))


def covers(grid, y, x):
    """Whether the spline on a coarse grid is known at all places along y and x."""
    return all(
        places.min() >= axis[1] and places.max() <= axis[-2]
        for places, axis in ((y, grid.axis(0)), (x, grid.axis(1)))
    )


def turn(angle):
    """The matrix T, (x, y) order, for an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s], [-s, c]])


def unplaced(y, x, shift, angle):
    """q of image points along y and x, (2, y, x) in (x, y) order."""
    back = turn(angle).T
    dx, dy = x[None, :] - shift[0], y[:, None] - shift[1]
    return np.stack([back[0, 0] * dx + back[0, 1] * dy, back[1, 0] * dx + back[1, 1] * dy])


def sample(coefficients, grid, place):
    """A spline on a grid at places (2, ...) in (x, y) order; beyond the grid as at its border."""
    index = grid.index(place[1], place[0])
    return map_coordinates(coefficients, index, order=3, mode="nearest", prefilter=False)


def invert(u, grid, shift, angle, coarse):
    """Spline coefficients of v on the coarse grid of an image.

    Parameters
    ----------
    u : array of shape (2, ny, nx)
        Spline coefficients of the displacement on `grid`, (x, y) order of components.
    grid : Grid
        In the undeformed particle.
    shift : (float, float)
        s, (x, y) order.
    angle : float
        In radians.
    coarse : Grid
        Of image points.

    Returns
    -------
    array of shape (2, y, x), those of the grid

    Raises
    ------
    ValueError
        If the displacement folds the particle over itself, so that there is no inverse.
    """
    q = unplaced(coarse.axis(0), coarse.axis(1), shift, angle)
    v = np.zeros_like(q)
    for _ in range(_MOST):
        at = q + v
        new = -np.stack([sample(component, grid, at) for component in u])
        change = np.abs(new - v).max()
        v = new
        if change <= _CONVERGED * coarse.step[0]:
            break
    else:
        raise ValueError(
            "the displacement has no inverse: its gradient is about one or more, so that the "
            "particle would fold over itself. Composition that varies less steeply, or a coherent "
            "lattice instead of pointwise Vegard's law, has a smaller one."
        )
    return np.stack([spline_filter(component, order=3, mode="mirror") for component in v])


class Basis(NamedTuple):
    """Cubic B-splines at places along one axis: those of the nodes first to last."""

    first: int
    weights: np.ndarray  # (places, nodes)

    def of(self, coefficients, axis):
        """Sum with the coefficients along an axis, 0 or 1 of the last two."""
        chosen = slice(self.first, self.first + self.weights.shape[1])
        if axis == 0:
            return self.weights @ coefficients[..., chosen, :]
        return coefficients[..., chosen] @ self.weights.T


def basis(grid, axis, places, derivative=False):
    """Values, or derivatives per unit of length, of the B-splines of a grid.

    Parameters
    ----------
    grid : Grid
    axis : int
    places : array of shape (n,)
        At least one node away from the ends of the grid.
    derivative : bool

    Returns
    -------
    Basis
    """
    at = (np.asarray(places, dtype=float) - grid.origin[axis]) / grid.step[axis]
    node = np.clip(np.floor(at).astype(int), 1, grid.shape[axis] - 3)
    t = at - node
    if derivative:
        values = [-((1 - t) ** 2) / 2, (3 * t**2 - 4 * t) / 2, (1 + 2 * t - 3 * t**2) / 2, t**2 / 2]
        values = [v / grid.step[axis] for v in values]
    else:
        values = [
            (1 - t) ** 3 / 6,
            (3 * t**3 - 6 * t**2 + 4) / 6,
            (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6,
            t**3 / 6,
        ]
    first = int(node.min()) - 1
    weights = np.zeros((len(at), int(node.max()) + 3 - first))
    rows = np.arange(len(at))
    for k, value in enumerate(values):
        weights[rows, node - 1 + k - first] = value
    return Basis(first, weights)


def sample_nodes(coefficients):
    """Values of splines at the nodes of their grid, which mirrors at its ends."""
    for axis in (-2, -1):
        padded = np.pad(
            coefficients,
            [(1, 1) if i == axis % coefficients.ndim else (0, 0) for i in range(coefficients.ndim)],
            mode="reflect",
        )
        n = coefficients.shape[axis]
        low, middle, high = (np.take(padded, range(i, i + n), axis) for i in range(3))
        coefficients = (low + 4 * middle + high) / 6
    return coefficients


def inverse_gradient(v, coarse, y, x, angle):
    """F^-1 = dR/dr at image points along y and x, (2, 2, y, x): component, derivative, (x, y)."""
    along_y, along_x = basis(coarse, 0, y), basis(coarse, 1, x)
    slope_y, slope_x = basis(coarse, 0, y, True), basis(coarse, 1, x, True)
    d_dx = along_y.of(slope_x.of(v, 1), 0)
    d_dy = slope_y.of(along_x.of(v, 1), 0)
    return np.stack([d_dx, d_dy], axis=1) + turn(angle).T[:, :, None, None]


def material_points(v, coarse, y, x, shift, angle):
    """R of image points along y and x, (2, y, x) in (x, y) order."""
    own = basis(coarse, 0, y).of(basis(coarse, 1, x).of(v, 1), 0)
    return unplaced(y, x, shift, angle) + own
