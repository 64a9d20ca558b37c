"""Simulated movies: intensities against the formula, noise, laziness, files, bad input."""

import hyperspy.api as hs
import numpy as np
import pytest
from movies import centres, make_source

from hyperspy_lfp import materials, simulation
from hyperspy_lfp.signals import HRTEMMovie

LFP = materials.get("LiFePO4")
PAIR = [(1, 0, 1), (1, 0, -1)]


def movie_of(x, **settings):
    spacing = settings.pop("spacing", (1.0, 1.0))
    return simulation.hrtem_movie(make_source(x, spacing), material="LiFePO4", **settings)


def _places(shape, pixel):
    return [(np.arange(n) - (n - 1) / 2) * pixel for n in shape]


@pytest.mark.parametrize("shape", [(64, 81), (75, 40)])
@pytest.mark.parametrize("lattice", ["vegard", "coherent"])
def test_uniform_crystal_has_the_fringes_of_its_cell(shape, lattice):
    """In a frame full of crystal: cosines with the cell at x, the structure factors at x."""
    x, pixel = 0.7, 0.04
    movie = movie_of(
        np.full((12, 12), x),
        shape=shape,
        pixel=pixel,
        contrast=0.1,
        absorption=0.2,
        lattice=lattice,
    )
    y, big_x = _places(shape, pixel)
    a, _, c = LFP.cell(x) / 10
    hkl = movie.metadata.HyperspyLFP.Simulation.hkl
    ends = [np.abs(LFP.structure_factor(g, [0, 1])).max() for g in hkl]
    expected = np.full(shape, 0.8)
    for h, _, l in hkl:  # noqa: E741
        amplitude = 0.1 * float(LFP.structure_factor((h, 0, l), x)) / max(ends)
        phase = h * big_x / a + l * y[:, None] / c
        expected += amplitude * np.cos(2 * np.pi * phase)
    # 129 samples of the structure factors: 1e-5; the displacement's splines mirror six samples
    # away and move a fringe by 1e-5 nm
    np.testing.assert_allclose(movie.data, expected, atol=1e-4)


def test_vacuum_and_straight_edges():
    x = np.full((12, 16), np.nan)
    x[2:10, 3:12] = 0.0
    movie = movie_of(x, shape=(300, 400), pixel=0.05, absorption=0.5, hkl=PAIR, contrast=[0.0, 0.0])
    y, big_x = _places((300, 400), 0.05)
    left, right, top, bottom = 3 - 8, 12 - 8, 2 - 6, 10 - 6
    inside = ((big_x > left) & (big_x < right)) & ((y > top) & (y < bottom))[:, None]
    far = (np.abs(big_x - left) > 0.8) & (np.abs(big_x - right) > 0.8)
    far = far & ((np.abs(y - top) > 0.8) & (np.abs(y - bottom) > 0.8))[:, None]
    np.testing.assert_allclose(movie.data[far], np.where(inside, 0.5, 1.0)[far], atol=1e-5)
    # the middle of the edge, along each side, is where the mask says
    row, column = movie.data[150] - 0.75, movie.data[:, 200] - 0.75
    for profile, places, low, high in ((row, big_x, left, right), (column, y, top, bottom)):
        cross = np.flatnonzero(np.diff(np.sign(profile)))
        at = places[cross] + 0.05 * profile[cross] / (profile[cross] - profile[cross + 1])
        np.testing.assert_allclose(at, [low, high], atol=1e-3)


def test_default_frame_holds_the_particle_wherever_it_goes():
    drift, rotation = [(0, 0), (3.0, -2.0)], [0.0, 35.0]
    movie = movie_of(
        np.full((2, 8, 20), 1.0), drift=drift, rotation=rotation, absorption=0.5, pixel=0.05
    )
    border = np.concatenate([movie.data[:, [0, -1]].ravel(), movie.data[:, :, [0, -1]].ravel()])
    np.testing.assert_allclose(border, 1.0, atol=1e-6)


def test_drift_is_exact():
    """By whole pixels: the same image elsewhere."""
    x = np.full((2, 8, 10), 0.3)
    movie = movie_of(x, shape=(301, 320), pixel=0.05, drift=[(0, 0), (0.35, -0.6)])
    first, second = movie.data
    # the coarse grid lies otherwise on the particle, but its displacement is a straight line
    np.testing.assert_allclose(second[:-12, 7:], first[12:, :-7], atol=1e-4)


def test_structure_factors_reverse_the_contrast_with_composition():
    """(002) changes its sign near x = 0.85."""
    images = [
        movie_of(np.full((10, 10), x), shape=(64, 64), hkl=[(0, 0, 2)], contrast=0.2).data
        for x in (0.0, 1.0)
    ]
    centre = [image[31:33, 31:33].mean() - 1 for image in images]
    factor = LFP.structure_factor((0, 0, 2), [0.0, 1.0])
    assert centre[0] * centre[1] < 0
    assert centre[1] / centre[0] == pytest.approx(factor[1] / factor[0], rel=0.01)


def test_contrast_reversal_map():
    sign = np.broadcast_to(np.where(np.arange(20) < 10, 1.0, -1.0), (20, 20))
    settings = {"shape": (200, 200), "pixel": 0.05}
    plain = movie_of(np.full((20, 20), 0.2), **settings).data - 1
    turned = movie_of(np.full((20, 20), 0.2), contrast_reversal=sign, **settings).data - 1
    # a spline through a step overshoots by a few percent, and is done after three samples
    np.testing.assert_allclose(turned[:, :40], plain[:, :40], atol=0.02)
    np.testing.assert_allclose(turned[:, -40:], -plain[:, -40:], atol=0.02)


def test_bent_crystal_fades_away_from_its_contour():
    movie = movie_of(
        np.full((20, 20), 0.0),
        shape=(320, 320),
        pixel=0.05,
        hkl=[(2, 0, 0)],
        contrast=0.3,
        bend={"curvature": 2.0, "position": -3.0, "thickness": 30.0},
    )
    contrast = np.abs(movie.data - 1).max(axis=0).reshape(-1, 20).max(axis=1)
    x = (np.arange(320) - 159.5) * 0.05
    # of blocks of 1 nm, two fringes: the largest of the sinc in each
    g = 20 / 9.8142
    factor = 0.3 * np.abs(np.sinc(30 * 2e-3 * (x + 3) * g)).reshape(-1, 20).max(axis=1)
    np.testing.assert_allclose(contrast, factor, atol=0.02)


def test_columns_are_the_sum_of_all_reflections():
    """Times the Gaussian of the column; the brightest points are iron columns."""
    shape, width = (240, 240), 0.04
    movie = movie_of(np.full((8, 8), 0.0), shape=shape, pixel=0.01, image="columns", contrast=0.05)
    hkl = [tuple(g) for g in movie.metadata.HyperspyLFP.Simulation.hkl]
    assert len(hkl) > 50
    g = np.array([1 / float(LFP.d_spacing(k)) for k in hkl])
    factors = np.array([LFP.structure_factor(k, [0.0, 1.0]) for k in hkl])
    factors = factors * np.exp(-2 * np.pi**2 * width**2 * g**2)[:, None]
    a, _, c = LFP.cell(0.0) / 10
    y, x = _places(shape, 0.01)
    phases = [h * x / a + l * y[:, None] / c for h, _, l in hkl]  # noqa: E741
    expected = 1 + 0.05 / np.abs(factors).max() * sum(
        f * np.cos(2 * np.pi * p) for f, p in zip(factors[:, 0], phases, strict=True)
    )
    np.testing.assert_allclose(movie.data, expected, atol=1e-4)
    row, column = np.unravel_index(movie.data.argmax(), shape)
    iron = np.array([(0.2753, 0.9481), (0.7247, 0.0519), (0.2247, 0.4481), (0.7753, 0.5519)])
    away = (np.array([x[column] / a, y[row] / c]) - iron + 0.5) % 1 - 0.5
    # the columns of phosphorus and oxygen beside it overlap with iron's
    assert np.hypot(*(away * (a, c)).T).min() < 2 * width


def test_counts():
    """Poisson: mean and variance of frames, against the noise-free movie."""
    x = np.full((40, 10, 10), 0.5)
    settings = {"shape": (64, 70), "absorption": 0.1}
    expected = 60 * movie_of(x[:1], **settings).data
    movie = movie_of(x, dose=60, seed=4, **settings)
    assert movie.data.dtype == np.uint16
    # five standard errors of the largest of 4480 pixels' standardised mean
    z = (movie.data.mean(axis=0) - expected[0]) / np.sqrt(expected[0] / 40)
    assert np.abs(z).max() < 5.5
    assert z.std() == pytest.approx(1, abs=5 / np.sqrt(2 * z.size))
    ratio = (movie.data.var(axis=0, ddof=1) / expected[0]).mean()
    # a variance of 40 counts has the error sqrt(2/39 + 1/(40 mu)) of itself
    assert abs(ratio - 1) < 5 * np.sqrt((2 / 39 + 1 / 2400) / z.size)


def test_transfer_function_lowers_the_fringes():
    settings = {"shape": (200, 180), "pixel": 0.05, "hkl": [(2, 0, 0)], "contrast": [0.2]}
    x = np.full((14, 14), 0.0)
    plain, blurred = (movie_of(x, mtf=m, **settings).data - 1 for m in (None, "pixel"))
    frequency = 0.05 * 20 / 9.8142
    # along rows nothing changes, and the border is far enough for the periodic continuation
    inner = np.s_[40:-40, 40:-40]
    np.testing.assert_allclose(blurred[inner], np.sinc(frequency) * plain[inner], atol=2e-3)


def test_film_lies_over_everything_and_may_stay():
    x = np.full((2, 6, 6), 0.5)
    settings = {"shape": (220, 220), "pixel": 0.05, "film": 0.05, "contrast": 0.1}
    bare = movie_of(x, shape=(220, 220), pixel=0.05, contrast=0.1).data
    for frames, same in (("fresh", False), ("fixed", True)):
        film = movie_of(x, film_frames=frames, **settings).data - bare
        # a few hundred independent values: 5 %, three of it
        assert film.std() == pytest.approx(0.05, rel=0.15)
        assert np.allclose(film[0], film[1], atol=1e-5) is same


def test_lazy_is_eager_bit_for_bit_and_any_part_alone():
    y = centres(12)
    x = np.stack([0.5 + 0.03 * t * np.cos(y / 4) + 0 * y[:, None] for t in range(5)])
    settings = {
        "shape": (150, 170),
        "pixel": 0.08,
        "dose": 50,
        "film": 0.03,
        "mtf": "scintillator",
        "drift": [(0.1 * i, 0.0) for i in range(5)],
        "rotation": np.linspace(0, 3, 5),
        "contrast_reversal": np.full((12, 12), 0.9),
        "bend": {"curvature": 1.0},
        "seed": 11,
    }
    eager = movie_of(x, **settings)
    for chunks in (1, 2):
        lazy = movie_of(x, lazy=True, chunks=chunks, **settings)
        assert lazy._lazy
        assert lazy.data.chunks[0][0] == chunks
        np.testing.assert_array_equal(lazy.data.compute(), eager.data)
        np.testing.assert_array_equal(lazy.inav[3].data.compute(), eager.data[3])
        np.testing.assert_array_equal(lazy.isig[5:20, 7:].data.compute(), eager.data[:, 7:, 5:20])


def test_seeds():
    x = np.full((2, 8, 8), 0.5)
    settings = {"shape": (60, 60), "dose": 30, "film": 0.05}
    first, again, other = (movie_of(x, seed=s, **settings).data for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5
    assert (first[0] != first[1]).mean() > 0.5


def test_hundred_gigabytes_can_be_described():
    movie = movie_of(np.full((12_500, 3, 3), 0.5), shape=(2048, 2048), dose=10, hkl=PAIR)
    assert movie._lazy
    assert movie.data.nbytes > 100e9
    phase = movie.gpa((1.0, 2.1), (1.0, -2.1), resolution=1.0)
    assert phase._lazy
    small = movie.isig[1000:1064, 1000:1064].inav[654]
    assert small.data.compute().shape == (64, 64)


def test_single_map_and_units():
    x = np.full((100, 120), 0.5)
    movie = simulation.hrtem_movie(
        make_source(x, (1.0, 1.0), units="Å"), material="LiFePO4", pixel="0.5 Å", lazy=True
    )
    assert movie.axes_manager.navigation_dimension == 0
    assert movie.axes_manager.signal_axes[0].scale == pytest.approx(0.05)
    assert movie.axes_manager.signal_axes[0].units == "nm"
    assert movie.data.compute().shape == movie.data.shape


@pytest.mark.parametrize("extension", ["hspy", "zspy"])
@pytest.mark.filterwarnings("ignore:The NestedDirectoryStore:FutureWarning")
def test_files(tmp_path, extension):
    x = np.full((2, 8, 9), 0.25)
    x[:, 0, 0] = np.nan
    movie = movie_of(x, shape=(64, 72), dose=20, bend={"curvature": 1.0})
    movie.save(tmp_path / f"movie.{extension}")
    for lazy in (False, True):
        opened = hs.load(tmp_path / f"movie.{extension}", lazy=lazy)
        assert isinstance(opened, HRTEMMovie)
        node = opened.metadata.HyperspyLFP.Simulation
        assert node.bend.curvature == 1.0
        exact, before = simulation.truth(opened), simulation.truth(movie)
        np.testing.assert_array_equal(exact.source.data, x)
        np.testing.assert_array_equal(np.asarray(exact.x.data), before.x.data)


BAD = [
    ({"pixel": -1}, ValueError, "pixel"),
    ({"pixel": "3 s"}, ValueError, "pixel"),
    ({"dose": -5}, ValueError, "dose"),
    ({"dose": 0}, ValueError, "dose=0"),
    ({"shape": (64,)}, ValueError, "shape"),
    ({"shape": (64, 2)}, ValueError, "shape"),
    ({"hkl": [(1, 0, 0)]}, ValueError, r"\(1, 0, 0\).*forbidden"),
    ({"hkl": [(1, 1, 1)]}, ValueError, "zone"),
    ({"hkl": []}, ValueError, "hkl is empty"),
    ({"hkl": [(1, 0, 1), (-1, 0, -1)]}, ValueError, "twice"),
    ({"hkl": [(0, 0, 0)]}, ValueError, "three integers"),
    ({"hkl": [(2, 0, 0)], "pixel": 0.3}, ValueError, "Nyquist"),
    ({"pixel": 0.5}, ValueError, "no reflection"),
    ({"contrast": 2.0}, ValueError, "below zero.*take up to"),
    ({"contrast": [0.1, 0.2]}, ValueError, "contrast holds 2"),
    ({"contrast": np.nan}, ValueError, "contrast"),
    ({"image": "dots"}, ValueError, "image='dots'"),
    ({"lattice": "rigid"}, ValueError, "lattice='rigid'"),
    ({"condition": "thick"}, ValueError, "condition"),
    ({"refinement": 0}, ValueError, "refinement"),
    ({"material": "gold"}, ValueError, "gold"),
    ({"material": None}, ValueError, "material"),
    ({"zone": (1, 1, 0)}, ValueError, "not along an axis"),
    ({"a_direction": (0, 0)}, ValueError, "a_direction"),
    ({"rotation": [1.0, 2.0, 3.0]}, ValueError, "rotation"),
    ({"drift": [(0.0, 0.0)]}, ValueError, r"drift has the shape \(1, 2\)"),
    ({"drift": [(0.0, np.nan), (0.0, 0.0)]}, ValueError, "drift"),
    ({"edge_width": 0.001}, ValueError, "edge_width"),
    ({"absorption": 1.0}, ValueError, "absorption"),
    ({"contrast_reversal": np.ones((3, 3))}, ValueError, "contrast_reversal"),
    ({"contrast_reversal": np.full((8, 8), 2.0)}, ValueError, "contrast_reversal"),
    ({"bend": 3.0}, ValueError, "bend"),
    ({"bend": {"curvature": 1.0, "angle": 3}}, ValueError, "bend"),
    ({"film": -0.1}, ValueError, "film"),
    ({"film_frames": "moving"}, ValueError, "film_frames"),
    ({"mtf": "camera"}, ValueError, "mtf='camera'"),
    ({"mtf": 0.5}, TypeError, "mtf"),
    ({"dtype": "uint8", "dose": 400}, ValueError, "dtype=uint8"),
    ({"dtype": "uint16"}, ValueError, "expected intensity"),
    ({"seed": -1}, ValueError, "seed"),
    ({"seed": 1.5}, ValueError, "seed"),
    ({"chunks": 0}, ValueError, "chunks"),
]


@pytest.mark.parametrize(("settings", "error", "message"), BAD)
def test_bad_input(settings, error, message):
    with pytest.raises(error, match=message):
        simulation.hrtem_movie(
            make_source(np.full((2, 8, 8), 0.5)), **({"material": "LiFePO4"} | settings)
        )


def test_a_material_without_elastic_constants():
    bare = materials.Material("bare", (0, 1), a=(9.8, 10.3), b=(5.8, 6.0), c=(4.78, 4.69))
    source = make_source(np.full((8, 8), 0.5))
    with pytest.raises(ValueError, match="lattice='vegard'"):
        simulation.hrtem_movie(source, material=bare, hkl=PAIR, contrast=[0.1, 0.1])
    with pytest.raises(ValueError, match="contrast, one number for each"):
        simulation.hrtem_movie(source, material=bare, lattice="vegard")
    simulation.hrtem_movie(
        source, material=bare, lattice="vegard", hkl=PAIR, contrast=[0.1, 0.1], shape=(32, 32)
    )


@pytest.mark.parametrize(("zone", "sample"), [((1, 0, 0), (0, 1, 1)), ((0, 0, 1), (2, 1, 0))])
def test_other_zones_have_their_own_fringes(zone, sample):
    movie = movie_of(np.full((14, 14), 0.0), zone=zone, shape=(240, 250), pixel=0.05)
    hkl = [tuple(g) for g in movie.metadata.HyperspyLFP.Simulation.hkl]
    assert sample in hkl
    found = movie.find_g_vectors(n=1)
    length = 1 / np.hypot(*found[0])
    spacings = [float(LFP.d_spacing(g)) for g in hkl]
    # refined to a tenth of a pixel of the spectrum of the frame
    assert min(abs(1 / d - 1 / length) for d in spacings) < 0.1 / (240 * 0.05)
