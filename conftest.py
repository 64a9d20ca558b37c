"""Settings for the tests and for the examples in docstrings, made before anything is imported."""

import gc
import os

os.environ["MPLBACKEND"] = "Agg"
# The workers of pytest-xdist fill the cores; threads of BLAS on top of them wait for each other.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import pytest  # noqa: E402
from traits.etsconfig.api import ETSConfig  # noqa: E402

ETSConfig.toolkit = "null"


@pytest.fixture(autouse=True, scope="session")
def _no_progress_bars():
    """Tests of the bars ask for them: each is waited for, 0.1 s a computation."""
    import hyperspy.api as hs

    hs.preferences.General.show_progressbar = False


@pytest.fixture(autouse=True, scope="session")
def _libraries_are_no_garbage():
    """Collections, some hundreds in a run, pass over the objects of what is imported anyway."""
    import dask.array
    import hyperspy.api as hs
    import matplotlib.pyplot  # noqa: F401

    import hyperspy_lfp.signals

    _ = hs.signals, hs.plot, hs.roi, hyperspy_lfp.signals.HRTEMMovie, dask.array.Array
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _doctest_surroundings(request):
    """Run docstring examples in a folder of their own, with the usual names at hand."""
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    import hyperspy.api as hs
    import matplotlib.pyplot as plt
    import numpy as np

    request.getfixturevalue("doctest_namespace").update(hs=hs, np=np)
    request.getfixturevalue("monkeypatch").chdir(request.getfixturevalue("tmp_path"))
    yield
    plt.close("all")
