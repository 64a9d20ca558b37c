r"""Smooth continuation of a map beyond where it is known.

The unknown samples make the energy smallest

.. math:: E = \sum \tau\,|\nabla f|^2 + f_{xx}^2 + 2 f_{xy}^2 + f_{yy}^2

in differences of neighbouring samples, the known ones given. Without tension :math:`\tau` it is
the bent thin plate, which goes on as a plane far away: right for a displacement. With tension the
slope dies off within :math:`1/\sqrt\tau` samples: right for a composition, which must not run off.

Host only: SciPy's sparse matrices.
"""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu


def extend(maps, known, tension=0.0):
    """Continue maps smoothly to where they are not known.

    Parameters
    ----------
    maps : array of shape (n, ny, nx)
        What is not known may be NaN.
    known : bool array of shape (n, ny, nx)
        In each map three samples or more that are not on a line.
    tension : float
        In units of the sample distance to the -2; 0 for the thin plate.

    Returns
    -------
    array of shape (n, ny, nx)
        The known samples are as they were.
    """
    out = np.array(maps, dtype=float)
    energy = None
    groups = {}
    for number, pattern in enumerate(known):
        groups.setdefault(pattern.tobytes(), []).append(number)
    for members in groups.values():
        pattern = known[members[0]].ravel()
        if pattern.all():
            continue
        if energy is None:
            energy = _energy(maps.shape[1:], tension)
        flat = out[members].reshape(len(members), -1)
        rows = energy[~pattern]
        force = -(rows[:, pattern] @ flat[:, pattern].T)
        factor = splu(
            rows[:, ~pattern].tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        flat[:, ~pattern] = factor.solve(np.ascontiguousarray(force)).T
        out[members] = flat.reshape(-1, *maps.shape[1:])
    return out


def _energy(shape, tension):
    """The matrix of twice the energy."""
    (one_y, two_y), (one_x, two_x) = (_differences(n) for n in shape)
    same_y, same_x = (sparse.eye_array(n) for n in shape)
    bending = [(two_y, same_x, 1.0), (same_y, two_x, 1.0), (one_y, one_x, 2.0)]
    stretching = [(one_y, same_x, tension), (same_y, one_x, tension)]
    total = sparse.csr_array((shape[0] * shape[1],) * 2)
    for along_y, along_x, weight in bending + stretching:
        if weight:
            difference = sparse.kron(along_y, along_x, format="csr")
            total = total + weight * (difference.T @ difference)
    return total.tocsr()


def _differences(n):
    """First and second differences along a line of samples."""
    one = sparse.diags_array([-np.ones(n - 1), np.ones(n - 1)], offsets=[0, 1], shape=(n - 1, n))
    two = sparse.diags_array(
        [np.ones(n - 2), -2 * np.ones(n - 2), np.ones(n - 2)], offsets=[0, 1, 2], shape=(n - 2, n)
    )
    return one, two
