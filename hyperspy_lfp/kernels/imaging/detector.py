r"""What lies between an expected image and the counts: film, transfer function, counting.

The amorphous film adds a Gaussian random contrast whose power is uniform up to a cutoff and zero
beyond. The transfer function multiplies the spectrum of the expected image; electrons are counted
after it, so that their noise stays white, as that of a camera that counts does.
"""

import numpy as np
from scipy import fft

#: A transfer function that a scintillator may have, at the Nyquist frequency: not a measured one.
_SCINTILLATOR_AT_NYQUIST = 0.2


def pixel_mtf(qy, qx):
    """Transfer function of square pixels that count what falls on them; cycles per pixel."""
    return np.sinc(qy) * np.sinc(qx)


def scintillator_mtf(qy, qx):
    """A Lorentzian that has fallen to 0.2 at the Nyquist frequency along an axis.

    A stand-in for a measured function, with the long tails of scintillators.
    """
    width = 0.5 / np.sqrt(1 / _SCINTILLATOR_AT_NYQUIST - 1)
    return 1 / (1 + (qy**2 + qx**2) / width**2)


#: Transfer functions by name, of the frequencies along y and x.
MTF = {"pixel": pixel_mtf, "scintillator": scintillator_mtf}


def transfer(image, factor):
    """Multiply the spectrum of an image, taken as periodic, by a factor of `transfer_factor`."""
    return fft.irfft2(fft.rfft2(image) * factor, s=image.shape)


def transfer_factor(shape, mtf):
    """The transfer function on the half spectrum of real images.

    Parameters
    ----------
    shape : (int, int)
        Of the image.
    mtf : str or callable
        A name, or a function of the spatial frequency in cycles per pixel, an array (0.5 is
        Nyquist's along an axis).

    Returns
    -------
    float32 array

    Raises
    ------
    ValueError
        If the function gives anything but finite real numbers of the shape of its argument.
    """
    qy, qx = fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None, :]
    frequency = np.hypot(qy, qx)
    values = MTF[mtf](qy, qx) if isinstance(mtf, str) else np.asarray(mtf(frequency))
    values = np.asarray(values)
    if values.shape != frequency.shape or values.dtype.kind not in "fiu":
        raise ValueError(
            f"mtf gave an array of {values.dtype} and shape {values.shape} for frequencies of "
            f"shape {frequency.shape}: it must be a function of the spatial frequency in cycles "
            "per pixel, for example `lambda q: np.exp(-(q / 0.4)**2)`."
        )
    if not np.isfinite(values).all():
        raise ValueError("mtf is not finite at all frequencies from 0 to 0.71 cycles per pixel.")
    return values.astype(np.float32)


def film(shape, cutoff, random):
    """Random contrast of an amorphous film: mean zero, variance one, no power beyond a cutoff.

    Parameters
    ----------
    shape : (int, int)
    cutoff : float
        Cycles per pixel.
    random : numpy.random.Generator

    Returns
    -------
    float32 array
    """
    white = fft.rfft2(random.standard_normal(shape, dtype=np.float32))
    frequency = np.hypot(fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None, :])
    kept = (frequency <= cutoff) & (frequency > 0)
    # the half spectrum holds all but its first and last column twice
    weight = np.full(shape[1] // 2 + 1, 2.0)
    weight[0] = 1
    if shape[1] % 2 == 0:
        weight[-1] = 1
    part = (kept * weight).sum() / (shape[0] * shape[1])
    return fft.irfft2(white * (kept / np.float32(np.sqrt(part))), s=shape)


def count(expected, random):
    """Poisson counts of expected ones; none where less than none is expected."""
    return random.poisson(np.maximum(expected, 0))
