"""Miller indices of reciprocal vectors, for crystals turned by any angle."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperspy_lfp import materials
from hyperspy_lfp.kernels.gpa.indexing import index_vectors, zone_of, zone_reflections

LFP = materials.get("LiFePO4")
CELLS = LFP.cell(np.linspace(0, 1, 5)) / 10
PRINCIPAL = ((0, 1, 0), (1, 0, 0), (0, 0, 1))
OTHERS = ((1, 0, 1), (1, 1, 0), (0, 1, 1), (1, 1, 1), (1, 1, 2))

examples = settings(max_examples=12, deadline=None, derandomize=True)
angles = st.floats(0, 2 * np.pi)


def _vectors(hkl, x, zone, angle=0.0, mirror=False):
    """Reciprocal vectors (x, y) of reflections of an orthogonal cell seen along a zone."""
    cell = LFP.cell(x) / 10
    normal = np.array(zone) * cell
    normal = normal / np.linalg.norm(normal)
    first = np.cross(normal, [0.3, 0.5, 0.81])
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    flat = (np.asarray(hkl) / cell) @ np.array([first, second]).T
    if mirror:
        flat = flat * [1, -1]
    c, s = np.cos(angle), np.sin(angle)
    return flat @ np.array([[c, s], [-s, c]])


def _some_reflections(zone, x, number=6):
    """The longest spacings of a zone that are allowed, one of each pair."""
    recip = 10 / LFP.cell(x)
    hkl = zone_reflections(zone, 6.0, recip)
    hkl = hkl[LFP.is_allowed(hkl)]
    hkl = hkl[np.argsort(np.linalg.norm(hkl * recip, axis=1), kind="stable")]
    chosen = []
    for row in hkl.tolist():
        if [-i for i in row] not in chosen:
            chosen.append(row)
    return chosen[:number]


def _check(found, g, expected):
    """The same reflections up to a symmetry of the orthogonal cell: 48 signs and no more."""
    signs = [
        np.array(s)
        for s in itertools.product((1, -1), repeat=3)
        if all(tuple(np.array(s) * e) == f for e, f in zip(expected, found, strict=True))
    ]
    assert signs, (found, expected)


@examples
@given(st.sampled_from(PRINCIPAL), st.floats(0, 1), angles, st.booleans())
def test_principal_zones(zone, x, angle, mirror):
    """Both end members and everything between, whatever the rotation, seen from either side."""
    hkl = _some_reflections(zone, x)
    g = _vectors(hkl, x, zone, angle, mirror)
    _check(index_vectors(g, zone, CELLS, LFP.is_allowed), g, hkl)


@pytest.mark.parametrize("zone", OTHERS)
@pytest.mark.parametrize("x", [0.0, 1.0])
def test_other_zones(zone, x):
    hkl = _some_reflections(zone, x, 5)
    g = _vectors(hkl, x, zone, 0.7)
    found = index_vectors(g, zone, CELLS, LFP.is_allowed)
    # only what the metric tells: the same lengths and angles, all in the zone
    indices = np.array(found)
    assert not (indices @ zone).any()
    cell = LFP.cell(x) / 10
    np.testing.assert_allclose((indices / cell) @ (indices / cell).T, g @ g.T, atol=1e-9)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("x", [0.0, 0.5, 1.0])
def test_hexagonal_looking_triple(order, x):
    """(200), (101) and (10-1) are nearly equal and nearly 60 degrees apart."""
    hkl = [((2, 0, 0), (1, 0, 1), (1, 0, -1))[i] for i in order]
    g = _vectors(hkl, x, (0, 1, 0), 0.4)
    _check(index_vectors(g, (0, 1, 0), CELLS, LFP.is_allowed), g, hkl)


@examples
@given(st.sampled_from((0.96, 1.04)), st.floats(0, 1), angles)
def test_pixel_size_four_percent_wrong(scale, x, angle):
    hkl = [(1, 0, 1), (1, 0, -1), (2, 0, 0), (2, 0, 1)]
    g = scale * _vectors(hkl, x, (0, 1, 0), angle)
    _check(index_vectors(g, (0, 1, 0), CELLS, LFP.is_allowed), g, hkl)


@examples
@given(angles, st.floats(0, 1), st.integers(0, 3))
def test_signs_are_consistent(angle, x, flipped):
    """-g has the opposite indices; all indices are one linear map of the vectors."""
    hkl = [(1, 0, 1), (1, 0, -1), (2, 0, 0), (3, 0, 1)]
    g = _vectors(hkl, x, (0, 1, 0), angle)
    g[flipped] *= -1
    found = index_vectors(g, (0, 1, 0), CELLS, LFP.is_allowed)
    expected = [tuple(np.multiply(-1 if i == flipped else 1, h)) for i, h in enumerate(hkl)]
    _check(found, g, expected)


def test_fewest_minus_signs_up_front():
    for turn in (0.0, np.pi / 2, np.pi, 2.0):
        g = _vectors([(1, 0, 1), (1, 0, -1)], 0.5, (0, 1, 0), turn)
        found = index_vectors(g, (0, 1, 0), CELLS, LFP.is_allowed)
        assert found == [(1, 0, 1), (1, 0, -1)]


def test_forbidden_reflections_only_if_nothing_else_fits():
    """(100) and (001) look like a rectangle, and so do (200) and (002) at half the pixel size."""
    g = _vectors([(1, 0, 0), (0, 0, 1)], 0.5, (0, 1, 0), 0.3)
    found = index_vectors(g, (0, 1, 0), CELLS, LFP.is_allowed)
    assert found == [(1, 0, 0), (0, 0, 1)]


def test_allowed_reflections_go_before_forbidden_ones():
    """A cell of two nearly equal axes: the wrong way round fits a little better, but is dark."""
    cells = np.array([[8.0, 5.0, 8.06]])
    g = np.array([[2 / 8.06, 0.0], [0.0, 1 / 8.0]])  # exactly (0 0 2) and (1 0 0)
    assert index_vectors(g, (0, 1, 0), cells, lambda hkl: hkl[:, 0] % 2 == 0) == [
        (2, 0, 0),
        (0, 0, 1),
    ]
    everything = index_vectors(g, (0, 1, 0), cells, lambda hkl: np.ones(len(hkl), dtype=bool))
    assert everything == [(0, 0, 2), (1, 0, 0)]


def test_ratio_of_lengths_decides_where_the_pixel_size_does_not():
    """Axes of 8 and 8.2, pixels 1.2 % off: by the first length alone they would be swapped."""
    cells = np.array([[8.0, 5.0, 8.2]])
    g = 0.9876 * np.array([[1 / 8.0, 0.0], [0.0, 1 / 8.2]])
    found = index_vectors(g, (0, 1, 0), cells, lambda hkl: np.ones(len(hkl), dtype=bool))
    assert found == [(1, 0, 0), (0, 0, 1)]


def test_foreign_vectors_are_none():
    """A vector of another phase among those of the crystal; then vectors that fit nothing."""
    hkl = [(1, 0, 1), (1, 0, -1), (2, 0, 0)]
    g = _vectors(hkl, 1.0, (0, 1, 0), 0.2)
    foreign = (0.37 * g[0] + 0.61 * g[1])[None]
    found = index_vectors(np.vstack([g[:2], foreign, g[2:]]), (0, 1, 0), CELLS, LFP.is_allowed)
    assert found[2] is None
    _check([found[0], found[1], found[3]], g, hkl)
    nothing = np.array([[3.3, 0.0], [0.9, 1.7]])
    assert index_vectors(nothing, (0, 1, 0), CELLS, LFP.is_allowed) == [None, None]


def test_too_few_or_collinear_vectors_are_none():
    g = _vectors([(1, 0, 1)], 1.0, (0, 1, 0))
    assert index_vectors(g, (0, 1, 0), CELLS, LFP.is_allowed) == [None]
    line = np.vstack([g, -g, 2 * g])
    assert index_vectors(line, (0, 1, 0), CELLS, LFP.is_allowed) == [None] * 3


def test_reflections_of_a_zone():
    recip = np.array([0.1, 0.17, 0.21])
    hkl = zone_reflections((0, 1, 0), 0.3, recip)
    lengths = np.linalg.norm(hkl * recip, axis=1)
    assert np.all(hkl[:, 1] == 0) and np.all(lengths <= 0.3) and np.all(hkl.any(axis=1))
    expected = {
        (h, 0, l)
        for h in range(-3, 4)
        for l in range(-1, 2)  # noqa: E741
        if 0 < np.hypot(0.1 * h, 0.21 * l) <= 0.3
    }
    assert {tuple(row) for row in hkl.tolist()} == expected


def test_zone_of_reflections():
    assert zone_of([(1, 0, 1), (1, 0, -1)]) == (0, 1, 0)
    assert zone_of([(2, 0, 0), (4, 0, 0), (2, 0, 2)]) == (0, 1, 0)
    assert zone_of([(1, -1, 0), (0, 1, -1)]) == (1, 1, 1)
    assert zone_of([(1, 0, 1), (2, 0, 2)]) is None
    assert zone_of([(1, 0, 1), (1, 0, -1), (0, 1, 0)]) is None
