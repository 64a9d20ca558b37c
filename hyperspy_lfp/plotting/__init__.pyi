from ._animation import movie
from ._diffraction import spot_profiles, transformation
from ._figures import evolution, montage, summary

__all__ = ["evolution", "montage", "movie", "spot_profiles", "summary", "transformation"]
