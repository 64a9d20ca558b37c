"""How a particle fills with lithium: phase field in, maps of composition out."""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp import materials
from hyperspy_lfp.kernels.phasefield import solver, system
from hyperspy_lfp.signals._units import to_length, to_number
from hyperspy_lfp.simulation._courses import make_signal
from hyperspy_lfp.simulation._models import (
    REORGANISATION,
    SITE_DENSITY,
    THICKNESS,
    get_model,
    overridden,
    parameters_of,
)
from hyperspy_lfp.simulation._options import check_choice, positive, whole
from hyperspy_lfp.simulation._phase_field import make_problem
from hyperspy_lfp.simulation._shapes import label_domains, listed, make_particle
from hyperspy_lfp.simulation._units_si import Scales

DIRECTIONS = ("lithiation", "delithiation")
#: Compositions at which a particle counts as empty and as full. Beyond them logarithms and the
#: exchange current say more of the model than of the particle.
_EMPTY, _FULL = 0.02, 0.98
#: Longest simulation at a given voltage, in hours, unless a duration is given.
_LONGEST = 1000.0
_HOUR = 3600.0


class LithiationError(RuntimeError):
    """The solver of `lithiation` could not go on; its message says when, and at which mean x.

    Attributes
    ----------
    partial : ConcentrationMap
        What it has until then.
    """

    def __init__(self, message, partial):
        super().__init__(message)
        self.partial = partial


class _Drive(NamedTuple):
    """How the particle is driven."""

    control: object  # Galvanostatic or Potentiostatic
    voltage: float | None  # V, if that is given
    duration: float | None  # s
    resistance: float  # ohm
    series: float  # kT per (1/s) of the rate of the mean composition
    reference_voltage: float  # V


def lithiation(
    rate=18.0,
    model="defect_coupled",
    *,
    particle=(24.0, 24.0),
    shape="rectangle",
    pixel=1.0,
    domains=None,
    direction="lithiation",
    x_start=None,
    x_end=None,
    voltage=None,
    duration=None,
    resistance=0.0,
    reference_voltage=3.42,
    kinetics=None,
    reorganisation=REORGANISATION,
    exchange_current=None,
    interaction=None,
    diffusivity=None,
    gradient_energy=None,
    wall_energy=None,
    coherency=None,
    condition="plane stress",
    thickness=THICKNESS,
    temperature=298.15,
    material="LiFePO4",
    noise=0.0,
    seed=0,
    frames=101,
    tolerance=1e-4,
):
    r"""Simulate how a particle takes up lithium, by a depth-averaged phase field.

    .. math::
        \mu &= \Delta\mu_d + \ln\frac{x}{1-x} + \Omega_d(1-2x) - \tilde\kappa\nabla^2x
            + \tilde B(x - \langle x\rangle) \\
        \partial_t x &= k_d\,r(x, \mu, \mu_e) + \nabla\cdot[D\,x(1-x)\nabla\mu]

    in each domain d, in units of kT; the potential of the electrons :math:`\mu_e` is that which
    drives the given rate. See :doc:`/simulation_phase_field` for the rate laws r, the models, and
    which part of them is whose.

    Parameters
    ----------
    rate : float
        C-rate: the number of times the particle would fill in an hour. With a given voltage it
        is what parameters that are functions of the rate are taken at.
    model : {"defect_coupled", "kinetic_hump", "fixed", "homogeneous"}
        What the arguments are that are not given.
    particle : (width, height), vertices, ROI, bool array or ConcentrationMap
        Size or outline in nm; a mask with pixels of the size `pixel`; or maps, whose pixels that
        are not NaN are the particle.
    shape : {"rectangle", "ellipse"}
        Of a particle given by its size.
    pixel : float, str or (x, y) of these
        Size of a pixel, in nm or for example ``"5 Å"``.
    domains : Domain or list of Domain, optional
        Default: those of the model, the upper left corner (10/24 of width and height) and the
        rest.
    direction : {"lithiation", "delithiation"}
    x_start, x_end : float, optional
        Mean composition at the beginning and at the end. Default: 0.02 and 0.98, or the reverse.
    voltage : float, optional
        In volt: the voltage is given, not the rate.
    duration : float, optional
        In seconds, with a given voltage. Default: until `x_end` is reached.
    resistance : float
        In series, ohm. A nanoparticle draws some 0.1 fA, so that a millivolt takes 10 Tohm.
    reference_voltage : float
        In volt, at which :math:`\mu_e = 0`.
    kinetics : {"butler-volmer", "hump", "marcus"} or callable, optional
        A function of ``(x, mu, mu_e)`` gives the rate in units of the rate constant.
    reorganisation : float
        Reorganisation energy in eV, for ``"marcus"``.
    exchange_current : float, optional
        In A/m2, of domains that have none of their own.
    interaction : float, optional
        Regular-solution parameter in J, of domains that have none of their own.
    diffusivity : float, optional
        In m2/s; zero: none along the surface.
    gradient_energy : float, optional
        In J/m.
    wall_energy : bool, optional
        Whether there is gradient energy across the border of two domains.
    coherency : float or "elastic", optional
        Mean-field coherency in Pa, or the elastic equilibrium of the particle with the material's
        constants, of up to 4000 pixels.
    condition : {"plane stress", "generalised plane strain"}
        Along the beam, of elastic coherency.
    thickness : float or str
        Along the beam, in nm: sets the rate constants.
    temperature : float
        In kelvin.
    material : str or Material
        What the maps say they are of.
    noise : float
        Standard deviation of the composition of pixels at the beginning, about `x_start`.
    seed : int
        Of the noise.
    frames : int
        Number of maps, equally spaced in time from the beginning to the end.
    tolerance : float
        Largest error of x of any pixel in one step of the solver.

    Returns
    -------
    ConcentrationMap
        ``(time | x, y)`` in s and nm, on the undeformed particle, NaN outside. See `voltage` and
        `domain_labels` for what else it knows.

    Raises
    ------
    LithiationError
        If the solver cannot go on: its message says where and when, `partial` is what it has.
    TypeError, ValueError
        For an argument that is not understood or out of range, a domain outside of the particle
        or overlapping another, or a voltage that does not reach `x_end`.

    References
    ----------
    M. Z. Bazant, Acc. Chem. Res. 46 (2013) 1144, doi:10.1021/ar300145c

    Examples
    --------
    >>> from hyperspy_lfp import simulation
    >>> truth = simulation.lithiation(18, particle=(6, 6), frames=11)
    >>> truth
    <ConcentrationMap, title: lithiation at 18C, dimensions: (11|6, 6)>
    >>> courses = truth.evolution(simulation.domain_labels(truth), show_progressbar=False)
    >>> courses.data.shape
    (2, 11)
    """
    rate = positive(rate, "rate", "18, the C-rate, for both directions")
    check_choice("direction", direction, DIRECTIONS)
    chosen = overridden(
        get_model(model),
        kinetics=kinetics,
        exchange_current=exchange_current,
        interaction=interaction,
        diffusivity=diffusivity,
        gradient_energy=gradient_energy,
        coherency=coherency,
        wall_energy=wall_energy,
        domains=domains,
    )
    scales = Scales(
        positive(temperature, "temperature", "298.15 (kelvin)"),
        SITE_DENSITY,
        to_length(thickness, "nm", "thickness"),
    )
    material = materials.get(material)
    frames = whole(frames, "frames", 2)
    tolerance = positive(tolerance, "tolerance", "1e-4")
    x_start, x_end = _ends(x_start, x_end, direction)
    made = make_particle(particle, shape, pixel)
    labels = label_domains(chosen.domains, made)
    x = _start(x_start, noise, seed, int(made.mask.sum()))
    of_domain = [
        parameters_of(domain, number, chosen, rate, scales)
        for number, domain in enumerate(listed(chosen.domains), 1)
    ]
    drive = _drive(
        rate, direction, voltage, duration, resistance, reference_voltage, scales, made.area
    )
    settings = {"reorganisation": reorganisation, "condition": condition, "material": material}
    problem = make_problem(made, labels, of_domain, chosen, scales, drive.control, settings)
    times = _times(problem, x, x_end, frames, drive, tolerance)
    described = {
        "model": model,
        "rate": rate,
        "direction": direction,
        "x_start": x_start,
        "x_end": x_end,
        "noise": float(noise),
        "seed": seed if isinstance(seed, int) else None,
        "tolerance": tolerance,
        **_described_drive(drive),
        **_described_particle(chosen, of_domain, scales, settings),
    }

    def finish(course):
        drop = drive.series * scales.thermal_voltage * course.mean_rate
        volts = drive.reference_voltage - scales.thermal_voltage * course.mu_e - drop
        return make_signal(course, made, labels, volts, material, described)

    try:
        course = solver.integrate(problem, x, times, tolerance)
    except solver.ConvergenceError as error:
        message = (
            f"{error}. The times in seconds; `partial` of this error holds the maps until then. "
            "Often the kinetics do not reach the rate: lower it, or end earlier."
        )
        raise LithiationError(message, finish(error.course)) from error
    return finish(course)


def _drive(rate, direction, voltage, duration, resistance, reference_voltage, scales, area):
    resistance = to_number(resistance, "resistance", 0, "1e13 (ohm)")
    reference = to_number(reference_voltage, "reference_voltage", example="3.42 (volt)")
    series = resistance * scales.capacity(area) / scales.thermal_voltage
    if voltage is None:
        if duration is not None:
            raise ValueError(
                f"duration={duration!r} is for a given voltage; at a given rate, x_end says when "
                "it ends."
            )
        sign = 1 if direction == "lithiation" else -1
        control = system.Galvanostatic(sign * rate / _HOUR)
    else:
        voltage = to_number(voltage, "voltage", example="3.3 (volt)")
        control = system.Potentiostatic((reference - voltage) / scales.thermal_voltage, series)
        if duration is not None:
            duration = positive(duration, "duration", "200 (seconds)")
    return _Drive(control, voltage, duration, resistance, series, reference)


def _described_drive(drive):
    return {
        "control": "rate" if drive.voltage is None else "voltage",
        "given_voltage": drive.voltage,
        "given_voltage_units": "V",
        "resistance": drive.resistance,
        "resistance_units": "ohm",
        "reference_voltage": drive.reference_voltage,
        "reference_voltage_units": "V",
    }


def _described_particle(chosen, of_domain, scales, settings):
    return {
        "domain_interaction": [p.interaction for p in of_domain],
        "domain_interaction_units": "kT",
        "domain_potential": [p.potential for p in of_domain],
        "domain_potential_units": "kT",
        "domain_exchange_current": [p.exchange_current for p in of_domain],
        "domain_exchange_current_units": "A/m2",
        "kinetics": chosen.kinetics if isinstance(chosen.kinetics, str) else "given",
        "reorganisation": float(settings["reorganisation"]),
        "reorganisation_units": "eV",
        "diffusivity": float(chosen.diffusivity),
        "diffusivity_units": "m2/s",
        "gradient_energy": float(chosen.gradient_energy),
        "gradient_energy_units": "J/m",
        "wall_energy": bool(chosen.wall_energy),
        "coherency": chosen.coherency,
        "coherency_units": "Pa",
        "condition": settings["condition"] if chosen.coherency == "elastic" else None,
        "thickness": scales.thickness,
        "thickness_units": "nm",
        "temperature": scales.temperature,
        "temperature_units": "K",
        "site_density": scales.site_density,
        "site_density_units": "1/m3",
    }


def _times(problem, x, x_end, frames, drive, tolerance):
    """Output times in seconds."""
    if drive.voltage is None:
        last = (x_end - x.mean()) / problem.control.rate
    elif drive.duration is not None:
        last = drive.duration
    else:
        last = solver.time_to_reach(problem, x, x_end, _LONGEST * _HOUR, tolerance)
        if np.isnan(last):
            raise ValueError(
                f"voltage={drive.voltage:g} V does not bring the particle to x_end={x_end:g} "
                f"within {_LONGEST:g} hours: give another voltage, or a duration in seconds."
            )
    return np.linspace(0.0, last, frames)


def _start(x_start, noise, seed, size):
    noise = to_number(noise, "noise", 0, "0.01")
    draw = np.random.default_rng(seed).standard_normal(size)
    x = x_start + noise * (draw - draw.mean())
    if not (x.min() > 0 and x.max() < 1):
        raise ValueError(
            f"noise={noise:g} takes pixels beyond 0 or 1 at x_start={x_start:g}: make it smaller."
        )
    return x


def _ends(x_start, x_end, direction):
    first, last = (_EMPTY, _FULL) if direction == "lithiation" else (_FULL, _EMPTY)
    ends = {}
    for name, value, default in (("x_start", x_start, first), ("x_end", x_end, last)):
        ends[name] = default if value is None else to_number(value, name, example=str(default))
        if not 0 < ends[name] < 1:
            raise ValueError(f"{name}={value!r} must lie between 0 and 1, for example {default}.")
    first, last = ends.values()
    if first == last or (first < last) != (direction == "lithiation"):
        raise ValueError(
            f"x_end={last:g} must be {'above' if direction == 'lithiation' else 'below'} "
            f"x_start={first:g} for {direction}."
        )
    return first, last
