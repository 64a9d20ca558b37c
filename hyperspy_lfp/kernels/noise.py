r"""Power of the noise near a reciprocal vector, measured in the frame itself.

The variance of a strain map is set by the noise power at the frequencies of the window around g,
not by the dose: amorphous films, correlated detectors and gains other than one all change it. The
first stage of the lock-in (`hyperspy_lfp.kernels.lockin`) holds just this band, on a small array.
Its spectrum in windowed patches, divided by the known transfer function of the first stage, is
the power spectral density around g. Lattice spots are sparse and noise is smooth, so a low
quantile measures the noise without knowing the lattice.
"""

from typing import NamedTuple

import numpy as np

#: Side of a patch in nodes of the intermediate grid and in lattice spacings, at least.
_NODES = 24
_SPACINGS = 32
#: Standard deviation of the patch's window in units of its side.
_WIDTH = 1 / 8
#: Frequencies looked at: further from g than so many widths of the patch's spectral window,
#: which the spot itself fills; nearer than a share of |g| and of the sampling frequency.
_EXCLUDED = 4.0
_RADIUS = 0.5
_BAND = 0.45
#: The power of noise alone is exponentially distributed, which turns any quantile into the mean;
#: a low one, since neighbouring spots of the lattice may fill a part of the ring.
_QUANTILE = 0.3
#: Smallest share of a patch that must be on valid pixels.
_FEWEST = 0.2


class NoisePlan(NamedTuple):
    """What `noise_power` needs besides the data; see `plan_noise`."""

    starts: tuple  # first nodes of the patches along (y, x)
    window: np.ndarray  # (side_y, side_x) float32
    rings: np.ndarray  # (K, side_y, side_x) bool
    spot: np.ndarray  # (side_y, side_x) bool
    transfer: np.ndarray  # (side_y, side_x): spectrum of unit white noise


def plan_noise(grids, smooth, g):
    """Choose patches and frequencies.

    Parameters
    ----------
    grids : pair of array
        Positions of the nodes of the intermediate grid along (y, x), pixels.
    smooth : pair of array of shape (n_nodes, n_pixels)
        First stage without its carrier.
    g : array of shape (K, 2)
        Reciprocal vectors, (y, x) order, cycles per pixel.

    Returns
    -------
    NoisePlan
    """
    lengths = np.hypot(*np.asarray(g, dtype=float).T)
    starts, windows, transfers, frequencies, widths = [], [], [], [], []
    for grid, operator in zip(grids, smooth, strict=True):
        spacing = grid[1] - grid[0] if len(grid) > 1 else 1.0
        inside = np.flatnonzero((grid >= 0) & (grid <= operator.shape[1] - 1))
        side = max(_NODES, int(np.ceil(_SPACINGS / lengths.min() / spacing)))
        side = min(side, len(inside))
        number = max(1, 2 * len(inside) // side - 1)
        starts.append((inside[0] + np.linspace(0, len(inside) - side, number)).round().astype(int))
        position = np.arange(side) - (side - 1) / 2
        windows.append(np.exp(-0.5 * (position / (_WIDTH * side)) ** 2))
        frequency = np.fft.fftfreq(side) / spacing
        middle = (len(grid) - side) // 2
        transfers.append(_expected_power(operator[middle : middle + side], windows[-1]))
        frequencies.append(frequency)
        widths.append(1 / (2 * np.pi * _WIDTH * side * spacing))
    window = windows[0][:, None] * windows[1]
    fy, fx = np.meshgrid(*frequencies, indexing="ij")
    spot = (fy / widths[0]) ** 2 + (fx / widths[1]) ** 2 <= _EXCLUDED**2
    band = [_BAND / (grid[1] - grid[0]) if len(grid) > 1 else 0.5 for grid in grids]
    inside_band = (np.abs(fy) < band[0]) & (np.abs(fx) < band[1]) & ~spot
    rings = []
    for length in lengths:
        ring = inside_band & (np.hypot(fy, fx) < _RADIUS * length)
        # a frame of a few windows only has no room around the spot: take what there is further out
        rings.append(ring if ring.any() else ~spot)
    return NoisePlan(
        starts=tuple(starts),
        window=window.astype(np.float32),
        rings=np.stack(rings),
        spot=spot,
        transfer=transfers[0][:, None] * transfers[1],
    )


def _expected_power(operator, window):
    """Expected power spectrum of a windowed patch of unit white noise after the first stage.

    The first stage falls off steeply within the spectral width of the window, so that its
    transfer function alone would not do.
    """
    covariance = window[:, None] * (operator @ operator.T) * window
    return np.diagonal(np.fft.fft(np.fft.ifft(covariance, axis=1), axis=0)).real * len(window)


def noise_power(coarse, valid, plan, xp=np):
    """Noise power spectral density near each reciprocal vector.

    Parameters
    ----------
    coarse : array of shape (K, n_nodes_y, n_nodes_x), complex
        The frame after the first stage, one for each reciprocal vector.
    valid : pair of array of shape (n_nodes_y, n_nodes_x)
        The valid pixels and all pixels after the first stage, without a carrier.
    plan : NoisePlan
    xp : module
        NumPy or CuPy.

    Returns
    -------
    list of K floats
        Variance per pixel that white noise of the same power near g would have, weighted
        towards the patches in which the lattice is strong. NaN where the spot fills all
        frequencies, as in a frame of less than four windows across.
    """
    scale = xp.asarray(1 / plan.transfer)
    spot = xp.asarray(plan.spot)
    window = xp.asarray(plan.window**2)
    share = valid[0] / xp.where(valid[1] > 0, valid[1], 1)
    share = (_patches(share, plan, xp) * window).sum(axis=(1, 2)) / window.sum()
    result = []
    for band, ring in zip(coarse, plan.rings, strict=True):
        if not ring.any():
            result.append(np.nan)
            continue
        strength = _spectra(band, plan, xp)[:, spot].max(axis=1)
        strength = xp.where(share < _FEWEST, 0, strength)
        # the lattice goes first: holes and borders spread its spot over all frequencies
        rest = band - _local_mean(band, valid[0], plan, xp) * valid[0]
        power = _spectra(rest, plan, xp) * scale / xp.maximum(share, _FEWEST)[:, None, None]
        quantile = xp.quantile(power[:, xp.asarray(ring)], _QUANTILE, axis=1)
        total = float(strength.sum())
        mean = float((quantile * strength).sum()) / -np.log(1 - _QUANTILE)
        result.append(mean / total if total > 0 else 0.0)
    return result


def _patches(band, plan, xp):
    side_y, side_x = plan.window.shape
    return xp.stack(
        [band[y : y + side_y, x : x + side_x] for y in plan.starts[0] for x in plan.starts[1]]
    )


def _spectra(band, plan, xp):
    return xp.abs(xp.fft.fft2(_patches(band, plan, xp) * xp.asarray(plan.window))) ** 2


def _local_mean(band, valid, plan, xp):
    """Mean under a Gaussian as wide as the window, which leaves the frequencies looked at alone."""
    along_y, along_x = (
        xp.exp(-0.5 * ((xp.arange(n)[:, None] - xp.arange(n)) / (_WIDTH * side)) ** 2)
        for n, side in zip(band.shape, plan.window.shape, strict=True)
    )
    weight = along_y @ valid @ along_x
    return (along_y @ band @ along_x) / xp.where(weight > 0, weight, xp.inf)
