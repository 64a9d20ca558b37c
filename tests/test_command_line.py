"""The command line: what it writes, what it says, and that it destroys nothing."""

import csv
import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import hyperspy.api as hs
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

import hyperspy_lfp
from hyperspy_lfp import data, materials
from hyperspy_lfp.__main__ import main
from hyperspy_lfp._cli import job, output

G = ["--g", "1.4136,1.8553", "--g", "0.5363,-2.2703"]
HKL = [(1, 0, 1), (1, 0, -1)]
REGION = "5,5,10,10"
PIXEL = ["--pixel-size", "0.0625 nm"]


@pytest.fixture(scope="module")
def movie():
    return data.lithiation_movie().inav[:3]


@pytest.fixture(scope="module")
def movie_file(movie, tmp_path_factory):
    path = tmp_path_factory.mktemp("movie") / "my movie.hspy"
    movie.save(path)
    return str(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder with a name that is hard to get wrong, as the working directory."""
    folder = tmp_path / "Übung 1 µm"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(here, capsys):
    """Run the command line; returns exit code, stdout and stderr."""

    def call(*arguments):
        code = main(["--no-progress", *map(str, arguments)])
        return (code, *capsys.readouterr())

    return call


@pytest.fixture
def plain_summary(monkeypatch):
    """An empty page instead of the figure, which takes most of the time of a run."""
    monkeypatch.setattr(job.plotting, "summary", lambda *args: plt.figure())


def listing(folder):
    """Everything in a folder, hidden or not, with its content."""
    return {str(p.relative_to(folder)): p.is_file() and p.read_bytes() for p in folder.rglob("*")}


def is_one_line(text, beginning):
    return text.startswith(f"hyperspy-lfp: {beginning}") and text.count("\n") == 1


def read_table(path):
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    return header, np.array(rows, dtype=float)


# What it writes


def test_built_in_example(run, here):
    code, said, errors = run()
    assert (code, errors) == (0, "")
    folder = here / "lithiation_example_lfp"
    assert sorted(os.listdir(here)) == [folder.name]
    assert sorted(os.listdir(folder)) == sorted(output.NAMES)
    rms = float(said.split("rms error ")[1].split(",")[0])
    assert rms < 0.04  # noise of 0.02 a pixel, and as much at the border of the domains
    header, table = read_table(folder / "evolution.csv")
    assert header[:3] == ["time (s)", "x, corner", "standard error of x, corner"]
    time, corner, error, rest = table.T[:4]
    assert len(time) == 12
    assert time[-1] == pytest.approx(199.2)
    # the corner gives lithium back while the rest goes on filling
    peak = corner[time < 80].max()
    assert peak - corner[(time > 80) & (time < 120)].min() > 4 * error.max()
    assert np.all(np.diff(rest) > 0)
    with Image.open(folder / "summary.png") as image:
        assert min(image.size) > 1000


def test_file_gives_what_the_methods_give(run, movie, movie_file, here):
    code, said, errors = run(
        movie_file, *G, "--resolution", "0.8 nm", "--reference", REGION, "--region", f"a={REGION}",
        "--region", "b c=3,3,6,6", "--x-reference", "0.1", "--output", "out",
    )  # fmt: skip
    assert (code, errors) == (0, "")
    g = [[1.4136, 1.8553], [0.5363, -2.2703]]
    roi = hs.roi.RectangularROI(5, 5, 10, 10)
    phase = movie.gpa(*g, resolution=0.8, hkl=HKL, show_progressbar=False)
    arguments = {"reference": roi, "reference_frame": 0, "show_progressbar": False}
    expected = phase.to_concentration(x_reference=0.1, **arguments)
    x = hs.load(here / "out" / "concentration.hspy")
    assert type(x).__name__ == "ConcentrationMap"
    np.testing.assert_allclose(x.data, expected.data, rtol=1e-5, atol=1e-6)
    noise, expected_noise = x.get_noise_variance(), expected.get_noise_variance()
    np.testing.assert_allclose(noise.data, expected_noise.data, rtol=1e-4)
    strain = hs.load(here / "out" / "strain.hspy", lazy=True)
    assert type(strain).__name__ == "LazyLatticeStrain"
    expected_strain = phase.strain(**arguments)
    np.testing.assert_allclose(strain.data.compute(), expected_strain.data, rtol=1e-5, atol=1e-6)
    header, table = read_table(here / "out" / "evolution.csv")
    assert header[3:] == ["x, b c", "standard error of x, b c"]
    ev = expected.evolution({"a": roi}, show_progressbar=False)
    np.testing.assert_allclose(table[:, 0], movie.axes_manager[0].axis, rtol=1e-6)
    np.testing.assert_allclose(table[:, 1], ev.data[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(table[:, 2], ev.standard_error.data[0], rtol=1e-4)
    assert "(1 0 -1)  g = (  0.5363,  -2.2703) 1/nm, spacing 0.4287 nm" in said
    assert "resolution 0.8 nm" in said
    assert "region 5, 5, 10, 10 nm in frame 0; x = 0.1 there" in said
    # a next step is ready to be taken
    assert x.evolution(show_progressbar=False).data.shape == (1, 3)


@pytest.mark.usefixtures("plain_summary")
def test_reads_every_frame_once(run, movie_file, monkeypatch):
    from hyperspy_lfp.signals import _frames, hrtem_movie

    frames = []
    original = hrtem_movie._fit_block

    def count(block, *args, **kwargs):
        frames.append(len(block))
        return original(block, *args, **kwargs)

    monkeypatch.setattr(hrtem_movie, "_fit_block", count)
    monkeypatch.setattr(_frames, "CHUNK_BYTES", 1)
    assert run(movie_file, *G)[0] == 0
    assert frames == [1, 1, 1]


def test_module_runs_in_a_process_of_its_own(movie_file, here):
    environment = {**os.environ, "PYTHONUTF8": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "hyperspy_lfp", movie_file, *G, "--output", "out"],
        capture_output=True, text=True, encoding="utf-8", env=environment, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "100% Completed" in done.stdout
    assert done.stdout.rstrip().endswith(", ".join(output.NAMES))
    assert sorted(os.listdir("out")) == sorted(output.NAMES)


def test_process_fails_with_one_line(here):
    done = subprocess.run(
        [sys.executable, "-m", "hyperspy_lfp", "missing.dm4"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "hyperspy-lfp: error: there is no file missing.dm4\n"
    assert listing(here) == {}


def test_version_and_help_need_no_hyperspy():
    code = (
        "import sys; from hyperspy_lfp.__main__ import main; "
        "assert main(['--version']) == main(['--help']) == 0; assert 'hyperspy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"hyperspy-lfp {hyperspy_lfp.__version__}\n")


# What it reads


@pytest.mark.usefixtures("plain_summary")
def test_tiff_without_calibration(run, movie, here):
    Image.fromarray(movie.data[0]).save(
        "Zürich.tif",
        save_all=True,
        append_images=[Image.fromarray(frame) for frame in movie.data[1:]],
    )
    code, _, errors = run("Zürich.tif", *G)
    assert code == 2
    assert is_one_line(errors, "error: the signal axis")
    assert "--pixel-size" in errors
    assert sorted(listing(here)) == ["Zürich.tif"]
    code, said, errors = run("Zürich.tif", *G, *PIXEL, "--time-step", "40 ms")
    assert (code, errors) == (0, "")
    assert "Zürich: 3 frames of 256 x 230 pixels of 0.0625 nm" in said
    header, table = read_table("Zürich_lfp/evolution.csv")
    assert header[0] == "time (s)"
    np.testing.assert_allclose(table[:, 0], [0, 0.04, 0.08])


@pytest.mark.usefixtures("plain_summary")
def test_tiff_with_calibration(run, movie, here):
    movie.save("movie.tif")
    code, said, errors = run("movie.tif", *G)
    assert (code, errors) == (0, "")
    assert "3 frames of 256 x 230 pixels of 0.0625 nm" in said


def test_format_that_cannot_be_read_lazily(run, movie, here):
    """JPEG; a single frame, whose g vectors are given, is compared with them."""
    frame = movie.data[0].astype(float)
    frame = 255 * (frame - frame.min()) / np.ptp(frame)
    Image.fromarray(frame.astype(np.uint8)).save("frame.jpg", quality=95)
    g = movie.refine_g_vectors([[1.4136, 1.8553], [0.5363, -2.2703]], frames=0)
    given = [f"--g={x},{y}" for x, y in g]
    code, said, errors = run("frame.jpg", *given, *PIXEL)
    assert (code, errors) == (0, "")
    assert "reference: the given g vectors; x = 0 there" in said
    header, table = read_table("frame_lfp/evolution.csv")
    assert header[1] == "x, whole map"
    assert table.shape == (1, 3)
    assert abs(table[0, 1]) < 0.05


def test_colours_are_refused(run, here):
    colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(colours).save("colours.png")
    code, _, errors = run("colours.png", *G, *PIXEL)
    assert code == 2
    assert "colours, but lattice images must be grey" in errors


@pytest.mark.usefixtures("plain_summary")
def test_file_with_several_signals(run, movie, monkeypatch, here):
    spectrum = hs.signals.Signal1D(np.zeros(8))
    stack = hs.stack([movie.inav[0], movie.inav[0]], show_progressbar=False).as_lazy()
    Path("many.emd").touch()
    signals = [spectrum, stack, movie.as_lazy()]
    monkeypatch.setattr(hs, "load", lambda *args, **kwargs: signals)
    code, said, _ = run("many.emd", *G)
    assert code == 0
    assert "many.emd holds 3 signals" in said
    monkeypatch.setattr(hs, "load", lambda *args, **kwargs: [spectrum])
    code, _, errors = run("many.emd", *G, "--output", "b")
    assert code == 2
    assert "holds no images" in errors


def test_several_navigation_axes_are_refused(run, movie, here):
    # of the same data two movies
    stack = hs.signals.Signal2D(np.stack([movie.data] * 2))
    stack.save("stack.hspy")
    code, _, errors = run("stack.hspy", *G, *PIXEL)
    assert code == 2
    assert "one movie" in errors


@pytest.mark.usefixtures("plain_summary")
def test_square_brackets_in_a_name(run, movie, here):
    movie.save("movie[1].hspy")
    assert run("movie[1].hspy", *G)[0] == 0
    assert Path("movie[1]_lfp").is_dir()


# How it chooses


@pytest.mark.usefixtures("plain_summary")
def test_spots_are_found_and_reference_is_told(run, movie_file):
    code, said, _ = run(movie_file, "--frames", ":2")
    assert code == 0
    assert said.startswith("lithiation movie: 2 frames of 256 x 230")
    assert "(1 0 1) " in said
    assert "(1 0 -1) " in said
    assert "reference: every place as it is in frame 0; x = 0 there" in said


@pytest.mark.usefixtures("plain_summary")
def test_asked_reflections_are_picked(run, movie_file):
    code, said, _ = run(movie_file, "--hkl", "-2,0,0", "--hkl", "1,0,1", "--frames", "0:1")
    assert code == 0
    lines = [line for line in said.splitlines() if line.startswith("reflection")]
    assert [line[11:19] for line in lines] == ["(-2 0 0)", "(1 0 1) "]
    assert "g = ( -1.9" in lines[0]
    assert "the mean lattice of what was measured" in said


@pytest.mark.usefixtures("plain_summary")
def test_references_of_frames(run, movie_file):
    said = run(movie_file, *G, "--reference-frame", "none", "--output", "a")[1]
    assert "reference: the given g vectors" in said
    said = run(movie_file, *G, "--reference-frame", "0:2", "--output", "b")[1]
    assert "as it is in the mean of the reference frames" in said
    said = run(movie_file, *G, "--reference", REGION, "--reference-frame", "none", "--output", "c")[
        1
    ]
    assert "nm in each frame" in said
    x = hs.load("c/concentration.hspy")
    described = x.metadata.HyperspyLFP.ConcentrationMap.reference
    assert described.region.left == 5
    assert described.frame is None


@pytest.mark.usefixtures("plain_summary")
def test_material_from_json(run, movie_file):
    fields = materials.get("LiFePO4").to_dictionary() | {"name": "mine", "a": [9.8142, 10.5]}
    Path("mine.json").write_text(json.dumps(fields), encoding="utf-8")
    assert run(movie_file, *G, "--material", "mine.json")[0] == 0
    x = hs.load("my movie_lfp/concentration.hspy")
    assert x.material == materials.Material.from_dictionary(fields)


# Bad input: code 2, one line, nothing written


BAD = {
    "no such file": (["nowhere.dm4"], "there is no file nowhere.dm4"),
    "not a movie": (["text.txt"], "cannot read text.txt"),
    "unknown option": (["MOVIE", "--colour", "red"], "unrecognized arguments: --colour red"),
    "one g": (["MOVIE", "--g", "1,2"], "--g is given once"),
    "g of three": (["MOVIE", "--g", "1,2,3", "--g", "1,2"], "two components"),
    "g of words": (["MOVIE", "--g", "one,two", "--g", "1,2"], "g='one' is not reciprocal vectors"),
    "g not finite": (["MOVIE", "--g", "nan,1", "--g", "1,2"], "g has the vector"),
    "g beyond Nyquist": (["MOVIE", "--g", "-11,2", "--g", "1,2"], "Nyquist"),
    "g collinear": (["MOVIE", "--g", "-1,-2", "--g", "1,2"], "--hkl for each"),
    "g and hkl collinear": (
        ["MOVIE", "--g", "2,1", "--g", "1,.5", "--hkl", "2,0,0", "--hkl", "1,0,0"], "collinear"
    ),
    "g unknown": (["MOVIE", "--g", "3.2,0", "--g", "0,3.2"], "0.3125 nm is None"),
    "hkl of two": (["MOVIE", "--hkl", "1,0"], "'1,0' must be 3 integers"),
    "hkl broken": (["MOVIE", "--hkl", "1,0,.5"], "must be 3 integers"),
    "hkl too few": (["MOVIE", *G, "--hkl", "1,0,1"], "--hkl is given 1 times for 2 --g"),
    "hkl absent": (["MOVIE", "--hkl", "1,0,1", "--hkl", "9,0,0"], "--hkl 9,0,0 is not among"),
    "hkl opposite": (["MOVIE", "--hkl", "1,0,1", "--hkl", "-1,0,-1"], "not opposite"),
    "material": (["MOVIE", *G, "--material", "Unobtainium"], "material='Unobtainium'"),
    "material file": (["MOVIE", *G, "--material", "a.json"], "cannot read the material a.json"),
    "material fields": (["MOVIE", *G, "--material", "empty.json"], "must be an object with"),
    "zone": (["MOVIE", "--zone", "0,0,1"], "no two lattice spots were found that fit"),
    "zone zero": (["MOVIE", *G, "--zone", "0,0,0"], "zone=(0, 0, 0)"),
    "resolution": (["MOVIE", *G, "--resolution", "2 kg"], "resolution="),
    "resolution fine": (["MOVIE", *G, "--resolution", "0.1"], "resolution=0.1 nm is too fine"),
    "step": (["MOVIE", *G, "--step", "fine"], "step='fine' is not a length"),
    "method": (["MOVIE", *G, "--method", "guess"], "method='guess' is not known"),
    "x reference": (["MOVIE", *G, "--x-reference", "full"], "invalid float value: 'full'"),
    "x reference not finite": (["MOVIE", *G, "--x-reference", "nan"], "x_reference=nan"),
    "reference outside": (["MOVIE", *G, "--reference", "90,90,95,95"], "holds no pixel"),
    "reference turned": (["MOVIE", *G, "--reference", "5,5,4,6"], "LEFT < RIGHT"),
    "reference of three": (["MOVIE", *G, "--reference", "5,5,4"], "must be 4 numbers"),
    "reference frame": (["MOVIE", *G, "--reference-frame", "7"], "reference_frame=7"),
    "reference frame word": (["MOVIE", *G, "--reference-frame", "first"], "must be 1 integer"),
    "single frame": (
        ["MOVIE", *G, "--frames", "0:1", "--reference-frame", "0"], "compared with itself"
    ),
    "region outside": (["MOVIE", *G, "--region", "a=90,90,95,95"], "--region a="),
    "region without name": (["MOVIE", *G, "--region", "1,2,3,4"], "must be NAME="),
    "regions of one name": (
        ["MOVIE", *G, "--region", "a=1,2,3,4", "--region", "a=5,6,7,8"], "--region a is given twice"
    ),
    "frames": (["MOVIE", *G, "--frames", "9:12"], "--frames chooses none of the 3 frames"),
    "frames word": (["MOVIE", *G, "--frames", "all"], "must be START:STOP"),
    "frames backwards": (["MOVIE", *G, "--frames", "::-1"], "must be START:STOP"),
    "pixel size": (["MOVIE", *G, "--pixel-size", "2 s"], "pixel_size="),
    "time step": (["MOVIE", *G, "--time-step", "2 nm"], "--time-step '2 nm' is not a time"),
    "time step zero": (["MOVIE", *G, "--time-step", "0"], "is not a time"),
    "workers": (["MOVIE", *G, "--workers", "0"], "'0' must be 1 or more"),
    "output is a file": (["MOVIE", *G, "--output", "text.txt"], "is no folder"),
    "output in a file": (["MOVIE", *G, "--output", "text.txt/a"], "text.txt is no folder"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, run, movie_file, here):
    arguments, message = BAD[name]
    Path("text.txt").write_text("not a movie")
    Path("empty.json").write_text("{}")
    before = listing(here)
    code, _, errors = run(*(movie_file if a == "MOVIE" else a for a in arguments))
    assert code == 2
    assert is_one_line(errors, "error: ")
    assert message in errors
    assert listing(here) == before


def test_pixel_size_that_does_not_fit_the_material(run, movie_file):
    code, _, errors = run(movie_file, "--pixel-size", "0.0375 nm")
    assert code == 2
    assert "no two lattice spots were found that fit LiFePO4" in errors
    assert "the right --pixel-size" in errors


# Nothing is destroyed


@pytest.mark.usefixtures("plain_summary")
def test_nothing_is_overwritten_without_force(run, movie_file, here):
    folder = here / "out"
    folder.mkdir()
    (folder / "evolution.csv").write_text("old")
    (folder / "notes.txt").write_text("mine")
    before = listing(here)
    code, said, errors = run(movie_file, *G, "--output", "out")
    assert (code, said) == (2, "")
    assert is_one_line(errors, "error: out already holds evolution.csv; give --force")
    assert listing(here) == before
    code, _, errors = run(movie_file, *G, "--output", "out", "--force")
    assert (code, errors) == (0, "")
    assert sorted(os.listdir("out")) == sorted([*output.NAMES, "notes.txt"])
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "evolution.csv").read_text() != "old"


@pytest.mark.usefixtures("plain_summary")
def test_output_folders_are_made(run, movie_file, here):
    assert run(movie_file, *G, "--output", "new folder/é")[0] == 0
    assert sorted(os.listdir("new folder/é")) == sorted(output.NAMES)


def test_the_movie_is_never_replaced(run, movie, here):
    Path("out").mkdir()
    movie.save("out/strain.hspy")
    before = listing(here)
    code, _, errors = run("out/strain.hspy", *G, "--output", "out", "--force")
    assert code == 2
    assert "would replace the movie" in errors
    assert listing(here) == before


FAILURES = [
    ("plotting.summary", RuntimeError("no ink"), 1, "error: RuntimeError: no ink"),
    ("_write_table", OSError(28, "No space left on device"), 1, "error: OSError: [Errno 28] No"),
    ("_store", MemoryError(), 1, "error: MemoryError"),
    ("_store", ValueError("a bug\nof two lines"), 1, "error: ValueError: a bug of two lines"),
    ("_report", KeyboardInterrupt(), 130, "interrupted"),
]


@pytest.mark.parametrize(("where", "failure", "code", "message"), FAILURES)
@pytest.mark.parametrize("force", [False, True])
def test_failure_midway(where, failure, code, message, force, run, movie_file, here, monkeypatch):
    def fail(*args, **kwargs):
        raise failure

    monkeypatch.setattr(f"hyperspy_lfp._cli.job.{where}", fail)
    arguments = [movie_file, *G, "--output", "out"]
    if force:
        Path("out").mkdir()
        for name in output.NAMES:
            Path("out", name).write_text("old")
        arguments.append("--force")
    before = listing(here)
    result, _, errors = run(*arguments)
    assert result == code
    assert is_one_line(errors, message)
    assert listing(here) == before


@pytest.mark.parametrize("failure", [PermissionError(13, "in use"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", range(2, 9))
def test_failure_while_replacing(failure, call, here, monkeypatch):
    """Whichever of the moves fails, the old results are there afterwards."""
    folder = here / "out"
    folder.mkdir()
    for name in output.NAMES:
        (folder / name).write_text("old")
    before = listing(here)
    replace, calls = os.replace, []

    def fail(source, target):
        calls.append(source)
        if len(calls) == call:
            raise failure
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(type(failure)), output.staged(folder, force=True) as (complete, _):
        for name in output.NAMES:
            (complete / name).write_text("new")
    assert listing(here) == before


def test_results_that_appear_meanwhile_are_kept(here):
    folder = here / "out"
    with pytest.raises(hyperspy_lfp._cli.InputError, match="appeared meanwhile"):
        with output.staged(folder, force=False) as (complete, _):
            for name in output.NAMES:
                (complete / name).write_text("new")
            folder.mkdir()
            (folder / output.NAMES[1]).write_text("someone else's")
    assert listing(here) == {"out": False, f"out{os.sep}{output.NAMES[1]}": b"someone else's"}


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not made read-only this way")
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_cannot_be_written(run, movie_file, here):
    Path("locked").mkdir(mode=0o500)
    code, _, errors = run(movie_file, *G, "--output", "locked/out")
    assert code == 2
    assert is_one_line(errors, "error: cannot write to")


# What it says


def test_debug_shows_the_traceback(run, movie_file, monkeypatch):
    monkeypatch.setattr(job, "build", lambda *args: 1 / 0)
    code, _, errors = run(movie_file, "--debug")
    assert code == 1
    assert "Traceback" in errors
    assert errors.endswith("hyperspy-lfp: error: ZeroDivisionError: division by zero\n")


@pytest.mark.usefixtures("plain_summary")
def test_only_warnings_of_ours_are_passed_on(run, movie_file, monkeypatch):
    build = job.build

    def warn(*args):
        for name in (job.__file__, logging.__file__):
            warnings.warn_explicit(f"from {Path(name).stem}\nindeed", UserWarning, name, 1)
        logging.getLogger("hyperspy").error("a log message")
        return build(*args)

    monkeypatch.setattr(job, "build", warn)
    code, _, errors = run(movie_file, *G)
    assert code == 0
    assert errors == "hyperspy-lfp: warning: from job indeed\n"
    assert logging.root.manager.disable == 0


@pytest.mark.usefixtures("plain_summary")
def test_progress_bar(here, movie_file, capsys):
    assert main([movie_file, *G, "--workers", "1"]) == 0
    said, errors = capsys.readouterr()
    assert said.count("100% Completed") == 1
    assert errors == ""


def test_no_lattice_in_a_region_is_told(run, movie_file):
    code, said, _ = run(movie_file, *G, "--region", "corner=0,0,0.6,0.6")
    assert code == 0
    assert "mean x, corner: no lattice at 0 s" in said
    _, table = read_table("my movie_lfp/evolution.csv")
    assert np.isnan(table[:, 1]).all()


@pytest.mark.usefixtures("plain_summary")
def test_terminal_without_the_letters(movie_file, here, monkeypatch):
    import io

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert main([movie_file, *G, "--no-progress"]) == 0
    sys.stdout.flush()
    assert b"mean x, whole map: 0.0000 ? " in raw.getvalue()
