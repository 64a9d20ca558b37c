r"""Power of the noise near a reciprocal vector, measured in the frame itself.

The variance of a strain map is set by the noise power at the frequencies of the window around g,
not by the dose: amorphous films, correlated detectors and gains other than one all change it. The
first stage of the lock-in (`hyperspy_lfp.kernels.gpa.lockin`) holds just this band, on a small
array. Its spectrum in windowed patches, divided by the known transfer function of the first stage,
is the power spectral density around g. Lattice spots are sparse and noise is smooth, so a low
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
#: Smallest share of a patch that must be on valid pixels, and from where on it counts as whole.
_FEWEST = 0.2
_WHOLE = 0.999
#: Most patches along an axis: with a hundred independent frequencies each, they measure the noise
#: of a frame to a few percent.
_PATCHES = 5


class NoisePlan(NamedTuple):
    """What `noise_power` needs besides the data; see `plan_noise`.

    Of the spectrum of a patch only the low frequencies are looked at; a product with a part of
    the Fourier matrix gives these faster than a whole transform does.
    """

    starts: tuple  # first nodes of the P patches along (y, x)
    window: np.ndarray  # (side_y, side_x) float32
    fourier: tuple  # windowed Fourier matrices along (y, x), (n_frequencies, side) complex64
    rings: tuple  # K arrays of the places of the frequencies looked at, flat
    spot: np.ndarray  # the same for the frequencies of the spot itself
    transfer: np.ndarray  # (n_fy, n_fx): spectrum of unit white noise
    whole: np.ndarray  # (P, side_y, side_x): patches of a frame of ones, no carrier


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
        number = int(np.clip(2 * len(inside) // side - 1, 1, _PATCHES))
        starts.append((inside[0] + np.linspace(0, len(inside) - side, number)).round().astype(int))
        position = np.arange(side) - (side - 1) / 2
        windows.append(np.exp(-0.5 * (position / (_WIDTH * side)) ** 2))
        frequency = np.fft.fftfreq(side) / spacing
        middle = (len(grid) - side) // 2
        transfers.append(_expected_power(operator[middle : middle + side], windows[-1]))
        frequencies.append(frequency)
        widths.append(1 / (2 * np.pi * _WIDTH * side * spacing))
    reach = _RADIUS * lengths.max()
    kept = [
        np.abs(f) < max(reach, 1.01 * _EXCLUDED * w)
        for f, w in zip(frequencies, widths, strict=True)
    ]
    rings, spot = _frequencies(frequencies, widths, kept, lengths)
    if not all(len(ring) for ring in rings):
        # a frame of a few windows only has no room around the spot: take what is further out
        kept = [np.ones(len(f), dtype=bool) for f in frequencies]
        rings, spot = _frequencies(frequencies, widths, kept, lengths)
        inside = np.setdiff1d(np.arange(kept[0].size * kept[1].size), spot)
        rings = tuple(ring if len(ring) else inside for ring in rings)
    whole = np.outer(*(operator.sum(axis=1) for operator in smooth)).astype(np.float32)
    window = np.outer(*windows).astype(np.float32)
    return NoisePlan(
        starts=tuple(starts),
        window=window,
        fourier=tuple(
            (np.fft.fft(np.eye(len(w)))[k] * w).astype(np.complex64)
            for w, k in zip(windows, kept, strict=True)
        ),
        rings=rings,
        spot=spot,
        transfer=np.outer(*(t[k] for t, k in zip(transfers, kept, strict=True))),
        whole=_patches(whole, starts, window.shape, np),
    )


def _frequencies(frequencies, widths, kept, lengths):
    """Places of the ring around each g and of the spot among the kept frequencies, flat."""
    fy, fx = np.meshgrid(*(f[k] for f, k in zip(frequencies, kept, strict=True)), indexing="ij")
    spot = (fy / widths[0]) ** 2 + (fx / widths[1]) ** 2 <= _EXCLUDED**2
    band = [2 * _BAND * np.abs(f).max() for f in frequencies]
    inside = (np.abs(fy) < band[0]) & (np.abs(fx) < band[1]) & ~spot
    rings = tuple(np.flatnonzero(inside & (np.hypot(fy, fx) < _RADIUS * k)) for k in lengths)
    return rings, np.flatnonzero(spot)


def _expected_power(operator, window):
    """Expected power spectrum of a windowed patch of unit white noise after the first stage.

    The first stage falls off steeply within the spectral width of the window, so that its
    transfer function alone would not do.
    """
    covariance = window[:, None] * (operator @ operator.T) * window
    return np.diagonal(np.fft.fft(np.fft.ifft(covariance, axis=1), axis=0)).real * len(window)


def noise_power(coarse, support, plan, xp=np):
    """Noise power spectral density near each reciprocal vector.

    Parameters
    ----------
    coarse : array of shape (K, n_nodes_y, n_nodes_x), complex
        The frame after the first stage, one for each reciprocal vector.
    support : array of shape (n_nodes_y, n_nodes_x) or None
        The valid pixels after the first stage, without a carrier; None for all pixels.
    plan : NoisePlan

    Returns
    -------
    list of K floats
        Variance per pixel that white noise of the same power near g would have, weighted
        towards the patches in which the lattice is strong. NaN where the spot fills all
        frequencies, as in a frame of less than four windows across.
    """
    window = xp.asarray(plan.window)
    scale = xp.asarray((1 / plan.transfer).astype(np.float32)).ravel()
    whole = xp.asarray(plan.whole)
    there = whole if support is None else _patches(support, plan.starts, window.shape, xp)
    most = float(plan.whole.max())
    # the lattice goes first where holes or borders spread its spot over all frequencies
    cut = ((most - there) * window).max(axis=(1, 2)) > (1 - _WHOLE) * most
    cut = xp.flatnonzero(cut)
    share = (there * window**2).sum(axis=(1, 2)) / (whole * window**2).sum(axis=(1, 2))
    enough = share >= _FEWEST
    share = xp.maximum(share, _FEWEST)
    result = []
    for band, ring in zip(coarse, plan.rings, strict=True):
        if not len(ring):
            result.append(np.nan)
            continue
        patches = _patches(band, plan.starts, window.shape, xp)
        spectra = _spectra(patches, plan, xp)
        strength = spectra[:, xp.asarray(plan.spot)].max(axis=1).astype(xp.float64)
        strength = strength * enough
        if len(cut):
            rest = patches[cut] - _local_mean(patches[cut], there[cut], plan, xp) * there[cut]
            spectra[cut] = _spectra(rest, plan, xp)
        ring = xp.asarray(ring)
        power = spectra[:, ring] * scale[ring]
        place = int(_QUANTILE * (len(ring) - 1) + 0.5)
        quantile = xp.partition(power, place, axis=1)[:, place] / share
        total = float(strength.sum())
        mean = float((quantile * strength).sum()) / -np.log(1 - _QUANTILE)
        result.append(mean / total if total > 0 else 0.0)
    return result


def _patches(band, starts, shape, xp):
    return xp.stack(
        [band[y : y + shape[0], x : x + shape[1]] for y in starts[0] for x in starts[1]]
    )


def _spectra(patches, plan, xp):
    """Power spectra of windowed patches at the kept frequencies, flat."""
    along_y, along_x = (xp.asarray(f) for f in plan.fourier)
    spectra = along_y @ patches @ along_x.T
    return (spectra.real**2 + spectra.imag**2).reshape(len(patches), -1)


def _local_mean(patches, support, plan, xp):
    """Mean under a Gaussian as wide as the window, which leaves the frequencies looked at alone."""
    along_y, along_x = (
        xp.exp(-0.5 * ((xp.arange(n)[:, None] - xp.arange(n)) / (_WIDTH * n)) ** 2).astype(
            xp.float32
        )
        for n in plan.window.shape
    )
    weight = along_y @ support @ along_x
    return (along_y @ patches @ along_x) / xp.where(weight > 0, weight, xp.inf)
