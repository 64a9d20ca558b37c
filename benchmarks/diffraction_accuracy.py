"""Spacings, fractions and verdicts from diffraction series with a known truth.

Run ``python benchmarks/diffraction_accuracy.py [FOLDER]``. The built-in examples, and with a
folder of simulated data (or the environment variable ``HYPERSPY_LFP_SHARED``, which has it as
``simulated``) the series D1 and D2. Prints a markdown table: the worst error of the centre
(pixels) and of the spacings (%; of two phases one each), the rms error of the intensity and molar
fractions, and the pull: rms of error over stated error, of d or of the molar fraction.
"""

import argparse
import os
import warnings
from pathlib import Path

import hyperspy.api as hs
import numpy as np

from hyperspy_lfp import data, materials

MATERIAL = materials.get("LiFePO4")


def rms(values):
    values = np.asarray(values)[np.isfinite(values)]
    return np.sqrt(np.mean(values**2)) if values.size else np.nan


def row(name, track, centre, d, intensity=None, moles=None, **options):
    """A line of the table; `d` has the true spacings of one phase in time, or of two."""
    spacings = [track.d_spacing.data, track.d_spacing_2.data][: len(d)]
    if len(d) == 2:
        # where there is one peak it may be either
        spacings[0] = np.where(track.n_peaks.data == 2, spacings[0], np.nan)
    off = [
        100 * np.nanmax(abs(found / true - 1)) if np.isfinite(found).any() else np.nan
        for found, true in zip(spacings, d, strict=True)
    ]
    pull = (spacings[0] - d[0]) / track.standard_error("d_spacing").data
    cells = [name, track.transformation().verdict, f"{centre:.4f}"]
    cells.append(", ".join(f"{v:.3f}" for v in off))
    fractions = ["", ""]
    if len(d) == 2:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = track.molar_fraction(MATERIAL, **options)
        pull = (found.data - moles) / np.sqrt(found.get_noise_variance().data)
        if intensity is not None:
            fractions[0] = f"{rms(track.intensity_fraction().data - intensity):.4f}"
        fractions[1] = f"{rms(found.data - moles):.4f}"
    print("| " + " | ".join([*cells, *fractions, f"{rms(pull):.2f}"]) + " |")


def built_in(kind, beam_stop, hkl):
    series = data.diffraction_series(kind, beam_stop=beam_stop)
    truth = series.metadata.HyperspyLFP.Provenance.as_dictionary()
    mask = hs.roi.RectangularROI(*truth["beam_stop"]) if beam_stop else None
    found = series.refine_centre(mask=mask)
    true = np.stack([truth["centre_x"], truth["centre_y"]], axis=-1)
    scale = series.axes_manager.signal_axes[0].scale
    centre = np.abs(found.data - true).max() / scale
    profile = series.track_spot_profile(hkl, material=MATERIAL, centre=found, mask=mask)
    x = np.array(truth["x"])
    if kind == "solid solution":
        rest = {"d": [MATERIAL.d_spacing(hkl, x)]}
    else:
        ends = np.array(truth["phases"])
        spacings = MATERIAL.d_spacing(hkl, ends)
        # the first peak, at smaller k, is the phase of the larger spacing
        first = int(np.argmax(spacings))
        moles = np.array(truth["molar_fraction"])  # of the second of the phases
        rest = {
            "d": [np.full(len(x), spacings[first]), np.full(len(x), spacings[1 - first])],
            "moles": moles if first == 0 else 1 - moles,
        }
    name = f"built-in {kind}{', beam stop' if beam_stop else ''}, {hkl}"
    row(name, profile.fit(), centre, hkl=hkl, **rest)


def simulated(folder, name, hkl):
    series = hs.load(Path(folder) / f"diffraction_{name}.hspy")
    series.set_signal_type("DiffractionSeries")
    with np.load(Path(folder) / f"diffraction_{name}_truth.npz") as file:
        truth = {key: file[key] for key in file}
    found = series.refine_centre()
    axes = series.axes_manager.signal_axes
    pixels = (found.data - [a.offset for a in axes]) / [a.scale for a in axes]
    centre = np.abs(pixels - truth["centre_px"]).max()
    track = series.track_spot_profile(hkl, material=MATERIAL, centre=found).fit()
    key = "d{}{}{}_nm".format(*hkl)
    label = f"{name}, {hkl}"
    if name == "D1":
        row(label, track, centre, [truth[key]])
        return
    number = len(truth["time_s"])
    d = [np.full(number, float(truth[f"{key}_{phase}"])) for phase in "LF"]
    ratio = float(truth["I200_ratio_FP_over_LFP"]) if hkl == (2, 0, 0) else None
    intensity = truth.get("fI_FP_{}{}{}".format(*hkl))
    row(label, track, centre, d, intensity, truth["f_FP"], hkl=hkl, ratio=ratio)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    shared = os.environ.get("HYPERSPY_LFP_SHARED")
    default = Path(shared) / "simulated" if shared else None
    parser.add_argument("folder", nargs="?", default=default)
    folder = parser.parse_args().folder
    hs.preferences.General.show_progressbar = False
    header = "series, spot|verdict|centre|d|intensity fraction|molar fraction|pull"
    print("| " + " | ".join(header.split("|")) + " |\n|" + "---|" * 7)
    if folder is not None:
        for hkl in ((2, 0, 0), (1, 0, 1), (2, 0, 1)):
            simulated(folder, "D1", hkl)
        for hkl in ((2, 0, 0), (1, 0, 1)):
            simulated(folder, "D2", hkl)
    built_in("solid solution", False, (2, 0, 0))
    for stop in (False, True):
        for hkl in ((2, 0, 0), (3, 0, 1), (1, 0, 1)):
            built_in("two-phase", stop, hkl)


if __name__ == "__main__":
    main()
