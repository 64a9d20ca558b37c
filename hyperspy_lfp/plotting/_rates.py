"""Maps and courses at several rates, side by side."""

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import Normalize

from hyperspy_lfp.plotting import _parts as parts

#: Mean compositions of the maps that are drawn when none are named.
STATES = (0.1, 0.3, 0.5, 0.7, 0.9)
_LABEL = 0.28  # left of the maps, for the name of the row
_CURVE = 1.75  # width of the courses
_AXIS = 0.4  # left of them
_LEGEND = 0.3  # above them
_ROW = 1.15  # lowest height of a row, for the courses


def rates(maps, rois=None, states=None, against="mean", **kwargs):
    """Draw maps of several movies in rows, at equal mean composition, and their regions' courses.

    Concentration reversal, and how it depends on the rate, in one figure: a row is a movie, a
    column a state of charge, and on the right the mean composition of each region is drawn.

    Parameters
    ----------
    maps : dict of name to ConcentrationMap
        ``(time | x, y)`` each, by the name of its row, for example ``"18C"``.
    rois : as of `ConcentrationMap.evolution`, or dict of name to it, optional
        Regions whose courses are drawn, the same for all movies, or by the names of `maps` for
        each its own. Default: the whole map.
    states : sequence of float, optional
        Mean compositions; of each movie the map with the nearest is drawn. Default: 0.1, 0.3, 0.5,
        0.7 and 0.9.
    against : {"mean", "time"}
        Whether the courses are drawn against the mean composition of the map, at which different
        rates can be compared, or against time.
    **kwargs
        Passed to :meth:`matplotlib.axes.Axes.imshow`, as of `montage`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError
        If `maps` is no dictionary.
    ValueError
        If it is empty, a movie has not one navigation axis, no state is named, or `against` is not
        known.

    Examples
    --------
    >>> from hyperspy_lfp import data, plotting
    >>> x = data.lithiation_truth()
    >>> corner = {"corner": hs.roi.RectangularROI(4, 3, 7, 6)}
    >>> figure = plotting.rates({"18C": x}, corner, states=[0.2, 0.5, 0.8])
    >>> figure.savefig("rates.png", dpi=300)
    """
    _check(maps, against)
    states = _states(states)
    first = next(iter(maps.values()))
    means = {name: _frame_means(x) for name, x in maps.items()}
    chosen = {n: [int(np.nanargmin(np.abs(m - s))) for s in states] for n, m in means.items()}
    drawn = {n: parts.images(x, chosen[n]) for n, x in maps.items()}
    every = np.concatenate([values.ravel() for values in drawn.values()])
    options = {"interpolation": "nearest", "cmap": "viridis", **kwargs}
    low, high = options.pop("vmin", 0.0), options.pop("vmax", 1.0)
    options.setdefault("norm", Normalize(low, high))
    options["norm"].autoscale_None(np.ma.masked_invalid(every))

    room = parts.WIDTH - _LABEL - _CURVE - _AXIS - parts.BAR
    aspect = max(parts.aspect(x) for x in maps.values())
    width = parts.panel_width(room, len(states), aspect)
    row = max(parts.TITLE + width * aspect + parts.GAP, _ROW)
    right = _LABEL + len(states) * (width + parts.GAP)
    figure = parts.figure(right + parts.BAR + _AXIS + _CURVE, _LEGEND + len(maps) * row + 0.45)
    curves = []
    for number, (name, x) in enumerate(maps.items()):
        top = _LEGEND + number * row + parts.TITLE
        titles = [parts.time_label(x, i) for i in chosen[name]]
        axes = _draw_row(figure, x, drawn[name], titles, (_LABEL, top, width), options)
        axes[0].set_ylabel(name, fontsize=parts.NORMAL, fontweight="bold")
        if number == 0:
            _label_columns(axes, states)
        place = right + parts.BAR + _AXIS, top, _CURVE - 0.1, row - parts.TITLE - 0.18
        curves.append(parts.axes_at(figure, *place))
        _draw_courses(curves[-1], x, _regions_of(rois, name, maps), means[name], against)
    parts.scale_bar(axes[0], x)
    bar = right, _LEGEND + parts.TITLE, _LEGEND + len(maps) * row - parts.GAP
    parts.colour_bar(figure, axes[0].images[0], every, bar, parts.content(first))
    _finish(curves, maps, against)
    return figure


def _draw_row(figure, x, values, titles, place, options):
    left, top, width = place
    axes = []
    for column, (image, title) in enumerate(zip(values, titles, strict=True)):
        at = left + column * (width + parts.GAP)
        ax = parts.axes_at(figure, at, top, width, width * parts.aspect(x))
        parts.show(ax, x, image, **options)
        ax.set_title(title, fontsize=parts.SMALL, pad=2)
        axes.append(ax)
    return axes


def _label_columns(axes, states):
    for ax, state in zip(axes, states, strict=True):
        ax.annotate(
            f"mean {state:g}",
            (0.5, 1),
            xytext=(0, 15),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            fontsize=parts.NORMAL,
        )


def _check(maps, against):
    if not isinstance(maps, Mapping):
        raise TypeError(
            f"maps is a {type(maps).__name__}, but must be a dictionary of the names of the "
            "rows to their ConcentrationMap, for example {'18C': fast, '8C': slow}."
        )
    if not maps:
        raise ValueError("maps is empty: give one ConcentrationMap or more by name.")
    if against not in ("mean", "time"):
        raise ValueError(f"against={against!r} is not known; use 'mean' or 'time'.")
    for name, x in maps.items():
        parts.number_of_frames(x)
        if not x.axes_manager.navigation_axes:
            raise ValueError(
                f"maps[{name!r}] is a single map, but must be a movie `(time | x, y)`."
            )


def _states(states):
    states = np.atleast_1d(np.asarray(STATES if states is None else states, dtype=float))
    if not states.size or not np.isfinite(states).all():
        raise ValueError(
            f"states={states.tolist()} must be one mean composition or more, for example "
            "[0.2, 0.5]."
        )
    return states


def _frame_means(x):
    return np.array(x.evolution(show_progressbar=False, lazy_output=False).data, dtype=float)[0]


def _regions_of(rois, name, maps):
    """Regions of one movie: its own where they are given by the names of the movies."""
    if isinstance(rois, Mapping) and set(rois) == set(maps):
        return rois[name]
    return rois


def _draw_courses(ax, x, rois, mean, against):
    ev = x.evolution(rois, show_progressbar=False, lazy_output=False)
    courses, errors = parts.regions_and_times(ev)
    time = x.axes_manager.navigation_axes[0]
    at = mean if against == "mean" else time.axis
    names = parts.names(ev, len(courses))
    for i, (name, values, band) in enumerate(zip(names, courses, errors, strict=True)):
        colour = parts.COLOURS[i % len(parts.COLOURS)]
        ax.plot(at, values, color=colour, lw=1.1, label=name)
        ax.fill_between(at, values - band, values + band, color=colour, alpha=0.3, lw=0)
    ax.margins(x=0.01)
    parts.style(ax)


def _finish(curves, maps, against):
    """Labels that the rows share."""
    content = parts.content(next(iter(maps.values())))
    for ax, x in zip(curves, maps.values(), strict=True):
        ax.set_ylabel(content, fontsize=parts.SMALL)
        if against == "time":
            units = parts.units(x.axes_manager.navigation_axes[0])
            ax.set_xlabel(f"time ({units})" if units else "frame", fontsize=parts.SMALL, labelpad=1)
    if against == "mean":
        curves[-1].set_xlabel("mean of the map", fontsize=parts.SMALL)
        low = min(ax.get_xlim()[0] for ax in curves)
        high = max(ax.get_xlim()[1] for ax in curves)
        for ax in curves:
            ax.set_xlim(low, high)
    curves[0].legend(
        frameon=False,
        fontsize=parts.SMALL,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=3,
        borderaxespad=0.1,
        handlelength=1.4,
        columnspacing=1,
    )
