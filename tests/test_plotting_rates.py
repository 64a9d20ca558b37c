"""The figure that compares rates: what it shows and what it refuses."""

import hyperspy.api as hs
import matplotlib
import numpy as np
import pytest

from hyperspy_lfp import plotting
from hyperspy_lfp.signals import ConcentrationMap

REGIONS = {
    "left": hs.roi.RectangularROI(0, 0, 1.5, 3),
    "right": hs.roi.RectangularROI(1.5, 0, 3, 3),
}


def make_map(duration, lag, frames=11):
    """Two halves, of which the right one lags; their mean rises evenly from 0 to 1."""
    mean = np.linspace(0, 1, frames)[:, None, None]
    side = np.where(np.arange(12) < 6, 1.0, -1.0)
    data = np.broadcast_to(mean + lag * np.sin(np.pi * mean) * side, (frames, 12, 12)).copy()
    time = {"name": "time", "size": frames, "scale": duration / (frames - 1), "units": "s"}
    image = [{"name": n, "size": 12, "scale": 0.25, "units": "nm", "navigate": False} for n in "yx"]
    signal = ConcentrationMap(data, axes=[{**time, "navigate": True}, *image])
    signal.metadata.set_item("HyperspyLFP.ConcentrationMap.resolution", 0.4)
    return signal


@pytest.fixture(scope="module")
def maps():
    return {"18C": make_map(200, 0.2), "8C": make_map(450, 0.05, frames=21)}


@pytest.mark.skipif(
    matplotlib.__version_info__[:2] != (3, 11), reason="drawn with another Matplotlib"
)
@pytest.mark.mpl_image_compare(
    savefig_kwargs={"dpi": 50}, style="default", tolerance=12, remove_text=True
)
def test_rates_image(maps):
    return plotting.rates(maps, REGIONS)


def test_columns_are_states_of_charge_on_one_scale(maps):
    figure = plotting.rates(maps, REGIONS, states=[0.2, 0.5])
    drawn = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in drawn] == ["40 s", "100 s", "90.0 s", "225.0 s"]
    assert [ax.get_ylabel() for ax in drawn] == ["18C", "", "8C", ""]
    for ax, (name, frame) in zip(
        drawn, [("18C", 2), ("18C", 5), ("8C", 4), ("8C", 10)], strict=True
    ):
        assert ax.images[0].get_clim() == (0, 1)
        np.testing.assert_array_equal(ax.images[0].get_array(), maps[name].data[frame])


@pytest.mark.parametrize("against", ["mean", "time"])
def test_courses(maps, against):
    figure = plotting.rates(maps, REGIONS, against=against)
    courses = [ax for ax in figure.axes if len(ax.lines) == 2]
    for ax, x in zip(courses, maps.values(), strict=True):
        at = x.data.mean(axis=(1, 2)) if against == "mean" else x.axes_manager["time"].axis
        for line, half in zip(ax.lines, (slice(0, 6), slice(6, 12)), strict=True):
            np.testing.assert_allclose(line.get_xdata(), at, atol=1e-12)
            np.testing.assert_allclose(line.get_ydata(), x.data[:, 0, half].mean(axis=1))
    limits = {ax.get_xlim() for ax in courses}
    assert len(limits) == (1 if against == "mean" else 2)


def test_regions_of_each_movie(maps):
    figure = plotting.rates(maps, {"18C": {"all": REGIONS["left"]}, "8C": REGIONS})
    assert [len(ax.lines) for ax in figure.axes if not ax.images and ax.lines] == [1, 2]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"maps": None}, TypeError, "maps is a NoneType"),
        ({"maps": {}}, ValueError, "maps is empty"),
        ({"against": "charge"}, ValueError, "against='charge'"),
        ({"states": []}, ValueError, "states="),
        ({"states": [np.nan]}, ValueError, "states="),
    ],
)
def test_bad_input(maps, change, error, message):
    with pytest.raises(error, match=message):
        plotting.rates(**{"maps": maps, **change})


def test_single_map(maps):
    with pytest.raises(ValueError, match=r"'18C'.*single map"):
        plotting.rates({"18C": maps["18C"].inav[0]})
