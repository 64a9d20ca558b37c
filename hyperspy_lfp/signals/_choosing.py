"""Which reflections to measure with: the noise of x that each choice would have."""

import itertools
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh

from hyperspy_lfp.kernels._arrays import to_host
from hyperspy_lfp.kernels.concentration.composition import TABULATED
from hyperspy_lfp.kernels.gpa.indexing import zone_of
from hyperspy_lfp.kernels.gpa.precision import composition_variance, strain_covariance
from hyperspy_lfp.materials._reflections import name_of, text_table
from hyperspy_lfp.signals._units import in_nanometre

#: Sine of the angle below which two reflections are taken as parallel, as `gpa` does.
_PARALLEL = np.sin(np.deg2rad(5))
#: A window counts as whole if its noise is below so many times the smallest of the frame: near an
#: edge it grows by a factor of up to seven, with whatever mask and whichever other reflections.
_WHOLE = 1.2
#: Largest relative difference between a vector and the reflection it is said to be; pixel sizes
#: in files, distortions of the scan and the crystal together.
_LENGTH = 0.15


class ReflectionChoice(NamedTuple):
    """Reflections to measure x with, and what to expect of them."""

    #: Miller indices.
    hkl: tuple
    #: Reciprocal vectors, (n, 2), as they were given: ``s.gpa(*choice.g, hkl=choice.hkl)``.
    g: np.ndarray
    #: Relative change of each spacing per unit of x.
    sensitivity: tuple
    #: Amplitude of the fringes in the lattice over the mean intensity of the frames.
    contrast: tuple
    #: Expected standard error of x at one point of the map of one frame, away from the edges.
    sigma_x: float
    #: Those of the reflections that the space group forbids.
    forbidden: tuple
    #: Resolution that this holds for, in the units of the signal axes.
    resolution: float


class ReflectionChoices(list):
    """A list of `ReflectionChoice`, best first, that prints as a table."""

    def __repr__(self):
        if not self:
            return "no choice of reflections"
        rows = [
            [
                " ".join(name_of(hkl) for hkl in choice.hkl),
                " ".join(f"{100 * s:+.2f}" for s in choice.sensitivity),
                " ".join(f"{c:.3f}" for c in choice.contrast),
                f"{choice.sigma_x:.4f}",
                "forbidden: " + " ".join(name_of(hkl) for hkl in choice.forbidden)
                if choice.forbidden
                else "",
            ]
            for choice in self
        ]
        header = ["reflections", "dlnd/dx (%)", "contrast", "sigma_x", ""]
        return text_table(header, rows)


def compare(phase, mean, material, hkl):
    """All pairs, and all reflections together, best first.

    Parameters
    ----------
    phase : GeometricPhase
        Of some frames, ``(coefficient, g, frame | x, y)``, with every reflection that is compared.
    mean : float
        Mean intensity of these frames.
    material : Material
    hkl : list of (h, k, l)
        In the order of the vectors of `phase`.
    """
    g = phase.g_vectors
    _check_lengths(g, hkl, material, in_nanometre(phase.axes_manager.signal_axes[0].units))
    error = np.moveaxis(_array(phase.precision(show_progressbar=False)), -3, 0)
    amplitude = np.moveaxis(_array(phase.amplitude), -3, 0)
    # across the planes the strain is the phase gradient over 2 pi |g|
    length = np.linalg.norm(g, axis=1)
    variance = (2 * np.pi * length.reshape(-1, *(1,) * (error.ndim - 1)) * error) ** 2
    variance = np.where(_whole(error * amplitude), variance, np.nan)
    typical = [_median(a[np.isfinite(v)]) for a, v in zip(amplitude, variance, strict=True)]
    contrast = [a / mean if mean else np.nan for a in typical]
    choices = ReflectionChoices()
    for chosen in _choices(g, hkl):
        indices = [hkl[i] for i in chosen]
        choices.append(
            ReflectionChoice(
                hkl=tuple(indices),
                g=g[chosen],
                sensitivity=tuple(float(material.sensitivity(i)) for i in indices),
                contrast=tuple(contrast[i] for i in chosen),
                sigma_x=_expected(g[chosen], indices, material, variance[chosen]),
                forbidden=tuple(i for i in indices if not material.is_allowed(i)),
                resolution=phase.resolution,
            )
        )
    # what is not known goes last, and a forbidden reflection behind every allowed one
    choices.sort(key=lambda c: (bool(c.forbidden), np.isnan(c.sigma_x), c.sigma_x))
    return choices


def _whole(noise):
    """Where windows are not cut by an edge; from the noise of the coefficients, (K, n, y, x)."""
    smallest = np.where(np.isfinite(noise), noise, np.inf).min(axis=(-2, -1), keepdims=True)
    return noise**2 <= _WHOLE * smallest**2  # nowhere, if there is no lattice in a frame


def _choices(g, hkl):
    """Places of the pairs that span the plane, and of all together."""
    unit = g / np.linalg.norm(g, axis=1, keepdims=True)
    found = []
    for i, j in itertools.combinations(range(len(g)), 2):
        sine = abs(unit[i, 0] * unit[j, 1] - unit[i, 1] * unit[j, 0])
        if sine > _PARALLEL and zone_of([hkl[i], hkl[j]]) is not None:
            found.append([i, j])
    if not found:
        raise ValueError(
            f"hkl={hkl} hold no two reflections in different directions, which a strain needs."
        )
    if len(g) > 2:
        found.append(list(range(len(g))))
    return found


def _expected(g, hkl, material, variance):
    """Median over the frames' interior of the standard error of x, with the weights of a map."""
    directions, slopes = principal_lengths(g, hkl, material)
    if np.abs(slopes).max() < 1e-9:
        raise ValueError(
            f"the lattice of {material.name} in the plane of {hkl} does not change with "
            "composition, so that x cannot be measured."
        )
    known = np.isfinite(variance).all(axis=0)
    q = strain_covariance(g, variance[:, known])
    systematic = _table_error(material, zone_of(hkl))
    return float(np.sqrt(_median(composition_variance(q, directions, slopes, systematic))))


def _table_error(material, zone):
    """Relative uncertainty of the tabulated lengths in the plane of a zone, as maps weigh it."""
    if material.uncertainty is None:
        return TABULATED
    axes = [i for i in range(3) if zone[i] == 0] or [0, 1, 2]
    return float(np.mean((np.array(material.uncertainty) / material.cell(0.0))[axes]))


def principal_lengths(g, hkl, material):
    """The perpendicular lattice directions that change most and least with x.

    Parameters
    ----------
    g : array of shape (K, 2)
        Reciprocal vectors as measured.
    hkl : sequence of K (h, k, l)
    material : Material

    Returns
    -------
    directions : array of shape (2, 2)
        Unit vectors along them in the image; rows.
    slopes : array of shape (2,)
        Relative change of length per unit of x, at the middle composition.
    """
    hkl = np.array(hkl, dtype=float)
    # lengths of lattice vectors in the plane, on the dual of two of the reflections
    spanning = _spanning(hkl)
    plane = hkl[spanning]
    ends = np.array([material.composition[0], material.composition[-1]])
    middle = ends.mean()
    step = 1e-4 * (ends[1] - ends[0])
    low, high = (_metric(plane / material.cell(middle + s)) for s in (-step, step))
    change, vectors = eigh((high - low) / (2 * step), _metric(plane / material.cell(middle)))
    # all the measured vectors, as combinations of the two
    combination = np.linalg.lstsq(plane.T, hkl.T, rcond=None)[0].T
    measured = np.linalg.lstsq(combination, np.asarray(g, dtype=float), rcond=None)[0]
    directions = vectors.T @ np.linalg.inv(measured).T
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions, change / 2


def _metric(reciprocal):
    return np.linalg.inv(reciprocal @ reciprocal.T)


def _spanning(hkl):
    """Places of two reflections in different directions."""
    for pair in itertools.combinations(range(len(hkl)), 2):
        if np.cross(*hkl[list(pair)]).any():
            return list(pair)
    raise ValueError(f"hkl={hkl.tolist()} are all parallel.")


def _check_lengths(g, hkl, material, nanometre):
    """Whether indices that were given can be those of the vectors."""
    ends = (material.composition[0], material.composition[-1])
    for vector, indices in zip(g, hkl, strict=True):
        measured = nanometre / np.linalg.norm(vector)
        expected = np.atleast_1d(material.d_spacing(indices, ends))
        low, high = expected.min() / (1 + _LENGTH), expected.max() * (1 + _LENGTH)
        if not low < measured < high:
            raise ValueError(
                f"hkl: {indices} of {material.name} has a spacing of {expected[0]:.4f} to "
                f"{expected[1]:.4f} nm, but its vector {np.round(vector, 4).tolist()} one of "
                f"{measured:.4f} nm. Check the order of the indices, the material and the pixel "
                "size."
            )


def _array(signal):
    return to_host(signal.data).astype(float)


def _median(values):
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else np.nan
