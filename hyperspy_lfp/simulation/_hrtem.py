"""Movies of lattice images of a particle whose composition is known."""

import numpy as np

from hyperspy_lfp import materials
from hyperspy_lfp.kernels.imaging.edges import REACH
from hyperspy_lfp.kernels.mechanics.elasticity import CONDITIONS
from hyperspy_lfp.signals import HRTEMMovie, _frames
from hyperspy_lfp.signals._units import to_length, to_number
from hyperspy_lfp.simulation import _reflections
from hyperspy_lfp.simulation._lattice import LATTICES, axes_in_map, fields, in_plane
from hyperspy_lfp.simulation._options import check_choice, per_frame, whole
from hyperspy_lfp.simulation._scene import Setup, build_scene, render_block
from hyperspy_lfp.simulation._settings import (
    ROOM,
    bend_of,
    check_mtf,
    drifts_of,
    dtype_of,
    part_of,
    shape_of,
    sign_of,
)
from hyperspy_lfp.simulation._source import read_source, render, store_source

NODE = "HyperspyLFP.Simulation"
#: Size above which a movie stays lazy unless it is said.
_LARGE = 2**30
#: Standard deviation of atom columns in nm: thermal displacement and the resolution of the
#: microscope together; this package's own choice.
_COLUMN = 0.04


def hrtem_movie(
    truth,
    *,
    shape=None,
    pixel=0.04,
    dose=None,
    hkl=None,
    contrast=0.15,
    image="fringes",
    lattice="coherent",
    condition="plane stress",
    refinement=1,
    material=None,
    zone=None,
    a_direction=None,
    rotation=0.0,
    drift=None,
    edge_width=0.15,
    absorption=0.0,
    contrast_reversal=None,
    bend=None,
    film=0.0,
    film_cutoff=5.0,
    film_frames="fresh",
    column_width=_COLUMN,
    mtf=None,
    dtype=None,
    seed=0,
    lazy=None,
    chunks=1,
):
    r"""Simulate the movie that a microscope would record of a particle.

    .. math::
        I(r) = D\Bigl[1 - a\,s(R) + s(R)\sum_{hkl} C_{hkl}(x)\cos 2\pi(h X/a_0 + l Z/c_0)\Bigr]

    where R = (X, Z) is the point of the undeformed particle (composition 0, FePO4 for instance)
    that is seen at r: a point R from the middle of the map lies at

    .. math:: r = \text{middle of the frame} + \text{drift} + T(\theta)\,[R + u(R)].

    The displacement u follows from the composition x(R); see :doc:`/simulation_hrtem`. Every
    number that is known exactly comes back with `truth`.

    Parameters
    ----------
    truth : ConcentrationMap
        Composition on the undeformed particle, NaN outside, ``(time | x, y)`` or one map: of
        `lithiation`, of an experiment, or made by hand. The particle is where any frame has a
        number; beyond it, and where a single frame has none, x goes on smoothly.
    shape : (int, int), optional
        (y, x) pixels of a frame. Default: the particle with 2 nm of vacuum around it, at any drift
        and rotation. In smaller frames the crystal reaches the border.
    pixel : float or str
        Size of a pixel, in nm or for example ``"0.4 Å"``.
    dose : float, optional
        Electrons a pixel in vacuum. Default: no noise, the expected intensity with vacuum one.
    hkl : sequence of (h, k, l), optional
        Reflections that are seen, one of each pair. Default: the allowed ones of the zone with
        spacings above 0.3 nm, for columns above 0.1 nm.
    contrast : float or sequence of float
        Amplitude of the strongest fringes at any composition of the material, in units of the
        vacuum intensity; the others go with their structure factors, which change with x and may
        change their sign. Negative: dark columns. A sequence: of each of `hkl`, whatever x is.
    image : {"fringes", "columns"}
        Fringes of a few reflections, or Gaussian atom columns, that is all reflections times
        :math:`e^{-2\pi^2 w^2 g^2}` with w = `column_width`.
    lattice : {"coherent", "vegard"}
        ``"coherent"``: the elastic equilibrium of the free particle, in which the lattice does not
        follow x everywhere. ``"vegard"``: Vegard's law at every point along both axes,
        :math:`\partial u_a/\partial X = \varepsilon_a(x)`,
        :math:`\partial u_c/\partial Z = \varepsilon_c(x)`, with whatever shear and rotation that
        needs: what maps of composition assume, and what no stiff crystal with domains does.
    condition : {"plane stress", "generalised plane strain"}
        Along the beam, of a coherent lattice: a thin foil or a thick particle.
    refinement : int
        Finite elements along each side of a pixel of the map.
    material : str or Material, optional
        Default: that of the map.
    zone : (u, v, w), optional
        Beam direction, along an axis of the cell; default: that of the material.
    a_direction : (float, float), optional
        Direction in the map, (x, y), of the crystal's first axis across the beam: a, or b for the
        zone (1, 0, 0). The second is a quarter turn clockwise from it as displayed. Default:
        along x.
    rotation : float or sequence of float
        Of the particle in the image, degrees, counter-clockwise as displayed; one, or one for
        each frame.
    drift : array of shape (n, 2), optional
        Of the particle's middle from that of the frame, (x, y) in nm, for each frame.
    edge_width : float
        Standard deviation in nm of the Gaussian that softens the particle's edge.
    absorption : float
        Part of the intensity that the particle takes away.
    contrast_reversal : array of shape (ny, nx) or (n, ny, nx), optional
        Factor of all amplitudes, -1 to 1, on the pixels of the map: negative where thickness or
        defocus reverses the contrast.
    bend : dict, optional
        Of a bent crystal: ``curvature`` in mrad/nm, ``direction`` across the bend contour in
        degrees counter-clockwise from x (0), its ``position`` along that in nm (0), ``thickness``
        of the crystal in nm (20). Each amplitude is multiplied by
        :math:`\operatorname{sinc}(t s_g)`, :math:`s_g = \kappa\,(R\cdot n - p)\,g\cdot n`.
    film : float
        Standard deviation of the contrast of an amorphous film over the whole frame.
    film_cutoff : float
        Spatial frequency in 1/nm up to which the film has its power.
    film_frames : {"fresh", "fixed"}
        Another film in each frame, or the same in all.
    column_width : float
        In nm.
    mtf : {"pixel", "scintillator"} or callable, optional
        Transfer function of the detector: of square pixels, a simple one with long tails, or a
        function of the spatial frequency in cycles per pixel. It acts on the expected image;
        counting noise is white.
    dtype : dtype, optional
        Default: float32 without a dose, the smallest of uint16 and uint32 that holds the counts
        with one.
    seed : int
        Of counting and film. Each frame has its own stream, so that any part of a movie can be
        computed alone.
    lazy : bool, optional
        Whether frames are drawn when they are needed. Default: movies of more than 1 GiB.
    chunks : int
        Frames to a chunk of a lazy movie.

    Returns
    -------
    HRTEMMovie
        ``(time | x, y)`` in nm and the unit of time of `truth`, `LazyHRTEMMovie` if lazy. Node
        ``HyperspyLFP.Simulation`` of its metadata holds all parameters, and `truth` itself as
        ``source``.

    Raises
    ------
    TypeError
        If `truth` is no `ConcentrationMap`.
    ValueError
        For a value that is out of range, reflections that are forbidden or beyond the Nyquist
        frequency, a contrast that would take the intensity below zero, drifts or rotations that
        are not one for each frame, or a displacement that folds the particle.

    Examples
    --------
    >>> from hyperspy_lfp.signals import ConcentrationMap
    >>> from hyperspy_lfp import materials, simulation
    >>> x = np.full((2, 10, 12), 0.5)
    >>> axes = [
    ...     {"name": "time", "size": 2, "scale": 5.0, "units": "s", "navigate": True},
    ...     {"name": "y", "size": 10, "units": "nm", "navigate": False},
    ...     {"name": "x", "size": 12, "units": "nm", "navigate": False},
    ... ]
    >>> source = ConcentrationMap(x, axes=axes)
    >>> simulation.hrtem_movie(source, material="LiFePO4", shape=(320, 384), dose=400)
    <HRTEMMovie, title: simulated HRTEM movie, dimensions: (2|384, 320)>
    """
    source = read_source(truth, material, a_direction)
    frames = len(source.x)
    zone = materials.check_zone(source.material.zone if zone is None else zone)
    in_plane(zone)
    check_choice("lattice", lattice, LATTICES)
    check_choice("condition", condition, CONDITIONS)
    check_choice("film_frames", film_frames, ("fresh", "fixed"))
    pixel = to_length(pixel, "nm", "pixel")
    edge_width = to_length(edge_width, "nm", "edge_width")
    if edge_width < pixel / 4:
        raise ValueError(
            f"edge_width={edge_width:g} nm is too sharp for pixels of {pixel:g} nm; take "
            f"{pixel / 4:.3g} nm or more."
        )
    angles = per_frame(rotation, frames, "rotation", "degrees")
    shifts = drifts_of(drift, frames)
    shape = shape_of(shape, source, pixel, angles, shifts)
    absorption = part_of(absorption, "absorption")
    dose = None if dose is None else to_number(dose, "dose", 0, "400 (electrons a pixel)")
    if dose == 0:
        raise ValueError("dose=0 records nothing; give electrons a pixel, or None for no noise.")
    film = to_number(film, "film", 0, "0.05")
    refinement = whole(refinement, "refinement")
    chunks = whole(chunks, "chunks")
    seed = whole(seed, "seed", 0)
    bend_terms = bend_of(bend)
    sign = sign_of(contrast_reversal, source)

    chosen = _reflections.choose(hkl, source.material, zone, image, pixel)
    own = _reflections.lattice_of(chosen, source.material, zone, axes_in_map(source.a_direction))
    limits = float(np.nanmin(source.x)), float(np.nanmax(source.x))
    width = to_length(column_width, "nm", "column_width") if image == "columns" else None
    compositions, table = _reflections.amplitudes(chosen, source.material, contrast, limits, width)
    _reflections.check_contrast(
        own, compositions, table, absorption, limits, contrast, sign is not None
    )
    most = (1 + np.abs(table).sum(axis=0).max() + ROOM * film) * (dose or 1.0)
    dtype = dtype_of(dtype, dose, most)
    if mtf is not None:
        check_mtf(mtf)

    known = fields(source, zone, lattice, condition, refinement, REACH * edge_width)
    setup = Setup(
        shape=shape,
        pixel=pixel,
        mask=source.mask,
        spacing=source.spacing,
        x_grid=known.x_grid,
        u_grid=known.u_grid,
        lattice=own,
        compositions=compositions,
        amplitudes=table,
        edge_width=edge_width,
        absorption=absorption,
        bend=bend_terms,
        film=film,
        film_cutoff=to_number(film_cutoff, "film_cutoff", 1e-6, "5.0 (1/nm)") * pixel,
        film_fixed=film_frames == "fixed",
        mtf=mtf,
        dose=dose,
        dtype=dtype,
        seed=seed,
    )
    middle = [(n - 1) / 2 * pixel for n in shape[::-1]]
    poses = np.column_stack([shifts + middle, np.deg2rad(angles), np.arange(frames)])
    size = frames * shape[0] * shape[1] * np.dtype(dtype).itemsize
    lazy = size > _LARGE if lazy is None else bool(lazy)
    data = render(
        render_block,
        [known.x, known.u, poses] + ([] if sign is None else [sign]),
        bool(source.navigation),
        chunks,
        lazy,
        out_shape=shape,
        dtype=dtype,
        scene=_frames.delayed_plan(build_scene, setup),
    )
    movie = HRTEMMovie(data, axes=[*source.navigation, *_image_axes(shape, pixel)])
    movie = movie.as_lazy() if lazy else movie
    title = truth.metadata.get_item("General.title", default="")
    movie.metadata.General.title = "simulated HRTEM movie" + (f" of {title}" if title else "")
    quantity = "electrons (Counts)" if dose is not None else "intensity (vacuum is 1)"
    movie.metadata.set_item("Signal.quantity", quantity)
    movie._record(
        "Simulation",
        origin="hyperspy_lfp.simulation.hrtem_movie",
        shape=shape,
        pixel=pixel,
        pixel_units="nm",
        dose=dose,
        hkl=chosen,
        contrast=contrast,
        image=image,
        lattice=lattice,
        condition=condition,
        refinement=refinement,
        material=source.material.to_dictionary(),
        zone=zone,
        a_direction=source.a_direction,
        rotation=angles,
        rotation_units="degree",
        drift_x=shifts[:, 0],
        drift_y=shifts[:, 1],
        drift_units="nm",
        edge_width=edge_width,
        edge_width_units="nm",
        absorption=absorption,
        contrast_reversal=contrast_reversal is not None,
        bend=bend,
        film=film,
        film_cutoff=float(film_cutoff),
        film_cutoff_units="1/nm",
        film_frames=film_frames,
        column_width=width,
        mtf=mtf if mtf is None or isinstance(mtf, str) else getattr(mtf, "__name__", "callable"),
        seed=seed,
    )
    movie.metadata.set_item(f"{NODE}.source", store_source(source, title))
    return movie


def _image_axes(shape, pixel):
    return [
        {"name": name, "size": n, "scale": pixel, "offset": 0.0, "units": "nm", "navigate": False}
        for name, n in zip("yx", shape, strict=True)
    ]
