r"""The edge of a particle: how much of it a point of the image shows.

The mask, of whole pixels, is smoothed with a Gaussian of standard deviation w,

.. math:: s(R) = \sum_{ij \in \text{mask}} E_i(Y)\,E_j(X), \qquad
    E_j(X) = \tfrac12\Bigl[\operatorname{erf}\frac{X_j + d/2 - X}{\sqrt2\,w} -
    \operatorname{erf}\frac{X_j - d/2 - X}{\sqrt2\,w}\Bigr],

so that along a straight border s is 1/2 where the mask ends. It is sampled at w/2 and interpolated
by a cubic spline.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates, spline_filter
from scipy.special import erf

from hyperspy_lfp.kernels.imaging.placement import Grid

#: Samples of s for each width of the edge: the spline then errs by less than 1e-3.
_PER_WIDTH = 2
#: Widths beyond which s is 0 or 1, to 3e-7.
REACH = 5.0


class Edge(NamedTuple):
    """The particle's share s and the signed distance from its edge, positive inside."""

    grid: Grid
    coefficients: np.ndarray
    distance: np.ndarray


def edge_of(mask, spacing, width):
    """Prepare the edge of a mask.

    Parameters
    ----------
    mask : bool array of shape (ny, nx)
    spacing : (float, float)
        Size of its pixels, (dy, dx); places are counted from the middle of the mask.
    width : float
        Standard deviation of the Gaussian.

    Returns
    -------
    Edge
    """
    step = width / _PER_WIDTH
    grids, profiles = [], []
    for n, d in zip(mask.shape, spacing, strict=True):
        half = n * d / 2 + (REACH + 1) * width
        places = step * np.arange(-int(np.ceil(half / step)), int(np.ceil(half / step)) + 1)
        borders = (np.arange(n + 1) - n / 2) * d
        cumulative = erf((borders - places[:, None]) / (np.sqrt(2) * width)) / 2
        grids.append(places)
        profiles.append(np.diff(cumulative, axis=1))
    share = profiles[0] @ mask @ profiles[1].T
    inside = share > 0.5
    distance = distance_transform_edt(inside) - distance_transform_edt(~inside)
    grid = Grid(tuple(p[0] for p in grids), (step, step), share.shape)
    return Edge(grid, spline_filter(share, order=3, mode="mirror"), distance * step)


def share_at(edge, place):
    """s at places (2, ...) in (x, y) order."""
    index = edge.grid.index(place[1], place[0])
    s = map_coordinates(edge.coefficients, index, order=3, mode="nearest", prefilter=False)
    return np.clip(s, 0.0, 1.0)


def share_near(edge, place):
    """The same, the spline being evaluated only where s is neither 0 nor 1; places (2, n)."""
    distance = distance_at(edge, place)
    share = (distance > 0).astype(float)
    near = np.abs(distance) <= (REACH * _PER_WIDTH + 2) * edge.grid.step[0]
    share[near] = share_at(edge, place[:, near])
    return share


def distance_at(edge, place):
    """Signed distance from the edge, nearest sample; of far places that of the border."""
    index = np.rint(edge.grid.index(place[1], place[0])).astype(int)
    rows, columns = (np.clip(i, 0, n - 1) for i, n in zip(index, edge.grid.shape, strict=True))
    # beyond the grid it is farther still
    beyond = np.hypot(index[0] - rows, index[1] - columns) * edge.grid.step[0]
    return edge.distance[rows, columns] - beyond


def inside(mask, spacing, place):
    """Whether places (2, ...) in (x, y) order lie in a pixel of the mask."""
    found = np.ones(place.shape[1:], dtype=bool)
    index = []
    for n, d, at in zip(mask.shape, spacing, (place[1], place[0]), strict=True):
        i = np.floor(at / d + n / 2).astype(int)
        found &= (i >= 0) & (i < n)
        index.append(np.clip(i, 0, n - 1))
    return found & mask[tuple(index)]
