r"""Dislocations: where the geometric phase winds around a point.

Around a closed circuit the displacement u returns to itself up to a lattice vector, the Burgers
vector b, and the phases :math:`P_k = -2\pi g_k\cdot u` return to themselves up to whole turns,

.. math:: q_k = \frac{1}{2\pi}\oint \nabla P_k\cdot dr = -g_k\cdot b,
    \qquad b = \oint du = -G^{-1} q,

where the rows of G are the reciprocal vectors. A phase that winds must pass through a zero of the
amplitude, and noise and vacuum are full of such zeros. A winding is therefore believed only where
every sample of the circuit carries a lattice.

**Sign.** The circuit runs from +x to +y in the axes of the image: clockwise as displayed, with y
down, and right-handed around the line direction x cross y, which points along the beam, into the
screen. With these the edge dislocation of isotropic elasticity,
:math:`u_x = (b/2\pi)\,[\mathrm{atan2}(y, x) + xy/(2(1-\nu)(x^2+y^2))]` in the coordinates of the
image, has :math:`b = (+b, 0)`: the extra half plane is below it on the screen, at y > 0. The other
line direction would change the sign of b.

The circuit is a rectangle of samples. The turns that the phase is wrapped by between neighbours
are whole numbers, so that the winding is exact, whatever the smooth strain on the way.

References: M. J. Hÿtch, J.-L. Putaux, J.-M. Pénisson, Nature 423 (2003) 270,
:doi:`10.1038/nature01638`; J. P. Hirth, J. Lothe, Theory of Dislocations (1982); for zeros of
noise, M. V. Berry, M. R. Dennis, Proc. R. Soc. A 456 (2000) 2059,
:doi:`10.1098/rspa.2000.0602`.
"""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels._arrays import get_array_module, to_host
from hyperspy_lfp.kernels.gpa.lattice import lattice_mask

#: Coarsest sampling in units of sigma. A lattice whose amplitude the window lowers to a fifth
#: differs from the mean one by 1.8 radian per sigma; the phase between samples further apart
#: could differ by half a turn.
COARSEST_STEP = 1.0
#: Half the sides of the circuits in units of sigma. Around the core of a dislocation samples carry
#: no lattice up to 0.8 sigma, where the amplitude changes by an e-fold over a sigma; the small
#: circuit leaves as much again for noise. The large one is for Burgers vectors longer than a
#: spacing, whose strain keeps the zeros of the reflections apart.
_CIRCUITS = (2.0, 3.0)
#: A step in turns that may as well be its complement, so that the circuit is not closed.
_STEEP = 1 / 3
#: Smallest singular value of the matrix of directions of g, about the sine of the widest angle
#: between them, that tells both components of b.
_COLLINEAR = 0.01
#: Most that the windings of more than two reflections may differ, as a vector, from those of one
#: Burgers vector. If hkl closes as n . q = 0 with |n| <= 2, whole numbers that do not belong
#: together differ by 1/|n| = 0.33 or more; vectors g that are 5 % off differ by 0.1.
_INCONSISTENT = 0.2
#: Radius in units of sigma within which the core spoils a map: where the strain that is read
#: differs from the true one smoothed with the same window. Around a pure vortex by
#: exp(-r^2 / 2 sigma^2) of b / (2 pi r); around an edge dislocation with sigma = 2 b it is, rms (at
#: worst), 3e-3 (1e-2) at 2 sigma, 1.4e-3 (5e-3) at 2.5 sigma and 6e-4 (1.5e-3) at 3 sigma, where it
#: equals the noise of 100 electrons per pixel.
CORE_RADIUS = 3.0


class Dislocation(NamedTuple):
    """A dislocation in one frame."""

    x: float  # of the core, in the unit of length
    y: float
    burgers: tuple  # (b_x, b_y), in the unit of length
    windings: tuple  # K whole numbers q_k = -g_k . b


def find_dislocations(coefficients, g, sigma, positions, threshold=0.2):
    """Find dislocations and their Burgers vectors.

    Noise alone leaves none: a dislocation needs a circuit around it, a square of four or six sigma,
    on which all reflections have a lattice well above the noise. None is found nearer than about a
    sigma to a border, to a rim or to a line of contrast reversal, nor where the noise is not known;
    two that are nearer than about three sigma are found as their sum, or not at all. One whose
    phase turns twice has two cores for the window, some sigma apart, and may be found as two.

    The circuits are taken on the device of the coefficients; what is left to judge, on the host.

    Parameters
    ----------
    coefficients : array of shape (n, K, 4, y, x)
        Those of `hyperspy_lfp.kernels.gpa.lockin.plane_wave_fit`.
    g : array of shape (K, 2)
        Reciprocal vectors, (x, y) order, at least two that are not collinear.
    sigma : float
        Standard deviation of the window.
    positions : tuple of array
        Coordinates along (y, x) of the samples, increasing and evenly spaced.
    threshold : float
        See `hyperspy_lfp.kernels.gpa.lattice.lattice_mask`.

    Returns
    -------
    list of list of Dislocation
        One list a frame, from top to bottom. Positions are good to a third of sigma, or to half
        the diagonal of the step where that is more. Burgers vectors are exact, as sums of lattice
        vectors of the given g.

    Raises
    ------
    ValueError
        If all reflections are collinear, or the positions decrease or are further apart than
        sigma.

    Examples
    --------
    A vortex in the phase of the first reflection, on samples one pixel apart:

    >>> import numpy as np
    >>> from hyperspy_lfp.kernels.gpa.defects import find_dislocations
    >>> y, x = np.mgrid[-15:16, -15:16]
    >>> c = np.zeros((1, 2, 4, 31, 31), dtype=complex)
    >>> c[:, 0, 0], c[:, 0, 1], c[:, 0, 2], c[:, 1, 0] = (x - 0.5) - 1j * (y - 0.5), 1, -1j, 1
    >>> c[:, :, 3] = 1e-9
    >>> found = find_dislocations(c, [(0.1, 0), (0, 0.1)], 3.0, (y[:, 0], x[0]), 0.05)
    >>> found[0][0].windings
    (-1, 0)
    >>> print("b = ({:.1f}, {:.1f})".format(*found[0][0].burgers))
    b = (10.0, 0.0)
    """
    xp = get_array_module(coefficients)
    g = _checked_vectors(g)
    step = check_step(positions, sigma)
    found = [[] for _ in range(len(coefficients))]
    wraps_x, wraps_y, steep_x, steep_y = phase_wraps(coefficients, positions)
    residues = circulation(wraps_x, wraps_y, (1, 1))
    # nothing winds around nothing
    some = np.flatnonzero(to_host(residues.any(axis=(-3, -2, -1))))
    if not len(some):
        return found
    wraps_x, wraps_y, residues = wraps_x[some], wraps_y[some], to_host(residues[some])
    if len(some) < len(found):
        coefficients = coefficients[some]
    known = xp.isfinite(coefficients[..., 3, :, :])
    valid = (lattice_mask(coefficients, sigma, threshold) & known).all(axis=-3)
    open_x = ~(valid[..., :, 1:] & valid[..., :, :-1]) | steep_x[some].any(axis=-3)
    open_y = ~(valid[..., 1:, :] & valid[..., :-1, :]) | steep_y[some].any(axis=-3)
    circuits = [[] for _ in some]
    for radius in _CIRCUITS:
        # steps along (y, x) that make up the sides of the circuit
        sides = [max(1, int(np.ceil(2 * radius * sigma / d - 1e-6))) for d in step[::-1]]
        if sides[0] >= valid.shape[-2] or sides[1] >= valid.shape[-1]:
            continue
        windings = circulation(wraps_x, wraps_y, sides)
        hits = (_open_steps(open_x, open_y, sides) == 0) & (windings != 0).any(axis=-3)
        for i in np.flatnonzero(to_host(hits.any(axis=(-2, -1)))):
            first = np.argwhere(to_host(hits[i]))
            around = to_host(windings[i])[:, first[:, 0], first[:, 1]].T
            circuits[i].append(_Circuits(first, np.broadcast_to(sides, first.shape), around))
    for i, of_frame, cells in zip(some, circuits, residues, strict=True):
        if of_frame:
            together = _Circuits(*(np.concatenate(a) for a in zip(*of_frame, strict=True)))
            found[i] = _cores(together, cells, g, positions)
    return found


def core_mask(dislocations, positions, sigma):
    """Samples whose measurement the core of a dislocation spoils.

    Parameters
    ----------
    dislocations : list of n lists of Dislocation
    positions : tuple of array
        Coordinates along (y, x) of the samples.
    sigma : float
        Standard deviation of the window.

    Returns
    -------
    bool array of shape (n, y, x)
        True within 3 sigma of a core. On the host, as the dislocations are.
    """
    y, x = (np.asarray(p, dtype=float) for p in positions)
    mask = np.zeros((len(dislocations), len(y), len(x)), dtype=bool)
    for frame, inside in zip(dislocations, mask, strict=True):
        for core in frame:
            distance = np.hypot(y[:, None] - core.y, x - core.x)
            inside |= distance <= CORE_RADIUS * sigma
    return mask


def check_step(positions, sigma):
    """Distances (dx, dy) of the samples, if they are fine enough for phases to be compared."""
    # an axis of a single sample has no neighbours: any distance will do
    step = [float(p[-1] - p[0]) / (len(p) - 1) if len(p) > 1 else sigma for p in positions[::-1]]
    if min(step) <= 0:
        raise ValueError(f"the positions must increase, but the steps (dx, dy) are {step}.")
    if max(step) > COARSEST_STEP * sigma * (1 + 1e-6):
        raise ValueError(
            f"the samples are {max(step):.4g} apart and sigma is {sigma:.4g}: phases of "
            "neighbouring samples can be compared up to a step of one sigma, use a finer step."
        )
    return step


def _checked_vectors(g):
    g = np.atleast_2d(np.asarray(g, dtype=float))
    directions = g / np.linalg.norm(g, axis=1, keepdims=True)
    if np.linalg.matrix_rank(directions, tol=_COLLINEAR) < 2:
        raise ValueError(
            f"the reciprocal vectors g={g.tolist()} are collinear, which leaves the Burgers vector "
            "undetermined: give two that are not."
        )
    return g


def phase_wraps(coefficients, positions):
    """Turns that the phase is wrapped by from one sample to the next.

    The mean gradient of the frame is taken off before, which changes no winding. The steps of the
    phase itself add up to zero around any circuit, those of the wrapped phase to minus the turns.

    Parameters
    ----------
    coefficients : array of shape (..., K, 4, y, x)
    positions : tuple of array
        Coordinates along (y, x) of the samples.

    Returns
    -------
    wraps_x, wraps_y : int arrays of shape (..., K, y, x - 1) and (..., K, y - 1, x)
    steep_x, steep_y : bool arrays of the same shapes
        Steps of more than a third of a turn, which may as well be their complement.
    """
    xp = get_array_module(coefficients)
    value = coefficients[..., 0, :, :]
    value = xp.where(xp.isfinite(value), value, 0)
    total = (value.real**2 + value.imag**2).sum(axis=(-2, -1), keepdims=True, dtype=xp.float64)
    total = 2 * np.pi * xp.where(total > 0, total, 1)
    turns = xp.angle(value).astype(xp.float32) / np.float32(2 * np.pi)
    for i, at in ((1, positions[1]), (2, positions[0])):
        along = (value.conj() * coefficients[..., i, :, :]).imag
        along = xp.where(xp.isfinite(along), along, 0)
        slope = along.sum(axis=(-2, -1), keepdims=True, dtype=xp.float64) / total
        at = xp.asarray(at, dtype=xp.float64)
        at = at - at.mean()
        turns -= (slope * (at if i == 1 else at[:, None])).astype(xp.float32)
    wraps, steep = [], []
    for axis in (-1, -2):
        step = xp.diff(turns, axis=axis)
        whole = xp.rint(step)
        wraps.append(whole.astype(xp.int32))
        steep.append(xp.abs(step - whole) > _STEEP)
    return *wraps, *steep


def circulation(wraps_x, wraps_y, sides):
    """Windings around all rectangles of `sides` (y, x) steps, by their first sample."""
    xp = get_array_module(wraps_x)
    height, width = sides
    along_x = _runs(wraps_x, width, -1, xp)
    along_y = _runs(wraps_y, height, -2, xp)
    return (along_x[..., height:, :] - along_x[..., :-height, :]) - (
        along_y[..., :, width:] - along_y[..., :, :-width]
    )


def _open_steps(open_x, open_y, sides):
    """Number of steps on the same rectangles that are not to be trusted."""
    xp = get_array_module(open_x)
    height, width = sides
    along_x = _runs(open_x.astype(xp.int32), width, -1, xp)
    along_y = _runs(open_y.astype(xp.int32), height, -2, xp)
    return (along_x[..., height:, :] + along_x[..., :-height, :]) + (
        along_y[..., :, width:] + along_y[..., :, :-width]
    )


def _runs(steps, length, axis, xp):
    """Sums over `length` successive steps along one of the last two axes."""
    if length == 1:
        return steps
    sums = xp.cumsum(steps, axis=axis, dtype=xp.int32)
    if axis == -1:
        start = sums[..., length - 1 : length]
        return xp.concatenate([start, sums[..., length:] - sums[..., :-length]], axis=-1)
    start = sums[..., length - 1 : length, :]
    return xp.concatenate([start, sums[..., length:, :] - sums[..., :-length, :]], axis=-2)


class _Circuits(NamedTuple):
    """Closed circuits of one frame around which a phase winds."""

    first: np.ndarray  # (n, 2): row and column of the first sample
    sides: np.ndarray  # (n, 2): steps along (y, x)
    windings: np.ndarray  # (n, K)

    def around(self, points):
        """Whether each circuit runs around each of the points (m, 2): (n, m)."""
        offset = points - self.first[:, None]
        return ((offset > 0) & (offset < self.sides[:, None])).all(axis=-1)


def _cores(circuits, residues, g, positions):
    """Dislocations in one frame; `residues` (K, y, x) are the windings around single cells."""
    cells = np.argwhere(residues)
    values = residues[tuple(cells.T)]
    centres = cells[:, 1:] + 0.5
    inside = circuits.around(centres)
    # those with the least in them first: two dislocations rather than one around both
    order = np.lexsort((circuits.sides.prod(axis=1), inside @ np.abs(values)))
    remaining = np.ones(len(order), dtype=bool)
    found = []
    for i in order:
        if not remaining[i]:
            continue
        q = circuits.windings[i]
        at = _centroid(cells[inside[i], 0], centres[inside[i]], values[inside[i]], q)
        remaining &= ~circuits.around(at[None])[:, 0]
        burgers = np.linalg.lstsq(g, -q, rcond=None)[0]
        if np.linalg.norm(q + g @ burgers) > _INCONSISTENT:
            continue
        y, x = (
            float(np.interp(a, np.arange(len(p)), np.asarray(p, dtype=float)))
            for a, p in zip(at, positions, strict=True)
        )
        found.append(Dislocation(x, y, tuple(burgers.tolist()), tuple(q.tolist())))
    return sorted(found, key=lambda core: (core.y, core.x))


def _centroid(reflections, centres, values, q):
    """Mean position (y, x) of the residues of the reflections that wind.

    Signed, so that a pair of opposite ones, which noise makes, moves it by its own length only.
    """
    of_each = [
        values[reflections == k] @ centres[reflections == k] / q[k] for k in np.flatnonzero(q)
    ]
    return np.mean(of_each, axis=0)
