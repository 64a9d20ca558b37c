"""Long tables survive files: HyperSpy's readers reorder lists of more than ten lists."""

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_lfp import materials
from hyperspy_lfp.signals import ConcentrationMap

X = np.linspace(0, 1, 13)
TABLE = materials.Material(
    "thirteen compositions",
    composition=tuple(X),
    a=tuple(9.8 + 0.5 * X + 0.01 * X * (1 - X)),
    b=tuple(5.8 + 0.2 * X),
    c=tuple(4.78 - 0.09 * X),
    elastic=[[176.0 + i, 154, 135, 39, 47, 56, 30, 54, 20] for i in range(13)],
)
VERTICES = [[float(i), float(i % 3)] for i in range(14)]


@pytest.mark.parametrize("extension", ["hspy", "zspy"])
def test_long_tables_keep_their_order(tmp_path, extension):
    signal = ConcentrationMap(np.zeros((4, 4)))
    mixed = {
        "region": {"vertices": VERTICES},
        "ragged": [[1.0], [1.0, 2.0]],
        "none": [None, [1, 2]],
    }
    signal._record("ConcentrationMap", material=TABLE.to_dictionary(), resolution=1.0, **mixed)
    signal.save(tmp_path / f"map.{extension}")
    again = hs.load(tmp_path / f"map.{extension}")
    assert again.material == TABLE
    node = again.metadata.HyperspyLFP.ConcentrationMap.as_dictionary()
    np.testing.assert_array_equal(node["region"]["vertices"], VERTICES)
    assert [list(row) for row in node["ragged"]] == mixed["ragged"]
    assert node["none"][0] is None and list(node["none"][1]) == [1, 2]
