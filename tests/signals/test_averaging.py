"""`GeometricPhase.coherent_average` and `precision` as users call them."""

import hyperspy.api as hs
import numpy as np
import pytest


@pytest.fixture
def still(helpers):
    """Seven frames of one lattice with noise, as a movie."""
    return helpers.as_movie(helpers.lattice_images((0.3,) * 7, noise=20.0))


def test_groups_and_their_times(still, vectors):
    time = still.axes_manager.navigation_axes[0]
    time.scale, time.offset, time.units = 0.5, 3.0, "s"
    phase = still.gpa(*vectors, resolution=0.6)
    mean = phase.coherent_average(3)
    assert type(mean) is type(phase)
    assert mean.data.shape == (2, *phase.data.shape[1:])
    # frames 0-2 and 3-5; the seventh fills no group
    axis = next(a for a in mean.axes_manager._axes if a.name == time.name)
    np.testing.assert_allclose(axis.axis, [3.5, 5.0])
    assert axis.units == "s"
    assert mean.metadata.HyperspyLFP.GeometricPhase.averaged_frames == 3
    assert mean.coherent_average(2).metadata.HyperspyLFP.GeometricPhase.averaged_frames == 6
    np.testing.assert_allclose(phase.coherent_average(1).data, phase.data, rtol=1e-6)


def test_variance_of_the_next_step_falls(still, vectors):
    phase = still.gpa(*vectors, resolution=0.6)
    one, six = (p.strain().get_noise_variance().data for p in (phase, phase.coherent_average(6)))
    assert np.nanmean(one[:6]) / np.nanmean(six) == pytest.approx(6, rel=0.02)


def test_lazy_round_trip_and_more_axes(still, vectors, tmp_path):
    phase = still.gpa(*vectors, resolution=0.6)
    expected = phase.coherent_average(2)
    lazy = still.as_lazy().gpa(*vectors, resolution=0.6).coherent_average(2)
    assert lazy._lazy
    lazy.save(tmp_path / "mean.hspy")
    again = hs.load(tmp_path / "mean.hspy")
    np.testing.assert_allclose(again.data, expected.data, rtol=1e-6)
    again.strain()
    twice = hs.stack([still, still])
    twice.axes_manager.navigation_axes[0].name = "time"
    double = twice.gpa(*vectors, resolution=0.6)
    both = double.coherent_average(2)
    np.testing.assert_allclose(both.data, np.stack([expected.data] * 2), rtol=1e-5, atol=1e-6)


def test_precision(still, vectors):
    """The standard error of the strain across the planes is that of the strain components."""
    phase = still.gpa(*vectors, resolution=0.6)
    precision = phase.precision()
    assert precision.data.shape == (7, 2, *phase.data.shape[-2:])
    lazy = still.as_lazy().gpa(*vectors, resolution=0.6).precision()
    assert lazy._lazy
    lazy.compute()
    np.testing.assert_allclose(lazy.data, precision.data, rtol=1e-5)
    # exx along g1 is that of its planes, whatever the second reflection
    for k, g in enumerate(phase.g_vectors):
        angle = np.rad2deg(np.arctan2(-g[1], g[0]))
        across = phase.strain(definition="eulerian", angle=angle).get_noise_variance().data[:, 0]
        inner = np.s_[:, 8:-8, 8:-8]
        # that of strain is with the mean noise of both derivatives, which a border makes differ
        np.testing.assert_allclose(precision.data[:, k][inner] ** 2, across[inner], rtol=0.1)
    assert np.isnan(phase.precision(threshold=5).data).all()


@pytest.mark.parametrize("n", [0, 8, -1, 2.5, "3"])
def test_bad_number(still, vectors, n):
    phase = still.gpa(*vectors, resolution=0.6)
    with pytest.raises(ValueError, match=r"n=.*from 1 to 7"):
        phase.coherent_average(n)


def test_one_frame(still, vectors):
    phase = still.inav[0].gpa(*vectors, resolution=0.6)
    with pytest.raises(ValueError, match="one frame only"):
        phase.coherent_average(2)
    assert phase.precision().data.shape[0] == 2
