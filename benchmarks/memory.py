"""Peak memory of a lazy chain, movie -> x -> file, against the number of frames.

Run ``python benchmarks/memory.py``. Each movie comes frame by frame from a dask graph, without a
file, and runs in a process of its own, whose largest resident memory is printed with what it was
before the chain began. It must not grow with the number of frames. ``--large`` takes a movie of
40 GB, ``--file`` reads the movies from .hspy or .zspy files, ``--strain`` saves strain and x in one
pass. Needs Linux or macOS.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dask.array as da
import hyperspy.api as hs
import numpy as np

import hyperspy_lfp
from hyperspy_lfp.materials import Material

CUBIC = Material("cubic", (0, 1), a=(8.0, 8.1), b=(8.0, 8.1), c=(8.0, 8.1))
_SPACING = 10.24  # pixels; frames of a power of two hold a whole number of them
_PIXEL = 0.025  # nm
LARGE = (5000, 2048)  # frames, pixels: 42e9 bytes


class Movie:
    """An array of frames, made when read: one of crossed fringes with noise, moved about."""

    def __init__(self, n_frames, size):
        self.shape, self.dtype, self.ndim = (n_frames, size, size), np.dtype(np.uint16), 3
        y, x = np.indices((size, size), dtype=np.float32)
        fringes = sum(np.cos(2 * np.pi * r / _SPACING) for r in (x, y))
        self.frame = np.random.default_rng(0).poisson(100 * (1 + 0.2 * fringes)).astype(np.uint16)

    def __getitem__(self, index):
        numbers = range(*index[0].indices(self.shape[0]))
        frames = [np.roll(self.frame, (7 * i, 13 * i), (0, 1)) for i in numbers]
        return np.stack(frames)[:, index[1], index[2]]


def movie_of(n_frames, size):
    # one frame a chunk, as files often come
    data = da.from_array(Movie(n_frames, size), chunks=(1, size, size), name=False)
    movie = hs.signals.Signal2D(data).as_lazy()
    movie.set_signal_type("HRTEMMovie")
    movie.axes_manager.signal_axes.set(scale=_PIXEL, units="nm")
    return movie


def chain(options, folder):
    """Compute results of a movie into files; print memory before and at its largest, MiB."""
    if options.file:
        movie = hs.load(folder / f"movie.{options.file}", lazy=True)
    else:
        movie = movie_of(options.frames[0], options.size)
    g = 1 / (_SPACING * _PIXEL)
    before, start = _peak(), time.perf_counter()
    phase = movie.gpa((g, 0), (0, g), hkl=[(2, 0, 0), (0, 0, 2)])
    x = phase.to_concentration(CUBIC)
    if options.strain:
        files = {folder / "x.hspy": x, folder / "strain.hspy": phase.strain()}
        hyperspy_lfp.save(files, show_progressbar=False)
    else:
        x.save(folder / "x.hspy", show_progressbar=False)
    print(f"{before:.0f} {_peak():.0f} {time.perf_counter() - start:.1f}")


def write_movie(options, folder):
    # as cameras write them, since the compression would take longer than the chain
    kwargs = {"compression": None} if options.file == "hspy" else {}
    movie = movie_of(options.frames[0], options.size)
    movie.save(folder / f"movie.{options.file}", show_progressbar=False, **kwargs)


def _peak():
    # kilobytes on Linux, bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )


def measure(options, n_frames):
    """Run `chain` in another process and print a line of the table."""
    command = [sys.executable, __file__, "--frames", str(n_frames), "--size", str(options.size)]
    command += ["--strain"] * options.strain
    if options.file:
        command += ["--file", options.file]
    with tempfile.TemporaryDirectory() as folder:
        if options.file:  # in a process of its own, or it would count: what is started inherits
            subprocess.run([*command, "--write", folder], check=True)
        command += ["--one", folder]
        answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    before, largest, seconds = answer.split()[-3:]
    movie = n_frames * options.size**2 * 2 / 2**20
    print(f"{n_frames:6d}  {movie:10.0f}  {before:>11}  {largest:>12}  {seconds:>8}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--large", action="store_true", help="5000 frames of 2048 x 2048 pixels")
    parser.add_argument("--file", choices=["hspy", "zspy"], help="read the movie from a file")
    parser.add_argument("--strain", action="store_true", help="save the strain in the same pass")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write_movie(options, options.write)
        return
    if options.one:
        chain(options, options.one)
        return
    if options.large:
        options.frames, options.size = [LARGE[0]], LARGE[1]
    print("frames   movie/MiB   before/MiB   largest/MiB   seconds")
    for n_frames in options.frames:
        measure(options, n_frames)


if __name__ == "__main__":
    main()
