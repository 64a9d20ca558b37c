"""Hot and dead pixels and x-ray spikes are taken out, spots are not."""

import numpy as np
import pytest

from hyperspy_lfp import data

HOT, DEAD, SPIKE = (40, 60), (130, 200), (7, 90, 30)  # (y, x), the last with its pattern


@pytest.fixture(scope="module")
def clean():
    return data.diffraction_series()


@pytest.fixture(scope="module")
def dirty(clean):
    signal = clean.deepcopy()
    signal.data[:, HOT[0], HOT[1]] = 4000
    signal.data[:, DEAD[0], DEAD[1]] = 0
    signal.data[SPIKE] = 3000
    return signal


def test_what_is_bad_and_nothing_else(clean, dirty):
    found = dirty.remove_bad_pixels(show_progressbar=False)
    assert type(found) is type(dirty) and found.data.dtype == np.float32
    missing = np.isnan(found.data)
    assert missing[:, HOT[0], HOT[1]].all() and missing[SPIKE]
    expected = np.zeros_like(missing)
    expected[:, HOT[0], HOT[1]] = expected[:, DEAD[0], DEAD[1]] = expected[SPIKE] = True
    # of a million pixels
    assert (missing & ~expected).sum() <= 3
    np.testing.assert_array_equal(found.data[~missing], dirty.data[~missing].astype(np.float32))
    assert found.metadata.HyperspyLFP.BadPixels.hot == 1


def test_spots_stay_and_are_measured_as_before(clean, dirty):
    spot = (2, 0, 0)
    one, other = (
        s.track_spot_profile(spot, material="LiFePO4", show_progressbar=False).fit(peaks=1)
        for s in (clean, dirty.remove_bad_pixels(show_progressbar=False))
    )
    np.testing.assert_allclose(other.d_spacing.data, one.d_spacing.data, rtol=2e-5)


def test_median(clean, dirty):
    found = dirty.remove_bad_pixels(fill="median", show_progressbar=False)
    assert np.isfinite(found.data).all()
    around = clean.data[:, HOT[0] - 1 : HOT[0] + 2, HOT[1] - 1 : HOT[1] + 2].mean(axis=(1, 2))
    # the median of eight counts
    assert np.all(np.abs(found.data[:, HOT[0], HOT[1]] - around) < 3 * np.sqrt(around) + 1)


@pytest.mark.parametrize("size", [1, 5])
def test_lazily_whatever_the_chunks(dirty, size):
    expected = dirty.remove_bad_pixels(show_progressbar=False)
    lazy = dirty.as_lazy()
    lazy.rechunk(nav_chunks=(size,), sig_chunks=-1, inplace=True)
    found = lazy.remove_bad_pixels()
    assert found._lazy
    found.compute(show_progressbar=False)
    np.testing.assert_array_equal(found.data, expected.data)


def test_one_pattern_and_bad_input(dirty):
    one = dirty.inav[3].remove_bad_pixels(show_progressbar=False)
    assert np.isnan(one.data[HOT])
    with pytest.raises(ValueError, match=r"fill='zero' is not known; use one of .*'median'"):
        dirty.remove_bad_pixels(fill="zero")
    stack = dirty.inav[:4].deepcopy()
    stack.data = stack.data.reshape(2, 2, *stack.data.shape[1:])
    stack = type(dirty)(stack.data)
    with pytest.raises(ValueError, match="takes one series"):
        stack.remove_bad_pixels()
