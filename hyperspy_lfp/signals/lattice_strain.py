"""Strain and rotation of a lattice."""

import numpy as np
from hyperspy.signals import Signal2D

from hyperspy_lfp import materials
from hyperspy_lfp.kernels.gpa import lattice
from hyperspy_lfp.kernels.gpa.indexing import zone_of
from hyperspy_lfp.signals import _coherency, _composition, _composition_blocks, _frames
from hyperspy_lfp.signals._base import (
    COVARIANCE,
    VARIANCE,
    LatticeSignal,
    layer_of,
    map_axes,
    stacked_axis,
)
from hyperspy_lfp.signals._components import component, component_axis
from hyperspy_lfp.signals._docs import COMPOSITION, LAZY, fill
from hyperspy_lfp.signals._reference import reference_composition
from hyperspy_lfp.signals._regions import region_mask, region_of
from hyperspy_lfp.signals._units import to_number

DEFINITIONS = ("lattice", "eulerian", "finite")
_STEP = "LatticeStrain"
_CORE = 3  # (component, y, x)


class LatticeStrain(LatticeSignal, Signal2D):
    """Strain and rotation of a lattice, ``(component, time | x, y)``.

    Made by `GeometricPhase.strain`. The components are exx, eyy, exy (tensor shear) and rotation
    (radians, positive counter-clockwise as displayed) along the axes x', y' given by ``angle``;
    at angle 0 x points right and y down, as HyperSpy draws. Their variance is kept where
    HyperSpy keeps it (`get_noise_variance`).
    """

    _signal_type = "LatticeStrain"
    _alias_signal_types = ["lattice_strain"]
    _own_axes = ("component",)

    COMPONENTS = ("exx", "eyy", "exy", "rotation")

    @property
    def exx(self):
        """Normal strain along x'."""
        return component(self, "exx")

    @property
    def eyy(self):
        """Normal strain along y'."""
        return component(self, "eyy")

    @property
    def exy(self):
        """Tensor shear strain, (du_x/dy + du_y/dx) / 2."""
        return component(self, "exy")

    @property
    def rotation(self):
        """Rotation in radians, positive counter-clockwise as displayed."""
        return component(self, "rotation")

    @property
    def angle(self):
        """Angle of the x' axis in degrees, counter-clockwise as displayed."""
        return float(self._parameters(_STEP)["angle"])

    @property
    def definition(self):
        """Definition of the strain: "lattice", "eulerian" or "finite"."""
        return self._parameters(_STEP)["definition"]

    @fill(lazy=LAZY)
    def rotate(self, angle, *, show_progressbar=None, num_workers=None, lazy_output=None):
        """Components along axes turned by an angle, in addition to the present ones.

        Parameters
        ----------
        angle : float
            In degrees, counter-clockwise as displayed.
        {lazy}

        Returns
        -------
        LatticeStrain

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie().inav[0]
        >>> strain = s.gpa(*s.find_g_vectors(n=2)).strain()
        >>> strain.rotate(90).angle
        90.0
        """
        component_axis(self)
        angle = to_number(angle, "angle", example="12.0 (degrees)")
        signal = self._build(
            type(self),
            self._rotated(_frames.as_frames(self, _CORE), angle),
            self._all_axes(),
            layers=self._rotated_noise(angle),
        )
        signal._record(_STEP, angle=self.angle + angle)
        return self._finish(signal, lazy_output, show_progressbar, num_workers)

    @fill(composition=COMPOSITION, lazy=LAZY)
    def to_concentration(
        self,
        material="LiFePO4",
        a_direction=None,
        x_reference=0.0,
        method="gls",
        *,
        nuisance=None,
        condition="plane stress",
        zone=None,
        show_progressbar=None,
        num_workers=None,
        lazy_output=None,
    ):
        """Composition from the strain along two axes of the crystal.

        `GeometricPhase.to_concentration` needs no directions, since it has the reflections, and
        sees what is wrong with their phases;
        here the direction of one axis must be given. The lengths used are exact for all three
        definitions of the strain.

        Parameters
        ----------
        material : str or Material
            See `hyperspy_lfp.materials`.
        a_direction : tuple of float
            (x, y) direction in the image of the crystal's first in-plane axis: a, or b for the
            zone (1, 0, 0). The other one is across it.
        {composition}
        zone : tuple of int, optional
            Beam direction (u, v, w), along an axis of the cell. Default: that of the
            reflections, or of the material.
        {lazy}

        Returns
        -------
        ConcentrationMap

        Raises
        ------
        ValueError
            If the direction is missing or the zone is not along an axis of the cell.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie().inav[0]
        >>> strain = s.gpa(*s.find_g_vectors(n=2)).strain()
        >>> strain.to_concentration("LiFePO4", a_direction=(1, 0))
        <ConcentrationMap, title: Li concentration of lithiation movie, dimensions: (|56, 50)>
        """
        material = materials.get(material)
        zone = self._zone(material, zone)
        reference = self._parameters(_STEP)["reference"]
        roi = reference["region"]
        roi = None if roi is None else region_of(roi)
        x_mean, base = reference_composition(self, _CORE, x_reference, roi, reference["frame"])
        plan = _composition.plan_for_axes(
            material,
            zone,
            x_mean,
            method,
            nuisance,
            absolute=reference == {"region": None, "frame": None},
        )
        direction = _unit_vector(a_direction)
        data, variance, covariance = self._with_noise()
        others = [] if base is None else [_composition.reference_lengths(plan, base)]
        scales = [abs(axis.scale) for axis in reversed(self.axes_manager.signal_axes)]
        sigma = self._parameters("GeometricPhase")["resolution"]
        directions = np.array([direction, (-direction[1], direction[0])])
        elastic = {}
        if method == "elastic":
            elastic["how"] = _coherency.settings(
                material,
                zone,
                directions,
                condition,
                scales,
                sigma,
                plan.x_reference,
                region_mask(roi, self.axes_manager.signal_axes)
                if roi is not None and reference["frame"] is None
                else None,
            )
            elastic["elastic"] = _frames.delayed_plan(
                _coherency.plan_of_frame, _frames.one_frame(data, _CORE), elastic["how"]
            )
        maps = _frames.map_frames(
            _composition_blocks.strain_block,
            data,
            variance,
            covariance,
            *others,
            core=_CORE,
            out_shape=(
                1 + len(_composition.MAPS),
                *self.axes_manager._signal_shape_in_array,
            ),
            dtype=np.float32,
            plan=plan,
            definition=self.definition,
            angle=np.deg2rad(self.angle),
            direction=direction,
            width=tuple(sigma / s for s in scales),
            has_base=base is not None,
            **elastic,
        )
        axes = [*self._navigation_axes("component"), *map_axes(self)]
        hkl = self.metadata.get_item("HyperspyLFP.GeometricPhase.hkl", default=None)
        signal = _composition.build(
            self, maps, axes, material, hkl, zone, plan, directions, method, nuisance, condition
        )
        if not self._has_noise:  # that of x is not known either
            del signal.metadata.Signal.Noise_properties
        signal._record("ConcentrationMap", a_direction=list(direction), reference=reference)
        return self._finish(signal, lazy_output, show_progressbar, num_workers)

    def _zone(self, material, zone):
        if zone is None:
            hkl = self.metadata.get_item("HyperspyLFP.GeometricPhase.hkl", default=None)
            zone = material.zone if hkl is None else zone_of(hkl)
        zone = materials.check_zone(zone)
        if len(_composition.in_plane_axes(zone)) != 2:
            raise ValueError(
                f"zone={zone} is not along an axis of the cell, so that a direction in the image "
                "is not enough; use GeometricPhase.to_concentration with hkl."
            )
        return zone

    def _with_noise(self):
        """Data, variance and covariance; a variance of NaN where none is known."""
        component_axis(self)
        data = _frames.as_frames(self, _CORE)
        noise = []
        for item in (VARIANCE, COVARIANCE):
            signal = layer_of(self, item)
            noise.append(_frames.as_frames(signal, _CORE) if hasattr(signal, "data") else None)
        if noise[0] is None:
            unknown = np.full((4, 1, 1), np.nan, dtype=np.float32)
            noise[0] = unknown.reshape((1,) * (data.ndim - _CORE) + unknown.shape)
        if noise[1] is None:
            noise[1] = np.zeros_like(noise[0])
        return data, *noise

    @property
    def _has_noise(self):
        return all(hasattr(layer_of(self, item), "data") for item in (VARIANCE, COVARIANCE))

    def _all_axes(self):
        return [*self._navigation_axes("component"), stacked_axis("component", 4), *map_axes(self)]

    def _rotated(self, data, angle):
        return _frames.map_frames(
            _rotate_block,
            data,
            core=_CORE,
            out_shape=data.shape[-3:],
            dtype=np.float32,
            angle=np.deg2rad(angle),
        )

    def _rotated_noise(self, angle):
        if not self._has_noise:
            return {}
        _, variance, covariance = self._with_noise()
        both = _frames.map_frames(
            _rotate_noise_block,
            variance,
            covariance,
            core=_CORE,
            out_shape=(8, *variance.shape[-2:]),
            dtype=np.float32,
            angle=np.deg2rad(angle),
        )
        return {VARIANCE: both[..., :4, :, :], COVARIANCE: both[..., 4:, :, :]}


def _unit_vector(direction):
    example = "for example a_direction=(1, 0) if a points to the right"
    if direction is None:
        raise ValueError(
            "a_direction is missing: give the (x, y) direction of the crystal's a axis in the "
            f"image, {example}."
        )
    try:
        vector = np.asarray(direction, dtype=float)
    except (TypeError, ValueError):
        vector = np.empty(0)
    if vector.shape != (2,) or not np.isfinite(vector).all() or not vector.any():
        raise ValueError(f"a_direction={direction!r} must be two numbers (x, y), {example}.")
    return tuple(float(v) for v in vector / np.hypot(*vector))


def _rotate_block(block, angle):
    return np.moveaxis(lattice.rotate_strain(np.moveaxis(block, 1, 0), angle), 0, 1)


def _rotate_noise_block(variance, covariance, angle):
    turned = lattice.rotate_strain_noise(
        np.moveaxis(variance, 1, 0), np.moveaxis(covariance, 1, 0), angle
    )
    return np.moveaxis(np.concatenate(turned), 0, 1)
