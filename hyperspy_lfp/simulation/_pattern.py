"""How a diffraction pattern is drawn: the settings, and the kernel for blocks of frames."""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp import materials
from hyperspy_lfp.kernels.imaging import detector, spots
from hyperspy_lfp.simulation._zone import in_pattern

#: Branches of the seed besides the counting of electrons.
_PIXELS = 1


class Setup(NamedTuple):
    """What all patterns have in common; lengths in 1/nm unless it is said."""

    shape: tuple  # (y, x)
    pixel: float
    material: materials.Material
    zone: tuple
    hkl: list
    scale: float  # counts of a spot for a mean |F|^2/V of one (F in angstrom, V in its cube)
    direct_beam: float  # counts
    profile: spots.Profile  # in pixels
    background: tuple | None = None  # counts in the middle, half width
    stretch: np.ndarray | None = None  # (2, 2) on (x, y): of the camera
    blocked: np.ndarray | None = None  # (y, x) bool: behind the beam stop
    hot: np.ndarray | None = None  # (n, 2) (y, x) pixels
    hot_counts: float = 0.0
    dead: np.ndarray | None = None  # (n, 2)
    seed: int | None = None
    dtype: np.dtype = np.dtype(np.float32)


def strengths(hkl, material, x):
    """|F|^2/V of reflections at compositions x, (*x, m): what a mole of the crystal diffracts."""
    # of one form, whatever the signs, |F| is the same in an orthorhombic crystal
    forms = [tuple(abs(i) for i in g) for g in hkl]
    known = {g: material.structure_factor(g, x) for g in dict.fromkeys(forms)}
    factors = np.stack([known[g] for g in forms], axis=-1)
    return factors**2 / material.cell(x).prod(axis=-1)[..., None]


def camera_stretch(ratio, angle):
    """Stretch of a pattern on (x, y) vectors that keeps areas.

    `ratio` of the long to the short axis; `angle` of the long axis in radians, counter-clockwise
    as displayed.
    """
    long, short = (
        np.array([np.cos(angle), -np.sin(angle)]),
        np.array([np.sin(angle), np.cos(angle)]),
    )
    return np.sqrt(ratio) * np.outer(long, long) + np.outer(short, short) / np.sqrt(ratio)


def in_camera(g, angle, stretch=None):
    """Vectors (..., 2) along the pattern's own axes as (kx, ky) on the camera."""
    cos, sin = np.cos(angle), np.sin(angle)
    k = np.stack([g[..., 0] * cos + g[..., 1] * sin, -g[..., 0] * sin + g[..., 1] * cos], axis=-1)
    return k if stretch is None else k @ stretch.T


def expected(parts, centre, angle, setup):
    """Expected counts of a pattern on an ideal detector.

    Parameters
    ----------
    parts : array of shape (n, 2) or (n, 6)
        Composition and share of each part of the crystal, and of parts whose lattice is not that
        of a free crystal the matrix that takes reciprocal vectors at composition 0 to its own.
    centre : (float, float)
        Of the direct beam, (x, y) in pixels.
    angle : float
        Of the pattern's first axis, radians, counter-clockwise as displayed.
    setup : Setup

    Returns
    -------
    array of shape (ny, nx)
    """
    parts = parts[parts[:, 1] > 0]
    x, share = parts[:, 0], parts[:, 1]
    if parts.shape[1] == 2:
        g = in_pattern(setup.hkl, setup.material.cell(x), setup.zone)
    else:
        g = in_pattern(setup.hkl, setup.material.cell(0.0), setup.zone)
        g = np.einsum("nij,mj->nmi", parts[:, 2:].reshape(-1, 2, 2), g)
    counts = setup.scale * share[:, None] * strengths(setup.hkl, setup.material, x)
    k = in_camera(g, angle, setup.stretch)
    places = (k / setup.pixel + centre)[..., ::-1].swapaxes(0, 1)
    centre = np.asarray(centre, dtype=float)[::-1]
    beam = np.array([[setup.direct_beam]])
    image = spots.draw(setup.shape, centre[None, None], beam, setup.profile)
    image += spots.draw(setup.shape, places, counts.T, setup.profile)
    if setup.background is not None:
        middle, width = setup.background
        reach = width / setup.pixel
        if setup.stretch is not None:
            reach = reach * setup.stretch[::-1, ::-1]
        image += spots.background(setup.shape, centre, middle, reach)
    return image


def render_block(parts, poses, *, setup):
    """Draw patterns.

    Parameters
    ----------
    parts : array of shape (n, m, 2 or 6)
        See `expected`.
    poses : array of shape (n, 1, 4)
        Centre (x, y) in pixels, angle in radians, and the number of the pattern.
    setup : Setup

    Returns
    -------
    array of shape (n, ny, nx)
    """
    out = np.empty((len(parts), *setup.shape), dtype=setup.dtype)
    for image, own, ((x, y, angle, number),) in zip(out, parts, poses, strict=True):
        image[...] = _recorded(expected(own, (x, y), angle, setup), int(number), setup)
    return out


def _recorded(image, number, setup):
    """What the detector gives: counts, or the expected ones without a seed."""
    if setup.blocked is not None:
        image[setup.blocked] = 0
    if setup.hot is not None:
        image[tuple(setup.hot.T)] += setup.hot_counts
    if setup.seed is not None:
        random = np.random.default_rng(np.random.SeedSequence([setup.seed, number]))
        image = detector.count(image, random)
    if setup.dead is not None:
        image[tuple(setup.dead.T)] = 0
    return image


def choose_pixels(shape, hot, dead, seed):
    """Hot and dead pixels, (n, 2) each, (y, x), all different."""
    random = np.random.default_rng(np.random.SeedSequence([seed or 0, 0, _PIXELS]))
    chosen = random.choice(shape[0] * shape[1], size=hot + dead, replace=False)
    places = np.stack(np.unravel_index(chosen, shape), axis=-1)
    return places[:hot], places[hot:]


def pattern_axes(shape, pixel):
    """Axes of a pattern, data order, zero on the pixel in the middle."""
    return [
        {
            "name": name,
            "size": size,
            "scale": pixel,
            "offset": -(size // 2) * pixel,
            "units": "1/nm",
            "navigate": False,
        }
        for name, size in zip(("ky", "kx"), shape, strict=True)
    ]
