"""Pieces of docstrings that several methods share."""

import textwrap

REFERENCE = """
reference : RectangularROI, CircleROI or PolygonROI, optional
    Region of known lattice, in the units of the signal axes. Its mean lattice is the
    reference.
reference_frame : int or slice, optional
    Frame or frames the reference is measured in. None: with a region, every frame by
    itself; without one, the given g vectors are the reference. A frame without a region:
    every pixel relative to itself in that frame.
"""

THRESHOLD = """
threshold : float
    Pixels whose fringe amplitude is below this part of the typical amplitude of their frame
    have no lattice, and are NaN; so are those within three times the noise, and those beyond
    the edge of the lattice, where the amplitude falls e-fold or more within a resolution.
"""

LAZY = """
show_progressbar : bool, optional
    Default: HyperSpy's preference.
num_workers : int, optional
    Number of dask workers; default: all.
lazy_output : bool, optional
    Whether the result is lazy; default: as the input.
"""


def fill(**pieces):
    """Put pieces into the docstring of a function at their ``{name}`` places."""

    def decorate(function):
        text = textwrap.dedent(" " * 8 + function.__doc__)
        for name, piece in pieces.items():
            text = text.replace("{" + name + "}", piece.strip())
        function.__doc__ = text.replace("{{", "{").replace("}}", "}")
        return function

    return decorate
