"""Strain, rotation and their noise against plain matrix algebra."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperspy_lfp.kernels.gpa import lattice

DEFINITIONS = ("lattice", "eulerian", "finite")
SIGMA = 8.0
FLOAT32 = 2e-6  # a few roundings of numbers near one

examples = settings(max_examples=25, deadline=None, derandomize=True)
small = st.floats(-0.1, 0.1)
angles = st.floats(-np.pi, np.pi)


def _gradient(xx, xy, yx, yy):
    return np.array([[xx, xy], [yx, yy]])


def _coefficients(gradients, amplitudes, noise=1e-8, shape=(3, 4)):
    """Plane waves of given phase gradients (K, 2), as the plane-wave fit returns them."""
    random = np.random.default_rng(0)
    c = np.zeros((len(gradients), 4, *shape), dtype=np.complex128)
    for out, (px, py), amplitude in zip(c, gradients, amplitudes, strict=True):
        value = amplitude * np.exp(2j * np.pi * random.random(shape))
        out[:] = value, 1j * px * value, 1j * py * value, np.full(shape, noise * (1 + 1j))
    return c


def _random_e(random, number=1):
    return random.uniform(-0.08, 0.08, (number, 2, 2))


# --- definitions and signs ---


@examples
@given(small, small, small, small, st.sampled_from(DEFINITIONS))
def test_definitions(synthetic, xx, xy, yx, yy, definition):
    e = _gradient(xx, xy, yx, yy)
    f = np.linalg.inv(np.eye(2) - e)
    np.testing.assert_allclose(lattice.deformation_gradient(e), f, rtol=1e-12)
    expected = synthetic.strain_of(f, definition)
    np.testing.assert_allclose(lattice.strain_components(e, definition), expected, atol=1e-12)


@pytest.mark.parametrize("degrees", [-30.0, 30.0, 170.0])
def test_finite_strain_of_a_turned_crystal(synthetic, degrees):
    """Thirty degrees: U is that of the crystal before it turned, R turns counter-clockwise."""
    u = np.array([[1.05, 0.01], [0.01, 0.98]])
    f = synthetic.rotation_matrix(degrees) @ u
    strain = lattice.strain_components(np.eye(2) - np.linalg.inv(f), "finite")
    expected = [0.05, -0.02, 0.01, np.deg2rad(degrees)]
    np.testing.assert_allclose(strain, expected, atol=1e-12)


def test_a_longer_spacing_is_a_positive_strain():
    """5 % longer reads 0.05 relative to the reference, 0.05 / 1.05 to the image."""
    e = np.diag([1 - 1 / 1.05, 0.0])
    assert lattice.strain_components(e, "lattice")[0] == pytest.approx(0.05)
    assert lattice.strain_components(e, "finite")[0] == pytest.approx(0.05)
    assert lattice.strain_components(e, "eulerian")[0] == pytest.approx(0.05 / 1.05)


def test_rotation_is_counter_clockwise_on_the_screen():
    """y points down: what moves right below and left above the centre turns counter-clockwise."""
    e = _gradient(0, 0.01, -0.01, 0)  # u_x = 0.01 y, u_y = -0.01 x
    assert lattice.strain_components(e, "eulerian")[3] == pytest.approx(0.01)
    assert lattice.strain_components(e, "finite")[3] == pytest.approx(np.arctan(0.01))


def test_exy_is_the_tensor_shear():
    e = _gradient(0, 0.02, 0, 0)
    np.testing.assert_allclose(lattice.strain_components(e, "eulerian"), [0, 0, 0.01, 0.01])


def test_unknown_definition():
    with pytest.raises(ValueError, match="lagrangian"):
        lattice.strain_components(np.zeros((2, 2)), "lagrangian")
    with pytest.raises(ValueError, match="lagrangian"):
        lattice.deformation_from_strain(np.zeros(4), "lagrangian")


@examples
@given(small, small, small, small, st.sampled_from(DEFINITIONS))
def test_deformation_from_strain_and_back(xx, xy, yx, yy, definition):
    e = _gradient(xx, xy, yx, yy)
    strain = lattice.strain_components(e, definition)
    f = lattice.deformation_from_strain(strain, definition)
    np.testing.assert_allclose(f, np.linalg.inv(np.eye(2) - e), atol=1e-12)


# --- turned axes ---


@examples
@given(small, small, small, small, angles)
def test_turned_axes(synthetic, xx, xy, yx, yy, angle):
    """Components along x', y' are those of R^T e R for axes turned counter-clockwise by R."""
    e = _gradient(xx, xy, yx, yy)
    r = synthetic.rotation_matrix(np.rad2deg(angle))
    turned = lattice.rotate_strain(lattice.strain_components(e, "eulerian"), angle)
    expected = lattice.strain_components(r.T @ e @ r, "eulerian")
    np.testing.assert_allclose(turned, expected, atol=1e-12)


@examples
@given(small, small, small, angles, angles)
def test_turning_keeps_the_invariants(xx, yy, xy, first, second):
    strain = np.array([xx, yy, xy, 0.03])
    turned = lattice.rotate_strain(strain, first)
    assert turned[0] + turned[1] == pytest.approx(xx + yy, abs=1e-12)
    assert turned[0] * turned[1] - turned[2] ** 2 == pytest.approx(xx * yy - xy**2, abs=1e-12)
    assert turned[3] == 0.03
    twice = lattice.rotate_strain(turned, second)
    np.testing.assert_allclose(twice, lattice.rotate_strain(strain, first + second), atol=1e-12)


def test_quarter_turn_swaps_the_axes():
    """x' is then up, y' to the right."""
    strain = lattice.rotate_strain(np.array([0.05, -0.02, 0.01, 0.0]), np.pi / 2)
    np.testing.assert_allclose(strain, [-0.02, 0.05, -0.01, 0.0], atol=1e-15)


# --- noise ---


def _full_covariance(q):
    """Of (e_xx, e_xy, e_yx, e_yy), given cov(e_ij, e_kl) = delta_jl Q_ik."""
    rows = np.array([[q[0], q[2]], [q[2], q[1]]])
    return np.kron(rows, np.eye(2))


#: (e_xx, e_xy, e_yx, e_yy) to (exx, eyy, exy, rotation)
_TO_COMPONENTS = np.array([[1, 0, 0, 0], [0, 0, 0, 1], [0, 0.5, 0.5, 0], [0, 0.5, -0.5, 0]])

covariances = st.tuples(st.floats(0.2, 3), st.floats(0.2, 3), st.floats(-0.9, 0.9)).map(
    lambda t: np.array([t[0], t[1], t[2] * np.sqrt(t[0] * t[1])])
)


def _expected_noise(full):
    """Variances of the four components, and the covariance of each with exy."""
    c = _TO_COMPONENTS @ full @ _TO_COMPONENTS.T
    return np.diag(c), c[2]


@examples
@given(covariances)
def test_noise_of_the_components(q):
    variance, covariance = lattice.strain_covariance(np.zeros((2, 2)), q, "eulerian")
    expected = _expected_noise(_full_covariance(q))
    np.testing.assert_allclose(variance, expected[0], atol=1e-12)
    # exy with itself is its variance; with the rotation (Q_xx - Q_yy) / 4
    np.testing.assert_allclose(covariance, expected[1], atol=1e-12)


@examples
@given(covariances, angles)
def test_noise_along_turned_axes(synthetic, q, angle):
    r = synthetic.rotation_matrix(np.rad2deg(angle))
    turn = np.kron(r.T, r.T)  # e' = R^T e R, row-major
    expected = _expected_noise(turn @ _full_covariance(q) @ turn.T)
    noise = lattice.strain_covariance(np.zeros((2, 2)), q, "eulerian")
    variance, covariance = lattice.rotate_strain_noise(*noise, angle)
    np.testing.assert_allclose(variance, expected[0], atol=1e-12)
    np.testing.assert_allclose(covariance, expected[1], atol=1e-12)


@examples
@given(covariances, small, small, small, small)
def test_noise_relative_to_the_reference_lattice(q, xx, xy, yx, yy):
    """dH = F de F to first order.

    F^T F is replaced by its mean, so that the columns stay independent: half the difference of
    its eigenvalues, which the strain bounds, is what that may cost.
    """
    e = _gradient(xx, xy, yx, yy)
    f = np.linalg.inv(np.eye(2) - e)
    push = np.kron(f, f.T)
    exact, _ = _expected_noise(push @ _full_covariance(q) @ push.T)
    variance, _ = lattice.strain_covariance(e, q, "lattice")
    low, high = np.linalg.eigvalsh(f.T @ f)
    assert np.all(np.abs(variance / exact - 1)[:2] <= (high - low) / low + 1e-9)
    assert np.sum(variance) == pytest.approx(np.sum(exact), rel=(high - low) / low + 1e-9)


@examples
@given(covariances, small, small, small, small)
def test_noise_back_to_the_image_lattice(q, xx, xy, yx, yy):
    e = _gradient(xx, xy, yx, yy)
    variance, covariance = lattice.strain_covariance(e, q, "lattice")
    of_h = np.stack([variance[0], variance[1], 2 * covariance[0]])
    back = lattice.eulerian_covariance(lattice.deformation_gradient(e), of_h)
    np.testing.assert_allclose(back, q, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("direction", [(1.0, 0.0), (0.6, -0.8)])
def test_noise_of_lengths(synthetic, direction):
    """The variance of |F v| is that of 40000 random e; 1 % of statistical error."""
    random = np.random.default_rng(0)
    f = synthetic.rotation_matrix(25.0) @ np.array([[1.06, 0.03], [0.0, 0.95]])
    e = np.eye(2) - np.linalg.inv(f)
    q = np.array([2.0, 0.7, -0.5]) * 1e-6
    root = np.linalg.cholesky([[q[0], q[2]], [q[2], q[1]]])
    noisy = e + root @ random.standard_normal((40000, 2, 2))
    lengths = np.linalg.norm(np.linalg.inv(np.eye(2) - noisy) @ direction, axis=-1)
    at = np.array(direction).reshape(1, 2, 1, 1)
    stretch, variance = lattice.stretches(f[:, :, None, None], q[:, None, None], at)
    assert stretch.item() == pytest.approx(np.linalg.norm(f @ direction), rel=1e-12)
    assert variance.item() == pytest.approx(lengths.var(), rel=0.03)


@examples
@given(small, small, small, small, angles, angles)
def test_lengths_do_not_turn(synthetic, xx, xy, yx, yy, turn, angle):
    f = np.linalg.inv(np.eye(2) - _gradient(xx, xy, yx, yy))
    v = np.array([np.cos(angle), np.sin(angle)])
    turned = synthetic.rotation_matrix(np.rad2deg(turn)) @ f
    q = np.ones((3, 1, 1))
    at = v.reshape(1, 2, 1, 1)
    length, _ = lattice.stretches(turned[:, :, None, None], q, at)
    assert length.item() == pytest.approx(np.linalg.norm(f @ v), rel=1e-12)


# --- from phases to deformation ---

G = {
    2: np.array([[0.1, 0.02], [-0.03, 0.08]]),
    3: np.array([[0.1, 0.02], [-0.03, 0.08], [0.07, 0.1]]),
    5: np.array([[0.1, 0.02], [-0.03, 0.08], [0.07, 0.1], [0.13, -0.06], [0.2, 0.04]]),
}


@pytest.mark.parametrize("number", [2, 3, 5])
def test_consistent_phases_give_the_gradient(number):
    """P = -2 pi g.u, so that grad P = -2 pi e^T g; whatever the weights."""
    random = np.random.default_rng(number)
    g = G[number]
    for e in _random_e(random, 5):
        c = _coefficients(-2 * np.pi * g @ e, random.uniform(0.5, 2, number))
        found, q = lattice.deformation(c, g, SIGMA)
        assert found.shape == (2, 2, 3, 4) and q.shape == (3, 3, 4)
        np.testing.assert_allclose(found - e[:, :, None, None], 0, atol=FLOAT32)


def test_contraction_is_over_the_phases():
    """Not over x and y: for an oblique pair the two differ."""
    g = np.array([[0.1, 0.0], [0.06, 0.09]])
    e = _gradient(0.01, 0.0, 0.0, 0.0)
    found, _ = lattice.deformation(_coefficients(-2 * np.pi * g @ e, [1, 1]), g, SIGMA)
    np.testing.assert_allclose(found[:, :, 0, 0], e, atol=FLOAT32)


@pytest.mark.parametrize("number", [3, 5])
def test_inconsistent_phases_are_weighted(number):
    """Least squares with the inverse variance of each phase gradient."""
    random = np.random.default_rng(number)
    g = G[number]
    phases = random.normal(scale=0.01, size=(number, 2))
    amplitudes = random.uniform(0.5, 2, number)
    found, q = lattice.deformation(_coefficients(phases, amplitudes, 1e-6), g, SIGMA)
    weight = amplitudes**2 / 1e-6 * 2  # half of the complex variance is in the phase
    normal = (g * weight[:, None]).T @ g
    expected = -np.linalg.solve(normal, (g * weight[:, None]).T @ phases) / (2 * np.pi)
    np.testing.assert_allclose(found[:, :, 1, 2], expected, rtol=1e-5)
    covariance = np.linalg.inv(normal) / (2 * np.pi) ** 2
    np.testing.assert_allclose(
        q[:, 1, 2], [covariance[0, 0], covariance[1, 1], covariance[0, 1]], rtol=1e-5
    )


@pytest.mark.parametrize("number", [2, 3, 5])
def test_noise_that_is_not_known(number):
    """Weighted with the squared amplitude; nothing is masked, and the covariance is NaN."""
    random = np.random.default_rng(number)
    g = G[number]
    phases = random.normal(scale=0.01, size=(number, 2))
    amplitudes = random.uniform(0.5, 2, number)
    found, q = lattice.deformation(_coefficients(phases, amplitudes, np.nan), g, SIGMA)
    weight = amplitudes**2
    normal = (g * weight[:, None]).T @ g
    expected = -np.linalg.solve(normal, (g * weight[:, None]).T @ phases) / (2 * np.pi)
    np.testing.assert_allclose(found - expected[:, :, None, None], 0, atol=FLOAT32)
    assert np.isnan(q).all()


def test_noise_of_two_reflections():
    g = G[2]
    noise, amplitudes = 1e-6, np.array([1.5, 0.6])
    _, q = lattice.deformation(_coefficients(np.zeros((2, 2)), amplitudes, noise), g, SIGMA)
    inverse = np.linalg.inv(2 * np.pi * g)
    expected = inverse @ np.diag(noise / 2 / amplitudes**2) @ inverse.T
    np.testing.assert_allclose(
        q[:, 0, 0], [expected[0, 0], expected[1, 1], expected[0, 1]], rtol=1e-5
    )


@pytest.mark.parametrize("number", [2, 3])
def test_reference_lattice(number):
    """Relative to a reference, F is F_image F_reference^-1, for any strain of either."""
    random = np.random.default_rng(1)
    g = G[number]
    for e_image, e_reference in zip(_random_e(random, 4), _random_e(random, 4), strict=True):
        c = _coefficients(-2 * np.pi * g @ e_image, np.ones(number))
        reference = (-2 * np.pi * g @ e_reference)[:, :, None, None]
        found, _ = lattice.deformation(c, g, SIGMA, reference)
        f = lattice.deformation_gradient(found[:, :, 0, 0])
        # g = F^-T g_0 of image and reference
        expected = (np.linalg.inv(np.eye(2) - e_image)) @ (np.eye(2) - e_reference)
        np.testing.assert_allclose(f, expected, atol=5 * FLOAT32)


def test_reference_of_every_pixel():
    """A reference that differs between pixels, as a frame is for another."""
    g = G[2]
    random = np.random.default_rng(2)
    e = _random_e(random, 12).reshape(3, 4, 2, 2)
    gradients = np.moveaxis(-2 * np.pi * g @ e, (-2, -1), (0, 1))  # (K, 2, y, x)
    c = _coefficients(np.zeros((2, 2)), np.ones(2))
    c[:, 1:3] = 1j * gradients * c[:, :1]
    found, _ = lattice.deformation(c, g, SIGMA, gradients)
    np.testing.assert_allclose(found, 0, atol=FLOAT32)


def test_leading_dimensions():
    g = G[3]
    random = np.random.default_rng(3)
    e = _random_e(random, 6)
    c = np.array([_coefficients(-2 * np.pi * g @ part, np.ones(3)) for part in e])
    together, q = lattice.deformation(c.reshape(2, 3, *c.shape[1:]), g, SIGMA)
    assert together.shape == (2, 2, 2, 3, 3, 4) and q.shape == (3, 2, 3, 3, 4)
    expected = np.moveaxis(e.reshape(2, 3, 2, 2), (-2, -1), (0, 1))
    np.testing.assert_allclose(together - expected[..., None, None], 0, atol=FLOAT32)


def test_mean_phase_gradient_is_weighted_with_the_power():
    c = _coefficients([(0.0, 0.0), (0.0, 0.0)], [1.0, 1.0], shape=(2, 2))
    gradients = np.array([[0.01, 0.02], [0.03, 0.04]])
    amplitudes = np.array([[1.0, 2.0], [3.0, 4.0]])
    c[:, :3] *= amplitudes
    c[:, 1], c[:, 2] = 1j * gradients * c[:, 0], -2j * gradients * c[:, 0]
    c[:, :3, 1, 1] = np.nan
    region = np.array([[True, True], [False, True]])
    mean = lattice.mean_phase_gradient(c, region)
    assert mean.shape == (2, 2, 1, 1)
    expected = (0.01 * 1 + 0.02 * 4) / 5
    np.testing.assert_allclose(mean[..., 0, 0], [[expected, -2 * expected]] * 2, rtol=1e-12)
    nothing = lattice.mean_phase_gradient(c, np.array([[False, False], [False, True]]))
    assert np.isnan(nothing).all()


# --- what counts as lattice ---


def test_mask_by_amplitude():
    """Relative to the typical amplitude of the crystal, however much vacuum there is."""
    c = _coefficients(np.zeros((2, 2)), [1.0, 1.0], shape=(20, 20))
    c[:, :3, 4:] *= 1e-3  # four fifths are vacuum
    c[:, :3, 0, 0] *= 0.19
    c[:, :3, 0, 1] *= 0.21
    mask = lattice.lattice_mask(c, SIGMA, 0.2)
    assert not mask[:, 4:].any() and not mask[:, 0, 0].any()
    assert mask[:, 0, 1:].all() and mask[:, 1:4].all()


def test_mask_by_noise():
    """Three times the rms of the value, whose variance is 2 sigma^2 that of its derivative."""
    c = _coefficients(np.zeros((2, 2)), [1.0, 1.0], shape=(1, 2))
    rms = 1 / 3
    for k, factor in enumerate((0.99, 1.01)):
        # (real + imaginary) sigma^2 is the mean over both directions of 2 sigma^2 variance
        c[:, 3, 0, k] = (1 + 1j) * (factor * rms) ** 2 / (2 * SIGMA**2)
    mask = lattice.lattice_mask(c, SIGMA, 0.0)
    assert mask[:, 0, 0].all() and not mask[:, 0, 1].any()


def test_mask_at_edges():
    """Beyond a straight edge the amplitude falls by more than an e-fold over a sigma."""
    c = _coefficients(np.zeros((2, 2)), [1.0, 1.0], shape=(1, 2))
    for k, folds in enumerate((0.95, 1.05)):
        c[:, 1, 0, k] = 0.6 * folds / SIGMA * c[:, 0, 0, k]
        c[:, 2, 0, k] = -0.8 * folds / SIGMA * c[:, 0, 0, k]
    mask = lattice.lattice_mask(c, SIGMA, 0.2)
    assert mask[:, 0, 0].all() and not mask[:, 0, 1].any()


def test_pixels_with_too_few_reflections_are_nan():
    for number, lost, expected in (
        (2, [1], False),
        (3, [1], True),
        (3, [0, 2], False),
        (5, [1, 2, 3], False),  # the two that are left, g and 2 g, are collinear
        (5, [0, 1, 2], True),
        (5, [0, 1, 2, 3, 4], False),
    ):
        g = G[number]
        e = _gradient(0.01, -0.02, 0.03, 0.04)
        c = _coefficients(-2 * np.pi * g @ e, np.ones(number))
        c[lost, :3, 1, 1] *= 0.1
        found, q = lattice.deformation(c, g, SIGMA)
        assert np.isfinite(found[:, :, 0, 0]).all()
        assert np.isfinite(found[:, :, 1, 1]).all() == expected
        assert np.isnan(found[:, :, 1, 1]).all() != expected
        assert np.isfinite(q[:, 1, 1]).all() == expected
        if expected:
            np.testing.assert_allclose(found[:, :, 1, 1], e, atol=FLOAT32)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [2, 3])
def test_nan_and_zero_coefficients_are_nan(number):
    g = G[number]
    c = _coefficients(np.zeros((number, 2)), np.ones(number))
    c[:, :, 0, 0] = np.nan
    c[:, :3, 0, 1] = 0
    found, q = lattice.deformation(c, g, SIGMA)
    assert np.isnan(found[:, :, 0, :2]).all() and np.isnan(q[:, 0, :2]).all()
    assert np.isfinite(found[:, :, 0, 2:]).all() and np.isfinite(found[:, :, 1:]).all()
    nothing, _ = lattice.deformation(np.full_like(c, np.nan), g, SIGMA)
    assert np.isnan(nothing).all()


def test_nearly_collinear_reflections(synthetic):
    """Five degrees apart: still exact, and the noise says what it costs."""
    direction = np.deg2rad(5.0)
    g = 0.1 * np.array([[1, 0], [np.cos(direction), np.sin(direction)]])
    e = _gradient(0.01, -0.02, 0.03, 0.04)
    found, q = lattice.deformation(_coefficients(-2 * np.pi * g @ e, [1, 1]), g, SIGMA)
    np.testing.assert_allclose(found[:, :, 0, 0], e, atol=FLOAT32 / np.sin(direction))
    # row y of e stands on the small difference of the two
    assert q[1, 0, 0] / q[0, 0, 0] > 1 / np.sin(direction) ** 2
