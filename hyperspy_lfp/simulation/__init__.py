"""From a phase field to what the microscope sees, with exact truth.

`lithiation` simulates how a particle fills with lithium; `hrtem_movie` and `diffraction_series`
make of its maps, or of any other maps of composition, what a microscope would record; `plan` tells
which error to expect before anything is measured.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
