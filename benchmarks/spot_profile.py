"""Profiles through a spot: error and time beside sampling by splines and scikit-image.

Run ``python benchmarks/spot_profile.py``. The truth is the exact integral over every bin of a
Gaussian spot, of which the frame holds the exact integral over every pixel. The others sample the
frame on a grid of points one pixel apart and add up across the band:
`scipy.ndimage.map_coordinates` and `skimage.measure.profile_line`, both with
cubic splines and with linear interpolation. Errors are
the largest of many angles and sub-pixel places, in parts of the peak; the sum's error is in parts
of the spot. Times are of one thread on 60 bins of 1 x 20 pixels, all frames of uint16, in
milliseconds a frame; ratios are what to compare. The last table follows a spot through Poisson
noise and compares with the least error that its counts allow.
"""

import argparse
import os
import time

# before NumPy is imported, which reads it
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.special import erf
from skimage.measure import profile_line

from hyperspy_lfp.kernels.patterns.azimuth import turned_spots
from hyperspy_lfp.kernels.patterns.profile import band_profiles, radial_band


def gaussian(size, centre, sigma):
    edges = np.arange(size + 1) - 0.5
    parts = [np.diff(erf((edges - c) / (sigma * np.sqrt(2)))) / 2 for c in centre]
    return np.outer(*parts)


def by_kernel(frame, band, n_bins):
    return band_profiles(frame[None], band, n_bins).counts[0]


def by_samples(order):
    def profile(frame, band, n_bins):
        origin, along, across = (part[0] for part in band)
        width = round(np.hypot(*across))
        s = np.arange(n_bins) + 0.5
        t = (np.arange(width) + 0.5) / width - 0.5
        places = [o + s * a + t[:, None] * c for o, a, c in zip(origin, along, across, strict=True)]
        return map_coordinates(frame.astype(float), places, order=order).sum(axis=0)

    return profile


def by_profile_line(order):
    def profile(frame, band, n_bins):
        origin, along, across = (part[0] for part in band)
        start = origin + along / 2
        return profile_line(
            frame,
            start,
            start + (n_bins - 1 - 1e-9) * along,  # rounding would add a point
            linewidth=round(np.hypot(*across)),
            order=order,
            reduce_func=np.sum,
        )[:n_bins]

    return profile


METHODS = {
    "band_profiles": by_kernel,
    "map_coordinates, cubic": by_samples(3),
    "map_coordinates, linear": by_samples(1),
    "profile_line, cubic": by_profile_line(3),
    "profile_line, linear": by_profile_line(1),
}


def errors(method, sigma, n_places, random):
    """Largest error of a bin over the peak and largest error of the sum."""
    worst = np.zeros(2)
    size, n_bins = int(24 * sigma) + 9, 2 * int(6 * sigma)
    for i in range(n_places):
        # the pixels' own directions are the hardest
        angle = 0.0 if i % 4 == 0 else random.uniform(0, 2 * np.pi)
        centre = size // 2 + random.uniform(-0.5, 0.5, 2)
        start = -n_bins / 2 + random.uniform(-0.5, 0.5)
        band = radial_band(centre, (np.sin(angle), np.cos(angle)), start, 1, n_bins)
        counts = method(gaussian(size, centre, sigma), band, n_bins)
        edges = start + np.arange(n_bins + 1)
        truth = np.diff(erf(edges / (sigma * np.sqrt(2)))) / 2
        found = np.abs(counts - truth).max() / truth.max(), abs(counts.sum() - truth.sum())
        worst = np.maximum(worst, found)
    return worst


def seconds(function, repeats=5):
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def print_errors(n_places, seed):
    print("| method | sigma, px | error / peak | error of the sum |\n|---|---|---|---|")
    for name, method in METHODS.items():
        for sigma in (1.0, 1.5, 2.0, 3.0):
            peak, total = errors(method, sigma, n_places, np.random.default_rng(seed))
            print(f"| {name} | {sigma:g} | {peak:.1e} | {total:.1e} |")


def print_times(n_frames, seed):
    random = np.random.default_rng(seed)
    frames = random.poisson(20, (n_frames, 256, 256)).astype(np.uint16)
    moving = radial_band(128 + random.normal(0, 0.3, (n_frames, 2)), (0.3, 1), 10, 1, 20)
    still = radial_band((128, 128), (0.3, 1), 10, 1, 20)
    rows = {
        "band_profiles, moving": lambda: band_profiles(frames, moving, 60),
        "band_profiles, moving, sides": lambda: band_profiles(
            frames, moving, 60, background="sides"
        ),
        "band_profiles, still": lambda: band_profiles(frames, still, 60),
    }
    for name, method in list(METHODS.items())[1:]:
        rows[name] = lambda method=method: [method(frame, still, 60) for frame in frames]
    print("\n| method | ms a frame | variance |\n|---|---|---|")
    for name, function in rows.items():
        with_variance = "yes" if name.startswith("band") else "no"
        print(f"| {name} | {1e3 * seconds(function) / n_frames:.2f} | {with_variance} |")


def print_following(n_frames, seed):
    """The azimuth: error across the radius of a spot 40 pixels from the centre."""
    random = np.random.default_rng(seed)
    sigma, level, radius = 2.0, 1.0, 40.0
    print("\n| counts of the spot | rms error, px | least possible, px |\n|---|---|---|")
    for total in (10_000, 1000, 300, 150, 75):
        angles = 0.05 * np.sin(np.arange(n_frames))
        unit = np.stack([np.sin(angles), np.cos(angles)], axis=1)
        density = np.array([gaussian(101, 45 + radius * u - [0, 35], sigma) for u in unit])
        frames = random.poisson(level + total * density)
        found = turned_spots(frames, np.full((n_frames, 2), (45, 10)), (0, radius), 10.0)
        error = radius * (np.arctan2(*found.T) - angles)
        spot = gaussian(61, (30, 30), sigma)
        slope = np.gradient(total * spot, axis=0)
        least = (slope**2 / (level + total * spot)).sum() ** -0.5
        print(f"| {total} | {np.sqrt((error**2).mean()):.3f} | {least:.3f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--places", type=int, default=40, help="places and angles per error")
    parser.add_argument("--frames", type=int, default=40, help="frames timed")
    parser.add_argument("--followed", type=int, default=300, help="frames followed")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print_errors(options.places, options.seed)
    print_times(options.frames, options.seed)
    print_following(options.followed, options.seed)
