"""Fixtures shared by the tests."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository_root():
    """The root of the source tree."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data():
    """The folder of larger test data, beside the repository; without it the test is skipped.

    The environment variable ``HYPERSPY_LFP_SHARED`` names another folder.
    """
    folder = Path(os.environ.get("HYPERSPY_LFP_SHARED") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set HYPERSPY_LFP_SHARED to their folder")
    return folder


@pytest.fixture(autouse=True)
def _close_figures():
    """Leave no figure open for the next test."""
    yield
    import matplotlib.pyplot as plt

    plt.close("all")
