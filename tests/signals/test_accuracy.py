"""The numbers that users see, in real units, against exact truth. Gates: shared/gpa.md, issue 2.

A lattice image is made from a cell, a rotation and a deformation in nanometres and sampled with
any pixels; what comes out of the public methods is compared with plain matrix algebra.
"""

import hyperspy.api as hs
import numpy as np
import pytest
from hyperspy.signals import Signal2D
from scipy.special import factorial
from threadpoolctl import threadpool_limits

from hyperspy_lfp import materials

# the gates are at sigma = 10 px for a spacing of 10.3 px
pytestmark = pytest.mark.filterwarnings("ignore:resolution=.*is finer than the spacing")

INTERIOR = 3e-6  # strain rms at sigma = 10 px, d = 10.3 px
BORDER = 2e-3  # nearer than 2 sigma to the border
#: Strain rms over the slope of a length with composition: 0.052 along a, 0.0192 along c.
IN_X = 2e-4
LFP = materials.get("LiFePO4")
HKL = ((1, 0, 1), (1, 0, -1), (2, 0, 0))
SPACING = 0.25  # nm
NM = {"nm": 1.0, "Å": 10.0}
#: shape (y, x), scale (y, x) in nm, offset (y, x) in nm
GEOMETRIES = {
    "equal": ((203, 240), (SPACING / 10.3, SPACING / 10.3), (0.0, 0.0)),
    "offset": ((240, 203), (SPACING / 10.3, SPACING / 10.3), (-31.7, 12.9)),
    "unequal": ((251, 206), (SPACING / 12.4, SPACING / 10.3), (3.1, -7.7)),
    # for the spacings of LiFePO4
    "coarse": ((208, 221), (0.042, 0.042), (1.0, -2.0)),
    "coarse unequal": ((221, 190), (0.035, 0.045), (-3.0, 0.4)),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    with threadpool_limits(limits=1, user_api="blas"):  # pytest-xdist fills the cores
        yield


def _rotation(degrees):
    """Turns (x, y) vectors counter-clockwise as displayed, with y down."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, s], [-s, c]])


def _coordinates(geometry):
    shape, scale, offset = GEOMETRIES[geometry]
    y, x = (np.arange(n) * s + o for n, s, o in zip(shape, scale, offset, strict=True))
    return np.meshgrid(x, y)


def _image(g, geometry, displacement=None, amplitude=0.2):
    """1 + sum of cosines; g in 1/nm."""
    x, y = _coordinates(geometry)
    ux, uy = (0.0, 0.0) if displacement is None else displacement(x, y)
    image = np.ones(x.shape)
    for i, v in enumerate(g):
        image += amplitude * np.cos(2 * np.pi * (v[0] * (x - ux) + v[1] * (y - uy)) + i)
    return image


def _movie(images, geometry, units="nm", dtype="float32"):
    images = np.asarray(images)
    if np.dtype(dtype).kind in "ui":
        images = np.round(images)
    _, scale, offset = GEOMETRIES[geometry]
    signal = Signal2D(images.astype(dtype))
    for i, axis in zip((1, 0), signal.axes_manager.signal_axes, strict=True):
        axis.scale, axis.offset, axis.units = scale[i] * NM[units], offset[i] * NM[units], units
    for axis, name in zip(signal.axes_manager.navigation_axes, ("time", "stack"), strict=False):
        axis.name, axis.units = name, "s"
    signal.set_signal_type("HRTEMMovie")
    return signal


def _hexagonal(degrees=-7.9):
    g = np.array([[1, 0], [0.5, np.sqrt(0.75)], [0.5, -np.sqrt(0.75)]]) / SPACING
    return g @ _rotation(degrees).T


def _square(degrees=17.3):
    return np.array([[1, 0], [0, 1]]) / SPACING @ _rotation(degrees).T


def _strain_of(f, definition):
    if definition == "finite":
        left, stretch, right = np.linalg.svd(f)
        turn, h = left @ right, right.T @ np.diag(stretch) @ right - np.eye(2)
        return np.array([h[0, 0], h[1, 1], h[0, 1], np.arctan2(turn[0, 1], turn[0, 0])])
    h = f - np.eye(2) if definition == "lattice" else np.eye(2) - np.linalg.inv(f)
    return np.array([h[0, 0], h[1, 1], (h[0, 1] + h[1, 0]) / 2, (h[0, 1] - h[1, 0]) / 2])


def _zones(signal, geometry, sigma, windows=5):
    """Samples of a map farther than five sigma and nearer than two to the frame's border."""
    distances = []
    for i, axis in zip((1, 0), signal.axes_manager.signal_axes, strict=True):
        n, scale, offset = (GEOMETRIES[geometry][k][i] for k in range(3))
        at = axis.axis / NM[axis.units] - offset
        distances.append(np.minimum(at, (n - 1) * scale - at))
    distance = np.minimum(distances[1][:, None], distances[0])
    inside = distance >= windows * sigma
    assert inside.sum() > 20
    return inside, distance < 2 * sigma


def _rms(values):
    return np.sqrt(np.mean(np.square(values, dtype=float), axis=-1))


def _cell_vectors(x, hkl=HKL, degrees=0.0, f=None):
    """Reciprocal vectors of LixFePO4 along [010], a turned counter-clockwise from x; 1/nm."""
    a, _, c = LFP.cell(x) / 10
    g = np.array([[h / a, k / c] for h, _, k in hkl]) @ _rotation(degrees).T
    return g if f is None else g @ np.linalg.inv(f)


# --- strain ---


@pytest.mark.parametrize("units", ["nm", "Å"])
@pytest.mark.parametrize("geometry", ["equal", "offset", "unequal"])
@pytest.mark.parametrize("reopened", [False, True], ids=["", "reopened"])
def test_strain_gates(geometry, units, reopened, tmp_path):
    """Three definitions of 8 % and 5 degrees, of two reflections and of three; saved or not."""
    sigma = 10 * SPACING / 10.3
    f = _rotation(5.0) @ np.diag([1.08, 1.0])
    for g in (_square(), _hexagonal()):
        movie = _movie(_image(g @ np.linalg.inv(f), geometry), geometry, units)
        phase = movie.gpa(*(g / NM[units]), resolution=sigma * NM[units])
        if reopened:
            phase.save(tmp_path / f"phase{len(g)}.hspy")
            phase = hs.load(tmp_path / f"phase{len(g)}.hspy")
        for definition in ("lattice", "eulerian", "finite"):
            strain = phase.strain(definition=definition)
            inside, near = _zones(strain, geometry, sigma)
            error = strain.data - _strain_of(f, definition)[:, None, None]
            assert inside.sum() > 200
            assert np.all(_rms(error[:, inside]) <= INTERIOR)
            if len(g) == 2:  # the border of hexagonal lattices depends on their orientation
                assert np.all(_rms(error[:, near]) <= BORDER)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64"])
def test_counts_of_any_type(dtype):
    """Rounding to whole counts adds white noise of variance 1/12, and no more.

    1.5 times its limit: one frame has two dozen independent values.
    """
    geometry, amplitude = "equal", {"uint8": 30.0, "uint16": 4000.0, "float64": 1e-3}[dtype]
    sigma, g = 10 * SPACING / 10.3, _square()
    movie = _movie(_image(g, geometry) * amplitude / 0.2, geometry, dtype=dtype)
    strain = movie.gpa(*g, resolution=sigma).strain()
    inside, _ = _zones(strain, geometry, sigma)
    rounding = 0.0 if dtype == "float64" else 12**-0.5
    limit = 10.3 * rounding / (4 * np.pi**1.5 * 100 * amplitude)
    assert np.all(_rms(strain.data[:, inside]) <= np.hypot(INTERIOR, 1.5 * limit))


def test_sign_of_the_rotation():
    """A crystal turned counter-clockwise on the screen reads a positive rotation."""
    g = _square(0.0)
    movie = _movie(_image(g @ _rotation(3.0).T, "equal"), "equal")
    strain = movie.gpa(*g, resolution=0.3).strain(definition="finite")
    assert np.nanmedian(strain.rotation.data) == pytest.approx(np.deg2rad(3.0), abs=1e-5)
    # what was to the right has moved up, which is towards smaller y
    displacement = movie.gpa(*g, resolution=0.3).displacement()
    slope = np.gradient(displacement.uy.data.mean(axis=0)).mean()
    assert slope < 0


def test_angle_of_the_axes():
    f = np.array([[1.02, 0.01], [0.0, 0.99]])
    g = _square()
    phase = _movie(_image(g @ np.linalg.inv(f), "unequal"), "unequal").gpa(*g, resolution=0.3)
    r = _rotation(30.0)
    expected = _strain_of(r.T @ f @ r, "lattice")
    for strain in (phase.strain(angle=30.0), phase.strain(angle=10.0).rotate(20.0)):
        inside, _ = _zones(strain, "unequal", 0.3)
        error = strain.data - expected[:, None, None]
        assert np.all(_rms(error[:, inside]) <= INTERIOR)


def test_reference_region_after_a_bad_start():
    """g 1.7 FFT pixels off: relative to a region the false strain is below 1e-5 there (gate)."""
    geometry = "offset"
    shape, scale, offset = GEOMETRIES[geometry]
    g = _square()
    off = g + 1.7 * np.array([[0.6, -0.8], [-0.8, -0.6]]) / (np.array(shape) * scale)[::-1]
    movie = _movie(_image(g, geometry), geometry)
    left, top = offset[1] + 1.5, offset[0] + 1.5
    roi = hs.roi.RectangularROI(left, top, left + 1.5, top + 2.5)
    strain = movie.gpa(*off, resolution=0.25).strain(reference=roi)
    x, y = (axis.axis for axis in strain.axes_manager.signal_axes)
    part = (x >= left) & (x < left + 1.5) & ((y >= top) & (y < top + 2.5))[:, None]
    assert np.abs(strain.data[:, part]).max() < 1e-5
    (inside, _) = _zones(strain, geometry, 0.25)
    assert np.abs(strain.data[:, inside]).max() < 2e-5


def test_reference_frame():
    """F_i F_0^-1, whatever the drift between the frames."""
    geometry, g = "unequal", _square()
    fs = [
        np.array([[1.02, 0.01], [-0.005, 0.99]]),
        _rotation(2.0) @ np.array([[1.05, 0.0], [0.02, 0.97]]),
        np.eye(2),
    ]
    drifts = [(0.0, 0.0), (0.31, -0.44), (2.2, 0.1)]
    images = [
        _image(g @ np.linalg.inv(f), geometry, lambda x, y, d=d: d)
        for f, d in zip(fs, drifts, strict=True)
    ]
    phase = _movie(images, geometry).gpa(*g, resolution=0.3)
    for reference in (0, -3):
        strain = phase.strain(reference_frame=reference)
        inside, _ = _zones(strain, geometry, 0.3)
        for frame, f in zip(strain.data, fs, strict=True):
            expected = _strain_of(f @ np.linalg.inv(fs[0]), "lattice")
            error = frame - expected[:, None, None]
            assert np.all(_rms(error[:, inside]) <= 2 * INTERIOR)


# --- displacement ---


def test_displacement_of_a_bump():
    """In nm, against the phase of the analytically smoothed wave; drift shows in it."""
    geometry, sigma = "unequal", 0.25
    g = _hexagonal()[:2]
    x, y = _coordinates(geometry)
    centre, width, push = (x.mean(), y.mean()), 0.6, np.array([0.025, 0.018])

    def bump(x, y):
        squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
        return push[:, None, None] * np.exp(-squared / (2 * width**2)) + 0.011

    phase = _movie(_image(g, geometry, bump), geometry).gpa(*g, resolution=sigma)
    u = phase.displacement()
    at_x, at_y = np.meshgrid(*(axis.axis for axis in u.axes_manager.signal_axes))
    squared = (at_x - centre[0]) ** 2 + (at_y - centre[1]) ** 2
    phases = []
    for i, v in enumerate(g):
        strength = -2 * np.pi * (v @ push)
        value = 1.0
        for n in range(1, 16):
            wide = width**2 / n + sigma**2
            term = (1j * strength) ** n / factorial(n) * (width**2 / n) / wide
            value = value + term * np.exp(-squared / (2 * wide))
        phases.append(np.angle(value) - 2 * np.pi * v.sum() * 0.011 + i)
    phases = np.array(phases)
    # no region: up to whole turns of either phase
    expected = np.einsum("ik,kyx->iyx", -np.linalg.inv(g) / (2 * np.pi), phases)
    inside, _ = _zones(u, geometry, sigma)
    difference = np.einsum("ki,iyx->kyx", g, u.data - expected)[:, inside]
    np.testing.assert_allclose(difference, np.rint(difference), atol=2e-5)
    roi = hs.roi.CircleROI(centre[0], centre[1], 0.3)
    relative = phase.displacement(reference=roi)
    region = np.hypot(at_x - centre[0], at_y - centre[1]) < 0.3
    assert np.abs(relative.data[:, region].mean(axis=-1)).max() < 1e-5


def test_displacement_over_many_periods():
    """5 % and 3 degrees: u = (1 - F^-1) r up to a constant, over a whole spacing and more."""
    geometry, g = "offset", _square()
    f = _rotation(3.0) @ np.diag([1.05, 0.98])
    movie = _movie(_image(g @ np.linalg.inv(f), geometry), geometry)
    u = movie.gpa(*g, resolution=0.3).displacement()
    at = np.array(np.meshgrid(*(axis.axis for axis in u.axes_manager.signal_axes)))
    expected = np.einsum("ij,jyx->iyx", np.eye(2) - np.linalg.inv(f), at)
    inside, _ = _zones(u, geometry, 0.3)
    error = (u.data - expected)[:, inside]
    assert np.ptp(expected[0]) > SPACING
    assert np.abs(error - error.mean(axis=1, keepdims=True)).max() < 1e-4  # nm
    # the constant is a lattice vector: the cosines start at phases 0 and 1
    periods = g @ error.mean(axis=1) + np.array([0, 1]) / (2 * np.pi)
    np.testing.assert_allclose(periods, np.rint(periods), atol=2e-4)


# --- composition ---


@pytest.mark.parametrize("method", ["gls", "a", "c", "difference", "trace"])
@pytest.mark.parametrize("number", [2, 3])
def test_composition_of_a_known_lattice(method, number):
    """From the given g of FePO4: x is exact, not clipped, in every unit."""
    for x, units, degrees in ((0.0, "nm", 0.0), (0.4, "Å", 12.0), (1.15, "nm", 200.0)):
        movie = _movie(_image(_cell_vectors(x, HKL[:number], degrees), "coarse"), "coarse", units)
        g = _cell_vectors(0.0, HKL[:number], degrees) / NM[units]
        phase = movie.gpa(*g, resolution=0.5 * NM[units], hkl=HKL[:number])
        found = phase.to_concentration(method=method)
        inside, _ = _zones(found, "coarse", 0.5)
        # the trace changes by 0.033 only
        np.testing.assert_allclose(
            found.data[inside], x, atol=IN_X if method != "trace" else 2 * IN_X
        )
        assert np.all(found.get_noise_variance().data[inside] > 0)


def test_composition_of_a_turned_particle():
    """The particle turns by 7 degrees between the frames; lengths do not."""
    turns = (0.0, 7.0, -4.0)
    images = [
        _image(_cell_vectors(0.7, HKL[:2], 12.0, _rotation(t)), "coarse unequal") for t in turns
    ]
    g = _cell_vectors(0.0, HKL[:2], 12.0)
    phase = _movie(images, "coarse unequal").gpa(*g, resolution=0.5, hkl=HKL[:2])
    for method in ("gls", "a", "c"):
        x = phase.to_concentration(method=method)
        inside, _ = _zones(x, "coarse unequal", 0.5)
        np.testing.assert_allclose(x.data[:, inside], 0.7, atol=IN_X)


@pytest.mark.parametrize("x_reference", [0.0, 0.3, 1.0])
def test_composition_relative_to_a_reference(x_reference):
    """A reference frame, and a region, of known composition; a pixel size 4 % wrong."""
    compositions = (x_reference, 0.0, 0.55, 1.0)
    images = [
        _image(_cell_vectors(x, HKL[:2], 33.0, 1.04 * np.eye(2)), "coarse") for x in compositions
    ]
    g = _cell_vectors(x_reference, HKL[:2], 33.0)
    phase = _movie(images, "coarse").gpa(*g, resolution=0.5, hkl=HKL[:2])
    roi = hs.roi.RectangularROI(1.5, 4.0, 4.0, 7.0)
    for reference in (None, roi):
        found = phase.to_concentration(
            reference=reference, reference_frame=0, x_reference=x_reference
        )
        inside, _ = _zones(found, "coarse", 0.5)
        for frame, x in zip(found.data, compositions, strict=True):
            np.testing.assert_allclose(frame[inside], x, atol=IN_X)


def test_difference_is_immune_to_magnification():
    """3 % in the magnification scales the difference of the lengths by 3 %, and moves a by 0.6."""
    for x in (0.0, 0.5, 1.0):
        g = _cell_vectors(x, HKL[:2], 12.0, 1.03 * np.eye(2))
        movie = _movie(_image(g, "coarse"), "coarse")
        phase = movie.gpa(*_cell_vectors(0.0, HKL[:2], 12.0), resolution=0.5, hkl=HKL[:2])
        found = phase.to_concentration(method="difference")
        inside, _ = _zones(found, "coarse", 0.5)
        np.testing.assert_allclose(found.data[inside], 1.03 * x, atol=IN_X)
        wrong = phase.to_concentration(method="a").data[inside]
        strain = LFP.a[1] / LFP.a[0] - 1
        np.testing.assert_allclose(wrong, 1.03 * x + 0.03 / strain, atol=IN_X)


@pytest.mark.parametrize("method", ["gls", "a", "c"])
def test_composition_of_a_user_material(method):
    """A table with kinks, in another setting, seen along c: a and b are in the plane."""
    bent = materials.Material(
        "bent",
        composition=(0.0, 0.4, 1.0),
        a=(5.79, 5.93, 6.0),
        b=(4.0, 4.02, 4.1),
        c=(9.8, 9.9, 10.2),
        zone=(0, 0, 1),
    )
    if method == "c":  # along b then
        method = "b"
    hkl = ((1, 1, 0), (1, -1, 0))
    for x in (-0.2, 0.2, 0.4, 0.8, 1.2):
        a, b, _ = bent.cell(x) / 10
        r = _rotation(-20.0)
        g = np.array([[1 / a, 1 / b], [1 / a, -1 / b]]) @ r.T
        a0, b0, _ = bent.cell(0.1) / 10
        start = np.array([[1 / a0, 1 / b0], [1 / a0, -1 / b0]]) @ r.T
        phase = _movie(_image(g, "coarse"), "coarse").gpa(*start, resolution=0.4, hkl=hkl)
        found = phase.to_concentration(bent, method=method, x_reference=0.1)
        inside, _ = _zones(found, "coarse", 0.4)
        np.testing.assert_allclose(found.data[inside], x, atol=6 * IN_X)


@pytest.mark.parametrize("definition", ["lattice", "eulerian", "finite"])
def test_composition_from_strain(definition):
    """With the direction of a given; exact for every definition and any axes of the strain."""
    x, degrees = 0.8, 12.0
    movie = _movie(_image(_cell_vectors(x, HKL[:2], degrees), "coarse"), "coarse")
    phase = movie.gpa(*_cell_vectors(0.0, HKL[:2], degrees), resolution=0.5, hkl=HKL[:2])
    direction = _rotation(degrees) @ (1, 0)
    for angle in (0.0, 25.0):
        strain = phase.strain(definition=definition, angle=angle)
        for method in ("gls", "a", "c", "difference"):
            found = strain.to_concentration(a_direction=direction, method=method)
            inside, _ = _zones(found, "coarse", 0.5)
            np.testing.assert_allclose(found.data[inside], x, atol=IN_X)


def test_composition_without_hkl_is_indexed():
    g = _cell_vectors(0.0, HKL, 77.0)
    movie = _movie(_image(_cell_vectors(0.6, HKL, 77.0), "coarse"), "coarse")
    x = movie.to_concentration(*g, resolution=0.5)
    inside, _ = _zones(x, "coarse", 0.5)
    np.testing.assert_allclose(x.data[inside], 0.6, atol=IN_X)


# --- noise ---


def _noisy(x, dose, frames, geometry="coarse", degrees=12.0, seed=0):
    random = np.random.default_rng(seed)
    image = dose * _image(_cell_vectors(x, HKL[:2], degrees), geometry)
    return _movie(random.poisson(image, (frames, *image.shape)), geometry, dtype="uint16")


@pytest.mark.parametrize("geometry", ["coarse", "coarse unequal"])
@pytest.mark.parametrize("method", ["gls", "a", "c", "difference", "trace"])
def test_variance_of_the_composition(method, geometry):
    """Predicted over actual rms between 0.9 and 1.1 (gate)."""
    phase = _noisy(0.5, 200, 40, geometry).gpa(
        *_cell_vectors(0.5, HKL[:2], 12.0), resolution=0.45, hkl=HKL[:2]
    )
    found = phase.to_concentration(method=method, x_reference=0.5)
    inside, _ = _zones(found, geometry, 0.45, windows=3)
    actual = np.mean((found.data - 0.5)[:, inside].astype(float) ** 2)
    predicted = found.get_noise_variance().data[:, inside].mean(dtype=float)
    assert 0.9 < np.sqrt(predicted / actual) < 1.1


def test_noise_of_unequal_pixels():
    """White noise s gives either derivative the variance s^2 dx dy / (2 pi sigma^4)."""
    geometry, spread, sigma = "coarse unequal", 0.1, 0.45
    g = _cell_vectors(0.5, HKL[:2], 12.0)
    random = np.random.default_rng(0)
    image = _image(g, geometry)
    movie = _movie(image + spread * random.standard_normal((20, *image.shape)), geometry)
    phase = movie.gpa(*g, resolution=sigma)
    inside, _ = _zones(phase, geometry, sigma, windows=3.5)
    variance = phase.data[:, :, 3][..., inside].mean(axis=(0, 2))
    _, (dy, dx), _ = GEOMETRIES[geometry]
    expected = spread**2 * dx * dy / (2 * np.pi * sigma**4)
    np.testing.assert_allclose(variance.real, variance.imag, rtol=0.01)
    np.testing.assert_allclose(np.sqrt(variance.real / expected), 1, atol=0.1)  # gate


def test_composition_is_as_good_as_counting_allows():
    """The strain along a at the bound of gpa.md, over 0.052; interior, within 4 %."""
    dose, sigma = 200, 0.45
    g = _cell_vectors(0.5, HKL[:2], 12.0)
    found = _noisy(0.5, dose, 60).gpa(*g, resolution=sigma, hkl=HKL[:2])
    found = found.to_concentration(method="a", x_reference=0.5)
    inside, _ = _zones(found, "coarse", 0.45, windows=3.5)
    scale = GEOMETRIES["coarse"][1][0]
    a = _rotation(12.0) @ (1, 0)
    m = sum(0.2**2 * np.outer(v, v) for v in g * scale)
    bound = a @ np.linalg.inv(m) @ a / (16 * np.pi**3 * (sigma / scale) ** 4 * dose)
    # a relative to x = 0.5, where the slope is a little smaller
    slope = (LFP.a[1] - LFP.a[0]) / LFP.cell(0.5)[0]
    ratio = np.std(found.data[:, inside]) * slope / np.sqrt(bound)
    assert 0.96 < ratio < 1.06


def test_standard_error_of_the_evolution():
    """What it says is how means over regions scatter, for one resolution cell and for many.

    Over large regions far less than by 1 / sqrt(N), since the noise of a derivative has little
    power at long waves.
    """
    movie = _noisy(0.5, 200, 80)
    phase = movie.gpa(*_cell_vectors(0.5, HKL[:2], 12.0), resolution=0.45, hkl=HKL[:2])
    x = phase.to_concentration(x_reference=0.5)
    rois = {
        "point": hs.roi.RectangularROI(2.5, 5.0, 2.65, 5.15),
        "large": hs.roi.RectangularROI(0.0, 3.0, 5.4, 7.8),
    }
    evolution = x.evolution(rois)
    error = evolution.standard_error.data
    scatter = evolution.data.std(axis=1)
    mean_error = np.sqrt((error**2).mean(axis=1))
    assert 0.85 < mean_error[0] / scatter[0] < 1.15  # 80 values: 8 %
    assert scatter[1] < 1.1 * mean_error[1] < 1.1 * 1.15 * scatter[1]
    # 4 pi sigma^2 an independent value
    area = 5.4 * 4.8
    assert mean_error[1] / mean_error[0] < 0.6 * np.sqrt(4 * np.pi * 0.45**2 / area)


# --- before the phases ---


@pytest.mark.parametrize("units", ["nm", "Å"])
@pytest.mark.parametrize("geometry", ["coarse", "coarse unequal"])
def test_found_vectors(geometry, units):
    """Refined to a tenth of an FFT pixel at 50 electrons a pixel, in 1/units."""
    g = _cell_vectors(0.4, HKL, 12.0)
    random = np.random.default_rng(0)
    images = random.poisson(50 * _image(g, geometry), (2, *GEOMETRIES[geometry][0]))
    movie = _movie(images, geometry, units, dtype="uint16")
    found = movie.find_g_vectors(n=6) * NM[units]
    assert len(found) == 3
    size = np.array(GEOMETRIES[geometry][0]) * GEOMETRIES[geometry][1]
    off = np.minimum(
        np.linalg.norm((found[:, None] - g) * size[::-1], axis=-1),
        np.linalg.norm((found[:, None] + g) * size[::-1], axis=-1),
    )
    assert np.all(off.min(axis=0) < 0.1)
    indices = movie.index_g_vectors(found / NM[units])
    # one linear map from indices to vectors
    hkl = np.array(indices, dtype=float)[:, [0, 2]]
    fitted = hkl @ np.linalg.lstsq(hkl, found, rcond=None)[0]
    np.testing.assert_allclose(fitted, found, atol=0.01 * np.abs(found).max())


@pytest.mark.parametrize("method", ["correlation", "phase"])
def test_drift_in_units(method):
    """A particle that moves, with unequal scales: (x, y) in the units of the axes."""
    geometry = "unequal"
    g = _square()
    x, y = _coordinates(geometry)
    drifts = np.array([[0.0, 0.0], [0.13, -0.31], [-0.4, 0.22]])

    def frame(d):
        radius = np.hypot(x - x.mean() - d[0], y - y.mean() - d[1])
        outline = 1 / (1 + np.exp((radius - 1.2) / 0.05))
        return 1 + outline * (_image(g, geometry, lambda x, y: d) - 1.3)

    movie = _movie([frame(d) for d in drifts], geometry)
    found = movie.estimate_drift(method, g=g if method == "phase" else None)
    np.testing.assert_allclose(found.data, drifts, atol=0.005 if method == "correlation" else 5e-4)
    back = movie.correct_drift(found)
    error = (back.data - movie.data[0])[:, 40:-40, 40:-40]
    assert np.nanmax(np.abs(error)) < 0.1
