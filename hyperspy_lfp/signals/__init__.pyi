from ._lazy import (
    LazyConcentrationEvolution,
    LazyConcentrationMap,
    LazyDiffractionSeries,
    LazyDisplacementField,
    LazyGeometricPhase,
    LazyHRTEMMovie,
    LazyLatticeStrain,
    LazySpotProfile,
    LazySpotTrack,
)
from .concentration_evolution import ConcentrationEvolution
from .concentration_map import ConcentrationMap
from .diffraction_series import DiffractionSeries
from .displacement_field import DisplacementField
from .geometric_phase import GeometricPhase
from .hrtem_movie import HRTEMMovie
from .lattice_strain import LatticeStrain
from .spot_profile import SpotProfile
from .spot_track import SpotTrack

__all__ = [
    "ConcentrationEvolution",
    "ConcentrationMap",
    "DiffractionSeries",
    "DisplacementField",
    "GeometricPhase",
    "HRTEMMovie",
    "LatticeStrain",
    "LazyConcentrationEvolution",
    "LazyConcentrationMap",
    "LazyDiffractionSeries",
    "LazyDisplacementField",
    "LazyGeometricPhase",
    "LazyHRTEMMovie",
    "LazyLatticeStrain",
    "LazySpotProfile",
    "LazySpotTrack",
    "SpotProfile",
    "SpotTrack",
]
