"""Concentration reversal: of regions, and of every pixel."""

from typing import NamedTuple

import dask.array as da
import numpy as np
from hyperspy.signals import Signal2D

from hyperspy_lfp.kernels._arrays import to_host
from hyperspy_lfp.kernels.concentration.reversal import adjusted_p_values, reversal
from hyperspy_lfp.kernels.concentration.reversal_map import reversal_map
from hyperspy_lfp.signals import _frames
from hyperspy_lfp.signals._base import (
    ELASTIC,
    VARIANCE,
    cheap_to_plot,
    layer_of,
    map_axes,
)
from hyperspy_lfp.signals._docs import LAZY, fill

#: Part of a series at each end whose difference tells whether the particle fills or empties.
_END = 0.2
#: Values of a block that one task gets; the curves of a pixel stay together.
_BLOCK = 2**20


class ConcentrationReversal(NamedTuple):
    """The largest reversal of a region; see `ConcentrationEvolution.concentration_reversal`."""

    region: str
    amplitude: float  # bias removed
    bias: float  # what the drop of the smoothed curve exceeds it by
    ci: tuple  # (low, high)
    p_value: float  # null hypothesis: x only rises (or only falls) in this region
    p_adjusted: float  # for the number of regions searched
    t_b: float  # where it starts and ends, in the units of the time axis, and the smoothed x there
    t_c: float
    x_b: float
    x_c: float
    duration: float
    recovery: float  # time from t_c until x is back at x_b; NaN if it never is
    elastic: float  # part of the drop that elasticity alone could fake; NaN if not calculated
    standard_error: float
    sigma: float  # noise of one frame, and its correlation from one to the next
    rho: float


class ReversalMap(NamedTuple):
    """The largest reversal of every pixel, each a Signal2D ``(| x, y)``."""

    amplitude: Signal2D
    bias: Signal2D
    t_b: Signal2D
    t_c: Signal2D
    p_value: Signal2D
    sigma: Signal2D
    rho: Signal2D


class EvolutionReversalMixin:
    """Concentration reversal of `ConcentrationEvolution`."""

    def concentration_reversal(
        self,
        *,
        direction="auto",
        smoothing=4.0,
        noise=None,
        confidence=0.95,
        n_bootstrap=500,
        seed=0,
    ):
        """Lithium that leaves a region while the particle fills, or enters while it empties.

        The largest drop of noisy x(t) is large even if nothing reverses: 0.14 for 200 frames with
        an error of 0.03. So the amplitude has that bias taken off, with a confidence interval, and
        the p-value compares with curves that only rise and have the same, serially correlated,
        noise.

        Parameters
        ----------
        direction : {"auto", 1, -1}
            1 while the particle fills, -1 while it empties. ``"auto"``: by the sum of the regions.
        smoothing : float
            Least full width at half maximum of the smoothing, in frames; a long reversal is
            smoothed more.
        noise : "errors", tuple (sigma, rho) or array, optional
            ``"errors"``: the standard errors of the means are believed. Or the known noise of one
            frame and its serial correlation, or the x of a place or time in which nothing changes.
            Default: from each curve itself, which short ones hardly tell.
        confidence : float
            Of the interval.
        n_bootstrap : int
            Simulated curves; the smallest p-value is 1 / (n_bootstrap + 1).
        seed : int
            The same seed gives the same result.

        Returns
        -------
        list of ConcentrationReversal
            One record a region, in the order of `regions`, with ``amplitude`` (bias removed),
            ``bias``, ``ci``, ``p_value`` and ``p_adjusted`` (Holm's correction for the number of
            regions), ``t_b``, ``t_c``, ``x_b``, ``x_c``, ``duration``, ``recovery``, ``elastic``,
            ``standard_error``, ``sigma``, ``rho``. Look at the p-value first. ``elastic`` is what
            the same drop would be if x of the region had stayed and elasticity had carried
            over what happened around it; it needs ``evolution(rois, coherency=True)``.

        Raises
        ------
        ValueError
            With fewer than 8 valid frames in a region, more navigation axes than the regions, or
            bad options.

        See Also
        --------
        ConcentrationMap.concentration_reversal : evolution, reversal and elasticity in one call.
        ConcentrationMap.reversal_map : of every pixel.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> x = data.lithiation_truth()
        >>> corner = hs.roi.RectangularROI(4, 3, 7, 6)
        >>> (found,) = x.evolution({"corner": corner}).concentration_reversal(n_bootstrap=99)
        >>> found.region, found.t_b < found.t_c
        ('corner', True)
        """
        if self.axes_manager.navigation_dimension > 1:
            names = [a.name for a in self.axes_manager.navigation_axes]
            raise ValueError(
                f"concentration_reversal needs one movie, but there are the axes {names}: choose "
                "one with `inav`."
            )
        time = next(a for a in self.axes_manager._axes if not a.navigate)
        layers = [self, layer_of(self, VARIANCE), layer_of(self, ELASTIC)]
        values, variance, elastic = _in_memory(layers)
        sign = _direction(values.sum(axis=0), direction)
        found = []
        for name, x, error, fake in zip(
            _names(self, len(values)), values, variance, elastic, strict=True
        ):
            # exact curves have no error, and a frame of no lattice none that is known
            known = np.isfinite(error) | ~np.isfinite(x)
            error = error if known.all() and np.nanmin(error, initial=np.inf) > 0 else None
            own = noise
            if isinstance(noise, str):
                if noise != "errors" or error is None:
                    raise ValueError(
                        f"noise={noise!r} must be 'errors', of means that have a standard error, "
                        "(sigma, rho), or a static series."
                    )
                own = (float(np.sqrt(np.nanmean(error[np.isfinite(x)]))), 0.0)
            try:
                one = reversal(
                    time.axis,
                    x,
                    error,
                    direction=sign,
                    smoothing=smoothing,
                    noise=own,
                    confidence=confidence,
                    n_bootstrap=n_bootstrap,
                    seed=seed,
                )
            except ValueError as bad:
                raise ValueError(f"region {name!r}: {bad}") from bad
            found.append((name, one, _carried_over(time.axis, fake, one, sign)))
        adjusted = adjusted_p_values([one.p_value for _, one, _ in found])
        return [
            ConcentrationReversal(
                region=name,
                p_adjusted=float(p),
                elastic=fake,
                **{f: getattr(one, f) for f in _SHARED},
            )
            for (name, one, fake), p in zip(found, adjusted, strict=True)
        ]


_SHARED = tuple(
    f for f in ConcentrationReversal._fields if f not in ("region", "p_adjusted", "elastic")
)


class MapReversalMixin:
    """Concentration reversal of `ConcentrationMap`."""

    def concentration_reversal(self, rois=None, *, drift=None, show_progressbar=None, **kwargs):
        """Evolution, reversal, and what elasticity alone could fake, in one call.

        Parameters
        ----------
        rois, drift
            See `evolution`.
        show_progressbar : bool, optional
            Default: HyperSpy's preference.
        **kwargs
            See `ConcentrationEvolution.concentration_reversal`.

        Returns
        -------
        list of ConcentrationReversal
            One record a region. ``elastic`` is NaN if the material has no elastic constants, the
            orientation of the crystal is not known, or the regions move.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> x = s.to_concentration(*s.find_g_vectors(n=2), reference_frame=0)
        >>> corner = hs.roi.RectangularROI(4, 3, 7, 6)
        >>> (found,) = x.concentration_reversal({"corner": corner}, n_bootstrap=99)
        >>> 0 <= found.p_value <= 1
        True
        """
        done = self._parameters("ConcentrationMap")
        known = self.material.elastic is not None and "lattice_directions" in done
        maps = self
        if self._lazy:
            # elasticity needs the maps as well: they are computed once
            maps = self.deepcopy()
            maps.compute(show_progressbar=show_progressbar)
        evolution = maps.evolution(
            rois, drift=drift, coherency=known and drift is None, show_progressbar=False
        )
        return evolution.concentration_reversal(**kwargs)

    @fill(lazy=LAZY)
    def reversal_map(
        self,
        *,
        direction="auto",
        smoothing=8.0,
        noise=None,
        seed=0,
        show_progressbar=None,
        num_workers=None,
        lazy_output=None,
    ):
        """The largest concentration reversal of every pixel.

        Where to look: neighbouring pixels share their noise, and there are many of them; the
        significance is that of a region (`ConcentrationEvolution.concentration_reversal`).

        Parameters
        ----------
        direction : {{"auto", 1, -1}}
            1 while the particle fills, -1 while it empties. ``"auto"``: by the mean of the map.
        smoothing : float
            Full width at half maximum of the smoothing, in frames.
        noise : tuple (sigma, rho), optional
            Known noise of a pixel. Default: from each curve itself.
        seed : int
            The same seed gives the same result.
        {lazy}

        Returns
        -------
        ReversalMap
            A named tuple of Signal2D ``(| x, y)``: ``amplitude`` (bias removed), ``bias``, ``t_b``,
            ``t_c``, ``p_value``, ``sigma``, ``rho``; NaN with fewer than 8 valid frames. Several
            lazy ones are computed in one pass by `hyperspy_lfp.compute`.

        Raises
        ------
        ValueError
            If there is no time axis, or another one besides it.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> x = data.lithiation_truth().isig[100:110, 100:108]
        >>> x.reversal_map().amplitude
        <Signal2D, title: reversal amplitude of true Li concentration, dimensions: (|10, 8)>
        """
        time = self._time_axis()
        if time is None or self.axes_manager.navigation_dimension > 1:
            raise ValueError(
                "reversal_map needs a movie with a time axis and no other navigation axis; this "
                f"one has {[a.name for a in self.axes_manager.navigation_axes]}."
            )
        if direction not in ("auto", 1, -1):
            raise ValueError(f"direction={direction!r} must be 'auto', 1 or -1.")
        values, variance = (da.asarray(a) for a in self._frames_with_variance())
        lead = [_frame_means(values), _frame_means(variance)]
        side = max(1, int(np.sqrt(_BLOCK / len(values))))
        settings = {
            "times": np.asarray(time.axis, dtype=float),
            "direction": direction,
            "smoothing": smoothing,
            "noise": noise,
            "seed": seed,
        }
        maps = da.blockwise(
            _reversal_block,
            "pyx",
            values.rechunk({0: -1, 1: side, 2: side}),
            "tyx",
            lead[0].rechunk(-1),
            "t",
            lead[1].rechunk(-1),
            "t",
            concatenate=True,
            new_axes={"p": len(ReversalMap._fields)},
            dtype=np.float32,
            meta=np.empty((0, 0, 0), dtype=np.float32),
            **settings,
        )
        lazy = self._lazy if lazy_output is None else lazy_output
        if not lazy:
            (maps,) = _frames.compute_arrays([maps], show_progressbar, num_workers=num_workers)
        units = time.units if isinstance(time.units, str) else ""
        quantities = {"t_b": f"time ({units})", "t_c": f"time ({units})"}
        signals = {
            name: self._build(
                Signal2D,
                maps[i],
                map_axes(self),
                title=f"reversal {name}",
                quantity=quantities.get(name, name),
            )
            for i, name in enumerate(ReversalMap._fields)
        }
        return ReversalMap(**{name: cheap_to_plot(s) for name, s in signals.items()})


def _names(evolution, number):
    """Names of the regions; numbers after slicing along them."""
    names = evolution.regions
    return names if len(names) == number else [str(i + 1) for i in range(number)]


def _in_memory(signals):
    """Data of an evolution and of its layers, (region, time) each; NaN for what is not there."""
    arrays = [s.data if hasattr(s, "data") else s for s in signals]
    lazy = [a for a in arrays if isinstance(a, da.Array)]
    computed = iter(_frames.compute_arrays(lazy, show_progressbar=False) if lazy else ())
    arrays = [next(computed) if isinstance(a, da.Array) else a for a in arrays]
    values = np.atleast_2d(np.asarray(to_host(arrays[0]), dtype=float))
    missing = np.full(values.shape, np.nan)
    rest = (missing if a is None else np.asarray(to_host(a), dtype=float) for a in arrays[1:])
    return values, *(np.broadcast_to(np.atleast_2d(a), values.shape) for a in rest)


def _direction(series, wanted):
    """1 for a series that rises from its first to its last part, -1 for one that falls."""
    if wanted != "auto":
        if wanted not in (1, -1):
            raise ValueError(f"direction={wanted!r} must be 'auto', 1 or -1.")
        return wanted
    known = series[np.isfinite(series)]
    part = max(1, int(_END * len(known)))
    return -1 if len(known) and known[-part:].mean() < known[:part].mean() else 1


def _carried_over(times, fake, found, sign):
    """Part of a drop from t_b to t_c that what elasticity carries over makes."""
    if not np.isfinite(fake).any():
        return np.nan
    at = np.flatnonzero(np.isfinite(fake))
    b, c = (np.interp(t, times[at], fake[at]) for t in (found.t_b, found.t_c))
    return float(sign * (b - c))


def _frame_means(maps):
    """Mean of the finite pixels of each frame."""
    known = da.isfinite(maps)
    count = known.sum(axis=(-2, -1))
    return da.where(known, maps, 0).sum(axis=(-2, -1)) / da.where(count > 0, count, np.nan)


def _reversal_block(values, mean, variance, times, direction, **options):
    """(parameter, y, x) from (time, y, x); the frames weigh the same in every block."""
    sign = _direction(to_host(mean), direction)
    valid = np.isfinite(to_host(mean))
    weighted = variance is not None and len(variance) == len(times)
    weighted = weighted and bool(np.all(to_host(variance)[valid] > 0))
    frames = np.broadcast_to(variance[:, None, None], values.shape) if weighted else None
    found = reversal_map(times, values, frames, direction=sign, **options)
    return np.stack(found)
