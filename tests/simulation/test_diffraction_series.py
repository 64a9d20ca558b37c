"""Simulated diffraction series: against closed forms, and through the analysis of experiments."""

import hyperspy.api as hs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperspy_lfp import materials, simulation
from hyperspy_lfp.signals import ConcentrationMap
from hyperspy_lfp.simulation import _parts, _pattern, _zone
from hyperspy_lfp.simulation._source import read_source

MATERIAL = materials.get("LiFePO4")
PIXEL = 0.025  # 1/nm
SIGMA = 0.0275
#: Fits and centroids of what is noise-free: the aliasing of a Gaussian of 1.1 pixels, see below.
ALIAS = PIXEL * np.exp(-2 * np.pi**2 * (SIGMA / PIXEL) ** 2)


def make_map(values, spacing=(2.0, 1.0), material="LiFePO4", time=True):
    axes = [
        {"name": n, "size": size, "scale": s, "units": "nm", "navigate": False}
        for n, size, s in zip("yx", values.shape[-2:], spacing, strict=True)
    ]
    if time:
        first = {"name": "time", "size": len(values), "scale": 10, "units": "s", "navigate": True}
        axes.insert(0, first)
    signal = ConcentrationMap(np.asarray(values, dtype=float), axes=axes)
    if material:
        record = materials.get(material).to_dictionary()
        signal._record("ConcentrationMap", material=record, method="truth", resolution=0.0)
    return signal


def uniform(*compositions):
    return make_map(np.array(compositions)[:, None, None] * np.ones((5, 6)))


def parameters(series):
    return series.metadata.get_item("HyperspyLFP.Simulation")


def strength(hkl, x):
    """Counts for a mole, up to one factor."""
    return MATERIAL.structure_factor(hkl, x) ** 2 / MATERIAL.cell(x).prod(axis=-1)


def moments(pattern, series, at, reach=9 * SIGMA):
    """Counts and centroid (kx, ky) of the pixels around a place."""
    kx, ky = (axis.axis for axis in series.axes_manager.signal_axes)
    across, down = np.abs(kx - at[0]) < reach, np.abs(ky - at[1]) < reach
    part = pattern[down][:, across]
    counts = part.sum()
    return counts, np.array([part.sum(0) @ kx[across], part.sum(1) @ ky[down]]) / counts


def turned(g, degrees):
    """(along a*, along c*) on the camera, (kx, ky) with ky down."""
    angle = np.deg2rad(degrees)
    a, c = np.array([np.cos(angle), -np.sin(angle)]), np.array([np.sin(angle), np.cos(angle)])
    return g[0] * a + g[1] * c


def test_what_it_is():
    series = simulation.diffraction_series(uniform(0.0, 0.5, 1.0), shape=(48, 64))
    assert type(series).__name__ == "DiffractionSeries"
    assert series.data.shape == (3, 48, 64) and series.data.dtype == np.float32
    (time,) = series.axes_manager.navigation_axes
    kx, ky = series.axes_manager.signal_axes
    assert (time.name, time.units, time.scale) == ("time", "s", 10)
    assert [(a.name, a.units, a.scale) for a in (kx, ky)] == [
        ("kx", "1/nm", PIXEL),
        ("ky", "1/nm", PIXEL),
    ]
    assert kx.axis[32] == 0 and ky.axis[24] == 0
    np.testing.assert_allclose(parameters(series).x, [0, 0.5, 1], atol=1e-15)


@pytest.mark.parametrize("shape", ["gaussian", "disc"])
def test_places_and_counts_of_spots(shape):
    """Without noise both are known exactly, to the aliasing of the pixels."""
    x, centre = np.array([0.0, 0.3, 1.0]), np.array([0.07, -0.21])
    drift = np.array([(0, 0), (0.03, 0.011), (-0.05, 0.2)])
    angles = np.array([12.0, 12.5, -40.0])
    series = simulation.diffraction_series(
        uniform(*x),
        shape=(240, 256),
        centre=centre,
        centre_drift=drift,
        rotation=angles,
        spot_shape=shape,
        spot_width=SIGMA if shape == "gaussian" else 0.1,
        dtype="float64",
        counts=1e4,
        direct_beam=2e5,
    )
    every = [(h, 0, m) for h in range(-8, 9) for m in range(-4, 5) if (h, m) != (0, 0)]
    strongest = max(strength(hkl, 0.0) for hkl in every if MATERIAL.is_allowed(hkl))
    tolerance = ALIAS + 1e-12
    if shape == "disc":
        # of a spectrum 2 J1(u)/u that falls as u^-3/2: its first alias at u = 2 pi 0.1 / pixel
        u = 2 * np.pi * 0.1 / PIXEL
        tolerance = 2 * PIXEL * np.sqrt(8 / np.pi) * u**-1.5 / np.pi
    for i, pattern in enumerate(series.data):
        counts, at = moments(pattern, series, centre + drift[i])
        assert counts == pytest.approx(2e5, rel=1e-12)
        np.testing.assert_allclose(at, centre + drift[i], atol=tolerance)
        a, _, c = MATERIAL.cell(x[i]) / 10
        for h, m in ((2, 0), (1, 1), (-2, 0), (1, -1), (2, -1)):
            exact = centre + drift[i] + turned((h / a, m / c), angles[i])
            counts, at = moments(pattern, series, exact)
            expected = 1e4 * strength((h, 0, m), x[i]) / strongest
            assert counts == pytest.approx(expected, rel=1e-9)
            np.testing.assert_allclose(at, exact, atol=tolerance)


def test_forbidden_spots_are_absent():
    series = simulation.diffraction_series(uniform(0.4), dtype="float64", direct_beam=0.0)
    a, _, c = MATERIAL.cell(0.4) / 10
    for at in ((1 / a, 0), (0, 1 / c), (0, 0)):
        assert moments(series.data[0] + 1e-30, series, at)[0] < 1e-20


def test_spot_is_the_distribution_of_the_local_lattices():
    """Mean and variance along k of a map with all x from 0 to 1, from its pixels."""
    random = np.random.default_rng(1)
    values = random.uniform(size=(1, 30, 40))
    series = simulation.diffraction_series(make_map(values), dtype="float64", direct_beam=0.0)
    weight, g = strength((2, 0, 0), values[0]), 20 / MATERIAL.cell(values[0])[..., 0]
    mean = (weight * g).sum() / weight.sum()
    counts, at = moments(series.data[0], series, (mean, 0), reach=0.5)
    # compositions within 1/256 count as their mean: the moments are off by their variance there,
    # times half the second derivative of what is averaged
    within = 1 / 256**2 / 12
    at_x = np.linspace(0, 1, 101)
    weights, places = strength((2, 0, 0), at_x), 20 / MATERIAL.cell(at_x)[:, 0] - mean

    def off(moment):
        second = np.gradient(np.gradient(weights * places**moment, 0.01), 0.01)
        return np.abs(second).max() / 2 * within / weight.mean()

    np.testing.assert_allclose(at, [mean, 0], atol=off(1) + ALIAS)
    kx = series.axes_manager["kx"].axis
    near = np.abs(kx - mean) < 0.5
    rows = np.abs(series.axes_manager["ky"].axis) < 0.5
    line = series.data[0][rows][:, near].sum(axis=0)
    spread = line @ (kx[near] - mean) ** 2 / counts - SIGMA**2 - PIXEL**2 / 12
    exact = (weight * (g - mean) ** 2).sum() / weight.sum()
    assert spread == pytest.approx(exact, abs=off(2) + 10 * PIXEL * ALIAS)
    scale = parameters(series).counts_scale
    assert counts == pytest.approx(scale * weight.mean(), rel=off(0))


def test_indices_and_spacings_by_the_analysis():
    series = simulation.diffraction_series(
        uniform(0.25), rotation=17, seed=4, counts=1e5, background=(20, 1.2)
    )
    found = series.find_spots(material="LiFePO4")
    assert len(found) > 10
    for spot in found:
        assert spot.hkl is not None and not spot.forbidden
        exact = 1 / MATERIAL.d_spacing(spot.hkl, 0.25)
        # the direct beam, of 3e5 electrons, is as sharp
        error = np.hypot(spot.k_error, SIGMA / np.sqrt(3e5))
        assert spot.k == pytest.approx(exact, abs=4.5 * error)


@pytest.mark.parametrize("shape", ["gaussian", "pseudo-voigt"])
def test_mean_composition_by_the_analysis(shape):
    """A solid solution: x comes out within its standard error, and so does the shape."""
    x = np.linspace(0, 1, 8)
    series = simulation.diffraction_series(
        uniform(*x), rotation=12, seed=3, spot_shape=shape, eta=0.4, background=(20, 1.2)
    )
    profile = series.track_spot_profile((2, 0, 0), material="LiFePO4", show_progressbar=False)
    track = profile.fit(peaks=1, show_progressbar=False)
    d = track.d_spacing
    off = (d.data - MATERIAL.d_spacing((2, 0, 0), x)) / np.sqrt(d.get_noise_variance().data)
    assert (off**2).mean() < 1 + 4 * np.sqrt(2 / 8)
    found = track.to_concentration("LiFePO4")
    off = (found.data[0] - parameters(series).x) / found.standard_error.data[0]
    # chi squared of 8 values with four of its standard deviations; no single one beyond four
    assert (off**2).mean() < 1 + 4 * np.sqrt(2 / 8)
    assert np.abs(off).max() < 4


def test_two_phases_by_the_analysis():
    """The molar fraction comes out, though (200) of LiFePO4 is twelve times weaker."""
    part = np.linspace(0.2, 0.8, 5)
    values = np.zeros((5, 10, 20))
    for frame, p in zip(values, part, strict=True):
        frame[:, : round(20 * p)] = 1.0
    # pixels so fine that the bins of the profile do not count: 0.002 of the fraction without noise
    series = simulation.diffraction_series(
        make_map(values), rotation=5, seed=2, background=(15, 1.2), pixel=0.0125, shape=(512, 512)
    )
    np.testing.assert_allclose(parameters(series).x, part, atol=1e-12)
    profile = series.track_spot_profile((2, 0, 0), material="LiFePO4", show_progressbar=False)
    track = profile.fit(peaks=2, show_progressbar=False)
    molar = track.molar_fraction("LiFePO4")
    off = (molar.data - (1 - part)) / np.sqrt(molar.get_noise_variance().data)
    assert (off**2).mean() < 1 + 4 * np.sqrt(2 / 5)
    assert np.abs(off).max() < 4


@pytest.mark.parametrize("angle", [30.0, -75.0])
def test_ellipse_by_the_analysis(angle):
    series = simulation.diffraction_series(
        uniform(0.5), rotation=8, ellipse=(1.03, angle), seed=5, counts=1e5, background=(20, 1.2)
    )
    found = series.fit_distortion("LiFePO4", x=0.5)
    assert found.ellipticity == pytest.approx(0.03, abs=4 * found.ellipticity_error)
    assert found.ellipticity_error < 1e-3
    assert np.rad2deg(found.angle) == pytest.approx(angle, abs=4 * np.rad2deg(found.angle_error))
    assert found.scale == pytest.approx(1, abs=4 * found.scale_error)


def test_ellipse_stretches_the_background():
    series = simulation.diffraction_series(
        uniform(0.5), ellipse=(4.0, 90.0), background=(60, 0.5), counts=1e-9, direct_beam=0
    )
    # the short axis, along kx, is halved, the long one doubled
    at = {"kx": 128 + round(0.25 / PIXEL), "ky": 128 + round(1.0 / PIXEL)}
    assert series.data[0, 128, at["kx"]] == pytest.approx(30, rel=1e-5)
    assert series.data[0, at["ky"], 128] == pytest.approx(30, rel=1e-5)


def test_centre_and_rotation_by_the_analysis():
    drift = 0.1 * np.random.default_rng(1).normal(size=(6, 2))
    angles = np.linspace(10, 11, 6)
    series = simulation.diffraction_series(
        uniform(*np.linspace(0, 0.2, 6)),
        centre_drift=drift,
        rotation=angles,
        seed=1,
        background=(20, 1.2),
    )
    node = parameters(series)
    exact = np.stack([node.centre_x, node.centre_y], axis=-1)
    np.testing.assert_allclose(exact, drift)
    found = series.refine_centre(show_progressbar=False)
    off = (found.data - exact) / np.sqrt(found.get_noise_variance().data)
    assert (off**2).mean() < 1 + 4 * np.sqrt(2 / off.size)
    turned_by = series.rotation_drift()
    error = np.sqrt(turned_by.get_noise_variance().data)
    off = (turned_by.data - (angles - 10))[1:] / error[1:]
    assert np.abs(off).max() < 4.5


def test_beam_stop():
    stop = (-3.2, -0.3, 0.25, 0.2)
    truth = uniform(0.3)
    series = simulation.diffraction_series(truth, beam_stop=stop, background=(50, 1.0))
    without = simulation.diffraction_series(truth, background=(50, 1.0))
    kx, ky = (axis.axis for axis in series.axes_manager.signal_axes)
    hidden = ((kx >= -3.2) & (kx < 0.25)) & ((ky >= -0.3) & (ky < 0.2))[:, None]
    assert not series.data[0][hidden].any()
    np.testing.assert_array_equal(series.data[0][~hidden], without.data[0][~hidden])
    roi = hs.roi.RectangularROI(*stop)
    again = simulation.diffraction_series(truth, beam_stop=roi, background=(50, 1.0))
    np.testing.assert_array_equal(again.data, series.data)
    assert parameters(again).beam_stop == list(stop)


def test_hot_and_dead_pixels_by_the_analysis():
    truth = uniform(*np.full(9, 0.5))
    options = {"background": (200, 20.0), "direct_beam": 3e4}
    series = simulation.diffraction_series(
        truth, hot_pixels=1e-3, dead_pixels=25, seed=8, **options
    )
    node = parameters(series)
    hot = np.stack([node.hot_pixels_x, node.hot_pixels_y], axis=-1)
    dead = np.stack([node.dead_pixels_x, node.dead_pixels_y], axis=-1)
    assert hot.shape == (round(1e-3 * 256**2), 2) and dead.shape == (25, 2)
    assert len(np.unique(np.concatenate([hot, dead]), axis=0)) == len(hot) + len(dead)
    assert not series.data[:, dead[:, 1], dead[:, 0]].any()
    clean = simulation.diffraction_series(truth, **options)
    extra = series.data[:, hot[:, 1], hot[:, 0]].mean(axis=0)
    expected = 1000 + clean.data[0, hot[:, 1], hot[:, 0]]
    np.testing.assert_allclose(extra, expected, atol=5 * np.sqrt(expected.max() / 9))
    cleaned = series.remove_bad_pixels(show_progressbar=False)
    found = np.isnan(cleaned.data).all(axis=0)
    bad = np.concatenate([hot, dead])
    is_bad = np.zeros_like(found)
    is_bad[bad[:, 1], bad[:, 0]] = True
    # where nothing but background is, seven and more standard deviations of the median stand out
    flat = clean.data[0] < 220
    np.testing.assert_array_equal(found & flat, is_bad & flat)
    assert (is_bad & flat).sum() > 60


def test_bad_pixels_depend_on_the_seed_alone():
    def of(**options):
        node = parameters(
            simulation.diffraction_series(uniform(0.1), hot_pixels=9, shape=(32, 32), **options)
        )
        return node.hot_pixels_x, node.hot_pixels_y

    assert of(seed=1) == of(seed=1, counts=5) != of(seed=2)
    assert of() == of(lattice="coherent")


ZONES = [(0, 1, 0), (1, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 0), (1, 1, 1), (-1, 2, 1)]


@settings(max_examples=30)
@given(
    zone=st.tuples(*[st.integers(-3, 3)] * 3).filter(any),
    x=st.floats(0, 1),
)
def test_lengths_and_angles_in_any_zone(zone, x):
    hkl = _zone.reflections(MATERIAL, zone, 0.1, [0.0, 1.0])
    g = _zone.in_pattern(hkl, MATERIAL.cell(x), zone)
    for one, vector in zip(hkl, g, strict=True):
        assert np.dot(one, zone) == 0 and MATERIAL.is_allowed(one)
        assert np.hypot(*vector) == pytest.approx(1 / MATERIAL.d_spacing(one, x), rel=1e-12)
        cosine = vector @ g[0] / np.hypot(*vector) / np.hypot(*g[0])
        exact = np.cos(np.deg2rad(MATERIAL.angle(one, hkl[0], x)))
        assert cosine == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("zone", ZONES)
def test_orientation_in_any_zone(zone):
    """a* (b* along a) is seen along the first axis, and the zone axis points to the viewer.

    Along an axis of the cell, where the pattern is its own mirror image, the second axis of the
    cell across the beam is down, as in the movies.
    """
    cell = MATERIAL.cell(0.3)
    hkl = np.array(_zone.reflections(MATERIAL, zone, 0.08, [0.0, 1.0]))
    g = _zone.in_pattern(hkl, cell, zone)
    across = [i for i in range(3) if zone[i] == 0]
    if len(across) == 2:
        np.testing.assert_allclose(g, 10 * hkl[:, across] / cell[across], rtol=1e-12)
        return
    space = 10 * hkl / cell
    beam = np.array(zone) * cell
    beam = beam / np.linalg.norm(beam)
    # a* . g is the same in the plane, along the first axis only
    along = np.sqrt(1 - beam[0] ** 2)
    np.testing.assert_allclose(space[:, 0], along * g[:, 0], atol=1e-12)
    # counter-clockwise as displayed (y down) is positive around an axis towards the viewer
    seen = -(g[:, None, 0] * g[None, :, 1] - g[:, None, 1] * g[None, :, 0])
    np.testing.assert_allclose(seen, np.cross(space[:, None], space[None]) @ beam, atol=1e-10)


@pytest.mark.parametrize("zone", [(1, 0, 0), (0, 0, 1), (0, 1, 1)])
def test_other_zones_by_the_analysis(zone):
    series = simulation.diffraction_series(
        uniform(0.6),
        zone=zone,
        shape=(400, 420),
        seed=6,
        rotation=25,
        counts=1e5,
        background=(20, 2.0),
    )
    found = series.find_spots(material="LiFePO4", zone=zone)
    indexed = [s for s in found if s.hkl is not None]
    assert len(indexed) == len(found) > 6
    for spot in indexed:
        error = np.hypot(spot.k_error, SIGMA / np.sqrt(3e5))
        assert spot.k == pytest.approx(1 / MATERIAL.d_spacing(spot.hkl, 0.6), abs=4.5 * error)
        one = indexed[0]
        cosine = (spot.kx * one.kx + spot.ky * one.ky) / spot.k / one.k
        exact = np.cos(np.deg2rad(MATERIAL.angle(spot.hkl, one.hkl, 0.6)))
        assert cosine == pytest.approx(exact, abs=4.5 * (error / spot.k + error / one.k) * 2)


def two_pieces():
    """A particle of two pieces that touch in a corner, with random x."""
    values = np.full((2, 9, 11), np.nan)
    random = np.random.default_rng(4)
    values[:, :4, :5] = random.uniform(size=(2, 4, 5))
    values[:, 4:, 5:] = random.uniform(size=(2, 5, 6))
    return values


@pytest.mark.parametrize("zone", [(0, 1, 0), (1, 0, 0), (0, 0, 1)])
@pytest.mark.parametrize("direction", [(1, 0), (2, 1)])
def test_mean_strain_of_a_free_particle_is_that_of_its_lithium(zone, direction):
    """Whatever the shape (theorem of Betti), and so in finite elements; no piece is turned."""
    values = two_pieces()
    source = read_source(make_map(values), a_direction=direction)
    parts = _parts.coherent_parts(source, zone, "plane stress")
    np.testing.assert_allclose(parts[..., 0], values[:, source.mask])
    np.testing.assert_allclose(parts[..., 1], 1 / 50)
    gradient = np.linalg.inv(parts[..., 2:].reshape(2, -1, 2, 2)).swapaxes(-1, -2) - np.eye(2)
    first = np.nonzero(source.mask)[0] < 4
    across = [i for i in range(3) if zone[i] == 0]
    change = (MATERIAL.cell(1.0) / MATERIAL.cell(0.0) - 1)[across]
    for piece in (first, ~first):
        mean = gradient[:, piece].mean(axis=1)
        for frame, x in zip(mean, parts[:, piece, 0].mean(axis=1), strict=True):
            np.testing.assert_allclose(frame, np.diag(change * x), atol=1e-12)


def test_coherent_lattice_of_uniform_composition_is_free():
    options = {"rotation": 20, "dtype": "float64"}
    free = simulation.diffraction_series(uniform(0.1, 0.8), **options)
    coherent = simulation.diffraction_series(uniform(0.1, 0.8), lattice="coherent", **options)
    # rounding of the solver moves nothing by more than 1e-10 pixel
    assert np.abs(free.data - coherent.data).max() < 1e-9 * free.data.max()


def test_coherent_lattice_of_a_linear_composition_bends():
    """It is compatible, so that nothing is stressed: each place has its own lattice, turned.

    Finite elements are off by the change of x within one; the turn lengthens g by half its square.
    """
    x = np.linspace(0.3, 0.5, 24) * np.ones((1, 16, 1))
    source = read_source(make_map(x, spacing=(0.5, 0.5)))
    parts = _parts.coherent_parts(source, (0, 1, 0), "plane stress")[0]
    local = parts[:, 2:].reshape(-1, 2, 2)
    free = MATERIAL.cell(0.0)[[0, 2]] / MATERIAL.cell(parts[:, 0])[:, [0, 2]]
    turn = np.arctan2(local[:, 1, 0], local[:, 0, 0])
    inner = np.zeros((16, 24), dtype=bool)
    inner[2:-2, 2:-2] = True
    inner = inner.ravel()
    step = 0.2 / 23 * 0.0520
    for axis in (0, 1):
        length = np.hypot(*local[:, :, axis].T)[inner]
        assert np.abs(length - free[inner, axis]).max() < step + (turn**2).max()
    # planes turn along c by the gradient, along a, of the strain of c
    curvature = np.gradient(turn.reshape(16, 24).mean(axis=1), 0.5)[2:-2]
    expected = (MATERIAL.cell(1.0) / MATERIAL.cell(0.0) - 1)[2] * 0.2 / 23 / 0.5
    # g turns by the slope over the stretch, of up to half of 5 %
    np.testing.assert_allclose(np.abs(curvature), np.abs(expected), rtol=0.026)


def test_direction_of_the_crystal_in_the_map():
    """The same particle in a map that is turned gives the same pattern."""
    values = np.random.default_rng(3).uniform(size=(1, 8, 11))
    options = {"lattice": "coherent", "dtype": "float64", "rotation": 33}
    expected = simulation.diffraction_series(make_map(values), **options)
    # a downwards, c to the left
    quarter = make_map(values[:, ::-1].transpose(0, 2, 1), spacing=(1.0, 2.0))
    found = simulation.diffraction_series(quarter, a_direction=(0, 1), **options)
    assert np.abs(found.data - expected.data).max() < 1e-9 * expected.data.max()


def test_crystal_that_is_missing_in_a_frame_does_not_diffract():
    values = np.full((2, 4, 6), 0.5)
    values[1, :, 3:] = np.nan
    for lattice in ("free", "coherent"):
        series = simulation.diffraction_series(
            make_map(values), lattice=lattice, direct_beam=0, dtype="float64"
        )
        # 0.2 1/nm from the spot of (200) no other one begins
        g = 2 / MATERIAL.cell(0.5)[0] * 10
        whole, half = (moments(frame, series, (g, 0))[0] for frame in series.data)
        assert half == pytest.approx(whole / 2, rel=1e-9)
        np.testing.assert_allclose(parameters(series).x, 0.5)


def test_counts_are_those_expected():
    """Poisson: the variance is the mean, and frames are independent."""
    truth = uniform(*np.full(4, 0.5))
    options = {"background": (100, 5.0), "shape": (64, 80)}
    expected = simulation.diffraction_series(truth, **options)
    series = simulation.diffraction_series(truth, seed=11, **options)
    assert series.data.dtype == np.uint16
    off = (series.data - expected.data) / np.sqrt(expected.data)
    number = off[0].size
    for frame in off:
        assert abs(frame.mean()) < 4.5 / np.sqrt(number)
        # variance of the square: 2 + 1 / mean
        assert frame.var() == pytest.approx(1, abs=4.5 * np.sqrt(2.1 / number))
    assert abs((off[0] * off[1]).mean()) < 4.5 / np.sqrt(number)
    strong = simulation.diffraction_series(truth, seed=11, direct_beam=1e6, **options)
    assert strong.data.dtype == np.uint32


@pytest.mark.parametrize("lattice", ["free", "coherent"])
@pytest.mark.parametrize("seed", [None, 3])
def test_lazy_is_eager(lattice, seed):
    values = np.random.default_rng(2).uniform(size=(3, 6, 5))
    options = {
        "lattice": lattice,
        "seed": seed,
        "shape": (60, 70),
        "hot_pixels": 3,
        "beam_stop": (-1, -0.1, 0.1, 0.1),
        "rotation": (1, 2, 3),
    }
    eager = simulation.diffraction_series(make_map(values), lazy=False, **options)
    lazy = simulation.diffraction_series(make_map(values), lazy=True, **options)
    assert type(lazy).__name__ == "LazyDiffractionSeries"
    assert lazy.data.chunks[0] == (1, 1, 1) and lazy.data.dtype == eager.data.dtype
    one = lazy.inav[1]
    one.compute(show_progressbar=False)
    np.testing.assert_array_equal(one.data, eager.data[1])
    lazy.compute(show_progressbar=False)
    np.testing.assert_array_equal(lazy.data, eager.data)


def test_seeds():
    truth = uniform(0.2, 0.2)
    first, again, other = (
        simulation.diffraction_series(truth, seed=s, shape=(40, 40)).data for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize("lazy", [False, True])
def test_single_map(lazy):
    truth = make_map(np.full((5, 6), 0.3), time=False)
    one = simulation.diffraction_series(truth, shape=(64, 64), seed=2, lazy=lazy)
    assert one.axes_manager.navigation_dimension == 0
    series = simulation.diffraction_series(uniform(0.3), shape=(64, 64), seed=2)
    if lazy:
        one.compute(show_progressbar=False)
    np.testing.assert_array_equal(one.data, series.data[0])


def test_large_series_are_lazy():
    truth = uniform(*np.linspace(0, 1, 17))
    series = simulation.diffraction_series(truth, shape=(4096, 4096))
    assert type(series).__name__ == "LazyDiffractionSeries"


@pytest.mark.parametrize("extension", ["hspy", "zspy"])
def test_round_trip(extension, tmp_path):
    values = np.random.default_rng(2).uniform(size=(2, 6, 5))
    truth = make_map(values)
    truth.metadata.General.title = "a particle"
    series = simulation.diffraction_series(
        truth, shape=(40, 40), seed=1, dead_pixels=2, background=(5, 1), ellipse=(1.01, 3)
    )
    series.save(tmp_path / f"series.{extension}")
    again = hs.load(tmp_path / f"series.{extension}")
    assert type(again) is type(series)
    assert again.metadata.General.title == "simulated diffraction series of a particle"
    np.testing.assert_array_equal(again.data, series.data)
    before, after = (parameters(s).as_dictionary() for s in (series, again))
    for node in (before, after):
        node.pop("_sig_source", None)
        node.pop("source", None)
    assert after == before
    np.testing.assert_array_equal(parameters(again).source.data, values)
    assert parameters(again).source.axes_manager[0].units == "s"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"zone": (0, 0, 0)}, ValueError, "zone="),
        ({"shape": (4, 64)}, ValueError, "shape="),
        ({"pixel": 0}, ValueError, "pixel="),
        ({"counts": -1}, ValueError, "counts="),
        ({"direct_beam": -1}, ValueError, "direct_beam="),
        ({"d_min": 0}, ValueError, "d_min="),
        ({"d_min": 2.0}, ValueError, "d_min=2 nm leaves no reflection"),
        ({"spot_width": 0}, ValueError, "spot_width="),
        ({"spot_shape": "square"}, ValueError, "spot_shape='square'"),
        ({"eta": 1.5}, ValueError, "eta="),
        ({"background": 60}, ValueError, "background="),
        ({"background": (60, 0)}, ValueError, "background="),
        ({"beam_stop": (1, 0, 0, 1)}, ValueError, "beam_stop="),
        ({"beam_stop": (50, 50, 60, 60)}, ValueError, "holds no pixel"),
        ({"centre": 3}, ValueError, "centre="),
        ({"centre_drift": np.zeros((3, 2))}, ValueError, "centre_drift has the shape"),
        ({"rotation": (1, 2, 3)}, ValueError, "rotation must be"),
        ({"ellipse": (0.9, 10)}, ValueError, "ellipse="),
        ({"hot_pixels": 2.5}, ValueError, "hot_pixels="),
        ({"dead_pixels": -1}, ValueError, "dead_pixels="),
        ({"hot_pixels": 0.7, "dead_pixels": 0.7}, ValueError, "more than there are pixels"),
        ({"hot_counts": -1}, ValueError, "hot_counts="),
        ({"lattice": "vegard"}, ValueError, "lattice='vegard'"),
        ({"lattice": "coherent", "zone": (0, 1, 1)}, ValueError, r"take lattice='free'"),
        ({"condition": "strain"}, ValueError, "condition='strain'"),
        ({"material": "gold"}, ValueError, "gold"),
        ({"dtype": "uint16"}, ValueError, "dtype=uint16 cannot hold expected counts"),
        ({"dtype": "uint8", "seed": 1}, ValueError, "dtype=uint8 holds up to 255"),
        ({"dtype": "complex64", "seed": 1}, ValueError, "dtype=complex64"),
        ({"seed": -1}, ValueError, "seed="),
        ({"a_direction": (0, 0)}, ValueError, "a_direction="),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error, match=message):
        simulation.diffraction_series(uniform(0.1, 0.2), **options)


def test_materials_without_atoms_or_elasticity():
    bare = materials.Material("bare", (0, 1), a=(9.8, 10.3), b=(5.8, 6.0), c=(4.78, 4.69))
    with pytest.raises(ValueError, match="elements"):
        simulation.diffraction_series(uniform(0.1), material=bare)
    with pytest.raises(ValueError, match="elastic"):
        simulation.diffraction_series(uniform(0.1), material=bare, lattice="coherent")
    with pytest.raises(ValueError, match="material is not given"):
        simulation.diffraction_series(make_map(np.full((1, 4, 4), 0.5), material=None))
    with pytest.raises(TypeError, match="truth is a Signal2D"):
        simulation.diffraction_series(hs.signals.Signal2D(np.zeros((5, 4))))


def test_camera_stretch_keeps_areas():
    stretch = _pattern.camera_stretch(1.21, np.deg2rad(30))
    assert np.linalg.det(stretch) == pytest.approx(1)
    along = np.array([np.cos(np.deg2rad(30)), -np.sin(np.deg2rad(30))])
    np.testing.assert_allclose(stretch @ along, 1.1 * along)
