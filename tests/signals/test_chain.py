"""The steps of the analysis together: what each passes on to the next."""

import hyperspy.api as hs
import numpy as np
import pint
import pytest

import hyperspy_lfp
from hyperspy_lfp import materials

REGION = hs.roi.RectangularROI(4.0, -0.5, 6.0, 1.5)
CLASSES = [
    "HRTEMMovie",
    "GeometricPhase",
    "DisplacementField",
    "LatticeStrain",
    "ConcentrationMap",
    "ConcentrationEvolution",
]


@pytest.fixture(scope="module")
def phase(images, vectors, helpers):
    return helpers.as_movie(images).gpa(*vectors, resolution=0.6)


@pytest.fixture(scope="module")
def x(phase):
    return phase.to_concentration()


@pytest.fixture(scope="module")
def steps(images, vectors, helpers):
    return helpers.steps(helpers.as_movie(images), vectors, show_progressbar=False)


def variance_of(signal):
    return signal.metadata.get_item("Signal.Noise_properties.variance", default=None)


def interior(signal, margin=0.7):
    """Data further than a margin (nm) from the border of the frame."""
    x, y = (a.axis for a in signal.axes_manager.signal_axes)
    inside = (abs(y - y.mean()) < 2.13 - margin)[:, None] & (abs(x - x.mean()) < 2.18 - margin)
    return signal.data[..., inside]


def assert_measures(x, composition, factor=4):
    """The mean of the middle of the frame is right within some of its standard errors."""
    evolution = x.evolution(hs.roi.RectangularROI(4.0, 0.0, 6.4, 2.2))
    error = evolution.standard_error.data[0]
    assert 0 < error.max() < 0.15
    assert np.all(abs(evolution.data[0] - composition) < factor * error)


# --- one call, one frame, one movie, a stack ---


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reference": REGION, "x_reference": 0.3, "method": "difference"},
        {"reference_frame": slice(0, 2), "method": "a", "hkl": [(1, 0, 1), (1, 0, -1)]},
        {"threshold": 0.4, "zone": (0, 1, 0), "material": materials.get("LiFePO4")},
    ],
    ids=["default", "region", "frames", "others"],
)
def test_one_call_equals_the_steps(movie, vectors, options):
    gpa = {"resolution": 0.6, "step": 0.25, "hkl": options.get("hkl")}
    whole = movie.to_concentration(*vectors, resolution=0.6, step=0.25, **options)
    rest = {k: v for k, v in options.items() if k != "hkl"}
    stepwise = movie.gpa(*vectors, **gpa).to_concentration(**rest)
    np.testing.assert_array_equal(whole.data, stepwise.data)
    np.testing.assert_array_equal(variance_of(whole).data, variance_of(stepwise).data)
    found, expected = (s.metadata.HyperspyLFP.as_dictionary() for s in (whole, stepwise))
    assert found == expected
    assert whole.axes_manager.as_dictionary() == stepwise.axes_manager.as_dictionary()


def test_the_chain_measures_composition(movie, vectors, helpers):
    """The lattice of each frame is that of one composition."""
    x = movie.to_concentration(*vectors, resolution=0.6)
    assert x.axes_manager.navigation_axes[0].axis.tolist() == [10.0, 12.5, 15.0, 17.5, 20.0]
    assert_measures(x, helpers.composition)
    relative = movie.to_concentration(*vectors, resolution=0.6, reference_frame=1, x_reference=0.25)
    assert_measures(relative, helpers.composition, factor=4 * np.sqrt(2))


def test_frame_movie_and_stack_agree(images, vectors, helpers):
    """One frame, a movie, a stack of movies: the same numbers, with the axes of each."""
    stack = np.stack([images, images[::-1]])
    answers = {}
    for name, data in (("frame", images[3]), ("movie", images), ("stack", stack)):
        steps = helpers.steps(helpers.as_movie(data), vectors, show_progressbar=False)
        answers[name] = {**steps, "rotated": steps["LatticeStrain"].rotate(20.0)}
        answers[name]["exy"] = steps["LatticeStrain"].exy
        answers[name]["x of strain"] = steps["LatticeStrain"].to_concentration(a_direction=(1, 0))
    for name, one in answers["frame"].items():
        movie, stacked = answers["movie"][name], answers["stack"][name]
        assert type(one) is type(movie) is type(stacked)
        if name == "SpotTrack":
            continue  # fits of a series start from each other; see test_diffraction
        if name == "ConcentrationEvolution":
            assert [s.axes_manager.shape for s in (one, movie, stacked)] == [
                (2, 1), (2, 5), (2, 2, 5),
            ]  # fmt: skip
            np.testing.assert_array_equal(stacked.data[0], movie.data)
            np.testing.assert_array_equal(stacked.data[1], movie.data[:, ::-1])
            np.testing.assert_array_equal(one.data[:, 0], movie.data[:, 3])
            np.testing.assert_array_equal(
                variance_of(one).data[:, 0], variance_of(movie).data[:, 3]
            )
            continue
        np.testing.assert_array_equal(stacked.data[0], movie.data)
        signals = [(one, movie, stacked)]
        if variance_of(one) is not None:
            signals.append(tuple(variance_of(s) for s in (one, movie, stacked)))
        for one, movie, stacked in signals:
            assert movie.data.shape == (5, *one.data.shape)
            assert stacked.data.shape == (2, 5, *one.data.shape)
            if name == "DisplacementField":  # relative to frame 0, which is another one
                continue
            np.testing.assert_array_equal(one.data, movie.data[3])
            np.testing.assert_array_equal(stacked.data[1], movie.data[::-1])


def test_time_may_be_any_axis_of_a_stack(images, vectors, helpers):
    """Time is found by its name, not by its place."""
    stack = np.stack([images, images[::-1]], axis=1)  # (time, sample, y, x)
    signal = helpers.as_movie(stack)
    first, second = signal.axes_manager.navigation_axes
    first.name, second.name = "sample", "TIME"
    second.units = "s"
    plain = helpers.as_movie(np.moveaxis(stack, 1, 0).copy())
    x, expected = (
        s.to_concentration(*vectors, resolution=0.6, reference_frame=slice(1, 3))
        for s in (signal, plain)
    )
    np.testing.assert_allclose(np.moveaxis(x.data, 1, 0), expected.data, atol=1e-6)
    evolution, other = (s.evolution([REGION, REGION]) for s in (x, expected))
    assert [a.name for a in evolution.axes_manager._axes] == ["sample", "region", "TIME"]
    np.testing.assert_allclose(evolution.data, other.data, atol=1e-6)
    np.testing.assert_allclose(
        signal.correct_drift(signal.estimate_drift(reference_frame=2)).data[:, 1],
        plain.correct_drift(plain.estimate_drift(reference_frame=2)).data[1],
    )


@pytest.mark.parametrize("name", ["", "frame number", "Time", "region", "component"])
def test_a_single_navigation_axis_is_time_whatever_its_name(images, vectors, helpers, name):
    signal = helpers.as_movie(images)
    if name:
        signal.axes_manager.navigation_axes[0].name = name
    else:
        signal = hs.signals.Signal2D(images)
        for axis, scale in zip(signal.axes_manager.signal_axes, (0.05, 0.06), strict=True):
            axis.scale, axis.units = scale, "nm"
        signal.set_signal_type("HRTEMMovie")
    x = signal.to_concentration(*vectors, resolution=0.6, reference_frame=1)
    evolution = x.evolution()
    assert evolution.data.shape == (1, 5)
    axis = evolution.axes_manager.signal_axes[0]
    assert axis.size == 5 and str(axis.name) == str(signal.axes_manager.navigation_axes[0].name)


# --- references ---


def test_without_reference_the_given_vectors_are(phase, vectors, helpers):
    """At x = 0 the lattice is that of the given vectors, at x = 1 that of LiFePO4."""
    change = np.linalg.inv(helpers.reciprocal_vectors(1.0)).T @ vectors.T
    # F maps the reference lattice to the image: G F^-1 = G'
    f = np.linalg.solve(helpers.reciprocal_vectors(1.0), vectors)
    assert np.allclose(np.linalg.norm(f), np.linalg.norm(change), rtol=0.05)
    expected = [f[0, 0] - 1, f[1, 1] - 1, (f[0, 1] + f[1, 0]) / 2, (f[0, 1] - f[1, 0]) / 2]
    strain = phase.strain()
    np.testing.assert_allclose(interior(strain)[0].mean(axis=-1), 0, atol=2e-3)
    np.testing.assert_allclose(interior(strain)[3].mean(axis=-1), expected, atol=2e-3)


def test_region_as_reference(phase):
    """Every frame is its own reference: the mean strain there vanishes."""
    strain = phase.strain(REGION)
    np.testing.assert_allclose(interior(strain).mean(axis=-1), 0, atol=3e-3)
    assert abs(interior(phase.strain())).max() > 0.04


def test_region_and_frame_as_reference(phase, helpers):
    x = phase.to_concentration(reference=REGION, reference_frame=3, x_reference=1.0)
    assert_measures(x, helpers.composition, factor=4 * np.sqrt(2))
    same = phase.to_concentration(reference=REGION, reference_frame=-2, x_reference=1.0)
    np.testing.assert_array_equal(x.data, same.data)
    node = same.metadata.HyperspyLFP.ConcentrationMap
    assert node.reference.frame == [3]


def test_frame_as_reference(phase):
    """A frame alone: every pixel relative to itself."""
    strain = phase.strain(reference_frame=2)
    np.testing.assert_allclose(strain.data[2], 0, atol=1e-6)
    x = phase.to_concentration(reference_frame=2, x_reference=0.5)
    np.testing.assert_allclose(x.data[2], 0.5, atol=2e-5)
    u = phase.displacement(reference_frame=2)
    np.testing.assert_allclose(u.data[2], 0, atol=1e-6)


def test_frames_as_reference(phase):
    """The mean of the frames; a slice of one frame is that frame."""
    one = phase.strain(reference_frame=slice(2, 3))
    np.testing.assert_array_equal(one.data, phase.strain(reference_frame=2).data)
    several = phase.strain(reference_frame=slice(0, 5, 2))
    assert several.metadata.HyperspyLFP.LatticeStrain.reference.frame == [0, 2, 4]
    assert abs(interior(several)[[0, 2, 4], 0].mean(axis=0)).max() < 3e-3
    backwards = phase.strain(REGION, slice(None, None, -1))
    np.testing.assert_allclose(
        backwards.data, phase.strain(REGION, slice(None)).data, rtol=0, atol=1e-6
    )


def test_x_of_the_reference(phase):
    """The reference may be any composition; x beyond the material is not clipped."""
    at_0, at_half = (
        phase.to_concentration(
            reference=REGION, reference_frame=0, x_reference=value, method="a"
        ).data
        for value in (0.0, 0.5)
    )
    # lengths are relative to those of the reference
    a = materials.get("LiFePO4").cell([0.0, 0.5])[:, 0]
    np.testing.assert_allclose(at_half, 0.5 + at_0 * a[1] / a[0], atol=1e-4)
    assert at_half[3].mean() > 1.4
    below = phase.to_concentration(reference=REGION, reference_frame=3, x_reference=0.5)
    assert interior(below)[0].mean() < -0.4


@pytest.mark.parametrize("shape", ["rectangle", "circle", "ring", "polygon"])
def test_regions_hold_the_pixels_whose_centres_they_hold(x, shape):
    xs, ys = (a.axis for a in x.axes_manager.signal_axes)
    xs, ys = np.meshgrid(xs, ys)
    circle = (xs - 5.2) ** 2 + (ys - 1.0) ** 2 < 1.0
    roi, inside = {
        "rectangle": (
            hs.roi.RectangularROI(left=4.05, top=-0.4, right=6.3, bottom=0.9),
            (xs > 4.05) & (xs < 6.3) & (ys > -0.4) & (ys < 0.9),
        ),
        "circle": (hs.roi.CircleROI(cx=5.2, cy=1.0, r=1.0), circle),
        "ring": (
            hs.roi.CircleROI(cx=5.2, cy=1.0, r=1.0, r_inner=0.5),
            circle & ((xs - 5.2) ** 2 + (ys - 1.0) ** 2 >= 0.25),
        ),
        "polygon": (
            hs.roi.PolygonROI([(4.0, 0.0), (6.5, 0.0), (4.0, 2.5)]),
            (xs > 4.0) & (ys > 0.0) & (xs + ys < 6.5),
        ),
    }[shape]
    evolution = x.evolution(roi)
    np.testing.assert_allclose(evolution.data[0], x.data[:, inside].mean(axis=-1), atol=1e-6)
    assert evolution.metadata.HyperspyLFP.ConcentrationEvolution.region_1.type == type(roi).__name__


# --- Miller indices ---


def test_indices_given_early_late_or_never(movie, phase, vectors, helpers):
    hkl = list(helpers.hkl)
    never = phase.to_concentration()
    late = phase.to_concentration(hkl=hkl)
    early = movie.gpa(*vectors, resolution=0.6, hkl=hkl)
    assert phase.hkl is None and early.hkl == hkl
    for other in (late, early.to_concentration(), early.to_concentration(hkl=hkl)):
        np.testing.assert_array_equal(other.data, never.data)
        assert other.metadata.HyperspyLFP.ConcentrationMap.hkl == [list(i) for i in hkl]


def test_later_indices_win(movie, vectors):
    wrong = movie.gpa(*vectors, resolution=0.6, hkl=[(2, 0, 0), (0, 0, 2)])
    right = wrong.to_concentration(hkl=[(1, 0, 1), (1, 0, -1)])
    np.testing.assert_array_equal(right.data, movie.to_concentration(*vectors, resolution=0.6).data)


def test_equivalent_indices(phase):
    """Signs and order of axes that symmetry relates give the same composition."""
    x = phase.to_concentration()
    for hkl in ([(-1, 0, -1), (-1, 0, 1)], [(1, 0, -1), (1, 0, 1)]):
        np.testing.assert_allclose(phase.to_concentration(hkl=hkl).data, x.data, atol=1e-5)


def test_more_than_two_reflections(images, helpers):
    hkl = ((1, 0, 1), (1, 0, -1), (2, 0, 0))
    data = helpers.lattice_images(helpers.composition, hkl=hkl)
    vectors = helpers.reciprocal_vectors(hkl=hkl)
    movie = helpers.as_movie(data)
    three = movie.to_concentration(*vectors, resolution=0.6)
    assert three.metadata.HyperspyLFP.ConcentrationMap.hkl == [list(i) for i in hkl]
    assert_measures(three, helpers.composition)
    two = movie.to_concentration(*vectors[:2], resolution=0.6)
    assert variance_of(three).data.mean() < variance_of(two).data.mean()
    u = movie.gpa(*vectors, resolution=0.6).displacement(reference_frame=0)
    v = movie.gpa(*vectors[:2], resolution=0.6).displacement(reference_frame=0)
    for frame in (1, 4):
        difference = np.nanmedian(u.data[frame] - v.data[frame], axis=(-2, -1))
        np.testing.assert_allclose(difference, 0, atol=0.01)


@pytest.mark.parametrize("method", ["gls", "a", "c", "difference", "trace"])
def test_methods(movie, vectors, helpers, method):
    x = movie.to_concentration(*vectors, resolution=0.6, method=method)
    assert x.metadata.HyperspyLFP.ConcentrationMap.method == method
    assert_measures(x, helpers.composition)
    np.testing.assert_array_equal(x.get_noise_variance().data > 0, True)


def test_difference_is_blind_to_magnification(movie, vectors):
    """A pixel size that is 3 % wrong changes x from a and c alone, not from their difference."""
    wrong = movie.deepcopy()
    for axis in wrong.axes_manager.signal_axes:
        axis.scale *= 1.03
        axis.offset *= 1.03
    x, y = (
        s.to_concentration(*vectors, resolution=0.6, method="difference") for s in (movie, wrong)
    )
    # of lengths relative to the reference, so that 3 % of the strain are left
    np.testing.assert_allclose(interior(x).mean(-1), interior(y).mean(-1), atol=0.05)
    x, y = (s.to_concentration(*vectors, resolution=0.6, method="a") for s in (movie, wrong))
    assert abs(interior(x).mean(-1) - interior(y).mean(-1)).min() > 0.4


@pytest.mark.parametrize("definition", ["lattice", "eulerian", "finite"])
@pytest.mark.parametrize("angle", [0.0, 12.0, -70.0])
def test_strain_and_phase_give_the_same_composition(phase, helpers, angle, definition):
    """From the strain along a, whatever its definition and axes; exact lengths both ways."""
    x = phase.to_concentration()
    strain = phase.strain(angle=angle, definition=definition)
    direction = (np.cos(helpers.tilt), -np.sin(helpers.tilt))
    for scale in (1, -3):
        y = strain.to_concentration(a_direction=scale * np.array(direction))
        assert type(y).__name__ == "ConcentrationMap"
        np.testing.assert_allclose(y.data, x.data, atol=2e-4)
        np.testing.assert_allclose(variance_of(y).data, variance_of(x).data, rtol=0.02)
    assert np.abs(strain.to_concentration(a_direction=(0, 1)).data[3] - x.data[3]).min() > 0.3


def test_rotating_strain_twice(phase):
    strain = phase.strain()
    turned = strain.rotate(30.0)
    np.testing.assert_allclose(turned.data, phase.strain(angle=30.0).data, atol=1e-7)
    assert turned.angle == 30.0 and turned.rotate(-10).angle == 20.0
    back = turned.rotate(-30.0)
    np.testing.assert_allclose(back.data, strain.data, atol=1e-7)
    np.testing.assert_allclose(variance_of(back).data, variance_of(strain).data, rtol=1e-4)
    quarter = strain.rotate(90.0)
    np.testing.assert_allclose(quarter.exx.data, strain.eyy.data, atol=1e-7)
    np.testing.assert_allclose(quarter.exy.data, -strain.exy.data, atol=1e-7)
    np.testing.assert_array_equal(quarter.rotation.data, strain.rotation.data)


# --- evolution ---


def test_regions_one_list_or_dictionary(x):
    circle = hs.roi.CircleROI(5.0, 0.5, 1.0)
    one = x.evolution(REGION)
    several = x.evolution([REGION, circle])
    named = x.evolution({"a": REGION, "b": circle})
    whole = x.evolution()
    assert [s.regions for s in (one, several, named, whole)] == [
        ["1"], ["1", "2"], ["a", "b"], ["whole map"],
    ]  # fmt: skip
    np.testing.assert_array_equal(several.data, named.data)
    np.testing.assert_array_equal(one.data, several.data[:1])
    np.testing.assert_allclose(whole.data[0], np.nanmean(x.data, axis=(-2, -1)), rtol=1e-6)
    assert [a.name for a in named.axes_manager._axes] == ["region", "time"]
    assert named.axes_manager.signal_axes[0].units == "s"


def test_standard_error(x):
    """Far below that of independent windows for a large region, that of a pixel for a small one."""
    large = hs.roi.RectangularROI(3.2, -0.9, 7.2, 3.1)
    evolution = x.evolution([large, hs.roi.CircleROI(5.0, 0.5, 0.15)])
    error = evolution.standard_error
    assert error.data.shape == evolution.data.shape
    assert error.axes_manager.signal_axes[0].name == "time"
    variance = x.standard_error("noise").data ** 2
    windows = 4.0**2 / (4 * np.pi * 0.6**2)
    assert np.all(error.data[0] ** 2 < variance.mean(axis=(1, 2)) / windows)
    np.testing.assert_allclose(error.data[1] ** 2, variance[:, 7, 10], rtol=0.2)
    whole = evolution.absolute_error.data
    assert np.all(whole >= error.data)


@pytest.mark.parametrize("unit, factor", [("s", 1), ("ms", 1e-3), ("min", 60), ("h", 3600)])
def test_c_rate(x, unit, factor):
    """nC fills the particle in 3600/n seconds, whatever the unit of time."""
    x = x.deepcopy()
    mean = x.evolution().data[0]
    rate = x.c_rate()
    time = x.axes_manager.navigation_axes[0]
    np.testing.assert_allclose(rate.data, 3600 * np.gradient(mean, time.axis), rtol=1e-6)
    time.units, time.scale, time.offset = unit, time.scale / factor, time.offset / factor
    np.testing.assert_allclose(x.c_rate().data, rate.data, rtol=1e-6)
    assert rate.metadata.Signal.quantity == "C-rate (1/h)"
    assert rate.axes_manager.signal_axes[0].name == "time"


def test_c_rate_of_a_stack(images, vectors, helpers):
    stack = helpers.as_movie(np.stack([images, images[::-1]]))
    x = stack.to_concentration(*vectors, resolution=0.6)
    rate = x.c_rate()
    assert rate.data.shape == (2, 5)
    assert [a.name for a in rate.axes_manager._axes] == ["sample", "time"]
    np.testing.assert_allclose(rate.data[1], -rate.data[0, ::-1], rtol=1e-6)
    np.testing.assert_allclose(rate.data[0], x.inav[:, 0].c_rate().data, rtol=1e-6)


def test_time_that_is_not_uniform(images, steps, vectors, helpers):
    uniform = steps
    times = np.array([0.0, 1.0, 4.0, 9.0, 16.0])
    signal = helpers.as_movie(images)
    axis = signal.axes_manager.navigation_axes[0]
    axis.convert_to_non_uniform_axis()
    axis.axis = times
    steps = helpers.steps(signal, vectors)
    for name, expected in uniform.items():
        np.testing.assert_array_equal(steps[name].data, expected.data)
        assert steps[name].axes_manager["time"].axis.tolist() == times.tolist()
        noise = variance_of(steps[name])
        if noise is not None:
            assert noise.axes_manager["time"].axis.tolist() == times.tolist()
    x = steps["ConcentrationMap"]
    rate = 3600 * np.gradient(x.evolution().data[0], times)
    np.testing.assert_allclose(x.c_rate().data, rate, rtol=1e-6)
    assert x.inav[1:3].evolution().axes_manager["time"].axis.tolist() == [1.0, 4.0]
    corrected = signal.correct_drift(signal.estimate_drift())
    assert corrected.axes_manager["time"].axis.tolist() == times.tolist()


# --- slicing, copies, arithmetic ---


def test_slicing_time_and_space_keeps_data_and_noise_together(steps):
    for name in CLASSES[1:]:
        signal = steps[name]
        time = signal.axes_manager.navigation_axes
        index = tuple(slice(1, 4) if a.name == "time" else slice(None) for a in time)
        cut = (
            signal.isig[1:4]
            if name == "ConcentrationEvolution"
            else signal.inav[index].isig[3:, :9]
        )
        assert type(cut) is type(signal)
        assert cut.axes_manager["time"].axis.tolist() == [12.5, 15.0, 17.5]
        if name != "ConcentrationEvolution":
            xs = signal.axes_manager.signal_axes[0].axis
            np.testing.assert_allclose(cut.axes_manager.signal_axes[0].axis, xs[3:])
        for item in ("variance", "covariance_with_exy"):
            noise = signal.metadata.get_item(f"Signal.Noise_properties.{item}", default=None)
            if noise is not None:
                part = cut.metadata.get_item(f"Signal.Noise_properties.{item}")
                assert part.data.shape == cut.data.shape
                whole = noise.data[1:4] if noise.data.ndim > 2 else noise.data[:, 1:4]
                whole = whole[..., :9, 3:] if noise.data.ndim > 2 else whole
                np.testing.assert_array_equal(part.data, whole)


def test_steps_from_slices_are_slices_of_steps(phase):
    part = phase.inav[:, :, 2:].isig[3:15, 2:20]
    pairs = [
        (part.strain(), phase.strain()),
        (part.strain(REGION), phase.strain(REGION)),
        (part.to_concentration(), phase.to_concentration()),
        (part.amplitude, phase.amplitude),
    ]
    for found, whole in pairs[:1] + pairs[2:]:
        expected = whole.data[2:, ..., 2:20, 3:15]
        np.testing.assert_allclose(found.data, expected, atol=1e-6, rtol=1e-6)
    # a region that the slice holds whole is the same reference
    found, whole = pairs[1]
    np.testing.assert_allclose(found.data, whole.data[2:, ..., 2:20, 3:15], atol=1e-6)
    rotated = phase.strain().inav[:, 1:3].rotate(25.0)
    np.testing.assert_array_equal(rotated.data, phase.strain().rotate(25.0).data[1:3])
    one = phase.strain().inav[:, 3]
    x = one.to_concentration(a_direction=(1, 0))
    np.testing.assert_array_equal(
        x.data, phase.strain().to_concentration(a_direction=(1, 0)).data[3]
    )


def test_regions_as_slices(x, movie, vectors):
    """A ROI applied to a map cuts its noise as well; applied to a movie it crops the frames."""
    part = REGION(x)
    assert type(part) is type(x)
    assert part.get_noise_variance().data.shape == part.data.shape
    np.testing.assert_allclose(part.evolution().data, x.evolution(REGION).data, atol=0.01)
    disc = hs.roi.CircleROI(5.0, 0.5, 1.0)(x)
    assert np.isnan(disc.data).any() and np.isfinite(disc.evolution().data).all()
    crop = hs.roi.RectangularROI(3.5, -1.0, 7.0, 2.5)(movie)
    y = crop.to_concentration(*vectors, resolution=0.6)
    np.testing.assert_allclose(y.evolution(REGION).data, x.evolution(REGION).data, atol=0.05)


def test_components(phase):
    strain = phase.strain(REGION, angle=10.0)
    for i, name in enumerate(("exx", "eyy", "exy", "rotation")):
        part = getattr(strain, name)
        assert type(part) is hs.signals.Signal2D
        np.testing.assert_array_equal(part.data, strain.data[:, i])
        np.testing.assert_array_equal(
            part.get_noise_variance().data, variance_of(strain).data[:, i]
        )
        assert part.axes_manager.navigation_axes[0].name == "time"
        assert part.metadata.General.title == f"{name}: strain of small movie"
    assert strain.angle == 10.0 and strain.definition == "lattice"
    u = phase.displacement()
    np.testing.assert_array_equal(u.ux.data, u.data[:, 0])
    np.testing.assert_array_equal(u.uy.data, u.data[:, 1])
    assert phase.amplitude.axes_manager.shape == (2, 5, 22, 22)
    np.testing.assert_allclose(phase.amplitude.data, abs(phase.data[:, :, 0]), rtol=1e-6)
    np.testing.assert_allclose(np.median(phase.amplitude.data), 250, rtol=0.02)
    np.testing.assert_allclose(phase.phase.data, np.angle(phase.data[:, :, 0]), atol=1e-6)


def test_phase_is_that_of_the_axes(images, vectors, helpers):
    """The phase counts from the origin of the axes, whatever part of the frame is used."""
    movie = helpers.as_movie(images)
    whole = movie.gpa(*vectors, resolution=0.6, step="pixel")
    part = movie.isig[10:80, 6:66].gpa(*vectors, resolution=0.6, step="pixel")
    inner = np.s_[..., 25:35, 30:40]
    turned = whole.data[..., 6:66, 10:80][inner] / part.data[inner]
    np.testing.assert_allclose(np.angle(turned[:, :, 0]), 0, atol=0.1)
    np.testing.assert_allclose(abs(turned[:, :, 0]), 1, atol=0.1)


@pytest.mark.parametrize("name", CLASSES)
def test_copies_and_arithmetic_keep_the_class(steps, name):
    signal = steps[name]
    for other in (signal.deepcopy(), signal + signal, signal * 2, -signal, signal - signal.data):
        assert type(other) is type(signal)
        assert other.metadata.Signal.signal_type == name
        assert other.metadata.has_item("HyperspyLFP") == signal.metadata.has_item("HyperspyLFP")
    copy = signal.deepcopy()
    np.testing.assert_array_equal(copy.data, signal.data)
    assert copy.data is not signal.data
    if variance_of(signal) is not None:
        assert variance_of(copy) is not variance_of(signal)


def test_steps_do_not_change_their_input(movie, images, vectors, helpers):
    before = movie.deepcopy()
    steps = helpers.steps(movie, vectors)
    kept = {name: signal.deepcopy() for name, signal in steps.items()}
    steps["LatticeStrain"].rotate(20.0).to_concentration(a_direction=(1, 0))
    steps["GeometricPhase"].strain().exy.data[:] = 0
    steps["ConcentrationMap"].evolution().c_rate = None
    movie.correct_drift(movie.estimate_drift())
    movie.find_g_vectors()
    assert movie.metadata.as_dictionary() == before.metadata.as_dictionary()
    np.testing.assert_array_equal(movie.data, images)
    for name, signal in steps.items():
        np.testing.assert_array_equal(signal.data, kept[name].data)
        assert signal.axes_manager.as_dictionary() == kept[name].axes_manager.as_dictionary()
    # what comes out shares nothing with what went in
    steps["GeometricPhase"].metadata.HyperspyLFP.GeometricPhase.g_vectors[0][0] = 99.0
    assert steps["LatticeStrain"].metadata.HyperspyLFP.GeometricPhase.g_vectors[0][0] != 99.0


def test_composition_of_strain_without_noise_has_no_standard_error(phase):
    strain = phase.strain()
    x = (strain * 1).to_concentration(a_direction=(1, 0))
    assert x.get_noise_variance() is None
    expected = strain.to_concentration(a_direction=(1, 0))
    np.testing.assert_allclose(interior(x), interior(expected), atol=0.05)
    evolution = x.evolution()
    assert np.isfinite(evolution.data).all() and np.isnan(evolution.standard_error.data).all()
    assert variance_of((strain * 1).rotate(10)) is None


# --- units ---

UNITS = {"nm": 1.0, "Å": 10.0, "m": 1e-9, "n_m": 1.0}


@pytest.mark.parametrize("units", UNITS)
def test_units_of_the_axes(images, movie, phase, x, vectors, helpers, units):
    """The answer does not depend on the unit of length."""
    factor = UNITS[units]
    signal = helpers.as_movie(images, units=units)
    g = signal.find_g_vectors(n=2)
    np.testing.assert_allclose(g * factor, movie.find_g_vectors(n=2), rtol=1e-6)
    assert signal.index_g_vectors(vectors / factor) == list(helpers.hkl)
    expected, phase = phase, signal.gpa(*(vectors / factor), resolution=0.6 * factor)
    for i, axis in enumerate(phase.axes_manager.signal_axes):
        reference = expected.axes_manager.signal_axes[i]
        np.testing.assert_allclose(axis.axis, reference.axis * factor, rtol=1e-9, atol=1e-15)
        assert axis.units == {"n_m": "nm"}.get(units, units)
    np.testing.assert_allclose(phase.strain().data, expected.strain().data, atol=1e-5)
    np.testing.assert_allclose(phase.to_concentration().data, x.data, atol=2e-4)
    np.testing.assert_allclose(
        phase.displacement(reference_frame=0).data,
        expected.displacement(reference_frame=0).data * factor,
        rtol=1e-3,
        atol=1e-6 * factor,
    )
    drift, other = signal.estimate_drift(), movie.estimate_drift()
    np.testing.assert_allclose(drift.data, other.data * factor, atol=1e-9 * factor)
    np.testing.assert_allclose(
        signal.correct_drift(drift).data, movie.correct_drift(other).data, atol=0.1
    )


def test_different_units_of_x_and_y(images, movie, vectors):
    signal = movie.deepcopy()
    y = signal.axes_manager.signal_axes[1]
    y.scale, y.offset, y.units = y.scale * 1000, y.offset * 1000, "pm"
    x = signal.to_concentration(*vectors, resolution=0.6)
    expected = movie.to_concentration(*vectors, resolution=0.6)
    assert [a.units for a in x.axes_manager.signal_axes] == ["nm", "nm"]
    np.testing.assert_allclose(x.data, expected.data, atol=1e-5)
    np.testing.assert_allclose(
        x.axes_manager.signal_axes[1].axis, expected.axes_manager.signal_axes[1].axis
    )
    np.testing.assert_allclose(signal.find_g_vectors(n=2), movie.find_g_vectors(n=2), rtol=1e-9)


@pytest.mark.parametrize("registry", ["of the application", "another"])
def test_quantities_and_strings(movie, vectors, registry):
    unit = pint.get_application_registry() if registry != "another" else pint.UnitRegistry()
    expected = movie.gpa(*vectors, resolution=0.6, step=0.25)
    in_angstrom = [unit.Quantity(g / 10, "1/angstrom") for g in vectors]
    phase = movie.gpa(*in_angstrom, resolution=unit.Quantity(600, "pm"), step="2.5 angstrom")
    np.testing.assert_allclose(phase.g_vectors, vectors, rtol=1e-12)
    assert phase.resolution == pytest.approx(0.6, rel=1e-12)
    np.testing.assert_allclose(phase.data, expected.data, rtol=1e-4, atol=1e-2)
    strings = [tuple(f"{v!r} 1/nm" for v in g.tolist()) for g in vectors]
    again = movie.gpa(*strings, resolution="0.6 nm", step="0.25")
    np.testing.assert_array_equal(again.data, expected.data)
    mixed = [[unit.Quantity(v, "1/nm") for v in vectors[0]], vectors[1]]
    assert movie.index_g_vectors(mixed) == movie.index_g_vectors(vectors)
    np.testing.assert_allclose(
        movie.refine_g_vectors(unit.Quantity(vectors / 10, "1/angstrom")),
        movie.refine_g_vectors(vectors),
    )


def test_sampling(movie, vectors):
    """Maps are sampled at a third of the resolution, in the middle of the frame; axes say so."""
    phase = movie.gpa(*vectors, resolution=0.6)
    x, y = phase.axes_manager.signal_axes
    assert (x.scale, y.scale) == pytest.approx((0.2, 0.2))
    frame = movie.axes_manager.signal_axes
    for axis, whole in zip((x, y), frame, strict=True):
        assert axis.axis.mean() == pytest.approx(whole.axis.mean())
        assert whole.axis[0] <= axis.axis[0] < whole.axis[0] + axis.scale
    assert phase.metadata.HyperspyLFP.GeometricPhase.step == pytest.approx([0.2, 0.2])

    pixel = movie.gpa(*vectors, resolution=0.6, step="pixel")
    assert pixel.data.shape[-2:] == movie.data.shape[-2:]
    for axis, whole in zip(pixel.axes_manager.signal_axes, frame, strict=True):
        np.testing.assert_allclose(axis.axis, whole.axis)
    default = movie.gpa(*vectors)
    assert default.resolution == pytest.approx(2 / np.hypot(*vectors.T).min())
    strain, fine = (interior(s.strain()).mean(axis=-1) for s in (phase, pixel))
    np.testing.assert_allclose(strain, fine, atol=1e-3)


# --- what is in the frames ---


@pytest.mark.parametrize(
    "dtype",
    "uint8 int8 uint16 >u2 int16 uint32 >i4 uint64 float16 float32 >f4 float64 >f8".split(),
)
def test_data_types(images, movie, x, vectors, helpers, dtype):
    scaled = images // 16 if np.dtype(dtype).itemsize == 1 else images
    signal = helpers.as_movie(scaled.astype(dtype))
    assert signal.data.dtype == dtype
    found = signal.to_concentration(*vectors, resolution=0.6)
    assert found.data.dtype == np.float32
    tolerance = 0.05 if np.dtype(dtype).itemsize == 1 else 1e-4
    np.testing.assert_allclose(found.data, x.data, atol=tolerance)
    np.testing.assert_allclose(signal.find_g_vectors(n=2), movie.find_g_vectors(n=2), atol=1e-3)
    drift = signal.estimate_drift()
    np.testing.assert_allclose(drift.data, movie.estimate_drift().data, atol=5e-3)
    assert signal.correct_drift(drift).data.dtype == np.float32


@pytest.mark.parametrize("layout", ["fortran", "time last", "reversed", "read only"])
def test_layouts_in_memory(images, x, vectors, helpers, layout):
    data = {
        "fortran": np.asfortranarray(images),
        "time last": np.ascontiguousarray(images.transpose(1, 2, 0)).transpose(2, 0, 1),
        "reversed": images[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
        "read only": np.frombuffer(images.tobytes(), images.dtype).reshape(images.shape),
    }[layout]
    found = helpers.as_movie(data).to_concentration(*vectors, resolution=0.6)
    np.testing.assert_array_equal(found.data, x.data)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_dead_pixels(images, movie, vectors, helpers, bad):
    """Pixels that are no numbers are left out; the rest of the frame does not change."""
    data = images.astype(np.float32)
    data[2, 0, 0] = bad
    data[2, 10:13, 20:26] = bad
    x = helpers.as_movie(data).to_concentration(*vectors, resolution=0.6)
    expected = movie.to_concentration(*vectors, resolution=0.6)
    assert np.isfinite(x.data).all()
    np.testing.assert_array_equal(x.data[[0, 1, 3, 4]], expected.data[[0, 1, 3, 4]])
    np.testing.assert_allclose(interior(x)[2].mean(), 0.5, atol=0.03)
    far = np.s_[2, 14:, 10:]
    error = np.sqrt(expected.get_noise_variance().data[far])
    assert (abs(x.data[far] - expected.data[far]) < 0.1 * error).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_frames_without_numbers(images, steps, vectors, helpers, bad):
    """They give maps of NaN, and the rest goes on, without a warning."""
    data = images.astype(np.float32)
    data[1] = bad
    signal = helpers.as_movie(data)
    g = signal.find_g_vectors(n=2)
    assert np.isfinite(g).all()
    expected = steps
    steps = helpers.steps(signal, vectors)
    kept = [0, 2, 3, 4]
    for name in ("GeometricPhase", "DisplacementField", "LatticeStrain", "ConcentrationMap"):
        assert np.isnan(steps[name].data[1]).all(), name
        np.testing.assert_array_equal(steps[name].data[kept], expected[name].data[kept])
    evolution = steps["ConcentrationEvolution"]
    assert np.isnan(evolution.data[:, 1]).all()
    assert np.isnan(evolution.standard_error.data[:, 1]).all()
    np.testing.assert_array_equal(
        evolution.data[:, kept], expected["ConcentrationEvolution"].data[:, kept]
    )
    drift = signal.estimate_drift()
    assert np.isnan(drift.data[1]).all() and np.isfinite(drift.data[kept]).all()
    assert np.isnan(signal.correct_drift(drift).data[1]).all()
    assert np.isfinite(signal.correct_drift(drift).data[2]).any()
    # as reference they leave nothing to compare with
    assert np.isnan(signal.to_concentration(*vectors, reference_frame=1).data).all()
    several = signal.to_concentration(*vectors, resolution=0.6, reference_frame=slice(0, 3))
    assert np.isfinite(several.data[kept]).all()


@pytest.mark.parametrize("frames", [[0], [0, 1, 2, 3, 4]])
def test_only_frames_without_numbers(images, vectors, helpers, frames):
    data = np.full((len(frames), *images.shape[1:]), np.nan, dtype=np.float32)
    steps = helpers.steps(helpers.as_movie(data), vectors)
    for name in CLASSES[1:]:
        assert np.isnan(steps[name].data).all()


def test_vacuum_is_no_lattice(images, vectors, helpers):
    """Pixels without fringes are NaN, also where only one of the reflections is missing."""
    data = images.astype(float)
    data[:, :, 60:] = 1000 + 20 * np.random.default_rng(3).standard_normal(data[:, :, 60:].shape)
    phase = helpers.as_movie(data).gpa(*vectors, resolution=0.45)
    strain = phase.strain()
    xs = strain.axes_manager.signal_axes[0].axis
    vacuum, crystal = xs > 3.0 + 60 * 0.05 + 0.8, xs < 3.0 + 60 * 0.05 - 0.4
    assert np.isnan(strain.data[..., vacuum]).mean() > 0.9
    assert np.isfinite(strain.data[..., crystal]).all()
    assert np.isfinite(phase.strain(threshold=0.0).data[..., crystal]).all()
    # NaN pixels are left out of the mean of a region
    evolution = phase.to_concentration().evolution()
    assert np.isfinite(evolution.data).all()


def test_displacement_of_a_particle_relative_to_a_frame():
    """What the first frame has no lattice at is not known; the rest is."""
    movie = hyperspy_lfp.data.lithiation_movie().inav[:3]
    phase = movie.gpa(*movie.find_g_vectors(n=2, frames=0))
    u = phase.displacement(reference_frame=0)
    valid = np.isfinite(u.data[:, 0])
    assert 0.3 < valid[0].mean() < 0.9
    np.testing.assert_allclose(u.data[0][:, valid[0]], 0, atol=1e-6)
    # the movie drifts, by less than half a lattice period from frame to frame
    provenance = movie.metadata.HyperspyLFP.Simulation
    drift = np.array([provenance.drift_x[1], provenance.drift_y[1]])
    drift -= [provenance.drift_x[0], provenance.drift_y[0]]
    found = np.nanmean(u.data[1], axis=(-2, -1))
    np.testing.assert_allclose(found, drift, atol=0.03)


def test_displacement_and_strain_agree(images, vectors, helpers):
    """The gradient of u relative to a frame is the (eulerian) strain relative to it."""
    movie = helpers.as_movie(helpers.lattice_images((0.0, 0.3), noise=0.0))
    phase = movie.gpa(*vectors, resolution=0.6)
    u = phase.displacement(reference_frame=0)
    strain = phase.strain(reference_frame=0, definition="eulerian")
    dy, dx = (u.axes_manager.signal_axes[i].scale for i in (1, 0))
    inner = np.s_[4:-4, 4:-4]
    found = (
        np.gradient(u.data[1, 0], dx, axis=1)[inner],
        np.gradient(u.data[1, 1], dy, axis=0)[inner],
    )
    np.testing.assert_allclose(found[0], strain.exx.data[1][inner], atol=1e-3)
    np.testing.assert_allclose(found[1], strain.eyy.data[1][inner], atol=1e-3)


# --- metadata ---


def test_records(movie, helpers, vectors):
    """Every step says what it did, with the version of the package."""
    steps = helpers.steps(movie, vectors)
    node = steps["ConcentrationEvolution"].metadata.HyperspyLFP.as_dictionary()
    assert set(node) == {
        "GeometricPhase", "ConcentrationMap", "ConcentrationEvolution", "source_title",
    }  # fmt: skip
    for step in ("GeometricPhase", "ConcentrationMap", "ConcentrationEvolution"):
        assert node[step]["package_version"] == hyperspy_lfp.__version__
    assert node["source_title"] == "small movie"
    fit = node["GeometricPhase"]
    assert fit["g_vectors"] == vectors.tolist() and fit["g_vectors_units"] == "1/nm"
    assert (fit["resolution"], fit["resolution_units"]) == (0.6, "nm")
    assert (fit["frame_shape"], fit["pixel_size"]) == ([88, 72], [0.05, 0.06])
    assert node["ConcentrationMap"]["material"] == materials.get("LiFePO4").to_dictionary()
    strain = steps["LatticeStrain"].metadata.HyperspyLFP.LatticeStrain.as_dictionary()
    assert (strain["definition"], strain["angle"], strain["threshold"]) == ("finite", 12.0, 0.2)


def test_titles(steps):
    assert {name: signal.metadata.General.title for name, signal in steps.items()} == {
        "HRTEMMovie": "small movie",
        "GeometricPhase": "geometric phase of small movie",
        "DisplacementField": "displacement of small movie",
        "LatticeStrain": "strain of small movie",
        "ConcentrationMap": "Li concentration of small movie",
        "ConcentrationEvolution": "evolution of small movie",
        "DiffractionSeries": "power spectrum of small movie",
        "SpotProfile": "spot profile of small movie",
        "SpotTrack": "spot of small movie",
    }


def test_what_the_numbers_are(movie, helpers, vectors):
    """The label of a colour bar is that of the signal, not that of the movie it came from."""
    movie.metadata.set_item("Signal.quantity", "electrons (Counts)")
    steps = helpers.steps(movie, vectors)
    quantities = {name: s.metadata.Signal.quantity for name, s in steps.items()}
    assert quantities == {
        "HRTEMMovie": "electrons (Counts)",
        "GeometricPhase": "electrons (Counts)",
        "DisplacementField": "displacement (nm)",
        "LatticeStrain": "strain",
        "ConcentrationMap": "x (Li)",
        "ConcentrationEvolution": "x (Li)",
        "DiffractionSeries": "power",
        "SpotProfile": "intensity (Counts)",
        "SpotTrack": "parameters of peaks",
    }
    assert steps["GeometricPhase"].amplitude.metadata.Signal.quantity == "electrons (Counts)"
    assert steps["GeometricPhase"].phase.metadata.Signal.quantity == "phase (rad)"
    assert steps["LatticeStrain"].rotation.metadata.Signal.quantity == "rotation (rad)"
    assert movie.estimate_drift().metadata.Signal.quantity == "drift (nm)"
    assert movie.correct_drift(np.zeros((5, 2))).metadata.Signal.quantity == "electrons (Counts)"


def test_original_metadata_are_kept(movie, helpers, vectors):
    movie.original_metadata.set_item("Camera.binning", 2)
    movie.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 300.0)
    for signal in helpers.steps(movie, vectors).values():
        assert signal.original_metadata.Camera.binning == 2
        assert signal.metadata.Acquisition_instrument.TEM.beam_energy == 300.0


# --- drift ---


def test_drift_there_and_back(images, helpers, vectors):
    """A movie that was shifted by known amounts is put back; strain does not change."""
    shifts = np.array([[0.0, 0.0], [0.11, -0.07], [-0.06, 0.16]])  # (x, y) in nm
    big = helpers.lattice_images((0.3,), shape=(72, 88), noise=0.0)[0]
    y, x = np.indices(big.shape)
    # an outline, which alone tells the drift from a lattice period
    particle = np.exp(-(((x - 44) / 22) ** 4) - ((y - 36) / 18) ** 4)
    still = helpers.as_movie(np.stack([1000 + (big - 700) * particle] * 3))
    moved = still.correct_drift(-shifts, fill_value=1000.0)
    for method in ("correlation", "phase"):
        drift = moved.estimate_drift(method, g=vectors)
        tolerance = {"correlation": 5e-3, "phase": 2e-3}[method]
        np.testing.assert_allclose(drift.data, shifts, atol=tolerance)
        assert drift.axes_manager.signal_axes[0].units == "nm"
        last = moved.estimate_drift(method, g=vectors, reference_frame=-1)
        np.testing.assert_allclose(last.data, shifts - shifts[2], atol=2 * tolerance)
    back = moved.correct_drift(drift)
    inner = np.s_[:, 10:-10, 10:-10]
    np.testing.assert_allclose(back.data[inner], still.data[inner], atol=25)
    assert np.isnan(back.data[1]).any() and np.isfinite(back.data[inner]).all()
    assert back.metadata.HyperspyLFP.DriftCorrection.order == 3


@pytest.mark.parametrize("drift", [(5.0, 0.0), (0.0, -4.5), (-1e3, 1e3), (0.0, 4.31)])
def test_drift_out_of_the_frame_leaves_nothing(movie, drift):
    corrected = movie.correct_drift([drift] * 5)
    assert np.isnan(corrected.data).all()
    filled = movie.correct_drift([drift] * 5, fill_value=7.0)
    np.testing.assert_array_equal(filled.data, 7.0)


def test_drift_by_whole_pixels_is_exact(movie, images):
    """Content at r + drift goes back to r; x and y are not exchanged."""
    drift = np.array([[0.0, 0.0], [0.15, 0.0], [0.0, 0.12], [-0.1, 0.06], [0.05, -0.18]])
    corrected = movie.correct_drift(drift)
    for frame, (dx, dy), original in zip(corrected.data, drift / (0.05, 0.06), images, strict=True):
        dx, dy = round(dx), round(dy)
        expected = np.full(original.shape, np.nan)
        rows, columns = (
            slice(max(0, -d), min(n, n - d)) for d, n in zip((dy, dx), original.shape, strict=True)
        )
        shifted = np.roll(original.astype(float), (-dy, -dx), axis=(0, 1))
        expected[rows, columns] = shifted[rows, columns]
        known = np.isfinite(frame)
        # the outermost row may or may not count, in floating point
        assert np.isfinite(expected)[known].all()
        assert np.count_nonzero(known) > 0.97 * np.count_nonzero(np.isfinite(expected))
        np.testing.assert_allclose(frame[known], expected[known], atol=0.5)


def test_drift_as_numbers_or_signal(movie):
    drift = movie.estimate_drift()
    a, b, c = (movie.correct_drift(d) for d in (drift, drift.data, drift.data.tolist()))
    np.testing.assert_array_equal(a.data, b.data)
    np.testing.assert_array_equal(a.data, c.data)
    assert type(a).__name__ == "HRTEMMovie" and type(drift) is hs.signals.Signal1D
