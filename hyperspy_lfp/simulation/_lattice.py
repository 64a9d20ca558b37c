"""The displacement of a particle's lattice from its composition."""

from typing import NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import map_coordinates, spline_filter, spline_filter1d

from hyperspy_lfp import materials
from hyperspy_lfp.kernels.imaging.extension import extend
from hyperspy_lfp.kernels.imaging.placement import Grid
from hyperspy_lfp.kernels.mechanics import elasticity
from hyperspy_lfp.signals import _coherency

LATTICES = ("coherent", "vegard")
#: Tension with which composition goes on beyond the particle, in pixels to the -2: it levels off
#: within two pixels.
TENSION = 0.25
#: Pixels that all fields reach beyond the map, besides the width of the edge.
_BEYOND = 4
#: Samples to a pixel of the map along axes that are not those of the map.
_FINER = 2
#: Compositions whose eigenstrains differ by less than this part from a straight line are on it.
_STRAIGHT = 1e-9


class Fields(NamedTuple):
    """Composition and displacement as cubic splines in the undeformed particle."""

    x: np.ndarray  # (frames, ny, nx) coefficients
    x_grid: Grid
    u: np.ndarray  # (frames, 2, my, mx) coefficients, (x, y) components, nm
    u_grid: Grid


def in_plane(zone):
    """The two cell axes across the beam, for a zone along the third."""
    zone = materials.check_zone(zone)
    axes = [i for i in range(3) if zone[i] == 0]
    if len(axes) != 2:
        raise ValueError(
            f"zone={zone} is not along an axis of the cell; movies can be simulated along (0, 1, 0)"
            ", (1, 0, 0) and (0, 0, 1)."
        )
    return axes


def axes_in_map(a_direction):
    """Unit vectors along the two in-plane axes in the map, rows, (x, y) order."""
    a = np.asarray(a_direction, dtype=float)
    return np.array([a, (-a[1], a[0])])


def fields(source, zone, lattice, condition, refinement, reach):
    """Composition and displacement of all frames.

    Parameters
    ----------
    source : Source
    zone : tuple of int
    lattice : {"coherent", "vegard"}
    condition : str
        Along the beam, of the coherent lattice.
    refinement : int
        Finite elements to a pixel of the map, along each axis.
    reach : float
        How far beyond the map they are needed, in nm.

    Returns
    -------
    Fields
    """
    if lattice not in LATTICES:
        raise ValueError(f"lattice={lattice!r} is not known; use one of {LATTICES}.")
    pad = [_BEYOND + int(np.ceil(reach / d)) for d in source.spacing]
    values = np.pad(
        source.x, [(0, 0), *((p, p) for p in pad)], constant_values=np.nan, mode="constant"
    )
    values = extend(values, np.isfinite(values), TENSION)
    grid = _centred(values.shape[1:], source.spacing)
    x = _coefficients(values)
    if lattice == "vegard":
        return Fields(x, grid, _vegard(x, grid, source, zone), grid)
    u, u_grid = _coherent(values, x, grid, source, zone, condition, refinement, pad)
    return Fields(x, grid, u, u_grid)


def _centred(shape, spacing):
    origin = tuple(-(n - 1) / 2 * d for n, d in zip(shape, spacing, strict=True))
    return Grid(origin, tuple(spacing), tuple(shape))


def _coefficients(maps):
    """Cubic splines through maps (..., ny, nx)."""
    for axis in (-2, -1):
        maps = spline_filter1d(maps, order=3, axis=axis, mode="mirror")
    return maps


def eigenstrain(material, x, axes):
    """Relative change of the lengths of cell axes from x = 0 to x; the axes lead."""
    change = material.cell(x) / material.cell(0.0) - 1
    return np.moveaxis(change[..., list(axes)], -1, 0)


def _vegard(x, grid, source, zone):
    """du_a/dX = eps_a(x) and du_c/dZ = eps_c(x), zero on the lines through the middle."""
    axes = axes_in_map(source.a_direction)
    rows, columns = np.nonzero(source.mask)
    middle = [
        (index.mean() - (n - 1) / 2) * d
        for index, n, d in zip(
            (columns, rows), source.mask.shape[::-1], source.spacing[::-1], strict=True
        )
    ]
    along = axes @ middle
    aligned = np.allclose(axes, np.eye(2), atol=1e-12)
    lines = grid if aligned else _turned_grid(grid)
    place = np.meshgrid(lines.axis(0), lines.axis(1), indexing="ij")[::-1]
    place = np.tensordot(axes.T, np.stack(place), 1)  # (x, y) in the map
    there = np.meshgrid(grid.axis(0), grid.axis(1), indexing="ij")[::-1]
    there = np.tensordot(axes, np.stack(there), 1)  # along the axes
    index = lines.index(there[1], there[0])
    out = np.empty((len(x), 2, *grid.shape))
    for frame, coefficients in enumerate(x):
        values = _at(coefficients, grid.index(place[1], place[0]))
        strain = eigenstrain(source.material, values, in_plane(zone))
        own = [
            _integral(strain[0], lines.axis(1), along[0], axis=1),
            _integral(strain[1], lines.axis(0), along[1], axis=0),
        ]
        if not aligned:
            own = [_at(spline_filter(u, order=3, mode="mirror"), index) for u in own]
        out[frame] = np.tensordot(axes.T, np.stack(own), 1)
    return _coefficients(out)


def _turned_grid(grid):
    """A grid along other axes that covers a grid."""
    half = np.hypot(*(n * d / 2 for n, d in zip(grid.shape, grid.step, strict=True)))
    step = min(grid.step) / _FINER
    return _centred((2 * int(np.ceil(half / step)) + 1,) * 2, (step, step))


def _at(coefficients, index):
    return map_coordinates(coefficients, index, order=3, mode="nearest", prefilter=False)


def _integral(values, places, start, axis):
    """Integral of the cubic spline through values along an axis, from a place on."""
    whole = CubicSpline(places, values, axis=axis).antiderivative()
    return whole(places) - np.expand_dims(whole(start), axis)


def _coherent(values, x, grid, source, zone, condition, refinement, pad):
    """Elastic equilibrium of the free particle: spline coefficients at the corners of elements."""
    n = refinement
    mask = np.kron(source.mask, np.ones((n, n), dtype=bool))
    spacing = tuple(d / n for d in source.spacing)
    if n == 1:
        inner = values[:, pad[0] : -pad[0], pad[1] : -pad[1]]
    else:
        elements = _centred(mask.shape, spacing)
        at = np.meshgrid(elements.axis(0), elements.axis(1), indexing="ij")
        index = grid.index(*at)
        inner = np.stack([_at(c, index) for c in x])
    nodal = _equilibrium(inner[:, mask], mask, spacing, source, zone, condition)
    more = [p * n for p in pad]
    nodal = np.pad(nodal, [(0, 0), (0, 0), *((p, p) for p in more)], constant_values=np.nan)
    flat = nodal.reshape(-1, *nodal.shape[2:])
    known = np.isfinite(flat)
    u = extend(flat, known).reshape(nodal.shape)
    return _coefficients(u), _centred(u.shape[2:], spacing)


def _equilibrium(x, mask, spacing, source, zone, condition):
    """Displacement at the corners of the pixels, (frames, 2, ny + 1, nx + 1), NaN off them."""
    u, mesh = nodal_displacement(x, mask, spacing, source, zone, condition, "vegard")
    return _on_corners(_at_rest(np.moveaxis(u, -1, 0), mesh), mesh)


def nodal_displacement(x, mask, spacing, source, zone, condition, instead):
    """Displacement (2, nodes, frames) of a particle in elastic equilibrium, and its mesh.

    Up to a rigid motion of each piece; x is (frames, elements), and `instead` the lattice that an
    error names.
    """
    material = source.material
    if material.elastic is None:
        raise ValueError(
            f"lattice='coherent' needs the elastic constants of {material.name}, which are not "
            f"given: take a Material with elastic=(C11, ...), or lattice={instead!r}."
        )
    axes = axes_in_map(source.a_direction)
    how = _coherency.settings(material, zone, axes, condition, spacing, 0.0, 0.0)
    total = 0.0
    for weight, direction in _loads(material, zone, x):
        medium = elasticity.orthotropic_medium(how.constants, direction, axes[0], condition)
        mesh = elasticity.build_mesh(mask, spacing, medium)
        total = total + elasticity.displacements(weight.T, mesh)
    return total[: 2 * mesh.n_nodes].reshape(2, mesh.n_nodes, -1), mesh


def _loads(material, zone, x):
    """Pairs of an amplitude for each element and the eigenstrain it is that of.

    One pair if the cell is a straight line of x, so that one factorisation is enough; otherwise
    one for each axis of the cell.
    """
    first, second = in_plane(zone)
    order = (first, 3 - first - second, second)
    knots = np.array(material.composition)
    at_knots = eigenstrain(material, knots, order)
    slope = (at_knots[:, -1] - at_knots[:, 0]) / (knots[-1] - knots[0])
    if np.allclose(at_knots, slope[:, None] * knots, rtol=0, atol=_STRAIGHT):
        return [(x, slope)]
    return list(zip(eigenstrain(material, x, order), np.eye(3), strict=True))


def _at_rest(u, mesh):
    """Displacement (frames, 2, nodes) less the mean shift and rotation of each piece."""
    u = u.copy()
    place = np.empty((2, mesh.n_nodes))
    rows, columns = np.nonzero(mesh.mask)
    dy, dx = mesh.spacing
    for k, (i, j) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        place[:, mesh.nodes[:, k]] = (columns + j) * dx, (rows + i) * dy
    for piece in range(mesh.n_pieces):
        nodes = mesh.nodes[mesh.labels == piece]
        own = np.unique(nodes)
        corner = u[:, :, nodes]  # (frames, 2, elements, corners)
        by_y = corner[:, 0] @ np.array([-1, -1, 1, 1]) / (2 * dy)
        by_x = corner[:, 1] @ np.array([-1, 1, -1, 1]) / (2 * dx)
        rotation = (by_y - by_x).mean(axis=-1)[:, None] / 2
        middle = place[:, nodes].mean(axis=(1, 2))[:, None]
        away = place[:, own] - middle
        shift = corner.mean(axis=(2, 3))[:, :, None]
        u[:, :, own] -= shift + np.stack([rotation * away[1], -rotation * away[0]], axis=1)
    return u


def _on_corners(u, mesh):
    """Nodes on the map of corners; where pieces touch, the mean of theirs."""
    ny, nx = mesh.mask.shape
    total = np.zeros((*u.shape[:2], ny + 1, nx + 1))
    count = np.zeros((ny + 1, nx + 1))
    rows, columns = np.nonzero(mesh.mask)
    at = np.empty((2, mesh.n_nodes), dtype=int)
    for k, (i, j) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        at[:, mesh.nodes[:, k]] = rows + i, columns + j
    np.add.at(count, tuple(at), 1)
    np.add.at(total, (slice(None), slice(None), *at), u)
    return np.where(count > 0, total / np.where(count > 0, count, 1), np.nan)
