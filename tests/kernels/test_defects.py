"""Dislocations against the closed form of isotropic elasticity, and their absence."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from hyperspy_lfp.kernels.gpa import defects, lattice
from hyperspy_lfp.kernels.gpa.lockin import plane_wave_fit
from hyperspy_lfp.kernels.gpa.plan import plan_lockin

# test files of different folders share no module
_SPEC = importlib.util.spec_from_file_location(
    "array_modules", Path(__file__).parents[1] / "array_modules.py"
)
modules = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(modules)

SIGMA = 16.0
SHAPE = (211, 240)
CENTRE = np.array([121.3, 102.7])  # (x, y)
POISSON_RATIO = 0.3


def edge(at, burgers, nu=POISSON_RATIO):
    """Displacement of an edge dislocation, Hirth & Lothe, in the axes of the image."""
    length = np.hypot(*burgers)
    t = np.asarray(burgers) / length

    def displacement(x, y):
        dx, dy = x - at[0], y - at[1]
        along, across = dx * t[0] + dy * t[1], dy * t[0] - dx * t[1]
        r2 = along**2 + across**2 + 1e-12
        shear = along * across / (2 * (1 - nu) * r2)
        u = length / (2 * np.pi) * (np.arctan2(across, along) + shear)
        log = (1 - 2 * nu) / (4 * (1 - nu)) * np.log(r2)
        v = -length / (2 * np.pi) * (log + (along**2 - across**2) / (4 * (1 - nu) * r2))
        return u * t[0] - v * t[1], u * t[1] + v * t[0]

    return displacement


def both(*displacements):
    return lambda x, y: np.sum([u(x, y) for u in displacements], axis=0)


def direct(lattice_):
    """Columns are the lattice vectors that belong to the two reciprocal ones."""
    return np.linalg.inv(lattice_.g)


def vectors(lattice_, number=None):
    return np.array([w[0] for w in lattice_.waves])[:number]


def find(synthetic, frames, g, sigma=SIGMA, step=3.0):
    frames = np.asarray(frames)
    frames = frames if frames.ndim == 3 else frames[None]
    positions = [np.linspace(0, n - 1, int(step * n / sigma)) for n in frames.shape[1:]]
    c, _ = synthetic.fit(frames, g, sigma, positions)
    return defects.find_dislocations(c, g, sigma, positions)


def check(core, burgers, g, at=CENTRE, sigma=SIGMA, step=0.0):
    """Burgers vector and windings are exact, the position is good to a third of sigma or a cell."""
    np.testing.assert_allclose(core.burgers, burgers, atol=1e-9)
    np.testing.assert_array_equal(core.windings, np.rint(-g @ burgers))
    assert np.hypot(core.x - at[0], core.y - at[1]) <= max(sigma / 3, step / np.sqrt(2))


# --- sign and size ---


def test_sign_convention():
    """b is the integral of du from +x to +y, and the extra half plane is at y > 0."""
    burgers = np.array([10.0, 0.0])
    u = edge((0.0, 0.0), burgers)
    angle = np.linspace(0, 2 * np.pi, 1001) + 0.1
    steps = np.diff(u(np.cos(angle), np.sin(angle)), axis=1)
    steps -= burgers[:, None] * np.rint(steps / 10.0)  # over the cut of atan2
    np.testing.assert_allclose(steps.sum(axis=1), burgers, atol=1e-9)
    x = np.linspace(-1e4, 1e4, 200001)
    above, below = (np.cos(2 * np.pi / 10 * (x - u(x, np.full_like(x, y))[0])) for y in (-30, 30))
    planes = [np.count_nonzero((row[1:] >= 0) & (row[:-1] < 0)) for row in (above, below)]
    assert planes[1] - planes[0] == 1


@pytest.mark.parametrize("indices", [(1, 0), (-1, 0), (0, 1), (1, 1), (1, -1), (2, 1)])
@pytest.mark.parametrize("name", ["square", "rotated", "hexagonal", "oblique"])
def test_edge_dislocations(synthetic, name, indices):
    """Two fringe sets, or three for the hexagonal lattice; along x, along y, oblique."""
    lattice_ = synthetic.lattice(name)
    burgers, g = direct(lattice_) @ indices, vectors(lattice_)
    image = synthetic.image(SHAPE, lattice_.waves, edge(CENTRE, burgers))
    (found,) = find(synthetic, image, g)
    assert len(found) == 1
    check(found[0], burgers, g)


@pytest.mark.parametrize("step", [1.2, 2.0, 4.7])
def test_sampling(synthetic, step):
    lattice_ = synthetic.lattice("rotated")
    burgers = direct(lattice_)[:, 0]
    image = synthetic.image(SHAPE, lattice_.waves, edge(CENTRE, burgers))
    (found,) = find(synthetic, image, lattice_.g, step=step)
    assert len(found) == 1
    check(found[0], burgers, lattice_.g, step=max(SHAPE) / (int(min(SHAPE) * step / SIGMA) - 1))


def test_sampled_at_every_pixel(synthetic):
    sigma, shape = 9.0, (75, 70)
    lattice_ = synthetic.lattice("square")
    image = synthetic.image(shape, lattice_.waves, edge((36.4, 33.1), (synthetic.SPACING, 0.0)))
    positions = [np.arange(float(n)) for n in shape]
    c, _ = synthetic.fit(image[None], lattice_.g, sigma, positions)
    ((core,),) = defects.find_dislocations(c, lattice_.g, sigma, positions)
    check(core, (synthetic.SPACING, 0.0), lattice_.g, (36.4, 33.1), sigma)


@pytest.mark.parametrize("pixel", [(0.03, 0.02), (0.01, 0.025)])
def test_pixels_that_are_not_square(synthetic, pixel):
    """In nanometres, (y, x) size of a pixel; the sampling is not square either."""
    pixel, sigma, g = np.array(pixel), 0.4, np.array([[3.9, 0.6], [-0.7, 4.4]])
    shape = tuple(np.rint(13 * sigma / pixel).astype(int) + (0, 1))
    origin = (-3.0, 2.5)
    at = np.array([6.2, 6.8]) * sigma
    burgers = -np.linalg.inv(g)[:, 1]
    y, x = ((np.arange(n) + o) * d for n, o, d in zip(shape, origin, pixel, strict=True))
    at = at + np.array([x[0], y[0]])
    ux, uy = edge(at, burgers)(x[None, :], y[:, None])
    image = 1 + sum(0.2 * np.cos(2 * np.pi * (a * (x - ux) + b * (y[:, None] - uy))) for a, b in g)
    places = [np.linspace(0, n - 1, m) for n, m in zip(shape, (33, 41), strict=True)]
    plan = plan_lockin(shape, g[:, ::-1] * pixel, sigma / pixel, places, origin, pixel)
    positions = [(p + o) * d for p, o, d in zip(places, origin, pixel, strict=True)]
    c = plane_wave_fit(image[None], plan)
    ((core,),) = defects.find_dislocations(c, g, sigma, positions)
    check(core, burgers, g, at, sigma)


@pytest.mark.parametrize("sign", [-1, 1], ids=["dipole", "equal"])
def test_two_dislocations(synthetic, sign):
    """Six sigma apart."""
    lattice_ = synthetic.lattice("oblique")
    burgers = direct(lattice_)[:, 1]
    places = (CENTRE - (3 * SIGMA, 0), CENTRE + (3 * SIGMA, 10.0))
    u = both(edge(places[0], burgers), edge(places[1], sign * burgers))
    (found,) = find(synthetic, synthetic.image(SHAPE, lattice_.waves, u), lattice_.g)
    assert len(found) == 2  # from top to bottom
    check(found[0], burgers, lattice_.g, places[0])
    check(found[1], sign * burgers, lattice_.g, places[1])


def test_given_g_that_are_not_those_of_the_image(synthetic):
    """Turned by 5 degrees and 5 % too short: b is that lattice vector in the given lattice."""
    lattice_ = synthetic.lattice("square")
    image = synthetic.image(SHAPE, lattice_.waves, edge(CENTRE, direct(lattice_)[:, 0]))
    g = 0.95 * lattice_.g @ synthetic.rotation_matrix(5.0).T
    ((core,),) = find(synthetic, image, g)
    np.testing.assert_allclose(core.burgers, np.linalg.inv(g)[:, 0], atol=1e-9)
    assert core.windings == (-1, 0)


@pytest.mark.parametrize("dose", [100, 10])
def test_dislocations_in_noise(synthetic, dose):
    """Electrons per pixel; a frame without a lattice and one of not-a-number in between."""
    lattice_ = synthetic.lattice("hexagonal")
    burgers, g = direct(lattice_)[:, 0], vectors(lattice_)
    image = synthetic.image(SHAPE, lattice_.waves, edge(CENTRE, burgers))
    random = np.random.default_rng(dose)
    frames = random.poisson(dose * image, (4, *SHAPE)).astype(float)
    frames[1] = random.poisson(dose, SHAPE)
    frames[2] = np.nan
    frames[3, ::17, ::13] = np.nan  # dead pixels
    found = find(synthetic, frames, g)
    assert [len(f) for f in found] == [1, 0, 0, 1]
    check(found[0][0], burgers, g)
    check(found[3][0], burgers, g)


# --- no dislocation ---


def _front(x, y):
    """The spacing along x changes by 5 % within a sigma."""
    width = SIGMA / 4
    return 0.05 * width * np.logaddexp((x - CENTRE[0]) / width, 0), 0 * x


DEFORMED = {
    "perfect": None,
    "strained": lambda x, y: (0.08 * (x - 100), -0.05 * (y - 100) + 0.03 * x),
    "rotated": lambda x, y: (0.087 * y, -0.087 * x),
    "front": _front,
    "bump": lambda x, y: (
        8 * np.exp(-((x - 120) ** 2 + (y - 100) ** 2) / (2 * 30.0**2)),
        0 * x,
    ),
}


@pytest.mark.parametrize("dose", [None, 100, 3, 0.3, 0.05])
@pytest.mark.parametrize("name", ["square", "hexagonal"])
def test_none_in_a_crystal_without(synthetic, name, dose):
    """However it is strained, and however few electrons there are."""
    lattice_ = synthetic.lattice(name)
    frames = np.array([synthetic.image(SHAPE, lattice_.waves, u) for u in DEFORMED.values()])
    if dose is not None:
        frames = np.random.default_rng(0).poisson(dose * frames).astype(float)
    assert find(synthetic, frames, vectors(lattice_)) == [[]] * len(frames)


@pytest.mark.parametrize("sigma", [10.3, 20.6])
@pytest.mark.parametrize("number", [2, 3])
def test_none_in_noise(synthetic, number, sigma):
    """There is a zero of each amplitude in every 4 pi sigma^2: in these frames a thousand."""
    frames = np.random.default_rng(1).standard_normal((20, *SHAPE)) + 5
    g = vectors(synthetic.lattice("hexagonal"), number)
    assert find(synthetic, frames, g, sigma) == [[]] * 20


@pytest.mark.parametrize("dose", [None, 100, 3])
def test_none_around_a_particle_or_a_reversal(synthetic, dose):
    lattice_ = synthetic.lattice("rotated")
    fringes = synthetic.image(SHAPE, lattice_.waves, mean=0)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    r = np.hypot(x - CENTRE[0], y - CENTRE[1])
    contrasts = [
        r < 70,  # a particle in vacuum
        r > 20,  # a pore
        np.sign(x + 0.4 * y - 160),  # contrast reversal, sharp and gradual
        np.tanh((x + 0.4 * y - 160) / 20),
        np.sign(r - 40),  # closed
    ]
    frames = np.array([1 + fringes * contrast for contrast in contrasts])
    if dose is not None:
        frames = np.random.default_rng(2).poisson(dose * frames).astype(float)
    assert find(synthetic, frames, lattice_.g) == [[]] * len(frames)


def test_none_where_the_circuit_does_not_close(synthetic):
    """Half a sigma from the border, and beside vacuum."""
    lattice_ = synthetic.lattice("square")
    burgers = direct(lattice_)[:, 0]
    near = synthetic.image(SHAPE, lattice_.waves, edge((120.0, SIGMA / 2), burgers))
    image = synthetic.image(SHAPE, lattice_.waves, edge(CENTRE, burgers), mean=0)
    image[:, int(CENTRE[0] + SIGMA / 2) :] = 0
    assert find(synthetic, [near, 1 + image], lattice_.g) == [[], []]


# --- coefficients made by hand ---


def _vortices(windings, noise=1e-9, shape=(41, 43)):
    """Samples a third of sigma = 3 apart, with the phase of each reflection winding around 0."""
    positions = [np.arange(n) - n // 2 + 0.5 for n in shape]
    z = positions[1] + 1j * positions[0][:, None]
    c = np.zeros((1, len(windings), 4, *shape), dtype=complex)
    for out, q in zip(c[0], windings, strict=True):
        power = z ** abs(q)
        slope = abs(q) * z ** (abs(q) - 1) if q else 0 * z
        out[:3] = power, slope, 1j * slope
        if q < 0:
            out[:3] = out[:3].conj()
        out[:3] /= 1e-9 + abs(power) - (abs(power) - 1) * (abs(z) < 2)  # amplitude one outside
        out[3] = noise * (1 + 1j)
    return c, positions


HEXAGONAL = np.array([[0.1, 0.0], [0.05, 0.0866], [0.05, -0.0866]])


def test_reflections_that_do_not_see_it():
    c, positions = _vortices([2, 0])
    ((core,),) = defects.find_dislocations(c, HEXAGONAL[:2], 3.0, positions)
    assert core.windings == (2, 0)
    # g . b is -2 and 0
    np.testing.assert_allclose(HEXAGONAL[:2] @ core.burgers, [-2, 0], atol=1e-12)
    assert (core.x, core.y) == pytest.approx((0, 0), abs=0.5)


@pytest.mark.parametrize(
    ("windings", "number"), [((1, 0, 1), 1), ((1, 1, 0), 1), ((1, 0, 0), 0), ((1, 1, 1), 0)]
)
def test_windings_belong_to_one_burgers_vector(windings, number):
    """g_1 = g_2 + g_3, and so the windings: else it is none."""
    c, positions = _vortices(windings)
    (found,) = defects.find_dislocations(c, HEXAGONAL, 3.0, positions)
    assert len(found) == number


def test_unknown_noise_proves_nothing():
    c, positions = _vortices([1, 0], noise=np.nan)
    assert defects.find_dislocations(c, HEXAGONAL[:2], 3.0, positions) == [[]]


@pytest.mark.parametrize("shape", [(41, 11), (3, 43), (1, 43), (2, 2)])
def test_frames_too_small_for_a_circuit(shape):
    c, positions = _vortices([1, 0], shape=shape)
    assert defects.find_dislocations(c, HEXAGONAL[:2], 3.0, positions) == [[]]


@pytest.mark.filterwarnings("error")
def test_nothing_at_all():
    c, positions = _vortices([1, 0])
    for value in (np.nan, 0.0):
        assert defects.find_dislocations(np.full_like(c, value), HEXAGONAL[:2], 3.0, positions) == [
            []
        ]
    assert defects.find_dislocations(c[:0], HEXAGONAL[:2], 3.0, positions) == []


def test_collinear_reflections():
    c, positions = _vortices([1, 2])
    for g in ([[0.1, 0.02], [0.2, 0.04]], [[0.1, 0.02]]):
        with pytest.raises(ValueError, match="collinear"):
            defects.find_dislocations(c[:, : len(g)], g, 3.0, positions)


def test_samples_too_far_apart():
    c, positions = _vortices([1, 0])
    with pytest.raises(ValueError, match="finer step"):
        defects.find_dislocations(c, HEXAGONAL[:2], 0.9, positions)
    with pytest.raises(ValueError, match="must increase"):
        defects.find_dislocations(c, HEXAGONAL[:2], 3.0, [p[::-1] for p in positions])


# --- what a core spoils ---


def test_core_mask():
    positions = (np.arange(-20.0, 20), np.arange(0.0, 60, 1.5))
    core = defects.Dislocation(30.0, 4.0, (10.0, 0.0), (-1, 0))
    mask = defects.core_mask([[], [core]], positions, 3.0)
    assert mask.shape == (2, 40, 40) and not mask[0].any()
    distance = np.hypot(positions[1] - 30, positions[0][:, None] - 4)
    np.testing.assert_array_equal(mask[1], distance <= defects.CORE_RADIUS * 3.0)


def test_strain_outside_the_core(synthetic):
    """Just outside, the error is no more than the noise at 100 electrons per pixel, contrast 0.2.

    Against the true strain smoothed with the window; gpa.md's limit d / (4 pi^1.5 s^2 C sqrt(D)).
    """
    sigma, d, n = 2 * synthetic.SPACING, synthetic.SPACING, 300
    at = np.array([150.3, 149.6])
    lattice_ = synthetic.lattice("square")
    image = synthetic.image((n, n), lattice_.waves, edge(at, (d, 0.0)))
    positions = [np.arange(60.0, 240.0, 6)] * 2
    c, _ = synthetic.fit(image[None], lattice_.g, sigma, positions)
    found = defects.find_dislocations(c, lattice_.g, sigma, positions)
    mask = defects.core_mask(found, positions, sigma)[0]
    e = lattice.deformation(c, lattice_.g, sigma)[0][:, :, 0]

    y, x = np.mgrid[:n, :n].astype(float)
    h, u = 0.01, edge(at, (d, 0.0))
    rows = []
    for dx, dy in ((h, 0), (0, h)):
        change = np.subtract(u(x + dx, y + dy), u(x - dx, y - dy))
        rows.append((change - d * np.rint(change / d)) / (2 * h))
    true = np.swapaxes(rows, 0, 1)
    smooth = ndimage.gaussian_filter(true, (0, 0, sigma, sigma))[..., 60:240:6, 60:240:6]
    distance = np.hypot(*np.meshgrid(*(p - a for p, a in zip(positions, at, strict=True))))
    ring = ~mask & (distance < (defects.CORE_RADIUS + 0.4) * sigma)
    assert ring.sum() > 50
    limit = d / (4 * np.pi**1.5 * sigma**2 * 0.2 * np.sqrt(100))
    assert np.sqrt(np.mean((e - smooth)[..., ring] ** 2)) < limit
    assert np.abs((e - smooth)[..., mask & (distance > 1.5 * sigma)]).max() > 10 * limit


@pytest.mark.parametrize("name", modules.NAMES)
def test_array_modules(synthetic, name):
    """The same on a device, for frames with and without a dislocation."""
    c, positions = _vortices([1, 0])
    perfect, _ = _vortices([0, 0])
    c = np.concatenate([perfect, c, np.full_like(c, np.nan)])
    expected = defects.find_dislocations(c, HEXAGONAL[:2], 3.0, positions)
    assert [len(f) for f in expected] == [0, 1, 0]
    with modules.array_module(name) as xp:
        found = defects.find_dislocations(xp.asarray(c), HEXAGONAL[:2], 3.0, positions)
    assert found == expected
