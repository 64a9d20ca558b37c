"""Accuracy, noise, time and memory of GPA beside what else the package index offers.

Run ``python benchmarks/comparison.py``; ``--quick`` takes 20 s. Peers that are not installed
get a row that says so: ``pip install holospy kemstem libertem-holo``. All rows are measured in one
run, on one thread, on the same frames, whose strain is known in closed form. Times are in units of
one ``scipy.fft.rfft2`` of the frame in float32, memory in units of the frame in float32: absolute
numbers belong to the machine. See README.md in this folder for what the columns mean.
"""

import argparse
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

# before NumPy is imported, which reads them
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import scipy.fft
from scipy.special import factorial

SPACING = 10.3  # pixels
CONTRAST = 0.2  # of each of the two sets of fringes
DOSE = 100  # electrons a pixel
SIGMA = 10.0  # pixels; standard deviation of the Gaussian window
#: Degrees; no g lies on an axis or on a pixel of the Fourier transform.
ORIENTATION = 17.3
#: What a border does to GPA depends on how the lattice meets it, by an order of magnitude.
BORDER_ORIENTATIONS = np.linspace(0, 45, 6)
#: Deformation gradient of the strained lattice: 2 %, -1 %, shear and rotation.
F = np.array([[1.02, 0.008], [-0.004, 0.99]])
#: Gaussian displacement field: amplitude (x, y) and width, in pixels. Up to 3 % of strain.
PUSH, WIDTH = np.array([2.0, 1.2]), 4 * SIGMA


class Maps(NamedTuple):
    """Strain maps of a stack of frames, on the grid of the method that made them."""

    strain: np.ndarray  # (frame, component, y, x): exx, eyy, exy, rotation
    y: np.ndarray  # pixels of the frame
    x: np.ndarray


# --- frames and their exact strain ---


def reciprocal_lattice(degrees=ORIENTATION):
    """Reciprocal vectors of the square lattice, (x, y) order, 1/pixel."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s], [s, c]]) / SPACING


def fringes(size, g, displacement=None):
    """DOSE * (1 + C cos 2 pi g1.(r - u) + C cos 2 pi g2.(r - u)), float64."""
    y, x = np.mgrid[:size, :size].astype(float)
    if displacement is not None:
        ux, uy = displacement(x, y)
        x, y = x - ux, y - uy
    waves = sum(np.cos(2 * np.pi * (gx * x + gy * y) + 0.3) for gx, gy in g)
    return DOSE * (1 + CONTRAST * waves)


def noisy_movie(size, g, n_frames):
    """Counts of DOSE electrons a pixel, uint16."""
    random = np.random.default_rng(0)
    return random.poisson(fringes(size, g), (n_frames, size, size)).astype(np.uint16)


def bump(size):
    """The displacement field PUSH * exp(-r^2 / 2 WIDTH^2) about the centre of the frame."""
    centre = (size - 1) / 2

    def displacement(x, y):
        squared = (x - centre) ** 2 + (y - centre) ** 2
        return PUSH[:, None, None] * np.exp(-squared / (2 * WIDTH**2))

    return displacement


def bump_truth(size, g, sigma, y, x):
    """Strain of the bump as an ideal Gaussian window of `sigma` sees it.

    The lock-in smooths exp(iP), not P. With P = b G this is the sum of (ib)^n / n! G^n, and a
    Gaussian smoothed with a Gaussian is a Gaussian: closed form, without any discretisation.
    """
    dy, dx = np.meshgrid(y - (size - 1) / 2, x - (size - 1) / 2, indexing="ij")
    squared = dx**2 + dy**2
    gradients = []
    for vector in g:
        strength = -2 * np.pi * (vector @ PUSH)
        value, slope = 1.0, 0.0
        for n in range(1, 20):
            narrow = WIDTH**2 / n
            wide = narrow + sigma**2
            term = (1j * strength) ** n / factorial(n) * narrow / wide
            term = term * np.exp(-squared / (2 * wide))
            value, slope = value + term, slope - term / wide
        along = (slope / value).imag
        gradients.append([dx * along, dy * along])
    return components(distortion(np.array(gradients), g))


# --- from phases to strain: shared by every row whose package does not do it itself ---


def distortion(gradients, g):
    """e = -(1/2 pi) G^-1 grad P, Eulerian, from gradients (reflection, x or y, ...)."""
    return -np.einsum("ik,kj...->ij...", np.linalg.inv(g), gradients) / (2 * np.pi)


def components(e):
    """exx, eyy, exy (tensor shear) and rotation (counter-clockwise as displayed, y down)."""
    (xx, xy), (yx, yy) = e
    return np.stack([xx, yy, (xy + yx) / 2, (xy - yx) / 2])


def wave_gradient(wave, step):
    """Phase differences over a pixel (x, y) of a band-limited wave on a grid of `step` pixels.

    From the Fourier derivative, since samples this far apart say too little about what is between
    them. The difference is bounded where the amplitude vanishes, unlike Im(slope / wave).
    """
    ky, kx = (2j * np.pi * scipy.fft.fftfreq(n, s) for n, s in zip(wave.shape, step, strict=True))
    spectrum = scipy.fft.fft2(wave)
    slopes = (scipy.fft.ifft2(spectrum * k) for k in (kx, ky[:, None]))
    return np.stack([np.angle((wave + slope / 2) * (wave - slope / 2).conj()) for slope in slopes])


# --- the methods: frames (n, y, x), g (2, 2) in (x, y) order and 1/pixel, sigma -> Maps ---


def hyperspy_lfp(frames, g, sigma, step=None):
    """`resolution` is sigma. Eulerian, as everywhere here, since the others know nothing else."""
    from hyperspy_lfp.signals import HRTEMMovie

    movie = HRTEMMovie(frames if len(frames) > 1 else frames[0])
    movie.axes_manager.signal_axes.set(scale=1.0, units="nm")
    keywords = dict(show_progressbar=False, num_workers=1)
    phase = movie.gpa(*g, resolution=sigma, step=step, **keywords)
    strain = phase.strain(definition="eulerian", **keywords)
    x, y = (axis.axis for axis in strain.axes_manager.signal_axes)
    return Maps(strain.data.reshape(len(frames), 4, len(y), len(x)), y, x)


def hyperspy_lfp_pixel(frames, g, sigma):
    """With a sample at every pixel, as the packages give it that work by whole FFTs."""
    return hyperspy_lfp(frames, g, sigma, step="pixel")


def textbook(frames, g, sigma):
    """Whole FFT, Gaussian mask of sigma_k = 1/(2 pi sigma), phase differences of neighbours."""
    shape = frames.shape[1:]
    y, x = np.indices(shape)
    ky, kx = np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij")
    masks = [np.exp(-2 * (np.pi * sigma) ** 2 * ((kx - a) ** 2 + (ky - b) ** 2)) for a, b in g]
    carriers = [np.exp(-2j * np.pi * (a * x + b * y)) for a, b in g]
    strain = []
    for frame in frames:
        spectrum = np.fft.fft2(frame - frame.mean())  # or the mean leaks into the masks
        gradients = np.empty((2, 2, *shape))
        for k in range(2):
            wave = np.fft.ifft2(spectrum * masks[k]) * carriers[k]
            for j, axis in ((0, 1), (1, 0)):
                gradients[k, j] = _central_difference(wave, axis)
        strain.append(components(distortion(gradients, g)))
    return Maps(np.array(strain), np.arange(shape[0]), np.arange(shape[1]))


def _central_difference(wave, axis):
    """Phase difference from products, which need no unwrapping; one-sided at the two ends."""
    w = np.moveaxis(wave, axis, 0)
    difference = np.empty(w.shape)
    difference[1:-1] = np.angle(w[2:] * w[:-2].conj()) / 2
    difference[0] = np.angle(w[1] * w[0].conj())
    difference[-1] = np.angle(w[-1] * w[-2].conj())
    return np.moveaxis(difference, 0, axis)


def kemstem(frames, g, sigma):
    """Its filter has a width in pixels of the Fourier transform: size / (2 pi sigma).

    Square frames only, since that width is one number. Its Hann window and its periodic-plus-smooth
    decomposition, both against edge effects, were tried: neither lowers the errors here.
    """
    from kemstem import fourier

    size = frames.shape[-1]
    spots = [(b * size + size / 2, a * size + size / 2) for a, b in g]
    strain = []
    for frame in frames:
        spectrum = np.fft.fftshift(np.fft.fft2(frame - frame.mean()))
        phases = []
        for spot in spots:
            wave, _, _ = fourier.fourier_filter(spectrum, spot, size / (2 * np.pi * sigma))
            phases.append(fourier.gpa(wave, spot))
        xx, yy, xy, rotation = fourier.calculate_strain_tensor(*phases, *spots)
        strain.append([xx, yy, xy, rotation])  # its rotation has our sign
    return Maps(np.array(strain), np.arange(size), np.arange(size))


def _band(shape, sigma):
    """Even sizes of the Fourier transform that hold 6 sigma_k to both sides of a spot."""
    return tuple(min(n, 2 * int(np.ceil(6 * n / (2 * np.pi * sigma)))) for n in shape)


def _lockin_strain(waves, centres, shape, g):
    """Strain from waves that are demodulated with whole pixels `centres` (y, x) of the FFT."""
    step = [n / m for n, m in zip(shape, waves[0].shape, strict=True)]
    gradients = np.array([wave_gradient(wave, step) for wave in waves])
    for gradient, vector, (cy, cx) in zip(gradients, g, centres, strict=True):
        rest = np.array([cx / shape[1], cy / shape[0]]) - vector
        gradient += 2 * np.pi * rest[:, None, None]
    return components(distortion(gradients, g))


def _centres(shape, g):
    return [tuple(int(np.rint(f * n)) for f, n in zip(v[::-1], shape, strict=True)) for v in g]


def _grid(shape, band):
    return [np.arange(m) * (n / m) for n, m in zip(shape, band, strict=True)]


def libertem_holo(frames, g, sigma):
    """Takes any aperture: a Gaussian of sigma_k about the spot, off the whole pixel by its rest."""
    from libertem_holo.base.reconstr import reconstruct_frame
    from libertem_holo.base.utils import get_slice_fft

    shape = frames.shape[1:]
    band, centres = _band(shape, sigma), _centres(shape, g)
    ky, kx = (scipy.fft.fftfreq(m, n / m) for n, m in zip(shape, band, strict=True))
    apertures = []
    for (a, b), (cy, cx) in zip(g, centres, strict=True):
        squared = (kx + cx / shape[1] - a) ** 2 + (ky + cy / shape[0] - b)[:, None] ** 2
        apertures.append(np.exp(-2 * (np.pi * sigma) ** 2 * squared))
    strain = []
    for frame in frames:
        centred = frame - frame.mean()
        # it rolls the spectrum by sb_pos: the opposite sideband brings g to the middle
        waves = [
            reconstruct_frame(centred, (-cy, -cx), aperture, get_slice_fft(band, shape))
            for aperture, (cy, cx) in zip(apertures, centres, strict=True)
        ]
        strain.append(_lockin_strain(waves, centres, shape, g))
    return Maps(np.array(strain), *_grid(shape, band))


#: Radius and smoothness of holospy's aperture, 1 - tanh(2 (k - radius) / smoothness), in units of
#: sigma_k: least squares fit to the Gaussian in the plane, 1.6 % off. Strain noise of the two
#: differs by 2 %.
_HOLOSPY_RADIUS, _HOLOSPY_SMOOTHNESS = 1.094, 1.806


def holospy(frames, g, sigma):
    """One reconstruction for each g, with the aperture nearest to a Gaussian that it has."""
    from holospy.signals import HologramImage

    shape = frames.shape[1:]
    band, centres = _band(shape, sigma), _centres(shape, g)
    sigma_k = np.mean(shape) / (2 * np.pi * sigma)  # pixels of the Fourier transform
    strain = []
    for frame in frames:
        hologram = HologramImage(frame - frame.mean())
        waves = [
            hologram.reconstruct_phase(
                sb_position=(-cy, -cx),  # see libertem_holo
                sb_size=_HOLOSPY_RADIUS * sigma_k,
                sb_smoothness=_HOLOSPY_SMOOTHNESS * sigma_k,
                output_shape=band,
                show_progressbar=False,
                num_workers=1,
            ).data
            for cy, cx in centres
        ]
        strain.append(_lockin_strain(waves, centres, shape, g))
    return Maps(np.array(strain), *_grid(shape, band))


class Method(NamedTuple):
    """A row: what is called, and the distribution that provides it (None: this file)."""

    run: object
    distribution: str | None


METHODS = {
    "hyperspy_lfp": Method(hyperspy_lfp, "hyperspy_lfp"),
    "hyperspy_lfp, step='pixel'": Method(hyperspy_lfp_pixel, "hyperspy_lfp"),
    "LiberTEM-holo as lock-in": Method(libertem_holo, "libertem-holo"),
    "textbook, NumPy": Method(textbook, None),
    "kemstem": Method(kemstem, "kemstem"),
    "holospy as lock-in": Method(holospy, "holospy"),
}


# --- what is measured ---


def rms(values):
    """Over everything; a single NaN shows."""
    return np.sqrt(np.mean(np.asarray(values, dtype=float) ** 2))


def to_border(maps, size):
    """Distance of every sample to the border, in pixels."""
    y, x = (np.minimum(p, size - 1 - p) for p in (maps.y, maps.x))
    return np.minimum(y[:, None], x)


def strained_errors(method, size, degrees):
    """Errors (component, y, x) on a lattice deformed by F, and distances to the border."""
    g = reciprocal_lattice(degrees)
    maps = method.run(fringes(size, g @ np.linalg.inv(F))[None], g, SIGMA)
    truth = components(np.eye(2) - np.linalg.inv(F))
    return maps.strain[0] - truth[:, None, None], to_border(maps, size)


def accuracy(method, size, n_frames):
    """Errors of strain: interior, border (median, worst), bump, and noise / bound."""
    g = reciprocal_lattice()
    error, distance = strained_errors(method, size, ORIENTATION)
    interior = rms(error[:, distance > 4 * SIGMA])

    borders = []
    for degrees in BORDER_ORIENTATIONS:
        error, distance = strained_errors(method, size, degrees)
        borders.append(rms(error[:, distance < 2 * SIGMA]))

    bumped = method.run(fringes(size, g, bump(size))[None], g, SIGMA)
    off = np.hypot(bumped.y[:, None] - (size - 1) / 2, bumped.x - (size - 1) / 2)
    error = bumped.strain[0] - bump_truth(size, g, SIGMA, bumped.y, bumped.x)
    smooth = rms(error[:, (off < 3 * WIDTH) & (to_border(bumped, size) > 4 * SIGMA)])

    noisy = method.run(noisy_movie(size, g, n_frames), g, SIGMA)
    xx, yy, xy, _ = np.moveaxis(noisy.strain[..., to_border(noisy, size) > 4 * SIGMA], 1, 0)
    across = [nx**2 * xx + ny**2 * yy + 2 * nx * ny * xy for nx, ny in g * SPACING]
    bound = SPACING / (4 * np.pi**1.5 * SIGMA**2 * CONTRAST * np.sqrt(DOSE))
    return interior, np.median(borders), np.max(borders), smooth, rms(across) / bound


def duration(method, movie, sigma, repeats):
    """Time a frame, in units of one rfft2 in float32, shortest of each, taken in turn."""
    g = reciprocal_lattice()
    images = movie.astype(np.float32)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for image in images:
            scipy.fft.rfft2(image)
        middle = time.perf_counter()
        method.run(movie, g, sigma)
        times.append((middle - start, time.perf_counter() - middle))
    fft, own = np.min(times, axis=0)
    return own / fft


def memory(name, frame):
    """Memory that one frame needs on top, in units of the frame in float32.

    In a process of its own, which reads the frame from a file, so that only the method adds to it.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frame.npy"
        np.save(file, frame)
        command = [sys.executable, __file__, "--memory-of", name, str(file)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(answer.split()[-1]) / (4 * frame.size)


def print_memory(name, file):
    """The other side of `memory`: prints the growth of the largest resident memory, bytes."""
    g, method = reciprocal_lattice(), METHODS[name]
    frame = np.load(file)[None]
    method.run(frame[:, :256, :256], g, SIGMA)  # imports what it needs, fills its caches
    before = largest_memory(reset=True)
    method.run(frame, g, SIGMA)
    print(largest_memory() - before)


def largest_memory(reset=False):
    """Largest resident memory of this process, bytes; `reset` to what it is now where possible."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss of Linux remembers the parent, which may be the larger, across fork and exec
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        line = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


# --- the table ---


def version(method):
    """Of what is installed; an empty string for what is not, or for this file."""
    if method.distribution is None:
        return np.__version__
    try:
        return importlib.metadata.version(method.distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def row(name, options):
    """The cells of one method."""
    method = METHODS[name]
    found = version(method)
    columns = 6 + 2 * len(options.sizes)
    if not found:
        return [name, "not installed", *[""] * columns]
    *errors, noise = accuracy(method, options.sizes[0], options.frames)
    cells = [name, found, *(f"{error:.1e}" for error in errors), f"{noise:.2f}"]
    g = reciprocal_lattice()
    for size in options.sizes:
        movie = noisy_movie(size, g, options.frames)
        for sigma in (10.0, 40.0):
            cells.append(f"{duration(method, movie, sigma, options.repeats):.3g}")
    cells.append(f"{memory(name, movie[0]):.3g}")
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument("--frames", type=int, default=8, help="frames a movie")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--quick", action="store_true", help="one size of 512, one repeat")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.memory_of:
        print_memory(*options.memory_of)
        return
    if options.quick:
        options.sizes, options.frames, options.repeats = [512], 2, 1
    header = ["", "version", "interior", "border", "worst border", "bump", "noise / bound"]
    header += [f"time {n}², σ {s}" for n in options.sizes for s in (10, 40)]
    header.append(f"memory {options.sizes[-1]}²")
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for name in options.methods:
        print("| " + " | ".join(row(name, options)) + " |", flush=True)


if __name__ == "__main__":
    main()
