r"""Local plane-wave fit: the geometric phase and its gradient.

For a lattice image :math:`I(r)` and a reciprocal vector :math:`g`, the plane
:math:`c_0 + c_x (x - X) + c_y (y - Y)` is fitted to :math:`I(r)\exp(-2\pi i g\cdot r)` under a
Gaussian window around :math:`(X, Y)`, as the border of the image or a mask truncates it. Then the
phase is :math:`P = \arg c_0` and its gradient :math:`\partial_j P = \mathrm{Im}(c_j / c_0)`,
without any unwrapping or numerical differentiation. In the interior this is the lock-in with the
Gaussian and its derivatives; at borders the true moments of the window keep it unbiased.

Everything is separable, and a Gaussian of a Gaussian is a Gaussian
(:math:`\sigma^2 = \sigma_1^2 + \sigma_2^2`). So the image is demodulated and smoothed with
:math:`\sigma_1` onto a coarse grid first, and the windows :math:`w` and :math:`w\cdot x` of width
:math:`\sigma_2` are applied to that small array. The weighting functions of the two stages
together are used as test functions of the linear fit, with their own exact moments, so that a
plane is reproduced exactly whatever the sampling of the intermediate grid.

A window that is cut by the edge of a particle, or that lies where the amplitude changes, biases
the gradient in proportion to how far the lattice is from the g it is demodulated with, and far
from g the amplitude is lost. So every frame is demodulated with its own mean lattice: a carrier on
the coarse grid turns the whole window exactly (see `hyperspy_lfp.kernels.gpa.plan`).

Geometric phase analysis: M. J. Hÿtch, E. Snoeck, R. Kilaas, Ultramicroscopy 74 (1998) 131,
:doi:`10.1016/S0304-3991(98)00035-7`.
"""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels._arrays import get_array_module
from hyperspy_lfp.kernels.gpa import neighbours
from hyperspy_lfp.kernels.gpa.noise import noise_power
from hyperspy_lfp.kernels.gpa.stages import (
    Coarse,
    demodulate,
    first_stage,
    mean_lattice,
    second_stage,
    turned_tests,
)
from hyperspy_lfp.kernels.gpa.windows import (
    MaskedWindows,
    crystal_mask,
    mask_weights,
    masked_windows,
)

#: Names of the coefficients along the second axis of the result.
COEFFICIENTS = ("value", "d/dx", "d/dy", "variance")
#: Radians across the window by which the carrier of the second stage may differ from that of the
#: first. Further off, aliasing through the intermediate grid exceeds 1e-5 and the frame is
#: demodulated anew.
_FARTHEST_TURN = 1.6
#: Relative amplitude below which edges are looked for.
_MAYBE_VACUUM = 0.4
#: How often at most a frame is demodulated anew.
_TURNS = 4


def plane_wave_fit(frames, plan, mask=None, find_edges=False):
    """Fit local plane waves to a stack of frames.

    Parameters
    ----------
    frames : array of shape (..., ny, nx)
        Real images, any real dtype. Not-a-number pixels are left out of the fit.
    plan : hyperspy_lfp.kernels.gpa.plan.LockinPlan
    mask : bool array of shape (ny, nx) or (..., ny, nx), optional
        The pixels that take part in the fit; all of them by default.
    find_edges : bool
        Without a mask, find the edges of a crystal in vacuum in each frame.

    Returns
    -------
    array of shape (..., K, 4, n_out_y, n_out_x), complex64
        The coefficients named in `COEFFICIENTS`: value, derivatives per unit of the plan, and the
        expected variance of the two derivatives due to the measured noise near g (real part:
        of d/dx, imaginary part: of d/dy). NaN where less than a tenth of the window lies on
        valid pixels.
    """
    xp = get_array_module(frames)
    lead = frames.shape[:-2]
    frames = frames.reshape((-1,) + frames.shape[-2:])
    shape = (len(plan.g), 4, len(plan.y.positions), len(plan.x.positions))
    out = xp.empty((len(frames),) + shape, dtype=xp.complex64)
    plan = plan.on(xp)
    if mask is None:
        for frame, result in zip(frames, out, strict=True):
            _fit_frame(frame, find_edges, plan, result, xp)
        return out.reshape(lead + shape)
    mask = xp.asarray(mask)
    if mask.ndim == 2:
        mask = mask[None]
    mask = mask.reshape((-1,) + frames.shape[-2:])
    region = None
    for i, (frame, result) in enumerate(zip(frames, out, strict=True)):
        if region is None or len(mask) > 1:
            region = _region(mask[i], plan, xp)
        _fit_masked(frame, region, False, plan, result, xp)
    return out.reshape(lead + shape)


def _fit_frame(frame, find_edges, plan, out, xp):
    # The mean leaks into any window that is narrower than a lattice spacing, and costs digits in
    # float32: an estimate of it is taken off while converting, the rest off the small array.
    offset = _subsampled_mean(frame, xp)
    if not xp.isfinite(offset):
        out[...] = xp.nan
        return
    coarse = first_stage(frame, offset, None, plan, xp)
    if coarse is None:
        _fit_masked(frame, None, find_edges, plan, out, xp)
        return
    detuning, lowest = mean_lattice(coarse, plan, xp)
    for _ in range(_TURNS):
        if not _far(detuning, plan):
            break
        coarse = first_stage(frame, offset, coarse.carrier + detuning, plan, xp)
        detuning, lowest = mean_lattice(coarse, plan, xp)
    if find_edges and lowest < _MAYBE_VACUUM:
        mask = crystal_mask(coarse.data, _on_nodes(detuning, plan), plan, xp)
        if mask is not None:
            _fit_masked(frame, _region(mask, plan, xp), False, plan, out, xp)
            return
    second_stage(coarse, detuning, plan, out, xp)
    _add_variance(out, coarse.data, None, xp.asarray(plan.gains), plan, xp)


def _on_nodes(detuning, plan):
    """The carrier on the nodes that turns the whole window by `detuning`."""
    return detuning * [sum(a.tuning) / a.tuning[1] for a in plan[:2]]


def _far(detuning, plan):
    return bool(np.hypot(*(detuning * plan.sigma).T).max() > _FARTHEST_TURN)


class _Region(NamedTuple):
    """A mask ready for use."""

    weights: np.ndarray  # (ny, nx)
    inside: np.ndarray | None  # (n_out_y, n_out_x): where a fit is wanted
    windows: MaskedWindows | None


def _region(mask, plan, xp):
    weights = mask_weights(mask, plan, xp)
    rows, columns = (
        xp.asarray(np.clip(np.rint(a.positions), 0, a.size - 1).astype(int)) for a in plan[:2]
    )
    inside = mask[rows[:, None], columns]
    return _Region(weights, inside, masked_windows(weights, plan, xp, plan.degree, inside))


def _fit_masked(frame, region, find_edges, plan, out, xp):
    """Fit with the moments of the pixels that are valid, and in a region if there is one."""
    valid = xp.isfinite(frame)
    if region is None:
        region = _Region(mask_weights(valid, plan, xp), None, None)
    elif not bool(valid[region.weights > 0].all()):
        weights = region.weights * mask_weights(valid, plan, xp)
        region = region._replace(weights=weights, windows=None)
    weights, windows = region.weights, region.windows
    mean = _weighted_mean(frame, weights, plan, xp)
    if mean is None:
        out[...] = xp.nan
        return
    if windows is None:
        # dead pixels are no edge of a crystal, where the strain is another
        degree = 1 if region.inside is None else plan.degree
        windows = masked_windows(weights, plan, xp, degree, region.inside)
    coarse = Coarse(demodulate(frame, mean, weights, None, plan, xp)[0], np.zeros(plan.g.shape))
    detuning, lowest = mean_lattice(coarse, plan, xp)
    for _ in range(_TURNS):
        if not _far(detuning, plan):
            break
        carrier = coarse.carrier + detuning
        coarse = Coarse(demodulate(frame, mean, weights, carrier, plan, xp)[0], carrier)
        detuning, lowest = mean_lattice(coarse, plan, xp)
    if find_edges and lowest < _MAYBE_VACUUM:
        turned = _on_nodes(detuning, plan)
        mask = crystal_mask(coarse.data, turned, plan, xp, windows.support)
        if mask is not None:
            _fit_masked(frame, _region(mask, plan, xp), False, plan, out, xp)
            return
    near = None
    if region.inside is not None and len(windows.rows):
        tuned = plan.g + (detuning + coarse.carrier) / (2 * np.pi)
        near = _neighbours(frame, mean, weights, tuned, windows, plan, xp)
    _solve_masked(coarse, detuning, windows, near, plan, out, xp)
    gains = xp.empty(out.shape[-2:], dtype=xp.complex64)
    for part, gain, axis in (
        (gains.real, windows.gains[0], plan.x),
        (gains.imag, windows.gains[1], plan.y),
    ):
        part[...] = gain * (plan.amplitude / axis.unit) ** 2
    gains[windows.missing] = complex(np.nan, np.nan)
    _add_variance(out, coarse.data, windows.support, gains, plan, xp)


class _Neighbours(NamedTuple):
    """Reflections whose leak into cut windows is fitted, see `neighbours`."""

    beams: neighbours.Beams
    tests: np.ndarray  # (number of further spots, n)
    moments: np.ndarray  # (number of differences, n, number of terms)


def _neighbours(frame, mean, weights, tuned, windows, plan, xp):
    """What the frame has near its mean lattice `tuned`, and the moments of the mask there."""
    kind = np.result_type(frame.dtype, np.float32)
    flat = xp.where(weights > 0, frame.astype(kind) - kind.type(mean), 0).astype(xp.float32)
    extra = neighbours.find_spots_near(flat, weights, tuned, plan.sigma, xp)
    beams = neighbours.beams(tuned, extra, plan.sigma)
    tests = xp.empty((0, len(windows.rows)))
    if len(extra):
        data = demodulate(frame, mean, weights, None, plan.at(extra), xp)[0]
        tests = neighbours.tests_at(data, extra, windows.terms[:1], windows, plan, xp)[..., 0]
    moments = xp.empty((0, len(windows.rows), len(windows.terms)))
    if len(beams.differences):
        data = demodulate(weights, 0.0, None, None, plan.at(beams.differences), xp)[0]
        moments = neighbours.tests_at(data, beams.differences, windows.terms, windows, plan, xp)
    return _Neighbours(beams, tests, moments)


def _solve_masked(coarse, detuning, windows, near, plan, out, xp):
    """Second stage where a set of pixels cuts the window."""
    second_stage(coarse, detuning, plan, out, xp)
    out[:, :3, windows.missing] = xp.nan
    if not len(windows.rows):
        return
    total = detuning + coarse.carrier
    axes = plan[:2]
    operators = [
        turned_tests(a.masked.tests, a, detuning[:, i], total[:, i], xp) for i, a in enumerate(axes)
    ]
    where = windows.rows, windows.columns
    wanted = ~windows.missing[where]
    banded = [a.masked.tests for a in axes]
    tests = [
        _tests(coarse.data[k], banded, [o[k] for o in operators], windows, xp)
        for k in range(len(out))
    ]
    if near is not None:
        # from the phase that g gives to that of a carrier which is zero at each centre
        phases = [neighbours.phase_at(g, windows, plan, xp) for g in plan.g]
        tests = [t * p[:, None] for t, p in zip(tests, phases, strict=True)]
        others = xp.concatenate([xp.stack(tests)[..., 0], near.tests])
    for k in range(len(out)):
        if near is None:
            solved = (windows.solution @ tests[k][..., None])[..., 0]
        else:
            solved = neighbours.solve(k, tests[k], others, near.moments, near.beams, windows, xp)
            solved = solved * phases[k].conj()[:, None]
        value, along_x, along_y = solved.T
        solved = (
            value,
            (along_x / plan.sigma[1] + complex(0, total[k, 1]) * value) / plan.x.unit,
            (along_y / plan.sigma[0] + complex(0, total[k, 0]) * value) / plan.y.unit,
        )
        for i, coefficient in enumerate(solved):
            out[k, i][where] = xp.where(wanted, plan.amplitude * coefficient, xp.nan)


def _tests(data, banded, operators, windows, xp):
    """Test functions on a frame after the first stage, (n, number of terms)."""
    size = [b.size for b in banded]
    rows = xp.empty((3, size[0], data.shape[-1]), dtype=xp.complex64)
    for b, (span, columns) in enumerate(zip(banded[0].rows, banded[0].columns, strict=True)):
        rows[:, span] = operators[0][b] @ data[columns]
    result = []
    for of_y, of_x in windows.terms:
        whole = xp.empty(size, dtype=xp.complex64)
        for b, (span, columns) in enumerate(zip(banded[1].rows, banded[1].columns, strict=True)):
            whole[:, span] = rows[of_y][:, columns] @ operators[1][b, of_x].T
        result.append(whole[windows.rows, windows.columns])
    return xp.stack(result, axis=-1)


def _weighted_mean(frame, weights, plan, xp):
    """Mean of the pixels of a frame with weights; None if they are all zero."""
    total = support = 0.0
    along_y, along_x = (xp.asarray(a.weight) for a in plan[:2])
    for start in range(0, len(frame), 64):
        span = slice(start, start + 64)
        weight = weights[span]
        piece = xp.where(weight > 0, frame[span], 0).astype(xp.float64) * weight
        total += float(along_y[span] @ piece @ along_x)
        support += float(along_y[span] @ weight.astype(xp.float64) @ along_x)
    return total / support if support > 0 else None


def _add_variance(out, coarse, support, gains, plan, xp):
    """Variance of the two derivatives from the noise power near each g.

    `gains` are those of d/dx (real) and d/dy (imaginary part), for noise of variance one.
    """
    noise = noise_power(coarse, support, plan.noise, xp)
    # rounding in float32 is a floor under the noise of synthetic, noise-free frames
    gain_0 = float(plan.y.noise_gain[0].min() * plan.x.noise_gain[0].min())
    for k, power in enumerate(noise):
        brightest = float(xp.nan_to_num(xp.abs(out[k, 0, ::4, ::4])).max()) / plan.amplitude
        # what is not known stays not known
        power = np.maximum(power, (1e-6 * brightest) ** 2 / gain_0)
        xp.multiply(gains, np.float32(power), out=out[k, 3])


def _subsampled_mean(frame, xp):
    step = max(1, min(frame.shape) // 64)
    sample = frame[::step, ::step]
    sample = sample[xp.isfinite(sample)]
    if not sample.size:  # rows or columns of dead pixels may lie just there
        sample = frame[xp.isfinite(frame)]
    return float(sample.mean(dtype=xp.float64)) if sample.size else xp.nan
