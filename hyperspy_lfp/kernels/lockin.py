r"""Local plane-wave fit: the geometric phase and its gradient.

For a lattice image :math:`I(r)` and a reciprocal vector :math:`g`, the plane
:math:`c_0 + c_x (x - X) + c_y (y - Y)` is fitted to :math:`I(r)\exp(-2\pi i g\cdot r)` under a
Gaussian window around :math:`(X, Y)`, as the border of the image truncates it. Then the phase is
:math:`P = \arg c_0` and its gradient :math:`\partial_j P = \mathrm{Im}(c_j / c_0)`, without any
unwrapping or numerical differentiation. In the interior this is the lock-in with the Gaussian and
its derivatives; at borders the true moments of the window keep it unbiased.

Everything is separable, and a Gaussian of a Gaussian is a Gaussian
(:math:`\sigma^2 = \sigma_1^2 + \sigma_2^2`). So the image is demodulated and smoothed with
:math:`\sigma_1` onto a coarse grid first, and the windows :math:`w` and :math:`w\cdot x` of width
:math:`\sigma_2` are applied to that small array. The weighting functions of the two stages
together are used as test functions of the linear fit, with their own exact moments, so that a
plane is reproduced exactly whatever the sampling of the intermediate grid.

Geometric phase analysis: M. J. Hÿtch, E. Snoeck, R. Kilaas, Ultramicroscopy 74 (1998) 131,
:doi:`10.1016/S0304-3991(98)00035-7`.
"""

import numpy as np

from hyperspy_lfp.kernels._arrays import get_array_module
from hyperspy_lfp.kernels.noise import noise_power

#: By how many radians across the window the mean lattice of a frame may differ from the carrier of
#: the first stage before the frame is demodulated anew, and how often it is at most.
_TUNED = 0.005
_DEMODULATIONS = 3
#: How far the mean lattice may be from a given g, in units of its length: what is farther is
#: another reflection, which takes the place of one that is absent.
_FARTHEST = 0.25
#: Names of the coefficients along the second axis of the result.
COEFFICIENTS = ("value", "d/dx", "d/dy", "variance")
#: Share of the window that must lie on valid pixels for a fit to be attempted.
_MINIMUM_SUPPORT = 0.1


def plane_wave_fit(frames, plan):
    """Fit local plane waves to a stack of frames.

    Parameters
    ----------
    frames : array of shape (..., ny, nx)
        Real images, any real dtype. Not-a-number pixels are left out of the fit.
    plan : hyperspy_lfp.kernels.plan.LockinPlan

    Returns
    -------
    array of shape (..., K, 4, n_out_y, n_out_x), complex64
        The coefficients named in `COEFFICIENTS`: value, derivatives per pixel, and the
        expected variance of the two derivatives due to the measured noise near g (real part:
        of d/dx, imaginary part: of d/dy). NaN where less than a tenth of the window lies on
        valid pixels.
    """
    xp = get_array_module(frames)
    lead = frames.shape[:-2]
    frames = frames.reshape((-1,) + frames.shape[-2:])
    shape = (len(plan.g), 4, len(plan.y.positions), len(plan.x.positions))
    out = xp.empty((len(frames),) + shape, dtype=xp.complex64)
    for frame, result in zip(frames, out, strict=True):
        _fit_frame(frame, plan, result, xp)
    return out.reshape(lead + shape)


def _fit_frame(frame, plan, out, xp):
    # The mean leaks into any window that is narrower than a lattice spacing, and costs digits in
    # float32: an estimate of it is taken off while converting, the rest off the small array.
    offset = _subsampled_mean(frame, xp)
    if not xp.isfinite(offset):
        out[...] = xp.nan
        return
    # A window that is cut by the edge of a particle, or that lies where the amplitude changes,
    # biases the gradient in proportion to how far the lattice is from the g it is demodulated
    # with. So every frame is demodulated with its own mean lattice.
    detuning = step = xp.zeros((len(plan.g), 2))
    for _ in range(_DEMODULATIONS):
        detuning = detuning + step
        coarse, valid = _first_stage(frame, offset, detuning, plan, xp)
        rest = _mean_gradient(coarse, plan, xp)
        if float(xp.abs(rest * xp.asarray(plan.sigma)).max()) < _TUNED:
            break
        step = _extrapolated(rest, step, detuning, plan, xp)
    if valid is None:
        gains = _solve_separable(coarse, plan, out, xp)
    else:
        gains = _solve_masked(coarse, valid, plan, out, xp)
    _retune(out, detuning, plan, xp)
    _add_variance(out, coarse, valid, gains, plan, xp)


def _first_stage(frame, offset, detuning, plan, xp):
    """Demodulate a frame without its mean; also returns which pixels are valid, or None."""
    with np.errstate(invalid="ignore"):  # infinite pixels are seen by the sum
        coarse, total, ones = _demodulate(frame, offset, detuning, plan, xp)
    weight = [xp.asarray(a.weight) for a in plan[:2]]
    if xp.isfinite(total):
        mean = float(total) / float(weight[0].sum() * weight[1].sum())
        coarse -= mean * ones[0][:, :, None] * ones[1][:, None, :]
        return coarse, None
    valid = xp.isfinite(frame)
    offset = float(frame.dtype.type(offset))  # just what is filled in
    filled = xp.where(valid, frame, xp.asarray(offset, dtype=frame.dtype))
    coarse, total, _ = _demodulate(filled, offset, detuning, plan, xp)
    mask, support, _ = _demodulate(valid.astype(xp.float32), 0.0, detuning, plan, xp)
    coarse -= float(total / support) * mask
    return coarse, valid


def _demodulate(frame, offset, detuning, plan, xp):
    """First stage on frame - offset.

    Returns the (K, n_grid_y, n_grid_x) complex64 array, the weighted sum of frame - offset, and
    the first stage of ones along (y, x), each (K, n_grid). The weight, less near the border,
    keeps lattice periods that the border cuts out of the mean.
    """
    k = len(plan.g)
    n_y, n_x = (len(a.grid) for a in plan[:2])
    ones = [xp.zeros((k, n), dtype=xp.complex64) for n in (n_y, n_x)]
    rows = xp.zeros((k, 2, n_y, plan.x.size), dtype=xp.float32)
    column_sums = xp.zeros(plan.x.size, dtype=xp.float64)
    tallest = max(span.stop - span.start for span, _, _ in plan.y.demodulate)
    buffer = xp.empty((tallest, plan.x.size), dtype=xp.float32)
    # in float32 a double may lose the contrast on top of a large mean
    kind = np.result_type(frame.dtype, np.float32)
    for span, nodes, operator in plan.y.demodulate:
        block = buffer[: span.stop - span.start]
        xp.subtract(frame[span], kind.type(offset), out=block, dtype=kind, casting="unsafe")
        operator = _detuned(operator, detuning[:, 0], span, xp)
        ones[0][:, nodes] += operator[:, 0].sum(axis=-1) + 1j * operator[:, 1].sum(axis=-1)
        # one row more costs nothing beside the others and gives the mean
        stacked = xp.concatenate(
            [operator.reshape(-1, operator.shape[-1]), xp.asarray(plan.y.weight)[None, span]]
        )
        product = stacked @ block
        rows[:, :, nodes] += product[:-1].reshape(operator.shape[:3] + (plan.x.size,))
        column_sums += product[-1]
    coarse = xp.zeros((k, 2, n_y, n_x), dtype=xp.float32)
    for span, nodes, operator in plan.x.demodulate:
        operator = _detuned(operator, detuning[:, 1], span, xp)
        ones[1][:, nodes] += operator[:, 0].sum(axis=-1) + 1j * operator[:, 1].sum(axis=-1)
        n_nodes = nodes.stop - nodes.start
        for i in range(k):
            pair = operator[i].reshape(-1, operator.shape[-1])
            product = rows[i, :, :, span].reshape(2 * n_y, -1) @ pair.T
            product = product.reshape(2, n_y, 2, n_nodes)
            coarse[i, 0, :, nodes] += product[0, :, 0] - product[1, :, 1]
            coarse[i, 1, :, nodes] += product[0, :, 1] + product[1, :, 0]
    result = xp.empty((k, n_y, n_x), dtype=xp.complex64)
    result.real, result.imag = coarse[:, 0], coarse[:, 1]
    return result, column_sums @ xp.asarray(plan.x.weight), ones


def _detuned(operator, detuning, span, xp):
    """A block of the first stage with its carrier turned by `detuning` radian per pixel."""
    operator = xp.asarray(operator)
    if not bool(detuning.any()):
        return operator
    turn = detuning[:, None] * xp.arange(span.start, span.stop)
    c, s = (f(turn).astype(xp.float32)[:, None] for f in (xp.cos, xp.sin))
    real, imag = operator[:, 0], operator[:, 1]
    return xp.stack([real * c + imag * s, imag * c - real * s], axis=1)


def _mean_gradient(coarse, plan, xp):
    """Mean gradient of the phase over a frame.

    Returns
    -------
    array of shape (K, 2)
        (y, x) order, radian per pixel.
    """
    mean_y, slope_y = xp.asarray(plan.y.survey)
    mean_x, slope_x = xp.asarray(plan.x.survey)
    value = mean_y @ coarse @ mean_x.T
    power = (xp.abs(value) ** 2).sum(axis=(1, 2))
    gradient = [
        (value.conj() * d).imag.sum(axis=(1, 2)) / xp.where(power > 0, power, 1)
        for d in (slope_y @ coarse @ mean_x.T, mean_y @ coarse @ slope_x.T)
    ]
    return xp.stack(gradient, axis=-1).astype(xp.float64)


def _extrapolated(rest, step, detuning, plan, xp):
    """The next step towards the mean lattice of a frame, given the last one and what it left.

    A crystal that is narrower than a window shows only a part of its detuning, the same part
    every time.
    """
    left = rest / xp.where(step != 0, step, xp.inf)
    step = rest / (1 - xp.clip(left, 0, 0.8))
    sigma = xp.asarray(plan.sigma)
    reach = 2 * np.pi * _FARTHEST * np.hypot(*(plan.g * plan.sigma).T)
    distance = xp.hypot(*((detuning + step) * sigma).T)[:, None]
    return xp.where(distance < xp.asarray(reach)[:, None], step, -detuning)


def _retune(out, gradient, plan, xp):
    """Turn the coefficients back to the given g."""
    gy, gx = (gradient[:, i].astype(xp.float32)[:, None, None] for i in (0, 1))
    out[:, 1] += 1j * gx * out[:, 0]
    out[:, 2] += 1j * gy * out[:, 0]
    along_y = xp.exp(1j * gradient[:, :1] * xp.asarray(plan.y.positions)).astype(xp.complex64)
    along_x = xp.exp(1j * gradient[:, 1:] * xp.asarray(plan.x.positions)).astype(xp.complex64)
    out[:, :3] *= (along_y[:, :, None] * along_x[:, None, :])[:, None]


def _add_variance(out, coarse, valid, gains, plan, xp):
    """Variance of the two derivatives from the noise power near each g."""
    smooth = [xp.asarray(a.smooth) for a in plan[:2]]
    everything = smooth[0].sum(axis=1)[:, None] * smooth[1].sum(axis=1)
    there = everything
    if valid is not None:
        there = smooth[0] @ valid.astype(xp.float64) @ smooth[1].T
    noise = noise_power(coarse, (there, everything), plan.noise, xp)
    gain_y, gain_x = (xp.asarray(a.noise_gain) for a in plan[:2])
    # rounding in float32 is a floor under the noise of synthetic, noise-free frames
    gain_0 = gain_y[0].min() * gain_x[0].min()
    for k in range(len(plan.g)):
        amplitude = xp.nanmax(xp.abs(out[k, 0])) if bool(xp.isfinite(out[k, 0]).any()) else 0.0
        power = xp.maximum(noise[k], (1e-6 * amplitude) ** 2 / gain_0)
        out[k, 3].real = power * gains[0]
        out[k, 3].imag = power * gains[1]


def _solve_separable(coarse, plan, out, xp):
    """Second stage where the window is cut by the border only: the 3x3 system separates.

    Returns the variances of d/dx and d/dy due to white noise of variance one.
    """
    k, _, n_x = coarse.shape
    flat = coarse.view(xp.float32)  # (K, n_y, 2 n_x): the operators are real
    rows = xp.empty((2, k, len(plan.y.positions), 2 * n_x), dtype=xp.float32)
    for span, nodes, operator in plan.y.fit:
        operator = xp.asarray(operator)
        for which in (0, 1):
            rows[which, :, span] = operator[which] @ flat[:, nodes]
    rows = rows.view(xp.complex64)
    for span, nodes, operator in plan.x.fit:
        mean, derivative = xp.asarray(operator)
        # complex times real as one real product: real and imaginary parts stacked as rows
        for i in range(k):
            out[i, 0, :, span] = _times_real(rows[0, i, :, nodes], mean, xp)
            out[i, 1, :, span] = _times_real(rows[0, i, :, nodes], derivative, xp)
            out[i, 2, :, span] = _times_real(rows[1, i, :, nodes], mean, xp)
    out[:, 0] -= xp.asarray(plan.x.centroid) * out[:, 1]
    out[:, 0] -= xp.asarray(plan.y.centroid)[:, None] * out[:, 2]
    gain_y, gain_x = (xp.asarray(a.noise_gain) for a in plan[:2])
    return gain_y[0][:, None] * gain_x[1], gain_y[1][:, None] * gain_x[0]


def _times_real(rows, operator, xp):
    """(n, m) complex times the transpose of a real (p, m)."""
    n = len(rows)
    product = xp.concatenate([rows.real, rows.imag]) @ operator.T
    result = xp.empty((n, len(operator)), dtype=xp.complex64)
    result.real, result.imag = product[:n], product[n:]
    return result


def _solve_masked(coarse, valid, plan, out, xp):
    """Second stage with the moments of an arbitrary set of valid pixels; returns the same."""
    tests = [xp.asarray(a.tests) for a in plan[:2]]
    smooth = [xp.asarray(a.smooth) for a in plan[:2]]
    positions = [xp.asarray(a.positions) for a in plan[:2]]

    def apply_tests(small):
        return xp.stack(
            [tests[0][p] @ small @ tests[1][q].T for p, q in ((0, 0), (0, 1), (1, 0))], axis=-1
        )

    def moments(weights):
        return apply_tests(smooth[0] @ weights @ smooth[1].T)

    valid = valid.astype(xp.float64)
    zeroth = moments(valid)
    along_x = moments(valid * xp.arange(plan.x.size)) - positions[1][:, None] * zeroth
    along_y = (
        moments(valid * xp.arange(plan.y.size)[:, None]) - positions[0][:, None, None] * zeroth
    )
    # the tests are normalised by the whole window
    enough = zeroth[..., 0] > _MINIMUM_SUPPORT
    inverse = xp.linalg.inv(xp.stack([zeroth, along_x, along_y], axis=-1)[enough])
    for k in range(len(coarse)):
        right = apply_tests(coarse[k].astype(xp.complex128))[enough]
        solution = (inverse @ right[..., None])[..., 0]
        for i in range(3):
            out[k, i] = xp.nan
            out[k, i][enough] = solution[:, i]
    noise = _noise_of_tests(valid, tests, smooth, xp)[enough]
    covariance = inverse @ noise @ xp.swapaxes(inverse, -1, -2)
    gains = xp.full((2, *enough.shape), xp.nan)
    gains[0][enough], gains[1][enough] = covariance[:, 1, 1], covariance[:, 2, 2]
    return gains


def _noise_of_tests(valid, tests, smooth, xp):
    """Covariance of the right-hand sides of `_solve_masked` due to white noise of variance one.

    (n_out_y, n_out_x, 3, 3): sums over valid pixels of products of the windows w, w.x and w.y.
    """
    products = []
    for test, first_stage in zip(tests, smooth, strict=True):
        w, wx = (test @ first_stage).astype(xp.float32)  # on pixels
        products.append((w * w, w * wx, wx * wx))
    valid = valid.astype(xp.float32)
    along_x = [valid @ p.T for p in products[1]]
    # by the number of times that x and y take part
    rows = [
        [products[0][y] @ along_x[x] for y, x in row]
        for row in (
            ((0, 0), (0, 1), (1, 0)),
            ((0, 1), (0, 2), (1, 1)),
            ((1, 0), (1, 1), (2, 0)),
        )
    ]
    return xp.stack([xp.stack(row, axis=-1) for row in rows], axis=-2).astype(xp.float64)


def _subsampled_mean(frame, xp):
    step = max(1, min(frame.shape) // 64)
    sample = frame[::step, ::step]
    sample = sample[xp.isfinite(sample)]
    if not sample.size:  # rows or columns of dead pixels may lie just there
        sample = frame[xp.isfinite(frame)]
    return float(sample.mean(dtype=xp.float64)) if sample.size else xp.nan
