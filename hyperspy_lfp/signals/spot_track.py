"""Peaks of a diffraction spot against time, and what they say of the transformation."""

import warnings

import dask.array as da
import numpy as np
from hyperspy.signals import Signal1D

from hyperspy_lfp import materials
from hyperspy_lfp.kernels.peaks import phases
from hyperspy_lfp.signals import _frames, _track_blocks
from hyperspy_lfp.signals._base import (
    REFERENCE,
    SYSTEMATIC,
    VARIANCE,
    LatticeSignal,
    axis_index,
    cheap_to_plot,
    map_axes,
    stacked_axis,
)
from hyperspy_lfp.signals._peak_blocks import PARAMETERS
from hyperspy_lfp.signals._units import to_number
from hyperspy_lfp.signals.concentration_evolution import ConcentrationEvolution

_STEP = "SpotTrack"
#: Compositions in the table that spacings are compared with, and how far beyond the material's.
_TABLE, _BEYOND = 201, 0.5
#: Ratio of intensities per mole from which on a mixture is worth a warning.
_UNEQUAL = 1.2
_UNITS = {
    "position": "1/nm",
    "d_spacing": "nm",
    "fwhm": "1/nm",
    "area": "Counts",
    "eta": "",
    "centroid": "1/nm",
    "spread": "1/nm",
    "skewness": "",
}
#: What each of two peaks has of its own.
_OF_BOTH = ("position", "d_spacing", "fwhm", "area")


class SpotTrack(LatticeSignal, Signal1D):
    """Fitted peaks of a diffraction spot, ``(parameter | time)``.

    Made by `SpotProfile.fit`. What is asked for comes as signals over time: `position`,
    `d_spacing`, `fwhm`, `area`, `eta` of the (first) peak in the order of k, those of the second
    with ``_2``, NaN where there is one only, each with its variance (`get_noise_variance`) and as
    ``standard_error(name)``; and the moments `centroid`, `spread` and `skewness`, which need no
    model.
    """

    _signal_type = "SpotTrack"
    _alias_signal_types = ["spot_track"]
    _own_axes = ("parameter",)

    #: Names along the parameter axis.
    PARAMETERS = PARAMETERS

    def _assign_subclass(self, chunks=False):
        """Stay what it is for a single pattern too, whose one value is no axis for HyperSpy."""
        ours = self.metadata.Signal.signal_type == SpotTrack._signal_type
        super()._assign_subclass(chunks)
        axes = self.axes_manager.signal_axes
        if ours and len(axes) == 1 and axes[0].size == 1:
            from hyperspy_lfp.signals import LazySpotTrack

            self.__class__ = LazySpotTrack if self._lazy else SpotTrack

    @property
    def n_peaks(self):
        """Number of peaks: 0 without any, 2 where there is strong evidence for two phases."""
        return self._over_time(self._measured("n_peaks")[0], None, "number of peaks")

    @property
    def position(self):
        """Position of the (first) peak, 1/nm."""
        return self._quantity("position")

    @property
    def position_2(self):
        """Position of the second peak, at larger k, 1/nm."""
        return self._quantity("position_2")

    @property
    def d_spacing(self):
        """Spacing of the (first) peak, nm: 1/k of a radial profile."""
        return self._quantity("d_spacing")

    @property
    def d_spacing_2(self):
        """Spacing of the second peak, nm."""
        return self._quantity("d_spacing_2")

    @property
    def fwhm(self):
        """Full width at half maximum, 1/nm."""
        return self._quantity("fwhm")

    @property
    def fwhm_2(self):
        """Full width at half maximum of the second peak, 1/nm."""
        return self._quantity("fwhm_2")

    @property
    def area(self):
        """Counts of the (first) peak above the background."""
        return self._quantity("area")

    @property
    def area_2(self):
        """Counts of the second peak above the background."""
        return self._quantity("area_2")

    @property
    def eta(self):
        """Lorentzian part of the peaks' shape, 0 to 1."""
        return self._quantity("eta")

    @property
    def centroid(self):
        """Centroid of the profile above a straight line, 1/nm; no model."""
        return self._quantity("centroid")

    @property
    def spread(self):
        """Standard deviation of the profile, 1/nm; no model."""
        return self._quantity("spread")

    @property
    def skewness(self):
        """Skewness of the profile; no model. Positive: a tail to larger k."""
        return self._quantity("skewness")

    @property
    def reduced_chi_square(self):
        """Pearson's chi square of the fit over its degrees of freedom."""
        return self._over_time(self._measured("reduced_chi_square")[0], None, "reduced chi square")

    def standard_error(self, name):
        """Standard error of a quantity over time.

        Parameters
        ----------
        name : str
            Of a property: ``"position"``, ``"d_spacing_2"``, ...

        Returns
        -------
        Signal1D
            ``(| time)``.
        """
        known = (*_UNITS, *(f"{base}_2" for base in _OF_BOTH))
        if name not in known:
            raise ValueError(f"name={name!r} is not known; use one of {known}.")
        errors = self._measured(name)[1]
        return self._over_time(errors, None, f"standard error of {name}", _unit_of(name))

    def size_and_strain(self, instrument=0.0):
        """Crystallite size, and relative breadth of the spacing, from the width of the first peak.

        Either may be the cause of the width; one reflection cannot tell them apart.

        Parameters
        ----------
        instrument : float
            Full width at half maximum of a perfect crystal's spot, 1/nm.

        Returns
        -------
        size, strain : Signal1D
            ``(| time)``: Scherrer's size in nm (0.9 over the width), and width over position, with
            their variances. NaN where the spot is not wider than the instrument's.
        """
        instrument = to_number(instrument, "instrument", low=0)
        found = self._map(_track_blocks.size_block, 4, instrument=instrument)
        return (
            self._over_time(found[..., 0, :], found[..., 1, :], "size", "nm"),
            self._over_time(found[..., 2, :], found[..., 3, :], "breadth of d"),
        )

    def intensity_fraction(self):
        """Part of the second peak in the intensity, with its variance; no molar fraction."""
        found = self._map(_track_blocks.fraction_block, 2, reflection=None, ratio=None)
        return self._over_time(found[..., 0, :], found[..., 1, :], "intensity fraction")

    def molar_fraction(self, material="LiFePO4", *, hkl=None, ratio=None):
        """Part of the second phase (the peak at larger k) in moles, with its variance.

        Parameters
        ----------
        material : str or Material
        hkl : (h, k, l), optional
            Of the spot, unless the profile knows it.
        ratio : float, optional
            Intensity of a mole of the second phase over that of the first. Default: from the
            structure factors, for a crystal so thin that electrons are scattered once.

        Returns
        -------
        Signal1D
            ``(| time)``, NaN where there is one peak only.
        """
        reflection = _reflection(materials.get(material), self._indices(hkl))
        ratio = _ratio(ratio)
        found = self._map(_track_blocks.fraction_block, 2, reflection=reflection, ratio=ratio)
        return self._over_time(found[..., 0, :], found[..., 1, :], "molar fraction")

    def to_concentration(
        self,
        material="LiFePO4",
        *,
        hkl=None,
        ratio=None,
        reference_frame=None,
        x_reference=0.0,
        of="mean",
    ):
        """Composition from the spacings.

        Where there are two peaks the mean is over moles, not over intensity: the (200) of FePO4 is
        11.6 times as strong as that of LiFePO4 in a thin crystal, so that an intensity-weighted
        mean is biased to the lithium-poor phase.

        Parameters
        ----------
        material : str or Material
            See `hyperspy_lfp.materials`.
        hkl : (h, k, l), optional
            Of the spot, unless the profile knows it.
        ratio : float, optional
            See `molar_fraction`. Thick crystals scatter more than once: take it from a calculation,
            or from the areas before and after.
        reference_frame : int, optional
            Pattern of known composition, which calibrates the camera length. Default: the
            calibration of the axes is believed.
        x_reference : float
            Composition of the reference frame.
        of : {"mean", "phases"}
            ``"phases"``: the compositions of both peaks, NaN where there is one only.

        Returns
        -------
        ConcentrationEvolution
            ``(region | time)``: ``"mean"``, or ``"phase 1"`` and ``"phase 2"``, with their standard
            errors.

        Warns
        -----
        UserWarning
            If intensities were turned to moles with structure factors that differ between the
            phases.

        Raises
        ------
        ValueError
            If the indices are not known, the profile is not radial, the reflection is forbidden or
            does not change with composition, or the reference frame has no peak.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> d = s.to_diffraction_series(padding=2)
        >>> t = d.track_spot_profile(s.find_g_vectors(n=1)[0], width=0.4).fit(peaks=1)
        >>> t.to_concentration("LiFePO4", hkl=(1, 0, 1))
        <ConcentrationEvolution, title: Li concentration of lithiation movie, dimensions: (1|12)>
        """
        material = materials.get(material)
        hkl = self._indices(hkl)
        if of not in ("mean", "phases"):
            raise ValueError(f"of={of!r} must be 'mean' or 'phases'.")
        reflection = _reflection(material, hkl)
        ratio = _ratio(ratio)
        reference = self._reference(reference_frame, x_reference, material, hkl)
        found = self._map(
            _track_blocks.concentration_block,
            7,
            reflection=reflection,
            ratio=ratio,
            frame=reference_frame,
            reference=reference,
        )
        self._warn_of_intensities(found, reflection, ratio, hkl)
        names, rows = {
            "mean": (["mean"], ([0], [1])),
            "phases": (["phase 1", "phase 2"], ([2, 3], [4, 5])),
        }[of]
        values, variance = (found[..., row, :] for row in rows)
        tables = material.composition_uncertainty(hkl) if material.uncertainty is not None else 0.0
        axes = [*self._navigation_axes("parameter"), stacked_axis("region", len(names))]
        signal = self._build(
            ConcentrationEvolution,
            values,
            [*axes, *map_axes(self)],
            layers={
                VARIANCE: variance,
                SYSTEMATIC: 0 * variance,
                REFERENCE: 0 * variance + float(np.mean(tables)) ** 2,
            },
            title=f"{material.species} concentration",
            quantity=f"x ({material.species})",
        )
        signal._record("ConcentrationEvolution", regions=names, drift="none")
        signal._record(
            "SpotConcentration",
            material=material.to_dictionary(),
            hkl=hkl,
            ratio=ratio,
            reference_frame=reference_frame,
            x_reference=x_reference,
        )
        return signal

    def transformation(self, material=None, *, hkl=None, ratio=None):
        """Solid solution, two phases, or both, with the evidence.

        Parameters
        ----------
        material : str or Material, optional
            Weighs the phases by moles, see `molar_fraction`; default: by intensity.
        hkl, ratio
            See `molar_fraction`.

        Returns
        -------
        Transformation
            ``verdict`` (``"solid solution"``, ``"two-phase"``, ``"mixed"``, ``"unchanged"`` or
            ``"undetermined"``), ``labels`` of each pattern, ``probability`` of two phases, and the
            changes of the mean position by peaks that ``moved`` and by intensity that was
            ``exchanged`` between two, with their errors.

        Raises
        ------
        ValueError
            If the fit was not ``peaks="auto"``, or there are several series.
        """
        if self._parameters(_STEP)["peaks"] != "auto":
            raise ValueError("transformation needs both fits: use `SpotProfile.fit(peaks='auto')`.")
        if self.axes_manager.navigation_dimension > 1:
            raise ValueError("transformation takes one series: choose one with `inav`.")
        block = self._whole()
        rows = dict(zip(PARAMETERS, block, strict=True))
        pair, pair_error = (
            np.stack([rows[f"pair_position_{i}{end}"] for i in (1, 2)], axis=-1)
            for end in ("", "_error")
        )
        reflection = None
        if material is not None:
            reflection = _reflection(materials.get(material), self._indices(hkl))
        fraction = _track_blocks.fraction_block(block[None], reflection, _ratio(ratio))[0]
        return phases.transformation(
            rows["single_position"],
            rows["single_position_error"],
            pair,
            pair_error,
            *fraction,
            rows["single_fwhm"],
            rows["log_odds"],
        )

    def _map(self, kernel, rows, **kwargs):
        """What a kernel makes of the parameters, (..., rows, time); dask if this is lazy."""
        place = axis_index(self, "parameter", -2)
        if self.data.shape[place] != len(PARAMETERS):
            raise ValueError("this SpotTrack has been sliced along its parameters: take it whole.")
        data = _frames.as_frames(self, 2) if self._lazy else self.data
        shape = (rows, data.shape[-1])
        return _frames.map_frames(kernel, data, core=2, out_shape=shape, dtype=np.float64, **kwargs)

    def _whole(self):
        if self._lazy:
            (data,) = _frames.compute_arrays([self.data], show_progressbar=False)
            return data
        return np.asarray(self.data)

    def _measured(self, name):
        """A quantity and its standard error, (..., time)."""
        found = self._map(_track_blocks.quantity_block, 2, quantity=name)
        return found[..., 0, :], found[..., 1, :]

    def _quantity(self, name):
        return self._over_time(*self._measured(name), name.replace("_", " "), _unit_of(name))

    def _over_time(self, values, errors, title, units=""):
        """A signal over time, with a variance if there are errors."""
        signal = self._build(
            Signal1D,
            values,
            [*self._navigation_axes("parameter"), *map_axes(self)],
            layers={} if errors is None else {VARIANCE: errors**2},
            title=title,
            quantity=f"{title} ({units})" if units else title,
        )
        signal.metadata.Signal.signal_type = ""
        return cheap_to_plot(signal)

    def _indices(self, hkl):
        known = self.metadata.get_item("HyperspyLFP.SpotProfile.hkl", default=None)
        hkl = known if hkl is None else hkl
        if hkl is None:
            raise ValueError("hkl is missing: give the Miller indices of the spot, as (2, 0, 0).")
        if self.metadata.get_item("HyperspyLFP.SpotProfile.direction", default="") != "radial":
            raise ValueError("spacings need a profile with direction='radial'.")
        return materials.check_hkl(hkl)

    def _reference(self, frame, x, material, hkl):
        """Spacing that the reference frame is said to have, or None."""
        x = to_number(x, "x_reference", example="0.0")
        if frame is None:
            return None
        number = self.data.shape[-1]
        whole = isinstance(frame, int | np.integer) and not isinstance(frame, bool)
        if not whole or not -number <= frame < number:
            raise ValueError(f"reference_frame={frame!r} is not among the {number} patterns.")
        if not self._lazy:
            measured = self._measured("d_spacing")[0][..., frame]
            if not np.isfinite(measured).any():
                raise ValueError(f"reference_frame={frame} has no peak to calibrate with.")
        return float(material.d_spacing(hkl, x))

    def _warn_of_intensities(self, found, reflection, given, hkl):
        """Say by what intensities were turned to moles, if that matters."""
        if given is not None or self._parameters(_STEP)["peaks"] == "1":
            return
        if isinstance(found, da.Array):  # not known yet: the most that it can be
            if reflection.strength is None:
                return
            ratio = float(reflection.strength.max() / reflection.strength.min())
        else:
            used = found[..., 6, :]
            used = used[np.isfinite(used)]
            if not used.size:
                return
            ratio = float(np.median(used))
        if max(ratio, 1 / ratio) > _UNEQUAL:
            warnings.warn(
                f"a mole of the second phase gives {ratio:.3g} times the intensity of one of the "
                f"first in {hkl}, by their structure factors in a thin crystal; the mean of x "
                "counts moles with it. In a thick crystal it is another number: give it as "
                "`ratio`.",
                UserWarning,
                stacklevel=3,
            )


def _unit_of(name):
    return _UNITS.get(name.removesuffix("_2"), "")


def _ratio(ratio):
    return None if ratio is None else to_number(ratio, "ratio", low=1e-12, example="0.1")


def _reflection(material, hkl):
    """Spacings and intensities of a reflection against composition."""
    low, high = material.composition[0], material.composition[-1]
    x = np.linspace(low - _BEYOND * (high - low), high + _BEYOND * (high - low), _TABLE)
    d = np.asarray(material.d_spacing(hkl, x), dtype=float)
    change = np.diff(d)
    if not (np.all(change > 0) or np.all(change < 0)):
        raise ValueError(
            f"the spacing of {hkl} does not go one way with the composition of {material.name}: "
            "take another reflection."
        )
    strength = None
    if material.elements is not None and material.space_group and material.is_allowed(hkl):
        inside = np.clip(x, low, high)
        # of a mole: see kernels.phases.structure_factor_ratio
        strength = material.structure_factor(hkl, inside) ** 2
        strength = strength / np.prod(material.cell(inside), axis=-1)
    order = slice(None) if change[0] > 0 else slice(None, None, -1)
    strength = None if strength is None else strength[order]
    return _track_blocks.Reflection(d[order], x[order], strength, material.name)
