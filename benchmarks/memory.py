"""Peak memory of a lazy chain, movie -> x -> file, against the number of frames.

Run ``python benchmarks/memory.py``. Each movie is made frame by frame by a dask graph, without a
file, and runs in a process of its own, whose largest resident memory is printed with what it was
before the chain began. It must not grow with the number of frames. Needs Linux or macOS.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import dask.array as da
import hyperspy.api as hs
import numpy as np

from hyperspy_lfp.materials import Material

CUBIC = Material("cubic", (0, 1), a=(8.0, 8.1), b=(8.0, 8.1), c=(8.0, 8.1))
_SPACING = 10.3  # pixels
_PIXEL = 0.025  # nm


class Movie:
    """An array of frames of two crossed fringes with counting noise, made when read."""

    def __init__(self, n_frames, size):
        self.shape, self.dtype, self.ndim = (n_frames, size, size), np.dtype(np.uint16), 3

    def __getitem__(self, index):
        size = self.shape[1]
        y, x = np.indices((size, size), dtype=np.float32)
        fringes = sum(np.cos(2 * np.pi * r / _SPACING) for r in (x, y))
        numbers = range(*index[0].indices(self.shape[0]))
        frames = [np.random.default_rng(i).poisson(100 * (1 + 0.2 * fringes)) for i in numbers]
        return np.array(frames, dtype=np.uint16)[:, index[1], index[2]]


def chain(n_frames, size):
    """Compute x of a movie into a file; print memory before and at its largest, MiB."""
    # one frame a chunk, as files often come
    data = da.from_array(Movie(n_frames, size), chunks=(1, size, size), name=False)
    movie = hs.signals.Signal2D(data).as_lazy()
    movie.set_signal_type("HRTEMMovie")
    movie.axes_manager.signal_axes.set(scale=_PIXEL, units="nm")
    g = 1 / (_SPACING * _PIXEL)
    before = _peak()
    x = movie.to_concentration((g, 0), (0, g), hkl=[(2, 0, 0), (0, 0, 2)], material=CUBIC)
    with tempfile.TemporaryDirectory() as folder:
        x.save(Path(folder) / "x.hspy", show_progressbar=False)
    print(f"{before:.0f} {_peak():.0f}")


def _peak():
    # kilobytes on Linux, bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--frames", type=int, nargs="+", default=[20, 100, 400])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        chain(options.one, options.size)
        return
    print("frames   movie/MiB   before/MiB   largest/MiB")
    for n_frames in options.frames:
        command = [sys.executable, __file__, "--one", str(n_frames), "--size", str(options.size)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        before, largest = answer.split()[-2:]
        movie = n_frames * options.size**2 * 2 / 2**20
        print(f"{n_frames:6d}  {movie:10.0f}  {before:>11}  {largest:>12}")


if __name__ == "__main__":
    main()
