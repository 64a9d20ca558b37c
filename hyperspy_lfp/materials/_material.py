"""A solid solution with an orthogonal cell."""

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from . import _reflections, _settings, _structure
from ._checks import check_hkl, check_table, check_zone, unnested

#: Order of the elastic constants, and the row and column of each in Voigt's matrix.
_ELASTIC = ((0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (0, 1), (0, 2), (1, 2))


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
        "Pnma", or another setting of the same group ("Pmnb", "Pbnm", "Pcmn", "Pmcn", "Pnam"), for
        their reflection conditions; otherwise every reflection is taken as allowed.
    species : str
        What x counts.
    source : str
        Where the numbers are from.
    uncertainty : sequence of 3 floats, optional
        Standard uncertainty of a, b and c in angstrom: not that of one refinement, but the spread
        between sources. It limits an absolute x; see `composition_uncertainty`.
    elastic : sequence of float, optional
        The nine constants C11, C22, C33, C44, C55, C66, C12, C13, C23 in GPa, once, or a row for
        each composition.
    elements : sequence of str, optional
        Chemical symbols of the atoms of the asymmetric unit.
    positions : sequence of (x, y, z), optional
        Their fractional coordinates, (n, 3), or (m, n, 3) for each of the m compositions. The
        origin is on a centre of inversion, as in International Tables. An atom that leaves keeps
        its place with the occupancy zero.
    occupancy : sequence of float, optional
        Their occupancies, (n,) or (m, n). Default: full.

    Raises
    ------
    ValueError
        If the sequences do not match, lengths are not positive, elastic constants are not those
        of a stable crystal, or the lengths are those of an olivine in another setting than
        `space_group` says.

    Examples
    --------
    Vegard's law between two compositions:

    >>> from hyperspy_lfp import materials
    >>> nmc = materials.Material(
    ...     "my cathode", composition=(0, 1), a=(9.8, 10.3), b=(5.8, 6.0), c=(4.78, 4.69)
    ... )
    >>> nmc.cell(0.5)
    array([10.05 ,  5.9  ,  4.735])

    A table, here with a kink:

    >>> bent = materials.Material(
    ...     "bent", (0, 0.6, 1), a=(9.81, 10.15, 10.32), b=(5.79, 5.93, 6.01), c=(4.78, 4.72, 4.69)
    ... )
    >>> bent.cell(0.6)
    array([10.15,  5.93,  4.72])
    """

    name: str
    composition: tuple
    a: tuple
    b: tuple
    c: tuple
    zone: tuple = (0, 1, 0)
    space_group: str | None = None
    species: str = "Li"
    source: str = field(default="", repr=False)
    uncertainty: tuple | None = field(default=None, repr=False)
    elastic: tuple | None = field(default=None, repr=False)
    elements: tuple | None = field(default=None, repr=False)
    positions: tuple | None = field(default=None, repr=False)
    occupancy: tuple | None = field(default=None, repr=False)

    def __post_init__(self):
        self._check_cell()
        self._check_space_group()
        if self.uncertainty is not None:
            numbers = check_table(
                self.uncertainty, "uncertainty", [(3,)], "three lengths in angstrom, for a, b and c"
            )
            if min(numbers) < 0:
                raise ValueError(f"uncertainty={numbers} must not be negative.")
            self._set("uncertainty", numbers)
        if self.elastic is not None:
            self._check_elastic()
        if self.elements is not None or self.positions is not None or self.occupancy is not None:
            self._check_atoms()

    def cell(self, x):
        """Lattice parameters (a, b, c) in angstrom at composition x, along the last axis.

        Linear between the given compositions and beyond their ends.
        """
        return self._interpolate(np.array([self.a, self.b, self.c]).T, x)

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

    def angle(self, first, second, x=0.0):
        """Angle between the normals of two sets of planes at composition x, in degrees.

        Examples
        --------
        >>> from hyperspy_lfp import materials
        >>> lfp = materials.get("LiFePO4")
        >>> lfp.angle((1, 0, 1), (1, 0, -1), x=[0, 1]).round(1)
        array([128. , 131.1])
        """
        recip = 1 / self.cell(x)
        first, second = (np.array(check_hkl(hkl)) * recip for hkl in (first, second))
        cosine = (first * second).sum(axis=-1)
        cosine = cosine / (np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1))
        return np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))

    def sensitivity(self, hkl, x=None):
        r"""Relative change of the spacing of planes per unit of composition.

        :math:`\mathrm d\ln d/\mathrm dx`; the larger it is, the less noise of a strain across
        these planes becomes noise of x.

        Parameters
        ----------
        hkl : tuple of int
        x : float or array, optional
            Default: the middle of the compositions. On a corner of a table, of the piece above.

        Examples
        --------
        >>> from hyperspy_lfp import materials
        >>> lfp = materials.get("LiFePO4")
        >>> [round(100 * float(lfp.sensitivity(g)), 2) for g in ((2, 0, 0), (1, 0, 1), (0, 0, 2))]
        [5.07, -0.67, -1.94]
        """
        x = self._middle if x is None else x
        share, cell = self._shares(hkl, x)
        return (share * self._slope(x) / cell).sum(axis=-1)

    def composition_uncertainty(self, hkl, x=None):
        """Standard uncertainty of an absolute x due to that of the lattice parameters.

        What the spacing of one set of planes says of x cannot be surer than the tables. A
        reference region of known composition does away with most of it.

        Parameters
        ----------
        hkl : tuple of int
        x : float or array, optional
            Default: the middle of the compositions.

        Raises
        ------
        ValueError
            If the uncertainty of the lattice parameters is not given.

        Examples
        --------
        >>> from hyperspy_lfp import materials
        >>> lfp = materials.get("LiFePO4")
        >>> round(float(lfp.composition_uncertainty((2, 0, 0))), 3)
        0.012
        """
        if self.uncertainty is None:
            raise ValueError(
                f"the uncertainty of the lattice parameters of {self.name} is not given; say "
                "uncertainty=(0.006, 0.002, 0.003), in angstrom for a, b and c."
            )
        x = self._middle if x is None else x
        share, cell = self._shares(hkl, x)
        relative = np.sqrt(((share * self.uncertainty / cell) ** 2).sum(axis=-1))
        with np.errstate(divide="ignore"):  # planes that do not change say nothing of x
            return relative / np.abs(self.sensitivity(hkl, x))

    def is_allowed(self, hkl):
        """Whether the space group allows reflections; array of shape (..., 3) to booleans.

        A forbidden reflection is seen by multiple scattering only, and its phase then says
        nothing certain about the lattice.
        """
        hkl = np.asarray(hkl)
        if self.space_group is None:
            return np.ones(hkl.shape[:-1], dtype=bool)
        return _settings.allowed(hkl, self.space_group)

    def why_forbidden(self, hkl):
        """The condition that a forbidden reflection violates; None for an allowed one.

        Examples
        --------
        >>> from hyperspy_lfp import materials
        >>> materials.get("LiFePO4").why_forbidden((0, 0, 1))
        '0kl: k + l = 2n'
        """
        hkl = check_hkl(hkl)
        return None if self.space_group is None else _settings.condition(hkl, self.space_group)

    def reflections(self, zone=None, d_min=0.15):
        """Reflections of a zone, longest spacing first.

        Parameters
        ----------
        zone : tuple of int, optional
            Beam direction (u, v, w); default: that of the material.
        d_min : float
            Smallest spacing in nanometres, at any composition.

        Returns
        -------
        ReflectionTable
            A list of `Reflection` that prints as a table: one of each form, with its spacings and
            structure factors at the end compositions, its sensitivity to x and whether it is
            allowed.

        Examples
        --------
        >>> from hyperspy_lfp import materials
        >>> materials.get("LiFePO4").reflections(d_min=0.3)
        hkl      d (nm)            dlnd/dx (%)  F (Å)           spots
        (1 0 0)  0.9814 to 1.0324  +5.07        0.0 to 0.0      2      forbidden
        (2 0 0)  0.4907 to 0.5162  +5.07        -15.8 to -4.6   2
        (0 0 1)  0.4782 to 0.4690  -1.94        0.0 to 0.0      2      forbidden
        (1 0 1)  0.4299 to 0.4270  -0.67        -18.7 to -13.2  4
        (2 0 1)  0.3425 to 0.3471  +1.35        -11.2 to -9.6   4
        (3 0 0)  0.3271 to 0.3441  +5.07        0.0 to 0.0      2      forbidden
        """
        zone = self.zone if zone is None else check_zone(zone)
        if not np.ndim(d_min) == 0 or not np.isfinite(d_min) or d_min <= 0:
            raise ValueError(f"d_min={d_min!r} must be a positive length in nanometres.")
        return _reflections.reflections(self, zone, float(d_min))

    def structure_factor(self, hkl, x=0.0):
        """Kinematic structure factor for electrons in angstrom, real, at composition x.

        Cell, positions and occupancies are interpolated linearly between the compositions: a
        random solid solution on average. With a Debye-Waller factor of 0.5 angstrom^2, without
        the relativistic factor. See :doc:`/materials` for the formula and the sources.

        Parameters
        ----------
        hkl : tuple of int
        x : float or array

        Returns
        -------
        array of the shape of x

        Raises
        ------
        ValueError
            If the atoms or the space group are not given, or the scattering factor of an element
            is not known.

        Examples
        --------
        (200), the strongest for the a axis, fades with lithiation:

        >>> from hyperspy_lfp import materials
        >>> materials.get("LiFePO4").structure_factor((2, 0, 0), x=[0, 0.5, 1]).round(1)
        array([-15.8, -10.3,  -4.6])
        """
        if self.elements is None or self.space_group is None:
            missing = "elements and positions" if self.elements is None else "space_group"
            raise ValueError(
                f"structure factors need the atoms and their symmetry: give {missing} of "
                f"{self.name}."
            )
        return _structure.structure_factor(
            check_hkl(hkl),
            0.05 / self.d_spacing(hkl, x),
            self.elements,
            self._interpolate(np.array(self.positions), x),
            self._interpolate(np.array(self.occupancy), x),
            self.space_group,
        )

    def stiffness(self, x=0.0):
        """Elastic stiffness in GPa at composition x, (..., 6, 6), Voigt's order xx to xy.

        Linear between the compositions, and constant beyond their ends.

        Raises
        ------
        ValueError
            If the elastic constants are not given.
        """
        if self.elastic is None:
            raise ValueError(
                f"the elastic constants of {self.name} are not given; say elastic=(C11, C22, C33, "
                "C44, C55, C66, C12, C13, C23) in GPa, once or for each composition."
            )
        x = np.clip(np.asarray(x, dtype=float), self.composition[0], self.composition[-1])
        return _voigt(self._interpolate(np.array(self.elastic), x))

    def in_setting(self, setting):
        """The same crystal with its axes in another setting.

        Lattice parameters, zone, elastic constants, uncertainties and positions go with the axes.

        Parameters
        ----------
        setting : str
            "Pnma", "Pmnb", "Pbnm", "Pcmn", "Pmcn" or "Pnam".

        Returns
        -------
        Material

        Raises
        ------
        ValueError
            If the setting is not known, or that of the material is not given.

        Examples
        --------
        >>> from hyperspy_lfp import materials
        >>> lfp = materials.get("LiFePO4").in_setting("Pbnm")
        >>> lfp.cell(1), lfp.zone
        (array([ 4.6901, 10.3244,  6.0064]), (0, 0, 1))
        """
        _settings.check_setting(setting)
        if self.space_group is None:
            raise ValueError(
                f"the space_group of {self.name} is not given, so that its setting is not known; "
                f"by its lengths an olivine would be in {_settings.setting_of(self.cell(0))}."
            )
        order = _settings.permutation(self.space_group, setting)
        changed = {"space_group": setting, "zone": tuple(self.zone[i] for i in order)}
        for new, old in zip("abc", order, strict=True):
            changed[new] = (self.a, self.b, self.c)[old]
        if self.uncertainty is not None:
            changed["uncertainty"] = tuple(self.uncertainty[i] for i in order)
        if self.elastic is not None:
            # shear and mixed constants go with the axis that they leave out
            missing = [8, 7, 6]
            places = [*order, *(3 + i for i in order), *(missing[i] for i in reversed(order))]
            changed["elastic"] = np.array(self.elastic)[:, places]
        if self.positions is not None:
            changed["positions"] = np.array(self.positions)[..., list(order)]
        return dataclasses.replace(self, **changed)

    def to_dictionary(self):
        """All fields, in types that any file keeps."""
        return {f.name: unnested(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @classmethod
    def from_dictionary(cls, dictionary):
        """The inverse of `to_dictionary`; what it does not know is left out."""
        return cls(**{k: v for k, v in dictionary.items() if k in cls.__dataclass_fields__})

    @property
    def _middle(self):
        return (self.composition[0] + self.composition[-1]) / 2

    def _piece(self, x):
        knots = np.array(self.composition)
        return np.clip(np.searchsorted(knots, x, side="right") - 1, 0, len(knots) - 2)

    def _interpolate(self, table, x):
        """A table (m, ...) at x: shape of x, then (...)."""
        x = np.asarray(x, dtype=float)
        if len(table) == 1:  # one for all compositions
            return np.broadcast_to(table[0], x.shape + table.shape[1:])
        knots, piece = np.array(self.composition), self._piece(x)
        fraction = (x - knots[piece]) / (knots[piece + 1] - knots[piece])
        fraction = fraction.reshape(x.shape + (1,) * (table.ndim - 1))
        return table[piece] + fraction * (table[piece + 1] - table[piece])

    def _slope(self, x):
        """Derivative of (a, b, c) with respect to x."""
        table, piece = np.array([self.a, self.b, self.c]).T, self._piece(x)
        width = np.diff(self.composition)[piece]
        return (table[piece + 1] - table[piece]) / width[..., None]

    def _shares(self, hkl, x):
        """How much the relative change of each axis counts for that of a spacing, and the cell."""
        cell = self.cell(x)
        parts = (np.array(check_hkl(hkl)) / cell) ** 2
        return parts / parts.sum(axis=-1, keepdims=True), cell

    def _set(self, name, value):
        object.__setattr__(self, name, value)

    def _check_cell(self):
        for name in ("composition", "a", "b", "c"):
            try:
                values = tuple(float(v) for v in getattr(self, name))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} must be a sequence of numbers, one for "
                    "each composition, for example (9.81, 10.32)."
                ) from error
            self._set(name, values)
        self._set("zone", check_zone(self.zone))
        if len(self.composition) < 2 or not np.all(np.diff(self.composition) > 0):
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

    def _check_space_group(self):
        """The setting must be known and, for an olivine, the one that the lengths tell.

        Numbers in one setting under the name of another look down the wrong axis and take
        forbidden reflections for allowed ones, without any further sign of it. Other structures
        of the space group, perovskites for one, order their axes as they like.
        """
        group = self.space_group
        if group is None:
            return
        if group not in _settings.AXES:
            raise ValueError(
                f"space_group={group!r} is not known; use one of "
                f"{sorted(_settings.AXES)}, or None to take every reflection as allowed."
            )
        cells = np.array([self.a, self.b, self.c]).T
        if not all(_settings.looks_like_olivine(cell) for cell in cells):
            return
        found = _settings.setting_of(cells[0])
        if found != group:
            lengths = ", ".join(f"{v:g}" for v in cells[0])
            raise ValueError(
                f"space_group={group!r} does not fit a, b, c = {lengths} angstrom, which are "
                f"those of an olivine in the setting {found}: give space_group={found!r} (then "
                f"`in_setting({group!r})` turns it), or put the lengths into the order of "
                f"{group}. Check the zone as well: along the middle axis it is "
                f"{_settings.convert_hkl((0, 1, 0), 'Pnma', found)} in {found}."
            )

    def _check_elastic(self):
        rows = check_table(
            self.elastic,
            "elastic",
            [(9,), (1, 9), (len(self.composition), 9)],
            "C11, C22, C33, C44, C55, C66, C12, C13, C23 in GPa, once or for each composition",
        )
        if np.linalg.eigvalsh(_voigt(np.array(rows))).min() <= 0:
            raise ValueError(
                f"elastic={rows} is not positive definite, as the stiffness of a stable crystal "
                "is: check the order C11, C22, C33, C44, C55, C66, C12, C13, C23."
            )
        self._set("elastic", rows)

    def _check_atoms(self):
        if self.elements is None or self.positions is None:
            raise ValueError("elements and positions of the atoms must be given together.")
        elements = tuple(self.elements)
        if not elements or not all(isinstance(e, str) for e in elements):
            raise ValueError(
                f"elements={self.elements!r} must be chemical symbols, for example ('Li', 'Fe')."
            )
        m, n = len(self.composition), len(elements)
        positions = check_table(
            self.positions,
            "positions",
            [(n, 3), (1, n, 3), (m, n, 3)],
            "fractional x, y, z of each element, once or for each composition",
        )
        given = np.ones(n) if self.occupancy is None else self.occupancy
        occupancy = check_table(
            given,
            "occupancy",
            [(n,), (1, n), (m, n)],
            "the occupancy of each element, once or for each composition",
        )
        if np.min(occupancy) < 0 or np.max(occupancy) > 1:
            raise ValueError(f"occupancy={occupancy} must be between 0 and 1.")
        if self.space_group is not None:
            counts = [_structure.multiplicities(p, self.space_group) for p in positions]
            if np.any(np.diff(counts, axis=0)):
                raise ValueError(
                    f"positions have the multiplicities {[c.tolist() for c in counts]} at the "
                    "compositions; an atom must stay on its kind of site."
                )
        self._set("elements", elements)
        self._set("positions", positions)
        self._set("occupancy", occupancy)


def _voigt(constants):
    """Nine constants (..., 9) as symmetric matrices (..., 6, 6)."""
    matrix = np.zeros((*constants.shape[:-1], 6, 6))
    for place, (row, column) in enumerate(_ELASTIC):
        matrix[..., row, column] = matrix[..., column, row] = constants[..., place]
    return matrix
