"""Spots of diffraction patterns: finding, indexing, and the distortion they tell of."""

from typing import NamedTuple

import numpy as np
from hyperspy.signals import Signal1D

from hyperspy_lfp import materials
from hyperspy_lfp.kernels.patterns import distortion, spots
from hyperspy_lfp.kernels.patterns.spot_indexing import index_spots
from hyperspy_lfp.signals._base import VARIANCE
from hyperspy_lfp.signals._docs import CENTRE, fill
from hyperspy_lfp.signals._reciprocal import axis_pixels, reciprocal_pixels
from hyperspy_lfp.signals._units import to_number

_FLAGS = {
    "saturated": spots.SATURATED,
    "border": spots.AT_BORDER,
    "mask": spots.NEAR_MASK,
    "unsettled": spots.UNSETTLED,
}


#: Height of the brightest spot, in units that floating-point patterns are fitted in, if it is more.
_HEIGHT = 1e4


class Spot(NamedTuple):
    """A spot of a pattern, relative to its centre; lengths in 1/nm and nm."""

    kx: float
    ky: float
    k: float
    k_error: float
    d: float
    intensity: float  # counts above the background
    intensity_error: float
    width: float  # standard deviation, 1/nm
    flags: tuple  # of "saturated", "border", "mask", "unsettled"
    hkl: tuple | None = None
    forbidden: bool = False


class SpotList(list):
    """Spots of one pattern, strongest first; shown as a table."""

    def __repr__(self):
        lines = ["     kx       ky        k      d/nm   intensity  hkl"]
        for s in self:
            hkl = "" if s.hkl is None else "({} {} {})".format(*s.hkl)
            marks = ", ".join((*(["forbidden"] if s.forbidden else []), *s.flags))
            lines.append(
                f"{s.kx:8.4f} {s.ky:8.4f} {s.k:8.4f} {s.d:8.4f} {s.intensity:11.4g}  {hkl} {marks}"
            )
        return "\n".join(line.rstrip() for line in lines)


class DiffractionSpotsMixin:
    """The methods of `DiffractionSeries` about lists of spots."""

    @fill(centre=CENTRE)
    def find_spots(
        self,
        n=None,
        *,
        frame=0,
        centre="auto",
        mask=None,
        threshold=spots.THRESHOLD,
        material=None,
        zone=None,
    ):
        """Spots of one pattern, with their intensities.

        Parameters
        ----------
        n : int, optional
            Number of spots wanted, the strongest; default all.
        frame : int
            Pattern of the series; of several navigation axes, counted through.
        {centre}
        mask : ROI, signal or array, optional
            Pixels to leave out, such as a beam stop.
        threshold : float
            Smallest ratio of an intensity to its standard error.
        material : str or Material, optional
            Index the spots as reflections of it; any composition it covers is tried.
        zone : tuple of int, optional
            Beam direction; default: that of the material.

        Returns
        -------
        SpotList
            A list, strongest first and without the direct beam, of records with ``kx``, ``ky``,
            ``k``, ``k_error`` (1/nm), ``d`` (nm), ``intensity``, ``intensity_error`` (counts),
            ``width``, ``flags``, ``hkl`` (None if not indexed) and ``forbidden``.

        Raises
        ------
        ValueError
            If the axes cannot be calibrated, there is no such pattern, or it has no centre.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> d = data.lithiation_movie().to_diffraction_series(padding=2)
        >>> found = d.find_spots(4, material="LiFePO4")
        >>> all(s.k > 0 for s in found)
        True
        """
        self._check_patterns()
        pixels = reciprocal_pixels(self)
        index = self._index_of(frame)
        mask = self._mask(mask)
        at = self._centre_of(centre, mask, index)
        pattern, unit = _in_units(self._pattern(index))
        found = spots.find_spots(pattern, at, n=n, mask=mask, threshold=threshold)
        k = (found.position - at)[:, ::-1] * pixels.scale
        error = found.error[:, ::-1] * pixels.scale
        length = np.hypot(*k.T)
        with np.errstate(invalid="ignore", divide="ignore"):
            along = np.sqrt(((k * error) ** 2).sum(axis=1)) / length
        result = SpotList(
            Spot(
                kx=float(k[i, 0]),
                ky=float(k[i, 1]),
                k=float(length[i]),
                k_error=float(along[i]),
                d=float(1 / length[i]) if length[i] > 0 else np.inf,
                intensity=float(unit * found.intensity[i]),
                intensity_error=float(unit * np.sqrt(found.variance[i])),
                width=float(found.width[i] * pixels.scale.mean()),
                flags=tuple(name for name, bit in _FLAGS.items() if found.flags[i] & bit),
            )
            for i in range(len(k))
        )
        return result if material is None else self.index_spots(result, material, zone=zone)

    def index_spots(self, found, material="LiFePO4", *, zone=None):
        """Miller indices of spots, from their lengths and angles.

        Parameters
        ----------
        found : SpotList
            Of `find_spots`.
        material : str or Material
        zone : tuple of int, optional
            Beam direction; default: that of the material.

        Returns
        -------
        SpotList
            The same with ``hkl`` (None for what is no reflection of the zone) and ``forbidden``:
            indexed, but absent by symmetry, so that it is seen by double diffraction only.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> d = data.lithiation_movie().to_diffraction_series(padding=2)
        >>> found = d.index_spots(d.find_spots(6))
        >>> (1, 0, 1) in [s.hkl for s in found] or (1, 0, -1) in [s.hkl for s in found]
        True
        """
        material = materials.get(material)
        zone = material.zone if zone is None else materials.check_zone(zone)
        g = np.array([(s.kx, s.ky) for s in found], dtype=float).reshape(-1, 2)
        knots = np.linspace(material.composition[0], material.composition[-1], 5)
        indexed = index_spots(g, zone, material.cell(knots) / 10, material.is_allowed)
        return SpotList(
            spot._replace(hkl=None if hkl is None else tuple(hkl), forbidden=bool(forbidden))
            for spot, hkl, forbidden in zip(found, indexed.hkl, indexed.forbidden, strict=True)
        )

    @fill(centre=CENTRE)
    def fit_distortion(
        self, material="LiFePO4", *, x=None, frame=0, centre="auto", mask=None, zone=None
    ):
        """Elliptical distortion of the camera, from spots of a lattice that is known.

        The crystal's own strain looks the same: only a known lattice tells.

        Parameters
        ----------
        material : str or Material
        x : float, optional
            Composition of the crystal in this pattern. Default: the middle of the material's range.
        frame : int
            Pattern of the series.
        {centre}
        mask : ROI, signal or array, optional
            Pixels to leave out.
        zone : tuple of int, optional
            Beam direction; default: that of the material.

        Returns
        -------
        Distortion
            With ``ellipticity`` (long over short axis, less 1), the ``angle`` of the long axis and
            ``rotation`` (radian, counter-clockwise as displayed), ``scale``, and their standard
            errors; `track_spot_profile` takes it as ``distortion``.

        Raises
        ------
        ValueError
            If fewer than four spots are indexed.

        See Also
        --------
        fit_ring_distortion : from a powder, whose lattice need not be known.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> found = data.diffraction_series(beam_stop=False).fit_distortion(x=0.0)
        >>> found.ellipticity < 0.002
        True
        """
        pixels = reciprocal_pixels(self)
        material = materials.get(material)
        x = np.mean(material.composition) if x is None else float(x)
        found = self.find_spots(frame=frame, centre=centre, mask=mask, material=material, zone=zone)
        indexed = [s for s in found if s.hkl is not None and not s.forbidden]
        zone = material.zone if zone is None else materials.check_zone(zone)
        plane = np.array([s.hkl for s in indexed], dtype=float).reshape(-1, 3)
        # in-plane coordinates of the reflections of the ideal cell, in its own orientation
        reciprocal = plane / (material.cell(x) / 10)
        normal = np.asarray(zone, dtype=float) * material.cell(x)
        first = np.linalg.svd(normal[None])[2][1:]
        ideal = reciprocal @ first.T
        measured = np.array([(s.ky, s.kx) for s in indexed]).reshape(-1, 2) / pixels.scale.mean()
        if len(measured) and np.linalg.det(np.linalg.lstsq(ideal, measured, rcond=None)[0]) < 0:
            ideal = ideal * [1, -1]
        return distortion.fit_distortion(measured, ideal / pixels.scale.mean())

    @fill(centre=CENTRE)
    def fit_ring_distortion(self, *, frame=0, centre="friedel", mask=None, k_range=None):
        """Elliptical distortion of the camera, from the rings of a powder.

        Rings are round whatever the lattice parameter: gold or bismuth on a grid serves, and no
        material need be known. They tell neither scale nor rotation.

        Parameters
        ----------
        frame : int
            Pattern of the series.
        {centre}
            Refined together with the ellipse; within a few pixels is enough.
        mask : ROI, signal or array, optional
            Pixels to leave out.
        k_range : (float, float), optional
            Range of k in 1/nm in which there are rings. Default: from a tenth of the way to the
            farthest border up to it.

        Returns
        -------
        Distortion
            As of `fit_distortion`, with ``scale`` 1 and ``rotation`` 0, whose errors are NaN.

        Raises
        ------
        ValueError
            If there are no rings in the range, or less than half of a circle of them.

        Examples
        --------
        >>> from hyperspy_lfp.signals import DiffractionSeries
        >>> ky, kx = (np.mgrid[:121, :121] - 60.0) / 20
        >>> k = np.hypot(ky, kx / 1.03)  # an ellipse, 3 % longer along kx
        >>> rings = sum(100 * np.exp(-(((k - r) / 0.08) ** 2)) for r in (1.4, 2.2, 2.6))
        >>> d = DiffractionSeries(rings)
        >>> d.axes_manager.signal_axes.set(scale=0.05, units="1/nm")
        >>> round(d.fit_ring_distortion(centre=(3.0, 3.0)).ellipticity, 3)
        0.03
        """
        self._check_patterns()
        pixels = reciprocal_pixels(self)
        index = self._index_of(frame)
        mask = self._mask(mask)
        dx, dy = pixels.scale
        if k_range is not None:
            low, high = (to_number(k, "k_range", low=0, example="(2.0, 8.0)") for k in k_range)
            if not low + 8 * dy < high:
                raise ValueError(
                    f"k_range={k_range!r} must ascend by eight pixels ({8 * dy:.3g} 1/nm) or more."
                )
            k_range = (low / dy, high / dy)
        return distortion.fit_rings(
            self._pattern(index),
            self._centre_of(centre, mask, index),
            mask=mask,
            radii=k_range,
            aspect=dx / dy,
        )

    @fill(centre=CENTRE)
    def rotation_drift(self, *, reference=0, n=40, centre="auto", mask=None):
        """Rotation of every pattern against one of them, from their spots; computed at once.

        `track_spot_profile` follows rotation by itself; this tells how far it went.

        Parameters
        ----------
        reference : int
            Pattern of the series that has no rotation.
        n : int
            Number of spots looked at, the strongest.
        {centre}
        mask : ROI, signal or array, optional
            Pixels to leave out.

        Returns
        -------
        Signal1D
            ``(| time)``: degrees, counter-clockwise as displayed, with the variance. NaN for
            patterns with fewer than four spots that match.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> d = data.lithiation_movie().to_diffraction_series(padding=2)
        >>> d.rotation_drift(n=8)
        <Signal1D, title: rotation of lithiation movie, dimensions: (|12)>
        """
        self._check_patterns()
        self._index_of(reference)
        mask = self._mask(mask)
        scale = axis_pixels(self.axes_manager.signal_axes).scale[::-1]
        lead = self.data.shape[:-2]
        positions = []
        for index in np.ndindex(*lead):
            at = self._centre_of(centre, mask, index, required=False)
            found = np.empty((0, 2))
            if np.isfinite(at).all():
                pattern, _ = _in_units(self._pattern(index))
                found = (spots.find_spots(pattern, at, n=n, mask=mask).position - at) * scale
            positions.append(found)
        angle, error = np.rad2deg(distortion.rotation_drift(positions, reference))
        axes = self._navigation_axes() or [{"name": "time", "size": 1, "units": "s"}]
        signal = self._build(
            Signal1D,
            angle.reshape(lead or 1),
            [*axes[:-1], {**axes[-1], "navigate": False}],
            layers={VARIANCE: error.reshape(lead or 1) ** 2},
            title="rotation",
            quantity="rotation (degrees)",
        )
        signal.metadata.Signal.signal_type = ""
        return signal

    def _index_of(self, frame):
        """Place of a pattern along the navigation axes, in the order of the data."""
        lead = self.data.shape[:-2]
        number = int(np.prod(lead))
        whole = isinstance(frame, int | np.integer) and not isinstance(frame, bool)
        if not whole or not -number <= frame < number:
            raise ValueError(f"frame={frame!r} is not among the {number} patterns.")
        return tuple(int(i) for i in np.unravel_index(int(frame) % number, lead)) if lead else ()


def _in_units(pattern):
    """A pattern of any numbers in units in which they are as counts are, and the unit.

    The fits to spots are well conditioned for heights that cameras have; those of power spectra
    reach 1e8 and more. Counts themselves stay what they are.
    """
    if pattern.dtype.kind in "ui":
        return pattern, 1.0
    known = pattern[np.isfinite(pattern)]
    unit = float(np.ptp(known)) / _HEIGHT if known.size else 0.0
    if not unit > 1:
        return pattern, 1.0
    return pattern / np.float32(unit), unit
