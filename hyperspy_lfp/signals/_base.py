"""What all our signal classes share: metadata, axes, noise, lazy results."""

import contextlib
import copy
import io
import os
import tempfile
import warnings
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from hyperspy.signal import BaseSignal
from hyperspy.signals import Signal1D, Signal2D
from rsciio.utils import path

import hyperspy_lfp
from hyperspy_lfp.signals import _frames

#: The metadata node that holds everything of ours; see the metadata page of the documentation.
NODE = "HyperspyLFP"
#: Where HyperSpy keeps the variance, and we what else belongs to each pixel.
NOISE = "Signal.Noise_properties"
VARIANCE = f"{NOISE}.variance"
COVARIANCE = f"{NOISE}.covariance_with_exy"
FLAGS = f"{NOISE}.flags"
CHI_SQUARED = f"{NOISE}.chi_squared"
SHEAR = f"{NOISE}.forbidden_shear"
SYSTEMATIC = f"{NOISE}.systematic_variance"
REFERENCE = f"{NOISE}.reference_variance"
ELASTIC = f"{NOISE}.elastic_crosstalk"
#: Items of the metadata that hold signals of the shape of the data, sliced, computed and saved
#: with them.
LAYERS = (
    VARIANCE,
    COVARIANCE,
    FLAGS,
    CHI_SQUARED,
    SHEAR,
    SYSTEMATIC,
    REFERENCE,
    ELASTIC,
)


#: Longest list of lists that files keep in order: HyperSpy's readers sort the items of a longer one
#: as text, the tenth after the first. Arrays stay as they are.
_MOST_ROWS = 10


class LatticeSignal:
    """Mixin of all signal classes of the package."""

    #: Navigation axes that the class itself adds, by name.
    _own_axes = ()
    #: Whether chunks of few frames are joined: as readers deliver them, not what was made of them.
    _joins_frames = False
    # HyperSpy slices these together with the data
    _additional_slicing_targets = (
        *BaseSignal._additional_slicing_targets,
        *(f"metadata.{item}" for item in LAYERS if item != VARIANCE),
    )

    def _parameters(self, step):
        """The metadata of a step as a dictionary, or an error that says it was not taken."""
        node = f"{NODE}.{step}"
        if not self.metadata.has_item(node):
            raise ValueError(
                f"the metadata of this {type(self).__name__} lack {node}: it was not made by "
                "this package, or lost its metadata on the way."
            )
        return self.metadata.get_item(node).as_dictionary()

    def _record(self, step, /, **parameters):
        """Write the parameters of a step, with the version of the package."""
        parameters["package_version"] = hyperspy_lfp.__version__
        for key, value in parameters.items():
            self.metadata.set_item(f"{NODE}.{step}.{key}", _storable(value))

    def _navigation_axes(self, *dropped):
        """The navigation axes in data order without the named ones, as dictionaries."""
        axes = [a for a in self.axes_manager._axes if a.navigate and a.name not in dropped]
        return [_axis_dictionary(a) for a in axes]

    def _time_axis(self, required=True):
        """The navigation axis that is time, or None for a single frame.

        An error if there are several axes and none is called time, unless it is not required.
        """
        axes = [a for a in self.axes_manager.navigation_axes if a.name not in self._own_axes]
        if len(axes) < 2:
            return axes[0] if axes else None
        named = [a for a in axes if str(a.name).lower() == "time"]
        if len(named) != 1:
            if not required:
                return None
            names = [a.name for a in axes]
            raise ValueError(
                f"the navigation axes {names} are several and none (or more than one) is called "
                "'time': name the time axis, for example with "
                "`s.axes_manager.navigation_axes[0].name = 'time'`."
            )
        return named[0]

    def _build(self, cls, data, axes, layers=None, title=None, quantity=None):
        """A signal of another class of ours with this one's metadata.

        `layers` are arrays of the shape of the data by their item in the metadata; `quantity` is
        what the numbers of the data are, by default the same as before.
        """
        metadata = self.metadata.as_dictionary()
        # of the data, as is what HyperSpy keeps for itself: a navigator, how they were stacked
        metadata.get("Signal", {}).pop("Noise_properties", None)
        metadata.pop("_HyperSpy", None)
        metadata.pop("Markers", None)  # see below
        metadata = copy.deepcopy(metadata)
        metadata.setdefault("Signal", {})["signal_type"] = cls._signal_type
        if quantity is not None:
            metadata["Signal"]["quantity"] = quantity
        if title:
            name = metadata.get(NODE, {}).get("source_title")
            if name is None:
                name = metadata.get("General", {}).get("title", "")
                metadata.setdefault(NODE, {})["source_title"] = name
            metadata.setdefault("General", {})["title"] = f"{title} of {name}" if name else title
        original = copy.deepcopy(self.original_metadata.as_dictionary())
        signal = _signal(cls, data, axes, metadata, original)
        # HyperSpy makes no markers of the dictionaries that describe them
        for name, marker in self.metadata.get_item("Markers", default={}):
            signal.metadata.set_item(f"Markers.{name}", copy.deepcopy(marker))
        for item, values in (layers or {}).items():
            signal.metadata.set_item(item, _plain(values, axes))
        return signal

    def _finish(self, signal, lazy_output, show_progressbar, num_workers):
        """Compute a result unless it is to stay lazy: `None` means lazy as the input."""
        lazy = self._lazy if lazy_output is None else lazy_output
        if lazy and not signal._lazy:
            return signal.as_lazy()
        if not lazy and signal._lazy:
            signal.compute(show_progressbar=show_progressbar, num_workers=num_workers)
        return signal

    def _finish_plain(self, signal, lazy_output, show_progressbar, num_workers):
        """`_finish` for a generic signal, whose layers HyperSpy does not compute with it."""
        lazy = self._lazy if lazy_output is None else lazy_output
        if not lazy and signal._lazy:
            compute_signals([signal], show_progressbar, num_workers=num_workers)
        return signal.as_lazy() if lazy and not signal._lazy else signal

    def to_device(self):
        """Copy the data and their layers to the GPU; see :doc:`/gpu`."""
        super().to_device()
        for layer in layers_of(self):
            layer.to_device()

    def to_host(self):
        """Copy the data and their layers from the GPU."""
        super().to_host()
        for layer in layers_of(self):
            layer.to_host()

    def plot(self, navigator="auto", **kwargs):
        """Plot as HyperSpy does, with a slider instead of an image of all frames.

        A navigator made of the data would read a whole lazy movie, and says nothing for maps
        that hold not-a-number pixels.
        """
        automatic = isinstance(navigator, str) and navigator == "auto"
        if automatic and self._lazy and self.navigator is None:
            navigator = "slider"
        super().plot(navigator=navigator, **kwargs)


class LazyMixin:
    """Mixin of the lazy classes: noise and quality are computed together with the data."""

    def compute(self, close_file=False, show_progressbar=None, **kwargs):
        """Compute data, noise and quality in one pass and make the signal an ordinary one.

        Parameters
        ----------
        close_file : bool
            Close the file the data come from.
        show_progressbar : bool, optional
            Default: HyperSpy's preference.
        **kwargs
            Passed to :func:`dask.compute`, for example `scheduler` or `num_workers`.
        """
        compute_signals([self], show_progressbar, close_file, **kwargs)

    def save(self, filename=None, overwrite=None, extension=None, file_format=None, **kwds):
        """Save, computing data, noise and quality in one pass over the movie.

        They go to temporary files beside the target first, whatever their size, since a file
        writer takes one array after the other and would compute everything twice; and since it
        empties a file that is overwritten before it computes, even if the data come from there.
        See :meth:`hyperspy.signal.BaseSignal.save` for the parameters.
        """
        if filename is not None and not isinstance(filename, str | os.PathLike):
            super().save(filename, overwrite, extension, file_format, **kwds)  # a zarr store
            return
        target = target_of(self, filename, extension, file_format)
        if target is None:
            super().save(filename, overwrite, extension, file_format, **kwds)  # an error
            return
        exists = target.exists()
        if overwrite is None and exists:
            overwrite = path.overwrite(target)
        # no writer of HDF5 can be sent to another process: then everything is computed before
        direct = not exists and len(lazy_parts([self])) == 1 and _frames.runs_in_threads()
        if exists and not overwrite:
            super().save(filename, False, extension, file_format, **kwds)  # nothing
            return
        if direct:
            before = self.data
            (self.data,) = _frames.with_plans([before])
            try:
                super().save(filename, False, extension, file_format, **kwds)
            finally:
                self.data = before
            return
        with stored_beside([self], target, kwds.get("show_progressbar")):
            super().save(filename, True, extension, file_format, **kwds)


def lazy_parts(signals):
    """Whatever is lazy of signals and of the layers in their metadata, each once."""
    parts = {id(part): part for s in signals for part in (s, *layers_of(s)) if part._lazy}
    return list(parts.values())


def compute_signals(signals, show_progressbar=None, close_file=False, **kwargs):
    """Compute lazy signals and their layers in place, all in one pass."""
    parts = lazy_parts(signals)
    results = _frames.compute_arrays([p.data for p in parts], show_progressbar, **kwargs)
    if close_file:
        for signal in signals:
            signal.close_file()
    for part, data in zip(parts, results, strict=True):
        part.data = data
        part._lazy = False
        part._assign_subclass()


@contextlib.contextmanager
def stored_beside(signals, target, show_progressbar=None, **kwargs):
    """Within it, the data of lazy signals and their layers come from temporary files.

    They are computed first, in one pass and in the memory of a few frames, into a folder beside
    the file `target`; the folder is gone afterwards, and the signals are what they were.
    """
    parts = lazy_parts(signals)
    before = [p.data for p in parts]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".hyperspy_lfp_", dir=target.parent) as folder:
        stored = _frames.store_arrays(before, folder, show_progressbar, **kwargs)
        try:
            for part, data in zip(parts, stored, strict=True):
                part.data = data
            with contextlib.ExitStack() as stack:
                # no writer of HDF5 can be sent to other processes
                stack.enter_context(dask.config.set(scheduler="threads", pool=None))
                if not _frames.shows_progressbar(show_progressbar):
                    # the bars of nested signals cannot be switched off otherwise
                    stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
                yield
        finally:
            for part, data in zip(parts, before, strict=True):
                part.data = data


def target_of(signal, filename=None, extension=None, file_format=None):
    """The file HyperSpy saves a signal to, or None if the signal has no name to be saved under.

    The parameters are those of :meth:`hyperspy.signal.BaseSignal.save`.
    """
    source = signal.tmp_parameters
    own = source.get_item("extension")
    if filename is None and source.has_item("filename") and source.has_item("folder"):
        target = Path(source.folder, source.filename + _suffix(own or file_format))
    elif filename is None and signal.metadata.has_item("General.original_filename"):
        target = Path(signal.metadata.General.original_filename)
    elif filename is None:
        return None
    else:
        target = Path(filename)
    if target.is_dir() and target.suffix != ".zspy" and source.has_item("filename"):
        suffix = _suffix(extension or file_format or own)
        target = target / (source.filename.removesuffix(suffix) + suffix)
    elif extension is not None:
        target = target.with_suffix(_suffix(extension))
    return target if target.suffix else target.with_suffix(_suffix(file_format))


def _suffix(name):
    return "." + (name or "hspy").lower().lstrip(".")


def cheap_to_plot(signal):
    """Let a generic signal, if lazy, be plotted without reading every frame, as ours are."""
    if signal._lazy:
        signal.navigator = "slider"
    return signal


def layer_of(signal, item):
    """A layer of a signal, or None if there is none that fits its data.

    Some functions of HyperSpy change the data without it, `hyperspy.api.stack` for one.
    """
    layer = signal.metadata.get_item(item, default=None)
    if isinstance(layer, BaseSignal) and layer.data.shape != signal.data.shape:
        name = item.rpartition(".")[2]
        warnings.warn(
            f"the {name} in the metadata ({item}) has the shape {layer.data.shape}, but the data "
            f"have {signal.data.shape}: it is left out.",
            UserWarning,
            stacklevel=3,
        )
        return None
    return layer


def layers_of(signal):
    """The signals nested in the metadata of a signal: its noise, and the quality of its pixels."""
    items = (signal.metadata.get_item(item, default=None) for item in LAYERS)
    return [s for s in items if isinstance(s, BaseSignal)]


def axis_index(signal, name, place):
    """Position of a named axis in the data, where it is expected from the end."""
    for axis in signal.axes_manager._axes:
        if axis.name == name:
            if axis.index_in_array != signal.data.ndim + place:
                raise ValueError(
                    f"the axes of this {type(signal).__name__} have been reordered: {name!r} is "
                    "not where it was; take the next step before transposing."
                )
            return axis.index_in_array
    raise ValueError(
        f"this {type(signal).__name__} has lost its axis {name!r} (by slicing, or by renaming); "
        "take the next step before slicing along it."
    )


def stacked_axis(name, size):
    """An axis over things rather than positions."""
    return {
        "name": name,
        "size": size,
        "scale": 1,
        "offset": 0,
        "units": "",
        "navigate": True,
    }


def _axis_dictionary(axis):
    dictionary = axis.get_axis_dictionary()
    dictionary.pop("slice", None)
    dictionary["size"] = axis.size
    return dictionary


def map_axes(signal):
    """The signal axes, data order (y, x), as dictionaries."""
    return [_axis_dictionary(a) for a in signal.axes_manager._axes if not a.navigate]


def _signal(cls, data, axes, metadata, original=None):
    return cls(
        data,
        axes=[dict(a) for a in axes],
        metadata=metadata,
        original_metadata=original or {},
        # as HyperSpy opens files; as_lazy() would make every signal, and each of its axes, twice
        attributes={"_lazy": isinstance(data, da.Array)},
    )


def _plain(data, axes):
    """A generic signal, for what is nested in metadata."""
    dimension = sum(not a["navigate"] for a in axes)
    cls = {1: Signal1D, 2: Signal2D}[dimension]
    return _signal(cls, data, axes, {})


def _storable(value):
    """What survives .hspy and .zspy: floats, integers, strings, booleans, None, lists of them."""
    if isinstance(value, dict):
        return {k: _storable(v) for k, v in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray | list | tuple):
        array = np.asarray(value) if _is_rectangular(value) else None
        if array is not None and array.ndim > 1 and max(array.shape[:-1]) > _MOST_ROWS:
            return array
        value = value.tolist() if isinstance(value, np.ndarray) else value
        return [_storable(v) for v in value]
    return value


def _is_rectangular(value):
    """Whether nested sequences are numbers of one shape."""
    try:
        return np.asarray(value).dtype.kind in "biuf"
    except ValueError:  # ragged
        return False
