"""Calibration of diffraction patterns: pixels and what files say about them, to 1/nm."""

from typing import NamedTuple

import numpy as np
import pint
from scipy import constants

from hyperspy_lfp.signals._units import check_scales, uniform_axes, unit_name

_RECIPROCAL = {"A^-1": "1/angstrom", "1/A": "1/angstrom", "nm^-1": "1/nm", "Å^-1": "1/angstrom"}
#: Largest angle in a pattern, rad: beyond, a camera length is in another unit than HyperSpy's mm,
#: as some files have it.
_LARGEST_ANGLE = 0.5
_ENERGY = "Acquisition_instrument.TEM.beam_energy"
_CAMERA_LENGTH = "Acquisition_instrument.TEM.camera_length"


class AxisPixels(NamedTuple):
    """Pixels and places on the signal axes, whatever their units; (x, y) order."""

    scale: np.ndarray
    offset: np.ndarray

    def to_pixels(self, points):
        """Places (..., 2) along (x, y) in units of the axes, as pixels along (y, x)."""
        return ((points - self.offset) / self.scale)[..., ::-1]

    def from_pixels(self, points):
        """The inverse of `to_pixels`."""
        return points[..., ::-1] * self.scale + self.offset


class ReciprocalPixels(NamedTuple):
    """Calibration of the signal axes of a pattern, (x, y) order."""

    shape: tuple  # number of pixels
    scale: np.ndarray  # 1/nm a pixel

    @property
    def to_k(self):
        """Matrix from pixels to 1/nm, (y, x) order."""
        return np.diag(self.scale[::-1])


def axis_pixels(axes):
    """The pixels of axes that need no calibration."""
    return AxisPixels(
        np.array([axis.scale for axis in axes], dtype=float),
        np.array([axis.offset for axis in axes], dtype=float),
    )


def electron_wavelength(energy):
    """Wavelength in nm of electrons of an energy in keV, with relativity.

    Examples
    --------
    >>> from hyperspy_lfp.signals._reciprocal import electron_wavelength
    >>> round(electron_wavelength(200.0), 7)
    0.0025079
    """
    rest = constants.m_e * constants.c**2
    kinetic = energy * 1e3 * constants.e
    momentum = np.sqrt(kinetic * (kinetic + 2 * rest)) / constants.c
    return float(constants.h / momentum * 1e9)


def reciprocal_pixels(signal):
    """Calibration of the two signal axes in 1/nm, or an error that says what is missing."""
    axes = uniform_axes(signal)
    factor = np.array([_factor(axis, signal) for axis in axes])
    axis_scale = np.array([axis.scale for axis in axes], dtype=float)
    check_scales(axis_scale, axes[0].units, "scale=0.0225, units='1/nm'")
    return ReciprocalPixels(tuple(axis.size for axis in axes), factor * axis_scale)


def _factor(axis, signal):
    """1/nm in one unit of an axis."""
    registry = pint.get_application_registry()
    name = unit_name(axis)
    advice = (
        "set the scale, for example with "
        "`s.axes_manager.signal_axes.set(scale=0.0225, units='1/nm')`"
    )
    if name is None:
        raise ValueError(
            f"the signal axis {axis.name!r} has no calibration (units={axis.units!r}), so that "
            f"spacings are unknown: {advice}; or, with a camera length and a beam energy in the "
            "metadata, the size of a pixel on the detector with units='mm'."
        )
    name = "".join(c for c in name if c not in "${} ")  # as in the TeX of some programs
    name = _RECIPROCAL.get(name, name)
    try:
        quantity = registry.Quantity(1.0, name)
    except Exception as error:  # pint raises many kinds for what it cannot read
        raise ValueError(
            f"the units {axis.units!r} of the signal axis {axis.name!r} are not understood: "
            f"{advice}."
        ) from error
    if quantity.is_compatible_with("1/nm"):
        return float(quantity.to("1/nm").magnitude)
    if quantity.is_compatible_with("rad") and not quantity.unitless:
        # to first order in the angle, as detectors are flat: 1e-3 at 50 mrad
        return float(quantity.to("rad").magnitude) / _wavelength(signal, axis)
    if quantity.is_compatible_with("m"):
        length = signal.metadata.get_item(_CAMERA_LENGTH, default=None)
        if length is None or not float(length) > 0:
            raise ValueError(
                f"the signal axis {axis.name!r} is in {axis.units!r} on the detector, which needs "
                f"the camera length: set it in mm with "
                f"`s.metadata.set_item({_CAMERA_LENGTH!r}, 200.0)`, or {advice}."
            )
        angle = float(quantity.to("mm").magnitude) / float(length)
        if angle * axis.scale * axis.size / 2 > _LARGEST_ANGLE:
            raise ValueError(
                f"the camera length of {float(length):g} mm makes the pattern "
                f"{angle * axis.scale * axis.size:.2g} rad wide: some files hold it in m; set it "
                f"in mm with `s.metadata.set_item({_CAMERA_LENGTH!r}, {1e3 * float(length):g})`."
            )
        return angle / _wavelength(signal, axis)
    raise ValueError(
        f"the units {axis.units!r} of the signal axis {axis.name!r} are no reciprocal length, "
        f"angle or length: {advice}."
    )


def _wavelength(signal, axis):
    energy = signal.metadata.get_item(_ENERGY, default=None)
    if energy is None or not float(energy) > 0:
        raise ValueError(
            f"the signal axis {axis.name!r} is in {axis.units!r}, which needs the wavelength of "
            "the electrons: set their energy in keV with "
            f"`s.metadata.set_item({_ENERGY!r}, 200.0)`, or a calibration in 1/nm."
        )
    return electron_wavelength(float(energy))
