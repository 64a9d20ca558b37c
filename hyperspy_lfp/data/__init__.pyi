from ._lithiation import lithiation_movie, lithiation_truth

__all__ = ["lithiation_movie", "lithiation_truth"]
