"""Electron diffraction patterns in time."""

import numpy as np
from hyperspy.signals import Signal1D, Signal2D

from hyperspy_lfp.signals import _diffraction_blocks, _frames
from hyperspy_lfp.signals._bad_pixels import BadPixelsMixin
from hyperspy_lfp.signals._base import VARIANCE, LatticeSignal
from hyperspy_lfp.signals._diffraction_spots import DiffractionSpotsMixin
from hyperspy_lfp.signals._docs import CENTRE, LAZY, fill
from hyperspy_lfp.signals._reciprocal import axis_pixels, reciprocal_pixels
from hyperspy_lfp.signals._spot_bands import (
    CENTRE_METHODS,
    SpotPlacesMixin,
    extent,
    is_hkl,
    plan_band,
)
from hyperspy_lfp.signals._units import to_number, to_vectors
from hyperspy_lfp.signals.spot_profile import SpotProfile

_STEP = "DiffractionSeries"
BACKGROUNDS = ("none", "sides")


class DiffractionSeries(
    DiffractionSpotsMixin, BadPixelsMixin, SpotPlacesMixin, LatticeSignal, Signal2D
):
    """Electron diffraction patterns, ``(time | kx, ky)``; one pattern, or several axes, as well.

    Any HyperSpy image signal becomes one by ``s.set_signal_type("DiffractionSeries")``, pyxem's
    `ElectronDiffraction2D` as well, and back. The signal axes may be in 1/nm or 1/Å, in mrad (with
    the beam energy in the metadata), or in mm or cm on the detector (with the camera length as
    well); what comes out is in 1/nm. Where zero is on the axes does not matter: the centre is found
    in each pattern.
    """

    _signal_type = "DiffractionSeries"
    _alias_signal_types = ["diffraction_series"]
    _joins_frames = True

    @property
    def is_power_spectrum(self):
        """Whether the patterns are power spectra of images, whose centre is exact."""
        return bool(self.metadata.get_item(f"HyperspyLFP.{_STEP}.power_spectrum", default=False))

    @fill(lazy=LAZY)
    def refine_centre(
        self,
        method="auto",
        *,
        mask=None,
        start=None,
        show_progressbar=None,
        num_workers=None,
        lazy_output=None,
    ):
        """Centre of every pattern, to a small part of a pixel.

        Parameters
        ----------
        method : {{"auto", "direct beam", "friedel"}}
            ``"direct beam"``: the brightest spot, also if its middle is saturated. ``"friedel"``:
            pairs of opposite spots, or the whole pattern against its inversion: behind a beam stop,
            and for rings. ``"auto"``: the one that is surer; zero frequency of a power spectrum.
        mask : ROI, signal or array, optional
            Pixels to leave out, such as a beam stop: a ROI, or booleans of the shape of a pattern.
        start : (kx, ky), optional
            Where to begin in each pattern, in units of the axes, within a fifth of the spacing of
            the spots. Default: anywhere.
        {lazy}

        Returns
        -------
        Signal1D
            ``(time | 2)``: kx and ky of the centre, in units of the signal axes, which need no
            calibration. Its variance is in its metadata (`get_noise_variance`). NaN for patterns
            without a centre.

        Raises
        ------
        TypeError
            For complex or colour data.
        ValueError
            If the method is not known, or mask or start do not fit.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> d = data.lithiation_movie().to_diffraction_series()
        >>> d.refine_centre("friedel")
        <Signal1D, title: centre of lithiation movie, dimensions: (12|2)>
        """
        self._check_patterns()
        axes = self.axes_manager.signal_axes
        if method not in CENTRE_METHODS:
            raise ValueError(f"method={method!r} is not known; use one of {CENTRE_METHODS}.")
        if start is not None:
            start = axis_pixels(axes).to_pixels(np.asarray(start, dtype=float))
        if self.is_power_spectrum and method == "auto":
            zero = axis_pixels(axes).to_pixels(np.zeros(2))
            found = np.stack([zero, np.zeros(2)])
            found = np.broadcast_to(found, (*self.data.shape[:-2], 2, 2)).copy()
        else:
            found = self._found_centres(method, self._mask(mask), start)
        pixels = axis_pixels(axes)
        data = pixels.from_pixels(found[..., 0, :])
        variance = (found[..., 1, ::-1] * pixels.scale) ** 2
        signal = self._build(
            Signal1D,
            data,
            [*self._navigation_axes(), _signal_axis("centre", 2)],
            layers={VARIANCE: variance},
            title="centre",
            quantity="position on the axes",
        )
        return self._finish_plain(signal, lazy_output, show_progressbar, num_workers)

    @fill(centre=CENTRE, lazy=LAZY)
    def track_spot_profile(
        self,
        spot,
        *,
        length=None,
        width=None,
        direction="radial",
        step=None,
        centre="auto",
        mask=None,
        material=None,
        zone=None,
        background="none",
        exclude=None,
        exclude_radius=None,
        distortion=None,
        follow=True,
        gain=1.0,
        saturation=None,
        show_progressbar=None,
        num_workers=None,
        lazy_output=None,
    ):
        """Profiles through a spot against time, integrated across.

        Each pixel counts with the area it shares with a bin, so that counts are conserved. The
        centre of each pattern and the azimuth of the spot are followed; the k axis stays.

        Parameters
        ----------
        spot : (kx, ky), ROI or (h, k, l)
            Relative to the centre, in 1/nm, as seen in the pattern; or a ROI on the axes of the
            first pattern, whose middle counts; or, with `material`, Miller indices that are looked
            for in the first pattern.
        length, width : float, optional
            Of the band, 1/nm. Default: 0.3 and 0.12 of the distance of the spot from the centre.
        direction : "radial" or (kx, ky)
            Of the profile. A radial one has the distance from the centre as its axis, others the
            component of k along them.
        step : float, optional
            Size of a bin, 1/nm. Default: that of a pixel.
        {centre}
        mask : ROI, signal or array, optional
            Pixels to leave out, such as a beam stop: a ROI, or booleans of the shape of a pattern.
        material, zone
            For Miller indices; see `index_spots`.
        background : {{"none", "sides"}}
            ``"sides"``: strips beside the band are subtracted bin by bin. ``"none"`` leaves it to
            the fit.
        exclude : sequence of (kx, ky), optional
            Other spots, whose pixels are left out within `exclude_radius` (1/nm; default: half of
            the width).
        distortion : Distortion, optional
            Of `fit_distortion`: its ellipticity is undone.
        follow : bool
            Whether the azimuth follows the spot, as far as the width reaches; a radial profile
            only.
        gain : float
            Counts of an electron, for the variance.
        saturation : float, optional
            Pixels with so many counts are saturated: bins that they share are NaN. Default: the
            largest number of an integer type.
        {lazy}

        Returns
        -------
        SpotProfile
            ``(time | k)``: counts in each bin, k in 1/nm, with the counting variance. Bins of which
            less than half is seen are NaN, and so are those with a saturated pixel and patterns
            without a centre.

        Raises
        ------
        ValueError
            If the axes cannot be calibrated, the spot is outside of the pattern, behind the mask or
            at the centre, a width is less than a pixel, or the indices are not found.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> g = s.find_g_vectors(n=1)[0]
        >>> s.to_diffraction_series().track_spot_profile(g, width=0.4)
        <SpotProfile, title: spot profile of lithiation movie, dimensions: (12|11)>
        """
        self._check_patterns()
        pixels = reciprocal_pixels(self)
        mask = self._mask(mask)
        options = _profile_options(background, gain)
        spot_k = self._spot(spot, pixels, centre, mask, material, zone)
        plan = plan_band(
            spot_k,
            pixels,
            length=length,
            width=width,
            direction=direction,
            step=step,
            distortion=distortion,
        )
        self._check_inside(spot_k, centre, pixels, mask)
        if exclude is not None:
            # on the pattern, which may be distorted, as the spot is
            pattern_to_k = plan.to_k @ np.diag(1 / pixels.scale[::-1])
            exclude = to_vectors(exclude, "nm", "exclude")[:, ::-1] @ pattern_to_k.T
            options["exclude_radius"] = extent(exclude_radius, plan.width / 2, "exclude_radius")
        maps = _frames.map_frames(
            _diffraction_blocks.track_block,
            _frames.as_frames(self, 2),
            self._centres(centre, mask),
            core=2,
            out_shape=(len(_diffraction_blocks.PROFILE_MAPS), plan.bins),
            dtype=np.float64,
            mask=mask,
            plan=plan,
            follow=bool(follow) and plan.radial,
            exclude=exclude,
            saturation=self._saturation(saturation),
            options=options,
        )
        signal = self._profile_signal(maps, plan)
        signal._record(
            "SpotProfile",
            spot=spot_k,
            hkl=list(spot) if is_hkl(spot) else None,
            direction="radial" if plan.radial else plan.unit[::-1],
            background=background,
            gain=options["gain"],
            power_spectrum=self.is_power_spectrum,
        )
        return self._finish(signal, lazy_output, show_progressbar, num_workers)

    def _profile_signal(self, maps, plan):
        """A SpotProfile of what `track_block` gave."""
        axis = _signal_axis("k", plan.bins, plan.step, plan.start + plan.step / 2, "1/nm")
        signal = self._build(
            SpotProfile,
            maps[..., 0, :],
            [*self._navigation_axes(), axis],
            layers={VARIANCE: maps[..., 1, :]},
            title="spot profile",
            quantity="intensity (Counts)",
        )
        signal._record(
            "SpotProfile",
            length=plan.length,
            width=plan.width,
            spot_units="1/nm",
            length_units="1/nm",
            width_units="1/nm",
        )
        return signal

    def _saturation(self, value):
        """Counts of a saturated pixel, or None."""
        if value is not None:
            return to_number(value, "saturation", example="4095")
        return float(np.iinfo(self.data.dtype).max) if self.data.dtype.kind in "ui" else None

    def to_concentration(self, spot, *, material="LiFePO4", hkl=None, zone=None, **kwargs):
        """The whole chain: `track_spot_profile`, `SpotProfile.fit` and x from the spacings.

        Parameters
        ----------
        spot : (kx, ky), ROI or (h, k, l)
            See `track_spot_profile`.
        material : str or Material
            See `hyperspy_lfp.materials`.
        hkl : (h, k, l), optional
            Of the spot, unless `spot` says it.
        zone : tuple of int, optional
            Beam direction.
        **kwargs
            ``peaks``, ``shape``: see `SpotProfile.fit`; ``ratio``, ``reference_frame``,
            ``x_reference``: see `SpotTrack.to_concentration`; others: see `track_spot_profile`.

        Returns
        -------
        ConcentrationEvolution
            ``(region | time)``: the mean composition.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> g = s.find_g_vectors(n=1)[0]
        >>> d = s.to_diffraction_series(padding=2)
        >>> d.to_concentration(g, hkl=(1, 0, 1), width=0.4, peaks=1)
        <ConcentrationEvolution, title: Li concentration of lithiation movie, dimensions: (1|12)>
        """
        fit = {k: kwargs.pop(k) for k in ("peaks", "shape") if k in kwargs}
        turn = {
            k: kwargs.pop(k) for k in ("ratio", "reference_frame", "x_reference") if k in kwargs
        }
        profile = self.track_spot_profile(spot, material=material, zone=zone, **kwargs)
        track = profile.fit(**fit)
        return track.to_concentration(material, hkl=hkl, **turn)


def _signal_axis(name, size, scale=1, offset=0, units=""):
    return {
        "name": name,
        "size": size,
        "scale": scale,
        "offset": offset,
        "units": units,
        "navigate": False,
    }


def _profile_options(background, gain):
    if background not in BACKGROUNDS:
        raise ValueError(f"background={background!r} is not known; use one of {BACKGROUNDS}.")
    gain = to_number(gain, "gain")
    if not gain > 0:
        raise ValueError(f"gain={gain!r} must be positive: the counts that an electron makes.")
    return {"background": background, "gain": gain}
