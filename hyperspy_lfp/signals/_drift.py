"""Rigid drift of movies: estimating and correcting it."""

import dask.array as da
import numpy as np
from hyperspy.signals import Signal1D

from hyperspy_lfp.kernels.gpa import drift as kernel
from hyperspy_lfp.signals import _frames
from hyperspy_lfp.signals._base import map_axes
from hyperspy_lfp.signals._docs import LAZY, fill
from hyperspy_lfp.signals._units import to_length, to_vectors


class DriftMixin:
    """The drift methods of `HRTEMMovie`."""

    @fill(lazy=LAZY)
    def estimate_drift(
        self,
        method="correlation",
        *,
        g=None,
        reference_frame=0,
        smoothing="0.12 nm",
        show_progressbar=None,
        num_workers=None,
        lazy_output=None,
    ):
        """Rigid drift of every frame relative to a reference frame.

        Parameters
        ----------
        method : {{"correlation", "phase"}}
            ``"correlation"``: sub-pixel cross-correlation with the reference frame.
            ``"phase"``: in addition, the mean geometric phases of `g` refine the shift within
            the lattice cell the correlation found.
        g : sequence of two or more (x, y), optional
            Reciprocal vectors for ``"phase"``.
        reference_frame : int
            Frame relative to which the drift is measured.
        smoothing : float or str
            Standard deviation of a Gaussian low-pass before correlation, in units of the signal
            axes: it should blur the fringes (a quarter to a third of the spacing), or the shift
            locks onto a wrong lattice period as soon as the lattice changes.
        {lazy}

        Returns
        -------
        Signal1D
            ``(time | 2)``: drift along x and y in the units of the signal axes: what is at r in
            the reference frame is at r + drift.

        Raises
        ------
        ValueError
            If the method is not known, or ``"phase"`` has no g vectors.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> s.estimate_drift(show_progressbar=False)
        <Signal1D, title: drift of lithiation movie, dimensions: (12|2)>
        """
        pixels = self._check_frames()
        if method not in ("correlation", "phase"):
            raise ValueError(f"method={method!r} is not known; use 'correlation' or 'phase'.")
        sigma = to_length(smoothing, pixels.units, "smoothing") / pixels.scale.mean()
        frames = _frames.as_frames(self, 2)
        fixed = self._frame_at(frames, reference_frame)
        data = _frames.map_frames(
            _correlation_block,
            frames,
            fixed,
            core=2,
            out_shape=(2,),
            dtype=np.float64,
            sigma=float(sigma),
        )
        if method == "phase":
            data = self._refine_drift(data, g, pixels, reference_frame)
        data = pixels.from_kernel(data)
        axis = {"name": "drift", "size": 2, "scale": 1, "offset": 0, "units": pixels.units}
        axes = [*self._navigation_axes(), {**axis, "navigate": False}]
        signal = self._build(Signal1D, data, axes, title="drift")
        signal.metadata.Signal.signal_type = ""
        signal.metadata.set_item("Signal.quantity", f"drift ({pixels.units})")
        return self._finish_plain(signal, lazy_output, show_progressbar, num_workers)

    @fill(lazy=LAZY)
    def correct_drift(
        self,
        drift,
        *,
        fill_value=np.nan,
        order=3,
        show_progressbar=None,
        num_workers=None,
        lazy_output=None,
    ):
        """Move the content of every frame back by its drift.

        A rigid drift changes neither strain nor composition; it has to be corrected for regions
        to stay on the material, and for a frame as the reference of every pixel.

        Parameters
        ----------
        drift : Signal1D or array
            As from `estimate_drift`: ``(time | 2)``, along x and y in the units of the signal
            axes.
        fill_value : float
            For pixels that were outside the frame; NaN is left out of all later steps.
        order : int
            Order of the interpolating spline, 0 to 5.
        {lazy}

        Returns
        -------
        HRTEMMovie
            float32.

        Raises
        ------
        ValueError
            If there is not one (x, y) pair for each frame.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> s.correct_drift(s.estimate_drift(show_progressbar=False), show_progressbar=False)
        <HRTEMMovie, title: lithiation movie, dimensions: (12|256, 230)>
        """
        pixels = self._check_frames()
        if order not in range(6):
            raise ValueError(f"order={order!r} of the spline must be a whole number from 0 to 5.")
        frames = _frames.as_frames(self, 2)
        shifts = getattr(drift, "data", drift)
        shifts = shifts if isinstance(shifts, da.Array) else np.asarray(shifts, dtype=float)
        if shifts.shape != (*frames.shape[:-2], 2):
            raise ValueError(
                f"drift has the shape {shifts.shape}, but the frames need "
                f"{(*frames.shape[:-2], 2)}: one (x, y) pair for each."
            )
        if isinstance(frames, da.Array) and frames.ndim > 2:
            shifts = da.asarray(shifts).rechunk((*frames.chunks[:-2], 2))
        data = _frames.map_frames(
            _shift_block,
            frames,
            pixels.to_kernel(shifts),
            core=2,
            out_shape=frames.shape[-2:],
            dtype=np.float32,
            fill_value=float(fill_value),
            order=int(order),
        )
        axes = [*self._navigation_axes(), *map_axes(self)]
        signal = self._build(type(self), data, axes)
        signal._record("DriftCorrection", fill_value=float(fill_value), order=int(order))
        return self._finish(signal, lazy_output, show_progressbar, num_workers)

    def _frame_at(self, frames, number):
        """One frame of each movie, with a leading dimension of one in the place of time."""
        time = self._time_axis()
        if time is None:
            return frames
        if not isinstance(number, int | np.integer) or not -time.size <= number < time.size:
            raise ValueError(
                f"reference_frame={number!r} must be one of the {time.size} frames "
                f"(0 to {time.size - 1})."
            )
        index = [slice(None)] * frames.ndim
        number = int(number) % time.size
        index[time.index_in_array] = slice(number, number + 1)
        return frames[tuple(index)]

    def _refine_drift(self, coarse, g, pixels, reference_frame):
        vectors = [] if g is None else to_vectors(g, pixels.units)
        if len(vectors) < 2:
            raise ValueError(
                f"method='phase' with g={g!r} needs two reciprocal vectors that are not "
                "collinear, for example g=s.find_g_vectors(n=2)."
            )
        # where the lattice ends in one frame says nothing of the drift
        phase = self.gpa(
            *vectors,
            mask=None,
            lazy_output=True if self._lazy else None,
            show_progressbar=False,
        )
        data = _frames.as_frames(phase, 4)
        time = self._time_axis()
        fixed = data
        if time is not None:
            index = [slice(None)] * data.ndim
            number = int(reference_frame) % time.size
            index[time.index_in_array] = slice(number, number + 1)
            fixed = data[tuple(index)]
        mean = _frames.map_frames(
            _mean_phase_block,
            data,
            fixed[..., 0, :, :],
            core=4,
            out_shape=(len(vectors),),
            dtype=np.float64,
        )
        g_pixels = pixels.vectors_to_kernel(vectors)
        if isinstance(coarse, da.Array) and isinstance(mean, da.Array):
            mean = mean.rechunk((*coarse.chunks[:-1], -1))
        return _frames.map_frames(
            _combine_block, coarse, mean, core=1, out_shape=(2,), dtype=np.float64, g=g_pixels
        )


def _correlation_block(block, fixed, sigma):
    return np.concatenate(
        [kernel.shift_by_correlation(f[None], r, sigma) for f, r in zip(block, fixed, strict=True)]
    )


def _mean_phase_block(block, fixed):
    return np.concatenate(
        [kernel.mean_phases(c[None], r) for c, r in zip(block, fixed, strict=True)]
    )


def _shift_block(block, shifts, fill_value, order):
    return kernel.shift_frames(block, shifts, fill_value, order)


def _combine_block(coarse, phases, g):
    return kernel.refine_by_phases(coarse, phases, g)
