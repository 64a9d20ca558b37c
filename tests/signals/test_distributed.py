"""The same calls with a `dask.distributed` client, whose workers are other processes.

What a worker shall run that is not of the package is defined inside functions: it then travels by
value, since the modules of the tests cannot be imported there.
"""

import functools
import os
import pickle
import time

import dask
import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_lfp
from hyperspy_lfp.signals import _frames

distributed = pytest.importorskip("distributed", reason="needs dask.distributed")
# comes with distributed
cloudpickle = pytest.importorskip("cloudpickle")

REGION = hs.roi.RectangularROI(4.0, -0.5, 6.0, 1.5)
REGIONS = {"all": REGION, "disc": hs.roi.CircleROI(5.0, 0.5, 1.0)}

WAYS = {
    "gpa": lambda s, g: s.gpa(*g, resolution=0.6),
    "strain": lambda s, g: s.gpa(*g, resolution=0.6).strain(REGION, 0, angle=12.0),
    "strain of frames": lambda s, g: s.gpa(*g, resolution=0.6).strain(
        REGION, slice(0, 3), definition="finite"
    ),
    "displacement": lambda s, g: s.gpa(*g, resolution=0.6).displacement(REGION, 0),
    "concentration": lambda s, g: s.to_concentration(*g, resolution=0.6, reference_frame=0),
    "concentration of strain": lambda s, g: (
        s.gpa(*g, resolution=0.6).strain(angle=12.0).to_concentration(a_direction=(1.0, -0.2))
    ),
    "evolution": lambda s, g: s.to_concentration(*g, resolution=0.6).evolution(REGIONS),
    "estimate_drift": lambda s, g: s.estimate_drift("phase", g=g),
    "correct_drift": lambda s, g: s.correct_drift(s.estimate_drift()),
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two worker processes of one thread each, on ports that are free."""
    patience = {
        # for machines that run other tests beside
        "distributed.comm.timeouts.tcp": "60s",
        # as long may a worker ask one that was killed, if it only begins after it was told of it
        "distributed.comm.timeouts.connect": "10s",
    }
    with (
        dask.config.set(patience),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            memory_limit=0,
            local_directory=tmp_path_factory.mktemp("workers"),
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def client(cluster):
    """The client that is in force for one test, with both workers there."""
    with distributed.Client(cluster) as client:
        client.wait_for_workers(2, timeout=120)
        yield client


@pytest.fixture(autouse=True)
def one_frame_a_task(monkeypatch):
    monkeypatch.setattr(_frames, "CHUNK_BYTES", 1)


@pytest.fixture
def lazy_movie(images, helpers):
    """The small movie, lazy."""
    return helpers.as_movie(da.from_array(images, chunks=(1, -1, -1)), lazy=True)


def arrays_of(signal):
    """The data and the noise."""
    noise = signal.metadata.get_item("Signal.Noise_properties", default=None)
    noise = [] if noise is None else [s.data for _, s in noise if hasattr(s, "data")]
    return [signal.data, *noise]


def assert_same(found, expected):
    found, expected = arrays_of(found), arrays_of(expected)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert np.isfinite(b).any()
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def local(images, vectors, helpers):
    """Results of the small movie in memory, by way, each computed once in this process."""

    @functools.cache
    def result(way):
        with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="synchronous"):
            patch.setattr(_frames, "CHUNK_BYTES", 1)  # sums in the same order
            return WAYS[way](helpers.as_movie(images), vectors)

    return result


@pytest.mark.parametrize("way", WAYS)
def test_same_numbers_as_without_a_client(client, lazy_movie, vectors, local, way):
    result = WAYS[way](lazy_movie, vectors)
    assert all(isinstance(a, da.Array) for a in arrays_of(result))
    result.compute(show_progressbar=False)
    assert_same(result, local(way))


def test_spots_are_the_same(client, lazy_movie, movie):
    np.testing.assert_array_equal(lazy_movie.find_g_vectors(n=2), movie.find_g_vectors(n=2))


@pytest.mark.parametrize("show_progressbar", [True, False, None])
def test_progress_bar_is_no_error(
    client, lazy_movie, vectors, tmp_path, show_progressbar, monkeypatch
):
    monkeypatch.setattr(hs.preferences.General, "show_progressbar", True)
    keywords = {"resolution": 0.6, "show_progressbar": show_progressbar}
    # the number of workers is the cluster's
    phase = lazy_movie.gpa(*vectors, lazy_output=False, num_workers=3, **keywords)
    phase.as_lazy().save(tmp_path / "phase.zspy", show_progressbar=show_progressbar)
    strain = lazy_movie.gpa(*vectors, resolution=0.6).strain()
    strain.save(tmp_path / "strain.hspy", show_progressbar=show_progressbar)
    strain.compute(show_progressbar=show_progressbar)


@pytest.mark.filterwarnings("ignore:The NestedDirectoryStore:FutureWarning")
@pytest.mark.parametrize("extension", ["hspy", "zspy"])
@pytest.mark.parametrize("way", ["gpa", "strain", "concentration", "displacement"])
def test_save(client, lazy_movie, vectors, local, tmp_path, monkeypatch, way, extension):
    """Relative to the working directory, which is not that of the workers."""
    monkeypatch.chdir(tmp_path)
    expected = local(way)
    result = WAYS[way](lazy_movie, vectors)
    result.save(f"result.{extension}", show_progressbar=False)
    assert result._lazy
    assert_same(hs.load(f"result.{extension}"), expected)
    result.save(f"result.{extension}", overwrite=True, show_progressbar=False)
    assert_same(hs.load(f"result.{extension}"), expected)
    assert [p.name for p in tmp_path.iterdir()] == [f"result.{extension}"]


@pytest.mark.filterwarnings("ignore:The NestedDirectoryStore:FutureWarning")
@pytest.mark.parametrize("extension", ["hspy", "zspy"])
def test_from_file_to_file(client, movie, vectors, local, tmp_path, extension):
    """Workers read the movie from its file."""
    movie.save(tmp_path / f"movie.{extension}")
    lazy = hs.load(tmp_path / f"movie.{extension}", lazy=True)
    WAYS["concentration"](lazy, vectors).save(tmp_path / f"x.{extension}", show_progressbar=False)
    x = hs.load(tmp_path / f"x.{extension}", lazy=True)
    evolution = x.evolution(REGIONS)
    x.compute(show_progressbar=False)
    assert_same(x, local("concentration"))
    evolution.compute(show_progressbar=False)
    assert_same(evolution, local("concentration").evolution(REGIONS))


def test_several_signals_at_once(client, lazy_movie, vectors, local, tmp_path):
    names = ("strain", "concentration")
    results = {tmp_path / f"{name}.hspy": WAYS[name](lazy_movie, vectors) for name in names}
    hyperspy_lfp.save(results, show_progressbar=False)
    for name, (path, result) in zip(names, results.items(), strict=True):
        assert_same(hs.load(path), local(name))
        assert result._lazy
    hyperspy_lfp.compute(*results.values(), show_progressbar=True, num_workers=1)
    for name, result in zip(names, results.values(), strict=True):
        assert_same(result, local(name))


@pytest.fixture
def nothing_is_sent(client, monkeypatch):
    """A client that does not compute."""

    def get(self, *args, **kwargs):
        raise AssertionError("the graph was sent")

    monkeypatch.setattr(distributed.Client, "get", get)


@pytest.mark.parametrize("way", ["concentration", "displacement", "estimate_drift"])
def test_frames_in_memory_stay_in_this_process(nothing_is_sent, movie, vectors, local, way):
    """They would travel to the workers as one array, and not come back after one was lost."""
    expected = local(way)
    assert_same(WAYS[way](movie, vectors), expected)
    assert_same(WAYS[way](movie.inav[2:3], vectors), WAYS[way](movie.inav[2:3], vectors))
    if way != "estimate_drift":
        movie.inav[2].gpa(*vectors, resolution=0.6)  # without dask, but for its plan
    with pytest.raises(AssertionError, match="was sent"):
        WAYS[way](movie.as_lazy(), vectors).compute(show_progressbar=False)


def test_lazy_results_of_frames_in_memory(nothing_is_sent, movie, vectors, local, tmp_path, capsys):
    expected = local("strain")
    phase = movie.gpa(*vectors, resolution=0.6, lazy_output=True)
    strain = phase.strain(REGION, 0, angle=12.0)
    strain.save(tmp_path / "strain.hspy", show_progressbar=False)
    assert_same(hs.load(tmp_path / "strain.hspy"), expected)
    capsys.readouterr()
    strain.compute(show_progressbar=True)
    assert "100%" in capsys.readouterr().out
    assert_same(strain, expected)


def test_a_scheduler_that_is_named_is_taken(client, nothing_is_sent, lazy_movie, vectors, local):
    result = WAYS["strain"](lazy_movie, vectors)
    result.compute(show_progressbar=False, scheduler="threads", num_workers=1)
    assert_same(result, local("strain"))
    assert _frames.has_client() and not _frames.has_client("threads")
    with dask.config.set(scheduler="synchronous"):
        assert not _frames.has_client() and _frames.has_client(client)


def blank_movie(helpers, shape):
    """A lazy movie of ones that takes no room in the graph."""
    return helpers.as_movie(da.ones((6, *shape), dtype=np.uint16, chunks=(1, -1, -1)), lazy=True)


def test_size_of_the_graph_does_not_depend_on_the_plan(helpers, vectors, monkeypatch):
    """The operators of the fit are built where they are used."""
    plans, graphs = [], []
    original = _frames.delayed_plan

    def delayed_plan(function, *args, **kwargs):
        plans.append(len(pickle.dumps(function(*args, **kwargs))))
        return original(function, *args, **kwargs)

    monkeypatch.setattr(_frames, "delayed_plan", delayed_plan)
    # the third is the second with finer maps
    for size, resolution, step in ((128, 2.0, 1.0), (1024, 0.6, 8.0), (1024, 0.6, 2.0)):
        movie = blank_movie(helpers, (size, size))
        phase = movie.gpa(*vectors, resolution=resolution, step=step)
        (strain,) = dask.optimize(phase.strain().data)
        graphs.append(len(cloudpickle.dumps(strain.__dask_graph__())))
    assert plans[1] > 20 * plans[0] and plans[1] > 2**20
    assert max(graphs) < 2**16
    # the positions of the maps' samples
    assert max(graphs) - min(graphs) < 4096


@pytest.mark.parametrize("bundle", [1, 3])
def test_plan_is_built_once(client, lazy_movie, vectors, monkeypatch, tmp_path, bundle):
    """By one worker, from which the other has it."""
    monkeypatch.setattr(_frames, "CHUNK_BYTES", bundle * lazy_movie.data[0].nbytes)
    original = _frames.delayed_plan
    log = tmp_path / "log"

    def delayed_plan(function, *args, **kwargs):
        def noted(*args, **kwargs):
            with log.open("a") as file:
                file.write(f"{os.getpid()}\n")
            return function(*args, **kwargs)

        return original(noted, *args, **kwargs)

    monkeypatch.setattr(_frames, "delayed_plan", delayed_plan)
    WAYS["concentration"](lazy_movie, vectors).compute(show_progressbar=False)
    (builder,) = log.read_text().split()
    assert int(builder) in client.run(os.getpid).values()


def deadly(images, marker):
    """Frames as in a file; the first process that reads frame 3 dies of it, and says so before."""
    # a class of the module would be looked up there by the workers

    class Deadly:
        shape, dtype, ndim = images.shape, images.dtype, images.ndim

        def __getitem__(self, index):
            if index[0].start == 3:
                try:
                    with marker.open("x") as file:
                        file.write(str(os.getpid()))
                except FileExistsError:
                    pass
                else:
                    os._exit(1)
            return images[index]

    return da.from_array(Deadly(), chunks=(1, -1, -1), name=False, meta=images[:0])


@pytest.mark.parametrize("what", ["compute", "save"])
@pytest.mark.parametrize("way", ["concentration", "strain of frames"])
def test_killed_worker_costs_time_only(
    client, images, vectors, helpers, local, tmp_path, what, way
):
    expected = local(way)
    marker = tmp_path / "marker"
    movie = helpers.as_movie(deadly(images, marker), lazy=True)
    result = WAYS[way](movie, vectors)
    assert result.data.numblocks[0] == len(images)
    if what == "save":
        result.save(tmp_path / "result.hspy", show_progressbar=False)
        result = hs.load(tmp_path / "result.hspy")
    else:
        result.compute(show_progressbar=False)
    # not a list of those before: under load a worker may have been replaced since
    assert int(marker.read_text()) not in (os.getpid(), *client.run(os.getpid).values())
    assert_same(result, expected)


def test_killed_from_outside(client, cluster, images, vectors, helpers, local, tmp_path):
    """A worker is taken away, with the results it held, while others wait to be computed."""
    expected = local("concentration")
    go = tmp_path / "go"

    def wait(block, block_info=None):
        if block_info[0]["chunk-location"][0] == len(images) - 1:
            # the plan may be queued behind this on the same worker: it must not wait for ever
            end = time.monotonic() + 20
            while not go.exists() and time.monotonic() < end:
                time.sleep(0.02)
        return block

    frames = da.from_array(images, chunks=(1, -1, -1)).map_blocks(
        wait, dtype=images.dtype, meta=images[:0]
    )
    x = WAYS["concentration"](helpers.as_movie(frames, lazy=True), vectors)
    data = client.persist(x.data)
    futures = distributed.futures_of(data)
    done = []
    while not done:  # one worker may wait, the other works
        done = [f for f in futures if f.done()]
        distributed.wait(futures, timeout=120, return_when="FIRST_COMPLETED")
    holders = {address for f in done for address in client.who_has([f])[f.key]}
    victim = next(w for w in cluster.workers.values() if w.worker_address in holders)
    cluster.sync(victim.kill, timeout=10)
    go.touch()
    np.testing.assert_array_equal(data.compute(), expected.data)
