"""A small movie with exact truth, and movies that tell when they are read."""

import threading

import dask.array as da
import numpy as np
import pytest
from hyperspy.signals import Signal2D
from scipy.special import erf

from hyperspy_lfp import materials

SHAPE = (72, 88)  # (y, x), pixels
SCALE = (0.06, 0.05)  # (y, x), nm
OFFSET = (-1.0, 3.0)  # (y, x), nm
TILT = np.deg2rad(12.0)  # the a axis, counter-clockwise from x as displayed
HKL = ((1, 0, 1), (1, 0, -1))
RESOLUTION = 0.6
#: Composition of the frames of the small movie; the lattice of each is uniform.
COMPOSITION = (0.0, 0.25, 0.5, 1.0, 0.75)


def reciprocal_vectors(x=0.0, hkl=HKL):
    """(x, y) in 1/nm of the lattice at composition x."""
    cell = materials.get("LiFePO4").cell(x) / 10
    along_a = np.array([np.cos(TILT), -np.sin(TILT)])
    along_c = np.array([np.sin(TILT), np.cos(TILT)])
    return np.array([i[0] / cell[0] * along_a + i[2] / cell[2] * along_c for i in hkl])


def lattice_images(composition, shape=SHAPE, hkl=HKL, noise=20.0, seed=1):
    """Cosine fringes about 1000 with Gaussian noise, float64, (n, y, x)."""
    random = np.random.default_rng(seed)
    y = (np.arange(shape[0]) * SCALE[0] + OFFSET[0])[:, None]
    x = np.arange(shape[1]) * SCALE[1] + OFFSET[1]
    images = np.full((len(composition), *shape), 1000.0)
    for image, value in zip(images, composition, strict=True):
        for g in reciprocal_vectors(value, hkl):
            image += 250 * np.cos(2 * np.pi * (g[0] * x + g[1] * y))
    return images + noise * random.standard_normal(images.shape)


def as_movie(data, lazy=False, units="nm"):
    """An HRTEMMovie of data (..., y, x); the last navigation axis is time."""
    signal = Signal2D(data)
    if lazy:
        signal = signal.as_lazy()
    factor = {"nm": 1.0, "Å": 10.0, "m": 1e-9, "n_m": 1.0}[units]
    for axis, i in zip(signal.axes_manager.signal_axes, (1, 0), strict=True):
        axis.name = "yx"[i]
        axis.scale, axis.offset, axis.units = SCALE[i] * factor, OFFSET[i] * factor, units
    for axis, name in zip(signal.axes_manager.navigation_axes, ("time", "sample"), strict=False):
        axis.name = name
        axis.units = "s" if name == "time" else ""
        axis.scale, axis.offset = (2.5, 10.0) if name == "time" else (1.0, 0.0)
    signal.metadata.General.title = "small movie"
    signal.set_signal_type("HRTEMMovie")
    return signal


class Reader:
    """An array that is read in pieces, as a file is, and counts its frames."""

    def __init__(self, frames, broken=False):
        self.frames, self.broken = frames, broken
        self.shape, self.dtype, self.ndim = frames.shape, frames.dtype, frames.ndim
        self.counts = np.zeros(frames.shape[:-2], dtype=int)
        self.lock = threading.Lock()

    def __getitem__(self, index):
        if self.broken:
            raise RuntimeError("the movie was read")
        with self.lock:
            self.counts[index[:-2]] += 1
        return self.frames[index].copy()

    def as_dask(self, chunks=None):
        if chunks is None:
            chunks = (1,) * (self.ndim - 2) + (-1, -1)
        return da.from_array(self, chunks=chunks, meta=np.empty((0,) * self.ndim, self.dtype))


@pytest.fixture(scope="session")
def images():
    """The frames of the small movie, read only."""
    data = np.round(lattice_images(COMPOSITION)).astype(np.uint16)
    data.setflags(write=False)
    return data


@pytest.fixture
def movie(images):
    """Five frames of 88 x 72 pixels, with different scales and offsets along x and y."""
    return as_movie(images)


@pytest.fixture(scope="session")
def vectors():
    """The reciprocal vectors of FePO4 in the small movie, (x, y) in 1/nm."""
    return reciprocal_vectors()


@pytest.fixture
def broken_movie(images):
    """A lazy movie that cannot be read."""
    return as_movie(Reader(images, broken=True).as_dask(), lazy=True)


#: Of the simulated patterns: pixels (y, x), their scales in 1/nm, standard deviation of a spot.
PATTERN, PATTERN_SCALE, SPOT = (231, 250), (0.0270, 0.0255), 0.04
_CENTRE, _INDICES = (112.3, 127.8), ((2, 0, 0), (1, 0, 1), (1, 0, -1), (2, 0, 1), (2, 0, -1))


def diffraction_patterns(
    compositions,
    fractions=None,
    *,
    area=4e4,
    centre_drift=(0.35, -0.2),
    turn=0.2,
    ellipticity=0.0,
    beam=2e5,
    seed=5,
    exact=False,
):
    """Counts (n, y, x) of the [010] zone, centres (n, 2) in (y, x) pixels and angles (n,).

    `compositions` is (n,) or (n, phases), `fractions` of the intensity (n, phases). Spots are
    Gaussians integrated over pixels, on a background that falls off from the centre. The centre
    moves by `centre_drift` pixels a frame, the crystal turns by `turn` degrees.
    """
    random = np.random.default_rng(seed)
    compositions = np.atleast_2d(np.asarray(compositions, dtype=float).T).T
    fractions = np.ones_like(compositions) if fractions is None else np.asarray(fractions)
    frames = np.arange(len(compositions))
    centres = np.array(_CENTRE) + frames[:, None] * centre_drift
    angles = TILT + np.deg2rad(turn) * frames
    rows, columns = np.ogrid[: PATTERN[0], : PATTERN[1]]
    images = np.empty((len(frames), *PATTERN))
    for image, at, angle, x, f in zip(
        images, centres, angles, compositions, fractions, strict=True
    ):
        k = np.hypot((rows - at[0]) * PATTERN_SCALE[0], (columns - at[1]) * PATTERN_SCALE[1])
        image[...] = 30 + 200 * np.exp(-k / 0.8) + _spot_image(at, beam)
        for value, part in zip(x, f, strict=True):
            for g in _zone_vectors(value, angle):
                g = g * [1 + ellipticity / 2, 1 - ellipticity / 2]
                for sign in (1, -1):
                    image += _spot_image(at + sign * g[::-1] / PATTERN_SCALE, area * part)
    return (images if exact else random.poisson(images).astype(np.uint32)), centres, angles


def _zone_vectors(x, angle):
    cell = materials.get("LiFePO4").cell(x) / 10
    along_a, along_c = (np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))
    return [h / cell[0] * np.array(along_a) + m / cell[2] * np.array(along_c)
            for h, _, m in _INDICES]  # fmt: skip


def _spot_image(at, area):
    parts = []
    for n, c, scale in zip(PATTERN, at, PATTERN_SCALE, strict=True):
        edges = (np.arange(n + 1) - 0.5 - c) * scale / (SPOT * np.sqrt(2))
        parts.append(np.diff(erf(edges)) / 2)
    return area * np.outer(*parts)


def as_diffraction(data, lazy=False, units="1/nm", factor=1.0):
    """A DiffractionSeries of data (..., y, x); the last navigation axis is time."""
    signal = Signal2D(data)
    signal = signal.as_lazy() if lazy else signal
    for axis, i in zip(signal.axes_manager.signal_axes, (1, 0), strict=True):
        axis.name = ("ky", "kx")[i]
        axis.scale, axis.offset = PATTERN_SCALE[i] * factor, (-3.1, -3.3)[i] * factor
        axis.units = units
    for axis, name in zip(signal.axes_manager.navigation_axes, ("time", "sample"), strict=False):
        axis.name, axis.units = name, "s" if name == "time" else ""
        axis.scale, axis.offset = (2.5, 10.0) if name == "time" else (1.0, 0.0)
    signal.metadata.General.title = "small series"
    signal.set_signal_type("DiffractionSeries")
    return signal


class Helpers:
    """What conftest has to offer to tests, which cannot import it."""

    composition = np.array(COMPOSITION)
    hkl = HKL
    tilt = TILT
    resolution = RESOLUTION
    shape = SHAPE
    scale = SCALE
    Reader = Reader
    as_movie = staticmethod(as_movie)
    lattice_images = staticmethod(lattice_images)
    reciprocal_vectors = staticmethod(reciprocal_vectors)
    pattern_shape, pattern_scale, spot_sigma = PATTERN, np.array(PATTERN_SCALE), SPOT
    diffraction_patterns = staticmethod(diffraction_patterns)
    as_diffraction = staticmethod(as_diffraction)
    zone_vectors = staticmethod(_zone_vectors)

    @staticmethod
    def steps(movie, vectors, **kwargs):
        """One signal of every class, by name; a Material of our own is on the way."""
        import hyperspy.api as hs

        phase = movie.gpa(*vectors, resolution=RESOLUTION, **kwargs)
        region = hs.roi.RectangularROI(4.0, -0.5, 6.0, 1.5)
        concentration = phase.to_concentration("LiFePO4", **kwargs)
        series = movie.to_diffraction_series(k_max=4.0, padding=3, **kwargs)
        profile = series.track_spot_profile(vectors[0], width=0.5, length=1.2, **kwargs)
        return {
            "HRTEMMovie": movie,
            "GeometricPhase": phase,
            "DisplacementField": phase.displacement(region, 0, **kwargs),
            "LatticeStrain": phase.strain(region, angle=12.0, definition="finite", **kwargs),
            "ConcentrationMap": concentration,
            "ConcentrationEvolution": concentration.evolution(
                {"all": region, "disc": hs.roi.CircleROI(5.0, 0.5, 1.0)}, **kwargs
            ),
            "DiffractionSeries": series,
            "SpotProfile": profile,
            "SpotTrack": profile.fit(peaks=1, **kwargs),
        }


@pytest.fixture(scope="session")
def helpers():
    return Helpers
