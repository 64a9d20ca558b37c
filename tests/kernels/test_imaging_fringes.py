"""Fringes against cosines, bend contours, transfer functions, film and counting."""

import numpy as np
import pytest
from scipy import fft
from scipy.ndimage import spline_filter

from hyperspy_lfp.kernels.imaging import detector, edges, fringes, placement

LENGTHS = (0.98, 0.48)
INDICES = np.array([[2, 0], [1, 1], [1, -1], [0, 2], [3, -2]])


def _drawn(shape=(90, 120), angle=0.3, absorption=0.1, strength=(0.1, 0.2, 0.15, 0.05, 0.08)):
    """A frame full of a crystal with u = 0, and its place R."""
    pixel, shift = 0.05, (3.1, 2.2)
    coarse = placement.coarse_grid(shape, pixel, 0.3)
    pose = fringes.Pose(shift, angle, np.zeros((2, *coarse.shape)))
    axes = np.array([[0.8, 0.6], [-0.6, 0.8]])
    lattice = fringes.Lattice(axes, LENGTHS, INDICES)
    edge = edges.edge_of(np.ones((40, 40), dtype=bool), (1.0, 1.0), 0.2)
    amplitudes = np.ones((len(INDICES), *coarse.shape)) * np.array(strength)[:, None, None]
    image = fringes.draw(shape, pixel, 0.0, pose, coarse, lattice, amplitudes, edge, absorption)
    y, x = (np.arange(n) * pixel for n in shape)
    along = np.tensordot(axes, placement.unplaced(y, x, shift, angle), 1)
    return image, along


@pytest.mark.parametrize("shape", [(90, 120), (61, 37), (8, 300)])
def test_fringes_are_the_cosines_of_the_formula(shape):
    strength = np.array([0.1, 0.2, 0.15, 0.05, 0.08])
    image, along = _drawn(shape, strength=strength)
    phases = np.tensordot(INDICES / np.array(LENGTHS), along, 1)
    expected = 0.9 + np.tensordot(strength, np.cos(2 * np.pi * phases), 1)
    # float32, and products of a few such numbers
    np.testing.assert_allclose(image, expected, atol=2e-6)


def test_lowest_intensity_of_the_cell():
    lattice = fringes.Lattice(np.eye(2), LENGTHS, np.array([[2, 0], [0, 1]]))
    amplitudes = np.array([[0.2, 0.5], [0.1, -0.3]])
    np.testing.assert_allclose(fringes.lowest(lattice, amplitudes), [-0.3, -0.8], atol=1e-12)


def test_bend_contour():
    """sinc of thickness times excitation error: one on the contour, zero where t s = 1."""
    g = np.array([[2.0, 0.0], [0.0, 3.0]])
    curvature, thickness = 2e-3, 20.0
    zero = 1 / (thickness * curvature * 2.0)
    place = np.array([[1.0, 1.0 + zero], [0.0, 5.0]])
    factor = fringes.bent_amplitude(place, g, curvature, 0.0, 1.0, thickness)
    # planes across the direction of the bend stay as they are
    np.testing.assert_allclose(factor, [[1, 0], [1, 1]], atol=1e-12)


@pytest.mark.parametrize("shape", [(64, 48), (45, 63)])
def test_transfer_of_a_single_frequency(shape):
    rows, columns = (np.arange(n) for n in shape)
    k = (5, 7)
    wave = np.cos(2 * np.pi * (k[0] * rows[:, None] / shape[0] + k[1] * columns / shape[1]))
    frequency = np.hypot(k[0] / shape[0], k[1] / shape[1])
    factor = detector.transfer_factor(wave.shape, lambda q: np.exp(-q / 0.3))
    out = detector.transfer((1 + wave).astype(np.float32), factor)
    np.testing.assert_allclose(out, 1 + np.exp(-frequency / 0.3) * wave, atol=1e-6)


def test_pixel_transfer_is_the_mean_over_the_pixel():
    """sin(pi q)/(pi q) along each axis."""
    factor = detector.transfer_factor((32, 32), "pixel")
    np.testing.assert_allclose(factor[8, 4], np.sinc(8 / 32) * np.sinc(4 / 32), rtol=1e-6)


def test_transfer_of_white_noise():
    """The power spectrum of white noise becomes the square of the function."""
    noise = np.random.default_rng(5).normal(size=(128, 96)).astype(np.float32)
    factor = detector.transfer_factor(noise.shape, "scintillator")
    out = detector.transfer(noise, factor)
    expected = fft.rfft2(noise) * factor
    np.testing.assert_allclose(fft.rfft2(out), expected, atol=2e-5 * np.abs(expected).max())
    np.testing.assert_allclose(factor[0, -1], 0.2, rtol=1e-6)  # Nyquist's, as it is documented


@pytest.mark.parametrize(
    "mtf", [lambda q: q[:2], lambda q: q * 1j, lambda q: 1 / np.where(q > 0.4, 0, np.inf)]
)
def test_transfer_functions_that_are_none(mtf):
    with np.errstate(divide="ignore"), pytest.raises(ValueError, match="mtf"):
        detector.transfer_factor((16, 16), mtf)


@pytest.mark.parametrize("shape", [(128, 128), (101, 135)])
def test_film_has_unit_variance_and_no_power_beyond_the_cutoff(shape):
    film = detector.film(shape, 0.2, np.random.default_rng(0))
    frequency = np.hypot(fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1]))
    power = np.abs(fft.rfft2(film)) ** 2
    assert power[frequency > 0.2].max() < 1e-9 * power.max()
    assert abs(film.mean()) < 1e-6
    # pi 0.2^2 of the N samples are independent: the variance has the error sqrt(2/n), five of it
    independent = np.pi * 0.2**2 * film.size
    assert abs(film.var() - 1) < 5 * np.sqrt(2 / independent)


def test_counts_have_the_mean_and_variance_of_poisson():
    expected = np.full((200, 200), 37.0)
    counts = detector.count(expected, np.random.default_rng(1))
    n = counts.size
    assert abs(counts.mean() - 37) < 5 * np.sqrt(37 / n)
    # the variance of a sample variance of Poisson counts: (mu + 2 mu^2)/n
    assert abs(counts.var() - 37) < 5 * np.sqrt((37 + 2 * 37**2) / n)
    assert not detector.count(np.full((3, 3), -1.0), np.random.default_rng(1)).any()


def test_amplitudes_may_vary():
    """A field that is a cubic on the coarse grid multiplies its wave exactly."""
    shape, pixel = (50, 60), 0.05
    coarse = placement.coarse_grid(shape, pixel, 0.25)
    y, x = np.meshgrid(coarse.axis(0), coarse.axis(1), indexing="ij")
    field = spline_filter(0.1 + 0.02 * np.cos(x) * np.sin(y), order=3, mode="mirror")
    pose = fringes.Pose((1.5, 1.2), 0.0, np.zeros((2, *coarse.shape)))
    lattice = fringes.Lattice(np.eye(2), LENGTHS, np.array([[1, 1]]))
    edge = edges.edge_of(np.ones((9, 9), dtype=bool), (1.0, 1.0), 0.2)
    image = fringes.draw(shape, pixel, 0.0, pose, coarse, lattice, field[None], edge, 0.0)
    at_y, at_x = (np.arange(n) * pixel for n in shape)
    own = placement.basis(coarse, 0, at_y).of(placement.basis(coarse, 1, at_x).of(field, 1), 0)
    phase = ((at_x - 1.5) / LENGTHS[0]) + ((at_y - 1.2) / LENGTHS[1])[:, None]
    np.testing.assert_allclose(image, 1 + own * np.cos(2 * np.pi * phase), atol=1e-6)
