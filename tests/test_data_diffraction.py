"""The built-in diffraction series: what they say they are, and what the analysis makes of them."""

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_lfp import data, materials

KINDS = ("solid solution", "two-phase")
PIXEL = 0.025  # 1/nm
MATERIAL = materials.get("LiFePO4")


@pytest.fixture(scope="module", params=KINDS)
def series(request):
    return data.diffraction_series(request.param)


def provenance(series):
    return series.metadata.HyperspyLFP.Provenance.as_dictionary()


def test_what_it_is(series):
    assert type(series).__name__ == "DiffractionSeries"
    assert series.data.shape == (16, 240, 256) and series.data.dtype == np.uint16
    (time,) = series.axes_manager.navigation_axes
    kx, ky = series.axes_manager.signal_axes
    assert (time.name, time.units, time.axis[0], time.axis[-1]) == ("time", "s", 0.0, 300.0)
    assert [(a.name, a.units, a.scale) for a in (kx, ky)] == [
        ("kx", "1/nm", PIXEL),
        ("ky", "1/nm", PIXEL),
    ]
    assert provenance(series)["origin"].startswith("hyperspy_lfp.data")
    assert series.metadata.General.title == f"{provenance(series)['kind']} diffraction series"
    # the direct beam of 3e5 electrons with a standard deviation of 1.1 pixels fits the 16 bits
    assert 2.5e4 < series.data.max() < 65535


def test_the_same_every_time(series):
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    again = data.diffraction_series(provenance(series)["kind"])
    np.testing.assert_array_equal(np.random.random(3), expected)  # noqa: NPY002
    np.testing.assert_array_equal(again.data, series.data)
    assert not np.shares_memory(again.data, series.data)


def test_both_kinds_begin_and_end_alike():
    """Pure FePO4 and pure LiFePO4: the same spots, in other noise."""
    first, second = (data.diffraction_series(kind).data.astype(float) for kind in KINDS)
    for i in (0, -1):
        assert not np.array_equal(first[i], second[i])
        bright = first[i] + second[i] > 50
        off = (first[i] - second[i])[bright] / np.sqrt((first[i] + second[i])[bright])
        # unit variance, with the sampling error of the variance of a Gaussian
        assert off.var() == pytest.approx(1, abs=4 * np.sqrt(2 / off.size))
        assert off.mean() == pytest.approx(0, abs=4 / np.sqrt(off.size))


def test_spots_are_where_the_provenance_says(series):
    """Counts around each (200) position, computed here: centroid and sum."""
    truth = provenance(series)
    if truth["kind"] == "two-phase":
        frames = {0: 0.0, 15: 1.0}
    else:
        frames = {i: x for i, x in enumerate(truth["x"])}
    kx, ky = (axis.axis for axis in series.axes_manager.signal_axes)
    for i, x in frames.items():
        angle = np.deg2rad(truth["a_axis_angle"][i])
        k = 20 / MATERIAL.cell(x)[0] * np.array([np.cos(angle), -np.sin(angle)])
        at = k + [truth["centre_x"][i], truth["centre_y"][i]]
        across, down = np.abs(kx - at[0]) < 7 * PIXEL, np.abs(ky - at[1]) < 7 * PIXEL
        part = series.data[i][down][:, across].astype(float)
        border = np.concatenate([part[0], part[-1], part[1:-1, 0], part[1:-1, -1]])
        part -= border.mean()
        counts = part.sum()
        expected = 3e4 * MATERIAL.structure_factor((2, 0, 0), x) ** 2 / np.prod(MATERIAL.cell(x))
        noise = np.sqrt(expected + part.size * border.mean() * (1 + part.size / border.size))
        assert counts == pytest.approx(expected, abs=4 * noise)
        found = [
            (part.sum(0) * kx[across]).sum() / counts,
            (part.sum(1) * ky[down]).sum() / counts,
        ]
        # each pixel's noise pulls by its distance, at most seven pixels and on average four
        assert found == pytest.approx(at, abs=4 * 4 * PIXEL * noise / counts)


def test_centre(series):
    truth = provenance(series)
    found = series.refine_centre(show_progressbar=False).data
    exact = np.stack([truth["centre_x"], truth["centre_y"]], axis=-1)
    assert np.abs(found - exact).max() < 0.05 * PIXEL


@pytest.mark.parametrize("kind", KINDS)
def test_beam_stop(kind):
    series = data.diffraction_series(kind, beam_stop=True)
    truth = provenance(series)
    stop = hs.roi.RectangularROI(*truth["beam_stop"])
    kx, ky = (axis.axis for axis in series.axes_manager.signal_axes)
    left, top, right, bottom = truth["beam_stop"]
    hidden = ((kx > left) & (kx < right)) & ((ky > top) & (ky < bottom))[:, None]
    assert not series.data[:, hidden].any()
    assert hidden.sum() > 1000
    np.testing.assert_array_equal(
        (series.data == 0).all(axis=0) & hidden, hidden & np.ones_like(hidden)
    )
    # the direct beam is behind it in each pattern, with five standard deviations to spare
    for x, y in zip(truth["centre_x"], truth["centre_y"], strict=True):
        assert left < x < right - 5 * 1.1 * PIXEL
        assert top + 2 * 1.1 * PIXEL < y < bottom - 2 * 1.1 * PIXEL
    found = series.refine_centre(mask=stop, show_progressbar=False).data
    exact = np.stack([truth["centre_x"], truth["centre_y"]], axis=-1)
    assert np.abs(found - exact).max() < 0.05 * PIXEL


def test_truth(series):
    truth = data.diffraction_truth(provenance(series)["kind"])
    assert type(truth).__name__ == "ConcentrationEvolution"
    assert truth.regions == ["mean"]
    np.testing.assert_allclose(truth.data, [provenance(series)["x"]])
    np.testing.assert_allclose(truth.data[0], np.arange(16) / 15)
    time = truth.axes_manager["time"]
    assert (time.units, time.axis[-1]) == ("s", 300.0)


def test_phases_of_the_two_phase_series():
    truth = provenance(data.diffraction_series("two-phase"))
    lithium_poor, lithium_rich = truth["phases"]
    f = np.array(truth["molar_fraction"])
    np.testing.assert_allclose(lithium_poor * (1 - f) + lithium_rich * f, truth["x"])
    assert "molar_fraction" not in provenance(data.diffraction_series())


def test_analysis_of_the_solid_solution():
    series = data.diffraction_series()
    profile = series.track_spot_profile((2, 0, 0), material="LiFePO4", show_progressbar=False)
    track = profile.fit(show_progressbar=False)
    assert track.transformation().verdict == "solid solution"
    x = track.to_concentration("LiFePO4")
    off = (x.data - data.diffraction_truth().data)[0] / x.standard_error.data[0]
    # chi squared of 16 values with four of its standard deviations; no single one beyond four
    assert (off**2).mean() < 1 + 4 * np.sqrt(2 / 16)
    assert np.abs(off).max() < 4


def test_analysis_of_two_phases():
    """The molar fraction comes out; the part in the intensity is something else."""
    series = data.diffraction_series("two-phase")
    profile = series.track_spot_profile((2, 0, 0), material="LiFePO4", show_progressbar=False)
    track = profile.fit(show_progressbar=False)
    assert track.transformation("LiFePO4").verdict == "two-phase"
    two = track.n_peaks.data == 2
    # of the part of lithium in (200) a twelfth is seen: the first and last patterns have one peak
    assert two[3:14].all()
    rich = 1 - np.array(provenance(series)["molar_fraction"])  # the peak at larger k is FePO4
    molar = track.molar_fraction("LiFePO4")
    error = np.sqrt(molar.get_noise_variance().data)
    off = (molar.data - rich)[two] / error[two]
    assert (off**2).mean() < 1 + 4 * np.sqrt(2 / two.sum())
    ratio = np.divide(
        *(MATERIAL.structure_factor((2, 0, 0), x) ** 2 / np.prod(MATERIAL.cell(x)) for x in (0, 1))
    )
    assert ratio == pytest.approx(12, abs=1)
    seen = track.intensity_fraction()
    exact = ratio * rich / (ratio * rich + 1 - rich)
    error = np.sqrt(seen.get_noise_variance().data)
    off = (seen.data - exact)[two] / error[two]
    assert (off**2).mean() < 1 + 4 * np.sqrt(2 / two.sum())


@pytest.mark.parametrize("function", [data.diffraction_series, data.diffraction_truth])
def test_unknown_kind(function):
    with pytest.raises(ValueError, match=r"kind='mixed' .*'solid solution', 'two-phase'"):
        function("mixed")


def test_round_trip(series, tmp_path):
    series.save(tmp_path / "series.hspy")
    again = hs.load(tmp_path / "series.hspy")
    assert type(again) is type(series)
    np.testing.assert_array_equal(again.data, series.data)
    assert again.metadata.as_dictionary()["HyperspyLFP"] == {"Provenance": provenance(series)}
