"""The package as others meet it: built, installed, registered with HyperSpy, cheap to import."""

import importlib
import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml

import hyperspy_lfp

PACKAGE = Path(hyperspy_lfp.__file__).parent
SIGNALS = yaml.safe_load((PACKAGE / "hyperspy_extension.yaml").read_text())["signals"]
CLASSES = [
    "ConcentrationEvolution",
    "ConcentrationMap",
    "DiffractionSeries",
    "DisplacementField",
    "GeometricPhase",
    "HRTEMMovie",
    "LatticeStrain",
    "SpotProfile",
    "SpotTrack",
]

# Run by the Python of a fresh environment; tells what it found there.
PROBE = """
import importlib.metadata, json, sys
import numpy as np
import hyperspy.api as hs
from hyperspy.extensions import ALL_EXTENSIONS
import hyperspy_lfp

hs.print_known_signal_types()
s = hs.signals.Signal2D(np.zeros((3, 8, 8)))
s.set_signal_type("HRTEMMovie")
lazy = hs.signals.Signal2D(np.zeros((3, 8, 8))).as_lazy()
lazy.set_signal_type("hrtem_movie")
distribution = importlib.metadata.distribution("hyperspy_lfp")
scripts = importlib.metadata.entry_points(group="console_scripts", name="hyperspy-lfp")
found = dict(
    package=hyperspy_lfp.__file__,
    metadata=str(distribution.locate_file("")),
    versions=[hyperspy_lfp.__version__, distribution.version],
    registered=[k for k, v in ALL_EXTENSIONS["signals"].items()
                if v["module"].startswith("hyperspy_lfp")],
    classes=[type(s).__name__, type(lazy).__name__],
    main=[callable(script.load()) for script in scripts],
)
print("FOUND" + json.dumps(found))
"""


def run(*command, cwd):
    """Run a command away from the source tree and return what it printed."""
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST", "COV_"))
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def fresh_environment(folder):
    """Make a virtual environment that sees our dependencies, not our package; return its Python.

    The dependencies are those of the running interpreter: its ``site-packages`` comes last on the
    path, as a plain folder, so that what is installed in the new environment is found first and
    an editable install of ours in the running one, itself a path file there, is not followed.
    """
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(folder)
    windows = os.name == "nt"
    python = folder / ("Scripts/python.exe" if windows else "bin/python")
    lookup = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(run(python, "-I", "-c", lookup, cwd=folder).strip())
    borrowed = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    (own / "zz_borrowed.pth").write_text("\n".join(borrowed) + "\n", encoding="utf-8")
    return python


@pytest.fixture(scope="module")
def artefacts(repository_root, tmp_path_factory):
    """Build the sdist, and the wheel from the sdist; return their paths by kind."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, repository_root,
        cwd=folder)  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def test_top_level_yaml_is_the_packages(repository_root):
    top = (repository_root / "hyperspy_extension.yaml").read_text()
    if top.strip() == "hyperspy_lfp/hyperspy_extension.yaml":
        pytest.skip("symlinks were checked out as text files")
    assert top == (repository_root / "hyperspy_lfp" / "hyperspy_extension.yaml").read_text()


def test_every_class_has_its_lazy_twin():
    assert sorted(SIGNALS) == sorted(CLASSES + [f"Lazy{name}" for name in CLASSES])


@pytest.mark.parametrize("name", SIGNALS)
def test_yaml_agrees_with_the_class(name):
    entry = SIGNALS[name]
    cls = getattr(importlib.import_module(entry["module"]), name)
    assert cls.__name__ == name
    assert cls._signal_type == entry["signal_type"] == name.removeprefix("Lazy")
    assert cls._lazy is entry["lazy"] is name.startswith("Lazy")
    assert cls._signal_dimension == entry["signal_dimension"]
    assert cls._dtype == entry["dtype"]
    assert list(cls._alias_signal_types) == entry["signal_type_aliases"]


def test_public_names():
    modules = {"data", "materials", "plotting", "signals", "simulation"}
    assert set(hyperspy_lfp.__all__) == modules | {"compute", "save"}
    for name in modules:
        assert getattr(hyperspy_lfp, name).__name__ == f"hyperspy_lfp.{name}"
    assert callable(hyperspy_lfp.compute) and callable(hyperspy_lfp.save)
    assert sorted(hyperspy_lfp.signals.__all__) == sorted(SIGNALS)


def test_citation_names_this_version(repository_root):
    citation = yaml.safe_load((repository_root / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == hyperspy_lfp.__version__


def test_import_is_light(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); before = set(sys.modules); "
        "import hyperspy_lfp; print(*set(sys.modules) - before)"
    )
    imported = run(sys.executable, "-I", "-c", code, cwd=tmp_path).split()
    assert "hyperspy_lfp" in imported
    heavy = {"dask", "hyperspy", "matplotlib", "numpy", "pint", "scipy", "skimage"}
    assert not heavy & set(imported)


def test_sdist_holds_the_project(artefacts):
    import tarfile

    with tarfile.open(artefacts["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "hyperspy_extension.yaml",
        "hyperspy_lfp/hyperspy_extension.yaml",
        "LICENSE",
        "README.md",
        "conftest.py",
        "docs/conf.py",
        "tests/test_packaging.py",
    } <= names
    assert any(re.fullmatch(r"notebooks/.*\.ipynb", name) for name in names)


def test_wheel_holds_the_package_only(artefacts):
    import zipfile

    with zipfile.ZipFile(artefacts["wheel"]) as archive:
        names = archive.namelist()
    assert {
        "hyperspy_lfp/hyperspy_extension.yaml",
        "hyperspy_lfp/__init__.pyi",
        "hyperspy_lfp/signals/__init__.pyi",
        "hyperspy_lfp/py.typed",
    } <= set(names)
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"hyperspy_lfp", f"hyperspy_lfp-{hyperspy_lfp.__version__}.dist-info"}


@pytest.mark.parametrize("kind", ["wheel", "sdist", "editable"])
def test_installed_and_registered(kind, request, repository_root, tmp_path):
    environment = (tmp_path / "environment").resolve()
    python = fresh_environment(environment)
    if kind == "editable":
        what, home = ["--editable", repository_root], repository_root
    else:
        what, home = [request.getfixturevalue("artefacts")[kind]], environment
    run(python, "-I", "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation",
        "--ignore-installed", *what, cwd=tmp_path)  # fmt: skip
    found = json.loads(run(python, "-I", "-c", PROBE, cwd=tmp_path).partition("FOUND")[2])

    assert Path(found["package"]).resolve().is_relative_to(home)
    assert Path(found["metadata"]).resolve().is_relative_to(environment)
    assert found["versions"] == [hyperspy_lfp.__version__] * 2
    assert sorted(found["registered"]) == sorted(SIGNALS)
    assert found["classes"] == ["HRTEMMovie", "LazyHRTEMMovie"]
    assert found["main"] == [True]
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    assert list(scripts.glob("hyperspy-lfp*"))
