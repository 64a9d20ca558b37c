"""Elasticity of coherent particles: settings for the kernels, and the response to a composition."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from hyperspy_lfp.kernels._arrays import get_array_module, to_host
from hyperspy_lfp.kernels.gpa.lattice import lattice_mask
from hyperspy_lfp.kernels.mechanics import coherency, elasticity
from hyperspy_lfp.signals import _frames
from hyperspy_lfp.signals._base import map_axes
from hyperspy_lfp.signals._regions import describe_region, region_mask
from hyperspy_lfp.signals._units import to_length

#: Distance between the edge of a crystal and where its maps end, in resolutions: there the noise
#: of a window that is cut has grown sixfold.
_LOST = 0.5
#: Part of a particle's pixels that may differ between a frame and the one the elasticity was
#: prepared for.
_MOVED = 0.1
#: Part of the frames in which a pixel of the particle has a lattice.
_PRESENT = 0.5


class ElasticSettings(NamedTuple):
    """What the kernels need to know besides the shape of the particle."""

    constants: tuple  # nine, GPa, axes in the order first in-plane, beam, second in-plane
    eigenstrain: tuple  # along these, per unit composition, relative to the reference
    directions: np.ndarray  # (2, 2): of the in-plane axes in the image, (x, y)
    condition: str
    spacing: tuple  # (y, x)
    sigma: float
    x_reference: float
    region: np.ndarray | None  # (y, x): whose mean strain in each frame the strains refer to


def settings(material, zone, directions, condition, spacing, sigma, x_reference, region=None):
    """`ElasticSettings` of a crystal whose beam is along an axis of the cell.

    The mean of the stiffness at both ends of the composition is taken: the two differ by a
    quarter, and the inverse stands a tenth.
    """
    if condition not in elasticity.CONDITIONS:
        raise ValueError(
            f"condition={condition!r} is not known; use one of {elasticity.CONDITIONS}."
        )
    in_plane = [i for i in range(3) if zone[i] == 0]
    if len(in_plane) != 2:
        raise ValueError(
            f"zone={tuple(zone)} is not along an axis of the cell, and only for these the "
            "elasticity of a foil is known here; use another method."
        )
    ends = material.composition[0], material.composition[-1]
    stiffness = (material.stiffness(ends[0]) + material.stiffness(ends[1])) / 2
    first, second = in_plane
    axes = (first, 3 - first - second, second)
    shear = {(1, 2): 3, (0, 2): 4, (0, 1): 5}
    pairs = [tuple(sorted(axes[i] for i in pair)) for pair in ((1, 2), (0, 2), (0, 1))]
    constants = [stiffness[i, i] for i in axes]
    constants += [stiffness[shear[pair], shear[pair]] for pair in pairs]
    constants += [stiffness[axes[i], axes[j]] for i, j in ((0, 1), (0, 2), (1, 2))]
    cell = material.cell(x_reference)
    change = (material.cell(ends[1]) - material.cell(ends[0])) / (ends[1] - ends[0]) / cell
    return ElasticSettings(
        tuple(float(c) for c in constants),
        tuple(float(change[i]) for i in axes),
        np.asarray(directions, dtype=float),
        condition,
        tuple(float(s) for s in spacing),
        float(sigma),
        float(x_reference),
        region,
    )


def plan_of(mask, how):
    """The elasticity of a particle, ready for its inverse and its response."""
    medium = elasticity.orthotropic_medium(
        how.constants, how.eigenstrain, how.directions[0], how.condition
    )
    return coherency.plan_coherency(
        mask,
        how.spacing,
        medium,
        how.sigma,
        how.directions,
        reference=how.region,
        x_reference=how.x_reference,
    )


def plan_of_frame(frame, how, threshold=None):
    """The same for the crystal of one frame: coefficients, or maps that are NaN outside of it.

    Without its factorised stiffness, which the inverse does not need, and which cannot travel.
    """
    frame = frame.reshape(frame.shape[-4:] if threshold is not None else frame.shape[-3:])
    if threshold is None:
        valid = np.isfinite(to_host(frame)).all(axis=0)
    else:
        valid = to_host(lattice_mask(frame, how.sigma, threshold).all(axis=0))
    plan = plan_of(particle(valid, how), how)
    return plan._replace(mesh=plan.mesh._replace(factor=None))


def particle(valid, how):
    """The crystal behind the pixels of it that are mapped: without holes, out to its edge."""
    if not valid.any():
        raise ValueError("no pixel of the frame has a lattice, so that the particle has no shape")
    distance = ndimage.distance_transform_edt(~valid, sampling=how.spacing)
    return ndimage.binary_fill_holes(distance <= _LOST * how.sigma)


def invert(stretch, noise, plan, how):
    """Composition of frames from their two lengths, with elasticity.

    Parameters
    ----------
    stretch, noise : array of shape (2, n, y, x)
        Lengths relative to the lattice at the reference composition, and their variances.
    plan : hyperspy_lfp.kernels.mechanics.coherency.CoherencyPlan
        Of the first frame; a frame whose particle is elsewhere gets its own.
    how : ElasticSettings

    Returns
    -------
    x, variance, systematic, misfit : array of shape (n, y, x)
        The variance is that of the noise alone.
    """
    xp = get_array_module(stretch)
    strain = np.moveaxis(to_host(stretch) - 1, 1, 0)
    noise = np.moveaxis(to_host(noise), 1, 0)
    out = np.full((4, len(strain), *strain.shape[-2:]), np.nan, dtype=np.float32)
    for i, (m, v) in enumerate(zip(strain, noise, strict=True)):
        valid = np.isfinite(m).all(axis=0)
        if not valid.any():
            continue
        shape = particle(valid, how)
        own = plan
        if (shape ^ plan.mask).sum() > _MOVED * (shape | plan.mask).sum():
            own = plan_of(shape, how)
        found = coherency.invert(m, v, own)
        out[0, i], out[1, i] = found.x, found.noise_variance
        out[2, i] = np.maximum(found.variance - found.noise_variance, 0)
        out[3, i] = found.misfit
        out[:, i, ~valid] = np.nan
    return tuple(xp.asarray(out))


class CoherencyMixin:
    """What elasticity makes of maps of composition."""

    def coherency_response(
        self,
        mask=None,
        *,
        method="gls",
        a_direction=None,
        condition="plane stress",
        resolution=None,
    ):
        """What would be read, place by place, from the lattice of a coherent particle with this x.

        A coherent lattice does not expand freely where its neighbourhood does not: a wave of x
        along c leaves next to no trace in the lattice parameter a. The particle of `mask`, free at
        its edge, is brought to elastic equilibrium with the lithium of each map, and what the
        two lengths then say is turned back to x by Vegard's law. What differs from the map is
        what ``method="elastic"`` undoes.

        Parameters
        ----------
        mask : ROI, signal or array, optional
            The particle, in the units of the signal axes or with the shape of a map. Default: the
            pixels that have a lattice in half of the frames, out to the edge of the crystal.
        method : {"gls", "a", "c"}
            Lengths that x is read from.
        a_direction : tuple of float, optional
            (x, y) direction in the image of the first in-plane axis of the cell. Default: that of
            the reflections the maps were made from.
        condition : {"plane stress", "generalised plane strain"}
            Along the beam: a foil thinner than the particle is wide, or a thick one.
        resolution : float or str, optional
            Standard deviation of the window that reads the lattice. Default: that of the maps.

        Returns
        -------
        ConcentrationMap
            ``(time | x, y)``, NaN outside of the particle. Computed at once.

        Raises
        ------
        ValueError
            If the material has no elastic constants, or the orientation of the crystal or the
            resolution is not known.

        Examples
        --------
        >>> from hyperspy_lfp import data
        >>> s = data.lithiation_movie().inav[:2]
        >>> x = s.to_concentration(*s.find_g_vectors(n=2), reference_frame=0)
        >>> x.coherency_response()
        <ConcentrationMap, title: coherency response of lithiation movie, dimensions: (2|56, 50)>
        """
        weights = {"gls": (1.0, 1.0), "a": (1.0, 0.0), "c": (0.0, 1.0)}
        if method not in weights:
            raise ValueError(f"method={method!r} is not known; use one of {tuple(weights)}.")
        how = self._elastic_settings(a_direction, condition, resolution)
        values = self._computed()
        plan = plan_of(self._particle(mask, values, how), how)
        data = coherency.apparent_composition(values, plan, weights[method]).astype(np.float32)
        axes = [*self._navigation_axes(), *map_axes(self)]
        signal = self._build(type(self), data, axes, title="coherency response")
        signal._record(
            "CoherencyResponse",
            method=method,
            condition=condition,
            a_direction=how.directions[0],
            mask=describe_region(mask)
            if _is_roi(mask)
            else "given"
            if mask is not None
            else "auto",
        )
        return signal.as_lazy() if self._lazy else signal

    def _elastic_crosstalk(self, masks, condition="plane stress"):
        """What x elsewhere adds to the apparent mean of regions: (..., region) for (..., y, x)."""
        how = self._elastic_settings(None, condition, None)
        values = self._computed()
        plan = plan_of(self._particle(None, values, how), how)
        weights = {"a": (1.0, 0.0), "c": (0.0, 1.0)}.get(
            self._parameters("ConcentrationMap")["method"], (1.0, 1.0)
        )
        frames = values.reshape(-1, *values.shape[-2:])
        fake = [
            coherency.elastic_fake(frames, mask[None], plan, weights)[0]
            if (mask & plan.mask).any()
            else np.full(len(frames), np.nan)
            for mask in masks
        ]
        return np.moveaxis(np.array(fake).reshape(len(masks), *values.shape[:-2]), 0, -1)

    def _elastic_settings(self, a_direction, condition, resolution):
        done = self._parameters("ConcentrationMap")
        directions = done.get("lattice_directions")
        if a_direction is not None:
            a = np.asarray(a_direction, dtype=float)
            directions = np.array([a, (-a[1], a[0])]) / np.hypot(*a)
        if directions is None:
            raise ValueError(
                "a_direction is missing: these maps do not know how the crystal lies; give the "
                "(x, y) direction of its a axis, for example a_direction=(1, 0)."
            )
        units = done["resolution_units"]
        sigma = (
            self.resolution if resolution is None else to_length(resolution, units, "resolution")
        )
        if not sigma > 0:
            raise ValueError(
                "resolution is missing: these maps are exact; give the one the lattice is read "
                "with, for example resolution='1 nm'."
            )
        spacing = [abs(axis.scale) for axis in reversed(self.axes_manager.signal_axes)]
        x_reference = done.get("x_reference", self.material.composition[0])
        zone = done.get("zone") or self.material.zone
        return settings(self.material, zone, directions, condition, spacing, sigma, x_reference)

    def _computed(self):
        data = self.data
        if hasattr(data, "dask"):
            (data,) = _frames.compute_arrays([data])
        return to_host(data)

    def _particle(self, mask, values, how):
        shape = values.shape[-2:]
        if mask is None:
            frames = np.isfinite(values.reshape(-1, *shape))
            present = frames.mean(axis=0) >= _PRESENT
            if self.resolution == 0:
                return present
            return particle(present, how)
        if _is_roi(mask):
            return region_mask(mask, self.axes_manager.signal_axes, "mask")
        mask = np.asarray(to_host(mask.data if hasattr(mask, "axes_manager") else mask))
        if mask.shape != shape or mask.dtype != bool:
            raise ValueError(
                f"mask has the shape {mask.shape} and type {mask.dtype}; it must be a ROI, or "
                f"booleans with the shape {shape} of a map."
            )
        return mask


def _is_roi(mask):
    return type(mask).__name__.endswith("ROI")
