"""Means over regions, with the standard error that correlated pixels leave."""

import numpy as np

from hyperspy_lfp.kernels._arrays import get_array_module


def region_means(values, variance, masks, cell_area, sigma):
    r"""Mean over each region and the variance of the mean.

    Neighbouring pixels of a map with Gaussian resolution :math:`\sigma` carry the same noise:
    a region of area L has only :math:`N_\mathrm{eff} = L/(4\pi\sigma^2)` independent values.

    Parameters
    ----------
    values, variance : array of shape (..., y, x)
        NaN pixels are left out.
    masks : bool array of shape (n, y, x)
    cell_area : float
        Area of a pixel of the map.
    sigma : float
        Resolution of the map; the same unit of length.

    Returns
    -------
    mean, variance : array of shape (n, ...)
        NaN where a region has no valid pixel. On the device if the values are.
    """
    xp = get_array_module(values)
    variance = xp.asarray(variance)
    # independent values a pixel: at most one
    share = 1.0 if sigma == 0 else min(1.0, cell_area / (4 * np.pi * sigma**2))
    means, variances = [], []
    for mask in masks:
        inside = values[..., xp.asarray(mask)]
        noise = variance[..., xp.asarray(mask)]
        valid = xp.isfinite(inside)
        count = valid.sum(axis=-1)
        empty = xp.where(count > 0, 1.0, xp.nan)
        safe = xp.maximum(count, 1)
        mean = xp.where(valid, inside, 0).sum(axis=-1, dtype=xp.float64) / safe
        average = xp.where(valid, noise, 0).sum(axis=-1, dtype=xp.float64) / safe
        independent = xp.maximum(1.0, count * share)
        means.append(mean * empty)
        variances.append(average / independent * empty)
    return xp.stack(means), xp.stack(variances)
