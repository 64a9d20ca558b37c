"""Errors name the argument, what was given, and what would do."""

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_lfp import materials
from hyperspy_lfp.signals import GeometricPhase, HRTEMMovie

REGION = hs.roi.RectangularROI(4.0, -0.5, 6.0, 1.5)


def raises(error, *parts):
    """The error, with all the parts in its message."""
    return pytest.raises(error, match="(?s)" + "".join(f"(?=.*{part})" for part in parts))


@pytest.fixture
def phase(movie, vectors):
    return movie.gpa(*vectors, resolution=0.6)


@pytest.fixture
def x(phase):
    return phase.to_concentration()


@pytest.fixture
def strain(phase):
    return phase.strain()


# --- frames ---

#: Every method of a movie that looks at frames.
METHODS = {
    "find_g_vectors": lambda s, g: s.find_g_vectors(),
    "refine_g_vectors": lambda s, g: s.refine_g_vectors(g),
    "index_g_vectors": lambda s, g: s.index_g_vectors(g),
    "gpa": lambda s, g: s.gpa(*g, resolution=0.6),
    "to_concentration": lambda s, g: s.to_concentration(*g, resolution=0.6),
    "estimate_drift": lambda s, g: s.estimate_drift(),
    "correct_drift": lambda s, g: s.correct_drift(np.zeros((5, 2))),
}


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


@pytest.mark.parametrize("axis, name", [(0, "x"), (1, "y")])
def test_signal_axes_that_are_not_uniform(movie, vectors, method, axis, name):
    movie.axes_manager.signal_axes[axis].convert_to_non_uniform_axis()
    with raises(NotImplementedError, "non-uniform", f"'{name}'", "interpolate"):
        method(movie, vectors)


def test_the_advice_for_axes_that_are_not_uniform_works(movie, vectors):
    expected = movie.to_concentration(*vectors, resolution=0.6)
    movie.change_dtype("float64")
    for axis in (0, 1):
        movie.axes_manager.signal_axes[axis].convert_to_non_uniform_axis()
    for axis in ("x", "y"):
        movie.interpolate_on_axis("uniform", axis=axis, inplace=True)
    x = movie.to_concentration(*vectors, resolution=0.6)
    np.testing.assert_allclose(x.data, expected.data, atol=1e-2)


@pytest.mark.parametrize("units", ["", " ", "px", "pixel", "pixels", "<undefined>"])
@pytest.mark.parametrize("axis, name", [(0, "x"), (1, "y")])
def test_no_unit_of_length(movie, vectors, method, units, axis, name):
    movie.axes_manager.signal_axes[axis].units = units
    with raises(ValueError, f"'{name}'", "no unit of length", "signal_axes.set", "units='nm'"):
        method(movie, vectors)


@pytest.mark.parametrize("units", ["s", "1/nm", "mrad", "eV", "nm^2"])
def test_not_a_length(movie, vectors, method, units):
    movie.axes_manager.signal_axes[1].units = units
    with raises(ValueError, "'y'", "are not a length", "signal_axes.set"):
        method(movie, vectors)


def test_ampere(movie, vectors, method):
    for axis in movie.axes_manager.signal_axes:
        axis.units = "A"
    with raises(ValueError, "'A'", "ampere", "'Å' or 'angstrom'"):
        method(movie, vectors)


@pytest.mark.parametrize("units", ["furlong per", "nanomètre", "???"])
def test_units_that_nobody_understands(movie, vectors, method, units):
    movie.axes_manager.signal_axes[0].units = units
    with raises(ValueError, "'x'", "not understood", "signal_axes.set"):
        method(movie, vectors)


def test_the_advice_for_units_works(images, vectors):
    """What the error says to type, typed."""
    movie = hs.signals.Signal2D(images)
    movie.set_signal_type("HRTEMMovie")
    with raises(ValueError, "no unit of length"):
        movie.find_g_vectors()
    movie.axes_manager.signal_axes.set(scale=0.025, units="nm")
    assert movie.find_g_vectors(n=2).shape == (2, 2)


@pytest.mark.parametrize("scale", [0.0, -0.05, np.nan])
def test_scale_that_is_no_pixel_size(movie, vectors, method, scale):
    movie.axes_manager.signal_axes[0].scale = scale
    with raises(ValueError, "scales of the signal axes", "positive", "signal_axes.set"):
        method(movie, vectors)


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "bool", "object"])
def test_data_that_are_no_real_numbers(movie, vectors, method, dtype):
    axes = [a.get_axis_dictionary() | {"size": a.size} for a in movie.axes_manager._axes]
    signal = HRTEMMovie((movie.data > 1000).astype(dtype), axes=axes)
    with raises(TypeError, dtype, "real numbers"):
        method(signal, vectors)


@pytest.mark.parametrize("colours", ["rgb8", "rgba8", "rgb16"])
def test_colours(images, vectors, method, colours):
    depth = 4 if "a" in colours else 3
    dtype = np.uint8 if colours.endswith("8") else np.uint16
    signal = hs.signals.Signal1D(np.repeat(images[..., None] // 16, depth, axis=-1).astype(dtype))
    signal.change_dtype(colours)
    signal.set_signal_type("HRTEMMovie")
    assert isinstance(signal, HRTEMMovie)
    with raises(TypeError, "R/G/B", "grey", "change_dtype", "set_signal_type"):
        method(signal, vectors)


def test_the_advice_for_colours_works(movie, images, vectors):
    s = hs.signals.Signal1D(np.repeat(images[..., None] // 16, 3, axis=-1).astype(np.uint8))
    s.change_dtype("rgb8")
    s.change_dtype("uint8")
    s = s.sum(-1).transpose(signal_axes=2)
    s.set_signal_type("HRTEMMovie")
    for axis, other in zip(s.axes_manager.signal_axes, movie.axes_manager.signal_axes, strict=True):
        axis.scale, axis.offset, axis.units = other.scale, other.offset, "nm"
    x = s.to_concentration(*vectors, resolution=0.6)
    expected = movie.to_concentration(*vectors, resolution=0.6)
    np.testing.assert_allclose(x.data, expected.data, atol=0.05)


@pytest.mark.parametrize("shape", [(0, 72, 88), (5, 0, 88), (2, 0, 72, 88)])
def test_empty_movie(helpers, vectors, method, shape):
    signal = helpers.as_movie(np.zeros(shape, dtype=np.float32))
    with raises(ValueError, "empty", ", ".join(str(n) for n in shape)):
        method(signal, vectors)


@pytest.mark.parametrize("value", [0, 7, np.nan])
def test_frames_without_spots(helpers, images, value):
    signal = helpers.as_movie(np.full(images.shape, value, dtype=np.float32))
    with raises(ValueError, "no lattice spot", "`frames`", "by hand"):
        signal.find_g_vectors()


def test_noise_has_no_spots(helpers):
    noise = np.random.default_rng(4).poisson(100, (3, 128, 128)).astype(np.uint16)
    with raises(ValueError, "no lattice spot"):
        helpers.as_movie(noise).find_g_vectors()


def test_no_frame_to_refine_in(helpers, images, vectors):
    signal = helpers.as_movie(np.full(images.shape, np.nan, dtype=np.float32))
    with raises(ValueError, "no frame with finite pixels"):
        signal.refine_g_vectors(vectors)


@pytest.mark.parametrize("n", [0, -2, 1.5, "3", None, True])
def test_number_of_spots(movie, n):
    with raises(ValueError, "n=", "positive number"):
        movie.find_g_vectors(n=n)


@pytest.mark.parametrize("frames", [9, -6, "some", 1.5, [0, 9], True, slice(3, 3), []])
def test_choice_of_frames(movie, vectors, frames):
    for call in (
        movie.find_g_vectors,
        lambda frames: movie.refine_g_vectors(vectors, frames=frames),
    ):
        with raises(ValueError, "frames=", "5 frames"):
            call(frames=frames)


# --- g vectors ---


@pytest.mark.parametrize("g", [(10.0, 0.0), (0.0, 8.4), (-10.5, 1.0), (0.0, -1e9)])
def test_beyond_nyquist(movie, vectors, g):
    for call in (movie.gpa, movie.to_concentration):
        with raises(ValueError, "g=", r"Nyquist frequency \(10, 8.333\)", "1/nm"):
            call(vectors[0], g)
    with raises(ValueError, r"g=\(-?\d", "Nyquist frequency"):
        movie.refine_g_vectors([g])
    with raises(ValueError, "g=", "Nyquist frequency"):
        movie.estimate_drift("phase", g=[vectors[0], g])


@pytest.mark.parametrize("g", [(0.0, 2.0), (0.0, 4.0), (0.05, -2.0)])
def test_collinear(movie, g):
    with raises(ValueError, "collinear", "5 degrees"):
        movie.gpa((0.0, 2.0), g)
    with raises(ValueError, "collinear"):
        movie.gpa((0.0, 2.0), g, (0.0, -2.0))


def test_one_independent_pair_is_enough(movie, vectors):
    assert len(movie.gpa(vectors[0], vectors[0] * 1.01, vectors[1], resolution=0.6).g_vectors) == 3


def test_zero_vector(movie, vectors):
    for call in (movie.gpa, movie.to_concentration, lambda *g: movie.refine_g_vectors(g)):
        with raises(ValueError, r"\(0, 0\)", "no lattice spacing"):
            call(vectors[0], (0.0, 0.0))


@pytest.mark.parametrize(
    "g", [(0.0, 2.0, 1.0), 2.0, (2.0,), [], (np.nan, 1.0), (np.inf, 0.0), np.ones((2, 2))]
)
def test_shape_of_vectors(movie, vectors, g):
    with raises(ValueError, "g has the vector", r"\(x, y\) pairs in 1/nm"):
        movie.gpa(vectors[0], g)
    with raises(ValueError, "g has the vector", r"\(x, y\) pairs in 1/nm"):
        movie.index_g_vectors([vectors[0], g])


@pytest.mark.parametrize("g", [("1.4 nm", "1.8 nm"), ("fast", "slow"), ("1.4 s", "2 1/nm")])
def test_units_of_vectors(movie, vectors, g):
    with raises(ValueError, "g=", "reciprocal vectors", "1/nm"):
        movie.gpa(vectors[0], g)


@pytest.mark.parametrize("g", [({}, 1.0), (object(), 2.0), (1j, 2.0)])
def test_vectors_that_are_no_numbers(movie, vectors, g):
    with raises(TypeError, "g=", "reciprocal vectors"):
        movie.gpa(vectors[0], g)


# --- resolution and step ---


def test_resolution_finer_than_the_fringes(movie, vectors):
    with raises(ValueError, "resolution=0.2 nm", "too fine", "spacing.*0.4299 nm", "use 0.86 nm"):
        movie.gpa(*vectors, resolution=0.2)
    with pytest.warns(UserWarning, match="resolution=0.4 nm is finer than the spacing"):
        movie.gpa(*vectors, resolution=0.4)


def test_resolution_coarser_than_the_frame(movie, vectors):
    with raises(ValueError, "resolution=2.2 nm", "larger than half the frame", "4.32 nm"):
        movie.gpa(*vectors, resolution=2.2)
    movie.gpa(*vectors, resolution=2.1)
    with raises(ValueError, "twice the larger spacing, by default", "half the frame"):
        movie.isig[:, :20].gpa(*vectors)


@pytest.mark.parametrize("name", ["resolution", "step"])
@pytest.mark.parametrize("value", [0, -0.6, np.nan, np.inf, "-1 nm", [0.6, 0.6]])
def test_lengths_that_are_no_positive_number(movie, vectors, name, value):
    with raises(ValueError, f"{name}=", "one positive length", "'1.5 nm'"):
        movie.gpa(*vectors, **{"resolution": 0.6, name: value})


@pytest.mark.parametrize("name", ["resolution", "step"])
@pytest.mark.parametrize("value", ["0.6 1/nm", "1 s", "0.6 nmm", "fine"])
def test_units_of_lengths(movie, vectors, name, value):
    with raises(ValueError, f"{name}=", "is not a length", "'1.5 nm'"):
        movie.gpa(*vectors, **{"resolution": 0.6, name: value})


@pytest.mark.parametrize("value", [{}, object(), 1j])
def test_lengths_that_are_no_numbers(movie, vectors, value):
    with raises(TypeError, "resolution=", "is not a length"):
        movie.gpa(*vectors, resolution=value)


def test_coarse_step(movie, vectors):
    with raises(ValueError, "step=2.5 nm", "fewer than three samples", "4.4 nm", "finer"):
        movie.gpa(*vectors, resolution=0.6, step=2.5)
    assert movie.gpa(*vectors, resolution=0.6, step=2.1).data.shape[-2:] == (3, 3)


def test_fine_step(movie, vectors):
    with raises(ValueError, "step=1e-06 nm", "finer than", "'pixel'"):
        movie.gpa(*vectors, resolution=0.6, step=1e-6)


# --- references ---


@pytest.mark.parametrize(
    "roi",
    [
        hs.roi.RectangularROI(30, 30, 31, 31),
        hs.roi.RectangularROI(4.0, 0.0, 4.01, 0.01),
        hs.roi.CircleROI(5.0, -8.0, 1.0),
        hs.roi.PolygonROI([(0, 0), (1, 0), (0, 1)]),
    ],
    ids=["beyond", "between pixels", "circle", "polygon"],
)
def test_region_without_pixels(phase, x, roi):
    extent = ("no pixel", "x from 2.975 to 7.375", "y from -1.07 to 3.33 nm", "wider")
    for call in (phase.strain, phase.displacement):
        with raises(ValueError, "reference=", *extent):
            call(roi)
    with raises(ValueError, "reference=", *extent):
        phase.to_concentration(reference=roi)
    with raises(ValueError, r"rois\['film'\]=", *extent):
        x.evolution({"film": roi})
    with raises(ValueError, r"rois\['2'\]=", *extent):
        x.evolution([REGION, roi])


@pytest.mark.parametrize(
    "roi",
    [
        (4, 0, 6, 2),
        "centre",
        hs.roi.Line2DROI(3, 0, 4, 1),
        hs.roi.SpanROI(3, 4),
        5,
        np.ones((3, 3)),
    ],
    ids=["numbers", "name", "line", "span", "number", "array"],
)
def test_not_a_region(phase, x, movie, roi):
    advice = ("is not a region", "RectangularROI", "CircleROI", "PolygonROI")
    with raises(TypeError, "reference=", *advice):
        phase.strain(roi)
    with raises(TypeError, "rois", *advice):
        x.evolution({"a": roi})
    with raises(TypeError, "reference=", *advice):
        movie.refine_g_vectors([(1.4, 1.8)], reference=roi)


@pytest.mark.parametrize("roi", [hs.roi.RectangularROI(), hs.roi.CircleROI()])
def test_region_that_has_no_place_yet(phase, x, roi):
    with raises(ValueError, "reference=", "no position", "interactive"):
        phase.strain(roi)
    with raises(ValueError, "rois", "no position", "interactive"):
        x.evolution(roi)


@pytest.mark.parametrize("rois", [[], {}, ()])
def test_no_region(x, rois):
    with raises(ValueError, "rois=", "empty", "None for the whole map"):
        x.evolution(rois)


def test_region_outside_of_the_frame_to_refine_in(movie, vectors):
    with raises(ValueError, "reference=", "no pixel"):
        movie.refine_g_vectors(vectors, reference=hs.roi.RectangularROI(30, 30, 31, 31))


@pytest.mark.parametrize("frame", [5, -6, 99, slice(3, 3), slice(7, 9)])
def test_reference_frame_that_does_not_exist(phase, frame):
    for call in (phase.strain, phase.displacement, phase.to_concentration):
        with raises(ValueError, "reference_frame=", "5 frames", "0 to 4"):
            call(reference_frame=frame)


@pytest.mark.parametrize("frame", [1.0, "first", [0, 1], True, slice(0.0, 5.0), (0, 2)])
def test_reference_frame_of_a_wrong_type(phase, movie, frame):
    for call in (phase.strain, phase.displacement, phase.to_concentration):
        with raises(TypeError, "reference_frame=", "frame number, a slice", "None .* itself"):
            call(reference_frame=frame)


def test_single_frame_has_one_reference_frame(movie, vectors):
    with raises(ValueError, "reference_frame=1", "1 frames"):
        movie.inav[0].gpa(*vectors, resolution=0.6).strain(reference_frame=1)


# --- what strain and composition are asked for ---


@pytest.mark.parametrize("definition", ["green", "", None, "Lattice", 1])
def test_definition(phase, definition):
    with raises(ValueError, "definition=", "'lattice', 'eulerian', 'finite'"):
        phase.strain(definition=definition)


@pytest.mark.parametrize("angle", ["12 degree", None, np.nan, np.inf, [1, 2]])
def test_angle(phase, strain, angle):
    for call in (phase.strain, strain.rotate):
        with raises(ValueError, "angle=", "must be a number"):
            call(angle=angle)


@pytest.mark.parametrize("threshold", [-0.1, np.nan, "low", None])
def test_threshold(phase, movie, vectors, threshold):
    for call in (phase.strain, phase.displacement, phase.to_concentration):
        with raises(ValueError, "threshold=", "must be a number, 0 or more"):
            call(threshold=threshold)
    with raises(ValueError, "threshold="):
        movie.to_concentration(*vectors, resolution=0.6, threshold=threshold)


@pytest.mark.parametrize("material", ["NMC", "lifepo4", None, 3, {"a": 9.8}])
def test_material(movie, phase, strain, vectors, material):
    advice = ("material=", "LiFePO4", "materials.Material", "angstrom")
    for call in (phase.to_concentration, strain.to_concentration):
        with raises(ValueError, *advice):
            call(material)
    with raises(ValueError, *advice):
        movie.index_g_vectors(vectors, material=material)


@pytest.mark.parametrize("method", ["GLS", "d", "stress", None, ""])
def test_method(phase, strain, method):
    for call in (
        phase.to_concentration,
        lambda method: strain.to_concentration(a_direction=(1, 0), method=method),
    ):
        with raises(ValueError, "method=", "'gls'", "'difference'", "'trace'"):
            call(method=method)


def test_lattice_parameter_that_is_not_in_the_image(phase, strain):
    for call in (
        phase.to_concentration,
        lambda method: strain.to_concentration(a_direction=(1, 0), method=method),
    ):
        with raises(ValueError, "method='b'", "not lie in the image plane", "'gls'"):
            call(method="b")


@pytest.mark.parametrize("value", [np.nan, np.inf, "half", None])
def test_composition_of_the_reference(phase, strain, value):
    for call in (
        phase.to_concentration,
        lambda x_reference: strain.to_concentration(a_direction=(1, 0), x_reference=x_reference),
    ):
        with raises(ValueError, "x_reference=", "must be a number"):
            call(x_reference=value)


def test_lattice_that_does_not_change(phase):
    rigid = materials.Material("rigid", (0, 1), a=(9.8, 9.8), b=(5.8, 6.0), c=(4.78, 4.78))
    with raises(ValueError, "rigid", "does not change with composition"):
        phase.to_concentration(rigid)


@pytest.mark.parametrize("number", [1, 3])
def test_number_of_indices(movie, phase, vectors, number):
    hkl = [(1, 0, 1), (1, 0, -1), (2, 0, 0)][:number]
    for call in (phase.to_concentration, lambda hkl: movie.gpa(*vectors, resolution=0.6, hkl=hkl)):
        with raises(ValueError, f"hkl has {number} reflections for 2 g vectors", "order"):
            call(hkl=hkl)


@pytest.mark.parametrize(
    "hkl", [(1, 0.5, 1), (1, 0), (0, 0, 0), "abc", (1, 0, None), 5, (1, 0, 1, 1), ("1", "0", "x")]
)
def test_indices_that_are_no_three_integers(movie, phase, vectors, hkl):
    for call in (phase.to_concentration, lambda hkl: movie.gpa(*vectors, resolution=0.6, hkl=hkl)):
        with raises(ValueError, "hkl=", "three integers", "not all zero"):
            call(hkl=[(1, 0, 1), hkl])


@pytest.mark.parametrize("hkl", [5, "(1, 0, 1)"])
def test_indices_that_are_no_list(movie, phase, vectors, hkl):
    for call in (phase.to_concentration, lambda hkl: movie.gpa(*vectors, resolution=0.6, hkl=hkl)):
        with raises(ValueError, "hkl=", r"list of \(h, k, l\)", "2 g vectors"):
            call(hkl=hkl)


@pytest.mark.parametrize(
    "hkl",
    [
        [(1, 0, 1), (2, 0, 2)],
        [(1, 0, 1), (-1, 0, -1)],
        [(1, 0, 1), (1, 0, 1)],
    ],
)
def test_indices_that_are_collinear(phase, hkl):
    with raises(ValueError, "hkl=", "one plane", "not collinear"):
        phase.to_concentration(hkl=hkl)


def test_indices_that_are_not_in_one_zone(movie, vectors):
    phase = movie.gpa(*vectors, vectors.sum(axis=0), resolution=0.6)
    with raises(ValueError, "hkl=", "one zone"):
        phase.to_concentration(hkl=[(1, 0, 1), (1, 0, -1), (0, 1, 0)])


@pytest.mark.parametrize(
    "hkl", [[(2, 0, 0), (1, 0, 1)], [(2, 0, 0), (0, 0, 2)], [(1, 0, 1), (0, 1, 0)]]
)
def test_indices_that_do_not_fit_the_vectors(phase, hkl):
    """Two vectors can be given any indices; their lengths and angle tell."""
    with raises(ValueError, "hkl=", "do not fit", "LiFePO4", "order"):
        phase.to_concentration(hkl=hkl)


def test_order_of_three_indices(movie, vectors):
    phase = movie.gpa(*vectors, vectors.sum(axis=0), resolution=0.6)
    phase.to_concentration(hkl=[(1, 0, 1), (1, 0, -1), (2, 0, 0)])
    with raises(ValueError, "hkl=", "do not fit", "order and signs"):
        phase.to_concentration(hkl=[(1, 0, 1), (2, 0, 0), (1, 0, -1)])


@pytest.mark.parametrize("zone", [(0, 0, 0), (0, 1), (0, 1.5, 0), None, "abc", 5])
def test_zone(movie, phase, vectors, zone):
    if zone is not None:
        with raises(ValueError, "zone=", "three integers"):
            phase.to_concentration(zone=zone)
    with raises(ValueError, "zone=", "three integers"):
        movie.index_g_vectors(vectors, zone=zone)


def test_vectors_that_are_no_reflections(movie, phase, vectors):
    advice = ("spacings 0.4299, 0.4299 nm", "LiFePO4", "hkl=", "zone", "pixel size", "5 %")
    with raises(ValueError, *advice):
        phase.to_concentration(zone=(1, 0, 0))
    cubic = materials.Material("cubic", (0, 1), a=(5.43, 5.5), b=(5.43, 5.5), c=(5.43, 5.5))
    with raises(ValueError, "cubic", "not reflections"):
        phase.to_concentration(cubic)
    assert movie.index_g_vectors(vectors, material=cubic) == [None, None]


def test_pixel_size_that_is_far_off(images, movie, vectors):
    for axis in movie.axes_manager.signal_axes:
        axis.scale *= 1.2
    with raises(ValueError, "not reflections of LiFePO4", "pixel size"):
        movie.to_concentration(*(vectors / 1.2))


@pytest.mark.parametrize("direction", [None, (1, 0, 0), (0, 0), (np.nan, 1), 3, "a"])
def test_direction_of_the_a_axis(strain, direction):
    with raises(ValueError, "a_direction", "for example a_direction="):
        strain.to_concentration(a_direction=direction)


def test_zone_that_is_not_along_an_axis(strain):
    with raises(ValueError, r"zone=\(1, 1, 0\)", "GeometricPhase.to_concentration"):
        strain.to_concentration(a_direction=(1, 0), zone=(1, 1, 0))


# --- time ---


def test_several_navigation_axes_none_of_which_is_time(images, vectors, helpers):
    stack = helpers.as_movie(np.stack([images, images]))
    for axis, name in zip(stack.axes_manager.navigation_axes, ("row", "column"), strict=True):
        axis.name = name
    phase = stack.gpa(*vectors, resolution=0.6)
    x = phase.to_concentration()
    advice = ("'row', 'column'", "name the time axis", "navigation_axes.*name = 'time'")
    for call in (
        lambda: phase.strain(reference_frame=0),
        lambda: phase.displacement(reference_frame=0),
        x.evolution,
        x.c_rate,
        stack.estimate_drift,
    ):
        with raises(ValueError, *advice):
            call()
    stack.axes_manager.navigation_axes[0].name = "time"
    assert stack.estimate_drift().data.shape == (2, 5, 2)
    stack.axes_manager.navigation_axes[1].name = "Time"
    with raises(ValueError, "more than one", "name the time axis"):
        stack.estimate_drift()


def test_c_rate_of_what_has_no_time(x):
    for single in (x.inav[0], x.inav[:1]):
        with raises(ValueError, "c_rate needs two frames", "has 1"):
            single.c_rate()
    for units in ("", "nm", "frames"):
        x.axes_manager.navigation_axes[0].units = units
        with raises(ValueError, "time axis has the units", "not a time", "units = 's'"):
            x.c_rate()


# --- drift ---


@pytest.mark.parametrize("shape", [(4, 2), (5, 3), (2,), (5,), (1, 5, 2), ()])
def test_shape_of_drift(movie, shape):
    with raises(ValueError, "drift has the shape", r"\(5, 2\)", r"one \(x, y\) pair"):
        movie.correct_drift(np.zeros(shape))


def test_drift_of_another_movie(movie, images, helpers):
    with raises(ValueError, "drift has the shape", r"\(5, 2\)"):
        movie.correct_drift(helpers.as_movie(images[:3]).estimate_drift())


@pytest.mark.parametrize("order", [-1, 6, 2.5, "cubic", None])
def test_order_of_the_spline(movie, order):
    with raises(ValueError, "order=", "0 to 5"):
        movie.correct_drift(np.zeros((5, 2)), order=order)


@pytest.mark.parametrize("method", ["fft", None, "Phase"])
def test_method_of_drift(movie, method):
    with raises(ValueError, "method=", "'correlation' or 'phase'"):
        movie.estimate_drift(method)


@pytest.mark.parametrize("g", [None, [(1.43, 1.83)], []])
def test_drift_by_phase_needs_two_vectors(movie, g):
    with raises(ValueError, "method='phase'", "g=", "find_g_vectors"):
        movie.estimate_drift("phase", g=g)


@pytest.mark.parametrize("frame", [5, -6, 1.0, None, "first", slice(0, 2)])
def test_reference_frame_of_drift(movie, vectors, frame):
    for method in ("correlation", "phase"):
        with raises(ValueError, "reference_frame=", "5 frames", "0 to 4"):
            movie.estimate_drift(method, g=vectors, reference_frame=frame)


@pytest.mark.parametrize("smoothing", [0, -1, "1 s", "much"])
def test_smoothing(movie, smoothing):
    with raises(ValueError, "smoothing=", "length"):
        movie.estimate_drift(smoothing=smoothing)


# --- masks ---

#: What calls itself a mask, and is none: the error, and what its message must hold.
MASKS = {
    "another string": ("edges", TypeError, "mask='edges'", "'auto'", "None", "ROI"),
    "nothing said": ("", TypeError, "mask=''", "'auto'"),
    "yes": (True, (TypeError, ValueError), "mask", r"\(72, 88\)|'auto'"),
    "floats": (np.ones((72, 88)), TypeError, "mask=", "booleans", "image.data > threshold"),
    "signal of floats": (
        hs.signals.Signal2D(np.ones((72, 88), dtype="f4")),
        TypeError,
        "mask=",
        "booleans",
        "image.data > threshold",
    ),
    "transposed": (
        np.ones((88, 72), bool),
        ValueError,
        r"mask has the shape \(88, 72\)",
        r"a frame, \(72, 88\)",
        r"movie, \(5, 72, 88\)",
    ),
    "of fewer frames": (np.ones((3, 72, 88), bool), ValueError, r"mask has the shape \(3, 72, 88"),
    "of a map": (hs.signals.Signal2D(np.ones((20, 20), bool)), ValueError, r"mask .*\(20, 20\)"),
    "lazy, of a map": (da.ones((20, 20), dtype=bool), ValueError, r"mask .*\(20, 20\)"),
    "of nothing": (np.zeros((72, 88), bool), ValueError, "mask holds no pixel", "True"),
    "of no frame": (np.zeros((5, 72, 88), np.uint8), ValueError, "mask holds no pixel"),
    "ROI outside": (
        hs.roi.CircleROI(50.0, 50.0, 1.0),
        ValueError,
        "mask=CircleROI",
        "no pixel",
        "x from 2.975 to 7.375",
        "y from -1.03 to 3.29 nm",
    ),
    "ROI between pixels": (
        hs.roi.RectangularROI(4.01, 0.01, 4.02, 0.02),
        ValueError,
        "mask=RectangularROI",
        "wider than its pixels",
    ),
    "ROI without position": (hs.roi.CircleROI(), ValueError, "mask=CircleROI", "position"),
    "ROI of a line": (
        hs.roi.Line2DROI(4.0, 0.0, 5.0, 1.0),
        TypeError,
        "mask=Line2DROI",
        "RectangularROI, CircleROI or PolygonROI",
    ),
    "slice": (slice(0, 10), TypeError, "mask=slice", "'auto'"),
}


@pytest.mark.parametrize("call", ["gpa", "to_concentration"])
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("mask", MASKS)
def test_masks_that_are_none(images, vectors, helpers, mask, lazy, call):
    given, error, *parts = MASKS[mask]
    movie = helpers.as_movie(images, lazy=lazy)
    with raises(error, *parts):
        getattr(movie, call)(*vectors, resolution=0.6, mask=given)


def test_masks_come_before_a_lazy_movie_is_read(broken_movie, vectors):
    with raises(ValueError, "mask has the shape"):
        broken_movie.gpa(*vectors, resolution=0.6, mask=np.ones((2, 2), bool))


def test_the_advice_for_masks_works(movie, vectors):
    """What the error says to type, typed."""
    image = movie.inav[0]
    with raises(TypeError, "image.data > threshold"):
        movie.gpa(*vectors, resolution=0.6, mask=image.data / 2)
    phase = movie.gpa(*vectors, resolution=0.6, mask=image.data > 0)
    assert np.isfinite(phase.data).any()


@pytest.mark.parametrize("frame", [0, 4])
def test_a_mask_without_pixels_in_one_frame(movie, vectors, frame):
    """That frame is left out, and the others are not."""
    mask = np.ones((5, 72, 88), dtype=bool)
    mask[frame] = False
    data = movie.gpa(*vectors, resolution=0.6, mask=mask).data
    assert np.isnan(data[frame, :, :3]).all()
    assert np.isfinite(np.delete(data, frame, axis=0)[:, :, :3]).any(axis=(1, 2, 3, 4)).all()


# --- signals that are not what they were ---


def test_sliced_along_coefficients_or_reflections(phase):
    for part in (phase.inav[0], phase.inav[:, 0], phase.inav[:2], phase.inav[:, :1]):
        for call in (
            part.strain,
            part.displacement,
            part.to_concentration,
            lambda part=part: part.amplitude,
            lambda part=part: part.phase,
        ):
            with raises(ValueError, "GeometricPhase", "(lost its axis|instead of 2 and 4)", "slic"):
                call()


def test_sliced_along_components(strain, phase):
    advice = ("LatticeStrain", "lost its axis 'component'", "before slicing")
    for call in (
        lambda: strain.inav[0].rotate(10),
        lambda: strain.inav[0].exx,
        lambda: strain.inav[1].to_concentration(a_direction=(1, 0)),
    ):
        with raises(ValueError, *advice):
            call()
    with raises(ValueError, "LatticeStrain holds 2 of the components", "'rotation'"):
        _ = strain.inav[:2].exx
    for call in (
        lambda: strain.inav[:2].rotate(10),
        lambda: strain.inav[:2].to_concentration(a_direction=(1, 0)),
    ):
        with raises(ValueError, "LatticeStrain holds 2 of the components", "'rotation'"):
            call()
    with raises(ValueError, "DisplacementField", "'component'"):
        _ = phase.displacement().inav[0].ux


def test_axes_that_were_renamed(phase):
    phase.axes_manager["g"].name = "reflection"
    with raises(ValueError, "GeometricPhase", "lost its axis 'g'", "renaming"):
        phase.strain()


def test_metadata_that_were_lost(phase, strain, x):
    bare = GeometricPhase(
        phase.data, axes=[a.get_axis_dictionary() for a in phase.axes_manager._axes]
    )
    for call in (lambda: bare.g_vectors, lambda: bare.hkl, bare.strain, bare.to_concentration):
        with raises(ValueError, "metadata of this GeometricPhase lack HyperspyLFP.GeometricPhase"):
            call()
    del strain.metadata.HyperspyLFP
    with raises(ValueError, "LatticeStrain lack HyperspyLFP.LatticeStrain", "not made by"):
        strain.to_concentration(a_direction=(1, 0))
    del x.metadata.HyperspyLFP
    for call in (x.evolution, lambda: x.material, lambda: x.resolution):
        with raises(ValueError, "ConcentrationMap lack HyperspyLFP.ConcentrationMap"):
            call()


def test_evolution_without_noise(x):
    evolution = x.evolution()
    del evolution.metadata.Signal.Noise_properties
    with raises(ValueError, "ConcentrationEvolution has no variance"):
        _ = evolution.standard_error


# --- materials ---


@pytest.mark.parametrize(
    "change, parts",
    [
        ({"composition": (0,), "a": (1,), "b": (1,), "c": (1,)}, ("composition=", "two or more")),
        ({"composition": (1, 0)}, ("composition=", "increasing")),
        ({"composition": (0, 0)}, ("composition=", "increasing")),
        ({"a": (9.8, 10.0, 10.3)}, ("a has 3 values for 2 compositions",)),
        ({"b": (5.8, -6.0)}, ("b=", "positive lengths in angstrom")),
        ({"c": (4.7, np.nan)}, ("c=", "positive lengths")),
        ({"a": 9.8}, ("a=9.8", "sequence of numbers")),
        ({"a": ("wide", "wider")}, ("a=", "sequence of numbers")),
        ({"zone": (0, 0, 0)}, ("zone=", "three integers")),
        ({"space_group": "P1"}, ("space_group='P1'", "Pnma", "None")),
    ],
)
def test_materials(change, parts):
    good = {"composition": (0, 1), "a": (9.8, 10.3), "b": (5.8, 6.0), "c": (4.78, 4.69)}
    materials.Material("good", **good)
    with raises(ValueError, *parts):
        materials.Material("bad", **(good | change))


# --- nothing happens to the input ---


def test_errors_leave_the_movie_as_it_was(movie, vectors, images):
    before = movie.metadata.as_dictionary()
    for call in (
        lambda: movie.gpa(vectors[0], (30.0, 0.0)),
        lambda: movie.to_concentration(*vectors, material="NMC"),
        lambda: movie.correct_drift(np.zeros(3)),
    ):
        with pytest.raises(ValueError):
            call()
    assert movie.metadata.as_dictionary() == before
    np.testing.assert_array_equal(movie.data, images)


@pytest.mark.parametrize("call", ["gpa", "concentration", "drift"])
def test_errors_come_before_a_lazy_movie_is_read(broken_movie, vectors, call):
    with pytest.raises(ValueError, match=r"Nyquist|material=|drift has"):
        {
            "gpa": lambda: broken_movie.gpa(vectors[0], (30.0, 0.0)),
            "concentration": lambda: broken_movie.to_concentration(*vectors, material="NMC"),
            "drift": lambda: broken_movie.correct_drift(np.zeros((4, 2))),
        }[call]()
