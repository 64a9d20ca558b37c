r"""Neighbouring reflections that leak into windows which the edge of a particle cuts.

A whole Gaussian window lets a reflection at a distance of :math:`\Delta` in with
:math:`\exp(-2\pi^2\sigma^2\Delta^2)`, a cut one with much more. So at the places where a mask cuts
the window the neighbours are fitted as well: with the polynomial :math:`c_a` of the reflection
itself and one constant :math:`n_j` for each neighbour, the test functions
:math:`\langle w u^a\rangle` at g and :math:`\langle w\rangle` at the neighbours are

.. math::
    T_a = \sum_b A_{ab} c_b + \sum_j B_{aj} n_j, \qquad
    t_i = \sum_b B^*_{bi} c_b + \sum_j D_{ij} n_j,

with the moments A of the window (`hyperspy_lfp.kernels.gpa.windows`) and those of the window at the
differences of the carriers, :math:`B_{aj} = \langle w u^a m e^{-2\pi i (g - g_j) u}\rangle` and
:math:`D_{ij} = \langle w m e^{-2\pi i (g_i - g_j) u}\rangle`, from a first stage of the mask. The
neighbours are the conjugates, the other given reflections, and the spots that the frame has near
them. Their strain is not fitted: planes for them do not lower the error of simulated images. The
noise stays that of the fit without them, to a percent.
"""

from typing import NamedTuple

import numpy as np
import scipy.fft

from hyperspy_lfp.kernels._arrays import get_ndimage, to_host
from hyperspy_lfp.kernels.gpa.windows import apply

#: Distance in cycles per sigma within which reflections are neighbours. The weights of a mask rise
#: softly, so that what is farther stays out.
_REACH = 2.2
#: Closest neighbours: what is nearer belongs to the reflection itself, which strain spreads.
_CLOSEST = 0.5
#: Radius in cycles per sigma over which the power of a spot is gathered.
_SPREAD = 0.2
#: Pixels are binned for the search as long as frequencies stay below this, in cycles per bin: the
#: amplitude of the highest is lowered by a seventh.
_SAMPLING = 0.3
#: Smallest amplitude of a neighbour in units of the strongest given reflection, how far its power
#: is above the median around it, and how many there may be.
_WEAKEST = 0.05
_CONTRAST = 3.0
_MOST = 16
#: Relative weight of the assumption that neighbours are weak, which keeps the system solvable
#: where hardly anything of a window is left.
_RIDGE = 1e-4
#: Differences between carriers that are nearer than this, in cycles per sigma, are one.
_SAME = 0.01


class Beams(NamedTuple):
    """Reflections of a frame and which of them are neighbours.

    Signed ones are all of `g` and then all of `-g`.
    """

    g: np.ndarray  # (B, 2): the K given ones first, (y, x) order, cycles per pixel
    near: tuple  # K arrays of signed indices
    differences: np.ndarray  # (D, 2): between carriers, cycles per pixel
    places: dict  # of two signed indices: which difference, and whether it is the opposite one


def find_spots_near(frame, weights, g, sigma, xp):
    """Further spots of the lattice within reach of given ones.

    Parameters
    ----------
    frame : array of shape (ny, nx)
        Less its mean; zero where the weights are.
    weights : array of shape (ny, nx)
        Of the pixels, which rise softly from zero at the edges.
    g : array of shape (K, 2)
        Mean lattice of the frame, (y, x) order, cycles per pixel.
    sigma : tuple of float
        Standard deviation of the window along (y, x), pixels.
    xp : module

    Returns
    -------
    array of shape (at most `_MOST`, 2)
        One of each pair +g, -g, strongest first. NumPy.
    """
    sigma = np.array(sigma)
    highest = np.abs(g).max(axis=0) + _REACH / sigma
    bins = np.maximum(_SAMPLING / highest, 1).astype(int)
    small = _binned(frame * weights, bins, xp)
    # in pixels of the frame, so that frequencies are in cycles per pixel
    shape = np.array(small.shape) * bins
    size = [2 * max(1, round(_SPREAD * n / s)) + 1 for n, s in zip(shape, sigma, strict=True)]
    most = np.minimum(np.ceil(highest * shape), (np.array(small.shape) - 1) // 2)
    most_y, most_x = most.astype(int)
    edge = min(size[1] // 2, most_x)
    # rows in order of their frequency; the half plane and what is needed beyond its edge
    # SciPy's transform is several times faster than NumPy's
    transform = scipy.fft.rfft2 if xp is np else xp.fft.rfft2
    spectrum = transform(small)[xp.arange(-most_y, most_y + 1), : most_x + 1]
    power = spectrum.real**2 + spectrum.imag**2
    power = xp.concatenate([power[::-1, edge:0:-1], power], axis=1)
    ndimage = get_ndimage(power)
    gathered = ndimage.uniform_filter(power, size, mode="constant")
    # the slope of a stronger spot is no other one
    peaks = to_host(gathered == ndimage.maximum_filter(gathered, 3, mode="constant"))
    gathered = to_host(gathered)
    at = [
        np.arange(first, last + 1, dtype=np.float32) * (s / n)
        for first, last, s, n in zip((-most_y, -edge), (most_y, most_x), sigma, shape, strict=True)
    ]
    y, x = at[0][:, None], at[1]
    given = np.concatenate([g, -g]) * sigma
    nearest = np.full(gathered.shape, np.inf, dtype=np.float32)
    strength = 0.0
    for q in given:
        distance = (y - np.float32(q[0])) ** 2 + (x - np.float32(q[1])) ** 2
        strength = max(strength, gathered[distance < _CLOSEST**2].max(initial=0.0))
        np.minimum(nearest, distance, out=nearest)
    # the mean leaves power around zero
    candidates = (nearest < _REACH**2) & (y**2 + x**2 > _CLOSEST**2)
    floor = np.median(gathered[candidates][::4]) if candidates.any() else 0.0
    level = max(_WEAKEST**2 * strength, _CONTRAST * floor)
    candidates &= peaks & (nearest > _CLOSEST**2) & (gathered > level)
    left = np.where(candidates, gathered, 0)
    found = []
    while len(found) < _MOST and left.max(initial=0.0) > 0:
        i, j = np.unravel_index(left.argmax(), left.shape)
        rows, columns = (
            slice(max(0, p - s // 2), p + s // 2 + 1) for p, s in zip((i, j), size, strict=True)
        )
        patch = to_host(power[rows, columns]).astype(float)
        spot = np.array([patch.sum(axis=1) @ at[0][rows], patch.sum(axis=0) @ at[1][columns]])
        spot /= max(patch.sum(), np.finfo(float).tiny)
        found.append(spot / sigma)
        left[i, j] = 0
        for q in (spot, -spot):
            left[(y - q[0]) ** 2 + (x - q[1]) ** 2 < _CLOSEST**2] = 0
    return np.array(found).reshape(-1, 2)


def _binned(array, bins, xp):
    """Sums over bins of pixels along (y, x); what is left over at the end is left out."""
    ny, nx = (n // b for n, b in zip(array.shape, bins, strict=True))
    array = array[: ny * bins[0], : nx * bins[1]]
    rows = array.reshape(ny, bins[0], -1).sum(axis=1)
    return rows.reshape(ny, nx, bins[1]).sum(axis=2)


def beams(g, extra, sigma):
    """Which reflections are neighbours, and the differences between their carriers.

    Parameters
    ----------
    g : array of shape (K, 2)
        Mean lattice of the frame, (y, x) order, cycles per pixel.
    extra : array of shape (E, 2)
        Further spots.
    sigma : tuple of float
        Standard deviation of the window along (y, x), pixels.

    Returns
    -------
    Beams
    """
    both = np.concatenate([g, extra])
    signed = np.concatenate([both, -both]) * sigma
    near, differences, places = [], [], {}
    for k in range(len(g)):
        distance = np.hypot(*(signed - signed[k]).T)
        near.append(np.flatnonzero((distance < _REACH) & (distance > _CLOSEST / 2)))
        for i in (k, *near[-1]):
            for j in near[-1]:
                delta = signed[i] - signed[j]
                if i == j or (i, j) in places or np.hypot(*delta) > _REACH:
                    continue
                same = [
                    min(np.abs(delta - d).max(), np.abs(delta + d).max()) < _SAME
                    for d in differences
                ]
                n = same.index(True) if any(same) else len(differences)
                if n == len(differences):
                    differences.append(delta)
                places[i, j] = n, bool(differences[n] @ delta < 0)
    return Beams(both, tuple(near), np.array(differences).reshape(-1, 2) / sigma, places)


def tests_at(data, g, terms, windows, plan, xp):
    """Test functions of frames after the first stage with carriers `g`, (B, n, number of terms).

    The phase is that of a carrier that is zero at the centre of each window.
    """
    along_y, along_x = (a.masked.tests for a in plan[:2])
    where = windows.rows, windows.columns
    out = xp.empty((len(data), len(where[0]), len(terms)), dtype=xp.complex128)
    for n, one in enumerate(data):
        phase = phase_at(g[n], windows, plan, xp)
        for i, (of_y, of_x) in enumerate(terms):
            out[n, :, i] = apply(along_y.part(of_y), along_x.part(of_x), one, xp)[where] * phase
    return out


def phase_at(g, windows, plan, xp):
    """From the phase of the carrier g to that of one that is zero at each centre, (n,)."""
    along_y, along_x = (
        xp.asarray(np.exp(2j * np.pi * q * (a.positions + a.origin)))
        for q, a in zip(g, plan[:2], strict=True)
    )
    return along_y[windows.rows] * along_x[windows.columns]


def solve(k, tests, others, moments, beams, windows, xp):
    """Value and slopes of a reflection, with its neighbours.

    Parameters
    ----------
    k : int
        Which reflection.
    tests : array of shape (n, number of terms)
        Its test functions, with the phase of a carrier that is zero at the centre of each window.
    others : array of shape (B, n)
        The window alone at all beams.
    moments : array of shape (D, n, number of terms)
        Of the mask at the differences of the carriers.
    beams : Beams
    windows : hyperspy_lfp.kernels.gpa.windows.MaskedWindows
    xp : module

    Returns
    -------
    array of shape (n, 3)
        Value and slopes, per sigma.
    """
    near = beams.near[k]
    inverse = windows.inverse
    plain = inverse @ tests[..., None]  # (n, p, 1)
    number, terms = tests.shape
    if not len(near):
        return plain[:, :3, 0]

    def between(i, j):
        place, opposite = beams.places[i, j]
        return moments[place].conj() if opposite else moments[place]

    cross = xp.empty((number, terms, len(near)), dtype=xp.complex128)
    system = xp.zeros((number, len(near), len(near)), dtype=xp.complex128)
    rest = xp.empty((number, len(near), 1), dtype=xp.complex128)
    whole = windows.whole.astype(xp.float64)
    n_beams = len(beams.g)
    for a, i in enumerate(near):
        cross[:, :, a] = between(k, i)
        system[:, a, a] = whole * (1 + _RIDGE)
        rest[:, a, 0] = others[i] if i < n_beams else others[i - n_beams].conj()
        for b, j in enumerate(near):
            if (i, j) in beams.places:
                system[:, a, b] = between(i, j)[:, 0]
    adjoint = xp.swapaxes(cross.conj(), -1, -2)
    through = inverse @ cross
    system -= adjoint @ through
    constants = xp.linalg.solve(system, rest - adjoint @ plain)
    return (plain - through @ constants)[:, :3, 0]
