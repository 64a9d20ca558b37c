from ._diffraction import diffraction_series, diffraction_truth
from ._lithiation import lithiation_movie, lithiation_truth

__all__ = ["diffraction_series", "diffraction_truth", "lithiation_movie", "lithiation_truth"]
