"""What the arguments of a simulated movie may be."""

import numpy as np

from hyperspy_lfp.kernels.imaging import detector, placement
from hyperspy_lfp.signals._units import to_length, to_number
from hyperspy_lfp.simulation._options import check_choice, frame_shape

#: Standard deviations of noise and film for which a type of integers must have room.
ROOM = 10.0
#: Vacuum around the particle in nm, and the largest stretch of it, if no shape is given.
_VACUUM, _STRETCH = 2.0, 1.06
#: Keys of the argument `bend`.
_BEND = ("curvature", "direction", "position", "thickness")


def part_of(value, name):
    value = to_number(value, name, 0, "0.1")
    if value >= 1:
        raise ValueError(f"{name}={value:g} must be a part of the intensity, 0 to below 1.")
    return value


def drifts_of(drift, frames):
    if drift is None:
        return np.zeros((frames, 2))
    data = getattr(drift, "data", drift) if hasattr(drift, "axes_manager") else drift
    array = np.asarray(data, dtype=float)
    if array.shape != (frames, 2) or not np.isfinite(array).all():
        raise ValueError(
            f"drift has the shape {array.shape}, but must hold one finite (x, y) pair in nm for "
            f"each of the {frames} frames: shape ({frames}, 2)."
        )
    return array


def shape_of(shape, source, pixel, angles, shifts):
    """Size of a frame: as given, or that holds the particle with vacuum around it."""
    if shape is not None:
        return frame_shape(shape)
    rows, columns = np.nonzero(source.mask)
    corners = []
    for index, n, d in zip(
        (columns, rows), source.mask.shape[::-1], source.spacing[::-1], strict=True
    ):
        corners.append(np.array([index.min() - n / 2, index.max() + 1 - n / 2]) * d)
    points = np.stack(np.meshgrid(*corners), axis=0).reshape(2, -1) * _STRETCH
    seen = [
        placement.turn(np.deg2rad(angle)) @ points + shift[:, None]
        for angle, shift in zip(angles, shifts, strict=True)
    ]
    half = np.abs(seen).max(axis=(0, 2)) + _VACUUM
    columns, rows = (2 * int(np.ceil(h / pixel)) for h in half)
    return rows, columns


def dtype_of(dtype, dose, most):
    if dtype is None:
        if dose is None:
            return np.dtype(np.float32)
        return np.dtype(np.uint16 if most + ROOM * np.sqrt(most) < 2**16 else np.uint32)
    dtype = np.dtype(dtype)
    if dtype.kind not in "uif" or (dose is None and dtype.kind != "f"):
        raise ValueError(
            f"dtype={dtype} cannot hold {'an expected intensity' if dose is None else 'counts'}: "
            "take a type of floats" + ("." if dose is None else " or integers.")
        )
    if dtype.kind in "ui" and most + ROOM * np.sqrt(most) > np.iinfo(dtype).max:
        raise ValueError(
            f"dtype={dtype} holds up to {np.iinfo(dtype).max}, but at this dose up to "
            f"{most:.0f} electrons a pixel are expected; take uint32."
        )
    return dtype


def check_mtf(mtf):
    if isinstance(mtf, str):
        check_choice("mtf", mtf, tuple(detector.MTF))
    elif callable(mtf):
        detector.transfer_factor((8, 8), mtf)
    else:
        raise TypeError(
            f"mtf={mtf!r} must be one of {tuple(detector.MTF)}, a function of the spatial "
            "frequency in cycles per pixel, or None."
        )


def bend_of(bend):
    if bend is None:
        return None
    if not isinstance(bend, dict) or "curvature" not in bend or set(bend) - set(_BEND):
        raise ValueError(
            f"bend={bend!r} must be a dictionary with curvature (mrad/nm), and if they are not 0, "
            "0 and 20, direction (degrees), position (nm) and thickness (nm)."
        )
    curvature = to_number(bend["curvature"], "bend['curvature']", example="2.0 (mrad/nm)")
    direction = to_number(bend.get("direction", 0.0), "bend['direction']")
    position = to_number(bend.get("position", 0.0), "bend['position']")
    thickness = to_length(bend.get("thickness", 20.0), "nm", "bend['thickness']")
    return curvature * 1e-3, np.deg2rad(direction), position, thickness


def sign_of(contrast_reversal, source):
    if contrast_reversal is None:
        return None
    array = np.asarray(getattr(contrast_reversal, "data", contrast_reversal), dtype=float)
    if array.shape not in (source.x.shape, source.x.shape[1:]):
        raise ValueError(
            f"contrast_reversal has the shape {array.shape}, but must have that of the maps, "
            f"{source.x.shape[1:]} or {source.x.shape}."
        )
    if not (np.isfinite(array).all() and np.abs(array).max() <= 1):
        raise ValueError("contrast_reversal must hold numbers from -1 to 1.")
    return np.broadcast_to(array, source.x.shape)
