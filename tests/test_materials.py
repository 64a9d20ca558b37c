"""Cells, spacings, reflection conditions and validation of materials."""

import dataclasses

import numpy as np
import pytest

from hyperspy_lfp import materials

LFP = materials.get("LiFePO4")

#: Kinematic table of science.md, spacings in angstrom at x = 0 and 1, and their change in percent.
SPACINGS = {
    (2, 0, 0): (4.907, 5.162, 5.20),
    (1, 0, 1): (4.299, 4.270, -0.67),
    (2, 0, 1): (3.425, 3.471, 1.36),
    (3, 0, 1): (2.700, 2.775, 2.76),
    (4, 0, 0): (2.454, 2.581, 5.20),
    (0, 0, 2): (2.391, 2.345, -1.92),
    (1, 0, 2): (2.323, 2.287, -1.56),
    (4, 0, 1): (2.183, 2.261, 3.59),
}


def test_built_in_cell():
    """COD 4001848 (LiFePO4), Andersson 2000 (FePO4); the strains that science.md gives."""
    np.testing.assert_array_equal(LFP.cell(1.0), (10.3244, 6.0064, 4.6901))
    np.testing.assert_array_equal(LFP.cell(0.0), (9.8142, 5.7893, 4.7820))
    strain = 100 * (LFP.cell(1.0) / LFP.cell(0.0) - 1)
    np.testing.assert_allclose(strain, (5.20, 3.75, -1.92), atol=0.005)
    assert LFP.zone == (0, 1, 0) and LFP.space_group == "Pnma" and LFP.species == "Li"
    assert "4001848" in LFP.source


@pytest.mark.parametrize("hkl", SPACINGS)
def test_spacings(hkl):
    """Half a unit of the table's last digit."""
    first, last, change = SPACINGS[hkl]
    d = LFP.d_spacing(hkl, x=[0, 1])
    np.testing.assert_allclose(10 * d, (first, last), atol=5.1e-4)
    assert 100 * (d[1] / d[0] - 1) == pytest.approx(change, abs=5.1e-3)


def test_vegard_and_beyond():
    """Linear, also outside the range; any shape of x."""
    x = np.array([[-0.5, 0.25], [0.5, 1.5]])
    cell = LFP.cell(x)
    assert cell.shape == (2, 2, 3)
    expected = LFP.cell(0) + x[..., None] * (LFP.cell(1) - LFP.cell(0))
    np.testing.assert_allclose(cell, expected, rtol=1e-14)


def test_table():
    """Piecewise linear between the compositions, the end pieces extended."""
    bent = materials.Material(
        "bent", composition=(0.2, 0.5, 1.0), a=(10, 10.4, 10.5), b=(6, 6, 6), c=(5, 4.9, 4.9)
    )
    x = [0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.1]
    a = [10 - 0.4 / 3, 10, 10.2, 10.4, 10.45, 10.5, 10.52]
    np.testing.assert_allclose(bent.cell(x)[:, 0], a, rtol=1e-14)
    np.testing.assert_allclose(bent.cell(x)[:, 1], 6)


def test_spacing_is_that_of_an_orthogonal_cell():
    d = LFP.d_spacing((2, -1, 3), x=0.3)
    a, b, c = LFP.cell(0.3) / 10
    assert d == pytest.approx(1 / np.sqrt((2 / a) ** 2 + (1 / b) ** 2 + (3 / c) ** 2), rel=1e-14)


def _all_indices():
    n = np.arange(-4, 5)
    hkl = np.array(np.meshgrid(n, n, n)).reshape(3, -1).T
    return hkl[hkl.any(axis=1)]


def _pnma(h, k, l):  # noqa: E741
    """0kl: k + l even; hk0: h even; with them h00, 0k0 and 00l even."""
    if h == 0 and (k + l) % 2:
        return False
    return not (l == 0 and h % 2)


def test_extinctions_of_pnma():
    hkl = _all_indices()
    expected = [_pnma(*row) for row in hkl.tolist()]
    np.testing.assert_array_equal(LFP.is_allowed(hkl), expected)
    # science.md, the [010] zone
    for forbidden in ((1, 0, 0), (3, 0, 0), (0, 0, 1), (0, 0, 3)):
        assert not LFP.is_allowed(forbidden)
    for allowed in SPACINGS:
        assert LFP.is_allowed(allowed)


@pytest.mark.parametrize(
    ("group", "order"), [("Pmnb", (1, 0, 2)), ("Pbnm", (2, 0, 1))], ids=["Pmnb", "Pbnm"]
)
def test_other_settings(group, order):
    """Pmnb has the axes (b, a, c) of Pnma, Pbnm (c, a, b): the same crystal, other letters."""
    lengths = [(LFP.a, LFP.b, LFP.c)[i] for i in order]
    other = materials.Material("other", (0, 1), *lengths, space_group=group)
    hkl = _all_indices()
    renamed = hkl[:, order]
    np.testing.assert_array_equal(other.is_allowed(renamed), LFP.is_allowed(hkl))
    for row, new in zip(hkl[::37].tolist(), renamed[::37].tolist(), strict=True):
        assert other.d_spacing(new, x=0.4) == pytest.approx(LFP.d_spacing(row, x=0.4))


def test_settings_by_their_own_conditions():
    """International Tables, by hand: Pbnm has 0kl k even and h0l h + l even; Pmnb h0l h + l even
    (its n glide) and hk0 k even (its b glide)."""
    hkl = _all_indices()
    h, k, l = hkl.T  # noqa: E741
    pbnm = materials.Material("x", (0, 1), (4, 4), (5, 5), (6, 6), space_group="Pbnm")
    expected = ((h != 0) | (k % 2 == 0)) & ((k != 0) | ((h + l) % 2 == 0))
    np.testing.assert_array_equal(pbnm.is_allowed(hkl), expected)
    pmnb = materials.Material("x", (0, 1), (4, 4), (5, 5), (6, 6), space_group="Pmnb")
    expected = ((k != 0) | ((h + l) % 2 == 0)) & ((l != 0) | (k % 2 == 0))
    np.testing.assert_array_equal(pmnb.is_allowed(hkl), expected)


def test_without_a_space_group_everything_is_allowed():
    plain = materials.Material("plain", (0, 1), (4, 4.1), (5, 5), (6, 6))
    assert plain.is_allowed(_all_indices()).all()


def test_dictionary_and_back():
    odd = materials.Material(
        "odd",
        composition=np.array([0.0, 0.4, 1.0]),
        a=[4, 4.1, 4.3],
        b=(5, 5, 5.5),
        c=(6, 6, 6),
        zone=(1, 1, 0),
        space_group="Pbnm",
        species="Na",
        source="mine",
    )
    dictionary = odd.to_dictionary()
    assert materials.Material.from_dictionary(dictionary) == odd
    # plain types only, and what a later version may add does not hurt
    assert all(isinstance(v, str | list | None) for v in dictionary.values())
    assert materials.Material.from_dictionary({**dictionary, "new": 1}) == odd


def test_get():
    assert materials.get(LFP) is LFP
    with pytest.raises(ValueError, match=r"'LiCoO2'.*LiFePO4.*materials\.Material"):
        materials.get("LiCoO2")
    with pytest.raises(ValueError, match="material=3"):
        materials.get(3)


def test_materials_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LFP.a = (1, 2)


GOOD = {"name": "m", "composition": (0, 1), "a": (4, 4.1), "b": (5, 5.1), "c": (6, 6.1)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"composition": (0,)}, "two or more increasing"),
        ({"composition": (1, 0)}, "two or more increasing"),
        ({"composition": (0, 0)}, "two or more increasing"),
        ({"composition": 1.0}, "composition=1.0"),
        ({"a": (4, 4.1, 4.2)}, "a has 3 values for 2 compositions"),
        ({"b": (5, "long")}, "b=.*long"),
        ({"c": (6, -6)}, "positive lengths in angstrom"),
        ({"c": (6, np.nan)}, "positive lengths in angstrom"),
        ({"a": (np.inf, 4)}, "positive lengths in angstrom"),
        ({"zone": (0, 0, 0)}, "zone=.*three integers"),
        ({"zone": (0, 1.5, 0)}, "zone=.*three integers"),
        ({"space_group": "P21"}, "'P21'.*Pnma"),
    ],
)
def test_bad_materials(change, message):
    with pytest.raises(ValueError, match=message):
        materials.Material(**{**GOOD, **change})


@pytest.mark.parametrize("hkl", [(1, 0), (0, 0, 0), (1.5, 0, 1), "200x", None, (1, 0, "a")])
def test_bad_hkl(hkl):
    with pytest.raises(ValueError, match="three integers"):
        LFP.d_spacing(hkl)


def test_hkl_in_any_form():
    assert materials.check_hkl(np.array([2, 0, -1])) == (2, 0, -1)
    assert materials.check_hkl([2.0, 0, 0]) == (2, 0, 0)
