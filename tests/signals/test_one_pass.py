"""Several lazy results in one pass over the movie, into memory or into files."""

import contextlib
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import dask
import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_lfp
from hyperspy_lfp.signals import _frames

REGION = hs.roi.RectangularROI(4.0, -0.5, 6.0, 1.5)
QUIET = {"show_progressbar": False}


def results_of(movie, vectors, **kwargs):
    """What one wants of a movie, all at once; x is made in another way, by itself."""
    phase = movie.gpa(*vectors, resolution=0.6)
    x = movie.to_concentration(*vectors, resolution=0.6, **kwargs)
    return {
        "phase": phase,
        "strain": phase.strain(**kwargs),
        "x": x,
        "evolution": x.evolution({"a": REGION}),
        "exx": phase.strain(**kwargs).exx,
        "amplitude": phase.amplitude,
    }


def noise_of(signal):
    noise = signal.metadata.get_item("Signal.Noise_properties", default=None)
    return {} if noise is None else {key: s for key, s in noise if hasattr(s, "data")}


def assert_same(found, expected):
    assert not found._lazy and type(found) is type(expected)
    np.testing.assert_array_equal(found.data, expected.data)
    assert noise_of(found).keys() == noise_of(expected).keys()
    for key, noise in noise_of(found).items():
        assert not noise._lazy
        np.testing.assert_array_equal(noise.data, noise_of(expected)[key].data)


@pytest.fixture
def reader(images, helpers):
    return helpers.Reader(images)


@pytest.fixture
def lazy_movie(reader, helpers, monkeypatch):
    """Of one frame a chunk, which is a task by itself."""
    monkeypatch.setattr(_frames, "CHUNK_BYTES", 1)
    return helpers.as_movie(reader.as_dask(), lazy=True)


@pytest.fixture(scope="module")
def expected(images, vectors, helpers):
    """The results in memory."""
    return results_of(helpers.as_movie(images), vectors)


@pytest.mark.parametrize("frame", [None, 0, slice(1, 4)])
@pytest.mark.parametrize("bundle", [1, 2, 5], ids="{} frames a task".format)
def test_compute_reads_each_frame_once(reader, lazy_movie, vectors, monkeypatch, frame, bundle):
    phase = lazy_movie.gpa(*vectors, resolution=0.6)
    monkeypatch.setattr(_frames, "CHUNK_BYTES", bundle * phase.data[0].nbytes)
    results = results_of(lazy_movie, vectors, reference=REGION, reference_frame=frame)
    assert results["x"].data.numblocks[0] == -(-len(reader.frames) // bundle)
    hyperspy_lfp.compute(*results.values(), **QUIET)
    assert reader.counts.tolist() == [1] * len(reader.frames)
    assert not any(s._lazy for s in results.values())


@pytest.mark.parametrize("frame", [None, 0])
def test_same_numbers_as_one_by_one(lazy_movie, movie, vectors, frame):
    kwargs = {"reference": REGION, "reference_frame": frame}
    results = results_of(lazy_movie, vectors, **kwargs)
    hyperspy_lfp.compute(*results.values(), **QUIET)
    for name, expected in results_of(movie, vectors, **kwargs).items():
        assert_same(results[name], expected)


@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
def test_save_reads_each_frame_once(
    reader, lazy_movie, expected, vectors, tmp_path, suffix, capsys
):
    results = results_of(lazy_movie, vectors)
    files = {tmp_path / "new" / f"{name}.{suffix}": s for name, s in results.items()}
    hyperspy_lfp.save(files, **QUIET)
    assert reader.counts.tolist() == [1] * len(reader.frames)
    assert capsys.readouterr().out == ""
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == sorted(p.name for p in files)
    for name, signal in expected.items():
        assert results[name]._lazy
        path = tmp_path / "new" / f"{name}.{suffix}"
        assert_same(hs.load(path), signal)
        found = hs.load(path, lazy=True)
        found.compute(close_file=True, **QUIET)
        assert_same(found, signal)


def test_save_reads_a_reference_frame_once(reader, lazy_movie, vectors, tmp_path):
    results = results_of(lazy_movie, vectors, reference_frame=0)
    hyperspy_lfp.save({tmp_path / f"{n}.zspy": results[n] for n in ("strain", "x")}, **QUIET)
    assert reader.counts.tolist() == [1] * len(reader.frames)


def test_one_after_the_other_would_read_more(reader, lazy_movie, vectors):
    """That the frames are counted at all."""
    for signal in results_of(lazy_movie, vectors).values():
        signal.compute(**QUIET)
    assert reader.counts.min() > 1


def test_what_is_in_memory_stays_as_it_is(movie, lazy_movie, reader, vectors, tmp_path):
    eager, lazy = (s.to_concentration(*vectors, resolution=0.6) for s in (movie, lazy_movie))
    data = eager.data
    hyperspy_lfp.compute()
    hyperspy_lfp.compute(eager, show_progressbar=True)
    assert eager.data is data and not eager._lazy
    hyperspy_lfp.save({}, **QUIET)
    hyperspy_lfp.save({tmp_path / "eager.hspy": eager}, **QUIET)
    hyperspy_lfp.save({tmp_path / "eager.zspy": eager, tmp_path / "lazy.hspy": lazy}, **QUIET)
    assert eager.data is data and lazy._lazy
    for name in ("eager.hspy", "eager.zspy", "lazy.hspy"):
        assert_same(hs.load(tmp_path / name), eager)
    hyperspy_lfp.compute(lazy, eager, lazy, **QUIET)
    assert_same(lazy, eager)


def test_noise_may_be_lazy_alone(lazy_movie, movie, vectors, tmp_path):
    x, expected = (s.to_concentration(*vectors, resolution=0.6) for s in (lazy_movie, movie))
    mixed = expected.deepcopy()
    mixed.metadata.Signal.Noise_properties.variance = x.get_noise_variance()
    hyperspy_lfp.save({tmp_path / "x.hspy": mixed}, **QUIET)
    assert_same(hs.load(tmp_path / "x.hspy"), expected)
    hyperspy_lfp.compute(mixed, **QUIET)
    assert_same(mixed, expected)


@pytest.mark.parametrize("way", ["compute", "save"])
def test_number_of_workers(images, vectors, helpers, tmp_path, monkeypatch, way):
    """One worker works on one frame at a time."""
    lock, met = threading.Lock(), []

    def hold(block):
        met.append(not lock.acquire(blocking=False))
        time.sleep(0.02)
        if not met[-1]:
            lock.release()
        return block

    frames = da.from_array(images, chunks=(1, -1, -1))
    frames = frames.map_blocks(hold, dtype=frames.dtype, meta=frames._meta)
    monkeypatch.setattr(_frames, "CHUNK_BYTES", 1)
    movie = helpers.as_movie(frames, lazy=True)
    phase, drift = movie.gpa(*vectors, resolution=0.6), movie.estimate_drift()
    if way == "compute":
        hyperspy_lfp.compute(phase, drift, num_workers=1, **QUIET)
    else:
        files = {tmp_path / "phase.zspy": phase, tmp_path / "drift.zspy": drift}
        hyperspy_lfp.save(files, num_workers=1, **QUIET)
    assert len(met) == len(images) and not any(met)


@pytest.mark.parametrize("what", ["compute", "save"])
def test_progress_bar(lazy_movie, vectors, tmp_path, capsys, monkeypatch, what):
    monkeypatch.setattr(hs.preferences.General, "show_progressbar", False)
    x = lazy_movie.to_concentration(*vectors, resolution=0.6)
    for i, wanted in enumerate((None, False, True)):
        if what == "save":
            hyperspy_lfp.save({tmp_path / f"{i}.hspy": x}, show_progressbar=wanted)
        else:
            hyperspy_lfp.compute(x.deepcopy(), show_progressbar=wanted)
        assert ("100%" in capsys.readouterr().out) is (wanted is True)


def test_keywords_go_to_the_writer(lazy_movie, vectors, tmp_path):
    h5py = pytest.importorskip("h5py")
    phase = lazy_movie.gpa(*vectors, resolution=0.6)
    hyperspy_lfp.save({tmp_path / "phase": phase}, compression=None, **QUIET)
    with h5py.File(tmp_path / "phase.hspy") as file:
        (group,) = file["Experiments"].values()
        assert group["data"].compression is None


@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
def test_a_file_that_the_data_come_from(steps_on_disk, images, vectors, tmp_path, helpers, suffix):
    path, other, expected = steps_on_disk(suffix)
    found = hs.load(path, lazy=True)
    hyperspy_lfp.save(
        {path: found.strain(reference_frame=0), other: found}, overwrite=True, **QUIET
    )
    assert_same(hs.load(path), expected.strain(reference_frame=0))
    assert_same(hs.load(other), expected)


@pytest.fixture
def steps_on_disk(movie, vectors, tmp_path):
    def save(suffix):
        expected = movie.gpa(*vectors, resolution=0.6)
        path, other = tmp_path / f"phase.{suffix}", tmp_path / f"other.{suffix}"
        for p in (path, other):
            expected.save(p)
        return path, other, expected

    return save


@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
def test_nothing_is_lost_by_an_error(steps_on_disk, broken_movie, vectors, tmp_path, suffix):
    path, other, expected = steps_on_disk(suffix)
    broken = broken_movie.to_concentration(*vectors, resolution=0.6)

    def intact():
        for p in (path, other):
            assert_same(hs.load(p), expected)
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted((path.name, other.name))

    # an eager signal comes first, and still nothing is written
    with pytest.raises(RuntimeError, match="the movie was read"):
        hyperspy_lfp.save({path: expected.strain(), other: broken}, overwrite=True, **QUIET)
    assert broken._lazy and isinstance(broken.data, da.Array)
    intact()
    with pytest.raises(RuntimeError, match="the movie was read"):
        hyperspy_lfp.compute(broken, **QUIET)
    assert broken._lazy and isinstance(broken.get_noise_variance().data, da.Array)


def test_files_that_are_kept(steps_on_disk, broken_movie, vectors, tmp_path, monkeypatch):
    """They are not written, and what was to be saved in them is not computed."""
    path, other, expected = steps_on_disk("hspy")
    broken = broken_movie.to_concentration(*vectors, resolution=0.6)
    strain = expected.strain()
    new = tmp_path / "new.hspy"
    hyperspy_lfp.save({path: broken, new: strain}, overwrite=False, **QUIET)
    assert_same(hs.load(path), expected)
    assert_same(hs.load(new), strain)

    asked = []

    def answer(message):
        asked.append(message)
        return "n" if path.name in message else "y"

    monkeypatch.setattr("builtins.input", answer)
    hyperspy_lfp.save({path.with_suffix(""): broken, other: strain}, **QUIET)
    assert [p.name in m for p, m in zip((path, other), asked, strict=True)] == [True, True]
    assert_same(hs.load(path), expected)
    assert_same(hs.load(other), strain)


def test_asked_for_a_file_without_its_extension(lazy_movie, vectors, tmp_path, monkeypatch):
    """It is computed before the file is emptied: the data may come from there."""
    path = tmp_path / "phase.hspy"
    lazy_movie.gpa(*vectors, resolution=0.6).save(path, **QUIET)
    expected = hs.load(path)
    asked = []
    monkeypatch.setattr("builtins.input", lambda message: asked.append(message) or "y")
    hs.load(path, lazy=True).save(tmp_path / "phase", **QUIET)
    hs.load(path, lazy=True).save(tmp_path, **QUIET)
    hs.load(path, lazy=True).save(**QUIET)
    assert len(asked) == 3 and all("phase.hspy" in message for message in asked)
    assert_same(hs.load(path), expected)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_no_name_is_an_error_at_once(broken_movie, vectors):
    with pytest.raises(ValueError, match="File name not defined"):
        broken_movie.to_concentration(*vectors, resolution=0.6).save(**QUIET)


def test_bad_input(broken_movie, vectors, tmp_path):
    x = broken_movie.to_concentration(*vectors, resolution=0.6)
    with pytest.raises(TypeError, match="argument 2 of compute is a Array"):
        hyperspy_lfp.compute(x, x.data)
    cases = [
        ([x], TypeError, "signals is a list, but must be a dictionary"),
        ({tmp_path / "a.hspy": x.data}, TypeError, r"signals\['.*a.hspy'\] is a Array"),
        ({3: x}, TypeError, "signals has the key 3"),
        ({"a.hspy": x, "a": x}, ValueError, "two signals for the same file"),
        ({tmp_path / "a.doc": x}, ValueError, "'.doc': use .hspy or .zspy"),
    ]
    for signals, error, message in cases:
        with pytest.raises(error, match=message):
            hyperspy_lfp.save(signals, **QUIET)
    with pytest.raises(ValueError, match="overwrite='yes'"):
        hyperspy_lfp.save({tmp_path / "a.hspy": x}, overwrite="yes", **QUIET)
    assert not list(tmp_path.iterdir())


NO_NOISE = ("HRTEMMovie", "GeometricPhase", "DisplacementField")


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_schedulers(images, movie, vectors, helpers, expected, tmp_path, scheduler):
    """A writer of HDF5 cannot be sent to another process, nor an open file."""
    lazy = helpers.as_movie(da.from_array(images, chunks=(-1, -1, -1)), lazy=True)
    results = results_of(lazy, vectors)
    together = {tmp_path / f"{n}.zspy": results[n] for n in ("x", "phase")}
    alone = {n: s for n, s in helpers.steps(lazy, vectors).items() if n in NO_NOISE}
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(scheduler=scheduler))
        if scheduler == "processes":  # one for all, since it takes seconds to start
            pool = ProcessPoolExecutor(1, get_context("spawn"))
            stack.enter_context(dask.config.set(pool=stack.enter_context(pool)))
        for name, signal in alone.items():
            signal.save(tmp_path / f"{name}.hspy", **QUIET)
        hyperspy_lfp.save(together, **QUIET)
    steps = helpers.steps(movie, vectors)
    for name in alone:
        assert_same(hs.load(tmp_path / f"{name}.hspy"), steps[name])
    for path in together:
        assert_same(hs.load(path), expected[path.stem])


@pytest.mark.parametrize("way", ["compute", "save", "save without noise", "save one"])
def test_frames_wait_for_the_plan(reader, lazy_movie, vectors, tmp_path, monkeypatch, way):
    """Meanwhile other threads would read as much of the movie as they can into memory."""
    read = []
    original = _frames.delayed_plan

    def delayed_plan(function, *args, **kwargs):
        def noted(*args, **kwargs):
            time.sleep(0.1)
            read.append(int(reader.counts.sum()))
            return function(*args, **kwargs)

        return original(noted, *args, **kwargs)

    monkeypatch.setattr(_frames, "delayed_plan", delayed_plan)
    phase = lazy_movie.gpa(*vectors, resolution=0.6)
    x = phase.to_concentration()
    with dask.config.set(scheduler="threads", num_workers=2):
        if way == "compute":
            x.compute(**QUIET)
        elif way == "save":
            hyperspy_lfp.save({tmp_path / "x.hspy": x, tmp_path / "a.zspy": phase}, **QUIET)
        else:
            (x if way == "save one" else phase).save(tmp_path / "signal.hspy", **QUIET)
    assert read == [0]
    assert reader.counts.tolist() == [1] * len(reader.frames)
