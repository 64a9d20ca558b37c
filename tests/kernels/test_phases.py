"""One phase or two, the verdict, and amounts that are not intensities."""

from pathlib import Path

import numpy as np
import pytest

from hyperspy_lfp.kernels.peaks.fit import expected_profile, fit_peaks
from hyperspy_lfp.kernels.peaks.model import MODELS
from hyperspy_lfp.kernels.peaks.phases import (
    EVIDENCE,
    dispersion,
    fit_one_or_two,
    intensity_fraction,
    mean_composition,
    molar_fraction,
    structure_factor_ratio,
    transformation,
    two_phase_probability,
)

K = np.linspace(1.8, 2.2, 41)
WIDTH = 0.04
DATA = Path(__file__).parents[3] / "shared" / "data" / "simulated"


def _tail(area):
    """Positions that fall off exponentially: none of the models that are fitted."""
    where = -np.log(1 - (np.arange(100) + 0.5) / 100) * 0.7 * WIDTH
    return np.mean([expected_profile(K, 1.95 + w, WIDTH, area, eta=0.3) for w in where], axis=0)


SINGLE = {
    "sharp": lambda a: expected_profile(K, 1.98, WIDTH, a, eta=0.3),
    "Lorentzian": lambda a: expected_profile(K, 1.98, WIDTH, a, eta=1.0),
    "flat top": lambda a: expected_profile(
        K, [1.94, 2.02], WIDTH, [a / 2, a / 2], eta=0.3, model="graded"
    ),
    "skewed": lambda a: expected_profile(
        K, [1.95, 2.02], WIDTH, [0.9 * a, 0.1 * a], eta=0.3, model="graded"
    ),
    "exponential tail": _tail,
}


def _counts(mean, n, seed):
    area = mean.sum()
    line = 0.005 * area * np.linspace(1.2, 0.8, len(K)) + 1
    return np.random.default_rng(seed).poisson(mean + line, (n, len(K)))


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("area", [1e3, 1e5])
def test_false_second_peaks(name, area):
    """At most 5 % of single phases, sharp or smeared, and 3.5 sampling errors of that."""
    n = 60
    _, _, choice, _ = fit_one_or_two(_counts(SINGLE[name](area), n, 1), K)
    assert np.all(choice.n_peaks > 0)
    assert np.mean(choice.n_peaks == 2) < 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / n)


@pytest.mark.parametrize("part", [0.5, 0.15])
@pytest.mark.parametrize("splitting", [1.2, 1.6, 2.5])
def test_two_phases_are_found(splitting, part):
    """Wherever they are more than a width apart."""
    area = 5e4
    mean = expected_profile(
        K, [1.95, 1.95 + splitting * WIDTH], WIDTH, [area * (1 - part), area * part], eta=0.3
    )
    _, _, choice, _ = fit_one_or_two(_counts(mean, 20, 2), K)
    assert np.all(choice.n_peaks == 2)
    assert np.all(choice.log_odds > EVIDENCE)
    assert np.all(choice.smeared_gain > 0) and np.all(choice.bic_gain > 0)


def test_variance_is_given():
    y = _counts(expected_profile(K, [1.95, 2.02], WIDTH, [6e3, 4e3], eta=0.3), 5, 2)
    _, _, choice, _ = fit_one_or_two(y, K, variance=np.maximum(y, 1.0))
    assert np.all(choice.n_peaks == 2)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_dispersion(factor):
    """Noise of a quarter of the variance of counts, or of four times."""
    mean = SINGLE["sharp"](2e5) + 400
    rng = np.random.default_rng(3)
    y = mean + factor * rng.normal(size=(200, len(K))) * np.sqrt(mean)
    _, _, choice, noise = fit_one_or_two(y, K)
    # the median of chi-square / freedom is below 1, and the best of several fits once more
    assert 0.2 < noise * (0.5 / factor) ** 2 < 0.26
    assert noise == dispersion(*(fit_peaks(y, K, model) for model in MODELS))
    assert np.mean(choice.n_peaks == 2) < 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / len(y))


def test_no_data():
    y = np.full((2, len(K)), np.nan)
    y[0] = SINGLE["sharp"](1e4) + 5
    _, _, choice, _ = fit_one_or_two(y, K)
    assert choice.n_peaks.tolist() == [1, 0]


# --- verdict -------------------------------------------------------------------------------------


def test_probability_without_evidence():
    np.testing.assert_allclose(two_phase_probability(np.full(7, np.nan)), 0.5)
    np.testing.assert_allclose(two_phase_probability(np.full(7, EVIDENCE)), 0.5)


def test_probability_against_all_paths():
    """The sum over all sequences of states, written out."""
    rng = np.random.default_rng(4)
    odds, switch = rng.normal(0, 2, 6) + EVIDENCE, 0.1
    weight = np.zeros((2, 6))
    for number in range(2**6):
        path = np.array([number >> i & 1 for i in range(6)])
        value = np.exp((path * (odds - EVIDENCE)).sum())
        value *= np.prod(np.where(np.diff(path) == 0, 1 - switch, switch))
        for i in range(6):
            weight[path[i], i] += value
    found = two_phase_probability(odds, switch)
    np.testing.assert_allclose(found, weight[1] / weight.sum(axis=0), rtol=1e-10)


def test_probability_uses_the_neighbours():
    odds = EVIDENCE + np.array([5.0, 5, 5, -1, 5, 5, -5, -5, 1, -5, -5])
    assert (two_phase_probability(odds) > 0.5).tolist() == [True] * 6 + [False] * 5
    with pytest.raises(ValueError, match="probability"):
        two_phase_probability(odds, switch=0)


def _verdict(position, pair, fraction, two, error=1e-4, seed=5):
    rng = np.random.default_rng(seed)
    n = len(position)
    noise = rng.normal(size=(n, 4)) * error
    return transformation(
        position + noise[:, 0],
        np.full(n, error),
        pair + noise[:, 1:3],
        np.full((n, 2), error),
        fraction + noise[:, 3],
        np.full(n, error),
        np.full(n, WIDTH),
        np.where(two, 20.0, -20.0),
    )


N = 40
TIME = np.linspace(0, 1, N)
RAMP = np.clip((TIME - 0.2) / 0.6, 0, 1)
BOTH = (RAMP > 0) & (RAMP < 1)
FIXED = np.tile([1.94, 2.03], (N, 1))


def test_solid_solution():
    found = _verdict(1.94 + 0.09 * RAMP, FIXED, RAMP, np.zeros(N, bool))
    assert found.verdict == "solid solution"
    assert set(found.labels[12:28]) == {"solid solution"}
    assert set(found.labels[:6]) | set(found.labels[-6:]) == {"unchanged"}
    assert found.moved_range == pytest.approx(0.09, abs=1e-3)
    assert found.exchanged_range == 0


def test_two_phases():
    """Before and after, one peak is at the place of either."""
    found = _verdict(np.where(RAMP < 0.5, 1.94, 2.03), FIXED, RAMP, BOTH)
    assert found.verdict == "two-phase"
    assert set(found.labels[BOTH]) == {"two-phase"}
    assert set(found.labels[~BOTH]) == {"unchanged"}
    assert found.exchanged_range == pytest.approx(0.09, abs=1e-3)
    assert found.jumped_range == 0


def test_mixed():
    """Two peaks that exchange intensity and approach each other."""
    pair = FIXED + 0.03 * RAMP[:, None] * [1, -1]
    found = _verdict(np.where(RAMP < 0.5, 1.94, 2.0), pair, RAMP, BOTH)
    assert found.verdict == "mixed"
    assert "mixed" in found.labels


def test_solid_solution_that_ends_in_two_phases():
    """A solid-solution range, then a miscibility gap."""
    position = np.where(TIME < 0.5, 1.94 + 0.06 * TIME, np.where(TIME > 0.9, 2.03, 1.97))
    pair = np.tile([1.97, 2.03], (N, 1))
    two = (TIME >= 0.5) & (TIME <= 0.9)
    found = _verdict(position, pair, np.clip((TIME - 0.48) / 0.43, 0, 1), two)
    assert found.verdict == "mixed"
    assert found.labels[10] == "solid solution" and found.labels[27] == "two-phase"
    assert found.moved_range == pytest.approx(0.03, rel=0.1)
    assert found.exchanged_range == pytest.approx(0.06, rel=0.1)


def test_unchanged():
    """Noise alone has no verdict but this, in any of 100 series."""
    for seed in range(100):
        found = _verdict(np.full(N, 1.94), FIXED, np.zeros(N), np.zeros(N, bool), seed=seed)
        assert found.verdict == "unchanged"


def test_jump_between_two_frames():
    found = _verdict(np.where(TIME < 0.5, 1.94, 2.03), FIXED, RAMP, np.zeros(N, bool))
    assert found.verdict == "undetermined"
    assert found.jumped_range == pytest.approx(0.09, abs=1e-3)


def test_change_is_exactly_moved_plus_exchanged():
    """The decomposition of the mean position, where two peaks are in all frames."""
    rng = np.random.default_rng(6)
    pair = FIXED + rng.normal(0, 0.01, (N, 2))
    fraction = rng.uniform(0.2, 0.8, N)
    found = transformation(
        np.full(N, np.nan),
        np.full(N, np.nan),
        pair,
        np.full((N, 2), 1e-3),
        fraction,
        np.full(N, 1e-3),
        np.full(N, WIDTH),
        np.full(N, 9.0),
    )
    mean = pair[:, 0] * (1 - fraction) + pair[:, 1] * fraction
    np.testing.assert_allclose(found.moved + found.exchanged, mean - mean[0], atol=1e-14)


def test_frames_without_data():
    position = 1.94 + 0.09 * RAMP
    position[[3, 20]] = np.nan
    found = _verdict(position, FIXED * np.nan, RAMP * np.nan, np.zeros(N, bool))
    assert found.verdict == "solid solution"
    assert found.labels[3] == found.labels[20] == "no data"
    assert np.isnan(found.moved[3])
    nothing = _verdict(position * np.nan, FIXED * np.nan, RAMP * np.nan, np.zeros(N, bool))
    assert nothing.verdict == "no data"
    assert _verdict(position[:1], FIXED[:1], RAMP[:1], np.zeros(1, bool)).verdict == "no data"


# --- amounts -------------------------------------------------------------------------------------


def test_200_of_a_half_and_half_mixture():
    """Intensity alone says 92 % FePO4 where half of the moles are."""
    ratio = structure_factor_ratio(-4.6, -15.8)  # LiFePO4 first: the smaller k
    assert ratio == pytest.approx(11.8, abs=0.05)
    area = np.array([[1.0, ratio]])
    error = np.full((1, 2), 0.01)
    assert intensity_fraction(area, error)[0][0] == pytest.approx(0.92, abs=0.005)
    assert molar_fraction(area, error, ratio)[0][0] == pytest.approx(0.5)


def test_volume_of_the_cell():
    assert structure_factor_ratio(2, 2j, 291.0, 272.0) == pytest.approx(291 / 272)
    with pytest.raises(ValueError, match="zero"):
        structure_factor_ratio(0, 1)
    with pytest.raises(ValueError, match="positive"):
        molar_fraction(np.ones((1, 2)), np.ones((1, 2)), -1.0)


def test_errors_of_fractions():
    """Against a sample of correlated areas and ratios."""
    rng = np.random.default_rng(7)
    n = 20_000
    covariance = np.array([[4.0, -1.5], [-1.5, 9.0]])
    area = rng.multivariate_normal([400, 300], covariance, n)
    ratio = rng.normal(0.5, 0.01, n)
    sample = molar_fraction(area, np.zeros((n, 2)), ratio)[0]
    fraction, error = molar_fraction(
        np.array([[400.0, 300.0]]), np.array([[2.0, 3.0]]), 0.5, 0.01, -1.5
    )
    assert fraction[0] == pytest.approx(0.6)
    assert error[0] == pytest.approx(sample.std(), rel=4 / np.sqrt(2 * n) + 0.005)
    assert np.isnan(molar_fraction(np.zeros((1, 2)), np.ones((1, 2)), 0.5)[0])


def test_mean_composition():
    x = np.array([[0.965, 0.035]])
    mean, error = mean_composition(
        np.array([0.25]), np.array([0.01]), x, np.array([[0.004, 0.008]])
    )
    assert mean[0] == pytest.approx(0.7325)
    expected = np.sqrt((0.75 * 0.004) ** 2 + (0.25 * 0.008) ** 2 + (0.93 * 0.01) ** 2)
    assert error[0] == pytest.approx(expected)


# --- simulated series ----------------------------------------------------------------------------


def _series(name):
    """(200) profiles by cutting every pixel into 8 x 8 parts, about the true centre."""
    h5py = pytest.importorskip("h5py")
    path = DATA / f"diffraction_{name}.hspy"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    with h5py.File(path) as file:
        frames = next(iter(file["Experiments"].values()))["data"][:].astype(float)
    truth = np.load(DATA / f"diffraction_{name}_truth.npz")
    pixel, angle = float(truth["pixel_inv_nm"]), np.deg2rad(float(truth["theta_deg"]))
    along = np.array([np.cos(angle), np.sin(angle)])
    edges = 1.985 + (np.arange(29) - 14) * pixel
    parts = (np.arange(8) + 0.5) / 8 - 0.5
    rows = []
    for frame, centre in zip(frames, truth["centre_px"], strict=True):
        x0, y0 = np.round(centre + 1.985 / pixel * along).astype(int)
        y, x = np.mgrid[y0 - 24 : y0 + 25, x0 - 24 : x0 + 25]
        total = 0
        for py in parts:
            for px in parts:
                dx, dy = x + px - centre[0], y + py - centre[1]
                k, off = pixel * (along[0] * dx + along[1] * dy), along[0] * dy - along[1] * dx
                near = np.abs(off) < 6
                values = frame[y[near], x[near]] / parts.size**2
                total = total + np.histogram(k[near], edges, weights=values)[0]
        rows.append(total)
    return (edges[1:] + edges[:-1]) / 2, np.array(rows), truth


def _transformation(one, two, choice):
    fraction, error = intensity_fraction(two.area, two.area_error)
    return transformation(
        one.position[:, 0],
        one.position_error[:, 0],
        two.position,
        two.position_error,
        fraction,
        error,
        one.fwhm[:, 0],
        choice.log_odds,
    )


def test_simulated_solid_solution():
    k, y, truth = _series("D1")
    one, two, choice, _ = fit_one_or_two(y, k)
    assert np.all(choice.n_peaks == 1)
    assert np.sqrt(np.mean((1 / one.position[:, 0] / truth["d200_nm"] - 1) ** 2)) < 2e-4
    assert _transformation(one, two, choice).verdict == "solid solution"


def test_simulated_two_phases():
    """Both peaks are there in 12 of the 20 frames, 1.6 widths apart."""
    k, y, truth = _series("D2")
    one, two, choice, _ = fit_one_or_two(y, k)
    share = truth["f_FP"]
    np.testing.assert_array_equal(choice.n_peaks, np.where((share > 0) & (share < 1), 2, 1))
    both = choice.n_peaks == 2
    d = np.stack([truth["d200_nm_L"], truth["d200_nm_F"]])
    off = 1 / two.position[both] / d - 1
    weight = two.area[both] / two.area[both].sum(axis=0)
    assert np.all(np.abs((weight * off).sum(axis=0)) < 2e-4)
    fraction, _ = intensity_fraction(two.area, two.area_error)
    assert np.sqrt(np.mean((fraction - truth["fI_FP_200"])[both] ** 2)) < 5e-3
    ratio = float(truth["I200_ratio_FP_over_LFP"])
    moles, _ = molar_fraction(two.area, two.area_error, ratio)
    assert np.sqrt(np.mean((moles - share)[both] ** 2)) < 5e-3
    found = _transformation(one, two, choice)
    assert found.verdict == "two-phase"
    assert set(found.labels[both]) == {"two-phase"}
