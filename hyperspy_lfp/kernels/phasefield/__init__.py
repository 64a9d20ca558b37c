"""Phase field of a particle that takes up lithium: energy, kinetics, solver."""
