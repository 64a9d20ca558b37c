"""Diffraction spots: found, measured at the counting limit, and indexed."""

import numpy as np
import pytest

from hyperspy_lfp.kernels.patterns.spot_indexing import index_spots, zone_basis
from hyperspy_lfp.kernels.patterns.spots import AT_BORDER, NEAR_MASK, SATURATED, find_spots

SIGMA = 1.4


def pattern(shape, spots, background=10.0, sigma=SIGMA):
    """Expected counts: spots are (y, x, total intensity)."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    light = np.zeros(shape) + background
    for at_y, at_x, total in spots:
        distance = ((y - at_y) ** 2 + (x - at_x) ** 2) / (2 * sigma**2)
        light += total / (2 * np.pi * sigma**2) * np.exp(-distance)
    return light


def grid_of_spots(n=5, step=26.0, intensity=5000.0, seed=0):
    """Spots on a grid, each at its own fraction of a pixel."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:n, :n] * step + 20
    at = np.stack([y.ravel(), x.ravel()], axis=1) + random.uniform(-0.5, 0.5, (n * n, 2))
    return np.column_stack([at, np.full(n * n, intensity)])


def matched(found, expected, tolerance=1.0):
    """Row of the found spot for each expected one; exactly one each."""
    distance = np.hypot(*(np.asarray(expected)[:, None] - found).transpose(2, 0, 1))
    assert (distance.min(axis=1) < tolerance).all(), distance.min(axis=1)
    nearest = distance.argmin(axis=1)
    assert len(set(nearest)) == len(nearest)
    return nearest


def test_exact_without_noise():
    """Positions, intensities and widths of noise-free Gaussians, strongest first."""
    truth = grid_of_spots(4)
    truth[:, 2] *= 1 + 0.1 * np.arange(len(truth))
    spots = find_spots(pattern((130, 141), truth))
    assert len(spots.position) == len(truth)
    row = matched(spots.position, truth[:, :2])
    np.testing.assert_allclose(spots.position[row], truth[:, :2], atol=1e-3)
    np.testing.assert_allclose(spots.intensity[row], truth[:, 2], rtol=1e-3)
    np.testing.assert_allclose(spots.width, SIGMA, rtol=1e-3)
    assert (np.diff(spots.intensity) <= 0).all() and not spots.flags.any()
    three = find_spots(pattern((130, 141), truth), n=3)
    np.testing.assert_allclose(three.intensity, spots.intensity[:3], rtol=1e-3)


@pytest.mark.parametrize("gain", [1.0, 7.0])
def test_counting_limit(gain):
    """Errors follow sigma / sqrt(N), and the standard errors say so, whatever the gain.

    200 deviations along each axis: their rms is known to 5 %, so 15 % is three of its standard
    errors. The background of 1 against a peak of 400 adds below 5 % to the limit (the Fisher
    information of Mortensen 2010, eq. 6), and pixels of 1 / 1.4 sigma 2 %.
    """
    deviations, errors, pulls = [], [], []
    for seed in range(8):
        truth = grid_of_spots(5, seed=seed)
        random = np.random.default_rng(100 + seed)
        frame = gain * random.poisson(pattern((145, 145), truth, background=1.0))
        spots = find_spots(frame.astype(np.float32))
        row = matched(spots.position, truth[:, :2])
        deviations.append(spots.position[row] - truth[:, :2])
        errors.append(spots.error[row])
        pulls.append((spots.intensity[row] / gain - 5000) / (np.sqrt(spots.variance[row]) / gain))
    deviations, errors = np.concatenate(deviations), np.concatenate(errors)
    rms = np.sqrt(np.mean(deviations**2))
    limit = SIGMA / np.sqrt(5000)
    assert limit * 0.85 < rms < limit * (1.07 + 0.15)
    assert abs(np.sqrt(np.mean((deviations / errors) ** 2)) - 1) < 0.15
    # pulls of the intensity: mean 0 within three of 1 / sqrt(200), width 1
    pulls = np.concatenate(pulls)
    assert abs(pulls.mean()) < 3 / np.sqrt(len(pulls)) + 0.1
    assert abs(pulls.std() - 1) < 0.2


@pytest.mark.parametrize("apart", [5.5, 7.0])
def test_overlapping_neighbours(apart):
    """Two spots 4 and 5 sigma apart are measured as if alone."""
    truth = [(40.3, 50.2, 20000.0), (40.3 + apart, 50.2 + 0.5, 10000.0), (90.1, 20.7, 8000.0)]
    spots = find_spots(pattern((110, 100), truth))
    row = matched(spots.position, np.array(truth)[:, :2])
    np.testing.assert_allclose(spots.position[row], np.array(truth)[:, :2], atol=0.02)
    np.testing.assert_allclose(spots.intensity[row], np.array(truth)[:, 2], rtol=0.02)


def test_background_gradient_and_offset():
    """A steep background and a pedestal shift neither positions nor intensities."""
    y, x = np.mgrid[:145, :145]
    truth = grid_of_spots(5)
    frame = pattern((145, 145), truth, background=-40 + 1.5 * x + 0.8 * y)
    spots = find_spots(frame)
    row = matched(spots.position, truth[:, :2])
    np.testing.assert_allclose(spots.position[row], truth[:, :2], atol=5e-3)
    np.testing.assert_allclose(spots.intensity[row], 5000, rtol=5e-3)


def test_hot_pixels_and_noise_are_no_spots():
    random = np.random.default_rng(0)
    frame = random.poisson(np.full((150, 160), 30.0))
    frame[40, 50] += 3000
    frame[90:92, 20] += 2000
    assert len(find_spots(frame).position) == 0
    truth = [(70.2, 80.4, 4000.0)]
    frame = frame + random.poisson(pattern(frame.shape, truth, 0.0))
    spots = find_spots(frame)
    assert len(spots.position) == 1
    matched(spots.position, [(70.2, 80.4)], 0.2)


def test_flags():
    """Saturated, cut by the border, near the mask; positions stay near the truth."""
    truth = np.array(
        [(40.3, 40.6, 60000.0), (1.4, 80.2, 9000.0), (80.7, 60.1, 9000.0), (80.2, 20.8, 9000.0)]
    )
    light = pattern((110, 111), truth)
    frame = np.minimum(np.rint(light), 1500).astype(np.uint16)
    mask = np.zeros(frame.shape, dtype=bool)
    mask[78:84, 62:70] = True
    spots = find_spots(frame, mask=mask, saturation=1500)
    row = matched(spots.position, truth[:, :2], 0.3)
    assert spots.flags[row].tolist() == [SATURATED, AT_BORDER, NEAR_MASK, 0]
    # the flat top is left out of the fit, so that its flanks give place and intensity
    np.testing.assert_allclose(spots.position[row[0]], truth[0, :2], atol=0.02)
    assert spots.intensity[row[0]] == pytest.approx(60000, rel=0.05)
    unsaid = find_spots(frame, mask=mask)
    assert unsaid.flags[matched(unsaid.position, truth[:, :2], 0.3)[0]] & SATURATED


def test_spot_behind_the_mask_is_not_listed():
    frame = pattern((80, 80), [(40.0, 40.0, 9000.0), (20.0, 60.0, 9000.0)])
    mask = np.zeros(frame.shape, dtype=bool)
    mask[30:50, 30:50] = True
    for spots in (find_spots(frame, mask=mask), find_spots(np.where(mask, np.nan, frame))):
        np.testing.assert_allclose(spots.position, [[20, 60]], atol=0.01)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint16, np.int32, np.float16, np.float32])
def test_dtypes(dtype):
    """Any real dtype, signed 8-bit with a negative background as well."""
    offset = -90.0 if np.dtype(dtype).kind != "u" else 5.0
    truth = [(40.3, 30.6, 1500.0), (20.6, 60.3, 1200.0)]
    frame = np.rint(pattern((81, 90), truth, background=offset)).astype(dtype)
    spots = find_spots(frame)
    row = matched(spots.position, np.array(truth)[:, :2], 0.1)
    # rounding to whole counts at peaks of 100
    np.testing.assert_allclose(spots.intensity[row], [1500, 1200], rtol=0.06)


def test_stack_centre_and_empty_frames():
    truth = [(40.0, 41.0, 50000.0), (20.0, 60.0, 9000.0), (60.0, 22.0, 8000.0)]
    frame = pattern((80, 80), truth)
    stack = np.stack([frame, np.full_like(frame, np.nan), np.zeros_like(frame)])
    result = find_spots(stack, (40, 41))
    assert [len(s.position) for s in result] == [2, 0, 0]
    matched(result[0].position, [(20, 60), (60, 22)], 0.01)
    assert result[1].error.shape == (0, 2) and result[1].flags.dtype.kind == "i"


@pytest.mark.parametrize(
    ("frames", "options", "error", "text"),
    [
        (np.zeros((8, 8), complex), {}, TypeError, "complex128"),
        (np.zeros((8, 8), [("R", "u1"), ("G", "u1")]), {}, TypeError, "colour"),
        (np.zeros(8), {}, ValueError, "shape"),
        (np.zeros((8, 8)), {"mask": np.zeros((4, 4))}, ValueError, "mask"),
        (np.zeros((8, 8)), {"n": 0}, ValueError, "n=0"),
        (np.zeros((8, 8)), {"min_distance": -1}, ValueError, "min_distance"),
    ],
)
def test_bad_input(frames, options, error, text):
    with pytest.raises(error, match=text):
        find_spots(frames, **options)


# --- indexing ---

#: FePO4 and LiFePO4, nm (Padhi 1997 and the simulated data's), zone [010].
CELLS = np.array([[0.9821, 0.5792, 0.4788], [1.0332, 0.6010, 0.4692]])


def allowed(hkl):
    """Pnma: h00 with h even, 00l with l even, 0kl with k + l even, hk0 with h even."""
    h, k, m = np.asarray(hkl).reshape(-1, 3).T
    bad = ((h == 0) & ((k + m) % 2 != 0)) | ((m == 0) & (h % 2 != 0))
    return ~bad


def lattice_spots(cell, degrees=4.0, largest=5.0, forbidden=()):
    """(g in (x, y), hkl) of the [010] zone, both of each pair, in a fixed scrambled order."""
    hkl = np.array([(h, 0, m) for h in range(-5, 6) for m in range(-3, 4) if h or m])
    keep = allowed(hkl) | [tuple(i) in forbidden for i in hkl]
    hkl = hkl[keep]
    t = np.deg2rad(degrees)
    turn = np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]])
    g = (hkl / cell)[:, [0, 2]] @ turn
    near = np.hypot(*g.T) < largest
    g, hkl = g[near], hkl[near]
    order = np.random.default_rng(3).permutation(len(g))
    return g[order], hkl[order]


def same(found, hkl):
    """Equal up to the zone's symmetry: one choice of signs for all."""
    signs = [(a, 1, c) for a in (1, -1) for c in (1, -1)]
    return any(all(f == tuple(s * h) for f, h in zip(found, hkl, strict=True)) for s in signs)


def test_all_spots_are_indexed_and_the_lattice_fitted():
    cell = CELLS.mean(axis=0)
    g, hkl = lattice_spots(cell)
    found = index_spots(g, (0, 1, 0), CELLS, allowed)
    assert same(found.hkl, hkl)
    lengths = np.linalg.norm(found.basis, axis=1)
    np.testing.assert_allclose(lengths, np.linalg.norm(found.basis_hkl / cell, axis=1), rtol=1e-9)
    assert not found.forbidden.any() and np.abs(found.residuals).max() < 1e-9


def test_covariance_of_the_lattice():
    """Scatter of the fitted vectors over 60 noisy patterns, known to a tenth, is as predicted."""
    g, _ = lattice_spots(CELLS[1])
    random = np.random.default_rng(0)
    vectors, predicted = [], []
    for _ in range(60):
        noisy = g + random.normal(0, 2e-3, g.shape)
        found = index_spots(noisy, (0, 1, 0), CELLS, allowed)
        sign = np.sign((found.basis * [[0, 1], [1, 0]]).sum(axis=1))
        vectors.append(found.basis * sign[:, None])
        predicted.append(np.diag(found.covariance))
    scatter = np.var(vectors, axis=0).mean(axis=1)
    np.testing.assert_allclose(scatter, np.mean(predicted, axis=0), rtol=0.4)


def test_false_spots_and_forbidden_ones():
    """Strong strangers stay unnamed, forbidden spots are named as such."""
    g, hkl = lattice_spots(CELLS[0], forbidden=[(0, 0, 1), (0, 0, -1), (3, 0, 0)])
    strangers = np.array([[1.49, 0.83], [-2.6, 1.32], [0.01, -0.02], [np.nan, 0]])
    found = index_spots(np.vstack([strangers, g]), (0, 1, 0), CELLS, allowed)
    assert found.hkl[:4] == [None] * 4 and np.isnan(found.residuals[:4]).all()
    assert same(found.hkl[4:], hkl)
    np.testing.assert_array_equal(found.forbidden[4:], ~allowed(hkl))
    assert found.forbidden.sum() == 3


def test_two_phases_are_not_averaged():
    """The lattice is that of one phase, to rounding; the other's spots beyond it are free."""
    a, _ = lattice_spots(CELLS[0])
    b, _ = lattice_spots(CELLS[1])
    mixed = np.vstack([a[:2], b[:2], a[2:], b[2:]])
    first = index_spots(mixed, (0, 1, 0), CELLS, allowed)
    free = np.array([h is None for h in first.hkl])
    second = index_spots(mixed[free], (0, 1, 0), CELLS, allowed)
    ratio = [np.linalg.norm(f.basis[1]) for f in (first, second)]
    assert sorted(ratio) == pytest.approx(sorted(1 / CELLS[:, 0]), rel=3e-3)


def test_nothing_fits():
    for g in (np.empty((0, 2)), [[1.0, 0.0]], [[0.31, 0.0], [0.0, 0.37]], [[np.nan, 1], [1, 1]]):
        found = index_spots(g, (0, 1, 0), CELLS, allowed)
        assert found.hkl == [None] * len(g) and np.isnan(found.basis).all()
        assert len(found.residuals) == len(g)


@pytest.mark.parametrize(
    "zone", [(0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 1, 2), (-1, 2, 0), (1, 2, 3)]
)
def test_zone_basis_spans_the_zone(zone):
    """Every reflection of the zone is a whole combination of the two."""
    basis = zone_basis(zone)
    numbers = np.arange(-4, 5)
    hkl = np.stack(np.meshgrid(numbers, numbers, numbers), axis=-1).reshape(-1, 3)
    hkl = hkl[hkl @ zone == 0]
    combination = hkl @ np.linalg.pinv(basis)
    np.testing.assert_allclose(combination, np.rint(combination), atol=1e-9)
    np.testing.assert_allclose(combination @ basis, hkl, atol=1e-9)


@pytest.mark.parametrize("zone", [(0, 0, 0), (1, 0)])
def test_bad_zone(zone):
    with pytest.raises(ValueError, match="zone"):
        index_spots([[1.0, 0.0], [0.0, 1.0]], zone, CELLS, allowed)
