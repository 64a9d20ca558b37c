"""The lazy twins of all signal classes."""

from hyperspy.signals import LazyComplexSignal2D, LazySignal1D, LazySignal2D

from hyperspy_lfp.signals._base import LazyMixin
from hyperspy_lfp.signals.concentration_evolution import ConcentrationEvolution
from hyperspy_lfp.signals.concentration_map import ConcentrationMap
from hyperspy_lfp.signals.diffraction_series import DiffractionSeries
from hyperspy_lfp.signals.displacement_field import DisplacementField
from hyperspy_lfp.signals.geometric_phase import GeometricPhase
from hyperspy_lfp.signals.hrtem_movie import HRTEMMovie
from hyperspy_lfp.signals.lattice_strain import LatticeStrain
from hyperspy_lfp.signals.spot_profile import SpotProfile
from hyperspy_lfp.signals.spot_track import SpotTrack


class LazyHRTEMMovie(LazyMixin, HRTEMMovie, LazySignal2D):
    """The lazy `HRTEMMovie`."""

    _lazy = True


class LazyGeometricPhase(LazyMixin, GeometricPhase, LazyComplexSignal2D):
    """The lazy `GeometricPhase`."""

    _lazy = True


class LazyDisplacementField(LazyMixin, DisplacementField, LazySignal2D):
    """The lazy `DisplacementField`."""

    _lazy = True


class LazyLatticeStrain(LazyMixin, LatticeStrain, LazySignal2D):
    """The lazy `LatticeStrain`."""

    _lazy = True


class LazyConcentrationMap(LazyMixin, ConcentrationMap, LazySignal2D):
    """The lazy `ConcentrationMap`."""

    _lazy = True


class LazyConcentrationEvolution(LazyMixin, ConcentrationEvolution, LazySignal1D):
    """The lazy `ConcentrationEvolution`."""

    _lazy = True


class LazyDiffractionSeries(LazyMixin, DiffractionSeries, LazySignal2D):
    """The lazy `DiffractionSeries`."""

    _lazy = True


class LazySpotProfile(LazyMixin, SpotProfile, LazySignal1D):
    """The lazy `SpotProfile`."""

    _lazy = True


class LazySpotTrack(LazyMixin, SpotTrack, LazySignal1D):
    """The lazy `SpotTrack`."""

    _lazy = True
