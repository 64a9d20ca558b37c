"""Diffraction series of simulated counts: centres, spots, profiles, calibration, bad input."""

import dask
import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from scipy import stats

from hyperspy_lfp import materials
from hyperspy_lfp.signals import DiffractionSeries, _frames
from hyperspy_lfp.signals._reciprocal import electron_wavelength

MATERIAL = materials.get("LiFePO4")
X = np.linspace(0, 1, 6)
#: A mean of n pulls scatters by 1 / sqrt(n), their variance by sqrt(2 / n): one in 1e4 is beyond.
RARE = 1e-4


@pytest.fixture(scope="module")
def patterns(helpers):
    """A solid solution, counts; centres in (y, x) pixels; angles."""
    found = helpers.diffraction_patterns(X)
    found[0].setflags(write=False)
    return found


@pytest.fixture
def series(patterns, helpers):
    return helpers.as_diffraction(patterns[0])


def place_on_axes(series, centres):
    """Pixels (..., 2) in (y, x) as (kx, ky) in units of the axes."""
    x, y = series.axes_manager.signal_axes
    return centres[..., ::-1] * [x.scale, y.scale] + [x.offset, y.offset]


def spot_of(helpers, angle, x=0.0, number=0):
    """(kx, ky) of a reflection of the zone; number 0 is (200), 1 is (101)."""
    return helpers.zone_vectors(x, angle)[number]


def assert_pulls(difference, error):
    """Normal errors: chi-square of all of them within what happens once in 1e4, both sides.

    The lower limit is that of errors that are twice as large as they say.
    """
    pull = np.ravel(difference / error)
    assert np.isfinite(pull).all()
    assert stats.chi2.sf((pull**2).sum(), pull.size) > RARE
    assert stats.chi2.cdf(4 * (pull**2).sum(), pull.size) > RARE


# --- centre ---


@pytest.mark.parametrize("method", ["auto", "direct beam", "friedel"])
def test_centre(series, patterns, method):
    centre = series.refine_centre(method)
    assert type(centre) is hs.signals.Signal1D
    truth = place_on_axes(series, patterns[1])
    error = np.sqrt(centre.get_noise_variance().data)
    assert abs((centre.data - truth) / [0.0255, 0.0270]).max() < 0.05
    assert_pulls(centre.data - truth, error)


def test_centre_behind_a_beam_stop(series, patterns):
    stop = hs.roi.CircleROI(*place_on_axes(series, patterns[1]).mean(axis=0), 0.35)
    masked = series.refine_centre(mask=stop)
    truth = place_on_axes(series, patterns[1])
    assert abs((masked.data - truth) / [0.0255, 0.0270]).max() < 0.05
    array = np.zeros(series.data.shape[-2:], bool)
    y, x = np.indices(array.shape)
    sx, sy = series.axes_manager.signal_axes
    at = np.hypot(x * sx.scale + sx.offset - stop.cx, y * sy.scale + sy.offset - stop.cy)
    array[at < stop.r] = True
    for mask in (array, hs.signals.Signal2D(array)):
        np.testing.assert_array_equal(series.refine_centre(mask=mask).data, masked.data)


def test_centre_needs_no_calibration(patterns, helpers, series):
    plain = helpers.as_diffraction(patterns[0][:2], units="px")
    np.testing.assert_array_equal(plain.refine_centre().data, series.refine_centre().data[:2])


def test_centre_from_a_start(series, patterns):
    truth = place_on_axes(series, patterns[1])
    found = series.refine_centre("friedel", start=truth[0] + 0.05)
    assert abs((found.data - truth) / [0.0255, 0.0270]).max() < 0.05


def test_saturated_direct_beam(series, patterns):
    series.data = np.minimum(series.data, 2000).astype(np.uint32)  # the spots have up to 1900
    found = series.refine_centre()
    assert abs((found.data - place_on_axes(series, patterns[1])) / [0.0255, 0.027]).max() < 0.05


def test_patterns_without_a_centre(patterns, helpers):
    data = patterns[0][:3].copy()
    data[1] = 0
    series = helpers.as_diffraction(data)
    centre = series.refine_centre()
    assert np.isfinite(centre.data).all(axis=1).tolist() == [True, False, True]
    profile = series.track_spot_profile(spot_of(helpers, patterns[2][0]))
    assert np.isfinite(profile.data).all(axis=1).tolist() == [True, False, True]
    track = profile.fit(peaks=1)
    assert track.n_peaks.data.tolist() == [1, 0, 1]
    assert np.isfinite(track.d_spacing.data).tolist() == [True, False, True]
    x = track.to_concentration(hkl=(2, 0, 0))
    assert np.isfinite(x.data[0]).tolist() == [True, False, True]


# --- spots ---


def test_spots(series, patterns, helpers):
    found = series.find_spots(material="LiFePO4", frame=3)
    assert len(found) == 10
    truth = np.array(helpers.zone_vectors(X[3], patterns[2][3]))
    truth = np.concatenate([truth, -truth])
    k = np.array([(s.kx, s.ky) for s in found])
    apart = np.hypot(*(k[:, None] - truth).transpose(2, 0, 1))
    assert sorted(apart.argmin(axis=1)) == list(range(10))
    nearest = truth[apart.argmin(axis=1)]
    length = np.hypot(*nearest.T)
    assert_pulls(np.array([s.k for s in found]) - length, np.array([s.k_error for s in found]))
    assert_pulls(
        np.array([s.intensity for s in found]) - 4e4, np.array([s.intensity_error for s in found])
    )
    families = sorted(tuple(abs(i) for i in s.hkl) for s in found)
    assert families == [(1, 0, 1)] * 4 + [(2, 0, 0)] * 2 + [(2, 0, 1)] * 4
    d = {tuple(abs(i) for i in s.hkl): s.d for s in found}
    for hkl, value in d.items():
        assert value == pytest.approx(MATERIAL.d_spacing(hkl, X[3]), rel=1e-3)
    assert not any(s.forbidden or s.flags for s in found)
    assert "(2 0 0)" in repr(found) or "(-2 0 0)" in repr(found)


def test_forbidden_spots_are_named(patterns, helpers):
    """(100) is seen by double diffraction only."""
    g = spot_of(helpers, patterns[2][0]) / 2
    counts, centres, _ = helpers.diffraction_patterns([0.0], exact=True)
    y, x = np.indices(counts.shape[1:])
    for sign in (1, -1):
        at = centres[0] + sign * g[::-1] / helpers.pattern_scale
        off = [(v - c) * s for v, c, s in zip((y, x), at, helpers.pattern_scale, strict=True)]
        counts[0] += 300 * np.exp(-np.square(off).sum(axis=0) / (2 * helpers.spot_sigma**2))
    series = helpers.as_diffraction(np.random.default_rng(3).poisson(counts).astype(np.uint16))
    found = series.find_spots(material="LiFePO4")
    forbidden = {s.hkl for s in found if s.forbidden}
    assert forbidden == {(1, 0, 0), (-1, 0, 0)}
    assert repr(found).count("forbidden") == 2


def test_saturated_spots_are_flagged(series, patterns, helpers):
    series.data = np.minimum(series.data, 1500)
    found = series.find_spots(material="LiFePO4")
    assert len(found) == 10 and all("saturated" in s.flags for s in found)


@pytest.mark.parametrize("ellipticity", [0.0, 0.015])
def test_distortion(helpers, ellipticity):
    counts, _, angles = helpers.diffraction_patterns([0.25, 0.25], ellipticity=ellipticity)
    series = helpers.as_diffraction(counts)
    found = series.fit_distortion("LiFePO4", x=0.25)
    # kx is 1 + e / 2 and ky 1 - e / 2 times what it should be
    expected = (1 + ellipticity / 2) / (1 - ellipticity / 2) - 1
    if ellipticity:
        assert abs(found.ellipticity - expected) < 4 * found.ellipticity_error
        assert abs(found.angle) < 4 * found.angle_error
        assert found.ellipticity_error < 1e-3
    else:
        assert found.ellipticity < 1e-3
    assert found.scale == pytest.approx(1, abs=1e-3)
    # each spot, undone, has its spacing again; it is given as it is seen
    seen = spot_of(helpers, angles[0], 0.25, 1) * [1 + ellipticity / 2, 1 - ellipticity / 2]
    profile = series.track_spot_profile(seen, distortion=found, length=0.7, width=0.35)
    track = profile.fit(peaks=1)
    truth = MATERIAL.d_spacing((1, 0, 1), 0.25)
    np.testing.assert_allclose(track.d_spacing.data, truth, rtol=5e-4)
    if ellipticity:
        wrong = series.track_spot_profile(seen, length=0.7, width=0.35).fit(peaks=1)
        along = ellipticity / 2 * (seen[1] ** 2 - seen[0] ** 2) / (seen @ seen)
        np.testing.assert_allclose(wrong.d_spacing.data / truth - 1, along, atol=5e-4)


@pytest.mark.parametrize("scale", [(0.05, 0.05), (0.04, 0.05)])
def test_distortion_of_rings(scale):
    """Found without a material, and undone in a profile; pixels need not be square."""
    e, (dx, dy) = 0.03, scale
    ky, kx = np.indices((181, 201)) - np.array([91.0, 99.0])[:, None, None]
    k = np.hypot(dy * ky * np.sqrt(1 + e), dx * kx / np.sqrt(1 + e))  # longer along kx
    light = 20 + sum(400 * np.exp(-(((k - r) / 0.15) ** 2)) for r in (1.6, 2.3, 2.8, 3.3))
    series = DiffractionSeries(np.random.default_rng(0).poisson(light))
    for axis, size in zip(series.axes_manager.signal_axes, scale, strict=True):
        axis.scale, axis.units = size, "1/nm"
    centre = (99 * dx, 91 * dy)
    found = series.fit_ring_distortion(centre=centre, k_range=(1.0, 3.8))
    assert abs(found.ellipticity - e) < 4 * found.ellipticity_error + e**2 / 2
    assert abs(found.angle) < 4 * found.angle_error
    for spot in ((2.3, 0.0), (0.0, 2.3)):
        profile = series.track_spot_profile(
            spot, centre=centre, distortion=found, follow=False, length=0.5, width=0.2
        )
        # the ring is curved within the width: w^2 / 24 r
        position = profile.fit(peaks=1).position.data
        assert position == pytest.approx(2.3, abs=0.005)
    for bad in ((3.0, 1.0), (-1.0, 2.0)):
        with pytest.raises(ValueError, match="k_range"):
            series.fit_ring_distortion(centre=centre, k_range=bad)
    with pytest.raises(ValueError, match="no rings"):
        (series * 0).fit_ring_distortion(centre=centre)


def test_rotation_drift(series, patterns, helpers):
    drift = series.rotation_drift(centre=series.refine_centre())
    truth = np.rad2deg(patterns[2] - patterns[2][0])
    error = np.sqrt(drift.get_noise_variance().data)
    assert drift.data[0] == pytest.approx(0, abs=1e-9)
    # the lattice changes as well, which is no rotation
    assert np.all(abs(drift.data - truth)[1:] < 5 * error[1:] + 0.01)
    assert drift.axes_manager.signal_axes[0].name == "time"
    later = series.inav[:3].rotation_drift(reference=2)
    np.testing.assert_allclose(later.data, truth[:3] - truth[2], atol=0.05)
    empty = helpers.as_diffraction(np.stack([patterns[0][0], np.zeros_like(patterns[0][0])]))
    assert np.isfinite(empty.rotation_drift().data).tolist() == [True, False]
    assert series.inav[0].rotation_drift().data.shape == (1,)
    with pytest.raises(ValueError, match="not among the 6 patterns"):
        series.rotation_drift(reference=9)


# --- profiles ---


def test_profile(series, patterns, helpers):
    spot = spot_of(helpers, patterns[2][0])
    profile = series.track_spot_profile(spot, length=0.8, width=0.4, step=0.02)
    assert type(profile).__name__ == "SpotProfile" and profile.data.shape == (6, 40)
    (k,) = profile.axes_manager.signal_axes
    assert (k.units, k.name, k.scale) == ("1/nm", "k", pytest.approx(0.02))
    assert k.axis.mean() == pytest.approx(np.hypot(*spot))
    time = profile.axes_manager.navigation_axes[0]
    assert (time.name, time.scale, time.offset, time.units) == ("time", 2.5, 10.0, "s")
    # the highest bin follows the lattice
    truth = 1 / MATERIAL.d_spacing((2, 0, 0), X)
    assert abs(k.axis[profile.data.argmax(axis=1)] - truth).max() < 0.02
    variance = profile.get_noise_variance().data
    assert np.all(variance > 0) and np.all(variance < 1.05 * profile.data)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_flux_is_conserved(helpers, number):
    """All counts of a spot, of which 1e-6 are beyond five standard deviations."""
    exact, centres, angles = helpers.diffraction_patterns([0.0, 0.5], exact=True, seed=1)
    without, _, _ = helpers.diffraction_patterns([0.0, 0.5], exact=True, area=0.0)
    spots = helpers.as_diffraction(exact - without)
    centre = place_on_axes(spots, centres)
    spot = spot_of(helpers, angles[0], number=number)
    for direction in ("radial", (1.0, 0.0), (-0.3, 1.0)):
        profile = spots.track_spot_profile(
            spot, length=0.7, width=0.6, centre=centre, direction=direction
        )
        np.testing.assert_allclose(profile.data.sum(axis=1), 4e4, rtol=1e-3)


def test_other_directions(helpers):
    """The axis of a profile is the component of k along its direction."""
    exact, centres, angles = helpers.diffraction_patterns([0.0] * 2, exact=True, turn=0)
    series = helpers.as_diffraction(exact)
    centre = place_on_axes(series, centres)
    spot = spot_of(helpers, angles[0])
    for direction in ((1.0, 0.0), (0.0, -2.0), (1.0, 1.0), tuple(-spot)):
        unit = np.array(direction) / np.hypot(*direction)
        profile = series.track_spot_profile(
            spot, direction=direction, length=0.6, width=0.5, centre=centre
        )
        position = profile.fit(peaks=1, shape="gaussian").position.data
        np.testing.assert_allclose(position, spot @ unit, atol=5e-4)


def test_ways_to_name_a_spot(series, patterns, helpers):
    options = {"length": 0.8, "width": 0.4}
    spot = spot_of(helpers, patterns[2][0])
    expected = series.track_spot_profile(spot, **options).fit(peaks=1).position.data
    at = place_on_axes(series, patterns[1])[0] + spot
    for roi in (
        hs.roi.CircleROI(*at, 0.2),
        hs.roi.RectangularROI(*(at - 0.1), *(at + 0.1)),
        hs.roi.Point2DROI(*at),
    ):
        found = series.track_spot_profile(roi, **options).fit(peaks=1).position.data
        np.testing.assert_allclose(found, expected, rtol=2e-4)
    profile = series.track_spot_profile((2, 0, 0), material="LiFePO4", **options)
    track = profile.fit(peaks=1)  # maybe of the opposite spot, with noise of its own
    error = np.sqrt(2) * track.standard_error("position").data
    assert np.all(abs(track.position.data - expected) < 5 * error)
    assert profile.metadata.HyperspyLFP.SpotProfile.hkl == [2, 0, 0]
    units = series.track_spot_profile(tuple(f"{v / 10} 1/angstrom" for v in spot), **options)
    np.testing.assert_allclose(units.data, series.track_spot_profile(spot, **options).data)


def test_the_azimuth_is_followed(helpers):
    """Without it a narrow band loses a crystal that turns."""
    exact, centres, angles = helpers.diffraction_patterns([0.0] * 5, turn=1.2, exact=True)
    series = helpers.as_diffraction(exact)
    options = {"length": 0.6, "width": 0.25, "centre": place_on_axes(series, centres)}
    spot = spot_of(helpers, angles[0])
    counts = series.track_spot_profile(spot, background="sides", **options).data.sum(axis=1)
    fixed = series.track_spot_profile(spot, background="sides", follow=False, **options)
    np.testing.assert_allclose(counts, counts[0], rtol=1e-2)
    assert fixed.data.sum(axis=1)[-1] < 0.8 * counts[0]


def test_background_beside_the_band(series, patterns, helpers):
    spot = spot_of(helpers, patterns[2][0])
    profile = series.track_spot_profile(spot, length=0.6, width=0.4, background="sides")
    total, error = profile.data.sum(axis=1), np.sqrt(profile.get_noise_variance().data.sum(axis=1))
    assert np.all(abs(total - 4e4) < 5 * error + 0.01 * 4e4)
    assert (profile.data < 0).any()  # noise about nothing
    track = profile.fit(peaks=1)
    truth = MATERIAL.d_spacing((2, 0, 0), X)
    assert_pulls(track.d_spacing.data - truth, track.standard_error("d_spacing").data)


def test_neighbours_are_left_out(patterns, helpers):
    """A stray spot in the band, which turns with the crystal."""
    counts, centres, angles = helpers.diffraction_patterns([0.0] * 3, turn=1.0, exact=True)
    clean = counts.copy()
    y, x = np.indices(counts.shape[1:])
    stray = np.array([spot_of(helpers, a) * 1.04 for a in angles])
    stray += 0.13 * np.array([(np.sin(a), np.cos(a)) for a in angles])
    for image, centre, g in zip(counts, centres, stray, strict=True):
        off = [y, x] - (centre + g[::-1] / helpers.pattern_scale)[:, None, None]
        off = off * helpers.pattern_scale[:, None, None]
        image += 400 * np.exp(-np.square(off).sum(axis=0) / (2 * 0.02**2))
    results = []
    for data in (clean, counts):
        series = helpers.as_diffraction(data)
        options = {"centre": place_on_axes(series, centres), "length": 0.6, "width": 0.4}
        spot = spot_of(helpers, angles[0])
        results.append(series.track_spot_profile(spot, **options))
        results.append(
            series.track_spot_profile(spot, exclude=stray[:1], exclude_radius=0.09, **options)
        )
    plain, same, spoilt, cured = (r.data for r in results)
    assert abs(spoilt - plain).max() > 100
    assert abs(cured - same).max() < 0.02 * abs(spoilt - plain).max()


def test_gain(series, patterns, helpers):
    spot = spot_of(helpers, patterns[2][0])
    plain = series.track_spot_profile(spot)
    series.data = series.data * 3.5
    gained = series.track_spot_profile(spot, gain=3.5)
    np.testing.assert_allclose(gained.data, 3.5 * plain.data)
    np.testing.assert_allclose(
        gained.get_noise_variance().data, 3.5**2 * plain.get_noise_variance().data
    )
    a, b = plain.fit(peaks=1), gained.fit(peaks=1)
    np.testing.assert_allclose(a.position.data, b.position.data, rtol=1e-4)
    np.testing.assert_allclose(
        a.standard_error("position").data, b.standard_error("position").data, rtol=0.1
    )


def test_saturated_pixels_are_missing(series, patterns, helpers):
    """Bins of a saturated pixel are not measured; the flanks still say where the spot is."""
    spot = spot_of(helpers, patterns[2][0])
    options = {
        "length": 0.6,
        "width": 0.4,
        "follow": False,
        "centre": place_on_axes(series, patterns[1]),
    }
    whole = series.track_spot_profile(spot, **options)
    series.data = np.minimum(series.data, 2200)
    missing = series.track_spot_profile(spot, saturation=2200, **options)
    gone = np.isnan(missing.data)
    assert np.array_equal(gone, np.isnan(missing.get_noise_variance().data))
    assert gone.any(axis=1).all() and gone.mean() < 0.5
    noise = np.sqrt(whole.get_noise_variance().data)
    assert abs((missing.data - whole.data) / noise)[~gone].max() < 1
    track = missing.fit(peaks=1, shape="gaussian")
    away = track.d_spacing.data - MATERIAL.d_spacing((2, 0, 0), X)
    seen = track.n_peaks.data == 1
    assert seen.any() and np.array_equal(seen, np.isfinite(away))
    assert np.all(abs(away[seen]) < 5 * track.standard_error("d_spacing").data[seen])
    series.data = np.minimum(series.data, 255).astype(np.uint8)
    assert np.isnan(series.track_spot_profile(spot, **options).data).any()


# --- calibration ---


def test_wavelength():
    """Reimer & Kohl, Transmission Electron Microscopy (2008), table 2.1, in pm."""
    for energy, wavelength in ((100, 3.7014), (200, 2.5079), (300, 1.9687)):
        assert electron_wavelength(energy) * 1e3 == pytest.approx(wavelength, abs=6e-5)


@pytest.mark.parametrize(
    ("units", "factor", "metadata"),
    [
        ("1/Å", 0.1, {}),
        ("$A^{-1}$", 0.1, {}),
        ("nm^-1", 1.0, {}),
        ("mrad", 2.5079340, {"beam_energy": 200.0}),
        ("rad", 2.5079340e-3, {"beam_energy": 200.0}),
        ("mm", 2.5079340e-3 * 800, {"beam_energy": 200.0, "camera_length": 800.0}),
        ("cm", 2.5079340e-4 * 800, {"beam_energy": 200.0, "camera_length": 800.0}),
        ("µm", 2.5079340 * 800, {"beam_energy": 200.0, "camera_length": 800.0}),
    ],
)
def test_units(patterns, helpers, units, factor, metadata):
    """The same pattern with its axes in other units."""
    spot = spot_of(helpers, patterns[2][0])
    expected = helpers.as_diffraction(patterns[0][:2]).track_spot_profile(spot)
    series = helpers.as_diffraction(patterns[0][:2], units=units, factor=factor)
    for key, value in metadata.items():
        series.metadata.set_item(f"Acquisition_instrument.TEM.{key}", value)
    found = series.track_spot_profile(spot)
    assert found.axes_manager.signal_axes[0].units == "1/nm"
    np.testing.assert_allclose(
        found.axes_manager.signal_axes[0].axis, expected.axes_manager.signal_axes[0].axis, rtol=1e-6
    )
    np.testing.assert_allclose(found.data, expected.data, rtol=1e-3)


@pytest.mark.parametrize(
    ("units", "metadata", "message"),
    [
        ("px", {}, "no calibration"),
        ("", {}, "no calibration"),
        ("mrad", {}, "beam_energy"),
        ("mm", {"beam_energy": 200.0}, "camera_length"),
        ("mm", {"camera_length": 200.0}, "beam_energy"),
        ("mm", {"beam_energy": 200.0, "camera_length": 0.2}, "some files hold it in m"),
        ("s", {}, "no reciprocal length"),
        ("florins", {}, "not understood"),
    ],
)
def test_missing_calibration(patterns, helpers, units, metadata, message):
    series = helpers.as_diffraction(patterns[0][:2], units=units)
    for key, value in metadata.items():
        series.metadata.set_item(f"Acquisition_instrument.TEM.{key}", value)
    for call in (
        lambda: series.find_spots(),
        lambda: series.track_spot_profile((2.0, 0.0)),
        lambda: series.fit_distortion(),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_axes_that_do_not_fit(series):
    series.axes_manager.signal_axes[0].scale = -0.02
    with pytest.raises(ValueError, match="must be positive"):
        series.find_spots()
    series.axes_manager.signal_axes[0].scale = 0.02
    series.axes_manager.signal_axes[1].convert_to_non_uniform_axis()
    with pytest.raises(NotImplementedError, match="non-uniform"):
        series.find_spots()


# --- bad input ---


@pytest.mark.parametrize("dtype", [complex, bool])
def test_data_that_are_no_counts(helpers, dtype):
    signal = hs.signals.BaseSignal(np.zeros((2, 16, 16), dtype)).T
    signal = signal.transpose(signal_axes=2)
    series = helpers.as_diffraction(np.zeros((2, 16, 16)))
    series.data = signal.data.reshape(2, 16, 16)
    for call in (series.refine_centre, series.find_spots):
        with pytest.raises(TypeError, match="must be real numbers"):
            call()
    with pytest.raises(TypeError, match="must be real numbers"):
        series.track_spot_profile((1.0, 0.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spot": (9.0, 0.0)}, "outside of the pattern"),
        ({"spot": (0.0, 0.0)}, "the centre itself"),
        ({"spot": (1.0, np.nan)}, "spot="),
        ({"spot": (1.0, 2.0, 3.0, 4.0)}, "spot="),
        ({"spot": "200"}, "spot="),
        ({"spot": (2, 0, 0)}, "need a `material`"),
        ({"spot": (8, 0, 0), "material": "LiFePO4"}, "not among the spots"),
        ({"width": 0.01}, "at least a pixel"),
        ({"length": 0.05}, "four bins|4 bins"),
        ({"width": -1}, "width=-1"),
        ({"length": "long"}, "length='long'"),
        ({"step": 0}, "step=0"),
        ({"direction": "up"}, "direction='up'"),
        ({"direction": (0, 0)}, "direction="),
        ({"background": "linear"}, "background='linear'"),
        ({"centre": "middle"}, "centre='middle'"),
        ({"centre": (1.0, 2.0, 3.0)}, "centre="),
        ({"gain": 0}, "gain=0"),
        ({"mask": np.zeros((3, 3), bool)}, "mask has the shape"),
        ({"saturation": "full"}, "saturation='full'"),
        ({"exclude": [(1, 2, 3)]}, "exclude"),
    ],
)
def test_bad_profiles(series, patterns, helpers, options, message):
    spot = spot_of(helpers, patterns[2][0])
    arguments = {"spot": spot, "centre": place_on_axes(series, patterns[1])} | options
    with pytest.raises(ValueError, match=message):
        series.track_spot_profile(arguments.pop("spot"), **arguments)


def test_unknown_options(series):
    with pytest.raises(ValueError, match="method='best' is not known"):
        series.refine_centre("best")
    for frame in (6, -7, 1.5, "first", True):
        with pytest.raises(ValueError, match="not among the 6 patterns"):
            series.find_spots(frame=frame)
    with pytest.raises(TypeError, match="RectangularROI"):
        series.track_spot_profile(hs.roi.SpanROI(1.0, 2.0))


def test_a_spot_behind_the_mask(series, patterns, helpers):
    spot = spot_of(helpers, patterns[2][0])
    at = place_on_axes(series, patterns[1])[0] + spot
    stop = hs.roi.CircleROI(*at, 0.3)
    with pytest.raises(ValueError, match="behind the mask; take its opposite"):
        series.track_spot_profile(spot, mask=stop)
    assert np.isfinite(series.track_spot_profile(-spot, mask=stop).data).all()
    # only known once the patterns are read: then its bins are missing, and so is the peak
    lazy = series.as_lazy().track_spot_profile(spot, mask=stop, length=0.4, width=0.2)
    lazy.compute(show_progressbar=False)
    assert np.isnan(lazy.data).any()
    assert np.isnan(lazy.fit(peaks=1).position.data).all()


def test_no_centre(helpers, patterns):
    series = helpers.as_diffraction(np.random.default_rng(1).poisson(5, (2, 64, 64)))
    with pytest.raises(ValueError, match="no centre was found"):
        series.find_spots()
    profile = series.track_spot_profile((0.5, 0.0), width=0.2, length=0.6)
    assert np.isnan(profile.data).all()
    assert profile.fit().n_peaks.data.tolist() == [0, 0]


def test_negative_counts(series, patterns, helpers):
    """Of a detector whose dark frame was subtracted: noise about zero."""
    spot = spot_of(helpers, patterns[2][0])
    dark = np.random.default_rng(2).normal(0, 3, series.data.shape)
    series.data = series.data - 60.0 + dark
    track = series.track_spot_profile(spot, length=0.6, width=0.4).fit(peaks=1)
    truth = MATERIAL.d_spacing((2, 0, 0), X)
    np.testing.assert_allclose(track.d_spacing.data, truth, rtol=1e-3)


# --- lazy, shapes, classes ---

#: Near enough to the centres of the patterns where it does not matter.
AT = (0.0, -0.05)
WAYS = {
    "refine_centre": lambda d, g: d.refine_centre(),
    "profile": lambda d, g: d.track_spot_profile(g),
    "profile with given centres": lambda d, g: d.track_spot_profile(g, centre=(0.01, -0.02)),
    "profile with found centres": lambda d, g: d.track_spot_profile(g, centre=d.refine_centre()),
    "fit": lambda d, g: d.track_spot_profile(g, centre=AT).fit(),
    "position": lambda d, g: d.track_spot_profile(g, centre=AT).fit(peaks=1).position,
    "n_peaks": lambda d, g: d.track_spot_profile(g, centre=AT).fit().n_peaks,
    "standard error": lambda d, g: (
        d.track_spot_profile(g, centre=AT).fit(peaks=1).standard_error("d_spacing")
    ),
    "size": lambda d, g: d.track_spot_profile(g, centre=AT).fit(peaks=1).size_and_strain()[0],
    "intensity_fraction": lambda d, g: (
        d.track_spot_profile(g, centre=AT).fit(peaks=2).intensity_fraction()
    ),
    "molar_fraction": lambda d, g: (
        d.track_spot_profile(g, centre=AT).fit(peaks=2).molar_fraction(hkl=(2, 0, 0))
    ),
    "concentration": lambda d, g: d.to_concentration(g, hkl=(2, 0, 0), peaks=1, reference_frame=0),
    "slices": lambda d, g: d.inav[1:3].track_spot_profile(g, centre=AT).fit(peaks=1).isig[0:2].fwhm,
}


def parts(signal):
    if signal._lazy:
        signal.compute(show_progressbar=False)
    node = signal.metadata.get_item("Signal.Noise_properties", default=None)
    layers = [] if node is None else [v for _, v in node if hasattr(v, "axes_manager")]
    for layer in layers:
        if layer._lazy:
            layer.compute(show_progressbar=False)
    return [signal.data, *(layer.data for layer in layers)]


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_computed_before_it_is_asked_for(patterns, helpers, way):
    broken = helpers.Reader(patterns[0], broken=True).as_dask()
    result = WAYS[way](helpers.as_diffraction(broken, lazy=True), spot_of(helpers, patterns[2][0]))
    assert result._lazy and isinstance(result.data, da.Array)
    with pytest.raises(RuntimeError, match="the movie was read"):
        result.compute(show_progressbar=False)


@pytest.mark.parametrize("way", WAYS)
def test_lazy_equals_eager(patterns, helpers, series, way, monkeypatch):
    """Whatever the bundles, too; each pattern is read once."""
    spot = spot_of(helpers, patterns[2][0])
    expected = WAYS[way](series, spot)
    monkeypatch.setattr(_frames, "CHUNK_BYTES", 1)
    reader = helpers.Reader(patterns[0])
    lazy = WAYS[way](helpers.as_diffraction(reader.as_dask(), lazy=True), spot)
    assert type(lazy).__name__ == "Lazy" + type(expected).__name__
    assert lazy.axes_manager.as_dictionary() == expected.axes_manager.as_dictionary()
    assert reader.counts.sum() == 0
    lazy.compute(show_progressbar=False)
    assert set(reader.counts.tolist()) <= {0, 1}
    for a, b in zip(parts(lazy), parts(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_pattern(series, patterns, helpers):
    spot = spot_of(helpers, patterns[2][0])
    one, whole = helpers.as_diffraction(patterns[0][0]), series
    for lazy in (False, True):
        single = one.as_lazy() if lazy else one
        centre = single.refine_centre()
        if lazy:
            centre.compute(show_progressbar=False)
        assert centre.data.shape == (2,)
        np.testing.assert_array_equal(centre.data, whole.refine_centre().data[0])
        profile = single.track_spot_profile(spot)
        track = profile.fit(peaks=1)
        x = track.to_concentration(hkl=(2, 0, 0))
        position = track.position
        for signal in (profile, track, x, position):
            if lazy:
                signal.compute(show_progressbar=False)
        expected = whole.track_spot_profile(spot)
        np.testing.assert_array_equal(profile.data, expected.data[0])
        # fits of a series start from each other as well
        np.testing.assert_allclose(
            position.data.ravel(), expected.fit(peaks=1).position.data[:1], rtol=1e-6
        )
        assert type(track).__name__ == "SpotTrack"
        assert x.data.shape == (1, 1)
    assert whole.find_spots(frame=0) == one.find_spots()


def test_several_navigation_axes(patterns, helpers, series):
    stack = np.stack([patterns[0][:3], patterns[0][:3][::-1]])
    several = helpers.as_diffraction(stack)
    spot = spot_of(helpers, patterns[2][0])
    whole = series.inav[:3]
    centre = several.refine_centre()
    assert centre.data.shape == (2, 3, 2)
    np.testing.assert_array_equal(centre.data[0], whole.refine_centre().data)
    for centres in ("auto", centre):
        profile = several.track_spot_profile(spot, centre=centres)
        expected = whole.track_spot_profile(spot)
        np.testing.assert_allclose(profile.data[0], expected.data, rtol=1e-9)
        np.testing.assert_allclose(profile.data[1], expected.data[::-1], rtol=1e-9)
    track = profile.fit(peaks=1)
    single = expected.fit(peaks=1)
    assert track.position.data.shape == (2, 3)
    np.testing.assert_allclose(track.position.data[0], single.position.data, rtol=1e-6)
    np.testing.assert_allclose(track.position.data[1], single.position.data[::-1], rtol=1e-6)
    x = track.to_concentration(hkl=(2, 0, 0), reference_frame=0)
    assert x.data.shape == (2, 1, 3) and x.data[0, 0, 0] == pytest.approx(0, abs=1e-6)
    fourth = several.find_spots(frame=4, centre=centre)
    assert fourth == series.find_spots(frame=1, centre=centre.data[1, 1])
    with pytest.raises(ValueError, match="one series"):
        profile.fit().transformation()


def test_time_need_not_be_the_last_axis(patterns, helpers):
    stack = np.stack([patterns[0][:2], patterns[0][1:3], patterns[0][2:4]])
    spot = spot_of(helpers, patterns[2][0])
    profile = helpers.as_diffraction(stack).track_spot_profile(spot)
    swapped = profile.swap_axes("time", "sample")
    assert swapped.data.shape == (2, 3, profile.data.shape[-1])
    np.testing.assert_array_equal(
        profile.fit(peaks=1).position.data, swapped.fit(peaks=1).position.data
    )


def test_slices(series, patterns, helpers):
    spot = spot_of(helpers, patterns[2][0])
    whole = series.track_spot_profile(spot, centre=series.refine_centre())
    centre = series.refine_centre()
    cut = series.isig[10:, 5:]
    np.testing.assert_allclose(cut.track_spot_profile(spot, centre=centre).data, whole.data)
    part = whole.inav[1:4]
    np.testing.assert_array_equal(
        part.get_noise_variance().data, whole.get_noise_variance().data[1:4]
    )


def test_to_and_from_other_classes(patterns, helpers, series):
    spot = spot_of(helpers, patterns[2][0])
    expected = series.track_spot_profile(spot)
    series.set_signal_type("")
    assert type(series) is hs.signals.Signal2D
    assert [a.units for a in series.axes_manager.signal_axes] == ["1/nm", "1/nm"]
    series.set_signal_type("diffraction_series")
    np.testing.assert_array_equal(series.track_spot_profile(spot).data, expected.data)


def test_pyxem(patterns, helpers, series):
    pytest.importorskip("pyxem")
    spot = spot_of(helpers, patterns[2][0])
    expected = series.track_spot_profile(spot)
    series.set_signal_type("electron_diffraction")
    assert "pyxem" in type(series).__module__
    series.set_signal_type("DiffractionSeries")
    np.testing.assert_array_equal(series.track_spot_profile(spot).data, expected.data)


# --- power spectra ---


@pytest.mark.parametrize("shape", [(72, 88), (71, 88), (72, 87), (71, 87)])
@pytest.mark.parametrize("padding", [1, 2, 3])
def test_power_spectra(helpers, vectors, shape, padding):
    """Zero frequency on the pixel that the axes say; a wave's maximum at its frequency."""
    movie = helpers.as_movie(helpers.lattice_images((0.0, 1.0), shape))
    spectra = movie.to_diffraction_series(padding=padding)
    assert type(spectra).__name__ == "DiffractionSeries" and spectra.is_power_spectrum
    assert spectra.data.shape == (2, padding * shape[0], padding * shape[1])
    x, y = spectra.axes_manager.signal_axes
    assert (x.units, x.name, y.name) == ("1/nm", "kx", "ky")
    assert x.scale == pytest.approx(1 / (padding * shape[1] * helpers.scale[1]))
    assert abs(x.axis).min() < 1e-9 and abs(y.axis).min() < 1e-9
    # inversion symmetry about that pixel
    i, j = (int(abs(a.axis).argmin()) for a in (y, x))
    assert (i, j) == (spectra.data.shape[1] // 2, spectra.data.shape[2] // 2)
    reach = min(i, j, spectra.data.shape[1] - i - 1, spectra.data.shape[2] - j - 1)
    middle = spectra.data[0, i - reach : i + reach + 1, j - reach : j + reach + 1]
    np.testing.assert_allclose(middle, middle[::-1, ::-1], rtol=1e-4, atol=1e-6 * middle.max())
    for frame, value in enumerate((0.0, 1.0)):
        for g in helpers.reciprocal_vectors(value):
            near = np.hypot(x.axis - g[0], (y.axis - g[1])[:, None]) < 0.5
            at = np.where(near, spectra.data[frame], 0)
            row, column = np.unravel_index(at.argmax(), at.shape)
            assert abs(x.axis[column] - g[0]) <= 0.6 * x.scale
            assert abs(y.axis[row] - g[1]) <= 0.6 * y.scale


@pytest.mark.parametrize("shape", [(72, 88), (71, 87)])
def test_spots_of_power_spectra(helpers, shape):
    """The same vectors as those that the movie itself finds."""
    movie = helpers.as_movie(helpers.lattice_images((0.0, 0.0), shape))
    g = movie.find_g_vectors(n=2)
    spectra = movie.to_diffraction_series(padding=4)
    found = np.array([(s.kx, s.ky) for s in spectra.find_spots(4)])
    for vector in g:
        apart = np.hypot(*(np.concatenate([found, -found]) - vector).T)
        # a tenth of a pixel of the spectrum, as `find_g_vectors` says of its own
        assert apart.min() < 0.1 / (min(shape) * min(helpers.scale))
    profile = spectra.track_spot_profile(g[0], width=0.5, length=1.2)
    position = profile.fit(peaks=1).position.data
    np.testing.assert_allclose(position, np.hypot(*g[0]), rtol=3e-3)
    assert np.all(spectra.refine_centre().data == spectra.refine_centre().data[0])


def test_part_of_the_power_spectra(movie):
    whole = movie.to_diffraction_series()
    part = movie.to_diffraction_series(k_max=3.0)
    for axis in part.axes_manager.signal_axes:
        assert abs(axis.axis).max() <= 3.0 < abs(axis.axis).max() + axis.scale
    np.testing.assert_allclose(whole.isig[-3.0:3.0001, -3.0:3.0001].data.max(), part.data.max())
    for padding in (0, 1.5, True, "2"):
        with pytest.raises(ValueError, match="padding="):
            movie.to_diffraction_series(padding=padding)
    for k_max in (0.0, -1.0, "much", np.nan):
        with pytest.raises(ValueError, match="k_max="):
            movie.to_diffraction_series(k_max=k_max)


def test_white_noise_has_the_expectation_of_its_variance(helpers):
    noise = np.random.default_rng(0).normal(0, 3.0, (4, 64, 60))
    power = helpers.as_movie(noise).to_diffraction_series().data
    # as many independent values as pixels under a Hann window, which correlates neighbours
    error = 9 / np.sqrt(power.size / 1.5**2)
    assert abs(power.mean() - 9) < 5 * error


def test_chain_in_one_call(series, patterns, helpers):
    spot = spot_of(helpers, patterns[2][0])
    x = series.to_concentration(spot, hkl=(2, 0, 0), peaks=1, shape="gaussian", length=0.7)
    profile = series.track_spot_profile(spot, length=0.7)
    expected = profile.fit(peaks=1, shape="gaussian").to_concentration(hkl=(2, 0, 0))
    assert type(x).__name__ == "ConcentrationEvolution"
    np.testing.assert_array_equal(x.data, expected.data)
    assert_pulls(x.data[0] - X, x.standard_error.data[0])
    by_indices = series.to_concentration((2, 0, 0), peaks=1)
    np.testing.assert_allclose(by_indices.data[0], X, atol=0.02)
    assert dask.config.get("scheduler", None) is None


# --- movies and files ---


@pytest.mark.parametrize(("hkl", "other"), [((2, 0, 0), (1, 0, 1)), ((1, 0, 1), (1, 0, -1))])
def test_power_spectra_agree_with_the_geometric_phase(shared_data, hkl, other):
    """The centroid of a spot is the mean of the local g, weighed with the power under the window.

    Exactly so for each component (Parseval); for |k| the breadth across adds half of its square.
    """
    path = shared_data / "simulated" / "movieA_dose1000.hspy"
    if not path.is_file():
        pytest.skip(f"no {path}")
    movie = hs.load(path)
    movie.set_signal_type("HRTEMMovie")
    cell = MATERIAL.cell(0.0) / 10
    g, h = ((i[0] / cell[0], i[2] / cell[2]) for i in (hkl, other))
    phase = movie.gpa(g, h, resolution=0.5, hkl=(hkl, other), step=0.1)
    value, along_x, along_y, _ = np.moveaxis(phase.data[:, 0], 1, 0)
    with np.errstate(invalid="ignore"):  # nothing in the vacuum
        gradient = [np.imag(d / value) / (2 * np.pi) for d in (along_x, along_y)]
    local = np.hypot(*(a + b for a, b in zip(phase.g_vectors[0], gradient, strict=True)))
    extent = movie.data.shape[-1] * movie.axes_manager.signal_axes[0].scale
    hann = [np.sin(np.pi * a.axis / extent) ** 2 for a in phase.axes_manager.signal_axes[::-1]]
    power = np.abs(value) ** 2 * np.outer(*hann) ** 2
    # beside the particle there is no lattice, but noise
    lattice = np.abs(value) > 0.1 * np.nanmax(np.abs(value))
    power, local = (np.where(lattice, v, 0) for v in (power, local))
    mean = (power * local).sum(axis=(1, 2)) / power.sum(axis=(1, 2))
    spectra = movie.to_diffraction_series(padding=2, k_max=3)
    profile = spectra.track_spot_profile(g, width=0.5, length=1.0, background="sides")
    track = profile.fit(peaks=1)
    breadth = track.spread.data**2 / (2 * mean)
    error = track.standard_error("position").data
    assert np.all(abs(track.centroid.data - breadth - mean) < 4 * error)
    # which is a small part of what changes
    assert np.all(4 * error < 0.1 * np.ptp(mean))


@pytest.fixture
def real(shared_data):
    def load(name):
        path = shared_data / "real" / name
        if not path.is_file():
            pytest.skip(f"no {path}")
        signal = hs.load(path)
        signal = signal[0] if isinstance(signal, list) else signal
        signal.set_signal_type("DiffractionSeries")
        return signal

    return load


def pixels_of_centre(series, method="auto", **kwargs):
    centre = series.refine_centre(method, **kwargs)
    x, y = series.axes_manager.signal_axes
    return (centre.data - [x.offset, y.offset]) / [x.scale, y.scale]


def test_rings(real):
    """Gold and bismuth: the inversion centre; that of gold agrees with its direct beam."""
    gold = real("pyxem_au_xgrating_20cm.tif")
    direct, friedel = (pixels_of_centre(gold, m) for m in ("direct beam", "friedel"))
    assert np.hypot(*(direct - friedel)) < 1
    assert abs(direct - 127.5).max() < 1  # centred by those who made it
    found = [pixels_of_centre(real(f"skued_bismuth.{end}")) for end in ("dm3", "dm4")]
    np.testing.assert_array_equal(*found)
    series = real("skued_bismuth.dm3")

    # the rings agree with their inversion better than about any other place nearby
    def agreement(step):
        (x, y), n = np.rint(found[0]).astype(int) + step, 60
        part = series.data[y - n : y + n + 1, x - n : x + n + 1].astype(float)
        return np.corrcoef(part.ravel(), part[::-1, ::-1].ravel())[0, 1]

    others = [(dx, dy) for dx in (-2, 0, 2) for dy in (-2, 0, 2) if dx or dy]
    assert agreement((0, 0)) > max(map(agreement, others))
    with pytest.raises(ValueError, match="no calibration"):
        series.find_spots()


def test_off_centre_behind_a_beam_stop(real):
    """The (h k 0) spots of a crystal that is off the middle by a quarter of the frame."""
    series = real("skued_ewald_walkoff.tif")
    found = pixels_of_centre(series, "friedel")
    assert np.isfinite(found).all()
    series.axes_manager.signal_axes.set(scale=0.01, units="1/nm")
    spots = series.find_spots(40, centre=tuple(found * 0.01))
    k = np.array([(s.kx, s.ky) for s in spots])
    apart = np.hypot(*(k[:, None] + k).transpose(2, 0, 1))
    opposite = found - k / 0.01
    inside = ((opposite > 4) & (opposite < 507)).all(axis=1)
    # of those whose other side is on the detector, many have their partner there, to two pixels;
    # of spots anywhere in the frame, one in 500 would have
    assert inside.sum() >= 10
    assert np.mean(apart.min(axis=1)[inside] < 0.02) > 0.3


def test_scanning_diffraction_in_centimetres(real):
    series = real("rsciio_test1.blo")
    assert series.refine_centre().data.shape == (3, 2, 2)
    with pytest.raises(ValueError, match="some files hold it in m"):
        series.find_spots()
    key = "Acquisition_instrument.TEM.camera_length"
    series.metadata.set_item(key, 1e3 * series.metadata.get_item(key))
    spots = series.find_spots(5)
    assert spots and all(0.05 < s.d < 2 for s in spots)
    found = pixels_of_centre(series).reshape(-1, 2)
    assert np.ptp(found, axis=0).max() < 1


def test_nanobeam_discs(real):
    series = real("ba50_nanobeam_dd020.dm3")
    centre = pixels_of_centre(series)
    assert np.all((centre > 64) & (centre < 192))
