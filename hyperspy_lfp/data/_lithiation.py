"""A small lithiation movie with exact truth, computed from a closed form.

A particle of 12.5 x 11 nm takes up lithium at 18C. One corner (domain 1) runs ahead, gives lithium
back while the particle as a whole goes on filling, and then fills up: concentration reversal.
The composition is prescribed, not the result of any physical model, and every number here is this
package's own choice. The lattice follows it by Vegard's law at every point: in material
coordinates R = (X, Z) along a and c, with FePO4 as the reference,
du_a/dX = eps_a x and du_c/dZ = eps_c x.
"""

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import map_coordinates, spline_filter

from hyperspy_lfp import materials
from hyperspy_lfp.signals import ConcentrationMap, HRTEMMovie

_SHAPE = (288, 320)  # (y, x), pixels
_PIXEL = 0.05  # nm
_FRAMES = 12
_DURATION = 200.0  # s: 18C
_HALF = (6.25, 5.5)  # half axes of the particle along a and c, nm
_TILT = np.deg2rad(12.0)  # a axis, counter-clockwise from x as displayed
_DOSE = 400.0  # electrons per pixel in vacuum
_SEED = 20180126
#: hkl and fringe amplitudes at x = 0 and 1; (200) fades with lithiation, as it does in LixFePO4
_FRINGES = (
    ((1, 0, 1), 0.24, 0.17),
    ((1, 0, -1), 0.24, 0.17),
    ((2, 0, 0), 0.16, 0.05),
    ((2, 0, 1), 0.08, 0.07),
    ((2, 0, -1), 0.08, 0.07),
)
#: Composition of domain 1 against the fraction of time, and its share of the particle.
_DOMAIN = ((0, 0.15, 0.3, 0.5, 0.75, 1), (0, 0.35, 0.55, 0.4, 0.7, 1))
_SHARE = 0.25
_FINE = 0.1  # nm, grid on which the displacement is integrated
_REACH = 8.0  # nm, half side of that grid


def lithiation_movie():
    """A lithiation movie of one particle, with noise and drift.

    12 frames of 320 x 288 pixels of 0.05 nm, uint16 counts at 400 electrons a pixel; the a axis
    lies 12 degrees counter-clockwise from x. Frame 0 is FePO4. `lithiation_truth` is its exact
    composition.

    Returns
    -------
    HRTEMMovie
        ``(time | x, y)``.

    Examples
    --------
    >>> from hyperspy_lfp import data
    >>> data.lithiation_movie()
    <HRTEMMovie, title: lithiation movie, dimensions: (12|320, 288)>
    """
    random = np.random.default_rng(_SEED)
    frames = np.empty((_FRAMES, *_SHAPE), dtype=np.uint16)
    for frame, fraction, drift in zip(frames, _fractions(), _drifts(), strict=True):
        frame[...] = random.poisson(_intensity(fraction, drift))
    signal = HRTEMMovie(frames, axes=_axes())
    signal.metadata.General.title = "lithiation movie"
    signal.metadata.set_item("Signal.quantity", "electrons (Counts)")
    signal.metadata.set_item(
        "HyperspyLFP.Provenance",
        {
            "origin": "hyperspy_lfp.data.lithiation_movie, closed form with Poisson noise",
            "material": "LiFePO4",
            "drift_x": [float(d[0]) for d in _drifts()],
            "drift_y": [float(d[1]) for d in _drifts()],
            "drift_units": "nm",
            "a_axis_angle": float(np.rad2deg(_TILT)),
            "a_axis_angle_units": "degree",
        },
    )
    return signal


def lithiation_truth():
    """The exact composition of `lithiation_movie`, at its pixels.

    Returns
    -------
    ConcentrationMap
        ``(time | x, y)``, NaN outside the particle.

    Examples
    --------
    >>> from hyperspy_lfp import data
    >>> data.lithiation_truth()
    <ConcentrationMap, title: true Li concentration, dimensions: (12|320, 288)>
    """
    maps = np.empty((_FRAMES, *_SHAPE), dtype=np.float32)
    for out, fraction, drift in zip(maps, _fractions(), _drifts(), strict=True):
        x, z = _material_coordinates(fraction, drift)
        out[...] = np.where(_outline(x, z) < 1, _composition(fraction, x, z), np.nan)
    signal = ConcentrationMap(maps, axes=_axes())
    signal.metadata.General.title = "true Li concentration"
    signal._record(
        "ConcentrationMap",
        material=materials.get("LiFePO4").to_dictionary(),
        method="truth",
        resolution=0.0,
        resolution_units="nm",
    )
    return signal


def _fractions():
    return np.arange(_FRAMES) / (_FRAMES - 1)


def _drifts():
    """(x, y) in nm: a slow curve."""
    t = _fractions()
    return np.stack([0.35 * np.sin(4.1 * t), -0.5 * t + 0.2 * np.sin(7.3 * t)], axis=-1)


def _composition(fraction, x, z):
    ahead = float(PchipInterpolator(*_DOMAIN)(fraction))
    behind = (fraction - _SHARE * ahead) / (1 - _SHARE)
    # a corner with soft borders; its share of the particle is about _SHARE
    weight = 1 / (1 + np.exp((x + 0.1) / 0.9)) / (1 + np.exp((z + 0.1) / 0.9))
    return behind + (ahead - behind) * weight


def _displacement(fraction):
    """Spline coefficients of u_a and u_c on the fine grid of material coordinates (z, x)."""
    at = np.arange(-_REACH, _REACH + _FINE / 2, _FINE)
    z, x = np.meshgrid(at, at, indexing="ij")
    composition = _composition(fraction, x, z)
    cell = materials.get("LiFePO4").cell([0.0, 1.0])
    strain = cell[1] / cell[0] - 1
    middle = len(at) // 2
    fields = []
    for axis, eps in ((1, strain[0]), (0, strain[2])):
        mid = (
            np.take(composition, range(1, len(at)), axis)
            + np.take(composition, range(len(at) - 1), axis)
        ) / 2
        integral = np.insert(np.cumsum(mid, axis=axis) * _FINE, 0, 0.0, axis=axis)
        origin = np.take(integral, [middle], axis)
        fields.append(spline_filter(eps * (integral - origin)))
    return fields


def _material_coordinates(fraction, drift):
    """Where in the undeformed particle each pixel is: (X, Z) in nm."""
    y, x = (np.arange(n) * _PIXEL for n in _SHAPE)
    dx = x[None, :] - x.mean() - drift[0]
    dy = y[:, None] - y.mean() - drift[1]
    c, s = np.cos(_TILT), np.sin(_TILT)
    along_a, along_c = c * dx - s * dy, s * dx + c * dy
    u_a, u_c = _displacement(fraction)
    big_x, big_z = along_a, along_c
    for _ in range(6):  # r = R + u(R) contracts by the largest strain, 5 %, each time
        at = np.stack([(big_z + _REACH) / _FINE, (big_x + _REACH) / _FINE])
        big_x, big_z = (
            along_a - map_coordinates(u_a, at, mode="nearest", prefilter=False),
            along_c - map_coordinates(u_c, at, mode="nearest", prefilter=False),
        )
    return big_x, big_z


def _outline(x, z):
    """A rounded rectangle: below one inside."""
    return (np.abs(x) / _HALF[0]) ** 4 + (np.abs(z) / _HALF[1]) ** 4


def _intensity(fraction, drift):
    x, z = _material_coordinates(fraction, drift)
    composition = _composition(fraction, x, z)
    inside = 1 / (1 + np.exp((_outline(x, z) ** 0.25 - 1) * 40))
    a, _, c = materials.get("LiFePO4").cell(0.0) / 10
    fringes = sum(
        (at_0 + (at_1 - at_0) * composition) * np.cos(2 * np.pi * (hkl[0] * x / a + hkl[2] * z / c))
        for hkl, at_0, at_1 in _FRINGES
    )
    return _DOSE * (1 + inside * (fringes - 0.08))


def _axes():
    time = {
        "name": "time",
        "size": _FRAMES,
        "scale": _DURATION / (_FRAMES - 1),
        "units": "s",
        "navigate": True,
    }
    image = [
        {"name": name, "size": size, "scale": _PIXEL, "units": "nm", "navigate": False}
        for name, size in zip("yx", _SHAPE, strict=True)
    ]
    return [time, *image]
