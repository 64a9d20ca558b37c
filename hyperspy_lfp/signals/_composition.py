"""From Miller indices and a material to the numbers that the composition kernel takes."""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels._arrays import get_array_module
from hyperspy_lfp.kernels.composition import invert_lengths
from hyperspy_lfp.kernels.indexing import zone_of
from hyperspy_lfp.kernels.lattice import stretches
from hyperspy_lfp.signals._units import to_number
from hyperspy_lfp.signals.concentration_map import ConcentrationMap

METHODS = ("gls", "a", "b", "c", "difference", "trace")
_AXES = "abc"
#: Largest distortion of a lattice that is given Miller indices by hand; of the scan, of the
#: camera and of the crystal together.
_DISTORTION = 0.15
_STEP = "ConcentrationMap"


class CompositionPlan(NamedTuple):
    """How lattice lengths in the image plane depend on composition."""

    indices: np.ndarray | None  # (K, 2): the reflections on the two reciprocal basis vectors
    vectors: np.ndarray  # (2, 2): two lattice vectors, on the dual basis of the reciprocal one
    weights: np.ndarray  # (n, 2): quantities that are fitted, as combinations of the lengths
    knots: np.ndarray  # (m,)
    model: np.ndarray  # (n, m): the quantities at the knots, relative to the reference


def plan(material, hkl, g, x_reference, method):
    """Work out which lattice lengths to measure, and what they mean.

    The two lattice vectors are those along which the strain between the end compositions is
    largest and smallest: the lattice parameters where the zone is along an axis of the cell.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r} is not known; use one of {METHODS}.")
    zone = zone_of(hkl)
    if zone is None:
        raise ValueError(
            f"hkl={hkl} do not span one plane of the reciprocal lattice: they must be at least "
            "two reflections of one zone that are not collinear."
        )
    plane = basis(zone)
    indices = np.linalg.lstsq(plane.T.astype(float), np.array(hkl, dtype=float).T, rcond=None)[0].T
    _check_handedness(g, indices, hkl)
    _check_shape(material, plane, g, indices, hkl)
    return _plan(material, plane, indices, x_reference, method)


def plan_for_axes(material, zone, x_reference, method):
    """The same for strain along the first in-plane axis of the cell and across it."""
    if method not in METHODS:
        raise ValueError(f"method={method!r} is not known; use one of {METHODS}.")
    return _plan(material, basis(zone), None, x_reference, method)


def in_plane_axes(zone):
    """Which axes of the cell lie in the image plane of a zone."""
    return [i for i in range(3) if zone[i] == 0]


def _plan(material, plane, indices, x_reference, method):
    x_reference = to_number(x_reference, "x_reference", example="0.0")
    knots = np.array(material.composition)
    reference = _metric(material.cell(x_reference), plane)
    metrics = np.array([_metric(material.cell(x), plane) for x in knots])
    vectors = _principal_vectors(reference, metrics[-1] - metrics[0])
    lengths = np.sqrt(
        np.einsum("vi,mij,vj->vm", vectors, metrics, vectors)
        / np.einsum("vi,ij,vj->v", vectors, reference, vectors)[:, None]
    )
    weights = _weights(method, plane, vectors)
    model = weights @ lengths
    if np.any(np.all(np.abs(np.diff(model, axis=1)) < 1e-9, axis=0)):
        raise ValueError(
            f"the lattice of {material.name} in this plane does not change with composition "
            f"by method={method!r}, so that x cannot be measured."
        )
    return CompositionPlan(indices, vectors, weights, knots, model)


def directions(plan, g):
    """Unit vectors of the lattice vectors in the reference, (2, 2, n, 1, 1), (x, y) order.

    `g` are the reciprocal vectors of the reference, (n, K, 2).
    """
    # g_k = m_k1 B_1 + m_k2 B_2; the lattice vectors are the dual of B
    reciprocal = np.linalg.pinv(plan.indices) @ g  # (n, 2, 2), rows B_i
    dual = np.swapaxes(np.linalg.inv(reciprocal), -1, -2)  # rows A_i with A_i . B_j = delta_ij
    vectors = plan.vectors @ dual
    vectors = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.moveaxis(vectors, 0, -1)[..., None, None]


def invert(plan, f, q, directions):
    """Composition and its variance from the deformation gradient."""
    stretch, variance = stretches(f, q, directions)
    xp = get_array_module(stretch)
    weights = xp.asarray(plan.weights.astype(stretch.dtype))
    stretch = xp.tensordot(weights, stretch, 1)
    variance = xp.tensordot(weights**2, variance, 1)
    return invert_lengths(stretch, variance, plan.knots, plan.model)


def build(source, noisy, axes, material, hkl, x_reference, method):
    """The ConcentrationMap of what `invert` gave, stacked as (..., 2, y, x)."""
    signal = source._build(
        ConcentrationMap,
        noisy[..., 0, :, :],
        axes,
        variance=noisy[..., 1, :, :],
        title=f"{material.species} concentration",
    )
    signal.metadata.set_item("Signal.quantity", f"x ({material.species})")
    fit = source._parameters("GeometricPhase")
    signal._record(
        _STEP,
        resolution=fit["resolution"],
        resolution_units=fit["resolution_units"],
        material=material.to_dictionary(),
        hkl=hkl,
        x_reference=float(x_reference),
        method=method,
    )
    return signal


def basis(zone):
    """Two independent hkl of a zone: along the cell's axes where the zone allows."""
    plane = in_plane_axes(zone)
    if len(plane) == 2:
        return np.eye(3, dtype=int)[plane]
    if len(plane) == 1:
        other = np.cross(np.eye(3, dtype=int)[plane[0]], zone)
        return np.array([np.eye(3, dtype=int)[plane[0]], other // np.gcd.reduce(other)])
    first = np.array([zone[1], -zone[0], 0])
    return np.array([first, np.cross(zone, first)])


def _metric(cell, plane):
    """Metric of the in-plane lattice vectors that are dual to the reciprocal basis."""
    reciprocal = plane / cell
    return np.linalg.inv(reciprocal @ reciprocal.T)


def _principal_vectors(reference, change):
    """Directions, on the dual basis, of the largest and smallest relative change of length."""
    root = np.linalg.cholesky(reference)  # reference = L L^T
    inverse = np.linalg.inv(root)
    values, vectors = np.linalg.eigh(inverse @ change @ inverse.T)
    if np.isclose(*values, rtol=1e-9, atol=1e-12) or np.allclose(change, np.diag(np.diag(change))):
        return np.eye(2)  # no direction is preferred, or the cell's own axes are
    return (inverse.T @ vectors).T


def _weights(method, plane, vectors):
    if method == "gls":
        return np.eye(2)
    if method == "trace":
        return np.array([[1.0, 1.0]])
    if method == "difference":
        return np.array([[1.0, -1.0]])
    axis = np.eye(3)[_AXES.index(method)]
    if np.allclose(vectors, np.eye(2)):
        for i in (0, 1):
            if np.array_equal(plane[i], axis):
                return np.eye(2)[[i]]
    raise ValueError(
        f"method={method!r}: the lattice parameter {method} does not lie in the image plane of "
        "these reflections; use 'gls', 'difference' or 'trace', or one that does."
    )


def _check_handedness(g, indices, hkl):
    """The indices must be able to describe the vectors: one linear map for all of them."""
    g = np.asarray(g, dtype=float)
    fitted = indices @ np.linalg.lstsq(indices, g, rcond=None)[0]
    worst = np.linalg.norm(fitted - g, axis=1) / np.linalg.norm(g, axis=1)
    if np.any(worst > 0.1):
        k = int(np.argmax(worst))
        raise ValueError(
            f"hkl={hkl} do not fit the g vectors: with the other reflections, {hkl[k]} should be "
            f"at ({fitted[k, 0]:.3f}, {fitted[k, 1]:.3f}) but was given as ({g[k, 0]:.3f}, "
            f"{g[k, 1]:.3f}). Check their order and signs."
        )


def _check_shape(material, plane, g, indices, hkl):
    """The lattice must have the shape of the material's, whatever its size and orientation."""
    measured = np.linalg.pinv(indices) @ np.asarray(g, dtype=float)
    distortions = []
    for x in np.linspace(material.composition[0], material.composition[-1], 5):
        expected = np.linalg.cholesky((plane / material.cell(x)) @ (plane / material.cell(x)).T)
        stretch = np.linalg.svd(np.linalg.solve(expected, measured), compute_uv=False)
        distortions.append(stretch[0] / stretch[-1] - 1)
    if min(distortions) > _DISTORTION:
        raise ValueError(
            f"hkl={hkl} do not fit the g vectors: ratio of lengths and angle differ from those of "
            f"{material.name} by {100 * min(distortions):.0f} %. Check the indices, their order, "
            "and the material."
        )
