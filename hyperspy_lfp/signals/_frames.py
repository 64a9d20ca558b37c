"""Running a kernel over the frames of a signal, lazily or not, and building what comes out.

Every kernel maps blocks of whole frames to blocks of whole frames, so one function carries all
arrows of the data flow. Lazy input stays lazy. In memory the same graph is used, computed at
once, so that both give the same numbers, use the same number of workers and show the same
progress bar.
"""

import contextlib
import threading
import uuid
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from dask.delayed import Delayed
from dask.diagnostics import ProgressBar
from dask.highlevelgraph import HighLevelGraph
from hyperspy.defaults_parser import preferences
from threadpoolctl import ThreadpoolController

from hyperspy_lfp.kernels._arrays import get_array_module

#: Bytes of input, or of output if that is more, that one task gets; several tasks run at the same
#: time. One frame is the least. Files often come with one frame a chunk; for frames below a few
#: MiB the overhead shows. Four times as much is no faster and takes three times the memory.
CHUNK_BYTES = 8 * 2**20

#: How the names of layers of a graph begin that hold frames in the memory of this process.
_IN_MEMORY = "frames-in-memory-"
#: The same for plans that are built before the frames are read.
_PLAN = "plan-of-frames-"


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
    xp = get_array_module(block)
    others = [xp.broadcast_to(xp.asarray(o), lead + o.shape[len(lead) :]) for o in others]
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
        kwargs = dask.compute(kwargs, scheduler="synchronous")[0]
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


def as_frames(signal, core, lazy=None, result_bytes=0):
    """The data of a signal, chunked by whole frames; dask if lazy or if there are many frames.

    `result_bytes` is the size of what will be made of a frame, if that may be more than the frame.
    """
    data = signal.data
    lead = data.ndim - core
    if not isinstance(data, da.Array):
        if (lead == 0 and not lazy) or not isinstance(data, np.ndarray):
            return data
        name = f"{_IN_MEMORY}{uuid.uuid4().hex}"
        chunks = frame_chunks(data, core, result_bytes)
        return da.from_array(_Frames(data), chunks=chunks, name=name)
    # what our own steps computed is left as it is: each of its chunks came of one bundle of
    # frames, and other bundles would hold each other up, with everything in memory
    join = getattr(signal, "_joins_frames", False)
    return data.rechunk(frame_chunks(data, core, result_bytes, join))


def one_frame(data, core):
    """The first frame of an array, in one piece."""
    frame = data[(0,) * (data.ndim - core)]
    return frame.rechunk(-1) if isinstance(frame, da.Array) else frame


def frame_chunks(data, core, result_bytes=0, join=True):
    """Chunks of whole frames of about `CHUNK_BYTES`, as near to those of the data as can be.

    A chunk is cut into equal parts if it is more than twice as large, so that no part needs two
    chunks; whole neighbours are joined as long as they stay below.
    """
    lead = data.ndim - core
    shape = data.shape
    frame = int(np.prod(shape[lead:])) * data.dtype.itemsize
    frame = max(frame, result_bytes, 1)
    dask_chunks = data.chunks if isinstance(data, da.Array) else tuple((n,) for n in shape)
    chunks = list(dask_chunks[:lead])
    for axis in reversed(range(lead)):
        others = int(np.prod([max(c) for i, c in enumerate(chunks) if i != axis]))
        largest = max(chunks[axis])
        fitting = max(1, CHUNK_BYTES // max(1, frame * others))
        if largest > 1 and largest * others * frame > 2 * CHUNK_BYTES:
            chunks[axis] = tuple(n for c in chunks[axis] for n in _equal_parts(c, fitting))
        elif join:
            chunks[axis] = _joined(chunks[axis], fitting)
    return (*chunks, *((n,) for n in shape[lead:]))


def _equal_parts(size, most):
    """Sizes of the fewest parts that are at most so large, the larger ones first."""
    number = max(1, -(-size // most))
    return [size // number + (i < size % number) for i in range(number)]


def _joined(sizes, most):
    """Sizes of neighbours joined as long as they are at most so large."""
    joined = [sizes[0]]
    for size in sizes[1:]:
        if joined[-1] + size <= most:
            joined[-1] += size
        else:
            joined.append(size)
    return tuple(joined)


def compute_arrays(arrays, show_progressbar=None, **kwargs):
    """Compute dask arrays in one pass, so that each frame is read once.

    ``show_progressbar=None`` takes HyperSpy's preference. A distributed client shows no bar, its
    dashboard shows the progress. Frames in the memory of this process are left to its threads,
    client or not: the whole movie would travel to every worker.
    """
    show_progressbar = shows_progressbar(show_progressbar)
    kwargs = {k: v for k, v in kwargs.items() if v is not None}
    remote = has_client(kwargs.get("scheduler"))
    if remote and "scheduler" not in kwargs and _any_in_memory(arrays):
        kwargs["scheduler"] = "threads"
        remote = False
    if runs_in_threads(kwargs.get("scheduler")):
        arrays = with_plans(arrays)
    bar = ProgressBar() if show_progressbar and not remote else contextlib.nullcontext()
    with bar:
        if remote or not runs_in_threads(kwargs.get("scheduler")):
            return dask.compute(*arrays, **kwargs)
        # each piece goes to its place at once: dask would keep all of them to the end, and then
        # copy them, in twice the memory
        results = [_Result(a) for a in arrays]
        da.store(arrays, results, lock=False, **kwargs)
        return tuple(r.data for r in results)


class _Result:
    """Where the pieces of an array are put together, on the device if they are there."""

    def __init__(self, array):
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.data = None
        self._lock = threading.Lock()

    def __setitem__(self, index, piece):
        with self._lock:
            if self.data is None:
                self.data = get_array_module(piece).empty(self.shape, dtype=self.dtype)
        self.data[index] = piece


def shows_progressbar(wanted=None):
    """Whether to show progress; HyperSpy's preference unless it is said."""
    return preferences.General.show_progressbar if wanted is None else wanted


class _Positions:
    """An array whose pieces hold one number only, that of their first element."""

    def __init__(self, chunks):
        self.shape = tuple(sum(c) for c in chunks)
        self.dtype, self.ndim = np.dtype(np.int64), len(chunks)

    def __getitem__(self, index):
        ranges = [range(n)[i] for i, n in zip(index, self.shape, strict=True)]
        first = np.ravel_multi_index([r[0] for r in ranges], self.shape) if ranges else 0
        return np.broadcast_to(np.int64(first), [len(r) for r in ranges])


class _Pieces:
    """A folder of .npy files, one for each piece of an array, named by its first position.

    One file for all would be simpler, but workers on several machines would write the same pages
    of it, and a network file system does not keep their writes apart.
    """

    def __init__(self, folder):
        # workers may have another working directory
        self.folder = Path(folder).absolute()
        self.folder.mkdir()

    def write(self, number, piece):
        # a task that is run again, after its worker was given up, may still be writing
        path = self.folder / f"{number}.{uuid.uuid4().hex}.npy"
        np.save(path, piece)
        path.replace(self._path(number))

    def read(self, number):
        return np.load(self._path(number))

    def _path(self, number):
        return self.folder / f"{number}.npy"


def store_arrays(arrays, folder, show_progressbar=None, **kwargs):
    """Compute dask arrays into files in a folder, in one pass and in the memory of some frames.

    All pieces that belong to the same frames are written by one task. Left to themselves, the
    writers of the second array may wait for those of the first, and keep everything in memory.

    Returns
    -------
    list of dask.array.Array
        Of the same chunks, reading from the files.
    """
    stored = [_Pieces(Path(folder) / str(i)) for i in range(len(arrays))]
    together = {}
    for i, array in enumerate(arrays):
        together.setdefault(_lead_chunks(array), []).append(i)
    written, positions = [], {}
    for chunks, members in together.items():
        index = tuple(range(len(chunks)))
        positions[chunks] = da.from_array(_Positions(chunks), chunks=chunks)
        arguments = [positions[chunks], index]
        for i in members:
            first = 100 * (i + 1)
            inner = tuple(range(first, first + arrays[i].ndim - len(chunks)))
            arguments += [arrays[i], index + inner]
        task = da.blockwise(
            _write_block,
            index,
            *arguments,
            stored=[stored[i] for i in members],
            adjust_chunks=dict.fromkeys(index, 1),
            dtype=bool,
            concatenate=None,
            meta=np.empty((0,) * len(chunks), dtype=bool),
        )
        written.append(task)
    compute_arrays(written, show_progressbar, **kwargs)
    return [
        da.blockwise(
            _read_block,
            tuple(range(array.ndim)),
            positions[chunks],
            tuple(range(len(chunks))),
            pieces=pieces,
            new_axes=dict(enumerate(array.shape[len(chunks) :], start=len(chunks))),
            dtype=array.dtype,
            meta=np.empty((0,) * array.ndim, dtype=array.dtype),
        )
        for pieces, array, chunks in zip(stored, arrays, map(_lead_chunks, arrays), strict=True)
    ]


def _lead_chunks(array):
    """The chunks of the leading dimensions; all that follow are in one piece."""
    lead = max((i + 1 for i, n in enumerate(array.numblocks) if n > 1), default=0)
    return array.chunks[:lead]


def _write_block(position, *blocks, stored):
    for pieces, block in zip(stored, blocks, strict=True):
        pieces.write(position.flat[0], _only(block))
    return np.ones((1,) * position.ndim, dtype=bool)


def _read_block(position, pieces):
    return pieces.read(position.flat[0])


def has_client(scheduler=None):
    """Whether dask would compute with a distributed client; `scheduler` as it takes it."""
    try:
        from distributed import Client
    except ImportError:
        return False
    get = dask.base.get_scheduler(scheduler=scheduler)
    return isinstance(getattr(get, "__self__", None), Client)


def runs_in_threads(scheduler=None):
    """Whether dask computes in this process; other processes cannot be sent open files."""
    get = dask.base.get_scheduler(scheduler=scheduler)
    return get in (None, dask.threaded.get, dask.local.get_sync)


def _any_in_memory(arrays):
    return any(name.startswith(_IN_MEMORY) for a in arrays for name in a.dask.layers)


def delayed_plan(function, *args, **kwargs):
    """A plan that is built where it is needed instead of travelling there."""
    name = f"{_PLAN}{dask.base.tokenize(function, args, kwargs)}"
    return dask.delayed(function, pure=True)(*args, dask_key_name=name, **kwargs)


def with_plans(arrays):
    """The same dask arrays with their plans built already.

    While one thread builds a plan, the others have nothing to do but read, and would read as much
    of the movie as they can into memory.
    """
    names = {n: a.dask for a in arrays for n in a.dask.layers if n.startswith(_PLAN)}
    # no callbacks: a progress bar is that of the frames
    plans = dask.compute(
        *(Delayed(n, graph) for n, graph in names.items()), scheduler="sync", callbacks=[]
    )
    built = {n: {n: (_Constant(p),)} for n, p in zip(names, plans, strict=True)}
    return [_with_layers(a, built) if built else a for a in arrays]


def _with_layers(array, replaced):
    graph = array.dask
    layers = {n: replaced.get(n, layer) for n, layer in graph.layers.items()}
    graph = HighLevelGraph(layers, graph.dependencies)
    return da.Array(graph, array.name, array.chunks, meta=array._meta)


class _Constant:
    """A task that is done; dask would look for tasks inside of a plan."""

    def __init__(self, value):
        self.value = value

    def __call__(self):
        return self.value
