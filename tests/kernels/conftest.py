"""Synthetic lattice images with closed-form truth, shared by the tests of the kernels.

Everything here is in pixels; vectors are in (x, y) order. A lattice image is
``mean + sum_k A_k cos(2 pi g_k . (r - u(r)) + p_k)``, so that the geometric phase of wave k is
``p_k - 2 pi g_k . u`` and its fitted value ``A_k / 2 exp(i P_k)``.
"""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from hyperspy_lfp.kernels.gpa import lattice
from hyperspy_lfp.kernels.gpa.lockin import plane_wave_fit
from hyperspy_lfp.kernels.gpa.plan import plan_lockin

#: Spacing of the lattices in pixels, as in gpa.md.
SPACING = 10.3
#: Standard deviation of a Gaussian atom column, pixels.
COLUMN = 2.0


class Lattice(NamedTuple):
    """The first two waves are those that are analysed."""

    g: np.ndarray  # (2, 2)
    waves: list  # [(g, amplitude, phase)]


def rotation_matrix(degrees):
    """Turns (x, y) vectors counter-clockwise as displayed, with y down."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, s], [-s, c]])


def _reciprocal_basis(kind, degrees):
    d = SPACING
    basis = {
        "square": [[1 / d, 0], [0, 1 / d]],
        "hexagonal": [[1 / d, 0], [0.5 / d, np.sqrt(0.75) / d]],
        "oblique": [
            [1 / d, 0],
            [np.cos(np.deg2rad(72)) / 8.7, np.sin(np.deg2rad(72)) / 8.7],
        ],
    }[kind]
    return np.array(basis) @ rotation_matrix(degrees).T


#: name: (kind, orientation in degrees)
LATTICES = {
    "square": ("square", 0.0),
    "rotated": ("square", 17.3),
    "hexagonal": ("hexagonal", -7.9),
    "oblique": ("oblique", 11.3),
}


def make_lattice(name, columns="cosines", degrees=None):
    """A lattice by name, of equal cosines (contrast 0.2) or of Gaussian atom columns."""
    kind, orientation = LATTICES.get(name, (name, 0.0))
    g = _reciprocal_basis(kind, orientation if degrees is None else degrees)
    if columns == "cosines":
        indices = [(1, 0), (0, 1)]
        if kind == "hexagonal":
            indices.append((1, -1))  # the third beam, as near to the others as they are to zero
        waves = [(np.array(hk) @ g, 0.2, 0.3 + 0.7 * i) for i, hk in enumerate(indices)]
        return Lattice(g, waves)
    # Gaussians on lattice points, normalised to a mean of one, as their Fourier series
    indices = [(h, k) for h in range(-5, 6) for k in range(-5, 6) if (h, k) > (0, 0)]
    indices.sort(key=lambda hk: hk not in ((1, 0), (0, 1)))
    indices[:2] = (1, 0), (0, 1)
    waves = []
    for hk in indices:
        v = np.array(hk) @ g
        if np.abs(v).max() < 0.5:
            waves.append((v, 2 * np.exp(-2 * np.pi**2 * COLUMN**2 * (v @ v)), 0.0))
    return Lattice(g, waves)


def deformed(lattice_, f):
    """The lattice after the homogeneous deformation F: reciprocal vectors turn into F^-T g."""
    inverse = np.linalg.inv(f)
    waves = [(v @ inverse, amplitude, phase) for v, amplitude, phase in lattice_.waves]
    return Lattice(lattice_.g @ inverse, waves)


def make_image(shape, waves, displacement=None, mean=1.0, modulation=None):
    """A float64 image; `displacement` and `modulation` are functions of (x, y)."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    ux, uy = (0.0, 0.0) if displacement is None else displacement(x, y)
    waves_only = np.zeros(shape)
    for v, amplitude, phase in waves:
        waves_only += amplitude * np.cos(2 * np.pi * (v[0] * (x - ux) + v[1] * (y - uy)) + phase)
    return mean + waves_only * (1.0 if modulation is None else modulation(x, y))


def grid_positions(shape, sigma):
    """Samples a third of the window apart, from border to border."""
    sigma = np.broadcast_to(sigma, 2)
    return [np.linspace(0, n - 1, int(3 * n / s)) for n, s in zip(shape, sigma, strict=True)]


def run_fit(frames, g, sigma, positions=None, origin=(0.0, 0.0)):
    """Coefficients, and the sample coordinates (y, x)."""
    shape = frames.shape[-2:]
    if positions is None:
        positions = grid_positions(shape, sigma)
    sigma = tuple(np.broadcast_to(np.asarray(sigma, dtype=float), 2))
    plan = plan_lockin(shape, np.asarray(g)[:, ::-1], sigma, positions, origin)
    return plane_wave_fit(frames, plan), positions


def run_strain(coefficients, g, sigma, definition="lattice", reference=None):
    """Strain components (exx, eyy, exy, rotation)."""
    e, _ = lattice.deformation(coefficients, g, float(np.max(sigma)), reference)
    return lattice.strain_components(e, definition)


def strain_of(f, definition="lattice"):
    """(exx, eyy, exy, rotation) of a homogeneous deformation gradient, by plain matrix algebra."""
    if definition == "finite":
        left, stretch, right = np.linalg.svd(f)
        turn = left @ right
        h = right.T @ np.diag(stretch) @ right - np.eye(2)
        return np.array([h[0, 0], h[1, 1], h[0, 1], np.arctan2(turn[0, 1], turn[0, 0])])
    h = f - np.eye(2) if definition == "lattice" else np.eye(2) - np.linalg.inv(f)
    return np.array([h[0, 0], h[1, 1], (h[0, 1] + h[1, 0]) / 2, (h[0, 1] - h[1, 0]) / 2])


def distance_to_border(positions, shape):
    """In pixels, for every sample."""
    y, x = (np.minimum(p, n - 1 - p) for p, n in zip(positions, shape, strict=True))
    return np.minimum(y[:, None], x)


def rms(values):
    """Root mean square along the last axis; NaN anywhere makes it NaN."""
    return np.sqrt(np.mean(np.asarray(values, dtype=float) ** 2, axis=-1))


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """The arrays are small, and pytest-xdist fills the cores."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield


@pytest.fixture(scope="session")
def synthetic():
    """The functions of this file, since test files of different folders share no module."""
    return SimpleNamespace(
        lattice=make_lattice,
        deformed=deformed,
        image=make_image,
        positions=grid_positions,
        fit=run_fit,
        strain=run_strain,
        strain_of=strain_of,
        border=distance_to_border,
        rotation_matrix=rotation_matrix,
        rms=rms,
        Lattice=Lattice,
        SPACING=SPACING,
        COLUMN=COLUMN,
    )
