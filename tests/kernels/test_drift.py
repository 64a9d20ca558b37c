"""Rigid drift: closed-form sub-pixel shifts, phases, and shifting back."""

import numpy as np
import pytest

from hyperspy_lfp.kernels.gpa.drift import (
    mean_phases,
    refine_by_phases,
    shift_by_correlation,
    shift_frames,
)

SHIFTS = np.array([[0.0, 0.0], [0.37, -1.81], [-6.42, 3.3], [11.0, 9.5], [-0.5, 0.5]])


def _particle(synthetic, shape, shift, name="rotated", strain=0.0):
    """A soft-edged particle with fringes, all of it moved by (y, x)."""
    _, waves = synthetic.lattice(name)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    dy, dx = y - shift[0] - shape[0] / 2, x - shift[1] - shape[1] / 2
    outline = 1 / (1 + np.exp((np.hypot(dy, 0.8 * dx) - 45) / 2.0))
    fringes = sum(
        a * np.cos(2 * np.pi / (1 + strain) * (v[0] * dx + v[1] * dy) + p) for v, a, p in waves
    )
    return 100 * (1 + outline * (fringes - 0.25))


@pytest.mark.parametrize("shape", [(160, 181), (175, 150)])
def test_shift_of_a_particle(synthetic, shape):
    """To the step of the up-sampling, a fiftieth of a pixel."""
    frames = np.array([_particle(synthetic, shape, s) for s in SHIFTS])
    for sigma in (0.0, 4.0):
        found = shift_by_correlation(frames, frames[0], sigma)
        np.testing.assert_allclose(found, SHIFTS, atol=0.03)


def test_shift_with_noise(synthetic):
    shape = (160, 181)
    random = np.random.default_rng(0)
    frames = random.poisson(np.array([_particle(synthetic, shape, s) for s in SHIFTS]))
    found = shift_by_correlation(frames.astype(np.uint16), frames[0], 3.0)
    np.testing.assert_allclose(found, SHIFTS, atol=0.4)


def test_outline_decides_where_the_lattice_changes(synthetic):
    """5 % strain between the frames: blurred, the particle moves as a whole."""
    shape = (160, 181)
    frames = np.array(
        [_particle(synthetic, shape, (0, 0)), _particle(synthetic, shape, (4, -7), strain=0.05)]
    )
    found = shift_by_correlation(frames, frames[0], 4.0)
    np.testing.assert_allclose(found[1], (4, -7), atol=0.5)


def test_frames_without_pixels_have_no_shift(synthetic):
    shape = (80, 90)
    frames = np.array([_particle(synthetic, shape, s) for s in SHIFTS[:3]])
    frames[1] = np.nan
    frames[2, 0, 0] = np.nan
    found = shift_by_correlation(frames, frames[0])
    assert np.isnan(found).tolist() == [[False] * 2, [True] * 2, [False] * 2]
    nothing = shift_by_correlation(frames, np.full(shape, np.nan))
    assert np.isnan(nothing).all()


def test_mean_phases_of_a_drift():
    """-2 pi g.d, weighted with the power, whatever phases the frame itself has."""
    random = np.random.default_rng(0)
    g = np.array([[0.02, 0.1], [0.08, -0.03], [0.1, 0.07]])  # (y, x)
    value = random.uniform(0.5, 1, (3, 6, 7)) * np.exp(2j * np.pi * random.random((3, 6, 7)))
    value[:, 2, 3] = np.nan
    expected = -2 * np.pi * SHIFTS @ g.T
    frames = np.zeros((len(SHIFTS), 3, 4, 6, 7), dtype=complex)
    frames[:, :, 0] = value * np.exp(1j * expected)[:, :, None, None]
    found = mean_phases(frames, value)
    np.testing.assert_allclose(np.exp(1j * found), np.exp(1j * expected), atol=1e-12)
    assert np.all(np.abs(found) <= np.pi)


@pytest.mark.parametrize("number", [2, 3])
def test_phases_refine_a_shift(number):
    """Right to a third of a period, it becomes exact; also many periods away."""
    random = np.random.default_rng(number)
    g = np.array([[0.02, 0.1], [0.08, -0.03], [0.1, 0.07]])[:number]
    shifts = random.uniform(-60, 60, (8, 2))
    phases = np.angle(np.exp(-2j * np.pi * shifts @ g.T))
    rough = shifts + random.uniform(-2, 2, shifts.shape)
    assert np.abs((rough - shifts) @ g.T).max() < 0.45
    np.testing.assert_allclose(refine_by_phases(rough, phases, g), shifts, atol=1e-10)


def test_phases_of_real_fits_refine_a_shift(synthetic):
    """From images: a thousandth of a pixel without noise."""
    shape = (170, 181)
    g, waves = synthetic.lattice("oblique")
    shifts = np.array([[0.0, 0.0], [1.234, -0.777], [-3.02, 5.5]])
    frames = np.array(
        [synthetic.image(shape, waves, lambda x, y, s=s: (s[1], s[0])) for s in shifts]
    )
    positions = [np.arange(60.0, n - 60, 5) for n in shape]
    c, _ = synthetic.fit(frames, g, 10.0, positions)
    phases = mean_phases(c, c[0, :, 0])
    rough = shifts + [[0, 0], [0.9, -0.8], [-1.0, 0.5]]
    found = refine_by_phases(rough, phases, g[:, ::-1])
    np.testing.assert_allclose(found, shifts, atol=1e-3)


def test_shifting_back_by_whole_pixels():
    """What was at r + drift is at r again, and what was outside is filled."""
    random = np.random.default_rng(0)
    frame = random.poisson(100, (20, 30)).astype(np.uint16)
    for dy, dx in ((3, -4), (-2, 0), (0, 7)):
        drifted = np.roll(frame, (dy, dx), axis=(0, 1))
        (back,) = shift_frames(drifted[None], np.array([[dy, dx]], dtype=float))
        valid = np.isfinite(back)
        y, x = np.mgrid[:20, :30]
        inside = (y + dy >= 0) & (y + dy < 20) & (x + dx >= 0) & (x + dx < 30)
        np.testing.assert_array_equal(valid, inside)
        assert back.dtype == np.float32
        np.testing.assert_allclose(back[inside], frame[inside], atol=1e-3)


def test_shifting_back_by_parts_of_pixels(synthetic):
    """Fringes of 10 px by a cubic spline: (2 pi / 10.3)^4 / 72 of their amplitude."""
    shape = (120, 131)
    _, waves = synthetic.lattice("rotated")
    still = synthetic.image(shape, waves)
    for shift in ((0.5, 0.5), (-2.31, 4.77)):
        moved = synthetic.image(shape, waves, lambda x, y, s=shift: (s[1], s[0]))
        (back,) = shift_frames(moved[None], np.array([shift]))
        error = (back - still)[15:-15, 15:-15]
        assert np.abs(error).max() < 2 * 0.4 * (2 * np.pi / synthetic.SPACING) ** 4 / 72


def test_fill_value_and_unknown_shifts():
    frames = np.ones((2, 8, 9), dtype=np.uint8)
    back = shift_frames(frames, np.array([[2.0, 0.0], [np.nan, np.nan]]), fill_value=-1.0)
    np.testing.assert_array_equal(back[0, :6], 1)
    np.testing.assert_array_equal(back[0, 6:], -1)
    np.testing.assert_array_equal(back[1], -1)
