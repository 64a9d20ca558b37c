"""Results that appear whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from hyperspy_lfp._cli import InputError

#: What a run writes.
NAMES = ("concentration.hspy", "strain.hspy", "evolution.csv", "summary.png")


def check(folder, force, source=None):
    """Whether the results may go to a folder; raises InputError before anything is computed.

    Parameters
    ----------
    folder : Path
    force : bool
        Whether results that exist may be replaced.
    source : Path, optional
        The movie, which is never replaced.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"the output {folder} exists and is no folder; name another --output")
    existing = _existing_folder(folder)
    if not existing.is_dir():
        raise InputError(f"{existing} is no folder, so {folder} cannot be made")
    there = [name for name in NAMES if os.path.lexists(folder / name)]
    if any((folder / name).is_dir() for name in there):
        raise InputError(f"{folder} holds a folder called {there[0]}; name another --output")
    if source is not None and any(os.path.samefile(source, folder / name) for name in there):
        raise InputError(f"the results would replace the movie {source}; name another --output")
    if there and not force:
        raise InputError(
            f"{folder} already holds {', '.join(there)}; give --force to replace them, or "
            "another --output"
        )


@contextlib.contextmanager
def staged(folder, force):
    """Give two temporary folders, one for results and one for scratch, on the output's disk.

    When the block ends without an error the results are moved to `folder`; in any case the
    temporary folders are removed, and what was there before an error is there after it.
    """
    folder = folder.resolve()
    base = _existing_folder(folder)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=".hyperspy-lfp-", dir=base))
    except OSError as error:
        raise InputError(f"cannot write to {base}: {error.strerror or error}") from error
    try:
        complete, scratch = temporary / "complete", temporary / "scratch"
        complete.mkdir()
        scratch.mkdir()
        yield complete, scratch
        _publish(complete, folder, temporary / "replaced", force)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _existing_folder(folder):
    """The folder itself, or the nearest one above it that exists."""
    return next(f for f in (folder, *folder.parents) if f.exists())


def _publish(complete, folder, replaced, force):
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.rename(complete, folder)
        return
    replaced.mkdir()
    try:
        for name in NAMES:
            if os.path.lexists(folder / name):
                if not force:
                    raise InputError(f"{folder / name} has appeared meanwhile; nothing is written")
                os.replace(folder / name, replaced / name)
            os.replace(complete / name, folder / name)
    except BaseException:
        for name in NAMES:
            if os.path.lexists(replaced / name):
                os.replace(replaced / name, folder / name)
            elif not os.path.lexists(complete / name):
                os.replace(folder / name, complete / name)
        raise
