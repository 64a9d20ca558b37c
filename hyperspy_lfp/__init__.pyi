from . import data, materials, plotting, signals, simulation
from .signals._together import compute, save

__version__: str

__all__ = ["compute", "data", "materials", "plotting", "save", "signals", "simulation"]
