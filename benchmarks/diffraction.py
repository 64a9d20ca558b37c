"""Spot profiles of a series: time beside reading the frames, and memory against its length.

Run ``python benchmarks/diffraction.py``. A zone pattern of a single crystal, Poisson counts as
uint16, is written to a file in frames (.zspy), read lazily, and

- summed, each frame to one number: what reading alone takes;
- turned to profiles of one spot, with the centre given, and with the centre found in each pattern.

Times are of one worker, milliseconds a frame and as a ratio to summing; the fit is that of one
peak and of ``peaks="auto"`` to all profiles. The second table has the peak of the memory that
NumPy and dask hold while profiles are made of series of growing length, in frames.
"""

import argparse
import os
import tempfile
import time
import tracemalloc
from pathlib import Path

# before NumPy is imported, which reads it
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import dask
import hyperspy.api as hs
import numpy as np

SCALE, SPOT = 0.01, (1.76, 0.0)  # 1/nm


def pattern(size, number, random):
    """Counts of a centred rectangular lattice of spots about a direct beam."""
    y, x = np.ogrid[:size, :size]
    centre = np.array([0.488 * size + 0.3 * (number % 7), 0.518 * size])
    image = 20 + 200 * np.exp(-np.hypot(y - centre[0], x - centre[1]) / 120)
    line = np.arange(size)
    for h in range(-4, 5):
        for m in range(-2, 3):
            if (h + m) % 2 == 0:
                at = centre + [m * 190.0, h * 88.0]
                area = 3e5 if h == m == 0 else 2e4
                parts = [np.exp(-((line - c) ** 2) / 32) for c in at]
                image = image + area / (32 * np.pi) * np.outer(*parts)
    return random.poisson(image).astype(np.uint16)


def series_file(folder, frames, size, random):
    several = np.stack([pattern(size, i, random) for i in range(min(frames, 7))])
    signal = hs.signals.Signal2D(several[np.arange(frames) % len(several)])
    signal.axes_manager.signal_axes.set(scale=SCALE, units="1/nm")
    signal.set_signal_type("DiffractionSeries")
    path = Path(folder) / f"{frames}.zspy"
    signal.save(path, chunks=(1, size, size), show_progressbar=False)
    return path


def timed(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def speed(path, frames):
    def opened():
        return hs.load(path, lazy=True)

    options = {"lazy_output": False, "num_workers": 1, "show_progressbar": False}
    centre = tuple(SCALE * np.array([0.518, 0.488]) * opened().data.shape[-1])
    with dask.config.set(scheduler="threads", num_workers=1):
        reading, _ = timed(lambda: opened().data.sum(axis=(1, 2)).compute())
        given, _ = timed(lambda: opened().track_spot_profile(SPOT, centre=centre, **options))
        found, profile = timed(lambda: opened().track_spot_profile(SPOT, **options))
    one, _ = timed(lambda: profile.fit(peaks=1, **options))
    auto, _ = timed(lambda: profile.fit(**options))
    print("| step | ms a frame | ratio to reading |\n|---|---|---|")
    for name, seconds in (
        ("read and sum", reading),
        ("profile, centre given", given),
        ("profile, centre found", found),
        ("fit, one peak", one),
        ("fit, one or two", auto),
    ):
        print(f"| {name} | {1e3 * seconds / frames:.1f} | {seconds / reading:.1f} |")


def memory(folder, lengths, size, random):
    print("\n| frames | peak, in frames |\n|---|---|")
    for frames in lengths:
        path = series_file(folder, frames, size, random)
        series = hs.load(path, lazy=True)
        tracemalloc.start()
        series.track_spot_profile(SPOT, lazy_output=False, num_workers=1, show_progressbar=False)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(f"| {frames} | {peak / (2 * size**2):.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--lengths", type=int, nargs="+", default=[20, 60])
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = series_file(folder, arguments.frames, arguments.size, random)
        speed(path, arguments.frames)
        with tempfile.TemporaryDirectory() as other:
            memory(other, arguments.lengths, arguments.size, random)


if __name__ == "__main__":
    main()
