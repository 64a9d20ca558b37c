r"""What the local plane-wave fit (`hyperspy_lfp.kernels.gpa.lockin`) knows before it sees the data.

The operators of both stages and their moments depend on the shape of a frame, the reciprocal
vectors and the resolution only, and are built once for a movie.

With a first stage of width :math:`\sigma_1` on nodes n and a second one of width
:math:`\sigma_2`, :math:`\sigma^2 = \sigma_1^2 + \sigma_2^2`, the two together are a Gaussian of
width :math:`\sigma` around X,

.. math:: \sum_n e^{-(p-n)^2/2\sigma_1^2}\,e^{-(n-X)^2/2\sigma_2^2}\,e^{-i\delta' n}
    \propto e^{-(p-X)^2/2\sigma^2}\,e^{-i\delta p}\,e^{-i(\delta'-\delta)X},
    \qquad \delta' = \delta\,\sigma^2/\sigma_2^2,

so that a frame is demodulated with a lattice other than the one of its first stage, exactly, by a
carrier on the nodes.
"""

import copy
from functools import cached_property
from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels.gpa.noise import NoisePlan, plan_noise
from hyperspy_lfp.kernels.gpa.windows import degree_for

#: Share of the width given to the first stage, spacing of the intermediate grid in units of the
#: first width, and the cut of all windows. A spot at any distance from g aliases through the grid
#: with an amplitude below exp(-2 pi^2 (1 - 0.45^2) / 0.98^2) = 8e-8. Beyond 5 sigma a float32
#: Gaussian only adds denormal numbers, which are 50 times slower.
_FIRST_STAGE = 0.45
_GRID_STEP = 0.98
_CUT = 5.0
#: Pixels at the border of the frame are weighted down over so many lattice spacings. A window cut
#: off sharply has side lobes that let the other spots in; this lowers the error near the border
#: tenfold, and its noise as well, since the true moments of the window keep the fit unbiased.
_TAPER = 2.0
#: Distance in units of sigma between the places where the mean lattice of a frame is looked for.
_SURVEY = 2.5


class Block(NamedTuple):
    """A piece of the first stage."""

    nodes: slice
    pixels: slice
    matrix: np.ndarray


class Banded(NamedTuple):
    """A banded operator, cut into B blocks of one shape, which may overlap."""

    rows: list  # B slices
    columns: list  # B slices
    matrix: np.ndarray  # (B, ..., n_rows, n_columns) float32

    @property
    def size(self):
        """Number of rows of the operator."""
        return self.rows[-1].stop

    def part(self, i):
        """The i-th of several operators that are banded alike."""
        return self._replace(matrix=self.matrix[:, i])


class AxisPlan:
    """Operators along one axis of the frame.

    Parameters
    ----------
    size : int
        Number of pixels.
    sigma : float
        Standard deviation of the Gaussian window in pixels.
    g : array of shape (K,)
        Component of the reciprocal vectors along the axis, in cycles per pixel.
    positions : array of shape (n_out,)
        Centres of the windows in pixels.
    origin : float
        Coordinate of the first pixel, in pixels: the phase is that of a carrier that is zero
        at coordinate 0.
    taper : float
        Width in pixels over which the weight of the pixels rises from zero at the border.
    unit : float
        Size of a pixel in the unit of length of the derivatives.
    last : bool
        Whether the first stage along this axis comes after that along the other one.

    Attributes
    ----------
    demodulate : list of Block
        First stage with its carrier: see `demodulation`.
    fit, survey : Banded
        Second stage at the positions, and at a few places: (B, 2, n_out, n_grid), the mean and
        the derivative.
    ones : array of shape (K, n_grid)
        First stage of a frame of ones.
    centroid, spread : array of shape (n_out,)
        First and second central moment of the window as the border cuts it, in pixels.
    border, interior : list of slice
        Positions whose window the border moves, and those between.
    noise_gain : array of shape (2, n_out)
        Sum of squares of the weights of the mean and of the derivative.
    tuning : tuple of float
        :math:`\\sigma_1^2` and :math:`\\sigma_2^2`.
    """

    def __init__(self, size, sigma, g, positions, origin=0.0, taper=0.0, unit=1.0, last=False):
        g = np.asarray(g, dtype=float)
        self.size, self.sigma, self.unit = size, float(sigma), float(unit)
        self.origin = float(origin)
        self.positions = np.asarray(positions, dtype=float)
        pixels = np.arange(size, dtype=float)
        self._carrier = np.exp(-2j * np.pi * g[:, None] * (pixels + origin))
        self.weight = _border_weight(size, taper)
        sigma1 = _FIRST_STAGE * sigma
        if _GRID_STEP * sigma1 > 1:
            reach = _CUT * sigma1
            n_grid = int(np.ceil((size - 1 + 2 * reach) / (_GRID_STEP * sigma1))) + 1
            self.grid = np.linspace(-reach, size - 1 + reach, n_grid)
            self._window = _gaussian(pixels - self.grid[:, None], sigma1)
        else:  # the intermediate grid would be finer than the pixels
            sigma1, self.grid, self._window = 0.0, pixels, np.eye(size)
        self.smooth = self._window * self.weight
        self.tuning = sigma1**2, sigma**2 - sigma1**2
        self._on_device, self._last = None, last
        self._rows = int(np.clip(2.5 * sigma1, 48, 96))

        self.demodulate = self.demodulation()
        self.ones = self.detuned_ones()
        moments = self.smooth.sum(axis=1), self.smooth @ pixels
        window, first = _second_stage(self.grid, self.positions, self.tuning)
        mean, derivative, self.centroid, self.spread, self._norm = _normalised(
            window, first, self.positions, moments
        )
        self.fit = _banded(np.stack([mean, derivative]), self._fit_rows)
        self.survey_positions = np.linspace(0, size - 1, max(2, int(size / (_SURVEY * sigma)) + 1))
        window, first = _second_stage(self.grid, self.survey_positions, self.tuning)
        survey = _normalised(window, first, self.survey_positions, moments)
        self.survey_spread = survey[3]
        self.survey = _banded(np.stack(survey[:2]), 24)
        gram = self.smooth @ self.smooth.T
        # outputs whose window the border moves, and those between
        moved = np.flatnonzero(np.abs(self.centroid) < 1e-7 * sigma)
        first, last = (moved[0], moved[-1] + 1) if len(moved) else (len(self.positions),) * 2
        ends = [slice(0, first), slice(last, len(self.positions))]
        self.border = [e for e in ends if e.stop > e.start]
        self.interior = [slice(first, last)] if last > first else []
        self.noise_gain = np.stack([((m @ gram) * m).sum(axis=1) for m in (mean, derivative)])

    @property
    def _fit_rows(self):
        """Outputs in a block: some widths together, for matrices that are worth a call."""
        step = np.median(np.diff(self.positions)) if len(self.positions) > 1 else 1.0
        return max(16, int(5 * np.sqrt(self.tuning[1]) / step))

    def demodulation(self, detuning=None):
        """The first stage with its carrier turned by `detuning` (K,) radian per pixel.

        Blocks of float32 matrices. Along the axis that comes first (K * n_nodes * 2 + 1, n_pixels):
        real and imaginary part for each node, and the weight of the pixels, whose product is
        their sum. Along the last one (K, 2, n_pixels, 2 * n_nodes): what a real and what an
        imaginary pixel adds to the real parts of all nodes and to their imaginary parts.
        """
        carrier = self._turned_carrier(detuning)
        blocks = []
        for start in range(0, self.size, self._rows):
            span = slice(start, min(start + self._rows, self.size))
            nodes = _support(self.smooth[:, span])
            block = self.smooth[None, nodes, span] * carrier[:, None, span]
            if self._last:
                block = np.swapaxes(block, -1, -2)
                of_real = np.concatenate([block.real, block.imag], axis=-1)
                of_imaginary = np.concatenate([-block.imag, block.real], axis=-1)
                matrix = np.stack([of_real, of_imaginary], axis=1)
            else:
                pair = np.stack([block.real, block.imag], axis=2).reshape(-1, block.shape[-1])
                matrix = np.concatenate([pair, self.weight[None, span]])
            blocks.append(Block(nodes, span, matrix.astype(np.float32)))
        return blocks

    def detuned_ones(self, detuning=None):
        """The first stage of a frame of ones, (K, n_grid)."""
        return (self._turned_carrier(detuning) @ self.smooth.T).astype(np.complex64)

    def _turned_carrier(self, detuning):
        if detuning is None:
            return self._carrier
        return self._carrier * np.exp(-1j * np.asarray(detuning)[:, None] * np.arange(self.size))

    def at(self, g):
        """A copy whose first stage has the carriers `g` (K,), cycles per pixel."""
        twin = copy.copy(self)
        pixels = np.arange(self.size) + self.origin
        twin._carrier = np.exp(-2j * np.pi * np.asarray(g)[:, None] * pixels)
        twin.demodulate, twin.ones = twin.demodulation(), twin.detuned_ones()
        return twin

    def on(self, xp):
        """A copy whose operators are on the device of an array module, made once."""
        if self._on_device is None:
            twin = copy.copy(self)
            twin.demodulate = [b._replace(matrix=xp.asarray(b.matrix)) for b in self.demodulate]
            for name in ("fit", "survey"):
                banded = getattr(self, name)
                setattr(twin, name, banded._replace(matrix=xp.asarray(banded.matrix)))
            twin._on_device = twin
            self._on_device = twin
        return self._on_device

    @cached_property
    def masked(self):
        """What only a pixel mask needs, see `MaskedAxis`."""
        s1, s2 = self.tuning
        powers = np.stack(_second_stage(self.grid, self.positions, self.tuning, 4))
        # the square of a Gaussian window is one of half the variance
        half = s1, (s1 + s2) / 2 - s1
        squares = np.stack(_second_stage(self.grid, self.positions, half, 4))
        step = self.grid[1] - self.grid[0]
        squares *= _peak(self.tuning, step) ** 2 / _peak(half, step)
        # in units of sigma, so that moments of all orders are of one magnitude
        units = self.sigma ** -np.arange(5.0)[:, None, None]
        powers = powers * units / self._norm[:, None]
        squares = squares * units / self._norm[:, None] ** 2
        at = np.clip(self.grid, 0, self.size - 1)
        *nodes, centroid, _, _ = _normalised(
            *_second_stage(self.grid, at, self.tuning),
            at,
            (self.smooth.sum(axis=1), self.smooth @ np.arange(self.size)),
        )
        return MaskedAxis(
            tests=_banded(powers[:3], self._fit_rows),
            moments=_banded(powers, self._fit_rows),
            noise=_banded(squares, self._fit_rows),
            smooth=_banded(self.smooth, 16),
            smooth_squared=_banded(self._window * self.weight**2, 16),
            upsample=_banded(_interpolation(self.grid, self.size), 64),
            whole=self.smooth.sum(axis=1),
            nodes=_banded(np.stack(nodes), 16),
            centroid=centroid,
        )


class MaskedAxis(NamedTuple):
    """Operators for windows that are cut by a pixel mask, all normalised by the whole window.

    u is the distance from the centre of the window in units of sigma.
    """

    tests: Banded  # (B, 3, n_out, n_grid): w, w u and w u^2
    moments: Banded  # (B, 5, n_out, n_grid): w to w u^4
    noise: Banded  # (B, 5, n_out, n_grid): w^2 to w^2 u^4
    smooth: Banded  # (B, n_grid, n_pixels): first stage of the mask
    smooth_squared: Banded  # the same with the square of the border weight
    upsample: Banded  # (B, n_pixels, n_grid): linear interpolation back to pixels
    whole: np.ndarray  # (n_grid,): first stage of all pixels
    nodes: Banded  # (B, 2, n_grid, n_grid): second stage at the nodes, mean and derivative
    centroid: np.ndarray  # (n_grid,): first moment of the windows at the nodes


class LockinPlan(NamedTuple):
    """All that does not depend on the data; built once per movie by `plan_lockin`."""

    y: AxisPlan
    x: AxisPlan
    g: np.ndarray  # (K, 2), (y, x) order, cycles per pixel
    sigma: tuple  # (y, x), pixels
    noise: NoisePlan
    amplitude: float  # of the fitted wave, in units of that of exp(2 pi i g r)
    degree: int  # of the local model at the edge of a particle
    gains: np.ndarray  # (n_out_y, n_out_x) complex64: variance of d/dx, i of d/dy of unit noise

    def at(self, g):
        """The plan with other carriers `g` (K, 2) in the first stage."""
        return self._replace(y=self.y.at(g[:, 0]), x=self.x.at(g[:, 1]), g=g)

    def on(self, xp):
        """The plan with its large arrays on the device of an array module."""
        if xp is np:
            return self
        return self._replace(y=self.y.on(xp), x=self.x.on(xp), gains=xp.asarray(self.gains))


def plan_lockin(shape, g, sigma, positions, origin=(0.0, 0.0), units=(1.0, 1.0), amplitude=1.0):
    """Build the operators for frames of one shape.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) of a frame.
    g : array of shape (K, 2)
        Reciprocal vectors, (y, x) order, cycles per pixel.
    sigma : tuple of float
        Standard deviation of the window along (y, x), pixels.
    positions : tuple of array
        Centres of the windows along (y, x), pixels.
    origin : tuple of float
        Coordinates (y, x) of the first pixel, pixels.
    units : tuple of float
        Size of a pixel along (y, x) in the unit of length of the derivatives.
    amplitude : float
        Amplitude of the fitted wave in units of that of exp(2 pi i g r): two for cosines.

    Returns
    -------
    LockinPlan
    """
    g = np.atleast_2d(np.asarray(g, dtype=float))
    # sigma has the same physical length along both axes: it turns |g| into spacings in pixels
    spacing = 1 / np.hypot(*(g * sigma).T).min()
    y, x = (
        AxisPlan(
            shape[i],
            sigma[i],
            g[:, i],
            positions[i],
            origin[i],
            _TAPER * spacing * sigma[i],
            units[i],
            last=i == 1,
        )
        for i in (0, 1)
    )
    noise = plan_noise((y.grid, x.grid), (y.smooth, x.smooth), g)
    sigma = tuple(float(s) for s in sigma)
    gains = np.outer(y.noise_gain[0], x.noise_gain[1]) * (amplitude / units[1]) ** 2
    gains = gains + 1j * np.outer(y.noise_gain[1], x.noise_gain[0]) * (amplitude / units[0]) ** 2
    gains = gains.astype(np.complex64)
    return LockinPlan(y, x, g, sigma, noise, float(amplitude), degree_for(g, sigma), gains)


def _second_stage(grid, positions, tuning, order=1):
    """Weights on the nodes that make the windows w u^k of both stages together, k up to `order`.

    u is the distance of a pixel from the centre of the window. Under the first stage the mean of
    the Hermite polynomials of n is the power of u.
    """
    s1, s2 = tuning
    s = s1 + s2
    offset = grid - positions[:, None]
    window = _gaussian(offset, np.sqrt(s2))
    hermite = [np.ones_like(offset), offset]
    for k in range(1, order):
        hermite.append(offset * hermite[k] - k * s1 * s2 / s * hermite[k - 1])
    return [h * window * (s / s2) ** k for k, h in enumerate(hermite)]


def _normalised(window, first, positions, moments):
    """Weights of the mean and of the derivative, and the moments of the window.

    `moments` are the sums of the first stage and of its first moment, so that those used here
    are the ones of the two stages together over the pixels of this frame.
    """
    sums, sums_x = moments
    w0 = window @ sums
    w1 = window @ sums_x - positions * w0
    k0 = first @ sums
    k1 = first @ sums_x - positions * k0
    centroid = w1 / w0
    mean = window / w0[:, None]
    spread = k1 / w0 - k0 / w0 * centroid
    derivative = (first / w0[:, None] - (k0 / w0)[:, None] * mean) / spread[:, None]
    return mean, derivative, centroid, spread, w0


def _banded(matrix, n_rows):
    """Cut a (..., n_rows, n_columns) operator into blocks, without what is zero."""
    size, width = matrix.shape[-2:]
    n_rows = min(n_rows, size)
    starts = np.minimum(np.arange(0, size, n_rows), size - n_rows)
    rows = [slice(int(start), int(start) + n_rows) for start in starts]
    supports = [_support(matrix[..., r, :].reshape(-1, width).T) for r in rows]
    n_columns = max(c.stop - c.start for c in supports)
    firsts = [min(c.start, width - n_columns) for c in supports]
    columns = [slice(first, first + n_columns) for first in firsts]
    pieces = [matrix[..., r, c] for r, c in zip(rows, columns, strict=True)]
    return Banded(rows, columns, np.stack(pieces).astype(np.float32))


def _interpolation(grid, size):
    """Linear interpolation from the nodes to the pixels, (n_pixels, n_grid)."""
    distance = np.abs(np.arange(size)[:, None] - grid) / (grid[1] - grid[0])
    return np.clip(1 - distance, 0, None)


def _peak(tuning, step):
    """Height of the window that two stages of unit height make together."""
    s1, s2 = tuning
    return np.sqrt(2 * np.pi * s1 * s2 / (s1 + s2)) / step if s1 else 1.0


def _gaussian(offset, sigma):
    cut = np.abs(offset) > _CUT * sigma
    return np.where(cut, 0.0, np.exp(-0.5 * (np.where(cut, 0.0, offset) / sigma) ** 2))


def _border_weight(size, taper):
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    taper = min(taper, size / 4)
    return np.where(distance < taper, np.sin(np.pi / 2 * distance / max(taper, 0.5)) ** 2, 1.0)


def _support(columns):
    """Slice of the rows of a (rows, columns) array that are not all zero."""
    rows = np.flatnonzero(columns.any(axis=1))
    return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 1)
