"""Arguments of the simulated microscope, checked."""

import numpy as np

from hyperspy_lfp.signals._regions import pixels_inside
from hyperspy_lfp.signals._units import to_number


def frame_shape(shape):
    """(y, x) pixels."""
    try:
        rows, columns = shape
    except (TypeError, ValueError):
        rows = columns = None
    if not all(isinstance(n, int | np.integer) and n >= 8 for n in (rows, columns)):
        raise ValueError(f"shape={shape!r} must be (y, x), two whole numbers of 8 pixels or more.")
    return int(rows), int(columns)


def positive(value, name, example):
    """A number above zero."""
    number = to_number(value, name, example=example)
    if not number > 0:
        raise ValueError(f"{name}={value!r} must be positive, for example {example}.")
    return number


def part(value, name):
    """A number from 0 to 1."""
    value = to_number(value, name, 0, "0.5")
    if value > 1:
        raise ValueError(f"{name}={value:g} must be a part, 0 to 1.")
    return value


def whole(value, name, low=1):
    """A whole number that is not below `low`."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < low:
        raise ValueError(f"{name}={value!r} must be a whole number, {low} or more.")
    return int(value)


def check_choice(name, value, choices):
    """One of some names, or an error."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not known; use one of {tuple(choices)}.")


def per_frame(values, frames, name, units):
    """One number for all frames, or one for each: (frames,)."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if array.shape not in ((), (frames,)) or not np.isfinite(array).all():
        raise ValueError(
            f"{name} must be one number in {units}, or one for each of the {frames} frames; given "
            f"was {values!r}."
        )
    return np.broadcast_to(array, frames)


def _numbers(values, count):
    """So many finite numbers, or None."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        return None
    return array if array.shape == (count,) and np.isfinite(array).all() else None


def pair(centre, name):
    """(kx, ky)."""
    numbers = _numbers(centre, 2)
    if numbers is None:
        raise ValueError(f"{name}={centre!r} must be (kx, ky) in 1/nm, for example (0.1, -0.05).")
    return numbers


def drift(drift, frames):
    """(kx, ky) for each frame."""
    if drift is None:
        return np.zeros((frames, 2))
    array = np.asarray(drift.data if hasattr(drift, "axes_manager") else drift, dtype=float)
    if array.shape != (frames, 2) or not np.isfinite(array).all():
        raise ValueError(
            f"centre_drift has the shape {array.shape}, but must hold one finite (kx, ky) pair in "
            f"1/nm for each of the {frames} patterns: shape ({frames}, 2)."
        )
    return array


def background(background):
    """Counts in the middle and half width, or None."""
    if background is None:
        return None
    pair = _numbers(background, 2)
    if pair is None or pair[0] < 0 or not pair[1] > 0:
        raise ValueError(
            f"background={background!r} must be counts in the middle and a half width in 1/nm, for "
            "example (60.0, 1.2), or None."
        )
    return tuple(pair.tolist())


def beam_stop(stop):
    """Left, top, right and bottom in 1/nm, or None."""
    if stop is None:
        return None
    if type(stop).__name__ == "RectangularROI":
        stop = (stop.left, stop.top, stop.right, stop.bottom)
    edges = _numbers(stop, 4)
    if edges is None or edges[0] >= edges[2] or edges[1] >= edges[3]:
        raise ValueError(
            f"beam_stop={stop!r} must be (left, top, right, bottom) in 1/nm, ascending, with ky "
            "downwards, for example (-4.0, -0.2, 0.25, 0.2), or a RectangularROI."
        )
    return edges


def blocked_pixels(edges, shape, pixel):
    """Pixels behind the beam stop, (ny, nx), or None."""
    if edges is None:
        return None
    # as HyperSpy counts its axes, to the last bit: an edge may be on a pixel's middle
    kx, ky = (-(n // 2) * pixel + np.arange(n) * pixel for n in shape[::-1])
    left, top, right, bottom = edges
    described = {"left": left, "top": top, "right": right, "bottom": bottom}
    blocked = pixels_inside({"type": "RectangularROI", **described}, kx, ky)
    if not blocked.any():
        raise ValueError(
            f"beam_stop={edges.tolist()} holds no pixel of the pattern, which reaches kx from "
            f"{kx[0]:.4g} to {kx[-1]:.4g} and ky from {ky[0]:.4g} to {ky[-1]:.4g} 1/nm."
        )
    return blocked


def ellipse(ellipse):
    """Ratio of the axes, and direction of the long one in degrees."""
    if ellipse is None:
        return 1.0, 0.0
    pair = _numbers(ellipse, 2)
    if pair is None or pair[0] < 1:
        raise ValueError(
            f"ellipse={ellipse!r} must be the ratio of the long to the short axis, 1 or more, and "
            "the direction of the long one in degrees, for example (1.02, 30.0)."
        )
    return float(pair[0]), float(pair[1])


def number_of_pixels(value, name, pixels):
    """A number of pixels, from one or from a part of all."""
    number = to_number(value, name, 0, "20, or 1e-4 of all pixels")
    if isinstance(value, bool) or (number >= 1 and number != int(number)) or number > pixels:
        raise ValueError(
            f"{name}={value!r} must be a whole number up to {pixels}, or a part below one."
        )
    return int(number) if number >= 1 else round(number * pixels)
