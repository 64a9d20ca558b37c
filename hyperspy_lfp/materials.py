"""Lattice parameters of solid solutions against composition.

A `Material` is an orthogonal cell (orthorhombic, tetragonal or cubic) whose lattice parameters
are given at two or more compositions and interpolated linearly between them, and beyond the ends:
two compositions are Vegard's law. Lengths are in angstrom here, as crystallography gives them;
spacings come in nanometres, as images do.
"""

from dataclasses import asdict, dataclass

import numpy as np

#: Reflection conditions of the space groups we know, as functions of (h, k, l) columns. Pmnb and
#: Pbnm are other settings of Pnma: (b, a, c) and (c, a, b) of its axes.
_PNMA_AXES = {"Pnma": (0, 1, 2), "Pmnb": (1, 0, 2), "Pbnm": (2, 0, 1)}


@dataclass(frozen=True)
class Material:
    """A solid solution with an orthogonal cell.

    Parameters
    ----------
    name : str
    composition : sequence of float
        Two or more increasing compositions x.
    a, b, c : sequence of float
        Lattice parameters at these compositions, angstrom.
    zone : tuple of int
        The usual beam direction (u, v, w), used where none is given.
    space_group : str, optional
        "Pnma", "Pmnb" or "Pbnm" for their reflection conditions; otherwise every reflection is
        taken as allowed.
    species : str
        What x counts.
    source : str
        Where the numbers are from.

    Raises
    ------
    ValueError
        If the sequences do not match, or hold anything but positive lengths.

    Examples
    --------
    >>> from hyperspy_lfp import materials
    >>> nmc = materials.Material(
    ...     "my cathode", composition=(0, 1), a=(9.8, 10.3), b=(5.8, 6.0), c=(4.78, 4.69)
    ... )
    >>> nmc.cell(0.5)
    array([10.05 ,  5.9  ,  4.735])
    """

    name: str
    composition: tuple
    a: tuple
    b: tuple
    c: tuple
    zone: tuple = (0, 1, 0)
    space_group: str | None = None
    species: str = "Li"
    source: str = ""

    def __post_init__(self):
        for field in ("composition", "a", "b", "c"):
            try:
                values = tuple(float(v) for v in getattr(self, field))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{field}={getattr(self, field)!r} must be a sequence of numbers, one for "
                    "each composition, for example (9.81, 10.32)."
                ) from error
            object.__setattr__(self, field, values)
        object.__setattr__(self, "zone", check_zone(self.zone))
        if len(self.composition) < 2 or np.any(np.diff(self.composition) <= 0):
            raise ValueError(
                f"composition={self.composition} must hold two or more increasing numbers, for "
                "example (0, 1)."
            )
        for axis in "abc":
            values = getattr(self, axis)
            if len(values) != len(self.composition):
                raise ValueError(
                    f"{axis} has {len(values)} values for {len(self.composition)} compositions; "
                    "give one lattice parameter for each."
                )
            if not all(np.isfinite(v) and v > 0 for v in values):
                raise ValueError(f"{axis}={values} must be positive lengths in angstrom.")
        if self.space_group is not None and self.space_group not in _PNMA_AXES:
            raise ValueError(
                f"space_group={self.space_group!r} is not known; use one of "
                f"{sorted(_PNMA_AXES)}, or None to take every reflection as allowed."
            )

    def cell(self, x):
        """Lattice parameters (a, b, c) in angstrom at composition x, along the last axis.

        Linear between the given compositions and beyond their ends.
        """
        x = np.asarray(x, dtype=float)
        knots = np.array(self.composition)
        piece = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, len(knots) - 2)
        fraction = (x - knots[piece]) / (knots[piece + 1] - knots[piece])
        table = np.array([self.a, self.b, self.c]).T
        return table[piece] + fraction[..., None] * (table[piece + 1] - table[piece])

    def d_spacing(self, hkl, x=0.0):
        """Spacing of the planes (h, k, l) in nanometres at composition x.

        Examples
        --------
        >>> from hyperspy_lfp import materials
        >>> round(float(materials.get("LiFePO4").d_spacing((2, 0, 0), x=0)), 5)
        0.49071
        """
        hkl = check_hkl(hkl)
        return 0.1 / np.linalg.norm(np.asarray(hkl) / self.cell(x), axis=-1)

    def is_allowed(self, hkl):
        """Whether the space group allows reflections; array of shape (..., 3) to booleans.

        A forbidden reflection is seen by multiple scattering only, and its phase then says
        nothing certain about the lattice.
        """
        hkl = np.asarray(hkl)
        if self.space_group is None:
            return np.ones(hkl.shape[:-1], dtype=bool)
        order = _PNMA_AXES[self.space_group]
        h, k, l = (hkl[..., order.index(i)] for i in range(3))  # noqa: E741
        allowed = (h != 0) | ((k + l) % 2 == 0)
        return allowed & ((l != 0) | (h % 2 == 0))

    def to_dictionary(self):
        """All fields, in types that any file keeps."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dictionary(cls, dictionary):
        """The inverse of `to_dictionary`."""
        return cls(**{k: v for k, v in dictionary.items() if k in cls.__dataclass_fields__})


def get(material):
    """Look a material up by name.

    Parameters
    ----------
    material : str or Material
        A `Material` is returned as it is.

    Raises
    ------
    ValueError
        If the name is not known.

    Examples
    --------
    >>> from hyperspy_lfp import materials
    >>> materials.get("LiFePO4").cell([0, 1])
    array([[ 9.8142,  5.7893,  4.782 ],
           [10.3244,  6.0064,  4.6901]])
    """
    if isinstance(material, Material):
        return material
    if isinstance(material, str) and material in _LIBRARY:
        return _LIBRARY[material]
    raise ValueError(
        f"material={material!r} is not known; use one of {sorted(_LIBRARY)}, or describe it: "
        "materials.Material('name', composition=(0, 1), a=(9.81, 10.32), b=(...), c=(...)), "
        "lengths in angstrom."
    )


def check_hkl(hkl, name="hkl"):
    """One reflection as three integers, or an error."""
    try:
        indices = tuple(int(i) for i in hkl)
        whole = len(indices) == 3 and all(float(i) == j for i, j in zip(hkl, indices, strict=True))
    except (TypeError, ValueError):
        whole = False
    if not whole or not any(indices):
        raise ValueError(
            f"{name}={hkl!r} must be three integers (h, k, l), not all zero, for example (2, 0, 0)."
        )
    return indices


def check_zone(zone):
    """A zone axis as three integers, or an error."""
    return check_hkl(zone, name="zone")


_LIBRARY = {
    "LiFePO4": Material(
        name="LiFePO4",
        composition=(0.0, 1.0),
        a=(9.8142, 10.3244),
        b=(5.7893, 6.0064),
        c=(4.7820, 4.6901),
        zone=(0, 1, 0),
        space_group="Pnma",
        species="Li",
        source=(
            "LiFePO4: Janssen et al. 2013, COD 4001848, single crystal, 293 K; "
            "FePO4: Andersson et al. 2000 (not yet checked against the paper); Vegard's law between"
        ),
    )
}
