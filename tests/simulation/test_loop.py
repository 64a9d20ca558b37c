"""Simulate, film, measure: what comes out is what went in, within its error bars.

Seeds are others than those of the benchmark and of the documentation.
"""

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_lfp import materials, simulation

HKL = [(1, 0, 1), (1, 0, -1)]
RATES = (8, 14, 18)
PIXEL = 0.05
FRAMES = 31


@pytest.fixture(scope="module")
def truth():
    return {rate: simulation.lithiation(rate, "defect_coupled", frames=FRAMES) for rate in RATES}


def _measured(x, seed):
    """Maps of a movie of x, and the truth at their pixels as the analysis smears it."""
    drift = np.linspace(0, 1, len(x.data))[:, None] * [-0.3, 0.5]
    movie = simulation.hrtem_movie(
        x, pixel=PIXEL, dose=500, hkl=HKL, lattice="vegard", drift=drift, seed=seed
    )
    g1, g2 = simulation.truth(movie).g_vectors(HKL)
    measured = movie.to_concentration(g1, g2, hkl=HKL, material="LiFePO4")
    return measured, simulation.truth(measured).smoothed(measured.resolution).x


def _box(x):
    """Within domain 1, more than three resolutions from its border and the rim."""
    middle = [(n - 1) / 2 * PIXEL for n in x.metadata.HyperspyLFP.Simulation.shape[::-1]]
    return hs.roi.RectangularROI(*(m - 8.5 for m in middle), *(m - 5 for m in middle))


def _fall(course):
    return float(np.max(np.maximum.accumulate(course) - course))


def test_the_loop_closes(truth):
    """Maps and amplitudes of reversal are the truth within their errors, and in its order."""
    found = {}
    for rate, x in truth.items():
        maps, exact = _measured(x, seed=1000 + rate)
        _check_maps(maps, exact)
        found[rate] = _check_reversal(maps, exact, x)
    assert found[8] < found[14] < found[18]
    assert found[18] > 2 * found[8]


def _check_maps(maps, exact):
    off = maps.data - exact.data
    error = np.sqrt(maps.get_noise_variance().data)
    good = np.isfinite(off) & ~maps.flagged().data
    assert good.sum() > 0.7 * np.isfinite(off).sum()
    # of correlated pixels, some 600 independent a frame
    assert 0.8 < np.sqrt(np.mean((off[good] / error[good]) ** 2)) < 1.1
    # what is common to all pixels by the lattice parameters is three times this
    assert abs(off[good].mean()) < 0.003


def _check_reversal(maps, exact, x):
    box = _box(maps)
    courses = maps.evolution(box)
    noise = (float(np.median(courses.standard_error.data[0])), 0.0)
    (record,) = courses.concentration_reversal(smoothing=1, noise=noise)
    true = _fall(exact.evolution(box).data[0])
    # the box is far from the border of the domain: the window takes nothing off
    domain = x.evolution(simulation.domain_labels(x)).data[0]
    assert true == pytest.approx(_fall(domain), abs=0.005)
    # of three 95 % intervals one in seven sets would miss by chance: 99.9 % ones
    low, high = record.ci
    assert abs(true - (low + high) / 2) < (high - low) / 2 * 3.29 / 1.96
    assert record.p_value < 0.01
    return record.amplitude


def test_a_coherent_crystal_needs_the_elastic_inverse(truth):
    """Vegard's law pixel by pixel is wrong beside the border of the domains of a stiff particle."""
    x = truth[18].inav[6:19:6]
    errors = {}
    for method in ("gls", "elastic"):
        measured = _stiff(x, method)
        exact = simulation.truth(measured).smoothed(measured.resolution).x
        off = measured.data - exact.data
        errors[method] = np.sqrt(np.nanmean(off**2))
    assert errors["elastic"] < 0.8 * errors["gls"]


def _stiff(x, method):
    movie = simulation.hrtem_movie(x, pixel=PIXEL, dose=500, hkl=HKL, lattice="coherent", seed=7)
    g1, g2 = simulation.truth(movie).g_vectors(HKL)
    return movie.gpa(g1, g2, hkl=HKL).to_concentration(material="LiFePO4", method=method)


def test_diffraction_gives_the_same_mean(truth):
    """Of the same particle by (401), whose intensity hardly depends on x; (200) leans to the
    Li-poor domain."""
    x = truth[18].inav[::10]
    exact = np.nanmean(x.data, axis=(1, 2))
    series = simulation.diffraction_series(
        x, seed=5, background=(20, 1.5), rotation=12, pixel=0.0225, shape=(440, 440), counts=3e5
    )
    found = {
        hkl: np.squeeze(series.to_concentration(hkl, material="LiFePO4").data)
        for hkl in ((4, 0, 1), (2, 0, 0))
    }
    material = materials.get("LiFePO4")
    ends = np.array([0.0, 1.0])
    factors = material.structure_factor((4, 0, 1), ends) ** 2 / material.cell(ends).prod(axis=-1)
    # weights that grow by this with x move the mean of two domains, of which the first has the
    # part p, by p (1 - p) (x1 - x2)^2 times it
    p, apart = 100 / 576, np.nanmax(x.data, axis=(1, 2)) - np.nanmin(x.data, axis=(1, 2))
    leaning = p * (1 - p) * apart**2 * abs(np.log(factors[1] / factors[0]))
    assert (np.abs(found[4, 0, 1] - exact) < leaning + 0.005).all()
    assert (found[2, 0, 0] < exact + 0.005).all() and (found[2, 0, 0] - exact).min() < -0.05
