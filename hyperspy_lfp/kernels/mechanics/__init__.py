"""Elasticity of a coherent particle: strain from composition, and back."""
