"""Maps as a film."""

import os
import tempfile
from pathlib import Path

from matplotlib import animation

from hyperspy_lfp.plotting import _parts as parts
from hyperspy_lfp.plotting._figures import draw_montage

_WRITERS = {".gif": "pillow", ".mp4": "ffmpeg"}
_WIDTH = 3.6  # inches


def movie(x, filename, frames_per_second=5.0, overwrite=False, **kwargs):
    """Write the maps of a movie as a film, on one colour scale.

    Parameters
    ----------
    x : ConcentrationMap
        ``(time | x, y)``; of a lazy one, a map at a time is computed.
    filename : str or Path
        ``.gif``, or ``.mp4``, which needs ffmpeg.
    frames_per_second : float
    overwrite : bool
        Whether an existing file may be replaced.
    **kwargs
        As for `montage`.

    Raises
    ------
    ValueError
        If the file name ends otherwise, or there is more than one navigation axis.
    FileExistsError
        If the file exists and is not to be replaced.
    RuntimeError
        If ffmpeg is needed and not installed.

    Examples
    --------
    >>> from hyperspy_lfp import data, plotting
    >>> plotting.movie(data.lithiation_truth().inav[:3], "lithiation.gif")
    """
    target = Path(filename)
    name = _WRITERS.get(target.suffix.lower())
    if name is None:
        raise ValueError(f"filename={str(filename)!r} must end in one of {sorted(_WRITERS)}.")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; give overwrite=True to replace it.")
    if not animation.writers.is_available(name):
        raise RuntimeError(f"writing {target.suffix} needs {name}; install it, or write a .gif.")
    number = parts.number_of_frames(x)
    panel = _WIDTH - 2 * parts.GAP - parts.BAR
    figure = parts.figure(_WIDTH, parts.TITLE + panel * parts.aspect(x) + parts.FOOT + 0.02)
    (ax,) = draw_montage(figure, x, [0], 1, (parts.GAP, 0.0, panel), kwargs)
    writer = animation.writers[name](fps=frames_per_second)
    # beside the target, so that it appears whole or not at all
    handle, unfinished = tempfile.mkstemp(suffix=target.suffix.lower(), dir=target.parent)
    os.close(handle)
    try:
        with writer.saving(figure, unfinished, dpi=parts.DPI):
            for i in range(number):
                ax.images[0].set_data(parts.images(x, [i])[0])
                ax.set_title(parts.time_label(x, i), fontsize=parts.NORMAL, pad=3)
                writer.grab_frame()
        os.replace(unfinished, target)
    finally:
        Path(unfinished).unlink(missing_ok=True)
