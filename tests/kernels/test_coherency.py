"""The coherency inverse: against another forward calculation, with the error that it states."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from hyperspy_lfp.kernels.mechanics import coherency
from hyperspy_lfp.kernels.mechanics.coherency import (
    apparent_composition,
    crosstalk,
    elastic_fake,
    elastic_response,
    elastic_response_adjoint,
    invert,
    plan_coherency,
)
from hyperspy_lfp.kernels.mechanics.elasticity import orthotropic_medium

# test files of different folders share no module
_SPEC = importlib.util.spec_from_file_location(
    "independent_elasticity", Path(__file__).with_name("independent_elasticity.py")
)
independent = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(independent)

SIGMA, PIXEL, SIZE = 1.0, 0.5, 24.0  # nm
NOISE = 0.003
N = round(SIZE / PIXEL)
FULL = np.ones((N, N), dtype=bool)
Y, X = (np.mgrid[:N, :N] + 0.5) * PIXEL
#: 2 sigma off the edge.
INTERIOR = (np.abs(X - SIZE / 2) < SIZE / 2 - 2) & (np.abs(Y - SIZE / 2) < SIZE / 2 - 2)


def _plan(mask=FULL, spacing=(PIXEL, PIXEL), angle=0.0, condition="plane stress", **kwargs):
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    medium = orthotropic_medium(
        independent.MEAN, independent.EIGENSTRAIN, axes[0], condition=condition
    )
    return plan_coherency(mask, spacing, medium, SIGMA, axes, **kwargs)


@pytest.fixture(scope="module")
def plan():
    return _plan()


@pytest.fixture(scope="module")
def thick_plan():
    return _plan(condition="generalised plane strain")


@pytest.fixture(scope="module")
def ragged():
    """Not square, with unequal pixels, a hole, two pieces, and a turned crystal."""
    y, x = np.mgrid[:30, :40]
    mask = np.hypot((y - 14) / 13, (x - 14) / 13) < 1
    mask[12:16, 10:15] = False
    mask[5:25, 30:] = True
    return _plan(mask, (0.5, 0.4), angle=0.3)


def _square(x, y):
    return ((np.abs(x - SIZE / 2) < 4) & (np.abs(y - SIZE / 2) < 4)) * 1.0


def _stripes(x, y):
    """A wave along c, which is along y."""
    return 0.5 + 0.5 * np.cos(2 * np.pi * y / 10)


def _fine_stripes(x, y):
    return 0.5 + 0.5 * np.cos(2 * np.pi * y / 6)


def _whole(x, y):
    return (x >= 0) & (x < SIZE) & (y >= 0) & (y < SIZE)


@pytest.fixture(scope="module")
def truth():
    """Strains from the other calculation: thick, moduli 10 % off."""
    return {
        f.__name__: independent.strains(FULL, (PIXEL, PIXEL), f, _whole, SIGMA)
        for f in (_square, _stripes, _fine_stripes)
    }


def _measured(clean, seed, angle=0.0, strain=NOISE):
    random = np.random.default_rng(seed)
    noise = independent.noise(clean.shape[1:], (PIXEL, PIXEL), SIGMA, strain, angle, random)
    return clean + noise, np.full(clean.shape, strain**2)


def _contrast_of_stripes(x):
    wave = _stripes(X, Y)[INTERIOR] - 0.5
    design = np.column_stack([wave, np.ones_like(wave), np.sin(2 * np.pi * Y[INTERIOR] / 10)])
    return np.linalg.lstsq(design, x[INTERIOR], rcond=None)[0][0]


def _contrast_of_square(x):
    """The core of the square less what is a resolution or more off it."""
    off = np.maximum(np.abs(X - SIZE / 2), np.abs(Y - SIZE / 2))
    return x[off < 2].mean() - x[(off > 6) & INTERIOR].mean()


class TestForward:
    @pytest.mark.parametrize("condition", ["plane stress", "generalised plane strain"])
    def test_another_calculation_of_the_same(self, condition):
        """A disc in a turned crystal: apart by less than the inverse assumes the model wrong."""
        radius, centre, angle, n = 5.0, 5.6, 0.3, 28
        y, x = (np.mgrid[:n, :n] + 0.5) * 0.4
        mask = np.hypot(x - centre, y - centre) < radius

        def inside(x, y):
            return np.hypot(x - centre, y - centre) < radius

        def composition(x, y):
            return 0.5 + 0.5 * np.sin(2 * np.pi * (0.9 * x + 0.4 * y) / 5)

        plan = _plan(mask, (0.4, 0.4), angle, condition)
        found = elastic_response(composition(x, y), plan)
        expected = independent.strains(
            mask,
            (0.4, 0.4),
            composition,
            inside,
            SIGMA,
            cell=0.29,
            angle=angle,
            constants=independent.MEAN,
            thick=condition != "plane stress",
        )
        assert np.nanstd(expected[0]) > 5e-3
        # nearer to the edge, one discretisation has steps where the other has teeth
        deep = np.hypot(x - centre, y - centre) < radius - 2 * SIGMA
        assert np.abs(found - expected)[:, deep].max() < coherency._SYSTEMATIC

    def test_uniform_composition_is_vegards(self, ragged):
        strain = elastic_response(np.full((2, *ragged.mask.shape), 0.6), ragged)
        assert strain.shape == (2, 2, *ragged.mask.shape)
        assert np.isnan(strain[..., ~ragged.mask]).all()
        model = np.array([0.0520, -0.0192])[:, None] * 0.6
        np.testing.assert_allclose(strain[1][:, ragged.mask], model + 0 * strain[1][:, ragged.mask])
        x = apparent_composition(np.full(ragged.mask.shape, 0.6), ragged)
        np.testing.assert_allclose(x[ragged.mask], 0.6)

    @pytest.mark.parametrize("reference", [False, True])
    def test_adjoint(self, ragged, reference):
        if reference:
            region = np.zeros_like(ragged.mask)
            region[4:10, 10:20] = True
            ragged = coherency._with_reference(ragged, region)
        random = np.random.default_rng(0)
        x = random.standard_normal(ragged.mask.shape)
        m = random.standard_normal((2, *ragged.mask.shape))
        forward = np.nansum(elastic_response(x, ragged) * m)
        assert forward == pytest.approx((x * elastic_response_adjoint(m, ragged)).sum(), rel=1e-10)

    def test_matrix_of_the_inverse_is_the_forward_model(self, ragged):
        z = np.random.default_rng(1).standard_normal(ragged.basis.shape[1])
        x = np.zeros(ragged.mask.shape)
        x[ragged.mask] = ragged.basis @ z
        at = ragged.sampled
        strain = elastic_response(x, ragged)[:, at.rows * ragged.step, at.columns * ragged.step]
        np.testing.assert_allclose(ragged.response @ z, strain, atol=1e-12)

    def test_unknown_pixels_take_their_neighbours(self, ragged):
        x = np.where(np.arange(40) < 25, 0.2, 0.8) * np.ones((30, 1))
        holes = x.copy()
        holes[14:20, 20:24] = np.nan
        expected = elastic_response(x, ragged)
        np.testing.assert_array_equal(elastic_response(holes, ragged), expected)
        assert np.isnan(elastic_response(np.full(x.shape, np.nan), ragged)).all()

    def test_quarter_turn(self):
        mask = np.ones((16, 20), dtype=bool)
        x = np.random.default_rng(2).random(mask.shape)
        plain = elastic_response(x, _plan(mask, (0.5, 0.4), 0.3))
        turned = elastic_response(np.rot90(x), _plan(np.rot90(mask), (0.4, 0.5), 0.3 - np.pi / 2))
        np.testing.assert_allclose(turned, np.rot90(plain, axes=(1, 2)), atol=1e-11)


class TestInverse:
    @pytest.mark.parametrize("seed", [0, 1])
    def test_stripes_that_vegard_does_not_see(self, plan, truth, seed):
        """The gate: .65 of a contrast of which the a axis shows a tenth."""
        strain, variance = _measured(truth["_stripes"], seed)
        found = invert(strain, variance, plan)
        assert _contrast_of_stripes(strain[0] / 0.0520) < 0.25
        assert 0.65 <= _contrast_of_stripes(found.x) <= 1.35

    @pytest.mark.parametrize("seed", [0, 1])
    def test_square(self, plan, truth, seed):
        strain, variance = _measured(truth["_square"], seed)
        assert 0.9 <= _contrast_of_square(invert(strain, variance, plan).x) <= 1.4

    @pytest.mark.parametrize("name", ["_stripes", "_square"])
    def test_misfit_tells_the_condition_along_the_beam(self, plan, thick_plan, truth, name):
        strain, variance = _measured(truth[name], 2)
        thin, thick = (invert(strain, variance, p).misfit for p in (plan, thick_plan))
        assert thick < thin

    def test_stated_error(self, plan, truth):
        """Over what is seen and what is too fine, with the wrong model at that."""
        actual, stated = [], []
        for composition in (_stripes, _square, _fine_stripes):
            for seed in (3, 4):
                found = invert(*_measured(truth[composition.__name__], seed), plan)
                actual.append(((found.x - composition(X, Y))[INTERIOR] ** 2).mean())
                stated.append(found.variance[INTERIOR].mean())
        assert 0.7 < np.sqrt(np.mean(actual) / np.mean(stated)) < 1.5

    def test_stated_noise(self, plan, monkeypatch):
        """At a given smoothing the noise of x is that of the strains, propagated."""
        monkeypatch.setattr(coherency, "_SYSTEMATIC", 1e-4)  # or it would state more than there is
        clean = np.zeros((2, N, N))
        n = 12
        several = [_measured(clean, seed) for seed in range(n)]
        strain, variance = (np.array(part) for part in zip(*several, strict=True))
        found = invert(strain, variance, plan, smoothing=2.0)
        stated = found.noise_variance[0][INTERIOR].mean()
        actual = (found.x[:, INTERIOR] ** 2).mean()
        # 20 x 20 nm hold at least 16 areas of (5 nm)^2, 12 times: 10 % of the variance, two sigma
        assert actual / stated == pytest.approx(1, abs=0.2)

    def test_noise_is_correlated_as_assumed(self, ragged):
        """What the test filters from white noise has the covariance of the inverse."""
        random = np.random.default_rng(5)
        shape, spacing = ragged.mask.shape, ragged.mesh.spacing
        n = 80
        noise = np.array(
            [independent.noise(shape, spacing, SIGMA, NOISE, 0.3, random) for _ in range(n)]
        )
        at = ragged.sampled
        use = np.ones(len(at.elements), dtype=bool)
        for i in (0, 1):
            values = noise[:, i, at.rows * ragged.step, at.columns * ragged.step]
            stated = coherency._noise_covariance(np.full(len(use), NOISE**2), use, ragged, i)
            found = values.T @ values / n
            # 1/sqrt(n) a value; averaged over pairs of one lag they would be far better
            error = np.sqrt(((found - stated) ** 2).mean()) / NOISE**2
            assert error < 1.3 / np.sqrt(n)
            assert np.abs(stated - NOISE**2 * np.eye(len(use))).max() > 0.2 * NOISE**2

    def test_own_strain_without_noise(self, plan):
        smooth = 0.4 + 0.3 * np.cos(2 * np.pi * X / 12) * np.sin(2 * np.pi * Y / 15)
        strain = elastic_response(smooth, plan)
        found = invert(strain, np.full(strain.shape, 1e-8), plan)
        assert np.abs(found.x - smooth)[INTERIOR].max() < 0.02

    def test_discrepancy_principle(self, plan, truth):
        strain, variance = _measured(truth["_stripes"], 0)
        found = invert(strain, variance, plan, smoothing="discrepancy")
        assert found.misfit == pytest.approx(1, abs=0.01)
        again = invert(strain, variance, plan, smoothing=float(found.smoothing))
        np.testing.assert_allclose(again.x, found.x, atol=1e-5)

    def test_uniform_particle(self, plan):
        """Nothing but noise: a flat map, smoothed as far as the search goes."""
        strain, variance = _measured(elastic_response(np.full((N, N), 0.3), plan), 6)
        found = invert(strain, variance, plan)
        assert found.x.std() < 0.03
        assert np.abs(found.x.mean() - 0.3) < 4 * np.sqrt(found.variance.mean())

    def test_relative_to_a_region(self, plan):
        """Immune to a magnification that is off; the region's composition is the mean there."""
        region = np.zeros_like(FULL)
        region[4:14, 4:14] = True
        relative = _plan(reference=region, x_reference=0.25)
        x = np.where(X < 9, 0.25, 0.25 + (X - 9) / 20)
        absolute = elastic_response(x - 0.25, plan) + 0.01
        strain = absolute - absolute[:, region].mean(axis=1)[:, None, None]
        np.testing.assert_allclose(elastic_response(x, relative), strain, atol=1e-10)
        found = invert(strain, np.full(strain.shape, 1e-7), relative)
        assert found.x[region].mean() == pytest.approx(0.25, abs=5e-3)
        assert np.abs(found.x - x)[INTERIOR].max() < 0.05

    @pytest.mark.filterwarnings("error")
    def test_pixels_and_frames_without_strain(self, plan, truth):
        strain, variance = _measured(truth["_square"], 7)
        eroded = np.where(INTERIOR, strain, np.nan)
        one_only = strain.copy()
        one_only[1] = np.nan
        nothing = np.full_like(strain, np.nan)
        frames = np.stack([strain, eroded, one_only, nothing])
        found = invert(frames, np.broadcast_to(variance, frames.shape), plan)
        assert found.x.dtype == np.float32 and found.x.shape == (4, N, N)
        assert np.isfinite(found.x[:3]).all() and np.isnan(found.x[3]).all()
        assert np.isnan(found.smoothing[3]) and np.isfinite(found.smoothing[:3]).all()
        assert _contrast_of_square(found.x[1]) > 0.9
        # less is known where and when less is measured
        assert found.variance[1][~INTERIOR].mean() > found.variance[0][~INTERIOR].mean()
        np.testing.assert_allclose(found.x[0], invert(strain, variance, plan).x, atol=1e-6)

    def test_piece_without_strain(self, ragged):
        x = np.where(np.arange(40) < 29, 0.2, 0.8) * np.ones((30, 1))
        strain = elastic_response(x, ragged)
        strain[:, :, 29:] = np.nan
        found = invert(strain, np.full(strain.shape, 1e-8), ragged)
        assert np.isnan(found.x[:, 30:]).all()
        inside = ragged.mask & (np.arange(40) < 29)
        np.testing.assert_allclose(found.x[inside], 0.2, atol=1e-3)

    def test_small_pieces_are_left_out(self):
        mask = np.zeros((30, 30), dtype=bool)
        mask[2:22, 2:22] = True
        mask[25:28, 25:28] = True  # 2 nm^2 of 4 pi sigma^2 = 12.6
        plan = _plan(mask)
        assert plan.mask[2:22, 2:22].all() and plan.mask.sum() == 400

    def test_bad_input(self, plan):
        medium = plan.mesh.medium
        strain = np.zeros((2, N, N))
        with pytest.raises(ValueError, match="4 pi sigma"):
            plan_coherency(np.zeros((9, 9), bool), (1, 1), medium, 1.0, np.eye(2))
        with pytest.raises(ValueError, match="positive lengths"):
            plan_coherency(FULL, (0.5, 0.5), medium, 0.0, np.eye(2))
        with pytest.raises(ValueError, match="reference has no pixel"):
            plan_coherency(FULL, (1, 1), medium, 2.0, np.eye(2), reference=~FULL)
        with pytest.raises(ValueError, match="at most 5000"):
            plan_coherency(np.ones((80, 80), bool), (1, 1), medium, 0.5, np.eye(2))
        with pytest.raises(ValueError, match=r"strain \(2, 48, 47\)"):
            invert(strain[..., 1:], strain[..., 1:], plan)
        with pytest.raises(ValueError, match="'consistent', 'discrepancy'"):
            invert(strain, strain, plan, smoothing="gcv")
        with pytest.raises(ValueError, match="region has no pixel"):
            crosstalk(~FULL, plan)


class TestFake:
    @pytest.mark.parametrize("weights", [(1.0, 0.0), (1.0, 1.0), "map"])
    def test_against_brute_force(self, ragged, weights):
        """The apparent mean with x held constant in the region."""
        random = np.random.default_rng(8)
        shape = ragged.mask.shape
        if isinstance(weights, str):
            weights = random.uniform(0.5, 2, (2, *shape))
        x = random.random((3, *shape))
        regions = np.zeros((2, *shape), dtype=bool)
        regions[0, 4:10, 8:20] = True
        regions[1, 8:20, 32:38] = True
        fake = elastic_fake(x, regions, ragged, weights)
        assert fake.shape == (2, 3)
        for region, series in zip(regions, fake, strict=True):
            held = np.where(region, 0.0, x)
            apparent = apparent_composition(held, ragged, weights)
            expected = apparent[:, region & ragged.mask].mean(axis=1)
            np.testing.assert_allclose(series, expected, atol=1e-10)

    def test_weights(self, ragged):
        """Uniform x is read right, so they sum to one; pieces do not feel each other."""
        region = np.zeros_like(ragged.mask)
        region[8:20, 32:38] = True
        weights = crosstalk(region, ragged)
        assert weights.sum() == pytest.approx(1)
        assert not weights[:, :29].any()

    def test_a_layer_that_fills_beside(self, plan):
        """x of the region stays, and its apparent mean does not."""
        region = np.zeros_like(FULL)
        region[18:30, 18:30] = True
        beside = (np.abs(Y - SIZE / 2) < 3) & ~region
        x = np.stack([np.zeros((N, N)), np.where(beside, 1.0, 0.0)])
        ((start, end),) = elastic_fake(x, region[None], plan, weights=(1.0, 0.0))
        assert start == 0
        apparent = apparent_composition(x, plan, (1.0, 0.0))[:, region].mean(axis=1)
        assert end == pytest.approx(apparent[1] - apparent[0])
        # what is taken for the error of the model would be no finding
        assert abs(end) * 0.0520 > coherency._SYSTEMATIC

    def test_empty_frame(self, plan):
        x = np.full((2, N, N), 0.5)
        x[1] = np.nan
        assert np.isnan(elastic_fake(x, FULL[None], plan)).tolist() == [[False, True]]
