"""The reflections of a zone, as a table to read and to choose from."""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels.gpa.indexing import zone_reflections


class Reflection(NamedTuple):
    """A form of reflections of one zone."""

    hkl: tuple
    #: Spacing in nanometres at the first and the last composition.
    d_spacings: tuple
    #: Relative change of the spacing per unit of x, at the middle composition.
    sensitivity: float
    allowed: bool
    #: In angstrom at the first and the last composition; None if the atoms are not known.
    structure_factors: tuple | None
    #: Number of spots of the zone that belong to it.
    multiplicity: int


class ReflectionTable(list):
    """A list of `Reflection`, longest spacing first, that prints as a table."""

    def __repr__(self):
        header = ["hkl", "d (nm)", "dlnd/dx (%)", "F (Å)", "spots", ""]
        rows = [
            [
                name_of(r.hkl),
                " to ".join(f"{d:.4f}" for d in r.d_spacings),
                f"{100 * r.sensitivity:+.2f}",
                ""
                if r.structure_factors is None
                else " to ".join(f"{f + 0:.1f}" for f in r.structure_factors),
                f"{r.multiplicity}",
                "" if r.allowed else "forbidden",
            ]
            for r in self
        ]
        return text_table(header, rows)


def reflections(material, zone, d_min):
    """See `Material.reflections`."""
    ends = (material.composition[0], material.composition[-1])
    cells = material.cell(ends) / 10
    hkl = zone_reflections(zone, 1 / d_min, 1 / cells.max(axis=0))
    forms = {}
    for row in hkl.tolist():
        forms.setdefault(tuple(abs(i) for i in row), []).append(tuple(row))
    table = []
    for members in forms.values():
        first = max(members)
        d = tuple(float(v) for v in material.d_spacing(first, ends))
        if max(d) < d_min:
            continue
        allowed = bool(material.is_allowed(first))
        factors = None
        if material.elements is not None and material.space_group is not None:
            # of a forbidden reflection zero itself, not what rounding leaves of it
            factors = tuple(allowed * float(v) for v in material.structure_factor(first, ends))
        table.append(
            Reflection(
                hkl=first,
                d_spacings=d,
                sensitivity=float(material.sensitivity(first)),
                allowed=allowed,
                structure_factors=factors,
                multiplicity=len(members),
            )
        )
    return ReflectionTable(sorted(table, key=lambda r: -max(r.d_spacings)))


def name_of(hkl):
    """(1 0 -1), as crystallography writes it without overbars."""
    return "(" + " ".join(str(int(i)) for i in hkl) + ")"


def text_table(header, rows):
    """Columns of text, aligned."""
    cells = np.array([header, *rows], dtype=object)
    widths = [max(len(c) for c in column) for column in cells.T]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)
