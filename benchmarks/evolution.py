"""Standard errors of means over regions against the scatter of the means, by Monte Carlo.

Run ``python benchmarks/evolution.py``; ``--frames 200`` is quick. Every row is a region of the
composition maps of many noisy images of one perfect lattice, taken through the whole chain
(``to_concentration``, ``evolution``): how often the interval of plus and minus 1.96 standard
errors holds the mean of all images (nominal 95 %), and the predicted over the actual standard
deviation, next to what counting resolution elements, area / 4 pi resolution^2, would predict. The
last column is the standard error of the ratio, 1 / sqrt(2 frames).

Images: (101) and (10-1) of FePO4 at an angle to the pixels, white noise; one that fills the frame
and a round particle in vacuum.
"""

import argparse
import os

# before NumPy is imported, which reads them
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hyperspy.api as hs
import numpy as np
from hyperspy.signals import Signal2D

from hyperspy_lfp import materials

SCALE = 0.08  # nm per pixel
TILT = np.deg2rad(12.0)  # of the a axis against x
FRINGES = 250.0  # amplitude of each reflection
NOISE = 80.0  # standard deviation of a pixel: x of one map pixel is then good to about 0.02
SIDES = (1, 2, 4, 7, 11)  # of the boxes, resolutions
RADII = (1, 3)  # of the discs, resolutions
BATCH = 100  # images at a time


def reciprocal_vectors():
    """(101) and (10-1) of FePO4, (x, y) in 1/nm."""
    a, _, c = materials.get("LiFePO4").cell(0.0) / 10
    along_a = np.array([np.cos(TILT), -np.sin(TILT)]) / a
    along_c = np.array([np.sin(TILT), np.cos(TILT)]) / c
    return np.array([along_a + along_c, along_a - along_c])


def lattice_image(size, radius):
    """Fringes in a frame of (y, x) pixels, or in a disc of a radius in nm."""
    y, x = (np.arange(n) * SCALE for n in size)
    y = y[:, None]
    image = sum(np.cos(2 * np.pi * (g[0] * x + g[1] * y)) for g in reciprocal_vectors())
    if radius is not None:
        image = image * (np.hypot(x - x.mean(), y - y.mean()) < radius)
    return 1000 + FRINGES * image


def concentration(image, frames, resolution, seed):
    """Maps of the composition of noisy copies of an image."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((frames, *image.shape), dtype=np.float32)
    movie = Signal2D((image + NOISE * noise).astype(np.float32))
    for axis, name in zip(movie.axes_manager.signal_axes, "xy", strict=True):
        axis.name, axis.scale, axis.units = name, SCALE, "nm"
    movie.axes_manager.navigation_axes[0].name = "time"
    movie.set_signal_type("HRTEMMovie")
    return movie.to_concentration(
        *reciprocal_vectors(), resolution=resolution, show_progressbar=False
    )


def regions(size, resolution, radius):
    """Boxes, discs and parts of the map by their names."""
    cy, cx = (SCALE * n / 2 for n in size)
    extent = radius * np.sqrt(2) if radius else 2 * min(cx, cy)
    found = {}
    for n in SIDES:
        half = n * resolution / 2
        if 2 * half < extent:
            box = (cx - half, cy - half, cx + half, cy + half)
            found[f"box, {n} resolutions"] = hs.roi.RectangularROI(*box)
    for n in RADII:
        found[f"disc, radius {n} resolutions"] = hs.roi.CircleROI(cx, cy, n * resolution)
    found["left half"] = hs.roi.RectangularROI(-1, -1, cx, 2 * cy + 1)
    found["whole map"] = hs.roi.RectangularROI(-1, -1, 2 * cx + 1, 2 * cy + 1)
    return found


def measure(image, rois, frames, resolution):
    """Means, standard errors, and those of counted resolution elements, (region, frame) each."""
    parts = []
    for seed, first in enumerate(range(0, frames, BATCH)):
        x = concentration(image, min(BATCH, frames - first), resolution, seed)
        evolution = x.evolution(rois, show_progressbar=False)
        counted = [elements(x, roi) for roi in rois.values()]
        parts.append((evolution.data, evolution.standard_error.data, counted))
    return (np.concatenate(p, axis=1) for p in zip(*parts, strict=True))


def elements(x, roi):
    """Standard error from the number of resolution elements in a region."""
    axes = x.axes_manager.signal_axes
    part = roi(x)
    valid = np.isfinite(part.data)
    noise = np.where(valid, part.get_noise_variance().data, 0).sum(axis=(1, 2))
    count = valid.sum(axis=(1, 2))
    share = axes[0].scale * axes[1].scale / (4 * np.pi * x.resolution**2)
    return np.sqrt(noise / count / np.maximum(1, count * share))


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=1000, help="images (default: 1000)")
    parser.add_argument(
        "--resolution",
        type=float,
        nargs="+",
        default=[0.6, 0.86],
        help="nm (default: 0.6, and 0.86, two spacings of the lattice)",
    )
    options = parser.parse_args()
    print("| image | resolution (nm) | region | coverage (%) | predicted / actual | counted | +- |")
    print("|---|---|---|---|---|---|---|")
    for resolution in options.resolution:
        side = round(13 * resolution / SCALE)
        for name, radius in (("full frame", None), ("particle", 6 * resolution)):
            size = side, side + 8
            image, rois = lattice_image(size, radius), regions(size, resolution, radius)
            mean, error, counted = measure(image, rois, options.frames, resolution)
            deviation = mean - mean.mean(axis=1, keepdims=True)
            for i, region in enumerate(rois):
                covered = 100 * (np.abs(deviation[i]) < 1.96 * error[i]).mean()
                scatter = mean[i].std()
                ratios = [np.sqrt((e[i] ** 2).mean()) / scatter for e in (error, counted)]
                print(
                    f"| {name} | {resolution:g} | {region} | {covered:.1f} | {ratios[0]:.2f} | "
                    f"{ratios[1]:.2f} | {1 / np.sqrt(2 * options.frames):.2f} |"
                )


if __name__ == "__main__":
    main()
