"""Series of electron diffraction patterns of a particle whose composition is known."""

import numpy as np

from hyperspy_lfp import materials
from hyperspy_lfp.kernels.imaging.spots import SHAPES, Profile, peak_part
from hyperspy_lfp.kernels.mechanics.elasticity import CONDITIONS
from hyperspy_lfp.signals import DiffractionSeries, _frames
from hyperspy_lfp.signals._units import to_length, to_number
from hyperspy_lfp.simulation import _options, _pattern, _zone
from hyperspy_lfp.simulation._parts import coherent_parts, free_parts
from hyperspy_lfp.simulation._source import read_source, render, store_source

LATTICES = ("free", "coherent")
#: Size above which a series stays lazy unless it is said.
_LARGE = 2**30
#: Standard deviations of noise for which a type of integers must have room.
_ROOM = 10.0
#: Compositions at which the strongest spot is looked for.
_SAMPLES = 65


def diffraction_series(
    truth,
    *,
    zone=None,
    shape=(256, 256),
    pixel=0.025,
    counts=3e4,
    direct_beam=3e5,
    d_min=0.1,
    spot_width=0.0275,
    spot_shape="gaussian",
    eta=0.5,
    background=None,
    beam_stop=None,
    centre=(0.0, 0.0),
    centre_drift=None,
    rotation=0.0,
    ellipse=None,
    hot_pixels=0,
    hot_counts=1000.0,
    dead_pixels=0,
    lattice="free",
    condition="plane stress",
    material=None,
    a_direction=None,
    dtype=None,
    seed=None,
    lazy=None,
):
    r"""Simulate the diffraction patterns that a microscope would record of a particle.

    Each pixel of the maps is a piece of crystal that diffracts by itself, so that a spot shows how
    the local lattices are distributed. A thin crystal and a flat Ewald sphere: the counts of a
    spot are

    .. math:: N_{hkl} = N \sum_{\text{pixels}} \frac{|F_{hkl}(x)|^2}{V(x)},

    since pixels of the undeformed particle hold the same number of moles; forbidden spots are
    absent. See :doc:`/simulation_diffraction`.

    Parameters
    ----------
    truth : ConcentrationMap
        Composition on the undeformed particle, NaN outside, ``(time | x, y)`` or one map: of
        `lithiation`, of an experiment, or made by hand.
    zone : (u, v, w), optional
        Beam direction, any; default: that of the material.
    shape : (int, int)
        (y, x) pixels of a pattern.
    pixel : float
        Size of a pixel in 1/nm. Zero of the axes is pixel (ny // 2, nx // 2).
    counts : float
        Electrons in the strongest spot of the first pattern.
    direct_beam : float
        Electrons in the direct beam.
    d_min : float or str
        Spots of planes closer than this, in nm, at any composition are left out.
    spot_width : float
        Standard deviation of a Gaussian spot in 1/nm, and of the Gaussian part of a pseudo-Voigt;
        radius of a disc.
    spot_shape : {"gaussian", "pseudo-voigt", "disc"}
        A pseudo-Voigt spot is one in its profile integrated across, as `SpotProfile.fit` takes it.
    eta : float
        Lorentzian part of a pseudo-Voigt spot, 0 to 1.
    background : (float, float), optional
        Diffuse scattering: counts a pixel in the middle, and the distance in 1/nm at which half of
        them are left.
    beam_stop : (left, top, right, bottom) or RectangularROI, optional
        On the axes of the pattern, in 1/nm: no counts there.
    centre : (float, float)
        (kx, ky) of the direct beam on the axes, in 1/nm.
    centre_drift : array of shape (n, 2), optional
        (kx, ky) from there in each pattern, in 1/nm.
    rotation : float or sequence of float
        Direction of a*, in degrees counter-clockwise from kx as displayed; one, or one for each
        pattern. For a beam along a, direction of b*; for one along no axis of the cell, of the
        projection of a*.
    ellipse : (float, float), optional
        Distortion of the camera: its long over its short axis, and the direction of the long one
        in degrees counter-clockwise from kx as displayed. Areas stay, and so do the shapes of
        spots. `DiffractionSeries.fit_distortion` finds it.
    hot_pixels, dead_pixels : int or float
        Their number, or if below one their part of all, the same in all patterns. Where they are
        depends on the seed, and is in the metadata.
    hot_counts : float
        What a hot pixel counts besides electrons.
    lattice : {"free", "coherent"}
        ``"free"``: each pixel has the cell of its x, none is rotated. ``"coherent"``: the particle
        is one crystal in elastic equilibrium, whose lattice does not follow x everywhere; for a
        beam along an axis of the cell.
    condition : {"plane stress", "generalised plane strain"}
        Along the beam, of a coherent lattice.
    material : str or Material, optional
        Default: that of the map.
    a_direction : (float, float), optional
        Direction in the map, (x, y), of the crystal's first axis across the beam: a, or b for the
        zone (1, 0, 0); it matters for a coherent lattice. Default: along x.
    dtype : dtype, optional
        Default: float32 without noise, the smallest of uint16 and uint32 that holds the counts
        with it.
    seed : int, optional
        Of the counting noise, each pattern with a stream of its own. Default: no noise, the
        expected counts.
    lazy : bool, optional
        Whether patterns are drawn when they are needed, each a chunk. Default: series of more than
        1 GiB.

    Returns
    -------
    DiffractionSeries
        ``(time | kx, ky)`` in 1/nm and the unit of time of `truth`, `LazyDiffractionSeries` if
        lazy. Node ``HyperspyLFP.Simulation`` of its metadata holds all parameters, the exact
        ``x`` (mean over the moles of the particle), ``centre_x`` and ``centre_y``, and `truth`
        itself as ``source``.

    Raises
    ------
    TypeError
        If `truth` is no `ConcentrationMap`.
    ValueError
        For a value that is out of range, drifts or rotations that are not one for each pattern,
        no reflections, a coherent lattice in a zone that is no axis of the cell, or a material
        without atoms.

    Examples
    --------
    >>> from hyperspy_lfp import materials, simulation
    >>> from hyperspy_lfp.signals import ConcentrationMap
    >>> x = np.linspace(0, 1, 3)[:, None, None] * np.ones((10, 12))
    >>> axes = [
    ...     {"name": "time", "size": 3, "scale": 100.0, "units": "s", "navigate": True},
    ...     {"name": "y", "size": 10, "units": "nm", "navigate": False},
    ...     {"name": "x", "size": 12, "units": "nm", "navigate": False},
    ... ]
    >>> source = ConcentrationMap(x, axes=axes)
    >>> d = simulation.diffraction_series(source, material="LiFePO4", seed=0)
    >>> d
    <DiffractionSeries, title: simulated diffraction series, dimensions: (3|256, 256)>
    >>> x = d.to_concentration((2, 0, 0), peaks=1, show_progressbar=False)
    >>> x.data.round(1) + 0.0
    array([[0. , 0.5, 1. ]])
    """
    source = read_source(truth, material, a_direction)
    material, frames = source.material, len(source.x)
    zone = materials.check_zone(material.zone if zone is None else zone)
    _options.check_choice("lattice", lattice, LATTICES)
    _options.check_choice("condition", condition, CONDITIONS)
    _options.check_choice("spot_shape", spot_shape, SHAPES)
    shape = _options.frame_shape(shape)
    pixel = _options.positive(pixel, "pixel", "0.025 (1/nm)")
    counts = _options.positive(counts, "counts", "3e4 (electrons)")
    direct_beam = to_number(direct_beam, "direct_beam", 0, "3e5 (electrons)")
    d_min = to_length(d_min, "nm", "d_min")
    spot_width = _options.positive(spot_width, "spot_width", "0.0275 (1/nm)")
    eta = _options.part(eta, "eta")
    background = _options.background(background)
    edges = _options.beam_stop(beam_stop)
    centres = _options.pair(centre, "centre") + _options.drift(centre_drift, frames)
    angles = _options.per_frame(rotation, frames, "rotation", "degrees")
    ratio, long_axis = _options.ellipse(ellipse)
    hot_counts = to_number(hot_counts, "hot_counts", 0, "1000")
    number = [
        _options.number_of_pixels(value, name, shape[0] * shape[1])
        for value, name in ((hot_pixels, "hot_pixels"), (dead_pixels, "dead_pixels"))
    ]
    if sum(number) > shape[0] * shape[1]:
        raise ValueError(f"hot_pixels and dead_pixels are {number}, more than there are pixels.")
    seed = None if seed is None else _options.whole(seed, "seed", 0)

    limits = float(np.nanmin(source.x)), float(np.nanmax(source.x))
    hkl = _zone.reflections(material, zone, d_min, [*material.composition, *limits])
    parts = free_parts(source) if lattice == "free" else coherent_parts(source, zone, condition)
    first = parts[0, :, 1] @ _pattern.strengths(hkl, material, parts[0, :, 0])
    profile = Profile(spot_shape, spot_width / pixel, eta)
    setup = _pattern.Setup(
        shape=shape,
        pixel=pixel,
        material=material,
        zone=zone,
        hkl=hkl,
        scale=counts / first.max(),
        direct_beam=direct_beam,
        profile=profile,
        background=background,
        stretch=None if ratio == 1 else _pattern.camera_stretch(ratio, np.deg2rad(long_axis)),
        seed=seed,
    )
    hot, dead = _pattern.choose_pixels(shape, *number, seed)
    dtype = _dtype(dtype, seed, _most(setup, limits) + (hot_counts if len(hot) else 0))
    setup = setup._replace(
        blocked=_options.blocked_pixels(edges, shape, pixel),
        hot=hot if len(hot) else None,
        hot_counts=hot_counts,
        dead=dead if len(dead) else None,
        dtype=dtype,
    )

    middle = [n // 2 for n in shape[::-1]]
    poses = np.column_stack([centres / pixel + middle, np.deg2rad(angles), np.arange(frames)])
    size = frames * shape[0] * shape[1] * dtype.itemsize
    lazy = size > _LARGE if lazy is None else bool(lazy)
    data = render(
        _pattern.render_block,
        [parts, poses[:, None]],
        bool(source.navigation),
        1,
        lazy,
        out_shape=shape,
        dtype=dtype,
        setup=_frames.delayed_plan(_same, setup),
    )
    series = DiffractionSeries(
        data, axes=[*source.navigation, *_pattern.pattern_axes(shape, pixel)]
    )
    series = series.as_lazy() if lazy else series
    title = truth.metadata.get_item("General.title", default="")
    series.metadata.General.title = "simulated diffraction series" + (f" of {title}" * bool(title))
    quantity = "electrons (Counts)" if seed is not None else "expected electrons (Counts)"
    series.metadata.set_item("Signal.quantity", quantity)
    series._record(
        "Simulation",
        origin="hyperspy_lfp.simulation.diffraction_series",
        x=np.nanmean(source.x, axis=(1, 2)),
        centre_x=centres[:, 0],
        centre_y=centres[:, 1],
        centre_units="1/nm",
        rotation=angles,
        rotation_units="degree",
        ellipse_ratio=ratio,
        ellipse_angle=long_axis,
        ellipse_angle_units="degree",
        zone=zone,
        d_min=d_min,
        d_min_units="nm",
        shape=shape,
        pixel=pixel,
        pixel_units="1/nm",
        counts=counts,
        counts_scale=setup.scale,
        direct_beam=direct_beam,
        spot_shape=spot_shape,
        spot_width=spot_width,
        spot_width_units="1/nm",
        eta=eta if spot_shape == "pseudo-voigt" else None,
        background=background,
        beam_stop=edges,
        beam_stop_units="1/nm",
        hot_pixels_x=hot[:, 1],
        hot_pixels_y=hot[:, 0],
        hot_counts=hot_counts,
        dead_pixels_x=dead[:, 1],
        dead_pixels_y=dead[:, 0],
        lattice=lattice,
        condition=condition,
        material=material.to_dictionary(),
        a_direction=source.a_direction,
        seed=seed,
    )
    series.metadata.set_item("HyperspyLFP.Simulation.source", store_source(source, title))
    return series


def _same(setup):
    """What dask need not look into for tasks."""
    return setup


def _most(setup, limits):
    """Expected counts that no pixel exceeds, hot ones aside."""
    x = np.linspace(*limits, _SAMPLES)
    spot = setup.scale * _pattern.strengths(setup.hkl, setup.material, x).max()
    diffuse = 0.0 if setup.background is None else setup.background[0]
    return (setup.direct_beam + spot) * peak_part(setup.profile) + diffuse


def _dtype(dtype, seed, most):
    most = most + _ROOM * np.sqrt(most)
    if dtype is None:
        if seed is None:
            return np.dtype(np.float32)
        return np.dtype(np.uint16 if most < 2**16 else np.uint32)
    dtype = np.dtype(dtype)
    if dtype.kind not in "uif" or (seed is None and dtype.kind != "f"):
        what = "expected counts" if seed is None else "counts"
        also = "" if seed is None else " or integers"
        raise ValueError(f"dtype={dtype} cannot hold {what}: take a type of floats{also}.")
    if dtype.kind in "ui" and most > np.iinfo(dtype).max:
        raise ValueError(
            f"dtype={dtype} holds up to {np.iinfo(dtype).max}, but up to {most:.0f} counts a pixel "
            "are expected; take uint32, or a weaker direct_beam."
        )
    return dtype
