"""Checks of g vectors and resolution against the frame, and where the maps are sampled."""

import warnings

import numpy as np

from hyperspy_lfp.signals._units import to_length

#: Finest resolution, in lattice spacings. Up to one spacing the neighbouring spots leak into the
#: window, which is worth a warning; at half of one they fill it.
_FINEST = 0.55
#: Finest sampling of the maps, in pixels of the frame.
_FINEST_STEP = 0.2


def check_independent(vectors):
    sines = [
        abs(np.cross([*a, 0], [*b, 0])[2]) / np.hypot(*a) / np.hypot(*b)
        for a in vectors
        for b in vectors
    ]
    if max(sines) < np.sin(np.deg2rad(5)):
        raise ValueError(
            f"the g vectors {np.round(vectors, 4).tolist()} are collinear: strain in the plane "
            "needs two reflections in different directions (more than 5 degrees apart)."
        )


def check_resolution(resolution, vectors, pixels):
    spacings = 1 / np.hypot(*vectors.T)
    units = pixels.units
    sigma = 2 * spacings.max() if resolution is None else to_length(resolution, units, "resolution")
    side = (pixels.scale * pixels.shape).min()
    advice = "" if resolution is not None else " (twice the larger spacing, by default)"
    if sigma < _FINEST * spacings.max():
        raise ValueError(
            f"resolution={sigma:.4g} {units} is too fine for the spacing 1/|g| = "
            f"{spacings.max():.4g} {units}: one window holds less than a fringe; use "
            f"{2 * spacings.max():.3g} {units} or so."
        )
    if sigma < spacings.max():
        warnings.warn(
            f"resolution={sigma:.4g} {units} is finer than the spacing 1/|g| = "
            f"{spacings.max():.4g} {units}: neighbouring reflections leak into the maps.",
            stacklevel=3,
        )
    if sigma > side / 2:
        raise ValueError(
            f"resolution={sigma:.4g} {units}{advice} is larger than half the frame, which is "
            f"{side:.4g} {units} wide: use a finer one, or a larger frame."
        )
    return float(sigma)


def sample_positions(step, sigma, pixels, i):
    """Where the maps are sampled along one axis, in pixels of the frame."""
    size, scale = pixels.shape[i], pixels.scale[i]
    if isinstance(step, str) and step == "pixel":
        return np.arange(size, dtype=float)
    width = (sigma / 3 if step is None else to_length(step, pixels.units, "step")) / scale
    if width > (size - 1) / 2:
        raise ValueError(
            f"step={width * scale:.4g} {pixels.units} leaves fewer than three samples across the "
            f"frame of {size * scale:.4g} {pixels.units}: use a finer step."
        )
    if width < _FINEST_STEP:
        raise ValueError(
            f"step={width * scale:.4g} {pixels.units} is finer than {_FINEST_STEP} pixels of "
            f"{scale:.4g} {pixels.units}: the frame says nothing there; 'pixel' is the finest "
            "that is of use."
        )
    number = int((size - 1) / width + 1e-9) + 1
    return (np.arange(number) - (number - 1) / 2) * width + (size - 1) / 2


def sampled_axes(names, positions, pixels):
    """The signal axes of the maps, data order (y, x)."""
    axes = []
    for i in (1, 0):
        at = positions[i]
        step = at[1] - at[0] if len(at) > 1 else 1.0
        axes.append(
            {
                "name": names[i],
                "size": len(at),
                "scale": float(step * pixels.scale[i]),
                "offset": float(pixels.offset[i] + at[0] * pixels.scale[i]),
                "units": pixels.units,
                "navigate": False,
            }
        )
    return axes
