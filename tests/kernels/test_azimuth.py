"""Spots that turn with their crystal, against exact integrals over pixels."""

import numpy as np
import pytest
from scipy.special import erf

from hyperspy_lfp.kernels.patterns.azimuth import turned_spots, turned_with
from hyperspy_lfp.kernels.patterns.profile import band_profiles, radial_band

SHAPE = (95, 93)


def gaussian(centre, sigma, total, shape=SHAPE):
    """The integral over every pixel."""
    parts = [
        np.diff(erf((np.arange(n + 1) - 0.5 - c) / (s * np.sqrt(2)))) / 2
        for n, c, s in zip(shape, centre, np.broadcast_to(sigma, 2), strict=True)
    ]
    return total * np.outer(*parts)


def course(n=12):
    """Centres that shake, and spots that turn and move out: (n, 2) each, and the azimuths."""
    steps = np.arange(n)
    centres = np.column_stack([40 + 0.8 * np.sin(steps), 42 + 0.5 * np.cos(2 * steps)])
    angle = 0.3 + 0.02 * steps
    units = np.column_stack([np.sin(angle), np.cos(angle)])
    return centres, centres + (22 + 0.15 * steps)[:, None] * units, angle


def azimuth(vectors):
    return np.arctan2(vectors[:, 0], vectors[:, 1])


def test_azimuth_without_noise():
    """A centroid is exact; the k of the spot stays what it was."""
    centres, spots, angle = course()
    frames = np.stack([7 + gaussian(s, 2.0, 1000 * 0.8**i) for i, s in enumerate(spots)])
    found = turned_spots(frames, centres, spots[0] - centres[0], 15)
    np.testing.assert_allclose(azimuth(found), angle, atol=1e-4)
    np.testing.assert_allclose(np.hypot(*found.T), 22, rtol=1e-12)


def test_unequal_scales():
    centres, spots, _ = course()
    to_k = np.diag([0.05, 0.08])
    frames = np.stack([gaussian(s, (3.0, 2.0), 500) for s in spots])
    k = (spots - centres) @ to_k
    found = turned_spots(frames, centres, k[0], 0.8, to_k=to_k)
    np.testing.assert_allclose(azimuth(found), azimuth(k), atol=1e-4)
    np.testing.assert_allclose(np.hypot(*found.T), np.hypot(*k[0]), rtol=1e-12)


def test_counting_error():
    """Of a spot on an empty frame the centroid has the variance sigma^2 / N, pixels included."""
    centres, spots, angle = course(200)
    spots, angle = spots[:1] - centres[:1], angle[:1]
    total, sigma, n = 400.0, 2.0, 400
    centres = np.full((n, 2), 40.0)
    random = np.random.default_rng(1)
    frames = random.poisson(gaussian(centres[0] + spots[0], sigma, total), (n, *SHAPE))
    found = turned_spots(frames, centres, spots[0], 15)
    error = 22 * (azimuth(found) - angle)
    expected = np.sqrt((sigma**2 + 1 / 12) / total)
    # five standard errors of a standard deviation
    assert error.std() == pytest.approx(expected, rel=5 / np.sqrt(2 * n))
    assert abs(error.mean()) < 5 * expected / np.sqrt(n)


def test_nothing_to_follow():
    """An empty frame, one of noise-free background, one of NaN, no centre, out of the frame."""
    spot = np.array([3.0, 20.0])
    frames = np.zeros((5, *SHAPE))
    frames[1], frames[2] = 7, np.nan
    centres = np.full((5, 2), 40.0)
    centres[3] = np.nan
    centres[4] = (500, 500)
    np.testing.assert_array_equal(turned_spots(frames, centres, spot, 10), [spot] * 5)


@pytest.mark.parametrize("how", ["mask", "exclude"])
def test_bright_neighbour(how):
    """What is masked, or excluded and turns as the spot does, is not taken for it."""
    centre, angle = np.array([40.0, 42.0]), 0.3 + np.array([0.0, 0.02, -0.02])
    spots = 22 * np.column_stack([np.sin(angle), np.cos(angle)])
    others = turned_with([[8.0, 10.0]], spots[0], spots)[:, 0] + spots  # 12.8 pixels away
    frames = np.stack(
        [
            3 + gaussian(centre + s, 1.5, 500) + gaussian(centre + o, 1.5, 5000)
            for s, o in zip(spots, others, strict=True)
        ]
    )
    centres = np.tile(centre, (3, 1))
    if how == "mask":
        y, x = np.indices(SHAPE)
        near = [np.hypot(y - o[0] - 40, x - o[1] - 42) < 7.5 for o in others]
        options = {"mask": np.any(near, axis=0)}
    else:
        options = {"exclude": others[:1], "exclude_radius": 7.5}
    taken = turned_spots(frames, centres, spots[0], 14)
    assert np.all(22 * np.abs(azimuth(taken) - angle) > 1)
    found = turned_spots(frames, centres, spots[0], 14, **options)
    # of either spot less than 1e-4 is beyond the disc about the neighbour, five widths of it
    np.testing.assert_allclose(22 * azimuth(found), 22 * angle, atol=0.01)


def test_vectors_turned_with_a_spot():
    turned = turned_with([[1.0, 0.0], [0.0, 2.0]], (0.0, 3.0), [[3.0, 0.0], [0.0, 3.0]])
    np.testing.assert_allclose(turned[0], [[0, -1], [2, 0]], atol=1e-15)
    np.testing.assert_allclose(turned[1], [[1, 0], [0, 2]], atol=1e-15)


def test_profile_axis_is_fixed_while_the_spot_moves_out():
    """Following turns the band with the spot; the spot's shift in k stays in the profile."""
    centres, spots, _ = course()
    frames = np.stack([gaussian(s, 2.0, 1000.0) for s in spots])
    found = turned_spots(frames, centres, spots[0] - centres[0], 15)
    band = radial_band(centres, found, 10, 1, 20)
    counts = band_profiles(frames, band, 28).counts
    k = 10.5 + np.arange(28)
    truth = 22 + 0.15 * np.arange(len(spots))
    np.testing.assert_allclose(counts @ k / counts.sum(axis=1), truth, atol=1e-3)
