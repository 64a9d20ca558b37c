"""Composition of regions against time."""

import numpy as np
from hyperspy.signals import Signal1D

from hyperspy_lfp.signals._base import VARIANCE, LatticeSignal


class ConcentrationEvolution(LatticeSignal, Signal1D):
    """Mean composition of regions against time, ``(region | time)``.

    Made by `ConcentrationMap.evolution`. Names and shapes of the regions are in the metadata,
    node ``HyperspyLFP.ConcentrationEvolution``.
    """

    _signal_type = "ConcentrationEvolution"
    _alias_signal_types = ["concentration_evolution"]

    @property
    def regions(self):
        """Names of the regions, in the order of the region axis of the whole signal."""
        return [str(name) for name in self._parameters("ConcentrationEvolution")["regions"]]

    @property
    def standard_error(self):
        """Standard error of the means ``(region | time)``, from the noise of the frames."""
        variance = self.metadata.get_item(VARIANCE, default=None)
        if variance is None:
            raise ValueError("this ConcentrationEvolution has no variance in its metadata.")
        result = np.sqrt(variance)
        result.metadata.General.title = f"standard error of {self.metadata.General.title}"
        return result
