"""Array modules for the tests: NumPy, CuPy where there is a GPU, and a strict stand-in for CuPy.

The stand-in computes with NumPy but refuses what CuPy refuses, so that a kernel that mixes NumPy
arrays with those of a device, or calls what CuPy lacks, fails on a machine without a GPU. It says
nothing of rounding, speed or memory on a GPU.

What it refuses follows CuPy's reference manual (comparison table, interoperability) and its
sources ``_core/core.pyx``, ``_core/_routines_indexing.pyx`` and ``_core/_kernel.pyx``:

- no implicit conversion to a NumPy array; functions and operators take device arrays, Python
  scalars and NumPy scalars, ufuncs no lists;
- reductions and single elements are arrays of no dimensions;
- an index may be a NumPy array, which is sent to the device, but a value that is assigned may not;
- no ``where`` and ``initial`` in reductions, no ``where`` in ufuncs, no ``errstate``.
"""

import contextlib
import importlib
import importlib.machinery
import sys
import types

import numpy as np
import pytest
from scipy import ndimage

_SCALARS = (bool, int, float, complex, np.number, np.bool_)

#: Of the module ``cupy``, by the way their arguments are looked at. Not all that CuPy has: what
#: is missing here and in CuPy's comparison table can be added.
_UFUNCS = """
    abs absolute add angle arccos arcsin arctan arctan2 bitwise_and bitwise_or bitwise_xor cbrt
    ceil conj conjugate copysign cos cosh deg2rad degrees divide equal exp exp2 expm1 float_power
    floor floor_divide fmax fmin fmod greater greater_equal hypot invert isfinite isinf isnan less
    less_equal log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor
    matmul maximum minimum mod multiply negative nextafter not_equal positive power rad2deg
    radians reciprocal remainder rint sign signbit sin sinh sqrt square subtract tan tanh
    true_divide trunc
""".split()
_FUNCTIONS = """
    all allclose amax amin any append argmax argmin argpartition argsort argwhere around
    array_equal array_split atleast_1d atleast_2d atleast_3d average bincount broadcast_arrays
    broadcast_to clip compress copy copyto corrcoef count_nonzero cov cross cumprod cumsum
    diag diagonal diff digitize dot einsum empty_like expand_dims extract flatnonzero flip fliplr
    flipud full_like gradient histogram imag inner interp isclose isin iscomplexobj isrealobj
    kron max mean median meshgrid min moveaxis nan_to_num nanargmax nanargmin nancumsum nanmax
    nanmean nanmedian nanmin nanprod nanstd nansum nanvar ndim nonzero ones_like outer pad
    partition percentile prod ptp quantile ravel real repeat reshape roll rollaxis rot90 round
    searchsorted shape size sort split squeeze std sum swapaxes take take_along_axis tensordot
    tile trace transpose trapezoid tril triu unique unravel_index unwrap vander var vdot where
    zeros_like
""".split()
_SEQUENCES = "column_stack concatenate dstack hstack stack vstack".split()
_CREATION = """
    arange empty eye full identity indices linspace logspace ones tri zeros
""".split()
_CONVERSION = "array asanyarray asarray ascontiguousarray asfortranarray".split()
#: What CuPy itself takes from NumPy.
_SHARED = """
    bool_ complex128 complex64 complexfloating can_cast dtype e finfo float16 float32 float64
    floating generic iinfo inexact inf int16 int32 int64 int8 integer intp isscalar issubdtype
    nan newaxis number pi promote_types signedinteger uint16 uint32 uint64 uint8 unsignedinteger
""".split()
_FFT = """
    fft fft2 fftn fftshift ifft ifft2 ifftn ifftshift irfft irfft2 irfftn rfft rfft2 rfftn
""".split()
_LINALG = """
    cholesky det eigh eigvalsh inv lstsq matrix_power matrix_rank norm pinv qr slogdet solve svd
""".split()
#: Of the module ``cupyx.scipy.ndimage``.
_NDIMAGE = """
    affine_transform binary_dilation binary_erosion convolve correlate fourier_shift
    gaussian_filter label map_coordinates maximum_filter mean median_filter minimum_filter shift
    spline_filter sum sum_labels uniform_filter zoom
""".split()
_METHODS = """
    all any argmax argmin argsort clip conj conjugate cumsum diagonal dot max mean min nonzero
    prod ravel repeat reshape round squeeze std sum swapaxes take trace transpose var
""".split()


def _unwrap(value, numpy_too=False, sequences=True):
    """The NumPy array behind an argument, or an error for what CuPy does not take."""
    if isinstance(value, StrictArray):
        return value._array
    if isinstance(value, np.ndarray) and not numpy_too:
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, list | tuple):
        if not sequences:
            raise TypeError(f"Unsupported type {type(value)}")
        return type(value)(_unwrap(v, numpy_too) for v in value)
    return value


def _wrap(result):
    if isinstance(result, np.ndarray | np.generic):
        return StrictArray(np.asarray(result))
    if isinstance(result, list | tuple):
        items = [_wrap(v) for v in result]
        return type(result)(*items) if hasattr(result, "_fields") else type(result)(items)
    return result


def _call(function, args, kwargs, **how):
    for name in ("where", "initial"):
        if name in kwargs and function is not np.copyto:
            raise TypeError(f"{function.__name__}: CuPy has no argument {name!r}")
    out = kwargs.get("out")
    args = [_unwrap(a, **how) for a in args]
    kwargs = {k: _unwrap(v, numpy_too=how.get("numpy_too", False)) for k, v in kwargs.items()}
    with np.errstate(all="ignore"):  # a GPU warns of nothing
        result = function(*args, **kwargs)
    return out if out is not None else _wrap(result)


def _ufunc(function):
    def call(*args, **kwargs):
        for a in args:
            if not isinstance(a, (StrictArray, *_SCALARS)):
                raise TypeError(f"Unsupported type {type(a)}")
        return _call(function, args, kwargs, sequences=False)

    return call


def _function(function):
    def call(*args, **kwargs):
        first = args[1 if args and isinstance(args[0], str) else 0]
        if not isinstance(first, StrictArray):
            raise TypeError(f"{function.__name__}: unsupported type {type(first)}")
        return _call(function, args, kwargs)

    return call


def _sequence_function(function):
    def call(arrays, *args, **kwargs):
        if isinstance(arrays, StrictArray):
            arrays = list(arrays)
        if not all(isinstance(a, StrictArray) for a in arrays):
            raise TypeError("Only cupy arrays can be concatenated")
        return _call(function, (list(arrays), *args), kwargs)

    return call


def _creation(function):
    def call(*args, **kwargs):
        return _call(function, args, kwargs)

    return call


def _conversion(function):
    def call(*args, **kwargs):
        if args and function is np.asarray and isinstance(args[0], StrictArray):
            dtype = args[1] if len(args) > 1 else kwargs.get("dtype")
            if dtype is None or np.dtype(dtype) == args[0].dtype:
                return args[0]
        return _call(function, args, kwargs, numpy_too=True)

    return call


def _binary(name, reflected=False):
    function = getattr(np, name)

    def operator(self, other):
        if not isinstance(other, (StrictArray, *_SCALARS)):
            raise TypeError(f"Unsupported type {type(other)}")
        pair = (other, self) if reflected else (self, other)
        return _call(function, pair, {})

    return operator


def _in_place(name):
    function = getattr(np, name)

    def operator(self, other):
        if not isinstance(other, (StrictArray, *_SCALARS)):
            raise TypeError(f"Unsupported type {type(other)}")
        return _call(function, (self, other), {"out": self})

    return operator


def _method(name):
    def method(self, *args, **kwargs):
        return _call(getattr(self._array, name), args, kwargs)

    method.__name__ = name
    return method


class StrictArray:
    """A NumPy array that behaves as ``cupy.ndarray`` does."""

    __hash__ = None
    __array_priority__ = 100

    def __init__(self, array=None, dtype=None, shape=None):
        # dask makes empty arrays by `type(shape=..., dtype=...)`
        self._array = np.empty(shape, dtype) if array is None else array
        assert isinstance(self._array, np.ndarray)

    shape = property(lambda self: self._array.shape)
    dtype = property(lambda self: self._array.dtype)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    nbytes = property(lambda self: self._array.nbytes)
    itemsize = property(lambda self: self._array.itemsize)
    strides = property(lambda self: self._array.strides)
    flags = property(lambda self: self._array.flags)
    T = property(lambda self: StrictArray(self._array.T))

    @property
    def real(self):
        return StrictArray(self._array.real)

    @real.setter
    def real(self, value):
        self._array.real = self._assignable(value)

    @property
    def imag(self):
        return StrictArray(self._array.imag)

    @imag.setter
    def imag(self, value):
        self._array.imag = self._assignable(value)

    @staticmethod
    def _assignable(value):
        if isinstance(value, np.ndarray) and value.ndim:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        if not isinstance(value, (StrictArray, np.ndarray, *_SCALARS)):
            raise TypeError(f"Unsupported type {type(value)}")
        return _unwrap(value, numpy_too=True)

    def __getitem__(self, index):
        return _wrap(self._array[_unwrap(index, numpy_too=True)])

    def __setitem__(self, index, value):
        self._array[_unwrap(index, numpy_too=True)] = self._assignable(value)

    def __len__(self):
        return len(self._array)

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __bool__(self):
        return bool(self._array)

    def __int__(self):
        return int(self._array)

    def __float__(self):
        return float(self._array)

    def __complex__(self):
        return complex(self._array)

    def __repr__(self):
        return f"strict {self._array!r}"

    def __reduce__(self):
        return StrictArray, (self._array,)

    def __array__(self, *args, **kwargs):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to "
            "construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        function = getattr(strict, ufunc.__name__, None)
        if method != "__call__" or function is None:
            return NotImplemented
        if "out" in kwargs:
            (kwargs["out"],) = kwargs["out"]
            if not isinstance(kwargs["out"], StrictArray):
                return NotImplemented
        return function(*inputs, **kwargs)

    def __array_function__(self, function, kinds, args, kwargs):
        module = strict
        for name in function.__module__.split(".")[1:]:
            module = getattr(module, name, None)
        own = getattr(module, function.__name__, None)
        if own is None or own is function:
            return NotImplemented
        if not all(kind in (StrictArray, np.ndarray) for kind in kinds):
            return NotImplemented
        return own(*args, **kwargs)

    def __invert__(self):
        return _wrap(~self._array)

    def __neg__(self):
        return _wrap(-self._array)

    def __pos__(self):
        return _wrap(+self._array)

    def __abs__(self):
        return _wrap(abs(self._array))

    def __matmul__(self, other):
        return strict.matmul(self, other)

    def __rmatmul__(self, other):
        return strict.matmul(other, self)

    def get(self):
        return self._array.copy()

    def set(self, array):
        assert array.dtype == self.dtype and array.shape == self.shape
        self._array[...] = array

    def astype(self, dtype, order="K", copy=True):
        if not copy and np.dtype(dtype) == self.dtype:
            return self
        with np.errstate(all="ignore"):
            return StrictArray(self._array.astype(dtype, order=order))

    def copy(self, order="C"):
        return StrictArray(self._array.copy(order))

    def view(self, dtype=None):
        return StrictArray(self._array.view() if dtype is None else self._array.view(dtype))

    def fill(self, value):
        self._array.fill(self._assignable(value))

    def flatten(self, order="C"):
        return StrictArray(self._array.flatten(order))

    def item(self, *index):
        return self._array.item(*index)

    def tolist(self):
        return self._array.tolist()


_OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
}
for _name, _function_name in _OPERATORS.items():
    setattr(StrictArray, f"__{_name}__", _binary(_function_name))
    setattr(StrictArray, f"__r{_name}__", _binary(_function_name, reflected=True))
    setattr(StrictArray, f"__i{_name}__", _in_place(_function_name))
for _name in ("eq:equal", "ne:not_equal", "lt:less", "le:less_equal", "gt:greater"):
    setattr(StrictArray, "__{}__".format(_name.split(":")[0]), _binary(_name.split(":")[1]))
StrictArray.__ge__ = _binary("greater_equal")
for _name in _METHODS:
    setattr(StrictArray, _name, _method(_name))
# as whose the kernels, HyperSpy and dask know an array of CuPy; and so that it can be pickled
StrictArray.__module__, StrictArray.__name__, StrictArray.__qualname__ = (
    "cupy",
    "ndarray",
    "ndarray",
)


def _module(name, source, groups):
    module = types.ModuleType(name)
    # `importlib.util.find_spec` asks for it, as HyperSpy does to know whether there is CuPy
    module.__spec__ = importlib.machinery.ModuleSpec(name, loader=None)
    for names, wrapper in groups:
        for n in names:
            if hasattr(source, n):  # NumPy 1 lacks some new names
                setattr(module, n, wrapper(getattr(source, n)))
    return module


def _result_type(*values):
    return np.result_type(*(v.dtype if isinstance(v, StrictArray) else v for v in values))


def _asnumpy(array, *args, **kwargs):
    return array.get() if isinstance(array, StrictArray) else np.asarray(array)


strict = _module(
    "cupy",
    np,
    [
        (_UFUNCS, _ufunc),
        (_FUNCTIONS, _function),
        (_SEQUENCES, _sequence_function),
        (_CREATION, _creation),
        (_CONVERSION, _conversion),
        (_SHARED, lambda value: value),
    ],
)
strict.fft = _module("cupy.fft", np.fft, [(_FFT, _function), (("fftfreq", "rfftfreq"), _creation)])
strict.linalg = _module("cupy.linalg", np.linalg, [(_LINALG, _function)])
strict.ndarray = StrictArray
strict.asnumpy = _asnumpy
strict.result_type = _result_type
_ndimage = _module("cupyx.scipy.ndimage", ndimage, [(_NDIMAGE, _function)])


def _install(patch):
    """Make the stand-in what is imported as CuPy, until the patch is undone."""
    cupyx, scipy = types.ModuleType("cupyx"), types.ModuleType("cupyx.scipy")
    cupyx.scipy, scipy.ndimage = scipy, _ndimage
    modules = {"cupy": strict, "cupyx": cupyx, "cupyx.scipy": scipy}
    for name, module in {**modules, "cupyx.scipy.ndimage": _ndimage}.items():
        patch.setitem(sys.modules, name, module)
    patch.setattr("hyperspy.signal.CUPY_INSTALLED", True)
    # dask registers the functions of CuPy at the first array of it, for the whole process
    from dask.array import dispatch

    for name in dir(dispatch):
        lookup = getattr(dispatch, name)
        if hasattr(lookup, "_lookup"):
            patch.setattr(lookup, "_lookup", dict(lookup._lookup))
            patch.setattr(lookup, "_lazy", dict(lookup._lazy))


def _cupy():
    """CuPy, or the reason why it cannot be used."""
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        return None, "CuPy is not installed"
    try:
        number = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return None, f"no GPU: {error}"
    return (cupy, "") if number else (None, "no GPU")


#: The names of the modules that a test can be run with.
NAMES = ("numpy", "strict", "cupy")


@contextlib.contextmanager
def array_module(name):
    """The array module of a name, with all that goes with it; skips where there is no GPU."""
    if name == "numpy":
        yield np
    elif name == "cupy":
        cupy, reason = _cupy()
        if cupy is None:
            pytest.skip(reason)
        yield cupy
    else:
        with pytest.MonkeyPatch.context() as patch:
            _install(patch)
            yield strict


def tolerance(xp):
    """Relative, of single precision: a GPU sums in another order, the stand-in does not."""
    return 1e-5 if xp in (np, strict) else 1e-4


def to_numpy(value):
    """Arrays of any module, and tuples and lists of them, as NumPy arrays."""
    if isinstance(value, list | tuple):
        return [to_numpy(v) for v in value]
    return value.get() if hasattr(value, "get") else np.asarray(value)
