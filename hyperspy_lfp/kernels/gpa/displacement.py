"""Displacement from unwrapped geometric phases."""

import numpy as np
from scipy import ndimage
from skimage.restoration import unwrap_phase

from hyperspy_lfp.kernels._arrays import get_array_module, to_host
from hyperspy_lfp.kernels.gpa.lattice import lattice_mask

#: Fewest pixels that can be unwrapped.
_FEWEST = 4


def displacement(
    coefficients, g, sigma, positions, reference, region=None, threshold=0.2, start=None
):
    """Displacement of the lattice relative to a reference lattice.

    Phases are unwrapped within one connected piece of lattice: the one that holds most of the
    reference region, else the one with the strongest signal. The rest is NaN, since an
    unwrapped phase says nothing across a gap.

    All of it runs on the host, since scikit-image unwraps there: what is on a device is copied
    to the host, and the result back.

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
        See `hyperspy_lfp.kernels.gpa.lattice.lattice_mask`.
    start : complex array of shape (n or 1, K, y, x), optional
        Values of a reference frame: u is then that relative to the frame at every pixel.

    Returns
    -------
    array of shape (n, 2, y, x), float32
        u_x, u_y in the unit of length. Without a region u is known up to a lattice vector of
        the reference, the one is taken that makes the mean phases smallest. On the device if
        the coefficients are.
    """
    xp = get_array_module(coefficients)
    coefficients, reference = to_host(coefficients), to_host(reference)
    region, start = to_host(region), to_host(start)
    mask = lattice_mask(coefficients, sigma, threshold).all(axis=-3)
    shape = coefficients.shape[-2:]
    result = np.full((len(coefficients), 2, *shape), np.nan, dtype=np.float32)
    dy = positions[0][:, None] - positions[0].mean()
    dx = positions[1] - positions[1].mean()
    references = np.broadcast_to(reference, (len(coefficients), *reference.shape[1:]))
    if start is None:
        carriers = np.exp(-1j * (references[:, :, 0] * dx + references[:, :, 1] * dy))
    else:
        size = np.abs(start)
        carriers = np.where(size > 0, np.conj(start), np.nan) / np.where(size > 0, size, 1)
        carriers = np.broadcast_to(carriers, (len(coefficients), *start.shape[1:]))
    for frame, valid, ref, carrier, out in zip(
        coefficients, mask, references, carriers, result, strict=True
    ):
        known = np.isfinite(ref).all(axis=(0, 1)) & np.isfinite(carrier).all(axis=0)
        piece = _connected_piece(valid & known, region, np.abs(frame[:, 0]).prod(axis=0))
        if np.count_nonzero(piece) < _FEWEST:
            continue
        phases, weights = [], []
        for k in range(len(g)):
            # relative to the reference, so that there is little to unwrap
            value = frame[k, 0] * carrier[k]
            # unwrap_phase never ends with not-a-number, masked or not
            phase = np.ma.array(np.angle(np.where(piece, value, 0)), mask=~piece)
            phase = np.ma.filled(unwrap_phase(phase), np.nan)
            weights.append(np.where(piece, np.abs(value) ** 2, 0))
            inside = piece & region if region is not None else piece
            if not inside.any():
                break
            mean = np.average(phase[inside], weights=weights[k][inside])
            # a region fixes the origin; without one only whole turns may be taken off
            phases.append(phase - (mean if region is not None else _turns(mean)))
        else:
            vectors = np.asarray(g, dtype=float)[:, :, None, None] + ref / (2 * np.pi)
            vectors = np.broadcast_to(vectors, (*vectors.shape[:2], *shape))[..., piece]
            phases, weights = (np.array(a)[:, piece] for a in (phases, weights))
            out[:, piece] = _solve(phases, weights, vectors)
    return xp.asarray(result)


def _connected_piece(valid, region, strength):
    labels, number = ndimage.label(valid, structure=np.ones((3, 3)))
    if number <= 1:
        return valid
    weight = np.nan_to_num(strength) if region is None else region.astype(float)
    sums = ndimage.sum(weight, labels, index=np.arange(1, number + 1))
    return labels == 1 + int(np.argmax(sums))


def _turns(phase):
    return 2 * np.pi * np.round(phase / (2 * np.pi))


def _solve(phases, weights, g):
    """Least squares u of P_k = -2 pi g_k . u: (2, m) from (K, m), (K, m) and (K, 2, m)."""
    if len(g) > 2:
        # two reflections give u up to a lattice vector; the others must agree with that one
        mean = g.mean(axis=-1)
        u = -np.linalg.solve(mean[:2], phases[:2]) / (2 * np.pi)
        for k in range(2, len(g)):
            expected = -2 * np.pi * (mean[k] @ u)
            phases[k] += _turns(np.mean(expected - phases[k]))
    normal = np.einsum("km,kim,kjm->mij", weights, g, g)
    right = np.einsum("km,kim->mi", weights * phases, g)
    return -np.linalg.solve(normal, right[..., None])[..., 0].T / (2 * np.pi)
