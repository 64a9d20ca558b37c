from ._animation import movie
from ._diffraction import spot_profiles, transformation
from ._figures import evolution, montage, summary
from ._rates import rates

__all__ = ["evolution", "montage", "movie", "rates", "spot_profiles", "summary", "transformation"]
