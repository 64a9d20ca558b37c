r"""Domains of a particle: places where a quantity takes the same course in time.

The curves of the pixels, in units of their noise, are reduced to the principal components that
noise cannot explain (the eigenvalues of pure noise end at :math:`(1 + \sqrt{T/N})^2`, V. A.
Marchenko, L. A. Pastur, Math. USSR Sb. 1 (1967) 457, for T times and N independent pixels) and
clustered by k-means. The number of clusters k has the lowest Bayesian information criterion of
equal spherical clusters (X-means: D. Pelleg, A. W. Moore, Proc. 17th Int. Conf. Machine Learning
(2000) 727), here with a variance v that is not below the noise,

.. math::

   \mathrm{BIC} = N\Bigl(P \ln v - 2\sum_j p_j \ln p_j\Bigr) + (kP + k - 1)\ln N,

for P components and shares :math:`p_j` of the clusters. The second term is what saying the
cluster of each pixel costs: because of it, a gradual change is not cut into pieces.

At the border of two domains the window mixes them into a continuum. Therefore clusters are made
of the pixels where the components vary least in space, and a number of clusters is taken only if
each of them has a core, wider than a border appears. All of it runs on the host.
"""

import numpy as np
from scipy import ndimage

from hyperspy_lfp.kernels._arrays import to_host

#: Times that are told apart; of longer movies, groups of frames are averaged: domains are what
#: differs over a large part of the movie.
MOST_TIMES = 64
#: Most domains that are looked for, and most principal components.
_MOST = 6
_COMPONENTS = 5
#: How far above the edge of the noise a component must be: predicted noise is good to ten percent
#: in its standard error.
_MARGIN = 1.5
#: Share of the frames in which a pixel must be valid.
_PRESENT = 0.5
#: Share of the pixels that clusters are made of: those in the flattest places.
_FLAT = 0.6
#: A core reaches so many sigma from the border of its domain: a border, smoothed by the window, is
#: 2.6 sigma wide from 10 to 90 percent.
_CORE = 1.5
#: Variance where the noise is not known, in units of the variance between pixels.
_UNKNOWN = 1e-3
#: Area that holds one independent value of a mean square, in sigma^2: the integral of the square
#: of the correlation of the noise of a strain, see `hyperspy_lfp.kernels.concentration.regions`.
_ELEMENT = 1.5 * np.pi
#: Starts of k-means, most iterations of each, and most pixels that take part.
_STARTS = 8
_ITERATIONS = 100
_PIXELS = 4000
_SEED = 0


def find_domains(curves, variance, present, spacing, sigma, n=None):
    """Label the domains of a series of maps.

    Parameters
    ----------
    curves : array of shape (T, y, x)
        NaN where a pixel is not valid.
    variance : array of shape (T, y, x)
        Of its noise; NaN if that is not known.
    present : array of shape (y, x)
        Share of the frames in which a pixel is valid.
    spacing : pair of float
        Distances (y, x) of the pixels.
    sigma : float
        Standard deviation of the window, the same unit of length; 0 for maps that are exact.
    n : int, optional
        Number of domains; default: chosen by the Bayesian information criterion.

    Returns
    -------
    int32 array of shape (y, x)
        1 to the number of domains found, the largest first; 0 for pixels that are not valid. Not
        more than `n`; fewer if some are smaller than a resolution element.

    Raises
    ------
    ValueError
        If no pixel is valid often enough, or there are fewer valid pixels than domains.
    """
    curves, variance, present = (to_host(a) for a in (curves, variance, present))
    valid = (present >= _PRESENT) & np.isfinite(curves).any(axis=0)
    if not valid.any():
        raise ValueError(
            "no pixel has a lattice in half of the frames or more: there are no domains to find."
        )
    if n is not None and n > valid.sum():
        raise ValueError(f"n={n} domains are more than the {valid.sum()} pixels with a lattice.")
    width = max(sigma, *spacing)
    pixels = max(2.0, valid.sum() * spacing[0] * spacing[1] / (_ELEMENT * width**2))
    scores, noise, significant = _scores(curves[:, valid].T, variance[:, valid].T, pixels)
    if n is None and not significant:
        return valid.astype(np.int32)
    flat = _flattest(scores, valid, spacing, width)
    trials = [_cluster(scores, noise, flat, k, pixels) for k in ([n] if n else _numbers(flat))]
    for _, centres in sorted(trials, key=lambda trial: trial[0]):
        labels = _label(scores, noise, centres, valid, spacing, sigma, width)
        if n is not None or len(centres) == 1 or _have_cores(labels, len(centres), spacing, width):
            break
    return labels


def _numbers(flat):
    return range(1, min(_MOST, int(flat.sum())) + 1)


def _scores(curves, variance, pixels):
    """Principal components (N, P), the variance of their noise (N,), and whether any is real."""
    known = np.isfinite(variance)
    noise = np.where(known, variance, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    curves = _without_gaps(curves.astype(np.float64))
    if not np.all(noise > 0):  # exact, or not known
        between = curves.var(axis=0).mean()
        noise = np.full(len(curves), _UNKNOWN * between if between > 0 else 1.0)
    weights = 1 / noise
    centred = curves - weights @ curves / weights.sum()
    whitened = centred / np.sqrt(noise)[:, None]
    values, vectors = np.linalg.eigh(whitened.T @ whitened / len(curves))
    edge = _MARGIN * (1 + np.sqrt(curves.shape[1] / pixels)) ** 2
    number = int(np.clip((values > edge).sum(), 1, _COMPONENTS))
    return centred @ vectors[:, ::-1][:, :number], noise, bool(values[-1] > edge)


def _without_gaps(curves):
    """Curves (N, T) with missing times interpolated, or as at the next time that is there."""
    times = np.arange(curves.shape[1])
    for i in np.flatnonzero(~np.isfinite(curves).all(axis=1)):
        there = np.isfinite(curves[i])
        curves[i] = np.interp(times, times[there], curves[i, there])
    return curves


def _flattest(scores, valid, spacing, width):
    """The pixels (N,) around which the components vary least."""
    nearest = ndimage.distance_transform_edt(~valid, return_indices=True, return_distances=False)
    steepness = np.zeros(valid.shape)
    for component in scores.T:
        image = np.zeros(valid.shape)
        image[valid] = component
        image = image[tuple(nearest)]
        sizes = [width / 2 / step for step in spacing]
        for axis in (0, 1):
            order = [0, 0]
            order[axis] = 1
            slope = ndimage.gaussian_filter(image, sizes, order=order, mode="nearest")
            steepness += (slope / spacing[axis]) ** 2
    steepness = steepness[valid]
    return steepness <= np.quantile(steepness, _FLAT)


def _cluster(scores, noise, flat, k, pixels):
    """Bayesian information criterion and centres (k, P) of k clusters of the flattest pixels."""
    chosen = np.flatnonzero(flat)
    chosen = chosen[:: -(-len(chosen) // _PIXELS)]
    points, weights = scores[chosen], 1 / noise[chosen]
    generator = np.random.default_rng(_SEED)
    best = np.inf
    for _ in range(_STARTS if k > 1 else 1):
        start = _spread_out(points, weights, k, generator)
        distance, nearest, centres = _lloyd(points, weights, start)
        if distance < best:
            best, shares, found = distance, np.bincount(nearest, minlength=k), centres
    components = points.shape[1]
    shares = shares[shares > 0] / len(points)
    spread = max(1.0, best / (len(points) * components))
    independent = max(2.0, pixels * _FLAT)
    cost = components * np.log(spread) - 2 * (shares * np.log(shares)).sum()
    return independent * cost + (k * components + k - 1) * np.log(independent), found


def _spread_out(points, weights, k, generator):
    """Starting centres, each chosen with the square of its distance from the others (k-means++)."""
    centres = [points[generator.integers(len(points))]]
    for _ in range(k - 1):
        distance = weights * _squared(points, np.array(centres)).min(axis=1)
        total = distance.sum()
        share = distance / total if total > 0 else None
        centres.append(points[generator.choice(len(points), p=share)])
    return np.array(centres)


def _lloyd(points, weights, centres):
    """k-means from a start: the weighted sum of squares, the nearest centres, and the centres."""
    nearest = None
    for _ in range(_ITERATIONS):
        squared = _squared(points, centres)
        before, nearest = nearest, squared.argmin(axis=1)
        if before is not None and np.array_equal(before, nearest):
            break
        total = np.bincount(nearest, weights, len(centres))
        sums = [np.bincount(nearest, weights * p, len(centres)) for p in points.T]
        moved = np.stack(sums, axis=1) / np.where(total > 0, total, 1)[:, None]
        centres = np.where(total[:, None] > 0, moved, centres)
    return (weights * squared.min(axis=1)).sum(), nearest, centres


def _squared(points, centres):
    return ((points[:, None] - centres) ** 2).sum(axis=-1)


def _label(scores, noise, centres, valid, spacing, sigma, width):
    """Labels of all pixels: the nearest centre as the neighbourhood sees it, without islands."""
    chi_squared = _squared(scores, centres) / noise[:, None]
    sizes = [sigma / 2 / step for step in spacing]
    maps = np.zeros((len(centres), *valid.shape))
    maps[:, valid] = chi_squared.T
    if sigma:
        share = ndimage.gaussian_filter(valid.astype(float), sizes)
        maps = np.array([ndimage.gaussian_filter(m, sizes) for m in maps])
        maps /= np.where(valid, share, 1)
    labels = np.where(valid, maps.argmin(axis=0) + 1, 0)
    least = 4 * np.pi * width**2 / (spacing[0] * spacing[1])
    return _by_size(_without_islands(labels, len(centres), least))


def _without_islands(labels, number, least):
    """Connected pieces of fewer pixels than `least` take the label of the nearest larger piece."""
    kept = np.zeros_like(labels)
    for label in range(1, number + 1):
        pieces, _ = ndimage.label(labels == label)
        large = np.bincount(pieces.ravel()) >= least
        large[0] = False
        kept[large[pieces]] = label
    if not kept.any():
        return labels
    nearest = ndimage.distance_transform_edt(kept == 0, return_indices=True, return_distances=False)
    return np.where(labels > 0, kept[tuple(nearest)], 0)


def _by_size(labels):
    """The same labels from 1 on, the largest domain first."""
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    renamed = np.zeros(len(sizes), dtype=np.int32)
    renamed[order] = np.arange(1, len(order) + 1)
    return renamed[labels]


def _have_cores(labels, number, spacing, width):
    """Whether there are so many domains, and each reaches far enough from its border."""
    if labels.max() < number:
        return False
    return all(
        ndimage.distance_transform_edt(labels == label, sampling=spacing).max() >= _CORE * width
        for label in range(1, number + 1)
    )
