"""The parts of a crystal that diffract by themselves: their compositions and local lattices."""

import numpy as np

from hyperspy_lfp.kernels.imaging.extension import extend
from hyperspy_lfp.simulation._lattice import TENSION, axes_in_map, nodal_displacement

#: Compositions this close are one part at their mean: (600) moves by 1e-3 1/nm within, so that
#: spots of 0.03 1/nm are narrower by less than a ten thousandth for what is lost.
_STEP = 1 / 256


def free_parts(source):
    """Parts of like composition, whose lattice is that of a free crystal.

    Returns
    -------
    array of shape (frames, n, 2)
        Composition, and share of the crystal; the unused ones at the end have the share zero.
    """
    size = np.count_nonzero(source.mask)
    frames = [_levels(x[np.isfinite(x)]) for x in source.x]
    out = np.zeros((len(frames), max(len(x) for x, _ in frames), 2))
    for row, (x, number) in zip(out, frames, strict=True):
        row[:, 0] = x[0]
        row[: len(x), 0], row[: len(x), 1] = x, number / size
    return out


def _levels(x):
    """Mean and number of the compositions in each step."""
    _, which, number = np.unique(np.floor(x / _STEP), return_inverse=True, return_counts=True)
    low = np.full(len(number), np.inf)
    np.minimum.at(low, which, x)
    # from the lowest, so that equal ones have their own value as the mean
    return low + np.bincount(which, x - low[which]) / number, number


def coherent_parts(source, zone, condition):
    """All pixels, with the lattice of the free-standing particle in elastic equilibrium.

    Returns
    -------
    array of shape (frames, n, 6)
        Composition, share of the crystal, and the four components of the inverse transposed
        deformation gradient along the two in-plane axes of the cell, row by row: it takes
        reciprocal vectors at composition 0 to local ones.

    Raises
    ------
    ValueError
        If the beam is not along an axis of the cell, or the elastic constants are not known.
    """
    across = [i for i in range(3) if zone[i] == 0]
    if len(across) != 2:
        raise ValueError(
            f"zone={zone} with lattice='coherent': the elastic equilibrium of a particle is known "
            "for a beam along an axis of the cell only, (0, 1, 0), (1, 0, 0) or (0, 0, 1); for "
            "other zones take lattice='free'."
        )
    mask, axes = source.mask, axes_in_map(source.a_direction)
    known = np.isfinite(source.x)
    x = extend(source.x, known, TENSION)[:, mask] if not known[:, mask].all() else source.x[:, mask]
    gradient = axes @ _gradients(x, source, zone, condition) @ axes.T
    inverse = np.linalg.inv(np.eye(2) + gradient).swapaxes(-1, -2)
    share = known[:, mask] / np.count_nonzero(mask)
    return np.concatenate([np.stack([x, share], axis=-1), inverse.reshape(*x.shape, 4)], axis=-1)


def _gradients(x, source, zone, condition):
    """Mean displacement gradient of each pixel, (frames, n, 2, 2), in (x, y) order in the map.

    The mean rotation of each piece of the particle is zero.
    """
    u, mesh = nodal_displacement(x, source.mask, source.spacing, source, zone, condition, "free")
    dy, dx = mesh.spacing
    slopes = np.array([(-1, 1, -1, 1), (-1, -1, 1, 1)]) / [[2 * dx], [2 * dy]]
    corners = u[:, mesh.nodes]
    gradient = np.einsum("cnkf,dk->fncd", corners, slopes)
    for piece in range(mesh.n_pieces):
        own = mesh.labels == piece
        spin = (gradient[:, own, 0, 1] - gradient[:, own, 1, 0]).mean(axis=1)[:, None] / 2
        gradient[:, own, 0, 1] -= spin
        gradient[:, own, 1, 0] += spin
    return gradient
