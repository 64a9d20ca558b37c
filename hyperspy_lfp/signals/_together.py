"""Several lazy results in one pass over the movie they come from."""

from pathlib import Path

from hyperspy.signal import BaseSignal
from rsciio import IO_PLUGINS
from rsciio.utils import path as rsciio_path

from hyperspy_lfp.signals._base import (
    LazyMixin,
    compute_signals,
    lazy_parts,
    stored_beside,
    target_of,
)


def compute(*signals, show_progressbar=None, num_workers=None, **kwargs):
    """Compute several lazy signals in place, in one pass over what they come from.

    Each frame of a movie is read once, and each step that the signals have in common is done
    once; computed one after the other, they would read the whole movie each.

    Parameters
    ----------
    *signals : BaseSignal
        Any signals of HyperSpy. Those in memory are left as they are.
    show_progressbar : bool, optional
        Default: HyperSpy's preference.
    num_workers : int, optional
        Number of dask workers; default: all.
    **kwargs
        Passed to :func:`dask.compute`, for example `scheduler`.

    Raises
    ------
    TypeError
        If something is no signal.

    See Also
    --------
    save : For results that do not fit into memory.

    Examples
    --------
    >>> import hyperspy_lfp
    >>> s = hyperspy_lfp.data.lithiation_movie()
    >>> g = s.find_g_vectors(n=2)
    >>> phase = s.as_lazy().gpa(*g)
    >>> strain = phase.strain(reference_frame=0)
    >>> x = phase.to_concentration(reference_frame=0)
    >>> hyperspy_lfp.compute(strain, x, show_progressbar=False)
    >>> x
    <ConcentrationMap, title: Li concentration of lithiation movie, dimensions: (12|56, 51)>
    """
    for number, signal in enumerate(signals, start=1):
        _check_signal(signal, f"argument {number} of compute")
    if lazy_parts(signals):
        compute_signals(signals, show_progressbar, num_workers=num_workers, **kwargs)


def save(signals, overwrite=None, *, show_progressbar=None, num_workers=None, **kwargs):
    """Save several signals, the lazy ones in one pass over what they come from.

    Each frame of a movie is read once, and only a few are in memory at a time, however long the
    movie. What is lazy stays so. All is computed, into temporary files beside the first lazy
    signal's file, before the first file is written: an error on the way leaves every file as it
    was, and a file that the data come from may be overwritten.

    Parameters
    ----------
    signals : dict of path to BaseSignal
        The files, ``.hspy`` if they have no extension, and what to save in each.
    overwrite : bool, optional
        Whether files that exist are overwritten; default: ask for each before anything is
        computed. Signals whose file is kept are not computed.
    show_progressbar : bool, optional
        Default: HyperSpy's preference.
    num_workers : int, optional
        Number of dask workers; default: all.
    **kwargs
        Passed to :meth:`hyperspy.api.signals.BaseSignal.save` of each signal, for example
        `compression`.

    Raises
    ------
    TypeError
        If something is no signal, or no path.
    ValueError
        If two of the files are the same, or no signal can be written to one.

    See Also
    --------
    compute : For results that fit into memory.

    Notes
    -----
    A `reference_frame` of many frames is known only when all of them have been read; until then
    their phases are kept in memory, since no frame is read twice.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import hyperspy_lfp
    >>> s = hyperspy_lfp.data.lithiation_movie()
    >>> g = s.find_g_vectors(n=2)
    >>> phase = s.as_lazy().gpa(*g)
    >>> results = {"phase.zspy": phase, "x.zspy": phase.to_concentration(reference_frame=0)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results = {Path(folder) / name: signal for name, signal in results.items()}
    ...     hyperspy_lfp.save(results, show_progressbar=False)
    ...     sorted(p.name for p in Path(folder).iterdir())
    ['phase.zspy', 'x.zspy']
    """
    targets = _check_files(signals, overwrite, kwargs.get("file_format"))
    asked = {name: _may_write(target, overwrite) for name, target in targets.items()}
    wanted = {name: signals[name] for name in signals if asked[name]}
    lazy = [name for name, signal in wanted.items() if lazy_parts([signal])]
    if not lazy:
        _write(wanted, kwargs)
        return
    computed = [wanted[name] for name in lazy]
    with stored_beside(computed, targets[lazy[0]], show_progressbar, num_workers=num_workers):
        _write(wanted, kwargs)


def _write(signals, kwargs):
    for name, signal in signals.items():
        # ours would compute what has just been computed
        writer = super(LazyMixin, signal) if isinstance(signal, LazyMixin) else signal
        writer.save(name, overwrite=True, **kwargs)


def _may_write(target, overwrite):
    if overwrite is None:
        return rsciio_path.overwrite(target)
    return overwrite or not target.exists()


def _check_files(signals, overwrite, file_format):
    """The file of each signal, or an error before anything is computed."""
    if not isinstance(signals, dict):
        raise TypeError(
            f"signals is a {type(signals).__name__}, but must be a dictionary of files and what "
            'to save in them, for example {"strain.hspy": strain, "x.hspy": x}.'
        )
    if overwrite not in (None, True, False):
        raise ValueError(f"overwrite={overwrite!r} must be True, False, or None to be asked.")
    targets = {}
    for name, signal in signals.items():
        if not isinstance(name, str | Path):
            raise TypeError(f"signals has the key {name!r}, but each must be the path of a file.")
        _check_signal(signal, f"signals[{str(name)!r}]")
        target = target_of(signal, name, file_format=file_format).resolve()
        if target in targets.values():
            raise ValueError(f"signals has two signals for the same file, {target}.")
        if file_format is None and not _can_write(target.suffix.lstrip(".").lower()):
            raise ValueError(
                f"signals has the file {str(name)!r}, but no signal can be written to "
                f"'{target.suffix}': use .hspy or .zspy."
            )
        targets[name] = target
    return targets


def _can_write(extension):
    return any(extension in p["file_extensions"] and p["writes"] for p in IO_PLUGINS)


def _check_signal(signal, name):
    if not isinstance(signal, BaseSignal):
        raise TypeError(f"{name} is a {type(signal).__name__}, but must be a signal of HyperSpy.")
