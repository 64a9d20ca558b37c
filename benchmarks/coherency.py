"""The coherency inverse: contrast that is kept, error that is stated, time that is taken.

Run ``python benchmarks/coherency.py``. Strains of stripes along c and of squares come from the
other forward calculation of the tests (triangles, thick particle, moduli 10 % off) with the noise
of geometric phase analysis, and are inverted in a thin foil of the right moduli. ``--thin`` makes
the particle of the truth thin as well, ``--thick`` inverts as if it were thick, ``--smoothing``
takes another rule. ``--time`` prints times instead. All tables are markdown.
"""

import argparse
import importlib.util
import time
from pathlib import Path

import numpy as np

from hyperspy_lfp.kernels.mechanics.coherency import invert, plan_coherency
from hyperspy_lfp.kernels.mechanics.elasticity import CONDITIONS, orthotropic_medium

_PATH = Path(__file__).parents[1] / "tests" / "kernels" / "independent_elasticity.py"
_SPEC = importlib.util.spec_from_file_location("independent_elasticity", _PATH)
independent = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(independent)

SIZE, PIXEL, SIGMA, NOISE = 24.0, 0.4, 1.0, 0.003  # nm, nm, nm, strain
N = round(SIZE / PIXEL)
Y, X = (np.mgrid[:N, :N] + 0.5) * PIXEL
OFF = np.maximum(np.abs(X - SIZE / 2), np.abs(Y - SIZE / 2))
INTERIOR = OFF < SIZE / 2 - 2 * SIGMA


def stripes(period):
    def composition(x, y):
        return 0.5 + 0.5 * np.cos(2 * np.pi * y / period)

    def contrast(found):
        phase = 2 * np.pi * Y[INTERIOR] / period
        design = np.column_stack([np.cos(phase), np.sin(phase), np.ones_like(phase)])
        return np.linalg.lstsq(design, found[INTERIOR], rcond=None)[0][0] / 0.5

    return f"stripes, {period} nm", composition, contrast


def square(side):
    """The core, half as wide, less what is a resolution or more off the square."""

    def composition(x, y):
        return ((np.abs(x - SIZE / 2) < side / 2) & (np.abs(y - SIZE / 2) < side / 2)) * 1.0

    def contrast(found):
        core, outside = side / 4 > OFF, INTERIOR & (side / 2 + 2 * SIGMA < OFF)
        return found[core].mean() - found[outside].mean()

    return f"square, {side} nm", composition, contrast


def make_plan(shape, pixel, condition):
    medium = orthotropic_medium(independent.MEAN, independent.EIGENSTRAIN, (1, 0), condition)
    return plan_coherency(np.ones(shape, bool), (pixel, pixel), medium, SIGMA, np.eye(2))


def contrasts(options):
    plan = make_plan((N, N), PIXEL, CONDITIONS[options.thick])
    variance = np.full((2, N, N), NOISE**2)
    print("| | kept | a axis | error of x | actual / stated | misfit |\n|---|---|---|---|---|---|")
    actual, stated = [], []
    cases = [stripes(p) for p in (6, 8, 10, 15)] + [square(s) for s in (4, 6, 8, 12)]
    for name, composition, contrast in cases:
        clean = independent.strains(
            np.ones((N, N), bool),
            (PIXEL, PIXEL),
            composition,
            lambda x, y: (x >= 0) & (x < SIZE) & (y >= 0) & (y < SIZE),
            SIGMA,
            cell=0.27,
            thick=not options.thin,
        )
        # a pixel holds the mean of what is in it
        inside = (np.arange(4) - 1.5) / 4 * PIXEL
        truth = np.mean([composition(X + i, Y + j) for i in inside for j in inside], axis=0)
        rows = []
        for seed in range(options.seeds):
            random = np.random.default_rng(seed)
            noise = independent.noise((N, N), (PIXEL, PIXEL), SIGMA, NOISE, 0.0, random)
            strain = clean + noise
            found = invert(strain, variance, plan, options.smoothing)
            error = ((found.x - truth)[INTERIOR] ** 2).mean()
            expected = found.variance[INTERIOR].mean()
            actual.append(error)
            stated.append(expected)
            local = contrast(strain[0] / independent.EIGENSTRAIN[0])
            ratio = np.sqrt(error / expected)
            rows.append((contrast(found.x), local, np.sqrt(error), ratio, found.misfit))
        print(f"| {name} | " + " | ".join(f"{v:.2f}" for v in np.mean(rows, axis=0)) + " |")
    ratio = np.sqrt(np.mean(actual) / np.mean(stated))
    print(f"| all | | | {np.sqrt(np.mean(actual)):.2f} | {ratio:.2f} | |")


def times():
    print("| map | pixel / nm | unknowns | plan / s | frame / s |\n|---|---|---|---|---|")
    random = np.random.default_rng(0)
    for n in (50, 100):
        for pixel in (SIGMA / 3, SIGMA / 2):
            start = time.perf_counter()
            plan = make_plan((n, n), pixel, CONDITIONS[0])
            planned = time.perf_counter()
            strain = independent.noise((n, n), (pixel, pixel), SIGMA, NOISE, 0.0, random)
            before = time.perf_counter()
            invert(strain, np.full(strain.shape, NOISE**2), plan)
            frame = time.perf_counter() - before
            unknowns = plan.basis.shape[1]
            print(f"| {n} × {n} | {pixel:.2f} | {unknowns} | {planned - start:.1f} | {frame:.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--thin", action="store_true", help="the true particle is thin")
    parser.add_argument("--thick", action="store_true", help="invert as if it were thick")
    parser.add_argument("--smoothing", default="consistent", choices=["consistent", "discrepancy"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--time", action="store_true")
    options = parser.parse_args()
    if options.time:
        times()
    else:
        contrasts(options)


if __name__ == "__main__":
    main()
