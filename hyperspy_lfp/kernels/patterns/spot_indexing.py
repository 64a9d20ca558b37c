"""Miller indices of all spots of a pattern, and the reciprocal lattice fitted to them.

A few strong spots are indexed by lengths and angles (`indexing`). Of the plane lattices that two of
them span each, the one that most spots lie on is taken (random sample consensus, Fischler and
Bolles, Commun. ACM 24 (1981) 381, doi 10.1145/358669.358692, here with all pairs), so that
neighbouring spots of two phases are not averaged. It is fitted to its spots by least squares, and
again to those that the better lattice reaches. The zone's two basis vectors stand for all its
reflections: g = h1 b1 + h2 b2.
"""

import itertools
from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels.gpa.indexing import index_vectors

#: Spots as close to each other as this part of their length, once mirrored, are a Friedel pair.
_PAIR = 0.03
#: Strong spots that an indexing is tried from two at a time, and that are indexed with them.
_SEEDS, _STRONG = 6, 8
#: A lattice that explains this part of the spots is not beaten by another start.
_ENOUGH = 0.75
#: A spot is on the lattice within this part of its shortest vector: less than the distance of the
#: spots of end members of a solid solution, more than fields of a few degrees distort.
_TOLERANCE = 0.03
#: The first lattice reaches so many times as far, since it extrapolates from two spots.
_LOOSE = 4
#: Strong spots whose pairs are tried.
_SAMPLE = 20
_ITERATIONS = 6
#: Largest index of the basis vectors of a zone.
_LARGEST = 6


class Indexed(NamedTuple):
    """Indices of spots and the lattice fitted to them."""

    hkl: list  # m of (h, k, l) or None
    forbidden: np.ndarray  # (m,) bool: indexed, and by the material's symmetry absent
    basis_hkl: np.ndarray  # (2, 3) int: the zone's basis
    basis: np.ndarray  # (2, 2): its fitted vectors, (x, y), one a row
    covariance: np.ndarray  # (2, 2) of the two vectors, the same for x and y
    residuals: np.ndarray  # (m, 2) measured - fitted; NaN where not indexed


def index_spots(g, zone, cells, allowed, error=None):
    """Index spots in a zone of an orthogonal cell and fit their lattice.

    Parameters
    ----------
    g : array of shape (m, 2)
        Positions relative to the direct beam, (x, y) order, strongest first, 1/length. Both of a
        Friedel pair, or one, and the direct beam (which is not indexed) may be there; NaN rows
        are not indexed.
    zone : tuple of int
        (u, v, w) of the beam direction.
    cells : array of shape (n, 3)
        Lattice parameters (a, b, c) of the candidate compositions; unit of 1/g.
    allowed : callable
        Maps an int array of shape (n, 3) to booleans: False for forbidden reflections.
    error : array of shape (m,), optional
        Standard errors of the positions; default equal ones. Covariances are scaled by the
        residuals.

    Returns
    -------
    Indexed
        Where nothing fits, all indices are None, and the lattice is NaN.

    Notes
    -----
    +hkl and -hkl, and choices of the axes' signs, are equivalent by the zone's symmetry; those
    that `index_vectors` gives to the strongest spots are kept. Spots of a second phase or grain
    are on the lattice only by chance, and remain None.
    """
    g = np.asarray(g, dtype=float).reshape(-1, 2)
    zone = np.asarray(zone)
    if zone.shape != (3,) or not zone.any():
        raise ValueError(f"zone={tuple(zone)}: three integers, not all zero, are needed")
    if error is not None and np.shape(error) != (len(g),):
        raise ValueError(f"error of shape {np.shape(error)} for {len(g)} spots")
    zone = zone.astype(int) // np.gcd.reduce(zone.astype(int))
    basis_hkl = zone_basis(zone)
    shortest = _shortest_spacing(basis_hkl, cells)
    usable = np.isfinite(g).all(axis=1)
    usable[usable] = np.hypot(*g[usable].T) > 0.5 * shortest
    weight = np.ones(len(g)) if error is None else 1 / np.asarray(error, dtype=float) ** 2
    usable &= np.isfinite(weight)
    best, best_score = None, (0, 0.0)
    for start in _starts(g, usable, zone, cells, allowed):
        lattice = _grown(g, usable, weight, basis_hkl, *start)
        if lattice is None:
            continue
        basis, on = lattice
        indices = np.rint(g[on] @ np.linalg.inv(basis)).astype(int)
        # forbidden ones are taken if nothing else fits as many
        good = np.count_nonzero(on) - 0.5 * np.count_nonzero(~allowed(indices @ basis_hkl))
        rest = np.sqrt(np.mean(np.square(g[on] - indices @ basis)))
        if (good, -rest) > best_score or best is None:
            best, best_score = lattice, (good, -rest)
        if best_score[0] > _ENOUGH * np.count_nonzero(usable):
            break
    if best is None:
        nothing = np.full((2, 2), np.nan)
        return Indexed(
            [None] * len(g),
            np.zeros(len(g), dtype=bool),
            basis_hkl,
            nothing,
            nothing,
            np.full(g.shape, np.nan),
        )
    return _result(g, weight, basis_hkl, *best, allowed)


def zone_basis(zone):
    """Two vectors that span all reflections of a zone.

    Parameters
    ----------
    zone : array of shape (3,)
        Primitive (u, v, w).

    Returns
    -------
    int array of shape (2, 3)
        Of all that do, the pair with the smallest indices.

    Examples
    --------
    >>> zone_basis((0, 1, 0)).tolist()
    [[0, 0, 1], [1, 0, 0]]
    """
    zone = np.asarray(zone)
    numbers = range(-_LARGEST, _LARGEST + 1)
    plane = [np.array(i) for i in itertools.product(numbers, repeat=3) if any(i) and not zone @ i]
    plane = [i for i in plane if i[i != 0][0] > 0]
    plane.sort(key=lambda i: (i @ i, tuple(i)))
    for total in range(1, 2 * len(plane)):
        for second in range((total + 1) // 2, min(total + 1, len(plane))):
            first = total - second
            if first < second:
                normal = np.cross(plane[first], plane[second])
                if (normal == zone).all() or (normal == -zone).all():
                    return np.stack([plane[first], plane[second]])
    raise ValueError(f"zone={tuple(zone)}: indices above {_LARGEST} are not supported")


def _shortest_spacing(basis_hkl, cells):
    reciprocal = 1 / np.asarray(cells, dtype=float).reshape(-1, 3)
    few = np.array([i for i in itertools.product((-1, 0, 1), repeat=2) if any(i)]) @ basis_hkl
    return np.linalg.norm(few * reciprocal[:, None], axis=-1).min()


def _starts(g, usable, zone, cells, allowed):
    """Pairs (vectors, hkl) that two strong spots give, since the strongest may be strangers."""
    strong = _one_of_each_pair(g, np.flatnonzero(usable))[:_STRONG]
    for first, second in itertools.combinations(strong[:_SEEDS], 2):
        chosen = [first, second, *(i for i in strong if i not in (first, second))]
        hkl = index_vectors(g[chosen], tuple(int(i) for i in zone), cells, allowed)
        found = [(g[i], h) for i, h in zip(chosen, hkl, strict=True) if h is not None]
        if len(found) >= 2:
            yield np.array([v for v, _ in found]), np.array([h for _, h in found])


def _one_of_each_pair(g, order):
    kept = []
    for i in order:
        length = np.hypot(*g[i])
        if not any(np.hypot(*(g[i] - s * g[k])) < _PAIR * length for k in kept for s in (1, -1)):
            kept.append(int(i))
    return kept


def _grown(g, usable, weight, basis_hkl, vectors, hkl):
    """Lattice fitted to all spots that lie on it: (basis, which ones), or None."""
    indices = np.rint(hkl @ np.linalg.pinv(basis_hkl)).astype(int)
    if np.linalg.matrix_rank(indices) < 2:
        return None
    basis = _consensus(g, usable, np.linalg.lstsq(indices, vectors, rcond=None)[0])
    on = np.zeros(len(g), dtype=bool)
    for _ in range(_ITERATIONS):
        if basis is None:
            return None
        before = on
        on, whole = _lying_on(g, usable, basis, _TOLERANCE)
        if np.linalg.matrix_rank(whole[on]) < 2:
            return None
        root = np.sqrt(weight[on])[:, None]
        basis = np.linalg.lstsq(whole[on] * root, g[on] * root, rcond=None)[0]
        if (on == before).all():
            break
    return basis, on


def _consensus(g, usable, basis):
    """Of the lattices that two strong spots span each, the one that most spots lie on."""
    on, whole = _lying_on(g, usable, basis, _LOOSE * _TOLERANCE)
    strong = np.flatnonzero(on)[:_SAMPLE]
    best, best_score = None, (0, 0.0)
    for pair in itertools.combinations(strong, 2):
        indices = whole[list(pair)]
        if round(abs(np.linalg.det(indices))) == 0:
            continue
        trial = np.linalg.solve(indices, g[list(pair)])
        found, at = _lying_on(g, usable, trial, _TOLERANCE)
        rest = np.square(g[found] - at[found] @ trial).sum()
        if (np.count_nonzero(found), -rest) > best_score:
            best, best_score = trial, (np.count_nonzero(found), -rest)
    return best


def _lying_on(g, usable, basis, tolerance):
    """Which spots lie on a lattice, and their indices."""
    whole = np.zeros((len(g), 2), dtype=int)
    whole[usable] = np.rint(g[usable] @ np.linalg.inv(basis))
    away = np.full(len(g), np.inf)
    away[usable] = np.hypot(*(g[usable] - whole[usable] @ basis).T)
    on = (away < tolerance * np.linalg.norm(basis, axis=1).min()) & whole.any(axis=1)
    return on, whole


def _result(g, weight, basis_hkl, basis, on, allowed):
    whole = np.zeros((len(g), 2), dtype=int)
    whole[on] = np.rint(g[on] @ np.linalg.inv(basis))
    residuals = np.where(on[:, None], g - whole @ basis, np.nan)
    normal = whole[on].T @ (whole[on] * weight[on, None])
    freedom = max(2 * np.count_nonzero(on) - 4, 1)
    scale = (weight[on, None] * residuals[on] ** 2).sum() / freedom
    hkl = whole @ basis_hkl
    forbidden = on & ~np.asarray(allowed(hkl), dtype=bool)
    names = [tuple(int(v) for v in h) if o else None for h, o in zip(hkl, on, strict=True)]
    return Indexed(names, forbidden, basis_hkl, basis, np.linalg.inv(normal) * scale, residuals)
