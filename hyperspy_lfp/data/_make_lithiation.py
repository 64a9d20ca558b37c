"""How the built-in movie was made: run ``python -m hyperspy_lfp.data._make_lithiation FILE``.

A particle of 12.5 x 11 nm takes up lithium at 18C in the simulation of
`hyperspy_lfp.simulation.lithiation` (model ``kinetic_hump``). Domain 1, its upper left quarter,
fills first, gives lithium back while the particle as a whole goes on filling, and fills up at last.
The lattice follows by Vegard's law at each point. Numbers that are not the model's are this
package's own choice. On one platform its data come out the same, bit for bit.
"""

import sys

import numpy as np

from hyperspy_lfp import simulation
from hyperspy_lfp.simulation._models import MODELS

FRAMES = 12
SHAPE = (230, 256)  # (y, x), pixels
PIXEL = 0.0625  # nm
DOSE = 600.0  # electrons per pixel in vacuum
SEED = 20180126
ROTATION = 12.0  # degrees: a axis, counter-clockwise from x as displayed
X_START, X_END = 0.002, 0.998
_HALF = (6.25, 5.5)  # half axes of the particle along a and c, nm
_MAP_PIXEL = 0.5  # nm, of the phase field
_HKL = ((1, 0, 1), (1, 0, -1), (2, 0, 0), (2, 0, 1), (2, 0, -1))
_CONTRAST = 0.22  # of the strongest fringes
_ABSORPTION = 0.08


def particle():
    """A rounded rectangle, and its upper left quarter: two masks, (y, x)."""
    counts = [round(2 * half / _MAP_PIXEL) + 1 for half in _HALF]
    x, y = (np.arange(-n + 1, n, 2) / 2 * _MAP_PIXEL for n in counts)
    outline = (np.abs(x) / _HALF[0]) ** 4 + (np.abs(y[:, None]) / _HALF[1]) ** 4
    inside = outline < 1
    return inside, inside & (x < 0) & (y[:, None] < 0)


def composition():
    """x(r, t) of the particle: a `ConcentrationMap` of 0.5 nm pixels."""
    inside, corner = particle()
    first, rest = MODELS["kinetic_hump"].domains
    domain = simulation.Domain(
        corner,
        interaction=first.interaction,
        potential=first.potential,
        exchange_current=first.exchange_current,
    )
    return simulation.lithiation(
        18,
        "kinetic_hump",
        particle=inside,
        pixel=_MAP_PIXEL,
        domains=[domain, rest],
        x_start=X_START,
        x_end=X_END,
        frames=FRAMES,
    )


def drifts():
    """(x, y) in nm: a slow curve."""
    t = np.arange(FRAMES) / (FRAMES - 1)
    return np.stack([0.35 * np.sin(4.1 * t), -0.5 * t + 0.2 * np.sin(7.3 * t)], axis=-1)


def movie():
    """The movie, an `HRTEMMovie` that holds its truth."""
    signal = simulation.hrtem_movie(
        composition(),
        shape=SHAPE,
        pixel=PIXEL,
        dose=DOSE,
        hkl=_HKL,
        contrast=_CONTRAST,
        absorption=_ABSORPTION,
        lattice="vegard",
        rotation=ROTATION,
        drift=drifts(),
        seed=SEED,
    )
    signal.metadata.General.title = "lithiation movie"
    return signal


def main(filename):
    how = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
    movie().save(filename, overwrite=True, chunks=(1, *SHAPE), **how)


if __name__ == "__main__":
    main(sys.argv[1])
