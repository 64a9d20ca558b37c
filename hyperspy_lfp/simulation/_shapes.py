"""The pixels of a particle, and which domain each belongs to."""

from typing import NamedTuple

import hyperspy.api as hs
import numpy as np

from hyperspy_lfp.signals import ConcentrationMap
from hyperspy_lfp.signals._regions import describe_region, pixels_inside
from hyperspy_lfp.signals._units import in_nanometre, pixels_of, to_length
from hyperspy_lfp.simulation._models import CORNER, Domain

SHAPES = ("rectangle", "ellipse")
#: Part of the particle's width and height that is the corner: 10 of 24 nm.
_CORNER = 10 / 24
#: A size may miss a whole number of pixels by this part of one, by rounding.
_WHOLE = 1e-6


class Particle(NamedTuple):
    """Pixels of a particle in nanometres."""

    mask: np.ndarray  # (ny, nx)
    scale: tuple  # (x, y)
    offset: tuple  # (x, y), centre of the first pixel

    @property
    def axes(self):
        """The signal axes of its maps, data order."""
        return [
            {
                "name": name,
                "size": size,
                "scale": scale,
                "offset": offset,
                "units": "nm",
                "navigate": False,
            }
            for name, size, scale, offset in zip(
                "yx", self.mask.shape, self.scale[::-1], self.offset[::-1], strict=True
            )
        ]

    @property
    def area(self):
        """In square nanometres."""
        return float(self.mask.sum() * self.scale[0] * self.scale[1])

    @property
    def centres(self):
        """Centres of the columns and of the rows."""
        return [
            o + s * np.arange(n)
            for o, s, n in zip(self.offset, self.scale, self.mask.shape[::-1], strict=True)
        ]


def make_particle(particle, shape, pixel):
    """The pixels of a particle from what `lithiation` takes.

    Raises
    ------
    TypeError, ValueError
        If it is nothing of that, or holds no pixel.
    """
    if shape not in SHAPES:
        raise ValueError(f"shape={shape!r} is not known; use one of {SHAPES}.")
    if isinstance(particle, ConcentrationMap):
        made = _of_map(particle)
    elif type(particle).__name__.endswith("ROI"):
        made = _of_roi(particle, _pixel(pixel))
    elif _is_mask(particle):
        made = _of_mask(np.asarray(particle), _pixel(pixel))
    else:
        made = _of_numbers(particle, shape, _pixel(pixel))
    if not made.mask.any():
        raise ValueError(
            f"particle={particle!r} holds no pixel of {made.scale[0]:g} x {made.scale[1]:g} nm: "
            "give smaller pixels, or a larger particle."
        )
    return made


def label_domains(domains, particle):
    """Number of the domain, from 1, of each pixel; 0 outside the particle.

    Raises
    ------
    TypeError, ValueError
        If a domain is no `Domain`, is empty or beyond the particle, if two overlap, or pixels
        belong to none.
    """
    domains = _checked(domains)
    labels = np.zeros(particle.mask.shape, dtype=int)
    rest = None
    for number, domain in enumerate(domains, 1):
        if domain.where is None:
            rest = number
            continue
        inside = _where(domain.where, f"domains[{number - 1}].where", particle)
        overlap = np.unique(labels[inside & (labels > 0)])
        if len(overlap):
            raise ValueError(
                f"domains {overlap[0]} and {number} overlap in "
                f"{int((inside & (labels == overlap[0])).sum())} pixels: each pixel can belong to "
                "one domain only."
            )
        labels[inside] = number
    left = particle.mask & (labels == 0)
    if rest is None and left.any():
        raise ValueError(
            f"{int(left.sum())} pixels of the particle belong to no domain: add a "
            "`Domain(where=None, ...)` for the rest."
        )
    if rest is not None and not left.any():
        raise ValueError(
            f"domain {rest} has where=None, the rest, but the other domains leave no pixel."
        )
    if rest is not None:
        labels[left] = rest
    return labels


def listed(domains):
    """One domain, or several, as a list."""
    return [domains] if isinstance(domains, Domain) else list(domains)


def _checked(domains):
    domains = listed(domains)
    if not domains:
        raise ValueError("domains is empty: give at least one `simulation.Domain`.")
    for domain in domains:
        if not isinstance(domain, Domain):
            raise TypeError(
                f"domains holds {domain!r}, but must be a list of `simulation.Domain(...)`."
            )
    rest = [n for n, d in enumerate(domains, 1) if d.where is None]
    if len(rest) > 1:
        raise ValueError(f"domains {rest} all have where=None, the rest: only one can.")
    return domains


def _where(where, name, particle):
    """Pixels of the particle in a domain; all pixels that it names must be in the particle."""
    x, y = particle.centres
    if isinstance(where, str):
        if where != CORNER:
            raise ValueError(
                f"{name}={where!r} is not known: use 'corner', a ROI, (left, top, right, bottom) "
                "in nm, a mask, or None for the rest."
            )
        rows, columns = np.nonzero(particle.mask)
        left, top = x[columns.min()], y[rows.min()]
        reach = [
            _CORNER * (at.max() - at.min() + 1) * scale
            for at, scale in zip((columns, rows), particle.scale, strict=True)
        ]
        # from the outer edge of the first pixel
        right, bottom = (
            at - scale / 2 + r
            for at, scale, r in zip((left, top), particle.scale, reach, strict=True)
        )
        inside = (x[None, :] < right) & (y[:, None] < bottom) & particle.mask
    elif _is_mask(where):
        inside = _mask(np.asarray(where), name, particle)
    else:
        inside = _region(where, name, particle) & particle.mask
    if not inside.any():
        raise ValueError(
            f"{name}={where!r} holds no pixel of the particle, which covers x from {x[0]:.4g} to "
            f"{x[-1]:.4g} and y from {y[0]:.4g} to {y[-1]:.4g} nm."
        )
    return inside


def _is_mask(candidate):
    return getattr(getattr(candidate, "dtype", None), "kind", None) == "b"


def _mask(inside, name, particle):
    if inside.shape != particle.mask.shape:
        raise ValueError(
            f"{name} is a mask of the shape {inside.shape}, but the map has the shape "
            f"{particle.mask.shape}."
        )
    beyond = int((inside & ~particle.mask).sum())
    if beyond:
        raise ValueError(f"{name} holds {beyond} pixels that are not in the particle.")
    return inside


def _region(where, name, particle):
    """Pixels in a ROI or a rectangle that does not reach beyond the map."""
    if not type(where).__name__.endswith("ROI"):
        try:
            left, top, right, bottom = (float(v) for v in where)
        except (TypeError, ValueError):
            raise TypeError(
                f"{name}={where!r} is no place: give a RectangularROI, CircleROI or PolygonROI, "
                "(left, top, right, bottom) in nm, a mask, 'corner', or None for the rest."
            ) from None
        if not (left < right and top < bottom):
            raise ValueError(
                f"{name}={where!r} must be (left, top, right, bottom) with left < right and "
                "top < bottom, in nm; y points down."
            )
        where = hs.roi.RectangularROI(left, top, right, bottom)
    x, y = particle.centres
    described = describe_region(where, name)
    for axis, low, high in zip("xy", *_bounds(described), strict=True):
        at = x if axis == "x" else y
        half = particle.scale["xy".index(axis)] * (0.5 + _WHOLE)
        if low < at[0] - half or high > at[-1] + half:
            raise ValueError(
                f"{name}={where!r} reaches beyond the particle, which ends at "
                f"{axis} = {at[0] - half:.4g} and {at[-1] + half:.4g} nm."
            )
    return pixels_inside(described, x, y)


def _bounds(described):
    """Lower and upper corner (x, y) of a region."""
    if described["type"] == "RectangularROI":
        return (described["left"], described["top"]), (described["right"], described["bottom"])
    if described["type"] == "CircleROI":
        centre, r = np.array([described["cx"], described["cy"]]), described["r"]
        return centre - r, centre + r
    vertices = np.array(described["vertices"], dtype=float)
    return vertices.min(axis=0), vertices.max(axis=0)


def _pixel(pixel):
    sizes = pixel if isinstance(pixel, tuple | list) else (pixel, pixel)
    if len(sizes) != 2:
        raise ValueError(f"pixel={pixel!r} must be one length, or one along x and one along y.")
    return tuple(to_length(size, "nm", "pixel") for size in sizes)


def _of_map(maps):
    """The pixels that are finite in any of the maps."""
    pixels = pixels_of(maps)
    factor = in_nanometre(pixels.units)
    data = np.asarray(maps.data.compute() if maps._lazy else maps.data)
    mask = np.isfinite(data).reshape(-1, *data.shape[-2:]).any(axis=0)
    scale, offset = (tuple(float(v) * factor for v in a) for a in (pixels.scale, pixels.offset))
    return Particle(mask, scale, offset)


def _of_mask(mask, pixel):
    if mask.ndim != 2:
        raise ValueError(f"particle is a mask of the shape {mask.shape}, but must be an image.")
    return Particle(mask, pixel, tuple(p / 2 for p in pixel))


def _of_roi(roi, pixel):
    """A ROI in nanometres, within the smallest map that holds it."""
    described = describe_region(roi, "particle")
    low, high = (np.array(v, dtype=float) for v in _bounds(described))
    size = np.ceil((high - low) / pixel - _WHOLE).astype(int)
    offset = tuple(float(v) for v in low + np.array(pixel) / 2)
    empty = Particle(np.zeros(tuple(np.maximum(size[::-1], 1)), dtype=bool), pixel, offset)
    return empty._replace(mask=pixels_inside(described, *empty.centres))


def _of_numbers(particle, shape, pixel):
    """Width and height, or vertices."""
    if not isinstance(particle, str):
        try:
            items = list(particle)
        except TypeError:
            items = []
        if len(items) == 2 and not any(isinstance(i, list | tuple | np.ndarray) for i in items):
            return _of_size([to_length(i, "nm", "particle") for i in items], shape, pixel)
        if len(items) > 2 and all(np.shape(i) == (2,) for i in items):
            vertices = [(float(a), float(b)) for a, b in items]
            return _of_roi(hs.roi.PolygonROI(vertices), pixel)
    raise TypeError(
        f"particle={particle!r} is not understood: give (width, height) in nm, three or more "
        "(x, y) vertices in nm, a ROI, an array of booleans (a mask with pixels of the size "
        "`pixel`), or a ConcentrationMap."
    )


def _of_size(size, shape, pixel):
    counts = [s / p for s, p in zip(size, pixel, strict=True)]
    nx, ny = (max(round(c), 1) for c in counts)
    if any(abs(c - n) > _WHOLE * n for c, n in zip(counts, (nx, ny), strict=True)):
        raise ValueError(
            f"particle of {size[0]:g} x {size[1]:g} nm is not a whole number of pixels of "
            f"{pixel[0]:g} x {pixel[1]:g} nm: change one of them."
        )
    mask = np.ones((ny, nx), dtype=bool)
    if shape == "ellipse":
        y, x = ((np.arange(n) + 0.5) * 2 / n - 1 for n in (ny, nx))
        mask = x[None, :] ** 2 + y[:, None] ** 2 <= 1
    return Particle(mask, pixel, tuple(p / 2 for p in pixel))
