"""Composition of regions against time."""

from hyperspy.signals import Signal1D

from hyperspy_lfp.signals._base import (
    REFERENCE,
    SYSTEMATIC,
    VARIANCE,
    LatticeSignal,
    layer_of,
)
from hyperspy_lfp.signals._reversal import EvolutionReversalMixin


class ConcentrationEvolution(EvolutionReversalMixin, LatticeSignal, Signal1D):
    """Mean composition of regions against time, ``(region | time)``.

    Made by `ConcentrationMap.evolution`. Names and shapes of the regions are in the metadata,
    node ``HyperspyLFP.ConcentrationEvolution``. `standard_error` is that of differences between
    times, `absolute_error` that of the value.
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
        """Standard error of the means ``(region | time)``, from the noise of the frames.

        The pixels of a region share windows, and their noise is correlated: it is not counted as
        if each pixel were a measurement.
        """
        return self._error((VARIANCE,), "standard error")

    @property
    def absolute_error(self):
        """Error of the means with what does not average out, ``(region | time)``.

        Beside the noise these are local systematic errors of the maps, and what the reference and
        the tabulated lattice parameters contribute, which is common to many pixels and times.
        """
        return self._error((VARIANCE, SYSTEMATIC, REFERENCE), "absolute error")

    def _error(self, items, title):
        layers = [layer_of(self, item) for item in items]
        if layers[0] is None:
            raise ValueError("this ConcentrationEvolution has no variance in its metadata.")
        variance = sum(layer.data for layer in layers if layer is not None)
        # not np.sqrt of the signal, which HyperSpy computes at once
        result = layers[0]._deepcopy_with_new_data(variance**0.5)
        result.metadata.General.title = f"{title} of {self.metadata.General.title}"
        return result
