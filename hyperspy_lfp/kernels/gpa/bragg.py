"""Lattice spots of images: power spectra, peaks in them, and refined reciprocal vectors."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage, stats

from hyperspy_lfp.kernels._arrays import get_array_module, to_host
from hyperspy_lfp.kernels.gpa.lockin import plane_wave_fit
from hyperspy_lfp.kernels.gpa.plan import plan_lockin

#: Expected number of false spots in a spectrum of noise alone.
_FALSE_SPOTS = 1e-3
#: A spot has no equal within this range of its own half width at half maximum: the side lobes
#: that a straight particle edge draws through every spot have.
_RING = (3.0, 6.0)
_RING_RATIO = 0.25
#: The spectrum is also looked at after smoothing over so many pixels: the spots of a bent or
#: small crystal fall into speckles, none of which stands alone.
_SCALES = (0.0, 1.5, 4.0)
#: A spot is at least so many times the background, however many frames are averaged.
_CONTRAST = 3.0
#: Fewest lattice periods in a frame.
_PERIODS = 6
#: Side of the blocks whose medians are the local background, pixels of the spectrum.
_BLOCK = 16
_CLOSE_INDEX = 0.03


def power_spectrum(frames):
    """Mean power spectrum of a stack of frames under a Hann window.

    The window keeps the jump between opposite borders out of the spectrum (the cross), and each
    frame's mean is removed before.

    Parameters
    ----------
    frames : array of shape (n, ny, nx)
        Not-a-number pixels count as the mean of their frame.

    Returns
    -------
    array of shape (ny, nx), float64
        Zero frequency at (ny // 2, nx // 2). On the device if the frames are.
    """
    xp = get_array_module(frames)
    ny, nx = frames.shape[-2:]
    window = xp.asarray(_hann(ny)[:, None] * _hann(nx), dtype=xp.float32)
    total = xp.zeros((ny, nx))
    number = 0
    for frame in frames:
        frame = frame.astype(xp.float32)
        finite = xp.isfinite(frame)
        if not bool(finite.any()):
            continue
        mean = float(frame[finite].mean(dtype=xp.float64))
        frame = xp.where(finite, frame - mean, 0)
        # the mean under the window would leave a peak at zero that hides long spacings
        frame = (frame - (frame * window).sum() / window.sum()) * window
        total += xp.abs(xp.fft.fft2(frame)) ** 2
        number += 1
    return xp.fft.fftshift(total) / max(number, 1)


def find_spots(spectrum, n, n_frames=1):
    """Find lattice spots in a power spectrum.

    This is done on the host: it is one small image, and looking at its peaks one by one would
    wait for a device many times.

    Parameters
    ----------
    spectrum : array of shape (ny, nx)
        Mean power spectrum, zero frequency at (ny // 2, nx // 2).
    n : int
        Number of spots wanted.
    n_frames : int
        Number of frames averaged, which sets how far noise alone can rise.

    Returns
    -------
    array of shape (at most n, 2)
        Reciprocal vectors, (y, x) order, cycles per pixel, strongest first; one of each pair
        +g, -g; no multiple of a stronger one. NumPy.
    """
    spectrum = to_host(spectrum)
    shape = np.array(spectrum.shape)
    centre = shape // 2
    found = []
    for scale in _SCALES:
        found += _isolated_peaks(spectrum, scale, n_frames)
    found.sort(key=lambda spot: -spot.strength)

    vectors, taken = [], []
    for spot in found:
        if any(
            np.hypot(*(spot.index - t.index)) < _RING[0] * max(spot.width, t.width) for t in taken
        ):
            continue
        taken += [spot, spot._replace(index=2 * centre - spot.index)]
        g = (spot.vertex - centre) / shape
        g = g if in_half_plane(g[::-1]) else -g
        if not any(_is_multiple(g, other) for other in vectors):
            vectors.append(g)
        if len(vectors) == n:
            break
    return np.array(vectors).reshape(-1, 2)


class _Spot(NamedTuple):
    index: np.ndarray
    vertex: np.ndarray
    width: float
    strength: float


def _isolated_peaks(spectrum, scale, n_frames):
    """Peaks of the spectrum smoothed over `scale` pixels that stand above what surrounds them."""
    smooth = ndimage.gaussian_filter(spectrum, scale) if scale else spectrum
    # smoothing averages about so many independent values of each frame
    n_values = n_frames * max(1.0, 4 * np.pi * scale**2)
    to_mean = n_values / stats.gamma.median(n_values)
    level = max(_CONTRAST, stats.gamma.isf(_FALSE_SPOTS / spectrum.size, n_values) / n_values)
    ny, nx = spectrum.shape
    fy, fx = (np.arange(s) - s // 2 for s in (ny, nx))
    peaks = smooth == ndimage.maximum_filter(smooth, size=5)
    peaks &= smooth > level * to_mean * _local_median(smooth)
    peaks &= (fy[:, None] / ny) ** 2 + (fx / nx) ** 2 >= (_PERIODS / min(ny, nx)) ** 2
    edge = int(np.ceil(3 * scale)) + 1
    peaks[:edge] = peaks[-edge:] = False
    peaks[:, :edge] = peaks[:, -edge:] = False
    spots = []
    for index in np.argwhere(peaks):
        width = _half_width(smooth, index, scale)
        if width is None or not _is_isolated(smooth, index, width):
            continue
        floor = to_mean * _line_background(smooth, index, width)
        if smooth[tuple(index)] < level * floor:
            continue
        patch, at = _window_around(spectrum, index, int(np.ceil(2 * width)))
        rows, columns = np.indices(patch.shape)
        inside = np.hypot(rows - at[0], columns - at[1]) <= 2 * width
        strength = (patch[inside] - floor).sum()
        spots.append(_Spot(index, _vertex(smooth, index), width, strength))
    return spots


def in_half_plane(vector):
    """Whether (x, y) is the member of a Friedel pair to keep.

    The edge of the half plane lies away from the axes, so that noise does not turn a vector
    along an axis over.
    """
    angle = np.deg2rad(10.0)
    return vector[0] * np.cos(angle) + vector[1] * np.sin(angle) > 0


def refine_vectors(frames, g, region=None, n_iterations=2):
    """Refine reciprocal vectors by the mean gradient of their geometric phase.

    The gradient comes from the plane-wave fit and is never unwrapped, so that a start several
    FFT pixels off converges.

    Parameters
    ----------
    frames : array of shape (n, ny, nx)
    g : array of shape (K, 2)
        Start values, (y, x) order, cycles per pixel.
    region : tuple of slice, optional
        Rows and columns to use; default the whole frame.
    n_iterations : int

    Returns
    -------
    array of shape (K, 2)
        NumPy, wherever the frames are.
    """
    xp = get_array_module(frames)
    if region is not None:
        frames = frames[(slice(None), *region)]
    shape = frames.shape[-2:]
    g = np.array(to_host(g), dtype=float)
    # A window of a tenth of the frame captures vectors a few FFT pixels off, but must not be
    # narrower than a lattice spacing.
    spacing = 1 / np.hypot(*g.T).min()
    sigma = tuple(max(size / 10, 1.5 * spacing) for size in shape)
    positions = [np.linspace(0, size - 1, 13) for size in shape]
    for _ in range(n_iterations):
        plan = plan_lockin(shape, g, sigma, positions)
        power, slope = np.zeros(len(g)), np.zeros((len(g), 2))
        for frame in frames:
            c = plane_wave_fit(frame, plan).astype(xp.complex128)
            power += to_host(xp.nansum(xp.abs(c[:, 0]) ** 2, axis=(1, 2)))
            for i, part in ((0, 2), (1, 1)):
                moment = xp.nansum((c[:, 0].conj() * c[:, part]).imag, axis=(1, 2))
                slope[:, i] += to_host(moment)
        if not np.all(power > 0):
            raise ValueError("no frame with finite pixels to refine the g vectors in")
        g += slope / power[:, None] / (2 * np.pi)
    return g


def _hann(size):
    return 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(size) + 0.5) / size)


def _local_median(spectrum):
    blocks = [max(1, s // _BLOCK) for s in spectrum.shape]
    trimmed = spectrum[: blocks[0] * (spectrum.shape[0] // blocks[0]), :]
    trimmed = trimmed[:, : blocks[1] * (spectrum.shape[1] // blocks[1])]
    shape = (blocks[0], trimmed.shape[0] // blocks[0], blocks[1], trimmed.shape[1] // blocks[1])
    medians = np.median(trimmed.reshape(shape), axis=(1, 3))
    rows = (np.arange(spectrum.shape[0]) + 0.5) / shape[1] - 0.5
    columns = (np.arange(spectrum.shape[1]) + 0.5) / shape[3] - 0.5
    grid = np.meshgrid(rows, columns, indexing="ij")
    return ndimage.map_coordinates(medians, grid, order=1, mode="nearest")


def _window_around(spectrum, index, reach):
    lows = np.maximum(index - reach, 0)
    highs = np.minimum(index + reach + 1, spectrum.shape)
    return spectrum[lows[0] : highs[0], lows[1] : highs[1]], index - lows


def _half_width(spectrum, index, scale):
    """Half width at half maximum, or None for what has no clear half width (a ridge)."""
    reach = int(12 + 4 * scale)
    patch, centre = _window_around(spectrum, index, reach)
    labels, _ = ndimage.label(patch > patch[tuple(centre)] / 2)
    area = np.count_nonzero(labels == labels[tuple(centre)])
    width = max(1.0, np.sqrt(area / np.pi))
    return width if _RING[0] * width < reach else None


def _line_background(spectrum, index, width):
    """Largest of the medians along lines through a peak: a streak is no spot."""
    distance = np.arange(int(np.ceil(_RING[0] * width)), int(np.ceil(_RING[0] * width)) + 17)
    distance = np.concatenate([-distance, distance])
    medians = []
    for direction in ((0, 1), (1, 0), (1, 1), (1, -1)):
        rows, columns = (index[i] + distance * direction[i] for i in (0, 1))
        inside = (rows >= 0) & (rows < spectrum.shape[0])
        inside &= (columns >= 0) & (columns < spectrum.shape[1])
        if inside.any():
            medians.append(np.median(spectrum[rows[inside], columns[inside]]))
    return max(medians)


def _is_isolated(spectrum, index, width):
    patch, centre = _window_around(spectrum, index, int(np.ceil(_RING[1] * width)))
    rows, columns = np.indices(patch.shape)
    distance = np.hypot(rows - centre[0], columns - centre[1])
    ring = (distance >= _RING[0] * width) & (distance <= _RING[1] * width)
    return patch[ring].max(initial=0.0) < _RING_RATIO * patch[tuple(centre)]


def _vertex(spectrum, index):
    """Vertex of the parabola through the logarithm of the 3 x 3 neighbourhood."""
    patch, _ = _window_around(spectrum, index, 1)
    if patch.shape != (3, 3):
        return index.astype(float)
    log = np.log(np.maximum(patch, patch.max() * 1e-12))
    slope = np.array([log[2].mean() - log[0].mean(), log[:, 2].mean() - log[:, 0].mean()]) / 2
    curve = np.array(
        [
            log[0].mean() - 2 * log[1].mean() + log[2].mean(),
            log[:, 0].mean() - 2 * log[:, 1].mean() + log[:, 2].mean(),
        ]
    )
    return index + np.clip(np.where(curve < 0, -slope / np.minimum(curve, -1e-12), 0), -0.7, 0.7)


def _is_multiple(g, other):
    """Whether one of two vectors is an integer multiple (2, 3, ...) of the other."""
    short, long = sorted((np.asarray(g), np.asarray(other)), key=lambda v: np.hypot(*v))
    ratio = long @ short / (short @ short)
    whole = round(abs(ratio))
    return whole >= 2 and np.hypot(*(long - np.sign(ratio) * whole * short)) < (
        _CLOSE_INDEX * np.hypot(*short)
    )
