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

COMPOSITION = """
x_reference : float or ConcentrationMap
    Composition of the reference lattice (of the given g vectors if there is no other
    reference). A map of it, one for all frames or one for each, sampled as this signal is, goes
    with a reference frame or a region.
method : {"gls", "a", "b", "c", "difference", "trace", "elastic"}
    ``"gls"`` uses both lengths; ``"a"``, ``"b"``, ``"c"`` that lattice parameter alone;
    ``"difference"`` the difference of the two, which a change of magnification leaves
    alone; ``"trace"`` their sum. ``"elastic"``: the composition whose coherent particle, free at
    its edge, has this lattice; for particles whose lattice is not free to follow x place by
    place. It takes the shape of the particle from the first frame (or the reference frame), the
    elastic constants from the material, and seconds a map.
nuisance : {"magnification", "ellipticity"}, optional
    A distortion of the image that is fitted in each frame together with x: a change of scale,
    equal in both directions, or opposite along the two lattice vectors. One number a frame, from
    the disagreement of the two lengths.
condition : {"plane stress", "generalised plane strain"}
    For ``method="elastic"``: a foil that is thinner than the particle is wide, or a thick one.
"""

CENTRE = """
centre : {"auto", "direct beam", "friedel"}, (kx, ky) or Signal1D
    How the centre of each pattern is found, see `refine_centre`; or where it is, in units of the
    axes, in all patterns or in each. ``"auto"`` of a power spectrum is zero frequency.
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
