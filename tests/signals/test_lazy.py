"""Lazy movies: nothing is computed before it is asked for, and then each frame once."""

import pickle
import threading
import tracemalloc

import dask
import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from hyperspy._signals.lazy import LazySignal

from hyperspy_lfp.signals import _frames

REGION = hs.roi.RectangularROI(4.0, -0.5, 6.0, 1.5)
REGIONS = {"all": REGION, "disc": hs.roi.CircleROI(5.0, 0.5, 1.0)}

#: Every way from a movie to another signal, all of which keep lazy input lazy.
WAYS = {
    "gpa": lambda s, g: s.gpa(*g, resolution=0.6),
    "amplitude": lambda s, g: s.gpa(*g, resolution=0.6).amplitude,
    "phase": lambda s, g: s.gpa(*g, resolution=0.6).phase,
    "strain": lambda s, g: s.gpa(*g, resolution=0.6).strain(),
    "strain of a region": lambda s, g: s.gpa(*g, resolution=0.6).strain(REGION),
    "strain of a frame": lambda s, g: s.gpa(*g, resolution=0.6).strain(reference_frame=1),
    "strain of frames": lambda s, g: s.gpa(*g, resolution=0.6).strain(
        REGION, slice(0, 3), angle=30, definition="finite"
    ),
    "exy": lambda s, g: s.gpa(*g, resolution=0.6).strain().exy,
    "rotate": lambda s, g: s.gpa(*g, resolution=0.6).strain().rotate(20.0),
    "displacement": lambda s, g: s.gpa(*g, resolution=0.6).displacement(),
    "displacement of a region": lambda s, g: s.gpa(*g, resolution=0.6).displacement(REGION, 0).uy,
    "displacement of a frame": lambda s, g: s.gpa(*g, resolution=0.6).displacement(
        reference_frame=0
    ),
    "concentration of phase": lambda s, g: s.gpa(*g, resolution=0.6).to_concentration(
        reference=REGION, reference_frame=0
    ),
    "concentration of strain": lambda s, g: (
        s.gpa(*g, resolution=0.6).strain(angle=12.0).to_concentration(a_direction=(1.0, -0.2))
    ),
    "concentration": lambda s, g: s.to_concentration(*g, resolution=0.6),
    "evolution": lambda s, g: s.to_concentration(*g, resolution=0.6).evolution(REGIONS),
    "standard error": lambda s, g: (
        s.to_concentration(*g, resolution=0.6).evolution().standard_error
    ),
    "estimate_drift": lambda s, g: s.estimate_drift(),
    "estimate_drift by phase": lambda s, g: s.estimate_drift("phase", g=g),
    "correct_drift": lambda s, g: s.correct_drift(s.estimate_drift()),
    "correct_drift by numbers": lambda s, g: s.correct_drift([[0.03, -0.02]] * 5),
    "inav": lambda s, g: s.to_concentration(*g, resolution=0.6).inav[1:3],
    "isig": lambda s, g: s.gpa(*g, resolution=0.6).isig[2:9, 0.0:2.0].strain(),
}

#: Ways a file can be chunked: (time, y, x).
CHUNKS = {
    "a frame": (1, -1, -1),
    "two frames": (2, -1, -1),
    "all frames": (-1, -1, -1),
    "parts of frames": (1, 30, 25),
    "rows of all frames": (-1, 7, -1),
}


def data_of(signal):
    """The data, computed with HyperSpy's own method, and the noise that came along."""
    if signal._lazy:
        signal.compute(show_progressbar=False)
    return [signal.data, *(s.data for s in noise_of(signal))]


def noise_of(signal):
    noise = signal.metadata.get_item("Signal.Noise_properties", default=None)
    return [] if noise is None else [s for _, s in noise if hasattr(s, "data")]


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_computed_before_it_is_asked_for(broken_movie, vectors, way):
    result = WAYS[way](broken_movie, vectors)
    assert result._lazy and isinstance(result, LazySignal)
    assert isinstance(result.data, da.Array)
    assert all(s._lazy and isinstance(s.data, da.Array) for s in noise_of(result))
    with pytest.raises(RuntimeError, match="the movie was read"):
        result.compute(show_progressbar=False)


@pytest.mark.parametrize("way", WAYS)
def test_same_numbers_as_in_memory(images, movie, vectors, helpers, way):
    expected = WAYS[way](movie, vectors)
    assert not expected._lazy
    lazy = WAYS[way](helpers.as_movie(helpers.Reader(images).as_dask(), lazy=True), vectors)
    assert type(lazy).__name__ == "Lazy" + type(expected).__name__
    assert lazy.data.shape == expected.data.shape
    assert lazy.data.dtype == expected.data.dtype
    assert lazy.axes_manager.as_dictionary() == expected.axes_manager.as_dictionary()
    found = data_of(lazy)
    assert type(lazy) is type(expected)
    wanted = data_of(expected)
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert np.isfinite(b).any()
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("chunks", CHUNKS)
def test_same_numbers_whatever_the_chunks(images, movie, vectors, helpers, chunks):
    lazy = helpers.as_movie(da.from_array(images, chunks=CHUNKS[chunks]), lazy=True)
    lazy = lazy.correct_drift([[0.03, -0.02]] * 5)
    eager = movie.correct_drift([[0.03, -0.02]] * 5)
    x, expected = (s.to_concentration(*vectors, resolution=0.6) for s in (lazy, eager))
    for a, b in zip(
        data_of(x.evolution(REGIONS)), data_of(expected.evolution(REGIONS)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(data_of(x), data_of(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_frames_are_bundled_but_never_split(images, vectors, helpers, monkeypatch):
    lazy = helpers.as_movie(da.from_array(images, chunks=(1, 30, 25)), lazy=True)
    phase = lazy.gpa(*vectors, resolution=0.6)
    assert phase.data.chunks[0] == (5,)
    assert all(len(c) == 1 for c in phase.data.chunks[1:])
    for frame, kwargs in ((phase.data[0].nbytes, {}), (images[0].nbytes, {"step": 0.6})):
        # of frame and result the larger one counts
        monkeypatch.setattr(_frames, "CHUNK_BYTES", 2 * frame)
        assert lazy.gpa(*vectors, resolution=0.6, **kwargs).data.chunks[0] == (2, 2, 1)
    monkeypatch.setattr(_frames, "CHUNK_BYTES", 1)
    assert lazy.gpa(*vectors, resolution=0.6).data.chunks[0] == (1,) * 5


@pytest.mark.parametrize(
    ("chunks", "bundles"),
    [
        ((1,) * 9, (4, 4, 1)),  # as files often come
        ((3, 3, 3), (3, 3, 3)),  # no chunk is read for two bundles
        ((2, 2, 2, 2, 1), (4, 4, 1)),
        ((7, 2), (7, 2)),  # not more than twice what is wanted
        ((9,), (3, 3, 3)),
    ],
)
def test_bundles_fit_the_chunks_of_the_file(monkeypatch, chunks, bundles):
    data = da.zeros((9, 8, 8), chunks=(chunks, 8, 8), dtype="u2")
    monkeypatch.setattr(_frames, "CHUNK_BYTES", 4 * 128)
    assert _frames.frame_chunks(data, 2) == (bundles, (8,), (8,))


def test_bundles_of_several_movies(monkeypatch):
    monkeypatch.setattr(_frames, "CHUNK_BYTES", 4 * 128)
    data = da.zeros((3, 9, 8, 8), chunks=(1, 1, 4, 4), dtype="u2")
    assert _frames.frame_chunks(data, 2) == ((1, 1, 1), (4, 4, 1), (8,), (8,))
    assert _frames.frame_chunks(np.zeros((3, 9, 8, 8), "u2"), 2)[:2] == ((3,), (1,) * 9)


def test_results_keep_the_bundles_of_the_movie(images, vectors, helpers, monkeypatch):
    """Other bundles would wait for each other with everything in memory."""
    lazy = helpers.as_movie(da.from_array(images, chunks=(1, -1, -1)), lazy=True)
    monkeypatch.setattr(_frames, "CHUNK_BYTES", 2 * images[0].nbytes)
    # maps that are much smaller than a frame, and much larger
    for step, bundles in ((0.6, (2, 2, 1)), ("pixel", (1,) * 5)):
        phase = lazy.gpa(*vectors, resolution=0.6, step=step)
        strain, x = phase.strain(reference_frame=0), phase.to_concentration()
        for signal in (phase, strain, strain.rotate(10.0), x):
            assert signal.data.chunks[0] == bundles


def test_numbers_do_not_depend_on_the_bundles(images, movie, vectors, monkeypatch):
    expected = movie.to_concentration(*vectors, resolution=0.6, reference_frame=slice(0, 4))
    monkeypatch.setattr(_frames, "CHUNK_BYTES", 1)
    found = movie.to_concentration(*vectors, resolution=0.6, reference_frame=slice(0, 4))
    # the mean of the reference frames is summed in another order
    np.testing.assert_allclose(found.data, expected.data, rtol=0, atol=1e-6)
    phase = movie.gpa(*vectors, resolution=0.6)
    np.testing.assert_array_equal(phase.strain().data[3], phase.inav[:, :, 3].strain().data)


@pytest.mark.parametrize("chunks", [(1, 1, -1, -1), (2, 2, 40, 40), (-1, -1, -1, -1)])
def test_several_navigation_axes(images, vectors, helpers, chunks):
    stack = np.stack([images, images[::-1], images])
    eager = helpers.as_movie(stack)
    lazy = helpers.as_movie(da.from_array(stack, chunks=chunks), lazy=True)
    for way in ("strain of a frame", "displacement of a region", "evolution", "correct_drift"):
        if way == "correct_drift":
            a, b = (s.correct_drift(s.estimate_drift()) for s in (lazy, eager))
        else:
            a, b = (WAYS[way](s, vectors) for s in (lazy, eager))
        assert a._lazy and a.axes_manager.shape == b.axes_manager.shape
        for found, expected in zip(data_of(a), data_of(b), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_single_frame(images, vectors, helpers):
    lazy = helpers.as_movie(da.from_array(images[2], chunks=(30, 50)), lazy=True)
    eager = helpers.as_movie(images[2])
    for way in ("phase", "strain", "rotate", "displacement", "estimate_drift", "evolution"):
        a, b = (WAYS[way](s, vectors) for s in (lazy, eager))
        assert a._lazy and not b._lazy
        for found, expected in zip(data_of(a), data_of(b), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("lazy_output", [True, False])
@pytest.mark.parametrize("lazy_input", [True, False])
@pytest.mark.parametrize("frames", [slice(None), 2])
def test_lazy_output(images, vectors, helpers, lazy_input, lazy_output, frames):
    movie = helpers.as_movie(images[frames], lazy=lazy_input)
    kwargs = {"lazy_output": lazy_output, "show_progressbar": False}
    steps = helpers.steps(movie, vectors, **kwargs)
    del steps["HRTEMMovie"]
    steps["rotated"] = steps["LatticeStrain"].rotate(5.0, **kwargs)
    steps["from strain"] = steps["LatticeStrain"].to_concentration(a_direction=(1, 0), **kwargs)
    steps["chain"] = movie.to_concentration(*vectors, resolution=0.6, **kwargs)
    steps["drift"] = movie.estimate_drift(**kwargs)
    steps["drift by phase"] = movie.estimate_drift("phase", g=vectors, **kwargs)
    steps["corrected"] = movie.correct_drift(steps["drift"], **kwargs)
    for name, signal in steps.items():
        assert signal._lazy is lazy_output, name
        assert type(signal).__name__.startswith("Lazy") is lazy_output, name
        assert isinstance(signal.data, da.Array) is lazy_output, name
        for noise in noise_of(signal):
            assert isinstance(noise.data, da.Array) is lazy_output, name


@pytest.mark.parametrize("workers", [1, 3])
def test_number_of_workers(images, vectors, helpers, workers):
    """`num_workers` bounds how many frames are worked on at the same time."""
    gauge = Gauge(expected=min(workers, 2))
    frames = da.from_array(images, chunks=(1, -1, -1))
    frames = frames.map_blocks(gauge.hold, dtype=frames.dtype, meta=frames._meta)
    kwargs = {"lazy_output": False, "num_workers": workers, "show_progressbar": False}
    helpers.as_movie(frames, lazy=True).gpa(*vectors, resolution=0.6, **kwargs)
    assert gauge.expected <= gauge.most <= workers


class Gauge:
    """Counts how many blocks are held at the same time; waits for as many as are expected."""

    def __init__(self, expected):
        self.expected = expected
        self.condition = threading.Condition()
        self.now = self.most = 0

    def hold(self, block):
        with self.condition:
            self.now += 1
            self.most = max(self.most, self.now)
            self.condition.notify_all()
            self.condition.wait_for(lambda: self.most >= self.expected, timeout=60)
            self.now -= 1
        return block


@pytest.mark.parametrize("lazy_input", [True, False])
def test_progress_bar(images, vectors, helpers, capsys, lazy_input):
    movie = helpers.as_movie(images, lazy=lazy_input)
    movie.gpa(*vectors, resolution=0.6, lazy_output=False, show_progressbar=True)
    assert "100%" in capsys.readouterr().out
    movie.gpa(*vectors, resolution=0.6, lazy_output=False, show_progressbar=False)
    assert capsys.readouterr().out == ""


def test_progress_bar_follows_the_preference(movie, vectors, capsys, monkeypatch):
    for wanted in (True, False):
        monkeypatch.setattr(hs.preferences.General, "show_progressbar", wanted)
        movie.gpa(*vectors, resolution=0.6)
        assert ("100%" in capsys.readouterr().out) is wanted


ONE_PASS = {
    "strain": lambda s, g: s.gpa(*g, resolution=0.6).strain(),
    "strain of a frame": lambda s, g: s.gpa(*g, resolution=0.6).strain(reference_frame=0),
    "strain of frames": lambda s, g: s.gpa(*g, resolution=0.6).strain(REGION, slice(0, 3)),
    "rotate": lambda s, g: s.gpa(*g, resolution=0.6).strain().rotate(20.0),
    "concentration": lambda s, g: s.to_concentration(*g, resolution=0.6, reference_frame=0),
    "concentration of strain": lambda s, g: (
        s.gpa(*g, resolution=0.6).strain().to_concentration(a_direction=(1, 0))
    ),
    "evolution": lambda s, g: s.to_concentration(*g, resolution=0.6).evolution(REGIONS),
    "displacement": lambda s, g: s.gpa(*g, resolution=0.6).displacement(reference_frame=0),
    "estimate_drift": lambda s, g: s.estimate_drift(),
    "estimate_drift by phase": lambda s, g: s.estimate_drift("phase", g=g),
    "correct_drift": lambda s, g: s.correct_drift(s.estimate_drift()),
}


@pytest.mark.parametrize("bundle", [1, None])
@pytest.mark.parametrize("way", ONE_PASS)
def test_each_frame_is_read_once(images, vectors, helpers, monkeypatch, way, bundle):
    """Data, variance and covariance are computed in one pass over the file."""
    if bundle:
        monkeypatch.setattr(_frames, "CHUNK_BYTES", bundle)
    reader = helpers.Reader(images)
    result = ONE_PASS[way](helpers.as_movie(reader.as_dask(), lazy=True), vectors)
    assert reader.counts.sum() == 0
    result.compute(show_progressbar=False)
    assert not result._lazy and not any(s._lazy for s in noise_of(result))
    assert reader.counts.tolist() == [1] * len(images)


def test_spots_are_found_without_reading_every_frame(images, helpers):
    reader = helpers.Reader(np.concatenate([images] * 8))
    movie = helpers.as_movie(reader.as_dask(), lazy=True)
    g = movie.find_g_vectors(n=2)
    assert 1 <= reader.counts.sum() <= 16 and reader.counts.max() == 1
    reader.counts[:] = 0
    movie.refine_g_vectors(g, frames=[3])
    assert np.flatnonzero(reader.counts).tolist() == [3]


def test_slices_read_their_frames_only(images, vectors, helpers):
    reader = helpers.Reader(images)
    movie = helpers.as_movie(reader.as_dask(), lazy=True)
    movie.inav[1:3].to_concentration(*vectors, resolution=0.6).compute(show_progressbar=False)
    assert reader.counts.tolist() == [0, 1, 1, 0, 0]


class Source:
    """A movie that is generated frame by frame, and knows how many frames are alive."""

    def __init__(self, images):
        self.images = images
        self.lock = threading.Lock()
        self.read = 0

    def __call__(self, block_info=None):
        number = block_info[None]["chunk-location"][0]
        with self.lock:
            self.read += 1
        return self.images[number % len(self.images)][None].astype(np.float32)


@pytest.mark.parametrize("what", ["compute", "save"])
def test_memory_does_not_grow_with_the_movie(helpers, vectors, monkeypatch, tmp_path, what):
    """A few frames a worker are in memory, however long the movie is."""
    images = helpers.lattice_images((0.0, 1.0), (512, 512)).astype(np.float32)
    frame = images[0].nbytes
    monkeypatch.setattr(_frames, "CHUNK_BYTES", 2 * frame)
    peaks = []
    for frames in (30, 120):
        source = Source(images)
        data = da.map_blocks(
            source,
            chunks=((1,) * frames, *((n,) for n in images.shape[1:])),
            dtype=images.dtype,
            meta=images[:0],
        )
        movie = helpers.as_movie(data, lazy=True)
        x = movie.to_concentration(*vectors, resolution=4.0, step=2.0)
        tracemalloc.start()
        try:
            with dask.config.set(num_workers=2):
                if what == "save":
                    x.save(tmp_path / f"{frames}.hspy", show_progressbar=False)
                else:
                    x.evolution().compute(show_progressbar=False)
            peaks.append(tracemalloc.get_traced_memory()[1] / frame)
        finally:
            tracemalloc.stop()
        assert source.read == frames
    # two workers with two frames each, what is read ahead, and the operators of the fit
    assert peaks[0] < 20
    # 90 more frames; the graph has a few kB for each
    assert peaks[1] - peaks[0] < 5


SCHEDULED = {"scheduler": "processes", "num_workers": 2}


def test_processes(images, movie, vectors, helpers):
    lazy = helpers.as_movie(da.from_array(images, chunks=(2, -1, -1)), lazy=True)
    expected = WAYS["strain of frames"](movie, vectors)
    found = WAYS["strain of frames"](lazy, vectors)
    found.compute(show_progressbar=False, **SCHEDULED)
    np.testing.assert_array_equal(found.data, expected.data)
    drift = lazy.estimate_drift("phase", g=vectors)
    with dask.config.set(SCHEDULED):
        drift.compute(show_progressbar=False)
    np.testing.assert_array_equal(drift.data, movie.estimate_drift("phase", g=vectors).data)


def test_distributed(images, movie, vectors, helpers):
    distributed = pytest.importorskip("distributed")
    with (
        dask.config.set({"distributed.worker.daemon": False}),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        lazy = helpers.as_movie(da.from_array(images, chunks=(2, -1, -1)), lazy=True)
        x = lazy.to_concentration(*vectors, resolution=0.6, reference_frame=0)
        evolution = x.evolution(REGIONS)
        x.compute(show_progressbar=True)  # HyperSpy's bar does not work with a client
        evolution.compute(show_progressbar=False)
        eager = movie.to_concentration(*vectors, resolution=0.6, reference_frame=0)
    np.testing.assert_array_equal(x.data, eager.data)
    np.testing.assert_array_equal(x.get_noise_variance().data, eager.get_noise_variance().data)
    np.testing.assert_array_equal(evolution.data, eager.evolution(REGIONS).data)


@pytest.mark.parametrize("way", ["strain of a frame", "evolution", "correct_drift"])
def test_results_can_be_pickled(images, movie, vectors, helpers, way):
    lazy = WAYS[way](helpers.as_movie(da.from_array(images, chunks=(2, -1, -1)), True), vectors)
    # a signal holds its data and dictionaries; what is ours is in the graph
    copy = pickle.loads(pickle.dumps(lazy.data))
    expected = WAYS[way](movie, vectors).data
    np.testing.assert_array_equal(copy.compute(scheduler="synchronous"), expected)


def test_compute_makes_every_part_eager(images, vectors, helpers):
    lazy = helpers.as_movie(images, lazy=True).gpa(*vectors, resolution=0.6).strain()
    lazy.compute(show_progressbar=False, num_workers=1)
    assert type(lazy).__name__ == "LatticeStrain"
    assert [type(s).__name__ for s in noise_of(lazy)] == ["Signal2D"] * 2
    again = lazy.as_lazy()
    assert type(again).__name__ == "LazyLatticeStrain"
    again.compute(show_progressbar=False)
    np.testing.assert_array_equal(again.data, lazy.data)


@pytest.mark.parametrize(
    "way",
    ["movie", "gpa", "amplitude", "phase", "displacement", "strain", "exy", "concentration"],
)
def test_plot_reads_one_frame(images, vectors, helpers, monkeypatch, way):
    """The image of all frames, which HyperSpy draws to navigate in, would read them all."""
    monkeypatch.setattr(_frames, "CHUNK_BYTES", 1)  # one frame in a bundle
    reader = helpers.Reader(images)
    movie = helpers.as_movie(reader.as_dask(), lazy=True)
    with dask.config.set(scheduler="synchronous"):
        signal = movie if way == "movie" else WAYS[way](movie, vectors)
        signal.plot()
        first = reader.counts.tolist()
        signal.axes_manager.indices = (*signal.axes_manager.indices[:-1], 3)
    assert reader.counts.sum() < len(images)
    assert sum(first) <= 2 and first[0] >= 1


def test_plot_keeps_the_navigator_it_is_given(images, helpers):
    movie = helpers.as_movie(images, lazy=True)
    movie.compute_navigator()
    movie.plot()
    assert movie._plot.navigator_plot is not None
    movie.navigator = None
    movie.plot()
    assert movie._plot.navigator_plot is None
    movie.plot(navigator=hs.signals.Signal1D(np.arange(5.0)))
    assert movie._plot.navigator_plot is not None
