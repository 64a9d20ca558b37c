"""Still figures."""

import numpy as np
from matplotlib.colors import Normalize

from hyperspy_lfp.plotting import _parts as parts
from hyperspy_lfp.signals._base import VARIANCE, layer_of
from hyperspy_lfp.signals._regions import region_mask


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
    chosen = parts.chosen_frames(x, times)
    columns = parts.check_columns(columns, len(chosen))
    panel = parts.panel_width(parts.WIDTH - parts.GAP - parts.BAR, max(columns, 3), parts.aspect(x))
    rows = -(-len(chosen) // columns)
    width = parts.GAP + columns * panel + (columns - 1) * parts.GAP + parts.BAR
    height = rows * (parts.TITLE + panel * parts.aspect(x)) + parts.FOOT
    figure = parts.figure(width, max(height, parts.row_height(0, parts.content(x))))
    draw_montage(figure, x, chosen, columns, (parts.GAP, 0.0, panel), kwargs)
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
    figure = parts.figure(4.6, 3.0)
    _draw_evolution(parts.axes_at(figure, 0.6, 0.1, 3.9, 2.45), ev)
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
    chosen = parts.chosen_frames(x, None)
    one = len(chosen) == 1
    left = 0.25  # for the letters of the panels
    room = parts.WIDTH - left - parts.BAR
    large = parts.panel_width(room - one * parts.BAR, 3, parts.aspect(movie), gap=left)
    small = parts.panel_width(room, max(len(chosen), 3), parts.aspect(x))
    tops = [0.02, 0.02 + parts.row_height(large * parts.aspect(movie), parts.ERROR)]
    maps = 0 if one else parts.row_height(small * parts.aspect(x), parts.content(x))
    tops.append(tops[1] + maps + 0.2)
    figure = parts.figure(parts.WIDTH, tops[-1] + 2.25, dpi=parts.DPI)
    panels = _draw_frames(figure, movie, x, (left, tops[0], large), (regions, reference))
    if not one:
        maps = draw_montage(figure, x, chosen, len(chosen), (left, tops[1], small), {})
        for ax in maps:
            parts.mark_regions(ax, regions)
        panels.append(maps[0])
    last = parts.axes_at(figure, left + 0.4, tops[2], parts.WIDTH - left - 0.5, 1.8)
    if one:
        _draw_histogram(last, x, regions)
    else:
        _draw_evolution(last, ev)
    for ax, letter in zip([*panels, last], "abcde", strict=False):
        parts.letter(ax, letter, dx=-33 if ax is last else -2)
    return figure


def draw_montage(figure, x, chosen, columns, place, kwargs, scale_bar=True):
    """Draw maps with one colour bar; `place` is left, top and the width of a map, in inches."""
    left, top, width = place
    height = width * parts.aspect(x)
    maps = parts.images(x, chosen)
    options = {"interpolation": "nearest", "cmap": "viridis", **kwargs}
    low, high = options.pop("vmin", 0.0), options.pop("vmax", 1.0)
    options.setdefault("norm", Normalize(low, high))
    options["norm"].autoscale_None(np.ma.masked_invalid(maps))
    axes = []
    for number, (values, i) in enumerate(zip(maps, chosen, strict=True)):
        row, column = divmod(number, columns)
        at = left + column * (width + parts.GAP), top + parts.TITLE + row * (parts.TITLE + height)
        ax = parts.axes_at(figure, *at, width, height)
        image = parts.show(ax, x, values, **options)
        ax.set_title(parts.time_label(x, i), fontsize=parts.NORMAL, pad=3)
        axes.append(ax)
    if scale_bar:
        parts.scale_bar(axes[(len(chosen) - 1) // columns * columns], x)
    bottom = top + -(-len(chosen) // columns) * (parts.TITLE + height)
    right = left + columns * (width + parts.GAP)
    parts.colour_bar(figure, image, maps, (right, top + parts.TITLE, bottom), parts.content(x))
    return axes


def _draw_evolution(ax, ev):
    mean, error = parts.regions_and_times(ev)
    names = parts.names(ev, len(mean))
    # HyperSpy does not count a time axis of one point among the signal axes
    time = next(axis for axis in ev.axes_manager._axes if not axis.navigate)
    for i, (name, values, band) in enumerate(zip(names, mean, error, strict=True)):
        colour = parts.COLOURS[i % len(parts.COLOURS)]
        if len(values) == 1:
            ax.errorbar([name], values, yerr=band, fmt="o", color=colour, capsize=3)
            continue
        marker = {"marker": "o", "markersize": 2.5} if len(values) <= 40 else {}
        ax.plot(time.axis, values, color=colour, lw=1.2, label=name, **marker)
        ax.fill_between(time.axis, values - band, values + band, color=colour, alpha=0.3, lw=0)
    if mean.shape[1] == 1:
        ax.margins(x=0.3)
    else:
        units = parts.units(time)
        ax.set_xlabel(f"time ({units})" if units else "frame", fontsize=parts.NORMAL)
        ax.margins(x=0.01)
        title = "mean ± standard error"
        legend = ax.legend(frameon=False, fontsize=parts.SMALL, title=title, alignment="left")
        legend.get_title().set_fontsize(parts.SMALL)
    ax.set_ylabel(parts.content(ev), fontsize=parts.NORMAL)
    parts.style(ax)


def _draw_histogram(ax, x, regions):
    """How often each composition occurs, in each region or the whole map."""
    values = parts.images(x, [0])[0]
    axes = x.axes_manager.signal_axes
    masks = {name: region_mask(roi, axes) for name, roi in regions.items()}
    chosen = {name: values[mask & np.isfinite(values)] for name, mask in masks.items()}
    chosen = chosen or {"whole map": values[np.isfinite(values)]}
    every = np.concatenate(list(chosen.values()))
    bins = np.linspace(*(np.percentile(every, (0.5, 99.5)) if every.size else (0, 1)), 41)
    for i, (name, part) in enumerate(chosen.items()):
        colour = parts.COLOURS[i % len(parts.COLOURS)]
        ax.hist(part, bins, histtype="stepfilled", color=colour, alpha=0.3)
        ax.hist(part, bins, histtype="step", color=colour, lw=1.2, label=name)
    ax.set_xlabel(parts.content(x), fontsize=parts.NORMAL)
    ax.set_ylabel("pixels of the map", fontsize=parts.NORMAL)
    ax.legend(frameon=False, fontsize=parts.SMALL)
    parts.style(ax)


def _draw_frames(figure, movie, x, place, marks):
    """First and last frame (or the frame and its map), and the standard error of the last map."""
    left, top, width = place
    regions, reference = marks
    height = width * parts.aspect(movie)
    number = parts.number_of_frames(x)
    shown = [0, number - 1] if number > 1 else [0]
    axes = []
    for i, values, mask in zip(
        shown, parts.images(movie, shown), parts.images(x, shown), strict=True
    ):
        ax = parts.axes_at(figure, left, top + parts.TITLE, width, height)
        low, high = np.nanpercentile(values, (0.5, 99.5))
        parts.show(ax, movie, values, cmap="gray", vmin=low, vmax=high, interpolation="antialiased")
        ax.set_title(parts.frame_label(movie, i), fontsize=parts.NORMAL, pad=3)
        parts.edge(ax, x, mask)
        parts.mark_regions(ax, regions)
        left += width + place[0]
        axes.append(ax)
    parts.scale_bar(axes[0], movie)
    if number == 1:
        axes += draw_montage(figure, x, [0], 1, (left, top, width), {}, scale_bar=False)
        parts.mark_regions(axes[-1], regions)
        left += width + parts.BAR + place[0]
    parts.legend(axes[-1], reference is not None)
    if reference is not None:
        parts.mark(axes[0], reference, "white", linestyle=(0, (2, 1.5)))
    return axes + _draw_error(figure, x, shown[-1], (left, top + parts.TITLE, width))


def _draw_error(figure, x, i, place):
    """Map of the standard error of one frame, with its own scale."""
    noise = layer_of(x, VARIANCE)
    if not hasattr(noise, "data"):
        return []
    left, top, width = place
    height = width * parts.aspect(x)
    error = np.sqrt(parts.images(noise, [i])[0])
    error[np.isnan(parts.images(x, [i])[0])] = np.nan
    finite = error[np.isfinite(error)]
    high = np.percentile(finite, 90) * 1.5 if finite.size else 1.0
    ax = parts.axes_at(figure, left, top, width, height)
    image = parts.show(ax, x, error, cmap="magma", vmin=0, vmax=high, interpolation="nearest")
    ax.set_title(parts.frame_label(x, i), fontsize=parts.NORMAL, pad=3)
    place = left + width + parts.GAP, top, top + height
    parts.colour_bar(figure, image, error, place, parts.ERROR)
    return [ax]
