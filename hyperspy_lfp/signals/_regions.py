"""HyperSpy ROIs on the signal axes of an image: as masks, and as metadata."""

import dask.array as da
import numpy as np


def region_mask(roi, axes, name="reference"):
    """Pixels whose centres lie in a ROI.

    Parameters
    ----------
    roi : RectangularROI, CircleROI or PolygonROI
    axes : tuple of DataAxis
        The signal axes, (x, y).
    name : str
        Of the argument, for the error.

    Returns
    -------
    bool array of shape (ny, nx)
    """
    x, y = axes[0].axis[None, :], axes[1].axis[:, None]
    kind = type(roi).__name__
    if kind.endswith("ROI") and not roi.is_valid():
        raise ValueError(
            f"{name}={roi!r} has no position yet: give it numbers, or draw it with "
            "`roi.interactive(s)`."
        )
    # half a pixel beyond the outermost centres belongs to the frame too
    half = [abs(axis.scale) / 2 for axis in axes]
    if kind == "RectangularROI":
        mask = (x >= roi.left) & (x < roi.right) & (y >= roi.top) & (y < roi.bottom)
    elif kind == "CircleROI":
        squared = (x - roi.cx) ** 2 + (y - roi.cy) ** 2
        inner = roi.r_inner if np.isfinite(roi.r_inner) else 0.0
        mask = (squared < roi.r**2) & (squared >= inner**2)
    elif kind == "PolygonROI":
        mask = _in_polygon(x, y, np.asarray(roi.vertices, dtype=float))
    else:
        raise TypeError(
            f"{name}={roi!r} is not a region: give a hyperspy.api.roi.RectangularROI, CircleROI "
            "or PolygonROI in the units of the signal axes."
        )
    if not mask.any():
        low = [axis.axis[0] - h for axis, h in zip(axes, half, strict=True)]
        high = [axis.axis[-1] + h for axis, h in zip(axes, half, strict=True)]
        raise ValueError(
            f"{name}={roi!r} holds no pixel of the map: it must overlap x from {low[0]:.4g} to "
            f"{high[0]:.4g} and y from {low[1]:.4g} to {high[1]:.4g} {axes[0].units}, and be "
            f"wider than its pixels ({axes[0].scale:.3g} x {axes[1].scale:.3g})."
        )
    return mask


def pixel_mask(mask, movie):
    """The mask of a movie as an array that goes with its frames, and its metadata.

    Returns
    -------
    list of no or one bool array of shape (..., ny, nx)
        The leading dimensions are those of the movie or ones.
    str or dict
    """
    if mask is None or (isinstance(mask, str) and mask == "auto"):
        return [], "auto" if mask else "none"
    lead = movie.data.ndim - 2
    if type(mask).__name__.endswith("ROI"):
        array, described = region_mask(mask, movie.axes_manager.signal_axes, "mask"), mask
        return [array.reshape((1,) * lead + array.shape)], describe_region(described)
    array = mask.data if hasattr(mask, "axes_manager") else mask
    if not hasattr(array, "dtype"):
        array = np.asarray(array)
    if array.dtype.kind not in "bui":
        raise TypeError(
            f"mask={mask!r} must be 'auto', None, a ROI, or a signal or array of booleans, for "
            "example `image.data > threshold`."
        )
    frame = movie.data.shape[-2:]
    if array.shape not in (frame, movie.data.shape):
        raise ValueError(
            f"mask has the shape {array.shape}; it must be that of a frame, {frame}, or of the "
            f"movie, {movie.data.shape}."
        )
    array = array.astype(bool)
    if isinstance(array, da.Array):
        array = array.rechunk({-2: -1, -1: -1})
    elif not array.any():
        raise ValueError("mask holds no pixel: at least one must be True.")
    return [array.reshape((1,) * (movie.data.ndim - array.ndim) + array.shape)], "given"


def describe_region(roi):
    """Type and numbers of a ROI; ROIs themselves are lost by files."""
    kind = type(roi).__name__
    if kind == "RectangularROI":
        numbers = {k: float(getattr(roi, k)) for k in ("left", "top", "right", "bottom")}
    elif kind == "CircleROI":
        numbers = {k: float(getattr(roi, k)) for k in ("cx", "cy", "r")}
        if np.isfinite(roi.r_inner) and roi.r_inner:
            numbers["r_inner"] = float(roi.r_inner)
    else:
        numbers = {"vertices": [[float(v) for v in point] for point in roi.vertices]}
    return {"type": kind, **numbers}


def named_regions(rois):
    """A dictionary of ROIs from one ROI, a list or a dictionary."""
    if isinstance(rois, dict):
        named = {str(name): roi for name, roi in rois.items()}
    elif isinstance(rois, list | tuple) and not _is_region(rois):
        named = {str(i + 1): roi for i, roi in enumerate(rois)}
    else:
        named = {"1": rois}
    if not named:
        raise ValueError(
            f"rois={rois!r} is empty: give at least one region, or None for the whole map."
        )
    return named


def _is_region(candidate):
    return type(candidate).__name__.endswith("ROI")


def _in_polygon(x, y, vertices):
    """Even-odd rule."""
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=bool)
    for (x0, y0), (x1, y1) in zip(vertices, np.roll(vertices, -1, axis=0), strict=True):
        crosses = (y0 > y) != (y1 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            edge = (x1 - x0) * (y - y0) / (y1 - y0) + x0
        inside ^= crosses & (x < edge)
    return inside
