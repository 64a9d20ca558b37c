"""Regions against time: masks, labels, drift, standard errors, domains, the C-rate."""

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from hyperspy.axes import DataAxis
from hyperspy.signals import Signal1D, Signal2D

TIMES = (0.0, 1.0, 4.0, 5.0, 11.0)
VARIANCE = "Signal.Noise_properties.variance"


@pytest.fixture(scope="module")
def x(images, helpers):
    """Five maps of 22 x 22 pixels."""
    movie = helpers.as_movie(images)
    return movie.to_concentration(
        *helpers.reciprocal_vectors(), resolution=0.6, show_progressbar=False
    )


@pytest.fixture
def circle():
    return hs.roi.CircleROI(5.2, 1.1, 0.9)


def places(x):
    """Coordinates (x, y) of the pixels of a map."""
    return np.meshgrid(*(axis.axis for axis in x.axes_manager.signal_axes))


def with_data(x, data):
    """The same signal with other maps, of any number, and a variance of one."""
    signal = x.inav[0] if data.ndim == 2 else x
    signal = signal._deepcopy_with_new_data(data.astype(np.float32))
    signal.metadata.set_item(VARIANCE, Signal2D(np.ones(data.shape, dtype=np.float32)))
    return signal


def non_uniform(x):
    x = x.deepcopy()
    axis = DataAxis(axis=TIMES, name="time", units="s", navigate=True)
    x.axes_manager._axes[x.axes_manager["time"].index_in_array] = axis
    axis.axes_manager = x.axes_manager
    for layer in [x.metadata.get_item(VARIANCE)]:
        layer.axes_manager._axes[0] = axis.copy()
        layer.axes_manager._axes[0].axes_manager = layer.axes_manager
    return x


def moving(x, shifts):
    """Maps that rise from 0 to 1 over a disc, which moves by (x, y)."""
    px, py = places(x)
    maps = [1.0 * (np.hypot(px - 5.2 - dx, py - 1.1 - dy) < 0.9) for dx, dy in shifts]
    return with_data(x, np.array(maps))


def assert_same(found, expected):
    np.testing.assert_array_equal(found.data, expected.data)
    np.testing.assert_array_equal(found.standard_error.data, expected.standard_error.data)


# --- what a region may be ---


def test_a_mask_is_a_region(x, circle):
    px, py = places(x)
    mask = np.hypot(px - 5.2, py - 1.1) < 0.9
    expected = x.evolution(circle)
    for given in (mask, Signal2D(mask), Signal2D(mask).as_lazy(), da.from_array(mask)):
        found = x.evolution({"disc": given})
        assert_same(found, expected)
        assert found.regions == ["disc"]
    described = found.metadata.HyperspyLFP.ConcentrationEvolution.region_1.as_dictionary()
    assert described["type"] == "mask" and described["pixels"] == mask.sum()
    scale = [axis.scale for axis in x.axes_manager.signal_axes]
    assert described["area"] == pytest.approx(mask.sum() * np.prod(scale))
    np.testing.assert_allclose(described["centroid"], [px[mask].mean(), py[mask].mean()])


def test_labels_are_regions(x):
    labels = np.zeros(x.data.shape[1:], dtype=np.uint8)
    labels[2:6, 3:9] = 2
    labels[10:20, 5:9] = 7
    expected = x.evolution([labels == 2, labels == 7])
    for given in (labels, Signal2D(labels), labels.astype(np.int64)):
        found = x.evolution(given)
        assert_same(found, expected)
        assert found.regions == ["2", "7"]
    assert x.evolution({"grain": labels, "all": labels > 0}).regions == [
        "grain 2",
        "grain 7",
        "all",
    ]
    assert x.evolution([labels > 0, labels]).regions == ["1", "2 2", "2 7"]


@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
def test_masks_survive_a_file(x, circle, tmp_path, suffix):
    labels = np.zeros(x.data.shape[1:], dtype=int)
    labels[3:9, 4:8] = 1
    saved = x.evolution({"mask": labels == 1, "labels": labels, "disc": circle})
    saved.save(tmp_path / f"evolution.{suffix}")
    opened = hs.load(tmp_path / f"evolution.{suffix}")
    assert_same(opened, saved)
    assert opened.regions == saved.regions == ["mask", "labels 1", "disc"]
    node = "HyperspyLFP.ConcentrationEvolution"
    found, expected = (s.metadata.get_item(node).as_dictionary() for s in (opened, saved))
    assert found == expected


@pytest.mark.parametrize(
    ("rois", "error", "pieces"),
    [
        (np.ones((3, 4), bool), ValueError, r"shape \(3, 4\).*that of the map"),
        (np.zeros((22, 22), int), ValueError, "holds no pixel"),
        (np.zeros((22, 22), bool), ValueError, "holds no pixel"),
        (np.ones((22, 22)), TypeError, "is not a region.*PolygonROI.*mask.*labels"),
        (Signal2D(np.ones((22, 22))), TypeError, "is not a region"),
    ],
    ids=["shape", "no label", "empty", "floats", "signal of floats"],
)
def test_masks_that_will_not_do(x, rois, error, pieces):
    assert x.data.shape[1:] == (22, 22)
    with pytest.raises(error, match=r"(?s)rois\['1'\].*" + pieces):
        x.evolution(rois)


def test_two_regions_of_one_name(x, circle):
    labels = np.ones(x.data.shape[1:], dtype=int)
    with pytest.raises(ValueError, match="two regions of the name 'a 1'"):
        x.evolution({"a 1": circle, "a": labels})


# --- drift ---

SHIFTS = np.array([[0.0, 0.0], [0.4, 0.2], [0.8, -0.4], [-0.6, 0.2], [0.2, 0.6]])


@pytest.mark.parametrize("kind", ["circle", "polygon", "mask", "labels"])
@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
def test_regions_stay_on_what_moves(x, circle, kind, lazy):
    """By whole pixels, 0.2 nm, so that what is inside is the same to the last pixel."""
    assert [axis.scale for axis in x.axes_manager.signal_axes] == pytest.approx(
        [0.2, 0.2], rel=0.11
    )
    scale = np.array([axis.scale for axis in x.axes_manager.signal_axes])
    shifts = np.rint(SHIFTS / scale) * scale
    maps = moving(x, shifts)
    mask = maps.data[0] > 0.5
    # a polygon within the disc
    polygon = hs.roi.PolygonROI([(4.7, 0.6), (5.7, 0.6), (5.7, 1.6), (4.7, 1.6)])
    region = {"circle": circle, "polygon": polygon, "mask": mask, "labels": mask * 3}[kind]
    drift = Signal1D(shifts)
    if lazy:
        maps, drift = maps.as_lazy(), drift.as_lazy()
    found = maps.evolution(region, drift=drift)
    assert found._lazy == lazy
    if lazy:
        found.compute(show_progressbar=False)
    np.testing.assert_allclose(found.data, 1.0, rtol=1e-6)
    np.testing.assert_allclose(found.standard_error.data, found.standard_error.data[0, 0], rtol=0.2)
    assert moving(x, shifts).evolution(region).data.min() < 0.8
    assert found.metadata.HyperspyLFP.ConcentrationEvolution.drift == "given"


def test_regions_that_leave_the_map(x, circle):
    shifts = SHIFTS.copy()
    shifts[2] = (50.0, 0.0)
    shifts[3] = (np.nan, 0.0)
    shifts[4] = (0.0, -2.2)
    mask = np.zeros(x.data.shape[1:], dtype=bool)
    mask[8:14, 8:14] = True
    found = x.evolution([circle, mask], drift=shifts)
    for values in (found.data, found.standard_error.data):
        np.testing.assert_array_equal(np.isnan(values), [[False, False, True, True, False]] * 2)
    # what is left of it
    top = hs.roi.CircleROI(5.2, 1.1 - 2.2, 0.9)
    np.testing.assert_array_equal(found.data[0, 4], x.evolution(top).data[0, 4])
    # the whole map is everywhere
    assert_same(x.evolution(drift=shifts), x.evolution())


def test_drift_of_a_stack_of_movies(x, circle):
    stack = hs.stack([x, x.deepcopy()], axis=None, new_axis_name="sample", show_progressbar=False)
    stack.metadata.set_item(VARIANCE, Signal2D(np.ones_like(stack.data)))
    shifts = np.stack([SHIFTS, -SHIFTS])
    found = stack.evolution(circle, drift=shifts)
    for i, shift in enumerate(shifts):
        np.testing.assert_array_equal(found.data[i], x.evolution(circle, drift=shift).data)


@pytest.mark.parametrize("shape", [(2,), (4, 2), (5, 3), (5,)])
def test_drift_of_another_shape(x, circle, shape):
    with pytest.raises(ValueError, match=r"drift has the shape .*\(5, 2\)"):
        x.evolution(circle, drift=np.zeros(shape))


def test_drift_of_a_single_map(x, circle):
    one = x.inav[1]
    found = one.evolution(circle, drift=SHIFTS[1])
    np.testing.assert_array_equal(found.data[0, 0], x.evolution(circle, drift=SHIFTS).data[0, 1])


# --- time that is not uniform ---


@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
def test_times_that_are_not_uniform(x, circle, tmp_path, suffix):
    maps = non_uniform(x)
    evolution = maps.evolution({"disc": circle})
    assert_same(evolution, x.evolution({"disc": circle}))
    evolution.save(tmp_path / f"evolution.{suffix}")
    opened = hs.load(tmp_path / f"evolution.{suffix}")
    for signal in (evolution, opened, opened.standard_error):
        (axis,) = signal.axes_manager.signal_axes
        assert not axis.is_uniform and axis.axis.tolist() == list(TIMES)
    assert_same(opened, evolution)


@pytest.mark.parametrize("uniform", [True, False])
def test_c_rate_and_its_standard_error(x, uniform):
    maps = x if uniform else non_uniform(x)
    times = x.axes_manager["time"].axis if uniform else np.array(TIMES)
    mean = maps.evolution()
    rate = maps.c_rate()
    # the derivative as a matrix
    slope = 3600 * np.gradient(np.eye(5), times, axis=0)
    np.testing.assert_allclose(rate.data, slope @ mean.data[0], rtol=1e-5)
    expected = slope**2 @ mean.standard_error.data[0] ** 2
    np.testing.assert_allclose(rate.get_noise_variance().data, expected, rtol=1e-5)


def test_c_rate_of_two_frames(x):
    mean = x.inav[:2].evolution()
    rate = x.inav[:2].c_rate()
    error = 3600 / 2.5 * np.sqrt((mean.standard_error.data**2).sum())
    np.testing.assert_allclose(rate.get_noise_variance().data ** 0.5, [error, error], rtol=1e-5)


# --- standard errors ---


def test_standard_error_of_many_images(helpers):
    """Nominal 95 % hold the truth in 90 to 98 % of the images: boxes, a disc, the whole map."""
    n = 300
    images = helpers.lattice_images([0.0] * n, shape=(130, 150), noise=120.0, seed=3)
    maps = helpers.as_movie(images).to_concentration(
        *helpers.reciprocal_vectors(), resolution=0.6, show_progressbar=False
    )
    middle = 6.7, 2.9
    rois = {
        f"{k} resolutions": hs.roi.RectangularROI(
            middle[0] - 0.3 * k, middle[1] - 0.3 * k, middle[0] + 0.3 * k, middle[1] + 0.3 * k
        )
        for k in (1, 3, 8)
    }
    rois["disc"] = hs.roi.CircleROI(*middle, 1.8)
    rois["whole"] = np.ones(maps.data.shape[1:], dtype=bool)
    evolution = maps.evolution(rois)
    error = evolution.standard_error.data
    # a bias is another matter: each image against the mean of all
    deviation = evolution.data - evolution.data.mean(axis=1, keepdims=True)
    covered = (np.abs(deviation) < 1.96 * error).mean(axis=1)
    # 300 images know a share of 90 % to 1.7 %, and one of 98 % to 0.8 %: two of these
    assert np.all((covered > 0.90 - 0.035) & (covered < 0.98 + 0.016)), covered
    # 1 / sqrt(2 n) = 4 %, three of these, beside 10 % of the variance maps' own gate
    ratio = error.mean(axis=1) / evolution.data.std(axis=1)
    np.testing.assert_allclose(ratio, 1, atol=0.12 + 0.1)


def test_recorded_tensor_is_used(x, circle):
    """Derivatives along x only: a box long in y averages less than one long in x."""
    tall = hs.roi.RectangularROI(5.0, 0.0, 5.5, 2.2)
    wide = hs.roi.RectangularROI(4.0, 0.8, 6.2, 1.3)
    maps = with_data(x, np.zeros_like(x.data))
    errors = {}
    for name, tensor in {"x": [[1.0, 0.0], [0.0, 0.0]], "y": [[0.0, 0.0], [0.0, 1.0]]}.items():
        maps.metadata.HyperspyLFP.ConcentrationMap.noise_tensor = tensor
        errors[name] = maps.evolution([tall, wide]).standard_error.data[:, 0]
    assert errors["x"][0] > errors["x"][1]
    assert errors["y"][1] > errors["y"][0]


# --- domains ---


@pytest.fixture(scope="module")
def two_domains(x):
    """One side fills before the other; 8 frames with noise as it is predicted."""
    px, _ = places(x)
    left = px < 5.0
    course = np.linspace(0, 1, 5)
    truth = np.where(left, course[:, None, None] ** 0.5, course[:, None, None] ** 2)
    noise = 0.03 * np.random.default_rng(5).standard_normal(truth.shape)
    maps = with_data(x, truth + noise)
    maps.metadata.get_item(VARIANCE).data[...] = 0.03**2
    return maps, left


@pytest.mark.parametrize("n", [None, 2])
def test_domains_are_regions(two_domains, n):
    maps, left = two_domains
    labels = maps.find_domains(n, show_progressbar=False)
    assert labels.data.shape == left.shape and labels.data.max() == 2
    assert [a.name for a in labels.axes_manager.signal_axes] == ["x", "y"]
    first = labels.data[10, 1]
    away = np.abs(places(maps)[0] - 5.0) > 0.6
    assert ((labels.data == first) == left)[away].mean() > 0.95
    evolution = maps.evolution(labels)
    assert evolution.regions == ["1", "2"]
    np.testing.assert_allclose(evolution.data[first - 1], np.linspace(0, 1, 5) ** 0.5, atol=0.03)
    lazy = maps.as_lazy().find_domains(n, show_progressbar=False)
    np.testing.assert_array_equal(lazy.data, labels.data)
    assert not lazy._lazy
    again = hs.signals.Signal2D(labels.data)
    assert_same(maps.evolution(again), evolution)


def test_one_domain_of_noise(x):
    noise = 0.1 * np.random.default_rng(6).standard_normal(x.data.shape)
    maps = with_data(x, noise)
    maps.metadata.get_item(VARIANCE).data[...] = 0.01
    maps.data[:, :3] = np.nan
    labels = maps.find_domains()
    np.testing.assert_array_equal(labels.data, np.isfinite(maps.data[0]))
    # a single map has domains as well
    assert maps.inav[0].find_domains().data.max() == 1


def test_domains_that_cannot_be_found(x, two_domains):
    maps, _ = two_domains
    for n in (0, -1, 2.5, True, "two"):
        with pytest.raises(ValueError, match=r"n=.*positive number of domains"):
            maps.find_domains(n)
    with pytest.raises(ValueError, match=r"needs one movie.*inav"):
        hs.stack([x, x.deepcopy()], axis=None, show_progressbar=False).find_domains()
    with pytest.raises(ValueError, match="no pixel has a lattice"):
        with_data(x, np.full(x.data.shape, np.nan)).find_domains()
