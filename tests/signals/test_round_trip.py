"""Every signal opens again as what it was, and the next step works on what was opened."""

import functools
import logging
import numbers

import hyperspy.api as hs
import numpy as np
import pytest
from hyperspy.signal import BaseSignal

import hyperspy_lfp
from hyperspy_lfp import materials

CLASSES = [
    "HRTEMMovie",
    "GeometricPhase",
    "DisplacementField",
    "LatticeStrain",
    "ConcentrationMap",
    "ConcentrationEvolution",
    "DiffractionSeries",
    "SpotProfile",
    "SpotTrack",
]
NODE = "HyperspyLFP"
NOISE = "Signal.Noise_properties"

NEXT = {
    "HRTEMMovie": lambda s: s.gpa((1.43, 1.83), (0.56, -2.26), resolution=0.6),
    "GeometricPhase": lambda s: s.to_concentration(reference_frame=0),
    "DisplacementField": lambda s: s.ux,
    "LatticeStrain": lambda s: s.rotate(10.0).to_concentration(a_direction=(1, 0)),
    "ConcentrationMap": lambda s: s.evolution({"a": hs.roi.RectangularROI(4, 0, 6, 2)}),
    "ConcentrationEvolution": lambda s: s.standard_error,
    "DiffractionSeries": lambda s: s.track_spot_profile((1.43, 1.83), width=0.4),
    "SpotProfile": lambda s: s.fit(peaks=1, shape="gaussian"),
    "SpotTrack": lambda s: s.to_concentration("LiFePO4", hkl=(1, 0, 1), reference_frame=0),
}


@pytest.fixture(scope="module")
def material():
    return materials.Material(
        "my olivine",
        composition=(0, 0.6, 1),
        a=(9.81, 10.1, 10.32),
        b=(5.79, 5.9, 6.01),
        c=(4.78, 4.74, 4.69),
        zone=(0, 1, 0),
        species="Na",
        source="a test, with µ and Å",
    )


@pytest.fixture(scope="module")
def steps(images, vectors, helpers, material):
    """A signal of every class."""
    steps = helpers.steps(helpers.as_movie(images), vectors, show_progressbar=False)
    steps["HRTEMMovie"].metadata.set_item(f"{NODE}.Provenance.origin", "a test")
    concentration = steps["GeometricPhase"].to_concentration(
        material,
        hs.roi.PolygonROI([(4, 0), (6, 0), (5, 2)]),
        slice(0, 3),
        x_reference=0.25,
        method="a",
        show_progressbar=False,
    )
    regions = {"disc": hs.roi.CircleROI(5.0, 0.5, 1.0), "Ecke Å": hs.roi.RectangularROI(4, 0, 6, 2)}
    steps["ConcentrationMap"] = concentration
    steps["ConcentrationEvolution"] = concentration.evolution(regions, show_progressbar=False)
    return steps


@pytest.fixture(scope="module")
def next_steps(steps):
    """What the next step gives of each signal that was never in a file."""
    return {name: compute(NEXT[name](signal.deepcopy())) for name, signal in steps.items()}


@pytest.fixture(scope="module")
def failing(images, vectors, helpers):
    """Lazy signals of every class of a movie that cannot be read."""
    broken = helpers.as_movie(helpers.Reader(images, broken=True).as_dask(), lazy=True)
    return helpers.steps(broken, vectors)


def noise(signal):
    """Variance and covariance that are nested in the metadata."""
    node = signal.metadata.get_item(NOISE, default=None)
    return {} if node is None else {k: v for k, v in node if isinstance(v, BaseSignal)}


def without_noise(signal):
    dictionary = signal.metadata.as_dictionary()
    dictionary["Signal"].pop("Noise_properties", None)
    dictionary.pop("_HyperSpy", None)
    dictionary["General"].pop("FileIO", None)
    dictionary["General"].pop("original_filename", None)
    return dictionary


def compute(signal):
    if signal._lazy:
        signal.compute(show_progressbar=False)
    for nested in noise(signal).values():
        if nested._lazy:
            nested.compute(show_progressbar=False)
    return signal


def axes_of(signal):
    axes = signal.axes_manager.as_dictionary()
    return {n: {k: np.asarray(v).tolist() for k, v in a.items()} for n, a in axes.items()}


def assert_same(found, expected):
    """Same class, data, axes, metadata and noise, types of the metadata included."""
    assert type(found).__name__.removeprefix("Lazy") == type(expected).__name__
    assert axes_of(found) == axes_of(expected)
    assert_same_items(without_noise(found), without_noise(expected))
    assert noise(found).keys() == noise(expected).keys()
    for name, nested in noise(expected).items():
        other = noise(found)[name]
        np.testing.assert_array_equal(other.data, nested.data)
        assert other.data.dtype == nested.data.dtype
        assert type(other).__name__.removeprefix("Lazy") == type(nested).__name__
        assert axes_of(other) == axes_of(nested)
    np.testing.assert_array_equal(found.data, expected.data)
    assert found.data.dtype == expected.data.dtype


def assert_same_items(found, expected, path=""):
    if isinstance(found, np.generic):  # as HDF5 gives numbers back
        found = found.item()
    assert type(found) is type(expected), path
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), path
        for key in expected:
            assert_same_items(found[key], expected[key], f"{path}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), path
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert_same_items(a, b, f"{path}[{i}]")
    else:
        assert found == expected, path


@pytest.mark.parametrize("opened_lazy", [False, True], ids=["opened", "opened lazily"])
@pytest.mark.parametrize("saved_lazy", [False, True], ids=["saved", "saved lazily"])
@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
@pytest.mark.parametrize("name", CLASSES)
def test_round_trip(steps, next_steps, tmp_path, caplog, name, suffix, saved_lazy, opened_lazy):
    expected = steps[name]
    assert type(expected).__name__ == name
    path = tmp_path / f"signal.{suffix}"
    with caplog.at_level(logging.WARNING):
        signal = expected.as_lazy() if saved_lazy else expected
        signal.save(path, show_progressbar=False)
        found = hs.load(path, lazy=opened_lazy)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING], "something was lost"
    assert type(found).__name__ == ("Lazy" if opened_lazy else "") + name
    assert found.metadata.Signal.signal_type == name

    result = compute(NEXT[name](found))
    reference = next_steps[name]
    assert_same_items(without_noise(result), without_noise(reference))
    np.testing.assert_array_equal(result.data, reference.data)
    for key, nested in noise(reference).items():
        np.testing.assert_array_equal(noise(result)[key].data, nested.data)

    assert_same(compute(found), expected)


@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
def test_lazy_results_are_saved_without_being_computed_before(
    images, vectors, helpers, shapes, tmp_path, suffix
):
    lazy = helpers.steps(helpers.as_movie(images, lazy=True), vectors)
    expected = shapes("movie")
    for name in CLASSES[1:]:
        path = tmp_path / f"{name}.{suffix}"
        lazy[name].save(path, show_progressbar=False)
        assert lazy[name]._lazy
        assert_same(hs.load(path), expected[name])


@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
def test_metadata_outlive_the_file(steps, material, tmp_path, suffix):
    """What a step needs is at hand when the file it came from is closed."""
    path = tmp_path / f"signal.{suffix}"
    steps["ConcentrationMap"].save(path)
    found = hs.load(path, lazy=True)
    found.compute(close_file=True, show_progressbar=False)
    assert found.material == material
    assert found.resolution == 0.6
    assert_same(found, steps["ConcentrationMap"])

    steps["GeometricPhase"].save(tmp_path / f"phase.{suffix}")
    phase = hs.load(tmp_path / f"phase.{suffix}", lazy=True)
    phase.close_file()
    np.testing.assert_array_equal(phase.g_vectors, steps["GeometricPhase"].g_vectors)
    assert phase.hkl is None and phase.resolution == 0.6


@pytest.mark.parametrize("name", CLASSES)
def test_metadata_hold_only_what_files_keep(steps, name):
    """Floats, integers, strings, booleans, None and homogeneous lists of them, by type."""

    def check(value, path):
        if isinstance(value, dict):
            for key, inner in value.items():
                assert type(key) is str and not key.startswith("_sig_"), path
                check(inner, f"{path}.{key}")
        elif isinstance(value, list):
            assert len({type(v) for v in value}) <= 1, path
            for inner in value:
                check(inner, path)
        else:
            assert value is None or type(value) in (str, bool, int, float), path

    node = steps[name].metadata.get_item(NODE).as_dictionary()
    check(node, NODE)


@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
def test_materials_and_indices(steps, material, vectors, tmp_path, suffix):
    """A file opened where nobody knows the material still knows its lattice."""
    steps["ConcentrationMap"].save(tmp_path / f"x.{suffix}")
    found = hs.load(tmp_path / f"x.{suffix}")
    assert found.material == material
    assert found.material.cell(0.6).tolist() == [10.1, 5.9, 4.74]
    node = found.metadata.get_item(NODE).as_dictionary()
    assert node["ConcentrationMap"]["hkl"] == [[1, 0, 1], [1, 0, -1]]
    assert node["ConcentrationMap"]["x_reference"] == 0.25
    assert node["ConcentrationMap"]["method"] == "a"
    assert node["ConcentrationMap"]["package_version"] == hyperspy_lfp.__version__
    assert node["ConcentrationMap"]["reference"]["frame"] == [0, 1, 2]
    region = node["ConcentrationMap"]["reference"]["region"]
    assert region == {"type": "PolygonROI", "vertices": [[4.0, 0.0], [6.0, 0.0], [5.0, 2.0]]}
    np.testing.assert_array_equal(node["GeometricPhase"]["g_vectors"], vectors)


@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
def test_given_indices(movie, vectors, helpers, tmp_path, suffix):
    phase = movie.gpa(*vectors, resolution=0.6, hkl=[(1, 0, -1), (1, 0, 1)])
    phase.save(tmp_path / f"phase.{suffix}")
    found = hs.load(tmp_path / f"phase.{suffix}")
    assert found.hkl == phase.hkl == [(1, 0, -1), (1, 0, 1)]
    assert all(isinstance(i, numbers.Integral) for hkl in found.hkl for i in hkl)
    np.testing.assert_array_equal(found.to_concentration().data, phase.to_concentration().data)


def test_regions_are_named_in_the_file(steps, tmp_path):
    steps["ConcentrationEvolution"].save(tmp_path / "e.hspy")
    found = hs.load(tmp_path / "e.hspy")
    assert found.regions == ["disc", "Ecke Å"]
    node = found.metadata.get_item(NODE).ConcentrationEvolution.as_dictionary()
    assert node["region_1"] == {"type": "CircleROI", "cx": 5.0, "cy": 0.5, "r": 1.0}
    assert node["region_2"]["right"] == 6.0


def test_a_reference_region_in_the_file(steps, tmp_path):
    steps["LatticeStrain"].save(tmp_path / "e.hspy")
    found = hs.load(tmp_path / "e.hspy")
    node = found.metadata.get_item(NODE).LatticeStrain.as_dictionary()
    assert node["reference"] == {
        "frame": None,
        "region": {
            "type": "RectangularROI", "left": 4.0, "top": -0.5, "right": 6.0, "bottom": 1.5,
        },
    }  # fmt: skip
    assert (found.definition, found.angle) == ("finite", 12.0)


@pytest.fixture(scope="module")
def shapes(images, vectors, helpers):
    """Signals of every class by the shape of the movie, each made when it is asked for."""

    @functools.cache
    def steps(shape):
        data = {"frame": images[2], "stack": np.stack([images, images[::-1]])}.get(shape, images)
        movie = helpers.as_movie(data)
        if shape == "times":
            time = movie.axes_manager.navigation_axes[0]
            time.convert_to_non_uniform_axis()
            time.axis = np.array([0.0, 1.0, 4.0, 9.0, 16.0])
        return helpers.steps(movie, vectors)

    return steps


@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
@pytest.mark.parametrize("shape", ["frame", "stack", "times"])
def test_other_shapes(shapes, tmp_path, shape, suffix):
    """A single frame, a stack of movies, and a time axis that is not uniform."""
    for name, signal in shapes(shape).items():
        if shape == "frame" and name in ("ConcentrationEvolution", "SpotTrack"):
            continue  # see below
        path = tmp_path / f"{name}.{suffix}"
        signal.save(path)
        assert_same(hs.load(path), signal)
        found = hs.load(path, lazy=True)
        np.testing.assert_array_equal(
            compute(NEXT[name](found)).data, compute(NEXT[name](signal)).data
        )


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
def test_evolution_of_a_single_frame(shapes, tmp_path, suffix, lazy):
    evolution = shapes("frame")["ConcentrationEvolution"]
    evolution.save(tmp_path / f"e.{suffix}")
    found = hs.load(tmp_path / f"e.{suffix}", lazy=lazy)
    assert type(found).__name__ == ("Lazy" if lazy else "") + "ConcentrationEvolution"
    compute(found)
    np.testing.assert_array_equal(found.data, evolution.data)
    np.testing.assert_array_equal(found.standard_error.data, evolution.standard_error.data)
    assert found.regions == ["all", "disc"]


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
def test_spot_of_a_single_frame(shapes, tmp_path, suffix, lazy):
    track = shapes("frame")["SpotTrack"]
    track.save(tmp_path / f"t.{suffix}")
    found = hs.load(tmp_path / f"t.{suffix}", lazy=lazy)
    assert type(found).__name__ == ("Lazy" if lazy else "") + "SpotTrack"
    for name in ("position", "d_spacing", "n_peaks"):
        np.testing.assert_array_equal(compute(getattr(found, name)).data, getattr(track, name).data)


@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
@pytest.mark.parametrize("name", CLASSES)
def test_a_file_that_is_overwritten_is_never_lost(
    steps, failing, tmp_path, monkeypatch, name, suffix
):
    """Neither by what is read from it, nor by an error, nor without being asked."""
    expected = steps[name]
    path = tmp_path / f"signal.{suffix}"
    expected.save(path)

    def intact():
        assert_same(hs.load(path), expected)
        return [p.name for p in tmp_path.iterdir()] == [path.name]

    for arguments in ((path,), (), (tmp_path / "signal", None, None, suffix.upper())):
        filename, _, extension, file_format = (*arguments, None, None, None, None)[:4]
        hs.load(path, lazy=True).save(
            filename, True, extension, file_format, show_progressbar=False
        )
        assert intact(), arguments

    broken = failing[name]
    with pytest.raises(RuntimeError, match="the movie was read"):
        broken.save(path, overwrite=True, show_progressbar=False)
    assert intact()
    broken.save(path, overwrite=False, show_progressbar=False)
    assert intact()
    monkeypatch.setattr("builtins.input", lambda message: "n")
    broken.save(path, show_progressbar=False)
    assert intact()
    monkeypatch.setattr("builtins.input", lambda message: "y")
    with pytest.raises(RuntimeError, match="the movie was read"):
        broken.save(path, show_progressbar=False)
    assert intact()


def test_saving_makes_the_folder(steps, tmp_path):
    for lazy in (False, True):
        path = tmp_path / f"{lazy}" / "new" / "strain.hspy"
        signal = steps["LatticeStrain"]
        (signal.as_lazy() if lazy else signal).save(path, show_progressbar=False)
        assert_same(hs.load(path), signal)
        assert [p.name for p in path.parent.iterdir()] == ["strain.hspy"]


@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
def test_saving_reads_each_frame_once(images, vectors, helpers, tmp_path, suffix):
    reader = helpers.Reader(images)
    movie = helpers.as_movie(reader.as_dask(), lazy=True)
    x = movie.to_concentration(*vectors, resolution=0.6)
    x.save(tmp_path / f"x.{suffix}", show_progressbar=False)
    assert reader.counts.tolist() == [1] * len(images)
    assert x._lazy
