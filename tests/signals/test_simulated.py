"""Multislice images with exact truth, in the folder of shared data: the errors of x."""

import hyperspy.api as hs
import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import distance_transform_edt
from threadpoolctl import threadpool_limits

from hyperspy_lfp import materials

HKL = ((1, 0, 1), (1, 0, -1))
RESOLUTION = 0.8  # nm


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    with threadpool_limits(limits=1, user_api="blas"):  # pytest-xdist fills the cores
        yield


@pytest.fixture(scope="module")
def simulated(shared_data):
    folder = shared_data / "simulated"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


@pytest.fixture(scope="module")
def truth(simulated):
    with np.load(simulated / "movieA_truth.npz") as file:
        return {name: file[name] for name in file}


@pytest.fixture(scope="module")
def movies(simulated):
    """Movies by name, each read once."""
    loaded = {}

    def get(name):
        if name not in loaded:
            signal = hs.load(simulated / f"{name}.hspy")
            signal.set_signal_type("HRTEMMovie")
            loaded[name] = signal
        return loaded[name]

    return get


def _vectors(a, c, hkl=HKL):
    """x along a, y (down) along c."""
    return np.array([[h / a, l / c] for h, _, l in hkl])  # noqa: E741


def _truth_at(signal, truth, frame):
    """True x, and the distance from the edge in nm, at the samples of a map."""
    step = float(truth["stride"] * truth["pixel_nm"])
    mask = truth["mask"][frame]
    at = [np.arange(n) * step for n in mask.shape]
    x, y = (axis.axis for axis in signal.axes_manager.signal_axes)
    points = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)
    values = (truth["x"][frame], distance_transform_edt(mask) * step)
    return tuple(
        RegularGridInterpolator(at, v, bounds_error=False, fill_value=0.0)(points) for v in values
    )


def _errors(x, truth, margin):
    """Bias and rms of every frame, farther than a margin from the edge."""
    result = []
    for frame, values in enumerate(x.data):
        expected, distance = _truth_at(x, truth, frame)
        inside = distance >= margin
        error = (values - expected)[inside]
        assert inside.sum() > 300
        assert np.isfinite(error).all()
        result.append((error.mean(), np.sqrt(np.mean(error**2))))
    return np.array(result).T


def _concentration(movie, truth, hkl=HKL, **kwargs):
    g = _vectors(float(truth["a_FP_nm"]), float(truth["c_FP_nm"]), hkl)
    return movie.to_concentration(*g, resolution=RESOLUTION, hkl=hkl, **kwargs)


@pytest.mark.parametrize("name", ["movieA_dose100", "movieA_dose1000", "movieA_expected1e4"])
def test_movie_three_nanometres_inside(movies, truth, name):
    bias, rms = _errors(_concentration(movies(name), truth), truth, 3.0)
    assert np.all(np.abs(bias) <= 0.008)
    assert np.sqrt(np.mean(rms**2)) <= 0.017
    # a frame by itself has two dozen independent values there
    assert np.all(rms <= 0.02)


@pytest.mark.parametrize("name", ["movieA_dose100", "movieA_dose1000"])
def test_movie_nearer_to_the_edge(movies, truth, name):
    """1.5 nm, two resolutions, from the rim with its Fresnel fringe."""
    bias, rms = _errors(_concentration(movies(name), truth), truth, 1.5)
    assert np.all(np.abs(bias) <= 0.01)
    assert np.all(rms <= 0.03)


@pytest.mark.parametrize("hkl", [HKL, ((2, 0, 0), (1, 0, 1)), (*HKL, (2, 0, 0))])
@pytest.mark.parametrize("name", ["movieA_dose100", "movieA_dose1000"])
def test_predicted_error_covers_the_actual_one(movies, truth, name, hkl):
    """Noise, fronts narrower than the resolution, and rims: 0.7 to 1.3, or the pixel is flagged."""
    x = _concentration(movies(name), truth, hkl)
    flagged = x.flagged("inconsistent", "outside", "phase jump", "dislocation", "closure").data
    for low, high in ((1.5, 3.0), (3.0, np.inf)):
        actual, predicted, left = [], [], []
        for frame, values in enumerate(x.data):
            expected, distance = _truth_at(x, truth, frame)
            inside = (distance >= low) & (distance < high)
            kept = inside & ~flagged[frame]
            actual.append((values - expected)[kept] ** 2)
            predicted.append(x.get_noise_variance().data[frame][kept])
            left.append(kept.sum() / inside.sum())
        ratio = np.sqrt(np.mean(np.concatenate(actual)) / np.mean(np.concatenate(predicted)))
        assert 0.7 < ratio < 1.3
        # flags are for what is wrong: most of the particle is left
        assert np.mean(left) > (0.95 if low == 3.0 else 0.6)


def test_wrong_pixel_size_of_the_movie(movies, truth):
    """3 % is usual, and half of the whole change of a: it is said, and can be undone."""
    movie = movies("movieA_dose1000").deepcopy()
    for axis in movie.axes_manager.signal_axes:
        axis.scale *= 1.03
    with pytest.warns(UserWarning, match=r"pixels were about (2.9|3.0|3.1) % smaller"):
        x = _concentration(movie, truth)
    assert x.flagged("calibration").data[np.isfinite(x.data)].all()
    fitted = _concentration(movie, truth, nuisance="magnification")
    assert not fitted.flagged("calibration").data.any()
    for axis in fitted.axes_manager.signal_axes:
        axis.scale /= 1.03
        axis.offset /= 1.03
    bias, rms = _errors(fitted, truth, 3.0)
    # the scale of a frame is as good as the tables: 1e-3 of a length is 0.01 in x here
    assert np.all(np.abs(bias) <= 0.015)
    assert np.all(rms <= 0.025)


def test_counting_noise_of_a_uniform_crystal(movies, truth):
    """The first frame is pure LiFePO4, without disorder: noisy minus noise-free, gate and 10 %.

    One frame has two dozen independent values: 10 % of the rms.
    """
    noisy, clean = (
        _concentration(movies(name).inav[0], truth)
        for name in ("movieA_dose100", "movieA_expected1e4")
    )
    _, distance = _truth_at(noisy, truth, 0)
    inside = distance >= 2.0
    actual = ((noisy.data - clean.data)[inside] ** 2).mean()
    predicted = (noisy.standard_error("noise").data[inside] ** 2).mean()
    assert 0.8 < np.sqrt(predicted / actual) < 1.2


def test_found_and_indexed_vectors(movies, truth):
    """From the first frame, pure LiFePO4, without knowing anything: its vectors and indices."""
    movie = movies("movieA_dose100")
    found = movie.find_g_vectors(n=4, frames=0)
    hkl = movie.index_g_vectors(found)
    a, c = float(truth["a_LFP_nm"]), float(truth["c_LFP_nm"])
    for v, indices in zip(found, hkl, strict=True):
        assert indices is not None
        expected = _vectors(a, c, [indices])[0]
        off = min(
            np.linalg.norm(v * sign - expected * flip)
            for sign in (1, -1)
            for flip in ([1, 1], [1, -1])
        )
        # a tenth of an FFT pixel of the particle, 13 nm
        assert off < 0.1 / 13


def test_reference_region_of_the_first_frame(movies, truth):
    """x = 1 everywhere in the first frame, whatever the pixel size says."""
    movie = movies("movieA_dose1000").deepcopy()
    for axis in movie.axes_manager.signal_axes:
        axis.scale *= 1.03
    g = _vectors(float(truth["a_FP_nm"]), float(truth["c_FP_nm"]))
    roi = hs.roi.RectangularROI(7.5, 7.5, 12.5, 12.5)
    x = movie.to_concentration(
        *g, resolution=RESOLUTION, hkl=HKL, reference=roi, reference_frame=0, x_reference=1.0
    )
    for axis in x.axes_manager.signal_axes:
        axis.scale /= 1.03
        axis.offset /= 1.03
    bias, rms = _errors(x, truth, 3.0)
    # the reference has the error of its own frame: twice what absolute vectors are allowed
    assert np.all(np.abs(bias) <= 0.02)
    assert np.all(rms <= np.hypot(0.02, 0.01))


def test_mean_composition_against_time(movies, truth):
    """The evolution of the interior follows the truth within its standard errors and bias."""
    x = _concentration(movies("movieA_dose100"), truth)
    roi = hs.roi.RectangularROI(7.6, 7.0, 11.6, 12.0)
    evolution = x.evolution({"middle": roi})
    at_x, at_y = (axis.axis for axis in x.axes_manager.signal_axes)
    region = ((at_x >= 7.6) & (at_x < 11.6)) & ((at_y >= 7.0) & (at_y < 12.0))[:, None]
    expected = [_truth_at(x, truth, frame)[0][region].mean() for frame in range(len(x.data))]
    error = evolution.data[0] - expected
    assert np.all(np.abs(error) <= 0.01 + 2 * evolution.standard_error.data[0])
    assert np.all(np.diff(evolution.data[0]) < 0)
    seconds = evolution.axes_manager.signal_axes[0]
    np.testing.assert_allclose(seconds.axis, truth["time_s"])


@pytest.mark.parametrize("reference", ["FePO4", "LiFePO4"])
def test_perfect_crystals(simulated, movies, reference):
    """Five uniform crystals with the lattice of the simulation itself."""
    material = materials.Material(
        "simulated",
        composition=(0, 1),
        a=(9.821, 10.332),
        b=(5.792, 6.010),
        c=(4.788, 4.692),
        space_group="Pnma",
    )
    with np.load(simulated / "perfect_P1_truth.npz") as file:
        expected = file["x"]
    start = 0.0 if reference == "FePO4" else 1.0
    a, _, c = material.cell(start) / 10
    x = movies("perfect_P1").to_concentration(
        *_vectors(a, c), material=material, resolution=RESOLUTION, hkl=HKL, x_reference=start
    )
    at_x, at_y = (axis.axis for axis in x.axes_manager.signal_axes)
    inside = ((at_x > 4) & (at_x < 8.8)) & ((at_y > 4) & (at_y < 8.8))[:, None]
    error = x.data[:, inside] - expected[:, None]
    # the table of the truth gives spacings to 1e-5 nm: 0.0005 in x along a
    assert np.all(np.abs(error.mean(axis=1)) < 1e-3)
    assert np.all(np.abs(error) < 5e-3)
