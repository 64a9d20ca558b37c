"""The phase field in SI units: the table of models, domains, control, and what the maps keep."""

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_lfp import materials, simulation
from hyperspy_lfp.signals import ConcentrationMap
from hyperspy_lfp.simulation import Domain
from hyperspy_lfp.simulation._models import MODELS
from hyperspy_lfp.simulation._units_si import Scales

SMALL = {"particle": (6, 6), "frames": 6}
THERMAL = 1.380649e-23 * 298.15 / 1.602176634e-19  # V


def small(rate=18, model="defect_coupled", **given):
    return simulation.lithiation(rate, model, **{**SMALL, **given})


def fall(truth):
    """How far the mean of domain 1 falls below what it has been."""
    labels = simulation.domain_labels(truth).data
    x = truth.data[:, labels == 1].mean(axis=1)
    return float(np.max(np.maximum.accumulate(x) - x))


# --- the models ---

#: Science: found by scanning with another program; see the page on the phase field.
TABLE = {
    "defect_coupled": {4: 0.077, 8: 0.190, 14: 0.348, 18: 0.426},
    "fixed": {4: 0.183, 8: 0.163, 14: 0.135, 18: 0.117},
}
HUMP = {8: 0.076, 14: 0.164, 18: 0.201}
WITH_DIFFUSION = {8: 0.092, 18: 0.179}


@pytest.mark.parametrize("model", TABLE)
def test_table_of_reversals(model):
    """Nothing joins the cells of these models, so that large ones are exact."""
    found = {
        rate: fall(simulation.lithiation(rate, model, pixel=2, frames=51)) for rate in TABLE[model]
    }
    assert found == pytest.approx(TABLE[model], rel=0.1)
    differences = np.diff(list(found.values()))
    assert np.all(differences > 0 if model == "defect_coupled" else differences < 0)


def test_table_of_reversals_by_kinetics():
    found = {rate: fall(simulation.lithiation(rate, "kinetic_hump", frames=51)) for rate in HUMP}
    assert found == pytest.approx(HUMP, rel=0.1)
    assert np.all(np.diff(list(found.values())) > 0)


def test_diffusion_halves_the_reversal():
    found = {
        rate: fall(simulation.lithiation(rate, diffusivity=5.3e-19, frames=51)) for rate in (8, 18)
    }
    assert found == pytest.approx(WITH_DIFFUSION, rel=0.1)


def test_no_reversal_without_domains_or_with_the_public_parameters():
    assert fall(simulation.lithiation(18, "homogeneous", pixel=2, frames=21)) == 0
    domains = [Domain("corner", interaction=1.0), Domain()]
    for rate in (8, 18):
        assert (
            fall(simulation.lithiation(rate, "homogeneous", domains=domains, pixel=2, frames=21))
            == 0
        )


# --- what comes out ---


def test_default_particle():
    truth = simulation.lithiation(rate=18, model="defect_coupled", seed=0, frames=3)
    assert isinstance(truth, ConcentrationMap)
    assert truth.data.shape == (3, 24, 24) and truth.data.dtype == np.float64
    x, y = truth.axes_manager.signal_axes
    assert (x.name, x.units, x.scale, x.offset) == ("x", "nm", 1.0, 0.5)
    assert (y.name, y.units) == ("y", "nm")
    time = truth.axes_manager.navigation_axes[0]
    assert (time.name, time.units) == ("time", "s")
    assert time.axis[-1] == pytest.approx(0.96 * 3600 / 18)
    labels = simulation.domain_labels(truth).data
    assert np.all((labels == 1) == (np.indices(labels.shape) < 10).all(axis=0))
    assert truth.material == materials.get("LiFePO4")
    assert truth.resolution == 0
    assert truth.metadata.HyperspyLFP.ConcentrationMap.method == "phase field"


@pytest.mark.parametrize("direction, sign", [("lithiation", 1), ("delithiation", -1)])
def test_mean_goes_with_the_rate_to_rounding(direction, sign):
    truth = small(7.3, direction=direction, x_start=0.4, x_end=0.4 + 0.3 * sign, diffusivity=5e-19)
    time = truth.axes_manager.navigation_axes[0].axis
    expected = 0.4 + sign * 7.3 / 3600 * time
    np.testing.assert_allclose(truth.data.mean(axis=(1, 2)), expected, atol=1e-12)
    rates = truth.c_rate(show_progressbar=False).data
    np.testing.assert_allclose(rates, sign * 7.3, rtol=1e-9)


def test_delithiation_starts_full():
    truth = small(direction="delithiation")
    np.testing.assert_allclose(truth.data[[0, -1]].mean(axis=(1, 2)), [0.98, 0.02])
    assert truth.metadata.General.title == "delithiation at 18C"


def test_voltage_is_that_of_butler_volmer_in_si_units():
    current, omega = 0.3, 1.2
    truth = small(
        10,
        "homogeneous",
        domains=Domain(interaction=omega, potential=0.4),
        exchange_current=current,
        thickness="30 nm",
    )
    x = truth.data[:, 0, 0]
    # two faces of a plate
    k = 2 * current / (1.602176634e-19 * 1.3793e28 * 30e-9)
    drive = 10 / 3600 / (k * (1 - x))
    mu = 0.4 + np.log(x / (1 - x)) + omega * (1 - 2 * x)
    mu_e = 2 * np.log((drive + np.sqrt(drive**2 + 4 * np.exp(mu))) / 2)
    volts = simulation.voltage(truth)
    np.testing.assert_allclose(volts.data, 3.42 - THERMAL * mu_e, atol=1e-9)
    np.testing.assert_allclose(
        volts.axes_manager[0].axis, truth.axes_manager.navigation_axes[0].axis
    )


def test_scales_of_the_public_parameters():
    scales = Scales(298.15, 1.3793e28, 20.0)
    assert scales.energy(1.8560e-20) == pytest.approx(4.51, abs=0.005)
    assert scales.rate_constant(0.16) == pytest.approx(7.24e-3, rel=1e-3)
    # of kappa: (sites kT) nm^2; of B: 0.19 GPa against 57 MPa
    assert scales.gradient(5.0148e-10) == pytest.approx(8.83, abs=0.01)
    assert scales.pressure(0.1916e9) == pytest.approx(3.37, abs=0.01)
    assert scales.capacity(576.0) == pytest.approx(1.3793e28 * 1.602176634e-19 * 576e-18 * 20e-9)


def test_resistance_takes_its_voltage_at_a_given_rate():
    plain, resisted = small(frames=3), small(frames=3, resistance=1e14)
    np.testing.assert_allclose(plain.data, resisted.data)
    capacity = Scales(298.15, 1.3793e28, 20.0).capacity(36.0)
    drop = simulation.voltage(plain).data - simulation.voltage(resisted).data
    np.testing.assert_allclose(drop, 1e14 * capacity * 18 / 3600, rtol=1e-5)


@pytest.mark.parametrize("resistance", [0.0, 1e15])
def test_given_voltage_is_kept_until_the_particle_is_full(resistance):
    truth = small(voltage=3.25, resistance=resistance)
    np.testing.assert_allclose(simulation.voltage(truth).data, 3.25, atol=1e-7)
    mean = truth.data.mean(axis=(1, 2))
    assert np.all(np.diff(mean) > 0)
    # tolerance of a step, times some tens of them
    assert mean[-1] == pytest.approx(0.98, abs=5e-3)
    assert truth.metadata.General.title == "lithiation at 3.25 V"


def test_given_voltage_for_a_given_time():
    truth = small(voltage=3.3, duration=50.0)
    assert truth.axes_manager.navigation_axes[0].axis[-1] == pytest.approx(50)


def test_parameters_may_depend_on_the_rate():
    asked = []

    def growing(rate):
        asked.append(rate)
        return 0.1 * rate

    truth = small(12, domains=[Domain("corner", interaction=growing), Domain(interaction=1.2)])
    assert asked == [12]
    assert truth.metadata.HyperspyLFP.Lithiation.domain_interaction == pytest.approx([1.2, 1.2])
    np.testing.assert_allclose(np.ptp(truth.data, axis=(1, 2)), 0, atol=1e-10)


def test_kinetics_of_the_user():
    def own(x, mu, mu_e):
        return (1 - x) * (np.exp(mu_e / 2) - np.exp(mu - mu_e / 2))

    np.testing.assert_allclose(small(kinetics=own).data, small().data, atol=1e-6)


def test_marcus_kinetics_need_more_voltage_than_butler_volmer():
    fast = {"rate": 200, "x_end": 0.5}
    difference = (
        simulation.voltage(small(**fast)).data
        - simulation.voltage(small(**fast, kinetics="marcus")).data
    )
    assert np.all(difference > 0)


def test_noise_has_its_seed_and_keeps_the_mean():
    first, again, other = (small(noise=5e-3, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.data, again.data)
    assert not np.array_equal(first.data, other.data)
    assert first.data[0].std() > 0
    np.testing.assert_allclose(first.data.mean(axis=(1, 2)), small().data.mean(axis=(1, 2)))


def test_elastic_coherency_lies_between_none_and_a_clamped_lattice():
    """Of a stable particle: where phases separate, elasticity decides along which direction."""
    domains = [Domain("corner", interaction=0.0, potential=2.0), Domain(interaction=1.0)]
    # e0 C e0 of a lattice that cannot relax at all is below 1 GPa
    none, elastic, clamped = (
        small(domains=domains, gradient_energy=0.0, coherency=c) for c in (0.0, "elastic", 1e9)
    )

    def spread(truth):
        return truth.data.std(axis=(1, 2)).max()

    assert spread(clamped) < spread(elastic) < spread(none)
    assert elastic.metadata.HyperspyLFP.Lithiation.condition == "plane stress"
    np.testing.assert_allclose(elastic.data.mean(axis=(1, 2)), none.data.mean(axis=(1, 2)))


# --- files and parts ---


@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
@pytest.mark.parametrize("lazy", [False, True])
def test_voltage_and_domains_survive_a_file(tmp_path, suffix, lazy):
    truth = small(noise=1e-3)
    path = tmp_path / f"truth.{suffix}"
    truth.save(path)
    found = hs.load(path, lazy=lazy)
    assert isinstance(found, ConcentrationMap)
    for read in (simulation.voltage, simulation.domain_labels):
        expected, again = read(truth), read(found)
        np.testing.assert_array_equal(again.data, expected.data)
        assert type(again) is type(expected) and not again._lazy
    labels = simulation.domain_labels(found)
    courses = found.evolution(labels, show_progressbar=False, lazy_output=False)
    inside = simulation.domain_labels(truth).data == 1
    np.testing.assert_allclose(courses.data[0], truth.data[:, inside].mean(axis=1))
    node = found.metadata.HyperspyLFP.Lithiation
    assert node.model == "defect_coupled" and node.domain_interaction == [0.0, 4.5]


def test_voltage_and_domains_of_a_part():
    truth = small()
    whole = simulation.voltage(truth)
    part = simulation.voltage(truth.inav[1:5:2])
    np.testing.assert_array_equal(part.data, whole.data[1:5:2])
    np.testing.assert_allclose(part.axes_manager[0].axis, whole.axes_manager[0].axis[1:5:2])
    assert simulation.voltage(truth.inav[2]).data.shape == (6,)
    labels = simulation.domain_labels(truth.isig[1:4, 2:])
    np.testing.assert_array_equal(labels.data, simulation.domain_labels(truth).data[2:, 1:4])


def test_changing_what_is_given_changes_nothing_in_the_map():
    truth = small()
    simulation.voltage(truth).data[:] = 0
    assert simulation.voltage(truth).data.min() > 3


def test_maps_that_were_not_simulated_have_no_voltage():
    with pytest.raises(ValueError, match=r"lack HyperspyLFP.Lithiation.voltage"):
        simulation.voltage(ConcentrationMap(np.zeros((3, 4, 4))))
    with pytest.raises(ValueError, match=r"not that of the simulation"):
        simulation.domain_labels(small().rebin(scale=[1, 2, 2]))


# --- shapes and domains ---

CIRCLE = hs.roi.CircleROI(4, 4, 3)


@pytest.mark.parametrize(
    "given, shape, area",
    [
        ({"particle": (6, "4 nm")}, (4, 6), 24),
        ({"particle": (6, 4), "pixel": (1.0, 0.5)}, (8, 6), 24),
        ({"particle": (8, 8), "shape": "ellipse", "pixel": 0.25}, (32, 32), np.pi * 16),
        ({"particle": [(0, 0), (6, 0), (0, 6)], "pixel": 0.25}, (24, 24), 18),
        ({"particle": CIRCLE, "pixel": 0.25}, (24, 24), np.pi * 9),
        ({"particle": hs.roi.RectangularROI(1, 2, 5, 8)}, (6, 4), 24),
    ],
)
def test_shapes(given, shape, area):
    truth = small(domains=Domain(), frames=2, x_end=0.1, **given)
    assert truth.data.shape[1:] == shape
    x, y = truth.axes_manager.signal_axes
    found = np.isfinite(truth.data[0]).sum() * x.scale * y.scale
    # of a slanted outline, half a pixel at each end of a row
    slanted = not (np.isfinite(truth.data[0]).all())
    assert found == pytest.approx(area, abs=slanted * shape[0] * x.scale * y.scale)


def test_particle_of_a_map_keeps_its_place():
    maps = np.full((2, 5, 6), 0.3)
    maps[:, 0] = np.nan
    axes = [
        {"name": "time", "size": 2, "scale": 1.0, "units": "s", "navigate": True},
        {"name": "y", "size": 5, "scale": 10.0, "offset": -20.0, "units": "Å", "navigate": False},
        {"name": "x", "size": 6, "scale": 5.0, "offset": 10.0, "units": "Å", "navigate": False},
    ]
    truth = small(particle=ConcentrationMap(maps, axes=axes), domains=Domain())
    np.testing.assert_array_equal(np.isfinite(truth.data[0]), np.isfinite(maps[0]))
    x, y = truth.axes_manager.signal_axes
    assert (x.scale, x.offset, y.scale, y.offset) == pytest.approx((0.5, 1.0, 1.0, -2.0))


def test_domains_by_roi_rectangle_and_mask_are_the_same():
    mask = np.zeros((6, 6), dtype=bool)
    mask[1:3, 2:5] = True
    places = ((2, 1, 5, 3), hs.roi.RectangularROI(2, 1, 5, 3), mask)
    labels = [
        simulation.domain_labels(small(domains=[Domain(where=p), Domain()], frames=2)).data
        for p in places
    ]
    for found in labels:
        np.testing.assert_array_equal(found, np.where(mask, 1, 2))


def test_many_domains():
    domains = [Domain((0, 0, 2, 6), 0.0), Domain((2, 0, 4, 6), 1.0), Domain((4, 0, 6, 6), 2.0)]
    truth = small(domains=domains)
    names = truth.evolution(simulation.domain_labels(truth), show_progressbar=False).regions
    assert names == ["1", "2", "3"]


# --- what goes wrong ---


def test_a_rate_beyond_the_kinetics_leaves_what_there_is():
    with pytest.raises(simulation.LithiationError, match="mean composition") as caught:
        small(1500, kinetics="marcus", frames=101)
    partial = caught.value.partial
    assert isinstance(partial, ConcentrationMap) and 1 < len(partial.data) < 101
    assert len(simulation.voltage(partial).data) == len(partial.data)
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"rate": -18}, "rate=-18 must be positive"),
        ({"rate": 0}, "rate=0 must be positive"),
        ({"rate": "fast"}, "rate='fast' must be a number"),
        ({"model": "magic"}, "model='magic' is not known.*defect_coupled"),
        ({"direction": "up"}, "direction='up' is not known"),
        ({"kinetics": "tafel"}, "kinetics='tafel' is not known"),
        ({"coherency": "soft"}, "coherency='soft' is not known"),
        ({"coherency": -1.0}, "coherency=-1.0 must be a number"),
        ({"x_start": 0.0}, "x_start=0.0 must lie between"),
        ({"x_end": 1.2}, "x_end=1.2 must lie between"),
        ({"x_start": 0.5, "x_end": 0.3}, "x_end=0.3 must be above x_start=0.5"),
        ({"direction": "delithiation", "x_start": 0.1, "x_end": 0.3}, "must be below"),
        ({"frames": 1}, "frames=1 must be a whole number"),
        ({"tolerance": 0}, "tolerance=0 must be positive"),
        ({"temperature": -3}, "temperature=-3 must be positive"),
        ({"diffusivity": -1}, "diffusivity=-1 must be a number, 0 or more"),
        ({"gradient_energy": -1}, "gradient_energy=-1 must be a number, 0 or more"),
        ({"exchange_current": 0.0, "domains": Domain()}, "exchange_current of domain 1 is 0"),
        ({"resistance": -1}, "resistance=-1 must be a number, 0 or more"),
        ({"duration": 10}, "duration=10 is for a given voltage"),
        ({"voltage": 3.6}, "voltage=3.6 V does not bring the particle to x_end=0.98"),
        ({"noise": 0.5}, "noise=0.5 takes pixels beyond 0 or 1"),
        ({"noise": -0.1}, "noise=-0.1 must be a number"),
        ({"shape": "star"}, "shape='star' is not known"),
        ({"pixel": -1}, "pixel=-1 must be one positive length"),
        ({"pixel": (1, 1, 1)}, "must be one length, or one along x and one along y"),
        ({"particle": (6.3, 6)}, "not a whole number of pixels"),
        ({"particle": (-6, 6)}, "particle=-6 must be one positive length"),
        ({"particle": np.zeros((5, 5), dtype=bool)}, "holds no pixel"),
        ({"particle": np.zeros((2, 5, 5), dtype=bool)}, "must be an image"),
        ({"domains": []}, "domains is empty"),
        ({"domains": [Domain("corner")]}, "27 pixels|pixels of the particle belong to no domain"),
        ({"domains": [Domain((0, 0, 9, 3)), Domain()]}, "reaches beyond the particle"),
        ({"domains": [Domain((3, 0, 1, 3)), Domain()]}, "left < right"),
        ({"domains": [Domain((0, 0, 0.2, 0.2)), Domain()]}, "holds no pixel of the particle"),
        ({"domains": [Domain((0, 0, 4, 4)), Domain((2, 2, 6, 6)), Domain()]}, "overlap in 4"),
        ({"domains": [Domain(), Domain()]}, r"domains \[1, 2\] all have where=None"),
        ({"domains": [Domain((0, 0, 6, 6)), Domain()]}, "leave no pixel"),
        ({"domains": [Domain("middle"), Domain()]}, "'middle' is not known"),
        ({"domains": [Domain(np.ones((3, 3), bool)), Domain()]}, "mask of the shape"),
        ({"domains": Domain(interaction=np.inf)}, "interaction of domain 1 is inf"),
        ({"domains": Domain(exchange_current=lambda rate: -rate)}, "is -18 A/m2 at 18C"),
    ],
)
def test_bad_input(given, message):
    with pytest.raises(ValueError, match=message):
        small(**given)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"particle": "big"}, "particle='big' is not understood"),
        ({"particle": 24.0}, "particle=24.0 is not understood"),
        ({"domains": ["corner"]}, "must be a list of `simulation.Domain"),
        ({"domains": [Domain(5), Domain()]}, "is no place"),
        ({"domains": Domain(potential=lambda rate: "high")}, "potential of domain 1 is 'high'"),
    ],
)
def test_bad_types(given, message):
    with pytest.raises(TypeError, match=message):
        small(**given)


def test_domain_beyond_a_particle_of_an_experiment():
    mask = np.ones((6, 6), dtype=bool)
    mask[0] = False
    with pytest.raises(ValueError, match="holds 6 pixels that are not in the particle"):
        small(particle=mask, domains=[Domain(~mask | (np.indices((6, 6))[0] == 1)), Domain()])


def test_elastic_coherency_of_too_many_pixels():
    with pytest.raises(ValueError, match="up to 4000 pixels"):
        small(particle=(64, 64), coherency="elastic")


def test_presets_have_the_names_of_the_contract():
    assert set(MODELS) == {"defect_coupled", "kinetic_hump", "fixed", "homogeneous"}
