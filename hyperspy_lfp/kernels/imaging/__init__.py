"""What a microscope records of a lattice: fringes, spots, detector."""
