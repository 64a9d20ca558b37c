"""Warnings of forbidden reflections, and the noise of x that each choice is said to have."""

import warnings

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_lfp import data, materials
from hyperspy_lfp.signals._choosing import principal_lengths

LFP = materials.get("LiFePO4")


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    before = hs.preferences.General.show_progressbar
    hs.preferences.General.show_progressbar = False
    yield
    hs.preferences.General.show_progressbar = before


@pytest.fixture(scope="module")
def movie():
    """Every third frame of the example, FePO4 first."""
    return data.lithiation_movie().inav[::3]


@pytest.fixture(scope="module")
def found(movie):
    """(101), (10-1), (200), (201) and (20-1)."""
    return movie.find_g_vectors(n=5)


@pytest.fixture(scope="module")
def choices(movie, found):
    return movie.compare_g_vectors(found, resolution=0.9)


def _noise(x):
    """Variance of x due to noise alone, where the variance holds more than that as well."""
    variance = x.get_noise_variance().data.astype(float)
    systematic = x.metadata.get_item("systematic_variance", full_path=False)
    return variance if systematic is None else variance - systematic.data


def _inside(phase):
    """Where no window is cut: its noise is near the smallest of the frame, times its amplitude."""
    noise = (phase.precision().data * phase.amplitude.data) ** 2
    smallest = np.nanmin(noise, axis=(-2, -1), keepdims=True)
    with np.errstate(invalid="ignore"):
        return (noise <= 1.2 * smallest).all(axis=-3)


def _map_noise(movie, choice, **reference):
    """Median standard error of x of the map, inside, computed as a user would."""
    phase = movie.gpa(*choice.g, hkl=choice.hkl, resolution=choice.resolution)
    x = phase.to_concentration(**reference)
    return np.sqrt(np.nanmedian(_noise(x)[_inside(phase)]))


# --- forbidden reflections ---


def _forbidden_vectors(angle=0.2):
    a, _, c = LFP.cell(0.0) / 10
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.array([[1 / a, 0], [0, 1 / c]]) @ turn


def test_forbidden_reflections_are_named(movie):
    """(100) and (001) along [010]: indexed, with a warning each that says why."""
    with pytest.warns(UserWarning) as caught:
        hkl = movie.index_g_vectors(_forbidden_vectors())
    assert hkl == [(1, 0, 0), (0, 0, 1)]
    texts = [str(w.message) for w in caught if "forbidden" in str(w.message)]
    assert len(texts) == 2
    for text, name, reason in zip(
        texts, ("(1, 0, 0)", "(0, 0, 1)"), ("hk0: h = 2n", "0kl: k + l = 2n"), strict=True
    ):
        assert name in text and reason in text and "Pnma" in text
        assert "double diffraction" in text and "sign of the tilt" in text
    assert all(w.filename == __file__ for w in caught)


def test_allowed_reflections_do_not_warn(movie, found):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hkl = movie.index_g_vectors(found)
    assert set(hkl) == {(1, 0, 1), (1, 0, -1), (2, 0, 0), (2, 0, 1), (2, 0, -1)}


def test_vectors_that_are_no_reflections_do_not_warn(movie):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert movie.index_g_vectors([(3.3, 0.0), (0.9, 1.7)]) == [None, None]


def test_composition_from_forbidden_reflections_warns(movie):
    phase = movie.inav[0].gpa(*_forbidden_vectors(0.0), resolution=2.1)
    for given in ({}, {"hkl": [(1, 0, 0), (0, 0, 1)]}):
        with pytest.warns(UserWarning, match="forbidden in Pnma") as caught:
            phase.to_concentration(lazy_output=True, **given)
        texts = [str(w.message) for w in caught if "forbidden" in str(w.message)]
        assert [t.split(" of ")[0] for t in texts] == ["(1, 0, 0)", "(0, 0, 1)"]


# --- the choice ---


@pytest.mark.parametrize("place", range(11))
def test_expected_noise_is_that_of_the_map(movie, choices, place):
    """15 %, for all ten pairs that are not parallel and all five reflections together."""
    assert len(choices) == 11
    choice = choices[place]
    actual = _map_noise(movie, choice, reference_frame=0)
    assert choice.sigma_x == pytest.approx(actual, rel=0.15)


def test_order_and_content(choices, found):
    sigma = [c.sigma_x for c in choices]
    assert sigma == sorted(sigma)
    # more reflections are never worse, and (101) with (10-1) is better than with (200)
    assert len(choices[0].hkl) == 5
    pairs = [c.hkl for c in choices]
    assert pairs.index(((1, 0, 1), (1, 0, -1))) < pairs.index(((1, 0, 1), (2, 0, 0)))
    for choice in choices:
        assert len(choice.hkl) == len(choice.g) == len(choice.contrast) == len(choice.sensitivity)
        assert choice.sensitivity == tuple(float(LFP.sensitivity(i)) for i in choice.hkl)
        assert choice.forbidden == () and choice.resolution == 0.9
        assert all(any(np.array_equal(v, g) for g in found) for v in choice.g)


def test_contrast_is_that_of_the_movie(movie, choices):
    """Fringes of 0.22 and 0.22 |F(201) / F(101)| of the dose in vacuum at x = 0, which fade with
    their structure factors; the mean of a frame lies between that in vacuum and in the crystal,
    8 % lower."""
    material = materials.get("LiFePO4")
    strongest = abs(material.structure_factor((1, 0, 1), 0.0))
    contrast = dict(zip(choices[0].hkl, choices[0].contrast, strict=True))
    for hkl in ((1, 0, 1), (2, 0, 1)):
        factors = material.structure_factor(hkl, np.array([1.0, 0.0]))
        low, high = 0.22 * np.abs(factors) / strongest
        # the window and the strain in it take a few percent off
        assert 0.95 * low < contrast[hkl] < high / 0.92


def test_table(choices):
    lines = str(choices).splitlines()
    assert len(lines) == len(choices) + 1
    assert "(1 0 1) (1 0 -1)" in str(choices) and f"{choices[0].sigma_x:.4f}" in lines[1]
    assert "sigma_x" in lines[0] and repr(choices) == str(choices)


def test_resolution(movie, found, choices):
    """sigma_x goes as the inverse square of the resolution; the default is twice the larger
    spacing."""
    finer = movie.compare_g_vectors(found[:2], resolution="6 Å", frames=[0])[0]
    coarser = movie.compare_g_vectors(found[:2], resolution=0.9, frames=[0])[0]
    # the systematic part of the weights, and windows that are nearly whole, take some of it
    assert finer.sigma_x / coarser.sigma_x == pytest.approx((0.9 / 0.6) ** 2, rel=0.2)
    default = movie.compare_g_vectors(found[:2], frames=[0])[0]
    assert default.resolution == pytest.approx(2 / np.linalg.norm(found[:2], axis=1).min())


def _crystal(dose=100.0, contrast=(0.2, 0.2), hkl=((1, 0, 1), (1, 0, -1)), x=0.5, frames=4):
    """A crystal without edges, with counting noise."""
    a, _, c = LFP.cell(x) / 10
    g = np.array([[h / a, l / c] for h, _, l in hkl])  # noqa: E741
    y, at_x = np.mgrid[:300, :260] * 0.04
    image = 1 + sum(
        k * np.cos(2 * np.pi * (v[0] * at_x + v[1] * y)) for k, v in zip(contrast, g, strict=True)
    )
    counts = np.random.default_rng(7).poisson(dose * image, (frames, *image.shape))
    signal = hs.signals.Signal2D(counts.astype(np.uint16))
    for axis in signal.axes_manager.signal_axes:
        axis.scale, axis.units = 0.04, "nm"
    signal.set_signal_type("HRTEMMovie")
    return signal, g


def test_closed_form():
    """Counting noise alone: M^-1 / (16 pi^3 sigma^4 D), and x from the two lengths."""
    dose, contrast, resolution = 100.0, (0.2, 0.15), 0.9
    movie, g = _crystal(dose, contrast)
    (choice,) = movie.compare_g_vectors(g, resolution=resolution)
    sigma = resolution / 0.04
    pixels = g * 0.04
    m = (pixels * np.square(contrast)[:, None]).T @ pixels
    q = np.linalg.inv(m) / (16 * np.pi**3 * sigma**4 * dose)
    cell = LFP.cell([0, 1])
    slopes = ((cell[1] - cell[0]) / LFP.cell(0.5))[[0, 2]]
    variance = np.diag(q)  # a along x, c along y: perpendicular, hence independent
    weight = slopes / (variance + 1e-6)
    expected = np.sqrt((weight**2 * variance).sum()) / (weight @ slopes)
    # the noise power of a frame is measured to some percent
    assert choice.sigma_x == pytest.approx(expected, rel=0.08)
    np.testing.assert_allclose(choice.contrast, contrast, rtol=0.02)


def test_scatter_of_x_itself():
    """What is promised is what repeated frames of a static crystal show."""
    movie, g = _crystal(dose=30.0, frames=12)
    (choice,) = movie.compare_g_vectors(g, resolution=0.8)
    x = movie.to_concentration(*g, resolution=0.8, hkl=choice.hkl, x_reference=0.5)
    inside = x.isig[2.5:8.0, 2.5:9.5].data
    # 12 frames of some 5 independent values: 10 %, and as much for that of the noise
    assert choice.sigma_x == pytest.approx(inside.std(), rel=0.2)


def test_forbidden_reflections_come_last():
    hkl = [(1, 0, 1), (1, 0, -1), (0, 0, 1)]
    crystal, g = _crystal(contrast=(0.1, 0.1, 0.3), hkl=hkl)
    choices = crystal.compare_g_vectors(g, hkl=hkl)
    assert choices[0].hkl == ((1, 0, 1), (1, 0, -1)) and choices[0].forbidden == ()
    assert all(choice.forbidden == ((0, 0, 1),) for choice in choices[1:])
    assert choices[1].sigma_x < choices[0].sigma_x  # it would have looked better
    assert str(choices).splitlines()[2].endswith("forbidden: (0 0 1)")


def test_foreign_vectors_are_left_out(movie, found):
    foreign = 0.37 * found[0] + 0.61 * found[1]
    choices = movie.compare_g_vectors([*found[:2], foreign], resolution=0.9, frames=0)
    assert [c.hkl for c in choices] == [((1, 0, 1), (1, 0, -1))]


@pytest.mark.parametrize("lazy", [False, True])
def test_single_frames_lazy_movies_and_units(movie, found, lazy):
    frame = movie.inav[0]
    expected = movie.compare_g_vectors(found[:3], resolution=0.9, frames=[0])
    for axis in frame.axes_manager.signal_axes:
        axis.convert_to_units("Å")
    if lazy:
        frame = frame.as_lazy()
    same = frame.compare_g_vectors(found[:3] / 10, resolution=9.0)
    assert [c.hkl for c in same] == [c.hkl for c in expected]
    for one, other in zip(expected, same, strict=True):
        assert other.sigma_x == pytest.approx(one.sigma_x, rel=1e-3)


def test_frames_without_lattice(found):
    """Nothing is known then: not-a-number, and no error."""
    noise = np.random.default_rng(0).poisson(100, (2, 200, 220)).astype(np.uint16)
    signal = hs.signals.Signal2D(noise)
    for axis in signal.axes_manager.signal_axes:
        axis.scale, axis.units = 0.05, "nm"
    signal.set_signal_type("HRTEMMovie")
    signal.data[1] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        choices = signal.compare_g_vectors(found[:2], resolution=0.9, frames=1)
    assert np.isnan(choices[0].sigma_x)


def test_bad_input(movie, found):
    with pytest.raises(ValueError, match="of the 2 g vectors 0 could be indexed in LiFePO4"):
        movie.compare_g_vectors([(3.3, 0.0), (0.9, 1.7)])
    with pytest.raises(ValueError, match="collinear"):
        movie.compare_g_vectors([found[2], 2 * found[2]], hkl=[(2, 0, 0), (4, 0, 0)])
    with pytest.raises(ValueError, match="hkl has 1 reflections for 2 g vectors"):
        movie.compare_g_vectors(found[:2], hkl=[(1, 0, 1)])
    with pytest.raises(ValueError, match=r"\(2, 0, 0\) of LiFePO4 has a spacing of 0.49"):
        movie.compare_g_vectors([found[0], found[3]], hkl=[(1, 0, 1), (2, 0, 0)])
    with pytest.raises(ValueError, match="'LiCoO2' is not known"):
        movie.compare_g_vectors(found[:2], "LiCoO2")
    with pytest.raises(ValueError, match=r"zone=.*three integers"):
        movie.compare_g_vectors(found[:2], zone=(0, 0, 0))
    rigid = materials.Material("rigid", (0, 1), LFP.a[:1] * 2, LFP.b, LFP.c[:1] * 2)
    with pytest.raises(ValueError, match=r"rigid.*does not change"):
        movie.compare_g_vectors(
            found[:2], rigid, hkl=[(1, 0, 1), (1, 0, -1)], resolution=0.9, frames=0
        )


# --- the geometry behind it ---


@pytest.mark.parametrize("zone", [(0, 1, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 2, 3)])
@pytest.mark.parametrize("angle", [0.0, 0.8])
def test_principal_lengths(zone, angle):
    """Perpendicular directions that change most and least, wherever the crystal points."""
    cell = LFP.cell(0.5)
    normal = np.array(zone) * cell
    normal /= np.linalg.norm(normal)
    first = np.cross(normal, [0.3, 0.5, 0.81])
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    view = turn @ np.array([first, second])
    n = np.arange(-3, 4)
    hkl = np.array(np.meshgrid(n, n, n)).reshape(3, -1).T
    hkl = hkl[hkl.any(axis=1) & (hkl @ zone == 0)][:5]
    directions, slopes = principal_lengths(hkl / cell @ view.T, hkl, LFP)
    np.testing.assert_allclose(directions @ directions.T, np.eye(2), atol=1e-9)
    # the strain per unit of x of the planes that are seen, a small change of F^-T - 1
    rate = (LFP.cell(1.0) - LFP.cell(0.0)) / cell
    reciprocal = np.linalg.lstsq(hkl / cell @ view.T, -(hkl / cell * rate) @ view.T, rcond=None)[0]
    strain = -(reciprocal + reciprocal.T) / 2
    values = np.linalg.eigvalsh(strain)
    np.testing.assert_allclose(np.sort(slopes), values, atol=2e-6)
    for v, slope in zip(directions, slopes, strict=True):
        assert v @ strain @ v == pytest.approx(slope, abs=2e-6)


# --- multislice images ---


@pytest.fixture(scope="module")
def simulated(shared_data):
    path = shared_data / "simulated" / "movieA_dose100.hspy"
    if not path.is_file():
        pytest.skip(f"no {path}")
    signal = hs.load(path)
    signal.set_signal_type("HRTEMMovie")
    return signal


def test_expected_noise_in_multislice_images(simulated):
    """15 %, for pairs of the three strong reflections of low order.

    Those with others differ by up to 20 %: how finely the noise around a spot is resolved depends
    on the other spots that are given.
    """
    g = simulated.find_g_vectors(n=6)
    hkl = simulated.index_g_vectors(g)
    low = [i for i, row in enumerate(hkl) if row in ((1, 0, 1), (1, 0, -1), (2, 0, 0))]
    assert len(low) == 3
    choices = simulated.compare_g_vectors(g[low], resolution=0.8, frames="all")
    assert len(choices) == 4
    for choice in choices:
        actual = _map_noise(simulated, choice, reference_frame=0, x_reference=1.0)
        assert choice.sigma_x == pytest.approx(actual, rel=0.15)
