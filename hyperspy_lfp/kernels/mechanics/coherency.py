r"""Composition of a coherent particle from its strain: the regularised inverse.

A coherent lattice does not follow its composition locally
(`hyperspy_lfp.kernels.mechanics.elasticity`), so Vegard's law, pixel by pixel, is wrong where x
varies fast: of a wave of x along c, the strain along a shows next to nothing. The strains along a
and c that geometric phase analysis measures are linear in x,

.. math:: m = F\,(x - x_\mathrm{ref}) + n, \qquad F = G_\sigma\,S\,K^{-1}A,

where A turns composition into forces, K is the stiffness, S takes the gradient along a and c, and
:math:`G_\sigma` is the window of the analysis as the edge cuts it. x minimises

.. math:: (F x - m)^\mathsf{T}\,C^{-1}\,(F x - m) + \lambda^2 \int |\nabla x|^2.

*Unknowns.* x is bilinear between nodes a resolution :math:`\sigma` apart: the window passes 0.7 %
of what is finer than two of these. There is one for each :math:`\sigma^2` of the particle, a
thousand or so, and F is a matrix of ordinary size: solved for once a mask, it makes every frame
a matter of dense algebra, with the exact variance and any :math:`\lambda` for nothing.

*Noise.* White noise of an image gives two phases whose noise is white, smoothed by the window, and
strains that are their derivatives: along a unit vector v,

.. math::
    \rho(\Delta) = \Bigl(1 - \frac{(\Delta\cdot v)^2}{2\sigma^2}\Bigr)\,e^{-\Delta^2/4\sigma^2}.

C is this correlation times the given standard deviations, and a white floor for what the model
does not know (`_SYSTEMATIC`). Weighting pixels as if they were independent throws away that this
noise vanishes at long wavelengths: for stripes along c that nearly doubles the error of x.

*How smooth.* By default :math:`\lambda` is the one that agrees with itself: increments of x that
are independent with variance :math:`1/\lambda^2` are those of its solution, less what the noise
gives it, over the number of increments the data determine (the fixed point of expectation
maximisation [MacKay]_). The error is then that of the posterior,
:math:`(F^\mathsf{T}C^{-1}F + \lambda^2 L)^{-1}`: noise, and what smoothing removes.
The discrepancy principle (Morozov) is there as well: the misfit is the number of *effective* data,
:math:`\operatorname{tr}(C^{-1}C_\mathrm{noise})`, which correlation makes a third of the sampled
ones. It smooths more, since it forgets that the solution fits noise too. Taking the degrees of
freedom of the solution off the target is no way out: the misfit fluctuates, and the model is wrong,
by as much, so that often no :math:`\lambda` meets it.

*Thin or thick.* The strain along c of a wave of x along c is -.004 of its amplitude in a thin foil
and +.007 in a thick particle, with the mean moduli of FePO4 and LiFePO4 (those of LiFePO4 alone:
-.008, of FePO4 alone: .0005). The condition along the beam is thus what the model may have most
wrong; contrasts come out up to 30 % too large or small. The misfit tells: solve with plans of both
conditions, and believe the one with the smaller misfit.

Host only: SciPy's sparse and dense solvers.

.. [MacKay] D. J. C. MacKay, Neural Computation 4 (1992) 415, doi:10.1162/neco.1992.4.3.415
"""

from typing import NamedTuple

import numpy as np
from scipy import linalg, ndimage, optimize, sparse

from hyperspy_lfp.kernels._arrays import to_host
from hyperspy_lfp.kernels.mechanics import elasticity

#: Error of a strain that noise does not tell of, per sigma squared: moduli that are 10 % off make
#: 2e-4 to 5e-4 of the strain of a full change of composition, the wrong condition along the beam
#: 1e-3 to 4e-3. The one that `hyperspy_lfp.kernels.concentration.composition` takes.
_SYSTEMATIC = 1e-3
#: Distance of the data that are used, in sigma: beyond, the window would alias; more would repeat.
_SAMPLING = 1.0
#: Standard deviation of a composition of which nothing is measured, and of the mean of a region
#: whose composition is known.
_UNKNOWN = 10.0
_KNOWN = 1e-3
#: Most unknowns: beyond, the dense matrices take more than a gigabyte and minutes.
_MOST = 5000
#: Right-hand sides at once: enough for matrix products, few enough for the memory.
_BATCH = 64
#: Smoothing is looked for between these, relative to the ratio of the traces of data and
#: smoothness, in steps (all of the natural logarithm) that no solution is lost between.
_SEARCH = (-6.0, 8.0, 0.25)


class CoherencyPlan(NamedTuple):
    """What the inverse knows of a mask before it sees data; made by `plan_coherency`."""

    mesh: elasticity.Mesh
    windows: elasticity.Windows
    sampled: elasticity.Windows
    step: int
    sigma: float
    directions: np.ndarray  # (2, 2): unit vectors, (x, y)
    model: np.ndarray  # (2,): free strain along them per unit composition
    x_reference: float
    region: np.ndarray | None  # (n,): weights of the mean over the reference region
    reference: np.ndarray | None  # (2, n): measured mean there of unit composition of an element
    basis: sparse.csr_array  # (n, p): elements from unknowns
    response: np.ndarray  # (2, m, p): sampled strains of the unknowns
    roughness: np.ndarray  # (p, p): integral of |grad x|^2

    @property
    def mask(self):
        """Pixels of the particle that are solved for, (ny, nx); small pieces are left out."""
        return self.mesh.mask


class Inversion(NamedTuple):
    """Composition from strain; see `invert`."""

    x: np.ndarray  # (..., y, x)
    variance: np.ndarray  # (..., y, x): noise and smoothing
    noise_variance: np.ndarray  # (..., y, x)
    smoothing: np.ndarray  # (...): lambda
    misfit: np.ndarray  # (...): over what is expected of noise alone


def plan_coherency(mask, spacing, medium, sigma, directions, reference=None, x_reference=0.0):
    """Factorise the elasticity of a particle and prepare its inverse, once for a movie.

    Parameters
    ----------
    mask : bool array of shape (ny, nx)
        The particle, with its true edge. Pieces that no edge of a pixel connects are solved each
        for itself; those smaller than one independent value of the map, 4 pi sigma^2, are left out.
    spacing : (float, float)
        Size of a pixel, (dy, dx). Not larger than sigma, or waves are lost.
    medium : hyperspy_lfp.kernels.mechanics.elasticity.Medium
        Stiffness and eigenstrain in the image axes.
    sigma : float
        Resolution of the strains: standard deviation of the Gaussian window, the same unit.
    directions : array of shape (2, 2)
        Lattice vectors along which the strains are measured, (x, y) order, of any length.
    reference : bool array of shape (ny, nx), optional
        Region relative to whose mean strain the strains are measured. Without one they are relative
        to the free lattice at `x_reference`.
    x_reference : float
        Composition of the reference: there, or of the mean of the region.

    Returns
    -------
    CoherencyPlan

    Raises
    ------
    ValueError
        If a length is not positive, nothing of the mask is large enough, the reference is outside
        it, or there are too many unknowns.

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_lfp.kernels.mechanics import coherency, elasticity
    >>> constants = (139, 198, 173, 37, 51, 48, 73, 53, 46)
    >>> medium = elasticity.orthotropic_medium(constants, (0.052, 0.0375, -0.0192), (1, 0))
    >>> mask = np.ones((20, 24), dtype=bool)
    >>> plan = coherency.plan_coherency(mask, (0.5, 0.5), medium, 1.0, np.eye(2))
    >>> x = np.linspace(0, 1, 24) * np.ones((20, 1))
    >>> strain = coherency.elastic_response(x, plan)
    >>> found = coherency.invert(strain, np.full(strain.shape, 1e-8), plan)
    >>> bool(np.abs(found.x - x).max() < 0.05)
    True
    """
    if not (sigma > 0 and min(spacing) > 0):
        raise ValueError(f"sigma={sigma} and spacing={spacing} must be positive lengths.")
    mask = np.asarray(to_host(mask), dtype=bool)
    kept = _large_pieces(mask, 4 * np.pi * sigma**2 / (spacing[0] * spacing[1]))
    if not kept.any():
        raise ValueError(
            f"mask has no piece of at least 4 pi sigma^2 = {4 * np.pi * sigma**2:.3g} (sigma="
            f"{sigma:.3g}), one independent value; take a finer resolution or a larger mask."
        )
    mesh = elasticity.build_mesh(kept, spacing, medium)
    basis = _unknowns(mesh, sigma)
    if basis.shape[1] > _MOST:
        raise ValueError(
            f"mask is {basis.shape[1]} sigma^2 large, and at most {_MOST} can be solved for; "
            "crop the mask or take a coarser resolution."
        )
    directions = np.asarray(directions, dtype=float)
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    exx, eyy, exy = medium.eigenstrain
    free = np.array([[exx, exy / 2], [exy / 2, eyy]])
    step = max(1, int(_SAMPLING * sigma / max(spacing) + 1e-9))
    plan = CoherencyPlan(
        mesh=mesh,
        windows=elasticity.plan_windows(mesh, sigma),
        sampled=elasticity.plan_windows(mesh, sigma, step),
        step=step,
        sigma=float(sigma),
        directions=directions,
        model=np.einsum("vi,ij,vj->v", directions, free, directions),
        x_reference=float(x_reference),
        region=None,
        reference=None,
        basis=basis,
        response=None,
        roughness=_roughness(mesh, basis),
    )
    if reference is not None:
        plan = _with_reference(plan, np.asarray(to_host(reference), dtype=bool))
    return plan._replace(response=_response(plan))


def elastic_response(x, plan):
    """The strains that geometric phase analysis finds in a coherent particle.

    Parameters
    ----------
    x : array of shape (..., ny, nx)
        Composition. In the mask, NaN takes the nearest pixel that is known.
    plan : CoherencyPlan

    Returns
    -------
    array of shape (..., 2, ny, nx)
        Strains along the directions of the plan, relative to its reference; float64. NaN outside
        the mask, and all of a frame without a finite pixel.
    """
    x = np.asarray(to_host(x), dtype=float)
    elements = _elements(x, plan) - plan.x_reference
    out = np.empty((len(elements), 2, plan.mask.sum()))
    for start in range(0, len(elements), _BATCH):
        part = slice(start, start + _BATCH)
        u = elasticity.displacements(elements[part].T, plan.mesh)
        slopes = elasticity.window_slopes(u, plan.mesh, plan.windows)
        strain = _along(slopes, plan.directions)  # (2, n, k)
        if plan.reference is not None:
            strain = strain - (plan.reference @ elements[part].T)[:, None]
        out[part] = np.moveaxis(strain, -1, 0)
    return _maps(out, plan.mask).reshape(*x.shape[:-2], 2, *x.shape[-2:])


def elastic_response_adjoint(strain, plan):
    """Adjoint of the linear part of `elastic_response`: (2, ny, nx) to (ny, nx), zero outside."""
    strain = np.asarray(to_host(strain), dtype=float)[:, plan.mask]
    back = _adjoint(strain, plan)
    if plan.reference is not None:
        back -= strain.sum(axis=1) @ plan.reference
    out = np.zeros(plan.mask.shape)
    out[plan.mask] = back
    return out


def apparent_composition(x, plan, weights=(1.0, 1.0)):
    """What Vegard's law, pixel by pixel, reads from the strain of a coherent particle.

    Parameters
    ----------
    x : array of shape (..., ny, nx)
    plan : CoherencyPlan
    weights : array of shape (2,) or (2, ny, nx)
        Of the two strains in least squares, the inverse of their variances: (1, 0) is the strain
        along the first direction alone.

    Returns
    -------
    array of shape (..., ny, nx)
    """
    gain = _vegard(weights, plan)
    strain = elastic_response(x, plan)[..., plan.mask]
    return plan.x_reference + _maps((gain * strain).sum(axis=-2), plan.mask)


def crosstalk(region, plan, weights=(1.0, 1.0)):
    """How much of x elsewhere the mean of `apparent_composition` over a region contains.

    Parameters
    ----------
    region : bool array of shape (ny, nx)
    plan : CoherencyPlan
    weights : array of shape (2,) or (2, ny, nx)
        As of `apparent_composition`.

    Returns
    -------
    array of shape (ny, nx)
        Weights w: the mean is x_reference + sum of w (x - x_reference). Zero outside the mask. One
        adjoint solution.

    Raises
    ------
    ValueError
        If the region has no pixel in the mask of the plan.
    """
    inside = np.asarray(to_host(region), dtype=bool)[plan.mask]
    if not inside.any():
        raise ValueError("region has no pixel in the particle; place it inside the mask.")
    strain = np.zeros((2, *plan.mask.shape))
    strain[:, plan.mask] = _vegard(weights, plan) * (inside / inside.sum())
    return elastic_response_adjoint(strain, plan)


def elastic_fake(x, regions, plan, weights=(1.0, 1.0)):
    """Change of the apparent mean of regions that x elsewhere makes.

    With x held constant in the region, what x outside does as time goes on moves the apparent mean
    by elasticity and by the resolution. A drop of the apparent mean that is not well beyond the
    largest drop of this is no evidence of lithium that leaves the region.

    Parameters
    ----------
    x : array of shape (n, ny, nx)
        Composition; NaN in the mask takes the nearest pixel that is known.
    regions : bool array of shape (k, ny, nx)
    plan : CoherencyPlan
    weights : array of shape (2,) or (2, ny, nx)
        As of `apparent_composition`.

    Returns
    -------
    array of shape (k, n)
        What is added to the apparent mean, relative to x_reference everywhere outside. NaN for a
        frame without a finite pixel.
    """
    change = _elements(np.asarray(to_host(x), dtype=float), plan) - plan.x_reference
    out = []
    for region in np.asarray(to_host(regions), dtype=bool):
        outside = np.where(region, 0.0, crosstalk(region, plan, weights))[plan.mask]
        out.append(change @ outside)
    return np.array(out)


def invert(strain, variance, plan, smoothing="consistent"):
    """Composition from the strains of a coherent particle.

    Parameters
    ----------
    strain : array of shape (..., 2, ny, nx)
        Measured along the directions of the plan, relative to its reference. NaN where there is
        none: x is found there too, from elasticity and smoothness, with the error that has.
    variance : array of shape (..., 2, ny, nx)
        Of the noise of each pixel. Pixels without one are left out.
    plan : CoherencyPlan
    smoothing : {"consistent", "discrepancy"} or float
        How lambda is found (see the module), or lambda itself. A discrepancy that no lambda meets
        leaves the end of the search, a uniform map or one of noise; the misfit says so.

    Returns
    -------
    Inversion
        float32 maps, NaN outside the mask of the plan, on pieces of which nothing is measured, and
        in frames of which nothing is.

    Raises
    ------
    ValueError
        If shapes do not fit, or `smoothing` is unknown.
    """
    if not (smoothing in ("consistent", "discrepancy") or _is_positive(smoothing)):
        raise ValueError(
            f"smoothing={smoothing!r} must be 'consistent', 'discrepancy' or a positive number."
        )
    strain, variance = np.asarray(to_host(strain), float), np.asarray(to_host(variance), float)
    expected = (2, *plan.mask.shape)
    if strain.shape[-3:] != expected or variance.shape != strain.shape:
        raise ValueError(
            f"strain {strain.shape} and variance {variance.shape} must both be (..., "
            f"{', '.join(map(str, expected))}), as the mask of the plan."
        )
    lead = strain.shape[:-3]
    frames = zip(strain.reshape(-1, *expected), variance.reshape(-1, *expected), strict=True)
    results = [_invert_frame(m, v, plan, smoothing) for m, v in frames]
    maps, numbers = (np.array(part) for part in zip(*results, strict=True))
    maps = _maps(maps, plan.mask).reshape(*lead, 3, *plan.mask.shape).astype(np.float32)
    numbers = numbers.reshape(*lead, 2)
    x, variance, noise = np.moveaxis(maps, -3, 0)
    return Inversion(x, variance, noise, numbers[..., 0], numbers[..., 1])


def _invert_frame(strain, variance, plan, smoothing):
    """Maps (x, variance, variance of noise) of the elements, and (lambda, misfit)."""
    modes, energy, projected, fit = _modes(strain, variance, plan)
    if fit is None:
        return np.full((3, len(plan.mesh.labels)), np.nan), (np.nan, np.nan)
    size, effective = fit

    def residual(log_lambda):
        """Of the data, whitened."""
        kept = 1 / (1 + np.exp(2 * log_lambda) * energy)
        return size - (projected**2 * kept * (2 - kept)).sum()

    def increments(log_lambda):
        return _increments(np.exp(2 * log_lambda), energy, projected)

    if smoothing == "consistent":
        log_lambda = _crossing(lambda t: increments(t) * np.exp(2 * t) - 1, energy)
    elif smoothing == "discrepancy":
        log_lambda = _crossing(lambda t: residual(t) - effective, energy)
    else:
        log_lambda = np.log(smoothing)
    squared = np.exp(2 * log_lambda)
    kept = 1 / (1 + squared * energy)
    bias = squared**2 * energy * max(0.0, increments(log_lambda))
    if smoothing == "consistent":
        # by definition of lambda, also at the end of the search
        bias = squared * energy
    shapes = plan.basis @ modes  # (n, p)
    x = plan.x_reference + shapes @ (kept * projected)
    noise = (shapes**2) @ kept**2
    total = noise + (shapes**2) @ (kept**2 * bias)
    maps = np.stack([x, total, noise])
    maps[:, ~_measured(strain, variance, plan)] = np.nan
    return maps, (np.exp(log_lambda), residual(log_lambda) / effective)


def _modes(strain, variance, plan):
    """Unknowns in which data and smoothness are both diagonal.

    Gives the modes V (p, p), with V^T (F^T C^-1 F + prior) V = 1, their energies V^T L V, the data
    projected on them, and (square of the whitened data, number of effective data), None if none.
    """
    at = plan.sampled
    place = (slice(None), at.rows * plan.step, at.columns * plan.step)
    strain, variance = strain[place], variance[place]
    valid = np.isfinite(strain) & (variance > 0) & np.isfinite(variance)
    if not valid.any():
        return None, None, None, None
    p = plan.basis.shape[1]
    information, right, size, effective = np.eye(p) / _UNKNOWN**2, np.zeros(p), 0.0, 0.0
    if plan.region is not None:
        mean = plan.basis.T @ plan.region
        information += np.outer(mean, mean) / _KNOWN**2
    for i in (0, 1):
        use = valid[i]
        if not use.any():
            continue
        noise = _noise_covariance(variance[i, use], use, plan, i)
        factor = linalg.cholesky(noise + _floor(plan) * np.eye(len(noise)), lower=True)
        white = linalg.solve_triangular(
            factor, np.column_stack([plan.response[i, use], strain[i, use]]), lower=True
        )
        information += white[:, :-1].T @ white[:, :-1]
        right += white[:, :-1].T @ white[:, -1]
        size += white[:, -1] @ white[:, -1]
        inverse = linalg.cho_solve((factor, True), np.eye(len(noise)))
        effective += (inverse * noise).sum()
    energy, modes = linalg.eigh(plan.roughness, information)
    return modes, np.maximum(energy, 0.0), modes.T @ right, (size, effective)


def _noise_covariance(variance, use, plan, i):
    """Of the strain along one direction, as geometric phase analysis makes it; see the module."""
    dy, dx = (plan.step * d / plan.sigma for d in plan.mesh.spacing)
    y, x = plan.sampled.rows[use] * dy, plan.sampled.columns[use] * dx
    y, x = y[:, None] - y, x[:, None] - x
    along = plan.directions[i, 0] * x + plan.directions[i, 1] * y
    rho = (1 - along**2 / 2) * np.exp(-(x**2 + y**2) / 4)
    deviation = np.sqrt(variance)
    return deviation[:, None] * deviation * rho


def _floor(plan):
    """Variance of what the model does not know in one datum, the same for any sampling."""
    cell = plan.step**2 * plan.mesh.spacing[0] * plan.mesh.spacing[1]
    return _SYSTEMATIC**2 * max(1.0, plan.sigma**2 / cell)


def _increments(squared, energy, projected):
    """Variance of the increments of x: of the solution, less its noise, by what data determine."""
    kept = 1 / (1 + squared * energy)
    of_noise = (energy * kept**2).sum()
    # a mode of the prior has increments of one degree of freedom; the solution keeps 1 - bias
    passed = np.where(energy > 0, (1 - squared * energy * kept) ** 2, 0.0).sum()
    return ((energy * (kept * projected) ** 2).sum() - of_noise) / passed


def _crossing(function, energy):
    """The largest log(lambda) at which a function turns positive, or the end of the search."""
    low, high, step = _SEARCH
    # a mode of the mean energy is halved at the centre of the search
    centre = -0.5 * np.log(energy.mean())
    places = centre + np.arange(high, low, -step)
    above = places[0]
    if not function(above) > 0:
        return above
    for below in places[1:]:
        if not function(below) > 0:
            return optimize.brentq(function, below, above, xtol=1e-3)
        above = below
    return above


def _measured(strain, variance, plan):
    """Elements on pieces of which something is measured, bool."""
    at = plan.sampled
    place = (slice(None), at.rows * plan.step, at.columns * plan.step)
    valid = (np.isfinite(strain[place]) & (variance[place] > 0)).any(axis=0)
    pieces = np.bincount(plan.mesh.labels[at.elements], valid, minlength=plan.mesh.n_pieces)
    return (pieces > 0)[plan.mesh.labels]


def _large_pieces(mask, smallest):
    pieces, _ = ndimage.label(mask)
    large = np.bincount(pieces.ravel()) >= smallest
    large[0] = False
    return large[pieces]


def _unknowns(mesh, sigma):
    """Bilinear interpolation from nodes about sigma apart to the elements, each piece its own."""
    places = np.nonzero(mesh.mask)
    corners, shares, sizes = [], [], []
    for at, n, d in zip(places, mesh.mask.shape, mesh.spacing, strict=True):
        intervals = max(1, int(np.ceil((n - 1) * d / max(d, sigma) - 1e-9)))
        position = at * (intervals / max(1, n - 1))
        low = np.minimum(position.astype(int), intervals - 1)
        corners.append((low, low + 1))
        shares.append((1 - (position - low), position - low))
        sizes.append(intervals + 1)
    four = [(i, j) for i in (0, 1) for j in (0, 1)]
    key = np.concatenate(
        [(mesh.labels * sizes[0] + corners[0][i]) * sizes[1] + corners[1][j] for i, j in four]
    )
    share = np.concatenate([shares[0][i] * shares[1][j] for i, j in four])
    elements = np.tile(np.arange(len(mesh.labels)), 4)
    # rounding leaves shares of nothing that would be unknowns without data
    used = share > 1e-9
    unique, nodes = np.unique(key[used], return_inverse=True)
    shape = len(mesh.labels), len(unique)
    return sparse.coo_array((share[used], (elements[used], nodes.ravel())), shape).tocsr()


def _roughness(mesh, basis):
    """Integral of the squared gradient as a quadratic form of the unknowns."""
    index = np.full(mesh.mask.shape, -1)
    index[mesh.mask] = np.arange(len(mesh.labels))
    dy, dx = mesh.spacing
    total = np.zeros((basis.shape[1],) * 2)
    pairs = ((index[1:], index[:-1], dx / dy), (index[:, 1:], index[:, :-1], dy / dx))
    for first, second, factor in pairs:
        both = (first >= 0) & (second >= 0)
        difference = basis[first[both]] - basis[second[both]]
        total += factor * (difference.T @ difference).toarray()
    return total


def _response(plan):
    """Sampled strains of each unknown, (2, m, p)."""
    basis = plan.basis.tocsc()
    out = np.empty((2, len(plan.sampled.elements), basis.shape[1]))
    for start in range(0, basis.shape[1], _BATCH):
        part = slice(start, start + _BATCH)
        u = elasticity.displacements(basis[:, part].toarray(), plan.mesh)
        slopes = elasticity.window_slopes(u, plan.mesh, plan.sampled)
        out[..., part] = _along(slopes, plan.directions)
    if plan.reference is not None:
        out -= (plan.reference @ basis)[:, None]
    return out


def _with_reference(plan, reference):
    """The plan with strains relative to the mean of a region."""
    inside = reference[plan.mask]
    if not inside.any():
        raise ValueError("reference has no pixel in the particle; place it inside the mask.")
    region = inside / inside.sum()
    rows = [_adjoint(np.outer(np.eye(2)[i], region), plan) for i in (0, 1)]
    return plan._replace(region=region, reference=np.stack(rows))


def _along(slopes, directions):
    """Strains along directions, (2, m, k), of displacement gradients (2, 2, m, k)."""
    return np.einsum("vi,ijmk,vj->vmk", directions, slopes, directions)


def _adjoint(strain, plan):
    """From strains along the directions, (2, n), to the elements, (n,)."""
    slopes = np.einsum("vi,vn,vj->ijn", plan.directions, strain, plan.directions)
    weights = elasticity.window_slopes_adjoint(slopes[..., None], plan.mesh, plan.windows)
    return elasticity.displacements_adjoint(weights, plan.mesh)[:, 0]


def _vegard(weights, plan):
    """Composition per unit of each strain by least squares, (2, n)."""
    weights = np.asarray(to_host(weights), dtype=float)
    weights = weights[:, None] if weights.ndim == 1 else weights[:, plan.mask]
    model = plan.model[:, None]
    gain = weights * model / (weights * model**2).sum(axis=0)
    return np.broadcast_to(gain, (2, len(plan.mesh.labels)))


def _elements(x, plan):
    """Maps (..., ny, nx) as elements (frames, n), with the nearest value where there is none."""
    frames = x.reshape(-1, *x.shape[-2:])
    out = frames[:, plan.mask]
    for n in np.flatnonzero(~np.isfinite(out).all(axis=1)):
        unknown = ~(np.isfinite(frames[n]) & plan.mask)
        if unknown.all():
            out[n] = np.nan
            continue
        nearest = ndimage.distance_transform_edt(
            unknown, sampling=plan.mesh.spacing, return_distances=False, return_indices=True
        )
        out[n] = frames[n][tuple(nearest)][plan.mask]
    return out


def _maps(values, mask):
    """Values of the elements, (..., n), as maps with NaN outside."""
    out = np.full((*values.shape[:-1], *mask.shape), np.nan)
    out[..., mask] = values
    return out


def _is_positive(value):
    return isinstance(value, int | float | np.number) and value > 0
