"""Geometric phase: the local plane-wave fit of lattice fringes."""

import dask.array as da
import numpy as np
from hyperspy.signals import ComplexSignal2D, Signal2D

from hyperspy_lfp.kernels.gpa.averaging import coherent_mean
from hyperspy_lfp.kernels.gpa.lockin import COEFFICIENTS
from hyperspy_lfp.signals import _frames, _phase_blocks
from hyperspy_lfp.signals._base import (
    COVARIANCE,
    VARIANCE,
    LatticeSignal,
    axis_index,
    cheap_to_plot,
    map_axes,
    stacked_axis,
)
from hyperspy_lfp.signals._dislocations import DislocationMixin
from hyperspy_lfp.signals._docs import LAZY, REFERENCE, THRESHOLD, fill
from hyperspy_lfp.signals._reference import CORE, reference_gradient, reference_values
from hyperspy_lfp.signals._regions import region_mask
from hyperspy_lfp.signals._to_concentration import PhaseToConcentration
from hyperspy_lfp.signals._units import to_number
from hyperspy_lfp.signals.displacement_field import DisplacementField
from hyperspy_lfp.signals.lattice_strain import DEFINITIONS, LatticeStrain

_STEP = "GeometricPhase"


class GeometricPhase(PhaseToConcentration, DislocationMixin, LatticeSignal, ComplexSignal2D):
    r"""Local plane waves fitted to lattice fringes, ``(coefficient, g, time | x, y)``, complex.

    Made by `HRTEMMovie.gpa`. For the fringes :math:`A\cos(2\pi g\cdot(r - u(r)))` of each
    reciprocal vector the coefficients are

    - ``value``: :math:`A e^{iP}` with the geometric phase :math:`P = -2\pi g\cdot u`,
    - ``d/dx`` and ``d/dy``: its derivatives per unit of length, so that
      :math:`\partial_j P = \mathrm{Im}(c_j/c_0)`,
    - ``variance``: the variance of the two derivatives due to the noise measured near g (real
      part: of d/dx, imaginary part: of d/dy).

    The maps are sampled at ``step``, coarser than the camera, since the phase is band-limited by
    the resolution. Everything else is in the metadata, node ``HyperspyLFP.GeometricPhase``.
    """

    _signal_type = "GeometricPhase"
    _alias_signal_types = ["geometric_phase"]
    _own_axes = ("g", "coefficient")

    @property
    def g_vectors(self):
        """Reciprocal vectors, float array (n, 2), (x, y) order, in 1/units of the axes."""
        return np.array(self._parameters(_STEP)["g_vectors"], dtype=float)

    @property
    def hkl(self):
        """Miller indices of the reflections as a list of (h, k, l), or None."""
        hkl = self._parameters(_STEP)["hkl"]
        return None if hkl is None else [tuple(int(i) for i in row) for row in hkl]

    @property
    def resolution(self):
        """Standard deviation of the Gaussian window, in the units of the signal axes."""
        return float(self._parameters(_STEP)["resolution"])

    @property
    def amplitude(self):
        """Amplitude A of the fringes ``(g, time | x, y)``, in units of the intensity."""
        return self._real_signal(abs(self._coefficient("value")), "amplitude")

    @property
    def phase(self):
        """Geometric phase ``(g, time | x, y)`` in radians, wrapped to (-pi, pi]."""
        module = da if self._lazy else np
        angle = module.angle(self._coefficient("value"))
        return self._real_signal(angle, "geometric phase", quantity="phase (rad)")

    def plot(self, navigator="auto", *, representation="cartesian", **kwargs):
        """Plot real and imaginary parts of the coefficients, or amplitude and phase.

        Parameters
        ----------
        navigator : str or signal
            As in HyperSpy.
        representation : {"cartesian", "polar"}
            ``"polar"`` plots `amplitude` and `phase`.
        **kwargs
            Passed to :meth:`hyperspy.api.signals.ComplexSignal2D.plot`.
        """
        if representation == "polar":
            self.amplitude.plot(navigator=navigator, **kwargs)
            self.phase.plot(navigator=navigator, **kwargs)
        else:
            super().plot(navigator=navigator, representation=representation, **kwargs)

    @fill(reference=REFERENCE, threshold=THRESHOLD, lazy=LAZY)
    def strain(
        self,
        reference=None,
        reference_frame=None,
        angle=0.0,
        definition="lattice",
        *,
        threshold=0.2,
        show_progressbar=None,
        num_workers=None,
        lazy_output=None,
    ):
        r"""Strain and rotation of the lattice.

        With more than two reflections, by least squares weighted with amplitude and noise.

        Parameters
        ----------
        {reference}
        angle : float
            Angle of the x' axis of the components, in degrees, counter-clockwise as displayed.
        definition : {{"lattice", "eulerian", "finite"}}
            ``"lattice"``: symmetric part of H = F - 1, relative to the reference lattice: a
            spacing 5 % larger reads 0.05. ``"eulerian"``: of e = 1 - F\ :sup:`-1`, relative to
            the deformed lattice: it reads 0.0476. ``"finite"``: U - 1 from the polar
            decomposition F = R U, exact for large rotations.
        {threshold}
        {lazy}

        Returns
        -------
        LatticeStrain
            ``(component, time | x, y)`` with exx, eyy, exy (tensor shear) and rotation (radians,
            positive counter-clockwise as displayed), and their variance from the measured
            noise. Pixels without lattice are NaN.

        Raises
        ------
        ValueError
            If the definition is not known, the region holds no pixel, or the reference frame
            does not exist.

        References
        ----------
        M. J. Hÿtch, E. Snoeck, R. Kilaas, Ultramicroscopy 74 (1998) 131,
        :doi:`10.1016/S0304-3991(98)00035-7`.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> phase = s.gpa(*s.find_g_vectors(n=2), show_progressbar=False)
        >>> phase.strain(reference_frame=0, show_progressbar=False)
        <LatticeStrain, title: strain of lithiation movie, dimensions: (4, 12|56, 51)>
        """
        if definition not in DEFINITIONS:
            raise ValueError(f"definition={definition!r} is not known; use one of {DEFINITIONS}.")
        angle = to_number(angle, "angle", example="12.0 (degrees)")
        threshold = to_number(threshold, "threshold", low=0)
        ref, described = reference_gradient(self, reference, reference_frame)
        shape = self.axes_manager._signal_shape_in_array
        noisy = _frames.map_frames(
            _phase_blocks.strain_block,
            _frames.as_frames(self, CORE),
            ref,
            core=CORE,
            out_shape=(12, *shape),
            dtype=np.float32,
            g=self.g_vectors,
            sigma=self.resolution,
            threshold=threshold,
            angle=np.deg2rad(angle),
            definition=definition,
        )
        axes = [
            *self._navigation_axes("g", "coefficient"),
            stacked_axis("component", 4),
            *map_axes(self),
        ]
        signal = self._build(
            LatticeStrain,
            noisy[..., :4, :, :],
            axes,
            layers={VARIANCE: noisy[..., 4:8, :, :], COVARIANCE: noisy[..., 8:, :, :]},
            title="strain",
            quantity="strain",
        )
        signal._record(
            "LatticeStrain",
            definition=definition,
            angle=angle,
            angle_units="degree",
            threshold=threshold,
            reference=described,
        )
        return self._finish(signal, lazy_output, show_progressbar, num_workers)

    @fill(reference=REFERENCE, threshold=THRESHOLD, lazy=LAZY)
    def displacement(
        self,
        reference=None,
        reference_frame=None,
        *,
        threshold=0.2,
        show_progressbar=None,
        num_workers=None,
        lazy_output=None,
    ):
        r"""Displacement of the lattice relative to the reference lattice.

        The phases are unwrapped within the connected piece of lattice that holds the reference
        region (without one: the strongest piece); the rest is NaN, since an unwrapped phase says
        nothing across a gap.

        Parameters
        ----------
        {reference}
        {threshold}
        {lazy}

        Returns
        -------
        DisplacementField
            ``(component, time | x, y)`` with u_x (right) and u_y (down) in the units of the
            signal axes. With a region its mean is zero there in every frame; without one u
            includes rigid drift, and is known up to a lattice vector of the reference. With a
            frame alone u is relative to that frame at every pixel.

        Raises
        ------
        ValueError
            If the region holds no pixel, or the reference frame does not exist.

        Notes
        -----
        Unwrapping follows M. A. Herráez et al., Applied Optics 41 (2002) 7437,
        :doi:`10.1364/AO.41.007437`, as implemented in scikit-image.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie().inav[0]
        >>> s.gpa(*s.find_g_vectors(n=2)).displacement().ux
        <Signal2D, title: ux: displacement of lithiation movie, dimensions: (|56, 50)>
        """
        threshold = to_number(threshold, "threshold", low=0)
        ref, described = reference_gradient(self, reference, reference_frame)
        y, x = (a.axis for a in reversed(self.axes_manager.signal_axes))
        region = (
            None if reference is None else region_mask(reference, self.axes_manager.signal_axes)
        )
        start = []
        if reference is None and reference_frame is not None:
            start = [reference_values(self, reference_frame)]
        data = _frames.map_frames(
            _phase_blocks.displacement_block,
            _frames.as_frames(self, CORE),
            ref,
            *start,
            core=CORE,
            out_shape=(2, len(y), len(x)),
            dtype=np.float32,
            g=self.g_vectors,
            sigma=self.resolution,
            positions=(y, x),
            region=region,
            threshold=threshold,
        )
        axes = [
            *self._navigation_axes("g", "coefficient"),
            stacked_axis("component", 2),
            *map_axes(self),
        ]
        units = self._parameters(_STEP)["resolution_units"]
        signal = self._build(
            DisplacementField,
            data,
            axes,
            title="displacement",
            quantity=f"displacement ({units})",
        )
        signal._record(
            "DisplacementField",
            units=units,
            threshold=threshold,
            reference=described,
        )
        return self._finish(signal, lazy_output, show_progressbar, num_workers)

    @fill(threshold=THRESHOLD, lazy=LAZY)
    def precision(
        self, *, threshold=0.2, show_progressbar=None, num_workers=None, lazy_output=None
    ):
        r"""Standard error of the strain across the planes of each reflection.

        From the amplitude and the noise measured near g in each frame, not from the dose: films,
        detectors and gains other than one are in it. In the interior, with counting noise of
        dose D per pixel alone and fringes of contrast C and spacing d, it is
        :math:`d / (4\pi^{{3/2}} \sigma^2 C \sqrt D)`.

        Parameters
        ----------
        {threshold}
        {lazy}

        Returns
        -------
        Signal2D
            ``(g, time | x, y)``. Pixels without lattice are NaN.

        See Also
        --------
        LatticeStrain.get_noise_variance : the variance of the strain components.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie().inav[0]
        >>> phase = s.gpa(*s.find_g_vectors(n=2))
        >>> phase.precision()
        <Signal2D, title: precision of lithiation movie, dimensions: (2|56, 50)>
        """
        self._check_axes()
        threshold = to_number(threshold, "threshold", low=0)
        data = _frames.map_frames(
            _phase_blocks.precision_block,
            _frames.as_frames(self, CORE),
            core=CORE,
            out_shape=(len(self.g_vectors), *self.axes_manager._signal_shape_in_array),
            dtype=np.float32,
            g=self.g_vectors,
            sigma=self.resolution,
            threshold=threshold,
        )
        signal = self._real_signal(
            data, "precision", quantity="standard error of the strain across the planes"
        )
        return self._finish_plain(signal, lazy_output, show_progressbar, num_workers)

    @fill(lazy=LAZY)
    def coherent_average(self, n, *, show_progressbar=None, num_workers=None, lazy_output=None):
        r"""Average every n frames into one, with their rigid displacements taken off.

        The complex coefficients are averaged, after each frame is turned to the phase of those
        before it, so that the noise falls as :math:`1/\sqrt n` even where that of a single frame
        is too large for a phase. The lattice must stay on its pixels: correct a drift by more
        than a part of the resolution first (`HRTEMMovie.correct_drift`).

        Parameters
        ----------
        n : int
            Number of frames in an average. Frames at the end that do not fill one are left out.
        {lazy}

        Returns
        -------
        GeometricPhase
            ``(coefficient, g, time | x, y)`` with n times fewer frames, each at the mean time of
            its group.

        Raises
        ------
        ValueError
            If there is no uniform time axis, or n is not between 1 and the number of frames.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> phase = s.gpa(*s.find_g_vectors(n=2), show_progressbar=False)
        >>> phase.coherent_average(3, show_progressbar=False)
        <GeometricPhase, title: geometric phase of lithiation movie, dimensions: (4, 2, 4|56, 51)>
        """
        self._check_axes()
        time = self._time_axis()
        if time is None or not time.is_uniform:
            raise ValueError(
                "coherent_average needs a uniform time axis, but this GeometricPhase has "
                + ("one frame only." if time is None else f"a non-uniform axis {time.name!r}.")
            )
        if not isinstance(n, int | np.integer) or not 1 <= n <= time.size:
            raise ValueError(f"n={n!r} must be a number of frames, from 1 to {time.size}.")
        place = time.index_in_array
        groups = time.size // n
        data = self.data[(slice(None),) * place + (slice(0, groups * n),)]
        if isinstance(data, da.Array):
            data = data.rechunk({place: _phase_blocks.whole_groups(data.chunks[place], n)})
        data = data.reshape(*data.shape[:place], groups, n, *data.shape[place + 1 :])
        # the frames of a group go with the frame, behind other navigation axes
        module = da if isinstance(data, da.Array) else np
        data = module.moveaxis(data, place + 1, -CORE - 1)
        averaged = _frames.map_frames(
            coherent_mean,
            data,
            core=CORE + 1,
            out_shape=data.shape[-CORE:],
            dtype=np.complex64,
        )
        axes = self._navigation_axes() + map_axes(self)
        axes[place].update(
            size=groups, scale=n * time.scale, offset=time.offset + (n - 1) / 2 * time.scale
        )
        signal = self._build(type(self), averaged, axes)
        signal._record(_STEP, averaged_frames=n * self._averaged_frames)
        return self._finish(signal, lazy_output, show_progressbar, num_workers)

    @property
    def _averaged_frames(self):
        return int(self._parameters(_STEP).get("averaged_frames", 1))

    def _coefficient(self, name):
        self._check_axes()
        return self.data[..., COEFFICIENTS.index(name), :, :]

    def _check_axes(self):
        sizes = {}
        for axis, place in (("coefficient", -3), ("g", -4)):
            sizes[axis] = self.axes_manager._axes[axis_index(self, axis, place)].size
        if sizes != {"g": len(self.g_vectors), "coefficient": len(COEFFICIENTS)}:
            raise ValueError(
                f"this GeometricPhase holds {sizes['g']} reflections and {sizes['coefficient']} "
                f"coefficients instead of {len(self.g_vectors)} and {len(COEFFICIENTS)}: slice "
                "time and the signal axes only."
            )

    def _real_signal(self, data, title, quantity=None):
        axes = [*self._navigation_axes("coefficient"), *map_axes(self)]
        return cheap_to_plot(self._build(Signal2D, data, axes, title=title, quantity=quantity))
