"""Profiles through spots against polygon clipping, closed forms and counting statistics."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import erf

from hyperspy_lfp.kernels.patterns.profile import (
    Band,
    _bounding_box,
    _weights,
    band_profiles,
    radial_band,
)

ANGLES = st.floats(0, 2 * np.pi)
SHIFTS = st.floats(-0.5, 0.5)
SQUARE = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5]])


def direction(angle):
    return np.array([np.sin(angle), np.cos(angle)])


def gaussian(shape, centre, sigma, total=1.0):
    """Counts of a Gaussian spot in square pixels, integrated exactly; sigma along (y, x)."""
    parts = []
    for size, at, width in zip(shape, centre, np.broadcast_to(sigma, 2), strict=True):
        edges = np.arange(size + 1) - 0.5
        parts.append(np.diff(erf((edges - at) / (width * np.sqrt(2)))) / 2)
    return total * np.outer(*parts)


def clipped_area(polygon, origin, along, across, i):
    """Area of a polygon in bin i by cutting it with the bin's four sides, one by one."""
    inverse = np.linalg.inv(np.column_stack([along, across]))
    points = (polygon - origin) @ inverse.T
    for axis, sign, limit in ((0, 1, i), (0, -1, -i - 1), (1, 1, -0.5), (1, -1, -0.5)):
        kept = []
        for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
            above, beyond = (sign * p[axis] - limit for p in (a, b))
            if above >= 0:
                kept.append(a)
            if above * beyond < 0:
                kept.append(a + (b - a) * above / (above - beyond))
        if len(kept) < 3:
            return 0.0
        points = np.array(kept)
    x, y = points.T
    area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    return area * abs(np.linalg.det(np.column_stack([along, across])))


def lone_pixel_areas(origin, along, across, n_bins):
    """Areas of every pixel in every bin; a pixel without neighbours is spread evenly."""
    strip = (origin, along, across)
    window = _bounding_box(strip, n_bins)
    for y, x in np.ndindex(*window[2:]):
        valid = np.zeros(window[2:], dtype=bool)
        valid[y, x] = True
        weights, pixel, bins, seen = _weights(valid, window, strip, n_bins)
        assert np.all(pixel == y * window[3] + x)
        areas = np.bincount(bins, weights, minlength=n_bins)
        np.testing.assert_allclose(areas, seen, rtol=0, atol=1e-13)
        yield np.array([window[0] + y, window[1] + x]), areas


@given(
    angle=ANGLES,
    skew=st.floats(0.4, np.pi - 0.4),
    shift=st.tuples(SHIFTS, SHIFTS),
    step=st.floats(0.3, 2.5),
    width=st.floats(0.4, 4.0),
)
@example(angle=1.0, skew=0.4375, shift=(0.0, 0.5), step=2.25, width=2.0)  # a sharp corner
@settings(max_examples=8, deadline=None)
def test_areas_are_those_of_the_clipped_polygons(angle, skew, shift, step, width):
    along, across = step * direction(angle), width * direction(angle + skew)
    for place, areas in lone_pixel_areas(np.array(shift), along, across, 3):
        truth = [clipped_area(SQUARE + place, shift, along, across, i) for i in range(3)]
        np.testing.assert_allclose(areas, truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("angle", np.arange(8) * np.pi / 4)
def test_areas_where_edges_fall_on_edges(angle):
    for place, areas in lone_pixel_areas(
        np.array([0.5, 0.5]), direction(angle).round(12), 2 * direction(angle + np.pi / 2), 3
    ):
        truth = [
            clipped_area(
                SQUARE + place, (0.5, 0.5), direction(angle), 2 * direction(angle + np.pi / 2), i
            )
            for i in range(3)
        ]
        np.testing.assert_allclose(areas, truth, rtol=0, atol=1e-11)


def test_areas_agree_with_counted_points():
    origin, along, across = np.array([0.2, -0.3]), np.array([0.4, 1.1]), np.array([2.5, -0.7])
    fine = (np.arange(100) + 0.5) / 100 - 0.5
    points = np.stack(np.meshgrid(fine, fine, indexing="ij"), axis=-1)
    inverse = np.linalg.inv(np.column_stack([along, across]))
    for place, areas in lone_pixel_areas(origin, along, across, 2):
        u, v = np.moveaxis((points + place - origin) @ inverse.T, -1, 0)
        counted = [np.mean((u >= i) & (u < i + 1) & (np.abs(v) <= 0.5)) for i in range(2)]
        # a side of length sqrt(2) crosses 200 of the 10^4 cells, half of each in doubt; 4 sides
        np.testing.assert_allclose(areas, counted, rtol=0, atol=4e-2)


@given(
    angle=ANGLES, shift=st.tuples(SHIFTS, SHIFTS), step=st.floats(0.4, 3), seed=st.integers(0, 99)
)
@settings(max_examples=30, deadline=None)
def test_counts_are_conserved(angle, shift, step, seed):
    frame = np.zeros((41, 37))
    frame[15:26, 14:23] = np.random.default_rng(seed).poisson(50, (11, 9))
    n_bins = int(np.ceil(30 / step))
    centre = np.array([20, 18]) + shift
    # the frame lies within the band with the reach of a pixel's neighbours to spare
    frame = np.pad(frame, 10)
    band = radial_band(centre + 10, direction(angle), -n_bins * step / 2, step, 30)
    profile = band_profiles(frame[None], band, n_bins)
    np.testing.assert_allclose(profile.counts.sum(), frame.sum(), rtol=1e-12)
    np.testing.assert_allclose(profile.valid, 1, rtol=1e-12)


@given(angle=ANGLES, shift=st.tuples(SHIFTS, SHIFTS), step=st.floats(0.4, 3), width=st.floats(1, 9))
@settings(max_examples=30, deadline=None)
def test_uniform_and_linear_images_are_exact(angle, shift, step, width):
    y, x = np.indices((71, 66))
    band = radial_band(np.array([35, 33]) + shift, direction(angle), -5 * step, step, width)
    frames = np.stack([np.full(y.shape, 7.0), 100 + 0.7 * y - 1.3 * x])
    profile = band_profiles(frames, band, 10)
    middle = band.origin + (np.arange(10)[:, None] + 0.5) * band.along
    area = step * width
    np.testing.assert_allclose(profile.counts[0], 7 * area, rtol=1e-11)
    np.testing.assert_allclose(
        profile.counts[1], area * (100 + middle @ [0.7, -1.3]), rtol=0, atol=1e-9 * area
    )
    assert np.all(profile.background == 0)


@pytest.mark.parametrize("sigma", [2.0, 3.0])
@pytest.mark.parametrize("step", [1.0, 1.37])
@pytest.mark.parametrize("angle", [0.0, 0.02, 0.5, np.pi / 4, 2.0, np.pi / 2])
def test_gaussian_spot_is_resampled_to_a_thousandth_of_its_peak(sigma, step, angle):
    """The gate of the issue, for the worst of several places on the pixels and of the bins."""
    n_bins = int(14 * sigma / step)
    edges = (np.arange(n_bins + 1) - n_bins / 2) * step
    for offset in (0, 0.25, 0.5):
        centre = np.array([40 + offset, 40 + offset / 3])
        frame = gaussian((83, 81), centre, sigma)
        band = radial_band(centre, direction(angle), edges[0] + offset, step, 14 * sigma)
        counts = band_profiles(frame[None], band, n_bins).counts[0]
        truth = np.diff(erf((edges + offset) / (sigma * np.sqrt(2)))) / 2
        assert np.abs(counts - truth).max() < 1e-3 * truth.max()


@given(angle=ANGLES, shift=st.tuples(SHIFTS, SHIFTS), step=st.floats(0.5, 2.0))
@settings(max_examples=15, deadline=None)
def test_moments_of_a_spot_are_its_own_and_the_bins(angle, shift, step):
    """Neither the camera's pixels nor the resampling widen the profile: sigma^2 + step^2/12."""
    sigma = 2.5
    centre = np.array([40, 41]) + shift
    frame = gaussian((81, 83), centre, sigma)
    n_bins = int(40 / step)
    band = radial_band(centre, direction(angle), -n_bins * step / 2 + 0.3, step, 40)
    counts = band_profiles(frame[None], band, n_bins).counts[0]
    k = (np.arange(n_bins) + 0.5 - n_bins / 2) * step + 0.3
    assert counts.sum() == pytest.approx(1, abs=1e-9)
    # the thousandth, here of a pixel and of the width squared, of which pixels that
    # are spread evenly would add 1/6 / sigma^2, 27 times as much
    assert counts @ k == pytest.approx(0, abs=1e-3)
    assert counts @ k**2 == pytest.approx(sigma**2 + step**2 / 12, rel=1e-3)


@pytest.mark.parametrize("angle", [0.0, 0.7, 2.2])
def test_unequal_scales(angle):
    """A round spot in k is an ellipse of pixels; the profile is that of the round spot."""
    scale = np.array([0.02, 0.013])
    sigma, step = 0.06, 0.03
    centre, spot = np.array([50.3, 70.7]), 0.5 * direction(angle)
    middle = centre + spot / scale
    frame = gaussian((103, 145), middle, sigma / scale)
    band = radial_band(centre, spot, 0.2, step, 0.7, to_k=np.diag(scale))
    counts = band_profiles(np.pad(frame, 30)[None], Band(band[0] + 30, *band[1:]), 20).counts[0]
    edges = 0.2 + step * np.arange(21) - 0.5
    truth = np.diff(erf(edges / (sigma * np.sqrt(2)))) / 2
    # what the frame cuts off the spot is missing in the counts
    assert frame.sum() > 1 - 1e-6
    assert np.abs(counts - truth).max() < 1e-3 * truth.max()


def test_distortion_matrix_and_offset():
    to_k = np.array([[0.02, 0.003], [-0.001, 0.015]])
    band = radial_band((5, 6), (1, 2), 0.3, 0.05, 0.4, to_k, offset=0.2)
    unit = np.array([1, 2]) / np.sqrt(5)
    normal = np.array([2, -1]) / np.sqrt(5)
    origin, along, across = (to_k @ part[0] for part in band)
    np.testing.assert_allclose(origin, to_k @ [5, 6] + 0.3 * unit + 0.2 * normal)
    np.testing.assert_allclose(along, 0.05 * unit)
    np.testing.assert_allclose(across, 0.4 * normal)


def test_bands_move_with_their_frames():
    centres = np.array([[20, 21.3], [22.4, 19], [np.nan, 20], [20.7, 20.1]])
    frames = np.stack([gaussian((45, 43), np.nan_to_num(c, nan=20), 2.5) for c in centres])
    turned = direction(np.array([0.1, 0.5, 0.2, 1.0])).T
    profile = band_profiles(frames, radial_band(centres, turned, -12, 1, 20), 24)
    alone = [
        band_profiles(frames[i : i + 1], radial_band(centres[i], turned[i], -12, 1, 20), 24)
        for i in range(4)
    ]
    for name in profile._fields:
        np.testing.assert_array_equal(
            getattr(profile, name), np.concatenate([getattr(p, name) for p in alone])
        )
    assert np.isnan(profile.counts[2]).all() and np.all(profile.valid[2] == 0)
    np.testing.assert_allclose(profile.counts[0], profile.counts[1], atol=2e-3 * 0.16)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.float16, np.float32, ">f8"])
def test_any_real_dtype(dtype):
    frames = np.random.default_rng(0).integers(0, 2, (2, 21, 19)).astype(dtype)
    band = radial_band((10, 9), (1, 3), -5, 1, 6)
    profile = band_profiles(frames, band, 10)
    expected = band_profiles(frames.astype(float), band, 10)
    np.testing.assert_array_equal(profile.counts, expected.counts)
    assert profile.counts.dtype == profile.variance.dtype == np.float64


# ---------------------------------------------------------------- variance


@pytest.mark.parametrize("background", ["none", "sides"])
@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_variance_is_that_of_repeated_counts(background, gain):
    random = np.random.default_rng(5)
    n = 2000
    spot = 2 + gaussian((29, 31), (14.2, 15.1), 2.0, total=800)
    frames = gain * random.poisson(spot, (n, *spot.shape)) + random.normal(0, 2.0, (n, 29, 31))
    mask = np.zeros(spot.shape, dtype=bool)
    mask[12, 18] = True
    band = radial_band((14.2, 15.1), (0.4, 1), -5, 1.2, 7)
    profile = band_profiles(
        frames, band, 8, mask=mask, background=background, gain=gain, gain_offset=4.0
    )
    ratio = profile.variance.mean(axis=0) / profile.counts.var(axis=0, ddof=1)
    # the scatter of a sample variance is sqrt(2/n); 5 of them for 32 bins
    np.testing.assert_allclose(ratio, 1, atol=5 * np.sqrt(2 / n))
    assert profile.valid.min() < 0.99


def test_bins_without_counts_are_not_certain():
    frames = np.stack([np.zeros((15, 15)), np.full((15, 15), -2.0), np.full((15, 15), 100.0)])
    band = Band((7.0, 2.5), (0.0, 1.0), (5.0, 0.0))
    profile = band_profiles(frames, band, 6, gain=2.0)
    # bins on pixel edges: five whole pixels each
    np.testing.assert_allclose(profile.variance[:2], 4.0)
    np.testing.assert_allclose(profile.variance[2], 5 * 2 * 100)
    offset = band_profiles(frames, band, 6, gain=2.0, gain_offset=3.0)
    np.testing.assert_allclose(offset.variance, profile.variance + 15)


# ---------------------------------------------------------------- missing pixels


def test_uniform_stays_uniform_round_missing_pixels():
    random = np.random.default_rng(2)
    frames = np.full((2, 41, 43), 5.0)
    frames[0, random.random((41, 43)) < 0.2] = np.nan
    frames[1, 20, 20] = np.inf
    band = radial_band((20.2, 21.4), (0.3, 1), -10, 1, 9)
    profile = band_profiles(frames, band, 20)
    np.testing.assert_allclose(profile.counts, 45, rtol=1e-11)
    assert 0.7 < profile.valid[0].mean() < 0.9
    np.testing.assert_allclose(1 - profile.valid[1].sum() / 20, 1 / 180, rtol=1e-9)
    subtracted = band_profiles(frames, band, 20, background="sides")
    np.testing.assert_allclose(subtracted.counts, 0, atol=1e-10)
    np.testing.assert_allclose(subtracted.background, 45, rtol=1e-11)


def test_bins_that_are_hardly_seen_are_nan():
    frame = np.ones((1, 20, 20))
    band = Band((10.0, 12.5), (0.0, 1.0), (5.0, 0.0))
    profile = band_profiles(frame, band, 12)  # the frame ends at x = 19.5
    np.testing.assert_allclose(profile.counts[0, :7], 5)
    assert np.isnan(profile.counts[0, 7:]).all() and np.isnan(profile.variance[0, 7:]).all()
    np.testing.assert_allclose(profile.valid[0], np.repeat([1.0, 0.0], [7, 5]), atol=1e-12)
    mask = np.zeros((20, 20), dtype=bool)
    mask[8:11, 14] = True  # three of five pixels of the second bin
    mask[8:10, 16] = True  # two of five of the fourth
    masked = band_profiles(frame, band, 12, mask=mask)
    assert np.isnan(masked.counts[0, 1])
    np.testing.assert_allclose(masked.counts[0, 3], 5)
    np.testing.assert_allclose(masked.variance[0, 3], 3 * (5 / 3) ** 2)
    np.testing.assert_allclose(masked.valid[0, [1, 3]], [0.4, 0.6])


def test_band_outside_the_frame_and_frames_of_nan():
    band = radial_band((200, 300), (0, 1), 0, 1, 5)
    outside = band_profiles(np.ones((1, 20, 20)), band, 4)
    assert np.isnan(outside.counts).all() and np.all(outside.valid == 0)
    empty = band_profiles(np.full((1, 20, 20), np.nan), radial_band((9, 9), (0, 1), 0, 1, 5), 4)
    assert np.isnan(empty.counts).all() and np.all(empty.valid == 0)
    assert band_profiles(np.ones((0, 20, 20)), band, 4).counts.shape == (0, 4)


def test_mask_of_every_frame():
    frames = np.ones((2, 20, 20))
    mask = np.zeros((2, 20, 20), dtype=bool)
    mask[1] = True
    profile = band_profiles(frames, radial_band((10, 10), (1, 1), -3, 1, 4), 6, mask=mask)
    np.testing.assert_allclose(profile.counts[0], 4)
    assert np.isnan(profile.counts[1]).all()


# ---------------------------------------------------------------- background and neighbours


@pytest.mark.parametrize("angle", [0.0, 0.6, 1.9])
def test_sides_take_a_sloping_background_away(angle):
    y, x = np.indices((91, 93))
    centre = np.array([45.2, 46.3])
    spot = gaussian(y.shape, centre, 2.0, total=1000)
    band = radial_band(centre, direction(angle), -10, 1, 20)
    plain = band_profiles(spot[None], band, 20)
    sloped = band_profiles(
        (spot + 40 + 0.2 * y - 0.3 * x)[None], band, 20, background="sides", side_width=0.4
    )
    # the spot's tail beyond 5 sigma, 6e-7 of it, lies in the sides
    np.testing.assert_allclose(sloped.counts, plain.counts, atol=1e-2)
    middle = band.origin + (np.arange(20)[:, None] + 0.5) * band.along
    level = 20 * (40 + middle @ [0.2, -0.3])
    np.testing.assert_allclose(sloped.background[0], level, atol=1e-2)
    assert np.all(sloped.variance > plain.variance)


def test_one_side_serves_where_the_other_is_missing():
    frame = np.full((1, 30, 30), 4.0)
    frame[:, :10] = np.nan
    band = Band((15.0, 5.5), (0.0, 1.0), (10.0, 0.0))
    profile = band_profiles(frame, band, 10, background="sides")
    np.testing.assert_allclose(profile.counts, 0, atol=1e-10)
    frame[:, 20:] = np.nan
    frame[:, 10:20] = 4.0
    lost = band_profiles(frame, band, 10, background="sides")
    assert np.isnan(lost.counts).all() and np.isnan(lost.background).all()
    assert np.all(lost.valid > 0.9)


@pytest.mark.parametrize("background", ["none", "sides"])
def test_neighbours_are_left_out(background):
    scale = np.diag([0.02, 0.03])
    centre = np.array([40.0, 38.0])
    neighbour = np.array([48.0, 44.0])
    # a neighbour that ends at the disc: 0.1 in k is 5 rows, 3.3 columns
    y, x = np.indices((81, 77))
    inside = np.hypot((y - 48) * 0.02, (x - 44) * 0.03) < 0.1
    frame = np.where(inside, 500.0, 3.0)
    band = radial_band(centre, (0.3, 1), -0.3, 0.03, 0.5, to_k=scale)
    profile = band_profiles(
        frame[None],
        band,
        24,
        exclude=np.array([neighbour, [np.nan, np.nan]]),
        exclude_radius=0.1,
        to_k=scale,
        background=background,
    )
    area = 0.03 * 0.5 / (0.02 * 0.03)
    level = 3 * area if background == "none" else 0
    np.testing.assert_allclose(profile.counts, level, atol=1e-9)
    # the disc lies in the band whole
    np.testing.assert_allclose(((1 - profile.valid) * area).sum(), inside.sum(), rtol=1e-9)
    contaminated = band_profiles(frame[None], band, 20)
    assert contaminated.counts.max() > 10 * 3 * area


def test_spot_beside_an_excluded_corner_keeps_its_counts():
    """With the background known, what a neighbour hides is background, not a share of the spot."""
    centre = np.array([30.0, 30.0])
    frame = 5 + gaussian((61, 61), centre, 2.0, total=1000)
    band = radial_band(centre, (0, 1), -10, 1, 24)
    options = {"background": "sides"}
    hidden = band_profiles(
        frame[None], band, 20, exclude=np.array([[41.0, 31.0]]), exclude_radius=2.5, **options
    )
    plain = band_profiles(frame[None], band, 20, **options)
    assert hidden.valid.min() < 0.9
    # pixels beside the disc are spread evenly: the spot has 1e-4 of its counts beyond 8 px
    np.testing.assert_allclose(hidden.counts, plain.counts, atol=0.1)


# ---------------------------------------------------------------- bad input

FRAMES = np.ones((2, 20, 20))
BAND = Band((10.0, 5.0), (0.0, 1.0), (5.0, 0.0))


@pytest.mark.parametrize(
    ("frames", "band", "options", "message"),
    [
        (FRAMES[0], BAND, {}, "frames has 2 dimensions"),
        (FRAMES, Band((1, 2, 3), (0, 1), (1, 0)), {}, "band.origin has shape"),
        (FRAMES, BAND._replace(origin=np.ones((3, 2))), {}, "band.origin has 3 rows"),
        (FRAMES, BAND._replace(across=(0, 3)), {}, "parallel"),
        (FRAMES, BAND, {"background": "median"}, "background is 'median'"),
        (FRAMES, BAND, {"background": "sides", "side_width": 0}, "side_width is 0"),
        (FRAMES, BAND, {"gain": 0}, "gain is 0"),
        (FRAMES, BAND, {"gain_offset": -1}, "gain_offset -1"),
        (FRAMES, BAND, {"mask": np.zeros((3, 3), bool)}, "mask has shape"),
        (FRAMES, BAND, {"exclude": np.ones(2), "exclude_radius": 1}, "exclude has shape"),
        (FRAMES, BAND, {"exclude": np.ones((1, 2))}, "exclude_radius is None"),
        (FRAMES, BAND, {"to_k": np.ones((2, 2))}, "to_k is"),
    ],
)
def test_bad_input(frames, band, options, message):
    with pytest.raises(ValueError, match=message):
        band_profiles(frames, band, 5, **options)


def test_more_bad_input():
    with pytest.raises(TypeError, match="complex"):
        band_profiles(FRAMES.astype(complex), BAND, 5)
    with pytest.raises(ValueError, match="n_bins is 0"):
        band_profiles(FRAMES, BAND, 0)
    for name in ("step", "width"):
        with pytest.raises(ValueError, match=f"{name} is -1"):
            radial_band((1, 1), (0, 1), 0, **{"step": 1, "width": 1, name: -1})
    with pytest.raises(ValueError, match="length zero"):
        radial_band((1, 1), (0, 0), 0, 1, 1)
