"""Time of two-reflection GPA with strain or x, in units of one real FFT of the frame.

Run ``python benchmarks/gpa_speed.py``. Everything is measured side by side in one run: the signal
methods (`HRTEMMovie.gpa(...).strain()` and `HRTEMMovie.to_concentration(...)`, all included, on
uint16 frames in memory) on one thread and on two, against ``scipy.fft.rfft2`` of the same frames in
float32 on one thread. Ratios are what to compare; absolute times belong to the machine.
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


def timed(function):
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument("--sigmas", type=float, nargs="+", default=[60, 40, 20, 10])
    parser.add_argument("--spacing", type=float, default=10.3, help="of the lattice, pixels")
    parser.add_argument("--megapixels", type=float, default=64, help="of the movie")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print("| frame | σ / px | rfft2 / ms | strain | x | strain, 2 threads | one / two threads |")
    print("|---|---|---|---|---|---|---|")
    for size in options.sizes:
        n_frames = max(2, round(options.megapixels * 2**20 / size**2))
        movie, g = lattice_movie(size, n_frames, options.spacing)
        images = movie.data.astype(np.float32)
        for sigma in options.sigmas:

            def strain(threads, movie=movie, g=g, sigma=sigma):
                keywords = dict(show_progressbar=False, num_workers=threads)
                phase = movie.gpa(*g, resolution=sigma * _PIXEL, lazy_output=True, **keywords)
                phase.strain(lazy_output=False, **keywords)

            def composition(movie=movie, g=g, sigma=sigma):
                keywords = dict(show_progressbar=False, num_workers=1)
                keywords |= dict(hkl=[(1, 0, 0), (0, 0, 1)], material=CUBIC)
                movie.to_concentration(*g, resolution=sigma * _PIXEL, **keywords)

            # one after the other, again and again, so that all have the same neighbours
            jobs = [
                lambda images=images: [scipy.fft.rfft2(i) for i in images],
                lambda strain=strain: strain(1),
                composition,
                lambda strain=strain: strain(2),
            ]
            times = np.min([[timed(job) for job in jobs] for _ in range(options.repeats)], axis=0)
            fft, *others = 1e3 * times / n_frames
            ratios = [f"{t / fft:.2f}" for t in others]
            print(
                f"| {size}² | {sigma:.0f} | {fft:.1f} | "
                + " | ".join(ratios)
                + f" | {others[0] / others[2]:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
