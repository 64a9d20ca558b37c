"""Maps of composition."""

from hyperspy.signals import Signal2D

from hyperspy_lfp import materials
from hyperspy_lfp.signals._base import LatticeSignal
from hyperspy_lfp.signals._coherency import CoherencyMixin
from hyperspy_lfp.signals._evolution import EvolutionMixin
from hyperspy_lfp.signals._quality import QualityMixin
from hyperspy_lfp.signals._reversal import MapReversalMixin

_STEP = "ConcentrationMap"


class ConcentrationMap(
    QualityMixin, EvolutionMixin, MapReversalMixin, CoherencyMixin, LatticeSignal, Signal2D
):
    """Maps of composition x, ``(time | x, y)``, not clipped to the range of the material.

    Made by ``to_concentration``. Pixels without lattice are NaN. The variance from the measured
    noise and from local systematic errors is kept where HyperSpy keeps it
    (`get_noise_variance`; `standard_error` tells them apart), `flags` name the pixels that should
    not be believed, and `summary` puts it on one page. Material, method and reference are in the
    metadata, node ``HyperspyLFP.ConcentrationMap``.
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
        """Variance of x, from the noise measured in the frames and from local systematic errors.

        Returns
        -------
        BaseSignal or None
            ``(time | x, y)``. It does not cover what is common to all pixels or all times, the
            reference and the lattice parameters: see `standard_error`.
        """
        return super().get_noise_variance()

    def plot_montage(self, times=None, **kwargs):
        """Draw the maps of several times in a row; see `hyperspy_lfp.plotting.montage`."""
        from hyperspy_lfp import plotting

        return plotting.montage(self, times=times, **kwargs)

    def save_movie(self, filename, **kwargs):
        """Write the maps as a .gif or .mp4 film; see `hyperspy_lfp.plotting.movie`."""
        from hyperspy_lfp import plotting

        plotting.movie(self, filename, **kwargs)
