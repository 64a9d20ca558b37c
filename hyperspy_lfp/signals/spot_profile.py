"""Profiles of a diffraction spot against time."""

import dask.array as da
import numpy as np
from hyperspy.signals import Signal1D

from hyperspy_lfp.signals import _frames, _peak_blocks
from hyperspy_lfp.signals._base import VARIANCE, LatticeSignal, layer_of, stacked_axis
from hyperspy_lfp.signals._docs import LAZY, fill
from hyperspy_lfp.signals.spot_track import SpotTrack

_STEP = "SpotProfile"
#: Bins that a fit needs: one more than the parameters of its largest model.
_FEWEST = {1: 7, 2: 9, "auto": 9}
#: A pseudo-Voigt integrated over bins, as `kernels.peaks` has it.
_PEAK = (
    "area * (eta / pi * (atan(2 * (x - centre + step / 2) / fwhm)"
    " - atan(2 * (x - centre - step / 2) / fwhm))"
    " + (1 - eta) / 2 * (erf(2 * sqrt(log(2)) * (x - centre + step / 2) / fwhm)"
    " - erf(2 * sqrt(log(2)) * (x - centre - step / 2) / fwhm)))"
)


class SpotProfile(LatticeSignal, Signal1D):
    """Intensity along a line through a diffraction spot, ``(time | k)``.

    Made by `DiffractionSeries.track_spot_profile`: counts in bins of k (1/nm), with the counting
    variance where HyperSpy keeps it. Where the profile was taken is in the metadata, node
    ``HyperspyLFP.SpotProfile``.
    """

    _signal_type = "SpotProfile"
    _alias_signal_types = ["spot_profile"]

    @fill(lazy=LAZY)
    def fit(
        self,
        peaks="auto",
        shape="pseudo-voigt",
        *,
        show_progressbar=None,
        num_workers=None,
        lazy_output=None,
    ):
        """Fit one or two peaks to each profile.

        Peaks of one shape, a weighted sum of a Gaussian and a Lorentzian, integrated over the bins,
        on a straight background; maximum likelihood for counts, least squares otherwise (with the
        variance of the profile, or equal weights if some counts are negative). The whole series is
        fitted at once, each profile from several starts and from its neighbours in time.

        Parameters
        ----------
        peaks : {{"auto", 1, 2}}
            ``"auto"``: two where the evidence (BIC) for two phases is strong, also against one
            peak that is smeared out or tailed by a gradient of composition.
        shape : {{"pseudo-voigt", "gaussian", "lorentzian"}}
        {lazy}

        Returns
        -------
        SpotTrack
            ``(parameter | time)``, with ``position``, ``d_spacing``, ``fwhm``, ``area``, ``eta``,
            ``n_peaks`` and more as properties.

        Raises
        ------
        ValueError
            If an option is not known, or there are fewer bins than parameters.

        See Also
        --------
        create_model : HyperSpy's own model of these profiles.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> d = s.to_diffraction_series(padding=2)
        >>> d.track_spot_profile(s.find_g_vectors(n=1)[0], width=0.4).fit(peaks=1)
        <SpotTrack, title: spot of lithiation movie, dimensions: (35|12)>
        """
        if peaks not in ("auto", 1, 2) or isinstance(peaks, bool):
            raise ValueError(f"peaks={peaks!r} must be 'auto', 1 or 2.")
        if shape not in _peak_blocks.SHAPES:
            raise ValueError(
                f"shape={shape!r} is not known; use one of {tuple(_peak_blocks.SHAPES)}."
            )
        done = self._parameters(_STEP)
        bins, least = self.axes_manager.signal_axes[0].size, _FEWEST[peaks]
        if bins < least:
            raise ValueError(
                f"the profiles have {bins} bins, but peaks={peaks!r} has so many parameters that "
                f"it needs {least} or more: track the spot with a larger length or a smaller step."
            )
        k = self.axes_manager.signal_axes[0]
        time = self._time_axis()
        values, variance = self._series(time)
        # background-subtracted profiles are no counts, and a power spectrum has none
        counts = done["background"] == "none" and done["gain"] == 1 and not done["power_spectrum"]
        data = _frames.map_frames(
            _peak_blocks.fit_block,
            values,
            variance,
            core=2,
            out_shape=(len(_peak_blocks.PARAMETERS), values.shape[-2]),
            dtype=np.float64,
            k=np.asarray(k.axis, dtype=float),
            number=peaks,
            shape=shape,
            counts=bool(counts),
            # the noise of a power spectrum is known up to a factor only
            scale_errors=bool(done["power_spectrum"]),
        )
        axes = self._navigation_axes()
        last = {"name": "time", "size": 1, "scale": 1.0, "offset": 0.0, "units": "s"}
        if time is not None:
            last = axes.pop(time.index_in_array)
        axes = [*axes, stacked_axis("parameter", len(_peak_blocks.PARAMETERS))]
        signal = self._build(SpotTrack, data, [*axes, {**last, "navigate": False}], title="spot")
        signal.metadata.set_item("Signal.quantity", "parameters of peaks")
        signal._record("SpotTrack", peaks=str(peaks), shape=shape)
        return self._finish(signal, lazy_output, show_progressbar, num_workers)

    def create_model(self, **kwargs):
        """HyperSpy's model of the profiles: a pseudo-Voigt peak on a straight line.

        For fits of your own, with constraints, other components and `multifit`. `fit` gives the
        same answer many times faster.

        Parameters
        ----------
        **kwargs
            Passed to :meth:`hyperspy.api.signals.Signal1D.create_model`.

        Returns
        -------
        Model1D
            With the components ``background`` (`Polynomial` of order 1) and ``peak``
            (a pseudo-Voigt of ``area``, ``centre``, ``fwhm``, ``eta``, integrated over the bins of
            size ``step``), started at the highest bin of the first profile.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie().inav[:2]
        >>> d = s.to_diffraction_series(padding=2)
        >>> profile = d.track_spot_profile(s.find_g_vectors(n=1)[0], width=0.4)
        >>> [c.name for c in profile.create_model()]
        ['background', 'peak']
        """
        from hyperspy.api import model

        plain = self.deepcopy()
        plain.set_signal_type("")
        fitted = plain.create_model(**kwargs)
        background = model.components1D.Polynomial(order=1)
        background.name = "background"
        peak = model.components1D.Expression(_PEAK, name="peak", module="scipy")
        axis = self.axes_manager.signal_axes[0]
        first = self.data[(0,) * (self.data.ndim - 1)]
        first = np.asarray(first.compute() if hasattr(first, "dask") else first, dtype=float)
        known = np.isfinite(first)
        # a pattern without a profile says nothing: then the fit starts in the middle
        level = float(np.median(first[known])) if known.any() else 0.0
        highest = int(np.nanargmax(first)) if known.any() else axis.size // 2
        peak.step.value, peak.step.free = abs(axis.scale), False
        peak.centre.value = float(axis.axis[highest])
        peak.fwhm.value, peak.fwhm.bmin = axis.size * abs(axis.scale) / 6, abs(axis.scale) / 5
        peak.area.value = float((first[known] - level).sum())
        peak.eta.value, peak.eta.bmin, peak.eta.bmax = 0.5, 0.0, 1.0
        background.a0.value, background.a1.value = level, 0.0
        fitted.extend([background, peak])
        return fitted

    def plot_waterfall(self, track=None, **kwargs):
        """Draw the profiles against time; see `hyperspy_lfp.plotting.spot_profiles`."""
        from hyperspy_lfp import plotting

        return plotting.spot_profiles(self, track, **kwargs)

    def _series(self, time):
        """Profiles and variances with time next to last, in one piece: (..., time, bins)."""
        noise = layer_of(self, VARIANCE)
        noise = noise.data if hasattr(noise, "data") else np.full(self.data.shape, np.nan)
        return tuple(_time_next_to_last(part, time) for part in (self.data, noise))


def _time_next_to_last(data, time):
    lazy = isinstance(data, da.Array)
    if time is None:
        data = data[..., None, :]
    else:
        data = (da if lazy else np).moveaxis(data, time.index_in_array, -2)
    return data.rechunk({data.ndim - 2: -1, data.ndim - 1: -1}) if lazy else data
