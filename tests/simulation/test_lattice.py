"""The displacement of the lattice against closed forms."""

import numpy as np
import pytest
from movies import centres, make_source

from hyperspy_lfp import materials
from hyperspy_lfp.kernels.imaging import placement
from hyperspy_lfp.simulation._lattice import eigenstrain, fields
from hyperspy_lfp.simulation._source import read_source

ZONE = (0, 1, 0)
CONDITION = "plane stress"


def _fields(x, spacing=(1.0, 1.0), a_direction=None, lattice="vegard", material="LiFePO4", **more):
    source = read_source(make_source(x, spacing), material, a_direction)
    settings = {"zone": ZONE, "condition": CONDITION, "refinement": 1, "reach": 0.5} | more
    return source, fields(source, lattice=lattice, **settings)


def _u_at(known, points, frame=0):
    return np.stack([placement.sample(c, known.u_grid, points) for c in known.u[frame]])


@pytest.mark.parametrize("lattice", ["vegard", "coherent"])
@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.8, 1.25)])
def test_uniform_composition_is_a_uniform_strain(lattice, angle, spacing):
    """Nothing hinders a free particle of one composition: u = eps R, in either lattice."""
    a = np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))])
    source, known = _fields(np.full((14, 12), 0.6), spacing, tuple(a), lattice)
    strain = eigenstrain(source.material, 0.6, (0, 2))
    axes = np.array([a, (-a[1], a[0])])
    expected = axes.T @ np.diag(strain) @ axes
    points = np.random.default_rng(0).uniform(-4, 4, size=(2, 50))
    # the splines mirror at their ends, six samples and more away
    np.testing.assert_allclose(_u_at(known, points), expected @ points, atol=2e-5)


def test_vegard_of_a_wave_along_a():
    """eps_a = e (m + A cos kX): u_a = e (m X + A/k sin kX), u_c = eps_c(x(X)) Z."""
    n, d, k, mean, wave = 80, 0.25, 2 * np.pi / 8, 0.5, 0.3
    x = np.broadcast_to(mean + wave * np.cos(k * centres(n, d)), (60, n))
    source, known = _fields(x, (d, d))
    e_a, e_c = eigenstrain(source.material, 1.0, (0, 2))
    points = np.random.default_rng(1).uniform(-6, 6, size=(2, 200))
    u = _u_at(known, points)
    big_x, big_z = points
    local = mean + wave * np.cos(k * big_x)
    # cubic splines err by (k d)^4/384 of the wave or less, twice; here 4e-6 of it
    bound = 2 * (k * d) ** 4 / 384 * wave * 0.06 * np.array([1 / k, 6.0]) + 1e-9
    expected = e_a * (mean * big_x + wave / k * np.sin(k * big_x))
    assert np.abs(u[0] - expected).max() < bound[0]
    assert np.abs(u[1] - e_c * local * big_z).max() < bound[1]


def test_vegard_follows_a_material_that_is_no_straight_line():
    table = materials.Material(
        "bent", (0, 0.6, 1), a=(9.8, 10.2, 10.3), b=(5.8, 5.9, 6.0), c=(4.8, 4.7, 4.69)
    )
    _, known = _fields(np.full((10, 10), 0.6), material=table)
    points = np.array([[2.0, -3.0], [1.0, 2.5]])
    expected = np.array([10.2 / 9.8 - 1, 4.7 / 4.8 - 1])[:, None] * points
    np.testing.assert_allclose(_u_at(known, points), expected, atol=1e-4)


def test_coherent_lattice_of_such_a_material():
    """Uniform composition: any load superposes to the same free strain."""
    table = materials.Material(
        "bent",
        (0, 0.6, 1),
        a=(9.8, 10.2, 10.3),
        b=(5.8, 5.9, 6.0),
        c=(4.8, 4.7, 4.69),
        elastic=materials.get("LiFePO4").elastic[0],
    )
    points = np.array([[2.0, -3.0], [1.0, 2.5]])
    expected = np.array([10.2 / 9.8 - 1, 4.7 / 4.8 - 1])[:, None] * points
    for condition in ("plane stress", "generalised plane strain"):
        _, known = _fields(
            np.full((10, 10), 0.6), material=table, lattice="coherent", condition=condition
        )
        np.testing.assert_allclose(_u_at(known, points), expected, atol=1e-4)


def test_coherent_stripes_along_a_do_not_show_in_their_own_direction():
    """Long stripes, x varying along c: strain along a is the mean one (compatibility)."""
    n = 40
    x = np.broadcast_to(0.5 + 0.4 * np.cos(2 * np.pi * centres(n) / 5)[:, None], (n, n))
    _, known = _fields(x, lattice="coherent")
    along = _u_at(known, np.array([[-4.0, 4.0, -4.0, 4.0], [0.0, 0.0, 2.5, 2.5]]))[0]
    strains = (along[1::2] - along[::2]) / 8
    e_a = eigenstrain(materials.get("LiFePO4"), 1.0, (0, 2))[0]
    # crest and trough differ by 0.8 e_a freely; Saint-Venant: exp(-2 pi (20 - 4)/5) from the ends
    assert abs(strains[0] - strains[1]) < 0.01 * 0.8 * e_a
    assert strains.mean() == pytest.approx(0.5 * e_a, rel=0.02)


def test_particle_is_at_rest():
    """No mean displacement and no mean rotation, of a lopsided particle."""
    y, x = np.mgrid[:12, :16]
    values = np.where((y < 5) & (x < 6), 0.9, 0.1).astype(float)
    values[8:, 10:] = np.nan
    source, known = _fields(values, lattice="coherent")
    rows, columns = np.nonzero(source.mask)
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    places = np.stack([columns[:, None] + corners[:, 1] - 8.0, rows[:, None] + corners[:, 0] - 6.0])
    u = _u_at(known, places)
    by_y = u[0] @ np.array([-1, -1, 1, 1]) / 2
    by_x = u[1] @ np.array([-1, 1, -1, 1]) / 2
    np.testing.assert_allclose(u.mean(axis=(1, 2)), 0, atol=1e-12)
    assert abs((by_y - by_x).mean()) < 1e-12


def test_refined_elements_change_little():
    """Twice as many elements move the corners by less than one element's own strain would."""
    y, x = np.mgrid[:12, :12]
    values = 0.5 + 0.3 * np.cos(2 * np.pi * x / 12) * np.cos(2 * np.pi * y / 12)
    points = np.random.default_rng(0).uniform(-5, 5, size=(2, 40))
    coarse, fine, finest = (
        _u_at(_fields(values, lattice="coherent", refinement=n)[1], points) for n in (1, 2, 4)
    )
    first, second = np.abs(coarse - fine).max(), np.abs(fine - finest).max()
    assert first < 0.3 * 0.052  # pixel 1 nm
    assert second < 0.5 * first  # it converges


@pytest.mark.parametrize(
    ("zone", "axes"), [((1, 0, 0), (1, 2)), ((0, 0, 1), (0, 1)), ((0, -1, 0), (0, 2))]
)
@pytest.mark.parametrize("lattice", ["vegard", "coherent"])
def test_other_zones(zone, axes, lattice):
    source, known = _fields(np.full((10, 10), 1.0), lattice=lattice, zone=zone)
    strain = eigenstrain(source.material, 1.0, axes)
    points = np.array([[2.0, -3.0], [1.0, 2.5]])
    np.testing.assert_allclose(_u_at(known, points), strain[:, None] * points, atol=1e-4)


def test_holes_of_single_frames_are_filled():
    x = np.full((2, 10, 10), 0.4)
    x[1, 4:6, 4:6] = np.nan
    source, known = _fields(x)
    assert source.mask.all()
    at = placement.sample(known.x[1], known.x_grid, np.zeros((2, 1)))
    np.testing.assert_allclose(at, 0.4, atol=1e-9)
