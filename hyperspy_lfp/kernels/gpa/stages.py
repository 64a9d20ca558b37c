"""The two stages of the local plane-wave fit, and the mean lattice of a frame between them.

See `hyperspy_lfp.kernels.gpa.lockin` for what they are stages of, and
`hyperspy_lfp.kernels.gpa.plan` for their operators.
"""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels._arrays import to_host
from hyperspy_lfp.kernels.gpa.windows import relative_amplitude

#: The mean lattice of a frame is found to so many radians across the window, in so many steps.
_TUNED = 0.005
_STEPS = 12
#: How far the mean lattice may be from a given g, in units of its length: what is farther is
#: another reflection, which takes the place of one that is absent.
_FARTHEST = 0.25


class Coarse(NamedTuple):
    """A frame after the first stage."""

    data: np.ndarray  # (K, n_grid_y, n_grid_x) complex64
    carrier: np.ndarray  # (K, 2): the lattice it is demodulated with, from g, radian per pixel


def first_stage(frame, offset, carrier, plan, xp):
    """Demodulate a frame without its mean; None if not all its pixels are finite."""
    with np.errstate(invalid="ignore"):  # infinite pixels are seen by the sum
        data, total, ones = demodulate(frame, offset, None, carrier, plan, xp)
    if not xp.isfinite(total):
        return None
    mean = float(total) / float(plan.y.weight.sum() * plan.x.weight.sum())
    data -= (mean * ones[0])[:, :, None] * ones[1][:, None, :]
    return Coarse(data, np.zeros(plan.g.shape) if carrier is None else carrier)


def demodulate(frame, offset, weights, carrier, plan, xp):
    """First stage on frame - offset, times weights of the pixels if not None.

    Returns the (K, n_grid_y, n_grid_x) complex64 array, the weighted sum of frame - offset, and
    the first stage of ones along (y, x), each (K, n_grid). The weight, less near the border,
    keeps lattice periods that the border cuts out of the mean.
    """
    k, n_x = len(plan.g), plan.x.size
    n_grid_y, n_grid_x = (len(a.grid) for a in plan[:2])
    blocks, ones = [], []
    for i, axis in enumerate(plan[:2]):
        along = None if carrier is None else carrier[:, i]
        blocks.append(axis.demodulate if along is None else axis.demodulation(along))
        ones.append(xp.asarray(axis.ones if along is None else axis.detuned_ones(along)))
    rows = xp.zeros((k, n_grid_y, 2, n_x), dtype=xp.float32)
    column_sums = xp.zeros(n_x, dtype=xp.float64)
    tallest = max(b.pixels.stop - b.pixels.start for b in blocks[0])
    buffer = xp.empty((tallest, n_x), dtype=xp.float32)
    # in float32 a double may lose the contrast on top of a large mean
    kind = np.result_type(frame.dtype, np.float32)
    for nodes, span, matrix in blocks[0]:
        block = buffer[: span.stop - span.start]
        xp.subtract(frame[span], kind.type(offset), out=block, dtype=kind, casting="unsafe")
        if weights is not None:
            xp.copyto(block, 0, where=weights[span] == 0)  # pixels that are not numbers
            block *= weights[span]
        product = xp.asarray(matrix) @ block
        rows[:, nodes] += product[:-1].reshape((k, -1, 2, n_x))
        column_sums += product[-1]
    planes = xp.zeros((k, n_grid_y, 2, n_grid_x), dtype=xp.float32)
    for nodes, span, matrix in blocks[1]:
        matrix = xp.asarray(matrix)
        for i in range(k):
            product = rows[i, :, 0, span] @ matrix[i, 0]
            product += rows[i, :, 1, span] @ matrix[i, 1]
            planes[i, :, :, nodes] += product.reshape(n_grid_y, 2, -1)
    data = xp.empty((k, n_grid_y, n_grid_x), dtype=xp.complex64)
    data.real, data.imag = planes[:, :, 0], planes[:, :, 1]
    return data, column_sums @ xp.asarray(plan.x.weight), ones


def mean_lattice(coarse, plan, xp):
    """Mean gradient of the phase over a frame relative to the carrier of its first stage.

    Measured at a few places, with the lattice found so far, until it does not change. A crystal
    that is narrower than a window shows only a part of its detuning, the same part every time.

    Returns
    -------
    detuning : array of shape (K, 2)
        (y, x) order, radian per pixel, on the host.
    lowest : float
        Lowest relative amplitude at these places.
    """
    sigma = np.array(plan.sigma)
    reach = 2 * np.pi * _FARTHEST * np.hypot(*(plan.g * sigma).T)
    detuning = step = np.zeros(plan.g.shape)
    for _ in range(_STEPS):
        rest, lowest = _survey(coarse.data, detuning, plan, xp)
        if np.abs(rest * sigma).max() < _TUNED:
            break
        share = np.clip(rest / np.where(step != 0, step, np.inf), 0, 0.8)
        step = rest / (1 - share)
        # a step that is drawn out too far is no reason to give up
        over = np.hypot(*((coarse.carrier + detuning + step) * sigma).T) > reach
        step[over] = rest[over]
        lost = np.hypot(*((coarse.carrier + detuning + step) * sigma).T) > reach
        step[lost] = -(coarse.carrier + detuning)[lost]
        detuning = detuning + step
        # the next rest would be the same share of this step
        if share.any() and np.abs(step * share * sigma).max() < _TUNED / 2:
            break
    return detuning, lowest


def _survey(data, detuning, plan, xp):
    """Mean gradient of the phase, (K, 2), left after turning by `detuning`; lowest amplitude."""
    operators = [
        _turned(a.survey, a, a.survey_positions, a.survey_spread, detuning[:, i], xp)
        for i, a in enumerate(plan[:2])
    ]
    few = [len(a.survey_positions) for a in plan[:2]]
    found = xp.empty((len(data), 3, *few), dtype=xp.complex64)
    _apply_windows(data, (plan.y.survey, plan.x.survey), operators, found, xp)
    value, along_x, along_y = found[:, 0], found[:, 1], found[:, 2]
    relative = relative_amplitude(xp.abs(value), xp)
    lowest = 1.0 if relative is None else float(relative.max(axis=0).min())
    power = (value.real**2 + value.imag**2).sum(axis=(1, 2))
    power = xp.where(power > 0, power, 1)
    gradient = [(value.conj() * d).imag.sum(axis=(1, 2)) / power for d in (along_y, along_x)]
    return to_host(xp.stack(gradient, axis=-1)).astype(float), lowest


def _turned(banded, axis, positions, spread, detuning, xp, total=None, amplitude=1.0):
    """The second stage for a lattice that is `detuning` (K,) off, (K, B, 2, n, m) complex64.

    The carrier of the nodes turns the window, and mixes a part of the mean into the derivative.
    Phase and derivative are those of the carrier of the first stage; with `total`, what frame and
    g are apart, the derivative is that of g per unit of length, and so is the phase.
    """
    s1, s2 = axis.tuning
    s = s1 + s2
    at = positions[_indices(banded.rows)]
    on_nodes = (detuning * (s / s2))[:, None, None]
    gain = amplitude * np.exp(0.5 * detuning**2 * s1 * s / s2)[:, None, None]
    mixed = on_nodes * (s1 / spread[_indices(banded.rows)])
    phase = on_nodes * at
    if total is not None:
        mixed = mixed + total[:, None, None]
        phase = phase + (total - detuning)[:, None, None] * at
    turn_out = gain * np.exp(1j * phase)
    turn_in = np.exp(-1j * on_nodes * axis.grid[_indices(banded.columns)])
    turn_out, turn_in, mixed = (
        xp.asarray(a.astype(np.complex64)) for a in (turn_out, turn_in, 1j * mixed)
    )
    turn = turn_out[..., :, None] * turn_in[..., None, :]
    result = xp.empty((len(detuning), *banded.matrix.shape), dtype=xp.complex64)
    xp.multiply(turn, xp.asarray(banded.matrix[:, 0]), out=result[:, :, 0])
    xp.multiply(turn, xp.asarray(banded.matrix[:, 1]), out=result[:, :, 1])
    result[:, :, 1] += mixed[..., None] * result[:, :, 0]
    if total is not None:
        result[:, :, 1] /= axis.unit
    return result


def _indices(slices):
    """All indices of slices of one length, (B, n)."""
    return np.array([np.arange(s.start, s.stop) for s in slices])


def second_stage(coarse, detuning, plan, out, xp):
    """Apply the windows where they are cut by the border only: the 3x3 system separates."""
    total = detuning + coarse.carrier
    operators = [
        _turned(
            a.fit,
            a,
            a.positions,
            a.spread,
            detuning[:, i],
            xp,
            total[:, i],
            1.0 if i else plan.amplitude,
        )
        for i, a in enumerate(plan[:2])
    ]
    _apply_windows(coarse.data, (plan.y.fit, plan.x.fit), operators, out, xp)
    _move_to_centres(out, total, plan, xp)


def _apply_windows(data, banded, operators, out, xp):
    """Write the mean, the x and the y moment of (K, n_grid_y, n_grid_x) into (K, 3+, y, x)."""
    k = len(data)
    rows = xp.empty((k, 2, out.shape[-2], data.shape[-1]), dtype=xp.complex64)
    for i in range(k):
        along_y, along_x = banded
        for b, (span, columns) in enumerate(zip(along_y.rows, along_y.columns, strict=True)):
            for which in (0, 1):
                xp.matmul(operators[0][i, b, which], data[i, columns], out=rows[i, which, span])
        for b, (span, columns) in enumerate(zip(along_x.rows, along_x.columns, strict=True)):
            mean, slope = operators[1][i, b, 0].T, operators[1][i, b, 1].T
            xp.matmul(rows[i, 0, :, columns], mean, out=out[i, 0, :, span])
            xp.matmul(rows[i, 0, :, columns], slope, out=out[i, 1, :, span])
            xp.matmul(rows[i, 1, :, columns], mean, out=out[i, 2, :, span])


def _move_to_centres(out, total, plan, xp):
    """From the centroids of the windows, which the border moves, to their centres."""
    offset_y, offset_x = (a.centroid * a.unit for a in plan[:2])
    turn = total / [a.unit for a in plan[:2]]
    for y in plan.y.border:
        _move(out[..., y, :], offset_y[y], offset_x, turn, xp)
    for y in plan.y.interior:
        for x in plan.x.border:
            _move(out[..., y, x], offset_y[y], offset_x[x], turn, xp)


def _move(piece, offset_y, offset_x, turn, xp):
    offset_y, offset_x = (xp.asarray(o, dtype=xp.float32) for o in (offset_y[:, None], offset_x))
    turn_y, turn_x = (
        xp.asarray((1j * turn[:, i, None, None]).astype(np.complex64)) for i in (0, 1)
    )
    value = piece[:, 0]
    shift = offset_x * (piece[:, 1] - turn_x * value) + offset_y * (piece[:, 2] - turn_y * value)
    value -= shift
    piece[:, 1] -= turn_x * shift
    piece[:, 2] -= turn_y * shift


def turned_tests(banded, axis, detuning, total, xp):
    """`_turned` for the test functions w, w u and w u^2, (K, B, 3, n, m); u in units of sigma."""
    s1, s2 = axis.tuning
    s = s1 + s2
    at = axis.positions[_indices(banded.rows)]
    on_nodes = (detuning * (s / s2))[:, None, None]
    phase = on_nodes * at + (total - detuning)[:, None, None] * at
    turn_out = np.exp(0.5 * detuning**2 * s1 * s / s2)[:, None, None] * np.exp(1j * phase)
    turn_in = np.exp(-1j * on_nodes * axis.grid[_indices(banded.columns)])
    turn = xp.asarray((turn_out[..., :, None] * turn_in[..., None, :]).astype(np.complex64))
    window, first, second = (turn * xp.asarray(banded.matrix[:, i]) for i in range(3))
    shift = xp.asarray((1j * on_nodes * s1 / axis.sigma).astype(np.complex64))[..., None]
    return xp.stack(
        [window, first + shift * window, second + 2 * shift * first + shift**2 * window], axis=2
    )
