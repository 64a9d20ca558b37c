"""What the simulated microscope reads of maps of composition."""

from typing import NamedTuple

import dask.array as da
import numpy as np

from hyperspy_lfp import materials
from hyperspy_lfp.signals import ConcentrationMap, _frames
from hyperspy_lfp.signals._units import in_nanometre, pixels_of


class Source(NamedTuple):
    """Maps of composition on the undeformed particle.

    Its points R are counted in nanometres, (x, y) order, from the middle of the map.
    """

    x: np.ndarray  # (frames, ny, nx), NaN outside the particle
    spacing: tuple  # (dy, dx) in nm
    material: materials.Material
    a_direction: np.ndarray  # (2,): unit vector along a in the map, (x, y) order
    navigation: list  # navigation axes as dictionaries, data order; empty for a single map

    @property
    def mask(self):
        """Where the particle is in any of the frames, (ny, nx)."""
        return np.isfinite(self.x).any(axis=0)


def read_source(truth, material=None, a_direction=None):
    """Read and check the maps that a movie or a series is to be made of.

    Parameters
    ----------
    truth : ConcentrationMap
        With at most one navigation axis. Lazy maps are computed.
    material : str or Material, optional
        Default: the one the map names.
    a_direction : (float, float), optional
        Crystal axis a in the map, (x, y) order, of any length. Default: along x.

    Returns
    -------
    Source

    Raises
    ------
    TypeError
        If it is not a `ConcentrationMap`.
    ValueError
        If it has several navigation axes, or nothing but NaN in a frame, or the direction is zero.
    """
    if not isinstance(truth, ConcentrationMap):
        raise TypeError(
            f"truth is a {type(truth).__name__}, but must be a ConcentrationMap: one of "
            "`simulation.lithiation()`, of `to_concentration()`, or an array with calibrated "
            "axes, `ConcentrationMap(array, axes=...)`."
        )
    navigation = truth._navigation_axes()
    if len(navigation) > 1:
        raise ValueError(
            f"truth has the navigation axes {[a['name'] for a in navigation]}, but may have one, "
            "time, only; choose one series with `truth.inav[...]`."
        )
    pixels = pixels_of(truth)
    factor = in_nanometre(pixels.units)
    data = np.asarray(truth.data.compute() if truth._lazy else truth.data, dtype=float)
    data = data.reshape(-1, *data.shape[-2:])
    empty = np.flatnonzero(~np.isfinite(data).any(axis=(1, 2)))
    if len(empty):
        raise ValueError(
            f"truth is NaN everywhere in frame {empty[0]} ({len(empty)} in all): there is no "
            "particle to simulate. Take the frames that have one, `truth.inav[...]`."
        )
    return Source(
        data,
        tuple(float(s) * factor for s in pixels.scale[::-1]),
        _material_of(truth, material),
        unit_direction((1.0, 0.0) if a_direction is None else a_direction),
        navigation,
    )


def unit_direction(a_direction):
    """A unit vector along crystal axis a, from one of any length."""
    direction = np.array(a_direction, dtype=float)
    if direction.shape != (2,) or not 0 < np.hypot(*direction) < np.inf:
        raise ValueError(
            f"a_direction={a_direction!r} must be a vector (x, y) that is not zero, along crystal "
            "axis a."
        )
    return direction / np.hypot(*direction)


def signal_axes(source):
    """Axes of the maps in nanometres, data order, counted from the middle."""
    return [
        {
            "name": name,
            "size": size,
            "scale": scale,
            "offset": -(size - 1) / 2 * scale,
            "units": "nm",
            "navigate": False,
        }
        for name, size, scale in zip("yx", source.x.shape[1:], source.spacing, strict=True)
    ]


def _material_of(truth, material):
    if material is not None:
        return materials.get(material)
    if not truth.metadata.has_item("HyperspyLFP.ConcentrationMap.material"):
        raise ValueError(
            "material is not given, and the metadata of truth do not name it; give "
            'material="LiFePO4", or another name or Material.'
        )
    return truth.material


def render(block, arrays, stacked, chunks, lazy, **settings):
    """Frames drawn by a block function from what belongs to each; the same lazy or not.

    `arrays` lead with the frames; without an axis for these (`stacked`) there is one frame.
    """
    if stacked:
        # one array each, of which every task takes its own frames: no copies in the graph
        arrays = [da.from_array(_frames._Frames(a), chunks=(chunks, *a.shape[1:])) for a in arrays]
    else:
        arrays = [a[0] for a in arrays]
        arrays = [da.from_array(a, chunks=a.shape) for a in arrays] if lazy else arrays
    data = _frames.map_frames(block, *arrays, core=2, **settings)
    if not lazy and isinstance(data, da.Array):
        (data,) = _frames.compute_arrays([data], show_progressbar=False)
    return data


def store_source(source, title):
    """The maps in nm, as they were read."""
    signal = ConcentrationMap(
        source.x if source.navigation else source.x[0],
        axes=[*source.navigation, *signal_axes(source)],
    )
    signal.metadata.General.title = title
    signal.metadata.set_item("Signal.quantity", f"x ({source.material.species})")
    signal._record(
        "ConcentrationMap",
        material=source.material.to_dictionary(),
        method="truth",
        resolution=0.0,
        resolution_units="nm",
    )
    return signal
