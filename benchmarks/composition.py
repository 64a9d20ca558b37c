"""Errors of x in multislice images against the errors that are predicted, from the rim inwards.

Run ``python benchmarks/composition.py FOLDER``, the folder that holds ``movieA_dose100.hspy``,
``movieA_dose1000.hspy`` and ``movieA_truth.npz``; without it ``simulated`` in the folder that the
environment variable ``HYPERSPY_LFP_SHARED`` names. It takes half a minute, and prints markdown.

The movie has six frames of a LixFePO4 particle in vacuum that loses its lithium, with Fresnel
fringes at its rim and fronts of x narrower than the window. x is measured with the exact vectors of
FePO4 as the reference, so that errors of the tables and of the pixel size are not in it.

- First table, all frames together: error of x by the distance from the edge; *predicted* is the
  root of the mean variance that comes with the map (noise and local systematic errors), *ratio*
  the actual rms over it. Once for all pixels, once for those that no flag of a wrong x is set on
  (inconsistent, outside, phase jump, dislocation, closure; not the rim, which is the question).
- Second table: the worst of the six frames, all pixels further than 1.5 and 3 nm from the edge.
"""

import argparse
import itertools
import os
import sys
from pathlib import Path

# before NumPy is imported, which reads them
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hyperspy.api as hs
import numpy as np
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import distance_transform_edt

DOSES = 100, 1000  # electrons per pixel
CHOICES = (
    ((1, 0, 1), (1, 0, -1)),
    ((2, 0, 0), (1, 0, 1)),
    ((1, 0, 1), (1, 0, -1), (2, 0, 0)),
)
RESOLUTION = 0.8  # nm
EDGES = 0.4, 0.8, 1.2, 1.5, 2.2, 3.0, np.inf  # nm
MARGINS = 1.5, 3.0  # nm
WRONG = "inconsistent", "outside", "phase jump", "dislocation", "closure"


def concentration(movie, truth, hkl):
    """Map of x relative to the FePO4 of the simulation, whose a is along x and c along y."""
    a, c = float(truth["a_FP_nm"]), float(truth["c_FP_nm"])
    vectors = [(h / a, l / c) for h, _, l in hkl]  # noqa: E741
    return movie.to_concentration(*vectors, resolution=RESOLUTION, hkl=hkl)


def errors(x, truth):
    """Error, predicted variance, whether flagged, distance from the edge and frame of pixels."""
    step = float(truth["stride"] * truth["pixel_nm"])
    columns, rows = (axis.axis for axis in x.axes_manager.signal_axes)
    points = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    variance, flagged = x.get_noise_variance().data, x.flagged(*WRONG).data
    parts = []
    for frame, values in enumerate(x.data):
        mask = truth["mask"][frame]
        grid = [np.arange(n) * step for n in mask.shape]
        expected, distance = (
            RegularGridInterpolator(grid, v, bounds_error=False, fill_value=0.0)(points)
            for v in (truth["x"][frame].astype(float), distance_transform_edt(mask) * step)
        )
        inside = (distance > 0) & np.isfinite(values)
        columns_of_table = (values - expected, variance[frame], flagged[frame], distance)
        parts.append([c[inside] for c in columns_of_table] + [np.full(inside.sum(), frame)])
    return [np.concatenate(c) for c in zip(*parts, strict=True)]


def numbers(error, variance):
    """Cells of the table: bias, rms, predicted, ratio."""
    if not len(error):
        return ["-"] * 4
    rms, predicted = np.sqrt(np.mean(error**2)), np.sqrt(np.mean(variance))
    return [f"{error.mean():+.4f}", f"{rms:.4f}", f"{predicted:.4f}", f"{rms / predicted:.2f}"]


def by_distance(name, error, variance, flagged, distance, frame):
    """Rows of the first table."""
    for low, high in itertools.pairwise(EDGES):
        here = (distance >= low) & (distance < high)
        kept = here & ~flagged
        place = f"{low:g} to {high:g}" if np.isfinite(high) else f"> {low:g}"
        cells = [*numbers(error[here], variance[here]), f"{100 * flagged[here].mean():.0f}"]
        yield [*name, place, *cells, *numbers(error[kept], variance[kept])]


def worst_frames(name, error, variance, flagged, distance, frame):
    """Rows of the second table."""
    for margin in MARGINS:
        bias, rms, ratio = [], [], []
        for i in np.unique(frame):
            here = (frame == i) & (distance >= margin)
            bias.append(error[here].mean())
            rms.append(np.sqrt(np.mean(error[here] ** 2)))
            ratio.append(rms[-1] / np.sqrt(variance[here].mean()))
        worst = bias[int(np.argmax(np.abs(bias)))]
        spread = f"{min(ratio):.2f} to {max(ratio):.2f}"
        yield [*name, f">= {margin:g}", f"{worst:+.4f}", f"{max(rms):.4f}", spread]


def table(header, rows):
    """Print markdown."""
    print("| " + " | ".join(header) + " |")
    print("|---" * len(header) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def main():
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = os.environ.get("HYPERSPY_LFP_SHARED")
    default = Path(shared) / "simulated" if shared else None
    parser.add_argument("folder", type=Path, nargs="?", default=default, help="of the movies")
    folder = parser.parse_args().folder
    if folder is None or not (folder / "movieA_truth.npz").is_file():
        sys.exit(
            f"no movieA_truth.npz in {folder}: give the folder of the movies, or set "
            "HYPERSPY_LFP_SHARED to the one that holds it as 'simulated'."
        )
    hs.preferences.General.show_progressbar = False
    truth = dict(np.load(folder / "movieA_truth.npz"))
    found = {}
    for dose in DOSES:
        movie = hs.load(folder / f"movieA_dose{dose}.hspy")
        movie.set_signal_type("HRTEMMovie")
        for hkl in CHOICES:
            name = str(dose), " ".join("({}{}{})".format(*indices) for indices in hkl)
            found[name] = errors(concentration(movie, truth, hkl), truth)
    four = ["bias", "rms", "predicted", "ratio"]
    kept = [f"{column}, unflagged" for column in four]
    header = ["dose", "reflections", "nm from the edge", *four, "flagged (%)", *kept]
    table(header, (row for item in found.items() for row in by_distance(item[0], *item[1])))
    header = ["dose", "reflections", "nm from the edge", "worst bias", "worst rms", "ratios"]
    table(header, (row for item in found.items() for row in worst_frames(item[0], *item[1])))


if __name__ == "__main__":
    main()
