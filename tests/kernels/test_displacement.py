"""Displacement from phases: bumps, many turns, gaps, and more than two reflections."""

import numpy as np
import pytest

from hyperspy_lfp.kernels.gpa.displacement import displacement

SIGMA = 10.0
G = {
    2: np.array([[0.1, 0.02], [-0.03, 0.08]]),
    3: np.array([[0.1, 0.02], [-0.03, 0.08], [0.07, 0.1]]),
    5: np.array([[0.1, 0.02], [-0.03, 0.08], [0.07, 0.1], [0.13, -0.06], [0.2, 0.04]]),
}
POSITIONS = (np.arange(40) * 3.0 + 5.0, np.arange(50) * 4.0 - 7.0)
Y, X = np.meshgrid(*POSITIONS, indexing="ij")
NOWHERE = np.zeros((1, 1, 2, 1, 1))


def _coefficients(g, fields, amplitude=1.0):
    """Frames of plane waves with P = -2 pi g.u, for fields (n, 2, y, x)."""
    frames = []
    for u in fields:
        c = np.zeros((len(g), 4, *u.shape[1:]), dtype=np.complex64)
        c[:, 0] = amplitude * np.exp(-2j * np.pi * np.einsum("ki,iyx->kyx", g, u))
        c[:, 3] = 1e-9 * (1 + 1j)
        frames.append(c)
    return np.array(frames)


def _bump(height=(2.0, -1.5), width=30.0, centre=(85.0, 62.0)):
    squared = (X - centre[0]) ** 2 + (Y - centre[1]) ** 2
    return np.array(height)[:, None, None] * np.exp(-squared / (2 * width**2))


def _reference(number):
    return np.zeros((1, number, 2, 1, 1))


@pytest.mark.parametrize("number", [2, 3, 5])
def test_bump(number):
    """A region where it is nearly zero fixes the origin."""
    g, u = G[number], _bump()
    region = (X < 10) & (Y < 20)
    found = displacement(
        _coefficients(g, [u]), g, SIGMA, POSITIONS, _reference(number), region=region
    )
    assert found.shape == (1, 2, *X.shape) and found.dtype == np.float32
    expected = u - u[:, region].mean(axis=1)[:, None, None]
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


@pytest.mark.parametrize("number", [2, 3])
def test_many_turns(number):
    """8 % strain and 5 degrees over the frame: phases of many turns, and the mean is zero."""
    g = G[number]
    u = np.array([0.08 * X + 0.0872 * Y, -0.0872 * X + 0.01 * Y])
    turns = np.ptp(np.einsum("ki,iyx->kyx", g, u), axis=(1, 2))
    assert turns.min() > 1
    region = np.ones(X.shape, dtype=bool)
    found = displacement(
        _coefficients(g, [u]), g, SIGMA, POSITIONS, _reference(number), region=region
    )
    np.testing.assert_allclose(found[0], u - u.mean(axis=(1, 2), keepdims=True), atol=1e-4)


@pytest.mark.parametrize("number", [2, 3])
def test_relative_to_another_lattice(number):
    """With the phase gradient of the reference, u is what is left of it there, in its periods."""
    g = G[number]
    strain = np.array([[0.03, 0.01], [-0.02, 0.015]])  # reference: u_ref = strain (x, y)
    u = np.einsum("ij,jyx->iyx", strain, np.array([X, Y])) + _bump((0.8, 0.3))
    gradient = -2 * np.pi * g @ strain
    region = (X < 10) & (Y < 20)
    reference = gradient[None, :, :, None, None]
    found = displacement(_coefficients(g, [u]), g, SIGMA, POSITIONS, reference, region=region)
    # g + grad P / 2 pi = g (1 - strain) are the reference's own vectors
    own = g @ (np.eye(2) - strain)
    phase = -2 * np.pi * np.einsum("ki,iyx->kyx", g, _bump((0.8, 0.3)))
    phase -= phase[:, region].mean(axis=1)[:, None, None]
    expected = -np.linalg.solve(own[:2], phase[:2].reshape(2, -1)) / (2 * np.pi)
    np.testing.assert_allclose(found[0], expected.reshape(2, *X.shape), atol=2e-5)


@pytest.mark.parametrize("number", [2, 3, 5])
def test_without_a_region_up_to_a_lattice_vector(number):
    """The lattice repeats: a drift of 60 lattice vectors looks like the rest of it."""
    g = G[number]
    lattice_vectors = np.linalg.inv(g[:2]).T
    rest = np.array([0.6, -0.9])
    for whole in ((0, 0), (3, -5), (40, 20)):
        drift = rest + np.array(whole) @ lattice_vectors
        fields = _bump((0.3, 0.2)) + drift[:, None, None]
        c = _coefficients(g, [fields])
        (found,) = displacement(c, g, SIGMA, POSITIONS, _reference(number))
        difference = (found - _bump((0.3, 0.2))).mean(axis=(1, 2)) - rest
        assert np.abs(g[:2] @ difference - np.rint(g[:2] @ difference)).max() < 1e-4
        np.testing.assert_allclose(found.std(axis=(1, 2)), fields.std(axis=(1, 2)), rtol=1e-4)
        # the mean phases of the first two are within half a turn
        assert np.abs(np.einsum("ki,i->k", g[:2], found.mean(axis=(1, 2)))).max() < 0.51


@pytest.mark.parametrize("number", [3, 5])
def test_all_reflections_agree(number):
    """Each phase alone is known up to turns; the same u must explain them all."""
    g = G[number]
    for seed in range(6):
        drift = np.random.default_rng(seed).uniform(-12, 12, 2)
        u = _bump((1.5, 1.0)) + drift[:, None, None]
        (found,) = displacement(_coefficients(g, [u]), g, SIGMA, POSITIONS, _reference(number))
        # exp(iP) of every reflection is that of the image again
        again = np.einsum("ki,iyx->kyx", g, found - u)
        np.testing.assert_allclose(again, np.rint(again), atol=1e-4)


def test_disconnected_pieces_are_nan():
    g, u = G[2], _bump((0.5, 0.5))
    c = _coefficients(g, [u])
    c[..., :3, :, 20:24] *= 1e-4
    left, right = np.s_[:, :20], np.s_[:, 24:]
    region = np.zeros(X.shape, dtype=bool)
    for inside, outside in ((left, right), (right, left)):
        region[...] = False
        region[inside] = True
        (found,) = displacement(c, g, SIGMA, POSITIONS, _reference(2), region=region)
        expected = u - u[:, region].mean(axis=1)[:, None, None]
        np.testing.assert_allclose(
            found[(slice(None), *inside)], expected[(slice(None), *inside)], atol=1e-5
        )
        assert np.isnan(found[(slice(None), *outside)]).all()
        assert np.isnan(found[:, :, 20:24]).all()
    # without a region, the piece with the strongest signal: the larger one, unless it is weak
    (found,) = displacement(c, g, SIGMA, POSITIONS, _reference(2))
    assert np.isnan(found[:, :, :24]).all() and np.isfinite(found[:, :, 24:]).all()
    c[..., :3, :, 24:] *= 0.5
    (found,) = displacement(c, g, SIGMA, POSITIONS, _reference(2))
    assert np.isnan(found[:, :, 20:]).all() and np.isfinite(found[:, :, :20]).all()


def test_a_bridge_connects():
    g, u = G[2], _bump((0.5, 0.5))
    c = _coefficients(g, [u])
    c[..., :3, 1:, 20:24] *= 1e-4
    (found,) = displacement(c, g, SIGMA, POSITIONS, _reference(2))
    assert np.isnan(found[:, 1:, 20:24]).all()
    assert np.isfinite(found[:, :, :20]).all() and np.isfinite(found[:, :, 24:]).all()


def test_frames_are_independent():
    """Each frame its own reference; a frame without lattice is NaN and the rest goes on."""
    g = G[2]
    region = np.ones(X.shape, dtype=bool)
    strains = (0.0, 0.01, -0.02)
    fields = [np.array([s * X, 0 * X]) + _bump((0.4, 0.1)) for s in strains]
    c = _coefficients(g, fields)
    c[1] = np.nan
    reference = np.array([-2 * np.pi * s * np.outer(g[:, 0], [1, 0]) for s in strains])
    found = displacement(c, g, SIGMA, POSITIONS, reference[..., None, None], region=region)
    assert np.isnan(found[1]).all()
    for i in (0, 2):
        alone = displacement(
            c[i : i + 1], g, SIGMA, POSITIONS, reference[i : i + 1, ..., None, None], region=region
        )
        np.testing.assert_array_equal(alone[0], found[i])
        # to first order in the strain of the reference
        bump = _bump((0.4, 0.1)) - _bump((0.4, 0.1)).mean(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(found[i], bump, atol=abs(strains[i]) * 0.4 + 1e-5)


def test_region_off_the_lattice_is_nan():
    g = G[2]
    c = _coefficients(g, [_bump()])
    c[..., :3, :, 30:] *= 1e-4
    region = X > POSITIONS[1][35]
    found = displacement(c, g, SIGMA, POSITIONS, _reference(2), region=region)
    assert np.isnan(found).all()


def test_relative_to_a_frame():
    """The displacement between two frames, at every pixel."""
    g = G[2]
    before, after = _bump((0.5, 0.2)), _bump((0.9, -0.3), centre=(80.0, 60.0))
    c = _coefficients(g, [before, after])
    found = displacement(c, g, SIGMA, POSITIONS, _reference(2), start=c[:1, :, 0])
    np.testing.assert_allclose(found[0], 0, atol=1e-5)
    np.testing.assert_allclose(found[1], after - before, atol=1e-5)


def test_strong_reflections_count_more():
    """Contradicting phases: weighted with the squared amplitude."""
    g = G[3]
    amplitudes = np.array([1.0, 2.0, 0.7])
    phases = np.array([0.3, -0.2, 0.5])
    c = _coefficients(g, [0 * _bump()])
    c[0, :, 0] = (amplitudes * np.exp(1j * phases))[:, None, None]
    (found,) = displacement(c, g, SIGMA, POSITIONS, _reference(3))
    w = amplitudes**2
    normal = (g * w[:, None]).T @ g
    expected = -np.linalg.solve(normal, (g * w[:, None]).T @ phases) / (2 * np.pi)
    np.testing.assert_allclose(found[:, 5, 5], expected, rtol=1e-5)
