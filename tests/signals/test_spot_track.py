"""Peaks of spots in time: one phase that moves, two that exchange, what they say of x."""

import warnings

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_lfp import materials
from hyperspy_lfp.kernels.patterns.profile_moments import SCHERRER
from hyperspy_lfp.kernels.peaks.fit import expected_profile

MATERIAL = materials.get("LiFePO4")
HKL = (2, 0, 0)
#: Molar fraction of FePO4, and counts of a mole of it over those of LiFePO4.
FRACTION, RATIO = np.linspace(0.0, 1.0, 6), 1.7
FWHM = 0.04 * np.sqrt(8 * np.log(2))


def track_of(helpers, compositions, fractions=None, fit=None, **kwargs):
    """Profiles of (200) and what is fitted to them."""
    counts, _, angles = helpers.diffraction_patterns(compositions, fractions, **kwargs)
    spot = helpers.zone_vectors(0.5, angles[0])[0]
    profile = helpers.as_diffraction(counts).track_spot_profile(spot, length=0.7, width=0.4)
    return profile, profile.fit(**(fit or {}))


@pytest.fixture(scope="module")
def moving(helpers):
    return track_of(helpers, FRACTION)


@pytest.fixture(scope="module")
def exchanging(helpers):
    """LiFePO4, the first peak, to FePO4, the second."""
    weights = np.column_stack([1 - FRACTION, RATIO * FRACTION])
    return track_of(helpers, np.tile([1.0, 0.0], (6, 1)), weights)


# --- the fit ---


@pytest.mark.parametrize("shape", ["pseudo-voigt", "gaussian"])
@pytest.mark.parametrize("number", ["auto", 1])
def test_one_peak(moving, number, shape):
    track = moving[0].fit(number, shape)
    assert type(track).__name__ == "SpotTrack"
    assert track.n_peaks.data.tolist() == [1] * 6
    truth = 1 / MATERIAL.d_spacing(HKL, FRACTION)
    for name, value in (("position", truth), ("d_spacing", 1 / truth), ("area", 4e4)):
        error = track.standard_error(name).data
        assert np.all(abs(getattr(track, name).data - value) < 5 * error), name
        variance = getattr(track, name).get_noise_variance().data
        np.testing.assert_allclose(variance, error**2)
    error = track.standard_error("fwhm").data
    assert np.all(abs(track.fwhm.data - FWHM) < 5 * error)
    assert np.isnan(track.position_2.data).all() and np.isnan(track.area_2.data).all()
    assert track.position.axes_manager.signal_axes[0].units == "s"
    assert "nm" in track.d_spacing.metadata.Signal.quantity
    if shape == "gaussian":
        assert np.all(track.eta.data == 0)


def test_another_shape_fits_worse(moving):
    gaussian, lorentzian = (moving[0].fit(1, s) for s in ("gaussian", "lorentzian"))
    assert np.all(lorentzian.reduced_chi_square.data > 2 * gaussian.reduced_chi_square.data)
    assert np.all(lorentzian.eta.data == 1)


@pytest.mark.parametrize("number", ["auto", 2])
def test_two_peaks(exchanging, number):
    track = exchanging[0].fit(number)
    if number == "auto":
        assert track.n_peaks.data.tolist() == [1, 2, 2, 2, 2, 1]
    two = slice(1, 5)
    for end, x, area in (
        ("", 1.0, 4e4 * (1 - FRACTION)),
        ("_2", 0.0, 4e4 * RATIO * FRACTION),
    ):
        for name, value in (("d_spacing", MATERIAL.d_spacing(HKL, x)), ("area", area)):
            found = getattr(track, name + end).data[two]
            error = track.standard_error(name + end).data[two]
            value = np.broadcast_to(value, 6)[two]
            assert np.all(abs(found - value) < 5 * error), (name, end)
    fraction = track.intensity_fraction()
    truth = RATIO * FRACTION / (1 - FRACTION + RATIO * FRACTION)
    error = np.sqrt(fraction.get_noise_variance().data)
    assert np.all(abs(fraction.data - truth)[two] < 5 * error[two])
    moles = track.molar_fraction(hkl=HKL, ratio=RATIO)
    error = np.sqrt(moles.get_noise_variance().data)
    assert np.all(abs(moles.data - FRACTION)[two] < 5 * error[two])
    np.testing.assert_allclose(track.fwhm.data[two], track.fwhm_2.data[two])


def test_moments(moving):
    """Without a model, over the whole of the band."""
    _, track = moving
    truth = 1 / MATERIAL.d_spacing(HKL, FRACTION)
    for name, value in (("centroid", truth), ("spread", 0.04), ("skewness", 0.0)):
        error = track.standard_error(name).data
        assert np.all(abs(getattr(track, name).data - value) < 5 * error + 0.02 * 0.04), name


def test_size_and_strain(moving):
    _, track = moving
    size, strain = track.size_and_strain()
    np.testing.assert_allclose(size.data, SCHERRER / track.fwhm.data)
    np.testing.assert_allclose(strain.data, track.fwhm.data / track.position.data)
    assert np.all(size.get_noise_variance().data > 0)
    narrower, _ = track.size_and_strain(instrument=0.9 * FWHM)
    assert np.all(narrower.data > size.data)
    assert np.isnan(track.size_and_strain(instrument=2 * FWHM)[0].data).all()
    with pytest.raises(ValueError, match="instrument=-1"):
        track.size_and_strain(-1)


def test_errors(exchanging, moving):
    profile, track = exchanging
    for number in (0, 3, "two", None, True, 1.5):
        with pytest.raises(ValueError, match="peaks="):
            profile.fit(number)
    with pytest.raises(ValueError, match="shape='voigt'"):
        profile.fit(shape="voigt")
    for name in ("x", "eta_2", "centroid_2", "n_peaks"):
        with pytest.raises(ValueError, match="name="):
            track.standard_error(name)
    for bins, number in ((6, 1), (8, 2), (8, "auto")):
        with pytest.raises(ValueError, match=f"the profiles have {bins} bins"):
            profile.isig[:bins].as_lazy().fit(number)
    plain = hs.signals.Signal1D(np.ones((3, 30)))
    plain.set_signal_type("SpotProfile")
    with pytest.raises(ValueError, match="was not made by this package"):
        plain.fit()
    with pytest.raises(ValueError, match="sliced along its parameters"):
        _ = track.inav[:5].position


# --- HyperSpy's own model ---


def test_the_same_answer_as_multifit(helpers):
    """Both integrate the peak over the bins."""
    profile, _ = track_of(helpers, [0.0, 0.5, 1.0])
    exact = profile.deepcopy()
    k = exact.axes_manager.signal_axes[0].axis
    truth = dict(position=[[1.95], [1.99], [2.0]], fwhm=0.12, area=5e4, eta=0.3)
    exact.data = np.array(
        [expected_profile(k, p, truth["fwhm"], truth["area"], eta=truth["eta"],
                                background=(300, 200)) for p in truth["position"]]
    )  # fmt: skip
    model = exact.create_model()
    assert [c.name for c in model] == ["background", "peak"]
    model.multifit(show_progressbar=False)
    track = exact.fit(peaks=1)
    peak = model["peak"]
    for name, parameter in (
        ("position", peak.centre),
        ("fwhm", peak.fwhm),
        ("area", peak.area),
        ("eta", peak.eta),
    ):
        np.testing.assert_allclose(parameter.map["values"], getattr(track, name).data, rtol=1e-4)
    np.testing.assert_allclose(track.position.data, np.ravel(truth["position"]), rtol=1e-6)


def test_multifit_of_counts(moving):
    profile, _ = moving
    model = profile.create_model()
    model.multifit(show_progressbar=False)
    track = profile.fit(peaks=1)
    error = track.standard_error("position").data
    # another estimator from the same counts: they differ by a part of their common error
    assert np.all(abs(model["peak"].centre.map["values"] - track.position.data) < error)


def test_model_of_a_gap(moving):
    profile = moving[0].deepcopy()
    profile.data[0] = np.nan
    assert np.isfinite(profile.create_model()["peak"].centre.value)
    lazy = moving[0].as_lazy()
    assert lazy.create_model()["peak"].centre.value == pytest.approx(2.04, abs=0.03)


# --- composition ---


def test_concentration_of_a_solid_solution(moving):
    _, track = moving
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = track.to_concentration(hkl=HKL)
    assert type(x).__name__ == "ConcentrationEvolution" and x.regions == ["mean"]
    assert x.data.shape == (1, 6)
    assert np.all(abs(x.data[0] - FRACTION) < 5 * x.standard_error.data[0])
    assert np.all(x.absolute_error.data >= x.standard_error.data)
    node = x.metadata.HyperspyLFP.SpotConcentration
    assert list(node.hkl) == [2, 0, 0] and node.material.name == "LiFePO4"


def test_reference_frame(moving):
    """A camera length that is 3 % wrong."""
    profile = moving[0].deepcopy()
    axis = profile.axes_manager.signal_axes[0]
    axis.scale, axis.offset = axis.scale * 1.03, axis.offset * 1.03
    track = profile.fit(peaks=1)
    assert not (abs(track.to_concentration(hkl=HKL).data[0] - FRACTION) < 0.3).any()
    for frame in (0, -1, 2):
        x = track.to_concentration(hkl=HKL, reference_frame=frame, x_reference=FRACTION[frame])
        assert x.data[0, frame] == pytest.approx(FRACTION[frame], abs=1e-4)
        assert np.all(abs(x.data[0] - FRACTION) < 7 * x.standard_error.data[0])
    for frame in (6, -7, 1.5, True, "first"):
        with pytest.raises(ValueError, match="reference_frame="):
            track.to_concentration(hkl=HKL, reference_frame=frame)
    with pytest.raises(ValueError, match="x_reference="):
        track.to_concentration(hkl=HKL, reference_frame=0, x_reference="full")


def test_concentration_of_two_phases(exchanging):
    _, track = exchanging
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = track.to_concentration(hkl=HKL, ratio=RATIO)
    assert np.all(abs(x.data[0] - (1 - FRACTION)) < 5 * x.standard_error.data[0])
    phases = track.to_concentration(hkl=HKL, ratio=RATIO, of="phases")
    assert phases.regions == ["phase 1", "phase 2"]
    np.testing.assert_allclose(phases.data[0, 1:5], 1.0, atol=0.05)
    np.testing.assert_allclose(phases.data[1, 1:5], 0.0, atol=0.05)
    assert np.isnan(phases.data[1, [0, 5]]).all()


def test_thin_crystals_by_default(exchanging):
    """The ratio of the structure factors, and a warning that says so."""
    _, track = exchanging
    with pytest.warns(UserWarning, match=r"times the intensity.*give it as"):
        x = track.to_concentration(hkl=HKL)
    seen = track.to_concentration(hkl=HKL, of="phases", ratio=1.0).data
    ends = [np.nanmedian(row[1:5]) for row in seen]
    factor = MATERIAL.structure_factor(HKL, np.clip(ends, 0, 1)) ** 2
    factor = factor / np.prod(MATERIAL.cell(np.clip(ends, 0, 1)), axis=-1)
    told = track.to_concentration(hkl=HKL, ratio=factor[1] / factor[0])
    np.testing.assert_allclose(x.data, told.data, atol=2e-3)
    with pytest.warns(UserWarning, match="times the intensity"):
        lazy = track.as_lazy().to_concentration(hkl=HKL)
    lazy.compute(show_progressbar=False)
    np.testing.assert_array_equal(lazy.data, x.data)


def test_a_material_without_atoms(exchanging):
    bare = materials.Material("bare", composition=(0, 1), a=(9.81, 10.32), b=(5.8, 6), c=(4.8, 4.7))
    _, track = exchanging
    with pytest.raises(ValueError, match=r"cannot be computed.*give `ratio`"):
        track.to_concentration(bare, hkl=HKL)
    assert np.isfinite(track.to_concentration(bare, hkl=HKL, ratio=2.0).data).all()


def test_bad_compositions(moving, helpers):
    _, track = moving
    with pytest.raises(ValueError, match="hkl is missing"):
        track.to_concentration()
    with pytest.raises(ValueError, match="of='both'"):
        track.to_concentration(hkl=HKL, of="both")
    for ratio in (0, -1, "thin"):
        with pytest.raises(ValueError, match="ratio="):
            track.to_concentration(hkl=HKL, ratio=ratio)
    with pytest.raises(ValueError):
        track.to_concentration("NaCl", hkl=HKL)
    vegard = materials.Material("flat", composition=(0, 1), a=(10, 10), b=(6, 6), c=(4.7, 4.7))
    with pytest.raises(ValueError, match="does not go one way"):
        track.to_concentration(vegard, hkl=HKL)
    counts, _, angles = helpers.diffraction_patterns([0.0])
    series = helpers.as_diffraction(counts)
    spot = helpers.zone_vectors(0.0, angles[0])[0]
    across = series.track_spot_profile(spot, direction=(1, 0), length=0.7).fit(peaks=1)
    with pytest.raises(ValueError, match="direction='radial'"):
        across.to_concentration(hkl=HKL)


# --- verdict ---


def test_solid_solution(moving):
    found = moving[1].transformation()
    assert found.verdict == "solid solution"
    k = 1 / MATERIAL.d_spacing(HKL, FRACTION)
    assert found.moved_range == pytest.approx(np.ptp(k), rel=0.02)
    assert np.all(found.probability < 0.5)


def test_two_phases(exchanging):
    _, track = exchanging
    found = track.transformation()
    assert found.verdict == "two-phase"
    assert np.all(found.probability[1:5] > 0.5)
    k = 1 / MATERIAL.d_spacing(HKL, np.array([0.0, 1.0]))
    assert found.exchanged_range == pytest.approx(np.ptp(k), rel=0.05)
    weighed = track.transformation("LiFePO4", hkl=HKL, ratio=RATIO)
    assert weighed.verdict == "two-phase"
    assert track.as_lazy().transformation().verdict == "two-phase"


def test_nothing_happens(helpers):
    _, track = track_of(helpers, [0.5] * 5)
    assert track.transformation().verdict == "unchanged"


def test_no_verdict(moving):
    with pytest.raises(ValueError, match="needs both fits"):
        moving[0].fit(peaks=1).transformation()


# --- multislice data ---


@pytest.fixture(scope="module")
def multislice(shared_data):
    def load(name):
        path = shared_data / "simulated" / f"diffraction_{name}.hspy"
        if not path.is_file():
            pytest.skip(f"no {path}")
        series = hs.load(path)
        series.set_signal_type("DiffractionSeries")
        return series, dict(np.load(path.with_name(f"diffraction_{name}_truth.npz")))

    return load


@pytest.mark.parametrize("hkl", [(2, 0, 0), (1, 0, 1), (2, 0, 1), (0, 0, 2)])
def test_spacings_of_a_simulated_solid_solution(multislice, hkl):
    series, truth = multislice("D1")
    track = series.track_spot_profile(hkl, material="LiFePO4").fit()
    d = truth["d{}{}{}_nm".format(*hkl)]
    away = abs(track.d_spacing.data / d - 1)
    if hkl == (0, 0, 2):  # hardly there: a tenth of the counts of the others
        assert np.all(abs(track.d_spacing.data - d) < 5 * track.standard_error("d_spacing").data)
    else:
        assert away.max() < 2e-4
    assert np.all(track.n_peaks.data == 1)
    # a spot that moves by less than its width may as well be two phases
    resolved = hkl in ((2, 0, 0), (0, 0, 2))
    expected = "solid solution" if resolved else "undetermined"
    assert track.transformation().verdict == expected


def test_centres_of_simulated_patterns(multislice):
    for name in ("D1", "D2"):
        series, truth = multislice(name)
        centre = series.refine_centre()
        x, y = series.axes_manager.signal_axes
        pixels = (centre.data - [x.offset, y.offset]) / [x.scale, y.scale]
        assert abs(pixels - truth["centre_px"]).max() < 0.05


def test_fractions_of_simulated_phases(multislice):
    series, truth = multislice("D2")
    track = series.track_spot_profile(HKL, material="LiFePO4").fit()
    present = (truth["f_FP"] > 0) & (truth["f_FP"] < 1)
    # the splitting exceeds the width
    split = 1 / truth["d200_nm_F"] - 1 / truth["d200_nm_L"]
    assert np.all(split > 0.9 * track.fwhm.data)
    assert track.n_peaks.data.tolist() == (1 + present).tolist()
    error = track.intensity_fraction().data - truth["fI_FP_200"]
    assert np.sqrt(np.mean(error[present] ** 2)) < 0.005
    for name, end in (("d_spacing", "L"), ("d_spacing_2", "F")):
        found = getattr(track, name).data[present]
        sigma = track.standard_error(name).data[present]
        assert np.all(abs(found - truth[f"d200_nm_{end}"]) < 5 * sigma)
    assert track.transformation().verdict == "two-phase"
    ratio = float(truth["I200_ratio_FP_over_LFP"])
    moles = track.molar_fraction(ratio=ratio)
    sigma = np.sqrt(moles.get_noise_variance().data[present])
    assert np.all(abs(moles.data - truth["f_FP"])[present] < 5 * sigma)
