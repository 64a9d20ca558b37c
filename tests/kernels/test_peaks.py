"""One and two peaks in spot profiles: closed forms, exact recovery, errors that tell the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

from hyperspy_lfp.kernels.patterns.profile_moments import (
    d_spacing,
    profile_moments,
    size_and_strain,
)
from hyperspy_lfp.kernels.peaks import model as peak_model
from hyperspy_lfp.kernels.peaks.fit import (
    AT_BOUND,
    NO_DATA,
    NO_PEAK,
    NOT_CONVERGED,
    PeakFit,
    expected_profile,
    fit_peaks,
)
from hyperspy_lfp.kernels.peaks.model import BACKGROUNDS, MODELS

K = np.linspace(1.8, 2.2, 41)
STEP = 0.01
LINE = (110.0, 85.0)


def _voigt(x, position, fwhm, eta):
    """Textbook pseudo-Voigt of unit area."""
    u = (x - position) / fwhm
    gauss = 2 * np.sqrt(np.log(2) / np.pi) / fwhm * np.exp(-4 * np.log(2) * u**2)
    return eta * 2 / (np.pi * fwhm) / (1 + 4 * u**2) + (1 - eta) * gauss


def _two(splitting, area=(3e4, 2e4), fwhm=0.05, eta=0.3, background=LINE):
    position = np.array([1.96, 1.96 + splitting * fwhm])
    return position, expected_profile(K, position, fwhm, area, eta=eta, background=background)


@pytest.mark.parametrize("eta", [0.0, 0.37, 1.0])
@pytest.mark.parametrize("fwhm", [0.004, 0.05])
def test_bins_are_integrals(eta, fwhm):
    """Also of a peak that is narrower than a bin."""
    found = expected_profile(K, 1.9837, fwhm, 5.0, eta=eta)
    for i in (0, 17, 18, 19, 30):
        low, high = K[i] - STEP / 2, K[i] + STEP / 2
        points = [1.9837] if low < 1.9837 < high else None
        truth, _ = integrate.quad(
            _voigt, low, high, args=(1.9837, fwhm, eta), points=points, epsabs=1e-13
        )
        assert found[i] == pytest.approx(5 * truth, abs=1e-11)


@pytest.mark.parametrize("model", ["graded", "tailed"])
@pytest.mark.parametrize("ends", [(1.93, 2.02), (2.02, 1.93)])
def test_smeared_models_are_mixtures(model, ends):
    """Against many sharp peaks: an even sum with the density by the midpoint rule."""
    areas = np.array([2.0, 3.0])
    found = expected_profile(K, ends, 0.04, areas, eta=0.4, model=model)
    t = (np.arange(4000) + 0.5) / 4000
    if model == "graded":
        density = 2 * areas[0] * (1 - t) + 2 * areas[1] * t
    else:
        density = 2 * areas[1] * (1 - t)
    edges = np.append(K - STEP / 2, K[-1] + STEP / 2)
    x = (edges[:, None] - (ends[0] + t * (ends[1] - ends[0]))) / 0.04
    gauss = special.erf(2 * np.sqrt(np.log(2)) * x) / 2
    cumulated = 0.6 * gauss + 0.4 * np.arctan(2 * x) / np.pi
    truth = np.diff(cumulated @ density) / 4000
    if model == "tailed":
        truth += expected_profile(K, ends[0], 0.04, areas[0], eta=0.4)
    np.testing.assert_allclose(found, truth, atol=1e-6 * truth.max())


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize(
    "model, n_widths", [("one", 1), ("two", 1), ("two", 2), ("graded", 1), ("tailed", 1)]
)
def test_derivatives(model, n_widths, background):
    layout = peak_model.Layout(model, background, n_widths)
    fraction = peak_model.fraction_of(K, background)
    p = layout.n_peaks
    theta = np.array([[13.2, 18.7][:p] + [200, 90][:p] + [1.1, 1.3][:n_widths] + [0.3, 5, 3]])
    _, slopes = peak_model.evaluate(theta, layout, fraction)
    assert slopes.shape == (1, len(layout.names), len(K))
    for i in range(layout.size):
        step = np.zeros_like(theta)
        step[:, i] = 1e-5
        up, down = (peak_model.evaluate(theta + s * step, layout, fraction)[0] for s in (1, -1))
        numeric = (up - down)[0] / 2e-5
        # second-order differences of numbers of a few hundred: 1e-13 * 200 / 1e-5
        np.testing.assert_allclose(slopes[0, i], numeric, atol=1e-6 * (1 + abs(numeric).max()))


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("variance", [None, 400.0])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_exact_profiles_are_recovered(background, variance, eta):
    variance = None if variance is None else np.full(len(K), variance)
    for position, area in (([1.983], [2e4]), ([1.95, 2.02], [2e4, 5e3])):
        truth = expected_profile(
            K, position, 0.043, area, eta=eta, background=LINE, kind=background
        )
        model = MODELS[len(position) - 1]
        fit = fit_peaks(truth[None], K, model, variance=variance, background=background)
        assert fit.flags[0] == 0
        np.testing.assert_allclose(fit.position[0], position, rtol=1e-6)
        np.testing.assert_allclose(fit.fwhm[0], 0.043, rtol=1e-6)
        np.testing.assert_allclose(fit.area[0], area, rtol=1e-6)
        np.testing.assert_allclose(fit.eta[0], eta, atol=1e-6)
        np.testing.assert_allclose(fit.background[0], LINE, rtol=1e-6)
        np.testing.assert_allclose(fit.model[0], truth, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    first=st.floats(1.88, 1.98),
    splitting=st.floats(0.7, 3.0),
    width=st.floats(1.5, 5.0),
    eta=st.floats(0.05, 0.95),
    part=st.floats(0.1, 0.9),
)
def test_two_exact_peaks_anywhere(first, splitting, width, eta, part):
    """No starts are given: the search for them must not miss the maximum."""
    fwhm = width * STEP
    position = np.array([first, first + splitting * fwhm])
    area = 1e5 * np.array([1 - part, part])
    truth = expected_profile(K, position, fwhm, area, eta=eta, background=LINE)
    fit = fit_peaks(truth[None], K, "two")
    # the iteration stops within 0.03 standard errors; a peak that is not significant beside its
    # neighbour has no position, but it has an area
    seen = fit.area > 3 * fit.area_error
    near = np.abs(fit.position - position) < 0.05 * fit.position_error
    np.testing.assert_array_equal(near, seen)
    assert np.all(np.abs(fit.area - area) < 0.05 * fit.area_error)


def test_two_widths():
    truth = expected_profile(K, [1.93, 2.06], [0.03, 0.06], [2e4, 3e4], background=LINE)
    fit = fit_peaks(truth[None], K, "two", shared_width=False)
    np.testing.assert_allclose(fit.fwhm[0], [0.03, 0.06], rtol=1e-6)
    assert fit.names[4:6] == ("fwhm_1", "fwhm_2")
    assert fit.covariance.shape == (1, 9, 9)


@pytest.mark.parametrize("splitting", [0.7, 1.0, 1.5, 3.0])
def test_errors_of_two_peaks(splitting):
    """Pulls of 300 fits: mean 0, spread 1, 68 and 95 % within one and 1.96 standard errors."""
    area = np.array([3e4, 2e4])
    position, mean = _two(splitting, area)
    n = 300
    fit = fit_peaks(np.random.default_rng(5).poisson(mean, (n, len(K))), K, "two")
    assert not (fit.flags & (NOT_CONVERGED | NO_PEAK)).any()
    for pulls in (
        *((fit.position - position) / fit.position_error).T,
        *((fit.area - area) / fit.area_error).T,
        (fit.fwhm[:, 0] - 0.05) / fit.fwhm_error[:, 0],
    ):
        # 3.5 standard deviations of the mean and of the spread of n normal numbers
        assert abs(pulls.mean()) < 3.5 / np.sqrt(n)
        assert abs(pulls.std() - 1) < 3.5 / np.sqrt(2 * n)
        for level, z in ((0.6827, 1.0), (0.95, 1.96)):
            inside = np.mean(np.abs(pulls) < z)
            assert abs(inside - level) < 3.5 * np.sqrt(level * (1 - level) / n)


def test_few_counts_have_no_bias():
    """A spot of 300 counts, 2 in a bin of background: least squares would lose 40 counts."""
    mean = expected_profile(K, 1.987, 0.04, 300.0, eta=0.2, background=(2, 2))
    n = 400
    fit = fit_peaks(np.random.default_rng(1).poisson(mean, (n, len(K))), K, eta=0.2)
    pulls = (fit.area[:, 0] - 300) / fit.area_error[:, 0]
    assert abs(np.mean(fit.area) - 300) < 4 * np.std(fit.area) / np.sqrt(n)
    # second order in 1 / counts: the error itself fluctuates with the area
    assert abs(pulls.mean()) < 0.25
    assert abs((fit.position[:, 0] - 1.987).mean()) < 4 * fit.position.std() / np.sqrt(n)


def test_errors_scale_with_the_noise():
    """Variances that are wrong by a factor of 9: the reduced chi-square puts errors right."""
    _, mean = _two(2.0)
    rng = np.random.default_rng(2)
    y = mean + rng.normal(0, 30.0, (300, len(K)))
    variance = np.full(len(K), 100.0)
    plain = fit_peaks(y, K, "two", variance=variance)
    scaled = fit_peaks(y, K, "two", variance=variance, scale_errors=True)
    chi = plain.reduced_chi_square
    freedom = len(K) - plain.n_parameters
    assert abs(chi.mean() - 9) < 4 * 9 * np.sqrt(2 / freedom / len(y))
    np.testing.assert_allclose(
        scaled.position_error, plain.position_error * np.sqrt(chi)[:, None], rtol=1e-9
    )
    np.testing.assert_array_equal(scaled.position, plain.position)


@pytest.mark.parametrize("model", ["one", "two"])
def test_frames_do_not_depend_on_their_number(model):
    """A batch finds in each frame what the frame alone gives (splitting three widths)."""
    _, mean = _two(3.0)
    y = np.random.default_rng(3).poisson(mean, (12, len(K)))
    batch = fit_peaks(y, K, model)
    for i, row in enumerate(y):
        alone = fit_peaks(row[None], K, model)
        assert np.all(
            np.abs(alone.position[0] - batch.position[i]) < 0.01 * batch.position_error[i]
        )
        assert alone.deviance[0] == pytest.approx(batch.deviance[i], abs=1e-3)


def test_units():
    """Another unit of k, another origin and another scale of the counts' variance."""
    _, mean = _two(2.0)
    y = np.random.default_rng(4).poisson(mean, (3, len(K))).astype(float)
    variance = np.broadcast_to(mean, y.shape)
    fit = fit_peaks(y, K, "two", variance=variance)
    other = fit_peaks(5 * y, 10 * K - 3, "two", variance=25 * variance)
    np.testing.assert_allclose(other.position, 10 * fit.position - 3, rtol=1e-7)
    np.testing.assert_allclose(other.position_error, 10 * fit.position_error, rtol=1e-4)
    np.testing.assert_allclose(other.fwhm, 10 * fit.fwhm, rtol=1e-5)
    np.testing.assert_allclose(other.area, 5 * fit.area, rtol=1e-5)
    np.testing.assert_allclose(other.deviance, fit.deviance, rtol=1e-6)


def test_order_of_the_peaks():
    _, mean = _two(2.0, (2e3, 3e4))
    fit = fit_peaks(np.stack([mean, mean[::-1]]), K, "two")
    assert np.all(np.diff(fit.position, axis=1) > 0)
    np.testing.assert_allclose(fit.area, [[2e3, 3e4], [3e4, 2e3]], rtol=1e-4)


def test_bins_left_out():
    position, mean = _two(2.0)
    y = np.random.default_rng(5).poisson(mean, (3, len(K))).astype(float)
    y[1, 15:19] = np.nan  # a saturated peak
    y[2] = np.nan
    fit = fit_peaks(y, K, "two")
    assert fit.n_bins.tolist() == [41, 37, 0]
    assert fit.flags.tolist() == [0, 0, NO_DATA]
    assert np.all(np.abs(fit.position[:2] - position) < 4 * fit.position_error[:2])
    assert fit.position_error[1, 0] > 1.2 * fit.position_error[0, 0]
    for name in ("position", "fwhm", "area", "position_error", "model"):
        assert np.isnan(getattr(fit, name)[2]).all()


def test_no_peak():
    """Background alone is no spot in 99 % of frames: three standard errors, one side, any place."""
    y = np.random.default_rng(6).poisson(100.0, (200, len(K)))
    fit = fit_peaks(y, K, eta=0.3)
    missing = (fit.flags & NO_PEAK) > 0
    assert np.isnan(fit.position[missing]).all() and np.isfinite(fit.area).all()
    # the search tries about as many independent places as there are peaks side by side: 20
    # of 0.135 % each make 2.7 %; widths are searched as well, so that at most a few times this
    assert np.mean(~missing) < 4 * 0.027
    assert not (fit_peaks(np.zeros((1, 41)), K).flags & ~NO_DATA).any()


def test_second_peak_that_is_not_there():
    mean = expected_profile(K, 1.98, 0.05, 3e4, eta=0.3, background=LINE)
    fit = fit_peaks(mean[None], K, "two")
    assert fit.flags[0] & NO_PEAK
    assert np.isnan(fit.position).sum() == 1 or np.isnan(fit.position).all()
    assert fit.deviance[0] < 1e-3


def test_at_a_bound():
    """A peak whose top is outside of the profile."""
    mean = expected_profile(K, 2.25, 0.08, 3e4, eta=0.3, background=(20, 20))
    fit = fit_peaks(mean[None], K)
    assert fit.flags[0] & AT_BOUND


def test_neighbours_help():
    """A frame is never worse than from its neighbour's solution."""
    part = np.linspace(0.1, 0.9, 9)
    mean = np.array([_two(1.0, (1e4 * (1 - p), 1e4 * p))[1] for p in part])
    y = np.random.default_rng(7).poisson(mean)
    fit = fit_peaks(y, K, "two")
    alone = np.array([fit_peaks(row[None], K, "two").deviance[0] for row in y])
    assert np.all(fit.deviance < alone + 1e-3)


def test_far_apart_and_narrow():
    """Many bins, so that the grid of the search is coarser than they are."""
    k = np.linspace(1.0, 3.0, 301)
    step = k[1] - k[0]
    position, area = [1.31, 2.64], [9e3, 6e3]
    truth = expected_profile(k, position, 2.2 * step, area, eta=0.1, background=(20, 10))
    fit = fit_peaks(truth[None], k, "two")
    np.testing.assert_allclose(fit.position[0], position, rtol=1e-6)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model": "three"}, "one, two"),
        ({"background": "cubic"}, "linear, power"),
        ({"eta": 1.2}, "0 to 1"),
        ({"k": K[::-1]}, "evenly"),
        ({"k": K**2}, "evenly"),
        ({"k": K[:-1]}, "shape"),
        ({"k": K - 2, "background": "power"}, "k > 0"),
        ({"profiles": np.full((1, 41), -1.0)}, "variance"),
        ({"variance": np.zeros(41)}, "positive"),
        ({"profiles": np.ones((1, 5)), "k": K[:5]}, "parameters"),
    ],
)
def test_bad_input(change, words):
    arguments = {"profiles": np.ones((1, 41)), "k": K, **change}
    with pytest.raises(ValueError, match=words):
        fit_peaks(arguments.pop("profiles"), arguments.pop("k"), **arguments)


def test_result_is_complete():
    fit = fit_peaks(_two(2.0)[1][None], K, "two")
    assert isinstance(fit, PeakFit)
    order = [fit.names.index(n) for n in ("position_1", "position_2")]
    error = np.sqrt(fit.covariance[0, order, order])
    np.testing.assert_allclose(error, fit.position_error[0])
    assert fit.bic[0] == pytest.approx(fit.deviance[0] + 8 * np.log(41))


# --- moments and what is derived -----------------------------------------------------------------


def test_moments_of_a_gaussian():
    """Bins add a twelfth of their width squared."""
    sigma = 0.02
    mean = expected_profile(K, 1.9837, sigma * np.sqrt(8 * np.log(2)), 1e4, eta=0, background=LINE)
    found = profile_moments(mean[None], K)
    assert found.area[0] == pytest.approx(1e4, rel=1e-6)
    assert found.centroid[0] == pytest.approx(1.9837, abs=1e-8)
    assert found.variance[0] == pytest.approx(sigma**2 + STEP**2 / 12, rel=1e-4)
    assert abs(found.skewness[0]) < 1e-3


def test_errors_of_moments():
    mean = expected_profile(
        K, [1.97, 2.01], 0.04, [3e4, 1e4], eta=0, background=(200, 100), model="tailed"
    )
    n = 1500
    y = np.random.default_rng(8).poisson(mean, (n, len(K)))
    found, truth = profile_moments(y, K), profile_moments(mean[None], K)
    for name in ("area", "centroid", "variance", "skewness"):
        pulls = getattr(found, name) - getattr(truth, name)
        pulls = pulls / getattr(found, f"{name}_error")
        # to first order: a twentieth on top for what is of the second
        assert abs(pulls.mean()) < 0.05 + 4 / np.sqrt(n), name
        assert abs(pulls.std() - 1) < 0.05 + 4 / np.sqrt(2 * n), name
    assert truth.skewness[0] > 0.1


def test_moments_with_gaps():
    y = np.tile(_two(1.0)[1], (2, 1))
    y[1, 20] = np.nan
    found = profile_moments(y, K, variance=y)
    assert np.isfinite(found.centroid[0]) and np.isnan(found.centroid[1])
    with pytest.raises(ValueError, match="n_side"):
        profile_moments(y, K, n_side=21)


def test_derived_quantities():
    assert d_spacing(2.0, 0.01) == (0.5, 0.0025)
    for eta, beta in ((0.0, 0.04), (1.0, 0.02)):
        size, size_error, breadth, breadth_error = size_and_strain(2.0, 0.05, 0.001, eta, 0.03)
        assert size == pytest.approx(0.9 / beta) and breadth == pytest.approx(beta / 2)
        slope = (np.array([0.051, 0.05]) ** (2 - eta) - 0.03 ** (2 - eta)) ** (1 / (2 - eta))
        assert breadth_error == pytest.approx(-np.diff(slope)[0] / 2, rel=0.03)
        assert size_error / size == pytest.approx(breadth_error / breadth)
    assert np.isnan(size_and_strain(2.0, 0.02, 0.001, 0.5, 0.03)[0])
