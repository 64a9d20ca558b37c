"""What a simulated map knows besides its compositions: voltage, and domains."""

import numpy as np
from hyperspy.signals import BaseSignal, Signal1D, Signal2D

from hyperspy_lfp.signals import ConcentrationMap
from hyperspy_lfp.signals._base import _axis_dictionary

_STEP = "Lithiation"
_NODE = f"HyperspyLFP.{_STEP}"
#: Places on axes that differ by less, in units of their step, are the same.
_SAME = 1e-6


def voltage(truth):
    """Voltage of a simulated particle over time.

    Parameters
    ----------
    truth : ConcentrationMap
        Of `lithiation`, or a part of it, or saved and opened again.

    Returns
    -------
    Signal1D
        ``(| time)``, in volt, at the times of `truth`; of a single map, or where its times are
        others than those simulated, at all times of the simulation.

    Raises
    ------
    ValueError
        If the maps were not simulated.

    Examples
    --------
    >>> from hyperspy_lfp import simulation
    >>> truth = simulation.lithiation(18, particle=(6, 6), frames=11)
    >>> simulation.voltage(truth)
    <Signal1D, title: voltage, dimensions: (|11)>
    >>> simulation.voltage(truth.inav[:4])
    <Signal1D, title: voltage, dimensions: (|4)>
    """
    curve = _nested(truth, "voltage", Signal1D)
    own = truth.axes_manager.navigation_axes
    if len(own) != 1:
        return curve
    times, whole = own[0].axis, curve.axes_manager.signal_axes[0]
    places = (times - whole.offset) / whole.scale
    nearest = np.rint(places).astype(int)
    known = np.abs(places - nearest) < _SAME
    if not np.all(known & (nearest >= 0) & (nearest < whole.size)):
        return curve
    step = nearest[1] - nearest[0] if len(nearest) > 1 else 1
    return curve.isig[nearest[0] : nearest[-1] + 1 : step]


def domain_labels(truth):
    """Which domain each pixel of a simulated particle belongs to.

    Parameters
    ----------
    truth : ConcentrationMap
        Of `lithiation`, or a part of it, or saved and opened again.

    Returns
    -------
    Signal2D
        ``(| x, y)``: integers from 1, in the order of the domains, and 0 outside; regions for
        `ConcentrationMap.evolution`.

    Raises
    ------
    ValueError
        If the maps were not simulated, or have other pixels.

    Examples
    --------
    >>> from hyperspy_lfp import simulation
    >>> truth = simulation.lithiation(18, particle=(6, 6), frames=11)
    >>> simulation.domain_labels(truth).data[1]
    array([1, 1, 2, 2, 2, 2])
    """
    labels = _nested(truth, "domains", Signal2D)
    places = []
    for own, whole in zip(
        truth.axes_manager.signal_axes, labels.axes_manager.signal_axes, strict=True
    ):
        first = (own.offset - whole.offset) / whole.scale
        fits = np.isclose(own.scale, whole.scale) and abs(first - round(first)) < _SAME
        if not fits or not 0 <= round(first) <= whole.size - own.size:
            raise ValueError(
                f"the axis {own.name!r} of truth is not that of the simulation, or a part of it: "
                "take the labels of the whole map."
            )
        places.append(slice(round(first), round(first) + own.size))
    return labels.isig[tuple(places)]


def make_signal(course, made, labels, volts, material, described):
    """Maps of a simulated course, with their voltage, domains and parameters."""
    data = np.full((len(course.times), *made.mask.shape), np.nan)
    data[:, made.mask] = course.x
    step = course.times[1] - course.times[0] if len(course.times) > 1 else 1.0
    time = {"name": "time", "size": len(data), "scale": float(step), "offset": 0.0, "units": "s"}
    signal = ConcentrationMap(data, axes=[{**time, "navigate": True}, *made.axes])
    how = (
        f"{described['rate']:g}C"
        if described["control"] == "rate"
        else f"{described['given_voltage']:g} V"
    )
    signal.metadata.General.title = f"{described['direction']} at {how}"
    signal.metadata.set_item("Signal.quantity", "x (Li)")
    signal._record(
        "ConcentrationMap",
        material=material.to_dictionary(),
        method="phase field",
        resolution=0.0,
        resolution_units="nm",
    )
    signal._record(_STEP, **described)
    curve = Signal1D(np.asarray(volts), axes=[{**time, "navigate": False}])
    curve.metadata.General.title = "voltage"
    curve.metadata.set_item("Signal.quantity", "voltage (V)")
    which = Signal2D(labels, axes=made.axes)
    which.metadata.General.title = "domains"
    signal.metadata.set_item(f"{_NODE}.voltage", curve)
    signal.metadata.set_item(f"{_NODE}.domains", which)
    return signal


def _nested(truth, name, cls):
    """A signal nested in the metadata, as one of its own."""
    nested = truth.metadata.get_item(f"{_NODE}.{name}", default=None)
    if not isinstance(nested, BaseSignal):
        raise ValueError(
            f"the metadata of this {type(truth).__name__} lack {_NODE}.{name}: it was not made by "
            "`simulation.lithiation`, or lost its metadata on the way."
        )
    # HyperSpy's copies forget the class of what is nested; and in a file that was opened lazily
    # it is read when it is asked for
    data = nested.data.compute() if nested._lazy else nested.data.copy()
    axes = [_axis_dictionary(axis) for axis in nested.axes_manager._axes]
    return cls(data, axes=axes, metadata=nested.metadata.deepcopy().as_dictionary())
