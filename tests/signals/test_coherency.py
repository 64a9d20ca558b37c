"""Composition of coherent particles: the elastic method on movies made by elastic equilibrium."""

import hyperspy.api as hs
import numpy as np
import pytest
from hyperspy.signals import Signal2D
from scipy.interpolate import RegularGridInterpolator

from hyperspy_lfp import materials
from hyperspy_lfp.kernels.mechanics import elasticity

STEP = 0.25  # nm, of the elastic truth
SCALE = (0.06, 0.05)  # (y, x), nm
SIDE = 16.0  # nm
MARGIN = 2.0
RESOLUTION = 0.9
HKL = ((1, 0, 1), (1, 0, -1))
MATERIAL = materials.get("LiFePO4")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setattr(hs.preferences.General, "show_progressbar", False)


def equilibrium(x):
    """Displacement (2, y, x) in nm of a square of composition x, on a finer grid than the maps.

    Its moduli are a tenth softer and stiffer than those of the inverse.
    """
    cell = MATERIAL.cell([0.0, 1.0])
    strain = cell[1] / cell[0] - 1
    mean = np.mean(MATERIAL.elastic, axis=0)
    constants = mean * np.where(np.arange(9) % 2, 0.9, 1.1)
    medium = elasticity.orthotropic_medium(constants, strain, (1, 0), "plane stress")
    mesh = elasticity.build_mesh(np.ones(x.shape, dtype=bool), (STEP, STEP), medium)
    u = elasticity.displacements(x.ravel()[:, None], mesh)[: 2 * mesh.n_nodes, 0]
    nodes = u.reshape(2, -1)[:, mesh.nodes].mean(axis=-1)  # at the centres of the elements
    return nodes.reshape(2, *x.shape)


def movie(x, dose=3000.0, seed=0):
    """A lattice image of the particle in vacuum, displaced by elastic equilibrium."""
    n = round((SIDE + 2 * MARGIN) / SCALE[0]), round((SIDE + 2 * MARGIN) / SCALE[1])
    at_y = (np.arange(n[0]) * SCALE[0] - MARGIN)[:, None]
    at_x = np.arange(n[1]) * SCALE[1] - MARGIN
    u = equilibrium(x)
    at = (np.arange(x.shape[0]) + 0.5) * STEP, (np.arange(x.shape[1]) + 0.5) * STEP
    fields = [RegularGridInterpolator(at, f, bounds_error=False, fill_value=None) for f in u]
    big_y, big_x = (np.broadcast_to(a, n).copy() for a in (at_y, at_x))
    for _ in range(5):  # r = R + u(R)
        points = np.stack([big_y, big_x], axis=-1)
        big_y, big_x = at_y - fields[1](points), at_x - fields[0](points)
    inside = 1.0
    for r in (big_x, big_y):
        inside = inside / (1 + np.exp(-r / 0.04)) / (1 + np.exp((r - SIDE) / 0.04))
    a, _, c = MATERIAL.cell(0.0) / 10
    image = np.ones(n)
    for h, _, l in HKL:  # noqa: E741
        image = image + 0.2 * inside * np.cos(2 * np.pi * (h * big_x / a + l * big_y / c))
    signal = Signal2D(np.random.default_rng(seed).poisson(dose * image)[None].astype(np.uint16))
    for axis, scale in zip(signal.axes_manager.signal_axes, SCALE[::-1], strict=True):
        axis.scale, axis.units, axis.offset = scale, "nm", -MARGIN
    signal.axes_manager.navigation_axes[0].name = "time"
    signal.set_signal_type("HRTEMMovie")
    return signal


def stripes(period=10.0):
    """A wave of x along c, which is down."""
    y = (np.arange(round(SIDE / STEP)) + 0.5) * STEP
    return np.broadcast_to(0.5 + 0.4 * np.cos(2 * np.pi * (y[:, None] - 8) / period), (64, 64))


def concentration(signal, **kwargs):
    a, _, c = MATERIAL.cell(0.0) / 10
    g = [(h / a, l / c) for h, _, l in HKL]  # noqa: E741
    return signal.to_concentration(*g, resolution=RESOLUTION, hkl=HKL, **kwargs)


def amplitude(x, period=10.0):
    """Of the wave along c, further than two resolutions from the edge."""
    at_x, at_y = (axis.axis for axis in x.axes_manager.signal_axes)
    rows = (at_y > 2 * RESOLUTION) & (at_y < SIDE - 2 * RESOLUTION)
    columns = (at_x > 3) & (at_x < SIDE - 3)
    profile = np.nanmean(x.data[0][rows][:, columns], axis=1)
    wave = np.cos(2 * np.pi * (at_y[rows] - 8) / period)
    design = np.stack([np.ones_like(wave), wave], axis=1)
    return np.linalg.lstsq(design, profile, rcond=None)[0][1]


@pytest.fixture(scope="module")
def stripe_movie():
    return movie(stripes())


@pytest.fixture(scope="module")
def elastic(stripe_movie):
    return concentration(stripe_movie, method="elastic", show_progressbar=False)


def test_stripes_that_vegard_does_not_see(stripe_movie, elastic):
    """Gate: 10 nm stripes along c keep .65 of their contrast, of which the a axis shows .1."""
    local = amplitude(concentration(stripe_movie, method="a")) / 0.4
    assert local < 0.3
    assert amplitude(elastic) / 0.4 > 0.65


def test_error_of_the_elastic_method_is_honest(elastic):
    at_x, at_y = (axis.axis for axis in elastic.axes_manager.signal_axes)
    inside = (at_x > 2) & (at_x < SIDE - 2) & ((at_y > 2) & (at_y < SIDE - 2))[:, None]
    truth = 0.5 + 0.4 * np.cos(2 * np.pi * (at_y[:, None] - 8) / 10)
    error = (elastic.data[0] - truth)[inside]
    predicted = elastic.standard_error().data[0][inside]
    # a single pattern: between half and one and a half of what is stated
    assert np.sqrt(np.mean(error**2) / np.mean(predicted**2)) < 1.5
    assert np.sqrt(np.mean(predicted**2)) < 0.2
    assert elastic.metadata.HyperspyLFP.ConcentrationMap.condition == "plane stress"
    # contradicting lengths are explained, and no wrong pixel size
    flags = elastic.flags.data[np.isfinite(elastic.data)]
    assert not (flags & (elastic.FLAGS["inconsistent"] | elastic.FLAGS["calibration"])).any()
    assert "plane stress" in str(elastic.summary())


def test_from_strain_and_lazily(stripe_movie, elastic):
    a, _, c = MATERIAL.cell(0.0) / 10
    g = [(h / a, l / c) for h, _, l in HKL]  # noqa: E741
    phase = stripe_movie.gpa(*g, resolution=RESOLUTION, hkl=HKL)
    from_strain = phase.strain().to_concentration(a_direction=(1, 0), method="elastic")
    both = np.isfinite(elastic.data) & np.isfinite(from_strain.data)
    np.testing.assert_allclose(from_strain.data[both], elastic.data[both], atol=0.02)
    lazy = concentration(stripe_movie.as_lazy(), method="elastic")
    assert lazy._lazy
    lazy.compute(show_progressbar=False)
    np.testing.assert_array_equal(lazy.data, elastic.data)


def test_relative_to_a_region_of_the_same_frame(stripe_movie, elastic):
    """The region is strained by what is around it: that is part of the model."""
    roi = hs.roi.RectangularROI(3, 6.5, 13, 9.5)
    at_y = (np.arange(6.5, 9.5, 0.01) - 8) * 2 * np.pi / 10
    mean = 0.5 + 0.4 * np.cos(at_y).mean()
    found = concentration(stripe_movie, method="elastic", reference=roi, x_reference=mean)
    both = np.isfinite(found.data) & np.isfinite(elastic.data)
    difference = found.data[both] - elastic.data[both]
    # an offset of the mean, which the noise of the region's strain leaves, and the same waves
    assert difference.std() < 0.05
    assert amplitude(found) == pytest.approx(amplitude(elastic), rel=0.1)


def test_response_of_a_uniform_particle_is_its_composition():
    x = concentration(movie(np.full((64, 64), 0.6)))
    x.data[np.isfinite(x.data)] = 0.6
    response = x.coherency_response()
    np.testing.assert_allclose(response.data[np.isfinite(response.data)], 0.6, atol=2e-3)
    elastic = concentration(movie(np.full((64, 64), 0.6)), method="elastic")
    assert np.nanmean(elastic.data) == pytest.approx(0.6, abs=0.02)


def test_response_to_stripes_is_what_is_read(stripe_movie):
    """The forward model against the movie: what the a axis shows of the true stripes."""
    read = concentration(stripe_movie, method="a")
    at_y = read.axes_manager.signal_axes[1].axis[:, None]
    truth = read.deepcopy()
    wave = 0.5 + 0.4 * np.cos(2 * np.pi * (at_y - 8) / 10)
    truth.data[:] = np.where(np.isfinite(read.data), wave, np.nan)
    for mask in (None, hs.roi.RectangularROI(0, 0, SIDE, SIDE)):
        response = truth.coherency_response(mask, method="a")
        assert amplitude(response) == pytest.approx(amplitude(read), abs=0.03)


def test_bad_input(stripe_movie):
    unknown = materials.Material(
        "no moduli", composition=(0, 1), a=(9.81, 10.32), b=(5.79, 6.0), c=(4.78, 4.69)
    )
    with pytest.raises(ValueError, match="elastic constants of no moduli are not given"):
        concentration(stripe_movie, method="elastic", material=unknown)
    with pytest.raises(ValueError, match=r"condition='thin' is not known.*'plane stress'"):
        concentration(stripe_movie, method="elastic", condition="thin")
    x = concentration(stripe_movie)
    with pytest.raises(ValueError, match="method='trace' is not known"):
        x.coherency_response(method="trace")
    with pytest.raises(ValueError, match="mask has the shape"):
        x.coherency_response(np.ones((3, 4), dtype=bool))
