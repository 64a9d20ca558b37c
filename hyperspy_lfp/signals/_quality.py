"""How far maps of composition can be believed: error bars, flags, and a summary of both."""

import numpy as np
from hyperspy.signals import Signal2D

from hyperspy_lfp.kernels.concentration.flags import FLAGS as BITS
from hyperspy_lfp.signals import _frames
from hyperspy_lfp.signals._base import (
    CHI_SQUARED,
    FLAGS,
    REFERENCE,
    SHEAR,
    SYSTEMATIC,
    VARIANCE,
    cheap_to_plot,
    layer_of,
    map_axes,
)
from hyperspy_lfp.signals._docs import LAZY, fill
from hyperspy_lfp.signals._summary import summarise

ERRORS = ("noise", "systematic", "reference", "relative", "absolute")
#: What keeps a pixel from being believed, unless asked otherwise.
SERIOUS = tuple(name for name in BITS if name != "no lattice")


class QualityMixin:
    """The methods of `ConcentrationMap` that tell how far it can be believed."""

    #: Names of the flags, and the bit of each in `flags`.
    FLAGS = BITS

    @property
    def flags(self):
        """Flags of each pixel ``(time | x, y)``, the sum of bits named in `FLAGS`; integers.

        - ``"no lattice"``: too little amplitude; x is NaN.
        - ``"rim"``: within two resolutions of the edge of the crystal, or within one and a half
          of pixels without lattice.
        - ``"outside"``: most of the window is outside of the crystal or the frame.
        - ``"phase jump"``: the contrast of a reflection reverses here, by thickness, tilt or x.
        - ``"dislocation"``: within three resolutions of a core.
        - ``"closure"``: the phases of reflections that add up to zero do not.
        - ``"collapse"``: a reflection has less than a fifth of the amplitude it had in the first
          frame, or in the reference frame.
        - ``"inconsistent"``: the two lengths contradict each other by five standard errors.
        - ``"calibration"``: the lattice of the frame is that of no composition.
        """
        return self._layer(FLAGS, "flags")

    @property
    def chi_squared(self):
        """Disagreement of the two lengths: its local mean square over that of the noise."""
        return self._layer(CHI_SQUARED, "chi squared", "chi squared")

    @property
    def forbidden_shear(self):
        """Shear between the two lattice vectors, which composition alone leaves at zero."""
        return self._layer(SHEAR, "forbidden shear", "strain")

    def flagged(self, *names):
        """Where any of the named flags is set.

        Parameters
        ----------
        *names : str
            Of `FLAGS`. Default: all of them but ``"no lattice"``, where x is NaN anyway.

        Returns
        -------
        Signal2D
            Booleans, ``(time | x, y)``.

        Raises
        ------
        ValueError
            If a name is no flag.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie().inav[0]
        >>> x = s.gpa(*s.find_g_vectors(n=2)).to_concentration(reference_frame=0)
        >>> bool(x.flagged("dislocation").data.any())
        False
        """
        flags = self.flags
        flags.data = (flags.data & _bits(names or SERIOUS)) > 0
        flags.metadata.General.title = f"flagged: {', '.join(names) or 'any'}"
        return flags

    def mask_flagged(self, *names):
        """The maps with NaN where any of the named flags is set.

        Parameters
        ----------
        *names : str
            See `flagged`.

        Returns
        -------
        ConcentrationMap

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie().inav[0]
        >>> x = s.gpa(*s.find_g_vectors(n=2)).to_concentration(reference_frame=0)
        >>> inside = x.mask_flagged("rim", "outside")
        >>> bool(np.isnan(inside.data).sum() > np.isnan(x.data).sum())
        True
        """
        layer = self._layer(FLAGS, "flags")
        flags = _frames.as_frames(layer, 2)
        data = _frames.map_frames(
            _mask_block,
            _frames.as_frames(self, 2),
            flags,
            core=2,
            out_shape=self.data.shape[-2:],
            dtype=self.data.dtype,
            bits=int(_bits(names or SERIOUS)),
        )
        if not self._lazy and hasattr(data, "dask"):
            (data,) = _frames.compute_arrays([data], show_progressbar=False)
        return self._deepcopy_with_new_data(data, copy_variance=True)

    def standard_error(self, kind="relative"):
        """Standard error of x.

        Parameters
        ----------
        kind : {"relative", "absolute", "noise", "systematic", "reference"}
            ``"noise"``: random, from the noise measured in each frame. ``"systematic"``: from
            what the map itself shows beyond it, contradicting lengths and fronts that are
            narrower than the resolution. ``"relative"``: both, the error of differences between
            pixels. ``"reference"``: common to all pixels or to all times, from the noise of the
            reference and from the tabulated lattice parameters. ``"absolute"``: all of it, except
            for a wrong pixel size where the reference is outside of the image.

        Returns
        -------
        Signal2D
            ``(time | x, y)``.

        Raises
        ------
        ValueError
            If the kind is not known, or the maps have no variance.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> x = s.to_concentration(*s.find_g_vectors(n=2), reference_frame=0)
        >>> x.standard_error("absolute")
        <Signal2D, title: absolute standard error of lithiation movie, dimensions: (12|56, 51)>
        """
        if kind not in ERRORS:
            raise ValueError(f"kind={kind!r} is not known; use one of {ERRORS}.")
        items = {
            "systematic": (SYSTEMATIC,),
            "reference": (REFERENCE,),
            "absolute": (VARIANCE, REFERENCE),
        }.get(kind, (VARIANCE,))
        signal = self._layer(items[0], f"{kind} standard error", "standard error of x")
        variance = signal.data
        if kind == "absolute":
            variance = variance + self._layer(REFERENCE, "").data
        if kind == "noise":
            variance = variance - self._layer(SYSTEMATIC, "").data
        # not np.sqrt of the signal, which HyperSpy computes at once
        signal.data = abs(variance) ** 0.5
        return signal

    @fill(lazy=LAZY)
    def summary(self, *, show_progressbar=None, num_workers=None):
        """What was done, and how far to believe it.

        Parameters
        ----------
        show_progressbar : bool, optional
            Default: HyperSpy's preference.
        num_workers : int, optional
            Number of dask workers; default: all.

        Returns
        -------
        str
            Shown as text. Lazy maps are computed for it, in one pass, and stay lazy.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> x = s.to_concentration(*s.find_g_vectors(n=2), reference_frame=0)
        >>> x.summary()  # doctest: +ELLIPSIS
        Li concentration of lithiation movie...
        """
        return summarise(self, show_progressbar, num_workers)

    def _layer(self, item, title, quantity=""):
        layer = layer_of(self, item)
        if not hasattr(layer, "axes_manager"):
            raise ValueError(
                f"this {type(self).__name__} has no {item.rpartition('.')[2]} in its metadata "
                f"({item}): it was not made by to_concentration, or lost it on the way."
            )
        axes = [*self._navigation_axes(), *map_axes(self)]
        return cheap_to_plot(
            self._build(Signal2D, layer.data, axes, title=title, quantity=quantity)
        )


def _bits(names):
    unknown = [name for name in names if not isinstance(name, str) or name not in BITS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no flag; use some of {tuple(BITS)}.")
    return np.uint16(sum(BITS[name] for name in names))


def _mask_block(values, flags, bits):
    marked = (flags & flags.dtype.type(bits)) > 0
    values = values.copy()
    values[marked] = np.nan
    return values
