"""The chain from a movie file to maps and figures on disk."""

import contextlib
import csv
import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import dask
import hyperspy.api as hs
import numpy as np
import pint
from dask.diagnostics import ProgressBar
from dask.system import CPU_COUNT

from hyperspy_lfp import data, materials, plotting
from hyperspy_lfp._cli import InputError, output
from hyperspy_lfp.signals import HRTEMMovie, _frames
from hyperspy_lfp.signals._base import layers_of
from hyperspy_lfp.signals._regions import region_mask
from hyperspy_lfp.signals._units import in_nanometre, pixels_of, to_length, to_vectors

#: Spots looked for when no g vectors are given, and when certain ones are asked for.
_SPOTS = (6, 12)
#: Smallest sine of the angle between the two reflections that are chosen.
_SINE = 0.2
#: Regions of the built-in example: left, top, right, bottom in nm. "corner" is the domain that
#: runs ahead.
_EXAMPLE = {"corner": (3.0, 3.5, 6.0, 6.0), "rest": (9.5, 6.5, 13.0, 10.5)}
_EXAMPLE_REFERENCE = (5.0, 4.5, 11.0, 10.0)


class Chain(NamedTuple):
    """What is computed, and from what."""

    movie: HRTEMMovie
    hkl: list
    phase: object
    strain: object
    x: object
    regions: dict
    reference: object  # ROI or None
    reference_text: str


def run(options, folder, say):
    """Do the job.

    Parameters
    ----------
    options : argparse.Namespace
    folder : Path
        Where the results go.
    say : callable
        Prints a line.
    """
    with ThreadPoolExecutor(options.workers or CPU_COUNT) as pool:
        try:
            with dask.config.set(scheduler="threads", pool=pool):
                _run(options, folder, say)
        finally:
            # no thread may go on writing to a folder that is being removed
            pool.shutdown(wait=True, cancel_futures=True)


def _run(options, folder, say):
    movie = open_movie(options, say)
    chain = build(movie, options)
    _describe(chain, say)
    with output.staged(folder, options.force) as (complete, scratch):
        _store([chain.strain, chain.x], scratch, options.progress)
        evolution = chain.x.evolution(
            chain.regions or None, show_progressbar=False, lazy_output=False
        )
        _write(chain, evolution, complete)
        say(chain.x.summary(show_progressbar=False))
        _report(evolution, say)
        if options.file is None:
            _compare(chain, options, say)
    say(f"written to {folder}: {', '.join(output.NAMES)}")


def open_movie(options, say):
    """The movie as a lazy HRTEMMovie, calibrated and cut as asked."""
    movie = data.lithiation_movie() if options.file is None else _load(options, say)
    if movie.axes_manager.navigation_dimension > 1:
        raise InputError(
            f"{_name(movie)} has the navigation axes "
            f"{[a.name for a in movie.axes_manager.navigation_axes]}, but the command line takes "
            "one movie; choose from the others with HyperSpy's `inav` first"
        )
    if not movie._lazy:
        movie = movie.as_lazy()
    _calibrate(movie, options)
    # a colour or complex image does not become an HRTEMMovie, but gets its error messages
    movie.set_signal_type("HRTEMMovie")
    try:
        HRTEMMovie._check_frames(movie)
    except ValueError as error:
        if options.pixel_size is not None:
            raise
        raise InputError(f"{error} On the command line: --pixel-size '0.025 nm'") from error
    return movie if options.frames is None else _cut(movie, options.frames)


def build(movie, options):
    """The chain for a movie; everything that can be checked is checked here."""
    material = _material(options.material)
    vectors, hkl = _reflections(movie, options, material)
    phase = movie.gpa(*vectors, resolution=options.resolution, hkl=hkl, step=options.step)
    region, frame, text = _reference(movie, options)
    strain = phase.strain(region, frame)
    x = phase.to_concentration(material, region, frame, options.x_reference, options.method)
    regions = dict(options.region)
    for name in regions:
        if [other for other, _ in options.region].count(name) > 1:
            raise InputError(f"--region {name} is given twice; give each its own name")
    if options.file is None and not regions:
        regions = _EXAMPLE
    regions = {name: hs.roi.RectangularROI(*edges) for name, edges in regions.items()}
    for name, roi in regions.items():
        region_mask(roi, x.axes_manager.signal_axes, f"--region {name}")
    return Chain(movie, hkl, phase, strain, x, regions, region, text)


def _load(options, say):
    path = options.file
    arguments = {"file_format": options.file_format, "escape_square_brackets": "[" in str(path)}
    try:
        loaded = hs.load(str(path), lazy=True, **arguments)
    except Exception:  # some formats cannot be read lazily, and say so in many ways
        try:
            loaded = hs.load(str(path), **arguments)
        except Exception as error:
            hint = "" if options.file_format else " (--file-format names the format)"
            reason = str(error).rstrip() or type(error).__name__
            raise InputError(f"cannot read {path}{hint}: {reason}") from error
    signals = loaded if isinstance(loaded, list) else [loaded]
    images = [s for s in signals if s.axes_manager.signal_dimension == 2]
    if not images:
        raise InputError(f"{path} holds no images, only {', '.join(map(repr, signals))}")
    movies = [s for s in images if s.axes_manager.navigation_dimension < 2]
    real = [s for s in movies if s.data.dtype.kind in "uif"]
    chosen = (real or movies or images)[0]
    if len(signals) > 1:
        say(f"{path} holds {len(signals)} signals: {_name(chosen)} {chosen.data.shape} is taken")
    if not chosen.metadata.General.title:
        chosen.metadata.General.title = path.stem
    return chosen


def _calibrate(movie, options):
    if options.pixel_size is not None:
        size = to_length(options.pixel_size, "nm", "pixel_size")
        for axis in movie.axes_manager.signal_axes:
            _set_scale(axis, size, "nm")
    if options.time_step is not None:
        if not movie.axes_manager.navigation_axes:
            raise InputError("--time-step is given for a single frame")
        _set_scale(movie.axes_manager.navigation_axes[0], _seconds(options.time_step), "s")


def _set_scale(axis, scale, units):
    if not axis.is_uniform:
        raise InputError(f"the axis {axis.name!r} is not uniform, so that it has no one step")
    axis.scale, axis.offset, axis.units = scale, 0.0, units


def _seconds(text):
    try:
        quantity = pint.get_application_registry().Quantity(text)
        seconds = float(quantity.magnitude if quantity.unitless else quantity.to("s").magnitude)
    except Exception:
        seconds = np.nan
    if not np.isfinite(seconds) or seconds <= 0:
        raise InputError(f"--time-step {text!r} is not a time; give for example '2 s' or '40 ms'")
    return seconds


def _cut(movie, frames):
    axes = movie.axes_manager.navigation_axes
    if not axes:
        raise InputError("--frames is given for a single frame")
    if not len(range(axes[0].size)[frames]):
        raise InputError(f"--frames chooses none of the {axes[0].size} frames")
    return movie.inav[frames]


def _material(name):
    """A material of the library, or of a JSON file with the fields of materials.Material."""
    if not name.lower().endswith(".json"):
        return materials.get(name)
    try:
        with open(name, encoding="utf-8") as file:
            fields = json.load(file)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the material {name}: {error}") from error
    known = materials.Material.__dataclass_fields__
    needed = {"name", "composition", "a", "b", "c"}
    if not isinstance(fields, dict) or not needed <= set(fields) <= set(known):
        raise InputError(
            f"the material {name} must be an object with the fields {', '.join(sorted(needed))}, "
            f"and, if wanted, {', '.join(sorted(set(known) - needed))}"
        )
    return materials.Material.from_dictionary(fields)


def _reflections(movie, options, material):
    """Reciprocal vectors and their Miller indices, as given or found."""
    zone = options.zone or material.zone
    if not options.g:
        found = movie.find_g_vectors(n=_SPOTS[bool(options.hkl)])
        hkl = movie.index_g_vectors(found, material, zone)
        chosen = _asked(hkl, options.hkl) if options.hkl else _strongest_pair(found, hkl)
        if chosen is None:
            raise InputError(
                f"no two lattice spots were found that fit {material.name} in the zone {zone}: "
                f"{_listed(movie, found, hkl)}. Give --g (and --hkl), another --material or "
                "--zone, or the right --pixel-size"
            )
        return [s * found[k] for k, s in chosen], [tuple(s * i for i in hkl[k]) for k, s in chosen]
    if len(options.g) < 2:
        raise InputError("--g is given once; give it twice or more, for strain in the plane")
    vectors = to_vectors(options.g, pixels_of(movie).units)
    if options.hkl:
        if len(options.hkl) != len(vectors):
            raise InputError(
                f"--hkl is given {len(options.hkl)} times for {len(vectors)} --g; give one for "
                "each, in their order"
            )
        return vectors, options.hkl
    hkl = movie.index_g_vectors(vectors, material, zone)
    if None in hkl:
        raise InputError(
            f"not every g vector fits {material.name} in the zone {zone}: "
            f"{_listed(movie, vectors, hkl)}. Give --hkl for each, another --material or --zone, "
            "or the right --pixel-size"
        )
    return vectors, hkl


def _asked(found, asked):
    """Numbers and signs of the spots with the asked indices."""
    chosen = []
    for hkl in asked:
        signs = {tuple(s * i for i in hkl): s for s in (1, -1)}
        k = next((k for k, other in enumerate(found) if other in signs), None)
        if k is None:
            indexed = ", ".join(str(i) for i in found if i is not None) or "none"
            raise InputError(
                f"--hkl {','.join(map(str, hkl))} is not among the spots that were found and "
                f"indexed ({indexed}); give its vector with --g"
            )
        chosen.append((k, signs[found[k]]))
    if len({k for k, _ in chosen}) < 2:
        raise InputError("--hkl needs two reflections or more that are not opposite each other")
    return chosen


def _strongest_pair(vectors, hkl):
    """The strongest indexed spot, and the strongest one in another direction."""
    indexed = [k for k, i in enumerate(hkl) if i is not None]
    unit = vectors / np.hypot(*vectors.T)[:, None]
    for k in indexed[1:]:
        first = unit[indexed[0]]
        if abs(first[0] * unit[k][1] - first[1] * unit[k][0]) > _SINE:
            return [(indexed[0], 1), (k, 1)]
    return None


def _listed(movie, vectors, hkl):
    spacings = in_nanometre(pixels_of(movie).units) / np.hypot(*np.array(vectors).T)
    return ", ".join(f"{d:.4f} nm is {i}" for d, i in zip(spacings, hkl, strict=True))


def _reference(movie, options):
    """Region, frame and description of the reference lattice."""
    number = _number_of_frames(movie)
    edges, frame = options.reference, options.reference_frame
    if options.file is None and edges is None and frame is None and not options.g:
        edges = _EXAMPLE_REFERENCE
    if frame is None and number > 1:
        frame = 0
    elif frame == "none":
        frame = None
    elif frame is not None and number == 1 and edges is None:
        raise InputError(
            "--reference-frame is given for a single frame, which would be compared with itself; "
            "give --reference or --g instead"
        )
    when = f"frame {frame}" if isinstance(frame, int) else "the mean of the reference frames"
    if edges is None:
        if frame is not None:
            text = f"every place as it is in {when}"
        elif options.g:
            text = "the given g vectors"
        else:
            text = "the mean lattice of what was measured, since nothing else was given: "
            text += "use --reference, --reference-frame or --g for a known composition"
        return None, frame, text
    units = pixels_of(movie).units
    text = f"the mean lattice of the region {', '.join(f'{e:g}' for e in edges)} {units} in "
    text += when if frame is not None else "each frame" if number > 1 else "the frame"
    return hs.roi.RectangularROI(*edges), frame, text


def _describe(chain, say):
    pixels = pixels_of(chain.movie)
    frames = _number_of_frames(chain.movie)
    fit = chain.phase.metadata.HyperspyLFP.GeometricPhase
    concentration = chain.x.metadata.HyperspyLFP.ConcentrationMap
    size = " x ".join(f"{s:.4g}" for s in dict.fromkeys(pixels.scale))
    say(
        f"{_name(chain.movie)}: {frames} frame{'s' if frames > 1 else ''} of "
        f"{pixels.shape[0]} x {pixels.shape[1]} pixels of {size} {pixels.units}"
    )
    for g, hkl in zip(chain.phase.g_vectors, chain.hkl, strict=True):
        say(
            f"reflection {'({} {} {})'.format(*hkl):9} g = ({g[0]:8.4f}, {g[1]:8.4f}) "
            f"1/{pixels.units}, spacing {1 / np.hypot(*g):.4f} {pixels.units}"
        )
    say(
        f"resolution {fit.resolution:.3g} {pixels.units} (standard deviation), maps sampled every "
        f"{fit.step[0]:.3g} {pixels.units}"
    )
    say(f"reference: {chain.reference_text}; x = {concentration.x_reference:g} there")


def _store(signals, folder, progress):
    """Compute signals and their noise in one pass over the movie, into files.

    Only a few frames are in memory at a time, however long the movie and fine the maps.
    """
    parts = [part for signal in signals for part in (signal, *layers_of(signal))]
    # a log gets fewer lines than a terminal
    bar = ProgressBar(dt=0.1 if sys.stdout.isatty() else 1.0)
    with bar if progress else contextlib.nullcontext():
        stored = _frames.store_arrays([part.data for part in parts], folder, show_progressbar=False)
    for part, array in zip(parts, stored, strict=True):
        part.data = array


def _write(chain, evolution, folder):
    concentration, strain, table, picture = (folder / name for name in output.NAMES)
    # the bars of nested signals cannot be switched off otherwise
    with contextlib.redirect_stdout(io.StringIO()):
        chain.x.save(concentration, show_progressbar=False)
        chain.strain.save(strain, show_progressbar=False)
    _write_table(evolution, table)
    figure = plotting.summary(chain.movie, chain.x, evolution, chain.regions, chain.reference)
    figure.savefig(picture)


def _time_axis(evolution):
    """Also of a single time, which HyperSpy does not count among the signal axes."""
    return next(a for a in evolution.axes_manager._axes if not a.navigate)


def _write_table(evolution, path):
    """Time, and the mean and standard error of x of every region, a row for each frame."""
    time = _time_axis(evolution)
    units = time.units if isinstance(time.units, str) and time.units else None
    header = [f"time ({units})" if units else "frame"]
    columns = [time.axis]
    errors = evolution.standard_error.data
    for name, mean, error in zip(evolution.regions, evolution.data, errors, strict=True):
        header += [f"x, {name}", f"standard error of x, {name}"]
        columns += [mean, error]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([f"{value:.9g}" for value in row] for row in zip(*columns, strict=True))


def _report(evolution, say):
    """Means of the first and last frame."""
    time = _time_axis(evolution)
    units = time.units if isinstance(time.units, str) else ""
    errors = evolution.standard_error.data
    for name, mean, error in zip(evolution.regions, evolution.data, errors, strict=True):
        said = []
        for i in dict.fromkeys((0, time.size - 1)):
            when = f" at {time.axis[i]:.6g} {units}".rstrip() if time.size > 1 else ""
            x = round(float(mean[i]), 4) + 0.0  # no negative zero
            known = np.isfinite(x)
            said.append((f"{x:.4f} ± {error[i]:.4f}" if known else "no lattice") + when)
        say(f"mean x, {name}: {', '.join(said)}")


def _compare(chain, options, say):
    """Errors of the maps of the built-in example, at the pixels nearest to the maps' samples."""
    truth = data.lithiation_truth()
    truth = truth.data if options.frames is None else truth.data[options.frames]
    at = []
    for own, of_movie in zip(
        chain.x.axes_manager.signal_axes, chain.movie.axes_manager.signal_axes, strict=True
    ):
        nearest = np.rint((own.axis - of_movie.offset) / of_movie.scale).astype(int)
        at.append(np.clip(nearest, 0, of_movie.size - 1))
    error = chain.x.data.compute() - truth[:, at[1][:, None], at[0]]
    rms, mean = np.sqrt(np.nanmean(error**2)), np.nanmean(error)
    say(f"compared with the truth inside the particle: rms error {rms:.4f}, mean {mean:+.4f}")


def _number_of_frames(signal):
    axes = signal.axes_manager.navigation_axes
    return axes[0].size if axes else 1


def _name(signal):
    return signal.metadata.General.title or type(signal).__name__
