"""Simulate, film, measure: is what comes out what went in?

Run ``OMP_NUM_THREADS=1 python benchmarks/closing_the_loop.py``. The particle of
`hyperspy_lfp.simulation.lithiation` is filmed at three rates with counting noise and measured as a
real movie is; amplitudes of concentration reversal are held against the truth as the window of the
analysis smears it, and so are the maps. ``--figures FOLDER`` draws what the documentation shows.
All tables are markdown.
"""

import argparse
from pathlib import Path

import hyperspy.api as hs
import numpy as np
from matplotlib.figure import Figure

from hyperspy_lfp import plotting, simulation

HKL = [(1, 0, 1), (1, 0, -1)]
RATES = (18, 14, 8)
PIXEL, DOSE = 0.05, 500


def film(x, seed, lattice="vegard"):
    """A movie with noise and drift, and maps of x from it."""
    frames = x.data.shape[0]
    drift = np.linspace(0, 1, frames)[:, None] * [0.6, -0.4]
    return simulation.hrtem_movie(
        x, pixel=PIXEL, dose=DOSE, hkl=HKL, lattice=lattice, drift=drift, seed=seed
    )


def measure(movie, **kwargs):
    g1, g2 = simulation.truth(movie).g_vectors(HKL)
    x = movie.to_concentration(g1, g2, hkl=HKL, material="LiFePO4", **kwargs)
    return x, simulation.truth(x).smoothed(x.resolution).x


def boxes_of(movie):
    """A box within each domain, more than three resolutions from its border and the rim."""
    middle = [(n - 1) / 2 * PIXEL for n in movie.axes_manager.signal_shape]
    return {
        "domain 1": hs.roi.RectangularROI(*(m - 8.5 for m in middle), *(m - 5 for m in middle)),
        "domain 2": hs.roi.RectangularROI(*(m + 2 for m in middle), *(m + 8 for m in middle)),
    }


def largest_fall(course):
    return float(np.max(np.maximum.accumulate(course) - course))


def errors(x, exact, good=None):
    """Mean and rms of the error, and the rms of error over standard error, where `good`."""
    off = x.data - exact.data
    good = np.isfinite(off) & (~x.flagged().data if good is None else good)
    pull = off[good] / np.sqrt(x.get_noise_variance().data[good])
    return off[good].mean(), np.sqrt(np.mean(off[good] ** 2)), np.sqrt(np.mean(pull**2))


def close_the_loop(seeds, frames):
    """The table of amplitudes; returns the truth and the maps of the last seed."""
    print("| rate | seed | truth | measured | 95 % interval | p | bias of x | rms | pull |")
    print("|---|---|---|---|---|---|---|---|---|")
    truth, maps, boxes = {}, {}, {}
    for rate in RATES:
        truth[rate] = simulation.lithiation(rate, "defect_coupled", frames=frames)
        for seed in seeds:
            movie = film(truth[rate], seed)
            x, exact = measure(movie)
            boxes = boxes_of(movie)
            courses = x.evolution(boxes)
            noise = (float(np.median(courses.standard_error.data[0])), 0.0)
            found = courses.concentration_reversal(smoothing=1, noise=noise)[0]
            true = largest_fall(exact.evolution(boxes).data[0])
            bias, rms, pull = errors(x, exact)
            print(
                f"| {rate}C | {seed} | {true:.3f} | {found.amplitude:.3f} | {found.ci[0]:.3f} to "
                f"{found.ci[1]:.3f} | {found.p_value:.3f} | {bias:+.4f} | {rms:.4f} | {pull:.2f} |"
            )
        maps[rate] = x
    return truth, maps, boxes


def coherent(truth, seed):
    """What a stiff lattice does to maps of x."""
    print("\n| method | rms error, unflagged | bias | error / standard error |\n|---|---|---|---|")
    movie = film(truth.inav[8:24:5], seed, "coherent")
    for method in ("gls", "elastic"):
        bias, rms, pull = errors(*measure(movie, method=method))
        print(f"| {method} | {rms:.3f} | {bias:+.4f} | {pull:.2f} |")


def draw(truth, maps, boxes, folder):
    folder.mkdir(parents=True, exist_ok=True)
    rows = {f"{rate}C": x for rate, x in maps.items()}
    plotting.rates(rows, boxes).savefig(folder / "simulation_rates.png", dpi=130)
    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for rate, x in truth.items():
        courses = x.evolution(simulation.domain_labels(x)).data
        mean = x.evolution().data[0]
        (line,) = left.plot(mean, courses[0], label=f"{rate}C")
        left.plot(mean, courses[1], "--", color=line.get_color())
        right.plot(mean, simulation.voltage(x).data, label=f"{rate}C")
    left.set(xlabel="mean x", ylabel="x of domain 1 (full), 2 (dashed)")
    right.set(xlabel="mean x", ylabel="voltage (V)")
    left.legend(frameon=False)
    figure.savefig(folder / "simulation_phase_field.png", dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--frames", type=int, default=41)
    parser.add_argument("--figures", type=Path)
    arguments = parser.parse_args()
    hs.preferences.General.show_progressbar = False
    truth, maps, boxes = close_the_loop(arguments.seeds, arguments.frames)
    coherent(truth[18], arguments.seeds[0])
    if arguments.figures:
        draw(truth, maps, boxes, arguments.figures)


if __name__ == "__main__":
    main()
