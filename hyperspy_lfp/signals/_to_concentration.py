"""From geometric phases to maps of composition."""

import numpy as np

from hyperspy_lfp import materials
from hyperspy_lfp.kernels.gpa.consistency import closure_relations
from hyperspy_lfp.kernels.gpa.indexing import zone_of
from hyperspy_lfp.signals import _coherency, _composition, _composition_blocks, _frames
from hyperspy_lfp.signals._base import map_axes
from hyperspy_lfp.signals._docs import COMPOSITION, LAZY, REFERENCE, THRESHOLD, fill
from hyperspy_lfp.signals._indexing import miller_indices
from hyperspy_lfp.signals._reference import (
    CORE,
    first_frame,
    reference_composition,
    reference_gradient,
)
from hyperspy_lfp.signals._regions import region_mask
from hyperspy_lfp.signals._units import in_nanometre, to_number


class PhaseToConcentration:
    """The step from `GeometricPhase` to `ConcentrationMap`."""

    @fill(reference=REFERENCE, composition=COMPOSITION, threshold=THRESHOLD, lazy=LAZY)
    def to_concentration(
        self,
        material="LiFePO4",
        reference=None,
        reference_frame=None,
        x_reference=0.0,
        method="gls",
        *,
        nuisance=None,
        condition="plane stress",
        hkl=None,
        zone=None,
        threshold=0.2,
        show_progressbar=None,
        num_workers=None,
        lazy_output=None,
    ):
        r"""Composition from the lengths of lattice vectors, with its errors and flags.

        The lengths of the two lattice vectors in the image plane, relative to the reference
        lattice, are exact for any strain and do not change when the particle rotates. Their
        composition dependence in the material gives x by generalised least squares, weighted
        with the noise of each.

        Parameters
        ----------
        material : str or Material
            See `hyperspy_lfp.materials`.
        {reference}
            ``reference="cell"``: the cell of the material at `x_reference`, an absolute measurement
            that is as good as the pixel size.
        {composition}
        hkl : sequence of (h, k, l), optional
            Miller indices of the g vectors, in their order. Default: those given to `gpa`, or
            found from the lengths and angles in the material.
        zone : tuple of int, optional
            Beam direction (u, v, w) used for indexing; default: that of the material.
        {threshold}
        {lazy}

        Returns
        -------
        ConcentrationMap
            ``(time | x, y)``: x, not clipped to the range of the material. Its variance
            (`get_noise_variance`) is that of the measured noise and of the local systematic
            errors; `ConcentrationMap.flags` names the pixels that should not be believed. Pixels
            without lattice are NaN.

        Warns
        -----
        UserWarning
            When computed, if the lattice is that of no composition: the pixel size is wrong.

        Raises
        ------
        ValueError
            If material, hkl or method do not fit together or to the g vectors, the region holds
            no pixel, or the reference frame does not exist.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie()
        >>> phase = s.gpa(*s.find_g_vectors(n=2), show_progressbar=False)
        >>> phase.to_concentration("LiFePO4", reference_frame=0, show_progressbar=False)
        <ConcentrationMap, title: Li concentration of lithiation movie, dimensions: (12|56, 51)>
        """
        threshold = to_number(threshold, "threshold", low=0)
        material = materials.get(material)
        hkl = miller_indices(self, material, hkl, zone)
        cell = _is_cell(reference, reference_frame)
        ref, described = reference_gradient(self, None if cell else reference, reference_frame)
        x_mean, base = reference_composition(self, CORE, x_reference, reference, described["frame"])
        units = self._parameters("GeometricPhase")["resolution_units"]
        plan = _composition.plan(
            material,
            hkl,
            self.g_vectors / in_nanometre(units),
            x_mean,
            method,
            nuisance,
            cell=cell,
            absolute=reference_frame is None and (reference is None or cell),
        )
        directions = _composition.directions(plan, self.g_vectors[None])[..., 0, 0, 0]
        first = first_frame(self, described)
        others = [] if first is None else [first]
        if base is not None:
            others.append(_composition.reference_lengths(plan, base))
        y, x = (a.axis for a in reversed(self.axes_manager.signal_axes))
        elastic = {}
        if method == "elastic":
            how = _coherency.settings(
                material,
                zone_of(hkl),
                directions,
                condition,
                [abs(a.scale) for a in reversed(self.axes_manager.signal_axes)],
                self.resolution,
                plan.x_reference,
                _elastic_region(self, reference, reference_frame),
            )
            frame = _frames.one_frame(first if first is not None else self.data, CORE)
            elastic["how"] = how
            elastic["elastic"] = _frames.delayed_plan(
                _coherency.plan_of_frame, frame, how, threshold
            )
        maps = _frames.map_frames(
            _composition_blocks.phase_block,
            _frames.as_frames(self, CORE),
            ref,
            *others,
            core=CORE,
            out_shape=(1 + len(_composition.MAPS), len(y), len(x)),
            dtype=np.float32,
            g=self.g_vectors,
            sigma=self.resolution,
            positions=(y, x),
            threshold=threshold,
            plan=plan,
            relations=closure_relations(hkl),
            has_first=first is not None,
            has_base=base is not None,
            **elastic,
        )
        axes = [*self._navigation_axes("g", "coefficient"), *map_axes(self)]
        how_measured = {"method": method, "nuisance": nuisance, "condition": condition}
        signal = _composition.build(
            self, maps, axes, material, hkl, zone_of(hkl), plan, directions, **how_measured
        )
        described["region"] = "cell" if cell else described["region"]
        signal._record("ConcentrationMap", threshold=threshold, reference=described)
        return self._finish(signal, lazy_output, show_progressbar, num_workers)


def _elastic_region(phase, reference, reference_frame):
    """The region whose mean strain each frame is relative to, or None.

    A reference frame is one in which the particle is uniform, and its lattice free of stress.
    """
    if reference is None or isinstance(reference, str) or reference_frame is not None:
        return None
    return region_mask(reference, phase.axes_manager.signal_axes)


def _is_cell(reference, reference_frame):
    """Whether the reference is the material's cell."""
    if not isinstance(reference, str):
        return False
    if reference != "cell":
        raise ValueError(
            f"reference={reference!r} must be a region of known lattice, 'cell' for the cell of "
            "the material, or None for the given g vectors."
        )
    if reference_frame is not None:
        raise ValueError(
            f"reference_frame={reference_frame!r} is given, but the cell of the material is the "
            "same in every frame: leave one of reference='cell' and reference_frame out."
        )
    return True
