"""The pages that can go stale: the metadata page against what is written."""

import re
from pathlib import Path

import hyperspy.api as hs
import pytest

from hyperspy_lfp import data

PAGE = Path(__file__).parents[1] / "docs" / "metadata.rst"


def leaves(dictionary):
    for key, value in dictionary.items():
        if key.startswith("_sig_"):  # a signal of its own
            yield key.removeprefix("_sig_")
        elif isinstance(value, dict):
            yield key
            yield from leaves(value)
        else:
            yield key


@pytest.fixture(scope="module")
def written():
    """All keys that one chain with every kind of step writes."""
    movie = data.lithiation_movie().inav[:2]
    movie = movie.correct_drift(movie.estimate_drift(show_progressbar=False))
    region = hs.roi.RectangularROI(6, 5, 10, 9)
    phase = movie.gpa(*movie.find_g_vectors(n=2))
    strain = phase.strain(reference=region, reference_frame=0).rotate(10)
    signals = [
        movie,
        phase.displacement(reference=hs.roi.CircleROI(8, 7, 2, 1)),
        phase.to_concentration(reference=region).evolution([region]),
        strain.to_concentration(a_direction=(1, 0)),
    ]
    keys = set()
    for signal in signals:
        keys.update(leaves(signal.metadata.HyperspyLFP.as_dictionary()))
    return keys


def test_every_key_is_on_the_metadata_page(written):
    text = PAGE.read_text(encoding="utf-8")
    documented = set(re.findall(r"``([^`]+)``", text)) | set(re.findall(r"^(\w+)\n-+$", text, re.M))
    documented |= {f"{name}_units" for name in documented}  # the rule at the head of the page
    assert written - documented == set()
    assert {"GeometricPhase", "g_vectors", "reference", "region_1"} <= written
