"""Distortion and rotation of diffraction patterns.

An affine map takes the ideal positions of spots (or rings) into the measured ones. Its polar
decomposition, A = V R, separates what acts on the detector: a rotation R, then a symmetric stretch
V with the scale sqrt(det V) and an ellipticity (ratio of the axes, direction of the long one).

A crystal's own strain is a stretch as well: spots of one crystal tell the distortion of the
instrument only if the crystal's lattice is known, and a change of composition is not mistaken for
one only if the lattice at that composition is given. Rings of many randomly oriented crystals are
round whatever their lattice parameter: they tell the ellipticity, but of the scale only the ratio
to a known one. A uniform scale (camera length) and a uniform expansion of the lattice can never be
told apart, nor can a rotation of the pattern and one of the crystal.

Angles are in radians, counter-clockwise as displayed, with y down, from x. Host only.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from hyperspy_lfp.kernels.patterns.frames import check_frames

#: Number of directions that rings are resampled at; radii are a pixel apart.
_DIRECTIONS = 180
#: Directions that are left out together for the standard error: noise is correlated along rings.
_SECTORS = 12
#: Radial width of the background that is taken off, as a part of the range of radii.
_SMOOTH = 0.12
_ITERATIONS = 8
#: Part of a direction's radii that must be valid for it to count.
_VALID = 0.5
#: Rotations that are tried when spots are matched, radians.
_ROTATIONS = np.deg2rad(np.arange(-12.0, 12.1, 0.5))
#: Spots match within this part of the reference's smallest spacing.
_MATCH = 0.3
#: Number of mad-based standard deviations beyond which a spot is an outlier.
_OUTLIER = 4.0


class Distortion(NamedTuple):
    """Affine map of a pattern, separated."""

    matrix: np.ndarray  # (2, 2) on (y, x) vectors: measured = matrix @ ideal
    centre: np.ndarray  # (2,) (y, x): measured position of the ideal origin
    scale: float
    rotation: float  # radian; 0 for rings, which do not tell
    ellipticity: float  # long axis / short axis - 1
    angle: float  # of the long axis, radian, in (-pi/2, pi/2]
    scale_error: float
    rotation_error: float
    ellipticity_error: float
    angle_error: float
    centre_error: np.ndarray  # (2,)

    @property
    def correction(self):
        """(2, 2) matrix on (y, x) vectors that undoes the ellipticity and keeps areas."""
        stretch, _ = _polar(self.matrix)
        return np.linalg.inv(stretch) * np.sqrt(np.linalg.det(stretch))


def fit_distortion(measured, ideal, error=None):
    """Fit the affine map from ideal to measured positions of spots.

    Parameters
    ----------
    measured : array of shape (m, 2)
        (y, x), pixels.
    ideal : array of shape (m, 2)
        (y, x), relative to the direct beam; any unit. NaN rows of either are left out.
    error : array of shape (m, 2), optional
        Standard errors of the measured positions; default equal ones. All standard errors of the
        result are scaled by the scatter that the fit leaves.

    Returns
    -------
    Distortion

    Raises
    ------
    ValueError
        Fewer than four spots, or all of them on a line: the map cannot be told from noise.

    Examples
    --------
    >>> import numpy as np
    >>> ideal = np.array([(0, 50), (0, -50), (60, 0), (-60, 0), (60, 50)])
    >>> fitted = fit_distortion([100, 120] + ideal * [1, 1.02], ideal)
    >>> round(fitted.ellipticity, 4), round(abs(fitted.angle), 4), round(fitted.scale, 4)
    (0.02, 0.0, 1.01)
    """
    measured, ideal = (np.asarray(v, dtype=float).reshape(-1, 2) for v in (measured, ideal))
    if measured.shape != ideal.shape:
        raise ValueError(f"{len(measured)} measured and {len(ideal)} ideal positions: give pairs")
    weight = np.ones_like(measured) if error is None else 1 / np.asarray(error, dtype=float) ** 2
    known = np.isfinite(np.hstack([measured, ideal, weight])).all(axis=1)
    measured, ideal, weight = measured[known], ideal[known], weight[known]
    if len(ideal) < 4:
        raise ValueError(f"{len(ideal)} spots with finite positions: four or more are needed")
    spread = np.linalg.svd(ideal - ideal.mean(axis=0), compute_uv=False)
    if spread[1] < 1e-3 * spread[0]:
        raise ValueError("all spots are on one line: spots in two directions are needed")
    design = np.column_stack([ideal, np.ones(len(ideal))])
    rows, covariances = [], []
    for axis in (0, 1):
        use = np.ones(len(ideal), dtype=bool)
        for _ in range(3):
            w = np.where(use, weight[:, axis], 0)
            normal = design.T @ (design * w[:, None])
            row = np.linalg.solve(normal, design.T @ (w * measured[:, axis]))
            rest = (measured[:, axis] - design @ row) * np.sqrt(weight[:, axis])
            limit = _OUTLIER * 1.4826 * np.median(abs(rest))
            # one that fits to rounding has no outliers
            use = abs(rest) <= max(limit, 1e-9 * abs(measured).max() * np.sqrt(weight.max()))
            if np.count_nonzero(use) < 4:
                use[:] = True
        freedom = max(np.count_nonzero(use) - 3, 1)
        rows.append(row)
        covariances.append(np.linalg.inv(normal) * (rest[use] ** 2).sum() / freedom)
    rows = np.array(rows)
    covariance = np.zeros((4, 4))
    covariance[:2, :2], covariance[2:, 2:] = (c[:2, :2] for c in covariances)
    centre_error = np.sqrt([c[2, 2] for c in covariances])
    return _separate(rows[:, :2], rows[:, 2], covariance, centre_error)


def fit_rings(frame, centre, *, mask=None, radii=None, aspect=1.0):
    """Fit the ellipticity, and the centre, of a pattern of rings.

    The radius of every ring follows, against the direction phi, dr = cy sin phi + cx cos phi +
    r (e1 cos 2 phi + e2 sin 2 phi). The four unknowns, common to all rings, are fitted to the
    radial slope of the pattern in polar coordinates; rings need not be picked, and each direction
    may have its own intensity (texture).

    Parameters
    ----------
    frame : array of shape (ny, nx)
    centre : array of shape (2,)
        (y, x) to start from, within a few pixels.
    mask : bool array of shape (ny, nx), optional
        True for pixels to ignore.
    radii : tuple of float, optional
        Range of radii to use, in heights of a pixel; default a tenth of the way to the farthest
        border, beyond the direct beam, up to that border.
    aspect : float
        Width of a pixel over its height.

    Returns
    -------
    Distortion
        Scale 1 and rotation 0, with NaN errors: rings do not tell them.

    Raises
    ------
    ValueError
        No rings, or too little of them to tell (less than half a circle), or a radius range
        without pixels.
    """
    frames, valid = check_frames(frame, mask)
    if len(frames) != 1:
        raise ValueError(f"one frame is needed, not {len(frames)}")
    frame, valid = frames[0].astype(float), valid[0]
    centre = np.asarray(centre, dtype=float)
    if centre.shape != (2,) or not np.isfinite(centre).all():
        raise ValueError(f"centre={centre}: (y, x) in pixels is needed")
    if radii is None:
        to_border = np.maximum(centre, np.array(frame.shape) - 1 - centre)
        farthest = (to_border * [1.0, aspect]).max()
        radii = (0.1 * farthest, farthest)
    if not 0 <= radii[0] < radii[1] - 8:
        raise ValueError(f"radii={radii}: an ascending range of eight or more pixels is needed")
    if not valid.any() or np.ptp(frame[valid]) == 0:
        raise ValueError("no rings: the frame is empty, masked, or the same everywhere")
    filled = np.where(valid, frame, np.median(frame[valid]))
    # u = (cy, cx, e1, e2), in heights of a pixel
    u = np.array([centre[0], aspect * centre[1], 0.0, 0.0])
    for _ in range(_ITERATIONS):
        normal, right = _ring_equations(filled, valid, u, radii, aspect)
        total = normal.sum(axis=0)
        if len(normal) < _SECTORS // 2 or not np.linalg.eigvalsh(_scaled(total))[0] > 1e-6:
            raise ValueError("not enough of rings in this range of radii to fit an ellipse to")
        step = np.linalg.solve(total, right.sum(axis=0))
        u += np.clip(step, [-2, -2, -0.02, -0.02], [2, 2, 0.02, 0.02])
        if abs(step[:2]).max() < 1e-3 and abs(step[2:]).max() < 1e-5:
            break
    n = len(normal)
    out = np.linalg.solve(total - normal, (right.sum(axis=0) - right)[..., None])[..., 0]
    out -= out.mean(axis=0)
    covariance = (n - 1) / n * out.T @ out
    e1, e2 = u[2:]
    # on (y, x): cos 2 phi stretches x, and phi is counted counter-clockwise as displayed
    matrix = np.array([[1 - e1, -e2], [-e2, 1 + e1]])
    matrix /= np.sqrt(np.linalg.det(matrix))
    jacobian = np.array([[-1, 0], [0, -1], [0, -1], [1, 0]], dtype=float)
    pixel = np.array([1.0, aspect])
    found = _separate(
        matrix,
        u[:2] / pixel,
        jacobian @ covariance[2:, 2:] @ jacobian.T,
        np.sqrt(np.diag(covariance)[:2]) / pixel,
    )
    return found._replace(
        scale=1.0, rotation=0.0, scale_error=float("nan"), rotation_error=float("nan")
    )


def rotation_drift(positions, reference=0):
    """Rotation of each frame's pattern relative to a reference frame.

    Spots are matched to those of the reference, whatever their order; the rotation is that of the
    polar decomposition of the affine map between the two, so that strain is not taken for it.

    Parameters
    ----------
    positions : sequence of arrays of shape (m_i, 2)
        Spots of each frame, (y, x), relative to the frame's centre.
    reference : int
        Number of the reference frame.

    Returns
    -------
    angle, error : arrays of shape (n,)
        Radian, counter-clockwise as displayed; NaN for frames with fewer than four spots that
        match, or all on a line.
    """
    positions = [np.asarray(p, dtype=float).reshape(-1, 2) for p in positions]
    if not -len(positions) <= reference < len(positions):
        raise ValueError(f"reference={reference}: a frame number below {len(positions)} is needed")
    fixed = positions[reference]
    angle, error = np.full((2, len(positions)), np.nan)
    previous = 0.0
    for i, moving in enumerate(positions):
        pairs = _match(moving, fixed, previous)
        if pairs is None:
            continue
        try:
            found = fit_distortion(moving[pairs[0]], fixed[pairs[1]])
        except ValueError:  # too few or on a line: this frame does not tell
            continue
        angle[i], error[i] = found.rotation, found.rotation_error
        previous = found.rotation
    return angle, error


def _match(moving, fixed, previous):
    """Nearest spots of the reference under the rotation that leaves most of them near one."""
    if len(moving) < 4 or len(fixed) < 4:
        return None
    apart = np.hypot(*(fixed[:, None] - fixed).transpose(2, 0, 1))
    np.fill_diagonal(apart, np.inf)
    tolerance = _MATCH * np.median(apart.min(axis=1))
    best, best_score = None, -np.inf
    for angle in np.concatenate([[previous], _ROTATIONS]):
        turned = moving @ _rotation(-angle).T
        distance = np.hypot(*(turned[:, None] - fixed).transpose(2, 0, 1))
        nearest = distance.argmin(axis=1)
        gap = distance[np.arange(len(moving)), nearest]
        # mutual, so that no spot of the reference is taken twice
        mutual = distance.argmin(axis=0)[nearest] == np.arange(len(moving))
        close = mutual & (gap < tolerance)
        score = (1 - (gap[close] / tolerance) ** 2).sum()
        if score > best_score:
            best, best_score = (np.flatnonzero(close), nearest[close]), score
    return best if len(best[0]) >= 4 else None


def _rotation(angle):
    """Matrix on (y, x) vectors that turns counter-clockwise as displayed, with y down."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def _polar(matrix):
    """Symmetric V and rotation R of A = V R."""
    left, stretch, right = np.linalg.svd(matrix)
    return left * stretch @ left.T, left @ right


def _values(matrix):
    """Logarithm of the scale, rotation, and the two components of the ellipticity."""
    stretch, turn = _polar(matrix)
    scale = np.sqrt(np.linalg.det(stretch))
    unit = stretch / scale
    # (y, x) order, phi counter-clockwise with y down
    return np.array(
        [
            np.log(scale),
            np.arctan2(turn[1, 0], turn[0, 0]),
            0.5 * (unit[1, 1] - unit[0, 0]),
            -unit[0, 1],
        ]
    )


def _separate(matrix, centre, covariance, centre_error):
    if not np.linalg.det(matrix) > 0:
        raise ValueError(
            "the map mirrors the pattern: check that both positions are in (y, x) order and that "
            "the indices belong to the spots"
        )
    values = _values(matrix)
    size = np.sqrt(np.linalg.det(matrix))
    delta = 1e-6 * size
    jacobian = np.empty((4, 4))
    for i in range(4):
        change = np.zeros(4)
        change[i] = delta
        up, down = (_values(matrix + s * change.reshape(2, 2)) for s in (1, -1))
        jacobian[:, i] = (up - down) / (2 * delta)
    c = jacobian @ covariance @ jacobian.T
    log_scale, rotation, e1, e2 = values
    e = np.hypot(e1, e2)
    # axes of the unimodular stretch are cosh +- sinh of the same number, and e is its sinh
    ratio = (np.sqrt(1 + e**2) + e) ** 2
    direction = np.array([e1, e2]) / e if e > 0 else np.array([1.0, 0.0])
    across = np.array([-direction[1], direction[0]])
    error = np.sqrt(direction @ c[2:, 2:] @ direction)
    angle_error = 0.5 * np.sqrt(across @ c[2:, 2:] @ across) / e if e > 0 else np.inf
    return Distortion(
        matrix,
        centre,
        float(np.exp(log_scale)),
        float(rotation),
        float(ratio - 1),
        float(0.5 * np.arctan2(e2, e1)),
        float(np.sqrt(c[0, 0]) * np.exp(log_scale)),
        float(np.sqrt(c[1, 1])),
        float(2 * ratio * error / np.sqrt(1 + e**2)),
        # without a direction every angle is as good
        float(min(angle_error, np.pi / np.sqrt(12))),
        np.asarray(centre_error, dtype=float),
    )


def _ring_equations(frame, valid, u, radii, aspect):
    """Normal matrices and right sides of the sectors."""
    phi = 2 * np.pi * (np.arange(_DIRECTIONS) + 0.5) / _DIRECTIONS
    r = np.arange(radii[0], radii[1])
    even, odd = np.cos(2 * phi), np.sin(2 * phi)
    radius = r * (1 + u[2] * even + u[3] * odd)[:, None]
    at = np.stack(
        [u[0] - radius * np.sin(phi)[:, None], (u[1] + radius * np.cos(phi)[:, None]) / aspect]
    )
    polar = ndimage.map_coordinates(frame, at, order=1, mode="nearest")
    known = ndimage.map_coordinates(valid.astype(float), at, order=1, mode="constant") > 0.999
    sigma = _SMOOTH * (radii[1] - radii[0])

    def without_background(values):
        weight = ndimage.gaussian_filter1d(known.astype(float), sigma, axis=1)
        smooth = ndimage.gaussian_filter1d(np.where(known, values, 0), sigma, axis=1)
        return np.where(known, values - smooth / np.maximum(weight, 1e-9), 0)

    enough = known.mean(axis=1) > _VALID * known.mean(axis=1).max()
    known &= enough[:, None]
    ring = without_background(polar)
    count = known.sum(axis=0)
    mean = ring.sum(axis=0) / np.maximum(count, 1)
    slope = np.gradient(mean)
    # noise of a radius across directions; radii seen in few directions say nothing
    spread = np.sqrt((known * (ring - mean) ** 2).sum(axis=0) / np.maximum(count - 1, 1))
    good = count > _DIRECTIONS / 4
    weight = known * np.where(good, 1 / np.maximum(spread, 1e-3 * spread.max() + 1e-30) ** 2, 0)
    # moving a ring outwards by dr changes the pattern at a radius by -slope dr
    parts = [-np.sin(phi)[:, None], np.cos(phi)[:, None], r * even[:, None], r * odd[:, None]]
    regressors = np.stack([-slope * p for p in parts]) * known
    data = ring - mean * known
    # each direction has its own intensity
    norm = np.maximum((weight * mean**2).sum(axis=1), 1e-30)
    data = data - mean * ((weight * mean * data).sum(axis=1) / norm)[:, None]
    share = (weight * mean * regressors).sum(axis=2) / norm
    regressors = regressors - mean * share[..., None]
    sector = np.arange(_DIRECTIONS) * _SECTORS // _DIRECTIONS
    normal, right = [], []
    for s in np.unique(sector[known.any(axis=1)]):
        rows = sector == s
        a, w, b = regressors[:, rows], weight[rows], data[rows]
        normal.append(np.einsum("ikr,jkr->ij", a * w, a))
        right.append(np.einsum("ikr,kr->i", a * w, b))
    return np.array(normal).reshape(-1, 4, 4), np.array(right).reshape(-1, 4)


def _scaled(matrix):
    size = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    return matrix / size / size[:, None]
