"""Files from microscopes and from other packages, from opening to reopened strain maps."""

import logging
from typing import NamedTuple

import hyperspy.api as hs
import numpy as np
import pytest


@pytest.fixture(scope="module")
def real_data(shared_data):
    folder = shared_data / "real"
    if not folder.is_dir():
        pytest.skip(f"no real files at {folder}")
    return folder


class File(NamedTuple):
    """What is known of a file."""

    name: str
    spots: tuple  # positions in the list of g vectors of two of one lattice
    combinations: tuple = ()  # of these two, that are among the others
    pixel: float | None = None  # nm, where the file does not say
    nan: tuple = (0.0, 0.0)  # bounds of the share of pixels without lattice
    options: dict = {}
    particle: tuple | None = None  # centre and radius (nm) of the one that is looked at


FILES = [
    File("openNCEM_STO_1.ser", (0, 1), ((0.5, 0.5), (0.5, -0.5))),
    File("openNCEM_STO.emi", (0, 1), ((0.5, 0.5), (0.5, -0.5))),
    File("openNCEM_Acquisition_18.emd", (0, 1), ((1, 1), (1, -1))),
    # several particles, each with spots of its own
    File("temul_Au_nanoparticle.emd", (0, 1), nan=(0.9, 0.999), particle=(3.5, -0.75, 1.3)),
    File("temul_Se_implanted_MoS2.dm3", (0, 1), ((1, -1),)),
    File("temul_PTO_SRO_aligned.hspy", (0, 1), ((0.5, 0.5),)),
    File("temul_Cu_nanoparticle_sim.hspy", (0, 1), ((1, 1), (1, -1)), nan=(0.5, 0.95)),
    File("statstem_PtIr.hspy", (0, 1), ((1, 1),), nan=(0.7, 0.95)),
    File("kemstem_NSMO110_1024px.tif", (0, 1), ((0.5, 0.5), (0.5, -0.5)), pixel=0.01),
    File(
        "atomap_ADF_cropped.hdf5",
        (0, 1),
        ((1, 1), (1, -1)),
        pixel=0.0093,
        options={"file_format": "HSPY"},
    ),
]


def open_file(folder, file):
    """The image as a lazy HRTEMMovie; calibrated if the file does not say."""
    # old files and old signal types are worth a message of HyperSpy, not of ours
    logging.getLogger("hyperspy").setLevel(logging.ERROR)
    signal = hs.load(folder / file.name, lazy=True, **file.options)
    if file.pixel is not None:
        plain = signal.deepcopy()
        plain.set_signal_type("HRTEMMovie")
        with pytest.raises(ValueError, match=r"no unit of length.*signal_axes\.set"):
            plain.find_g_vectors()
        signal.axes_manager.signal_axes.set(scale=file.pixel, units="nm")
    signal.set_signal_type("hrtem_movie")
    assert type(signal).__name__ == "LazyHRTEMMovie"
    return signal


def is_among(g, others, tolerance):
    """Whether a vector, or its opposite, is one of others."""
    distance = [min(np.hypot(*(g - o)), np.hypot(*(g + o))) for o in others]
    return min(distance) < tolerance * np.hypot(*g)


def whole_frame(signal):
    x, y = signal.axes_manager.signal_axes
    return hs.roi.RectangularROI(
        left=x.axis[0] - x.scale,
        top=y.axis[0] - y.scale,
        right=x.axis[-1] + x.scale,
        bottom=y.axis[-1] + y.scale,
    )


@pytest.mark.filterwarnings("ignore::hyperspy.exceptions.VisibleDeprecationWarning")
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_from_file_to_reopened_strain(real_data, tmp_path, file):
    movie = open_file(real_data, file)
    frame = [(a.size, a.scale, a.axis[0], a.axis[-1]) for a in movie.axes_manager.signal_axes]

    g = movie.find_g_vectors(n=6)
    assert len(g) >= 3 and np.isfinite(g).all()
    pair = g[list(file.spots)]
    for a, b in file.combinations:
        # one lattice, as scanned: its vectors add up
        assert is_among(a * pair[0] + b * pair[1], g, tolerance=0.015), (a, b)

    phase = movie.gpa(*pair)
    region = whole_frame(movie) if file.particle is None else hs.roi.CircleROI(*file.particle)
    strain = phase.strain(reference=region, definition="eulerian")
    assert phase._lazy and strain._lazy
    assert phase.resolution == pytest.approx(2 / np.hypot(*pair.T).min())
    for axis, (size, scale, first, last) in zip(
        strain.axes_manager.signal_axes, frame, strict=True
    ):
        assert axis.units == "nm"
        assert axis.size == int((size - 1) * scale / (phase.resolution / 3) + 1e-9) + 1
        assert first <= axis.axis[0] and axis.axis[-1] <= last
        assert axis.axis.mean() == pytest.approx((first + last) / 2)

    path = tmp_path / "strain.hspy"
    strain.save(path)
    found = hs.load(path)
    assert type(found).__name__ == "LatticeStrain"
    strain.compute(show_progressbar=False)
    np.testing.assert_array_equal(found.data, strain.data)
    np.testing.assert_array_equal(found.get_noise_variance().data, strain.get_noise_variance().data)

    low, high = file.nan
    missing = np.isnan(found.data[0])
    assert low <= missing.mean() <= high
    assert np.nanmedian(abs(found.data)) < 0.03
    if file.particle is not None:
        cx, cy, r = file.particle
        xs, ys = (a.axis for a in strain.axes_manager.signal_axes)
        assert not missing[np.hypot(xs - cx, (ys - cy)[:, None]) < r].all()
        return
    # the reference is the mean lattice of the frame, weighted with the power of each reflection
    phase.compute(show_progressbar=False)
    power = np.abs(phase.data[:, 0]) ** 2
    weight = np.where(missing, 0, np.sqrt(power.prod(axis=0)))
    mean = (np.nan_to_num(found.data) * weight).sum(axis=(1, 2)) / weight.sum()
    assert abs(mean).max() < 0.01


@pytest.mark.parametrize("name", ["openNCEM_STO_1.ser", "openNCEM_STO.emi"])
def test_strontium_titanate(real_data, name):
    """Square: its spacings are equal but for the distortion of the scan."""
    movie = open_file(real_data, File(name, (0, 1)))
    g = movie.find_g_vectors(n=6)
    lengths = np.hypot(*g.T)
    # {110} is the strongest pair, {100} is found as well
    spacing = 1 / lengths[:4]
    np.testing.assert_allclose(spacing[:2], 0.3905 / np.sqrt(2), rtol=0.06)  # pixel size 4 % off
    np.testing.assert_allclose(spacing[2:], 0.3905, rtol=0.06)
    assert max(spacing[2:]) / min(spacing[2:]) - 1 < 0.015
    cosine = g[2] @ g[3] / lengths[2] / lengths[3]
    assert abs(90 - np.rad2deg(np.arccos(cosine))) < 1.5

    # with the mean lattice as reference the mean strain is zero, whatever the pixel size
    for pair in (g[:2], g[2:4]):
        strain = movie.gpa(*pair).strain(whole_frame(movie))
        strain.compute(show_progressbar=False)
        assert np.isfinite(strain.data).all()
        assert abs(strain.data.mean(axis=(1, 2))).max() < 5e-4
        # without, it is that of the vectors, which were refined to the same lattice
        plain = movie.gpa(*pair).strain()
        plain.compute(show_progressbar=False)
        assert abs(plain.data.mean(axis=(1, 2))).max() < 2e-3
    # both pairs see the same distortion of the scan: a smooth one, of a percent
    first, second = (
        movie.gpa(*pair, resolution=1.0).strain(whole_frame(movie)) for pair in (g[:2], g[2:4])
    )
    for s in (first, second):
        s.compute(show_progressbar=False)
    inner = np.s_[:, 4:-4, 4:-4]
    a, b = first.data[inner], second.data[inner]
    assert np.sqrt(np.mean((a - b) ** 2)) < 0.5 * np.sqrt(np.mean(a**2))


def test_molybdenum_disulfide(real_data):
    """Hexagonal: three spacings, 60 degrees apart, and the vectors add up."""
    movie = open_file(real_data, File("temul_Se_implanted_MoS2.dm3", (0, 1)))
    g = movie.find_g_vectors(n=6)
    inner, outer = g[:3], g[3:]
    lengths = np.hypot(*inner.T)
    assert lengths.max() / lengths.min() - 1 < 0.08  # as scanned
    angles = np.sort(np.rad2deg(np.arctan2(inner[:, 1], inner[:, 0])) % 180)
    np.testing.assert_allclose(np.diff([*angles, angles[0] + 180]), 60, atol=3)
    second = np.hypot(*outer.T) / lengths.mean()
    np.testing.assert_allclose(second, np.sqrt(3), rtol=0.03)
    # three reflections see what two do
    two = movie.gpa(*inner[:2]).strain(whole_frame(movie))
    three = movie.gpa(*inner).strain(whole_frame(movie))
    for s in (two, three):
        s.compute(show_progressbar=False)
    assert np.isfinite(three.data).all()
    variance = [s.get_noise_variance().data.mean() for s in (two, three)]
    assert variance[1] < variance[0]
    difference = np.nanstd(two.data - three.data)
    assert difference < np.nanstd(two.data)


def test_units_n_m(real_data):
    """A file that writes `n_m` for nanometres gives the lengths it means."""
    movie = open_file(real_data, File("openNCEM_Acquisition_18.emd", (0, 1)))
    assert [a.units for a in movie.axes_manager.signal_axes] == ["n_m", "n_m"]
    g = movie.find_g_vectors(n=2)
    np.testing.assert_allclose(1 / np.hypot(*g.T), [0.29, 0.29], atol=0.01)
    phase = movie.gpa(*g, resolution="6 angstrom")
    assert phase.resolution == pytest.approx(0.6)
    assert phase.metadata.HyperspyLFP.GeometricPhase.resolution_units == "nm"
    assert movie.estimate_drift().axes_manager.signal_axes[0].units == "nm"


def test_a_simulated_particle_is_hardly_strained(real_data):
    """A perfect copper particle in vacuum: no strain inside, no lattice outside.

    It is a sphere of three resolutions, whose amplitude falls with its thickness all the way to
    the edge. Found in the image, half of the amplitude is at two thirds of the radius.
    """
    movie = open_file(real_data, File("temul_Cu_nanoparticle_sim.hspy", (0, 1)))
    g = movie.find_g_vectors(n=2)
    for mask, inside, most in ((None, 90, 2e-3), ("auto", 45, 4e-3)):
        strain = movie.gpa(*g, mask=mask).strain()
        strain.compute(show_progressbar=False)
        x, y = (a.axis for a in strain.axes_manager.signal_axes)
        radius = np.hypot(x - x.mean(), (y - y.mean())[:, None])
        assert np.isfinite(strain.data[:, radius < inside]).all()
        assert np.isnan(strain.data[:, radius > 190]).all()
        assert abs(strain.data[:, radius < min(inside, 60)]).max() < most


def test_video_frame(real_data, tmp_path):
    """RGB: the error says how to make it grey; then vacuum is no lattice."""
    image = hs.load(real_data / "rememberBr_insitu_HRTEM_frame.jpg")
    colour = image.deepcopy()
    colour.set_signal_type("HRTEMMovie")
    for axis in colour.axes_manager.signal_axes:
        axis.scale, axis.units = 0.02, "nm"
    with pytest.raises(TypeError, match=r"R/G/B.*grey.*change_dtype\('uint8'\)"):
        colour.find_g_vectors()
    image.change_dtype("uint8")
    grey = image.sum(-1).transpose(signal_axes=2)
    grey.set_signal_type("HRTEMMovie")
    with pytest.raises(ValueError, match="no unit of length"):
        grey.find_g_vectors()
    grey.axes_manager.signal_axes.set(scale=0.02, units="nm")
    g = grey.find_g_vectors(n=2)
    strain = grey.gpa(*g, resolution=0.8).strain()
    missing = np.isnan(strain.data[0])
    x = strain.axes_manager.signal_axes[0].axis / 0.02
    assert missing[:, x < 200].all()
    assert not missing[:, x > 400].all()
    strain.save(tmp_path / "strain.zspy")
    np.testing.assert_array_equal(hs.load(tmp_path / "strain.zspy").data, strain.data)


def test_a_lazy_file_gives_what_the_file_in_memory_does(real_data):
    file = FILES[2]
    lazy = open_file(real_data, file).isig[200:600, 300:]
    eager = lazy.deepcopy()
    eager.compute(show_progressbar=False)
    g = eager.find_g_vectors(n=2)
    np.testing.assert_array_equal(lazy.find_g_vectors(n=2), g)
    a, b = (s.gpa(*g, step="pixel").strain() for s in (lazy, eager))
    a.compute(show_progressbar=False)
    np.testing.assert_array_equal(a.data, b.data)
