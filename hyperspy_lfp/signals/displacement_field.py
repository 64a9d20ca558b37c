"""Displacement of the lattice."""

from hyperspy.signals import Signal2D

from hyperspy_lfp.signals._base import LatticeSignal
from hyperspy_lfp.signals._components import component


class DisplacementField(LatticeSignal, Signal2D):
    """Displacement of a lattice relative to a reference lattice, ``(component, time | x, y)``.

    Made by `GeometricPhase.displacement`. The components are u_x (to the right) and u_y
    (downwards, as HyperSpy draws), in the units of the signal axes, at the place in the image
    where the lattice now is. Pixels that are not connected to the reference are NaN.
    """

    _signal_type = "DisplacementField"
    _alias_signal_types = ["displacement_field"]
    _own_axes = ("component",)

    COMPONENTS = ("ux", "uy")

    @property
    def ux(self):
        """Displacement to the right, in the units of the signal axes."""
        return component(self, "ux")

    @property
    def uy(self):
        """Displacement downwards, in the units of the signal axes."""
        return component(self, "uy")
