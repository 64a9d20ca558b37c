"""The reference lattice of a geometric phase."""

import dask.array as da
import numpy as np

from hyperspy_lfp.kernels import lattice
from hyperspy_lfp.kernels.lockin import COEFFICIENTS
from hyperspy_lfp.signals import _frames
from hyperspy_lfp.signals._regions import describe_region, region_mask

#: Dimensions of the data that make a frame: (g, coefficient, y, x).
CORE = 4


def reference_gradient(phase, region, frame):
    """Phase gradient of the reference lattice, and its description for the metadata.

    Shape (..., K, 2, 1 or y, 1 or x), the leading dimensions those of the data or one.
    """
    phase._check_axes()
    lead = phase.data.ndim - CORE
    n_g = len(phase.g_vectors)
    described = {"region": None, "frame": None}
    if region is None and frame is None:
        return np.zeros((1,) * lead + (n_g, 2, 1, 1)), described
    data = _frames.as_frames(phase, CORE)
    if frame is not None:
        data, described["frame"] = _frames_of(phase, data, frame)
    if region is None:
        shape = phase.axes_manager._signal_shape_in_array
        gradient = _frames.map_frames(
            _gradient_block,
            data,
            core=CORE,
            out_shape=(n_g, 2, *shape),
            dtype=np.float64,
            sigma=phase.resolution,
        )
    else:
        mask = region_mask(region, phase.axes_manager.signal_axes)
        described["region"] = describe_region(region)
        gradient = _frames.map_frames(
            _mean_gradient_block,
            data,
            core=CORE,
            out_shape=(n_g, 2, 1, 1),
            dtype=np.float64,
            region=mask,
        )
    if frame is not None:
        axis = _time_position(phase)
        if axis is not None:
            gradient = _mean_over(gradient, axis)
    return gradient, described


def reference_values(phase, frame):
    """Values of the reference frames, (..., K, y, x); of several their sum."""
    data, _ = _frames_of(phase, _frames.as_frames(phase, CORE), frame)
    values = data[..., COEFFICIENTS.index("value"), :, :]
    axis = _time_position(phase)
    if axis is None:
        return values
    xp = da if isinstance(values, da.Array) else np
    return xp.nansum(values, axis=axis, keepdims=True)


def _mean_over(gradient, axis):
    """Mean without the NaN, which are what is left where there is nothing else."""
    xp = da if isinstance(gradient, da.Array) else np
    known = xp.isfinite(gradient)
    count = known.sum(axis=axis, keepdims=True)
    total = xp.where(known, gradient, 0).sum(axis=axis, keepdims=True)
    return total / xp.where(count > 0, count, np.nan)


def _time_position(phase):
    axis = phase._time_axis()
    return None if axis is None else axis.index_in_array


def _frames_of(phase, data, frame):
    """The reference frames, and how to name them in the metadata."""
    axis = phase._time_axis()
    number = 1 if axis is None else axis.size
    if isinstance(frame, slice) and all(
        i is None or isinstance(i, int | np.integer) for i in (frame.start, frame.stop, frame.step)
    ):
        start, stop, stride = frame.indices(number)
        chosen = range(start, stop, stride)
    elif isinstance(frame, int | np.integer) and not isinstance(frame, bool):
        chosen = [int(frame)] if -number <= frame < number else []
    else:
        raise TypeError(
            f"reference_frame={frame!r} must be a frame number, a slice of frame numbers, or "
            "None to take every frame by itself."
        )
    if not len(chosen):
        raise ValueError(
            f"reference_frame={frame!r} is not among the {number} frames (0 to {number - 1})."
        )
    chosen = [i % number for i in chosen]
    if axis is None:
        return data, chosen
    index = [slice(None)] * data.ndim
    index[axis.index_in_array] = slice(chosen[0], chosen[0] + 1) if len(chosen) == 1 else chosen
    return data[tuple(index)], chosen


def _gradient_block(block, sigma):
    gradient = lattice.phase_gradient(block)
    valid = lattice.lattice_mask(block, sigma, 0.0)
    return np.moveaxis(np.where(valid, gradient, np.nan), 0, -3)


def _mean_gradient_block(block, region):
    return lattice.mean_phase_gradient(block, region)
