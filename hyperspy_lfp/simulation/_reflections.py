"""Which reflections a simulated image shows, and how strongly."""

import numpy as np

from hyperspy_lfp import materials
from hyperspy_lfp.kernels.imaging.fringes import Lattice, lowest
from hyperspy_lfp.simulation._lattice import in_plane

IMAGES = ("fringes", "columns")
#: Spacing in nm down to which reflections are drawn if none are named: the planes that a
#: microscope resolves with ease, and those that make columns round.
_D_MIN = {"fringes": 0.3, "columns": 0.1}
#: Samples of the structure factors along x: linear in between, to 1e-5 of the strongest.
_SAMPLES = 129


def choose(hkl, material, zone, image, pixel):
    """Reflections to draw, one of each pair.

    Parameters
    ----------
    hkl : sequence of (h, k, l) or None
    material : Material
    zone : tuple of int
    image : str
    pixel : float
        In nm.

    Returns
    -------
    list of tuple

    Raises
    ------
    ValueError
        For reflections that are forbidden, off the zone, beyond the Nyquist frequency or named
        twice; or if none is left.
    """
    if image not in IMAGES:
        raise ValueError(f"image={image!r} is not known; use one of {IMAGES}.")
    nyquist = 0.5 / pixel
    if hkl is None:
        chosen = [
            g for g in _of_zone(material, zone, _D_MIN[image]) if _longest(material, g) < nyquist
        ]
        if not chosen:
            raise ValueError(
                f"pixel={pixel:g} nm samples no reflection of {material.name} with a spacing "
                f"above {_D_MIN[image]} nm; take smaller pixels."
            )
        return chosen
    chosen = [materials.check_hkl(g) for g in hkl]
    for number, g in enumerate(chosen):
        _check(g, chosen[:number], material, zone, nyquist, pixel)
    if not chosen:
        raise ValueError("hkl is empty: name one reflection or more, or None for the default.")
    return chosen


def _of_zone(material, zone, d_min):
    """Allowed reflections of a zone, one of each pair."""
    first, second = in_plane(zone)
    found = []
    for form in material.reflections(zone, d_min):
        if not form.allowed:
            continue
        found.append(form.hkl)
        if form.hkl[first] and form.hkl[second]:
            other = list(form.hkl)
            other[second] = -other[second]
            found.append(tuple(other))
    return found


def oblique_pair(material, zone):
    """The two planes of the longest spacing that are mirror images of each other."""
    first, second = in_plane(zone)
    for g in _of_zone(material, zone, 0.1):
        if g[first] and g[second]:
            other = list(g)
            other[second] = -other[second]
            return [g, tuple(other)]
    raise ValueError(f"{material.name} has no allowed oblique reflection in the zone {zone}.")


def _longest(material, g):
    """Length of g in 1/nm in the smallest cell."""
    return 1 / np.min(material.d_spacing(g, np.array(material.composition)))


def _check(g, before, material, zone, nyquist, pixel):
    if np.dot(g, zone):
        raise ValueError(
            f"hkl: {g} does not belong to the zone {tuple(zone)}: hu + kv + lw must be zero."
        )
    reason = material.why_forbidden(g)
    if reason is not None:
        raise ValueError(
            f"hkl: {g} of {material.name} is forbidden ({reason}): a kinematic image has no such "
            "fringes. Leave it out."
        )
    if _longest(material, g) >= nyquist:
        raise ValueError(
            f"hkl: {g} of {material.name} has a spacing of {1 / _longest(material, g):.4f} nm, "
            f"beyond the Nyquist frequency of pixels of {pixel:g} nm; take pixels below "
            f"{0.5 / _longest(material, g):.3g} nm or leave it out."
        )
    if g in before or tuple(-i for i in g) in before:
        raise ValueError(f"hkl: {g} is named twice (a pair +g, -g is one set of fringes).")


def lattice_of(hkl, material, zone, axes):
    """The undeformed lattice, x = 0, with unit vectors along its axes."""
    plane = in_plane(zone)
    lengths = material.cell(0.0)[plane] / 10
    return Lattice(np.asarray(axes), tuple(float(v) for v in lengths), np.array(hkl)[:, plane])


def amplitudes(hkl, material, contrast, limits, width=None):
    """Amplitudes of the fringes against composition.

    Parameters
    ----------
    hkl : list of tuple
    material : Material
    contrast : float or sequence of float
        Of the strongest reflection at any composition of the material, the others by their
        structure factors; or of each reflection, at all compositions.
    limits : (float, float)
        Smallest and largest composition of the particle.
    width : float, optional
        Standard deviation of atom columns in nm.

    Returns
    -------
    compositions : array of shape (k,)
    amplitudes : array of shape (n, k)
    """
    ends = np.array([material.composition[0], material.composition[-1]])
    x = np.linspace(min(ends[0], limits[0]), max(ends[1], limits[1]), _SAMPLES)
    given = np.asarray(contrast, dtype=float)
    if not np.isfinite(given).all():
        raise ValueError(f"contrast={contrast!r} must be finite.")
    if given.ndim:
        if given.shape != (len(hkl),):
            raise ValueError(
                f"contrast holds {given.size} numbers for the {len(hkl)} reflections {hkl}: give "
                "one for each, or one number for the strongest."
            )
        return x, np.repeat(given[:, None], len(x), axis=1)
    factors = np.stack([_structure_factor(material, g, x) for g in hkl])
    if width is not None:
        g = np.array([1 / material.d_spacing(g, 0.0) for g in hkl])
        factors *= np.exp(-2 * np.pi**2 * width**2 * g**2)[:, None]
    own = (x >= ends[0]) & (x <= ends[1])
    return x, given * factors / np.abs(factors[:, own]).max()


def _structure_factor(material, g, x):
    try:
        return material.structure_factor(g, x)
    except ValueError as error:
        raise ValueError(
            f"{error} Or give hkl and contrast, one number for each reflection."
        ) from error


def check_contrast(lattice, compositions, table, absorption, limits, contrast, reversed_too):
    """No place of the crystal may expect less than no electrons."""
    inside = (compositions >= limits[0]) & (compositions <= limits[1])
    inside |= np.abs(compositions - limits[0]) <= np.ptp(compositions) / len(compositions)
    few = table[:, inside][:, :: max(1, inside.sum() // 8)]
    least = lowest(lattice, few).min()
    if reversed_too:
        least = min(least, lowest(lattice, -few).min())
    if least < absorption - 1:
        most = np.abs(contrast).max() * (1 - absorption) / -least
        raise ValueError(
            f"contrast={contrast!r} with absorption={absorption:g} and these reflections takes "
            f"the intensity below zero between the fringes: take up to {most:.3g}."
        )
