"""Lattice parameters, reflections and structure factors of solid solutions against composition.

A `Material` is an orthogonal cell (orthorhombic, tetragonal or cubic) whose lattice parameters
are given at two or more compositions and interpolated linearly between them, and beyond the ends:
two compositions are Vegard's law, more are a table. Lengths are in angstrom here, as
crystallography gives them; spacings come in nanometres, as images do.

``get("LiFePO4")`` looks a material up, `names` lists those that are known, and any other is
described by a `Material` of its own. See :doc:`/materials` for the numbers and their sources.
"""

from ._checks import check_hkl, check_zone
from ._library import get, names
from ._material import Material
from ._reflections import Reflection, ReflectionTable
from ._settings import convert_hkl, setting_of

__all__ = [
    "Material",
    "Reflection",
    "ReflectionTable",
    "check_hkl",
    "check_zone",
    "convert_hkl",
    "get",
    "names",
    "setting_of",
]
