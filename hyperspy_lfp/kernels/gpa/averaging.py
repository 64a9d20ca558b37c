r"""Coherent average of the coefficients of several frames.

A rigid displacement d of a frame turns the phase of each reflection by :math:`-2\pi g\cdot d`,
the same everywhere. Turned back, the complex coefficients of n frames add up, and their noise
falls as :math:`1/\sqrt n`, also where that of a single frame is too large for a phase.
"""

from hyperspy_lfp.kernels._arrays import get_array_module


def coherent_mean(coefficients):
    """Mean over frames after their rigid phases are taken off.

    Parameters
    ----------
    coefficients : array of shape (m, n, K, 4, y, x)
        See `hyperspy_lfp.kernels.gpa.lockin`; the mean is over the n frames of each of m groups.

    Returns
    -------
    array of shape (m, K, 4, y, x)
        With the phase of the first frame of the group that has a lattice. A pixel that is not
        known in some frames is the mean of the others.
    """
    xp = get_array_module(coefficients)
    value = coefficients[:, :, :, 0]
    known = xp.isfinite(value)
    value = xp.where(known, value, 0)
    turn = _rigid_turns(value, xp)[..., None, None]  # (m, n, K, 1, 1)
    number = known.sum(axis=1)
    weight = xp.where(number > 0, 1 / xp.maximum(number, 1), xp.nan).astype(value.real.dtype)
    out = xp.empty((len(value), *coefficients.shape[2:]), dtype=coefficients.dtype)
    for i in range(3):
        part = xp.where(known, coefficients[:, :, :, i], 0)
        out[:, :, i] = (part * turn).sum(axis=1) * weight
    noise = xp.where(known, coefficients[:, :, :, 3], 0)
    out[:, :, 3] = noise.sum(axis=1) * weight**2
    return out


def _rigid_turns(value, xp):
    """Factors (m, n, K) that turn each frame to the phase of those before it."""
    turns = xp.ones(value.shape[:3], dtype=value.dtype)
    total = value[:, 0].copy()
    for i in range(1, value.shape[1]):
        overlap = (total * value[:, i].conj()).sum(axis=(-2, -1))
        size = xp.abs(overlap)
        turns[:, i] = xp.where(size > 0, overlap / xp.where(size > 0, size, 1), 1)
        total += value[:, i] * turns[:, i][..., None, None]
    return turns
