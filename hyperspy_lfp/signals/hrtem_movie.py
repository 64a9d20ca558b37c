"""Lattice images: movies, single frames and stacks of movies."""

import dask
import numpy as np
from hyperspy.signals import Signal2D

from hyperspy_lfp import materials
from hyperspy_lfp.kernels._arrays import to_host
from hyperspy_lfp.kernels.gpa import bragg
from hyperspy_lfp.kernels.gpa.lockin import COEFFICIENTS, plane_wave_fit
from hyperspy_lfp.kernels.gpa.plan import plan_lockin
from hyperspy_lfp.signals import _frames
from hyperspy_lfp.signals._base import LatticeSignal, stacked_axis
from hyperspy_lfp.signals._choosing import compare
from hyperspy_lfp.signals._diffraction_blocks import spectrum_block
from hyperspy_lfp.signals._docs import COMPOSITION, LAZY, REFERENCE, THRESHOLD, fill
from hyperspy_lfp.signals._drift import DriftMixin
from hyperspy_lfp.signals._indexing import check_indices, find_indices, warn_forbidden
from hyperspy_lfp.signals._regions import pixel_mask, region_mask
from hyperspy_lfp.signals._sampling import (
    check_independent,
    check_resolution,
    sample_positions,
    sampled_axes,
)
from hyperspy_lfp.signals._units import in_nanometre, pixels_of, to_number, to_vectors
from hyperspy_lfp.signals.diffraction_series import DiffractionSeries
from hyperspy_lfp.signals.geometric_phase import GeometricPhase

#: Most frames that are looked at to find lattice spots, when none are named.
_FRAMES = 16


class HRTEMMovie(DriftMixin, LatticeSignal, Signal2D):
    """Lattice images, ``(time | x, y)``; one frame and several navigation axes as well.

    Any HyperSpy image signal becomes one by ``s.set_signal_type("HRTEMMovie")``. The signal axes
    must be uniform and calibrated in a unit of length.
    """

    _signal_type = "HRTEMMovie"
    _alias_signal_types = ["hrtem_movie"]
    _joins_frames = True

    def find_g_vectors(self, n=6, *, frames=None):
        """Find the reciprocal vectors of the lattice fringes.

        Peaks of the mean power spectrum under a Hann window, whatever the drift, refined by the
        mean gradient of their geometric phase.

        Parameters
        ----------
        n : int
            Number of vectors wanted; fewer come back if there are fewer.
        frames : int, slice, "all" or sequence of int, optional
            Frames to use; default: up to 16, evenly spread.

        Returns
        -------
        array of shape (n, 2)
            (x, y) order, in 1/units of the signal axes, strongest first; one of each pair +g,
            -g; no multiple of a stronger one.

        Raises
        ------
        ValueError
            If there is no lattice spot.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> data.lithiation_movie().find_g_vectors(n=2).shape
        (2, 2)
        """
        pixels = self._check_frames()
        if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
            raise ValueError(f"n={n!r} must be a positive number of vectors.")
        images = self._some_frames(frames)
        spectrum = bragg.power_spectrum(images)
        found = bragg.find_spots(spectrum, int(n), len(images))
        if not len(found):
            raise ValueError(
                "no lattice spot was found in the mean power spectrum of "
                f"{len(images)} frames: choose others with `frames`, crop to the crystal, or give "
                "the g vectors by hand."
            )
        found = bragg.refine_vectors(images, found)
        return pixels.vectors_from_kernel(found)

    def refine_g_vectors(self, g, *, reference=None, frames=None):
        """Refine reciprocal vectors to the mean lattice of a region.

        Parameters
        ----------
        g : sequence of (x, y)
            Start values, in 1/units of the signal axes; several FFT pixels off is near enough.
        reference : RectangularROI, optional
            Region to use; default: the whole frame.
        frames : int, slice, "all" or sequence of int, optional
            Frames to use; default: up to 16, evenly spread.

        Returns
        -------
        array of shape (n, 2)

        Raises
        ------
        ValueError
            If a vector is beyond the Nyquist frequency or the region holds no pixel.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> s.refine_g_vectors(s.find_g_vectors(n=2), frames=0).shape
        (2, 2)
        """
        pixels = self._check_frames()
        vectors = self._check_vectors(to_vectors(g, pixels.units), pixels)
        region = None
        if reference is not None:
            mask = region_mask(reference, self.axes_manager.signal_axes)
            region = tuple(
                slice(int(used[0]), int(used[-1]) + 1)
                for used in (np.flatnonzero(mask.any(axis=i)) for i in (1, 0))
            )
        start = pixels.vectors_to_kernel(vectors)
        refined = bragg.refine_vectors(self._some_frames(frames), start, region)
        return pixels.vectors_from_kernel(refined)

    def index_g_vectors(self, g, material="LiFePO4", zone=(0, 1, 0)):
        """Miller indices of reciprocal vectors, from their lengths and angles.

        Parameters
        ----------
        g : sequence of (x, y)
            In 1/units of the signal axes, strongest first.
        material : str or Material
            Any composition it covers is tried. Lengths may be 5 % off, since the pixel sizes in
            files often are.
        zone : tuple of int
            Beam direction (u, v, w).

        Returns
        -------
        list of (h, k, l) or None
            None for a vector that is no reflection of the zone. The signs are consistent with
            each other; of equivalent choices the one with the fewest minus signs is taken.

        Warns
        -----
        UserWarning
            For each reflection that the space group forbids. It is seen by double diffraction
            only, and its phase cannot be trusted.

        Raises
        ------
        ValueError
            If the material is not known or the zone is not three integers.

        See Also
        --------
        compare_g_vectors : which of them to choose.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> s.index_g_vectors(s.find_g_vectors(n=2))
        [(1, 0, 1), (1, 0, -1)]
        """
        pixels = self._check_frames()
        vectors = to_vectors(g, pixels.units)
        material = materials.get(material)
        hkl = find_indices(vectors, pixels.units, material, materials.check_zone(zone))
        warn_forbidden(hkl, material)
        return hkl

    def compare_g_vectors(
        self, g, material="LiFePO4", *, hkl=None, zone=None, resolution=None, frames=None
    ):
        r"""Which reflections to choose, and what noise of x to expect of them.

        The amplitude and the noise of each reflection are measured in a few frames, with all of
        them together. What a map by `GeometricPhase.to_concentration` with ``method="gls"`` would
        then have for noise is worked out for every pair, and for all reflections at once.

        Parameters
        ----------
        g : sequence of (x, y)
            In 1/units of the signal axes, for example from `find_g_vectors`.
        material : str or Material
            See `hyperspy_lfp.materials`.
        hkl : sequence of (h, k, l), optional
            Miller indices of the vectors, in their order. Default: found from the lengths and
            angles; vectors that are no reflection of the zone are left out.
        zone : tuple of int, optional
            Beam direction (u, v, w) used for indexing; default: that of the material.
        resolution : float or str, optional
            See `gpa`. Default: twice the largest spacing of all these vectors, which a map of
            two of them alone may not have.
        frames : int, slice, "all" or sequence of int, optional
            Frames to use; default: up to 16, evenly spread.

        Returns
        -------
        list of ReflectionChoice
            Best first, those with a forbidden reflection last; it prints as a table. Each has
            ``hkl``, ``g``, ``sensitivity`` (:math:`\mathrm d\ln d/\mathrm dx`), ``contrast``,
            ``sigma_x`` (standard error of x at one point in one frame, the median away from
            edges), ``forbidden`` and ``resolution``.

        Raises
        ------
        ValueError
            If the vectors hold no two reflections in different directions, or the indices do not
            fit them; and for what `gpa` raises an error for.

        Notes
        -----
        Noise alone counts here. Doubling the resolution divides it by four, averaging n frames by
        :math:`\sqrt n`.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> choices = s.compare_g_vectors(s.find_g_vectors(n=3), resolution=0.9, frames=[0, 6])
        >>> choices[0].hkl
        ((1, 0, 1), (1, 0, -1), (2, 0, 0))
        >>> best = choices[0]
        >>> s.gpa(*best.g, hkl=best.hkl, resolution=best.resolution, show_progressbar=False)
        <GeometricPhase, title: geometric phase of lithiation movie, dimensions: (4, 3, 12|54, 48)>
        """
        pixels = self._check_frames()
        vectors = self._check_vectors(to_vectors(g, pixels.units), pixels)
        material = materials.get(material)
        if hkl is None:
            zone = material.zone if zone is None else materials.check_zone(zone)
            hkl = find_indices(vectors, pixels.units, material, zone)
        else:
            hkl = check_indices(hkl, len(vectors))
        known = [i for i, indices in enumerate(hkl) if indices is not None]
        if len(known) < 2:
            raise ValueError(
                f"of the {len(vectors)} g vectors {len(known)} could be indexed in {material.name}"
                f", zone {zone}, but two are needed: give hkl=[(h, k, l), ...], another material "
                "or zone, or correct the pixel size (5 % are tolerated)."
            )
        images = self._some_frames(frames)
        axes = [a.get_axis_dictionary() for a in reversed(self.axes_manager.signal_axes)]
        frame = {"name": "frame", "size": len(images), "navigate": True}
        sample = HRTEMMovie(images, axes=[frame, *axes])
        hkl = [hkl[i] for i in known]
        phase = sample.gpa(*vectors[known], resolution=resolution, show_progressbar=False)
        return compare(phase, float(np.nanmean(to_host(images))), material, hkl)

    @fill(lazy=LAZY)
    def gpa(
        self,
        g1,
        g2,
        *more_g,
        resolution=None,
        hkl=None,
        step=None,
        mask="auto",
        show_progressbar=None,
        num_workers=None,
        lazy_output=None,
    ):
        r"""Geometric phase analysis: fit local plane waves to the lattice fringes.

        Parameters
        ----------
        g1, g2, *more_g : (x, y)
            Reciprocal vectors in 1/units of the signal axes; pint quantities and strings such as
            ``"2.1 1/nm"`` are taken as well.
        resolution : float or str, optional
            Standard deviation of the Gaussian window in the units of the signal axes, or for
            example ``"1.5 nm"``. Default: twice the larger spacing 1/\|g\|.
        hkl : sequence of (h, k, l), optional
            Miller indices of the vectors, in their order; they can be given later.
        step : float, str or "pixel", optional
            Sampling of the maps. Default: a third of the resolution.
        mask : "auto", None, ROI, signal or array, optional
            Where the crystal is. Towards its edge windows are fitted to the pixels inside only,
            so that neither vacuum nor the edge's fringes bias the strain there; maps are NaN
            outside and where too little of a window is left (half a resolution from a straight
            edge). ``"auto"``: found in each frame from the amplitude of the fringes, if it has
            vacuum. None: every pixel counts. A ROI in the units of the signal axes, or a boolean
            signal or array with the shape of a frame or of the movie.
        {lazy}

        Returns
        -------
        GeometricPhase
            ``(coefficient, g, time | x, y)``.

        Warns
        -----
        UserWarning
            For a resolution finer than the larger spacing.

        Raises
        ------
        ValueError
            For g beyond the Nyquist frequency or collinear, a resolution finer than 0.55
            spacings or larger than half the frame, axes without units of length, and a mask that
            is empty or has another shape.
        TypeError
            For complex or RGB data.
        NotImplementedError
            For non-uniform signal axes.

        References
        ----------
        M. J. Hÿtch, E. Snoeck, R. Kilaas, Ultramicroscopy 74 (1998) 131,
        :doi:`10.1016/S0304-3991(98)00035-7`.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> g1, g2 = s.find_g_vectors(n=2)
        >>> s.gpa(g1, g2, resolution=0.9, show_progressbar=False)
        <GeometricPhase, title: geometric phase of lithiation movie, dimensions: (4, 2, 12|54, 48)>
        """
        pixels = self._check_frames()
        vectors = self._check_vectors(to_vectors([g1, g2, *more_g], pixels.units), pixels)
        check_independent(vectors)
        sigma = check_resolution(resolution, vectors, pixels)
        positions = [
            sample_positions(step, sigma, pixels, i) for i in (0, 1)
        ]  # (x, y), pixels of the frame
        if hkl is not None:
            hkl = check_indices(hkl, len(vectors))
        masks, described = pixel_mask(mask, self)
        plan = _delayed_plan(pixels, vectors, sigma, positions)
        out_shape = (len(vectors), len(COEFFICIENTS), len(positions[1]), len(positions[0]))
        data = _frames.map_frames(
            _fit_block,
            _frames.as_frames(self, 2, result_bytes=8 * int(np.prod(out_shape))),
            *masks,
            core=2,
            out_shape=out_shape,
            dtype=np.complex64,
            plan=plan,
            find_edges=isinstance(mask, str),
        )
        axes = [
            *self._navigation_axes(),
            stacked_axis("g", len(vectors)),
            stacked_axis("coefficient", len(COEFFICIENTS)),
            *sampled_axes([a.name for a in self.axes_manager.signal_axes], positions, pixels),
        ]
        signal = self._build(GeometricPhase, data, axes, title="geometric phase")
        signal._record(
            "GeometricPhase",
            g_vectors=vectors,
            g_vectors_units=f"1/{pixels.units}",
            hkl=hkl,
            mask=described,
            resolution=sigma,
            resolution_units=pixels.units,
            step=[
                float(np.diff(p[:2])[0] * s) if len(p) > 1 else 0.0
                for p, s in zip(positions, pixels.scale, strict=True)
            ],
            step_units=pixels.units,
            pixel_size=pixels.scale,
            pixel_size_units=pixels.units,
            frame_shape=list(pixels.shape),
        )
        return self._finish(signal, lazy_output, show_progressbar, num_workers)

    @fill(reference=REFERENCE, composition=COMPOSITION, threshold=THRESHOLD, lazy=LAZY)
    def to_concentration(
        self,
        g1,
        g2,
        *more_g,
        material="LiFePO4",
        reference=None,
        reference_frame=None,
        x_reference=0.0,
        method="gls",
        nuisance=None,
        condition="plane stress",
        resolution=None,
        hkl=None,
        zone=None,
        step=None,
        mask="auto",
        threshold=0.2,
        show_progressbar=None,
        num_workers=None,
        lazy_output=None,
    ):
        """The whole chain, `gpa` and `GeometricPhase.to_concentration`, in one call.

        Parameters
        ----------
        g1, g2, *more_g : (x, y)
            See `gpa`.
        material : str or Material
            See `hyperspy_lfp.materials`.
        {reference}
            ``reference="cell"``: the cell of the material at `x_reference`.
        {composition}
        resolution, hkl, step, mask
            See `gpa`.
        zone : tuple of int, optional
            See `GeometricPhase.to_concentration`.
        {threshold}
        {lazy}

        Returns
        -------
        ConcentrationMap
            ``(time | x, y)``.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> g1, g2 = s.find_g_vectors(n=2)
        >>> s.to_concentration(g1, g2, reference_frame=0, show_progressbar=False)
        <ConcentrationMap, title: Li concentration of lithiation movie, dimensions: (12|56, 51)>
        """
        phase = self.gpa(
            g1,
            g2,
            *more_g,
            resolution=resolution,
            hkl=hkl,
            step=step,
            mask=mask,
            lazy_output=True,
        )
        result = phase.to_concentration(
            material,
            reference,
            reference_frame,
            x_reference,
            method,
            nuisance=nuisance,
            condition=condition,
            zone=zone,
            threshold=threshold,
        )
        return self._finish(result, lazy_output, show_progressbar, num_workers)

    @fill(lazy=LAZY)
    def to_diffraction_series(
        self, *, padding=1, k_max=None, show_progressbar=None, num_workers=None, lazy_output=None
    ):
        """Power spectra of the frames, as diffraction patterns.

        Under a Hann window, so that the border of the frame makes no cross. Zero frequency is on a
        pixel of its own for even and odd sizes, and the axes say so.

        Parameters
        ----------
        padding : int
            How many times finer the spectrum is sampled; 2 or more for fits of narrow spots.
        k_max : float, optional
            Largest component of k that is kept, 1/nm. Default: all.
        {lazy}

        Returns
        -------
        DiffractionSeries
            ``(time | kx, ky)``, axes in 1/nm.

        Raises
        ------
        ValueError
            If padding is not a positive whole number, or nothing is left below `k_max`.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> data.lithiation_movie().to_diffraction_series(k_max=4)
        <DiffractionSeries, title: power spectrum of lithiation movie, dimensions: (12|129, 115)>
        """
        pixels = self._check_frames()
        k_max = np.inf if k_max is None else to_number(k_max, "k_max", example="4.0 (in 1/nm)")
        if not isinstance(padding, int | np.integer) or isinstance(padding, bool) or padding < 1:
            raise ValueError(f"padding={padding!r} must be a positive whole number.")
        nanometres = pixels.scale * in_nanometre(pixels.units)
        keep, axes = [], []
        for name, n, size in zip(("ky", "kx"), pixels.shape[::-1], nanometres[::-1], strict=True):
            n = int(n * padding)
            scale = 1 / (n * size)
            k = (np.arange(n) - n // 2) * scale
            inside = np.flatnonzero(np.abs(k) <= k_max)
            if len(inside) < 3:
                raise ValueError(f"k_max={k_max!r} 1/nm leaves no spectrum; use up to {k[-1]:.3g}.")
            keep.append(slice(int(inside[0]), int(inside[-1]) + 1))
            axis = {"name": name, "size": len(inside), "scale": scale, "offset": k[inside[0]]}
            axes.append({**axis, "units": "1/nm", "navigate": False})
        shape = tuple(a["size"] for a in axes)
        data = _frames.map_frames(
            spectrum_block,
            _frames.as_frames(self, 2, result_bytes=4 * padding**2 * int(np.prod(pixels.shape))),
            core=2,
            out_shape=shape,
            dtype=np.float32,
            padding=int(padding),
            keep=tuple(keep),
        )
        signal = self._build(
            DiffractionSeries,
            data,
            [*self._navigation_axes(), *axes],
            title="power spectrum",
            quantity="power",
        )
        signal._record("DiffractionSeries", power_spectrum=True, padding=int(padding))
        return self._finish(signal, lazy_output, show_progressbar, num_workers)

    def _check_frames(self):
        """Whether the data are what every method needs; returns the calibration."""
        data = self.data
        if data.dtype.names is not None:
            raise TypeError(
                f"the data are {'/'.join(data.dtype.names)} colours, but lattice images must be "
                "grey: convert them, for example with "
                "`s.change_dtype('uint8'); s = s.sum(-1).transpose(signal_axes=2)` before "
                "`set_signal_type('HRTEMMovie')`."
            )
        if data.dtype.kind not in "uif":
            raise TypeError(
                f"the data are {data.dtype}, but lattice images must be real numbers: take "
                "`s.real`, `s.amplitude` or the like first."
            )
        if data.size == 0:
            raise ValueError(f"the movie is empty: its data have the shape {data.shape}.")
        return pixels_of(self)

    def _check_vectors(self, vectors, pixels):
        nyquist = 0.5 / pixels.scale
        for g in vectors:
            if not g.any():
                raise ValueError("g holds the vector (0, 0), which is no lattice spacing.")
            if np.any(np.abs(g) >= nyquist):
                given = tuple(np.round(g, 4).tolist())
                raise ValueError(
                    f"g={given} 1/{pixels.units} is beyond the Nyquist frequency "
                    f"({nyquist[0]:.4g}, {nyquist[1]:.4g}) of pixels of {pixels.scale[0]:.4g} x "
                    f"{pixels.scale[1]:.4g} {pixels.units}: check its unit and the pixel size."
                )
        return vectors

    def _some_frames(self, frames):
        """A stack of frames as a NumPy or CuPy array."""
        lead = self.data.shape[:-2]
        number = int(np.prod(lead))
        if frames is None:
            chosen = np.unique(np.linspace(0, number - 1, min(number, _FRAMES)).round().astype(int))
        elif isinstance(frames, str) and frames == "all":
            chosen = np.arange(number)
        else:
            try:
                if isinstance(frames, bool):
                    raise TypeError
                chosen = np.atleast_1d(np.arange(number)[frames])
            except (IndexError, TypeError) as error:
                raise ValueError(
                    f"frames={frames!r} does not choose among the {number} frames: give a number, "
                    "a slice, a list of numbers, or 'all'."
                ) from error
        if not len(chosen):
            raise ValueError(f"frames={frames!r} chooses none of the {number} frames.")
        picked = [self.data[np.unravel_index(i, lead)] if lead else self.data for i in chosen]
        if self._lazy:
            picked = dask.compute(*picked)
        return np.stack(picked)


def _delayed_plan(pixels, vectors, sigma, positions):
    """The plan of the fit, in pixels and (y, x) order, built where it is needed."""
    return _frames.delayed_plan(
        plan_lockin,
        pixels.shape[::-1],
        pixels.vectors_to_kernel(vectors),
        tuple(pixels.to_kernel(np.full(2, sigma))),
        positions[::-1],
        tuple(pixels.to_kernel(pixels.offset)),
        units=tuple(pixels.scale[::-1]),
        amplitude=2.0,  # a cosine holds half its amplitude in either wave
    )


def _fit_block(block, mask=None, *, plan, find_edges):
    if mask is not None and mask.strides[0] == 0:  # one for all frames
        mask = mask[0]
    return plane_wave_fit(block, plan, mask, find_edges=find_edges)
