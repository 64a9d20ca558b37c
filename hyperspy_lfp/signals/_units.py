"""The one place where units are read and converted, and (x, y) is turned into (y, x)."""

from typing import NamedTuple

import numpy as np
import pint

#: Spellings that files use and pint does not know, or reads as another quantity.
_SPELLINGS = {"n_m": "nm", "p_m": "pm", "u_m": "um", "µ_m": "um", "m_": "m", "Å": "angstrom"}
_SPELLINGS |= {"Angstrom": "angstrom", "Angstroms": "angstrom"}
_NO_UNITS = ("", "<undefined>", "px", "pixel", "pixels")


def _registry():
    return pint.get_application_registry()


class Pixels(NamedTuple):
    """Calibration of the signal axes, (x, y) order, in one unit of length."""

    shape: tuple  # number of pixels
    scale: np.ndarray
    offset: np.ndarray
    units: str

    def to_kernel(self, lengths):
        """Lengths (..., 2) along (x, y) as pixels along (y, x), the order of the kernels."""
        return lengths[..., ::-1] / self.scale[::-1]

    def from_kernel(self, lengths):
        """The inverse of `to_kernel`."""
        return lengths[..., ::-1] * self.scale

    def vectors_to_kernel(self, g):
        """Reciprocal vectors, (n, 2) in (x, y) order, as cycles per pixel in (y, x) order."""
        return g[:, ::-1] * self.scale[::-1]

    def vectors_from_kernel(self, g):
        """The inverse of `vectors_to_kernel`."""
        return g[:, ::-1] / self.scale


def uniform_axes(signal):
    """The signal axes, or an error that says how to make them uniform."""
    axes = signal.axes_manager.signal_axes
    for axis in axes:
        if not axis.is_uniform:
            raise NotImplementedError(
                f"{type(signal).__name__} with the non-uniform signal axis {axis.name!r} is not "
                "supported; interpolate it onto a uniform axis first, for example with "
                "`s.interpolate_on_axis('uniform', axis=...)`."
            )
    return axes


def check_scales(scale, units, example):
    """The sizes of pixels along (x, y) must be positive."""
    if not np.all(np.isfinite(scale) & (scale > 0)):
        raise ValueError(
            f"the scales of the signal axes are {scale[0]:g} and {scale[1]:g} {units}, but must be "
            f"positive; set them with `s.axes_manager.signal_axes.set({example})`."
        )


def unit_name(axis):
    """The unit of an axis in a spelling that pint knows; None without any."""
    name = str(axis.units).strip() if isinstance(axis.units, str) else ""
    return None if name in _NO_UNITS else _SPELLINGS.get(name, name)


def pixels_of(signal):
    """Calibration of the two signal axes of an image, or an error that says how to set it."""
    axes = uniform_axes(signal)
    units = [_length_unit(axis, axes) for axis in axes]
    factors = [1.0, float(_registry().Quantity(1.0, units[1]).to(units[0]).magnitude)]
    scale = np.array([axis.scale for axis in axes]) * factors
    check_scales(scale, units[0], "scale=0.025, units='nm'")
    return Pixels(
        shape=tuple(axis.size for axis in axes),
        scale=scale,
        offset=np.array([axis.offset for axis in axes]) * factors,
        units=_label(units[0]),
    )


def _length_unit(axis, axes):
    """A unit of length that pint understands."""
    name = unit_name(axis)
    advice = (
        "Set the pixel size, for example with "
        "`s.axes_manager.signal_axes.set(scale=0.025, units='nm')`"
    )
    if name is None:
        raise ValueError(
            f"the signal axis {axis.name!r} has no unit of length (units={axis.units!r}), so "
            f"that spacings of the lattice are unknown. {advice}."
        )
    hint = " (`A` is ampere; write 'Å' or 'angstrom')" if name == "A" else ""
    try:
        is_length = _registry().Unit(name).is_compatible_with("m")
    except Exception as error:  # pint raises many kinds for what it cannot read
        raise ValueError(
            f"the units {axis.units!r} of the signal axis {axis.name!r} are not understood. "
            f"{advice}."
        ) from error
    if not is_length:
        raise ValueError(
            f"the units {axis.units!r} of the signal axis {axis.name!r} are not a length{hint}. "
            f"{advice}."
        )
    return name


def _label(unit):
    """How the unit is written on axes and in metadata."""
    return {"angstrom": "Å", "nanometer": "nm", "meter": "m"}.get(unit, unit)


def to_length(value, units, name):
    """A length as a float in `units`, from a number, a string or a pint quantity."""
    number = _magnitude(value, units, name, "a length", f"`{name}=1.5` (in {units}) or '1.5 nm'")
    number = np.asarray(number, dtype=float)
    if number.ndim or not np.isfinite(number) or number <= 0:
        raise ValueError(
            f"{name}={value!r} must be one positive length, for example 1.5 (in {units}) or "
            "'1.5 nm'."
        )
    return float(number)


def to_number(value, name, low=-np.inf, example="0.2"):
    """A finite number that is not below `low`."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number) or number < low:
        limit = "" if low == -np.inf else f", {low:g} or more"
        raise ValueError(f"{name}={value!r} must be a number{limit}, for example {example}.")
    return number


def to_vectors(vectors, units, name="g"):
    """Reciprocal vectors as a float array of shape (n, 2), (x, y) order, in 1/`units`."""
    reciprocal = f"1/({_SPELLINGS.get(units, units)})"
    example = f"(x, y) pairs in 1/{units}, for example (0.0, 2.1) or ('0 1/nm', '2.1 1/nm')"
    if isinstance(vectors, pint.Quantity):
        vectors = [vectors] if np.ndim(vectors.magnitude) == 1 else list(vectors)
    elif hasattr(vectors, "data") and hasattr(vectors, "axes_manager"):
        vectors = vectors.data
    rows = []
    for vector in vectors:
        if isinstance(vector, pint.Quantity):
            vector = _magnitude(vector, reciprocal, name, "reciprocal vectors", example)
        row = [
            float(_magnitude(v, reciprocal, name, "reciprocal vectors", example))
            for v in np.asarray(vector, dtype=object).reshape(-1)
        ]
        if len(row) != 2 or not np.all(np.isfinite(row)):
            raise ValueError(f"{name} has the vector {vector!r}; it must hold {example}.")
        rows.append(row)
    return np.array(rows, dtype=float).reshape(-1, 2)


def _magnitude(value, units, name, what, example):
    units = _SPELLINGS.get(units, units)
    if isinstance(value, str):
        try:
            value = _registry().Quantity(value)
        except Exception as error:
            raise ValueError(f"{name}={value!r} is not {what}; give {example}.") from error
        if value.unitless:
            return value.magnitude
    if isinstance(value, pint.Quantity):
        try:
            return _registry().Quantity(value.magnitude, str(value.units)).to(units).magnitude
        except pint.DimensionalityError as error:
            raise ValueError(f"{name}={value!s} is not {what}; give {example}.") from error
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}={value!r} is not {what}; give {example}.") from error


def in_nanometre(units):
    """Number of nanometres in one `units`."""
    quantity = _registry().Quantity(1.0, _SPELLINGS.get(units, units))
    return float(quantity.to("nm").magnitude)


def time_in_seconds(axis):
    """Number of seconds in the unit of a time axis."""
    try:
        return float(_registry().Quantity(1.0, str(axis.units)).to("s").magnitude)
    except Exception as error:
        raise ValueError(
            f"the time axis has the units {axis.units!r}, which are not a time; set them, for "
            "example with `s.axes_manager.navigation_axes[0].units = 's'`."
        ) from error
