"""What `to_concentration` does to a block of frames.

Between the signals and the kernels, in the threads or processes of dask: lengths of two lattice
vectors from the phases or from the strain, and from the lengths x with its errors and flags, as
the maps that are named in `_composition.MAPS`.
"""

import warnings

import numpy as np

from hyperspy_lfp.kernels._arrays import get_array_module, to_host
from hyperspy_lfp.kernels.concentration import composition, flags
from hyperspy_lfp.kernels.concentration.systematic import common_scale, systematic
from hyperspy_lfp.kernels.gpa import consistency, defects, lattice
from hyperspy_lfp.signals import _coherency, _composition
from hyperspy_lfp.signals._phase_blocks import by_parts

#: Mean misfit of a frame, in units of what wrong tables may cause, from which on no composition
#: of the material has this lattice: pixels that are half a percent off in LiFePO4. Less than that
#: coherent particles show as well, whose two lengths do not follow x place by place.
_NO_COMPOSITION = 10.0


def phase_block(
    block,
    ref,
    *others,
    plan,
    g,
    sigma,
    positions,
    threshold,
    relations,
    has_first,
    has_base,
    elastic=None,
    how=None,
):
    """Maps of x from coefficients, (n, maps, y, x); `positions` along (y, x)."""
    others = list(others)
    first = others.pop(0) if has_first else None
    base = others.pop(0) if has_base else None
    ref, ref_noise = ref[..., :2, :, :], ref[..., 2, :, :]
    # one direction a frame is enough: a reference that differs between pixels differs by strain
    known = np.isfinite(ref)
    mean = np.where(known, ref, 0).sum(axis=(-2, -1)) / np.maximum(known.sum(axis=(-2, -1)), 1)
    vectors = np.asarray(g) + to_host(mean) / (2 * np.pi)
    along = _composition.directions(plan, vectors)  # (2, 2, n, 1, 1)

    def convert(part, reference, typical, frames):
        e, q = lattice.deformation(part, g, sigma, reference, threshold, typical)
        f = lattice.deformation_gradient(e)
        towards = along[:, :, frames] if along.shape[2] > 1 else along
        return *lattice.stretches(f, q, towards), lattice.shear_between(f, towards)[None]

    maps = by_parts(convert, 5, block, ref, with_frames=True)
    step = [abs(p[1] - p[0]) if len(p) > 1 else sigma for p in positions]
    width = tuple(sigma / d for d in step)
    reference_noise = _length_noise(ref_noise, vectors, along)
    out = _from_lengths(maps, plan, width, base, reference_noise, elastic, how)
    found = {"outside": flags.mostly_outside(block)}
    if max(step) <= defects.COARSEST_STEP * sigma:
        found |= _of_phases(block, g, sigma, positions, threshold, relations)
    if first is not None:
        before = flags.relative_amplitude(first)
        found["collapse"] = flags.collapse(flags.relative_amplitude(block), before)
    xp = get_array_module(block)
    out[:, -1] += flags.combine(**found).astype(xp.float32)
    return out


def _of_phases(block, g, sigma, positions, threshold, relations):
    """Findings about the phases, each (n, y, x)."""
    xp = get_array_module(block)
    jumps = consistency.phase_jumps(block, sigma, positions, threshold)
    found = defects.find_dislocations(block, g, sigma, positions, threshold)
    marks = {
        "phase_jump": jumps.any(axis=1),
        "dislocation": xp.asarray(defects.core_mask(found, positions, sigma)),
    }
    if len(relations):
        closed = consistency.closure(block, relations, g, sigma, positions, threshold)
        marks["closure"] = consistency.closure_failure(closed, relations, g, sigma)
    return marks


def strain_block(
    strain,
    variance,
    covariance,
    *others,
    plan,
    definition,
    angle,
    direction,
    width,
    has_base,
    elastic=None,
    how=None,
):
    """Maps of x from strain components along axes turned by `angle`, (n, maps, y, x)."""
    strain, variance, covariance = (np.moveaxis(a, 1, 0) for a in (strain, variance, covariance))
    f = lattice.deformation_from_strain(strain, definition)
    q = np.stack([variance[0], variance[1], 2 * covariance[0]])
    q = np.broadcast_to(q, (3, *strain.shape[1:]))
    # the direction is given in the image, the components are along turned axes
    c, s = np.cos(angle), np.sin(angle)
    along = (c * direction[0] - s * direction[1], s * direction[0] + c * direction[1])
    across = (-along[1], along[0])
    if definition != "eulerian":
        # back from the noise of H to that of e, see `lattice.strain_covariance`
        q = lattice.eulerian_covariance(f, q)
    directions = np.array([along, across])[..., None, None, None]
    lengths = np.concatenate(
        [*lattice.stretches(f, q, directions), lattice.shear_between(f, directions)[None]]
    )
    return _from_lengths(
        np.moveaxis(lengths, 0, 1).astype(np.float32),
        plan,
        width,
        others[0] if has_base else None,
        get_array_module(f).zeros((2, 1, 1, 1), dtype=np.float32),
        elastic,
        how,
    )


def _from_lengths(maps, plan, width, base, reference_noise, elastic=None, how=None):
    """Maps of x from two lengths, their variances and the shear, stacked as (n, 5, y, x).

    With `elastic` and `how` (see `_coherency`) x is that of a coherent particle.
    """
    xp = get_array_module(maps)
    stretch, noise, shear = maps[:, :2], maps[:, 2:4], maps[:, 4]
    stretch, noise = (xp.moveaxis(a, 1, 0) for a in (stretch, noise))
    scale = xp.asarray(plan.scale, dtype=xp.float32)[:, None, None, None]
    if base is not None:
        scale = scale * xp.moveaxis(base.astype(xp.float32), 1, 0)
    stretch, noise = stretch * scale, noise * scale**2
    reference_noise = reference_noise * scale**2
    if plan.nuisance is not None:
        size, size_noise = _distortion(stretch, noise, plan, width)
        pattern = xp.asarray(plan.nuisance)[:, None]
        stretch = stretch / (1 + pattern * xp.asarray(size))[..., None, None].astype(xp.float32)
        common = (pattern**2 * xp.asarray(size_noise))[..., None, None]
        reference_noise = reference_noise + common.astype(xp.float32)
    x, variance, sensitivity = _inverted(stretch, noise, plan)
    common = (sensitivity**2 * (reference_noise + _table_errors(x, plan))).sum(axis=0)
    if elastic is None:
        rest, rest_noise = composition.misfit(stretch, noise, x, plan.knots, plan.lengths)
        prior = _misfit_of_tables(plan)
        found = systematic(x, variance, sensitivity, rest, rest_noise, width, prior)
        local, chi_squared, trend = found
    else:
        # that the lengths disagree is what elasticity explains, and no misfit of the tables
        x, variance, local, chi_squared = _coherency.invert(stretch, noise, elastic, how)
        trend = None
    valid = xp.isfinite(x)
    marks = {
        "no_lattice": ~valid,
        "rim": flags.rim(valid, width),
        "inconsistent": flags.inconsistent(chi_squared),
        "calibration": _impossible(x, variance + local, trend, plan) & valid,
    }
    out = xp.empty((len(x), 1 + len(_composition.MAPS), *x.shape[-2:]), dtype=xp.float32)
    for i, values in enumerate((x, variance + local, local, common, chi_squared, shear)):
        out[:, i] = values
    out[:, 6] = flags.combine(**marks)
    return out


def _table_errors(x, plan):
    """Variance of the two lengths due to the tables, (2, n, y, x).

    The lattice parameters at both ends are off independently, and between them in proportion. A
    reference of known composition takes off what is wrong there.
    """
    xp = get_array_module(x)
    part = (x - np.float32(plan.knots[0])) / np.float32(plan.knots[-1] - plan.knots[0])
    if plan.cell:
        share = (1 - part) ** 2 + part**2
    else:
        at = (plan.x_reference - plan.knots[0]) / (plan.knots[-1] - plan.knots[0])
        share = 2 * (part - np.float32(at)) ** 2
    errors = xp.asarray(plan.tabulated, dtype=xp.float32)[:, None, None, None]
    return errors**2 * share


def _inverted(stretch, noise, plan):
    return composition.invert_lengths(
        stretch, noise, plan.knots, plan.lengths, plan.weights, plan.tabulated
    )


def _misfit_of_tables(plan):
    """Standard deviation of the misfit that wrong tables are expected to cause."""
    slope = plan.lengths[:, -1] - plan.lengths[:, 0]
    return float(np.hypot(*(slope[::-1] * plan.tabulated)) / np.hypot(*slope))


def _distortion(stretch, noise, plan, width):
    """Size of the distortion of each frame that is fitted, and its variance."""
    x = _inverted(stretch, noise, plan).x
    rest, rest_noise = composition.misfit(stretch, noise, x, plan.knots, plan.lengths)
    xp = get_array_module(x)
    expected, slope = composition.expected_lengths(x, plan.knots, plan.lengths)
    pattern = plan.nuisance
    # that of lengths which the distortion alone has changed
    response = slope[1] * expected[0] * pattern[0] - slope[0] * expected[1] * pattern[1]
    response = response / xp.sqrt((slope**2).sum(axis=0))
    return common_scale(rest, rest_noise, response, width)


def _length_noise(ref_noise, vectors, along):
    """Variance of the two lengths due to the noise of the reference, (2, n, y or 1, x or 1).

    Parameters
    ----------
    ref_noise : array of shape (n, K, y or 1, x or 1)
        Variance of its phase gradient.
    vectors : array of shape (n, K, 2)
        Its reciprocal vectors.
    along : array of shape (2, 2, n, 1, 1)
        Directions of the lengths.
    """
    xp = get_array_module(ref_noise)
    inverse = np.linalg.pinv(vectors)  # (n, 2, K)
    gain = np.einsum("ijn,njk->ink", along[..., 0, 0], inverse) / (2 * np.pi)
    gain = xp.asarray(gain**2, dtype=xp.float32)[..., None, None]
    return (gain * ref_noise.astype(xp.float32)).sum(axis=2)


def _impossible(x, variance, trend, plan):
    """Frames whose lattice is that of no composition, with a warning that says what to do.

    Returns
    -------
    bool array of shape (n, 1, 1)
    """
    xp = get_array_module(x)
    weight = xp.where(xp.isfinite(x), 1, 0) / xp.where(variance > 0, variance, 1)
    total = to_host(weight.sum(axis=(-2, -1)))
    mean = to_host(xp.where(weight > 0, x * weight, 0).sum(axis=(-2, -1)))
    mean = mean / np.where(total > 0, total, np.nan)
    low, high = plan.limits
    misfit = np.zeros(len(x), dtype=bool)
    if plan.absolute and trend is not None:
        rest = trend[:, 0] + trend[:, 1] * mean
        misfit = abs(rest) > _NO_COMPOSITION * _misfit_of_tables(plan)
    beyond = (mean < low) | (mean > high)
    if misfit.any():
        slope = plan.lengths[:, -1] - plan.lengths[:, 0]
        size = np.median(rest[misfit]) * np.hypot(*slope) / (slope[1] - slope[0])
        says = (
            f"it would be if the pixels were about {100 * abs(size):.1f} % "
            f"{'smaller' if size > 0 else 'larger'} than the axes say"
        )
    elif beyond.any():
        says = f"the mean of x is {mean[beyond][0]:.2f}"
    if (misfit | beyond).any():
        warnings.warn(
            f"the lattice is that of no composition from {low:g} to {high:g}: {says}. Give a "
            "region of known composition as the `reference`, correct the scale of the signal "
            "axes, or use method='difference' or nuisance='magnification', which a wrong scale "
            "leaves alone. The frames are flagged as 'calibration'.",
            UserWarning,
            stacklevel=2,
        )
    return xp.asarray(misfit | beyond)[:, None, None]
