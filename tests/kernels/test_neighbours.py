"""Reflections near the fitted ones, in windows that the edge of a particle cuts."""

import numpy as np
import pytest

from hyperspy_lfp.kernels.gpa import lattice, lockin, neighbours
from hyperspy_lfp.kernels.gpa.lockin import plane_wave_fit
from hyperspy_lfp.kernels.gpa.plan import plan_lockin

SIZE, SIGMA, RADIUS = 300, 17.0, 110.0
#: (101), (10-1), (201), (20-1), (200), (002), (301) of LiFePO4 at 0.86 nm and 0.05 nm a pixel
INDICES = ((1, 1), (1, -1), (2, 1), (2, -1), (2, 0), (0, 2), (3, 1))
AMPLITUDES = (0.13, 0.13, 0.1, 0.1, 0.1, 0.06, 0.08)
CELL = np.array([1.0324, 0.4690]) / 0.05
TURN = 0.2


def _spots():
    turn = np.array([[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]])
    return (np.array(INDICES) / CELL) @ turn.T  # (x, y)


def _particle(amplitudes=AMPLITUDES, stretch=0.0, displacement=None):
    """A disc, and the distance from its edge in units of sigma."""
    y, x = np.indices((SIZE, SIZE), dtype=float)
    distance = RADIUS - np.hypot(y - SIZE / 2, x - SIZE / 2)
    u = stretch * (x - SIZE / 2) if displacement is None else displacement(x - SIZE / 2)
    image = np.ones((SIZE, SIZE))
    for n, (g, amplitude) in enumerate(zip(_spots(), amplitudes, strict=True)):
        wave = amplitude * np.cos(2 * np.pi * (g[0] * (x - u) + g[1] * y) + n)
        image += np.where(distance > 0, wave, 0)
    return image, distance


def _plan(degree=1, number=2):
    positions = [np.arange(0, SIZE, SIGMA / 3)] * 2
    plan = plan_lockin(
        (SIZE, SIZE), _spots()[:number, ::-1], (SIGMA, SIGMA), positions, amplitude=2.0
    )
    return plan._replace(degree=degree)


def _exx(image, plan, distance, between=(0.5, 1.5)):
    """Strain along x, its predicted variance, x from the middle: where the distance is such."""
    c = plane_wave_fit(image, plan, mask=distance > 0)
    e, variance = lattice.deformation(c[None], plan.g[:, ::-1], SIGMA, threshold=0.05)
    at = np.rint(plan.y.positions).astype(int)
    away = distance[at[:, None], at] / SIGMA
    chosen = (away > between[0]) & (away < between[1])
    x = np.broadcast_to(plan.x.positions - SIZE / 2, away.shape)
    return e[0, 0, 0][chosen], variance, x[chosen], chosen


@pytest.fixture
def without(monkeypatch):
    """Leave the neighbours out of the fit."""

    def leave_out():
        monkeypatch.setattr(lockin, "_neighbours", lambda *_: None)

    return leave_out


@pytest.mark.parametrize("stretch", [0.0, 0.01])
@pytest.mark.parametrize(("degree", "most"), [(1, 6e-4), (2, 2.5e-3)])
def test_plane_waves(degree, most, stretch, without):
    """A perfect lattice whose strong neighbours are less than a cycle per sigma away."""
    image, distance = _particle(stretch=stretch)
    plan = _plan(degree)
    found = _exx(image, plan, distance)[0]
    assert np.sqrt(np.nanmean((found - stretch) ** 2)) < most
    without()
    leaking = _exx(image, plan, distance)[0]
    assert np.sqrt(np.nanmean((leaking - stretch) ** 2)) > 5 * most


def test_one_neighbour_of_one_reflection():
    """Found in the frame, and taken out."""
    image, distance = _particle(amplitudes=(0.13, 0, 0.1, 0, 0, 0, 0))
    plan = _plan(number=1)
    c = plane_wave_fit(image, plan, mask=distance > 0)
    at = np.rint(plan.y.positions).astype(int)
    cut = (distance[at[:, None], at] > 0.5 * SIGMA) & (distance[at[:, None], at] < 1.5 * SIGMA)
    c = c[..., cut]
    slopes = (c[0, 1:3] / c[0, 0]).imag
    assert np.sqrt((slopes**2).mean()) * SIGMA < 4e-3
    np.testing.assert_allclose(np.abs(c[0, 0]), 0.13, rtol=2e-2)


def test_keeps_the_variation_of_strain():
    """A parabola with its neighbours follows the strain towards the edge."""
    k, size = 2 * np.pi / 500, 0.01
    image, distance = _particle(displacement=lambda x: size / k * np.sin(k * x + 1))
    found, _, x, _ = _exx(image, _plan(2), distance)
    slope = np.polyfit(size * np.cos(k * x + 1), found, 1)[0]
    assert slope == pytest.approx(1, abs=0.05)


def test_whole_windows_stay_as_they_are(without):
    image, distance = _particle()
    plan = _plan()
    args = image, plan, distance, (4.5, 9)
    found = _exx(*args)[0]
    without()
    np.testing.assert_array_equal(found, _exx(*args)[0])


@pytest.mark.parametrize("degree", [1, 2])
def test_noise_is_predicted(degree):
    image, distance = _particle()
    plan = _plan(degree)
    random = np.random.default_rng(0)
    spread, number = 0.2, 12
    at = np.rint(plan.y.positions).astype(int)
    away = distance[at[:, None], at] / SIGMA
    cut = (away > 0.6) & (away < 1.5)
    values, predicted = [], []
    for _ in range(number):
        noisy = image + spread * random.standard_normal(image.shape)
        c = plane_wave_fit(noisy, plan, mask=distance > 0)
        c = c[:, :, cut]
        values.append((c[:, 1:3] / c[:, :1]).imag)
        scale = np.abs(c[:, 0]) ** 2
        predicted.append(np.stack([c[:, 3].real / scale, c[:, 3].imag / scale], axis=1))
    actual = np.var(values, axis=0, ddof=1).mean()
    expected = np.mean(predicted) / 2  # one of two quadratures
    assert actual / expected == pytest.approx(1, abs=0.25)


def test_finds_the_spots_in_reach_and_no_others():
    image, distance = _particle()
    random = np.random.default_rng(0)
    weights = np.clip(distance / SIGMA, 0, 1)
    noisy = image - 1 + 0.3 * random.standard_normal(image.shape)
    args = weights, _spots()[:2, ::-1], (SIGMA, SIGMA), np
    found = neighbours.find_spots_near(noisy, *args)
    expected = _spots()[2:, ::-1]
    given = _spots()[:2, ::-1]
    both = np.concatenate([given, -given])
    away = np.array([np.hypot(*(both - q).T).min() for q in expected]) * SIGMA
    expected = expected[away < neighbours._REACH - 0.1]
    signed = np.concatenate([found, -found])
    for q in expected:
        assert np.hypot(*(signed - q).T).min() * SIGMA < 0.05
    assert len(found) <= len(expected) + np.count_nonzero(np.abs(away - neighbours._REACH) < 0.1)
    noise = random.standard_normal(image.shape)
    assert not len(neighbours.find_spots_near(noisy * 0 + noise, *args))


def test_differences_are_shared():
    """Those of a lattice are few, and each is taken once with its opposite."""
    g = _spots()[:, ::-1]
    beams = neighbours.beams(g[:2], g[2:], (SIGMA, SIGMA))
    signed = np.concatenate([beams.g, -beams.g])
    for (i, j), (place, opposite) in beams.places.items():
        expected = (signed[i] - signed[j]) * (-1 if opposite else 1)
        np.testing.assert_allclose(beams.differences[place], expected, atol=1e-2 / SIGMA)
    assert len(beams.differences) < len(beams.places) / 2
