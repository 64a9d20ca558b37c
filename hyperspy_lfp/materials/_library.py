"""The materials that are known by name, with their sources."""

from ._material import Material

#: FePO4, then LiFePO4; Li, Fe, P, O1, O2, O3. LiFePO4 as deposited (COD 4001848).
_OLIVINE_ATOMS = ("Li", "Fe", "P", "O", "O", "O")
_FEPO4 = (
    (0.0, 0.0, 0.0),
    (0.2753, 0.25, 0.9481),
    (0.0940, 0.25, 0.3951),
    (0.1215, 0.25, 0.7085),
    (0.4393, 0.25, 0.1599),
    (0.1663, 0.0452, 0.2503),
)
_LIFEPO4 = (
    (0.0, 0.0, 0.0),
    (0.28220, 0.25, 0.97474),
    (0.09486, 0.25, 0.41822),
    (0.09695, 0.25, 0.74277),
    (0.45715, 0.25, 0.20605),
    (0.16556, 0.04652, 0.28486),
)

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
            "LiFePO4, cell and atoms: Janssen et al., Chem. Mater. 25 (2013) 4574, "
            "doi:10.1021/cm4027682, COD 4001848, single crystal, 293 K. "
            "FePO4, cell and atoms: Andersson et al. 2000 [not yet checked against the paper]. "
            "Vegard's law between. "
            "Uncertainty: difference from the cells of Padhi et al. 1997 [not yet checked against "
            "the paper] over the square root of two, root mean square of both ends. "
            "Elastic constants, calculated: Maxisch and Ceder 2006 [not yet checked against the "
            "paper; which of C12 and C13 is which is not certain]."
        ),
        # FePO4 9.821, 5.792, 4.788 and LiFePO4 10.334, 6.008, 4.693 are the others
        uncertainty=(0.006, 0.002, 0.003),
        elastic=(
            (175.9, 153.6, 135.0, 38.8, 47.5, 55.6, 29.6, 54.0, 19.6),
            (138.9, 198.0, 173.0, 36.8, 50.6, 47.6, 72.8, 52.5, 45.8),
        ),
        elements=_OLIVINE_ATOMS,
        positions=(_FEPO4, _LIFEPO4),
        occupancy=((0.0, 1.0, 1.0, 1.0, 1.0, 1.0), (1.0,) * 6),
    )
}


def names():
    """Names of the materials that `get` knows.

    Examples
    --------
    >>> from hyperspy_lfp import materials
    >>> materials.names()
    ['LiFePO4']
    """
    return sorted(_LIBRARY)


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
        f"material={material!r} is not known; use one of {names()}, or describe it: "
        "materials.Material('name', composition=(0, 1), a=(9.81, 10.32), b=(...), c=(...)), "
        "lengths in angstrom."
    )
