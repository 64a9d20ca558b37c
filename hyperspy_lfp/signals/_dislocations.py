"""Dislocations in geometric phases."""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels.gpa import defects
from hyperspy_lfp.signals import _frames
from hyperspy_lfp.signals._docs import THRESHOLD, fill
from hyperspy_lfp.signals._reference import CORE
from hyperspy_lfp.signals._units import to_number


class Dislocation(NamedTuple):
    """A dislocation in one frame; lengths in the units of the signal axes."""

    frame: int | tuple  # number of the frame; of several navigation axes their indices, as in data
    x: float
    y: float
    burgers: tuple  # (b_x, b_y)
    windings: tuple  # of the phase of each reflection: -g . b


class DislocationMixin:
    """The search for dislocations in `GeometricPhase`."""

    @fill(threshold=THRESHOLD)
    def find_dislocations(self, *, threshold=0.2, show_progressbar=None, num_workers=None):
        """Dislocations, seen end on, with the component of their Burgers vectors in the image.

        A dislocation is a place around which the phases of the reflections wind by whole turns
        :math:`q_k`; its Burgers vector solves :math:`g_k\\cdot b = -q_k`. Noise alone makes none:
        all reflections must have a lattice on a circuit two resolutions around it.

        Parameters
        ----------
        {threshold}
        show_progressbar : bool, optional
            Default: HyperSpy's preference.
        num_workers : int, optional
            Number of dask workers; default: all.

        Returns
        -------
        list of Dislocation
            With ``frame``, ``x`` and ``y`` of the core (to about a third of the resolution),
            ``burgers`` and ``windings``. The Burgers vector is the closure of the displacement
            around a circuit from +x to +y, clockwise as displayed: of
            :math:`u_x = b\\,\\mathrm{{atan2}}(y, x)/2\\pi`, with y down, it is (b, 0).

        Raises
        ------
        ValueError
            If the maps are sampled more coarsely than the resolution.

        References
        ----------
        M. J. Hÿtch, J.-L. Putaux, J.-M. Pénisson, Nature 423 (2003) 270,
        :doi:`10.1038/nature01638`.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie().inav[0]
        >>> s.gpa(*s.find_g_vectors(n=2)).find_dislocations()
        []
        """
        self._check_axes()
        threshold = to_number(threshold, "threshold", low=0)
        positions = tuple(a.axis for a in reversed(self.axes_manager.signal_axes))
        # before anything is computed
        defects.check_step(positions, self.resolution)
        data = _frames.as_frames(self, CORE, lazy=True)
        data = data[None] if data.ndim == CORE else data
        # a list of any length for each frame, which only an array of objects can hold
        found = _frames.map_frames(
            _find_block,
            data,
            core=CORE,
            out_shape=(),
            dtype=object,
            g=self.g_vectors,
            sigma=self.resolution,
            positions=positions,
            threshold=threshold,
        )
        if hasattr(found, "dask"):
            (found,) = _frames.compute_arrays([found], show_progressbar, num_workers=num_workers)
        return [
            Dislocation(_frame(place), *core)
            for place in np.ndindex(found.shape)
            for core in found[place]
        ]


def _frame(place):
    """A number for one navigation axis, else the indices of all."""
    return place if len(place) > 1 else place[0]


def _find_block(block, **settings):
    found = np.empty(len(block), dtype=object)
    found[:] = defects.find_dislocations(block, **settings)
    return found
