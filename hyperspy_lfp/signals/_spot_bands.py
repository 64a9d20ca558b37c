"""Where a profile goes: the spot that is meant, the centre, and the band through it."""

from typing import NamedTuple

import dask.array as da
import numpy as np

from hyperspy_lfp import materials
from hyperspy_lfp.signals import _diffraction_blocks, _frames
from hyperspy_lfp.signals._reciprocal import axis_pixels, reciprocal_pixels
from hyperspy_lfp.signals._regions import region_mask
from hyperspy_lfp.signals._units import to_number, to_vectors

CENTRE_METHODS = ("auto", "direct beam", "friedel")
#: Length and width of a profile in units of the spot's distance from the centre, by default: wide
#: enough for a change of 5 % and a background on both sides.
_LENGTH, _WIDTH = 0.3, 0.12
#: Fewest bins of a profile.
_FEWEST = 4


class BandPlan(NamedTuple):
    """A band in reciprocal space, in 1/nm; vectors in (y, x) order, free of distortion."""

    spot: np.ndarray  # (2,)
    unit: np.ndarray  # (2,) direction of the profile
    start: float  # of the first bin's edge, along `unit`
    step: float
    bins: int
    width: float
    radial: bool
    to_k: np.ndarray  # (2, 2) from pixels

    @property
    def length(self):
        """Of all bins."""
        return self.bins * self.step


def plan_band(spot, pixels, *, length, width, direction, step, distortion):
    """The band through a spot, (kx, ky) in 1/nm as it is seen in the pattern."""
    to_k, correction = pixels.to_k, np.eye(2)
    if distortion is not None:
        correction = np.asarray(distortion.correction, dtype=float)
        to_k = correction @ to_k
    spot = correction @ np.asarray(spot, dtype=float)[::-1]
    size = float(np.hypot(*spot))
    if not size > 0:
        raise ValueError("spot is the centre itself, through which no profile goes.")
    length = extent(length, _LENGTH * size, "length")
    width = extent(width, _WIDTH * size, "width")
    step = extent(step, float(pixels.scale.mean()), "step")
    if width < pixels.scale.max() or length < _FEWEST * step:
        raise ValueError(
            f"width={width:.4g} and length={length:.4g} 1/nm are too small for pixels of "
            f"{pixels.scale.max():.4g} and bins of {step:.4g} 1/nm: a band is at least a pixel "
            f"wide and {_FEWEST} bins long."
        )
    radial = isinstance(direction, str) and direction == "radial"
    unit = spot / size if radial else _unit(direction)
    bins = round(length / step)
    start = float(spot @ unit) - bins * step / 2
    return BandPlan(spot, unit, start, step, bins, width, radial, to_k)


class SpotPlacesMixin:
    """The methods of `DiffractionSeries` that say where things are in its patterns."""

    def _check_patterns(self):
        data = self.data
        if data.dtype.names is not None or data.dtype.kind not in "uif":
            raise TypeError(
                f"the data are {data.dtype}, but diffraction patterns must be real numbers: take "
                "`s.amplitude` or the like first, or one grey value for each pixel."
            )
        if data.size == 0:
            raise ValueError(f"the series is empty: its data have the shape {data.shape}.")

    def _mask(self, mask):
        """True where pixels are to be left out, (ny, nx), or None."""
        if mask is None:
            return None
        if type(mask).__name__.endswith("ROI"):
            return region_mask(mask, self.axes_manager.signal_axes, "mask")
        mask = np.asarray(mask.data if hasattr(mask, "axes_manager") else mask)
        if mask.dtype != bool or mask.shape != self.data.shape[-2:]:
            raise ValueError(
                f"mask has the shape {mask.shape} and type {mask.dtype}; it must be a ROI, or "
                f"booleans with the shape {self.data.shape[-2:]} of a pattern."
            )
        return mask

    def _found_centres(self, method, mask, start=None):
        """Centres and their errors in (y, x) pixels, (..., 2, 2)."""
        return _frames.map_frames(
            _diffraction_blocks.centre_block,
            _frames.as_frames(self, 2),
            core=2,
            out_shape=(2, 2),
            dtype=np.float64,
            mask=mask,
            method=method,
            start=start,
        )

    def _centres(self, centre, mask):
        """Centres in (y, x) pixels that go with the frames, shape (..., 2)."""
        lead = self.data.ndim - 2
        pixels = axis_pixels(self.axes_manager.signal_axes)
        if isinstance(centre, str) and centre in CENTRE_METHODS:
            if self.is_power_spectrum and centre == "auto":
                return pixels.to_pixels(np.zeros(2)).reshape((1,) * lead + (2,))
            return self._found_centres(centre, mask)[..., 0, :]
        values = centre.data if hasattr(centre, "axes_manager") else centre
        if not isinstance(values, da.Array):
            try:
                values = np.asarray(values, dtype=float)
            except (TypeError, ValueError):
                values = np.empty(0)
        if values.shape not in ((2,), (*self.data.shape[:-2], 2)):
            raise ValueError(
                f"centre={centre!r} must be one of {CENTRE_METHODS}, a pair (kx, ky) in units of "
                "the axes, or one for each pattern, as from `refine_centre`."
            )
        return pixels.to_pixels(values).reshape((1,) * (lead + 1 - values.ndim) + values.shape)

    def _pattern(self, index=None):
        """One pattern as an array; `index` along the navigation axes, in the order of the data."""
        index = (0,) * (self.data.ndim - 2) if index is None else index
        frame = self.data[index]
        return np.asarray(frame.compute() if hasattr(frame, "dask") else frame)

    def _centre_of(self, centre, mask, index=None, required=True):
        """Centre of one pattern in (y, x) pixels."""
        index = (0,) * (self.data.ndim - 2) if index is None else index
        searched = isinstance(centre, str) and centre in CENTRE_METHODS
        if searched and not (self.is_power_spectrum and centre == "auto"):
            frame = self._pattern(index)[None]
            found = _diffraction_blocks.centre_block(frame, mask, centre, None)[0, 0]
        else:
            centres = self._centres(centre, mask)
            lead = zip(index, centres.shape[:-1], strict=True)
            found = centres[tuple(0 if n == 1 else i for i, n in lead)]
            found = np.asarray(found.compute() if hasattr(found, "dask") else found)
        if required and not np.isfinite(found).all():
            raise ValueError(
                f"no centre was found in the pattern {tuple(reversed(index)) or ''}: give "
                "`centre`, or mask the beam stop."
            )
        return found

    def _spot(self, spot, pixels, centre, mask, material, zone):
        """The spot relative to the centre, (kx, ky) in 1/nm, as seen in the first pattern."""
        if is_hkl(spot):
            return self._spot_of_indices(spot, centre, mask, material, zone)
        if type(spot).__name__.endswith("ROI"):
            at = np.array(_middle(spot), dtype=float)
            at = axis_pixels(self.axes_manager.signal_axes).to_pixels(at)
            return (at - self._centre_of(centre, mask))[::-1] * pixels.scale
        try:
            (vector,) = to_vectors([spot], "nm", "spot")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"spot={spot!r} must be (kx, ky) in 1/nm relative to the centre, a ROI, or with a "
                "material three Miller indices."
            ) from error
        return vector

    def _spot_of_indices(self, hkl, centre, mask, material, zone):
        hkl = materials.check_hkl(hkl)
        if material is None:
            raise ValueError(f"spot={hkl} are Miller indices, which need a `material`.")
        spots = self.find_spots(centre=centre, mask=mask, material=material, zone=zone)
        opposite = tuple(-i for i in hkl)
        seen = [np.array([s.kx, s.ky]) for s in spots if s.hkl in (hkl, opposite)]
        if seen:
            # of the pair the one that the border of the pattern is farther from: it may cut a band
            pixels = reciprocal_pixels(self)
            first = self._centre_of(centre, mask)
            size = np.array(pixels.shape[::-1])
            places = [first + (k / pixels.scale)[::-1] for k in seen]
            room = [np.minimum(place, size - 1 - place).min() for place in places]
            return seen[int(np.argmax(room))]
        found = sorted({s.hkl for s in spots if s.hkl is not None})
        raise ValueError(
            f"spot={hkl} is not among the spots of the first pattern, which are {found}: give "
            "(kx, ky), or another zone."
        )

    def _check_inside(self, spot, centre, pixels, mask):
        """The spot must be on the detector and not behind the mask, in the first pattern.

        Where that is not known before a file is read, bins that are not seen are NaN.
        """
        size = np.array(pixels.shape[::-1])
        given = f"spot=({spot[0]:.4g}, {spot[1]:.4g}) 1/nm"
        first = self._known_centre(centre, mask)
        if first is None:  # anywhere in the pattern
            at, first = np.abs(spot / pixels.scale)[::-1] - size, np.zeros(2)
            outside = np.any(at > 0)
        else:
            at = first + (spot / pixels.scale)[::-1]
            outside = np.any(at < -0.5) or np.any(at > size - 0.5)
        if outside:
            reach = np.round((size - 0.5 - first)[::-1] * pixels.scale, 3).tolist()
            raise ValueError(
                f"{given} is outside of the pattern, which reaches {reach} 1/nm to the right of "
                "and below its centre."
            )
        if mask is not None and np.all(at > -0.5) and mask[tuple(np.rint(at).astype(int))]:
            raise ValueError(
                f"{given} is behind the mask; take its opposite ({-spot[0]:.4g}, {-spot[1]:.4g})."
            )

    def _known_centre(self, centre, mask):
        """Centre of the first pattern, or None if there is none or a file had to be read."""
        searched = isinstance(centre, str) and not (self.is_power_spectrum and centre == "auto")
        if self._lazy and (searched or getattr(centre, "_lazy", False)):
            return None
        found = self._centre_of(centre, mask, required=False)
        return found if np.isfinite(found).all() else None


def is_hkl(spot):
    """Whether a spot is given by Miller indices."""
    return not hasattr(spot, "is_valid") and np.ndim(spot) == 1 and len(spot) == 3


def extent(value, default, name):
    """A positive length in 1/nm."""
    if value is None:
        return float(default)
    number = to_number(value, name, example="0.3 (in 1/nm)")
    if not number > 0:
        raise ValueError(f"{name}={value!r} must be a positive number, in 1/nm.")
    return number


def _middle(roi):
    kind = type(roi).__name__
    if kind == "RectangularROI":
        return (roi.left + roi.right) / 2, (roi.top + roi.bottom) / 2
    if kind == "CircleROI":
        return roi.cx, roi.cy
    if kind == "Point2DROI":
        return roi.x, roi.y
    raise TypeError(f"spot={roi!r} must be a RectangularROI, CircleROI or Point2DROI.")


def _unit(direction):
    """A unit vector in (y, x) order."""
    try:
        vector = np.asarray(direction, dtype=float)
    except (TypeError, ValueError):
        vector = np.zeros(0)
    if vector.shape != (2,) or not np.isfinite(vector).all() or not vector.any():
        raise ValueError(f"direction={direction!r} must be 'radial' or a vector (kx, ky).")
    return vector[::-1] / np.hypot(*vector)
