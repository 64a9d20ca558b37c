"""Figures of composition maps, made to be printed.

Every function returns a `matplotlib.figure.Figure` of its own, which pyplot knows nothing of:
show it at the end of a Jupyter cell, or write it with ``figure.savefig("name.png", dpi=300)``.
"""

import numpy as np
from matplotlib import patheffects
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon, Rectangle

from hyperspy_lfp.signals._base import VARIANCE
from hyperspy_lfp.signals._units import in_nanometre

#: Okabe and Ito's colours without the yellow, which fades on white paper.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_WIDTH = 7.2  # inch, the text width of an A4 or letter page
_DPI = 200
_MOST = 6  # maps that are shown when no times are named
_STYLE = {"interpolation": "nearest", "cmap": "viridis"}
_FONT = {"small": 7, "normal": 8}


def montage(x, times=None, columns=None, **kwargs):
    """Draw the maps of several times on one colour scale.

    Parameters
    ----------
    x : ConcentrationMap
        ``(time | x, y)`` or one map; lazy ones are computed for the times that are drawn.
    times : sequence of float, optional
        In the units of the time axis; the nearest frames are drawn. Default: up to six, evenly
        spread from the first to the last.
    columns : int, optional
        Maps in a row. Default: all of them, up to six.
    **kwargs
        Passed to :meth:`matplotlib.axes.Axes.imshow`. Default: ``vmin=0, vmax=1`` and
        ``cmap="viridis"``.

    Returns
    -------
    matplotlib.figure.Figure
        Pixels without lattice are white. Arrows at the ends of the colour bar tell of values
        beyond it.

    Raises
    ------
    ValueError
        If there is more than one navigation axis, or a time is outside the movie.

    Examples
    --------
    >>> from hyperspy_lfp import data, plotting
    >>> figure = plotting.montage(data.lithiation_truth(), times=[0, 60, 100, 200])
    >>> figure.savefig("montage.png", dpi=300)
    """
    chosen = _chosen_frames(x, times)
    columns = _check_columns(columns, len(chosen))
    rows = -(-len(chosen) // columns)
    width = (_WIDTH - 0.8) / max(columns, 3)
    height = width * _aspect(x) + 0.28
    figure = Figure(figsize=(width * columns + 0.8, height * rows + 0.3), layout="constrained")
    _fill_montage(figure, x, chosen, columns, kwargs)
    return figure


def evolution(ev):
    """Draw mean compositions against time, with bands of one standard error.

    Parameters
    ----------
    ev : ConcentrationEvolution
        ``(region | time)``; a single time is drawn as points with error bars.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there are navigation axes besides the regions.

    Examples
    --------
    >>> from hyperspy_lfp import data, plotting
    >>> figure = plotting.evolution(data.lithiation_truth().evolution())
    >>> figure.savefig("evolution.pdf")
    """
    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    _fill_evolution(figure.subplots(), ev)
    return figure


def summary(movie, x, ev, regions=None, reference=None):
    """Draw what was measured and what came out, on one page.

    Parameters
    ----------
    movie : HRTEMMovie
        The frames the maps were made of; only the first and last are read.
    x : ConcentrationMap
        Its maps.
    ev : ConcentrationEvolution
        Mean compositions of `regions`.
    regions : dict of name to ROI, optional
        Regions that are marked, in the order of `ev`.
    reference : ROI, optional
        Region of the reference lattice.

    Returns
    -------
    matplotlib.figure.Figure
        First and last frame, standard error of the last map, montage and curves.

    Raises
    ------
    ValueError
        If there is more than one navigation axis.

    Examples
    --------
    >>> from hyperspy_lfp import data, plotting
    >>> s = data.lithiation_movie()
    >>> x = s.to_concentration(*s.find_g_vectors(n=2), reference_frame=0, show_progressbar=False)
    >>> figure = plotting.summary(s, x, x.evolution(show_progressbar=False))
    >>> figure.savefig("summary.png")
    """
    regions = regions or {}
    chosen = _chosen_frames(x, None)
    aspect = _aspect(movie)
    columns = len(chosen) if len(chosen) > 2 else 3
    heights = [
        (_WIDTH - 1.0) / 3 * aspect + 0.35,
        (_WIDTH - 0.8) / columns * _aspect(x) + 0.55,
        2.4,
    ]
    figure = Figure(figsize=(_WIDTH, sum(heights)), dpi=_DPI, layout="constrained")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=heights)
    _fill_frames(top, movie, x, regions, reference)
    axes = _fill_montage(middle, x, chosen, columns, {})
    for ax in axes[: len(chosen)]:
        _mark_regions(ax, regions)
    _fill_evolution(bottom.subplots(), ev)
    _letter(axes[0], "d" if len(chosen) > 1 else "c")
    _letter(bottom.axes[0], "e" if len(chosen) > 1 else "d")
    return figure


def _fill_montage(figure, x, chosen, columns, kwargs):
    """Draw maps with one colour bar; returns the axes of all places, used or not."""
    rows = -(-len(chosen) // columns)
    options = {**_STYLE, **kwargs}
    if "norm" not in options:
        options = {"vmin": 0.0, "vmax": 1.0, **options}
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    maps = [_frame(x, i) for i in chosen]
    for ax, values, i in zip(axes, maps, chosen, strict=False):
        image = _show(ax, x, values, **options)
        label = _time_label(x, i)
        if label:
            ax.set_title(label, fontsize=_FONT["normal"], pad=3)
    for ax in axes[len(chosen) :]:
        ax.set_axis_off()
    _scale_bar_below(axes[0], x)
    extend = _extend(np.array(maps), image.norm)
    bar = figure.colorbar(
        ScalarMappable(image.norm, image.cmap),
        ax=list(axes),
        extend=extend,
        shrink=0.85 if rows == 1 else 0.6,
        aspect=14 * rows,
        pad=0.015,
    )
    bar.set_label(_content(x), fontsize=_FONT["normal"])
    bar.ax.tick_params(labelsize=_FONT["small"])
    return axes


def _fill_evolution(ax, ev):
    mean, error = _regions_and_times(ev)
    names = _names(ev, len(mean))
    time = ev.axes_manager.signal_axes[0]
    for i, (name, values, band) in enumerate(zip(names, mean, error, strict=True)):
        colour = _COLOURS[i % len(_COLOURS)]
        if len(values) == 1:
            ax.errorbar([name], values, yerr=np.nan_to_num(band), fmt="o", color=colour, capsize=3)
            continue
        marker = {"marker": "o", "markersize": 2.5} if len(values) <= 40 else {}
        ax.plot(time.axis, values, color=colour, lw=1.2, label=name, **marker)
        ax.fill_between(time.axis, values - band, values + band, color=colour, alpha=0.25, lw=0)
    if mean.shape[1] == 1:
        ax.margins(x=0.3)
    else:
        ax.set_xlabel(_axis_label(time, "time"), fontsize=_FONT["normal"])
        ax.margins(x=0.01)
        ax.legend(frameon=False, fontsize=_FONT["small"], title="mean ± standard error of")
        ax.get_legend().get_title().set_fontsize(_FONT["small"])
    ax.set_ylabel(_content(ev), fontsize=_FONT["normal"])
    ax.tick_params(labelsize=_FONT["small"])
    ax.grid(alpha=0.25, lw=0.5)
    ax.spines[["top", "right"]].set_visible(False)


def _fill_frames(figure, movie, x, regions, reference):
    """First and last frame, and the standard error of the last map."""
    number = _number_of_frames(x)
    shown = [0, number - 1] if number > 1 else [0]
    axes = figure.subplots(1, 3)
    for ax, i in zip(axes, shown, strict=False):
        values = _frame(movie, i)
        low, high = np.nanpercentile(values, (0.5, 99.5))
        _show(ax, movie, values, cmap="gray", vmin=low, vmax=high, interpolation="antialiased")
        label = _time_label(movie, i)
        ax.set_title(f"frame {i}{', ' + label if label else ''}", fontsize=_FONT["normal"], pad=3)
        _outline(ax, x, _frame(x, i))
        _mark_regions(ax, regions)
    if reference is not None:
        _mark(axes[0], reference, "white", linestyle=(0, (2, 1.5)))
    _scale_bar_below(axes[0], movie)
    _fill_error(figure, axes[len(shown)], x, shown[-1])
    for ax in axes[len(shown) + 1 :]:
        ax.set_axis_off()
    for ax, letter in zip(axes[: len(shown) + 1], "abc", strict=False):
        _letter(ax, letter)


def _fill_error(figure, ax, x, i):
    """Map of the standard error of one frame."""
    variance = x.metadata.get_item(VARIANCE, default=None)
    if not hasattr(variance, "data"):
        ax.set_axis_off()
        return
    error = np.sqrt(_frame(variance, i))
    error[~np.isfinite(_frame(x, i))] = np.nan
    finite = error[np.isfinite(error)]
    high = np.percentile(finite, 98) if finite.size else 1.0
    image = _show(ax, x, error, cmap="magma", vmin=0, vmax=high, interpolation="nearest")
    ax.set_title(f"standard error, frame {i}", fontsize=_FONT["normal"], pad=3)
    extend = _extend(error, image.norm)
    bar = figure.colorbar(image, ax=ax, extend=extend, shrink=0.85, aspect=14, pad=0.03)
    bar.set_label("standard error of x", fontsize=_FONT["normal"])
    bar.ax.tick_params(labelsize=_FONT["small"])


def _show(ax, signal, values, **options):
    """One image with its axes in length, y down, square pixels of length, and no ticks."""
    x, y = signal.axes_manager.signal_axes
    left, right = x.axis[0] - x.scale / 2, x.axis[-1] + x.scale / 2
    top, bottom = y.axis[0] - y.scale / 2, y.axis[-1] + y.scale / 2
    image = ax.imshow(values, extent=(left, right, bottom, top), aspect="equal", **options)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(linewidth=0.5, color="0.6")
    return image


def _scale_bar_below(ax, signal):
    """A scale bar under an image, where it hides nothing; a note where there are no units."""
    axis = signal.axes_manager.signal_axes[0]
    width = abs(axis.scale) * axis.size
    units = axis.units if isinstance(axis.units, str) and axis.units else ""
    length = _round_length(width / 3)
    ends = (0.0, length / width)
    ax.plot(ends, (-0.05, -0.05), transform=ax.transAxes, color="black", lw=2, clip_on=False,
            solid_capstyle="butt")  # fmt: skip
    label = _length_label(length, units)
    ax.text(
        ends[1] + 0.04, -0.05, label, transform=ax.transAxes, va="center", fontsize=_FONT["small"]
    )


def _round_length(length):
    """The largest 1, 2 or 5 times a power of ten that is not longer."""
    power = 10.0 ** np.floor(np.log10(length))
    return max(m * power for m in (1, 2, 5) if m * power <= length * (1 + 1e-9))


def _length_label(length, units):
    try:
        nanometres = length * in_nanometre(units)
    except Exception:  # no length: pixels, or nothing at all
        return f"{length:g} {units or 'pixels'}"
    return f"{nanometres:g} nm" if nanometres < 1000 else f"{nanometres / 1000:g} µm"


def _mark_regions(ax, regions):
    for i, roi in enumerate(regions.values()):
        _mark(ax, roi, _COLOURS[i % len(_COLOURS)])


def _mark(ax, roi, colour, **style):
    """The outline of a ROI, with a thin white rim so that it stands out of any image."""
    rim = "black" if colour == "white" else "white"
    effects = [patheffects.withStroke(linewidth=2.2, foreground=rim)]
    kind = type(roi).__name__
    if kind == "RectangularROI":
        shape = Rectangle((roi.left, roi.top), roi.right - roi.left, roi.bottom - roi.top)
    elif kind == "CircleROI":
        shape = Circle((roi.cx, roi.cy), roi.r)
    else:
        shape = Polygon(np.asarray(roi.vertices, dtype=float))
    shape.set(fill=False, edgecolor=colour, linewidth=1.1, path_effects=effects, **style)
    limits = ax.get_xlim(), ax.get_ylim()
    ax.add_patch(shape)
    ax.set(xlim=limits[0], ylim=limits[1])


def _outline(ax, x, values):
    """A thin line around the pixels that have lattice."""
    valid = np.isfinite(values)
    if valid.all() or not valid.any():
        return
    across, down = (axis.axis for axis in x.axes_manager.signal_axes)
    limits = ax.get_xlim(), ax.get_ylim()
    ax.contour(across, down, valid.astype(float), levels=[0.5], colors="#FFD54A", linewidths=0.7)
    ax.set(xlim=limits[0], ylim=limits[1])


def _letter(ax, letter):
    """The panel's letter, left of its title."""
    ax.annotate(
        letter,
        (0, 1),
        xytext=(-2, 4),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=10,
        fontweight="bold",
    )


def _number_of_frames(signal):
    axes = signal.axes_manager.navigation_axes
    if len(axes) > 1:
        names = [axis.name for axis in axes]
        raise ValueError(
            f"this {type(signal).__name__} has the navigation axes {names}, but only one can be "
            "drawn: choose from the others with `inav` first."
        )
    return axes[0].size if axes else 1


def _chosen_frames(x, times):
    """Numbers of the frames to draw."""
    number = _number_of_frames(x)
    if times is None:
        return np.unique(np.linspace(0, number - 1, min(number, _MOST)).round().astype(int))
    times = np.atleast_1d(np.asarray(times, dtype=float))
    if not times.size:
        raise ValueError("times is empty: give one time or more, or None for a choice of them.")
    axes = x.axes_manager.navigation_axes
    if not axes:
        raise ValueError("times cannot be chosen of a single map, which has no time axis.")
    at = axes[0].axis
    step = abs(at[-1] - at[0]) / max(number - 1, 1)
    outside = (times < at.min() - step / 2) | (times > at.max() + step / 2) | np.isnan(times)
    if outside.any():
        raise ValueError(
            f"times={times[outside].tolist()} are outside the movie, which runs from "
            f"{at.min():.6g} to {at.max():.6g} {_units(axes[0])}."
        )
    return np.array([int(np.abs(at - t).argmin()) for t in times])


def _check_columns(columns, number):
    if columns is None:
        return min(number, _MOST)
    if not isinstance(columns, int | np.integer) or isinstance(columns, bool) or columns < 1:
        raise ValueError(f"columns={columns!r} must be a positive number of maps in a row.")
    return min(int(columns), number)


def _frame(signal, i):
    """One image as a NumPy array, computed if lazy."""
    data = signal.data[i] if signal.data.ndim > 2 else signal.data
    data = data.get() if hasattr(data, "get") else data  # from a GPU
    return np.array(data, dtype=float)


def _aspect(signal):
    x, y = signal.axes_manager.signal_axes
    return abs(y.scale * y.size / (x.scale * x.size))


def _extend(values, norm):
    """Ends of the colour bar beyond which there are values."""
    with np.errstate(invalid="ignore"):
        below, above = np.any(values < norm.vmin), np.any(values > norm.vmax)
    return {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[int(below), int(above)]


def _units(axis):
    return axis.units if isinstance(axis.units, str) else ""


def _axis_label(axis, default):
    """Name and units; a movie without time calibration counts frames."""
    units = _units(axis)
    return f"{default} ({units})" if units else "frame"


def _time_label(signal, i):
    axes = signal.axes_manager.navigation_axes
    if not axes:
        return ""
    units = _units(axes[0])
    return f"{axes[0].axis[i]:.4g} {units}" if units else f"frame {i}"


def _content(signal):
    item = "HyperspyLFP.ConcentrationMap.material.species"
    return f"{signal.metadata.get_item(item, default='Li')} content x"


def _regions_and_times(ev):
    """Means and standard errors, (region, time); errors that are not known are zero."""
    if len(ev.axes_manager.navigation_axes) > 1:
        names = [axis.name for axis in ev.axes_manager.navigation_axes]
        raise ValueError(
            f"this {type(ev).__name__} has the navigation axes {names}, but only the regions can "
            "be drawn: choose from the others with `inav` first."
        )
    mean = np.atleast_2d(np.array(ev.data, dtype=float))
    variance = ev.metadata.get_item(VARIANCE, default=None)
    if variance is None:
        return mean, np.zeros_like(mean)
    noise = np.array(getattr(variance, "data", variance), dtype=float)
    return mean, np.sqrt(np.broadcast_to(np.nan_to_num(noise), mean.shape))


def _names(ev, number):
    """Names of the regions; numbers after slicing along them."""
    names = ev.regions
    return names if len(names) == number else [f"region {i + 1}" for i in range(number)]
