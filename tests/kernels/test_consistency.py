"""Contrast reversal and closure, against images whose phases are known, and their absence."""

import importlib.util
from math import gcd
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hyperspy_lfp.kernels.gpa import consistency, defects, lattice

# test files of different folders share no module
_SPEC = importlib.util.spec_from_file_location(
    "array_modules", Path(__file__).parents[1] / "array_modules.py"
)
modules = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(modules)

SIGMA = 16.0
SHAPE = (211, 240)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
CENTRE = np.array([121.3, 102.7])  # (x, y)


def coefficients(synthetic, frames, g, step=3.0, sigma=SIGMA):
    frames = np.asarray(frames)
    frames = frames if frames.ndim == 3 else frames[None]
    positions = [np.linspace(0, n - 1, int(step * n / sigma)) for n in frames.shape[1:]]
    return synthetic.fit(frames, g, sigma, positions)[0], positions


def jumps(synthetic, frames, g, step=3.0, sigma=SIGMA):
    c, positions = coefficients(synthetic, frames, g, step, sigma)
    return consistency.phase_jumps(c, sigma, positions)


def vectors(lattice_, number=None):
    return np.array([w[0] for w in lattice_.waves])[:number]


def fringes(synthetic, lattice_, contrast, displacement=None, of=0):
    """A lattice of which one reflection has the given contrast."""
    return 1 + sum(
        synthetic.image(SHAPE, [wave], displacement, mean=0) * (contrast if k == of else 1)
        for k, wave in enumerate(lattice_.waves)
    )


def at_samples(field, positions):
    """Values of a function of the pixels at the samples."""
    rows, columns = (np.rint(p).astype(int) for p in positions)
    return field[rows[:, None], columns]


def line_at(degrees):
    angle = np.deg2rad(degrees)
    return (X - CENTRE[0]) * np.cos(angle) + (Y - CENTRE[1]) * np.sin(angle)


def vortex(at, burgers):
    """Displacement of a screw-like singularity: no strain but that of the turning phase."""
    return lambda x, y: np.multiply.outer(
        np.asarray(burgers) / (2 * np.pi), np.arctan2(y - at[1], x - at[0])
    )


# --- contrast reversal ---

#: Signed distance from the line in pixels.
LINES = {
    "0": line_at(0),
    "20": line_at(20),
    "45": line_at(45),
    "90": line_at(90),
    "-70": line_at(-70),
    "curved": X - 90 - (Y - 100) ** 2 / 300,
    "island": np.hypot(X - CENTRE[0], Y - CENTRE[1]) - 3 * SIGMA,
}


def _distance(signed):
    """Of every pixel from the zero line of a field."""
    crossing = np.zeros(SHAPE, dtype=bool)
    crossing[:, 1:] |= signed[:, 1:] * signed[:, :-1] <= 0
    crossing[1:] |= signed[1:] * signed[:-1] <= 0
    return ndimage.distance_transform_edt(~crossing)


@pytest.mark.parametrize("step", [3.0, 1.2])
@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("kind", ["sharp", "gradual", "unequal", "strained"])
def test_reversal(synthetic, line, kind, step):
    """Only the one of two reflections that jumps, and the samples near the line.

    The line that is found is as wide as the amplitude is below half of that of both sides: 0.6
    sigma to each side of a sharp one, and a sample.
    """
    signed = LINES[line]
    contrast = {
        "gradual": np.tanh(signed / SIGMA),
        "unequal": np.where(signed > 0, 1.0, -0.5),
    }.get(kind, np.sign(signed))
    strain = (lambda x, y: (0.03 * (x - 100), -0.02 * (y - 100))) if kind == "strained" else None
    lattice_ = synthetic.lattice("rotated")
    c, positions = coefficients(
        synthetic, fringes(synthetic, lattice_, contrast, strain), lattice_.g, step
    )
    ((first, second),) = consistency.phase_jumps(c, SIGMA, positions)
    assert not second.any()
    distance = at_samples(_distance(signed), positions)
    border = synthetic.border(positions, SHAPE)
    assert first[(distance < 1.5 * SIGMA) & (border > 1.5 * SIGMA)].all()
    width = max(p[1] - p[0] for p in positions)
    assert not first[distance > (consistency.JUMP_RADIUS + 1) * SIGMA + width].any()


@pytest.mark.parametrize("line", LINES)
def test_unequal_steps(synthetic, line):
    """A sample every 4 pixels along y, every 11 along x; both reflections are reversed."""
    lattice_ = synthetic.lattice("oblique")
    image = synthetic.image(SHAPE, lattice_.waves, modulation=lambda x, y: np.sign(LINES[line]))
    positions = [np.arange(0.0, n, d) for n, d in zip(SHAPE, (4, 11), strict=True)]
    c, _ = synthetic.fit(image[None], lattice_.g, SIGMA, positions)
    found = consistency.phase_jumps(c, SIGMA, positions)[0]
    distance = at_samples(_distance(LINES[line]), positions)
    border = synthetic.border(positions, SHAPE)
    assert found[:, (distance < 1.5 * SIGMA) & (border > 1.5 * SIGMA)].all()
    assert not found[:, distance > (consistency.JUMP_RADIUS + 1) * SIGMA + 11].any()


def test_what_a_reversal_spoils(synthetic):
    """Outside the flag no more than 0.09 of the strain relative to the mean lattice is lost."""
    n, strain, sigma = 330, 0.025, 2 * synthetic.SPACING
    x = np.arange(float(n))
    lattice_ = synthetic.lattice("square")
    # stretched above, compressed below: the mean lattice is that of g
    waves = synthetic.image(
        (n, n), lattice_.waves, lambda x, y: (strain * (x - 165) * np.sign(y - 165), 0 * x), mean=0
    )
    positions = [np.linspace(0, n - 1, 49)] * 2
    c, _ = synthetic.fit(
        np.array([1 + waves, 1 + waves * np.sign(x - 165)]), lattice_.g, sigma, positions
    )
    e = lattice.deformation(c, lattice_.g, sigma)[0]
    spoiled = consistency.phase_jumps(c, sigma, positions)[1].any(axis=0)
    row = np.argmin(np.abs(positions[0] - 260))  # far from the border and from the other half
    error = np.abs(e[0, 0, 1] - e[0, 0, 0])[row]
    inside = np.abs(positions[1] - 165) < 5 * sigma
    assert error[~spoiled[row] & inside].max() < 0.09 * strain
    assert np.nanmax(error[spoiled[row]]) > 0.4 * strain


@pytest.mark.parametrize("dose", [100, 10])
def test_reversal_in_noise(synthetic, dose):
    """All of a line that is not at the border, in a frame with dead pixels as well."""
    lattice_ = synthetic.lattice("hexagonal")
    g = vectors(lattice_)
    clean = fringes(synthetic, lattice_, np.sign(LINES["20"]), of=2)
    frames = np.random.default_rng(dose).poisson(dose * clean, (3, *SHAPE)).astype(float)
    frames[1] = np.nan
    frames[2, ::17, ::13] = np.nan
    c, positions = coefficients(synthetic, frames, g)
    found = consistency.phase_jumps(c, SIGMA, positions)
    assert not found[:, :2].any() and not found[1].any()
    near = at_samples(np.abs(LINES["20"]), positions) < SIGMA
    near &= synthetic.border(positions, SHAPE) > 1.5 * SIGMA
    assert found[0, 2][near].all() and found[2, 2][near].all()


def _front(x, y):
    """The spacing along x changes by 5 % within a sigma."""
    width = SIGMA / 4
    return 0.05 * width * np.logaddexp((x - CENTRE[0]) / width, 0), 0 * x


DISPLACEMENTS = {
    "perfect": None,
    "strained": lambda x, y: (0.08 * (x - 100), -0.05 * (y - 100) + 0.03 * x),
    "rotated": lambda x, y: (0.087 * y, -0.087 * x),
    "front": _front,
    "oblique front": lambda x, y: np.multiply(_front((x + y) / np.sqrt(2) - 37, y), 0.7),
}


@pytest.mark.parametrize("dose", [None, 100, 3, 0.3])
@pytest.mark.parametrize("name", ["square", "hexagonal"])
def test_no_reversal_in_a_crystal(synthetic, name, dose):
    lattice_ = synthetic.lattice(name)
    frames = np.array([synthetic.image(SHAPE, lattice_.waves, u) for u in DISPLACEMENTS.values()])
    if dose is not None:
        frames = np.random.default_rng(0).poisson(dose * frames).astype(float)
    assert not jumps(synthetic, frames, vectors(lattice_)).any()


@pytest.mark.parametrize("dose", [None, 100])
def test_a_dislocation_is_no_reversal(synthetic, dose):
    """Nor are two opposite ones, six sigma apart, though the phase between is off by pi."""
    lattice_ = synthetic.lattice("hexagonal")
    lengths = np.linalg.inv(lattice_.g)
    left, right = CENTRE - (3 * SIGMA, 0), CENTRE + (3 * SIGMA, 0)
    frames = []
    for burgers in (lengths[:, 0], lengths[:, 1], lengths @ (1, -1)):
        frames.append(synthetic.image(SHAPE, lattice_.waves, vortex(CENTRE, burgers)))
        pair = vortex(left, burgers), vortex(right, -burgers)
        frames.append(
            synthetic.image(SHAPE, lattice_.waves, lambda x, y, p=pair: p[0](x, y) + p[1](x, y))
        )
    if dose is not None:
        frames = np.random.default_rng(0).poisson(dose * np.array(frames)).astype(float)
    g = vectors(lattice_)
    c, positions = coefficients(synthetic, frames, g)
    found = defects.find_dislocations(c, g, SIGMA, positions)
    assert [len(f) for f in found] == [1, 2] * 3  # else there is nothing to be tested
    assert not consistency.phase_jumps(c, SIGMA, positions).any()


@pytest.mark.parametrize("dose", [None, 100, 10])
def test_weak_contrast_and_rims_are_no_reversal(synthetic, dose):
    """A gap, vacuum, a groove of weak contrast, and a piece that is shifted by a quarter."""
    lattice_ = synthetic.lattice("rotated")
    wave = synthetic.image(SHAPE, lattice_.waves, mean=0)
    shift = synthetic.SPACING / 4 * lattice_.g[0] / np.linalg.norm(lattice_.g[0])
    moved = synthetic.image(
        SHAPE, lattice_.waves, lambda x, y: shift[:, None, None] + 0 * x, mean=0
    )
    s = LINES["20"]
    frames = np.array(
        [
            1 + wave * (np.hypot(X - 120, Y - 100) < 70),
            1 + wave * (np.abs(s) > SIGMA),
            1 + wave * np.clip(np.abs(s) / SIGMA, 0.05, 1),
            1 + np.where(s > 0, wave, moved),
            1 + np.where(s > SIGMA / 2, wave, moved) * (np.abs(s) > SIGMA / 2),
        ]
    )
    if dose is not None:
        frames = np.random.default_rng(0).poisson(dose * frames).astype(float)
    assert not jumps(synthetic, frames, lattice_.g).any()


@pytest.mark.parametrize("sigma", [10.3, 20.6])
def test_no_reversal_in_noise(synthetic, sigma):
    frames = np.random.default_rng(1).standard_normal((20, *SHAPE)) + 5
    assert not jumps(synthetic, frames, synthetic.lattice("oblique").g, sigma=sigma).any()


@pytest.mark.filterwarnings("error")
def test_nothing_at_all():
    positions = [np.arange(9.0), np.arange(8.0)]
    for value in (np.nan, 0.0):
        c = np.full((2, 2, 4, 9, 8), value, dtype=np.complex64)
        assert not consistency.phase_jumps(c, 2.0, positions).any()
        closed = consistency.closure(c, [[2, -1]], np.eye(2), 2.0, positions)
        assert np.isnan(closed.residual).all() and np.isnan(closed.standard_error).all()
        assert not consistency.closure_failure(closed, [[2, -1]], np.eye(2), 2.0).any()


def test_unknown_noise_proves_no_reversal(synthetic):
    lattice_ = synthetic.lattice("square")
    c, positions = coefficients(
        synthetic, fringes(synthetic, lattice_, np.sign(LINES["0"])), lattice_.g
    )
    assert consistency.phase_jumps(c, SIGMA, positions).any()
    c[:, :, 3] = np.nan
    assert not consistency.phase_jumps(c, SIGMA, positions).any()


def test_samples_too_far_apart():
    c = np.ones((1, 2, 4, 5, 5), dtype=np.complex64)
    with pytest.raises(ValueError, match="finer step"):
        consistency.phase_jumps(c, 1.0, [np.arange(5) * 1.2] * 2)


# --- which reflections depend on each other ---


@pytest.mark.parametrize(
    ("hkl", "expected"),
    [
        ([(2, 0, 0), (1, 0, 1), (1, 0, -1)], [[1, -1, -1]]),
        ([(1, 0, 1), (-1, 0, 1), (0, 0, 2)], [[1, 1, -1]]),
        ([(1, 0, 1), (2, 0, 2)], [[2, -1]]),
        ([(2, 0, 0), (-4, 0, 0), (0, 0, 2)], [[2, 1, 0]]),
        ([(2, 0, 0), (0, 0, 2)], []),
        ([(2, 0, 0), (0, 2, 0), (0, 0, 2)], []),
        ([(1, 0, 0), (0, 0, 1), (3, 0, 1)], []),  # three times the first
        (
            [(1, 0, 1), (1, 0, -1), (2, 0, 0), (0, 0, 2)],
            [[1, 1, -1, 0], [1, -1, 0, -1], [2, 0, -1, -1], [0, 2, -1, 1]],
        ),
        ([(1, 0, 1)], []),
    ],
)
def test_relations(hkl, expected):
    found = consistency.closure_relations(hkl)
    assert found.shape == (len(expected), len(hkl))
    assert found.tolist() == expected


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(*[st.integers(-3, 3)] * 3).filter(any), min_size=2, max_size=5, unique=True)
)
def test_relations_add_up_to_zero(hkl):
    found = consistency.closure_relations(hkl)
    assert not (found @ np.array(hkl)).any()
    for row in found:
        assert gcd(*row.tolist()) == 1 and row[np.flatnonzero(row)[0]] > 0
        assert np.abs(row).max() <= 2 and 2 <= np.count_nonzero(row) <= 3
    # every sum or difference of two that is a third is there
    for i, a in enumerate(hkl):
        for j, b in enumerate(hkl[:i]):
            for k, c in enumerate(hkl):
                if k not in (i, j) and np.array_equal(np.add(a, b), c) and np.cross(a, b).any():
                    row = np.zeros(len(hkl), dtype=int)
                    row[[i, j, k]] = 1, 1, -1
                    assert any(np.array_equal(row * s, r) for r in found for s in (1, -1))


@pytest.mark.parametrize("hkl", [[(1, 0, 0.5)], [(1, 0)], [(0, 0, 0), (1, 0, 0)], [1, 0, 0]])
def test_bad_indices(hkl):
    with pytest.raises(ValueError, match="hkl="):
        consistency.closure_relations(hkl)


# --- closure ---

#: The third wave of the hexagonal lattice is the first less the second.
RELATIONS = np.array([[1, -1, -1]])


def closed(synthetic, frames, g, **kwargs):
    c, positions = coefficients(synthetic, frames, g, **kwargs)
    return consistency.closure(c, RELATIONS, g, SIGMA, positions), positions


@pytest.mark.parametrize("degrees", [None, 0.0, 33.0])
def test_closure_is_exact(synthetic, degrees):
    """Whatever the drift, the strain and the rotation, also for g that close only nearly."""
    lattice_ = synthetic.lattice("hexagonal", degrees=degrees)
    displacements = [
        None,
        lambda x, y: (3.7 + 0 * x, -1.9 + 0 * x),
        *list(DISPLACEMENTS.values())[1:3],
        lambda x, y: (0.02 * x - 0.04 * y, 0.03 * y),
    ]
    frames = [synthetic.image(SHAPE, lattice_.waves, u) for u in displacements]
    g = vectors(lattice_) * np.array([[1.01], [0.995], [1.004]])
    (residual, error), positions = closed(synthetic, frames, g)
    assert residual.shape == error.shape == (5, 1, *(len(p) for p in positions))
    inside = synthetic.border(positions, SHAPE) > 5 * SIGMA
    # neighbouring spots leak exp(-2 pi^2 sigma^2 dg^2) < 1e-10 where the border does not cut them
    middle = residual[..., inside]
    assert np.abs(middle - middle.mean(axis=-1, keepdims=True)).max() < 1e-5
    failed = consistency.closure_failure(consistency.Closure(residual, error), RELATIONS, g, SIGMA)
    assert not failed[:, synthetic.border(positions, SHAPE) > SIGMA].any()


def test_closure_measures_the_phase(synthetic):
    """A reflection whose phase is another in one half, by any angle."""
    lattice_ = synthetic.lattice("hexagonal")
    g = vectors(lattice_)
    frames = []
    for angle in (0.2, 2.0, -3.0):
        images = [
            synthetic.image(
                SHAPE, [(v, a, p + (k == 1) * turn) for k, (v, a, p) in enumerate(lattice_.waves)]
            )
            for turn in (0, angle)
        ]
        frames.append(np.where(X < CENTRE[0], *images))
    (residual, _), positions = closed(synthetic, frames, g)
    row = len(positions[0]) // 2
    left, right = (np.argmin(np.abs(positions[1] - at)) for at in (50, 190))
    steps = residual[:, 0, row, right] - residual[:, 0, row, left]
    # the second one counts minus once
    turns = np.exp(1j * (steps + np.array([0.2, 2.0, -3.0])))
    np.testing.assert_allclose(turns, 1, atol=1e-3)
    # from the circular mean, so that zero lies between
    assert np.all(residual[0, 0, row, [left, right]] * [1, -1] > 0)


def test_standard_error_of_the_closure(synthetic):
    """As gpa.md asks of error maps: predicted over actual between 0.9 and 1.1."""
    lattice_ = synthetic.lattice("hexagonal")
    image = synthetic.image(SHAPE, lattice_.waves)
    frames = np.random.default_rng(3).poisson(30 * image, (40, *SHAPE)).astype(float)
    (residual, error), positions = closed(synthetic, frames, vectors(lattice_), step=1.0)
    inside = synthetic.border(positions, SHAPE) > 2 * SIGMA
    actual = np.sqrt(np.mean(residual[:, 0, inside] ** 2))
    assert np.mean(error[:, 0, inside]) / actual == pytest.approx(1, abs=0.1)


def test_failure_where_one_reflection_is_reversed(synthetic):
    lattice_ = synthetic.lattice("hexagonal")
    g = vectors(lattice_)
    reversed_ = X > 160
    clean = [
        synthetic.image(SHAPE, lattice_.waves, _front),
        fringes(synthetic, lattice_, np.where(reversed_, -1, 1), _front, of=1),
    ]
    frames = np.random.default_rng(4).poisson(100 * np.array(clean)).astype(float)
    result, positions = closed(synthetic, frames, g)
    fails = consistency.closure_failure(result, RELATIONS, g, SIGMA)
    assert fails.shape == (2, *(len(p) for p in positions))
    assert not fails[0].any()
    # the frame's mean is that of the larger part
    far = at_samples(np.abs(X - 160) > 2.5 * SIGMA, positions)
    assert fails[1][far & at_samples(reversed_, positions)].all()
    share = result.residual[1, 0][far & at_samples(reversed_, positions)]
    np.testing.assert_allclose(np.abs(share), np.pi, atol=0.3)


def _flat(phases, noise):
    """Waves of amplitude one with given phases (K, y, x), on samples one apart."""
    c = np.zeros((1, len(phases), 4, *phases[0].shape), dtype=complex)
    c[0, :, 0] = np.exp(1j * np.asarray(phases))
    c[0, :, 3] = noise * (1 + 1j)
    return c, [np.arange(float(n)) for n in phases[0].shape]


@pytest.mark.parametrize(
    ("angle", "noise", "fails"),
    [
        (1.1, 1e-8, True),
        (0.9, 1e-8, False),  # less than matters
        (1.1, 4e-7, False),  # less than the noise
        (1.1, np.nan, False),
    ],
)
def test_failure_needs_size_and_significance(angle, noise, fails):
    """In units of the tolerance 2 pi g 0.005 sigma, of the smallest g."""
    g = np.array([[0.11, 0.02], [0.05, 0.09]])
    g = np.vstack([g, g[0] - g[1]])
    sigma = 20.0
    tolerance = consistency.closure_tolerance(RELATIONS, g, sigma)
    smallest = np.linalg.norm(g, axis=1).min()
    np.testing.assert_allclose(tolerance, 2 * np.pi * smallest * 0.005 * sigma)
    phases = np.zeros((3, 40, 41))
    phases[0, 3, 4] = angle * tolerance[0]
    c, positions = _flat(phases, noise)
    result = consistency.closure(c, RELATIONS, g, sigma, positions)
    assert result.residual[0, 0, 3, 4] == pytest.approx(angle * tolerance[0], rel=2e-3)
    # three reflections of equal noise, of which half is in the phase: 3 sigma^2 (v + v) / 2
    expected = np.sqrt(3 * sigma**2 * noise)
    np.testing.assert_allclose(result.standard_error, expected, rtol=1e-5)
    failed = consistency.closure_failure(result, RELATIONS, g, sigma)
    assert failed[0, 3, 4] == fails and failed.sum() == fails


def test_multiples_weigh_more():
    """Second orders: 2 P_1 - P_2, with four times the variance of the first."""
    random = np.random.default_rng(5)
    phases = 0.01 * random.standard_normal((2, 20, 21))
    c, positions = _flat(phases, 1e-6)
    g = np.array([[0.05, 0.0], [0.1, 0.0]])
    result = consistency.closure(c, [[2, -1]], g, 3.0, positions)
    expected = 2 * phases[0] - phases[1]
    np.testing.assert_allclose(result.residual[0, 0], expected - expected.mean(), atol=1e-4)
    np.testing.assert_allclose(result.standard_error, np.sqrt(5 * 9 * 1e-6), rtol=1e-5)


def test_no_closure_without_a_lattice():
    """Of any of the three; the others count for the mean."""
    phases = np.zeros((3, 20, 21))
    c, positions = _flat(phases, 1e-8)
    c[0, 2, :3, :, :4] *= 0.1
    c[0, 0, :3, 10, 10] = np.nan
    g = np.array([[0.1, 0.0], [0.05, 0.09], [0.05, -0.09]])
    residual, error = consistency.closure(c, RELATIONS, g, 3.0, positions)
    missing = np.zeros((20, 21), dtype=bool)
    missing[:, :4] = missing[10, 10] = True
    np.testing.assert_array_equal(np.isnan(residual[0, 0]), missing)
    np.testing.assert_array_equal(np.isnan(error[0, 0]), missing)
    assert np.nanmax(np.abs(residual)) < 1e-6


def test_no_relations():
    c, positions = _flat(np.zeros((2, 5, 6)), 1e-8)
    none = consistency.closure_relations([(2, 0, 0), (0, 0, 2)])
    result = consistency.closure(c, none, np.eye(2), 1.0, positions)
    assert result.residual.shape == (1, 0, 5, 6)
    failed = consistency.closure_failure(result, none, np.eye(2), 1.0)
    assert failed.shape == (1, 5, 6) and not failed.any()


@pytest.mark.parametrize("name", modules.NAMES)
def test_array_modules(synthetic, name):
    """The same on a device, and it stays there."""
    lattice_ = synthetic.lattice("hexagonal")
    g = vectors(lattice_)
    frames = [
        synthetic.image(SHAPE, lattice_.waves),
        fringes(synthetic, lattice_, np.sign(LINES["20"])),
    ]
    c, positions = coefficients(synthetic, frames, g)
    spoiled = consistency.phase_jumps(c, SIGMA, positions)
    result = consistency.closure(c, RELATIONS, g, SIGMA, positions)
    fails = consistency.closure_failure(result, RELATIONS, g, SIGMA)
    assert spoiled.any() and fails.any()
    with modules.array_module(name) as xp:
        there = xp.asarray(c)
        on_device = consistency.closure(there, RELATIONS, g, SIGMA, positions)
        found = [
            consistency.phase_jumps(there, SIGMA, positions),
            *on_device,
            consistency.closure_failure(on_device, RELATIONS, g, SIGMA),
        ]
        found = [modules.to_numpy(f) for f in found]
    for have, want in zip(found, (spoiled, *result, fails), strict=True):
        np.testing.assert_allclose(have, want, atol=1e-5)
