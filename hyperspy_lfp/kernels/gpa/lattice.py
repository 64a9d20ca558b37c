r"""From geometric phases to deformation: reciprocal vectors, strain, rotation, lattice lengths.

With :math:`I = \sum_k A_k \cos(2\pi g_k\cdot(r - u(r)))` the phases are
:math:`P_k = -2\pi g_k\cdot u`, so that the Eulerian displacement gradient
:math:`e_{ij} = \partial u_i/\partial x_j` is :math:`e = -(1/2\pi)\,G^{-1}\nabla P`, where the
rows of G are the reciprocal vectors. The deformation gradient from the reference lattice to the
image is :math:`F = (1 - e)^{-1}`.

The coefficients are those of `hyperspy_lfp.kernels.gpa.lockin.plane_wave_fit`, in any one unit of
length: ``(..., K, 4, y, x)``. Vectors and tensors are in (x, y) order, tensors along the two
leading axes of what is returned. Relative to another reference than the given g, the phase
gradient of the reference comes in as an array that broadcasts with the coefficients.

References: M. J. Hÿtch, E. Snoeck, R. Kilaas, Ultramicroscopy 74 (1998) 131,
:doi:`10.1016/S0304-3991(98)00035-7`; J. L. Rouvière, E. Sarigiannidou, Ultramicroscopy 106
(2005) 1, :doi:`10.1016/j.ultramic.2005.06.001`.
"""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels._arrays import get_array_module

#: A pixel has a lattice where the amplitude is so many times the rms of the noise in it, and
#: changes by less than so many e-folds over a sigma: at a straight edge it changes by 0.8, and by
#: more further out, where the window sees the lattice with its flank only.
_SIGNAL_TO_NOISE = 3.0
_STEEPEST = 1.0
#: Samples of a map along each axis, about, that its typical amplitude is taken from.
_SAMPLES = 64


class Deformation(NamedTuple):
    """Eulerian displacement gradient with its noise."""

    gradient: np.ndarray  # (2, 2, ..., y, x): e_ij = d u_i / d x_j
    covariance: np.ndarray  # (3, ..., y, x): Q_xx, Q_yy, Q_xy


def typical_amplitude(coefficients):
    """Typical amplitude of each reflection in each frame.

    The mean of the amplitude weighted by its square, which a large vacuum does not lower; of
    some samples of large maps.

    Parameters
    ----------
    coefficients : array of shape (..., K, 4, y, x)

    Returns
    -------
    array of shape (..., K, 1, 1)
    """
    xp = get_array_module(coefficients)
    step_y, step_x = (max(1, n // _SAMPLES) for n in coefficients.shape[-2:])
    power = _power(coefficients[..., 0, ::step_y, ::step_x])
    power = xp.where(xp.isnan(power), 0, power).astype(xp.float64)
    total = power.sum(axis=(-2, -1), keepdims=True)
    return (power**1.5).sum(axis=(-2, -1), keepdims=True) / xp.where(total > 0, total, 1)


def lattice_mask(coefficients, sigma, threshold, typical=None):
    """Where each reflection is strong enough to carry a phase.

    Parameters
    ----------
    coefficients : array of shape (..., K, 4, y, x)
    sigma : float
        Standard deviation of the window, in the unit of length of the coefficients.
    threshold : float
        Smallest amplitude, in units of the typical amplitude of the frame's lattice.
    typical : array of shape (..., K, 1, 1), optional
        Typical amplitudes, if these are parts of frames; see `typical_amplitude`.

    Returns
    -------
    bool array of shape (..., K, y, x)
    """
    typical = typical_amplitude(coefficients) if typical is None else typical
    power = _power(coefficients[..., 0, :, :])
    along = _products(coefficients)
    return _strong(power, *along, _noise(coefficients), sigma, threshold, typical)


def _strong(power, along_x, along_y, noise, sigma, threshold, typical):
    """`lattice_mask` from the power, conj(c0) c_x and conj(c0) c_y, and the noise."""
    least = ((threshold * typical) ** 2).astype(power.dtype)
    # the variance of d/dx of noise is that of its value over 2 sigma^2;
    # noise that is not known rules nothing out
    strong = (power > least) & ~(power <= (_SIGNAL_TO_NOISE * sigma) ** 2 * noise)
    slope = along_x.real**2
    slope += along_y.real**2
    return strong & (slope < (_STEEPEST / sigma * power) ** 2)


def _products(coefficients):
    """conj(c0) c_x and conj(c0) c_y: real part change of power, imaginary part of phase."""
    conjugate = coefficients[..., 0, :, :].conj()
    return conjugate * coefficients[..., 1, :, :], conjugate * coefficients[..., 2, :, :]


def _noise(coefficients):
    """Variance of d/dx and d/dy together."""
    noise = coefficients[..., 3, :, :]
    return noise.real + noise.imag


def phase_gradient(coefficients):
    """Gradient of the phase, shape (2, ..., K, y, x), (x, y) order, radian per unit of length."""
    xp = get_array_module(coefficients)
    inverse = _inverse_power(_power(coefficients[..., 0, :, :]), xp)
    return xp.stack([along.imag * inverse for along in _products(coefficients)])


def phase_gradient_variance(coefficients):
    """Variance of the phase gradient due to the noise, (2, ..., K, y, x), (x, y) order."""
    xp = get_array_module(coefficients)
    # half of the noise of a derivative is in phase with the value, and moves its amplitude only
    half = _inverse_power(_power(coefficients[..., 0, :, :]), xp) / 2
    noise = coefficients[..., 3, :, :]
    return xp.stack([noise.real * half, noise.imag * half])


def _inverse_power(power, xp):
    return 1 / xp.where(power > 0, power, xp.nan)


def mean_phase_gradient(coefficients, region):
    """Phase gradient averaged over a region, weighted with the squared amplitude.

    Parameters
    ----------
    coefficients : array of shape (..., K, 4, y, x)
    region : bool array of shape (y, x)

    Returns
    -------
    array of shape (..., K, 2, 1, 1), real, (x, y) order
        NaN where the region holds no valid pixel.
    """
    xp = get_array_module(coefficients)
    value = xp.where(xp.asarray(region), coefficients[..., 0, :, :], 0).astype(xp.complex128)
    total = xp.nansum(_power(value), axis=(-2, -1))
    total = xp.where(total > 0, total, xp.nan)
    moments = [
        xp.nansum((xp.conj(value) * coefficients[..., i, :, :]).imag, axis=(-2, -1)) / total
        for i in (1, 2)
    ]
    return xp.stack(moments, axis=-1)[..., None, None]


def precision(coefficients, g, sigma, threshold=0.2):
    """Standard error of the strain across the planes of each reflection.

    Parameters
    ----------
    coefficients : array of shape (..., K, 4, y, x)
    g : array of shape (K, 2)
        Reciprocal vectors, (x, y) order.
    sigma, threshold
        See `lattice_mask`.

    Returns
    -------
    array of shape (..., K, y, x)
        NaN where there is no lattice.
    """
    xp = get_array_module(coefficients)
    g = np.asarray(g, dtype=float)
    # half of the noise of a derivative is in phase with the value, and moves its amplitude only
    share_x, share_y = (
        xp.asarray(g[:, i] ** 2 / (g**2).sum(axis=1) ** 2 / (8 * np.pi**2), dtype=xp.float32)
        for i in (0, 1)
    )
    noise = coefficients[..., 3, :, :]
    variance = noise.real * share_x[:, None, None] + noise.imag * share_y[:, None, None]
    variance = variance * _inverse_power(_power(coefficients[..., 0, :, :]), xp)
    valid = lattice_mask(coefficients, sigma, threshold)
    return xp.where(valid, xp.sqrt(variance), xp.nan)


def deformation(coefficients, g, sigma, reference=None, threshold=0.2, typical=None):
    """Eulerian displacement gradient by amplitude-weighted least squares over the reflections.

    Parameters
    ----------
    coefficients : array of shape (..., K, 4, y, x)
    g : array of shape (K, 2)
        Reciprocal vectors the coefficients were demodulated with, (x, y) order.
    sigma : float
        Standard deviation of the window.
    reference : array of shape (..., K, 2, 1 or y, 1 or x), optional
        Phase gradient of the reference lattice; zero if it is that of the given g.
    threshold, typical
        See `lattice_mask`.

    Returns
    -------
    Deformation
        With :math:`\\mathrm{cov}(e_{ij}, e_{kl}) = \\delta_{jl} Q_{ik}`. NaN where fewer than
        two reflections that are not collinear are strong enough.
    """
    xp = get_array_module(coefficients)
    typical = typical_amplitude(coefficients) if typical is None else typical
    power = _power(coefficients[..., 0, :, :])
    along = _products(coefficients)
    noise = _noise(coefficients)
    valid = _strong(power, *along, noise, sigma, threshold, typical)
    inverse_power = _inverse_power(power, xp)
    gradient = [a.imag * inverse_power for a in along]
    # variance of the gradient of the phase, mean of its two components
    variance = noise
    variance *= inverse_power
    variance /= 4
    vectors = xp.asarray(g, dtype=xp.float64)[:, :, None, None]  # (K, 2, 1, 1)
    if reference is not None:
        gradient = [d - reference[..., i, :, :].astype(d.dtype) for i, d in enumerate(gradient)]
        vectors = vectors + reference / (2 * np.pi)  # (..., K, 2, y or 1, x or 1)
    gx, gy = vectors[..., 0, :, :], vectors[..., 1, :, :]
    if len(g) == 2:
        rows, spread = _exact_inverse(gx, gy, variance, xp)
        missing = ~valid.all(axis=-3)
    else:
        rows, spread = _least_squares_inverse(gx, gy, variance, power, valid, xp)
        missing = None
    shape = np.broadcast_shapes(rows[0].shape, gradient[0].shape)
    e = xp.empty((2, 2, *shape[:-3], *shape[-2:]), dtype=gradient[0].dtype)
    for i, row in enumerate(rows):
        for j, d in enumerate(gradient):
            e[i, j] = _contracted(row, d)
    spread *= 1 / (2 * np.pi) ** 2
    if missing is not None:
        e[:, :, missing] = xp.nan
        spread[:, missing] = xp.nan
    return Deformation(e, spread)


def _contracted(row, d):
    """-(1/2 pi) sum over the reflections."""
    total = row[..., 0, :, :] * d[..., 0, :, :]
    for k in range(1, d.shape[-3]):
        total += row[..., k, :, :] * d[..., k, :, :]
    total *= -1 / (2 * np.pi)
    return total


def _exact_inverse(gx, gy, variance, xp):
    """Rows (..., 2, y or 1, x or 1) of the inverse of the 2x2 matrix of g, and its covariance."""
    det = gx[..., 0, :, :] * gy[..., 1, :, :] - gx[..., 1, :, :] * gy[..., 0, :, :]
    row_x = xp.stack([gy[..., 1, :, :], -gy[..., 0, :, :]], axis=-3) / det[..., None, :, :]
    row_y = xp.stack([-gx[..., 1, :, :], gx[..., 0, :, :]], axis=-3) / det[..., None, :, :]
    rows = [row.astype(variance.dtype) for row in (row_x, row_y)]
    spread = [(a * b * variance).sum(axis=-3) for a, b in _pairs(*rows)]
    return rows, xp.stack(spread)


def _least_squares_inverse(gx, gy, variance, power, valid, xp):
    """The same for more than two reflections, weighted with the inverse variance.

    Where that is not known, with the squared amplitude.
    """
    unknown = xp.isnan(variance).any(axis=-3, keepdims=True)
    variance = xp.where(unknown, 1 / xp.where(power > 0, power, xp.nan), variance)
    weight = xp.where(valid, 1 / xp.where(variance > 0, variance, xp.nan), 0)
    weight = xp.where(xp.isfinite(weight), weight, 0)
    xx, yy, xy = ((weight * a * b).sum(axis=-3) for a, b in _pairs(gx, gy))
    det = xx * yy - xy**2
    # collinear reflections leave the deformation undetermined: det / (xx yy) is sin^2
    det = xp.where(det > 1e-4 * xx * yy, det, xp.nan)[..., None, :, :]
    xx, yy, xy = (a[..., None, :, :] for a in (xx, yy, xy))
    row_x = (yy * gx - xy * gy) * weight / det
    row_y = (xx * gy - xy * gx) * weight / det
    spread = [yy / det, xx / det, -xy / det]
    known = xp.where(unknown[..., 0, :, :], xp.nan, 1)
    spread = xp.stack([s[..., 0, :, :] * known for s in spread])
    dtype = power.dtype
    return [row_x.astype(dtype), row_y.astype(dtype)], spread.astype(dtype)


def _pairs(x, y):
    return ((x, x), (y, y), (x, y))


def deformation_gradient(e):
    """F = (1 - e)^-1, shape (2, 2, ...)."""
    xp = get_array_module(e)
    f = xp.empty_like(e)
    # with an ellipsis a single value is a view as well
    fxx, fxy, fyx, fyy = (f[i, j, ...] for i in (0, 1) for j in (0, 1))
    xp.subtract(1, e[1, 1], out=fxx)
    xp.subtract(1, e[0, 0], out=fyy)
    scale = 1 / (fxx * fyy - e[0, 1] * e[1, 0])
    fxx *= scale
    fyy *= scale
    xp.multiply(e[0, 1], scale, out=fxy)
    xp.multiply(e[1, 0], scale, out=fyx)
    return f


def strain_components(e, definition, f=None):
    """Strain and rotation from the Eulerian displacement gradient.

    Parameters
    ----------
    e : array of shape (2, 2, ...)
    definition : {"lattice", "eulerian", "finite"}
        Relative to the reference lattice, H = F - 1; relative to the deformed lattice, e; or
        U - 1 from the polar decomposition F = R U.
    f : array of shape (2, 2, ...), optional
        The deformation gradient, if it is known already.

    Returns
    -------
    array of shape (4, ...)
        exx, eyy, exy (tensor shear) and rotation in radians, positive counter-clockwise as
        displayed (y down).
    """
    xp = get_array_module(e)
    if definition not in ("lattice", "eulerian", "finite"):
        raise ValueError(f"unknown definition {definition!r}")
    if definition == "eulerian":
        h, unit = e, 0
    else:
        h, unit = deformation_gradient(e) if f is None else f, 1
        if definition == "finite":
            return _polar(h, xp)
    out = xp.empty((4, *e.shape[2:]), dtype=e.dtype)
    xp.subtract(h[0, 0], unit, out=out[0, ...])
    xp.subtract(h[1, 1], unit, out=out[1, ...])
    xp.add(h[0, 1], h[1, 0], out=out[2, ...])
    xp.subtract(h[0, 1], h[1, 0], out=out[3, ...])
    out[2:] /= 2
    return out


def _polar(f, xp):
    rotation = xp.arctan2(f[0, 1] - f[1, 0], f[0, 0] + f[1, 1])
    c, s = xp.cos(rotation), xp.sin(rotation)
    # R = [[c, s], [-s, c]] turns counter-clockwise on a screen whose y points down; U = R^T F
    return xp.stack(
        [
            c * f[0, 0] - s * f[1, 0] - 1,
            s * f[0, 1] + c * f[1, 1] - 1,
            (c * f[0, 1] - s * f[1, 1] + s * f[0, 0] + c * f[1, 0]) / 2,
            rotation,
        ]
    )


def strain_covariance(e, q, definition, f=None):
    """Noise of the strain components to first order.

    Parameters
    ----------
    e : array of shape (2, 2, ...)
    q : array of shape (3, ...)
        Covariance of `Deformation`.
    definition : str
        See `strain_components`.
    f : array of shape (2, 2, ...), optional
        The deformation gradient, if it is known already.

    Returns
    -------
    variance : array of shape (4, ...)
    covariance : array of shape (4, ...)
        Of each component with exy.
    """
    xp = get_array_module(e)
    if definition != "eulerian":
        # dH = F de F: the rows mix through F, the columns are scaled by its mean square
        f = deformation_gradient(e) if f is None else f
        squares = f[0, 0] ** 2, f[0, 1] ** 2, f[1, 0] ** 2, f[1, 1] ** 2
        scale = (squares[0] + squares[1] + squares[2] + squares[3]) / 2
        across = f[0, 0] * f[1, 1] + f[0, 1] * f[1, 0]
        q = xp.stack(
            [
                (q[0] * squares[0] + q[1] * squares[1] + q[2] * (2 * f[0, 0] * f[0, 1])) * scale,
                (q[0] * squares[2] + q[1] * squares[3] + q[2] * (2 * f[1, 0] * f[1, 1])) * scale,
                (q[0] * f[0, 0] * f[1, 0] + q[1] * f[0, 1] * f[1, 1] + q[2] * across) * scale,
            ]
        )
    return _component_noise(q, xp)


def eulerian_covariance(f, q):
    """Covariance of e from that of H = F - 1, the inverse of `strain_covariance`'s step."""
    xp = get_array_module(f)
    det = f[0, 0] * f[1, 1] - f[0, 1] * f[1, 0]
    rows = ((f[1, 1] / det, -f[0, 1] / det), (-f[1, 0] / det, f[0, 0] / det))
    scale = (f**2).sum(axis=(0, 1)) / 2
    pairs = ((0, 0), (1, 1), (0, 1))
    return xp.stack([quadratic_form(q, rows[i], rows[j]) for i, j in pairs]) / scale


def _component_noise(q, xp):
    quarter = (q[0] + q[1]) / 4
    variance = xp.stack([q[0], q[1], quarter, quarter])
    covariance = xp.stack([q[2] / 2, q[2] / 2, quarter, (q[0] - q[1]) / 4])
    return variance, covariance


def rotate_strain(strain, angle):
    """Components along axes turned by `angle` (radians, counter-clockwise as displayed)."""
    xp = get_array_module(strain)
    c, s = np.cos(angle), np.sin(angle)
    exx, eyy, exy, rotation = strain
    return xp.stack(
        [
            c * c * exx + s * s * eyy - 2 * c * s * exy,
            s * s * exx + c * c * eyy + 2 * c * s * exy,
            c * s * (exx - eyy) + (c * c - s * s) * exy,
            rotation,
        ]
    )


def rotate_strain_noise(variance, covariance, angle):
    """Variance and covariance of `strain_covariance` along turned axes."""
    xp = get_array_module(variance)
    c, s = np.cos(angle), np.sin(angle)
    q = xp.stack([variance[0], variance[1], 2 * covariance[0]])
    x_axis, y_axis = (c, -s), (s, c)
    pairs = ((x_axis, x_axis), (y_axis, y_axis), (x_axis, y_axis))
    return _component_noise(xp.stack([quadratic_form(q, a, b) for a, b in pairs]), xp)


def quadratic_form(q, a, b):
    """a^T Q b for the symmetric Q = (Q_xx, Q_yy, Q_xy)."""
    return q[0] * a[0] * b[0] + q[1] * a[1] * b[1] + q[2] * (a[0] * b[1] + a[1] * b[0])


def deformation_from_strain(strain, definition):
    """Deformation gradient F, shape (2, 2, ...), from strain components; exact.

    For ``"finite"`` the rotation is included, so that F is that of the image.
    """
    xp = get_array_module(strain)
    exx, eyy, exy, rotation = strain
    if definition == "finite":
        c, s = xp.cos(rotation), xp.sin(rotation)
        u = ((1 + exx, exy), (exy, 1 + eyy))
        return xp.stack(
            [
                xp.stack([c * u[0][0] + s * u[1][0], c * u[0][1] + s * u[1][1]]),
                xp.stack([-s * u[0][0] + c * u[1][0], -s * u[0][1] + c * u[1][1]]),
            ]
        )
    h = xp.stack([xp.stack([exx, exy + rotation]), xp.stack([exy - rotation, eyy])])
    if definition == "eulerian":
        return deformation_gradient(h)
    if definition != "lattice":
        raise ValueError(f"unknown definition {definition!r}")
    h[0, 0] += 1
    h[1, 1] += 1
    return h


def stretches(f, q, directions):
    """Lengths of lattice vectors relative to the reference, whatever the rotation.

    Parameters
    ----------
    f : array of shape (2, 2, ..., y, x)
        Deformation gradient.
    q : array of shape (3, ..., y, x)
        Covariance of the Eulerian displacement gradient.
    directions : array of shape (n, 2, ...)
        Unit vectors along the lattice vectors in the reference, (x, y) order; broadcasts with
        one component of `f`.

    Returns
    -------
    stretch : array of shape (n, ..., y, x)
    variance : array of shape (n, ..., y, x)
    """
    xp = get_array_module(f)
    lengths, variances = [], []
    for vx, vy in xp.asarray(directions, dtype=f.dtype):
        wx = f[0, 0] * vx + f[0, 1] * vy
        wy = f[1, 0] * vx + f[1, 1] * vy
        length = xp.sqrt(wx**2 + wy**2)
        ux, uy = wx / length, wy / length
        # d|Fv| = u.F de Fv, and the columns of de are independent with covariance Q each
        back = (f[0, 0] * ux + f[1, 0] * uy, f[0, 1] * ux + f[1, 1] * uy)
        lengths.append(length)
        variances.append(length**2 * quadratic_form(q, back, back))
    return xp.stack(lengths), xp.stack(variances)


def shear_between(f, directions):
    """Half the cosine of the angle between two lattice vectors, less that in the reference.

    Along the axes of an orthogonal cell it is their tensor shear to first order, which
    composition alone leaves at zero.

    Parameters
    ----------
    f : array of shape (2, 2, ..., y, x)
        Deformation gradient.
    directions : array of shape (2, 2, ...)
        Unit vectors along the lattice vectors in the reference, (x, y) order.

    Returns
    -------
    array of shape (..., y, x)
    """
    xp = get_array_module(f)
    (ax, ay), (cx, cy) = xp.asarray(directions, dtype=f.dtype)
    one = f[0, 0] * ax + f[0, 1] * ay, f[1, 0] * ax + f[1, 1] * ay
    other = f[0, 0] * cx + f[0, 1] * cy, f[1, 0] * cx + f[1, 1] * cy
    size = xp.sqrt((one[0] ** 2 + one[1] ** 2) * (other[0] ** 2 + other[1] ** 2))
    return ((one[0] * other[0] + one[1] * other[1]) / size - (ax * cx + ay * cy)) / 2


def _power(value):
    power = value.real**2
    power += value.imag**2
    return power
