from ._lazy import (
    LazyConcentrationEvolution,
    LazyConcentrationMap,
    LazyDisplacementField,
    LazyGeometricPhase,
    LazyHRTEMMovie,
    LazyLatticeStrain,
)
from .concentration_evolution import ConcentrationEvolution
from .concentration_map import ConcentrationMap
from .displacement_field import DisplacementField
from .geometric_phase import GeometricPhase
from .hrtem_movie import HRTEMMovie
from .lattice_strain import LatticeStrain

__all__ = [
    "ConcentrationEvolution",
    "ConcentrationMap",
    "DisplacementField",
    "GeometricPhase",
    "HRTEMMovie",
    "LatticeStrain",
    "LazyConcentrationEvolution",
    "LazyConcentrationMap",
    "LazyDisplacementField",
    "LazyGeometricPhase",
    "LazyHRTEMMovie",
    "LazyLatticeStrain",
]
