"""Lattice spots found in power spectra, and their refinement."""

import numpy as np
import pytest

from hyperspy_lfp.kernels.gpa.bragg import (
    find_spots,
    in_half_plane,
    power_spectrum,
    refine_vectors,
)

NAMES = ("square", "rotated", "hexagonal", "oblique")


def _find(frames, n=6):
    """Spots in (x, y) order."""
    frames = np.asarray(frames)
    frames = frames if frames.ndim == 3 else frames[None]
    return find_spots(power_spectrum(frames), n, len(frames))[:, ::-1]


def _check(found, expected, shape, tolerance=0.3):
    """Each expected vector once, up to its sign, and nothing else; tolerance in FFT pixels.

    Before refinement a third of an FFT pixel is plenty: refinement starts from two.
    """
    expected = np.atleast_2d(expected)
    pixels = np.array(shape[::-1])
    distance = np.minimum(
        np.linalg.norm((found[:, None] - expected) * pixels, axis=-1),
        np.linalg.norm((found[:, None] + expected) * pixels, axis=-1),
    )
    assert len(found) == len(expected), (found, expected)
    assert np.all(distance.min(axis=0) < tolerance), (found, expected, distance)


def _poisson(image, dose, seed=0, frames=1):
    random = np.random.default_rng(seed)
    return random.poisson(dose * np.maximum(image, 0), (frames, *image.shape)).astype(np.uint16)


# --- power spectra ---


def test_spectrum_of_a_wave():
    """Half of its power on either side, zero frequency in the middle, no mean."""
    for shape in ((64, 81), (75, 60)):
        y, x = np.mgrid[: shape[0], : shape[1]]
        wave = 5 + np.cos(2 * np.pi * (9 * x / shape[1] - 7 * y / shape[0]))
        spectrum = power_spectrum(wave[None])
        assert spectrum.shape == shape and spectrum.dtype == np.float64
        cy, cx = shape[0] // 2, shape[1] // 2
        peaks = {(cy - 7, cx + 9), (cy + 7, cx - 9)}
        strongest = np.argsort(spectrum, axis=None)[-2:]
        found = {tuple(int(i) for i in np.unravel_index(k, shape)) for k in strongest}
        assert found == peaks
        # the Hann window halves the amplitude along each axis: (A/2 N / 4)^2
        expected = (0.5 * shape[0] * shape[1] / 4) ** 2
        assert spectrum[cy - 7, cx + 9] == pytest.approx(expected, rel=1e-3)
        assert spectrum[cy, cx] < 1e-6 * expected


def test_spectra_of_frames_are_averaged():
    random = np.random.default_rng(0)
    frames = random.standard_normal((3, 40, 50)).astype(np.float32)
    each = [power_spectrum(f[None]) for f in frames]
    np.testing.assert_allclose(power_spectrum(frames), np.mean(each, axis=0), rtol=1e-5)
    # white noise of variance one: the sum of the squares of the window, the same everywhere
    random = np.random.default_rng(1)
    spectrum = power_spectrum(random.standard_normal((64, 40, 50)))
    assert np.median(spectrum) == pytest.approx(40 * 50 * (3 / 8) ** 2, rel=0.03)


def test_missing_pixels_and_frames():
    random = np.random.default_rng(0)
    frames = random.poisson(100, (3, 40, 50)).astype(np.float32)
    with_nothing = np.concatenate([frames, np.full((1, 40, 50), np.nan, np.float32)])
    np.testing.assert_array_equal(power_spectrum(with_nothing), power_spectrum(frames))
    assert not power_spectrum(with_nothing[3:]).any()
    frames[0, 3, 4] = np.nan
    assert np.isfinite(power_spectrum(frames)).all()


# --- spots ---


@pytest.mark.parametrize("shape", [(256, 256), (300, 211), (195, 270)])
@pytest.mark.parametrize("name", NAMES)
def test_every_wave_once(synthetic, name, shape):
    """No doubles of either sign, none invented, at 30 electrons a pixel."""
    _, waves = synthetic.lattice(name)
    image = synthetic.image(shape, waves)
    found = _find(_poisson(image, 30))
    _check(found, [w[0] for w in waves], shape)
    assert all(in_half_plane(v) for v in found)


@pytest.mark.parametrize("name", NAMES)
def test_no_harmonics(synthetic, name):
    """Atom columns have multiples of every spot; they are no vectors of their own."""
    shape = (300, 311)
    g, waves = synthetic.lattice(name, "gaussians")
    found = _find(_poisson(synthetic.image(shape, waves), 100), n=8)
    indices = found @ np.linalg.inv(g)
    # whole numbers to within an FFT pixel, without a common divisor, every one once
    whole = np.rint(indices).astype(int)
    assert np.abs((indices - whole) @ g * shape[::-1]).max() < 1
    assert np.all(np.gcd(whole[:, 0], whole[:, 1]) == 1)
    unique = {max(tuple(row), tuple(-row)) for row in whole}
    assert len(unique) == len(found) >= 4
    # the strongest first
    assert {max(tuple(row), tuple(-row)) for row in whole[:2]} <= {(1, 0), (0, 1), (1, -1)}


def test_strongest_first(synthetic):
    shape = (256, 280)
    g, waves = synthetic.lattice("oblique")
    waves = [(waves[0][0], 0.1, 0.0), (waves[1][0], 0.3, 1.0)]
    found = _find(_poisson(synthetic.image(shape, waves), 50), n=2)
    _check(found[:1], g[1], shape)
    _check(found[1:], g[0], shape)
    _check(_find(_poisson(synthetic.image(shape, waves), 50), n=1), g[1], shape)


@pytest.mark.parametrize("frames", [1, 4, 16])
@pytest.mark.parametrize("seed", range(4))
def test_noise_has_no_spots(seed, frames):
    """One false spot in a thousand spectra is allowed for."""
    random = np.random.default_rng(seed)
    assert not len(_find(random.poisson(20, (frames, 200, 213)).astype(np.uint8)))


def test_correlated_noise_has_no_spots():
    """An amorphous film: noise with a ring."""
    random = np.random.default_rng(0)
    shape = (256, 300)
    fy, fx = np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij")
    ring = 1 + 5 * np.exp(-((np.hypot(fx, fy) - 0.12) ** 2) / (2 * 0.03**2))
    for _ in range(4):
        noise = np.fft.ifft2(np.fft.fft2(random.standard_normal(shape)) * ring).real
        assert not len(_find(noise))


@pytest.mark.parametrize("name", ["square", "hexagonal"])
def test_slope_of_the_illumination_is_no_cross(synthetic, name):
    """A jump between opposite borders draws a cross through zero."""
    shape = (256, 240)
    _, waves = synthetic.lattice(name)
    y, x = np.mgrid[: shape[0], : shape[1]]
    slope = 1 + 2.0 * x / shape[1] + 1.0 * y / shape[0]
    found = _find(_poisson(slope * synthetic.image(shape, waves), 60))
    _check(found, [w[0] for w in waves], shape)
    assert not len(_find(_poisson(slope, 60)))


@pytest.mark.parametrize("name", ["rotated", "hexagonal"])
@pytest.mark.parametrize("turn", [0.0, 10.0])
def test_particle_in_vacuum(synthetic, name, turn):
    """Straight edges draw streaks through every spot and through zero."""
    shape = (300, 320)
    _, waves = synthetic.lattice(name)
    y, x = np.mgrid[: shape[0], : shape[1]] - np.array([150, 160])[:, None, None]
    c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    inside = (np.abs(c * x + s * y) < 85) & (np.abs(c * y - s * x) < 70)
    image = 1 + inside * (synthetic.image(shape, waves, mean=0.0) - 0.3)
    found = _find(_poisson(image, 100))
    _check(found, [w[0] for w in waves], shape, tolerance=1.0)


def test_scan_noise(synthetic):
    """Lines that are brighter or shifted against each other streak through the spectrum."""
    shape = (256, 256)
    _, waves = synthetic.lattice("rotated")
    random = np.random.default_rng(3)
    jitter = 0.5 * random.standard_normal(shape[0])
    image = synthetic.image(shape, waves, lambda x, y: (jitter[:, None], 0.0))
    image += 0.1 * random.standard_normal(shape[0])[:, None]
    found = _find(_poisson(image, 100))
    _check(found, [w[0] for w in waves], shape)


def test_lines_alone_are_no_lattice():
    """Lines of different brightness put all of their noise on one streak through zero."""
    false = 0
    for seed in range(12):
        random = np.random.default_rng(seed)
        lines = np.clip(1 + 0.2 * random.standard_normal(256), 0, None)
        false += len(_find(_poisson(lines[:, None] * np.ones(256), 100, seed)))
    assert false <= 1


def test_bent_crystal(synthetic):
    """Three degrees across the frame: every spot is an arc, and one vector."""
    shape = (300, 300)
    g, waves = synthetic.lattice("square")
    bend = np.deg2rad(3.0) / shape[0]

    def displacement(x, y):
        return bend * (y - 150) * (x - 150) * 0.5, -bend * (x - 150) ** 2 * 0.25

    found = _find(_poisson(synthetic.image(shape, waves, displacement), 100))
    _check(found, g, shape, tolerance=3.0)


def test_movie_with_drift(synthetic):
    """Power spectra do not mind drift; weak fringes show in the mean of many frames."""
    shape = (200, 220)
    _, waves = synthetic.lattice("oblique")
    waves = [(v, 0.05, p) for v, _, p in waves]
    random = np.random.default_rng(1)
    frames = [
        random.poisson(20 * synthetic.image(shape, waves, lambda x, y, i=i: (0.7 * i, -0.4 * i)))
        for i in range(12)
    ]
    _check(_find(frames), [w[0] for w in waves], shape)


def test_half_plane():
    """One of each pair, whatever the direction; the axes lie well inside."""
    for angle in np.deg2rad(np.arange(0.0, 360.0, 7.0)):
        v = np.array([np.cos(angle), np.sin(angle)])
        assert in_half_plane(v) != in_half_plane(-v)
    for v in ((1.0, 0.01), (1.0, -0.01), (0.01, 1.0), (-0.01, 1.0)):
        assert in_half_plane(v)


# --- refinement ---


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("columns", ["cosines", "gaussians"])
def test_refined_vectors(synthetic, name, columns):
    """From 1.7 FFT pixels off, noise-free: the strain left over is below 1e-5 (gate)."""
    shape = (240, 261)
    g, waves = synthetic.lattice(name, columns)
    off = g + 1.7 * np.array([[0.6, -0.8], [-0.8, -0.6]]) / np.array(shape[::-1])
    image = synthetic.image(shape, waves)
    refined = refine_vectors(image[None], off[:, ::-1])[:, ::-1]
    assert np.abs(refined - g).max() < 1e-5 * np.linalg.norm(g, axis=1).min()


def test_refined_vectors_with_noise(synthetic):
    """Below a tenth of an FFT pixel at 30 electrons a pixel, contrast 0.2."""
    shape = (240, 261)
    _, waves = synthetic.lattice("hexagonal")
    frames = _poisson(synthetic.image(shape, waves), 30, frames=2)
    found = find_spots(power_spectrum(frames), 3, 2)
    refined = refine_vectors(frames, found)[:, ::-1]
    _check(refined, [w[0] for w in waves], shape, tolerance=0.1)


def test_refined_within_a_region(synthetic):
    """Two grains: each region has its own lattice."""
    shape = (240, 320)
    left = synthetic.lattice("rotated")
    f = synthetic.rotation_matrix(1.0) @ np.diag([1.02, 0.99])
    right = synthetic.deformed(left, f)
    image = synthetic.image(shape, left.waves)
    image[:, 160:] = synthetic.image(shape, right.waves)[:, 160:]
    for grain, columns in ((left, slice(0, 160)), (right, slice(160, 320))):
        region = (slice(20, 220), columns)
        refined = refine_vectors(image[None], left.g[:, ::-1], region)[:, ::-1]
        assert np.abs(refined - grain.g).max() < 1e-5 * np.abs(grain.g).max()


def test_refined_over_frames_with_holes(synthetic):
    shape = (200, 220)
    g, waves = synthetic.lattice("oblique")
    frames = np.array([synthetic.image(shape, waves, lambda x, y, i=i: (i, 0)) for i in range(3)])
    frames[1] = np.nan
    frames[2, :, :60] = np.nan
    refined = refine_vectors(frames, 1.01 * g[:, ::-1])[:, ::-1]
    assert np.abs(refined - g).max() < 1e-4 * np.abs(g).max()


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_refining_nothing_is_an_error():
    with pytest.raises(ValueError, match="finite"):
        refine_vectors(np.full((2, 64, 64), np.nan), [[0.1, 0.0], [0.0, 0.1]])


def test_start_values_are_left_alone(synthetic):
    g, waves = synthetic.lattice("square")
    start = 1.01 * g[:, ::-1]
    before = start.copy()
    refine_vectors(synthetic.image((100, 120), waves)[None], start)
    np.testing.assert_array_equal(start, before)
