"""Geometric phase analysis: lattice images to phases, gradients, displacements and defects."""
