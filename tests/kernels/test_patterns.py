"""Diffraction patterns: clean-up, centre, distortion and rotation, against closed forms."""

import numpy as np
import pytest

from hyperspy_lfp.kernels.patterns.centre import find_centre
from hyperspy_lfp.kernels.patterns.distortion import fit_distortion, fit_rings, rotation_drift
from hyperspy_lfp.kernels.patterns.frames import bad_pixels, clean

SHAPE = (150, 161)
CENTRE = np.array([73.37, 84.72])
#: Reciprocal basis in pixels, (y, x).
BASIS = np.array([[4.0, 21.0], [27.0, -3.0]])


def spots_of(centre=CENTRE, matrix=None, largest=3, shape=SHAPE):
    """(positions, ideal) of lattice spots within the frame, without the direct beam."""
    numbers = range(-largest, largest + 1)
    ideal = np.array([(h, k) for h in numbers for k in numbers if h or k]) @ BASIS
    at = centre + (ideal if matrix is None else ideal @ np.asarray(matrix).T)
    inside = ((at > 3) & (at < np.array(shape) - 4)).all(axis=1)
    return at[inside], ideal[inside]


def draw(positions, intensities, shape=SHAPE, background=20.0, sigma=1.4, halo=None):
    """Expected counts."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    light = np.zeros(shape) + background
    if halo is not None:
        light += 60 * np.exp(-((y - halo[0]) ** 2 + (x - halo[1]) ** 2) / (2 * 30.0**2))
    for (py, px), total in zip(positions, intensities, strict=True):
        distance = ((y - py) ** 2 + (x - px) ** 2) / (2 * sigma**2)
        light += total / (2 * np.pi * sigma**2) * np.exp(-distance)
    return light


def crystal(centre=CENTRE, beam=0.0, seed=0, **options):
    """A noisy pattern of one crystal; Friedel mates differ in intensity."""
    random = np.random.default_rng(seed)
    at, _ = spots_of(centre, options.pop("matrix", None), shape=options.get("shape", SHAPE))
    distance = np.hypot(*(at - centre).T)
    intensity = 9000 * np.exp(-((distance / 60) ** 2)) * random.uniform(0.5, 1.5, len(at)) + 800
    positions = np.vstack([at, centre])
    light = draw(positions, np.append(intensity, beam), halo=centre, **options)
    return random.poisson(light).astype(np.uint16)


def rings(centre, shape=(180, 190), e=0.0, angle=0.0, seed=0, texture=0.0):
    """Rings of (long axis / short axis - 1) = e, long axis counter-clockwise from x."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    dy, dx = y - centre[0], x - centre[1]
    c, s = np.cos(angle), np.sin(angle)
    root = np.sqrt(1 + e)
    along, across = (dx * c - dy * s) / root, (dx * s + dy * c) * root
    radius, phi = np.hypot(along, across), np.arctan2(-dy, dx)
    light = 30 + 300 * np.exp(-radius / 20)
    for r, height in ((28, 200), (46, 150), (65, 100)):
        light += height * (1 + texture * np.cos(phi - 1)) * np.exp(-((radius - r) ** 2) / 8)
    return np.random.default_rng(seed).poisson(light)


# --- bad pixels and spikes ---


def series_with_faults():
    """Six frames of a drifting crystal with faults at known places."""
    frames = np.stack([crystal(CENTRE + 0.3 * t, 20000, seed=t, background=60) for t in range(6)])
    frames = frames.astype(np.float32)
    hot = np.zeros(SHAPE, dtype=bool)
    dead = hot.copy()
    hot[12, 34] = hot[120, 100] = hot[120, 101] = hot[0, 0] = True
    dead[50, 90] = dead[149, 160] = True
    spikes = np.zeros(frames.shape, dtype=bool)
    spikes[1, 33, 61] = spikes[4, 100, 20] = spikes[4, 101, 21] = True
    frames[:, hot] += 900
    frames[:, dead] = 0
    frames[spikes] += 2500
    return frames, hot, dead, spikes


def test_bad_pixels():
    """Those that last, and nothing else: neither spikes nor sharp spots."""
    frames, hot, dead, _ = series_with_faults()
    found_hot, found_dead = bad_pixels(frames)
    np.testing.assert_array_equal(np.argwhere(found_hot), np.argwhere(hot))
    np.testing.assert_array_equal(np.argwhere(found_dead), np.argwhere(dead))


@pytest.mark.parametrize("fill", ["nan", "median"])
def test_clean(fill):
    frames, hot, dead, spikes = series_with_faults()
    cleaned, replaced = clean(frames, fill=fill)
    np.testing.assert_array_equal(replaced, spikes | hot | dead)
    np.testing.assert_array_equal(cleaned[~replaced], frames[~replaced])
    assert cleaned.dtype == np.float32
    if fill == "nan":
        assert np.isnan(cleaned[replaced]).all()
    else:
        # what would be there: background and halo, 60 to 120 counts, and the flank of a spot
        assert (cleaned[replaced] > 30).all() and (cleaned[replaced] < 300).all()


def test_clean_leaves_sharp_spots():
    """Spots of 0.7 pixel, anywhere in their pixel, in one frame and moving by pixels."""
    random = np.random.default_rng(0)
    frames = []
    for _ in range(8):
        at = np.array([(y, x) for y in range(15, 140, 25) for x in range(15, 150, 25)], float)
        at += random.uniform(-3, 3, at.shape)
        light = draw(at, np.full(len(at), 30000.0), sigma=0.7)
        frames.append(random.poisson(light).astype(np.uint16))
    assert not clean(np.array(frames))[1].any()
    assert not clean(frames[0][None])[1].any()


def test_clean_keeps_counts_of_sparse_frames():
    """Single electrons on empty pixels are no spikes."""
    frames = np.random.default_rng(0).poisson(0.02, (4, 128, 128)).astype(np.uint8)
    frames[2, 60, 60] = 200
    np.testing.assert_array_equal(np.argwhere(clean(frames)[1]), [[2, 60, 60]])


def test_clean_of_masked_and_empty_frames():
    frames, *_ = series_with_faults()
    mask = np.zeros(SHAPE, dtype=bool)
    mask[10:15, 30:40] = True
    frames[3] = np.nan
    cleaned, replaced = clean(frames, mask=mask)
    assert not replaced[:, mask].any() and not replaced[3].any()
    assert np.isnan(cleaned[3]).all() and replaced[:, 120, 100].sum() == 5
    with pytest.raises(ValueError, match="fill"):
        clean(frames, fill="zero")
    with pytest.raises(ValueError, match="bad"):
        clean(frames, bad=np.zeros((3, 3)))


# --- centre ---

#: Gate of the issue, pixels.
GATE = 0.05


@pytest.mark.parametrize("method", ["auto", "friedel", "direct beam"])
def test_centre_of_a_crystal(method):
    centres = CENTRE + np.array([[0, 0], [1.3, -0.9], [2.2, 0.4], [0.1, 1.6]])
    frames = np.stack([crystal(c, beam=20000, seed=i) for i, c in enumerate(centres)])
    found = find_centre(frames, method)
    np.testing.assert_allclose(found.position, centres, atol=GATE)
    assert (found.error < GATE / 2).all() and (found.error > 0).all()


def beam_stop(centre, shape=SHAPE, radius=14):
    """A disc on the centre and its arm to the upper border."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    disc = np.hypot(y - centre[0], x - centre[1]) < radius
    return disc | ((abs(x - centre[1]) < 6) & (y < centre[0]))


@pytest.mark.parametrize("centre", [(73.4, 84.7), (49.6, 57.3), (105.2, 110.9)])
@pytest.mark.parametrize("as_nan", [False, True])
def test_centre_behind_a_beam_stop(centre, as_nan):
    """Also off the middle, where many partners are outside the frame or behind the arm."""
    centre = np.array(centre)
    stop = beam_stop(centre)
    frame = np.where(stop, np.nan if as_nan else 3, crystal(centre, beam=1e6))
    for method in ("auto", "friedel"):
        found = find_centre(frame, method, mask=None if as_nan else stop)
        np.testing.assert_allclose(found.position[0], centre, atol=GATE)
        assert found.method[0] == "pairs"


@pytest.mark.parametrize("top", [255, 65535])
def test_saturated_direct_beam(top):
    """The flanks of a flat top give the centre, said or found."""
    dtype = np.uint8 if top == 255 else np.uint16
    light = draw([CENTRE], [top * 300.0], sigma=3.1)
    frame = np.minimum(np.random.default_rng(0).poisson(light), top).astype(dtype)
    assert np.count_nonzero(frame == top) > 50
    for data in (frame, frame.astype(np.float32)):
        found = find_centre(data, "direct beam")
        np.testing.assert_allclose(found.position[0], CENTRE, atol=GATE)


@pytest.mark.parametrize("texture", [0.0, 0.5])
def test_centre_of_rings(texture):
    """No pairs: the whole pattern against its inversion; cut off by a border as well."""
    for centre in ((88.3, 97.6), (61.2, 110.4)):
        frame = rings(centre, texture=texture)
        stop = beam_stop(centre, frame.shape, 10)
        found = find_centre(np.where(stop, 0, frame), "friedel", mask=stop)
        np.testing.assert_allclose(found.position[0], centre, atol=3 * GATE)
        assert found.method[0] == "inversion"


def test_start_chooses_the_inversion_centre():
    """A lattice has one on every half vector; the start says which."""
    at, _ = spots_of()
    frame = draw(at, np.full(len(at), 5000.0))
    middle = CENTRE + BASIS[0] / 2
    found = find_centre(frame, "friedel", start=middle + [1, -1])
    np.testing.assert_allclose(found.position[0], middle, atol=GATE)


def test_frames_without_a_centre_do_not_stop_the_rest():
    random = np.random.default_rng(0)
    good = crystal().astype(np.float32)
    frames = np.stack(
        [good, np.full(SHAPE, np.nan), np.zeros(SHAPE), random.normal(0, 1, SHAPE), good - 300]
    )
    found = find_centre(frames)
    assert (found.method == "").tolist() == [False, True, True, True, False]
    assert np.isnan(found.position[1:4]).all() and np.isnan(found.error[1:4]).all()
    # a negative pedestal changes nothing but rounding
    np.testing.assert_allclose(found.position[[0, 4]], [CENTRE, CENTRE], atol=GATE)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"method": "best"}, ValueError, "'best'"),
        ({"start": (500, 3)}, ValueError, "start"),
        ({"start": (np.nan, 3)}, ValueError, "start"),
        ({"mask": np.zeros((3, 3), dtype=bool)}, ValueError, "mask"),
        ({"frames": np.zeros((4, 4), dtype=complex)}, TypeError, "complex"),
        ({"frames": np.zeros(4)}, ValueError, "shape"),
    ],
)
def test_bad_input(options, error, text):
    frames = options.pop("frames", np.zeros((20, 20)))
    with pytest.raises(error, match=text):
        find_centre(frames, **options)


def test_centre_of_large_frames():
    """Searched for in a binned frame, but fitted in all pixels; odd sizes are cut off."""
    shape, centre = (607, 811), np.array([287.31, 421.58])
    at = centre + 4 * spots_of()[1]
    at = at[((at > 8) & (at < np.array(shape) - 9)).all(axis=1)]
    light = draw(at, np.full(len(at), 20000.0), shape, sigma=2.5, halo=centre)
    stop = beam_stop(centre, shape, 30)
    frame = np.random.default_rng(0).poisson(np.where(stop, 1, light))
    found = find_centre(frame, mask=stop)
    np.testing.assert_allclose(found.position[0], centre, atol=GATE)


# --- distortion ---


def stretch(ratio, angle):
    """Unimodular stretch on (y, x) vectors, long axis counter-clockwise as displayed, y down."""
    axis = np.array([-np.sin(angle), np.cos(angle)])
    across = np.array([np.cos(angle), np.sin(angle)])
    root = np.sqrt(ratio)
    return root * np.outer(axis, axis) + np.outer(across, across) / root


def turn(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def test_turn_is_counter_clockwise_as_displayed():
    """x to the right turns towards smaller y, which is up."""
    assert (turn(0.1) @ [0, 1])[0] < 0


@pytest.mark.parametrize(
    ("scale", "rotation", "ratio", "angle"),
    [(1.0, 0.0, 1.02, 0.3), (0.97, -0.05, 1.05, -1.2), (1.3, 0.7, 1.01, 1.5), (2.0, 3.0, 1.2, 0.9)],
)
def test_affine_map_is_separated(scale, rotation, ratio, angle):
    """To rounding, and the correction leaves a scaled rotation."""
    matrix = scale * stretch(ratio, angle) @ turn(rotation)
    _, ideal = spots_of()
    found = fit_distortion(CENTRE + ideal @ matrix.T, ideal)
    np.testing.assert_allclose(found.matrix, matrix, atol=1e-12)
    np.testing.assert_allclose(found.centre, CENTRE, atol=1e-9)
    values = (found.scale, found.rotation, found.ellipticity, found.angle)
    np.testing.assert_allclose(values, (scale, rotation, ratio - 1, angle), atol=1e-9)
    assert np.linalg.det(found.correction) == pytest.approx(1)
    np.testing.assert_allclose(found.correction @ matrix, scale * turn(rotation), atol=1e-9)


def test_no_distortion_has_no_direction():
    _, ideal = spots_of()
    found = fit_distortion(ideal, ideal)
    assert found.ellipticity == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(found.correction, np.eye(2), atol=1e-12)


def test_standard_errors_of_the_map():
    """The scatter of 300 noisy fits is known to 4 %; four times that is allowed."""
    matrix = 1.1 * stretch(1.03, 0.5) @ turn(0.2)
    _, ideal = spots_of()
    random = np.random.default_rng(0)
    names = ("scale", "rotation", "ellipticity", "angle")
    values, errors = [], []
    for _ in range(300):
        found = fit_distortion(ideal @ matrix.T + random.normal(0, 0.1, ideal.shape), ideal)
        values.append([getattr(found, n) for n in names])
        errors.append([getattr(found, n + "_error") for n in names])
    np.testing.assert_allclose(np.std(values, axis=0), np.mean(errors, axis=0), rtol=0.16)


def test_wrong_spots_do_not_pull_the_map():
    matrix = stretch(1.02, 0.4)
    at, ideal = CENTRE + spots_of()[1] @ matrix.T, spots_of()[1]
    at[3] += [4, -6]
    at[7] = np.nan
    found = fit_distortion(at + np.random.default_rng(0).normal(0, 0.02, at.shape), ideal)
    assert found.ellipticity == pytest.approx(0.02, abs=1e-3)


@pytest.mark.parametrize(
    ("measured", "ideal", "text"),
    [
        (np.zeros((3, 2)), np.zeros((3, 2)), "3 spots"),
        (np.zeros((5, 2)), np.zeros((4, 2)), "pairs"),
        (np.arange(12).reshape(6, 2), np.arange(12).reshape(6, 2), "line"),
        ([[0, 1], [1, 0], [0, -1], [-1, 0]], [[1, 0], [0, 1], [-1, 0], [0, -1]], "mirrors"),
    ],
)
def test_bad_pairs(measured, ideal, text):
    with pytest.raises(ValueError, match=text):
        fit_distortion(measured, ideal)


@pytest.mark.parametrize(("e", "angle"), [(0.03, 0.4), (0.01, -1.1), (0.06, 1.4)])
@pytest.mark.parametrize("texture", [0.0, 0.5])
def test_ellipse_of_rings(e, angle, texture):
    """Within four standard errors, which are a fraction of the effect; so is the centre."""
    centre = np.array([90.3, 94.6])
    frame = rings(centre, e=e, angle=angle, texture=texture)
    stop = beam_stop(centre, frame.shape, 10)
    found = fit_rings(np.where(stop, 0, frame), centre + [0.8, -1.1], mask=stop, radii=(18, 85))
    assert found.ellipticity_error < 0.002 and found.angle_error < 0.1
    # second order in e is not modelled: e^2 / 4
    assert abs(found.ellipticity - e) < 4 * found.ellipticity_error + e**2 / 2
    apart = (found.angle - angle + np.pi / 2) % np.pi - np.pi / 2
    assert abs(apart) < 4 * found.angle_error
    assert (abs(found.centre - centre) < np.maximum(4 * found.centre_error, 0.03)).all()
    np.testing.assert_allclose(found.matrix, stretch(1 + e, angle), atol=4e-3)
    assert np.isnan(found.scale_error) and np.isnan(found.rotation_error)


@pytest.mark.parametrize("aspect", [0.8, 1.25])
def test_rings_of_oblong_pixels(aspect):
    """The ellipse is that of k, not of the pixels."""
    e, angle, centre = 0.03, 0.4, np.array([90.3, 94.6])
    y, x = np.indices((181, 220)) - centre[:, None, None]
    back = np.linalg.inv(stretch(1 + e, angle))
    y, x = np.tensordot(back, np.stack([y, aspect * x]), 1)
    r = np.hypot(y, x)
    light = 20 + sum(300 * np.exp(-(((r - at) / 3) ** 2)) for at in (35, 50, 61, 75))
    frame = np.random.default_rng(0).poisson(light)
    found = fit_rings(frame, centre + [0.8, -1.1], radii=(18, 85), aspect=aspect)
    assert abs(found.ellipticity - e) < 4 * found.ellipticity_error + e**2 / 2
    apart = (found.angle - angle + np.pi / 2) % np.pi - np.pi / 2
    assert abs(apart) < 4 * found.angle_error
    assert (abs(found.centre - centre) < np.maximum(4 * found.centre_error, 0.03)).all()


def test_rings_that_are_not_there():
    flat = np.full((90, 90), 7.0)
    with pytest.raises(ValueError, match="rings"):
        fit_rings(flat, (45, 45))
    with pytest.raises(ValueError, match="radii"):
        fit_rings(flat, (45, 45), radii=(30, 20))
    with pytest.raises(ValueError, match="centre"):
        fit_rings(flat, (np.nan, 45))
    with pytest.raises(ValueError, match="one frame"):
        fit_rings(np.zeros((2, 90, 90)), (45, 45))


def test_rotation_drift():
    """Through strain, missing and false spots; counter-clockwise as displayed."""
    _, ideal = spots_of(largest=3)
    random = np.random.default_rng(0)
    angles = np.deg2rad([0, 0.5, 1.5, 4.0, -3.0, 0.2])
    frames = []
    for angle in angles:
        at = ideal @ (turn(angle) @ stretch(1.03, 0.2)).T if angle else ideal
        at = at[random.permutation(len(at))[: len(at) - 4]] + random.normal(
            0, 0.02, (len(at) - 4, 2)
        )
        frames.append(np.vstack([at, random.uniform(-60, 60, (2, 2))]))
    found, error = rotation_drift([*frames, frames[0][:2], np.empty((0, 2))])
    # the direction of a spot at 20 pixels or more, errors of 0.03 pixel, some 30 spots
    np.testing.assert_allclose(found[:6], angles, atol=1e-3)
    assert np.isnan(found[6:]).all() and np.isnan(error[6:]).all()
    with pytest.raises(ValueError, match="reference"):
        rotation_drift(frames, reference=9)
