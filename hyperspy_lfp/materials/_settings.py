"""The six settings of space group 62: one structure, its axes under other letters.

Olivines are tabulated in Pnma (a about 10.3, b 6.0, c 4.7 angstrom), in Pmnb, whose axes are
(b, a, c) of Pnma, and in Pbnm, (c, a, b) of Pnma; the others are rare. The letters alone mislead:
an axis is known by its length. In every setting here the axes are permuted and none is reversed,
so that some are left-handed; no spacing, structure factor or map of this centrosymmetric
orthorhombic structure depends on that.
"""

import numpy as np

from ._checks import check_hkl

#: Which axis of Pnma each axis of a setting is (International Tables A, table of settings).
AXES = {
    "Pnma": (0, 1, 2),
    "Pmnb": (1, 0, 2),
    "Pbnm": (2, 0, 1),
    "Pcmn": (2, 1, 0),
    "Pmcn": (1, 2, 0),
    "Pnam": (0, 2, 1),
}
#: Longest and middle axis in units of the shortest, as they are in olivines: FePO4 2.05 and 1.21,
#: LiFePO4 2.20 and 1.28, Mg2SiO4 2.15 and 1.26. Perovskites in Pnma have 1.4 and 1.0.
_OLIVINE = ((1.97, 2.30), (1.16, 1.33))
#: Axes that differ by less than this share are not told apart.
_SAME = 0.01


def setting_of(cell):
    """Setting of the cell of an olivine, told by the order of its lengths.

    Parameters
    ----------
    cell : sequence of float
        a, b and c, in any unit.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If they are not three positive lengths, or two are the same within one percent.

    Examples
    --------
    >>> from hyperspy_lfp import materials
    >>> materials.setting_of((10.33, 6.01, 4.69)), materials.setting_of((4.69, 10.33, 6.01))
    ('Pnma', 'Pbnm')
    """
    lengths = np.array(cell, dtype=float)
    if lengths.shape != (3,) or not np.all(np.isfinite(lengths) & (lengths > 0)):
        raise ValueError(f"cell={cell!r} must be three positive lengths (a, b, c).")
    ranked = np.sort(lengths)
    if np.any(ranked[1:] < (1 + _SAME) * ranked[:-1]):
        raise ValueError(
            f"cell={cell!r} has two axes of the same length, so that their order tells no setting."
        )
    order = tuple(int(i) for i in np.argsort(np.argsort(-lengths)))
    return next(name for name, axes in AXES.items() if axes == order)


def looks_like_olivine(cell):
    """Whether the sorted lengths have the ratios of an olivine."""
    short, middle, long = sorted(cell)
    return all(
        low <= value / short <= high
        for value, (low, high) in zip((long, middle), _OLIVINE, strict=True)
    )


def check_setting(setting, name="setting"):
    """The name of a setting, or an error."""
    if setting not in AXES:
        raise ValueError(f"{name}={setting!r} is not known; use one of {sorted(AXES)}.")
    return setting


def permutation(source, target):
    """Which axis in the setting `source` each axis in the setting `target` is."""
    return tuple(AXES[source].index(i) for i in AXES[target])


def convert_hkl(hkl, source, target):
    """Miller indices, or a zone axis, in another setting.

    Parameters
    ----------
    hkl : tuple of int
        In the setting `source`.
    source, target : str
        "Pnma", "Pmnb", "Pbnm", "Pcmn", "Pmcn" or "Pnam".

    Returns
    -------
    tuple of int

    Raises
    ------
    ValueError
        If a setting is not known, or `hkl` is not three integers.

    Examples
    --------
    >>> from hyperspy_lfp import materials
    >>> materials.convert_hkl((2, 0, 0), "Pnma", "Pbnm")
    (0, 2, 0)
    >>> materials.convert_hkl((0, 1, 0), "Pnma", "Pbnm")  # the usual zone
    (0, 0, 1)
    """
    check_setting(source, "source")
    check_setting(target, "target")
    hkl = check_hkl(hkl)
    return tuple(hkl[i] for i in permutation(source, target))


def allowed(hkl, setting):
    """Reflection conditions; array of shape (..., 3) to booleans.

    Of Pnma: 0kl with k + l even (n glide) and hk0 with h even (a glide). h00, 0k0 and 00l with
    even indices, the conditions of its screw axes, follow.
    """
    h, k, l = _in_pnma(hkl, setting)  # noqa: E741
    return ((h != 0) | ((k + l) % 2 == 0)) & ((l != 0) | (h % 2 == 0))


def condition(hkl, setting):
    """The condition that a forbidden reflection violates, in the letters of its setting."""
    h, k, l = _in_pnma(np.array(hkl), setting)  # noqa: E741
    letters = "hkl"
    name = dict(zip(AXES[setting], letters, strict=True))  # of each axis of Pnma
    if h == 0 and (k + l) % 2:
        rest = " + ".join(sorted((name[1], name[2])))
        return f"{letters.replace(name[0], '0')}: {rest} = 2n"
    if l == 0 and h % 2:
        return f"{letters.replace(name[2], '0')}: {name[0]} = 2n"
    return None


def _in_pnma(hkl, setting):
    hkl = np.asarray(hkl)
    return [hkl[..., AXES[setting].index(i)] for i in range(3)]
