"""Concentration reversal of regions and of pixels, on maps with known curves and noise."""

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_lfp
from hyperspy_lfp.signals import ConcentrationMap

STEP = 0.5  # nm
SHAPE = (12, 16)
TIMES = 2.0 * np.arange(120)
BACK = hs.roi.RectangularROI(-0.25, -0.25, 3.75, 5.75)
AHEAD = hs.roi.RectangularROI(3.75, -0.25, 7.75, 5.75)


def course(depth):
    """Fills, with a fall by `depth` from 100 to 140 s in between."""
    return np.interp(TIMES, [0, 100, 140, 238], [0, 0.55, 0.55 - depth, 1.0])


def maps(depth=0.2, noise=0.03, emptying=False, seed=0):
    """The left half reverses, the right half does not; noise is independent between pixels."""
    random = np.random.default_rng(seed)
    x = np.empty((len(TIMES), *SHAPE))
    x[:, :, :8] = course(depth)[:, None, None]
    x[:, :, 8:] = np.linspace(0, 1, len(TIMES))[:, None, None]
    x = (1 - x if emptying else x) + noise * random.standard_normal(x.shape)
    axes = [
        {"name": "time", "size": len(TIMES), "scale": 2.0, "units": "s", "navigate": True},
        *(
            {"name": n, "size": s, "scale": STEP, "units": "nm", "navigate": False}
            for n, s in zip("yx", SHAPE, strict=True)
        ),
    ]
    signal = ConcentrationMap(x.astype(np.float32), axes=axes)
    signal.metadata.General.title = "phantom"
    signal._record(
        "ConcentrationMap",
        material=hyperspy_lfp.materials.get("LiFePO4").to_dictionary(),
        method="gls",
        resolution=0.0,
        resolution_units="nm",
        x_reference=0.0,
    )
    signal.set_noise_variance(signal._deepcopy_with_new_data(np.full(x.shape, noise**2, "f4")))
    return signal


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setattr(hs.preferences.General, "show_progressbar", False)


@pytest.mark.parametrize("emptying", [False, True])
def test_only_the_region_that_reverses(emptying):
    x = maps(emptying=emptying)
    back, ahead = x.evolution({"back": BACK, "ahead": AHEAD}).concentration_reversal(
        n_bootstrap=199
    )
    assert (back.region, ahead.region) == ("back", "ahead")
    assert back.p_value < 0.01 and back.p_adjusted < 0.02
    assert back.ci[0] <= 0.2 <= back.ci[1]
    # a mean of a hundred pixels: the ends of the fall are those of the smoothed curve
    assert back.amplitude == pytest.approx(0.2, abs=0.02)
    assert back.t_b == pytest.approx(100, abs=8) and back.t_c == pytest.approx(140, abs=8)
    assert back.duration == pytest.approx(back.t_c - back.t_b)
    sign = -1 if emptying else 1
    assert sign * (back.x_b - back.x_c) == pytest.approx(back.amplitude + back.bias)
    assert back.recovery > 0
    assert np.isnan(back.elastic)
    assert ahead.p_value > 0.05 and ahead.amplitude < 0.02
    assert ahead.p_adjusted >= ahead.p_value


def test_direction_can_be_said():
    evolution = maps().evolution({"ahead": AHEAD})
    (rising,) = evolution.concentration_reversal(direction=1, n_bootstrap=99)
    (falling,) = evolution.concentration_reversal(direction=-1, n_bootstrap=99)
    assert rising.amplitude < 0.05
    # taken for emptying, all of the filling is a reversal
    assert falling.amplitude == pytest.approx(1.0, abs=0.1)


def test_more_regions_more_chance():
    """Holm: the smallest p-value counts as often as there are regions."""
    rois = [hs.roi.RectangularROI(x, -0.25, x + 1, 5.75) for x in (-0.25, 0.75, 4.75, 5.75)]
    found = maps(noise=0.1).evolution(rois).concentration_reversal(n_bootstrap=199)
    p, adjusted = (np.array([getattr(f, n) for f in found]) for n in ("p_value", "p_adjusted"))
    assert adjusted[p.argmin()] == pytest.approx(min(1, 4 * p.min()))
    assert np.all(adjusted >= p)


def test_survives_the_file(tmp_path):
    evolution = maps().evolution({"back": BACK})
    before = evolution.concentration_reversal(n_bootstrap=99)
    evolution.save(tmp_path / "evolution.hspy")
    for lazy in (False, True):
        opened = hs.load(tmp_path / "evolution.hspy", lazy=lazy)
        for one, other in zip(opened.concentration_reversal(n_bootstrap=99), before, strict=True):
            assert one.region == other.region
            np.testing.assert_allclose(one[1:3], other[1:3], rtol=1e-9)


def test_frames_without_a_lattice_are_left_out():
    x = maps()
    x.data[30:34] = np.nan
    (back,) = x.evolution({"back": BACK}).concentration_reversal(n_bootstrap=199)
    assert back.amplitude == pytest.approx(0.2, abs=0.03)


def test_map_of_reversals():
    x = maps(noise=0.05)
    found = x.reversal_map()
    assert found._fields[:2] == ("amplitude", "bias")
    amplitude, p = found.amplitude.data, found.p_value.data
    assert found.amplitude.axes_manager.signal_axes[0].units == "nm"
    assert amplitude.shape == SHAPE
    assert amplitude[:, :8].mean() == pytest.approx(0.2, abs=0.04)
    assert np.median(amplitude[:, 8:]) < 0.02
    assert np.mean(p[:, :8] < 0.05) > 0.9
    # 96 independent pixels of no reversal: three standard deviations above 5 %
    assert np.mean(p[:, 8:] < 0.05) < 0.12
    assert np.median(found.t_b.data[:, :8]) == pytest.approx(100, abs=10)
    assert np.median(found.t_c.data[:, :8]) == pytest.approx(140, abs=10)


def test_lazy_map_is_the_same_whatever_the_chunks(monkeypatch):
    x = maps(noise=0.05)
    expected = x.reversal_map()
    monkeypatch.setattr("hyperspy_lfp.signals._reversal._BLOCK", 120 * 25)
    lazy = x.as_lazy().reversal_map()
    assert all(s._lazy for s in lazy)
    hyperspy_lfp.compute(*lazy, show_progressbar=False)
    for one, other in zip(lazy, expected, strict=True):
        np.testing.assert_allclose(one.data, other.data, rtol=1e-5, atol=1e-6)


def test_elasticity_beside_the_reversal():
    """A lattice that only follows its neighbourhood: the drop is what elasticity makes."""
    x = maps(noise=0.01)
    x.metadata.set_item("HyperspyLFP.ConcentrationMap.resolution", 0.8)
    x.metadata.set_item("HyperspyLFP.ConcentrationMap.lattice_directions", [[1.0, 0.0], [0.0, 1.0]])
    (back,) = x.concentration_reversal({"back": BACK}, n_bootstrap=99)
    evolution = x.evolution({"back": BACK}, coherency=True)
    assert evolution.metadata.has_item("Signal.Noise_properties.elastic_crosstalk")
    assert np.isfinite(back.elastic)
    # the right half fills evenly, by a sixth from 100 to 140 s: little of it shows on the left
    assert abs(back.elastic) < 0.1 * back.amplitude
    apparent = x.coherency_response().evolution({"back": BACK})
    truth = x.evolution({"back": BACK})
    # linear: the apparent mean is that of x inside, weighted, and of x elsewhere
    own = x.deepcopy()
    own.data[:, :, 8:] = 0
    inside = own.coherency_response().evolution({"back": BACK}).data
    carried = evolution.metadata.Signal.Noise_properties.elastic_crosstalk.data
    np.testing.assert_allclose(apparent.data - inside, carried, atol=1e-5)
    assert truth.data.shape == apparent.data.shape


def test_short_series_with_known_errors():
    """A dozen frames tell little of their noise: the errors of the means do."""
    x = maps(noise=0.05)
    x.data = x.data[::10].copy()
    x.axes_manager.navigation_axes[0].size = 12
    x.axes_manager.navigation_axes[0].scale = 20.0
    x.set_noise_variance(x._deepcopy_with_new_data(np.full(x.data.shape, 0.05**2, "f4")))
    (found,) = x.evolution({"back": BACK}).concentration_reversal(noise="errors")
    assert found.p_value < 0.05
    assert found.t_b < found.t_c
    assert found.ci[0] <= 0.2 <= found.ci[1]
    assert found.sigma == pytest.approx(0.05 / np.sqrt(96), rel=1e-3)


def test_bad_input():
    x = maps()
    evolution = x.evolution({"back": BACK})
    with pytest.raises(ValueError, match="direction='up' must be 'auto', 1 or -1"):
        evolution.concentration_reversal(direction="up")
    with pytest.raises(ValueError, match=r"region 'back':.*8"):
        x.inav[:6].evolution({"back": BACK}).concentration_reversal()
    for noise in ("given", 0.005, (0.1, 1.5)):
        with pytest.raises(ValueError, match="noise"):
            evolution.concentration_reversal(noise=noise)
    with pytest.raises(ValueError, match="direction='up'"):
        x.reversal_map(direction="up")
    with pytest.raises(ValueError, match="needs a movie with a time axis"):
        x.inav[0].reversal_map()
    with pytest.raises(ValueError, match="resolution is missing"):
        x.coherency_response(a_direction=(1, 0))
    with pytest.raises(ValueError, match="a_direction is missing"):
        x.coherency_response(resolution=0.8)
    with pytest.raises(ValueError, match="coherency=True is for regions that stay"):
        x.evolution({"back": BACK}, coherency=True, drift=np.zeros((len(TIMES), 2)))
