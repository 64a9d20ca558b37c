"""Maps of composition."""

import dask.array as da
import numpy as np
from hyperspy.signals import Signal1D, Signal2D

from hyperspy_lfp import materials
from hyperspy_lfp.kernels._arrays import get_array_module
from hyperspy_lfp.kernels.regions import region_means
from hyperspy_lfp.signals import _frames
from hyperspy_lfp.signals._base import VARIANCE, LatticeSignal, map_axes, noise_of, stacked_axis
from hyperspy_lfp.signals._docs import LAZY, fill
from hyperspy_lfp.signals._regions import describe_region, named_regions, region_mask
from hyperspy_lfp.signals._units import time_in_seconds
from hyperspy_lfp.signals.concentration_evolution import ConcentrationEvolution

_STEP = "ConcentrationMap"


class ConcentrationMap(LatticeSignal, Signal2D):
    """Maps of composition x, ``(time | x, y)``, not clipped to the range of the material.

    Made by ``to_concentration``. Pixels without lattice are NaN. The variance from the measured
    noise is kept where HyperSpy keeps it (`get_noise_variance`); material, method and reference
    are in the metadata, node ``HyperspyLFP.ConcentrationMap``.
    """

    _signal_type = "ConcentrationMap"
    _alias_signal_types = ["concentration_map"]

    @property
    def material(self):
        """The `Material` the lattice lengths were compared with."""
        return materials.Material.from_dictionary(self._parameters(_STEP)["material"])

    @property
    def resolution(self):
        """Standard deviation of the Gaussian window, in the units of the signal axes."""
        return float(self._parameters(_STEP)["resolution"])

    def get_noise_variance(self):
        """Variance of x due to the noise measured in the frames, propagated.

        Returns
        -------
        BaseSignal or None
            ``(time | x, y)``. It covers random noise, not errors of the reference, of the
            lattice parameters, or of fringes near edges.
        """
        return super().get_noise_variance()

    @fill(lazy=LAZY)
    def evolution(self, rois=None, *, show_progressbar=None, num_workers=None, lazy_output=None):
        """Mean composition of regions against time.

        Parameters
        ----------
        rois : ROI, list of ROI or dict of name to ROI, optional
            RectangularROI, CircleROI or PolygonROI in the units of the signal axes; default: the
            whole map.
        {lazy}

        Returns
        -------
        ConcentrationEvolution
            ``(region | time)``. NaN pixels are left out. The variance of the mean counts
            independent values, area / (4 pi resolution^2), not pixels.

        Raises
        ------
        TypeError
            If something is no region.
        ValueError
            If a region holds no pixel of the map.

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
        if rois is None:
            masks, described = [np.ones(self.axes_manager._signal_shape_in_array, dtype=bool)], {}
            names = ["whole map"]
        else:
            named = named_regions(rois)
            masks = [region_mask(r, axes, f"rois[{n!r}]") for n, r in named.items()]
            described = {
                f"region_{i + 1}": describe_region(r) for i, r in enumerate(named.values())
            }
            names = list(named)
        data, variance = self._frames_with_variance()
        both = _frames.map_frames(
            _means_block,
            data,
            variance,
            core=2,
            out_shape=(len(masks), 2),
            dtype=np.float64,
            masks=np.array(masks),
            cell_area=abs(axes[0].scale * axes[1].scale),
            sigma=self.resolution,
        )
        time = self._time_axis()
        both = _time_last(both, None if time is None else time.index_in_array)
        signal = self._build(
            ConcentrationEvolution,
            both[..., 0],
            self._evolution_axes(time, len(masks)),
            variance=both[..., 1],
            title="evolution",
        )
        signal._record("ConcentrationEvolution", regions=names, **described)
        return self._finish(signal, lazy_output, show_progressbar, num_workers)

    def c_rate(self, *, show_progressbar=None, num_workers=None):
        """C-rate from the slope of the mean composition of the whole map.

        nC fills the particle in 3600/n seconds: n = 3600 s d<x>/dt, negative while lithium
        leaves.

        Returns
        -------
        Signal1D
            ``(| time)``; of a stack of movies one for each.

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
        seconds = get_array_module(mean.data).asarray(seconds)
        rate = 3600 * np.gradient(mean.data, seconds, axis=-1)[..., 0, :]
        axes = [*mean._navigation_axes("region"), *map_axes(mean)]
        return self._build(Signal1D, rate, axes, title="C-rate", quantity="C-rate (1/h)")

    def plot_montage(self, times=None, **kwargs):
        """Draw the maps of several times in a row; see `hyperspy_lfp.plotting.montage`."""
        from hyperspy_lfp import plotting

        return plotting.montage(self, times=times, **kwargs)

    def save_movie(self, filename, **kwargs):
        """Write the maps as a .gif or .mp4 film; see `hyperspy_lfp.plotting.movie`."""
        from hyperspy_lfp import plotting

        plotting.movie(self, filename, **kwargs)

    def _frames_with_variance(self):
        data = _frames.as_frames(self, 2)
        noise = noise_of(self, VARIANCE)
        if noise is None:
            return data, np.full((1,) * data.ndim, np.nan)
        if not hasattr(noise, "data"):  # HyperSpy allows one number for all
            return data, np.full((1,) * data.ndim, float(noise))
        return data, _frames.as_frames(noise, 2)

    def _evolution_axes(self, time, number):
        axes = self._navigation_axes()
        last = {"name": "time", "size": 1, "scale": 1.0, "offset": 0.0, "units": "s"}
        if time is not None:
            last = axes.pop(time.index_in_array)
        return [*axes, stacked_axis("region", number), {**last, "navigate": False}]


def _means_block(values, variance, masks, cell_area, sigma):
    """Means of the regions and their variances: (n, region, 2)."""
    variance = np.broadcast_to(variance, values.shape)
    mean, noise = region_means(values, variance, masks, cell_area, sigma)
    return np.stack([mean.T, noise.T], axis=-1)


def _time_last(both, position):
    """(..., time, ..., region, 2) to (..., region, time, 2)."""
    if position is None:
        return both[..., None, :]
    if isinstance(both, da.Array):
        return da.moveaxis(both, position, -2).rechunk({both.ndim - 2: -1})
    return np.moveaxis(both, position, -2)
