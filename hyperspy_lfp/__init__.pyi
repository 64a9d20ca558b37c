from . import data, materials, plotting, signals

__version__: str

__all__ = ["data", "materials", "plotting", "signals"]
