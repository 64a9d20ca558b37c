"""Every kernel on arrays of a device: the same numbers, and they stay there.

Run with NumPy itself, with a stand-in that refuses what CuPy refuses, and with CuPy where there is
a GPU.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from hyperspy_lfp.kernels import _arrays
from hyperspy_lfp.kernels.concentration import composition, flags, regions, systematic
from hyperspy_lfp.kernels.gpa import bragg, displacement, drift, lattice
from hyperspy_lfp.kernels.gpa.lockin import plane_wave_fit
from hyperspy_lfp.kernels.gpa.plan import plan_lockin

# test files of different folders share no module
_SPEC = importlib.util.spec_from_file_location(
    "array_modules", Path(__file__).parents[1] / "array_modules.py"
)
modules = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(modules)

SHAPE = (100, 116)
SIGMA = 9.0
G = np.array([[0.105, 0.021], [-0.034, 0.093], [0.071, 0.114]])  # (x, y)
POSITIONS = [np.linspace(0, n - 1, n // 4) for n in SHAPE]


@pytest.fixture(params=modules.NAMES)
def xp(request):
    with modules.array_module(request.param) as module:
        yield module


def _frames():
    """Strained fringes with noise, with the right third of the frame in vacuum."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    frames = np.full((3, *SHAPE), 50.0)
    for i, frame in enumerate(frames):
        for g in G * (1 + 0.01 * i):
            frame += 8 * np.cos(2 * np.pi * (g[0] * x + g[1] * y) + i) * (x < 80)
    return (frames + random.standard_normal(frames.shape)).astype(np.float32)


def _holes(frames):
    frames = frames.copy()
    frames[0, 30:40, 20:33] = np.nan
    frames[-1, :, 64] = np.inf
    if len(frames) > 2:
        frames[1] = np.nan
    return frames


def _plan(number):
    return plan_lockin(SHAPE, G[:number, ::-1], (SIGMA, SIGMA), POSITIONS, (3.0, -2.0))


@pytest.fixture(scope="module")
def coefficients():
    """By the number of reflections, NumPy."""
    frames = _frames()
    frames[1, 10:20, 10:20] = np.nan
    return {k: plane_wave_fit(frames, _plan(k)) for k in (2, 3)}


@pytest.fixture(scope="module")
def region():
    """Off the border of the maps, bool, NumPy."""
    mask = np.zeros(tuple(len(p) for p in POSITIONS), dtype=bool)
    mask[5:15, 4:12] = True
    return mask


def _moved(value, xp):
    """The arrays among arguments on the device; lists and tuples stay what they are."""
    return xp.asarray(value) if isinstance(value, np.ndarray) else value


def _check(xp, function, *arrays, host=False, **kwargs):
    """The same numbers with NumPy and on the device, in arrays of the device."""
    rtol = modules.tolerance(xp)
    expected = function(*arrays, **kwargs)
    found = function(*(_moved(a, xp) for a in arrays), **kwargs)
    several = isinstance(expected, tuple)
    pairs = zip(expected, found, strict=True) if several else [(expected, found)]
    for one, other in pairs:
        assert isinstance(other, np.ndarray if host else xp.ndarray)
        assert other.shape == one.shape
        assert other.dtype == one.dtype
        size = np.nanmax(np.abs(one), initial=0.0) if one.dtype.kind in "fc" else 0.0
        np.testing.assert_allclose(modules.to_numpy(other), one, rtol=rtol, atol=rtol * size)
        assert not one.size or np.isfinite(one).any()


def test_array_modules(xp):
    array = xp.zeros((2, 3))
    assert _arrays.get_array_module(array) is xp
    assert isinstance(_arrays.to_host(array), np.ndarray)
    shifted = _arrays.get_ndimage(array).shift(array, (1, 0))
    assert isinstance(shifted, xp.ndarray)


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("kind", ["float32", "float64", "uint16", "holes"])
def test_plane_wave_fit(xp, kind, number):
    """With the noise it measures: that is the variance, coefficient 3."""
    frames = _holes(_frames()) if kind == "holes" else _frames().astype(kind)
    plan = _plan(number)
    expected, found = plane_wave_fit(frames, plan), plane_wave_fit(_moved(frames, xp), plan)
    assert isinstance(found, xp.ndarray)
    assert found.dtype == np.complex64
    rtol = modules.tolerance(xp)
    for i in range(4):
        one, other = expected[:, :, i], modules.to_numpy(found[:, :, i])
        size = np.nanmax(np.abs(one))
        np.testing.assert_allclose(other, one, rtol=rtol, atol=rtol * size)


@pytest.mark.parametrize("where", ["host", "device"])
@pytest.mark.parametrize("number", ["one", "each"])
def test_plane_wave_fit_with_a_mask(xp, number, where):
    """For all frames, or one for each."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    mask = np.hypot(y - 45, x - 40) < 38
    if number == "each":
        mask = np.stack([mask, x < 70, mask & (y > 20)])
    frames = _holes(_frames())
    frames[1] = _frames()[1]

    def fit(frames, mask):
        return plane_wave_fit(frames, _plan(2), mask)

    if where == "device":
        _check(xp, fit, frames, mask)
    else:
        _check(xp, lambda frames: fit(frames, mask), frames)


def test_plane_wave_fit_of_one_frame(xp):
    _check(xp, plane_wave_fit, _frames()[0], plan=_plan(2))


@pytest.mark.parametrize("number", [2, 3])
def test_lattice_of_coefficients(xp, coefficients, number):
    c = coefficients[number]
    _check(xp, lattice.lattice_mask, c, sigma=SIGMA, threshold=0.2)
    _check(xp, lattice.phase_gradient, c)
    for reference in (None, np.full((3, number, 2, 1, 1), 0.01)):
        _check(
            xp,
            lambda a, ref: tuple(lattice.deformation(a, G[:number], SIGMA, ref)),
            c,
            reference,
        )


@pytest.mark.parametrize("where", ["host", "device"])
def test_mean_phase_gradient(xp, coefficients, region, where):
    """A region comes from the calibration, and so from the host."""
    if where == "device":
        _check(xp, lattice.mean_phase_gradient, coefficients[2], region)
    else:
        _check(xp, lattice.mean_phase_gradient, coefficients[2], region=region)


@pytest.mark.parametrize("definition", ["lattice", "eulerian", "finite"])
def test_strain(xp, coefficients, definition):
    e, q = lattice.deformation(coefficients[2], G[:2], SIGMA)
    _check(xp, lattice.deformation_gradient, e)
    _check(xp, lattice.strain_components, e, definition=definition)
    _check(xp, lattice.strain_covariance, e, q, definition=definition)
    strain = lattice.strain_components(e, definition)
    _check(xp, lattice.rotate_strain, strain, angle=0.3)
    _check(xp, lattice.rotate_strain_noise, *lattice.strain_covariance(e, q, definition), angle=0.3)
    _check(xp, lattice.deformation_from_strain, strain, definition=definition)
    _check(xp, lattice.eulerian_covariance, lattice.deformation_gradient(e), q)


@pytest.mark.parametrize("where", ["host", "device"])
def test_stretches(xp, coefficients, where):
    """The directions come from Miller indices, or of each frame from its reference lattice."""
    e, q = lattice.deformation(coefficients[2], G[:2], SIGMA)
    f = lattice.deformation_gradient(e)
    angle = np.array([0.0, 0.1, 0.3])
    along, across = (np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))
    directions = np.array([along, across])[..., None, None]
    if where == "device":
        _check(xp, lattice.stretches, f, q, directions)
    else:
        _check(xp, lattice.stretches, f, q, directions=directions)


@pytest.mark.parametrize("knots", [(0.0, 1.0), (0.0, 0.4, 1.0)])
def test_invert_lengths(xp, knots):
    random = np.random.default_rng(1)
    knots = np.array(knots)
    model = np.array([1 + 0.05 * knots**1.5, 1 - 0.02 * knots])
    stretch = np.array([1.03, 0.99])[:, None, None] + 0.01 * random.standard_normal((2, 6, 7))
    variance = random.uniform(1e-6, 1e-4, stretch.shape)
    stretch[0, 0, 0] = variance[1, 2, 2] = np.nan
    for kind in (np.float32, np.float64):
        arrays = stretch.astype(kind), variance.astype(kind)
        _check(xp, composition.invert_lengths, *arrays, knots=knots, lengths=model)
        x = composition.invert_lengths(*arrays, knots=knots, lengths=model).x
        _check(xp, composition.misfit, *arrays, x, knots=knots, lengths=model)


def test_systematic(xp):
    random = np.random.default_rng(8)
    x = 0.5 + 0.1 * random.standard_normal((3, 24, 30)).astype(np.float32)
    noise = np.full_like(x, 1e-4)
    sensitivity = np.broadcast_to(np.float32([[[[15.0]]], [[[-9.0]]]]), (2, *x.shape)).copy()
    misfit = 1e-3 * random.standard_normal(x.shape).astype(np.float32)
    misfit[:, :6] += 0.01
    for array in (x, noise, misfit):
        array[0, 3:8, 4:9] = np.nan
    expected = systematic.systematic(x, noise, sensitivity, misfit, noise**2, (3.0, 2.0), 6e-4)
    arrays = (_moved(a, xp) for a in (x, noise, sensitivity, misfit, noise**2))
    found = systematic.systematic(*arrays, (3.0, 2.0), 6e-4)
    for one, other in zip(expected[:2], found[:2], strict=True):
        assert isinstance(other, xp.ndarray)
        np.testing.assert_allclose(modules.to_numpy(other), one, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(found.trend, expected.trend, rtol=1e-4, atol=1e-7)


def test_flags(xp, coefficients):
    c = coefficients[2]
    _check(xp, flags.mostly_outside, c)
    _check(xp, flags.relative_amplitude, c)
    amplitude = np.nan_to_num(flags.relative_amplitude(c))
    _check(xp, flags.collapse, 0.1 * amplitude, amplitude)
    valid = amplitude[:, 0] > 0.5
    _check(xp, flags.rim, valid, width=(3.0, 2.0))
    _check(xp, lambda v: flags.combine(rim=v, closure=~v), valid)


def test_region_means(xp, region):
    random = np.random.default_rng(2)
    values = random.standard_normal((3, *region.shape)).astype(np.float32)
    variance = random.uniform(0.5, 1, values.shape).astype(np.float32)
    values[1, 6, 6] = np.nan
    values[2] = np.nan
    masks = np.array([region, np.ones_like(region)])
    settings = {"spacing": (2.0, 2.0), "sigma": 3.0}
    _check(xp, regions.region_means, values, variance, masks=masks, **settings)
    _check(xp, regions.region_means, values, variance, masks, **settings)
    # where the noise is not known it is one number from the host
    unknown = np.broadcast_to(np.float32(0.5), values.shape)
    expected = regions.region_means(values, unknown, masks, (2.0, 2.0), 3.0)
    found = regions.region_means(_moved(values, xp), unknown, masks, (2.0, 2.0), 3.0)
    np.testing.assert_allclose(modules.to_numpy(found[1]), expected[1], rtol=1e-5)


def test_power_spectrum(xp):
    for frames in (_frames(), _holes(_frames()[:2]), _frames().astype(np.uint16)):
        _check(xp, bragg.power_spectrum, frames)


def test_spots(xp):
    """Found on the host, in a spectrum from the device; refined on the device."""
    frames = _frames()[:1]
    found = bragg.find_spots(bragg.power_spectrum(_moved(frames, xp)), 3)
    assert isinstance(found, np.ndarray)
    assert len(found) == 3
    for index in (None, (slice(10, 90), slice(5, 70))):
        _check(xp, bragg.refine_vectors, _holes(frames), g=found, region=index, host=True)
    refined = bragg.refine_vectors(_moved(frames, xp), found)
    for g in refined[:, ::-1]:
        assert min(np.abs(g - h).max() for h in (*G, *-G)) < 2e-4


def test_no_frame_to_refine_in(xp):
    frames = np.full((1, *SHAPE), np.nan, dtype=np.float32)
    with pytest.raises(ValueError, match="no frame with finite pixels"):
        bragg.refine_vectors(_moved(frames, xp), G[:2, ::-1])


def test_displacement(xp, coefficients, region):
    g, c = G[:2], coefficients[2]
    reference = lattice.mean_phase_gradient(c, region)
    settings = {"g": g, "sigma": SIGMA, "positions": POSITIONS}

    def of_region(c, reference):
        return displacement.displacement(c, reference=reference, region=region, **settings)

    def of_frame(c, start):
        zero = np.zeros((1, 2, 2, 1, 1))
        return displacement.displacement(c, reference=zero, start=start, **settings)

    _check(xp, of_region, c, reference)
    _check(xp, of_frame, c, c[:1, :, 0])


def test_drift(xp):
    frames = _holes(np.stack([np.roll(_frames()[0], s, axis=1) for s in (0, 1, 3)]))
    _check(xp, drift.shift_by_correlation, frames, np.nan_to_num(frames[0]), sigma=3.0, host=True)
    shifts = np.array([[0.5, -1.25], [3.0, 2.0], [np.nan, np.nan]])
    for order in (1, 3):
        _check(xp, drift.shift_frames, _frames(), shifts=shifts, order=order)
    _check(xp, drift.shift_frames, _frames().astype(np.uint16), shifts, fill_value=-1.0)


def test_drift_by_phases(xp, coefficients):
    c = coefficients[2]
    _check(xp, drift.mean_phases, c, c[0, :, 0], host=True)
    phases = drift.mean_phases(_moved(c, xp), _moved(c[0, :, 0], xp))
    g = G[:2, ::-1]
    expected = drift.refine_by_phases(np.zeros((3, 2)), modules.to_numpy(phases), g)
    found = drift.refine_by_phases(_moved(np.zeros((3, 2)), xp), phases, g)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


class TestStrict:
    """The stand-in itself refuses what CuPy refuses; else the tests above would prove nothing."""

    @pytest.fixture
    def strict(self):
        with modules.array_module("strict") as module:
            yield module

    @pytest.mark.parametrize(
        "mixed",
        [
            lambda xp, a, n: a + n,
            lambda xp, a, n: n + a,
            lambda xp, a, n: a @ n.T,
            lambda xp, a, n: a < n,
            lambda xp, a, n: xp.where(n > 0, a, 0),
            lambda xp, a, n: xp.stack([a, n]),
            lambda xp, a, n: xp.hypot(a, n),
            lambda xp, a, n: xp.sin([1.0]),
            lambda xp, a, n: xp.tensordot(n, a, 2),
            lambda xp, a, n: np.asarray(a),
            lambda xp, a, n: np.array([a, a]),
            lambda xp, a, n: np.add(a, n),
            lambda xp, a, n: np.concatenate([a, n]),
            lambda xp, a, n: np.float32(a[0, 0]),
            lambda xp, a, n: n.__iadd__(a),
            lambda xp, a, n: a.max(initial=0),
        ],
    )
    def test_what_is_refused(self, strict, mixed):
        device, host = strict.asarray(np.ones((2, 3))), np.ones((2, 3))
        with pytest.raises(TypeError):
            mixed(strict, device, host)

    def test_assigning_from_the_host(self, strict):
        device = strict.zeros((2, 3), dtype=complex)
        with pytest.raises(ValueError, match="non-scalar"):
            device[0] = np.ones(3)
        with pytest.raises(ValueError, match="non-scalar"):
            device.real = np.ones((2, 3))

    def test_what_cupy_lacks(self, strict):
        assert not hasattr(strict, "errstate")
        assert not hasattr(strict, "ma")

    def test_what_is_taken(self, strict):
        device = strict.asarray(np.arange(6.0).reshape(2, 3))
        for result in (
            np.float32(2) * device,
            2 * device,
            np.moveaxis(device, 0, 1),
            np.stack([device, device]),
            np.linalg.inv(device[:, :2]),
            device[np.array([True, False])],
            device.sum(),
            device[0, 0],
            strict.isfinite(1.0),
        ):
            assert isinstance(result, strict.ndarray)
        assert float(device.sum()) == 15
        assert bool(device.any())
