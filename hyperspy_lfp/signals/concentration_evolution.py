"""Composition of regions against time."""

from hyperspy.signals import Signal1D

from hyperspy_lfp.signals._base import VARIANCE, LatticeSignal, noise_of


class ConcentrationEvolution(LatticeSignal, Signal1D):
    """Mean composition of regions against time, ``(region | time)``.

    Made by `ConcentrationMap.evolution`. Names and shapes of the regions are in the metadata,
    node ``HyperspyLFP.ConcentrationEvolution``.
    """

    _signal_type = "ConcentrationEvolution"
    _alias_signal_types = ["concentration_evolution"]
    _own_axes = ("region",)

    def _assign_subclass(self, chunks=False):
        """Stay what it is for a single frame too, whose one value HyperSpy counts as no axis."""
        ours = self.metadata.Signal.signal_type == ConcentrationEvolution._signal_type
        super()._assign_subclass(chunks)
        axes = self.axes_manager.signal_axes
        if ours and len(axes) == 1 and axes[0].size == 1:
            from hyperspy_lfp.signals import LazyConcentrationEvolution

            self.__class__ = LazyConcentrationEvolution if self._lazy else ConcentrationEvolution

    @property
    def regions(self):
        """Names of the regions, in the order of the region axis of the whole signal."""
        return [str(name) for name in self._parameters("ConcentrationEvolution")["regions"]]

    @property
    def standard_error(self):
        """Standard error of the means ``(region | time)``, from the noise of the frames."""
        variance = noise_of(self, VARIANCE)
        if variance is None:
            raise ValueError("this ConcentrationEvolution has no variance in its metadata.")
        # not np.sqrt(variance), which HyperSpy computes at once
        result = variance._deepcopy_with_new_data(variance.data**0.5)
        result.metadata.General.title = f"standard error of {self.metadata.General.title}"
        return result
