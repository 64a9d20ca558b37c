"""Our signals behave as signals of HyperSpy do."""

import copy
import logging
import warnings

import hyperspy.api as hs
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hyperspy.extensions import ALL_EXTENSIONS
from hyperspy.signal import BaseSignal

import hyperspy_lfp.signals
from hyperspy_lfp.signals import HRTEMMovie

ALIASES = {
    "HRTEMMovie": "hrtem_movie",
    "GeometricPhase": "geometric_phase",
    "DisplacementField": "displacement_field",
    "LatticeStrain": "lattice_strain",
    "ConcentrationMap": "concentration_map",
    "ConcentrationEvolution": "concentration_evolution",
    "DiffractionSeries": "diffraction_series",
    "SpotProfile": "spot_profile",
    "SpotTrack": "spot_track",
}
CLASSES = list(ALIASES)
REGION = hs.roi.RectangularROI(4.0, -0.5, 6.0, 1.5)


@pytest.fixture(scope="module")
def steps(images, vectors, helpers):
    return helpers.steps(helpers.as_movie(images), vectors, show_progressbar=False)


@pytest.fixture(params=CLASSES)
def signal(request, steps):
    return steps[request.param].deepcopy()


@pytest.fixture
def x(steps):
    return steps["ConcentrationMap"].deepcopy()


@pytest.fixture
def strain(steps):
    return steps["LatticeStrain"].deepcopy()


def noise_of(signal):
    node = signal.metadata.get_item("Signal.Noise_properties", default=None)
    return {} if node is None else {k: v for k, v in node if isinstance(v, BaseSignal)}


# --- the class ---


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("kind", ["name", "alias"])
@pytest.mark.parametrize("name", CLASSES)
def test_set_signal_type(name, kind, lazy):
    generic = {
        "GeometricPhase": hs.signals.ComplexSignal2D(np.zeros((2, 4, 5), complex)),
        **{
            name: hs.signals.Signal1D(np.zeros((2, 5)))
            for name in ("ConcentrationEvolution", "SpotProfile", "SpotTrack")
        },
    }.get(name, hs.signals.Signal2D(np.zeros((2, 4, 5))))
    signal = generic.as_lazy() if lazy else generic
    signal.set_signal_type(name if kind == "name" else ALIASES[name])
    assert type(signal) is getattr(hyperspy_lfp.signals, ("Lazy" if lazy else "") + name)
    assert signal.metadata.Signal.signal_type == name
    signal.set_signal_type("")
    assert "hyperspy_lfp" not in type(signal).__module__


def test_every_dtype_becomes_a_movie():
    for dtype in ("uint8", "int16", "uint32", "float32", ">f8"):
        signal = hs.signals.Signal2D(np.zeros((3, 4, 5), dtype))
        signal.set_signal_type("hrtem_movie")
        assert type(signal) is HRTEMMovie


def test_known_to_hyperspy(capsys):
    hs.print_known_signal_types()
    assert "hyperspy_lfp" in capsys.readouterr().out
    for name, alias in ALIASES.items():
        assert ALL_EXTENSIONS["signals"][name]["signal_type_aliases"] == [alias]
        assert ALL_EXTENSIONS["signals"][f"Lazy{name}"]["module"] == "hyperspy_lfp.signals"


def test_copies_keep_class_and_content(signal):
    name = type(signal).__name__
    lazy = signal.as_lazy()
    assert type(lazy).__name__ == f"Lazy{name}"
    for other in (lazy, copy.deepcopy(lazy), lazy + 1, signal.deepcopy(), copy.copy(signal)):
        assert type(other).__name__.removeprefix("Lazy") == name
    lazy.compute(show_progressbar=False)
    assert type(lazy) is type(signal)
    np.testing.assert_array_equal(lazy.data, signal.data)
    assert lazy.metadata.get_item("HyperspyLFP", "none") == signal.metadata.get_item(
        "HyperspyLFP", "none"
    ) or (lazy.metadata.HyperspyLFP.as_dictionary() == signal.metadata.HyperspyLFP.as_dictionary())
    signal.change_dtype(signal.data.dtype.newbyteorder("="))
    assert type(signal).__name__ == name


def test_slices_keep_the_class(signal):
    assert type(signal.inav[..., 1:]) is type(signal)
    assert type(signal.isig[1:4]) is type(signal)
    assert "dimensions" in repr(signal) and type(signal).__name__ in repr(signal)
    assert str(signal.metadata) and str(signal.axes_manager)


def test_general_methods_do_not_crash(signal):
    for result in (signal.T, signal.sum(), signal.mean(0), signal.max(), signal.squeeze(), -signal):
        assert isinstance(result, BaseSignal)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        signal.nanmean()
    assert np.isfinite(signal.fft().data).any()


def test_real_and_imaginary_parts(steps):
    phase = steps["GeometricPhase"]
    for part in (phase.real, phase.imag, phase.angle()):
        assert type(part) is hs.signals.Signal2D
        assert part.data.shape == phase.data.shape


# --- plots ---


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("name", CLASSES)
def test_plot(steps, name, lazy):
    signal = steps[name].as_lazy() if lazy else steps[name].deepcopy()
    before = len(plt.get_fignums())
    signal.plot()
    assert len(plt.get_fignums()) > before
    last = signal.axes_manager.navigation_axes[-1]
    last.index = 1
    plt.close("all")


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("representation", ["cartesian", "polar"])
def test_plot_of_a_phase(steps, representation, lazy):
    phase = steps["GeometricPhase"]
    phase = phase.as_lazy() if lazy else phase.deepcopy()
    phase.plot(representation=representation, cmap="twilight")
    assert len(plt.get_fignums()) >= 2


@pytest.mark.parametrize("lazy", [False, True])
def test_plot_of_parts(steps, lazy):
    strain, phase, u, evolution = (
        steps[n].as_lazy() if lazy else steps[n]
        for n in ("LatticeStrain", "GeometricPhase", "DisplacementField", "ConcentrationEvolution")
    )
    for part in (strain.exx, strain.rotation, phase.amplitude, phase.phase, u.ux):
        part.plot(cmap="RdBu_r", vmin=-0.05, vmax=0.05)
        assert plt.get_fignums()
        plt.close("all")
    evolution.standard_error.plot()
    hs.plot.plot_spectra(evolution.inav[:2])
    hs.plot.plot_images([strain.exx.inav[0], strain.eyy.inav[0]], tight_layout=False)


@pytest.mark.parametrize("value", [np.nan, 0.5])
def test_plot_of_maps_without_numbers(x, value):
    x.data[1] = value
    x.data[:, 3:9] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        x.plot()
        x.axes_manager.navigation_axes[0].index = 1
        plt.close("all")
        x.inav[1].plot()
    assert plt.get_fignums()


def test_plot_passes_arguments_on(x):
    x.plot(navigator=None, cmap="magma", vmin=0, vmax=1)
    image = x._plot.signal_plot.ax.images[0]
    assert image.get_cmap().name == "magma" and image.get_clim() == (0, 1)
    assert x._plot.navigator_plot is None
    x.plot("slider", plot_markers=False)
    label = x._plot.signal_plot._colorbar.ax.get_ylabel()
    assert "x (Li)" in label


@pytest.mark.parametrize("name", ["GeometricPhase", "ConcentrationMap", "ConcentrationEvolution"])
def test_a_stored_navigator_is_not_passed_on(images, vectors, helpers, name):
    """It is of the movie: another signal has other navigation axes."""
    movie = helpers.as_movie(images, lazy=True)
    movie.compute_navigator()
    assert movie.navigator is not None
    for lazy_output in (True, False):
        signal = helpers.steps(movie, vectors, lazy_output=lazy_output)[name]
        assert signal.navigator is None
        signal.plot()
        plt.close("all")


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("frames", [slice(None), 2], ids=["movie", "frame"])
def test_permanent_markers(images, vectors, helpers, tmp_path, frames, lazy):
    """What was marked in the movie is marked in its maps, at the same place."""
    movie = helpers.as_movie(images[frames], lazy=lazy)
    marker = hs.plot.markers.Points(offsets=[[4.0, 1.0]], sizes=8)
    movie.add_marker(marker, permanent=True, plot_marker=False)
    steps = helpers.steps(movie, vectors)
    for signal in steps.values():
        (copied,) = dict(signal.metadata.Markers).values()
        assert type(copied) is hs.plot.markers.Points
        assert signal is movie or copied is not marker
    x = steps["ConcentrationMap"]
    x.plot()
    x.save(tmp_path / "x.hspy")
    found = hs.load(tmp_path / "x.hspy")
    assert found.metadata.Markers.Points.kwargs["offsets"].tolist() == [[4.0, 1.0]]


def test_interactive_region(x):
    """A ROI that is moved on a map moves what is computed from it."""
    x.plot()
    roi = hs.roi.RectangularROI(4.0, 0.0, 5.0, 1.0)
    part = roi.interactive(x)
    assert type(part) is type(x)
    mean = hs.interactive(
        lambda: x.evolution(roi, show_progressbar=False), event=roi.events.changed
    )
    first = mean.data.copy()
    np.testing.assert_allclose(first[0], x.evolution(roi).data[0])
    roi.right, roi.bottom = 7.0, 2.0
    roi.left = 5.0
    np.testing.assert_allclose(mean.data[0], x.evolution(roi).data[0])
    assert abs(mean.data - first).max() > 0
    assert part.axes_manager.signal_axes[0].axis[0] >= 5.0


def test_region_of_a_map_as_reference(movie, vectors, x):
    """A ROI drawn on a map or on the frame serves as reference: the axes are the same."""
    x.plot()
    roi = hs.roi.CircleROI(5.0, 1.0, 0.8)
    roi.add_widget(x)
    phase = movie.gpa(*vectors, resolution=0.6)
    np.testing.assert_array_equal(
        phase.strain(roi).data, phase.strain(hs.roi.CircleROI(5.0, 1.0, 0.8)).data
    )


# --- noise when HyperSpy changes the data ---


def test_stacking_along_time(x, strain):
    whole = hs.stack([x.inav[:2], x.inav[2:]], axis="time", show_progressbar=False)
    assert type(whole) is type(x)
    np.testing.assert_array_equal(whole.data, x.data)
    np.testing.assert_array_equal(whole.get_noise_variance().data, x.get_noise_variance().data)
    np.testing.assert_array_equal(whole.evolution().data, x.evolution().data)
    # of the layers, HyperSpy stacks the variance only; without the systematic part it counts whole
    with pytest.warns(UserWarning, match="systematic_variance.*left out"):
        error = whole.evolution().standard_error.data
    assert np.all(error >= x.evolution().standard_error.data)
    parts = hs.stack([strain.inav[:, :2], strain.inav[:, 2:]], axis="time", show_progressbar=False)
    with pytest.warns(UserWarning, match="covariance_with_exy.*left out"):
        np.testing.assert_array_equal(parts.exx.data, strain.exx.data)
    with pytest.warns(UserWarning, match="covariance_with_exy.*left out"):
        turned = parts.rotate(20.0)
    np.testing.assert_array_equal(turned.data, strain.rotate(20.0).data)
    assert not noise_of(turned)


def test_stacking_samples(x, strain):
    """HyperSpy (2.5) puts the variances together along another axis than the data: no guess."""
    both = hs.stack([x, x], new_axis_name="sample", show_progressbar=False)
    fits = both.get_noise_variance().data.shape == both.data.shape
    if fits:
        evolution = both.evolution()
        assert np.isfinite(evolution.standard_error.data).all()
    else:
        with pytest.warns(UserWarning, match=r"variance.*\(2, 5, 22, 22\).*left out"):
            evolution = both.evolution()
        assert np.isnan(evolution.standard_error.data).all()
    for i in (0, 1):
        np.testing.assert_array_equal(evolution.data[i], x.evolution().data)
    strains = hs.stack([strain, strain], new_axis_name="sample", show_progressbar=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* is left out", UserWarning)
        np.testing.assert_array_equal(strains.exy.data[1], strain.exy.data)
        assert not noise_of(strains.rotate(5.0))
        y = strains.to_concentration(a_direction=(1, 0))
    assert y.get_noise_variance() is None


def test_stack_of_movies(movie, vectors):
    stack = hs.stack([movie, movie], new_axis_name="sample", show_progressbar=False)
    x = stack.to_concentration(*vectors, resolution=0.6)
    expected = movie.to_concentration(*vectors, resolution=0.6)
    for part in x.data:
        np.testing.assert_array_equal(part, expected.data)
    assert x.metadata.HyperspyLFP.source_title == "Stack of small movie"


def test_cropping(x):
    """HyperSpy does not crop the variance; it is left out rather than misplaced."""
    part = x.deepcopy()
    part.crop("time", 1, 3)
    np.testing.assert_array_equal(part.data, x.data[1:3])
    with pytest.warns(UserWarning, match="variance.*left out"):
        evolution = part.evolution()
    np.testing.assert_array_equal(evolution.data, x.evolution().data[:, 1:3])


def test_averaging_and_binning(x):
    mean = x.mean("time")
    assert type(mean) is type(x) and mean.get_noise_variance() is None
    np.testing.assert_allclose(mean.evolution().data[0, 0], x.evolution().data.mean(), rtol=1e-6)
    coarse = x.rebin(scale=(1, 2, 2)) / 4
    assert type(coarse) is type(x)
    np.testing.assert_allclose(coarse.evolution().data, x.evolution().data, rtol=1e-5)


def test_one_number_as_variance(x):
    """HyperSpy allows it."""
    same = x.deepcopy()
    same.metadata.Signal.Noise_properties.variance.data[:] = 0.01
    del same.metadata.Signal.Noise_properties.systematic_variance
    x.set_noise_variance(0.01)
    error = x.evolution().standard_error.data
    assert np.all(error > 0)
    np.testing.assert_allclose(error, same.evolution().standard_error.data, rtol=1e-6)
    x.set_noise_variance(None)
    assert np.isnan(x.evolution().standard_error.data).all()


@pytest.mark.parametrize("name", ["GeometricPhase", "LatticeStrain", "DisplacementField"])
def test_axes_in_another_order(steps, name):
    """A stack of maps whose axes were exchanged is refused, not misread."""
    signal = steps[name].deepcopy().rollaxis("time", 0)
    signal = signal.deepcopy()
    moved = signal.rollaxis(signal.axes_manager.navigation_axes[0].name, "time")
    call = {
        "GeometricPhase": lambda s: s.strain(),
        "LatticeStrain": lambda s: s.rotate(10.0),
        "DisplacementField": lambda s: s.ux,
    }[name]
    call(steps[name])
    tried = 0
    for other in (signal, moved):
        order = [a.name for a in other.axes_manager._axes]
        if order == [a.name for a in steps[name].axes_manager._axes]:
            np.testing.assert_array_equal(call(other).data, call(steps[name]).data)
            continue
        tried += 1
        with pytest.raises(ValueError, match=f"{name} have been reordered"):
            call(other)
    assert tried


# --- thresholds ---


def test_threshold(movie, vectors):
    """Part of the typical amplitude below which there is no lattice."""
    rows = np.arange(movie.data.shape[-1]) / movie.data.shape[-1]
    faded = movie.deepcopy()
    faded.data = 1000 + (movie.data - 1000.0) * np.linspace(1, 0.1, rows.size)
    phase = faded.gpa(*vectors, resolution=0.6, mask=None)  # else the faded part is vacuum
    missing = [np.isnan(phase.strain(threshold=t).data).mean() for t in (0, 0.2, 0.4, 0.6, 0.8)]
    assert missing == sorted(missing)
    assert missing[0] < 0.05 and 0.2 < missing[3] < 0.7
    x = phase.to_concentration(threshold=0.6)
    strain = phase.strain(threshold=0.6)
    np.testing.assert_array_equal(np.isnan(x.data), np.isnan(strain.data[:, 0]))
    np.testing.assert_array_equal(np.isnan(x.data), np.isnan(x.get_noise_variance().data))
    assert x.metadata.HyperspyLFP.ConcentrationMap.threshold == 0.6
    u = phase.displacement(threshold=0.6)
    assert np.isnan(u.data).mean() >= np.isnan(x.data).mean()
    assert np.isnan(phase.strain(threshold=5).data).all()


# --- quiet ---


def test_a_normal_chain_is_quiet(images, vectors, helpers, tmp_path, caplog):
    """No warnings, no messages of the log."""
    data = images.astype(np.float32)
    data[1] = np.nan
    data[2, :20, :20] = np.nan
    for lazy in (False, True):
        with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
            warnings.simplefilter("error")
            # the file formats of others
            warnings.filterwarnings("ignore", module="(zarr|h5py|rsciio)")
            movie = helpers.as_movie(data, lazy=lazy)
            g = movie.refine_g_vectors(movie.find_g_vectors(n=2))
            movie.index_g_vectors(g)
            movie = movie.correct_drift(movie.estimate_drift())
            for signal in helpers.steps(movie, vectors).values():
                path = tmp_path / f"{type(signal).__name__}_{lazy}.hspy"
                signal.save(path, show_progressbar=False)
                again = hs.load(path, lazy=lazy)
                if lazy:
                    again.compute(close_file=True, show_progressbar=False)
            strain = helpers.steps(movie, vectors)["LatticeStrain"]
            x = strain.rotate(10).to_concentration(a_direction=(1, 0))
            assert x.evolution().standard_error.data.shape == (1, 5)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
