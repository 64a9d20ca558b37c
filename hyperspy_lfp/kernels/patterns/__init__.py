"""Diffraction patterns: centre, spots, distortion, profiles."""
