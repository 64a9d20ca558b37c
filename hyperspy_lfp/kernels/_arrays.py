"""Which array module an array belongs to."""

import numpy as np


def get_array_module(array):
    """Return ``cupy`` for a CuPy array and ``numpy`` for everything else."""
    if type(array).__module__.partition(".")[0] == "cupy":
        import cupy

        return cupy
    return np
