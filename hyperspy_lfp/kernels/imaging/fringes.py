r"""Lattice images of a deformed crystal.

.. math::
    I(r) = 1 - a\,s(R) + s(R)\sum_{hkl} C_{hkl}\cos 2\pi(h X/a_0 + l Z/c_0)

at the point R(r) of the undeformed particle (`hyperspy_lfp.kernels.imaging.placement`), one term
for each pair of reflections. X and Z are the components of R along the crystal axes in the plane,
:math:`a_0` and :math:`c_0` their lengths in the undeformed crystal, s the particle's share
(`hyperspy_lfp.kernels.imaging.edges`) and a its absorption. The amplitudes C vary slowly: they are
splines on the coarse grid.

No cosine is taken for each reflection: the harmonics are products of :math:`e^{2\pi i X/a_0}` and
:math:`e^{2\pi i Z/c_0}`, whose arguments are reduced in float64, so that float32 is enough after
it. Frames are drawn in strips that stay in the processor's cache.
"""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels.imaging import edges, placement

#: Pixels of a strip: half a dozen float32 arrays of 256 KiB.
_STRIP = 2**16


class Lattice(NamedTuple):
    """The undeformed lattice in the particle's own axes."""

    axes: np.ndarray  # (2, 2): unit vectors along the first and second in-plane axis, (x, y)
    lengths: tuple  # their lattice parameters
    indices: np.ndarray  # (n, 2): of the reflections, on these axes


class Pose(NamedTuple):
    """How a frame sees the particle."""

    shift: tuple  # (x, y): where the middle of the undeformed particle would be
    angle: float  # radians, counter-clockwise as displayed
    v: np.ndarray  # (2, *coarse.shape): spline coefficients


def draw(shape, pixel, origin, pose, coarse, lattice, amplitudes, edge, absorption):
    """The expected image; vacuum is one.

    Parameters
    ----------
    shape : (int, int)
        Of the frame, (y, x).
    pixel : float
    origin : float
        Place of the first pixel along y and along x.
    pose : Pose
    coarse : Grid
    lattice : Lattice
    amplitudes : array of shape (n, y, x), those of the coarse grid
        Spline coefficients of C, one for each reflection.
    edge : Edge
    absorption : float

    Returns
    -------
    float32 array
    """
    y, x = (origin + pixel * np.arange(n) for n in shape)
    kinds = _kinds(pose, coarse, edge)
    # components of R along the crystal axes, in lattice parameters
    cycles = lattice.axes / np.array(lattice.lengths)[:, None]
    turned = cycles @ placement.turn(pose.angle).T
    along_x = placement.basis(coarse, 1, x)
    slow = along_x.of(np.tensordot(cycles, pose.v, 1), 1)
    amplitudes = along_x.of(amplitudes, 1).astype(np.float32)
    out = np.empty(shape, dtype=np.float32)
    rows = max(1, _STRIP // shape[1])
    for first in range(0, shape[0], rows):
        strip = slice(first, min(first + rows, shape[0]))
        along_y = placement.basis(coarse, 0, y[strip])
        phases = [
            (t[0] * (x - pose.shift[0])) + (t[1] * (y[strip] - pose.shift[1]))[:, None] + own
            for t, own in zip(turned, along_y.of(slow, 0), strict=True)
        ]
        share = _share(kinds, coarse, edge, lattice, phases, y[strip], x)
        if share is None:
            out[strip] = 1.0
            continue
        narrow = along_y._replace(weights=along_y.weights.astype(np.float32))
        waves = _waves(phases, lattice.indices, lambda k, b=narrow: b.of(amplitudes[k], 0))
        out[strip] = 1 + share * (waves - np.float32(absorption))
    return out


def _kinds(pose, coarse, edge):
    """Of each cell of the coarse grid: 0 vacuum, 1 particle, 2 the edge may pass through."""
    q = placement.unplaced(coarse.axis(0), coarse.axis(1), pose.shift, pose.angle)
    nodes = placement.sample_nodes(pose.v)
    distance = edges.distance_at(edge, q + nodes)
    reach = edges.REACH * edge.grid.step[0] * 2 + 1.5 * coarse.step[0]
    state = np.where(distance > reach, 1, np.where(distance < -reach, 0, 2))
    corners = [state[:-1, :-1], state[1:, :-1], state[:-1, 1:], state[1:, 1:]]
    same = np.all([c == corners[0] for c in corners], axis=0)
    return np.where(same, corners[0], 2)


def _share(kinds, coarse, edge, lattice, phases, y, x):
    """The particle's share s in a strip; None in vacuum."""
    cells = [
        np.floor((at - origin) / step).astype(int)
        for at, origin, step in zip((y, x), coarse.origin, coarse.step, strict=True)
    ]
    kind = kinds[cells[0][:, None], cells[1]]
    if not kind.any():
        return None
    share = (kind == 1).astype(np.float32)
    mixed = np.nonzero(kind == 2)
    if len(mixed[0]):
        own = np.stack([p[mixed] * d for p, d in zip(phases, lattice.lengths, strict=True)])
        share[mixed] = edges.share_near(edge, lattice.axes.T @ own)
    return share


def _waves(phases, indices, amplitude):
    """Sum of the fringes, from products of the two fundamental waves."""
    most = np.abs(indices).max(axis=0)
    powers = [_powers(p, n) for p, n in zip(phases, most, strict=True)]
    total = np.zeros(phases[0].shape, dtype=np.float32)
    for k, (h, l) in enumerate(indices):  # noqa: E741
        (cos_h, sin_h), (cos_l, sin_l) = powers[0][abs(h)], powers[1][abs(l)]
        if h == 0 or l == 0:
            wave = (cos_l if h == 0 else cos_h).copy()
        else:
            wave = cos_h * cos_l
            cross = sin_h * sin_l
            wave += cross if h * l < 0 else -cross
        wave *= amplitude(k)
        total += wave
    return total


def _powers(cycles, most):
    """Cosine and sine of 0 to `most` times a phase, by the addition theorem."""
    if most == 0:
        return [(None, None)]
    angle = ((cycles - np.rint(cycles)) * (2 * np.pi)).astype(np.float32)
    cos, sin = np.cos(angle), np.sin(angle)
    powers = [(None, None), (cos, sin)]
    for _ in range(2, most + 1):
        c, s = powers[-1]
        powers.append((c * cos - s * sin, s * cos + c * sin))
    return powers


def bent_amplitude(place, g, curvature, direction, position, thickness):
    r"""Factor of the amplitude of reflections in a bent crystal.

    In the kinematic theory a reflection at the excitation error :math:`s_g` in a crystal of
    thickness t has the amplitude :math:`\sin(\pi t s_g)/(\pi t s_g)`. A crystal bent by the
    curvature :math:`\kappa` about an axis across the direction n is turned by
    :math:`\kappa(R\cdot n - p)`, so that :math:`s_g = \kappa(R\cdot n - p)\,g\cdot n`: all
    reflections are strongest along the zone's bend contour at p, and those along n fade first.

    Parameters
    ----------
    place : array of shape (2, ...)
    g : array of shape (n, 2)
    curvature : float
        Radian per unit of length.
    direction : float
        Of n, in radians, counter-clockwise as displayed.
    position, thickness : float

    Returns
    -------
    array of shape (n, ...)
    """
    n = placement.turn(direction) @ np.array([1.0, 0.0])
    tilt = curvature * (np.tensordot(n, place, 1) - position)
    error = (g @ n)[(slice(None),) + (None,) * tilt.ndim] * tilt
    return np.sinc(thickness * error)


def lowest(lattice, amplitudes, samples=96):
    """Smallest sum of the fringes anywhere in the cell, for amplitudes (n, k); shape (k,)."""
    at = np.arange(samples) / samples
    h, l = lattice.indices.T  # noqa: E741
    phase = (h[:, None, None] * at[:, None] + l[:, None, None] * at).reshape(len(h), -1)
    return (amplitudes.T @ np.cos(2 * np.pi * phase)).min(axis=1)
