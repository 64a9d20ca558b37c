"""Flags: why the composition of a pixel should not be believed, as bits of one integer.

Each flag is a finding about the pixel in its frame; several may hold. What they are found from:
the amplitude and the noise of the fringes, the geometry of the lattice in the image, the phases
(`hyperspy_lfp.kernels.gpa.defects`, `hyperspy_lfp.kernels.gpa.consistency`), and the lengths
(`hyperspy_lfp.kernels.concentration.systematic`).
"""

import numpy as np

from hyperspy_lfp.kernels._arrays import get_array_module, get_ndimage
from hyperspy_lfp.kernels.gpa.lattice import typical_amplitude

#: Bits by name.
FLAGS = {
    "no lattice": 1,
    "rim": 2,
    "outside": 4,
    "phase jump": 8,
    "dislocation": 16,
    "closure": 32,
    "collapse": 64,
    "inconsistent": 128,
    "calibration": 256,
}
#: Part of a Gaussian within 1.5 of its standard deviations of a straight edge. Maps end half a
#: resolution inside the crystal, so that the rim is two resolutions wide: as far as Fresnel
#: fringes disturb the phases in simulated images.
_WHOLE = 0.933
#: Noise of a pixel in units of that of its frame's interior, as a variance, above which most of
#: the window that the fit would need is outside: four standard deviations, as three quarters of a
#: resolution from a straight edge.
_MOSTLY_OUTSIDE = 16.0
#: An amplitude below this part of what it was is a collapse. The fringes of a reflection whose
#: structure factor changes with composition fade as well: (200) of LixFePO4 to .29.
_COLLAPSED = 0.2
#: Local mean square of the misfit of the lengths over its noise from which on they contradict each
#: other: five standard deviations. Errors of x are then systematic, and only their size is known.
_INCONSISTENT = 25.0


def rim(valid, width):
    """Pixels with a lattice near others that have none.

    Parameters
    ----------
    valid : bool array of shape (n, y, x)
    width : pair of float
        Resolution along (y, x), in samples.

    Returns
    -------
    bool array of shape (n, y, x)
    """
    xp = get_array_module(valid)
    ndimage = get_ndimage(valid)
    # the border of the frame is no edge of the crystal
    share = ndimage.gaussian_filter(
        valid.astype(xp.float32), (0, *width), mode="nearest", truncate=3.0
    )
    return valid & (share < _WHOLE)


def mostly_outside(coefficients):
    """Pixels whose window lies mostly outside of the crystal or of the frame.

    Parameters
    ----------
    coefficients : array of shape (n, K, 4, y, x)

    Returns
    -------
    bool array of shape (n, y, x)
        False where the noise is not known.
    """
    xp = get_array_module(coefficients)
    noise = coefficients[:, :, 3].real + coefficients[:, :, 3].imag
    # windows in the interior are the least noisy, and all alike
    known = xp.isfinite(noise) & (noise > 0)
    least = xp.where(known, noise, xp.inf).min(axis=(-2, -1), keepdims=True)
    return (known & (noise > _MOSTLY_OUTSIDE * least)).any(axis=1)


def relative_amplitude(coefficients):
    """Amplitude of each reflection in units of the typical one of its frame, (n, K, y, x)."""
    xp = get_array_module(coefficients)
    typical = typical_amplitude(coefficients)
    typical = xp.where(typical > 0, typical, xp.nan)
    return (xp.abs(coefficients[:, :, 0]) / typical).astype(xp.float32)


def collapse(amplitude, before):
    """Pixels in which a reflection has lost its amplitude.

    Parameters
    ----------
    amplitude, before : array of shape (n, K, y, x)
        `relative_amplitude` of the frames, and of the one they are compared with.

    Returns
    -------
    bool array of shape (n, y, x)
        False where there was no lattice before.
    """
    # a pixel that has lost its lattice altogether, NaN, is another finding
    with np.errstate(invalid="ignore"):
        return ((amplitude < _COLLAPSED * before) & (before > 2 * _COLLAPSED)).any(axis=1)


def inconsistent(chi_squared):
    """Pixels around which the two lengths contradict each other; False where not known."""
    return chi_squared > _INCONSISTENT


def combine(**found):
    """Bits of the named findings; underscores stand for spaces.

    Returns
    -------
    uint16 array of shape (n, y, x)
    """
    total = None
    for name, where in found.items():
        bits = where * np.uint16(FLAGS[name.replace("_", " ")])
        total = bits if total is None else total | bits
    return total
