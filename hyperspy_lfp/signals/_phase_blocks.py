"""What each step after the geometric phase does to a block of frames.

Between a signal's method and the kernels: these run in the threads or processes of dask, and see
to it that the intermediate maps of a kernel fit into the cache of a processor.
"""

import numpy as np

from hyperspy_lfp.kernels._arrays import get_array_module
from hyperspy_lfp.kernels.gpa import lattice
from hyperspy_lfp.kernels.gpa.displacement import displacement

#: Samples of the maps that are converted at a time: twenty intermediate maps fit into 2 MiB.
_PART = 16384


def displacement_block(block, ref, start=None, **kwargs):
    """Kernel of `displacement`; a name of our own, since the kernel takes `reference`."""
    return displacement(block, reference=ref[..., :2, :, :], start=start, **kwargs)


def whole_groups(chunks, n):
    """Chunks of whole groups of n, about as large as those given."""
    size = max(n, max(chunks) // n * n)
    total = sum(chunks) // n * n
    return tuple(min(size, total - start) for start in range(0, total, size))


def precision_block(block, g, sigma, threshold):
    """Standard error of the strain across the planes, (n, K, y, x)."""
    return lattice.precision(block, g, sigma, threshold)


def strain_block(block, ref, g, sigma, threshold, angle, definition):
    """Strain, its variance and its covariance with exy, stacked: (n, 12, y, x)."""

    def convert(part, reference, typical):
        e, q = lattice.deformation(part, g, sigma, reference, threshold, typical)
        f = None if definition == "eulerian" else lattice.deformation_gradient(e)
        strain = lattice.strain_components(e, definition, f)
        noise = lattice.strain_covariance(e, q, definition, f)
        if angle:
            strain = lattice.rotate_strain(strain, angle)
            noise = lattice.rotate_strain_noise(*noise, angle)
        return strain, *noise

    return by_parts(convert, 12, block, ref[..., :2, :, :])


def by_parts(convert, n_maps, block, ref, with_frames=False):
    """Apply a conversion to parts of a block that fit into the cache of a processor.

    `convert` takes coefficients, reference and typical amplitude of some frames or of some rows
    of a frame, and returns stacks of maps, maps first.
    """
    xp = get_array_module(block)
    n, height, width = len(block), block.shape[-2], block.shape[-1]
    out = xp.empty((n, n_maps, height, width), dtype=xp.float32)
    typical = lattice.typical_amplitude(block)
    if ref.shape[-1] == 1 and not bool(ref.any()):
        ref = None
    size = _PART if xp is np else n * height * width
    n_frames = max(1, size // (height * width))
    n_rows = height if n_frames > 1 else max(1, size // width)
    for first in range(0, n, n_frames):
        frames = slice(first, first + n_frames)
        reference = ref[frames] if ref is not None and len(ref) > 1 else ref
        for top in range(0, height, n_rows):
            rows = slice(top, top + n_rows)
            of_rows = reference
            if reference is not None and reference.shape[-2] > 1:
                of_rows = reference[..., rows, :]
            where = {"frames": frames} if with_frames else {}
            done = 0
            for maps in convert(block[frames, ..., rows, :], of_rows, typical[frames], **where):
                out[frames, done : done + len(maps), rows] = xp.moveaxis(maps, 0, 1)
                done += len(maps)
    return out
