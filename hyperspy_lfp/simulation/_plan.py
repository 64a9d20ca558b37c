r"""Which error to expect, before anything is measured.

With the dose D and the contrast C the variance of the components of a phase gradient is
:math:`1/(4\pi\sigma^4DC^2)` (`hyperspy_lfp.kernels.gpa.precision`), so that

- the strain across planes of spacing d has the standard error
  :math:`d/(4\pi^{3/2}\sigma^2C\sqrt D)`;
- the rows of the displacement gradient have the covariance Q, and :math:`x = W:e` with the weights
  of generalised least squares has the variance :math:`\operatorname{tr} T`,
  :math:`T = W^\mathsf{T}QW`, of which :math:`T_{jj}` comes from derivatives along axis j.

In the mean over a box of sides :math:`L_x, L_y` a derivative along x is what the smoothed noise is
on the right side less what it is on the left one. That noise has the correlation
:math:`e^{-D^2/4\sigma^2}`, and with :math:`J(L) = 2[\sqrt\pi\sigma L\operatorname{erf}(L/2\sigma) -
2\sigma^2(1 - e^{-L^2/4\sigma^2})]`, its integral over two sides of length L,

.. math::
    \operatorname{Var} = \frac{4\sigma^2}{L_x^2L_y^2}\bigl[
    T_{xx}(1 - e^{-L_x^2/4\sigma^2})J(L_y) + T_{yy}(1 - e^{-L_y^2/4\sigma^2})J(L_x)\bigr].

That is what `ConcentrationMap.evolution` has for the standard error of a region inside a crystal.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import erf

from hyperspy_lfp import materials
from hyperspy_lfp.kernels.gpa.precision import strain_covariance
from hyperspy_lfp.signals._choosing import _table_error
from hyperspy_lfp.signals._units import to_length, to_number, to_vectors
from hyperspy_lfp.simulation import _reflections
from hyperspy_lfp.simulation._lattice import axes_in_map, in_plane
from hyperspy_lfp.simulation._options import positive, whole
from hyperspy_lfp.simulation._source import unit_direction

#: Finest resolution in units of the largest spacing, as `HRTEMMovie.gpa` takes it.
_FINEST = 0.55


class Plan(NamedTuple):
    """Standard errors to expect; of the mean of the frames, if there are several."""

    #: Reflections, or None if reciprocal vectors were given alone.
    hkl: tuple | None
    #: Their reciprocal vectors in 1/nm, (x, y) order.
    g: tuple
    #: Of the strain across the planes of each reflection, at one point.
    strain: tuple
    #: Of x at one point; None without reflections.
    sigma_x: float | None
    #: Of the mean of x over the box; None without a box.
    sigma_x_box: float | None
    #: How many independent points would give the error of the box.
    independent_values: float | None
    #: Area of the box over that of a resolution element, 4 pi resolution^2: what the number of
    #: independent values would be if the noise of a strain were that of a density.
    resolution_elements: float | None
    #: In nm.
    resolution: float
    #: Sides along x and y in nm.
    box: tuple | None
    frames: int


def plan(
    dose,
    contrast,
    resolution,
    *,
    hkl=None,
    g=None,
    pixel=0.04,
    box=None,
    frames=1,
    material="LiFePO4",
    zone=None,
    x=None,
    a_direction=(1.0, 0.0),
):
    r"""Standard errors of strain and composition to expect from counting noise.

    Parameters
    ----------
    dose : float
        Electrons a pixel in the crystal.
    contrast : float or sequence of float
        Amplitude of the fringes in units of the mean intensity, of all reflections or of each.
        Fringes of a reflection fade as x changes its structure factor
        (`Material.structure_factor`), and with the detector's transfer function.
    resolution : float or str
        Standard deviation of the window of `HRTEMMovie.gpa`, in nm or for example ``"1.5 nm"``.
    hkl : sequence of (h, k, l), optional
        Reflections that are measured. Default: the oblique pair of the zone with the longest
        spacing, (1, 0, 1) and (1, 0, -1) for the zone (0, 1, 0).
    g : sequence of (x, y), optional
        Reciprocal vectors in 1/nm instead: strain alone.
    pixel : float or str
        Size of a pixel in nm.
    box : float or (float, float), optional
        Sides, along x and y in nm, of a box inside the crystal over which x is averaged.
    frames : int
        Number of frames that are averaged.
    material : str or Material
    zone : (u, v, w), optional
        Beam direction, along an axis of the cell; default: that of the material.
    x : float, optional
        Composition at which errors are wanted. Default: the middle of the compositions.
    a_direction : (float, float)
        Direction of the first in-plane axis in the image, (x, y); it matters for boxes.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        For a value that is out of range, a resolution finer than 0.55 spacings, vectors or
        reflections that do not span the plane.

    Notes
    -----
    Counting noise alone: no film, no edges, no systematic error. It is taken as white, but follows
    the intensity: reflections whose sum or difference is another fringe, as (1, 0, 1), (1, 0, -1)
    and (2, 0, 0), share some of it, which at contrasts of 0.15 makes the error of their x 4 %
    larger than here. `HRTEMMovie.compare_g_vectors`
    says the same of a movie that is there already, with its measured noise. Doubling the
    resolution divides the error of a point by four.

    Examples
    --------
    >>> from hyperspy_lfp import simulation
    >>> expected = simulation.plan(400, 0.15, "1.0 nm", box=5.0)
    >>> round(expected.sigma_x, 4), round(expected.sigma_x_box, 4)
    (0.0072, 0.0021)
    """
    dose = positive(dose, "dose", "400 (electrons a pixel)")
    sigma = to_length(resolution, "nm", "resolution")
    pixel = to_length(pixel, "nm", "pixel")
    frames = whole(frames, "frames")
    material = materials.get(material)
    zone = materials.check_zone(material.zone if zone is None else zone)
    axes = axes_in_map(unit_direction(a_direction))
    composition = np.mean([material.composition[0], material.composition[-1]]) if x is None else x
    composition = to_number(composition, "x", example="0.5")
    if g is not None and hkl is not None:
        raise ValueError("g and hkl are both given: give hkl for composition, or g for strain.")
    if g is None:
        hkl = _chosen(hkl, material, zone, pixel)
        vectors = _vectors(hkl, material, zone, composition, axes)
    else:
        vectors = to_vectors(g, "nm")
        _check_vectors(vectors, pixel)
    amplitude = _contrasts(contrast, len(vectors))
    lengths = np.linalg.norm(vectors, axis=1)
    if sigma * lengths.min() < _FINEST:
        raise ValueError(
            f"resolution={sigma:g} nm is finer than {_FINEST} of the largest spacing, "
            f"{1 / lengths.min():.3g} nm: neighbouring reflections would mix. Take "
            f"{_FINEST / lengths.min():.2g} nm or more."
        )
    variance = pixel**2 / (4 * np.pi * sigma**4 * dose * amplitude**2) / frames
    strain = np.sqrt(variance) / (2 * np.pi * lengths)
    tensor = None if hkl is None else _tensor(vectors, variance, material, zone, composition, axes)
    sides = _sides(box)
    of_box = None
    if sides is not None and tensor is not None:
        of_box = float(np.sqrt(box_variance(tensor, sides, sigma)))
    point = None if tensor is None else float(np.sqrt(np.trace(tensor)))
    return Plan(
        hkl=None if hkl is None else tuple(hkl),
        g=tuple(tuple(float(v) for v in row) for row in vectors),
        strain=tuple(float(s) for s in strain),
        sigma_x=point,
        sigma_x_box=of_box,
        independent_values=None if of_box is None else (point / of_box) ** 2,
        resolution_elements=None if sides is None else sides[0] * sides[1] / (4 * np.pi * sigma**2),
        resolution=sigma,
        box=sides,
        frames=frames,
    )


def box_variance(tensor, sides, sigma):
    """Variance of the mean over a box of what has the variance trace(tensor) at a point."""
    side = np.array(sides)
    ends = -np.expm1(-(side**2) / (4 * sigma**2))
    along = 2 * (np.sqrt(np.pi) * sigma * side * erf(side / (2 * sigma)) - 2 * sigma**2 * ends)
    return 4 * sigma**2 * (np.diag(tensor) * ends * along[::-1]).sum() / side.prod() ** 2


def _tensor(g, variance, material, zone, x, axes):
    """T = W^T Q W of the weights that maps of composition have."""
    xx, yy, xy = strain_covariance(g, variance)
    q = np.array([[xx, xy], [xy, yy]])
    plane = in_plane(zone)
    step = 1e-4 * (material.composition[-1] - material.composition[0])
    low, high = (material.cell(x + s)[plane] for s in (-step, step))
    slopes = (high - low) / (2 * step) / material.cell(x)[plane]
    if np.abs(slopes).max() < 1e-9:
        raise ValueError(
            f"the lattice of {material.name} across {zone} does not change with composition, so "
            "that x cannot be measured."
        )
    noise = np.array([v @ q @ v for v in axes])  # the axes are perpendicular: independent
    weights = slopes / (noise + _table_error(material, zone) ** 2)
    weights /= weights @ slopes
    w = np.einsum("k,ki,kj->ij", weights, axes, axes)
    return w.T @ q @ w


def _vectors(hkl, material, zone, x, axes):
    plane = in_plane(zone)
    return (np.array(hkl)[:, plane] / (material.cell(x)[plane] / 10)) @ axes


def _chosen(hkl, material, zone, pixel):
    if hkl is None:
        hkl = _reflections.oblique_pair(material, zone)
    hkl = _reflections.choose(hkl, material, zone, "fringes", pixel)
    if np.linalg.matrix_rank(np.array(hkl)) < 2:
        raise ValueError(
            f"hkl={hkl} are parallel: composition needs two reflections in different directions."
        )
    return hkl


def _check_vectors(g, pixel):
    lengths = np.linalg.norm(g, axis=1)
    if not len(g) or lengths.min() == 0:
        raise ValueError("g must hold one reciprocal vector or more, none of them zero.")
    if np.abs(g).max() >= 0.5 / pixel:
        raise ValueError(
            f"g reaches beyond the Nyquist frequency of pixels of {pixel:g} nm, "
            f"{0.5 / pixel:g} 1/nm."
        )


def _contrasts(contrast, number):
    array = np.asarray(contrast, dtype=float)
    if array.shape not in ((), (number,)):
        raise ValueError(
            f"contrast={contrast!r} must be one number, or one for each of the {number} "
            "reflections."
        )
    if not np.all(np.isfinite(array) & (array != 0) & (np.abs(array) <= 1)):
        raise ValueError(f"contrast={contrast!r} must be between 0 and 1, and not 0.")
    return np.abs(np.broadcast_to(array, number))


def _sides(box):
    if box is None:
        return None
    if isinstance(box, str) or np.ndim(box) == 0:
        box = (box, box)
    if len(box) != 2:
        raise ValueError(f"box={box!r} must be one side, or the sides along x and y, in nm.")
    return tuple(to_length(side, "nm", "box") for side in box)
