"""Miller indices of the g vectors of a signal."""

import warnings

import numpy as np

from hyperspy_lfp import materials
from hyperspy_lfp.kernels.gpa.indexing import index_vectors
from hyperspy_lfp.signals._units import in_nanometre


def miller_indices(phase, material, hkl, zone):
    """Miller indices of all g vectors, given or found; warns of forbidden ones."""
    if hkl is None:
        hkl = phase.hkl
    if hkl is not None:
        found = check_indices(hkl, len(phase.g_vectors))
        warn_forbidden(found, material, stacklevel=4)
        return found
    units = phase._parameters("GeometricPhase")["resolution_units"]
    zone = material.zone if zone is None else materials.check_zone(zone)
    found = find_indices(phase.g_vectors, units, material, zone)
    if any(i is None for i in found):
        spacings = [f"{in_nanometre(units) / np.hypot(*g):.4f}" for g in phase.g_vectors]
        raise ValueError(
            f"the g vectors (spacings {', '.join(spacings)} nm) are not reflections of "
            f"{material.name} in the zone {zone}: indexed as {found}. Give "
            "hkl=[(h, k, l), ...] for each, another material or zone, or correct the pixel "
            "size (5 % are tolerated)."
        )
    warn_forbidden(found, material, stacklevel=4)
    return found


def check_indices(hkl, number):
    """A list of (h, k, l), one for each g vector, or an error."""
    if isinstance(hkl, str) or not np.iterable(hkl):
        raise ValueError(
            f"hkl={hkl!r} must be a list of (h, k, l), one for each of the {number} g vectors."
        )
    hkl = [materials.check_hkl(row) for row in hkl]
    if len(hkl) != number:
        raise ValueError(
            f"hkl has {len(hkl)} reflections for {number} g vectors; give one for each, in their "
            "order."
        )
    return hkl


def find_indices(g, units, material, zone):
    """Index g vectors in a material whose composition may be anything it covers."""
    knots = np.linspace(material.composition[0], material.composition[-1], 5)
    cells = material.cell(knots) / 10 / in_nanometre(units)
    return index_vectors(g, zone, cells, material.is_allowed)


def warn_forbidden(hkl, material, stacklevel=3):
    """Warn of reflections that the space group forbids; None among them is passed over."""
    for indices in hkl:
        reason = None if indices is None else material.why_forbidden(indices)
        if reason is not None:
            warnings.warn(
                f"{indices} of {material.name} is forbidden in {material.space_group} ({reason}): "
                "its fringes come from double diffraction, which a tilt of the crystal lets in, "
                "and their phase flips by pi with the sign of the tilt. Where the planes are it "
                "does not tell; choose allowed reflections, for example by `compare_g_vectors`.",
                UserWarning,
                stacklevel=stacklevel,
            )
