r"""Windows of the local plane-wave fit that an arbitrary set of pixels cuts.

Where only the border of the frame cuts a window, the normal equations of
`hyperspy_lfp.kernels.gpa.lockin` separate. A mask (a particle in vacuum, dead pixels) leaves a full
system at every place whose window it cuts. Its moments are those of Gaussian windows times powers
of x and y over the mask, and come from one first stage of the mask.

At the edge of a particle a plane reads the strain not where the window is centred but further
inside, by half a sigma at a distance of one: the variation of the strain towards the edge is
halved. A parabola's slope is unbiased there for a strain that varies linearly (local polynomial
regression: J. Fan, I. Gijbels, Local Polynomial Modelling and Its Applications, Chapman & Hall
1996, section 3.3), and in the interior the two are the same. But a parabola under a cut window
lets neighbouring spots in, several times as much as a plane does, so that it is fitted only where
the spots are far apart for the resolution (`degree_for`).
"""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels._arrays import get_ndimage, to_host

#: A window is fitted anew where it lacks more than this share of its pixels.
_CUT = 1e-3
#: Share of the window that must be left.
_FEWEST = 0.1
#: Where the standard deviation of a derivative would be so many times that of a whole window, too
#: little of it is left: with a parabola half a sigma from a straight edge.
_NOISIEST = 6.0
#: Distance of two spots, in cycles per sigma, from where on a parabola is fitted at edges.
_APART = 1.3
#: Largest condition number of the normal equations, in units of the window.
_WORST = 1e6
#: Amplitude below which there is vacuum, in units of the typical one; how far from vacuum in
#: units of sigma an edge may be; share of valid pixels from where on that can be said; and share of
#: the strongest reflection that one must have to count.
_VACUUM = 0.25
_REACH = 2.5
_KNOWN = 0.3
_WEAK = 0.3
#: How far from an edge, in units of sigma, the amplitude of the crystal is looked for at first,
#: and how often the edge is found.
_PLATEAU = 1.0
_ROUNDS = 3
#: Exponents (y, x) of the terms of the local model, those of the plane first, and their number
#: by its degree.
_TERMS = ((0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0))
_NUMBER = {1: 3, 2: 6}


def degree_for(g, sigma):
    """Degree of the local model: a parabola if all reflections are far enough apart.

    Parameters
    ----------
    g : array of shape (K, 2)
        Reciprocal vectors, (y, x) order, cycles per pixel.
    sigma : tuple of float
        Standard deviation of the window along (y, x), pixels.
    """
    spots = np.concatenate([g, -g]) * sigma
    distances = np.linalg.norm(spots[:, None] - spots, axis=-1)
    nearest = distances[~np.eye(len(spots), dtype=bool)].min()
    return 2 if nearest > _APART else 1


class MaskedWindows(NamedTuple):
    """The fits where a set of pixels cuts the window."""

    rows: np.ndarray  # (n,) where on the maps
    columns: np.ndarray  # (n,)
    inverse: np.ndarray  # (n, p, p): of the normal equations for p = 3 or 6 terms, per sigma
    whole: np.ndarray  # (n,): share of the window that is left
    gains: tuple  # 2 arrays (n_out_y, n_out_x): variances of d/dx, d/dy due to unit white noise
    support: np.ndarray  # (n_grid_y, n_grid_x): first stage of the pixels
    missing: np.ndarray  # (n_out_y, n_out_x) bool: where no fit is possible or wanted

    @property
    def terms(self):
        """Exponents (y, x) of the test functions."""
        return _TERMS[: self.inverse.shape[-1]]

    @property
    def solution(self):
        """Value and slopes from the tests, (n, 3, p)."""
        return self.inverse[:, :3]


def masked_windows(weights, plan, xp, degree, inside=None):
    """Solve the normal equations for windows times weights of the pixels.

    Parameters
    ----------
    weights : array of shape (ny, nx)
        Zero for pixels that do not take part.
    plan : hyperspy_lfp.kernels.gpa.plan.LockinPlan
    xp : module
    degree : {1, 2}
        Of the local model.
    inside : bool array of shape (n_out_y, n_out_x), optional
        Where a fit is wanted.

    Returns
    -------
    MaskedWindows
    """
    weights = weights.astype(xp.float32)
    masked = [a.masked for a in plan[:2]]
    support = apply(*(m.smooth for m in masked), weights, xp)
    squared = apply(*(m.smooth_squared for m in masked), weights**2, xp)
    whole = apply(*(m.moments.part(0) for m in masked), support, xp)
    gain_y, gain_x = (xp.asarray(a.noise_gain) for a in plan[:2])
    gains = gain_y[0][:, None] * gain_x[1], gain_y[1][:, None] * gain_x[0]
    missing = whole < _FEWEST
    if inside is not None:
        missing |= ~inside
    rows, columns = xp.nonzero((whole < 1 - _CUT) & ~missing)
    inverse, noise = _solutions(support, squared, rows, columns, plan, degree, xp)
    widths = plan.sigma[1], plan.sigma[0]
    middle = [len(a.positions) // 2 for a in plan[:2]]
    enough = xp.isfinite(inverse[:, 0, 0])
    for i, gain in enumerate(gains):
        # no window has less noise than a whole one in the middle of the frame
        most = _NOISIEST**2 * float(gain[middle[0], middle[1]])
        gain[rows, columns] = noise[i] / widths[i] ** 2
        enough &= (gain[rows, columns] > 0) & (gain[rows, columns] < most)
    missing[rows, columns] |= ~enough
    whole = whole[rows, columns]
    return MaskedWindows(rows, columns, inverse, whole, gains, support, missing)


def _solutions(support, squared, rows, columns, plan, degree, xp):
    """Inverse of the normal equations, and the noise of the slopes."""
    masked = [a.masked for a in plan[:2]]
    terms = _TERMS[: _NUMBER[degree]]
    matrices = []
    for name, first in (("moments", support), ("noise", squared)):
        along = [getattr(m, name) for m in masked]
        moments = {
            (y, x): apply(along[0].part(y), along[1].part(x), first, xp)[rows, columns]
            for y in range(2 * degree + 1)
            for x in range(2 * degree + 1 - y)
        }
        entries = [moments[a[0] + b[0], a[1] + b[1]] for a in terms for b in terms]
        matrix = xp.stack(entries, axis=-1).astype(xp.float64)
        matrices.append(matrix.reshape(-1, len(terms), len(terms)))
    system, noise = matrices
    values, vectors = xp.linalg.eigh(system)
    solvable = values[:, :1] * _WORST > values[:, -1:]
    inverse_values = xp.where(solvable, 1 / xp.where(values > 0, values, 1), xp.nan)
    inverse = (vectors * inverse_values[:, None, :]) @ xp.swapaxes(vectors, -1, -2)
    solution = inverse[:, :3]
    return inverse, [
        ((solution[:, i, None] @ noise)[:, 0] * solution[:, i]).sum(-1) for i in (1, 2)
    ]


def mask_weights(mask, plan, xp):
    """Weights of the pixels of a mask, which rise from zero at its edge.

    A window that is cut off sharply lets the neighbouring spots in, and the fringes at the edge
    of a crystal are not those of its lattice. The weight follows the mask as the first stage
    smooths it: half at a straight edge, which gives zero, and one inside.

    Parameters
    ----------
    mask : bool array of shape (ny, nx)
    plan : hyperspy_lfp.kernels.gpa.plan.LockinPlan
    xp : module

    Returns
    -------
    array of shape (ny, nx), float32
    """
    masked = [a.masked for a in plan[:2]]
    mask = mask.astype(xp.float32)
    covered = apply(*(m.smooth for m in masked), mask, xp)
    whole = np.outer(*(m.whole for m in masked)).astype(np.float32)
    covered /= xp.asarray(np.maximum(whole, np.finfo(np.float32).tiny))
    inside = xp.clip(2 * apply(*(m.upsample for m in masked), covered, xp) - 1, 0, 1)
    return mask * inside


def crystal_mask(data, turned, plan, xp, support=None):
    """Pixels of a crystal in vacuum, from the amplitude of its reflections.

    There is vacuum where no reflection has more than a quarter of its typical amplitude. The
    crystal begins where the strongest has half of what it has further inside: there a window is
    half filled.

    Parameters
    ----------
    data : array of shape (K, n_grid_y, n_grid_x)
        The frame after the first stage.
    turned : array of shape (K, 2)
        The carrier on the nodes that makes up for the mean lattice of the frame.
    plan : hyperspy_lfp.kernels.gpa.plan.LockinPlan
    xp : module
    support : array of shape (n_grid_y, n_grid_x), optional
        The valid pixels after the first stage; where they are few nothing is known, and they
        are taken for crystal.

    Returns
    -------
    bool array of shape (ny, nx) or None
        None if there is no vacuum or no crystal.
    """
    masked = [a.masked for a in plan[:2]]
    amplitude = xp.empty(data.shape, dtype=xp.float32)
    for k, one in enumerate(data):
        phase_y, phase_x = (
            xp.asarray(np.exp(-1j * t * a.grid).astype(np.complex64))
            for t, a in zip(turned[k], plan[:2], strict=True)
        )
        one = one * phase_y[:, None] * phase_x
        (mean_y, slope_y), (mean_x, slope_x) = ((m.nodes.part(0), m.nodes.part(1)) for m in masked)
        value = apply(mean_y, mean_x, one, xp)
        # from the centroids of the windows, which the border moves, to the nodes
        value = value - apply(mean_y, slope_x, one, xp) * xp.asarray(masked[1].centroid)
        value -= apply(slope_y, mean_x, one, xp) * xp.asarray(masked[0].centroid)[:, None]
        amplitude[k] = xp.abs(value)
    unknown = xp.zeros(data.shape[1:], dtype=bool)
    if support is not None:
        covered = apply(*(m.nodes.part(0) for m in masked), support, xp)
        unknown = covered < _KNOWN
        amplitude /= xp.maximum(covered, _KNOWN)
    # beyond the border is what is at it
    inside = [xp.asarray(np.clip(np.arange(len(a.grid)), *_inside(a))) for a in plan[:2]]
    unknown = unknown[inside[0]][:, inside[1]]
    amplitude = relative_amplitude(amplitude[:, inside[0]][:, :, inside[1]], xp)
    if amplitude is None:
        return None
    strongest = amplitude.max(axis=0)
    vacuum = (strongest < _VACUUM) & ~unknown
    if not bool(vacuum.any()):
        return None
    ndimage = get_ndimage(data)
    nodes = [s / (a.grid[1] - a.grid[0]) for s, a in zip(plan.sigma, plan[:2], strict=True)]
    near = ndimage.maximum_filter(vacuum, _odd(_REACH * max(nodes))) & ~unknown

    def smooth(array):
        widths = (0,) * (array.ndim - 2) + tuple(nodes)
        return ndimage.gaussian_filter(array, widths, mode="nearest", truncate=3)

    # the amplitude of the crystal next to its edge: at first the largest nearby, and then what
    # the windows hold by how much of them the crystal found so far fills
    width = _odd(_PLATEAU * max(nodes))
    plateau = ndimage.maximum_filter(amplitude, (1, width, width))
    for further in reversed(range(_ROUNDS)):
        level = (amplitude / plateau).max(axis=0) - 0.5
        level = xp.where(vacuum, -0.5, xp.where(near, level, 0.5)).astype(xp.float32)
        if further:
            # share of the cell of a node: at an edge the level rises by 0.4 a sigma
            share = xp.clip(0.5 + level * (np.sqrt(2 * np.pi) * min(nodes)), 0, 1)
            plateau = smooth(amplitude * share) / xp.maximum(smooth(smooth(share) * share), 1e-6)
            plateau = xp.maximum(plateau, 1e-6)
    return apply(*(m.upsample for m in masked), level, xp) > 0


def _odd(width):
    """Size of a filter that reaches so many nodes to both sides."""
    return 2 * int(np.ceil(width)) + 1


def relative_amplitude(amplitude, xp):
    """Amplitudes (K, ...) in units of the typical one, of the strong reflections only.

    The typical one is the mean weighted with the square, which a large vacuum does not lower.
    None if there is nothing.
    """
    flat = amplitude.reshape(len(amplitude), -1)
    power = (flat**2).sum(axis=1)
    typical = to_host((flat**3).sum(axis=1) / xp.where(power > 0, power, 1))
    strong = typical >= _WEAK * typical.max()
    if not typical.max() > 0:
        return None
    shape = (-1,) + (1,) * (amplitude.ndim - 1)
    return amplitude[xp.asarray(strong)] / xp.asarray(typical[strong]).reshape(shape)


def _inside(axis):
    """First and last node inside the frame."""
    nodes = np.flatnonzero((axis.grid >= 0) & (axis.grid <= axis.size - 1))
    return nodes[0], nodes[-1]


def apply(along_y, along_x, array, xp):
    """Banded operators on both sides of a (n_y, n_x) array."""
    rows = xp.empty((along_y.size, array.shape[1]), dtype=array.dtype)
    for span, columns, matrix in zip(*along_y, strict=True):
        rows[span] = xp.asarray(matrix) @ array[columns]
    out = xp.empty((along_y.size, along_x.size), dtype=array.dtype)
    for span, columns, matrix in zip(*along_x, strict=True):
        out[:, span] = rows[:, columns] @ xp.asarray(matrix).T
    return out
