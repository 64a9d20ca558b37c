"""Time of two-reflection GPA with strain, in units of one real FFT of the frame.

Run ``python benchmarks/gpa_speed.py``. Everything is measured side by side in one run on one
thread: the signal methods (`HRTEMMovie.gpa(...).strain()`, all included, uint16 frames) against
``scipy.fft.rfft2`` of the same frame in float32. Ratios are what to compare; absolute times belong
to the machine.
"""

import argparse
import os
import time

# before NumPy is imported, which reads it
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import scipy.fft

from hyperspy_lfp.materials import Material
from hyperspy_lfp.signals import HRTEMMovie

CUBIC = Material("cubic", (0, 1), a=(8.0, 8.1), b=(8.0, 8.1), c=(8.0, 8.1))
_PIXEL = 0.025  # nm


def lattice_movie(size, n_frames, spacing):
    """Frames of two crossed fringes with Poisson noise, 100 electrons a pixel, strained by 2 %."""
    random = np.random.default_rng(0)
    y, x = np.indices((size, size), dtype=np.float32)
    angle = 0.2
    directions = (np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))
    g = np.array(directions) / spacing
    frames = np.empty((n_frames, size, size), dtype=np.uint16)
    for i, frame in enumerate(frames):
        stretch = 1 + 0.02 * i / max(1, n_frames - 1)
        fringes = sum(np.cos(2 * np.pi / stretch * (gx * x + gy * y)) for gx, gy in g)
        frame[...] = random.poisson(100 * (1 + 0.2 * fringes))
    signal = HRTEMMovie(frames)
    signal.axes_manager.signal_axes.set(scale=_PIXEL, units="nm")
    return signal, g / _PIXEL


def best(function, repeats):
    """Shortest time of several runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument("--sigmas", type=float, nargs="+", default=[60, 40, 20, 10])
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print("frame  sigma/px   rfft2/ms   GPA + strain/ms   GPA + x/ms   ratio   ratio with x")
    for size in options.sizes:
        for sigma in options.sigmas:
            spacing = max(4.0, sigma / 2)
            movie, g = lattice_movie(size, options.frames, spacing)
            images = movie.data.astype(np.float32)
            keywords = dict(resolution=sigma * _PIXEL, show_progressbar=False, num_workers=1)

            def strain(movie=movie, g=g, keywords=keywords):
                phase = movie.gpa(*g, **{**keywords, "lazy_output": True})
                phase.strain(lazy_output=False, show_progressbar=False, num_workers=1)

            def composition(movie=movie, g=g, keywords=keywords):
                movie.to_concentration(*g, hkl=[(1, 0, 0), (0, 0, 1)], material=CUBIC, **keywords)

            fft = best(lambda images=images: [scipy.fft.rfft2(i) for i in images], options.repeats)
            fft, with_strain, with_x = (
                1e3 * t / options.frames
                for t in (fft, best(strain, options.repeats), best(composition, options.repeats))
            )
            print(
                f"{size:5d}  {sigma:8.0f}  {fft:9.2f}  {with_strain:16.2f}  {with_x:11.2f}"
                f"  {with_strain / fft:6.2f}  {with_x / fft:13.2f}"
            )


if __name__ == "__main__":
    main()
