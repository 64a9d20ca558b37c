"""Error bars, flags and summary of maps of composition, on movies in which something is wrong."""

import warnings

import hyperspy.api as hs
import numpy as np
import pytest
from hyperspy.signals import Signal2D
from scipy import ndimage

from hyperspy_lfp import materials
from hyperspy_lfp.signals import ConcentrationMap

SCALE = (0.06, 0.05)  # (y, x), nm
SHAPE = (190, 220)
HKL = ((1, 0, 1), (1, 0, -1))
RESOLUTION = 0.75
TILT = np.deg2rad(7.0)  # the a axis, counter-clockwise from x as displayed


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    before = hs.preferences.General.show_progressbar
    hs.preferences.General.show_progressbar = False
    yield
    hs.preferences.General.show_progressbar = before


def vectors(x=0.0, hkl=HKL):
    cell = materials.get("LiFePO4").cell(x) / 10
    along_a = np.array([np.cos(TILT), -np.sin(TILT)])
    along_c = np.array([np.sin(TILT), np.cos(TILT)])
    return np.array([i[0] / cell[0] * along_a + i[2] / cell[2] * along_c for i in hkl])


def coordinates():
    return np.arange(SHAPE[1]) * SCALE[1], (np.arange(SHAPE[0]) * SCALE[0])[:, None]


def movie(displacement=(0, 0), contrast=(1, 1), n=1, dose=400.0, x=0.0, hkl=HKL, inside=1, seed=0):
    """Fringes of contrast 0.2 with counting noise; `contrast` multiplies that of each reflection.

    `displacement`, `contrast` and `inside` are arrays, or functions of the number of the frame.
    """
    random = np.random.default_rng(seed)
    at_x, at_y = coordinates()
    frames = []
    for i in range(n):
        u, factors, mask = (a(i) if callable(a) else a for a in (displacement, contrast, inside))
        image = np.ones(SHAPE)
        for g, factor in zip(vectors(x, hkl), factors, strict=True):
            phase = 2 * np.pi * (g[0] * (at_x - u[0]) + g[1] * (at_y - u[1]))
            image = image + 0.2 * factor * mask * np.cos(phase)
        frames.append(random.poisson(dose * image))
    signal = Signal2D(np.array(frames, dtype=np.uint16))
    for axis, scale in zip(signal.axes_manager.signal_axes, SCALE[::-1], strict=True):
        axis.scale, axis.units = scale, "nm"
    signal.axes_manager.navigation_axes[0].name = "time"
    signal.axes_manager.navigation_axes[0].units = "s"
    signal.set_signal_type("HRTEMMovie")
    return signal


def concentration(signal, hkl=HKL, g=None, **kwargs):
    g = vectors(hkl=hkl) if g is None else g
    return signal.to_concentration(*g, resolution=RESOLUTION, hkl=hkl, **kwargs)


def share(x, name, where=None):
    """Part of the pixels with a flag."""
    marked = (x.flags.data & x.FLAGS[name]) > 0
    return marked[..., where].mean() if where is not None else marked.mean()


def grid(x):
    at_x, at_y = (axis.axis for axis in x.axes_manager.signal_axes)
    return at_x[None, :], at_y[:, None]


@pytest.fixture(scope="module")
def plain():
    return concentration(movie(n=6))


# --- nothing is wrong ---


def test_a_good_crystal_is_not_flagged(plain):
    assert set(plain.FLAGS) == {
        "no lattice",
        "rim",
        "outside",
        "phase jump",
        "dislocation",
        "closure",
        "collapse",
        "inconsistent",
        "calibration",
    }
    flags = plain.flags
    assert flags.data.dtype == np.uint16
    assert flags.data.shape == plain.data.shape
    assert not flags.data.any()
    assert np.isfinite(plain.data).all()


def test_error_bars_of_noise(plain):
    """The predicted error is the actual one, to the sampling error of six frames and 10 %."""
    inside = (slice(None), slice(5, -5), slice(5, -5))
    actual = plain.data[inside].std()
    relative, noise = (plain.standard_error(k).data[inside] for k in ("relative", "noise"))
    assert 0.8 < actual / np.sqrt(np.mean(relative**2)) < 1.15
    assert np.sqrt(np.mean(relative**2)) < 1.1 * np.sqrt(np.mean(noise**2))
    systematic = plain.standard_error("systematic").data[inside]
    np.testing.assert_allclose(relative**2, noise**2 + systematic**2, rtol=1e-4, atol=1e-12)
    reference = plain.standard_error("reference").data[inside]
    absolute = plain.standard_error("absolute").data[inside]
    np.testing.assert_allclose(absolute**2, relative**2 + reference**2, rtol=1e-4, atol=1e-12)
    assert plain.chi_squared.data[inside].mean() == pytest.approx(1, abs=0.25)
    shear = plain.forbidden_shear.data[inside]
    assert np.abs(shear.mean()) < 1e-4 and shear.std() < 1.5e-3


@pytest.mark.parametrize("where", ["region", "frame", "both"])
def test_error_of_the_reference(where):
    """The mean of x varies with the noise of the reference, as predicted."""
    roi = hs.roi.RectangularROI(4.5, 4.5, 6.0, 6.0)
    kwargs = {
        "region": {"reference": roi},
        "frame": {"reference_frame": 0},
        "both": {"reference": roi, "reference_frame": 0},
    }[where]
    signal = movie(n=24)
    errors, predicted = [], []
    if where == "region":
        x = concentration(signal, **kwargs)
        # far from the reference, of which the noise is common to the frame
        means = x.isig[3:12, 3:30].data.mean(axis=(1, 2))
        errors, predicted = means, x.standard_error("reference").data[:, 5, 5]
        assert np.std(errors) == pytest.approx(np.sqrt(np.mean(predicted**2)), rel=0.4)
        return
    for i in range(0, 24, 4):
        x = concentration(signal.inav[i : i + 4], **kwargs)
        errors.append(x.data[1:].mean(axis=0)[8:-8, 8:-8])
        predicted.append(x.standard_error("reference").data[1][8:-8, 8:-8])
    actual = np.sqrt(np.mean(np.square(errors)))
    # the mean of three frames has a third of the noise of one as well
    noise = np.sqrt(np.mean(x.standard_error("noise").data[1:, 8:-8, 8:-8] ** 2) / 3)
    if where == "frame":
        expected = np.hypot(np.sqrt(np.mean(np.square(predicted))), noise)
        assert actual == pytest.approx(expected, rel=0.15)
    else:
        mean = np.mean(errors, axis=(1, 2))
        assert np.sqrt(np.mean(mean**2)) < 3 * np.sqrt(np.mean(np.square(predicted)))
        assert np.sqrt(np.mean(mean**2)) > np.sqrt(np.mean(np.square(predicted))) / 3


# --- what the flags are for ---


def test_particle_in_vacuum():
    at_x, at_y = coordinates()
    distance = 4.0 - np.hypot(at_x - 5.5, at_y - 5.7)
    x = concentration(movie(inside=1 / (1 + np.exp(-distance / 0.05)), n=2))
    mx, my = grid(x)
    inside = 4.0 - np.hypot(mx - 5.5, my - 5.7)
    assert share(x, "no lattice", inside < -0.3) == 1
    assert share(x, "no lattice", inside > 0.8 * RESOLUTION) == 0
    assert share(x, "rim", inside > 2.5 * RESOLUTION) == 0
    rim = (inside > 0.8 * RESOLUTION) & (inside < 1.5 * RESOLUTION)
    assert share(x, "rim", rim) == 1
    np.testing.assert_array_equal(np.isnan(x.data), (x.flags.data & x.FLAGS["no lattice"]) > 0)


def test_contrast_reversal():
    at_x, at_y = coordinates()
    reversed_ = np.where(at_x + 0.2 * at_y < 6.5, 1.0, -1.0)
    x = concentration(movie(contrast=(reversed_, 1)))
    mx, my = grid(x)
    off = (mx + 0.2 * my - 6.5) / np.hypot(1, 0.2)
    away = (my > 2) & (my < 9)
    assert share(x, "phase jump", (np.abs(off) < 1.5 * RESOLUTION) & away) == 1
    assert share(x, "phase jump", np.abs(off) > 4 * RESOLUTION) == 0
    assert share(x, "dislocation") == 0
    believed = ~x.flagged().data & np.isfinite(x.data)
    error = np.abs(x.data[believed]) / x.standard_error().data[believed]
    assert np.sqrt(np.mean(error**2)) < 1.3


@pytest.mark.parametrize("sign", [1, -1])
def test_edge_dislocation(sign):
    """Found, flagged, and with its Burgers vector, on the analytic displacement."""
    at_x, at_y = coordinates()
    x0, y0, nu = 5.43, 5.71, 0.3
    a = materials.get("LiFePO4").cell(0)[0] / 10
    b = sign * a * np.array([np.cos(TILT), -np.sin(TILT)])
    # along and across the Burgers vector, turned as the crystal is
    c, s = np.cos(TILT), np.sin(TILT)
    along, across = c * (at_x - x0) - s * (at_y - y0), s * (at_x - x0) + c * (at_y - y0)
    r2 = along**2 + across**2
    u1 = sign * a / (2 * np.pi) * (np.arctan2(across, along) + along * across / (2 * (1 - nu) * r2))
    u2 = (
        -sign
        * a
        / (2 * np.pi)
        * (
            (1 - 2 * nu) / (4 * (1 - nu)) * np.log(r2)
            + (along**2 - across**2) / (4 * (1 - nu) * r2)
        )
    )
    signal = movie(displacement=(c * u1 + s * u2, -s * u1 + c * u2), n=2)
    phase = signal.gpa(*vectors(), resolution=RESOLUTION, hkl=HKL)
    found = phase.find_dislocations()
    assert [d.frame for d in found] == [0, 1]
    for d in found:
        np.testing.assert_allclose(d.burgers, b, atol=1e-6)
        assert np.hypot(d.x - x0, d.y - y0) < RESOLUTION / 3 + 0.1
    x = phase.to_concentration()
    mx, my = grid(x)
    core = np.hypot(mx - x0, my - y0)
    assert share(x, "dislocation", core < 2.5 * RESOLUTION) == 1
    assert share(x, "dislocation", core > 4 * RESOLUTION) == 0
    assert share(x, "phase jump") == 0
    assert phase.as_lazy().find_dislocations(show_progressbar=False) == found
    assert "dislocations" in str(x.summary())


def test_phases_that_do_not_close():
    """Within a disc the third reflection is shifted by itself, as no lattice can be."""
    hkl = (*HKL, (2, 0, 0))
    at_x, at_y = coordinates()
    signal = movie(contrast=(1, 1, 1), hkl=hkl, seed=3)
    good = concentration(signal, hkl)
    assert share(good, "closure") == 0
    disc = np.hypot(at_x - 5.5, at_y - 5.5)
    shift = 1.2 / (1 + np.exp((disc - 2.5) / 0.3))
    g = vectors(hkl=hkl)[2]
    random = np.random.default_rng(3)
    image = np.ones(SHAPE)
    for i, v in enumerate(vectors(hkl=hkl)):
        image = image + 0.2 * np.cos(
            2 * np.pi * (v[0] * at_x + v[1] * at_y) + (shift if i == 2 else 0)
        )
    assert np.allclose(g, sum(vectors()))
    signal.data = random.poisson(400 * image)[None].astype(np.uint16)
    x = concentration(signal, hkl)
    mx, my = grid(x)
    away = np.hypot(mx - 5.5, my - 5.5)
    assert share(x, "closure", away < 1.2) > 0.9
    assert share(x, "closure", away > 4.5) == 0


def test_collapse_of_a_reflection_in_time():
    at_x, _ = coordinates()
    weak = np.where((at_x > 4) & (at_x < 8), 0.12, 1.0) * np.ones(SHAPE)
    x = concentration(movie(contrast=lambda i: (weak if i == 2 else 1, 1), n=3))
    mx, _ = grid(x)
    middle = np.broadcast_to((mx > 5.2) & (mx < 6.8), x.data.shape[1:])
    assert (x.flags.data[:2] & x.FLAGS["collapse"]).sum() == 0
    assert ((x.flags.data[2] & x.FLAGS["collapse"]) > 0)[middle].all()
    assert ((x.flags.data[2] & x.FLAGS["collapse"]) > 0)[~middle].mean() < 0.35


def test_a_bent_crystal_is_not_taken_for_lithium():
    """Bending strains a alone, by up to 1 %, which is 0.2 in x."""
    at_x, at_y = coordinates()
    strain_integral = 0.01 * at_x * np.clip((at_y - 5.7) / 5, -1, 1)
    c, s = np.cos(TILT), np.sin(TILT)
    x = concentration(movie(displacement=(c * strain_integral, -s * strain_integral)))
    _, my = grid(x)
    bent = np.broadcast_to(np.abs(my - 5.7) > 3, x.data.shape[1:])
    error = np.sqrt(np.mean(x.data[0][bent] ** 2))
    assert error > 0.08
    noise, relative = (
        np.sqrt(np.mean(x.standard_error(kind).data[0][bent] ** 2))
        for kind in ("noise", "relative")
    )
    assert error > 4 * noise
    # which of the two lengths is wrong cannot be known: an error of a alone is 2.5 times what
    # the same misfit is taken for
    assert error < 2.5 * relative
    assert x.chi_squared.data[0][bent].mean() > 10
    assert share(x, "inconsistent") > 0.1
    assert "contradict" in str(x.summary())


# --- references ---


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("factor", [1.03, 0.965])
def test_a_wrong_pixel_size_does_not_pass(factor, lazy):
    """x of the axes' scale is that of no composition: said, flagged, and with what to do."""
    signal = movie(n=2, x=0.4)
    for axis in signal.axes_manager.signal_axes:
        axis.scale *= factor
    signal = signal.as_lazy() if lazy else signal
    # to the tenth of a percent that wrong tables would make
    amount = "(2.9|3.0|3.1)" if factor > 1 else "3.[4567]"
    direction = "smaller" if factor > 1 else "larger"
    with pytest.warns(UserWarning, match=f"{amount} % {direction}.*reference.*'difference'"):
        x = concentration(signal)
        if lazy:
            x.compute(show_progressbar=False)
    assert share(x, "calibration") == 1
    assert "no composition" in str(x.summary())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        roi = hs.roi.RectangularROI(3, 3, 9, 9)
        others = [
            concentration(signal, reference=roi, x_reference=0.4),
            concentration(signal, reference=roi, reference_frame=0, x_reference=0.4),
            concentration(signal, nuisance="magnification"),
            concentration(signal, method="difference"),
        ]
        for other in others:
            if lazy:
                other.compute(show_progressbar=False)
    for other in others:
        assert share(other, "calibration") == 0
        assert other.data.mean() == pytest.approx(0.4, abs=0.04)


@pytest.mark.parametrize("x", [0.0, 0.5, 1.0])
def test_a_right_pixel_size_is_not_complained_about(x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = concentration(movie(x=x), reference="cell")
    assert share(found, "calibration") == 0
    assert found.data.mean() == pytest.approx(x, abs=0.01)
    assert found.metadata.HyperspyLFP.ConcentrationMap.reference.region == "cell"


@pytest.mark.parametrize("g", ["found", "given"])
def test_the_cell_as_reference(g):
    """Whatever the given vectors: the lattice is measured in nanometres."""
    signal = movie(x=0.7)
    given = vectors(0.2) if g == "given" else vectors(0.7)
    x = concentration(signal, g=given, reference="cell")
    assert x.data.mean() == pytest.approx(0.7, abs=0.01)
    shifted = concentration(signal, g=given, reference="cell", x_reference=0.5)
    np.testing.assert_allclose(shifted.data, x.data, atol=2e-3)


def test_error_of_the_tables():
    """Of the cell it is that of the tables; of a lattice of known x that of the change."""
    signal = movie(x=1.0)
    material = materials.get("LiFePO4")
    slope = np.diff(material.cell([0.0, 1.0]), axis=0)[0] / material.cell(0.0)
    one = material.uncertainty[0] / material.cell(0.0)[0] / slope[0]
    cell = [concentration(signal, reference="cell", x_reference=x, method="a") for x in (0.0, 1.0)]
    errors = [x.standard_error("reference").data.mean() for x in cell]
    np.testing.assert_allclose(errors, one, rtol=0.06)
    given = concentration(signal, method="a").standard_error("reference").data.mean()
    assert given == pytest.approx(np.sqrt(2) * one, rel=0.06)
    known = concentration(signal, g=vectors(1.0), x_reference=1.0, method="a")
    assert known.standard_error("reference").data.mean() < 0.1 * one


def test_mean_far_from_any_composition():
    """A wrong composition of the reference is not passed over either."""
    with pytest.warns(UserWarning, match=r"mean of x is 1\.[45]"):
        x = concentration(movie(x=0.9), x_reference=0.5, nuisance="magnification")
    assert share(x, "calibration") == 1


@pytest.mark.parametrize("nuisance", ["magnification", "ellipticity"])
def test_distortion_of_each_frame_is_fitted(nuisance):
    """A breathing magnification, or an ellipticity along the crystal's axes, leaves x alone."""
    at_x, at_y = coordinates()
    c, s = np.cos(TILT), np.sin(TILT)
    along, across = c * at_x - s * at_y, s * at_x + c * at_y

    def displacement(i):
        size = (0.0, 0.03, -0.02)[i]
        u1 = size * along
        u2 = size * across * (1 if nuisance == "magnification" else -1)
        return c * u1 + s * u2, -s * u1 + c * u2

    signal = movie(displacement=displacement, n=3, x=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        plain = concentration(signal).data.mean(axis=(1, 2))
    fitted = concentration(signal, nuisance=nuisance)
    assert np.ptp(plain) > 0.05
    np.testing.assert_allclose(fitted.data.mean(axis=(1, 2)), 0.3, atol=0.02)
    assert fitted.metadata.HyperspyLFP.ConcentrationMap.nuisance == nuisance
    assert nuisance in str(fitted.summary())


def test_a_map_as_the_composition_of_the_reference():
    """Relative to a frame whose composition differs from place to place."""
    at_x, at_y = coordinates()
    strain = materials.get("LiFePO4").cell(1)[0] / materials.get("LiFePO4").cell(0)[0] - 1
    c, s = np.cos(TILT), np.sin(TILT)
    along = c * at_x - s * at_y
    # x = 0.04 along / nm, whose strain along a alone is put in
    u1 = strain * 0.02 * along**2
    signal = movie(displacement=lambda i: (c * u1 * (1 + i), -s * u1 * (1 + i)), n=2, dose=2000)
    first = concentration(signal, method="a")
    second = concentration(signal, method="a", reference_frame=0, x_reference=first.inav[0])
    np.testing.assert_allclose(second.data[1], first.data[1], atol=6e-3)
    assert np.nanstd(first.data[1]) > 0.1
    plain = concentration(signal, method="a", reference_frame=0)
    assert np.abs(plain.data[1] - first.data[1]).max() > 0.2


# --- the layers of the signal ---


def test_layers_travel_with_the_data(plain, tmp_path):
    part = plain.inav[2:4].isig[3:12, 4:9]
    np.testing.assert_array_equal(part.flags.data, plain.flags.data[2:4, 4:9, 3:12])
    for kind in ("noise", "systematic", "reference", "absolute"):
        np.testing.assert_array_equal(
            part.standard_error(kind).data, plain.standard_error(kind).data[2:4, 4:9, 3:12]
        )
    path = tmp_path / "x.hspy"
    plain.save(path)
    for lazy in (False, True):
        opened = hs.load(path, lazy=lazy)
        assert str(opened.summary(show_progressbar=False)) == str(plain.summary())
        for name in ("flags", "chi_squared", "forbidden_shear"):
            data = getattr(opened, name).data
            np.testing.assert_array_equal(np.asarray(data), getattr(plain, name).data)


def test_masking(plain):
    x = plain.deepcopy()
    x.metadata.Signal.Noise_properties.flags.data[0, 3, 4] = x.FLAGS["rim"]
    x.metadata.Signal.Noise_properties.flags.data[0, 5, 6] = x.FLAGS["closure"] | x.FLAGS["rim"]
    masked = x.mask_flagged()
    assert isinstance(masked, ConcentrationMap)
    assert np.argwhere(np.isnan(masked.data)).tolist() == [[0, 3, 4], [0, 5, 6]]
    assert np.isfinite(x.data).all()
    only = x.as_lazy().mask_flagged("closure")
    assert only._lazy
    only.compute(show_progressbar=False)
    assert np.argwhere(np.isnan(only.data)).tolist() == [[0, 5, 6]]
    np.testing.assert_array_equal(x.flagged("closure").data.nonzero(), [[0], [5], [6]])
    masked.evolution()


def test_lazy_equals_eager(plain):
    signal = movie(n=6)
    lazy = concentration(signal.as_lazy())
    assert str(lazy.summary(show_progressbar=False)) == str(plain.summary())
    lazy.compute(show_progressbar=False)
    np.testing.assert_array_equal(lazy.data, plain.data)
    np.testing.assert_array_equal(lazy.flags.data, plain.flags.data)
    for kind in ("relative", "systematic", "reference"):
        np.testing.assert_array_equal(
            lazy.standard_error(kind).data, plain.standard_error(kind).data
        )


def test_one_frame_and_a_stack(plain):
    frame = movie(n=1).inav[0]
    one = concentration(frame)
    assert one.flags.data.shape == one.data.shape
    assert "1 of" in str(one.summary())
    stack = hs.stack([movie(n=2), movie(n=2, seed=1)], new_axis_name="sample")
    many = concentration(stack)
    assert many.flags.data.shape == many.data.shape == (2, 2, *plain.data.shape[1:])
    assert "4 of" in str(many.summary())


def test_summary_says_what_was_done(plain):
    text = str(plain.summary())
    for piece in ("LiFePO4", "gls", "(1 0 1), (1 0 -1)", "0.75 nm", "given g vectors", "noise"):
        assert piece in text
    assert repr(plain.summary()) == text
    bare = plain - 0.1
    bare.metadata.Signal.Noise_properties = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = str(bare.summary())
    assert "not known" in text and "nan" not in text
    empty = plain.deepcopy()
    empty.data[:] = np.nan
    assert "no pixel has a lattice" in str(empty.summary())


# --- bad input ---


def test_bad_input(plain):
    with pytest.raises(ValueError, match=r"'sharp' is no flag; use some of .*'rim'"):
        plain.flagged("sharp")
    with pytest.raises(ValueError, match="is no flag"):
        plain.flagged(["rim"])
    with pytest.raises(ValueError, match=r"kind='total' is not known; use one of .*'absolute'"):
        plain.standard_error("total")
    bare = ConcentrationMap(np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"no flags in its metadata.*to_concentration"):
        bare.flags  # noqa: B018
    signal = movie()
    with pytest.raises(ValueError, match=r"reference='crystal'.*'cell'"):
        concentration(signal, reference="crystal")
    with pytest.raises(ValueError, match="reference='cell'"):
        concentration(signal, reference="cell", reference_frame=0)
    with pytest.raises(ValueError, match=r"nuisance='drift' is not known.*'magnification'"):
        concentration(signal, nuisance="drift")
    with pytest.raises(ValueError, match="x_reference is a map, but the reference is one lattice"):
        concentration(signal, x_reference=plain.inav[0])
    with pytest.raises(ValueError, match="sampled alike"):
        concentration(signal, x_reference=plain.inav[0].isig[:5, :5], reference_frame=0)
    nothing = plain.inav[0].deepcopy()
    nothing.data[:] = np.nan
    with pytest.raises(ValueError, match="x_reference is NaN"):
        concentration(signal, x_reference=nothing, reference_frame=0)


def test_empty_frames_are_flagged():
    signal = movie(n=3)
    signal.change_dtype("float32")
    signal.data[1] = np.nan
    x = concentration(signal)
    assert np.isnan(x.data[1]).all() and np.isfinite(x.data[[0, 2]]).all()
    assert (x.flags.data[1] == x.FLAGS["no lattice"]).all()
    assert not x.flags.data[[0, 2]].any()


def test_coarse_maps_cannot_show_jumps(plain):
    """Samples further apart than the resolution: flags of phases are not set, the others are."""
    x = concentration(movie(), step=1.2 * RESOLUTION)
    assert np.isfinite(x.data).all()
    with pytest.raises(ValueError, match="finer step"):
        phase = movie().gpa(*vectors(), resolution=RESOLUTION, step=1.2 * RESOLUTION)
        phase.find_dislocations()


def test_rim_grows_with_missing_pixels(plain):
    hole = ndimage.binary_dilation(np.zeros(SHAPE, bool))
    hole[80:130, 90:140] = True
    signal = movie(n=1)
    signal.change_dtype("float32")
    signal.data[0, hole] = np.nan
    x = concentration(signal)
    assert share(x, "no lattice") > 0
    assert share(x, "rim") > 0
