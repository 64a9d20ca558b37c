r"""Phases that contradict themselves: contrast reversal, and reflections that do not close.

**Contrast reversal.** Where the factor between lattice and image contrast changes its sign, with
thickness, tilt, defocus or composition, the fitted value passes through zero along a line, and
the phase differs by :math:`\pi` between its two sides without a dislocation. Near the line the
window mixes both signs. With a lattice that differs by p (radian per unit of length) from the
frame's mean one, along the normal s of a sharp reversal

.. math:: c_0 \propto \mathrm{erf}\frac{s + ip\sigma^2}{\sqrt 2\,\sigma},
    \qquad \delta\,\partial_s P \approx -\sqrt{2/\pi}\;
    \frac{s}{\sigma}\frac{e^{-s^2/2\sigma^2}}{\mathrm{erf}(s/\sqrt 2\sigma)}\;p,

so that a share of the strain is lost: 0.7 of it at a sigma from the line, 0.2 at two.

**Closure.** If :math:`\sum_k n_k\,hkl_k = 0`, displacement, drift and rotation cancel in
:math:`\sum_k n_k P_k`, exactly, and what is left is the sum of the phases of the structure
factors, one constant for a crystal of one composition, thickness and tilt.
"""

from itertools import combinations
from math import gcd
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from hyperspy_lfp.kernels._arrays import get_array_module, to_host
from hyperspy_lfp.kernels.gpa.defects import check_step, circulation, phase_wraps
from hyperspy_lfp.kernels.gpa.lattice import lattice_mask

#: Distance in units of sigma to either side at which phases are compared. Beyond 0.8 sigma from a
#: sharp reversal the amplitude changes slowly enough for a lattice, also where the line is crossed
#: at 45 degrees; further out, a front of strain gives more of a difference.
_REACH = 1.5
#: Cosine of the phase difference from what the gradients predict, below which it is a jump:
#: beyond 3/4 of pi. A change of strain by 0.05 within sigma = two spacings gives 0.3 pi.
_JUMP = np.cos(0.75 * np.pi)
#: Signal to noise of the amplitude on both sides: the phase jump, from two values and gradients,
#: has then a standard error of 0.3 radian.
_SIGNAL_TO_NOISE = 5.0
#: Amplitude on the line in units of the smaller one of both sides. Half a sigma from a sharp
#: reversal it is 0.4 of that at the reach, on the far side of a sample a sigma apart.
_DIP = 0.5
#: Shortest lines in units of sigma. The phase jumps across the core of a dislocation as well, along
#: 0.7 sigma, which strain and noise may double. So a short line counts only if a circuit closes
#: around it, without a winding: it is an island, or two opposite dislocations that the window does
#: not resolve. A line that ends at a border or a rim cannot be circled, but is longer.
_SHORTEST_CIRCLED = 1.5
_SHORTEST = 3.0
#: Distance in units of sigma at which the circuit runs around a line. The lattice there is that of
#: the sides.
_MARGIN = 1.0
#: Distance in units of sigma from the line up to which the strain is spoiled: 0.09 of its
#: difference from the frame's mean lattice are lost there, 2e-3 where that is 0.025, half of what
#: lithiation makes.
JUMP_RADIUS = 2.5

#: Largest multiple of a reflection in a closure relation.
_LARGEST = 2
#: Standard errors, and the error of strain if a phase error changes over one sigma, beyond both of
#: which closure fails. At borders and rims the standard error is too small by up to 1.5, which
#: leaves 4.7 of them: a map has hundreds of independent samples, one in 400 000 lies beyond. 0.005
#: is a tenth of the change of a with lithium.
_STANDARD_ERRORS = 7.0
_STRAIN = 0.005


#: Rounds of reweighting for the mean of a frame, and the phase in radian from which on what is off
#: loses its weight: several times the noise of a phase that is of any use.
_ROUNDS = 6
_FAR = 0.3


class Closure(NamedTuple):
    """How far the phases are from adding up."""

    residual: np.ndarray  # (n, m, y, x), radian in (-pi, pi], NaN without a lattice
    standard_error: np.ndarray  # (n, m, y, x), radian, NaN where the noise is not known


def phase_jumps(coefficients, sigma, positions, threshold=0.2):
    """Where a reversal of contrast spoils the phase.

    The phases at 1.5 sigma to both sides along x and y are compared with what the mean of their
    gradients predicts. A jump of pi, with a dip of the amplitude between, along a line of three
    sigma, or around an island, is a reversal; two opposite dislocations nearer than two sigma look
    like a small one. It takes a lattice well above the noise on both sides: no reversal is found
    nearer than 1.5 sigma to a border or a rim that it runs along, around an island with a radius
    below 2.5 sigma, where the contrast passes through zero so slowly that it is below the threshold
    for 1.5 sigma, or where the noise is not known.

    Parameters
    ----------
    coefficients : array of shape (n, K, 4, y, x)
        Those of `hyperspy_lfp.kernels.gpa.lockin.plane_wave_fit`.
    sigma : float
        Standard deviation of the window.
    positions : tuple of array
        Coordinates along (y, x) of the samples, increasing and evenly spaced.
    threshold : float
        See `hyperspy_lfp.kernels.gpa.lattice.lattice_mask`.

    Returns
    -------
    bool array of shape (n, K, y, x)
        True within 2.5 sigma of the dip of the amplitude. Lines are followed on the host; the
        map is on the device if the coefficients are.

    Raises
    ------
    ValueError
        If the positions decrease or are further apart than sigma.
    """
    xp = get_array_module(coefficients)
    step = check_step(positions, sigma)
    lattice = lattice_mask(coefficients, sigma, threshold)
    size = xp.abs(coefficients[..., 0, :, :])
    # not where the noise is not known
    sure = lattice & (size > _SIGNAL_TO_NOISE * xp.sqrt(_noise(coefficients, sigma)))
    line = xp.zeros(lattice.shape, dtype=bool)
    for axis, component in ((-1, 0), (-2, 1)):
        reach = int(np.ceil(_REACH * sigma / step[component] - 1e-6))
        if 2 * reach >= line.shape[axis]:
            continue
        before, at, after = (_along(axis, n, 2 * reach - n) for n in (0, reach, 2 * reach))
        dip = size[at] < _DIP * xp.minimum(size[before], size[after])
        dip &= sure[before] & sure[after]
        *places, rows, columns = xp.nonzero(dip)
        along = (0, reach) if axis == -1 else (reach, 0)
        first, middle, last = (
            (*places, rows + n * along[0], columns + n * along[1]) for n in range(3)
        )
        ends = [coefficients[n, k, :, y, x] for n, k, y, x in (first, last)]
        line[middle] |= xp.cos(_unpredicted(*ends, component, reach * step[component])) < _JUMP
    spoiled = np.zeros(line.shape, dtype=bool)
    for i, k in np.argwhere(to_host(line.any(axis=(-2, -1)))):
        spoiled[i, k] = _around_lines(
            to_host(line[i, k]),
            coefficients[i, k : k + 1],
            to_host(lattice[i, k]),
            positions,
            step,
            sigma,
        )
    return xp.asarray(spoiled)


def _noise(coefficients, sigma):
    """Variance of the value: the mean over x and y of 2 sigma^2 that of its derivative."""
    noise = coefficients[..., 3, :, :]
    return (noise.real + noise.imag) * np.float32(sigma**2)


def _unpredicted(before, after, component, reach):
    """Phase between samples 2 `reach` apart, less what the mean of their gradients predicts.

    `before` and `after` (m, 4) are the coefficients of the samples.
    """
    slopes = sum((c[:, 1 + component] / c[:, 0]).imag for c in (before, after))
    xp = get_array_module(before)
    return xp.angle(after[:, 0] * before[:, 0].conj()) - slopes * reach


def _along(axis, start, stop):
    """Index of what is left along an axis without the first `start` and the last `stop`."""
    part = slice(start, -stop if stop else None)
    whole = slice(None)
    return (whole, whole, whole, part) if axis == -1 else (whole, whole, part, whole)


def _around_lines(line, coefficients, lattice, positions, step, sigma):
    """Samples near the connected pieces that are lines, not cores of dislocations.

    Of one reflection, `coefficients` (1, 4, y, x).
    """
    labels, _ = ndimage.label(line, structure=np.ones((3, 3)))
    kept = np.zeros(line.shape, dtype=bool)
    margin = [int(np.ceil(_MARGIN * sigma / d - 1e-6)) for d in step[::-1]]
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        length = np.hypot(
            *((s.stop - 1 - s.start) * d for s, d in zip(box, step[::-1], strict=True))
        )
        if length < _SHORTEST_CIRCLED * sigma:
            continue
        wider = tuple(slice(s.start - m, s.stop + m) for s, m in zip(box, margin, strict=True))
        winding = _winding(wider, coefficients, lattice, positions)
        if winding == 0 or (winding is None and length >= _SHORTEST * sigma):
            kept[box] |= labels[box] == number
    if not kept.any():
        return kept
    distance = ndimage.distance_transform_edt(~kept, sampling=step[::-1])
    return distance <= JUMP_RADIUS * sigma


def _winding(box, coefficients, lattice, positions):
    """Winding of the phase around a box of samples, None if not all on its edge have a lattice."""
    if any(s.start < 0 or s.stop > n for s, n in zip(box, lattice.shape, strict=True)):
        return None
    inside = lattice[box]
    if not (inside[[0, -1]].all() and inside[:, [0, -1]].all()):
        return None
    places = [p[s] for p, s in zip(positions, box, strict=True)]
    wraps = phase_wraps(coefficients[(..., *box)], places)[:2]
    return int(circulation(*wraps, [n - 1 for n in inside.shape]).item())


def closure_relations(hkl):
    """Small whole numbers n with which reflections add up to zero.

    Parameters
    ----------
    hkl : int array of shape (K, 3)
        Miller indices.

    Returns
    -------
    int array of shape (m, K)
        One relation for each pair of parallel and for each triple of coplanar reflections, with
        multiples of two at most. The first of each is positive.

    Raises
    ------
    ValueError
        If the indices are no whole numbers, or all zero.

    Examples
    --------
    >>> from hyperspy_lfp.kernels.gpa.consistency import closure_relations
    >>> closure_relations([(2, 0, 0), (1, 0, 1), (1, 0, -1)]).tolist()
    [[1, -1, -1]]
    """
    hkl = np.asarray(hkl)
    if hkl.ndim != 2 or hkl.shape[1] != 3 or not np.all(np.equal(hkl, np.rint(hkl))):
        raise ValueError(f"hkl={hkl.tolist()}: give three whole numbers for each reflection.")
    if not hkl.any(axis=1).all():
        raise ValueError(f"hkl={hkl.tolist()}: (0, 0, 0) is no reflection.")
    vectors = [tuple(int(i) for i in v) for v in hkl]
    relations = []
    for i, j in combinations(range(len(vectors)), 2):
        if not any(_cross(vectors[i], vectors[j])):
            axis = next(a for a in range(3) if vectors[i][a])
            relations.append({i: vectors[j][axis], j: -vectors[i][axis]})
    parallel = [set(r) for r in relations]
    for triple in combinations(range(len(vectors)), 3):
        if any(pair <= set(triple) for pair in parallel):
            continue
        a, b, c = (vectors[k] for k in triple)
        normal = _cross(a, b)
        if _dot(normal, c):
            continue
        axis = next(n for n in range(3) if normal[n])
        numbers = _cross(b, c)[axis], _cross(c, a)[axis], normal[axis]
        relations.append(dict(zip(triple, numbers, strict=True)))
    rows = [_smallest(r, len(vectors)) for r in relations]
    rows = [r for r in rows if np.abs(r).max() <= _LARGEST]
    return np.array(rows, dtype=int).reshape(-1, len(vectors))


def _cross(a, b):
    """Of whole numbers, exactly."""
    return tuple(a[i - 2] * b[i - 1] - a[i - 1] * b[i - 2] for i in range(3))


def _dot(a, b):
    return sum(i * j for i, j in zip(a, b, strict=True))


def _smallest(relation, number):
    """The relation without a common factor, its first number positive."""
    row = np.zeros(number, dtype=int)
    factor = gcd(*relation.values())
    sign = 1 if relation[min(relation)] > 0 else -1
    for k, n in relation.items():
        row[k] = sign * n // factor
    return row


def closure(coefficients, relations, g, sigma, positions, threshold=0.2):
    r"""Phase by which reflections that depend on each other do not add up.

    .. math:: R = \sum_k n_k P_k + 2\pi\,\Big(\sum_k n_k g_k\Big)\cdot r - \bar R

    The second term is that of given g which close only nearly; the last one is the circular mean
    of the frame, weighted with the inverse variance of R for noise that is alike in all
    reflections, so that it is zero for phases of structure factors that are the same everywhere.

    Parameters
    ----------
    coefficients : array of shape (n, K, 4, y, x)
        Those of `hyperspy_lfp.kernels.gpa.lockin.plane_wave_fit`.
    relations : int array of shape (m, K)
        See `closure_relations`.
    g : array of shape (K, 2)
        Reciprocal vectors the coefficients were demodulated with, (x, y) order.
    sigma : float
        Standard deviation of the window.
    positions : tuple of array
        Coordinates along (y, x) of the samples.
    threshold : float
        See `hyperspy_lfp.kernels.gpa.lattice.lattice_mask`.

    Returns
    -------
    Closure
        NaN unless all reflections of the relation have a lattice. The standard error is that of
        a whole window: within a sigma of a border or rim it is too small by up to 1.5.
    """
    xp = get_array_module(coefficients)
    relations, g = np.asarray(relations, dtype=int), np.asarray(g, dtype=float)
    lattice = lattice_mask(coefficients, sigma, threshold)
    value = coefficients[..., 0, :, :]
    phase = xp.angle(value)
    power = xp.where(lattice, value.real**2 + value.imag**2, xp.nan)
    # half of the variance of the value is in the phase
    spread = _noise(coefficients, sigma) / (2 * power)
    y, x = (xp.asarray(p, dtype=xp.float64) for p in positions)
    shape = (len(coefficients), len(relations), *coefficients.shape[-2:])
    residual, error = (xp.empty(shape, dtype=xp.float32) for _ in range(2))
    for i, numbers in enumerate(relations):
        gap = 2 * np.pi * (numbers @ g)
        total = gap[1] * (y[:, None] - y.mean()) + gap[0] * (x - x.mean())
        total, of_sum, inverse = total[None], 0, 0
        for k in np.flatnonzero(numbers):
            n = int(numbers[k])
            total = total + n * phase[:, k]
            of_sum = of_sum + n**2 * spread[:, k]
            inverse = inverse + n**2 / power[:, k]
        residual[:, i] = _from_mean(total, 1 / inverse, xp)
        error[:, i] = xp.sqrt(of_sum)
    return Closure(residual, error)


def _from_mean(phase, weight, xp):
    """Phase from the weighted circular mean of most of the frame, in (-pi, pi].

    What is far from the mean loses its weight, so that a part that does not close does not make
    the rest look so.
    """
    weight = xp.where(xp.isfinite(weight), weight, 0)
    wave = xp.where(weight > 0, xp.exp(1j * phase), 0)
    left = weight
    for _ in range(_ROUNDS):
        mean = (wave * left).sum(axis=(-2, -1), keepdims=True)
        residual = xp.angle(wave * mean.conj())
        left = weight / (1 + (residual / _FAR) ** 2) ** 2
    return xp.where(weight > 0, residual, xp.nan)


def closure_tolerance(relations, g, sigma):
    r"""Phase error that matters for the strain, for each relation.

    A phase that is wrong by :math:`2\pi g\,\varepsilon\,\sigma` within a sigma reads a false strain
    :math:`\varepsilon` across the planes of g; that is taken to be 0.005, for the reflection of the
    relation that is most sensitive, the one with the smallest :math:`|g|`.

    Parameters
    ----------
    relations : int array of shape (m, K)
    g : array of shape (K, 2)
    sigma : float

    Returns
    -------
    array of shape (m,)
        Radian.
    """
    lengths = np.linalg.norm(np.asarray(g, dtype=float), axis=1)
    smallest = np.where(np.asarray(relations) != 0, lengths, np.inf).min(axis=1)
    return 2 * np.pi * smallest * _STRAIN * sigma


def closure_failure(closed, relations, g, sigma):
    """Where phases contradict each other by more than the noise, and by as much as matters.

    Parameters
    ----------
    closed : Closure
    relations, g, sigma
        See `closure`.

    Returns
    -------
    bool array of shape (n, y, x)
        True where any relation fails by more than seven standard errors and more than
        `closure_tolerance`. Where the noise is not known nothing is claimed. At a thousand
        electrons per pixel and more, phases fail to close within 0.7 sigma of a border as well,
        where the window is cut and lets other reflections in.
    """
    xp = get_array_module(closed.residual)
    tolerance = xp.asarray(closure_tolerance(relations, g, sigma), dtype=xp.float32)
    size = xp.abs(closed.residual)
    # comparisons with not-a-number are false
    fails = (size > _STANDARD_ERRORS * closed.standard_error) & (size > tolerance[:, None, None])
    return fails.any(axis=1)
