"""The signal classes with data on a device, in memory and lazily.

Run with a stand-in that refuses what CuPy refuses, and with CuPy where there is a GPU, against
NumPy. HyperSpy's own `to_device` and `to_host` are used; HyperSpy and dask take the stand-in for
CuPy.
"""

import importlib.util
from pathlib import Path

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

# test files of different folders share no module
_SPEC = importlib.util.spec_from_file_location(
    "array_modules", Path(__file__).parents[1] / "array_modules.py"
)
modules = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(modules)

REGION = hs.roi.RectangularROI(4.0, -0.5, 6.0, 1.5)
#: By name: (region, frame) of the reference lattice.
REFERENCES = {
    "own g": (None, None),
    "region": (REGION, None),
    "frame": (None, 0),
    "frames": (None, slice(0, 2)),
    "region of a frame": (REGION, 0),
}


@pytest.fixture(params=[name for name in modules.NAMES if name != "numpy"])
def xp(request):
    with modules.array_module(request.param) as module:
        yield module


def _on_device(movie, xp):
    """A copy of a movie with its data on the device."""
    movie = movie.deepcopy()
    movie.to_device()
    assert isinstance(movie.data, xp.ndarray)
    return movie


def _lazy_on_device(movie, xp, helpers, monkeypatch):
    """A lazy movie whose blocks are on the device, two frames each; they are not joined."""
    monkeypatch.setattr("hyperspy_lfp.signals._frames.CHUNK_BYTES", 2 * movie.data[0].nbytes)
    data = da.from_array(movie.data, chunks=(2, -1, -1)).map_blocks(xp.asarray)
    lazy = helpers.as_movie(movie.data, lazy=True)
    lazy.data = data
    return lazy


def _same(found, expected, xp):
    """Equal data and noise, those found on the device."""
    rtol = modules.tolerance(xp)
    pairs = [(found.data, expected.data)]
    noise = [s.get_noise_variance() for s in (found, expected)]
    assert (noise[0] is None) == (noise[1] is None)
    if noise[0] is not None:
        pairs.append(tuple(s.data for s in noise))
    for one, other in pairs:
        assert isinstance(one, xp.ndarray)
        assert one.dtype == other.dtype
        one, other = modules.to_numpy(one), modules.to_numpy(other)
        size = np.nanmax(np.abs(other))
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * size)


@pytest.fixture
def phases(xp, movie, vectors, helpers):
    """Geometric phase on the host and on the device."""
    settings = {"resolution": helpers.resolution, "hkl": helpers.hkl, "show_progressbar": False}
    return movie.gpa(*vectors, **settings), _on_device(movie, xp).gpa(*vectors, **settings)


def test_gpa(xp, phases):
    host, device = phases
    assert isinstance(device.data, xp.ndarray)
    rtol = modules.tolerance(xp)
    for i in range(4):
        one, other = (modules.to_numpy(s.data[:, :, i]) for s in (device, host))
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * np.nanmax(np.abs(other)))
    device.to_host()
    assert isinstance(device.data, np.ndarray)


def test_gpa_of_one_frame(xp, movie, vectors, helpers):
    settings = {"resolution": helpers.resolution, "show_progressbar": False}
    found = _on_device(movie.inav[1], xp).gpa(*vectors, **settings)
    assert isinstance(found.data, xp.ndarray)
    expected = movie.inav[1].gpa(*vectors, **settings).data
    np.testing.assert_allclose(
        modules.to_numpy(found.data), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
    )


def test_amplitude_and_phase(xp, phases):
    host, device = phases
    _same(device.amplitude, host.amplitude, xp)
    _same(device.phase, host.phase, xp)


def test_g_vectors(xp, movie, vectors):
    device = _on_device(movie, xp)
    found = device.find_g_vectors(n=2)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, movie.find_g_vectors(n=2), rtol=1e-5)
    settings = {"reference": REGION, "frames": 0}
    np.testing.assert_allclose(
        device.refine_g_vectors(vectors, **settings),
        movie.refine_g_vectors(vectors, **settings),
        rtol=1e-5,
    )


@pytest.mark.parametrize("reference", REFERENCES)
def test_strain(xp, phases, reference):
    host, device = (
        p.strain(*REFERENCES[reference], angle=12.0, show_progressbar=False) for p in phases
    )
    _same(device, host, xp)


def test_components_and_rotation(xp, phases):
    host, device = (p.strain(REGION, show_progressbar=False) for p in phases)
    _same(device.exx, host.exx, xp)
    turned = [s.rotate(30.0, show_progressbar=False) for s in (device, host)]
    _same(*turned, xp)


def test_to_host_takes_the_noise_along(xp, phases):
    _, device = phases
    strain = device.strain(show_progressbar=False)
    strain.to_host()
    assert isinstance(strain.data, np.ndarray)
    assert isinstance(strain.get_noise_variance().data, np.ndarray)


@pytest.mark.parametrize("reference", REFERENCES)
def test_concentration(xp, phases, reference):
    host, device = (
        p.to_concentration("LiFePO4", *REFERENCES[reference], show_progressbar=False)
        for p in phases
    )
    _same(device, host, xp)


def test_concentration_of_strain(xp, phases):
    direction = (np.cos(np.deg2rad(12)), -np.sin(np.deg2rad(12)))
    host, device = (
        p.strain(REGION, 0, show_progressbar=False).to_concentration(
            "LiFePO4", direction, show_progressbar=False
        )
        for p in phases
    )
    _same(device, host, xp)


def test_evolution(xp, phases):
    host, device = (
        p.to_concentration("LiFePO4", show_progressbar=False).evolution(
            {"region": REGION, "disc": hs.roi.CircleROI(5.0, 0.5, 1.0)}, show_progressbar=False
        )
        for p in phases
    )
    _same(device, host, xp)


def test_c_rate(xp, phases):
    host, device = (
        modules.to_numpy(
            p.to_concentration("LiFePO4", show_progressbar=False)
            .c_rate(show_progressbar=False)
            .data
        )
        for p in phases
    )
    rtol = modules.tolerance(xp)
    np.testing.assert_allclose(device, host, rtol=rtol, atol=rtol * np.abs(host).max())


@pytest.mark.parametrize("lazy", [False, True])
def test_the_whole_chain(xp, movie, vectors, helpers, lazy, monkeypatch):
    """In one call, as the documentation has it."""
    if lazy:
        device = _lazy_on_device(movie, xp, helpers, monkeypatch)
    else:
        device = _on_device(movie, xp)
    settings = {"reference_frame": 0, "resolution": helpers.resolution, "show_progressbar": False}
    found = device.to_concentration(*vectors, **settings)
    if lazy:
        found.compute(num_workers=2, show_progressbar=False)
    expected = movie.to_concentration(*vectors, **settings)
    _same(found, expected, xp)


@pytest.mark.parametrize("reference", REFERENCES)
def test_displacement(xp, phases, reference):
    """On the host, and back to the device."""
    host, device = (p.displacement(*REFERENCES[reference], show_progressbar=False) for p in phases)
    _same(device, host, xp)


@pytest.mark.parametrize("method", ["correlation", "phase"])
def test_drift(xp, movie, vectors, method):
    device = _on_device(movie, xp)
    settings = {"method": method, "g": vectors, "show_progressbar": False}
    drift = device.estimate_drift(**settings)
    expected = movie.estimate_drift(**settings)
    np.testing.assert_allclose(drift.data, expected.data, rtol=1e-4, atol=1e-6)
    corrected = device.correct_drift(drift, show_progressbar=False)
    _same(corrected, movie.correct_drift(expected, show_progressbar=False), xp)


@pytest.mark.parametrize("reference", REFERENCES)
def test_lazy_blocks(xp, movie, vectors, helpers, phases, reference, monkeypatch):
    """From a movie whose blocks are sent to the device one by one."""
    lazy = _lazy_on_device(movie, xp, helpers, monkeypatch)
    settings = {"resolution": helpers.resolution, "hkl": helpers.hkl}
    phase = lazy.gpa(*vectors, **settings)
    assert phase._lazy
    assert max(phase.data.numblocks) > 1
    for step, arguments in (
        ("strain", REFERENCES[reference]),
        ("displacement", REFERENCES[reference]),
        ("to_concentration", ("LiFePO4", *REFERENCES[reference])),
    ):
        found = getattr(phase, step)(*arguments)
        assert found._lazy
        found.compute(show_progressbar=False)
        _same(found, getattr(phases[0], step)(*arguments, show_progressbar=False), xp)


def test_lazy_blocks_stay_frames(xp, movie, vectors, helpers, monkeypatch):
    """A chunk of the movie is on the device by itself; g vectors and drift of it are numbers."""
    lazy = _lazy_on_device(movie, xp, helpers, monkeypatch)
    np.testing.assert_allclose(lazy.find_g_vectors(n=2), movie.find_g_vectors(n=2), rtol=1e-5)
    drift = lazy.estimate_drift(method="phase", g=vectors, lazy_output=False)
    assert isinstance(drift.data, np.ndarray)
    expected = movie.estimate_drift(method="phase", g=vectors, show_progressbar=False)
    np.testing.assert_allclose(drift.data, expected.data, rtol=1e-4, atol=1e-6)


def test_lazy_blocks_back_to_the_host(xp, movie, vectors, helpers, monkeypatch):
    """Block by block, so that the results of a long movie need not fit on the device."""
    lazy = _lazy_on_device(movie, xp, helpers, monkeypatch)
    strain = lazy.gpa(*vectors, resolution=helpers.resolution).strain()
    back = strain.data.map_blocks(modules.to_numpy, dtype=strain.data.dtype).compute()
    assert isinstance(back, np.ndarray)
    expected = movie.gpa(*vectors, resolution=helpers.resolution, show_progressbar=False)
    expected = expected.strain(show_progressbar=False).data
    np.testing.assert_allclose(back, expected, rtol=1e-5, atol=1e-5 * np.nanmax(np.abs(expected)))
