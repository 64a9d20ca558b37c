"""What the figures are made of: sizes on paper, axes, scale bars, colour bars, labels, marks."""

import numpy as np
from matplotlib import patheffects, rcParams
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Polygon, Rectangle
from matplotlib.transforms import ScaledTranslation

from hyperspy_lfp.signals._base import VARIANCE, layer_of
from hyperspy_lfp.signals._units import in_nanometre

#: Okabe and Ito's colours without the yellow, which fades on white paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
EDGE = "#F0C000"  # edge of the lattice, on grey frames
MOST = 6  # maps that are shown when no times are named
SMALL, NORMAL = 7, 8  # points
# Lengths on paper are in inches. Everything is placed by them, since only so do the colour bars
# end where the maps do.
WIDTH = 7.2  # the text width of an A4 or letter page
DPI = 200
TITLE = 0.22  # above an image
FOOT = 0.24  # below it, for the scale bar
BAR = 0.68  # right of it, for the colour bar with its label
GAP = 0.08
TALLEST = 2.6  # images
LETTER = 0.06  # of a label: a colour bar is not shorter than its label
ERROR = "standard error of x"


def figure(width, height, **kwargs):
    return Figure(figsize=(width, height), **kwargs)


def axes_at(figure, left, top, width, height):
    """Axes whose frame is at a place in inches from the upper left corner."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))


def style(ax):
    ax.tick_params(labelsize=SMALL)
    ax.grid(alpha=0.25, lw=0.5)
    ax.spines[["top", "right"]].set_visible(False)


def row_height(image, label):
    """Height of a row of images with a colour bar, and what is above and below them."""
    return TITLE + max(image, LETTER * len(label)) + FOOT


def panel_width(room, number, aspect, gap=GAP):
    """Width of images side by side that are as wide as there is room, but not too tall."""
    return min((room - gap * (number - 1)) / number, TALLEST / aspect)


def colour_bar(figure, image, values, place, label):
    """A colour bar at left, top, bottom; not too short for its label."""
    left, top, bottom = place
    ax = axes_at(figure, left, top, 0.08, max(bottom - top, LETTER * len(label)))
    ends = extend(values, image.norm)
    bar = figure.colorbar(ScalarMappable(image.norm, image.cmap), cax=ax, extend=ends)
    bar.set_label(label, fontsize=NORMAL, labelpad=2)
    bar.ax.tick_params(labelsize=SMALL, width=0.6, length=2.5)
    bar.outline.set_linewidth(0.6)


def show(ax, signal, values, **options):
    """One image in units of length, y down, without ticks."""
    x, y = signal.axes_manager.signal_axes
    left, right = x.axis[0] - x.scale / 2, x.axis[-1] + x.scale / 2
    top, bottom = y.axis[0] - y.scale / 2, y.axis[-1] + y.scale / 2
    image = ax.imshow(values, extent=(left, right, bottom, top), aspect="equal", **options)
    ax.set(xticks=[], yticks=[], facecolor="white")
    for spine in ax.spines.values():
        spine.set(linewidth=0.5, color="0.6")
    return image


def scale_bar(ax, signal):
    """A scale bar under an image, where it hides nothing."""
    axis = signal.axes_manager.signal_axes[0]
    width = axis.scale * axis.size
    length = round_length(width / 3)
    style = {"color": rcParams["text.color"], "lw": 2, "solid_capstyle": "butt"}
    line = Line2D((0, length / width), (0, 0), **style)
    below = ax.transAxes + ScaledTranslation(0, -0.5 * FOOT, ax.figure.dpi_scale_trans)
    line.set(transform=below, clip_on=False)
    ax.add_line(line)
    ax.annotate(
        length_label(length, units(axis)),
        (length / width, 0),
        xycoords=below,
        xytext=(4, 0),
        textcoords="offset points",
        va="center_baseline",
        fontsize=SMALL,
        annotation_clip=False,
    )


def legend(ax, with_reference):
    """What the lines in the frames are, right below the last of them."""
    handles = [Line2D([], [], color=EDGE, lw=1, label="edge of lattice")]
    if with_reference:
        style = {"color": rcParams["text.color"], "lw": 1, "linestyle": (0, (2, 1.5))}
        handles.append(Line2D([], [], label="reference", **style))
    ax.legend(
        handles=handles,
        loc="upper right",
        bbox_to_anchor=(1, 0),
        ncols=2,
        frameon=False,
        fontsize=SMALL,
        handlelength=1.6,
        columnspacing=1,
        borderpad=0.2,
        borderaxespad=0.1,
    )


def round_length(length):
    """The largest 1, 2 or 5 times a power of ten that is not longer."""
    power = 10.0 ** np.floor(np.log10(length))
    return max(m * power for m in (1, 2, 5) if m * power <= length * (1 + 1e-9))


def length_label(length, units):
    try:
        nanometres = length * in_nanometre(units)
    except Exception:  # no length: pixels, or nothing at all
        return f"{length:g} {units or 'pixels'}"
    return f"{nanometres:g} nm" if nanometres < 1000 else f"{nanometres / 1000:g} µm"


def mark_regions(ax, regions):
    for i, roi in enumerate(regions.values()):
        mark(ax, roi, COLOURS[i % len(COLOURS)])


def mark(ax, roi, colour, **style):
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


def edge(ax, x, values):
    """A thin line around the pixels that have lattice."""
    valid = np.isfinite(values)
    if valid.all() or not valid.any():
        return
    across, down = (axis.axis for axis in x.axes_manager.signal_axes)
    limits = ax.get_xlim(), ax.get_ylim()
    ax.contour(across, down, valid.astype(float), levels=[0.5], colors=EDGE, linewidths=0.8)
    ax.set(xlim=limits[0], ylim=limits[1])


def letter(ax, text, dx):
    """The letter of a panel, left of its title; `dx` in points."""
    ax.annotate(
        text,
        (0, 1),
        xytext=(dx, 3),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=10,
        fontweight="bold",
    )


def number_of_frames(signal):
    axes = signal.axes_manager.navigation_axes
    if len(axes) > 1:
        names = [axis.name for axis in axes]
        raise ValueError(
            f"this {type(signal).__name__} has the navigation axes {names}, but only one can be "
            "drawn: choose from the others with `inav` first."
        )
    return axes[0].size if axes else 1


def chosen_frames(x, times):
    """Numbers of the frames to draw."""
    number = number_of_frames(x)
    if times is None:
        return np.unique(np.linspace(0, number - 1, min(number, MOST)).round().astype(int))
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
            f"{at.min():.6g} to {at.max():.6g} {units(axes[0])}."
        )
    return np.array([int(np.abs(at - t).argmin()) for t in times])


def check_columns(columns, number):
    if columns is None:
        return min(number, MOST)
    if not isinstance(columns, int | np.integer) or isinstance(columns, bool) or columns < 1:
        raise ValueError(f"columns={columns!r} must be a positive number of maps in a row.")
    return min(int(columns), number)


def images(signal, chosen):
    """Images of some frames as a NumPy array, computed in one pass if lazy."""
    data = signal.data[None] if signal.data.ndim == 2 else signal.data[list(chosen)]
    data = data.compute() if hasattr(data, "compute") else data
    data = data.get() if hasattr(data, "get") else data  # from a GPU
    return np.array(data, dtype=float)


def aspect(signal):
    x, y = signal.axes_manager.signal_axes
    return abs(y.scale * y.size / (x.scale * x.size))


def extend(values, norm):
    """Ends of the colour bar beyond which there are values."""
    with np.errstate(invalid="ignore"):
        below, above = np.any(values < norm.vmin), np.any(values > norm.vmax)
    return {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[int(below), int(above)]


def units(axis):
    return axis.units if isinstance(axis.units, str) else ""


def time_label(signal, i):
    """Time of a frame, with as many digits as tell it from its neighbours."""
    axes = signal.axes_manager.navigation_axes
    if not axes or not units(axes[0]):
        return f"frame {i}" if axes else ""
    at = axes[0].axis
    step = np.abs(np.diff(at)).min() if len(at) > 1 else 1.0
    digits = next((d for d in range(9) if abs(round(step, d) - step) <= 0.02 * step), 9)
    return f"{at[i]:.{digits}f} {units(axes[0])}"


def frame_label(signal, i):
    time = time_label(signal, i)
    return f"frame {i}, {time}" if time and units(signal.axes_manager[0]) else f"frame {i}"


def content(signal):
    item = "HyperspyLFP.ConcentrationMap.material.species"
    return f"{signal.metadata.get_item(item, default='Li')} content x"


def regions_and_times(ev):
    """Means and standard errors, (region, time); errors that are not known are zero."""
    if len(ev.axes_manager.navigation_axes) > 1:
        names = [axis.name for axis in ev.axes_manager.navigation_axes]
        raise ValueError(
            f"this {type(ev).__name__} has the navigation axes {names}, but only the regions can "
            "be drawn: choose from the others with `inav` first."
        )
    mean = np.atleast_2d(np.array(ev.data, dtype=float))
    variance = layer_of(ev, VARIANCE)
    if variance is None:
        return mean, np.zeros_like(mean)
    noise = np.array(getattr(variance, "data", variance), dtype=float)
    return mean, np.sqrt(np.broadcast_to(np.nan_to_num(noise), mean.shape))


def names(ev, number):
    """Names of the regions; numbers after slicing along them."""
    known = ev.regions
    return known if len(known) == number else [f"region {i + 1}" for i in range(number)]
