"""What the simulated microscope reads of a map, and what it refuses."""

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_lfp import data, materials
from hyperspy_lfp.signals import ConcentrationMap
from hyperspy_lfp.simulation._source import read_source, signal_axes


def make_map(values=None, units="nm", scale=(2.0, 1.0), time=True):
    values = np.full((3, 5, 4), 0.5) if values is None else values
    axes = [
        {"name": n, "size": size, "scale": s, "units": units, "navigate": False}
        for n, size, s in zip("yx", values.shape[-2:], scale, strict=True)
    ]
    if time:
        first = {"name": "time", "size": len(values), "scale": 10, "units": "s", "navigate": True}
        axes.insert(0, first)
    return ConcentrationMap(values, axes=axes)


def test_reads_lengths_in_nanometres_and_axes_from_the_middle():
    source = read_source(make_map(units="angstrom"), "LiFePO4")
    assert source.spacing == pytest.approx((0.2, 0.1))
    assert source.x.shape == (3, 5, 4)
    np.testing.assert_array_equal(source.a_direction, [1, 0])
    y, x = signal_axes(source)
    assert (y["offset"], x["offset"]) == pytest.approx((-0.4, -0.15))
    assert source.navigation[0]["name"] == "time"


def test_single_map_is_one_frame():
    source = read_source(make_map(np.zeros((5, 4)), time=False), "LiFePO4")
    assert source.x.shape == (1, 5, 4)
    assert source.navigation == []


def test_lazy_map_and_its_own_material():
    truth = data.lithiation_truth()
    source = read_source(truth.as_lazy(), a_direction=(0, -3))
    np.testing.assert_array_equal(source.x, truth.data)
    np.testing.assert_array_equal(source.a_direction, [0, -1])
    assert source.material == materials.get("LiFePO4")
    np.testing.assert_array_equal(source.mask, np.isfinite(truth.data).any(axis=0))


def _one_empty_frame():
    values = np.full((3, 5, 4), 0.5)
    values[1] = np.nan
    return make_map(values)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((hs.signals.Signal2D(np.zeros((5, 4))), "LiFePO4"), TypeError, "truth is a Signal2D"),
        ((make_map(),), ValueError, "material is not given"),
        ((make_map(), "gold"), ValueError, "gold"),
        ((make_map(), "LiFePO4", (0, 0)), ValueError, "a_direction="),
        ((make_map(), "LiFePO4", (1, 0, 0)), ValueError, "a_direction="),
        ((make_map(units=""), "LiFePO4"), ValueError, "units"),
        ((_one_empty_frame(), "LiFePO4"), ValueError, "NaN everywhere in frame 1"),
        ((hs.stack([make_map()] * 2), "LiFePO4"), ValueError, "navigation axes"),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        read_source(*arguments)
