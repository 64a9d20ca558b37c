"""Figures of composition maps, made to be printed.

Every function returns a `matplotlib.figure.Figure` of its own, which pyplot knows nothing of:
show it at the end of a Jupyter cell, or write it with ``figure.savefig("name.png", dpi=300)``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
