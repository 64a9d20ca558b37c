r"""Diffraction patterns as they are recorded: spots integrated over pixels, and a background.

A spot is the sum of the spots of many parts of a crystal, each with a lattice of its own; their
counts add, their amplitudes do not. With one part at (y, x) and a profile p, a pixel gets the
integral of p over its square:

- ``"gaussian"``, :math:`p \propto e^{-r^2/2\sigma^2}`: a product of differences of error functions;
- ``"disc"``, uniform within a radius: a sum over the corners of the pixel of the area that the disc
  shares with the quadrant beyond;
- ``"pseudo-voigt"``: part :math:`\eta` of :math:`p = \gamma/2\pi\,(r^2+\gamma^2)^{-3/2}`, the rest
  Gaussian with the same full width at half maximum *of the profile integrated across*: across, it
  leaves a Lorentzian of half width :math:`\gamma = \sigma\sqrt{2\ln 2}`, so that the sum is the
  pseudo-Voigt peak that `hyperspy_lfp.kernels.peaks` fits. Its integral over
  :math:`[0, x] \times [0, y]` is
  :math:`\arctan\bigl(xy / \gamma\sqrt{x^2+y^2+\gamma^2}\bigr) / 2\pi`.

All of them have the integral one over the plane. Lengths are in pixels, vectors in (y, x) order.
Host only: SciPy's error function.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import erf

SHAPES = ("gaussian", "pseudo-voigt", "disc")
#: Standard deviations of a Gaussian beyond which the error function is one in double precision.
_GAUSS_REACH = 8.5
#: Half widths of the long tails within which each part of a spot counts by itself. Beyond, they
#: count as one in their mean place: with parts s apart (standard deviation) that is wrong by less
#: than 6 (s / reach)^2 of a tail that has fallen to a millionth of the peak times reach / 100.
_TAIL_REACH = 25.0
#: Numbers in one array of corners or edges: a few megabytes.
_AT_ONCE = 2**19


class Profile(NamedTuple):
    """Shape of a spot."""

    shape: str
    width: float  # standard deviation, that of the Gaussian part, or radius of the disc
    eta: float = 0.0  # Lorentzian part of a pseudo-Voigt


def draw(shape, places, counts, profile):
    """Counts of spots in the pixels of a pattern.

    Parameters
    ----------
    shape : (int, int)
        (y, x)
    places : array of shape (m, n, 2)
        Places of the n parts of m spots, (y, x); pixel centres are whole numbers.
    counts : array of shape (m, n)
        Integral of each part.
    profile : Profile

    Returns
    -------
    array of shape (ny, nx)
        What falls beside the pattern is not there.

    Raises
    ------
    ValueError
        If the shape is not known, or the width not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_lfp.kernels.imaging.spots import Profile, draw
    >>> profile = Profile("gaussian", 1.2)
    >>> spot = draw((21, 31), np.array([[(9.25, 15.0)]]), np.array([[100.0]]), profile)
    >>> float(spot.sum().round(9)), float((spot.sum(axis=1) @ np.arange(21)).round(6)) / 100
    (100.0, 9.25)
    """
    if profile.shape not in SHAPES:
        raise ValueError(f"shape={profile.shape!r} of spots is not known; use one of {SHAPES}")
    if not 0 < profile.width < np.inf:
        raise ValueError(f"width={profile.width} of spots: a positive number of pixels is needed")
    image = np.zeros(shape)
    for at, weight in zip(places, counts, strict=True):
        if profile.shape == "disc":
            _add_within(image, at, weight, profile.width, _disc_corner, profile.width)
            continue
        eta = profile.eta if profile.shape == "pseudo-voigt" else 0.0
        if eta < 1:
            _add_gaussian(image, at, weight if eta == 0 else (1 - eta) * weight, profile.width)
        if eta > 0:
            _add_tailed(image, at, eta * weight, np.sqrt(2 * np.log(2)) * profile.width)
    return image


def background(shape, centre, middle, half_width):
    """Diffuse scattering around the direct beam, a Lorentzian of the distance.

    Parameters
    ----------
    shape : (int, int)
    centre : (float, float)
        (y, x)
    middle : float
        Counts in the middle.
    half_width : float or array of shape (2, 2)
        Distance at which half of them are left, or a matrix on (y, x) whose inverse takes the
        places of one half to the unit circle.

    Returns
    -------
    array of shape (ny, nx)
    """
    inverse = np.linalg.inv(half_width * np.eye(2) if np.ndim(half_width) == 0 else half_width)
    y, x = (np.arange(n) - c for n, c in zip(shape, centre, strict=True))
    metric = inverse.T @ inverse
    squared = metric[0, 0] * (y**2)[:, None] + metric[1, 1] * x**2
    if metric[0, 1]:
        squared = squared + 2 * metric[0, 1] * np.multiply.outer(y, x)
    return middle / (1 + squared)


def peak_part(profile):
    """Part of a spot's counts in the pixel that its middle is in the middle of: the most."""
    size = 2 * int(np.ceil(profile.width)) + 3
    middle = np.full((1, 1, 2), size // 2)
    return float(draw((size, size), middle, np.ones((1, 1)), profile).max())


def _window(shape, places, reach):
    """Rows and columns that parts of a spot reach, as slices; None if there are none."""
    low = np.floor(places.min(axis=0) - reach).astype(int)
    high = np.ceil(places.max(axis=0) + reach).astype(int) + 1
    low, high = np.maximum(low, 0), np.minimum(high, shape)
    if (low >= high).any():
        return None
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _edges(part, centres):
    """Edges of the pixels of a slice, from centres (n,): (n, size + 1)."""
    return np.arange(part.start, part.stop + 1) - 0.5 - centres[:, None]


def _add_gaussian(image, places, counts, sigma):
    window = _window(image.shape, places, _GAUSS_REACH * sigma)
    if window is None:
        return
    rows, columns = window
    longer = max(rows.stop - rows.start, columns.stop - columns.start)
    for part in _portions(len(places), longer):
        down, across = (
            np.diff(erf(_edges(line, places[part, axis]) / (np.sqrt(2) * sigma))) / 2
            for axis, line in enumerate(window)
        )
        image[window] += (down * counts[part, None]).T @ across


def _add_within(image, places, counts, reach, corner, size):
    """Parts of a spot, each out to a reach at least, by the integral up to corners."""
    window = _window(image.shape, places, reach)
    if window is None:
        return
    rows, columns = window
    pixels = (rows.stop - rows.start + 1) * (columns.stop - columns.start + 1)
    for part in _portions(len(places), pixels):
        y = _edges(rows, places[part, 0])[:, :, None]
        x = _edges(columns, places[part, 1])[:, None, :]
        total = np.tensordot(counts[part], corner(y, x, size), 1)
        image[window] += np.diff(np.diff(total, axis=0), axis=1)


def _add_tailed(image, places, counts, gamma):
    """Parts near the spot, and as one far from it."""
    total = counts.sum()
    if len(places) > 1 and total > 0:
        window = _window(image.shape, places, _TAIL_REACH * gamma)
        mean = counts @ places / total
        whole = np.zeros_like(image)
        _add_everywhere(whole, mean[None], np.array([total]), gamma)
        if window is not None:
            whole[window] = 0
            _add_within(whole, places, counts, _TAIL_REACH * gamma, _tail_corner, gamma)
        image += whole
    else:
        _add_everywhere(image, places, counts, gamma)


def _add_everywhere(image, places, counts, gamma):
    # as far as any pixel
    reach = np.abs(places).max() + sum(image.shape)
    _add_within(image, places, counts, reach, _tail_corner, gamma)


def _portions(number, size):
    step = max(1, _AT_ONCE // size)
    return [slice(i, i + step) for i in range(0, number, step)]


def _tail_corner(y, x, gamma):
    """Integral over [0, y] x [0, x] of the profile with long tails."""
    return np.arctan(y * x / (gamma * np.sqrt(y**2 + x**2 + gamma**2))) / (2 * np.pi)


def _disc_corner(y, x, radius):
    """The same of a disc."""
    y, x = np.broadcast_arrays(np.clip(y / radius, -1, 1), np.clip(x / radius, -1, 1))
    sign, y, x = np.sign(y) * np.sign(x), np.abs(y), np.abs(x)
    chord = np.sqrt(1 - y**2)
    # the rectangle, or its part of the disc: up to where the circle cuts y, and under the circle
    under = (x * np.sqrt(1 - x**2) + np.arcsin(x) - chord * y - np.arcsin(chord)) / 2
    area = np.where(x <= chord, x * y, chord * y + under)
    return sign * area / np.pi
