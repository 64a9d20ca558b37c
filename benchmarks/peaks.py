"""Fits of spot profiles: speed beside `multifit`, false second peaks, and how errors are stated.

Run ``OMP_NUM_THREADS=1 python benchmarks/peaks.py``. It fits the same two-peak model to the same
profiles with HyperSpy's ``multifit`` (least squares, from good starts) and with
`hyperspy_lfp.kernels.peaks.fit.fit_peaks` (no starts given); times are the processor's, which a
busy machine does not change. ``--calibrate`` prints how often two peaks are found in simulated
single phases, sharp and smeared by composition gradients, and in two phases at several splittings.
``--errors`` prints bias and pulls. All tables are markdown.
"""

import argparse
import time

import numpy as np
from scipy import stats

from hyperspy_lfp.kernels.peaks.fit import expected_profile, fit_peaks
from hyperspy_lfp.kernels.peaks.model import MODELS
from hyperspy_lfp.kernels.peaks.phases import choose_model

K = np.linspace(1.8, 2.2, 41)
STEP = K[1] - K[0]
LINE = np.array([1.2, 0.8])


def smeared(density, position, spread, fwhm, area, eta):
    """A peak whose positions have this density; `spread` is the range, or 95 % of it."""
    quantiles = (np.arange(200) + 0.5) / 200
    where = {
        "even": quantiles,
        "triangle": 1 - np.sqrt(1 - quantiles),
        "exponential tail": -np.log(1 - quantiles) / 3,
        "Gaussian": stats.norm.ppf(quantiles) / 3.92,
        "piled up at both ends": (1 - np.cos(np.pi * quantiles)) / 2,
    }[density]
    peaks = [expected_profile(K, position + spread * w, fwhm, area, eta=eta) for w in where]
    return np.mean(peaks, axis=0)


def single_phases():
    for eta in (0.0, 0.4, 0.9):
        yield f"sharp, eta {eta}", lambda w, a, eta=eta: expected_profile(K, 1.98, w, a, eta=eta)
    densities = ("even", "triangle", "exponential tail", "Gaussian", "piled up at both ends")
    for density in densities:
        for spread in (0.5, 1.0, 2.0, 3.0):
            if density == "piled up at both ends" and spread > 1:
                continue  # two maxima: nothing that a profile shows tells it from two phases
            yield (
                f"{density}, {spread} widths",
                lambda w, a, d=density, s=spread: smeared(d, 1.98 - s * w / 2, s * w, w, a, 0.3),
            )


def two_phases():
    for splitting in (0.7, 1.0, 1.5, 2.5):
        for part in (0.5, 0.1):
            yield (
                f"two phases, {splitting} widths apart, {part:.0%}",
                lambda w, a, s=splitting, p=part: expected_profile(
                    K, [1.98, 1.98 + s * w], w, [a * (1 - p), a * p], eta=0.3
                ),
            )


def calibrate(options):
    rng = np.random.default_rng(options.seed)
    print(
        "| counts 1e3 / 1e4 / 1e5, width 3 and 6 bins | two found, % | without smeared models, % |"
    )
    print("|---|---|---|")
    for name, make in [*single_phases(), *two_phases()]:
        found, naive = [], []
        for area in (1e3, 1e4, 1e5):
            counts = []
            for width in (3, 6):
                mean = make(width * STEP, area) + area * 0.005 * np.linspace(*LINE, len(K)) + 1
                counts.append(rng.poisson(mean, (options.frames // 2, len(K))))
            one, two, *others = (fit_peaks(np.concatenate(counts), K, m) for m in MODELS)
            found.append(np.mean(choose_model(one, two, *others).n_peaks == 2))
            naive.append(np.mean(choose_model(one, two).n_peaks == 2))
        cells = [" / ".join(f"{100 * v:.1f}" for v in values) for values in (found, naive)]
        print(f"| {name} | {cells[0]} | {cells[1]} |", flush=True)


def errors(options):
    rng = np.random.default_rng(options.seed)
    print(
        "| splitting, widths | parameter | bias, standard errors | spread of pulls | within 1 | 2 |"
    )
    print("|---|---|---|---|---|---|")
    for splitting in (0.7, 1.0, 1.5, 3.0):
        position = np.array([1.95, 1.95 + splitting * 0.05])
        area = np.array([3e4, 2e4])
        mean = expected_profile(K, position, 0.05, area, eta=0.3, background=(120, 80))
        fit = fit_peaks(rng.poisson(mean, (options.frames, len(K))), K, "two")
        for name, pulls in (
            ("position 1", (fit.position - position)[:, 0] / fit.position_error[:, 0]),
            ("position 2", (fit.position - position)[:, 1] / fit.position_error[:, 1]),
            ("area 2", (fit.area - area)[:, 1] / fit.area_error[:, 1]),
            ("width", (fit.fwhm[:, 0] - 0.05) / fit.fwhm_error[:, 0]),
            ("eta", (fit.eta - 0.3) / fit.eta_error),
        ):
            pulls = pulls[np.isfinite(pulls)]
            within = [np.mean(np.abs(pulls) < z) for z in (1, 1.96)]
            print(
                f"| {splitting} | {name} | {pulls.mean():+.2f} | {pulls.std():.2f} "
                f"| {within[0]:.3f} | {within[1]:.3f} |"
            )


def movie(n, rng):
    """Two phases that exchange intensity."""
    part = np.linspace(0.15, 0.85, n)
    rows = [
        expected_profile(
            K, [1.94, 2.03], 0.05, [4e4 * (1 - p), 4e4 * p], eta=0.3, background=(99, 80)
        )
        for p in part
    ]
    return np.array(rows), rng.poisson(rows)


def speed(options):
    mean, counts = movie(options.frames, np.random.default_rng(options.seed))
    variance = np.broadcast_to(mean.mean(axis=0), mean.shape)
    begin = time.process_time()
    ours = fit_peaks(counts, K, "two", variance=variance)
    taken = time.process_time() - begin
    theirs, reference = multifit(counts, variance)
    print("| | s | ms a frame | position, largest difference / standard errors | area |")
    print("|---|---|---|---|---|")
    row = "| {} | {:.2f} | {:.2f} | {} | {} |"
    print(row.format("multifit", reference, 1e3 * reference / len(counts), "", ""))
    off = [
        np.nanmax(np.abs(theirs[name] - getattr(ours, name)) / getattr(ours, f"{name}_error"))
        for name in ("position", "area")
    ]
    cells = [f"{v:.1e}" for v in off]
    print(row.format("fit_peaks", taken, 1e3 * taken / len(counts), *cells))
    print(f"\nRatio of times: {reference / taken:.1f}")
    for model in MODELS:
        begin = time.process_time()
        fit_peaks(counts, K, model)
        taken = time.process_time() - begin
        print(f"Counts, maximum likelihood, {model}: {1e3 * taken / len(counts):.2f} ms a frame")


def multifit(counts, variance):
    """The same model in HyperSpy: bins integrated, width and eta shared, a straight line."""
    import hyperspy.api as hs

    hs.set_log_level("ERROR")
    signal = hs.signals.Signal1D(counts.astype(float))
    axis = signal.axes_manager.signal_axes[0]
    axis.offset, axis.scale = K[0], STEP
    signal.metadata.set_item(
        "Signal.Noise_properties.variance", hs.signals.Signal1D(variance.copy())
    )
    h = STEP / 2
    cumulated = "(eta*atan(2*(x{0}-c)/w)/pi + (1-eta)*erf(1.6651092223153956*(x{0}-c)/w)/2)"
    text = f"A*({cumulated.format(f'+{h}')} - {cumulated.format(f'-{h}')})"
    model = signal.create_model()
    peaks = [
        hs.model.components1D.Expression(text, name=name, position="c", module="scipy")
        for name in ("low", "high")
    ]
    line = hs.model.components1D.Expression("a + b*(x - 2)", name="line")
    model.extend([*peaks, line])
    for peak, place in zip(peaks, (1.94, 2.03), strict=True):
        peak.A.value, peak.c.value, peak.w.value, peak.eta.value = 2e4, place, 0.05, 0.3
    peaks[1].w.twin, peaks[1].eta.twin = peaks[0].w, peaks[0].eta
    line.a.value, line.b.value = 90, 0
    model.assign_current_values_to_all()
    begin = time.process_time()
    model.multifit(optimizer="lm", show_progressbar=False)
    taken = time.process_time() - begin
    found = {
        name: np.stack([getattr(p, key).map["values"] for p in peaks], axis=1)
        for name, key in (("position", "c"), ("area", "A"))
    }
    return found, taken


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--errors", action="store_true")
    options = parser.parse_args()
    if options.calibrate:
        calibrate(options)
    if options.errors:
        errors(options)
    if not (options.calibrate or options.errors):
        speed(options)


if __name__ == "__main__":
    main()
