"""Flags from amplitude, noise and geometry."""

import numpy as np
import pytest

from hyperspy_lfp.kernels.concentration import flags

SHAPE = (40, 52)
WIDTH = (3.0, 2.0)


def coefficients(n=2, reflections=2):
    c = np.zeros((n, reflections, 4, *SHAPE), dtype=complex)
    c[:, :, 0] = 5.0
    c[:, :, 3] = 1e-4 * (1 + 1j)
    return c


def test_rim_is_as_wide_as_one_and_a_half_resolutions():
    valid = np.ones((1, *SHAPE), dtype=bool)
    valid[:, :, :10] = False
    found = flags.rim(valid, WIDTH)
    width = found[0, 20].sum()
    assert width == pytest.approx(1.5 * WIDTH[1], abs=1)
    # the border of the frame is none of the crystal
    assert not found[0, :, 30:].any()
    assert not found[~valid].any()


def test_mostly_outside():
    c = coefficients()
    c[0, 1, 3, :, :3] *= 20
    c[1, :, 3] = np.nan
    c[0, 0, 3, 5] *= 10
    found = flags.mostly_outside(c)
    expected = np.zeros(SHAPE, dtype=bool)
    expected[:, :3] = True
    assert np.array_equal(found[0], expected)
    assert not found[1].any()


def test_collapse_of_one_reflection():
    before, after = coefficients(1), coefficients()
    after[1, 0, 0, 10:20, 10:20] *= 0.1
    # a frame that is brighter as a whole, and a structure factor that falls to .29
    after[0, :, 0] *= 7
    after[0, 1, 0, :, 30:] *= 0.29
    # no lattice there before
    before[0, :, 0, :, :5] *= 0.01
    after[:, :, 0, :, :5] *= 0.001
    found = flags.collapse(flags.relative_amplitude(after), flags.relative_amplitude(before))
    expected = np.zeros(SHAPE, dtype=bool)
    expected[10:20, 10:20] = True
    assert not found[0].any()
    assert np.array_equal(found[1], expected)


def test_amplitude_of_an_empty_frame():
    found = flags.relative_amplitude(np.zeros((1, 2, 4, *SHAPE), dtype=complex))
    assert np.isnan(found).all()


def test_bits_are_their_own():
    where = np.ones((1, 2, 2), dtype=bool)
    total = flags.combine(**{name.replace(" ", "_"): where for name in flags.FLAGS})
    assert total.dtype == np.uint16
    assert np.all(total == sum(flags.FLAGS.values()))
    assert len(set(flags.FLAGS.values())) == len(flags.FLAGS)
    assert all(bit & (bit - 1) == 0 for bit in flags.FLAGS.values())
    none = np.zeros_like(where)
    assert np.all(flags.combine(rim=where, closure=none) == flags.FLAGS["rim"])
