from ._courses import domain_labels, voltage
from ._diffraction import diffraction_series
from ._hrtem import hrtem_movie
from ._lithiation import LithiationError, lithiation
from ._models import Domain
from ._plan import Plan, plan
from ._truth import Truth, truth

__all__ = [
    "Domain",
    "LithiationError",
    "Plan",
    "Truth",
    "diffraction_series",
    "domain_labels",
    "hrtem_movie",
    "lithiation",
    "plan",
    "truth",
    "voltage",
]
