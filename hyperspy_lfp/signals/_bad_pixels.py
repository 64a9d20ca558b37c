"""Hot and dead pixels and x-ray spikes of diffraction patterns."""

import dask.array as da
import numpy as np

from hyperspy_lfp.kernels._arrays import to_host
from hyperspy_lfp.kernels.patterns.frames import bad_pixels, clean
from hyperspy_lfp.signals import _frames
from hyperspy_lfp.signals._base import map_axes
from hyperspy_lfp.signals._docs import LAZY, fill

#: Most patterns that are looked at for pixels that are always bad.
_PATTERNS = 16
FILLS = ("nan", "median")


class BadPixelsMixin:
    """The clean-up of `DiffractionSeries`."""

    @fill(lazy=LAZY)
    def remove_bad_pixels(
        self,
        *,
        fill="nan",
        mask=None,
        show_progressbar=None,
        num_workers=None,
        lazy_output=None,
    ):
        """Take hot and dead pixels and x-ray spikes out of the patterns.

        Bad pixels are one or two side by side, sharper than a spot can be, in all patterns; they
        are looked for in up to 16 of them, at once. A spike is so in one pattern only, above the
        same pixel of the patterns before and after.

        Parameters
        ----------
        fill : {{"nan", "median"}}
            What they become. Not-a-number is left out of all that follows; the median is that of
            the pixels around.
        mask : ROI, signal or array, optional
            Pixels that are left as they are, such as a beam stop.
        {lazy}

        Returns
        -------
        DiffractionSeries
            float32.

        Raises
        ------
        ValueError
            If the option is not known, or there are several navigation axes.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> d = data.diffraction_series()
        >>> d.data[:, 40, 60] = 5000
        >>> cleaned = d.remove_bad_pixels(show_progressbar=False)
        >>> np.isnan(cleaned.data[:, 40, 60]).all(), np.isnan(cleaned.data).mean() < 1e-4
        (np.True_, np.True_)
        """
        self._check_patterns()
        if fill not in FILLS:
            raise ValueError(f"fill={fill!r} is not known; use one of {FILLS}.")
        if self.axes_manager.navigation_dimension > 1:
            names = [a.name for a in self.axes_manager.navigation_axes]
            raise ValueError(
                f"remove_bad_pixels takes one series, but there are the axes {names}: choose one "
                "with `inav`."
            )
        mask = self._mask(mask)
        hot, dead = bad_pixels(self._some_patterns(), mask)
        settings = {"bad": hot | dead, "mask": mask, "fill": fill}
        frames = _frames.as_frames(self, 2)
        if frames.ndim == 2:
            data = _clean_block(frames[None], None, None, **settings)[0]
        else:
            module = da if isinstance(frames, da.Array) else np
            before = module.concatenate([frames[:1], frames[:-1]])
            after = module.concatenate([frames[1:], frames[-1:]])
            if isinstance(frames, da.Array):
                before, after = (a.rechunk(frames.chunks) for a in (before, after))
            data = _frames.map_frames(
                _clean_block,
                frames,
                before,
                after,
                core=2,
                out_shape=frames.shape[-2:],
                dtype=np.float32,
                **settings,
            )
        signal = self._build(type(self), data, [*self._navigation_axes(), *map_axes(self)])
        signal._record("BadPixels", hot=int(hot.sum()), dead=int(dead.sum()), fill=fill)
        return self._finish(signal, lazy_output, show_progressbar, num_workers)

    def _some_patterns(self):
        data = self.data.reshape(-1, *self.data.shape[-2:])
        chosen = np.unique(np.linspace(0, len(data) - 1, _PATTERNS).round().astype(int))
        data = data[chosen]
        return np.asarray(to_host(data.compute() if hasattr(data, "dask") else data))


def _clean_block(frames, before, after, **settings):
    """Clean a block of patterns, with those beside it to tell spikes."""
    frames = to_host(frames)
    first, last = [], []
    if before is not None:
        before, after = to_host(before), to_host(after)
        # the first pattern of the series stands for the one before it, which does not exist
        first = [] if np.array_equal(before[0], frames[0], equal_nan=True) else [before[0]]
        last = [] if np.array_equal(after[-1], frames[-1], equal_nan=True) else [after[-1]]
    stack = np.stack([*first, *frames, *last])
    cleaned, _ = clean(stack, **settings)
    return cleaned[len(first) : len(first) + len(frames)]
