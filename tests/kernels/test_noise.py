"""Noise of the strain: as small as counting statistics allow, and predicted right.

The limit, from shared/gpa.md: with dose D per pixel and M = sum_k C_k^2 g_k g_k^T over the
reflections, row i of the displacement gradient has the variance (M^-1)_ii / (16 pi^3 sigma^4 D)
along both directions. Images of cosines are used for it, whose Poisson noise is white.
"""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hyperspy_lfp.kernels.gpa import lattice
from hyperspy_lfp.kernels.gpa.lockin import plane_wave_fit
from hyperspy_lfp.kernels.gpa.noise import plan_noise
from hyperspy_lfp.kernels.gpa.plan import plan_lockin

SIGMA = 10.0


def _noisy(kind, image, random):
    if kind == "poisson 100":
        return random.poisson(100 * image).astype(np.uint16)
    if kind == "poisson 10":
        return random.poisson(10 * image).astype(np.uint8)
    if kind == "gaussian":
        return (100 * image + 8 * random.standard_normal(image.shape)).astype(np.float32)
    if kind == "correlated":  # a detector that spreads over a pixel: the power falls off with |g|
        white = random.standard_normal(image.shape)
        return 100 * image + 30 * gaussian_filter(white, 1.0, mode="wrap")
    raise ValueError(kind)


def _limit(g, contrasts, dose, sigma):
    """Standard deviation of the rows of e."""
    m = sum(c**2 * np.outer(v, v) for c, v in zip(contrasts, g, strict=True))
    return np.sqrt(np.diag(np.linalg.inv(m)) / (16 * np.pi**3 * sigma**4 * dose))


def _interior_plan(shape, g, sigma, margin=3.5):
    """Samples a window apart: closer ones carry little more."""
    positions = [np.arange(margin * sigma, n - margin * sigma, sigma) for n in shape]
    return plan_lockin(shape, np.asarray(g)[:, ::-1], (sigma, sigma), positions)


@pytest.mark.parametrize(("size", "sigma"), [(200, 8.0), (300, 8.0), (300, 15.0), (512, 30.0)])
def test_white_noise_in_closed_form(synthetic, size, sigma):
    """The derivative of a Gaussian turns the variance s^2 of a pixel into s^2 / (8 pi sigma^4)."""
    shape, spread = (size, size + 9), 0.1
    g, waves = synthetic.lattice("rotated")
    image = synthetic.image(shape, waves)
    plan = _interior_plan(shape, g, sigma)
    random = np.random.default_rng(5)
    ratios = []
    for _ in range(72):
        c = plane_wave_fit(image + spread * random.standard_normal(shape), plan)
        variance = np.stack([c[:, 3].real, c[:, 3].imag]) * 8 * np.pi * sigma**4
        ratios.append(np.sqrt(variance.mean(axis=(2, 3))) / spread)
    # one frame has a hundred frequencies to look at, correlated over a dozen
    assert np.std(ratios) < 0.25
    mean = np.mean(ratios, axis=0)
    assert np.all((mean > 0.9) & (mean < 1.1))  # gate


def test_transfer_is_the_spectrum_of_white_noise(synthetic):
    """What the plan expects of unit white noise is what the first stage makes of it."""
    g = synthetic.lattice("square").g
    plan = _interior_plan((200, 220), g, 12.0, margin=1)
    noise = plan_noise((plan.y.grid, plan.x.grid), (plan.y.smooth, plan.x.smooth), g[:, ::-1])
    side_y, side_x = noise.window.shape
    y, x = ((len(a.grid) - side) // 2 for a, side in zip(plan[:2], noise.window.shape, strict=True))
    random = np.random.default_rng(8)
    total = 0
    for _ in range(400):
        coarse = plan.y.smooth @ random.standard_normal((200, 220)) @ plan.x.smooth.T
        patch = coarse[y : y + side_y, x : x + side_x]
        total = total + np.abs(noise.fourier[0] @ patch @ noise.fourier[1].T) ** 2
    looked_at = (total / 400 / noise.transfer).ravel()[noise.rings[0]]
    # 400 draws of an exponential distribution: 5 % each, over tens of independent frequencies
    assert looked_at.mean() == pytest.approx(1, abs=0.03)
    assert np.all(np.abs(looked_at - 1) < 0.3)


@pytest.mark.parametrize(
    ("name", "columns", "sigma", "kind"),
    [
        ("rotated", "cosines", 10.0, "poisson 100"),
        ("rotated", "cosines", 10.0, "poisson 10"),
        ("rotated", "cosines", 20.0, "poisson 100"),
        ("square", "cosines", 20.0, "gaussian"),
        ("hexagonal", "cosines", 20.0, "correlated"),
        ("hexagonal", "gaussians", 10.0, "correlated"),
        pytest.param(
            "hexagonal",
            "gaussians",
            15.0,
            "poisson 10",
            marks=pytest.mark.xfail(
                strict=True,
                reason="Poisson noise of strong columns is correlated between reflections (by the "
                "spot at their difference), which lowers the actual noise; taken as independent "
                "it is 15 % too large",
            ),
        ),
        ("hexagonal", "cosines", 15.0, "poisson 10"),
        ("oblique", "gaussians", 20.0, "poisson 100"),
        ("oblique", "cosines", 10.0, "gaussian"),
        ("square", "gaussians", 30.0, "poisson 100"),
    ],
)
def test_predicted_variance_is_the_actual_one(synthetic, name, columns, sigma, kind):
    """Gate: between 0.9 and 1.1 of the actual rms, over all components."""
    shape = (round(15 * sigma), round(15.5 * sigma))
    g, waves = synthetic.lattice(name, columns)
    image = np.maximum(synthetic.image(shape, waves), 0)
    plan = _interior_plan(shape, g, sigma, margin=3)
    random = np.random.default_rng(11)
    actual, predicted = [], []
    for _ in range(30):
        c = plane_wave_fit(_noisy(kind, image, random), plan)
        e, q = lattice.deformation(c, g, sigma)
        actual.append(lattice.strain_components(e, "lattice") ** 2)
        predicted.append(lattice.strain_covariance(e, q, "lattice")[0])
    # 30 frames x 4 independent components x 20 cells or more: 1.5 % of the rms
    ratio = np.sqrt(np.mean(predicted) / np.mean(actual))
    assert 0.9 < ratio < 1.1


@pytest.mark.parametrize("place", ["border", "corner"])
def test_predicted_variance_at_the_border(synthetic, place):
    """There the window is cut, and the noise is up to twice that of the interior."""
    shape, sigma = (170, 171), 10.0
    g, waves = synthetic.lattice("rotated")
    image = synthetic.image(shape, waves)
    positions = [np.array([0.0, 6.0, 12.0]), np.arange(35.0, 136.0, 10)]
    if place == "corner":
        positions[1] = positions[0]
    plan = plan_lockin(shape, g[:, ::-1], (sigma, sigma), positions)
    random = np.random.default_rng(2)
    actual, predicted = 0, 0
    for _ in range(150 if place == "corner" else 60):
        c = plane_wave_fit(_noisy("poisson 100", image, random), plan)
        actual = actual + lattice.phase_gradient(c) ** 2
        predicted = predicted + np.stack([c[:, 3].real, c[:, 3].imag]) / 2 / np.abs(c[:, 0]) ** 2
    ratio = np.sqrt(predicted.mean(axis=(1, 2, 3)) / actual.mean(axis=(1, 2, 3)))
    assert np.all((ratio > 0.9) & (ratio < 1.1))


@pytest.mark.parametrize(("dose", "frames"), [(100, 24), (10, 24)])
def test_noise_is_at_the_limit(synthetic, dose, frames):
    """Gate: 1.02 x the bound, plus twice the statistical error, which is below 1 %."""
    shape = (470, 511)
    g, waves = synthetic.lattice("rotated")
    image = synthetic.image(shape, waves)
    plan = _interior_plan(shape, g, SIGMA)
    random = np.random.default_rng(7)
    squares, number = 0.0, 0
    for _ in range(frames):
        e, _ = lattice.deformation(plane_wave_fit(random.poisson(dose * image), plan), g, SIGMA)
        squares += (e.astype(float) ** 2).sum()
        number += e.size
    limit = _limit(g, [0.2, 0.2], dose, SIGMA)
    assert limit[0] == pytest.approx(
        synthetic.SPACING / (4 * np.pi**1.5 * SIGMA**2 * 0.2 * np.sqrt(dose))
    )
    # the noise has a Gaussian correlation of width sqrt(2) sigma: 4 pi sigma^2 an independent
    # value, whose square has a relative variance of 2
    independent = number * SIGMA**2 / (4 * np.pi * SIGMA**2)
    error = np.sqrt(2 / independent) / 2
    assert error < 0.01
    ratio = np.sqrt(squares / number) / limit[0]
    assert 1 - 3 * error < ratio < 1.02 + 2 * error


def test_mean_of_eight_frames(synthetic):
    """Gate: 1.05 x bound / sqrt(8), for the strain of the mean and for the mean of the strains."""
    shape, dose = (300, 311), 30
    g, waves = synthetic.lattice("hexagonal")
    image = synthetic.image(shape, waves)
    plan = _interior_plan(shape, g, SIGMA)
    random = np.random.default_rng(3)
    of_mean, of_strain = [], []
    for _ in range(10):
        frames = random.poisson(dose * image, (8, *shape)).astype(np.uint16)
        c = plane_wave_fit(np.concatenate([frames, frames.mean(axis=0)[None]]), plan)
        e = lattice.deformation(c, g, SIGMA)[0]
        of_mean.append(e[:, :, 8])
        of_strain.append(e[:, :, :8].mean(axis=2))
    limit = np.sqrt(np.mean(_limit(g, [0.2, 0.2], 8 * dose, SIGMA) ** 2))
    for e in (of_mean, of_strain):
        assert 0.95 * limit < np.sqrt(np.mean(np.square(e))) < 1.05 * limit


def test_third_reflection_lowers_the_noise(synthetic):
    """Three equal hexagonal reflections: sqrt(1/2) of the noise of two, and the bound itself."""
    shape, dose = (300, 311), 30
    g, waves = synthetic.lattice("hexagonal")
    three = np.vstack([g, g[0] - g[1]])
    image = synthetic.image(shape, waves)
    plan = _interior_plan(shape, three, SIGMA)
    random = np.random.default_rng(8)
    noise = {2: [], 3: []}
    predicted = {2: [], 3: []}
    for _ in range(30):
        # white noise: Poisson noise is correlated between these three by a tenth, since the
        # third spot is the difference of the other two
        noisy = dose * image + np.sqrt(dose) * random.standard_normal(shape)
        c = plane_wave_fit(noisy, plan)
        for k in (2, 3):
            e, q = lattice.deformation(c[:k], three[:k], SIGMA)
            noise[k].append(e)
            predicted[k].append(q[:2])
    rms = {k: np.sqrt(np.mean(np.square(noise[k]))) for k in (2, 3)}
    for k in (2, 3):
        limit = np.sqrt(np.mean(_limit(three[:k], [0.2] * k, dose, SIGMA) ** 2))
        assert rms[k] == pytest.approx(limit, rel=0.04)
        predicted_rms = np.sqrt(np.mean(predicted[k]))  # of the rows of e
        assert 0.9 < predicted_rms / rms[k] < 1.1  # gate
    assert rms[3] / rms[2] == pytest.approx(np.sqrt(0.5), rel=0.03)


def test_noise_of_vacuum_is_not_that_of_the_crystal(synthetic):
    """Half of the frame is vacuum with less noise; the error map is that of the crystal."""
    shape, sigma = (200, 420), 10.0
    g, waves = synthetic.lattice("rotated")
    x = np.arange(shape[1])
    crystal = 1 / (1 + np.exp((x - 210) / 4.0))
    image = 1 + crystal * (synthetic.image(shape, waves, mean=0.0))
    spread = np.where(x < 210, 10.0, 2.0)
    positions = [np.arange(35.0, 166, 10), np.arange(35.0, 150, 10)]
    plan = plan_lockin(shape, g[:, ::-1], (sigma, sigma), positions)
    random = np.random.default_rng(4)
    actual, predicted = [], []
    for _ in range(30):
        c = plane_wave_fit(100 * image + spread * random.standard_normal(shape), plan)
        actual.append(lattice.phase_gradient(c) ** 2)
        predicted.append(np.stack([c[:, 3].real, c[:, 3].imag]) / 2 / np.abs(c[:, 0]) ** 2)
    assert 0.9 < np.sqrt(np.mean(predicted) / np.mean(actual)) < 1.1


@pytest.mark.parametrize("missing", ["pixels", "band", "hole", "half"])
def test_predicted_variance_with_missing_pixels(synthetic, missing):
    """NaN pixels: dead ones, the band that drift correction leaves, a hole, half of a frame."""
    shape, sigma = (200, 211), 10.0
    g, waves = synthetic.lattice("rotated")
    image = synthetic.image(shape, waves)
    invalid = np.zeros(shape, dtype=bool)
    random = np.random.default_rng(6)
    if missing == "pixels":
        invalid = random.random(shape) < 0.002
    elif missing == "band":
        invalid[:12], invalid[:, -9:] = True, True
    elif missing == "hole":
        invalid[85:115, 85:115] = True
    else:
        invalid[:, :100] = True
    positions = [np.arange(0.0, n, 10) for n in shape]
    plan = plan_lockin(shape, g[:, ::-1], (sigma, sigma), positions)
    actual, predicted = 0, 0
    for _ in range(40):
        noisy = _noisy("gaussian", image, random)
        noisy[invalid] = np.nan
        c = plane_wave_fit(noisy, plan)
        actual = actual + lattice.phase_gradient(c) ** 2
        predicted = predicted + np.stack([c[:, 3].real, c[:, 3].imag]) / 2 / np.abs(c[:, 0]) ** 2
    valid = np.isfinite(actual)
    assert valid.mean() > (0.45 if missing == "half" else 0.95)
    for direction in (0, 1):
        there = valid[direction]
        ratio = predicted[direction][there].mean() / actual[direction][there].mean()
        assert 0.9 < np.sqrt(ratio) < 1.1
