"""Expected errors: closed forms, and the scatter of simulated movies on fresh seeds."""

import hyperspy.api as hs
import numpy as np
import pytest
from movies import make_source

from hyperspy_lfp import materials, simulation
from hyperspy_lfp.kernels.concentration.regions import region_means
from hyperspy_lfp.simulation._plan import box_variance

LFP = materials.get("LiFePO4")
PAIR = [(1, 0, 1), (1, 0, -1)]


def test_strain_across_the_planes_is_the_limit():
    """d / (4 pi^(3/2) sigma^2 C sqrt(D)), the figure of a spacing of 10.3 pixels: 2.3e-3."""
    expected = simulation.plan(100, 0.2, 10.0, g=[(1 / 10.3, 0.0)], pixel=1.0)
    exact = 10.3 / (4 * np.pi**1.5 * 10.0**2 * 0.2 * 10)
    assert expected.strain[0] == pytest.approx(exact, rel=1e-12)
    assert expected.strain[0] == pytest.approx(2.3e-3, rel=0.01)
    assert expected.sigma_x is None


def test_rectangular_pair_measures_the_axes():
    """(200) and (002): x by least squares of two independent lengths."""
    hkl, contrast = [(2, 0, 0), (0, 0, 2)], (0.1, 0.05)
    material = materials.Material(  # exact tables: weights by noise alone
        "exact", (0, 1), a=LFP.a, b=LFP.b, c=LFP.c, space_group="Pnma", uncertainty=(0, 0, 0)
    )
    expected = simulation.plan(200, contrast, 1.0, hkl=hkl, material=material, x=0.5)
    slopes = [float(material.sensitivity(g, 0.5)) for g in hkl]
    information = sum((s / e) ** 2 for s, e in zip(slopes, expected.strain, strict=True))
    assert expected.sigma_x == pytest.approx(information**-0.5, rel=1e-6)


def test_scaling():
    base = simulation.plan(100, 0.2, 1.0, box=4.0)
    assert simulation.plan(400, 0.2, 1.0).strain[0] == pytest.approx(base.strain[0] / 2)
    assert simulation.plan(100, 0.1, 1.0).strain[0] == pytest.approx(base.strain[0] * 2)
    assert simulation.plan(100, 0.2, "2 nm").strain[0] == pytest.approx(base.strain[0] / 4)
    nine = simulation.plan(100, 0.2, 1.0, frames=9)
    assert nine.strain[0] == pytest.approx(base.strain[0] / 3)
    assert base.resolution_elements == pytest.approx(16 / (4 * np.pi))
    assert base.independent_values == pytest.approx((base.sigma_x / base.sigma_x_box) ** 2)


def test_small_boxes_are_a_point_and_large_ones_go_with_their_perimeter():
    tensor = np.diag([2.0, 3.0])
    assert box_variance(tensor, (1e-3, 1e-3), 1.0) == pytest.approx(5.0, rel=1e-6)
    # each side of length L holds L 2 sqrt(pi) sigma of the two ends: L^-3 in all
    large = box_variance(tensor, (200.0, 200.0), 1.0)
    assert large == pytest.approx(5 * 4 * 2 * np.sqrt(np.pi) / 200**3, rel=0.01)


def test_box_as_maps_have_it():
    """The double sum over the pixels of a map, which `evolution` takes, on a fine grid."""
    tensor, sides, sigma, step = np.array([[2.0, 0.3], [0.3, 1.0]]), (5.0, 3.0), 1.0, 0.1
    shape = (130, 150)
    mask = np.zeros((1, *shape), dtype=bool)
    mask[0, 50:80, 50:100] = True
    _, variance = region_means(
        np.zeros(shape), np.full(shape, 3.0), mask, (step, step), sigma, tensor[::-1, ::-1]
    )
    # a sum over pixels is the integral up to (step/sigma)^2/24
    assert variance[0] == pytest.approx(box_variance(tensor, sides, sigma), rel=2e-3)


@pytest.mark.parametrize(
    ("hkl", "contrast", "lattice"),
    [(PAIR, (0.15, 0.15), "coherent"), ([(2, 0, 0), (1, 0, 1)], (0.1, 0.15), "vegard")],
)
def test_simulated_movies_scatter_as_planned(hkl, contrast, lattice):
    """24 frames of a uniform crystal, on a seed of its own: within 10 %.

    Inside lie 15 independent values a frame, 360 in all: 4 % of a standard deviation.
    """
    box, sigma, x = (5.0, 4.0), 1.0, 0.5
    movie = simulation.hrtem_movie(
        make_source(np.full((24, 22, 22), x)),
        material="LiFePO4",
        shape=(384, 400),
        pixel=0.05,
        dose=100,
        hkl=hkl,
        contrast=contrast,
        lattice=lattice,
        seed=20,
    )
    expected = simulation.plan(100, contrast, sigma, hkl=hkl, pixel=0.05, box=box, x=x)
    maps = movie.to_concentration(
        *expected.g,
        hkl=hkl,
        resolution=sigma,
        reference="cell",
        x_reference=x,
        mask=None,
        show_progressbar=False,
    )
    step = maps.axes_manager.signal_axes[0].scale
    k = int(np.ceil(3 * sigma / step))
    inner = maps.data[:, k:-k, k:-k]
    assert inner.std() == pytest.approx(expected.sigma_x, rel=0.1)
    assert inner.mean() == pytest.approx(x, abs=5 * expected.sigma_x_box / np.sqrt(24))
    boxes = {
        f"{i}{j}": hs.roi.RectangularROI(3 + 5 * i, 3 + 4 * j, 8 + 5 * i, 7 + 4 * j)
        for i in range(2)
        for j in range(3)
    }
    evolution = maps.evolution(boxes, show_progressbar=False)
    # 144 boxes: 6 %; a box of whole pixels of the map is up to a pixel smaller or larger
    assert evolution.data.std() == pytest.approx(expected.sigma_x_box, rel=0.18)
    assert evolution.standard_error.data.mean() == pytest.approx(expected.sigma_x_box, rel=0.1)


def test_other_zones_and_defaults():
    assert simulation.plan(100, 0.1, 1.0).hkl == ((1, 0, 1), (1, 0, -1))
    assert simulation.plan(100, 0.1, 1.0, zone=(1, 0, 0)).hkl == ((0, 1, 1), (0, 1, -1))
    assert simulation.plan(100, 0.1, 1.0, zone=(0, 0, 1)).hkl == ((2, 1, 0), (2, -1, 0))


@pytest.mark.parametrize("angle", [30.0, 90.0])
def test_turned_crystal(angle):
    """The error of a point does not know directions; that of a turned box does."""
    direction = (np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle)))
    straight = simulation.plan(100, 0.1, 1.0, box=(6.0, 3.0))
    turned = simulation.plan(100, 0.1, 1.0, box=(6.0, 3.0), a_direction=direction)
    assert turned.sigma_x == pytest.approx(straight.sigma_x)
    assert turned.sigma_x_box != pytest.approx(straight.sigma_x_box, rel=1e-3)
    if angle == 90.0:
        other = simulation.plan(100, 0.1, 1.0, box=(3.0, 6.0))
        assert turned.sigma_x_box == pytest.approx(other.sigma_x_box)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dose": 0}, "dose"),
        ({"dose": -3}, "dose"),
        ({"contrast": 0}, "contrast"),
        ({"contrast": (0.1, 0.2, 0.3)}, "contrast"),
        ({"resolution": 0.1}, "resolution"),
        ({"resolution": -1}, "resolution"),
        ({"pixel": 0}, "pixel"),
        ({"box": -1.0}, "box"),
        ({"box": (1.0, 2.0, 3.0)}, "box"),
        ({"frames": 0}, "frames"),
        ({"hkl": [(1, 0, 1)]}, "parallel"),
        ({"hkl": [(1, 0, 0), (1, 0, 1)]}, "forbidden"),
        ({"hkl": PAIR, "g": [(1, 1)]}, "both"),
        ({"g": [(0.0, 0.0)]}, "zero"),
        ({"g": [(20.0, 0.0)]}, "Nyquist"),
        ({"zone": (1, 1, 0)}, "axis of the cell"),
        ({"material": "gold"}, "gold"),
        ({"a_direction": (0, 0)}, "a_direction"),
        ({"x": np.nan}, "x="),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulation.plan(**({"dose": 100, "contrast": 0.1, "resolution": 1.0} | arguments))
