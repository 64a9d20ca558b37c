"""A page of text about maps of composition."""

import numpy as np

from hyperspy_lfp.kernels.concentration.flags import FLAGS as BITS
from hyperspy_lfp.signals import _frames
from hyperspy_lfp.signals._base import (
    CHI_SQUARED,
    FLAGS,
    REFERENCE,
    SYSTEMATIC,
    VARIANCE,
    layer_of,
)

_LAYERS = (VARIANCE, SYSTEMATIC, REFERENCE, CHI_SQUARED)


class Summary(str):
    """Text that is shown as it is."""

    __repr__ = str.__str__


def summarise(x, show_progressbar=None, num_workers=None):
    """See `ConcentrationMap.summary`."""
    lines = [x.metadata.General.title or type(x).__name__, *_made(x)]
    numbers = _statistics(x, show_progressbar, num_workers)
    elastic = x._parameters("ConcentrationMap").get("method") == "elastic"
    flagged = hasattr(layer_of(x, FLAGS), "axes_manager")
    return Summary("\n".join([*lines, *_found(numbers, elastic, flagged)]))


def _made(x):
    """What was done, from the metadata."""
    done = x._parameters("ConcentrationMap")
    units = done["resolution_units"]
    axes = x.axes_manager
    frames = int(np.prod([a.size for a in axes.navigation_axes]))
    size = " x ".join(str(a.size) for a in axes.signal_axes)
    steps = " x ".join(f"{s:.3g}" for s in dict.fromkeys(a.scale for a in axes.signal_axes))
    yield f"  maps        {frames} of {size} samples, every {steps} {units}"
    material = done["material"]
    text = f"{material['name']}, method {done['method']}"
    if done.get("condition"):
        text += f" ({done['condition']})"
    if done.get("nuisance"):
        text += f", {done['nuisance']} fitted in each frame"
    yield f"  x from      {text}"
    hkl = ", ".join("({} {} {})".format(*row) for row in done.get("hkl") or []) or "not known"
    yield f"  reflections {hkl}; resolution {done['resolution']:.3g} {units} (standard deviation)"
    reference = done.get("reference")
    if reference is not None:
        yield f"  reference   {_reference(reference)}; x = {done['x_reference']:.4g} there"


def _reference(described):
    region, frame = described.get("region"), described.get("frame")
    if region == "cell":
        return "the cell of the material: as good as the pixel size"
    if region is None and not frame:
        return "the given g vectors: as good as the pixel size"
    where = "every pixel" if region is None else "a region"
    if not frame:
        return f"{where} of the same frame"
    several = f"the mean of {len(frame)} frames" if len(frame) > 1 else f"frame {frame[0]}"
    return f"{where} in {several}"


def _found(numbers, elastic, flagged):
    """What came out, from the statistics of the frames, (n, values)."""
    valid = numbers[:, 0]
    if not valid.any():
        yield "  no pixel has a lattice"
        return
    mean = numbers[:, 1] / np.where(valid > 0, valid, np.nan)
    known = mean[np.isfinite(mean)]
    ends = f"{known[0]:.3f} in the first frame, {known[-1]:.3f} in the last"
    yield f"  mean x      {ends if len(known) > 1 else f'{known[0]:.3f}'}"
    known = numbers[:, 6:10].sum(axis=0)
    sums = numbers[:, 2:6].sum(axis=0)
    total, systematic, reference, chi = sums / np.where(known > 0, known, np.nan)
    yield (
        f"  error of x  {_root(total - systematic)} from noise, {_root(systematic)} systematic "
        f"within the maps, {_root(reference)} common to all (root mean square)"
    )
    if np.isfinite(chi):
        why = (
            "elasticity and noise explain the lengths"
            if elastic
            else ("noise alone makes the two lengths disagree")
        )
        yield f"  chi squared {chi:.2g} (mean; 1 where {why})"
    if not flagged:
        yield "  flagged     not known"
        return
    share = 100 * numbers[:, 10:].sum(axis=0) / valid.sum()
    flags = [
        f"{name} {part:.3g} %"
        for name, part in zip(BITS, share, strict=True)
        if part > 0 and name != "no lattice"
    ]
    yield f"  flagged     {', '.join(flags) or 'nothing'}"
    yield from _advice(dict(zip(BITS, share, strict=True)), chi)


def _advice(share, chi):
    if share["calibration"] > 0:
        yield (
            "  ! the lattice of some frames is that of no composition: give a reference region of "
            "known x, or correct the pixel size"
        )
    if share["phase jump"] > 0:
        yield "  ! the contrast of a reflection reverses: x across the line is no lithium"
    if share["dislocation"] > 0:
        yield "  ! there are dislocations: see GeometricPhase.find_dislocations"
    if share["inconsistent"] > 10:
        yield (
            "  ! the two lengths contradict each other in many places: compare method='a' with "
            "'c', or take other reflections"
        )


def _root(variance):
    return f"{np.sqrt(max(variance, 0)):.2g}" if np.isfinite(variance) else "not known"


def _statistics(x, show_progressbar, num_workers):
    """One row a frame, see `_statistics_block`."""
    data = _frames.as_frames(x, 2)
    others = []
    for item in (*_LAYERS, FLAGS):
        layer = layer_of(x, item)
        missing = np.full((1,) * data.ndim, 0 if item == FLAGS else np.nan)
        others.append(_frames.as_frames(layer, 2) if hasattr(layer, "axes_manager") else missing)
    number = 2 + 2 * len(_LAYERS) + len(BITS)
    rows = _frames.map_frames(
        _statistics_block, data, *others, core=2, out_shape=(number,), dtype=np.float64
    )
    if hasattr(rows, "dask"):
        (rows,) = _frames.compute_arrays([rows], show_progressbar, num_workers=num_workers)
    rows = rows.get() if hasattr(rows, "get") else rows
    return np.atleast_2d(rows).reshape(-1, number)


def _statistics_block(x, *layers):
    """Number and sum of x; sums and numbers of the layers; numbers of pixels with each flag."""
    *layers, flags = layers
    valid = np.isfinite(x)
    rows = [valid.sum(axis=(-2, -1)), np.where(valid, x, 0).sum(axis=(-2, -1))]
    known = [valid & np.isfinite(layer) for layer in layers]
    rows += [
        np.where(k, layer, 0).sum(axis=(-2, -1)) for k, layer in zip(known, layers, strict=True)
    ]
    rows += [k.sum(axis=(-2, -1)) for k in known]
    flags = np.broadcast_to(flags, x.shape).astype(np.uint16)
    # where x is NaN the other flags tell why
    rows += [((flags & bit) > 0).sum(axis=(-2, -1)) for bit in BITS.values()]
    return np.stack([np.asarray(r, dtype=float) for r in rows], axis=-1)
