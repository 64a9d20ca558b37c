r"""Finite volumes on the pixels of a mask.

Cells are the pixels of the mask in its order, faces the borders that two of them share. With the
differences across the faces over their distance, :math:`G`, the divergence is :math:`-G^T`, and the
Laplacian without flux through the edge of the mask

.. math::
    \nabla\cdot(w \nabla x) \to -G^T\,\mathrm{diag}(w)\,G\,x.

Its columns sum to zero: what leaves a cell arrives in the next one.

Host only: SciPy's sparse matrices.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse


class Grid(NamedTuple):
    """Cells and faces of a mask."""

    mask: np.ndarray  # (ny, nx) bool
    spacing: tuple  # (dy, dx), any one unit of length
    faces: np.ndarray  # (f, 2): the cells on both sides
    gradient: sparse.csr_array  # (f, n), 1/length

    @property
    def size(self):
        """Number of cells."""
        return int(self.mask.sum())

    def on_map(self, values):
        """Values of the cells, (..., n), as maps, (..., ny, nx); NaN outside the mask."""
        maps = np.full((*values.shape[:-1], *self.mask.shape), np.nan)
        maps[..., self.mask] = values
        return maps


def build_grid(mask, spacing):
    """Cells and faces of a mask.

    Parameters
    ----------
    mask : bool array of shape (ny, nx)
    spacing : (float, float)
        Size of a pixel, (dy, dx).

    Returns
    -------
    Grid
    """
    mask = np.asarray(mask, dtype=bool)
    number = np.full(mask.shape, -1)
    number[mask] = np.arange(mask.sum())
    faces, lengths = [], []
    for axis, length in enumerate(spacing):
        lower = np.take(number, range(mask.shape[axis] - 1), axis)
        upper = np.take(number, range(1, mask.shape[axis]), axis)
        both = (lower >= 0) & (upper >= 0)
        faces.append(np.stack([lower[both], upper[both]], axis=1))
        lengths.append(np.full(both.sum(), float(length)))
    faces, lengths = np.concatenate(faces), np.concatenate(lengths)
    rows = np.repeat(np.arange(len(faces)), 2)
    weights = np.stack([-1 / lengths, 1 / lengths], axis=1)
    gradient = sparse.coo_array(
        (weights.ravel(), (rows, faces.ravel())), (len(faces), int(mask.sum()))
    )
    return Grid(mask, tuple(spacing), faces, gradient.tocsr())


def walls(labels, grid):
    """Faces between cells with different labels, (f,) bool."""
    first, second = np.asarray(labels)[grid.faces.T]
    return first != second


def gradient_operator(weights, grid):
    """The operator :math:`-\\nabla\\cdot w\\nabla` with weights at the faces, (n, n)."""
    g = grid.gradient
    return (g.T @ sparse.diags_array(weights) @ g).tocsr()
