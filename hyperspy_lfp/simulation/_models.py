"""Domains of a particle, and the models that are known by name."""

from dataclasses import dataclass, replace
from typing import NamedTuple

#: The public parameter set of MPET for LiFePO4: regular solution (J), gradient energy (J/m),
#: coherency (Pa), diffusivity (m2/s), exchange current (A/m2), sites (1/m3), thickness (nm).
OMEGA = 1.8560e-20
KAPPA = 5.0148e-10
COHERENCY = 0.1916e9
DIFFUSIVITY = 5.3e-19
EXCHANGE_CURRENT = 0.16
SITE_DENSITY = 1.3793e28
THICKNESS = 20.0
#: Reorganisation energy, eV: 8.3 kT.
REORGANISATION = 0.213
#: The C-rate at which the interaction of `defect_coupled` has grown by `_GROWTH`, kT.
_FULL_RATE, _GROWTH = 18.0, 2.5
CORNER = "corner"


@dataclass(frozen=True)
class Domain:
    """A part of a particle with a chemical potential or kinetics of its own.

    Each number may be a function of the C-rate instead.

    Parameters
    ----------
    where : ROI, (left, top, right, bottom), bool array, "corner" or None
        A HyperSpy ROI or a rectangle in nanometres, in the axes of the result (a particle of
        given size begins at 0); a mask of the shape of the map; the upper left corner, 10/24 of
        the particle's width and height; None for what the other domains leave.
    interaction : float or callable, optional
        Regular-solution parameter in kT; above 2 the domain separates into two phases. Default:
        that of the model.
    potential : float or callable
        Added to the chemical potential of lithium, kT; the higher, the later it fills.
    exchange_current : float or callable, optional
        In A/m2. Default: that of the model.

    Examples
    --------
    >>> from hyperspy_lfp import simulation
    >>> simulation.Domain(where=(0, 0, 8, 12), interaction=lambda rate: 2 + 0.1 * rate)
    Domain(where=(0, 0, 8, 12), interaction=<function <lambda> at ...>, potential=0.0, ...)
    """

    where: object = None
    interaction: object = None
    potential: object = 0.0
    exchange_current: object = None


@dataclass(frozen=True)
class Model:
    """What the arguments of `lithiation` are where they are not given."""

    domains: tuple
    interaction: float = OMEGA  # J
    exchange_current: float = EXCHANGE_CURRENT  # A/m2
    kinetics: str = "butler-volmer"
    diffusivity: float = 0.0  # m2/s
    gradient_energy: float = KAPPA  # J/m
    coherency: float = 0.0  # Pa
    wall_energy: bool = False


class Parameters(NamedTuple):
    """Of one domain at one rate."""

    interaction: float  # kT
    potential: float  # kT
    exchange_current: float  # A/m2


def _growing(rate):
    return 2 + _GROWTH * rate / _FULL_RATE


MODELS = {
    "defect_coupled": Model(
        (Domain(CORNER, interaction=0.0), Domain(interaction=_growing)),
        exchange_current=10 * EXCHANGE_CURRENT,
    ),
    "kinetic_hump": Model(
        (
            Domain(CORNER, interaction=0.0, potential=2.0, exchange_current=30 * EXCHANGE_CURRENT),
            Domain(interaction=2.0),
        ),
        kinetics="hump",
        gradient_energy=KAPPA / 4,
        wall_energy=True,
    ),
    "fixed": Model(
        (Domain(CORNER, interaction=0.0), Domain(interaction=3.0)),
        exchange_current=10 * EXCHANGE_CURRENT,
    ),
    "homogeneous": Model(
        (Domain(CORNER), Domain()),
        diffusivity=DIFFUSIVITY,
        coherency=COHERENCY,
        wall_energy=True,
    ),
}


def get_model(model):
    """A model by its name, or an error that says which there are."""
    if isinstance(model, str) and model in MODELS:
        return MODELS[model]
    raise ValueError(
        f"model={model!r} is not known; use one of {sorted(MODELS)}, and change it by the other "
        "arguments: domains, kinetics, diffusivity, gradient_energy, coherency, wall_energy."
    )


def overridden(model, **given):
    """A model with the arguments that are not None."""
    return replace(model, **{name: value for name, value in given.items() if value is not None})


def parameters_of(domain, number, model, rate, scales):
    """The parameters of a domain (counted from 1) at a C-rate.

    Raises
    ------
    TypeError, ValueError
        If one is no finite number, or an exchange current is not positive.
    """
    values = {
        "interaction": domain.interaction,
        "potential": domain.potential,
        "exchange_current": domain.exchange_current,
    }
    if values["interaction"] is None:
        values["interaction"] = scales.energy(model.interaction)
    if values["exchange_current"] is None:
        values["exchange_current"] = model.exchange_current
    numbers = {
        name: _number(value, f"{name} of domain {number}", rate) for name, value in values.items()
    }
    if numbers["exchange_current"] <= 0:
        raise ValueError(
            f"exchange_current of domain {number} is {numbers['exchange_current']:g} A/m2 at "
            f"{rate:g}C, but must be positive."
        )
    return Parameters(**numbers)


def _number(value, name, rate):
    given = value(rate) if callable(value) else value
    try:
        number = float(given)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name} is {given!r}{' at ' + format(rate, 'g') + 'C' if callable(value) else ''}, "
            "but must be a number, or a function that gives one for a C-rate."
        ) from None
    if not abs(number) < float("inf"):
        raise ValueError(f"{name} is {number} at {rate:g}C, but must be finite.")
    return number
