"""What the methods of `DiffractionSeries` do to a block of patterns.

Every pattern is worked on by itself, so that results do not depend on how a series is chunked.
"""

import numpy as np

from hyperspy_lfp.kernels._arrays import get_array_module, to_host
from hyperspy_lfp.kernels.gpa.spectra import power_spectra
from hyperspy_lfp.kernels.patterns import profile
from hyperspy_lfp.kernels.patterns.azimuth import turned_spots, turned_with
from hyperspy_lfp.kernels.patterns.centre import find_centre

#: What the maps of `track_block` are, in their order.
PROFILE_MAPS = ("counts", "variance")
#: Least side of the blocks' pattern that centres are looked for in first.
_FINE = 512
#: Part of a saturated pixel in a bin that matters: less comes by the slopes of its neighbours.
_SATURATED = 0.02


def spectrum_block(frames, padding, keep):
    """Power spectra, cut to the wanted rows and columns."""
    xp = get_array_module(frames)
    return xp.ascontiguousarray(power_spectra(frames, padding)[(slice(None), *keep)])


def centre_block(frames, mask, method, start):
    """Centre and its standard error, (n, 2, 2) in (y, x) pixels."""
    found = [_centre(frame, mask, method, start) for frame in to_host(frames)]
    return np.array([[f.position[0], f.error[0]] for f in found])


def _centre(frame, mask, method, start):
    """Centre of one pattern; of its sums over blocks first, if it is large.

    Sums of counts are counts, and a centre is found in them to the same part of a pixel, several
    times as fast. Sharp spots may be lost in them, and saturated pixels: then all pixels are used.
    """
    factor = max(frame.shape) // _FINE
    if factor > 1 and not (frame.dtype.kind in "ui" and frame.max() == np.iinfo(frame.dtype).max):
        shift = (factor - 1) / 2
        begin = None if start is None else np.clip((np.asarray(start) - shift) / factor, 0, None)
        blocks = None if mask is None else _block_sums(mask, factor) > 0
        found = find_centre(_block_sums(frame, factor), method, mask=blocks, start=begin)
        if np.isfinite(found.position).all():
            return found._replace(
                position=found.position * factor + shift, error=found.error * factor
            )
    return find_centre(frame, method, mask=mask, start=start)


def _block_sums(frame, factor):
    """Sums over blocks of pixels; what is left at the ends is cut off."""
    ny, nx = (n // factor * factor for n in frame.shape)
    kind = np.float32 if frame.dtype.kind == "f" else np.int64
    total = np.zeros((ny // factor, nx // factor), dtype=kind)
    for i in range(factor):
        for j in range(factor):
            total += frame[i:ny:factor, j:nx:factor]
    return total


def track_block(frames, centres, *, mask, plan, follow, exclude, saturation, options):
    """Profiles and their variances, (n, 2, bins); `plan` is a `BandPlan`."""
    frames, centres = to_host(frames), to_host(centres)
    spots = np.broadcast_to(plan.spot, (len(frames), 2))
    units = np.broadcast_to(plan.unit, (len(frames), 2))
    if follow:
        spots = turned_spots(
            frames,
            centres,
            plan.spot,
            plan.width,
            to_k=plan.to_k,
            mask=mask,
            exclude=exclude,
            exclude_radius=options.get("exclude_radius"),
        )
        units = spots / np.hypot(*plan.spot)
    normal = np.array([plan.unit[1], -plan.unit[0]])
    across = 0.0 if plan.radial else plan.spot @ normal
    band = profile.radial_band(
        centres, units, plan.start, plan.step, plan.width, plan.to_k, offset=across
    )
    others = None
    if exclude is not None:
        others = (
            centres[:, None] + turned_with(exclude, plan.spot, spots) @ np.linalg.inv(plan.to_k).T
        )
    found = profile.band_profiles(
        frames, band, plan.bins, mask=mask, exclude=others, to_k=plan.to_k, **options
    )
    out = np.stack([found.counts, found.variance], axis=1)
    if saturation is not None:
        _leave_out_saturated(out, frames, band, saturation)
    return out


def _leave_out_saturated(out, frames, band, saturation):
    """NaN in bins that a saturated pixel shares: its light is missing from them."""
    for i, frame in enumerate(frames):
        full = frame >= saturation
        if full.any():
            place = profile.Band(*(part[i : i + 1] for part in band))
            share = profile.band_profiles(full[None].astype(float), place, out.shape[-1]).counts[0]
            out[i][:, np.abs(share) > _SATURATED] = np.nan
