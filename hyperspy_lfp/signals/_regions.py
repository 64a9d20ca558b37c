"""Regions of an image, HyperSpy ROIs and masks: as pixels, and as metadata."""

import dask.array as da
import hyperspy.api as hs
import numpy as np

from hyperspy_lfp.kernels._arrays import to_host


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
    mask = pixels_inside(describe_region(roi, name), axes[0].axis, axes[1].axis)
    # half a pixel beyond the outermost centres belongs to the frame too
    half = [abs(axis.scale) / 2 for axis in axes]
    if not mask.any():
        low = [axis.axis[0] - h for axis, h in zip(axes, half, strict=True)]
        high = [axis.axis[-1] + h for axis, h in zip(axes, half, strict=True)]
        raise ValueError(
            f"{name}={roi!r} holds no pixel of the map: it must overlap x from {low[0]:.4g} to "
            f"{high[0]:.4g} and y from {low[1]:.4g} to {high[1]:.4g} {axes[0].units}, and be "
            f"wider than its pixels ({axes[0].scale:.3g} x {axes[1].scale:.3g})."
        )
    return mask


def pixels_inside(described, x, y):
    """Which of the pixels at x (nx,) and y (ny,) lie in a ROI that `describe_region` described."""
    x, y = x[None, :], y[:, None]
    kind = described["type"]
    if kind == "RectangularROI":
        inside = (x >= described["left"]) & (x < described["right"])
        return inside & (y >= described["top"]) & (y < described["bottom"])
    if kind == "CircleROI":
        squared = (x - described["cx"]) ** 2 + (y - described["cy"]) ** 2
        return (squared < described["r"] ** 2) & (squared >= described.get("r_inner", 0.0) ** 2)
    return _in_polygon(x, y, np.array(described["vertices"], dtype=float))


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


def describe_region(roi, name="reference"):
    """Type and numbers of a ROI; ROIs themselves are lost by files."""
    _check_place(roi, name)
    if not _is_region(roi):
        raise TypeError(
            f"{name}={roi!r} is not a region: give a hyperspy.api.roi.RectangularROI, CircleROI "
            "or PolygonROI in the units of the signal axes."
        )
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


def region_of(described):
    """The ROI that `describe_region` has described."""
    numbers = {name: value for name, value in described.items() if name != "type"}
    return getattr(hs.roi, described["type"])(**numbers)


def describe_mask(mask, axes):
    """Number of pixels, area and centroid of a mask; the mask itself is not kept."""
    rows, columns = np.nonzero(mask)
    x, y = axes[0].axis, axes[1].axis
    return {
        "type": "mask",
        "pixels": len(rows),
        "area": float(len(rows) * abs(axes[0].scale * axes[1].scale)),
        "centroid": [float(x[columns].mean()), float(y[rows].mean())],
    }


def named_regions(rois, shape):
    """A dictionary of ROIs and masks from one region, a list or a dictionary of them.

    Parameters
    ----------
    rois : ROI, array, signal, or list or dict of them
        An array or signal of booleans is a mask. One of integers holds labels: each above zero
        is a region, with its number for a name after that of the array in a list or a
        dictionary.
    shape : tuple of int
        (ny, nx) of the map.

    Returns
    -------
    dict of str to ROI or bool array of shape (ny, nx)
    """
    if isinstance(rois, dict):
        given = {str(name): roi for name, roi in rois.items()}
    elif isinstance(rois, list | tuple):
        given = {str(i + 1): roi for i, roi in enumerate(rois)}
    else:
        given = {"": rois}
    if not given:
        raise ValueError(
            f"rois={rois!r} is empty: give at least one region, or None for the whole map."
        )
    named = {}
    for name, roi in given.items():
        for part, region in _regions_of(roi, name or "1", shape).items():
            own = f"{name} {part}".strip() or "1"
            if own in named:
                raise ValueError(f"rois holds two regions of the name {own!r}: rename one.")
            named[own] = region
    return named


def _regions_of(roi, name, shape):
    """The regions that one entry of `rois` stands for, by what is added to its name."""
    name = f"rois[{name!r}]"
    _check_place(roi, name)
    if _is_region(roi):
        return {"": roi}
    array = roi.data if hasattr(roi, "axes_manager") else roi
    if isinstance(array, da.Array):
        array = array.compute()
    if getattr(array, "dtype", np.dtype(object)).kind not in "bui":
        raise TypeError(
            f"{name}={roi!r} is not a region: give a hyperspy.api.roi.RectangularROI, CircleROI "
            "or PolygonROI in the units of the signal axes, or a signal or array of booleans (a "
            "mask) or integers (labels) with the shape of the map."
        )
    if array.shape != tuple(shape):
        raise ValueError(
            f"{name} has the shape {array.shape}, but a mask or labels must have that of the "
            f"map, {tuple(shape)}."
        )
    array = to_host(array)
    if array.dtype == bool:
        parts = {"": array}
    else:
        parts = {str(label): array == label for label in np.unique(array[array > 0])}
    if not array.any() or not parts:
        raise ValueError(f"{name} holds no pixel: at least one must be True, or a label above 0.")
    return parts


def _is_region(candidate):
    return type(candidate).__name__ in ("RectangularROI", "CircleROI", "PolygonROI")


def _check_place(roi, name):
    if type(roi).__name__.endswith("ROI") and not roi.is_valid():
        raise ValueError(
            f"{name}={roi!r} has no position yet: give it numbers, or draw it with "
            "`roi.interactive(s)`."
        )


def _in_polygon(x, y, vertices):
    """Even-odd rule."""
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=bool)
    for (x0, y0), (x1, y1) in zip(vertices, np.roll(vertices, -1, axis=0), strict=True):
        crosses = (y0 > y) != (y1 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            edge = (x1 - x0) * (y - y0) / (y1 - y0) + x0
        inside ^= crosses & (x < edge)
    return inside
