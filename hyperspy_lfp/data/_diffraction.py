"""Small series of electron diffraction patterns with exact truth, computed from a closed form.

A crystal of LixFePO4 takes up lithium while its [010] pattern is filmed: x runs linearly from 0 to
1, once as a solid solution, the lattice of which changes continuously by Vegard's law, and once as
FePO4 that is replaced by LiFePO4. Each spot is a Gaussian integrated over the pixels; its counts
are proportional to |F|^2/V for each mole, F and V those of the material: a thin crystal and a flat
Ewald sphere, without double diffraction, so that forbidden spots are absent. The course of x and
every number here are this package's own choice, not the result of any physical model or
experiment.
"""

import numpy as np

from hyperspy_lfp import materials
from hyperspy_lfp.kernels.imaging.spots import Profile
from hyperspy_lfp.signals import ConcentrationEvolution, DiffractionSeries
from hyperspy_lfp.simulation import _pattern, _zone

KINDS = ("solid solution", "two-phase")
_SHAPE = (240, 256)  # (y, x), pixels
_PIXEL = 0.025  # 1/nm
_FRAMES = 16
_DURATION = 300.0  # s
_SIGMA = 1.1  # pixels, of all spots
_TILT = np.deg2rad(12.0)  # a* axis in pattern 0, counter-clockwise from kx as displayed
_TURN = np.deg2rad(0.5)  # how far the crystal turns
_D_MIN = 0.2  # nm, spots
_ZONE = (0, 1, 0)
#: Counts of a spot for |F|^2/V of one (F in angstrom, V in its cube); (200) of FePO4 has 27e3.
_COUNTS = 3e4
_DIRECT = 3e5  # counts of the direct beam
#: Diffuse background: counts in its middle, and in units of 1/nm its half width.
_BACKGROUND = (60.0, 1.2)
#: Beam stop from the left edge past the middle: half its width, and how far it reaches, pixels.
_STOP = (7, 10)
_SEED = 20180127


def diffraction_series(kind="solid solution", *, beam_stop=False):
    """Electron diffraction patterns of a crystal that takes up lithium, with noise and drift.

    16 patterns along [010] of 256 x 240 pixels of 0.025 1/nm within 300 s, uint16 electron counts.
    The a* axis lies 12 degrees counter-clockwise from kx and turns by half a degree; the centre
    drifts by some pixels. x grows linearly from 0 to 1, see `diffraction_truth`.

    Parameters
    ----------
    kind : {"solid solution", "two-phase"}
        The lattice changes continuously, or FePO4 is replaced by LiFePO4.
    beam_stop : bool
        Whether a bar hides the direct beam; where it is is in the metadata.

    Returns
    -------
    DiffractionSeries
        ``(time | kx, ky)``. The true centres, directions and fractions are in the metadata node
        ``HyperspyLFP.Provenance``.

    Raises
    ------
    ValueError
        If the kind is not known.

    Examples
    --------
    >>> from hyperspy_lfp import data
    >>> data.diffraction_series("two-phase")
    <DiffractionSeries, title: two-phase diffraction series, dimensions: (16|256, 240)>
    """
    _check(kind)
    random = np.random.default_rng([_SEED, KINDS.index(kind)])
    expected = np.array(_patterns(kind))
    if beam_stop:
        left, top, right, bottom = _stop()
        expected[:, top:bottom, left:right] = 0
    signal = DiffractionSeries(random.poisson(expected).astype(np.uint16), axes=_axes())
    signal.metadata.General.title = f"{kind} diffraction series"
    signal.metadata.set_item("Signal.quantity", "electrons (Counts)")
    signal.metadata.set_item("HyperspyLFP.Provenance", _provenance(kind, beam_stop))
    return signal


def diffraction_truth(kind="solid solution"):
    """The exact composition of the crystal of `diffraction_series`: the mean over its moles.

    Parameters
    ----------
    kind : {"solid solution", "two-phase"}
        The mean is the same for both.

    Returns
    -------
    ConcentrationEvolution
        ``(region | time)``.

    Raises
    ------
    ValueError
        If the kind is not known.

    Examples
    --------
    >>> from hyperspy_lfp import data
    >>> data.diffraction_truth()
    <ConcentrationEvolution, title: true Li concentration, dimensions: (1|16)>
    """
    _check(kind)
    region = {"name": "region", "size": 1, "scale": 1, "offset": 0, "units": "", "navigate": True}
    signal = ConcentrationEvolution(
        _composition()[None], axes=[region, {**_axes()[0], "navigate": False}]
    )
    signal.metadata.General.title = "true Li concentration"
    signal.metadata.set_item("Signal.quantity", "x (Li)")
    signal._record("ConcentrationEvolution", regions=["mean"], drift="none")
    return signal


def _check(kind):
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not known; use one of {KINDS}.")


def _composition():
    return np.arange(_FRAMES) / (_FRAMES - 1)


def _phases(kind):
    """Composition of each phase and its molar fraction, both (time, phase)."""
    x = _composition()
    if kind == "solid solution":
        return x[:, None], np.ones((_FRAMES, 1))
    return np.broadcast_to([0.0, 1.0], (_FRAMES, 2)), np.stack([1 - x, x], axis=1)


def _centres():
    """(x, y) in pixels, (time, 2): a slow curve around a place beside the middle."""
    t = _composition()
    drift = np.stack([3.0 * np.sin(3.1 * t), -4.0 * t + 1.5 * np.sin(6.7 * t)], axis=-1)
    return np.array([130.3, 117.6]) + drift


def _angles():
    return _TILT + _TURN * _composition() ** 2


def _patterns(kind):
    """Expected counts of all patterns."""
    parts = np.stack(_phases(kind), axis=-1)
    setup = _setup()
    frames = zip(parts, _centres(), _angles(), strict=True)
    return [_pattern.expected(*of_frame, setup) for of_frame in frames]


def _setup():
    material = materials.get("LiFePO4")
    return _pattern.Setup(
        shape=_SHAPE,
        pixel=_PIXEL,
        material=material,
        zone=_ZONE,
        hkl=_zone.reflections(material, _ZONE, _D_MIN, [0.0, 1.0]),
        scale=_COUNTS,
        direct_beam=_DIRECT,
        profile=Profile("gaussian", _SIGMA),
        background=_BACKGROUND,
    )


def _stop():
    """Left, top, right, bottom in pixels; the drift stays behind it."""
    x, y = np.rint(_centres().mean(axis=0)).astype(int)
    half, reach = _STOP
    return 0, int(y) - half, int(x) + reach, int(y) + half + 1


def _provenance(kind, beam_stop):
    offset = np.array([_axes()[2]["offset"], _axes()[1]["offset"]])
    centres = _centres() * _PIXEL + offset
    compositions, fractions = _phases(kind)
    truth = {
        "origin": "hyperspy_lfp.data.diffraction_series, closed form with Poisson noise",
        "kind": kind,
        "material": "LiFePO4",
        "x": _composition(),
        "centre_x": centres[:, 0],
        "centre_y": centres[:, 1],
        "centre_units": "1/nm",
        "a_axis_angle": np.rad2deg(_angles()),
        "a_axis_angle_units": "degree",
    }
    if kind == "two-phase":
        truth |= {"phases": compositions[0], "molar_fraction": fractions[:, 1]}
    if beam_stop:
        left, top, right, bottom = _stop()
        edges = np.array([left, top, right, bottom]) - 0.5
        truth["beam_stop"] = edges * _PIXEL + np.tile(offset, 2)
        truth["beam_stop_units"] = "1/nm"
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in truth.items()}


def _axes():
    time = {
        "name": "time",
        "size": _FRAMES,
        "scale": _DURATION / (_FRAMES - 1),
        "units": "s",
        "navigate": True,
    }
    return [time, *_pattern.pattern_axes(_SHAPE, _PIXEL)]
