"""Spots integrated over pixels: against closed forms and independent quadrature."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special

from hyperspy_lfp.kernels.imaging import spots
from hyperspy_lfp.kernels.imaging.spots import Profile, background, draw, peak_part

GAMMA = np.sqrt(2 * np.log(2))  # half width of the Lorentzian part, in standard deviations


def one(shape, at, profile, counts=1.0):
    return draw(shape, np.array([[at]]), np.array([[counts]]), profile)


@given(
    y=st.floats(17, 23),
    x=st.floats(20, 30),
    sigma=st.floats(0.8, 2.0),
    counts=st.floats(0, 1e6),
)
def test_gaussian_holds_its_counts_place_and_width(y, x, sigma, counts):
    """Centroid and variance of the pixels are those of the spot: a Gaussian's spectrum is gone.

    The sum of i over pixels is off by exp(-2 pi^2 sigma^2)/pi, its square by that times 4 pi sigma.
    """
    image = one((41, 51), (y, x), Profile("gaussian", sigma), counts)
    assert image.sum() == pytest.approx(counts, rel=1e-12)
    alias = np.exp(-2 * np.pi**2 * sigma**2)
    for axis, at in ((0, y), (1, x)):
        line = image.sum(axis=1 - axis)
        i = np.arange(len(line)) - at
        assert line @ i == pytest.approx(0, abs=counts * (alias + 1e-12))
        # a pixel adds a twelfth
        spread = counts * (sigma**2 + 1 / 12)
        assert line @ i**2 == pytest.approx(spread, abs=counts * (20 * alias + 1e-11))


@pytest.mark.parametrize("radius", [0.3, 1.0, 4.7])
@pytest.mark.parametrize("at", [(10.0, 12.0), (9.7, 12.25), (10.5, 11.5)])
def test_disc_shares_its_area_with_the_pixels(radius, at):
    image = one((21, 25), at, Profile("disc", radius))
    assert image.sum() == pytest.approx(1, abs=1e-13)
    assert image.min() > -1e-15

    def chord(v, i, j):
        """What the disc shares with a pixel of column j at the height v."""
        half = np.sqrt(max(radius**2 - (v - at[0]) ** 2, 0))
        low, high = max(at[1] - half, j - 0.5), min(at[1] + half, j + 0.5)
        return max(high - low, 0)

    for i, j in ((10, 12), (8, 10), (12, 13), (6, 12), (10, 15)):
        cuts = np.clip(
            [
                at[0] + s * np.sqrt(max(radius**2 - (e - at[1]) ** 2, 0))
                for s in (1, -1)
                for e in (j - 0.5, j + 0.5)
            ]
            + [at[0] - radius, at[0] + radius],
            i - 0.5,
            i + 0.5,
        )
        area, _ = integrate.quad(chord, i - 0.5, i + 0.5, args=(i, j), points=sorted(cuts))
        assert image[i, j] == pytest.approx(area / (np.pi * radius**2), abs=1e-8)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_pseudo_voigt_is_its_integral_over_pixels(eta):
    sigma, at = 1.3, (10.2, 11.6)
    image = one((21, 25), at, Profile("pseudo-voigt", sigma, eta))
    gamma = GAMMA * sigma

    def density(x, y):
        squared = (x - at[1]) ** 2 + (y - at[0]) ** 2
        gauss = np.exp(-squared / (2 * sigma**2)) / (2 * np.pi * sigma**2)
        return eta * gamma / (2 * np.pi) * (squared + gamma**2) ** -1.5 + (1 - eta) * gauss

    for i, j in ((10, 12), (9, 11), (0, 0), (20, 24)):
        exact, _ = integrate.dblquad(
            density, i - 0.5, i + 0.5, j - 0.5, j + 0.5, epsabs=1e-12, epsrel=1e-10
        )
        assert image[i, j] == pytest.approx(exact, rel=1e-8)


def test_pseudo_voigt_integrated_across_is_the_peak_that_is_fitted():
    """Beyond the height h of the frame, gamma / 2 pi h^2 is missing of each unit of x at most."""
    sigma, eta, half = 1.1, 0.4, 300
    line = one((2 * half + 1, 41), (half, 20.3), Profile("pseudo-voigt", sigma, eta)).sum(axis=0)
    edges = np.arange(42) - 0.5 - 20.3
    gauss = special.ndtr(edges / sigma)
    lorentz = np.arctan(edges / (GAMMA * sigma)) / np.pi
    missing = eta * GAMMA * sigma / (2 * np.pi * half**2)
    off = np.diff((1 - eta) * gauss + eta * lorentz) - line
    assert np.all((off > -1e-13) & (off < missing))


@pytest.mark.parametrize("shape", spots.SHAPES)
def test_parts_add(shape):
    """Near the spot exactly; the tails beyond as the module says."""
    random = np.random.default_rng(2)
    places = np.array([60.0, 80.0]) + random.normal(scale=2.0, size=(1, 40, 2))
    counts = random.uniform(0.5, 2, size=(1, 40))
    profile = Profile(shape, 1.2, 0.5)
    together = draw((121, 161), places, counts, profile)
    alone = sum(
        draw((121, 161), p[None, None], c[None, None], profile)
        for p, c in zip(places[0], counts[0], strict=True)
    )
    reach = spots._TAIL_REACH * GAMMA * 1.2
    y, x = np.mgrid[:121, :161]
    near = (abs(y - 60) < reach) & (abs(x - 80) < reach)
    np.testing.assert_allclose(together[near], alone[near], rtol=1e-9, atol=1e-13)
    if shape != "pseudo-voigt":
        np.testing.assert_allclose(together, alone, rtol=1e-9, atol=1e-13)
        return
    spread = places[0].std(axis=0).max()
    # 6 s^2 / r^2 for the scatter along the distance; its third moment adds a little
    bound = 6 * spread**2 / reach**2 * (1 + 6 * spread / reach)
    assert np.abs(together / alone - 1).max() < bound


@pytest.mark.parametrize("shape", spots.SHAPES)
def test_border_cuts_and_what_is_beside_is_not_there(shape):
    profile = Profile(shape, 2.5, 0.5)
    places = np.array([[(3.0, 1.2)], [(-30.0, 4.0)], [(19.7, 29.9)]])
    counts = np.array([[5.0], [7.0], [3.0]])
    whole = draw((120, 130), places + 50, counts, profile)
    np.testing.assert_allclose(
        draw((20, 30), places, counts, profile), whole[50:70, 50:80], rtol=1e-9, atol=1e-14
    )


def test_many_parts_in_portions(monkeypatch):
    random = np.random.default_rng(3)
    places = random.uniform(5, 15, size=(2, 100, 2))
    counts = random.uniform(size=(2, 100))
    for shape in spots.SHAPES:
        profile = Profile(shape, 1.5, 0.5)
        expected = draw((21, 21), places, counts, profile)
        with monkeypatch.context() as patch:
            patch.setattr(spots, "_AT_ONCE", 1000)
            np.testing.assert_allclose(
                draw((21, 21), places, counts, profile), expected, rtol=1e-12, atol=1e-13
            )


def test_peak_part():
    assert peak_part(Profile("disc", 4.0)) == pytest.approx(1 / (16 * np.pi), rel=1e-12)
    assert peak_part(Profile("gaussian", 1.1)) == pytest.approx(
        special.erf(0.5 / 1.1 / np.sqrt(2)) ** 2, rel=1e-12
    )
    assert peak_part(Profile("gaussian", 1e-3)) == pytest.approx(1)


def test_background():
    found = background((30, 40), (10.5, 20.0), 60.0, 8.0)
    y, x = np.mgrid[:30, :40]
    exact = 60 / (1 + ((y - 10.5) ** 2 + (x - 20) ** 2) / 64)
    np.testing.assert_allclose(found, exact, rtol=1e-12)
    turn = np.array([[0.8, 0.6], [0.6, -0.8]])
    np.testing.assert_allclose(
        background((30, 40), (10.5, 20.0), 60.0, 8 * turn), exact, rtol=1e-12
    )
    stretched = background((30, 40), (10.0, 20.0), 60.0, np.array([[4.0, 1.0], [0.0, 8.0]]))
    # (y, x) = M (0, 1) and M (1, 0) are at half of the height
    assert stretched[11, 28] == pytest.approx(30) and stretched[14, 20] == pytest.approx(30)


@pytest.mark.parametrize("profile", [Profile("square", 1.0), Profile("disc", 0.0)])
def test_bad_input(profile):
    with pytest.raises(ValueError, match=r"shape='square'|width=0"):
        one((8, 8), (4, 4), profile)
