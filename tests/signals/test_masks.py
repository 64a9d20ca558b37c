"""Masks of the crystal, in all forms in which they can be given."""

import functools

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

#: The particle, in nm, and the ROI that is its mask.
CENTRE, RADIUS = (5.2, 1.1), 1.7
ROI = hs.roi.CircleROI(*CENTRE, RADIUS)


@pytest.fixture(scope="module")
def distance(helpers):
    """Of the pixels from the edge of the particle, nm, positive inside."""
    return RADIUS - np.hypot(*_from_centre(helpers.as_movie(np.zeros(helpers.shape))))


def _from_centre(signal):
    x, y = (a.axis for a in signal.axes_manager.signal_axes)
    return x - CENTRE[0], (y - CENTRE[1])[:, None]


@pytest.fixture(scope="module")
def particles(images, distance):
    """The movie of a particle: vacuum as bright as the crystal, and as noisy."""
    random = np.random.default_rng(3)
    vacuum = np.round(1000 + 20 * random.standard_normal(images.shape)).astype(images.dtype)
    data = np.where(distance > 0, images, vacuum)
    data.setflags(write=False)
    return data


@pytest.fixture
def particle(particles, helpers):
    return helpers.as_movie(particles)


def _per_frame(distance, number=5):
    """Another mask for every frame."""
    return np.stack([distance > 0.1 * i for i in range(number)])


#: The same mask, in every form. A function of the mask of a frame and of the number of frames.
FORMS = {
    "ROI": lambda mask, n: ROI,
    "array": lambda mask, n: mask,
    "list": lambda mask, n: mask.tolist(),
    "uint8": lambda mask, n: mask.astype(np.uint8) * 255,
    "of the movie": lambda mask, n: np.repeat(mask[None], n, axis=0),
    "signal": lambda mask, n: hs.signals.Signal2D(mask),
    "signal of uint8": lambda mask, n: hs.signals.Signal2D(mask.astype(np.uint8)),
    "BaseSignal": lambda mask, n: hs.signals.BaseSignal(mask),
    "signal of the movie": lambda mask, n: hs.signals.Signal2D(np.repeat(mask[None], n, axis=0)),
    "lazy signal": lambda mask, n: hs.signals.Signal2D(mask).as_lazy(),
    "dask": lambda mask, n: da.from_array(mask, chunks=(30, 25)),
    "dask of the movie": lambda mask, n: da.from_array(
        np.repeat(mask[None], n, axis=0), chunks=(2, 40, 40)
    ),
}


def _computed(signal):
    if signal._lazy:
        signal.compute(show_progressbar=False)
    return signal.data


def _fit(movie, vectors, mask="auto", **kwargs):
    return movie.gpa(*vectors, resolution=0.6, mask=mask, show_progressbar=False, **kwargs)


@pytest.fixture(scope="module")
def in_memory(particles, vectors, distance, helpers):
    """The phase of the particle by its mask, each computed once."""
    masks = {"auto": "auto", None: None, "ROI": ROI, "array": distance > 0}
    masks["per frame"] = masks["dask per frame"] = _per_frame(distance)

    @functools.cache
    def phase(mask):
        return _fit(helpers.as_movie(particles), vectors, masks[mask])

    return phase


# --- every form of a mask is the same mask ---


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_a_mask_agree(particles, in_memory, vectors, distance, helpers, form, lazy):
    movie = helpers.as_movie(particles, lazy=lazy)
    phase = _fit(movie, vectors, FORMS[form](distance > 0, 5))
    assert phase._lazy == lazy
    expected = in_memory("array")
    np.testing.assert_array_equal(_computed(phase), expected.data)
    assert phase.axes_manager.as_dictionary() == expected.axes_manager.as_dictionary()


def test_a_mask_is_where_the_maps_are(particle, vectors, distance):
    """Finite well inside, NaN outside, whatever the unequal scales and the offsets."""
    for roi in (ROI, hs.roi.RectangularROI(3.4, -0.2, 6.2, 2.3)):
        phase = _fit(particle, vectors, roi)
        x, y = _from_centre(phase)
        if roi is ROI:
            inside = RADIUS - np.hypot(x, y)
        else:
            x, y = x + CENTRE[0], y + CENTRE[1]
            inside = np.minimum(
                np.minimum(x - roi.left, roi.right - x), np.minimum(y - roi.top, roi.bottom - y)
            )
        finite = np.isfinite(phase.data[:, :, :3])
        assert not finite[..., inside < -0.04].any()  # half the diagonal of a pixel
        assert finite[..., inside > 0.9 * 0.6].all()
        strain = phase.strain()
        variance = strain.metadata.Signal.Noise_properties.variance.data
        np.testing.assert_array_equal(np.isfinite(variance), np.isfinite(strain.data))
        # the noise of a reflection is known wherever its value is
        assert np.isfinite(phase.data[:, :, 3])[finite[:, :, 0]].all()


def test_masks_of_single_frames(particle, particles, vectors, distance, helpers):
    masks = _per_frame(distance)
    phase = _fit(particle, vectors, masks)
    for i in range(5):
        alone = _fit(helpers.as_movie(particles[i]), vectors, masks[i])
        np.testing.assert_array_equal(phase.data[i], alone.data)
    shares = np.isfinite(phase.data[:, 0, 0]).mean(axis=(1, 2))
    assert np.all(np.diff(shares) < 0)


@pytest.mark.parametrize("chunks", [(1, -1, -1), (2, 30, 25), (-1, -1, -1)])
@pytest.mark.parametrize("mask", ["auto", None, "per frame", "dask per frame", "ROI"])
def test_lazy_movies_give_the_same_numbers(
    particles, in_memory, vectors, distance, helpers, chunks, mask
):
    masks = _per_frame(distance)
    given = {
        "per frame": masks,
        "dask per frame": da.from_array(masks, chunks=(3, 50, 88)),
        "ROI": ROI,
    }.get(mask, mask)
    lazy = helpers.as_movie(da.from_array(particles, chunks=chunks), lazy=True)
    found = _fit(lazy, vectors, given)
    assert found._lazy
    np.testing.assert_array_equal(_computed(found), in_memory(mask).data)


def test_a_lazy_mask_does_not_make_a_signal_in_memory_lazy(particle, in_memory, vectors, distance):
    mask = hs.signals.Signal2D(_per_frame(distance)).as_lazy()
    phase = _fit(particle, vectors, mask)
    assert not phase._lazy
    np.testing.assert_array_equal(phase.data, in_memory("per frame").data)


def test_nothing_is_read_before_it_is_asked_for(broken_movie, vectors, distance):
    class Broken:
        shape, dtype, ndim = distance.shape, np.dtype(bool), 2

        def __getitem__(self, index):
            raise RuntimeError("the mask was read")

    mask = da.from_array(Broken(), chunks=-1, meta=np.empty((0, 0), bool))
    assert _fit(broken_movie, vectors, mask)._lazy


@pytest.mark.parametrize("lazy", [False, True])
def test_several_navigation_axes(particles, particle, vectors, distance, helpers, lazy):
    stack = np.stack([particles, particles[::-1]])
    masks = np.stack([_per_frame(distance), _per_frame(distance)[::-1]])
    movie = helpers.as_movie(stack, lazy=lazy)
    expected = _fit(particle, vectors, _per_frame(distance)).data
    for mask in (masks, hs.signals.Signal2D(masks), da.from_array(masks, chunks=(1, 2, 40, 88))):
        found = _computed(_fit(movie, vectors, mask))
        assert found.shape == (2, *expected.shape)
        np.testing.assert_array_equal(found[0], expected)
        np.testing.assert_array_equal(found[1], expected[::-1])
    for mask in ("auto", ROI, distance > 0):
        found = _computed(_fit(movie, vectors, mask))
        expected = _fit(particle, vectors, mask).data
        np.testing.assert_array_equal(found[0], expected)
        np.testing.assert_array_equal(found[1], expected[::-1])


@pytest.mark.parametrize("form", ["ROI", "array", "signal", "lazy signal", "dask"])
@pytest.mark.parametrize("lazy", [False, True])
def test_single_frame(particles, in_memory, vectors, distance, helpers, form, lazy):
    movie = helpers.as_movie(particles[2], lazy=lazy)
    mask = FORMS[form](distance > 0, 1)
    expected = in_memory("array").data[2]
    np.testing.assert_array_equal(_computed(_fit(movie, vectors, mask)), expected)


# --- what it is good for ---


@pytest.mark.parametrize("mask", ["auto", ROI], ids=["auto", "ROI"])
def test_the_rim_of_a_particle_has_the_composition_of_the_rest(particle, vectors, helpers, mask):
    """Every frame is of one composition, and far from the given vectors but for the first."""
    rms = {}
    for name, given in (("masked", mask), ("whole", None)):
        x = particle.to_concentration(*vectors, resolution=0.6, mask=given, show_progressbar=False)
        from_centre = np.hypot(*_from_centre(x))
        rim = (from_centre < RADIUS - 0.5 * 0.6) & (from_centre > RADIUS - 1.3 * 0.6)
        error = (x.data - helpers.composition[:, None, None])[:, rim]
        assert np.isfinite(error).mean() > 0.6
        rms[name] = np.sqrt(np.nanmean(error**2))
    # the gate at edges, 2e-3 of strain, is 0.04 of a composition; a resolution of 1.4 spacings
    # instead of two lets in more of the neighbouring spots
    assert rms["masked"] < 2 * 0.04
    assert rms["masked"] < 0.7 * rms["whole"]


def test_auto_finds_the_particle(particle, vectors, distance):
    found, given = _fit(particle, vectors).data, _fit(particle, vectors, ROI).data
    whole = _fit(particle, vectors, None).data
    for data in (found, given):
        assert 0.1 < np.isnan(data[:, 0, 0]).mean() < 0.9
    assert not np.isnan(whole).any()
    # a resolution inside they are one
    x, y = _from_centre(_fit(particle, vectors, ROI))
    inner = np.hypot(x, y) < RADIUS - 0.6
    assert np.isfinite(found[..., inner]).all()
    difference = np.abs(found[:, :, 0] - given[:, :, 0])[..., inner]
    assert difference.max() < 0.1 * np.abs(given[:, :, 0])[..., inner].max()


def test_a_frame_full_of_lattice_has_no_mask(movie, vectors):
    np.testing.assert_array_equal(_fit(movie, vectors).data, _fit(movie, vectors, None).data)


def test_mask_of_all_pixels(movie, vectors, helpers):
    """The same but for rounding."""
    phase = _fit(movie, vectors, np.ones(helpers.shape, dtype=bool))
    expected = _fit(movie, vectors, None)
    scale = np.abs(expected.data[:, :, 0]).max()
    np.testing.assert_allclose(phase.data[:, :, :3], expected.data[:, :, :3], atol=1e-5 * scale)


@pytest.mark.parametrize("number", ["one", "rows", "half"])
def test_nan_pixels_inside_a_mask(particles, vectors, distance, helpers, number):
    data = particles.astype(np.float32)
    x, _ = _from_centre(helpers.as_movie(data[0]))
    if number == "one":
        data[:, 35, 40] = np.nan
    elif number == "rows":
        data[:, 30:32] = np.nan
    else:
        data[:, :, x > 0.3] = np.nan
    phase = _fit(helpers.as_movie(data), vectors, ROI)
    expected = _fit(helpers.as_movie(particles), vectors, ROI)
    finite = np.isfinite(phase.data[:, :, 0])
    x, y = _from_centre(phase)
    inside = RADIUS - np.hypot(x, y)
    if number == "half":
        inside = np.minimum(inside, 0.3 - x)
    # a fit needs a tenth of its window, and reaches over missing pixels that far
    assert not finite[..., inside < (-0.8 if number == "half" else -0.04)].any()
    assert finite[..., inside > 0.7].all()
    # to some of the amplitude of 125, which is what the noise of 20 per pixel lets be said
    change = np.abs(phase.data - expected.data)[:, :, 0][..., inside > 0.7]
    assert change.max() < (0.02 if number == "one" else 0.2) * 250


def test_nan_pixels_outside_of_a_mask(particles, vectors, distance, helpers):
    """Are not looked at."""
    data = np.where(distance > 0, particles, np.nan).astype(np.float32)
    expected = _fit(helpers.as_movie(particles.astype(np.float32)), vectors, distance > 0)
    found = _fit(helpers.as_movie(data), vectors, distance > 0)
    np.testing.assert_array_equal(found.data, expected.data)


# --- what is kept of it ---

RECTANGLE = hs.roi.RectangularROI(3.4, -0.2, 6.2, 2.3)
POLYGON = hs.roi.PolygonROI([(3.6, -0.4), (6.8, 0.0), (5.0, 2.9)])
RECORDS = {
    "auto": ("auto", "auto"),
    "none": (None, "none"),
    "circle": (ROI, {"type": "CircleROI", "cx": 5.2, "cy": 1.1, "r": 1.7}),
    "rectangle": (
        RECTANGLE,
        {"type": "RectangularROI", "left": 3.4, "top": -0.2, "right": 6.2, "bottom": 2.3},
    ),
    "polygon": (
        POLYGON,
        {"type": "PolygonROI", "vertices": [[3.6, -0.4], [6.8, 0.0], [5.0, 2.9]]},
    ),
    "array": (np.ones((72, 88), dtype=bool), "given"),
    "signal": (hs.signals.Signal2D(np.ones((5, 72, 88), dtype=bool)), "given"),
}


def _recorded(signal):
    mask = signal.metadata.HyperspyLFP.GeometricPhase.mask
    return mask.as_dictionary() if hasattr(mask, "as_dictionary") else mask


@pytest.mark.parametrize("extension", ["hspy", "zspy"])
@pytest.mark.parametrize("record", RECORDS)
def test_mask_is_recorded_and_survives_files(particle, vectors, tmp_path, record, extension):
    mask, expected = RECORDS[record]
    phase = _fit(particle, vectors, mask)
    assert _recorded(phase) == expected
    strain, x = phase.strain(), phase.to_concentration()
    for signal in (strain, x, strain.rotate(10.0)):
        assert _recorded(signal) == expected
    phase.save(tmp_path / f"phase.{extension}")
    opened = hs.load(tmp_path / f"phase.{extension}")
    assert type(opened) is type(phase)
    recorded = _recorded(opened)
    if record == "polygon":  # files make tuples or arrays of lists
        vertices = np.asarray(recorded.pop("vertices"), dtype=float)
        np.testing.assert_array_equal(vertices, expected["vertices"])
        assert recorded == {"type": "PolygonROI"}
    else:
        assert recorded == expected
    np.testing.assert_array_equal(opened.data, phase.data)
    np.testing.assert_array_equal(opened.to_concentration().data, x.data)


def test_no_mask_is_recorded_as_an_array(particle, vectors, distance):
    """Masks of long movies are large, and metadata are not for arrays."""
    phase = _fit(particle, vectors, _per_frame(distance))
    assert _recorded(phase) == "given"


@pytest.fixture(scope="module")
def x_of_whole_frames(particles, vectors, helpers):
    movie = helpers.as_movie(particles)
    return movie.to_concentration(*vectors, resolution=0.6, mask=None, show_progressbar=False)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("mask", ["default", "auto", None, ROI, "per frame", "signal"])
def test_to_concentration_passes_the_mask_on(
    particles, x_of_whole_frames, vectors, distance, helpers, mask, lazy
):
    given = {
        "per frame": _per_frame(distance),
        "signal": hs.signals.Signal2D(distance > 0.2),
    }.get(mask if isinstance(mask, str) else "", mask)
    movie = helpers.as_movie(particles, lazy=lazy)
    kwargs = {} if mask == "default" else {"mask": given}
    x = movie.to_concentration(*vectors, resolution=0.6, show_progressbar=False, **kwargs)
    steps = movie.gpa(*vectors, resolution=0.6, show_progressbar=False, **kwargs)
    expected = steps.to_concentration()
    assert _recorded(x) == _recorded(steps)
    np.testing.assert_array_equal(_computed(x), _computed(expected))
    noise, expected_noise = (s.metadata.Signal.Noise_properties.variance for s in (x, expected))
    np.testing.assert_array_equal(_computed(noise), _computed(expected_noise))
    without = x_of_whole_frames
    assert _recorded(without) == "none"
    if mask is not None:
        assert np.isnan(x.data).sum() > np.isnan(without.data).sum()


def test_the_mask_is_left_alone(particle, vectors, distance):
    mask = distance > 0
    mask.setflags(write=False)
    signal = hs.signals.Signal2D(mask)
    axes, metadata = signal.axes_manager.as_dictionary(), signal.metadata.as_dictionary()
    _fit(particle, vectors, signal)
    assert signal.data is mask
    assert signal.axes_manager.as_dictionary() == axes
    assert signal.metadata.as_dictionary() == metadata
