"""Phase field of a particle: table of models, convergence, lithium balance, time.

Run ``python benchmarks/lithiation.py``; ``--quick`` leaves out the finest grids and tolerances, and
takes half a minute. Amplitudes are those of concentration reversal: how far the mean composition
of domain 1, a 10 x 10 nm corner of a 24 x 24 nm particle, falls below what it has been. Times are
in units of one sparse factorisation of the system of that particle (578 unknowns), measured in the
same run on one thread: absolute numbers belong to the machine.
"""

import argparse
import os
import time

# before NumPy is imported, which reads them
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from hyperspy_lfp import simulation

RATES = (4, 8, 14, 18)
DIFFUSIVITY = 5.3e-19  # m2/s
#: Name, arguments, and the amplitudes that another program had found.
ROWS = (
    ("homogeneous", {"model": "homogeneous"}, (None, 0, None, 0)),
    (
        "fixed, interaction 1 and 4.51 kT, all public parameters",
        {
            "model": "homogeneous",
            "domains": [simulation.Domain("corner", interaction=1.0), simulation.Domain()],
        },
        (0, 0, 0, 0),
    ),
    ("fixed", {"model": "fixed"}, (0.183, 0.163, 0.135, 0.117)),
    ("defect_coupled", {"model": "defect_coupled"}, (0.077, 0.190, 0.348, 0.426)),
    (
        "defect_coupled with D = 5.3e-19 m2/s",
        {"model": "defect_coupled", "diffusivity": DIFFUSIVITY},
        (0.044, 0.092, 0.152, 0.179),
    ),
    ("kinetic_hump", {"model": "kinetic_hump"}, (0.002, 0.076, 0.164, 0.201)),
)
#: Those that cells or steps could change: the others have nothing that joins the cells.
STUDIED = (ROWS[4], ROWS[5])


def amplitude(truth):
    """Largest fall of the mean of domain 1."""
    labels = simulation.domain_labels(truth).data
    x = truth.data[:, labels == 1].mean(axis=1)
    return np.max(np.maximum.accumulate(x) - x)


def imbalance(truth):
    """Largest difference of the mean composition from start + rate time."""
    node = truth.metadata.HyperspyLFP.Lithiation
    mean = np.nanmean(truth.data, axis=(1, 2))
    wanted = node.x_start + node.rate / 3600 * truth.axes_manager.navigation_axes[0].axis
    return np.abs(mean - wanted).max()


def factorisation_time(n=24, repeats=20):
    """Seconds for a bordered system of a five-point Laplacian, the fastest of some."""
    line = sparse.diags_array(
        [-np.ones(n - 1), 4 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1]
    )
    inner = sparse.kron(sparse.eye_array(n), line) + sparse.kron(
        sparse.diags_array([-np.ones(n - 1), -np.ones(n - 1)], offsets=[-1, 1]), sparse.eye_array(n)
    )
    # thirteen points, as of the divergence of the gradient of a Laplacian
    border = np.ones((n * n, 2))
    corner = np.eye(2)
    system = sparse.block_array([[inner @ inner, border], [border.T, corner]]).tocsc()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.01)
        times.append(time.perf_counter() - start)
    return min(times)


def table(header, rows):
    """Print a table in markdown."""
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def models(unit):
    """Amplitudes against those of the other program, balance and time."""
    rows = []
    for name, arguments, others in ROWS:
        cells, worst, seconds = [name], 0.0, 0.0
        for rate, other in zip(RATES, others, strict=True):
            start = time.process_time()
            truth = simulation.lithiation(rate, **arguments)
            seconds += time.process_time() - start
            worst = max(worst, imbalance(truth))
            cells.append(
                f"{amplitude(truth):.4f} ({'-' if other is None else format(other, '.3f')})"
            )
        rows.append([*cells, f"{worst:.0e}", f"{seconds / len(RATES) / unit:.0f}"])
    table(["model", *(f"{r}C" for r in RATES), "balance", "time of one rate"], rows)


def of_pixels(pixels):
    """Amplitudes at 18C against the size of the pixels."""
    rows = []
    for name, arguments, _ in STUDIED:
        found = [amplitude(simulation.lithiation(18, pixel=p, **arguments)) for p in pixels]
        rows.append([name, *(f"{a:.4f}" for a in found)])
    table(["18C", *(f"{p:g} nm" for p in pixels)], rows)


def of_tolerances(tolerances):
    """Amplitudes at 18C, and error of the maps to the finest, against the tolerance."""
    rows = []
    for name, arguments, _ in STUDIED:
        maps = [simulation.lithiation(18, tolerance=t, **arguments) for t in tolerances]
        cells = [
            f"{amplitude(m):.5f}, {np.sqrt(np.mean((m.data - maps[-1].data) ** 2)):.0e}"
            for m in maps
        ]
        rows.append([name, *cells])
    table(["18C: amplitude, rms error", *(f"{t:g}" for t in tolerances)], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    unit = factorisation_time()
    print("Amplitude of domain 1 (in brackets: found before by another program)\n")
    models(unit)
    print("Size of the pixels\n")
    of_pixels((2, 1) if quick else (2, 1, 0.5, 0.25))
    print("Tolerance of a step\n")
    of_tolerances((1e-3, 1e-4, 1e-5) if quick else (1e-3, 1e-4, 1e-5, 1e-6, 1e-7))


if __name__ == "__main__":
    main()
