"""Running a kernel over the frames of a signal, lazily or not, and building what comes out.

Every kernel maps blocks of whole frames to blocks of whole frames, so one function carries all
arrows of the data flow. Lazy input stays lazy. In memory the same graph is used, computed at
once, so that both give the same numbers, use the same number of workers and show the same
progress bar.
"""

import contextlib
import threading
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from dask.diagnostics import ProgressBar
from hyperspy.defaults_parser import preferences
from threadpoolctl import ThreadpoolController

#: Most bytes of input that one task gets; several tasks run at the same time. One frame is the
#: least. Files often come with one frame a chunk, whose overhead is larger than the work.
CHUNK_BYTES = 32 * 2**20


class _SerialBLAS:
    """Keeps BLAS to one thread while any kernel runs under dask, whose workers fill the cores."""

    def __init__(self):
        self._lock = threading.Lock()
        self._running = 0
        self._controller = None
        self._limits = None

    @contextlib.contextmanager
    def __call__(self):
        with self._lock:
            if self._running == 0:
                if self._controller is None:
                    self._controller = ThreadpoolController()
                self._limits = self._controller.limit(limits=1, user_api="blas")
                self._limits.__enter__()
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0:
                    self._limits.__exit__(None, None, None)


_serial_blas = _SerialBLAS()


def _run_block(block, *others, kernel, core, out_dtype, **kwargs):
    """Call a kernel on a block whose leading dimensions are flattened to one."""
    block, *others = (_only(a) for a in (block, *others))
    lead = block.shape[: block.ndim - core]
    others = [np.broadcast_to(o, lead + o.shape[len(lead) :]) for o in others]
    flat = [a.reshape((-1, *a.shape[len(lead) :])) for a in (block, *others)]
    with _serial_blas():
        out = kernel(*flat, **kwargs)
    return out.astype(out_dtype, copy=False).reshape(lead + out.shape[1:])


def _only(block):
    """The one block of dimensions that are not chunked, which dask hands over as nested lists.

    Letting dask concatenate them would copy every frame.
    """
    while isinstance(block, list):
        (block,) = block
    return block


class _Frames:
    """An array in memory as dask reads a file: in pieces, when needed, without a copy of all."""

    def __init__(self, array):
        self.array = array
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, index):
        return self.array[index]


def map_frames(kernel, data, *others, core, out_shape, dtype, **kwargs):
    """Apply a kernel to blocks of frames.

    Parameters
    ----------
    kernel : callable
        ``kernel(block, *others, **kwargs)`` with arrays of shape (n, ...); returns an array of
        shape (n, *out_shape). A module-level function, so that processes can run it.
    data : array
        NumPy, CuPy or dask; the last `core` dimensions make a frame.
    *others : array
        With the same leading dimensions (or 1 in their place) and frames of any shape.
    core : int
    out_shape : tuple of int
    dtype : dtype
    **kwargs
        Passed to the kernel; ``dask.delayed`` objects arrive computed.

    Returns
    -------
    array
        dask if any input is.
    """
    lead = data.ndim - core
    if not any(isinstance(a, da.Array) for a in (data, *others)):
        kwargs = dask.compute(kwargs)[0]
        return _run_block(data, *others, kernel=kernel, core=core, out_dtype=dtype, **kwargs)
    others = [o if isinstance(o, da.Array) else da.asarray(o) for o in others]
    index = tuple(range(lead))
    arguments = [data, index + tuple(range(100, 100 + core))]
    for i, other in enumerate(others):
        first = 200 + 100 * i
        arguments += [other, index + tuple(range(first, first + other.ndim - lead))]
    out_index = index + tuple(range(1000, 1000 + len(out_shape)))
    return da.blockwise(
        _run_block,
        out_index,
        *arguments,
        kernel=kernel,
        core=core,
        out_dtype=dtype,
        new_axes=dict(zip(out_index[lead:], out_shape, strict=True)),
        concatenate=None,
        dtype=dtype,
        meta=np.empty((0,) * len(out_index), dtype=dtype),
        **kwargs,
    )


def as_frames(signal, core, lazy=None):
    """The data of a signal, chunked by whole frames; dask if lazy or if there are many frames."""
    data = signal.data
    lead = data.ndim - core
    if not isinstance(data, da.Array):
        if (lead == 0 and not lazy) or not isinstance(data, np.ndarray):
            return data
        return da.from_array(_Frames(data), chunks=frame_chunks(data, core), name=False)
    chunks = frame_chunks(data, core)
    return data.rechunk(chunks)


def frame_chunks(data, core):
    """Chunks of whole frames of at most `CHUNK_BYTES`."""
    lead = data.shape[: data.ndim - core]
    frame = int(np.prod(data.shape[data.ndim - core :])) * data.dtype.itemsize
    limit = max(frame, CHUNK_BYTES)
    auto = ("auto",) * len(lead) + data.shape[data.ndim - core :]
    if not lead:
        return tuple((n,) for n in data.shape)
    return da.core.normalize_chunks(auto, data.shape, limit=limit, dtype=data.dtype)


def compute_arrays(arrays, show_progressbar=None, **kwargs):
    """Compute dask arrays in one pass, so that each frame is read once.

    ``show_progressbar=None`` takes HyperSpy's preference. Under a distributed client there is
    no bar, the dashboard shows the progress.
    """
    if show_progressbar is None:
        show_progressbar = preferences.General.show_progressbar
    kwargs = {k: v for k, v in kwargs.items() if v is not None}
    bar = ProgressBar() if show_progressbar and not _has_client() else contextlib.nullcontext()
    with bar:
        return dask.compute(*arrays, **kwargs)


class _File:
    """An array in a .npy file that is mapped only while a piece of it is read or written.

    So the pages of what is done do not count as memory, and the file can be deleted on Windows.
    """

    def __init__(self, path, shape, dtype):
        self.path, self.shape, self.dtype, self.ndim = str(path), shape, dtype, len(shape)
        np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)

    def __setitem__(self, index, value):
        np.load(self.path, mmap_mode="r+")[index] = value

    def __getitem__(self, index):
        return np.array(np.load(self.path, mmap_mode="r")[index])


def store_arrays(arrays, folder, show_progressbar=None, **kwargs):
    """Compute dask arrays into files in a folder, in one pass and in the memory of some frames.

    All pieces that belong to the same frames are written by one task. Left to themselves, the
    writers of the second array may wait for those of the first, and keep everything in memory.

    Returns
    -------
    list of dask.array.Array
        Of the same chunks, reading from the files.
    """
    files = [_File(Path(folder) / f"{i}.npy", a.shape, a.dtype) for i, a in enumerate(arrays)]
    lead = _common_lead(arrays)
    index = tuple(range(lead))
    shape = arrays[0].shape[:lead]
    position = da.arange(int(np.prod(shape))).reshape(shape).rechunk(arrays[0].chunks[:lead])
    arguments = [position, index]
    for i, array in enumerate(arrays):
        arguments += [array, index + tuple(range(100 * (i + 1), 100 * (i + 1) + array.ndim - lead))]
    written = da.blockwise(
        _write_block,
        index,
        *arguments,
        files=files,
        shape=shape,
        dtype=bool,
        concatenate=None,
        meta=np.empty((0,) * lead, dtype=bool),
    )
    compute_arrays([written], show_progressbar, **kwargs)
    return [
        da.from_array(file, chunks=a.chunks, name=False)
        for file, a in zip(files, arrays, strict=True)
    ]


def _common_lead(arrays):
    """Number of leading dimensions that all arrays share, chunked alike, the rest in one piece."""
    lead = 0
    for chunks in zip(*(a.chunks for a in arrays), strict=False):
        if any(c != chunks[0] for c in chunks):
            break
        lead += 1
    while lead and all(a.numblocks[lead - 1] == 1 for a in arrays):
        lead -= 1
    if any(n > 1 for a in arrays for n in a.numblocks[lead:]):
        raise ValueError(f"arrays of different chunks: {[a.chunks for a in arrays]}")
    return lead


def _write_block(position, *blocks, files, shape):
    start = np.unravel_index(position.flat[0], shape) if shape else ()
    where = tuple(slice(s, s + n) for s, n in zip(start, position.shape, strict=True))
    for file, block in zip(files, blocks, strict=True):
        file[where or ...] = _only(block)
    return np.ones(position.shape, dtype=bool)


def _has_client():
    try:
        from distributed import get_client
    except ImportError:
        return False
    try:
        get_client()
    except ValueError:
        return False
    return True


def delayed_plan(function, *args, **kwargs):
    """A plan that is built where it is needed instead of travelling there."""
    return dask.delayed(function, pure=True)(*args, **kwargs)
