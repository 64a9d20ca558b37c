"""What a simulated movie shows, exactly, at the points of its image."""

import dask.array as da
import numpy as np
from hyperspy.signals import Signal1D, Signal2D

from hyperspy_lfp import materials
from hyperspy_lfp.kernels.imaging import edges, placement
from hyperspy_lfp.kernels.imaging.fringes import Lattice
from hyperspy_lfp.signals import ConcentrationMap, DisplacementField, LatticeStrain, _frames
from hyperspy_lfp.signals._base import LatticeSignal, _axis_dictionary
from hyperspy_lfp.signals._units import in_nanometre, pixels_of, to_length
from hyperspy_lfp.simulation import _reflections
from hyperspy_lfp.simulation._lattice import axes_in_map, fields
from hyperspy_lfp.simulation._scene import coarse_of
from hyperspy_lfp.simulation._source import read_source
from hyperspy_lfp.simulation._truth_maps import View, check_inside, truth_block

_STEP = "Simulation"
#: Times of frames are the same if they differ by less than this part of the shortest interval.
_SAME_TIME = 1e-3


def truth(signal, *, step=None, frame=None):
    """What a simulated movie shows.

    Parameters
    ----------
    signal : HRTEMMovie or what was made of it
        A movie of `hrtem_movie`, a part of one (``inav``, ``isig``), saved and opened again, or
        maps that were made of it, which get the truth at their own pixels. Frames are told by
        their times, points by their places.
    step : float or str, optional
        Distance of the points in nm. Default: the pixels of the signal.
    frame : int, optional
        Which frame of the source a single frame shows that has lost its time.

    Returns
    -------
    Truth

    Raises
    ------
    ValueError
        If the signal was not simulated, its frames or its time axis are not those of the
        simulation any more, or the drift of the movie has been corrected.

    Examples
    --------
    >>> from hyperspy_lfp.signals import ConcentrationMap
    >>> from hyperspy_lfp import simulation
    >>> axes = [{"name": n, "size": 12, "units": "nm", "navigate": False} for n in "yx"]
    >>> source = ConcentrationMap(np.full((12, 12), 0.5), axes=axes)
    >>> movie = simulation.hrtem_movie(source, material="LiFePO4", dose=400)
    >>> exact = simulation.truth(movie, step=0.5)
    >>> exact.x
    <ConcentrationMap, title: true Li concentration of simulated HRTEM movie, dimensions: (|34, 34)>
    >>> round(float(np.nanmean(exact.strain.exx.data)), 4)
    0.026
    """
    return Truth(signal, step=step, frame=frame)


class Truth:
    """What a simulated movie shows, at points r of its image; made by `truth`.

    Everything refers to the point r of the image, not to that of the undeformed particle, and is
    NaN outside the particle. With R(r) the point of the undeformed particle that is seen at r,
    and T the rotation of the reference lattice:

    - the reference lattice is the undeformed one (x = 0), turned as in the first frame of the
      simulation (`g_vectors`), through the middle of the frame;
    - x(R(r)) is the composition;
    - u(r) = r - middle - T R(r) is the displacement, as `GeometricPhase.displacement` defines
      it: with drift and rotation, but up to a constant, the lattice vector that phases cannot tell;
    - 1 - e = T dR/dr, and H = (1 - e)^-1 - 1 gives the strain and the rotation, as
      `GeometricPhase.strain` defines them for given g vectors (``definition="lattice"``).

    They are read from the very spline that was drawn, so that there is no error of interpolation.
    """

    def __init__(self, signal, *, step=None, frame=None, resolution=None):
        parameters = _parameters_of(signal)
        self._signal, self._parameters = signal, parameters
        self._step, self._frame = step, frame
        #: Standard deviation in nm of the window the maps are means under; None without one.
        self.resolution = None if resolution is None else to_length(resolution, "nm", "resolution")
        #: The composition that was simulated, on the undeformed particle.
        self.source = parameters["source"]
        self._material = materials.Material.from_dictionary(parameters["material"])
        self._chosen = _chosen_frames(signal, self.source, frame)
        self._axes = _map_axes(signal, step)
        self._fields = None

    def __repr__(self):
        size = " x ".join(str(a["size"]) for a in reversed(self._axes))
        under = "" if self.resolution is None else f", resolution {self.resolution:g} nm"
        title = self._signal.metadata.get_item("General.title", default="")
        return f"<Truth of {title}: {len(self._chosen)} frames of {size} points{under}>"

    @property
    def x(self):
        """Composition, a `ConcentrationMap`."""
        species = self._material.species
        signal = self._map(ConcentrationMap, "x", (), f"{species} concentration", f"x ({species})")
        signal._record(
            "ConcentrationMap",
            material=self._material.to_dictionary(),
            method="truth",
            resolution=self.resolution or 0.0,
            resolution_units="nm",
        )
        return signal

    @property
    def displacement(self):
        """Displacement in nm, a `DisplacementField`."""
        signal = self._map(DisplacementField, "displacement", (2,), "displacement", "u (nm)")
        signal._record(
            "DisplacementField",
            units="nm",
            threshold=0.0,
            reference={"region": None, "frame": None},
        )
        return signal

    @property
    def strain(self):
        """Strain and rotation, a `LatticeStrain` in the definition "lattice"."""
        signal = self._map(LatticeStrain, "strain", (4,), "strain", "strain")
        signal._record(
            "LatticeStrain",
            definition="lattice",
            angle=0.0,
            angle_units="degree",
            threshold=0.0,
            reference={"region": None, "frame": None},
        )
        return signal

    @property
    def mask(self):
        """Where the particle is, a signal of booleans."""
        signal = self._map(Signal2D, "mask", (), "particle", "particle")
        signal.metadata.Signal.signal_type = ""
        return signal

    @property
    def drift(self):
        """Drift of the particle in nm, (x, y): a signal ``(time | 2)``."""
        axis = {"name": "component", "size": 2, "navigate": False}
        data = self._poses()[:, :2] - self._middle
        navigation = self._navigation()
        signal = Signal1D(data if navigation else data[0], axes=[*navigation, axis])
        signal.metadata.set_item("Signal.quantity", "drift (nm)")
        return signal

    @property
    def rotation(self):
        """Rotation of the particle in degrees, counter-clockwise as displayed, one a frame."""
        return np.asarray(self._parameters["rotation"], dtype=float)[self._chosen]

    def g_vectors(self, hkl):
        """Reciprocal vectors of the reference lattice in the image.

        Parameters
        ----------
        hkl : sequence of (h, k, l)

        Returns
        -------
        array of shape (n, 2)
            (x, y) order, 1/nm: what `HRTEMMovie.gpa` takes.
        """
        lattice = self._lattice([materials.check_hkl(g) for g in hkl])
        g = lattice.indices / np.array(lattice.lengths) @ lattice.axes
        return g @ placement.turn(self._reference).T

    def smoothed(self, resolution):
        """The same as means under a Gaussian window, for comparison with geometric phases.

        Composition, displacement u and its gradient e are averaged, weighted with the part of
        the particle in the window; the strain is that of the mean e.

        Parameters
        ----------
        resolution : float or str
            Standard deviation of the window, in nm or for example ``"1.5 nm"``.

        Returns
        -------
        Truth
        """
        other = Truth(self._signal, step=self._step, frame=self._frame, resolution=resolution)
        other._fields = self._fields
        return other

    @property
    def _middle(self):
        shape, pixel = self._parameters["shape"], float(self._parameters["pixel"])
        return np.array([(int(n) - 1) / 2 * pixel for n in shape[::-1]])

    @property
    def _reference(self):
        return np.deg2rad(float(self._parameters["rotation"][0]))

    def _lattice(self, hkl) -> Lattice:
        axes = axes_in_map(self._parameters["a_direction"])
        zone = tuple(int(i) for i in self._parameters["zone"])
        for g in hkl:
            if np.dot(g, zone):
                raise ValueError(f"hkl: {g} does not belong to the zone {zone} of the simulation.")
        return _reflections.lattice_of(hkl, self._material, zone, axes)

    def _poses(self):
        drift = np.column_stack([self._parameters["drift_x"], self._parameters["drift_y"]])
        angles = np.deg2rad(np.asarray(self._parameters["rotation"], dtype=float))
        return np.column_stack([drift + self._middle, angles])[self._chosen]

    def _known(self):
        """Composition and displacement, solved again from the source: once."""
        if self._fields is None:
            p = self._parameters
            source = read_source(self.source, self._material, p["a_direction"])
            zone = tuple(int(i) for i in p["zone"])
            reach = edges.REACH * float(p["edge_width"])
            self._fields = (
                source,
                fields(source, zone, p["lattice"], p["condition"], int(p["refinement"]), reach),
            )
        return self._fields

    def _navigation(self):
        return self._signal._navigation_axes(*self._signal._own_axes)

    def _map(self, cls, kind, components, title, quantity):
        source, known = self._known()
        shape = tuple(int(n) for n in self._parameters["shape"])
        pixel = float(self._parameters["pixel"])
        y, x = (a["offset"] + a["scale"] * np.arange(a["size"]) for a in self._axes)
        factor = in_nanometre(self._axes[0]["units"]), in_nanometre(self._axes[1]["units"])
        view = View(
            y=y * factor[0],
            x=x * factor[1],
            frame=tuple((n - 1) * pixel for n in shape),
            middle=tuple(self._middle),
            coarse=coarse_of(shape, pixel, source.spacing),
            x_grid=known.x_grid,
            u_grid=known.u_grid,
            mask=source.mask,
            spacing=source.spacing,
            reference=self._reference,
            edge_width=float(self._parameters["edge_width"]),
            sigma=self.resolution,
        )
        check_inside(view)
        arrays = [known.x[self._chosen], known.u[self._chosen], self._poses()]
        lazy, navigation = self._signal._lazy, self._navigation()
        if not navigation:
            arrays = [a[0] for a in arrays]
        if lazy:
            lead = 1 if navigation else 0
            arrays = [da.from_array(a, chunks=(*(1,) * lead, *a.shape[lead:])) for a in arrays]
        data = _frames.map_frames(
            truth_block,
            *arrays,
            core=2,
            out_shape=(*components, len(y), len(x)),
            dtype=bool if kind == "mask" else np.float64,
            view=view,
            kind=kind,
        )
        axes = [*navigation, *self._axes]
        if components:
            names = {"name": "component", "size": components[0], "scale": 1, "offset": 0}
            axes.insert(len(navigation), {**names, "units": "", "navigate": True})
        return self._signal._build(cls, data, axes, title=f"true {title}", quantity=quantity)


def _parameters_of(signal):
    """The parameters of the simulation, or an error that says what is missing."""
    if not isinstance(signal, LatticeSignal):
        raise TypeError(
            f"signal is a {type(signal).__name__}, but must be a movie of "
            "`simulation.hrtem_movie`, or what was made of one."
        )
    if signal.metadata.get_item(f"HyperspyLFP.{_STEP}.origin", default=None) != (
        "hyperspy_lfp.simulation.hrtem_movie"
    ):
        raise ValueError(
            f"this {type(signal).__name__} was not simulated by `simulation.hrtem_movie`, or its "
            f"metadata have lost the node HyperspyLFP.{_STEP}: nothing is known of its truth."
        )
    if signal.metadata.has_item("HyperspyLFP.DriftCorrection"):
        raise ValueError(
            "the drift of this movie has been corrected, so that its points are not those of the "
            "simulation any more: take the truth of the movie as it was simulated."
        )
    node = signal.metadata.get_item(f"HyperspyLFP.{_STEP}")
    parameters = {key: node.get_item(key) for key in node.keys() if key != "source"}
    parameters = {
        k: v.as_dictionary() if hasattr(v, "as_dictionary") else v for k, v in parameters.items()
    }
    return {**parameters, "source": _source_of(node.get_item("source"))}


def _source_of(nested):
    """The maps kept in the metadata: HyperSpy makes generic signals of what is nested."""
    if isinstance(nested, ConcentrationMap) and not nested._lazy:
        return nested
    data = nested.data.compute() if isinstance(nested.data, da.Array) else nested.data
    axes = [_axis_dictionary(axis) for axis in nested.axes_manager._axes]
    return ConcentrationMap(data, axes=axes, metadata=nested.metadata.as_dictionary())


def _chosen_frames(signal, source, frame):
    """Which frames of the source the signal shows."""
    own = source._navigation_axes()
    axes = signal._navigation_axes(*signal._own_axes)
    if not own:
        if axes:
            raise ValueError(
                f"the signal has the navigation axes {[a['name'] for a in axes]}, but one frame "
                "was simulated."
            )
        return np.array([0])
    times = source.axes_manager.navigation_axes[0].axis
    if not axes:
        if len(times) == 1 and frame is None:
            return np.array([0])
        if not isinstance(frame, int | np.integer) or not 0 <= frame < len(times):
            raise ValueError(
                f"frame={frame!r} must say which of the {len(times)} frames this one is, which "
                "has lost its time: `truth(movie.inav[3], frame=3)`; or keep the axis with "
                "`movie.inav[3:4]`."
            )
        return np.array([int(frame)])
    if len(axes) > 1:
        raise ValueError(
            f"the signal has the navigation axes {[a['name'] for a in axes]}; the truth is known "
            "of one movie."
        )
    if frame is not None:
        raise ValueError(f"frame={frame!r} is for a single frame; this signal has a time axis.")
    own_axes = signal._own_axes
    (axis,) = [a for a in signal.axes_manager.navigation_axes if a.name not in own_axes]
    nearest = np.abs(axis.axis[:, None] - times).argmin(axis=1)
    interval = np.diff(times).min() if len(times) > 1 else 1.0
    if np.any(np.abs(times[nearest] - axis.axis) > _SAME_TIME * interval):
        raise ValueError(
            "the times of this signal are not those of the simulated frames: frames were averaged, "
            "or the time axis was changed."
        )
    return nearest


def _map_axes(signal, step):
    """Axes of the maps, data order, as dictionaries."""
    pixels = pixels_of(signal)
    axes = [
        {
            "name": axis.name,
            "size": axis.size,
            "scale": float(scale),
            "offset": float(offset),
            "units": pixels.units,
            "navigate": False,
        }
        for axis, scale, offset in zip(
            signal.axes_manager.signal_axes, pixels.scale, pixels.offset, strict=True
        )
    ]
    if step is not None:
        step = to_length(step, pixels.units, "step")
        for axis in axes:
            axis["size"] = int((axis["size"] - 1) * axis["scale"] / step) + 1
            axis["scale"] = step
    return axes[::-1]
