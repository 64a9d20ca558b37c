"""Which array module an array belongs to, and the way back to the host."""

import numpy as np


def get_array_module(array):
    """Return ``cupy`` for a CuPy array and ``numpy`` for everything else."""
    if type(array).__module__.partition(".")[0] == "cupy":
        import cupy

        return cupy
    return np


def get_ndimage(array):
    """Return ``cupyx.scipy.ndimage`` for a CuPy array and ``scipy.ndimage`` for everything else."""
    if get_array_module(array) is np:
        from scipy import ndimage
    else:
        from cupyx.scipy import ndimage
    return ndimage


def to_host(array):
    """A CuPy array as a NumPy array, by copying it; everything else as it is."""
    return array if get_array_module(array) is np else array.get()
