"""Monte Carlo of the concentration reversal: false positives, power, bias and coverage.

Series of 200 frames with noise of sigma = 0.03, white or AR(1), on courses x(t) that never fall and
on courses with a true reversal. One row is one course with one noise:

- found: share of series with p <= 0.05 (false positives, or power),
- amplitude: median and mean of what `reversal` reports,
- coverage: share of 95 % intervals that hold the true amplitude,
- raw: mean of the maximum drawdown of the series itself, for contrast.

    python benchmarks/reversal.py                 # 40 series a row
    python benchmarks/reversal.py --series 400    # figures
    python benchmarks/reversal.py --maps          # the same for reversal_map
"""

import argparse
import time

import numpy as np

from hyperspy_lfp.kernels.concentration.reversal import drawdown, reversal
from hyperspy_lfp.kernels.concentration.reversal_map import reversal_map

FRAMES = 200
SIGMA = 0.03
TIMES = np.arange(float(FRAMES))
U = np.linspace(0, 1, FRAMES)

MONOTONE = {
    "constant": np.full(FRAMES, 0.4),
    "linear": U,
    "sigmoid": 1 / (1 + np.exp(-12 * (U - 0.5))),
    "saturating": 1 - np.exp(-4 * U),
    "step, plateau": np.interp(U, [0, 0.025, 1], [0, 0.9, 0.9]),
    "two steps": np.interp(U, [0, 0.3, 0.33, 0.66, 0.69, 1], [0, 0.05, 0.45, 0.5, 0.9, 0.95]),
}
#: Course, frames of the fall, its middle, smooth or sharp corners.
FALLS = [
    ("linear", 10, 0.5, "sharp"),
    ("linear", 10, 0.3, "smooth"),
    ("linear", 20, 0.7, "sharp"),
    ("linear", 30, 0.3, "smooth"),
    ("linear", 60, 0.5, "sharp"),
    ("linear", 60, 0.6, "smooth"),
    ("sigmoid", 20, 0.5, "smooth"),
    ("sigmoid", 30, 0.75, "sharp"),
    ("saturating", 30, 0.2, "smooth"),
    ("saturating", 40, 0.7, "sharp"),
    ("two steps", 30, 0.5, "smooth"),
    ("constant", 30, 0.5, "smooth"),
]


def with_reversal(course, amplitude, duration, middle, corners):
    """The course runs, falls by the amplitude, and goes on at the rate it had."""
    start = int(middle * FRAMES) - duration // 2
    rate = np.diff(0.9 * MONOTONE[course], prepend=0.9 * MONOTONE[course][0])
    phase = (np.arange(FRAMES) - start - 0.5) / duration
    falling = (phase > 0) & (phase < 1)
    fall = np.where(falling, 1.0 if corners == "sharp" else np.sin(np.pi * phase), 0)
    return np.cumsum(np.where(falling, 0, rate) - amplitude * fall / fall.sum())


def ar1(rho, n_series, rng):
    """Noise, shape (FRAMES, n_series)."""
    noise = rng.standard_normal((FRAMES, n_series))
    for i in range(1, FRAMES):
        noise[i] = rho * noise[i - 1] + np.sqrt(1 - rho**2) * noise[i]
    return SIGMA * noise


def measure(course, rho, n_series, seed, n_bootstrap=500):
    """Results of `n_series` series, a record of arrays."""
    rng = np.random.default_rng(seed)
    series = course[:, None] + ar1(rho, n_series, rng)
    results = [reversal(TIMES, x, n_bootstrap=n_bootstrap, seed=rng) for x in series.T]
    truth = drawdown(course)
    return {
        "found": np.mean([r.p_value <= 0.05 for r in results]),
        "median": np.median([r.amplitude for r in results]),
        "mean": np.mean([r.amplitude for r in results]),
        "sd": np.std([r.amplitude for r in results]),
        "coverage": np.mean([r.ci[0] <= truth + 1e-9 and truth <= r.ci[1] for r in results]),
        "raw": drawdown(series).mean(),
        "sigma": np.mean([r.sigma for r in results]),
        "rho": np.mean([r.rho for r in results]),
    }


def measure_map(course, rho, n_series, seed, n_bootstrap=None):
    """The same of the pixels of one map."""
    rng = np.random.default_rng(seed)
    series = course[:, None] + ar1(rho, n_series, rng)
    result = reversal_map(TIMES, series, seed=rng)
    return {
        "found": np.mean(result.p_value <= 0.05),
        "median": np.median(result.amplitude),
        "mean": np.mean(result.amplitude),
        "sd": np.std(result.amplitude),
        "coverage": np.nan,
        "raw": drawdown(series).mean(),
        "sigma": np.mean(result.sigma),
        "rho": np.mean(result.rho),
    }


def cases(amplitudes, only):
    """Name, true amplitude and course."""
    for name, course in MONOTONE.items():
        yield name, course
    for amplitude in amplitudes:
        for course, duration, middle, corners in FALLS:
            name = f"{course}, {amplitude} in {duration} at {middle}, {corners}"
            yield name, with_reversal(course, amplitude, duration, middle, corners)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=40, help="a row")
    parser.add_argument("--amplitudes", type=float, nargs="*", default=[0.04, 0.073, 0.15])
    parser.add_argument("--rho", type=float, nargs="+", default=[0.0, 0.5])
    parser.add_argument("--bootstrap", type=int, default=500)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--maps", action="store_true", help="reversal_map instead of reversal")
    options = parser.parse_args()
    columns = ["found", "median", "mean", "sd", "coverage", "raw", "sigma", "rho"]
    print("| course | rho | true | " + " | ".join(columns) + " | ms a series |")
    print("|---" * (len(columns) + 4) + "|")
    method = measure_map if options.maps else measure
    for rho in options.rho:
        for k, (name, course) in enumerate(cases(options.amplitudes, options.only)):
            if options.only not in name:
                continue
            start = time.perf_counter()
            row = method(course, rho, options.series, [k, int(100 * rho)], options.bootstrap)
            used = 1e3 * (time.perf_counter() - start) / options.series
            cells = [
                f"{row[c]:.2f}" if c in ("found", "coverage") else f"{row[c]:.3f}" for c in columns
            ]
            print(
                f"| {name} | {rho} | {drawdown(course):.3f} | {' | '.join(cells)} | {used:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
