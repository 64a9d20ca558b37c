"""Time of movie -> x with one and two workers of `dask.distributed`, and one and two threads.

Run ``python benchmarks/scaling.py``, on a machine that has nothing else to do. A movie of uint16
frames with noise is read from a .zspy file and x with its variance comes back to this process.
One and two are measured in turns in the same run; their ratio is what to compare. Per frame, what
a longer movie takes more is given in units of ``scipy.fft.rfft2`` of the frame in float32 on one
thread; the rest is what a call takes before and after. Starting the workers is listed alone.
"""

import argparse
import logging
import multiprocessing
import os
import pickle
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

# before NumPy is imported, which reads it
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import dask
import dask.array as da
import distributed
import hyperspy.api as hs
import numpy as np
import scipy.fft

from hyperspy_lfp.materials import Material
from hyperspy_lfp.signals import HRTEMMovie, _frames

CUBIC = Material("cubic", (0, 1), a=(8.0, 8.1), b=(8.0, 8.1), c=(8.0, 8.1))
_PIXEL = 0.025  # nm
_DIFFERENT = 8  # frames; the movie repeats them


#: Bytes that a worker's allocator keeps for the next array. Those given back to the system, as
#: dask.distributed sets it, must be cleared again by it. Read by the C library of Linux alone.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**28)}


def lattice_frames(size, spacing):
    """Two crossed fringes with Poisson noise, 100 electrons a pixel; g in 1/nm."""
    random = np.random.default_rng(0)
    y, x = np.indices((size, size), dtype=np.float32)
    g = np.array(((np.cos(0.2), -np.sin(0.2)), (np.sin(0.2), np.cos(0.2)))) / spacing
    fringes = sum(np.cos(2 * np.pi * (gx * x + gy * y)) for gx, gy in g)
    frames = [random.poisson(100 * (1 + 0.2 * fringes)) for _ in range(_DIFFERENT)]
    return np.array(frames, dtype=np.uint16), g / _PIXEL


def write_movie(path, frames, n_frames):
    """A movie of `n_frames` in a file, one frame a chunk."""
    one = da.from_array(frames, chunks=(1, -1, -1))
    data = da.concatenate([one] * -(-n_frames // len(frames)))[:n_frames]
    signal = hs.signals.Signal2D(data).as_lazy()
    signal.axes_manager.signal_axes.set(scale=_PIXEL, units="nm")
    signal.set_signal_type("HRTEMMovie")
    signal.save(path, show_progressbar=False)


def composition(path, g, sigma):
    """The lazy x of a movie in a file."""
    movie = hs.load(path, lazy=True)
    assert isinstance(movie, HRTEMMovie)
    return movie.to_concentration(
        *g, resolution=sigma * _PIXEL, hkl=[(1, 0, 0), (0, 0, 1)], material=CUBIC
    )


def seconds(path, g, sigma, **keywords):
    """Time from the file to x and its variance in memory."""
    start = time.perf_counter()
    composition(path, g, sigma).compute(show_progressbar=False, **keywords)
    return time.perf_counter() - start


def independent(path, g, sigma, repeats):
    """How much more two processes that know nothing of each other do than one, in the same time.

    No two workers can do better on this machine.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, spawn) as pool:
        best = {}
        for _ in range(repeats + 1):  # one to warm up
            for n in (2, 1):
                calls = [pool.submit(seconds, path, g, sigma, scheduler="sync") for _ in range(n)]
                mean = sum(c.result() for c in calls) / n
                best[n] = min(mean, best.get(n, np.inf))
    return 2 * best[1] / best[2]


def rfft2_seconds(frames, repeats):
    """Shortest time for one frame."""
    images = frames.astype(np.float32)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for image in images:
            scipy.fft.rfft2(image)
        times.append((time.perf_counter() - start) / len(images))
    return min(times)


def plan_cost(path, g, sigma, clients):
    """Seconds to build the plan, its MiB, and seconds to move it between two workers."""
    made = []
    original = _frames.delayed_plan
    _frames.delayed_plan = lambda *args, **kw: made.append(original(*args, **kw)) or made[0]
    try:
        composition(path, g, sigma)
    finally:
        _frames.delayed_plan = original
    start = time.perf_counter()
    plan = dask.compute(made[0], scheduler="synchronous")[0]
    build = time.perf_counter() - start
    client = clients[2]
    here, there = client.scheduler_info()["workers"]
    with client.as_current():
        future = client.compute(made[0], workers=[here])
        distributed.wait(future)
        start = time.perf_counter()
        client.submit(id, future, workers=[there]).result()
        moved = time.perf_counter() - start
    return build, len(pickle.dumps(plan, 5)) / 2**20, moved


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument("--sigma", type=float, default=20.0, help="resolution in pixels")
    parser.add_argument("--megapixels", type=int, default=192, help="of the longer movie")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--plain", action="store_true", help="with the allocator as dask.distributed sets it"
    )
    options = parser.parse_args()
    logging.getLogger("distributed").setLevel(logging.WARNING)
    if not options.plain:
        os.environ.update(MALLOC)  # of the processes to come
    clients = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for n in (1, 2):
            start = time.perf_counter()
            cluster = distributed.LocalCluster(
                n_workers=n,
                threads_per_worker=1,
                processes=True,
                dashboard_address=":0",
                memory_limit=0,
                local_directory=folder,
            )
            clients[n] = distributed.Client(cluster, set_as_default=False)
            clients[n].run(__import__, "hyperspy_lfp.signals.hrtem_movie")
            print(f"{n} worker(s): started in {time.perf_counter() - start:.1f} s")
        try:
            for size in options.sizes:
                measure(Path(folder), size, clients, options)
        finally:
            for client in clients.values():
                cluster = client.cluster
                client.close()
                cluster.close()


def measure(folder, size, clients, options):
    """Print the figures of one size of frame."""
    sigma = options.sigma
    frames, g = lattice_frames(size, max(4.0, sigma / 2))
    number = max(8, options.megapixels * 2**20 // size**2)
    movies = {n: folder / f"{size}_{n}.zspy" for n in (number // 4, number)}
    for n, path in movies.items():
        write_movie(path, frames, n)
    fft = rfft2_seconds(frames, options.repeats)
    build, megabytes, moved = plan_cost(movies[number], g, sigma, clients)
    tasks = composition(movies[number], g, sigma).data.npartitions
    print(
        f"\n{number} frames of {size} x {size}, sigma {sigma:g} pixels: {tasks} tasks, rfft2 "
        f"{1e3 * fft:.2f} ms; plan {1e3 * build:.0f} ms, {megabytes:.1f} MiB, "
        f"{1e3 * moved:.0f} ms to another worker"
    )
    most = independent(movies[number // 4], g, sigma, options.repeats)
    print(f"  two processes without dask.distributed do {most:.2f} times as much as one")
    best = {}
    for _ in range(options.repeats):
        for n_frames, path in movies.items():
            for n in (1, 2):
                found = {"threads": seconds(path, g, sigma, scheduler="threads", num_workers=n)}
                with clients[n].as_current():
                    found["workers"] = seconds(path, g, sigma)
                for kind, value in found.items():
                    key = (kind, n, n_frames)
                    best[key] = min(value, best.get(key, np.inf))
    print("            one/s   two/s   ratio   a frame/rfft2: one   two   a call/s: one   two")
    few, many = movies
    for kind in ("threads", "workers"):
        one, two = (best[kind, n, many] for n in (1, 2))
        slope = [(best[kind, n, many] - best[kind, n, few]) / (many - few) for n in (1, 2)]
        rest = [best[kind, n, many] - many * s for n, s in zip((1, 2), slope, strict=True)]
        print(
            f"  {kind}  {one:7.2f} {two:7.2f} {one / two:7.2f}   {slope[0] / fft:18.2f}"
            f" {slope[1] / fft:5.2f}   {rest[0]:13.2f} {rest[1]:5.2f}"
        )


if __name__ == "__main__":
    main()
