"""The reference lattice of a geometric phase."""

import dask.array as da
import numpy as np

from hyperspy_lfp.kernels._arrays import get_array_module
from hyperspy_lfp.kernels.concentration.regions import region_means
from hyperspy_lfp.kernels.gpa import lattice
from hyperspy_lfp.kernels.gpa.lockin import COEFFICIENTS
from hyperspy_lfp.signals import _frames
from hyperspy_lfp.signals._regions import describe_region, region_mask

#: Dimensions of the data that make a frame: (g, coefficient, y, x).
CORE = 4
#: How the noise of a derivative along x and along y is correlated, in the (y, x) order of
#: `region_means`.
_ALONG = np.diag([0.0, 1.0]), np.diag([1.0, 0.0])


def reference_gradient(phase, region, frame):
    """Phase gradient of the reference lattice, and its description for the metadata.

    Shape (..., K, 3, 1 or y, 1 or x), the leading dimensions those of the data or one: d/dx, d/dy,
    and the variance of each that is due to the noise of the reference.
    """
    phase._check_axes()
    lead = phase.data.ndim - CORE
    n_g = len(phase.g_vectors)
    described = {"region": None, "frame": None}
    if region is None and frame is None:
        return np.zeros((1,) * lead + (n_g, 3, 1, 1)), described
    data = _frames.as_frames(phase, CORE)
    if frame is not None:
        data, described["frame"] = _frames_of(phase, data, frame)
    if region is None:
        shape = phase.axes_manager._signal_shape_in_array
        gradient = _frames.map_frames(
            _gradient_block,
            data,
            core=CORE,
            out_shape=(n_g, 3, *shape),
            dtype=np.float64,
            sigma=phase.resolution,
        )
    else:
        axes = phase.axes_manager.signal_axes
        described["region"] = describe_region(region)
        gradient = _frames.map_frames(
            _mean_gradient_block,
            data,
            core=CORE,
            out_shape=(n_g, 3, 1, 1),
            dtype=np.float64,
            region=region_mask(region, axes),
            spacing=(abs(axes[1].scale), abs(axes[0].scale)),
            sigma=phase.resolution,
        )
    if frame is not None:
        axis = _time_position(phase)
        if axis is not None:
            gradient = _mean_over(gradient, axis)
    return gradient, described


def first_frame(phase, described):
    """The frame that amplitudes are compared with: that of the reference, or the first one.

    None for a signal without a time axis.
    """
    axis = phase._time_axis(required=False)
    if axis is None:
        return None
    frame = described["frame"][0] if described["frame"] else 0
    index = [slice(None)] * phase.data.ndim
    index[axis.index_in_array] = slice(frame, frame + 1)
    return _frames.as_frames(phase, CORE)[tuple(index)]


def reference_values(phase, frame):
    """Values of the reference frames, (..., K, y, x); of several their sum."""
    data, _ = _frames_of(phase, _frames.as_frames(phase, CORE), frame)
    values = data[..., COEFFICIENTS.index("value"), :, :]
    axis = _time_position(phase)
    if axis is None:
        return values
    xp = da if isinstance(values, da.Array) else np
    return xp.nansum(values, axis=axis, keepdims=True)


def reference_composition(signal, core, x_reference, reference, frames):
    """Composition of the reference as one number, and as an array if it is a map.

    The array has the dimensions of the maps, or one in their place. `reference` is a ROI, "cell" or
    None, `frames` the reference frames or None.
    """
    if not hasattr(x_reference, "axes_manager"):
        return x_reference, None
    values = x_reference.data.compute() if x_reference._lazy else x_reference.data
    values = np.asarray(values, dtype=float)
    expected = signal.axes_manager._signal_shape_in_array
    here, there = (
        [(a.scale, a.offset) for a in s.axes_manager.signal_axes] for s in (signal, x_reference)
    )
    if values.shape[-2:] != expected or not np.allclose(here, there):
        raise ValueError(
            f"x_reference is a map of {values.shape[-1]} x {values.shape[-2]} samples, but this "
            f"signal has {expected[1]} x {expected[0]}: the two must be sampled alike, as maps of "
            "one movie are that were made with the same resolution and step."
        )
    if isinstance(reference, str) or (reference is None and frames is None):
        raise ValueError(
            "x_reference is a map, but the reference is one lattice: give a reference_frame, or "
            "a region as the reference, whose lattice the map describes; or one number."
        )
    lead = signal.data.shape[:-core]
    if values.ndim > 2 and values.shape[:-2] != lead:
        raise ValueError(
            f"x_reference has {values.shape[:-2]} maps for {lead} frames; give one map, or one "
            "for each frame."
        )
    if reference is not None:
        region = region_mask(reference, signal.axes_manager.signal_axes)
        values = np.where(region, values, np.nan)
    if not np.isfinite(values).any():
        raise ValueError("x_reference is NaN everywhere, or in the whole region of the reference.")
    if values.ndim == 2:
        values = values.reshape((1,) * len(lead) + values.shape)
    elif frames is not None and lead:
        # what is compared with is the lattice of these frames, in every frame
        place = signal._time_axis().index_in_array
        values = _mean(np.take(values, frames, axis=place), place)
    if reference is not None:
        values = _mean(values, (-2, -1))
    return float(np.nanmean(values)), values


def _mean(values, axis):
    """Mean of what is finite, NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis, keepdims=True)
    total = np.where(known, values, 0).sum(axis=axis, keepdims=True)
    return total / np.where(count > 0, count, np.nan)


def _mean_over(gradient, axis):
    """Mean without the NaN, which are what is left where there is nothing else."""
    lazy = isinstance(gradient, da.Array)
    xp = da if lazy else np
    known = xp.isfinite(gradient)
    count = known.sum(axis=axis, keepdims=True)
    mean = xp.where(known, gradient, 0).sum(axis=axis, keepdims=True)
    mean = mean / xp.where(count > 0, count, np.nan)
    # the variance of a mean of n frames is the n-th part of their mean variance
    noise = mean[..., 2, :, :] / xp.maximum(count[..., 2, :, :], 1)
    mean = xp.stack([mean[..., 0, :, :], mean[..., 1, :, :], noise], axis=-3)
    return mean.rechunk({mean.ndim - 3: -1}) if lazy else mean


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
    xp = get_array_module(block)
    gradient = lattice.phase_gradient(block)
    variance = lattice.phase_gradient_variance(block).mean(axis=0)
    valid = lattice.lattice_mask(block, sigma, 0.0)
    maps = xp.concatenate([gradient, variance[None]])
    return xp.moveaxis(xp.where(valid, maps, xp.nan), 0, -3)


def _mean_gradient_block(block, region, spacing, sigma):
    xp = get_array_module(block)
    gradient = lattice.mean_phase_gradient(block, region)
    variance = lattice.phase_gradient_variance(block)
    means = [
        region_means(v, v, region[None], spacing, sigma, tensor)[1][0]
        for v, tensor in zip(variance, _ALONG, strict=True)
    ]
    mean = ((means[0] + means[1]) / 2)[..., None, None, None]
    return xp.concatenate([gradient, mean.astype(gradient.dtype)], axis=-3)
