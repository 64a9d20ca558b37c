"""Simulated movies: the time of a frame, the error of their truth, and the errors that are planned.

Run ``OMP_NUM_THREADS=1 python benchmarks/simulated_movie.py``. Times are of one thread, in units
of one `scipy.fft.rfft2` of the frame in float32 in the same run. All tables are markdown.
"""

import argparse
import time

import hyperspy.api as hs
import numpy as np
from scipy import fft

from hyperspy_lfp import simulation
from hyperspy_lfp.signals import ConcentrationMap

PAIR = [(1, 0, 1), (1, 0, -1)]
#: Of a movie whose time is taken: what the frames share is prepared once.
FRAMES = 5


def source(x, spacing):
    axes = [
        {"name": n, "size": size, "scale": spacing, "units": "nm", "navigate": False}
        for n, size in zip("yx", x.shape[-2:], strict=True)
    ]
    if x.ndim == 3:
        axes.insert(0, {"name": "time", "size": len(x), "units": "s", "navigate": True})
    return ConcentrationMap(x, axes=axes)


def fastest(function, number=5):
    times = []
    for _ in range(number):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def speed(sizes):
    y, x = np.mgrid[:24, :24]
    x = np.repeat(np.where((y < 10) & (x < 10), 0.8, 0.2)[None], FRAMES, axis=0)
    cases = {
        "five fringes, expected": {},
        "counted": {"dose": 400},
        "film, transfer function, counted": {"dose": 400, "film": 0.05, "mtf": "pixel"},
        "columns": {"image": "columns", "contrast": 0.03},
    }
    print("| frame | image | s | rfft2 |\n|---|---|---|---|")
    for size in sizes:
        noise = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
        unit = fastest(lambda a=noise: fft.rfft2(a))
        for name, settings in cases.items():
            movie = simulation.hrtem_movie(
                source(x, 1.0), material="LiFePO4", shape=(size, size), lazy=True, **settings
            )
            taken = fastest(lambda m=movie: m.data.compute(scheduler="sync"), 3) / FRAMES
            print(f"| {size}² | {name} | {taken:.3f} | {taken / unit:.0f} |")
    print()


def accuracy():
    """Geometric phases of noise-free movies against the truth under the same window."""
    places = (np.arange(52) - 25.5) * 0.5
    x = np.broadcast_to(0.5 + 0.3 * np.sin(2 * np.pi * places / 12), (44, 52))
    print("| lattice | amplitudes | rms exx | eyy | exy | rotation |\n|---|---|---|---|---|---|")
    for lattice in ("vegard", "coherent"):
        for name, contrast in (("uniform", [0.2, 0.2]), ("structure factors", 0.2)):
            movie = simulation.hrtem_movie(
                source(x, 0.5),
                material="LiFePO4",
                shape=(300, 340),
                pixel=0.05,
                hkl=PAIR,
                contrast=contrast,
                lattice=lattice,
            )
            g = simulation.truth(movie).g_vectors(PAIR)
            strain = movie.gpa(*g, hkl=PAIR, resolution=0.8, mask=None).strain()
            expected = simulation.truth(strain).smoothed(0.8).strain
            k = int(np.ceil(4.0 / strain.axes_manager.signal_axes[0].scale))
            off = (strain.data - expected.data)[:, k:-k, k:-k]
            rms = " | ".join(f"{np.sqrt(np.mean(c**2)):.1e}" for c in off)
            print(f"| {lattice} | {name} | {rms} |")
    print()


def planned(seed, frames):
    """Scatter of x in movies of a uniform crystal, over what was planned."""
    cases = {
        "(101), (10-1)": (PAIR, (0.15, 0.15)),
        "(200), (101)": ([(2, 0, 0), (1, 0, 1)], (0.1, 0.15)),
        "(101), (10-1), (200)": ([*PAIR, (2, 0, 0)], (0.15, 0.15, 0.1)),
    }
    print("| reflections | σ of x | actual / planned | box of 5 × 4 nm | actual / planned |")
    print("|---|---|---|---|---|")
    for name, (hkl, contrast) in cases.items():
        movie = simulation.hrtem_movie(
            source(np.full((frames, 24, 24), 0.5), 1.0),
            material="LiFePO4",
            shape=(384, 400),
            pixel=0.05,
            dose=100,
            hkl=hkl,
            contrast=contrast,
            seed=seed,
        )
        plan = simulation.plan(100, contrast, 1.0, hkl=hkl, pixel=0.05, box=(5, 4))
        x = movie.to_concentration(
            *plan.g, hkl=hkl, resolution=1.0, reference="cell", x_reference=0.5, mask=None
        )
        k = int(np.ceil(3 / x.axes_manager.signal_axes[0].scale))
        point = x.data[:, k:-k, k:-k].std()
        rois = [
            hs.roi.RectangularROI(3 + 5 * i, 3 + 4 * j, 8 + 5 * i, 7 + 4 * j)
            for i in range(2)
            for j in range(3)
        ]
        of_box = x.evolution(rois).data.std()
        print(
            f"| {name} | {plan.sigma_x:.4f} | {point / plan.sigma_x:.3f} | {plan.sigma_x_box:.4f} "
            f"| {of_box / plan.sigma_x_box:.3f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--frames", type=int, default=40)
    arguments = parser.parse_args()
    hs.preferences.General.show_progressbar = False
    speed(arguments.sizes)
    accuracy()
    planned(arguments.seed, arguments.frames)


if __name__ == "__main__":
    main()
