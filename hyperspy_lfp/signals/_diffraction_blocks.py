"""What the methods of `DiffractionSeries` do to a block of patterns.

Every pattern is worked on by itself, so that results do not depend on how a series is chunked.
"""

import numpy as np

from hyperspy_lfp.kernels import profile
from hyperspy_lfp.kernels._arrays import get_array_module, to_host
from hyperspy_lfp.kernels.pattern_centre import find_centre
from hyperspy_lfp.kernels.spectra import power_spectra

#: What the maps of `track_block` are, in their order.
PROFILE_MAPS = ("counts", "variance")
#: Least side of the blocks' pattern that centres are looked for in first.
_FINE = 512
#: Pixels of a spot stand so many times the noise above the background around it.
_ABOVE = 4.0
#: The window of a spot is centred on it so many times: it may begin at the window's border.
_CENTRED = 3
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
        others = (exclude, options.get("exclude_radius"))
        pairs = zip(frames, centres, strict=True)
        spots = np.array([_turned(*pair, plan, mask, *others) for pair in pairs])
        units = spots / np.hypot(*plan.spot)
    normal = np.array([plan.unit[1], -plan.unit[0]])
    across = 0.0 if plan.radial else plan.spot @ normal
    band = profile.radial_band(
        centres, units, plan.start, plan.step, plan.width, plan.to_k, offset=across
    )
    others = None
    if exclude is not None:
        others = (
            centres[:, None] + _turned_with(exclude, plan.spot, spots) @ np.linalg.inv(plan.to_k).T
        )
    found = profile.band_profiles(
        frames, band, plan.bins, mask=mask, exclude=others, to_k=plan.to_k, **options
    )
    out = np.stack([found.counts, found.variance], axis=1)
    if saturation is not None:
        _leave_out_saturated(out, frames, band, saturation)
    return out


def _turned(frame, centre, plan, mask, exclude, radius):
    """Where the spot is in a pattern, (ky, kx): its azimuth follows, its k does not.

    The centroid of what is above the median in a window of twice the band's width; the given
    place where there is nothing.
    """
    to_pixels = np.linalg.inv(plan.to_k)
    size = np.hypot(*plan.spot)
    reach = np.abs(to_pixels).sum(axis=1) * plan.width
    spot = plan.spot
    for _ in range(_CENTRED):
        at = centre + to_pixels @ spot
        window = _window(at, reach, frame.shape)
        if window is None:
            return plan.spot
        patch = frame[window].astype(float)
        if mask is not None:
            patch[mask[window]] = np.nan
        rows, columns = (np.arange(w.start, w.stop) for w in window)
        if exclude is not None:
            for other in _turned_with(exclude, plan.spot, spot[None])[0]:
                off = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1) - centre
                patch[np.hypot(*np.moveaxis(off @ plan.to_k.T - other, -1, 0)) < radius] = np.nan
        found = _centroid(patch, rows, columns)
        if found is None:
            return plan.spot
        now = plan.to_k @ (found - centre)
        spot = now * size / np.hypot(*now)
    return spot


def _window(at, reach, shape):
    """Slices about a place, or None if nothing of it is in the pattern."""
    if not np.isfinite(at).all():
        return None
    low = np.maximum(np.floor(at - reach), 0).astype(int)
    high = np.minimum(np.ceil(at + reach) + 1, shape).astype(int)
    if np.any(high - low < 3):
        return None
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def _centroid(patch, rows, columns):
    """Centroid of what stands out, or None if nothing does or more than half is not seen."""
    known = np.isfinite(patch)
    if known.sum() < patch.size / 2:
        return None
    level = np.median(patch[known])
    noise = 1.4826 * np.median(np.abs(patch[known] - level))
    excess = np.where(known, patch - level, 0)
    excess[excess < _ABOVE * noise] = 0
    total = excess.sum()
    if not total > 0:
        return None
    return np.array([excess.sum(axis=1) @ rows, excess.sum(axis=0) @ columns]) / total


def _turned_with(vectors, before, after):
    """Vectors (m, 2) turned as `before` (2,) is to each of `after` (n, 2): (n, m, 2)."""
    vectors, before, after = (v[..., 0] + 1j * v[..., 1] for v in (vectors, before, after))
    turned = vectors * (after / before)[:, None]
    return np.stack([turned.real, turned.imag], axis=-1)


def _leave_out_saturated(out, frames, band, saturation):
    """NaN in bins that a saturated pixel shares: its light is missing from them."""
    for i, frame in enumerate(frames):
        full = frame >= saturation
        if full.any():
            place = profile.Band(*(part[i : i + 1] for part in band))
            share = profile.band_profiles(full[None].astype(float), place, out.shape[-1]).counts[0]
            out[i][:, np.abs(share) > _SATURATED] = np.nan
