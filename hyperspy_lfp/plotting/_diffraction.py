"""Figures of diffraction spots against time."""

import numpy as np
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.ticker import MaxNLocator

from hyperspy_lfp.plotting import _parts as parts

_LINES = 24  # profiles in a waterfall: more would hide each other
#: Height of the highest profile in a waterfall, in distances between two profiles.
_HEIGHT = 3.5
#: Colours and names of peaks: one alone, and the two of a pair in the order of k.
_COLOUR = {"one": parts.COLOURS[6], "first": parts.COLOURS[0], "second": parts.COLOURS[1]}
_LABELS = {"one": "one peak", "first": "first of two", "second": "second of two"}
#: White rims set points off from dark pixels.
_MARK = {"marker": "o", "ms": 3.6, "mew": 0.5, "mec": "white"}


def spot_profiles(profile, track=None, *, normalise=False, **kwargs):
    """Draw profiles of a spot against time, as a waterfall and as a heat map.

    Parameters
    ----------
    profile : SpotProfile
        ``(time | k)``, or a single profile. The waterfall has at most 24 of them, evenly spread.
    track : SpotTrack, optional
        Of `SpotProfile.fit`: its positions are drawn over both, with error bars of one standard
        error in the heat map.
    normalise : bool
        Divide each profile by its own maximum, so that a spot that fades stays in sight. Default:
        counts, their square root as the brightness of the heat map.
    **kwargs
        Passed to :meth:`matplotlib.axes.Axes.pcolormesh` for the heat map, such as ``cmap``.

    Returns
    -------
    matplotlib.figure.Figure
        k in 1/nm below and, for a radial profile, the spacing in nm above. Bins that were not seen
        are blank.

    Raises
    ------
    ValueError
        If there is more than one navigation axis, or the track is of another series.

    Examples
    --------
    >>> from hyperspy_lfp import data, plotting
    >>> d = data.diffraction_series("two-phase")
    >>> profile = d.track_spot_profile((2, 0, 0), material="LiFePO4", show_progressbar=False)
    >>> figure = plotting.spot_profiles(profile, profile.fit(show_progressbar=False))
    >>> figure.savefig("waterfall.png", dpi=300)
    """
    number = parts.number_of_frames(profile)
    values = _array(profile.data).reshape(number, -1)
    k = profile.axes_manager.signal_axes[0].axis
    peaks = {} if track is None else _peaks(_computed(track), number)
    if normalise:
        values = _normalised(values)
    if number == 1:
        figure = parts.figure(4.0, 3.1)
        ax = parts.axes_at(figure, 0.65, 0.5, 3.2, 2.1)
        _draw_profile(ax, profile, k, values[0], peaks, normalise)
        return figure
    time, unit = _times(profile.axes_manager.navigation_axes[0])
    width, height, top = 2.72, 3.6, 0.5
    figure = parts.figure(parts.WIDTH, top + height + 0.7)
    left = parts.axes_at(figure, 0.5, top, width, height)
    right = parts.axes_at(figure, 0.9 + width, top, width, height)
    _draw_waterfall(left, time, k, values, peaks)
    image = _draw_heat_map(right, time, k, values, peaks, kwargs)
    for ax in (left, right):
        _label_k(ax, profile, k)
    left.set_ylabel(f"time ({unit})" if unit else "frame", fontsize=parts.NORMAL)
    place = 0.9 + 2 * width + parts.GAP, top, top + height
    parts.colour_bar(figure, image, values, place, _quantity(profile, normalise))
    if peaks:
        _legend_below(figure, right)
    return figure


def transformation(track, material=None, *, hkl=None, ratio=None):
    """Draw what the peaks of a spot say of the transformation, against time.

    Parameters
    ----------
    track : SpotTrack
        Of ``fit(peaks="auto")``, with a time axis.
    material, hkl, ratio
        To count in moles as well; see `SpotTrack.molar_fraction`.

    Returns
    -------
    matplotlib.figure.Figure
        Positions of the peaks; probability of two phases; how far the mean position was moved by
        peaks that move and by intensity that is exchanged between two; and the part of the second
        peak. Bars are standard errors. The verdict stands above.

    Raises
    ------
    ValueError
        If the fit was of one or of two peaks only, or there are several series.

    Examples
    --------
    >>> from hyperspy_lfp import data, plotting
    >>> d = data.diffraction_series("two-phase")
    >>> profile = d.track_spot_profile((2, 0, 0), material="LiFePO4", show_progressbar=False)
    >>> figure = plotting.transformation(profile.fit(show_progressbar=False), "LiFePO4")
    >>> figure.savefig("transformation.png", dpi=300)
    """
    track = _computed(track)
    found = track.transformation(material, hkl=hkl, ratio=ratio)
    axis = _time_axis(track)
    time, unit = _times(axis)
    width, height, top = 2.8, 1.55, 0.35
    figure = parts.figure(parts.WIDTH, top + 2 * height + 0.85)
    axes = [
        parts.axes_at(figure, left, top + row * (height + 0.3), width, height)
        for row in (0, 1)
        for left in (0.65, 4.2)
    ]
    for name, (at, error) in _peaks(track, len(time)).items():
        _points(axes[0], time, at, error, _COLOUR[name], _LABELS[name])
    axes[0].set_ylabel("k (1/nm)", fontsize=parts.NORMAL)
    _draw_probability(axes[1], time, found.probability)
    _draw_changes(axes[2], time, found)
    _draw_fractions(axes[3], track, time, (material, hkl, ratio))
    for ax, letter in zip(axes, "abcd", strict=True):
        parts.style(ax)
        parts.letter(ax, letter, dx=-30)
        ax.set_xlim(*_limits(time))
        if ax.get_legend_handles_labels()[0]:
            place = "lower left" if ax is axes[3] else "best"
            ax.legend(frameon=False, fontsize=parts.SMALL, handlelength=1.4, loc=place)
    for ax in axes[:2]:
        ax.tick_params(labelbottom=False)
    for ax in axes[2:]:
        ax.set_xlabel(f"time ({unit})" if unit else "frame", fontsize=parts.NORMAL)
    figure.suptitle(f"{_name(track)}{found.verdict}", fontsize=parts.NORMAL + 1, y=0.99)
    return figure


def _computed(track):
    """The track in memory: of a lazy one each quantity would fit all profiles again."""
    if track._lazy:
        track = track.deepcopy()
        track.compute(show_progressbar=False)
    return track


def _array(data):
    data = data.compute() if hasattr(data, "compute") else data
    data = data.get() if hasattr(data, "get") else data  # from a GPU
    return np.array(data, dtype=float)


def _peaks(track, number):
    """Positions and standard errors against time: of one peak, and of the two where there are."""
    count = _array(track.n_peaks.data)
    if count.shape != (number,):
        raise ValueError(
            f"track has the shape {count.shape} over time, but there are {number} profiles: give "
            "the fit of these profiles, of one series."
        )
    first, second = (
        (_array(getattr(track, name).data), _array(track.standard_error(name).data))
        for name in ("position", "position_2")
    )
    two = count == 2
    kinds = {"one": (first, count == 1), "first": (first, two), "second": (second, two)}
    return {
        name: tuple(np.where(use, part, np.nan) for part in parts_of)
        for name, (parts_of, use) in kinds.items()
    }


def _time_axis(track):
    """The time axis, which HyperSpy does not count among the signal axes if it has one point."""
    return next(axis for axis in track.axes_manager._axes if not axis.navigate)


def _times(axis):
    unit = parts.units(axis)
    return (axis.axis, unit) if unit else (np.arange(axis.size, dtype=float), "")


def _edges(at):
    """Where bins meet whose middles are known."""
    if len(at) == 1:
        return at[0] + np.array([-0.5, 0.5])
    inner = (at[1:] + at[:-1]) / 2
    return np.concatenate([[1.5 * at[0] - at[1] / 2], inner, [1.5 * at[-1] - at[-2] / 2]])


def _normalised(values):
    highest = np.max(np.where(np.isfinite(values), values, -np.inf), axis=1, keepdims=True)
    return values / np.where(highest > 0, highest, np.nan)


def _quantity(profile, normalise):
    spectrum = profile.metadata.get_item("HyperspyLFP.SpotProfile.power_spectrum", default=False)
    name = "power" if spectrum else "counts"
    return f"{name} / maximum of the profile" if normalise else f"{name} in a bin"


def _name(signal):
    hkl = signal.metadata.get_item("HyperspyLFP.SpotProfile.hkl", default=None)
    return "" if hkl is None else "({})  ".format(" ".join(str(i) for i in hkl))


def _draw_waterfall(ax, time, k, values, peaks):
    """Profiles one above the other, each at its time; the earlier ones in front."""
    number = len(time)
    chosen = np.unique(np.linspace(0, number - 1, min(number, _LINES)).round().astype(int))
    finite = values[np.isfinite(values)]
    low = np.min(finite, initial=0.0)
    span = np.max(finite, initial=low) - low or 1.0
    scale = _HEIGHT * np.ptp(time) / max(len(chosen) - 1, 1) / span
    chosen = chosen[np.argsort(-time[chosen])]
    for order, i in enumerate(chosen):
        line = time[i] + (values[i] - low) * scale
        ax.fill_between(k, time[i], line, color="white", lw=0, zorder=2 + order)
        ax.plot(k, line, color="0.35", lw=0.8, zorder=2 + order)
        for name, (at, _) in peaks.items():
            if np.isfinite(at[i]):
                height = np.interp(at[i], k, line)
                ax.plot(at[i], height, color=_COLOUR[name], zorder=2.5 + order, **_MARK)
    top = max(time[i] + _top(values[i] - low) * scale for i in chosen)
    edges = _limits(time)
    ax.set(xlim=_limits(k), ylim=(edges[0], max(edges[1], top)))
    parts.style(ax)
    ax.grid(False)


def _top(values):
    return np.max(values[np.isfinite(values)], initial=0.0) * 1.05


def _draw_heat_map(ax, time, k, values, peaks, kwargs):
    options = {"cmap": "Greys", "rasterized": True, **kwargs}
    highest = np.max(values[np.isfinite(values)], initial=0.0) or 1.0
    low, high = options.pop("vmin", 0.0), options.pop("vmax", highest)
    norm = Normalize(low, high) if highest <= 1 else PowerNorm(0.5, low, high)
    options.setdefault("norm", norm)
    image = ax.pcolormesh(_edges(k), _edges(time), np.ma.masked_invalid(values), **options)
    for name, (at, error) in peaks.items():
        _points(ax, at, time, None, _COLOUR[name], None, xerr=error, fmt="none")
        if np.isfinite(at).any():
            ax.plot(at, time, color=_COLOUR[name], lw=0, label=_LABELS[name], **_MARK)
    ax.set(xlim=_limits(k), ylim=_limits(time))
    parts.style(ax)
    ax.grid(False)
    return image


def _points(ax, x, y, yerr, colour, label, xerr=None, **style):
    """Points with error bars, if there are any."""
    style = {"fmt": "o", "lw": 0, "elinewidth": 0.9, "ms": 3, "mew": 0, **style}
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        return
    error = {"xerr": xerr[known]} if xerr is not None else {}
    if yerr is not None:
        error["yerr"] = np.nan_to_num(yerr[known])
    ax.errorbar(x[known], y[known], color=colour, label=label, **style, **error)


def _limits(at):
    edges = _edges(at)
    return edges.min(), edges.max()


def _label_k(ax, profile, k):
    """k below; above it the spacing, if k is the distance from the centre."""
    ax.set_xlabel(f"{_name(profile)}k (1/nm)", fontsize=parts.NORMAL)
    radial = profile.metadata.get_item("HyperspyLFP.SpotProfile.direction", default="") == "radial"
    if not radial or _edges(k).min() <= 0:
        return
    above = ax.secondary_xaxis("top", functions=(_reciprocal, _reciprocal))
    above.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    above.tick_params(labelsize=parts.SMALL)
    above.set_xlabel("d (nm)", fontsize=parts.NORMAL)
    ax.spines["top"].set_visible(True)


def _reciprocal(k):
    with np.errstate(divide="ignore"):  # Matplotlib tries zero
        return 1 / np.asarray(k, dtype=float)


def _legend_below(figure, ax):
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="lower right",
        bbox_to_anchor=(ax.get_position().x1, 0.0),
        ncols=3,
        frameon=False,
        fontsize=parts.SMALL,
        handletextpad=0.2,
        columnspacing=1,
    )


def _draw_profile(ax, profile, k, values, peaks, normalise):
    """A single profile."""
    ax.step(k, values, where="mid", color="0.35", lw=0.9)
    for name, (at, error) in peaks.items():
        if np.isfinite(at[0]):
            ax.axvspan(at[0] - error[0], at[0] + error[0], color=_COLOUR[name], alpha=0.3, lw=0)
            ax.axvline(at[0], color=_COLOUR[name], lw=1, label=_LABELS[name])
    if peaks and ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=parts.SMALL)
    ax.set(xlim=_limits(k))
    ax.set_ylabel(_quantity(profile, normalise), fontsize=parts.NORMAL)
    parts.style(ax)
    _label_k(ax, profile, k)


def _draw_probability(ax, time, probability):
    ax.plot(time, probability, "o-", color=parts.COLOURS[2], ms=3, lw=1.2)
    ax.axhline(0.5, color="0.6", lw=0.8, ls=(0, (2, 1.5)))
    ax.set_ylim(-0.05, 1.05)
    ax.set_ylabel("probability of two phases", fontsize=parts.NORMAL)


def _draw_changes(ax, time, found):
    lines = (("peaks moved", found.moved, 0), ("intensity exchanged", found.exchanged, 3))
    for label, values, colour in lines:
        ax.plot(time, values, "o-", color=parts.COLOURS[colour], ms=3, lw=1.2, label=label)
    ax.set_ylabel("change of mean k (1/nm)", fontsize=parts.NORMAL)


def _draw_fractions(ax, track, time, moles):
    material, hkl, ratio = moles
    fractions = [("intensity", track.intensity_fraction(), 3)]
    if material is not None:
        molar = track.molar_fraction(material, hkl=hkl, ratio=ratio)
        fractions.append(("moles", molar, 2))
    for label, signal, colour in fractions:
        error = np.sqrt(_array(signal.get_noise_variance().data))
        _points(ax, time, _array(signal.data), error, parts.COLOURS[colour], label)
    ax.set_ylim(-0.05, 1.05)
    ax.set_ylabel("part with larger k", fontsize=parts.NORMAL)
    if not ax.get_legend_handles_labels()[0]:
        note = {"ha": "center", "va": "center", "fontsize": parts.SMALL, "color": "0.4"}
        ax.text(0.5, 0.5, "never two peaks", transform=ax.transAxes, **note)
