"""The particle as the phase-field kernel sees it: kT, nanometres, seconds."""

import numpy as np

from hyperspy_lfp.kernels.mechanics import elasticity
from hyperspy_lfp.kernels.phasefield import energy, kinetics, system
from hyperspy_lfp.kernels.phasefield.elastic import elastic_operator
from hyperspy_lfp.kernels.phasefield.grid import build_grid, gradient_operator, walls
from hyperspy_lfp.signals import _coherency
from hyperspy_lfp.signals._units import to_number
from hyperspy_lfp.simulation._options import positive
from hyperspy_lfp.simulation._units_si import CHARGE

_PASCAL = 1e9  # in one GPa
#: With elasticity each pixel acts on every other; above this many the dense matrices take
#: gigabytes, and minutes to factorise each time.
_MOST_ELASTIC = 4000


def make_problem(made, labels, of_domain, chosen, scales, control, settings):
    """A `Problem` of a particle whose pixels are labelled with the numbers of their domains."""
    grid = build_grid(made.mask, made.scale[::-1])
    numbers = labels[made.mask] - 1
    interaction, potential, current = (
        np.array([getattr(p, name) for p in of_domain])[numbers]
        for name in ("interaction", "potential", "exchange_current")
    )
    within = np.ones(len(grid.faces))
    if not chosen.wall_energy:
        within[walls(numbers, grid)] = 0.0
    stiff = scales.gradient(to_number(chosen.gradient_energy, "gradient_energy", 0, "5e-10 (J/m)"))
    diffusivity = scales.diffusivity(
        to_number(chosen.diffusivity, "diffusivity", 0, "5.3e-19 (m2/s)")
    )
    operator, mean_field = gradient_operator(stiff * within, grid), 0.0
    if isinstance(chosen.coherency, str):
        operator = operator.toarray() + _elastic(made, chosen.coherency, scales, settings)
    else:
        mean_field = scales.pressure(to_number(chosen.coherency, "coherency", 0, "1.9e8 (Pa)"))
    law = _rate_law(chosen.kinetics, settings["reorganisation"], scales)
    return system.Problem(
        grid,
        energy.make_energy(potential, interaction, operator, mean_field),
        law,
        scales.rate_constant(current),
        np.full(len(grid.faces), diffusivity),
        control,
    )


def _elastic(made, coherency, scales, settings):
    if coherency != "elastic":
        raise ValueError(
            f"coherency={coherency!r} is not known; give a modulus in Pa, 0, or 'elastic'."
        )
    pixels = int(made.mask.sum())
    if pixels > _MOST_ELASTIC:
        raise ValueError(
            f"coherency='elastic' is for up to {_MOST_ELASTIC} pixels, but the particle has "
            f"{pixels}: give larger pixels, or a modulus in Pa."
        )
    material = settings["material"]
    axes = np.eye(2)
    how = _coherency.settings(
        material, material.zone, axes, settings["condition"], made.scale[::-1], 0.0, 0.0
    )
    medium = elasticity.orthotropic_medium(
        how.constants, how.eigenstrain, axes[0], settings["condition"]
    )
    mesh = elasticity.build_mesh(made.mask, made.scale[::-1], medium)
    return scales.pressure(_PASCAL * elastic_operator(mesh))


def _rate_law(name, reorganisation, scales):
    if callable(name):
        return kinetics.from_function(name)
    if name == "butler-volmer":
        return kinetics.butler_volmer
    if name == "hump":
        return kinetics.hump
    if name == "marcus":
        joule = positive(reorganisation, "reorganisation", "0.213 (eV)") * CHARGE
        return kinetics.marcus(scales.energy(joule))
    raise ValueError(
        f"kinetics={name!r} is not known; use 'butler-volmer', 'hump', 'marcus', or a function of "
        "(x, mu, mu_e)."
    )
