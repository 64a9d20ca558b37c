"""Figures of composition maps, made to be printed.

Every function returns a `matplotlib.figure.Figure` of its own, which pyplot knows nothing of:
show it at the end of a Jupyter cell, or write it with ``figure.savefig("name.png", dpi=300)``.
"""

import numpy as np
from matplotlib import patheffects, rcParams
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Polygon, Rectangle
from matplotlib.transforms import ScaledTranslation

from hyperspy_lfp.signals._base import VARIANCE, noise_of
from hyperspy_lfp.signals._regions import region_mask
from hyperspy_lfp.signals._units import in_nanometre

#: Okabe and Ito's colours without the yellow, which fades on white paper.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_EDGE = "#F0C000"  # edge of the lattice, on grey frames
_MOST = 6  # maps that are shown when no times are named
_SMALL, _NORMAL = 7, 8  # points
# Lengths on paper are in inches. Everything is placed by them, since only so do the colour bars
# end where the maps do.
_WIDTH = 7.2  # the text width of an A4 or letter page
_DPI = 200
_TITLE = 0.22  # above an image
_FOOT = 0.24  # below it, for the scale bar
_BAR = 0.68  # right of it, for the colour bar with its label
_GAP = 0.08
_TALLEST = 2.6  # images
_LETTER = 0.06  # of a label: a colour bar is not shorter than its label
_ERROR = "standard error of x"


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
        ``cmap="viridis"``; a limit of None is that of the maps.

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
    panel = _panel_width(_WIDTH - _GAP - _BAR, max(columns, 3), _aspect(x))
    rows = -(-len(chosen) // columns)
    width = _GAP + columns * panel + (columns - 1) * _GAP + _BAR
    height = rows * (_TITLE + panel * _aspect(x)) + _FOOT
    figure = _figure(width, max(height, _row_height(0, _content(x))))
    _draw_montage(figure, x, chosen, columns, (_GAP, 0.0, panel), kwargs)
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
    >>> ev = data.lithiation_truth().evolution(show_progressbar=False)
    >>> figure = plotting.evolution(ev)
    >>> figure.savefig("evolution.pdf")
    """
    figure = _figure(4.6, 3.0)
    _draw_evolution(_axes_at(figure, 0.6, 0.1, 3.9, 2.45), ev)
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
        Region of the reference lattice, which is marked in the first frame.

    Returns
    -------
    matplotlib.figure.Figure
        First and last frame, standard error of the last map, montage and curves; of a single
        frame the map and a histogram instead.

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
    one = len(chosen) == 1
    left = 0.25  # for the letters of the panels
    large = _panel_width(_WIDTH - left - (1 + one) * _BAR, 3, _aspect(movie), gap=left)
    small = _panel_width(_WIDTH - left - _BAR, max(len(chosen), 3), _aspect(x))
    tops = [0.02, 0.02 + _row_height(large * _aspect(movie), _ERROR)]
    tops.append(tops[1] + (0 if one else _row_height(small * _aspect(x), _content(x))) + 0.2)
    figure = _figure(_WIDTH, tops[-1] + 2.25, dpi=_DPI)
    panels = _draw_frames(figure, movie, x, (left, tops[0], large), (regions, reference))
    if not one:
        maps = _draw_montage(figure, x, chosen, len(chosen), (left, tops[1], small), {})
        for ax in maps:
            _mark_regions(ax, regions)
        panels.append(maps[0])
    last = _axes_at(figure, left + 0.4, tops[2], _WIDTH - left - 0.5, 1.8)
    if one:
        _draw_histogram(last, x, regions)
    else:
        _draw_evolution(last, ev)
    for ax, letter in zip([*panels, last], "abcde", strict=False):
        _letter(ax, letter, dx=-33 if ax is last else -2)
    return figure


def _draw_montage(figure, x, chosen, columns, place, kwargs, scale_bar=True):
    """Draw maps with one colour bar; `place` is left, top and the width of a map, in inches."""
    left, top, width = place
    height = width * _aspect(x)
    maps = _images(x, chosen)
    options = {"interpolation": "nearest", "cmap": "viridis", **kwargs}
    low, high = options.pop("vmin", 0.0), options.pop("vmax", 1.0)
    options.setdefault("norm", Normalize(low, high))
    options["norm"].autoscale_None(np.ma.masked_invalid(maps))
    axes = []
    for number, (values, i) in enumerate(zip(maps, chosen, strict=True)):
        row, column = divmod(number, columns)
        at = left + column * (width + _GAP), top + _TITLE + row * (_TITLE + height)
        ax = _axes_at(figure, *at, width, height)
        image = _show(ax, x, values, **options)
        ax.set_title(_time_label(x, i), fontsize=_NORMAL, pad=3)
        axes.append(ax)
    if scale_bar:
        _scale_bar(axes[(len(chosen) - 1) // columns * columns], x)
    bottom = top + -(-len(chosen) // columns) * (_TITLE + height)
    right = left + columns * (width + _GAP)
    _colour_bar(figure, image, maps, (right, top + _TITLE, bottom), _content(x))
    return axes


def _draw_evolution(ax, ev):
    mean, error = _regions_and_times(ev)
    names = _names(ev, len(mean))
    # HyperSpy does not count a time axis of one point among the signal axes
    time = next(axis for axis in ev.axes_manager._axes if not axis.navigate)
    for i, (name, values, band) in enumerate(zip(names, mean, error, strict=True)):
        colour = _COLOURS[i % len(_COLOURS)]
        if len(values) == 1:
            ax.errorbar([name], values, yerr=band, fmt="o", color=colour, capsize=3)
            continue
        marker = {"marker": "o", "markersize": 2.5} if len(values) <= 40 else {}
        ax.plot(time.axis, values, color=colour, lw=1.2, label=name, **marker)
        ax.fill_between(time.axis, values - band, values + band, color=colour, alpha=0.3, lw=0)
    if mean.shape[1] == 1:
        ax.margins(x=0.3)
    else:
        units = _units(time)
        ax.set_xlabel(f"time ({units})" if units else "frame", fontsize=_NORMAL)
        ax.margins(x=0.01)
        title = "mean ± standard error"
        legend = ax.legend(frameon=False, fontsize=_SMALL, title=title, alignment="left")
        legend.get_title().set_fontsize(_SMALL)
    ax.set_ylabel(_content(ev), fontsize=_NORMAL)
    _style(ax)


def _draw_histogram(ax, x, regions):
    """How often each composition occurs, in each region or the whole map."""
    values = _images(x, [0])[0]
    axes = x.axes_manager.signal_axes
    masks = {name: region_mask(roi, axes) for name, roi in regions.items()}
    chosen = {name: values[mask & np.isfinite(values)] for name, mask in masks.items()}
    chosen = chosen or {"whole map": values[np.isfinite(values)]}
    every = np.concatenate(list(chosen.values()))
    bins = np.linspace(*(np.percentile(every, (0.5, 99.5)) if every.size else (0, 1)), 41)
    for i, (name, part) in enumerate(chosen.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        ax.hist(part, bins, histtype="stepfilled", color=colour, alpha=0.3)
        ax.hist(part, bins, histtype="step", color=colour, lw=1.2, label=name)
    ax.set_xlabel(_content(x), fontsize=_NORMAL)
    ax.set_ylabel("pixels of the map", fontsize=_NORMAL)
    ax.legend(frameon=False, fontsize=_SMALL)
    _style(ax)


def _draw_frames(figure, movie, x, place, marks):
    """First and last frame (or the frame and its map), and the standard error of the last map."""
    left, top, width = place
    regions, reference = marks
    height = width * _aspect(movie)
    number = _number_of_frames(x)
    shown = [0, number - 1] if number > 1 else [0]
    axes = []
    for i, values, mask in zip(shown, _images(movie, shown), _images(x, shown), strict=True):
        ax = _axes_at(figure, left, top + _TITLE, width, height)
        low, high = np.nanpercentile(values, (0.5, 99.5))
        _show(ax, movie, values, cmap="gray", vmin=low, vmax=high, interpolation="antialiased")
        ax.set_title(_frame_label(movie, i), fontsize=_NORMAL, pad=3)
        _edge(ax, x, mask)
        _mark_regions(ax, regions)
        left += width + place[0]
        axes.append(ax)
    _scale_bar(axes[0], movie)
    if number == 1:
        axes += _draw_montage(figure, x, [0], 1, (left, top, width), {}, scale_bar=False)
        _mark_regions(axes[-1], regions)
        left += width + _BAR + place[0]
    _legend(axes[-1], reference is not None)
    if reference is not None:
        _mark(axes[0], reference, "white", linestyle=(0, (2, 1.5)))
    return axes + _draw_error(figure, x, shown[-1], (left, top + _TITLE, width))


def _draw_error(figure, x, i, place):
    """Map of the standard error of one frame, with its own scale."""
    noise = noise_of(x, VARIANCE)
    if not hasattr(noise, "data"):
        return []
    left, top, width = place
    height = width * _aspect(x)
    error = np.sqrt(_images(noise, [i])[0])
    error[np.isnan(_images(x, [i])[0])] = np.nan
    finite = error[np.isfinite(error)]
    high = np.percentile(finite, 90) * 1.5 if finite.size else 1.0
    ax = _axes_at(figure, left, top, width, height)
    image = _show(ax, x, error, cmap="magma", vmin=0, vmax=high, interpolation="nearest")
    ax.set_title(_frame_label(x, i), fontsize=_NORMAL, pad=3)
    place = left + width + _GAP, top, top + height
    _colour_bar(figure, image, error, place, _ERROR)
    return [ax]


def _figure(width, height, **kwargs):
    return Figure(figsize=(width, height), **kwargs)


def _axes_at(figure, left, top, width, height):
    """Axes whose frame is at a place in inches from the upper left corner."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))


def _style(ax):
    ax.tick_params(labelsize=_SMALL)
    ax.grid(alpha=0.25, lw=0.5)
    ax.spines[["top", "right"]].set_visible(False)


def _row_height(image, label):
    """Height of a row of images with a colour bar, and what is above and below them."""
    return _TITLE + max(image, _LETTER * len(label)) + _FOOT


def _panel_width(room, number, aspect, gap=_GAP):
    """Width of images side by side that are as wide as there is room, but not too tall."""
    return min((room - gap * (number - 1)) / number, _TALLEST / aspect)


def _colour_bar(figure, image, values, place, label):
    """A colour bar at left, top, bottom; not too short for its label."""
    left, top, bottom = place
    ax = _axes_at(figure, left, top, 0.08, max(bottom - top, _LETTER * len(label)))
    extend = _extend(values, image.norm)
    bar = figure.colorbar(ScalarMappable(image.norm, image.cmap), cax=ax, extend=extend)
    bar.set_label(label, fontsize=_NORMAL, labelpad=2)
    bar.ax.tick_params(labelsize=_SMALL, width=0.6, length=2.5)
    bar.outline.set_linewidth(0.6)


def _show(ax, signal, values, **options):
    """One image in units of length, y down, without ticks."""
    x, y = signal.axes_manager.signal_axes
    left, right = x.axis[0] - x.scale / 2, x.axis[-1] + x.scale / 2
    top, bottom = y.axis[0] - y.scale / 2, y.axis[-1] + y.scale / 2
    image = ax.imshow(values, extent=(left, right, bottom, top), aspect="equal", **options)
    ax.set(xticks=[], yticks=[], facecolor="white")
    for spine in ax.spines.values():
        spine.set(linewidth=0.5, color="0.6")
    return image


def _scale_bar(ax, signal):
    """A scale bar under an image, where it hides nothing."""
    axis = signal.axes_manager.signal_axes[0]
    width = axis.scale * axis.size
    length = _round_length(width / 3)
    style = {"color": rcParams["text.color"], "lw": 2, "solid_capstyle": "butt"}
    line = Line2D((0, length / width), (0, 0), **style)
    below = ax.transAxes + ScaledTranslation(0, -0.5 * _FOOT, ax.figure.dpi_scale_trans)
    line.set(transform=below, clip_on=False)
    ax.add_line(line)
    ax.annotate(
        _length_label(length, _units(axis)),
        (length / width, 0),
        xycoords=below,
        xytext=(4, 0),
        textcoords="offset points",
        va="center_baseline",
        fontsize=_SMALL,
        annotation_clip=False,
    )


def _legend(ax, with_reference):
    """What the lines in the frames are, right below the last of them."""
    handles = [Line2D([], [], color=_EDGE, lw=1, label="edge of lattice")]
    if with_reference:
        style = {"color": rcParams["text.color"], "lw": 1, "linestyle": (0, (2, 1.5))}
        handles.append(Line2D([], [], label="reference", **style))
    ax.legend(
        handles=handles,
        loc="upper right",
        bbox_to_anchor=(1, 0),
        ncols=2,
        frameon=False,
        fontsize=_SMALL,
        handlelength=1.6,
        columnspacing=1,
        borderpad=0.2,
        borderaxespad=0.1,
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


def _edge(ax, x, values):
    """A thin line around the pixels that have lattice."""
    valid = np.isfinite(values)
    if valid.all() or not valid.any():
        return
    across, down = (axis.axis for axis in x.axes_manager.signal_axes)
    limits = ax.get_xlim(), ax.get_ylim()
    ax.contour(across, down, valid.astype(float), levels=[0.5], colors=_EDGE, linewidths=0.8)
    ax.set(xlim=limits[0], ylim=limits[1])


def _letter(ax, letter, dx):
    """The letter of a panel, left of its title; `dx` in points."""
    ax.annotate(
        letter,
        (0, 1),
        xytext=(dx, 3),
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


def _images(signal, chosen):
    """Images of some frames as a NumPy array, computed in one pass if lazy."""
    data = signal.data[None] if signal.data.ndim == 2 else signal.data[list(chosen)]
    data = data.compute() if hasattr(data, "compute") else data
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


def _time_label(signal, i):
    """Time of a frame, with as many digits as tell it from its neighbours."""
    axes = signal.axes_manager.navigation_axes
    if not axes or not _units(axes[0]):
        return f"frame {i}" if axes else ""
    at = axes[0].axis
    step = np.abs(np.diff(at)).min() if len(at) > 1 else 1.0
    digits = next((d for d in range(9) if abs(round(step, d) - step) <= 0.02 * step), 9)
    return f"{at[i]:.{digits}f} {_units(axes[0])}"


def _frame_label(signal, i):
    time = _time_label(signal, i)
    return f"frame {i}, {time}" if time and _units(signal.axes_manager[0]) else f"frame {i}"


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
    variance = noise_of(ev, VARIANCE)
    if variance is None:
        return mean, np.zeros_like(mean)
    noise = np.array(getattr(variance, "data", variance), dtype=float)
    return mean, np.sqrt(np.broadcast_to(np.nan_to_num(noise), mean.shape))


def _names(ev, number):
    """Names of the regions; numbers after slicing along them."""
    names = ev.regions
    return names if len(names) == number else [f"region {i + 1}" for i in range(number)]
