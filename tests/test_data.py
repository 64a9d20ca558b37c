"""The built-in example: what it says it is, and what the analysis makes of it."""

from importlib import resources

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_lfp import data, materials, simulation
from hyperspy_lfp.data import _make_lithiation

TILT = np.deg2rad(12.0)
CENTRE = (7.96875, 7.15625)  # nm, of the particle in frame 0
CORE = hs.roi.CircleROI(*CENTRE, 3.0)
#: Middle of the corner that runs ahead: 3.1 nm from the centre along -a, 2.75 nm along -c.
DOMAIN_1 = hs.roi.CircleROI(
    CENTRE[0] - 3.1 * np.cos(TILT) - 2.75 * np.sin(TILT),
    CENTRE[1] + 3.1 * np.sin(TILT) - 2.75 * np.cos(TILT),
    1.5,
)


@pytest.fixture(scope="module")
def movie():
    return data.lithiation_movie()


@pytest.fixture(scope="module")
def truth():
    return data.lithiation_truth()


@pytest.fixture(scope="module")
def vectors():
    """FePO4, with a 12 degrees counter-clockwise from x."""
    a, _, c = materials.get("LiFePO4").cell(0.0) / 10
    along_a = np.array([np.cos(TILT), -np.sin(TILT)])
    along_c = np.array([np.sin(TILT), np.cos(TILT)])
    return np.array([along_a / a + along_c / c, along_a / a - along_c / c])


@pytest.fixture(scope="module")
def x(movie, vectors):
    return movie.to_concentration(*vectors, show_progressbar=False)


def test_what_it_is(movie):
    assert type(movie).__name__ == "HRTEMMovie"
    assert movie.data.shape == (12, 230, 256) and movie.data.dtype == np.uint16
    time, x, y = (
        *movie.axes_manager.navigation_axes,
        *movie.axes_manager.signal_axes,
    )
    assert (time.name, time.units, time.offset) == ("time", "s", 0.0)
    assert time.axis[-1] == pytest.approx(0.996 * 3600 / 18)  # 18C, from .002 to .998
    assert (x.name, y.name, x.units, y.units) == ("x", "y", "nm", "nm")
    assert x.scale == y.scale == 0.0625
    assert movie.metadata.General.title == "lithiation movie"
    assert movie.metadata.HyperspyLFP.Simulation.origin.startswith("hyperspy_lfp.simulation")
    # 600 electrons a pixel in vacuum, with Poisson noise
    vacuum = movie.data[:, :20, :20].astype(float)
    assert vacuum.mean() == pytest.approx(600, rel=0.005)
    assert vacuum.var() == pytest.approx(600, rel=0.05)


def test_the_same_every_time(movie, truth):
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    again = data.lithiation_movie()
    np.testing.assert_array_equal(np.random.random(3), expected)  # noqa: NPY002
    np.testing.assert_array_equal(again.data, movie.data)
    assert not np.shares_memory(again.data, movie.data)
    np.testing.assert_array_equal(data.lithiation_truth().data, truth.data)


def test_it_is_what_the_script_makes(movie):
    """Its data come out again, but for counts on the edge of another number on another platform."""
    again = _make_lithiation.movie()
    assert (again.data == movie.data).mean() > 0.999
    source, made = simulation.truth(movie).source, _make_lithiation.composition()
    np.testing.assert_allclose(source.data, made.data, atol=1e-6)


def test_the_file_is_small():
    assert (
        resources.files("hyperspy_lfp.data").joinpath("lithiation_movie.hspy").stat().st_size < 1e6
    )


def test_truth(movie, truth):
    assert type(truth).__name__ == "ConcentrationMap"
    assert truth.data.shape == movie.data.shape
    assert truth.material == materials.get("LiFePO4")
    whole = truth.evolution().data[0]
    assert whole[0] == pytest.approx(0.002, abs=1e-6) and whole[-1] == pytest.approx(
        0.998, abs=1e-6
    )
    assert (np.diff(whole) > 0).all()
    # 18C: it fills in 200 seconds, at a nearly constant rate
    np.testing.assert_allclose(truth.c_rate().data, 18, rtol=0.05)
    assert np.nanmin(truth.data) > -0.01 and np.nanmax(truth.data) < 1.01
    inside = np.isfinite(truth.data).mean(axis=(1, 2))
    area = 12.5 * 11 * 0.927 / (16 * 14.375)  # of a quartic, in the frame
    np.testing.assert_allclose(inside, area, rtol=0.06)
    assert inside[-1] > inside[0]  # lithium makes it larger


def test_domain_1_gives_lithium_back(truth):
    """Concentration reversal: one corner falls while the particle as a whole goes on filling."""
    corner = truth.evolution(DOMAIN_1).data[0]
    whole = truth.evolution().data[0]
    falls = np.diff(corner) < 0
    assert falls.any() and (np.diff(whole)[falls] > 0).all()
    peak = np.argmax(corner[:6])
    assert corner[peak] > whole[peak] + 0.1
    assert corner[peak] - corner[peak:].min() > 0.05
    assert corner[-1] == pytest.approx(1.0, abs=0.01)


def test_the_lattice_is_found(movie, vectors):
    g = movie.find_g_vectors(n=2, frames=0)
    # equally strong: noise says which comes first
    order = int(np.hypot(*(vectors - g[0]).T).argmin())
    np.testing.assert_allclose(g, vectors[[order, 1 - order]], atol=2e-3)
    more = movie.find_g_vectors(n=6, frames=0)
    indices = movie.index_g_vectors(more)
    assert None not in indices and len(set(indices)) == len(indices)
    assert (2, 0, 0) in indices


def test_drift_is_found(movie, vectors):
    provenance = movie.metadata.HyperspyLFP.Simulation
    drift = np.stack([provenance.drift_x, provenance.drift_y], axis=-1)
    drift -= drift[0]
    assert abs(drift).max() > 0.3  # several pixels
    # the particle swells on one side more than on the other: its outline, which correlation sees,
    # moves by up to a pixel for that
    for method, bound in (("correlation", 0.0625), ("phase", 0.02)):
        found = movie.estimate_drift(method, g=vectors, show_progressbar=False).data
        np.testing.assert_allclose(found, drift, atol=bound)


def test_composition_is_found(movie, truth, x):
    """Of the middle of the particle within its standard error; nothing in the vacuum."""
    found, expected = x.evolution(CORE), truth.evolution(CORE)
    error = found.standard_error.data
    assert (error < 0.02).all()
    assert (abs(found.data - expected.data) < 4 * error).all()
    xs, ys = (a.axis for a in x.axes_manager.signal_axes)
    far = (abs(xs - CENTRE[0]) > 7.6) | (abs(ys - CENTRE[1]) > 6.9)[:, None]
    assert np.isnan(x.data[:, far]).mean() > 0.9
    assert np.isfinite(found.data).all()


def test_reversal_is_found(truth, x):
    found, expected = x.evolution(DOMAIN_1), truth.evolution(DOMAIN_1)
    error = found.standard_error.data
    # the corner is a few resolutions from the edge and varies within one
    np.testing.assert_allclose(found.data, expected.data, atol=0.1)
    assert found.data[0, 3] - found.data[0, 5] > 3 * np.hypot(*error[0, [3, 5]])


def test_corrected_for_drift_the_maps_stay_in_place(movie, vectors, x):
    still = movie.correct_drift(
        movie.estimate_drift(show_progressbar=False), show_progressbar=False
    )
    maps = still.to_concentration(*vectors, show_progressbar=False)
    first = np.isfinite(maps.data[0])
    for frame in np.isfinite(maps.data[1:]):
        assert np.count_nonzero(frame ^ first) < 0.15 * np.count_nonzero(first)
    np.testing.assert_allclose(maps.evolution(CORE).data, x.evolution(CORE).data, atol=0.03)
