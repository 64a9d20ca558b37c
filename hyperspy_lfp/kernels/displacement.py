"""Displacement from unwrapped geometric phases."""

import numpy as np
from scipy import ndimage
from skimage.restoration import unwrap_phase

from hyperspy_lfp.kernels.lattice import lattice_mask

#: Fewest pixels that can be unwrapped.
_FEWEST = 4


def displacement(coefficients, g, sigma, positions, reference, region=None, threshold=0.2):
    """Displacement of the lattice relative to a reference lattice.

    Phases are unwrapped within one connected piece of lattice: the one that holds most of the
    reference region, else the one with the strongest signal. The rest is NaN, since an
    unwrapped phase says nothing across a gap.

    Parameters
    ----------
    coefficients : array of shape (n, K, 4, y, x)
    g : array of shape (K, 2)
        Reciprocal vectors, (x, y) order.
    sigma : float
        Standard deviation of the window.
    positions : tuple of array
        Coordinates along (y, x) of the samples.
    reference : array of shape (n or 1, K, 2, y or 1, x or 1)
        Phase gradient of the reference lattice.
    region : bool array of shape (y, x), optional
        The reference region, where the mean displacement is zero.
    threshold : float
        See `hyperspy_lfp.kernels.lattice.lattice_mask`.

    Returns
    -------
    array of shape (n, 2, y, x), float32
        u_x, u_y in the unit of length. Without a region u is known up to a lattice vector of
        the reference, the one is taken that makes the mean phases smallest.
    """
    mask = lattice_mask(coefficients, sigma, threshold).all(axis=-3)
    shape = coefficients.shape[-2:]
    result = np.full((len(coefficients), 2, *shape), np.nan, dtype=np.float32)
    dy = positions[0][:, None] - positions[0].mean()
    dx = positions[1] - positions[1].mean()
    references = np.broadcast_to(reference, (len(coefficients), *reference.shape[1:]))
    for frame, valid, ref, out in zip(coefficients, mask, references, result, strict=True):
        piece = _connected_piece(valid, region, np.abs(frame[:, 0]).prod(axis=0))
        if np.count_nonzero(piece) < _FEWEST or not np.isfinite(ref).all():
            continue
        # the mean gradient of the reference plane is taken off before unwrapping
        plane = np.nanmean(ref, axis=(-2, -1))
        phases, weights = [], []
        for k in range(len(g)):
            carrier = np.exp(-1j * (plane[k, 0] * dx + plane[k, 1] * dy))
            value = frame[k, 0] * carrier
            phase = np.ma.array(np.angle(value), mask=~piece)
            phase = np.ma.filled(unwrap_phase(phase), np.nan)
            weights.append(np.where(piece, np.abs(value) ** 2, 0))
            inside = piece & region if region is not None else piece
            if not inside.any():
                break
            mean = np.average(phase[inside], weights=weights[k][inside])
            # a region fixes the origin; without one only whole turns may be taken off
            phases.append(phase - (mean if region is not None else _turns(mean)))
        else:
            vectors = np.asarray(g, dtype=float) + plane / (2 * np.pi)
            out[...] = _solve(np.array(phases), np.array(weights), vectors, piece)
    return result


def _connected_piece(valid, region, strength):
    labels, number = ndimage.label(valid, structure=np.ones((3, 3)))
    if number <= 1:
        return valid
    weight = np.nan_to_num(strength) if region is None else region.astype(float)
    sums = ndimage.sum(weight, labels, index=np.arange(1, number + 1))
    return labels == 1 + int(np.argmax(sums))


def _turns(phase):
    return 2 * np.pi * np.round(phase / (2 * np.pi))


def _solve(phases, weights, g, piece):
    """Least squares u of P_k = -2 pi g_k . u."""
    first, second = phases[:2]
    if len(g) > 2:
        # two reflections give u up to a lattice vector; the others must agree with that one
        u = -np.linalg.solve(g[:2], np.stack([first, second])[:, piece]) / (2 * np.pi)
        for k in range(2, len(g)):
            expected = -2 * np.pi * (g[k] @ u)
            phases[k] += _turns(np.mean(expected - phases[k][piece]))
    normal = np.einsum("kyx,ki,kj->yxij", weights, g, g)[piece]
    right = np.einsum("kyx,ki->yxi", weights * np.nan_to_num(phases), g)[piece]
    u = np.full((2, *piece.shape), np.nan)
    u[:, piece] = -np.linalg.solve(normal, right[..., None])[..., 0].T / (2 * np.pi)
    return u
