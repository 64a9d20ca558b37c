"""How a frame of a simulated movie is drawn: the settings, and the kernel for blocks of frames."""

from typing import NamedTuple

import numpy as np
from scipy import fft
from scipy.ndimage import spline_filter

from hyperspy_lfp.kernels.imaging import detector, edges, fringes, placement

#: Pixels around the frame that the transfer function sees, since it takes an image as periodic.
BORDER = 32
#: Smallest step of the coarse grid, in pixels: finer, it would cost more than the fringes.
_LEAST_STEP = 4.0
#: Nodes of the coarse grid to a pixel of the maps of composition.
_PER_PIXEL = 2
#: Branches of the seed besides the counting of electrons.
_FILM = 1


class Setup(NamedTuple):
    """What all frames have in common; lengths in nm."""

    shape: tuple  # (y, x)
    pixel: float
    mask: np.ndarray  # the particle on the pixels of the maps
    spacing: tuple  # of these, (dy, dx)
    x_grid: placement.Grid
    u_grid: placement.Grid
    lattice: fringes.Lattice
    compositions: np.ndarray  # (k,)
    amplitudes: np.ndarray  # (n, k) at these
    edge_width: float
    absorption: float
    bend: tuple | None  # curvature in 1/nm, direction in radians, position, thickness
    film: float
    film_cutoff: float  # cycles per pixel
    film_fixed: bool
    mtf: object
    dose: float | None
    dtype: np.dtype
    seed: int


class Scene(NamedTuple):
    """A setup with what is worked out once for all frames."""

    setup: Setup
    edge: edges.Edge
    coarse: placement.Grid
    padded: tuple  # shape that is drawn
    border: int
    factor: np.ndarray | None  # the transfer function


def coarse_of(shape, pixel, spacing):
    """The grid of image points on which R(r) is worked out."""
    step = max(min(spacing) / _PER_PIXEL, _LEAST_STEP * pixel)
    return placement.coarse_grid(shape, pixel, step, (BORDER + 1) * pixel)


def build_scene(setup):
    """Work out what the frames share."""
    border = 0 if setup.mtf is None else BORDER
    padded = tuple(n + 2 * border for n in setup.shape)
    if border:
        # the far side takes what makes a fast transform; the coarse grid is known so far
        padded = tuple(min(fft.next_fast_len(n, real=True), n + 2) for n in padded)
    return Scene(
        setup,
        edges.edge_of(setup.mask, setup.spacing, setup.edge_width),
        coarse_of(setup.shape, setup.pixel, setup.spacing),
        padded,
        border,
        None if setup.mtf is None else detector.transfer_factor(padded, setup.mtf),
    )


def render_block(x, u, poses, sign=None, *, scene):
    """Draw frames.

    Parameters
    ----------
    x : array of shape (n, ny, nx)
        Spline coefficients of the composition.
    u : array of shape (n, 2, my, mx)
        Those of the displacement.
    poses : array of shape (n, 4)
        Shift along x and y, angle in radians, and the number of the frame.
    sign : array of shape (n, ny, nx), optional
        Factor of the contrast on the pixels of the maps.
    scene : Scene

    Returns
    -------
    array of shape (n, *shape)
    """
    out = np.empty((len(x), *scene.setup.shape), dtype=scene.setup.dtype)
    for i, pose in enumerate(poses):
        factor = None if sign is None else sign[i]
        expected = _expected(x[i], u[i], pose, factor, scene)
        out[i] = _recorded(expected, int(pose[3]), scene.setup)
    return out


def pose_of(u, grid, row, coarse):
    """How a frame sees the particle, from its row (shift x, shift y, angle, ...)."""
    shift, angle = (float(row[0]), float(row[1])), float(row[2])
    return fringes.Pose(shift, angle, placement.invert(u, grid, shift, angle, coarse))


def _expected(x, u, row, sign, scene):
    """The expected image with vacuum one, behind film and detector."""
    setup = scene.setup
    pose = pose_of(u, setup.u_grid, row, scene.coarse)
    image = fringes.draw(
        scene.padded,
        setup.pixel,
        -scene.border * setup.pixel,
        pose,
        scene.coarse,
        setup.lattice,
        _amplitudes(x, sign, pose, scene),
        scene.edge,
        setup.absorption,
    )
    if setup.film:
        number = () if setup.film_fixed else (int(row[3]),)
        random = np.random.default_rng(np.random.SeedSequence([setup.seed, *number, _FILM]))
        image += np.float32(setup.film) * detector.film(scene.padded, setup.film_cutoff, random)
    if scene.factor is not None:
        image = detector.transfer(image, scene.factor)
        inner = (slice(scene.border, scene.border + n) for n in setup.shape)
        image = image[tuple(inner)]
    return np.maximum(image, 0, out=image)


def _amplitudes(x, sign, pose, scene):
    """Spline coefficients of the amplitudes on the coarse grid, (n, *coarse.shape)."""
    setup, coarse = scene.setup, scene.coarse
    place = placement.unplaced(coarse.axis(0), coarse.axis(1), pose.shift, pose.angle)
    place += placement.sample_nodes(pose.v)
    composition = placement.sample(x, setup.x_grid, place)
    fields = np.stack([np.interp(composition, setup.compositions, a) for a in setup.amplitudes])
    if sign is not None:
        grid = placement.Grid(
            tuple(-(n - 1) / 2 * d for n, d in zip(sign.shape, setup.spacing, strict=True)),
            setup.spacing,
            sign.shape,
        )
        fields *= placement.sample(spline_filter(sign, order=3, mode="mirror"), grid, place)
    if setup.bend is not None:
        g = setup.lattice.indices / np.array(setup.lattice.lengths) @ setup.lattice.axes
        fields *= fringes.bent_amplitude(place, g, *setup.bend)
    return np.stack([spline_filter(f, order=3, mode="mirror") for f in fields])


def _recorded(expected, number, setup):
    """What the detector gives: counts, or the expected image itself without a dose."""
    if setup.dose is None:
        return expected
    random = np.random.default_rng(np.random.SeedSequence([setup.seed, number]))
    return detector.count(expected * setup.dose, random)
