"""Elasticity of a particle: closed forms, invariances, masks of any shape."""

import numpy as np
import pytest

from hyperspy_lfp.kernels.mechanics.elasticity import (
    CONDITIONS,
    build_mesh,
    displacements,
    displacements_adjoint,
    element_strain,
    orthotropic_medium,
    plan_windows,
    stiffness_matrix,
    window_slopes,
    window_slopes_adjoint,
)

CONSTANTS = (138.9, 198.0, 173.0, 36.8, 50.6, 47.6, 72.8, 52.5, 45.8)  # GPa
E_A, E_B, E_C = EIGENSTRAIN = (0.0520, 0.0375, -0.0192)
both_conditions = pytest.mark.parametrize("condition", CONDITIONS)


def _mesh(mask, spacing=(0.5, 0.4), angle=0.0, condition="plane stress"):
    direction = (np.cos(angle), np.sin(angle))
    medium = orthotropic_medium(CONSTANTS, EIGENSTRAIN, direction, condition)
    return build_mesh(np.asarray(mask, dtype=bool), spacing, medium)


def _ragged():
    """A disc with a hole, a bridge of one pixel, and a piece that touches in a corner only."""
    y, x = np.mgrid[:20, :24]
    mask = np.hypot(y - 9, x - 8) < 7
    mask[8:11, 6:9] = False
    mask[9, 14:20] = True
    mask[6:9, 20:23] = True
    mask[9, 20] = True
    corner = np.argwhere(mask)[-1]
    mask[corner[0] + 1, corner[1] + 1] = True
    return mask


def _rotated(angle):
    """Free strain in the image axes: xx, yy, twice xy."""
    a, c = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    e = E_A * np.outer(a, a) + E_C * np.outer(c, c)
    return np.array([e[0, 0], e[1, 1], 2 * e[0, 1]])


def _element_stress(u, x, mesh):
    """Mean stress in the plane of each element, (3, n, k), in the unit of the stiffness."""
    medium = mesh.medium
    strain = element_strain(u, mesh) - medium.eigenstrain[:, None, None] * x
    stress = np.einsum("ij,jek->iek", medium.stiffness, strain)
    if medium.along_beam is not None:
        coupling, _, free = medium.along_beam
        stress += coupling[:, None, None] * (u[2 * mesh.n_nodes :][mesh.labels] - free * x)
    return stress


@both_conditions
@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_uniform_composition_is_free(condition, angle):
    """The patch test: a linear displacement, no stress, whatever the mask."""
    mesh = _mesh(_ragged(), angle=angle, condition=condition)
    x = np.full((len(mesh.labels), 1), 0.7)
    u = displacements(x, mesh)
    expected = 0.7 * _rotated(angle)[:, None] * np.ones(len(x))
    np.testing.assert_allclose(element_strain(u, mesh)[..., 0], expected, atol=1e-11)
    # stresses of a clamped crystal would be about 5 GPa
    np.testing.assert_allclose(_element_stress(u, x, mesh), 0, atol=1e-8)
    if condition != "plane stress":
        np.testing.assert_allclose(u[2 * mesh.n_nodes :], 0.7 * E_B)


def test_pieces_move_each_for_itself():
    """A corner is no joint: pieces of different composition leave each other alone."""
    mask = np.zeros((9, 9), dtype=bool)
    mask[:4, :4] = mask[4:, 4:] = True
    mesh = _mesh(mask)
    assert mesh.n_pieces == 2
    x = np.where(mesh.labels == 0, 0.2, 0.9)[:, None]
    u = displacements(x, mesh)
    np.testing.assert_allclose(element_strain(u, mesh), _rotated(0)[:, None, None] * x, atol=1e-11)


@both_conditions
@pytest.mark.parametrize("along", ["a", "c"])
def test_wave_in_a_large_body(condition, along):
    """Layers strain across themselves only: n.C.n w = n.(C e0), nothing along them."""
    size, period = 90, 10
    mesh = _mesh(np.ones((size, size)), (0.4, 0.4), condition=condition)
    rows, columns = np.nonzero(mesh.mask)
    # whole periods: no mean composition, and nothing that bends
    wave = np.cos(2 * np.pi * ((columns if along == "a" else rows) + 0.5) / period)
    strain = element_strain(displacements(wave[:, None], mesh), mesh)[..., 0]
    c = stiffness_matrix(CONSTANTS)
    n = {"a": 0, "c": 2}[along]
    other = 2 - n
    free = dict(zip((0, 1, 2), EIGENSTRAIN, strict=True))
    if condition == "plane stress":
        c = c - np.outer(c[:, 1], c[1]) / c[1, 1]
        expected = free[n] + c[n, other] / c[n, n] * free[other]
    else:
        expected = free[n] + (c[n, other] * free[other] + c[n, 1] * free[1]) / c[n, n]
    across, within = (strain[0], strain[1]) if along == "a" else (strain[1], strain[0])
    # Where layers end, they leave a self-equilibrated strain that is long in this body. Over two
    # whole periods in the middle it is even to (20/90)^2 and projects to nothing on the wave.
    middle = (abs(rows + 0.5 - size / 2) < 10) & (abs(columns + 0.5 - size / 2) < 10)
    amplitude = wave[middle] / (wave[middle] ** 2).sum()
    assert amplitude @ across[middle] == pytest.approx(expected, abs=1e-5)
    assert amplitude @ within[middle] == pytest.approx(0, abs=1e-5)


def test_wave_along_a_in_numbers():
    """The response of the a axis that the literature constants give in a thin foil, .88."""
    c = stiffness_matrix(CONSTANTS)
    c = c - np.outer(c[:, 1], c[1]) / c[1, 1]
    medium = orthotropic_medium(CONSTANTS, EIGENSTRAIN, (1, 0))
    np.testing.assert_allclose(medium.stiffness, c[np.ix_([0, 2, 4], [0, 2, 4])])
    assert (E_A + c[0, 2] / c[0, 0] * E_C) / E_A == pytest.approx(0.88, abs=0.01)


@both_conditions
def test_turning_crystal_and_mask_together(condition):
    mask = _ragged()
    x = np.random.default_rng(0).random(mask.shape)

    def strain(mask, x, spacing, angle):
        mesh = _mesh(mask, spacing, angle, condition)
        out = np.full((3, *mask.shape), np.nan)
        out[:, mask] = element_strain(displacements(x[mask][:, None], mesh), mesh)[..., 0]
        return out

    plain = strain(mask, x, (0.5, 0.4), 0.3)
    # x' = y, y' = -x: a quarter turn, rows from columns in reverse
    turned = strain(np.rot90(mask), np.rot90(x), (0.4, 0.5), 0.3 - np.pi / 2)
    expected = np.rot90(np.stack([plain[1], plain[0], -plain[2]]), axes=(1, 2))
    np.testing.assert_allclose(turned, expected, atol=1e-10)
    mirrored = strain(mask[::-1], x[::-1], (0.5, 0.4), -0.3)
    expected = np.stack([plain[0], plain[1], -plain[2]])[:, ::-1]
    np.testing.assert_allclose(mirrored, expected, atol=1e-10)


@both_conditions
def test_equilibrium(condition):
    """Any composition: no mean stress, and none along the beam of a thick piece."""
    mesh = _mesh(np.ones((12, 15)), angle=0.2, condition=condition)
    x = np.random.default_rng(1).random((180, 3))
    u = displacements(x, mesh)
    stress = _element_stress(u, x, mesh)
    assert np.abs(stress).max() > 0.1
    np.testing.assert_allclose(stress.mean(axis=1), 0, atol=1e-8)
    if condition != "plane stress":
        coupling, c22, free = mesh.medium.along_beam
        inside = element_strain(u, mesh) - mesh.medium.eigenstrain[:, None, None] * x
        along = np.einsum("i,iek->ek", coupling, inside) + c22 * (u[2 * mesh.n_nodes] - free * x)
        np.testing.assert_allclose(along.mean(axis=0), 0, atol=1e-8)


def test_a_common_factor_of_the_moduli_changes_nothing():
    x = np.random.default_rng(2).random((100, 1))
    mask = np.ones((10, 10), dtype=bool)
    meshes = [
        build_mesh(mask, (1, 1), orthotropic_medium(np.multiply(CONSTANTS, f), EIGENSTRAIN, (1, 0)))
        for f in (1, 1e9)
    ]
    one, other = (element_strain(displacements(x, m), m) for m in meshes)
    np.testing.assert_allclose(one, other, atol=1e-12)


@both_conditions
def test_adjoints(condition):
    mesh = _mesh(_ragged(), angle=0.2, condition=condition)
    random = np.random.default_rng(3)
    x = random.standard_normal((len(mesh.labels), 4))
    v = random.standard_normal((mesh.load.shape[0], 4))
    assert (displacements(x, mesh) * v).sum() == pytest.approx(
        (x * displacements_adjoint(v, mesh)).sum(), rel=1e-10
    )
    for step in (1, 3):
        windows = plan_windows(mesh, 1.0, step)
        slopes = window_slopes(v, mesh, windows)
        w = random.standard_normal(slopes.shape)
        back = window_slopes_adjoint(w, mesh, windows)
        assert (slopes * w).sum() == pytest.approx((v * back).sum(), rel=1e-10)


def _node_places(mesh):
    rows, columns = np.nonzero(mesh.mask)
    places = np.empty((mesh.n_nodes, 2))
    for k, (i, j) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        places[mesh.nodes[:, k]] = np.stack([columns + j, rows + i], axis=1) * mesh.spacing[::-1]
    return places


@pytest.mark.parametrize("sigma", [1e-3, 0.3, 2.0])
def test_windows_find_a_plane(sigma):
    """Exactly, at edges, on bridges and single pixels, and sampled or not."""
    mesh = _mesh(_ragged())
    gradient = np.array([[0.3, -0.2], [0.1, 0.5]])
    u = (_node_places(mesh) @ gradient.T + [3.0, -2.0]).T.reshape(-1, 1)
    for step in (1, 3):
        windows = plan_windows(mesh, sigma, step)
        rows, columns = (a[windows.elements] for a in np.nonzero(mesh.mask))
        assert not (rows % step).any() and not (columns % step).any()
        slopes = window_slopes(u, mesh, windows)[..., 0]
        np.testing.assert_allclose(slopes, gradient[..., None] + 0 * rows, atol=1e-9)


def test_windows_smooth_a_wave():
    """Off the edge the gradient of a wave comes back times exp(-k^2 sigma^2 / 2)."""
    sigma, spacing, period = 1.0, 0.25, 5.0
    mesh = _mesh(np.ones((72, 80)), (spacing, spacing))
    k = 2 * np.pi / period
    places = _node_places(mesh)
    u = np.concatenate([np.sin(k * places[:, 1]), np.zeros(len(places))])[:, None]
    slopes = window_slopes(u, mesh, plan_windows(mesh, sigma))[0, 1, :, 0]
    rows, columns = np.nonzero(mesh.mask)
    centre = (rows + 0.5) * spacing
    inside = (np.abs(rows - 36) < 12) & (np.abs(columns - 40) < 16)
    expected = k * np.cos(k * centre) * np.exp(-((k * sigma) ** 2) / 2)
    # the wave is piecewise linear: k^2 h^2 / 12 of its amplitude; and the window ends at 6 sigma
    tolerance = 2 * k * (k * spacing) ** 2 / 12 * np.exp(-((k * sigma) ** 2) / 2)
    np.testing.assert_allclose(slopes[inside], expected[inside], atol=tolerance)


def test_narrow_windows_take_the_strain_of_an_element():
    mesh = _mesh(_ragged())
    u = np.random.default_rng(4).standard_normal((mesh.load.shape[0], 2))
    slopes = window_slopes(u, mesh, plan_windows(mesh, 1e-3))
    strain = element_strain(u, mesh)
    np.testing.assert_allclose(slopes[0, 0], strain[0], atol=1e-9)
    np.testing.assert_allclose(slopes[1, 1], strain[1], atol=1e-9)
    np.testing.assert_allclose(slopes[0, 1] + slopes[1, 0], strain[2], atol=1e-9)


def test_bad_input():
    with pytest.raises(ValueError, match="nine elastic constants"):
        stiffness_matrix(CONSTANTS[:6])
    with pytest.raises(ValueError, match="stable crystal"):
        stiffness_matrix((*CONSTANTS[:6], 300.0, 52.5, 45.8))
    with pytest.raises(ValueError, match="plane stress, generalised plane strain"):
        orthotropic_medium(CONSTANTS, EIGENSTRAIN, (1, 0), "plane strain")
    with pytest.raises(ValueError, match="a_direction"):
        orthotropic_medium(CONSTANTS, EIGENSTRAIN, (0, 0))
