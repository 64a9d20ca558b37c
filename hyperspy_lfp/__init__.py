"""Lithium maps from high-resolution TEM movies by geometric phase analysis, in HyperSpy.

Submodules are imported when they are first used:

``signals``
    The signal classes, which HyperSpy also finds by their ``signal_type``.
``materials``
    Lattice parameters against composition.
``data``
    The built-in example.
``plotting``
    Figures of concentration maps.
``simulation``
    Phase field, movies and diffraction series with exact truth.

Two functions, `compute` and `save`, take several lazy signals in one pass over the movie.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
