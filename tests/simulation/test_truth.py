"""The truth of simulated movies: closed forms, and what geometric phase analysis reads."""

import hyperspy.api as hs
import numpy as np
import pytest
from movies import centres, make_source
from scipy.ndimage import binary_erosion

from hyperspy_lfp import materials, simulation
from hyperspy_lfp.signals import ConcentrationMap, DisplacementField, HRTEMMovie, LatticeStrain

LFP = materials.get("LiFePO4")
PAIR = [(1, 0, 1), (1, 0, -1)]
E_A, _, E_C = LFP.cell(1.0) / LFP.cell(0.0) - 1
SHAPE, PIXEL = (300, 340), 0.05


def movie_of(x, spacing=0.5, **settings):
    settings = {"shape": SHAPE, "pixel": PIXEL, "lattice": "vegard", "hkl": PAIR} | settings
    settings = {"contrast": [0.2] * len(settings["hkl"])} | settings
    return simulation.hrtem_movie(make_source(x, (spacing,) * 2), material="LiFePO4", **settings)


def _wave(mean=0.5, wave=0.3, period=12.0, n=(44, 52), d=0.5):
    return np.broadcast_to(mean + wave * np.sin(2 * np.pi * centres(n[1], d) / period), n)


def test_uniform_crystal_turned_and_drifting():
    """Closed form: F = T diag(1 + eps), u = (1 - F^-1)(r - middle - drift) + drift."""
    x, drift, angle = 0.8, np.array([0.31, -0.22]), 4.0
    movie = movie_of(
        np.full((2, 40, 44), x), drift=[(0, 0), drift], rotation=[0.0, angle], lattice="coherent"
    )
    exact = simulation.truth(movie, step=1.0)
    np.testing.assert_allclose(exact.x.data, x, atol=1e-6)
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    h = np.array([[c, s], [-s, c]]) @ np.diag([1 + E_A * x, 1 + E_C * x]) - np.eye(2)
    strain = exact.strain
    expected = [h[0, 0], h[1, 1], (h[0, 1] + h[1, 0]) / 2, (h[0, 1] - h[1, 0]) / 2]
    for component, value in enumerate(expected):
        np.testing.assert_allclose(strain.data[1, component], value, atol=2e-5)
    assert strain.rotation.data[1].mean() > 0  # counter-clockwise is positive
    assert strain.definition == "lattice"
    y, big_x = (np.arange(n) for n in strain.data.shape[-2:])
    middle = [(n - 1) / 2 * PIXEL for n in SHAPE[::-1]]
    r = np.stack(np.meshgrid(big_x - middle[0], y - middle[1]))
    inverse = np.linalg.inv(h + np.eye(2))
    u = r - np.tensordot(inverse, r - drift[:, None, None], 1)
    np.testing.assert_allclose(exact.displacement.data[1], u, atol=5e-5)
    np.testing.assert_allclose(exact.drift.data, [(0, 0), drift])
    np.testing.assert_allclose(exact.rotation, [0.0, angle])
    assert exact.mask.data.all()


def test_vegard_at_every_point_of_the_image():
    """exx at the image point is eps_a(x) there, whatever shear and rotation it takes."""
    movie = movie_of(_wave())
    exact = simulation.truth(movie, step=0.25)
    inner = binary_erosion(exact.mask.data, iterations=4)
    x, strain = exact.x.data, exact.strain
    # the slope of a cubic spline with the step h errs by h^3/24 times the fourth derivative, of
    # u: eps A k^3; the coarse grid has h = 0.25 nm, the map 0.5
    bound = 0.5**3 / 24 * 0.052 * 0.3 * (2 * np.pi / 12) ** 3 + 1e-6
    for values, slope in ((strain.exx.data, E_A), (strain.eyy.data, E_C)):
        assert np.abs(values - slope * x)[inner].max() < bound


@pytest.mark.parametrize("lattice", ["vegard", "coherent"])
@pytest.mark.parametrize("rotation", [0.0, 20.0])
def test_geometric_phase_reads_the_truth(lattice, rotation):
    """Noise-free, amplitude uniform, interior: strain and displacement.

    The phase of a Gaussian mean of exp(iP) is the mean of P up to the third cumulant of P under
    the window. With p the slope and q the curvature of P, log <exp(iP)> differs from that of
    linear P by terms of the relative size (q sigma^2)^2: with p = 2 pi g e and q = 2 pi g e',
    the strain errs by less than e (q sigma^2)^2, in each direction of g.
    """
    sigma, period, wave = 0.8, 12.0, 0.3
    movie = movie_of(
        np.stack([_wave(wave=wave, period=period)] * 2),
        lattice=lattice,
        rotation=[rotation, rotation + 1.5],
        drift=[(0, 0), (0.4, 0.3)],
    )
    exact = simulation.truth(movie)
    g = exact.g_vectors(PAIR)
    phase = movie.gpa(*g, hkl=PAIR, resolution=sigma, mask=None, show_progressbar=False)
    strain = phase.strain(show_progressbar=False)
    expected = simulation.truth(strain).smoothed(sigma)
    # five sigma from the border of the frame, which the crystal fills
    k = int(np.ceil(5 * sigma / strain.axes_manager.signal_axes[0].scale))
    inner = np.s_[..., k:-k, k:-k]
    largest = np.abs(expected.strain.data).max()
    curvature = 2 * np.pi * np.hypot(*g[0]) * E_A * wave * 2 * np.pi / period
    bound = largest * (curvature * sigma**2) ** 2 + 2e-5  # the gate of the method at this sigma
    assert np.abs(strain.data - expected.strain.data)[inner].max() < bound
    assert largest > 20 * bound
    u = phase.displacement(show_progressbar=False)
    off = (u.data - expected.displacement.data)[inner]
    # up to a vector that phases cannot tell: g times it is a whole number, where phases count from
    # the corner of the frame and the lattice from its middle
    middle = [(n - 1) / 2 * PIXEL for n in SHAPE[::-1]]
    cycles = np.einsum("gi,fiyx->fgyx", g, off - np.array(middle)[:, None, None])
    assert np.abs(cycles - np.rint(cycles.mean(axis=(2, 3), keepdims=True))).max() < 0.01


def test_composition_by_geometric_phase():
    movie = movie_of(_wave(period=16.0))
    g = simulation.truth(movie).g_vectors(PAIR)
    x = movie.to_concentration(
        *g, hkl=PAIR, resolution=0.8, mask=None, reference="cell", show_progressbar=False
    )
    expected = simulation.truth(x).smoothed(0.8)
    k = int(np.ceil(4 / x.axes_manager.signal_axes[0].scale))
    off = (x.data - expected.x.data)[k:-k, k:-k]
    # the strain's bound, over the slope of the a axis
    curvature = 2 * np.pi * 2.3 * E_A * 0.3 * 2 * np.pi / 16
    assert np.abs(off).max() < (E_A * 0.8 * (curvature * 0.8**2) ** 2 + 2e-5) / E_A + 2e-3
    assert expected.x.resolution == pytest.approx(0.8)


def test_smoothed_is_the_gaussian_mean():
    """A wave of period L keeps exp(-2 pi^2 sigma^2 / L^2) of its height, inside."""
    movie = movie_of(_wave(mean=0.0, wave=0.2, period=6.0), lattice="coherent")
    exact = simulation.truth(movie, step=0.25)
    mean = exact.smoothed("1.0 nm")
    at = np.s_[20:-20, 20:-20]
    ratio = np.linalg.lstsq(exact.x.data[at].reshape(-1, 1), mean.x.data[at].ravel(), rcond=None)
    # the period stretches and shrinks with the lattice, by 1 % and both ways
    assert ratio[0][0] == pytest.approx(np.exp(-2 * np.pi**2 / 36), abs=0.01)


def test_smoothed_at_an_edge_takes_the_particle_only():
    x = np.full((20, 20), np.nan)
    x[4:16, 4:16] = 0.4
    exact = simulation.truth(movie_of(x, spacing=1.0), step=0.5).smoothed(1.0)
    assert np.isfinite(exact.x.data).sum() > 400
    np.testing.assert_allclose(exact.x.data[np.isfinite(exact.x.data)], 0.4, atol=1e-6)


def test_mask_and_place_of_the_particle():
    x = np.full((20, 20), np.nan)
    x[5:15, 4:16] = 0.0
    exact = simulation.truth(movie_of(x, spacing=1.0, drift=[(1.0, -0.5)]), step=None)
    y, big_x = ((np.arange(n) - (n - 1) / 2) * PIXEL for n in SHAPE)
    expected = (np.abs(big_x - 1.0) < 6) & (np.abs(y + 0.5) < 5)[:, None]
    np.testing.assert_array_equal(exact.mask.data, expected)
    np.testing.assert_array_equal(np.isfinite(exact.x.data), expected)


def test_g_vectors():
    movie = movie_of(np.full((10, 10), 0.5), rotation=90.0)
    a, _, c = LFP.cell(0.0) / 10
    # a points up after a quarter turn, c to the right
    np.testing.assert_allclose(
        simulation.truth(movie).g_vectors([(2, 0, 0), (0, 0, 2)]),
        [(0, -2 / a), (2 / c, 0)],
        atol=1e-12,
    )
    with pytest.raises(ValueError, match="zone"):
        simulation.truth(movie).g_vectors([(0, 2, 0)])


@pytest.fixture(scope="module")
def series():
    x = np.stack([np.full((10, 12), 0.1 * (i + 1)) for i in range(4)])
    return simulation.hrtem_movie(
        make_source(x), material="LiFePO4", shape=(60, 72), pixel=0.15, drift=np.eye(4)[:, :2]
    )


def test_parts_of_a_movie(series):
    whole = simulation.truth(series)
    part = simulation.truth(series.inav[1:3].isig[20:, 10:50])
    # its axes are counted from another pixel: rounding
    np.testing.assert_allclose(part.x.data, whole.x.data[1:3, 10:50, 20:], atol=1e-12)
    np.testing.assert_allclose(part.strain.data, whole.strain.data[1:3, :, 10:50, 20:], atol=1e-12)
    np.testing.assert_array_equal(part.drift.data, whole.drift.data[1:3])
    one = simulation.truth(series.inav[2], frame=2)
    np.testing.assert_array_equal(one.x.data, whole.x.data[2])
    assert isinstance(whole.x, ConcentrationMap)
    assert isinstance(whole.displacement, DisplacementField)
    assert isinstance(whole.strain, LatticeStrain)
    assert whole.strain.rotate(30).angle == 30
    np.testing.assert_allclose(
        whole.x.evolution(hs.roi.RectangularROI(4, 4, 6, 6)).data[0],
        [0.1, 0.2, 0.3, 0.4],
        atol=1e-6,
    )


def test_lazy_movies_have_lazy_truth(series):
    lazy = simulation.truth(series.as_lazy())
    whole = simulation.truth(series)
    for name in ("x", "displacement", "strain", "mask"):
        signal = getattr(lazy, name)
        assert signal._lazy
        np.testing.assert_array_equal(np.asarray(signal.data), getattr(whole, name).data)


def test_rebinned_movie_keeps_its_places(series):
    rebinned = series.rebin(scale=(1, 2, 2))
    exact = simulation.truth(rebinned)
    whole = simulation.truth(series, step=0.15)
    # the middle of two pixels: between the values of both
    assert exact.strain.data.shape[-2:] == (30, 36)
    assert np.nanmax(np.abs(np.diff(whole.displacement.ux.data, axis=-1))) < 0.02
    at = (
        whole.displacement.ux.data[..., ::2, ::2] + whole.displacement.ux.data[..., 1::2, 1::2]
    ) / 2
    np.testing.assert_allclose(exact.displacement.ux.data, at, atol=1e-4)


def test_what_has_no_truth(series):
    with pytest.raises(ValueError, match="was not simulated"):
        simulation.truth(HRTEMMovie(np.zeros((9, 9))))
    with pytest.raises(TypeError, match="Signal2D"):
        simulation.truth(hs.signals.Signal2D(np.zeros((5, 5))))
    with pytest.raises(ValueError, match="frame=None must say which"):
        simulation.truth(series.inav[2])
    with pytest.raises(ValueError, match="frame=7"):
        simulation.truth(series.inav[2], frame=7)
    with pytest.raises(ValueError, match="single frame"):
        simulation.truth(series, frame=1)
    corrected = series.correct_drift(simulation.truth(series).drift, show_progressbar=False)
    with pytest.raises(ValueError, match="corrected"):
        simulation.truth(corrected)
    averaged = series.rebin(scale=(2, 1, 1))
    with pytest.raises(ValueError, match="times of this signal"):
        simulation.truth(averaged)
    moved = series.deepcopy()
    moved.axes_manager.signal_axes[0].offset = 30.0
    with pytest.raises(ValueError, match="beyond the frame"):
        _ = simulation.truth(moved).x
    with pytest.raises(ValueError, match="step"):
        simulation.truth(series, step=-1)
    with pytest.raises(ValueError, match="resolution"):
        simulation.truth(series).smoothed(0)
