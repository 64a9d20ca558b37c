"""Miller indices of measured reciprocal vectors, from lengths and angles."""

import itertools

import numpy as np

#: Largest relative error of a length (pixel sizes in files are often a few percent wrong) and
#: of the ratio of two lengths, largest error of an angle in radians.
_LENGTH = 0.05
_RATIO = 0.04
_ANGLE = np.deg2rad(3.0)
#: How far from whole numbers the indices of a further vector may come out.
_INTEGER = 0.12


def zone_reflections(zone, largest, recip_lengths):
    """All hkl of a zone up to a length.

    Parameters
    ----------
    zone : tuple of int
        (u, v, w) of the beam direction.
    largest : float
        Longest reciprocal vector.
    recip_lengths : array of shape (3,)
        1/a, 1/b, 1/c of the orthogonal cell.

    Returns
    -------
    int array of shape (m, 3)
    """
    limits = [int(largest / r) for r in recip_lengths]
    grid = itertools.product(*(range(-n, n + 1) for n in limits))
    hkl = np.array([i for i in grid if any(i) and np.dot(i, zone) == 0], dtype=int).reshape(-1, 3)
    return hkl[np.linalg.norm(hkl * recip_lengths, axis=1) <= largest]


def index_vectors(g, zone, cells, allowed):
    """Index reciprocal vectors in a zone of an orthogonal cell.

    The two strongest vectors that are not collinear are tried with every pair of reflections
    whose lengths and angle agree for one of the cells; the other vectors must then be whole
    combinations of the two.

    Parameters
    ----------
    g : array of shape (n, 2)
        Reciprocal vectors, (x, y) order, strongest first.
    zone : tuple of int
    cells : array of shape (m, 3)
        Lattice parameters (a, b, c) of the candidate compositions; unit of 1/g.
    allowed : callable
        Maps an int array of shape (m, 3) to booleans: False for forbidden reflections, which
        are taken only if nothing else fits.

    Returns
    -------
    list of (h, k, l) or None
    """
    g = np.asarray(g, dtype=float)
    lengths = np.linalg.norm(g, axis=1)
    second = _first_oblique(g)
    if second is None:
        return [None] * len(g)
    recip = 1 / np.asarray(cells, dtype=float)
    hkl = zone_reflections(zone, lengths.max() * (1 + 2 * _LENGTH), recip.min(axis=0))
    if not len(hkl):
        return [None] * len(g)
    vectors = hkl * recip[:, None, :]  # (cells, m, 3)
    norms = np.linalg.norm(vectors, axis=-1)
    penalty = np.where(allowed(hkl), 0.0, 1.0)
    angle = _angle(g[0], g[second])
    best, best_score = None, np.inf
    near = [np.flatnonzero((abs(norms / lengths[i] - 1) < _LENGTH).any(0)) for i in (0, second)]
    for p, q in itertools.product(*near):
        scale_p, scale_q = norms[:, p] / lengths[0], norms[:, q] / lengths[second]
        cosine = (vectors[:, p] * vectors[:, q]).sum(-1) / (norms[:, p] * norms[:, q])
        misfit = np.stack(
            [
                (scale_p - 1) / _LENGTH,
                (scale_p / scale_q - 1) / _RATIO,
                (np.arccos(np.clip(cosine, -1, 1)) - angle) / _ANGLE,
            ]
        )
        fits = (abs(misfit) < 1).all(axis=0)
        if not fits.any():
            continue
        indices = _complete(g, second, hkl[p], hkl[q])
        missing = sum(i is None for i in indices)
        score = (misfit**2).sum(axis=0)[fits].min() + penalty[p] + penalty[q] + missing
        if score < best_score - 1e-9:
            best, best_score = indices, score
    return [None] * len(g) if best is None else _canonical(best, zone)


def zone_of(hkl):
    """Primitive (u, v, w) of the zone that a set of reflections spans, or None."""
    hkl = np.asarray(hkl, dtype=int)
    for first, second in itertools.combinations(hkl, 2):
        normal = np.cross(first, second)
        if normal.any():
            normal = normal // np.gcd.reduce(normal)
            if (hkl @ normal).any():
                return None
            return tuple(int(i) for i in (normal if normal[normal != 0][0] > 0 else -normal))
    return None


def _complete(g, second, first_hkl, second_hkl):
    """Indices of all vectors as combinations of two; None where they are not whole."""
    combination = np.linalg.solve(np.stack([g[0], g[second]]).T, g.T).T
    indices = combination @ np.stack([first_hkl, second_hkl])
    whole = np.rint(indices).astype(int)
    close = (abs(indices - whole) < _INTEGER).all(axis=1) & whole.any(axis=1)
    return [tuple(int(i) for i in w) if c else None for w, c in zip(whole, close, strict=True)]


def _canonical(indices, zone):
    """Of the equivalent choices of axes' signs, the one with the fewest minus signs up front.

    Equivalent are those that leave the zone axis, or turn it over.
    """
    zone = np.asarray(zone)
    choices = [
        signs
        for signs in itertools.product((1, -1), repeat=3)
        if abs(np.multiply(signs, zone) @ zone) == zone @ zone
    ]

    def key(signs):
        flipped = [tuple(np.multiply(i, signs)) for i in indices if i is not None]
        return [tuple(-v for v in i) for i in flipped]

    signs = min(choices, key=key)
    return [None if i is None else tuple(int(v) for v in np.multiply(i, signs)) for i in indices]


def _first_oblique(g):
    for i in range(1, len(g)):
        angle = _angle(g[0], g[i])
        if min(angle, np.pi - angle) > 3 * _ANGLE:
            return i
    return None


def _angle(a, b):
    cosine = np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b))
    return np.arccos(np.clip(cosine, -1, 1))
