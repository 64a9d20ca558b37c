from ._animation import movie
from ._figures import evolution, montage, summary

__all__ = ["evolution", "montage", "movie", "summary"]
