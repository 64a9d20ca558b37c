"""What the methods of `SpotTrack` do to fitted parameters, blocks of shape (n, parameter, time)."""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels.patterns.profile_moments import d_spacing, size_and_strain
from hyperspy_lfp.kernels.peaks import phases
from hyperspy_lfp.signals._peak_blocks import PARAMETERS

#: Quantities that need no model.
MOMENTS = ("centroid", "spread", "skewness", "content")


class Reflection(NamedTuple):
    """A reflection of a material against composition."""

    d: np.ndarray  # (m,) spacings in nm, increasing
    x: np.ndarray  # (m,) their compositions
    strength: np.ndarray | None  # (m,) intensity of a mole, thin crystal; None without atoms
    name: str


class _Rows:
    """The parameters of a block by name, each (n, time)."""

    def __init__(self, block):
        self.block = block

    def __getitem__(self, name):
        return self.block[:, PARAMETERS.index(name)]

    def pair(self, name):
        """A parameter of both peaks and its error, (n, time, 2) each."""
        return tuple(
            np.stack([self[f"pair_{name}_{i}{end}"] for i in (1, 2)], axis=-1)
            for end in ("", "_error")
        )

    @property
    def two(self):
        return self["n_peaks"] == 2

    def values(self, name):
        """A quantity and its standard error, (n, time), of the peaks that count."""
        if name in MOMENTS:
            return self[name], self[f"{name}_error"]
        if name in ("n_peaks", "reduced_chi_square"):
            return self[name], np.full_like(self[name], np.nan)
        if name.startswith("d_spacing"):
            return d_spacing(*self.values(name.replace("d_spacing", "position")))
        base = name.removesuffix("_2")
        second = name.endswith("_2")
        pair = "pair_eta" if base == "eta" else f"pair_{base}_{2 if second else 1}"
        found = []
        for end in ("", "_error"):
            single = np.nan if second else self[f"single_{base}{end}"]
            found.append(np.where(self.two, self[pair + end], single))
        return tuple(found)


def quantity_block(block, quantity):
    """A quantity and its standard error, (n, 2, time)."""
    return np.stack(_Rows(block).values(quantity), axis=1)


def size_block(block, instrument):
    """Size, its error, relative breadth and its error, (n, 4, time)."""
    rows = _Rows(block)
    position, eta = rows.values("position")[0], rows.values("eta")[0]
    return np.stack(size_and_strain(position, *rows.values("fwhm"), eta, instrument), axis=1)


def fraction_block(block, reflection, ratio):
    """Fraction of the second peak and its error, (n, 2, time); of intensity without a reflection.

    NaN where there is one peak only.
    """
    rows = _Rows(block)
    if reflection is None:
        f, error = phases.intensity_fraction(*rows.pair("area"), rows["area_covariance"])
    else:
        x = [_compositions(rows, which, reflection, 1.0)[0] for which in ("", "_2")]
        f, error, _ = _moles(rows, x, reflection, ratio)
    return np.where(rows.two[:, None], np.stack([f, error], axis=1), np.nan)


def concentration_block(block, reflection, ratio, frame, reference):
    """Composition from spacings, (n, 7, time).

    Mean and its variance, that of both phases and their variances, and the ratio of intensities
    that the mean was weighed with. `frame` is the pattern whose spacing is `reference`.
    """
    rows = _Rows(block)
    scale = 1.0 if frame is None else reference / rows.values("d_spacing")[0][:, [frame]]
    phase = [_compositions(rows, which, reflection, scale) for which in ("", "_2")]
    x, error = (np.stack(part, axis=-1) for part in zip(*phase, strict=True))
    f, f_error, used = _moles(rows, [p[0] for p in phase], reflection, ratio)
    mixture = phases.mean_composition(f, f_error, x, error)
    mean, mean_error = (np.where(rows.two, m, p) for m, p in zip(mixture, phase[0], strict=True))
    parts = [mean, mean_error**2, x[..., 0], x[..., 1], error[..., 0] ** 2, error[..., 1] ** 2]
    return np.stack([*parts, used], axis=1)


def _compositions(rows, which, reflection, scale):
    """x and its error from the spacings of the first or second peak."""
    d, error = (v * scale for v in rows.values(f"d_spacing{which}"))
    x = np.interp(d, reflection.d, reflection.x, left=np.nan, right=np.nan)
    slope = np.abs(np.gradient(reflection.x, reflection.d))
    return x, error * np.interp(d, reflection.d, slope)


def _moles(rows, compositions, reflection, ratio):
    """Molar fraction of the second phase, its error, and the ratio of intensities used."""
    two = rows.two
    used = np.full(two.shape, np.nan)
    if ratio is not None:
        used[...] = ratio
    elif two.any():
        if reflection.strength is None:
            raise ValueError(
                f"there are two peaks, and the intensities of {reflection.name} cannot be computed "
                "(it has no atoms, or the reflection is forbidden): give `ratio`, of the "
                "intensities of a mole of both phases."
            )
        order = np.argsort(reflection.x)
        x, strength = reflection.x[order], reflection.strength[order]
        for i in np.flatnonzero(two.any(axis=1)):
            # of the phases that were seen, not of each pattern's noise
            known = [c[i, two[i]] for c in compositions]
            known = [c[np.isfinite(c)] for c in known]
            if all(c.size for c in known):
                first, second = (np.interp(np.median(c), x, strength) for c in known)
                used[i] = second / first
    safe = np.where(np.isfinite(used), used, 1.0)
    f, error = phases.molar_fraction(*rows.pair("area"), safe, covariance=rows["area_covariance"])
    unknown = ~two | ~np.isfinite(used)
    return np.where(unknown, np.nan, f), np.where(unknown, np.nan, error), used
