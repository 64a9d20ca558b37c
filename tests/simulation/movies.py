"""Maps made by hand, for the tests of movies."""

import numpy as np

from hyperspy_lfp.signals import ConcentrationMap


def make_source(x, spacing=(1.0, 1.0), time=5.0, units="nm"):
    """A map, or several along time, without anything else."""
    x = np.asarray(x, dtype=float)
    axes = [
        {"name": n, "size": size, "scale": d, "units": units, "navigate": False}
        for n, size, d in zip("yx", x.shape[-2:], spacing, strict=True)
    ]
    if x.ndim == 3:
        first = {"name": "time", "size": len(x), "scale": time, "units": "s", "navigate": True}
        axes.insert(0, first)
    return ConcentrationMap(x, axes=axes)


def centres(n, spacing=1.0):
    """Places of the pixels of a map, from its middle."""
    return (np.arange(n) - (n - 1) / 2) * spacing
