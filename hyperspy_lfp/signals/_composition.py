"""From Miller indices and a material to the numbers that the composition kernels take."""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels.concentration.composition import TABULATED, expected_lengths
from hyperspy_lfp.kernels.gpa.indexing import zone_of
from hyperspy_lfp.signals._base import (
    CHI_SQUARED,
    FLAGS,
    REFERENCE,
    SHEAR,
    SYSTEMATIC,
    VARIANCE,
)
from hyperspy_lfp.signals._units import to_number
from hyperspy_lfp.signals.concentration_map import ConcentrationMap

METHODS = ("gls", "a", "b", "c", "difference", "trace", "elastic")
#: Distortions that may be fitted in each frame, and how they change the two lengths.
NUISANCES = {"magnification": (1.0, 1.0), "ellipticity": (1.0, -1.0)}
#: What the maps are that `_composition_blocks` returns, in their order, after x itself.
MAPS = (VARIANCE, SYSTEMATIC, REFERENCE, CHI_SQUARED, SHEAR, FLAGS)
_AXES = "abc"
#: Largest distortion of a lattice that is given Miller indices by hand; of the scan, of the
#: camera and of the crystal together.
_DISTORTION = 0.15
#: Compositions beyond those of the material by this part of its range are no composition.
_BEYOND = 0.2
_STEP = "ConcentrationMap"


class CompositionPlan(NamedTuple):
    """How lattice lengths in the image plane depend on composition."""

    indices: np.ndarray | None  # (K, 2): the reflections on the two reciprocal basis vectors
    vectors: np.ndarray  # (2, 2): two lattice vectors, on the dual basis of the reciprocal one
    weights: np.ndarray  # (p, 2): quantities that are fitted, as combinations of the lengths
    knots: np.ndarray  # (m,)
    lengths: np.ndarray  # (2, m): of the lattice vectors at the knots, relative to the reference
    tabulated: np.ndarray  # (2,): relative uncertainty of the tabulated lengths
    x_reference: float
    limits: tuple  # smallest and largest composition that makes sense
    scale: np.ndarray  # (2,): lengths in the lattice they are measured from, over the reference's
    cell: bool  # whether the reference is the material's cell, and not a lattice of known x
    nuisance: np.ndarray | None  # (2,): how a distortion of the image changes the lengths
    absolute: bool  # whether the size of the pixels matters


def plan(material, hkl, g, x_reference, method, nuisance=None, cell=False, absolute=True):
    """Work out which lattice lengths to measure, and what they mean.

    The two lattice vectors are those along which the strain between the end compositions is
    largest and smallest: the lattice parameters where the zone is along an axis of the cell.

    Parameters
    ----------
    g : array of shape (K, 2)
        Reciprocal vectors the phases were measured from, 1/nm.
    cell : bool
        Whether the lengths refer to the material's cell, and not to the lattice of `g`.
    absolute : bool
        Whether the lengths refer to something outside of the image.
    """
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
    result = _plan(material, plane, indices, x_reference, method, nuisance, absolute)
    if not cell:
        return result
    measured = np.linalg.norm(result.vectors @ _dual(indices, np.asarray(g)[None])[0], axis=-1)
    metric = _metric(material.cell(result.x_reference) / 10, plane)
    expected = np.sqrt(np.einsum("vi,ij,vj->v", result.vectors, metric, result.vectors))
    return result._replace(scale=measured / expected, cell=True)


def plan_for_axes(material, zone, x_reference, method, nuisance=None, absolute=True):
    """The same for strain along the first in-plane axis of the cell and across it."""
    return _plan(material, basis(zone), None, x_reference, method, nuisance, absolute)


def reference_lengths(plan, x_reference):
    """Lengths of the reference lattice at the compositions of a map, over those of the plan.

    Shape (..., 2, y, x) from (..., y, x).
    """
    return np.moveaxis(
        expected_lengths(np.asarray(x_reference, float), plan.knots, plan.lengths)[0], 0, -3
    )


def noise_tensor(plan, directions):
    """How the noise of x is correlated: the mean of v v^T over the directions v of its lengths.

    Each is weighted with its share of the variance of x for equal variances of the lengths.

    Parameters
    ----------
    plan : CompositionPlan
    directions : array of shape (2, 2)
        Unit vectors along the lattice vectors, (x, y) order.
    """
    slope = (plan.lengths[:, -1] - plan.lengths[:, 0]) / (plan.knots[-1] - plan.knots[0])
    gain = plan.weights @ slope
    share = (gain @ plan.weights) ** 2
    return np.einsum("i,ij,ik->jk", share / share.sum(), directions, directions)


def in_plane_axes(zone):
    """Which axes of the cell lie in the image plane of a zone."""
    return [i for i in range(3) if zone[i] == 0]


def _plan(material, plane, indices, x_reference, method, nuisance, absolute):
    if method not in METHODS:
        raise ValueError(f"method={method!r} is not known; use one of {METHODS}.")
    if nuisance is not None and nuisance not in NUISANCES:
        raise ValueError(
            f"nuisance={nuisance!r} is not known; use one of {tuple(NUISANCES)}, or None."
        )
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
    if np.any(np.all(np.abs(np.diff(weights @ lengths, axis=1)) < 1e-9, axis=0)):
        raise ValueError(
            f"the lattice of {material.name} in this plane does not change with composition "
            f"by method={method!r}, so that x cannot be measured."
        )
    beyond = _BEYOND * (knots[-1] - knots[0])
    return CompositionPlan(
        indices,
        vectors,
        weights,
        knots,
        lengths,
        _tabulated(material, plane, vectors, x_reference),
        x_reference,
        (knots[0] - beyond, knots[-1] + beyond),
        np.ones(2),
        False,
        None if nuisance is None else np.array(NUISANCES[nuisance]),
        # a magnification that is fitted, or cancels, cannot be wrong
        absolute and nuisance is None and method != "difference",
    )


def _tabulated(material, plane, vectors, x):
    """Relative uncertainty of the tabulated lengths of lattice vectors."""
    if material.uncertainty is None:
        return np.full(len(vectors), TABULATED)
    cell = material.cell(x)
    squares = (vectors @ np.linalg.pinv(plane).T) ** 2  # of the components along a, b and c
    errors = squares * cell * material.uncertainty
    return np.sqrt((errors**2).sum(axis=1)) / (squares * cell**2).sum(axis=1)


def directions(plan, g):
    """Unit vectors of the lattice vectors in the reference, (2, 2, n, 1, 1), (x, y) order.

    `g` are the reciprocal vectors of the reference, (n, K, 2).
    """
    vectors = plan.vectors @ _dual(plan.indices, g)
    vectors = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.moveaxis(vectors, 0, -1)[..., None, None]


def _dual(indices, g):
    """Lattice vectors (n, 2, 2), rows A_i with A_i . B_j = delta_ij, from g_k = m_ki B_i."""
    reciprocal = np.linalg.pinv(indices) @ g
    return np.swapaxes(np.linalg.inv(reciprocal), -1, -2)


def build(source, maps, axes, material, hkl, zone, plan, directions, method, nuisance, condition):
    """The ConcentrationMap of what `_composition_blocks` gave, stacked as (..., map, y, x)."""
    layers = {item: maps[..., i, :, :] for i, item in enumerate(MAPS, start=1)}
    layers[FLAGS] = layers[FLAGS].astype(np.uint16)
    signal = source._build(
        ConcentrationMap,
        maps[..., 0, :, :],
        axes,
        layers=layers,
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
        x_reference=plan.x_reference,
        method=method,
        nuisance=nuisance,
        condition=condition if method == "elastic" else None,
        zone=zone,
        lattice_directions=directions,
        noise_tensor=noise_tensor(plan, directions),
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
    if method in ("gls", "elastic"):
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
