"""Composition of regions against time, the regions themselves, and the rate of the whole."""

import warnings

import dask.array as da
import numpy as np
from hyperspy.signals import Signal1D, Signal2D

from hyperspy_lfp.kernels._arrays import get_array_module, to_host
from hyperspy_lfp.kernels.concentration import domains
from hyperspy_lfp.kernels.concentration.regions import region_means
from hyperspy_lfp.signals import _frames
from hyperspy_lfp.signals._base import (
    ELASTIC,
    REFERENCE,
    SYSTEMATIC,
    VARIANCE,
    layer_of,
    map_axes,
    stacked_axis,
)
from hyperspy_lfp.signals._docs import LAZY, fill
from hyperspy_lfp.signals._regions import (
    describe_mask,
    describe_region,
    named_regions,
    pixels_inside,
    region_mask,
)
from hyperspy_lfp.signals._units import time_in_seconds
from hyperspy_lfp.signals.concentration_evolution import ConcentrationEvolution


class EvolutionMixin:
    """The methods of `ConcentrationMap` that follow regions through time."""

    @fill(lazy=LAZY)
    def evolution(
        self,
        rois=None,
        *,
        drift=None,
        coherency=False,
        show_progressbar=None,
        num_workers=None,
        lazy_output=None,
    ):
        """Mean composition of regions against time.

        Parameters
        ----------
        rois : region, list of regions or dict of name to region, optional
            A region is a RectangularROI, CircleROI or PolygonROI in the units of the signal axes,
            or a signal or array with the shape of a map: of booleans (a mask), or of integers
            (labels: each above zero is a region, as from `find_domains`). Default: the whole map.
        drift : Signal1D or array, optional
            As from `HRTEMMovie.estimate_drift`: ``(time | 2)``, along x and y in the units of the
            signal axes. What is at r in the reference frame is at r + drift: the regions move
            along, masks to the nearest pixel. The whole map stays.
        coherency : bool
            Whether to calculate what x elsewhere adds to each region by elasticity, which
            `ConcentrationEvolution.concentration_reversal` puts beside its amplitude; of regions
            that stay in place. It computes lazy maps at once, and needs the material's elastic
            constants.
        {lazy}

        Returns
        -------
        ConcentrationEvolution
            ``(region | time)``. NaN pixels are left out of the mean: where the set of valid
            pixels changes with time, so does what is averaged. Of a region that has moved beyond
            the border, what is left of it counts; NaN where nothing is. The standard error is
            that of noise, with the correlation that the windows of neighbouring pixels leave, as
            the edges of crystal and frame cut them; see :doc:`/theory`. Systematic errors of the
            maps are not in it.

        Raises
        ------
        TypeError
            If something is no region.
        ValueError
            If a region holds no pixel of the map, a mask has another shape, or there is not one
            (x, y) pair of drift for each map.

        Examples
        --------
        >>> import hyperspy.api as hs
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> x = s.to_concentration(
        ...     *s.find_g_vectors(n=2), reference_frame=0, show_progressbar=False
        ... )
        >>> x.evolution({{"centre": hs.roi.RectangularROI(4, 4, 6, 6)}}, show_progressbar=False)
        <ConcentrationEvolution, title: evolution of lithiation movie, dimensions: (1|12)>
        """
        axes = self.axes_manager.signal_axes
        names, masks, described = _described_regions(rois, axes)
        data, variance = self._frames_with_variance()
        others = [variance, *(self._frames_of_layer(item) for item in (SYSTEMATIC, REFERENCE))]
        settings = {
            "core": 2,
            "out_shape": (len(names), 4),
            "dtype": np.float64,
            "spacing": (abs(axes[1].scale), abs(axes[0].scale)),
            "sigma": self.resolution,
            "tensor": self._noise_tensor(),
        }
        moving = None if drift is None else _drift_of(drift, data)
        if coherency and moving is not None:
            raise ValueError(
                "coherency=True is for regions that stay in place, but a drift is given: correct "
                "the movie with `HRTEMMovie.correct_drift` before `gpa` instead."
            )
        if moving is None or rois is None:
            both = _frames.map_frames(
                _means_block, data, *others, masks=np.array(masks), **settings
            )
        else:
            both = _frames.map_frames(
                _moving_means_block,
                data,
                *others,
                moving,
                masks=masks,
                described=described,
                axes=[axis.axis for axis in axes],
                **settings,
            )
        time = self._time_axis()
        place = None if time is None else time.index_in_array
        both = _time_last(both, place)
        layers = {VARIANCE: both[..., 1], SYSTEMATIC: both[..., 2], REFERENCE: both[..., 3]}
        if coherency:
            carried = _time_last(self._elastic_crosstalk(masks)[..., None], place)
            layers[ELASTIC] = carried[..., 0]
        signal = self._build(
            ConcentrationEvolution,
            both[..., 0],
            self._evolution_axes(time, len(names)),
            layers=layers,
            title="evolution",
        )
        signal._record(
            "ConcentrationEvolution",
            regions=names,
            drift="none" if moving is None else "given",
            **{f"region_{i + 1}": d for i, d in enumerate(described)},
        )
        return self._finish(signal, lazy_output, show_progressbar, num_workers)

    def c_rate(self, *, show_progressbar=None, num_workers=None):
        """C-rate from the slope of the mean composition of the whole map.

        nC fills the particle in 3600/n seconds: n = 3600 s d<x>/dt, negative while lithium
        leaves.

        Returns
        -------
        Signal1D
            ``(| time)``; of a stack of movies one for each. Differences to the frames before and
            after, of second order on a time axis that is not uniform. Its variance is in its
            metadata (`get_noise_variance`).

        Raises
        ------
        ValueError
            If there are fewer than two frames, or the time axis has no unit of time.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> x = s.to_concentration(
        ...     *s.find_g_vectors(n=2), reference_frame=0, show_progressbar=False
        ... )
        >>> x.c_rate(show_progressbar=False)
        <Signal1D, title: C-rate of lithiation movie, dimensions: (|12)>
        """
        time = self._time_axis()
        if time is None or time.size < 2:
            raise ValueError(
                "c_rate needs two frames or more along time; this map has "
                f"{1 if time is None else time.size}."
            )
        seconds = time.axis * time_in_seconds(time)
        mean = self.evolution(
            show_progressbar=show_progressbar, num_workers=num_workers, lazy_output=False
        )
        variance = layer_of(mean, VARIANCE).data
        slope = np.gradient(mean.data, get_array_module(mean.data).asarray(seconds), axis=-1)
        axes = [*mean._navigation_axes("region"), *map_axes(mean)]
        return self._build(
            Signal1D,
            3600 * slope[..., 0, :],
            axes,
            layers={VARIANCE: 3600**2 * _variance_of_slope(variance, seconds)[..., 0, :]},
            title="C-rate",
            quantity="C-rate (1/h)",
        )

    def find_domains(self, n=None, *, show_progressbar=None, num_workers=None):
        """Domains of the particle in which x takes the same course.

        The curves x(t) of the pixels, weighted with their noise, are clustered (principal
        components, k-means), starting with the pixels where x varies little in space: between
        two domains the window mixes them. Islands smaller than a resolution element,
        4 pi resolution^2, join what surrounds them.

        Parameters
        ----------
        n : int, optional
            Number of domains. Default: the number up to six with the lowest Bayesian information
            criterion, if each domain has a core that lies 1.5 resolutions from the others; one if
            the curves differ by no more than noise.

        Returns
        -------
        Signal2D
            Labels ``(| x, y)``, the largest domain first, for `evolution`; 0 where there is no
            lattice in half or more of the frames. Computed at once, in one pass over the maps.

        Raises
        ------
        ValueError
            If `n` is no number of domains, no pixel is valid, or there are more navigation axes
            than time.

        Warns
        -----
        UserWarning
            If fewer than `n` domains are larger than a resolution element.

        References
        ----------
        D. Pelleg, A. W. Moore, X-means: extending k-means with efficient estimation of the number
        of clusters, Proc. 17th Int. Conf. Machine Learning (2000) 727.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> x = data.lithiation_truth()
        >>> labels = x.find_domains(2, show_progressbar=False)
        >>> x.evolution(labels, show_progressbar=False).regions
        ['1', '2']
        """
        if self.axes_manager.navigation_dimension > 1:
            raise ValueError(
                "find_domains needs one movie, but these maps have "
                f"{self.axes_manager.navigation_dimension} navigation axes: choose one with "
                "`inav`."
            )
        if n is not None and (not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1):
            raise ValueError(f"n={n!r} must be a positive number of domains, or None.")
        curves = self._binned_curves(show_progressbar, num_workers)
        axes = self.axes_manager.signal_axes
        spacing = (abs(axes[1].scale), abs(axes[0].scale))
        labels = domains.find_domains(*curves, spacing, self.resolution, n)
        signal = self._build(
            Signal2D, labels, map_axes(self), title="domains", quantity="number of the domain"
        )
        signal.metadata.Signal.signal_type = ""
        found = int(labels.max())
        signal.metadata.set_item("HyperspyLFP.Domains.number", found)
        if n is not None and found < n:
            warnings.warn(
                f"{found} of n={n} domains are larger than a resolution element; the others have "
                "joined them.",
                UserWarning,
                stacklevel=2,
            )
        return signal

    def _binned_curves(self, show_progressbar, num_workers):
        """Mean of x and its variance in up to so many groups of frames, (n, y, x) each."""
        data, variance = (to_host(a) for a in self._frames_with_variance())
        if data.ndim == 2:
            data, variance = data[None], variance[None]
        bounds = np.linspace(0, len(data), min(len(data), domains.MOST_TIMES) + 1).round()
        sums = []
        for first, last in zip(bounds[:-1].astype(int), bounds[1:].astype(int), strict=True):
            noise = variance if len(variance) == 1 else variance[first:last]
            sums.append(_sums(data[first:last], noise))
        lazy = isinstance(sums[0], da.Array)
        stacked = da.stack(sums, axis=1) if lazy else np.stack(sums, axis=1)
        if lazy:
            (stacked,) = _frames.compute_arrays(
                [stacked], show_progressbar, num_workers=num_workers
            )
        count, total, noise = stacked
        safe = np.where(count > 0, count, np.nan)
        return total / safe, noise / safe**2, count.sum(axis=0) / len(data)

    def _frames_with_variance(self):
        """Frames, and the variance of their noise without that of systematic errors.

        What is wrong in the same way at many pixels and times neither averages out as noise does,
        nor shows in the scatter of a curve.
        """
        data = _frames.as_frames(self, 2)
        noise = layer_of(self, VARIANCE)
        if noise is None:
            return data, np.full((1,) * data.ndim, np.nan)
        if not hasattr(noise, "data"):  # HyperSpy allows one number for all
            return data, np.full((1,) * data.ndim, float(noise))
        variance = _frames.as_frames(noise, 2)
        systematic = layer_of(self, SYSTEMATIC)
        if systematic is not None:
            variance = np.maximum(variance - _frames.as_frames(systematic, 2), 0)
        return data, variance

    def _frames_of_layer(self, item):
        layer = layer_of(self, item)
        if not hasattr(layer, "axes_manager"):
            return np.full((1,) * self.data.ndim, np.nan)
        return _frames.as_frames(layer, 2)

    def _noise_tensor(self):
        """How the noise is correlated, (y, x) order, or None if that is not recorded."""
        tensor = self._parameters("ConcentrationMap").get("noise_tensor")
        return None if tensor is None else np.asarray(tensor, dtype=float)[::-1, ::-1]

    def _evolution_axes(self, time, number):
        axes = self._navigation_axes()
        last = {"name": "time", "size": 1, "scale": 1.0, "offset": 0.0, "units": "s"}
        if time is not None:
            last = axes.pop(time.index_in_array)
        return [*axes, stacked_axis("region", number), {**last, "navigate": False}]


def _described_regions(rois, axes):
    """Names, masks and descriptions of regions; the whole map has no description."""
    shape = axes[1].size, axes[0].size
    if rois is None:
        return ["whole map"], [np.ones(shape, dtype=bool)], []
    named = named_regions(rois, shape)
    masks, described = [], []
    for name, region in named.items():
        if isinstance(region, np.ndarray):
            masks.append(region)
            described.append(describe_mask(region, axes))
        else:
            masks.append(region_mask(region, axes, f"rois[{name!r}]"))
            described.append(describe_region(region))
    return list(named), masks, described


def _drift_of(drift, frames):
    """Drift as an array that goes with the frames."""
    shifts = getattr(drift, "data", drift) if hasattr(drift, "axes_manager") else drift
    shifts = shifts if isinstance(shifts, da.Array) else np.asarray(to_host(shifts), dtype=float)
    if shifts.shape != (*frames.shape[:-2], 2):
        raise ValueError(
            f"drift has the shape {shifts.shape}, but the maps need {(*frames.shape[:-2], 2)}: "
            "one (x, y) pair for each."
        )
    if isinstance(frames, da.Array) and frames.ndim > 2:
        shifts = da.asarray(shifts).rechunk((*frames.chunks[:-2], 2))
    return shifts


def _means_block(values, variance, systematic, reference, masks, **settings):
    """Means of the regions, and their variances by noise and by what does not average out.

    Shape (n, region, 4).
    """
    mean, noise = region_means(values, variance, masks, **settings)
    common = [_mean_error(v, values, masks).T ** 2 for v in (systematic, reference)]
    return np.stack([mean.T, noise.T, *common], axis=-1)


def _mean_error(variance, values, masks):
    """Mean standard error of the pixels of each region, (region, n): that of what they share."""
    xp = get_array_module(values)
    error = xp.sqrt(xp.broadcast_to(variance, values.shape))
    valid = xp.isfinite(values)
    masks = xp.asarray(masks)
    inside = valid & (masks if masks.ndim > values.ndim else masks[:, None])
    count = inside.sum(axis=(-2, -1))
    total = xp.where(inside, error, 0).sum(axis=(-2, -1))
    return total / xp.where(count > 0, count, xp.nan)


def _moving_means_block(
    values, variance, systematic, reference, drift, masks, described, axes, **settings
):
    """The same of regions that move with the drift (n, 2)."""
    drift = to_host(drift)
    moved = [
        [_moved(mask, region, axes, shift) for shift in drift]
        for mask, region in zip(masks, described, strict=True)
    ]
    return _means_block(values, variance, systematic, reference, np.array(moved), **settings)


def _moved(mask, region, axes, shift):
    """The pixels of a region that has moved by (x, y); none if it is not known where to."""
    if not np.isfinite(shift).all():
        return np.zeros_like(mask)
    x, y = axes
    if region["type"] != "mask":
        return pixels_inside(region, x - shift[0], y - shift[1])
    for axis, values, distance in ((1, x, shift[0]), (0, y, shift[1])):
        step = values[1] - values[0] if len(values) > 1 else 1.0
        source = np.arange(len(values)) - int(np.rint(distance / step))
        there = (source >= 0) & (source < len(values))
        mask = np.take(mask, np.where(there, source, 0), axis)
        mask = mask & (there[None, :] if axis else there[:, None])
    return mask


def _sums(values, variance):
    """Number of valid values, their sum, and the sum of their variances, along time."""
    xp = da if isinstance(values, da.Array) else np
    valid = xp.isfinite(values)
    total = xp.where(valid, values, 0).sum(axis=0, dtype=np.float64)
    noise = xp.where(valid, variance, 0).sum(axis=0, dtype=np.float64)
    return xp.stack([valid.sum(axis=0).astype(np.float64), total, noise])


def _variance_of_slope(variance, seconds):
    """Variance of `numpy.gradient` of independent values along the last axis.

    Its weights of the two neighbours and of the value itself are found by differentiating combs
    that hold one of three successive places.
    """
    xp = get_array_module(variance)
    places = np.arange(len(seconds))
    total = 0
    for i in range(3):
        weight = np.gradient((places % 3 == i).astype(float), seconds)
        held = np.clip(places + (i - places + 1) % 3 - 1, 0, len(seconds) - 1)
        total = total + xp.asarray(weight**2) * variance[..., xp.asarray(held)]
    return total


def _time_last(both, position):
    """(..., time, ..., region, 2) to (..., region, time, 2)."""
    if position is None:
        return both[..., None, :]
    if isinstance(both, da.Array):
        return da.moveaxis(both, position, -2).rechunk({both.ndim - 2: -1})
    return np.moveaxis(both, position, -2)
