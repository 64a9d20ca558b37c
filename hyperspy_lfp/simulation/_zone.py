"""The reflections of a zone, and where they lie in the plane of a diffraction pattern."""

import numpy as np

from hyperspy_lfp.kernels.gpa.indexing import zone_reflections


def reflections(material, zone, d_min, compositions):
    """All (h, k, l) of a zone that are not forbidden, with a spacing above `d_min` at any x.

    Parameters
    ----------
    material : Material
    zone : tuple of int
    d_min : float
        In nm.
    compositions : sequence of float

    Returns
    -------
    list of (h, k, l)

    Raises
    ------
    ValueError
        If there are none.
    """
    cells = material.cell(compositions) / 10
    every = zone_reflections(zone, 1 / d_min, 1 / cells.max(axis=0))
    chosen = [
        tuple(hkl)
        for hkl, allowed in zip(every.tolist(), material.is_allowed(every), strict=True)
        if allowed and material.d_spacing(hkl, compositions).max() > d_min
    ]
    if not chosen:
        raise ValueError(
            f"d_min={d_min:g} nm leaves no reflection of {material.name} in the zone {zone}; take "
            "a smaller one."
        )
    return chosen


def in_pattern(hkl, cell, zone):
    """Reciprocal vectors in the plane of the pattern, in 1/nm.

    Parameters
    ----------
    hkl : sequence of m (h, k, l)
    cell : array of shape (..., 3)
        In angstrom.
    zone : tuple of int

    Returns
    -------
    array of shape (..., m, 2)
        Along the pattern's own first axis, and a quarter turn clockwise from it as displayed.
        For a beam along an axis of the cell these are the other two, in the order a, b, c;
        otherwise the first is the projection of a*, and the zone axis points to the viewer.
    """
    g = 10 * np.array(hkl) / cell[..., None, :]
    across = [i for i in range(3) if zone[i] == 0]
    if len(across) == 2:
        return g[..., across]
    beam = np.array(zone) * cell
    beam = beam / np.linalg.norm(beam, axis=-1, keepdims=True)
    first = np.array([1.0, 0.0, 0.0]) - beam[..., :1] * beam
    first = first / np.linalg.norm(first, axis=-1, keepdims=True)
    # right x down points away from the viewer, against the zone axis
    second = np.cross(first, beam)
    return g @ np.stack([first, second], axis=-1)
