"""Splines of the coarse grid, the inverse of the displacement, continuation, and edges."""

import numpy as np
import pytest
from scipy.ndimage import spline_filter
from scipy.special import erf

from hyperspy_lfp.kernels.imaging import edges, placement
from hyperspy_lfp.kernels.imaging.extension import extend


def cubic(y, x):
    """Cubic splines hold cubic polynomials."""
    return 1 + 2 * x - y + 0.3 * x * y - 0.1 * x**3 + 0.2 * y**2 * x


def cubic_coefficients(grid):
    """B-spline coefficients of a cubic: f - h^2 f''/6 along each axis, exactly."""
    y, x = np.meshgrid(grid.axis(0), grid.axis(1), indexing="ij")
    h_y, h_x = grid.step
    f = cubic(y, x)
    return f - h_y**2 * 0.4 * x / 6 - h_x**2 * (-0.6 * x) / 6


def test_basis_holds_a_cubic_and_its_derivatives():
    grid = placement.Grid((-1.0, -2.0), (0.5, 0.4), (14, 17))
    coefficients = cubic_coefficients(grid)
    y, x = np.linspace(-0.4, 4.9, 33), np.linspace(-1.5, 3.5, 28)
    along_y, along_x = placement.basis(grid, 0, y), placement.basis(grid, 1, x)
    big_y, big_x = np.meshgrid(y, x, indexing="ij")
    values = along_y.of(along_x.of(coefficients, 1), 0)
    np.testing.assert_allclose(values, cubic(big_y, big_x), atol=1e-12)
    by_x = along_y.of(placement.basis(grid, 1, x, True).of(coefficients, 1), 0)
    np.testing.assert_allclose(by_x, 2 + 0.3 * big_y - 0.3 * big_x**2 + 0.2 * big_y**2, atol=1e-11)
    by_y = placement.basis(grid, 0, y, True).of(along_x.of(coefficients, 1), 0)
    np.testing.assert_allclose(by_y, -1 + 0.3 * big_x + 0.4 * big_y * big_x, atol=1e-11)


def test_values_at_the_nodes():
    values = np.random.default_rng(1).normal(size=(2, 7, 9))
    coefficients = np.stack([spline_filter(v, order=3, mode="mirror") for v in values])
    np.testing.assert_allclose(placement.sample_nodes(coefficients), values, atol=1e-12)


@pytest.mark.parametrize("degrees", [0.0, 25.0, -160.0])
def test_inverse_of_a_homogeneous_deformation(degrees):
    """u = H R: then R = (1 + H)^-1 q everywhere, and F^-1 = (1 + H)^-1 T^T."""
    h = np.array([[0.05, 0.02], [-0.01, -0.02]])
    grid = placement.Grid((-30.0, -30.0), (1.5, 1.0), (41, 61))
    places = np.stack(np.meshgrid(grid.axis(0), grid.axis(1), indexing="ij")[::-1])
    u = np.tensordot(h, places, 1)
    u = np.stack([spline_filter(c, order=3, mode="mirror") for c in u])
    coarse = placement.coarse_grid((100, 130), 0.1, 0.5)
    shift, angle = (6.0, 5.5), np.deg2rad(degrees)
    v = placement.invert(u, grid, shift, angle, coarse)
    y, x = np.arange(100) * 0.1, np.arange(130) * 0.1
    material = placement.material_points(v, coarse, y, x, shift, angle)
    inverse = np.linalg.inv(np.eye(2) + h)
    expected = np.tensordot(inverse, placement.unplaced(y, x, shift, angle), 1)
    # the spline of u mirrors at its ends, 20 nodes away: 0.27^20
    np.testing.assert_allclose(material, expected, atol=1e-7)
    gradient = placement.inverse_gradient(v, coarse, y, x, angle)
    expected = inverse @ placement.turn(angle).T
    np.testing.assert_allclose(
        gradient, np.broadcast_to(expected[..., None, None], gradient.shape), atol=1e-6
    )


def test_turn_is_counter_clockwise_as_displayed():
    """y points down: what pointed right points up after a quarter turn."""
    np.testing.assert_allclose(placement.turn(np.pi / 2) @ [1, 0], [0, -1], atol=1e-15)


def test_a_folded_particle_has_no_inverse():
    grid = placement.Grid((-5.0, -5.0), (0.5, 0.5), (21, 21))
    x = np.broadcast_to(grid.axis(1), grid.shape)
    u = np.stack([1.5 * np.sin(2 * x), 0 * x])
    u = np.stack([spline_filter(c, order=3, mode="mirror") for c in u])
    coarse = placement.coarse_grid((60, 60), 0.1, 0.4)
    with pytest.raises(ValueError, match="fold"):
        placement.invert(u, grid, (3.0, 3.0), 0.0, coarse)


def test_plane_goes_on_as_a_plane():
    y, x = np.mgrid[:12, :15].astype(float)
    plane = np.stack([1 + 2 * x - y, 0.5 * y])
    known = np.zeros(plane.shape, dtype=bool)
    known[0, 4:8, 3:9] = True
    known[1, 2:4, 5:11] = True
    out = extend(np.where(known, plane, np.nan), known)
    np.testing.assert_allclose(out, plane, atol=1e-9)


def test_constant_goes_on_and_slopes_die_off_under_tension():
    x = np.broadcast_to(np.arange(40.0), (9, 40))
    known = x < 10
    flat = extend(np.where(known, 0.3, np.nan)[None], known[None], 0.25)[0]
    np.testing.assert_allclose(flat, 0.3, atol=1e-10)
    slope = extend(np.where(known, x, np.nan)[None], known[None], 0.25)[0]
    np.testing.assert_array_equal(slope[known], x[known])
    # a straight edge: f'' = tension f, so that the slope falls off as exp(-r/2) from one; the sum
    # of a slope that starts at one at the last known sample is at most 1 + 2
    assert slope.max() < 9 + 3
    assert np.ptp(slope[:, 30:]) < 1e-3


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 0.8)])
def test_edge_of_a_rectangle_is_where_the_mask_ends(spacing):
    mask = np.zeros((12, 16), dtype=bool)
    mask[2:9, 3:14] = True
    width = 0.2
    edge = edges.edge_of(mask, spacing, width)
    left, top = (3 - 8) * spacing[1], (2 - 6) * spacing[0]
    offset = np.linspace(-1.5, 1.5, 41)
    middle = np.zeros_like(offset)
    expected = (1 + erf(offset / (np.sqrt(2) * width))) / 2
    # cubic interpolation at w/2: 1e-3 of the step
    for place in ((left + offset, middle), (middle, top + offset)):
        np.testing.assert_allclose(edges.share_at(edge, np.stack(place)), expected, atol=1e-3)
    inside = edges.inside(mask, spacing, np.stack([left + offset, middle]))
    np.testing.assert_array_equal(inside[offset != 0], (offset > 0)[offset != 0])


def test_distance_bounds_where_the_edge_is():
    mask = np.zeros((12, 16), dtype=bool)
    mask[2:9, 3:14] = True
    edge = edges.edge_of(mask, (1.0, 1.0), 0.2)
    place = np.random.default_rng(3).uniform(-20, 20, size=(2, 4000))
    distance, share = edges.distance_at(edge, place), edges.share_at(edge, place)
    reach = edges.REACH * 0.2 + edge.grid.step[0]
    assert (share[distance > reach] > 1 - 1e-6).all()
    assert (share[distance < -reach] < 1e-6).all()
    np.testing.assert_allclose(edges.share_near(edge, place), share, atol=1e-6)
    assert (distance > reach).sum() > 50
    assert (distance < -reach).sum() > 50
