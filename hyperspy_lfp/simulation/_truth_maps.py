"""Maps of the truth at points of the image: the kernel for blocks of frames."""

from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels.imaging import edges, placement
from hyperspy_lfp.simulation._scene import pose_of

#: Samples of the truth to a resolution where it is averaged under a window, and where windows end.
_PER_SIGMA = 6
_REACH = 5.0


class View(NamedTuple):
    """Where the truth is asked for, and of which particle; lengths in nm."""

    y: np.ndarray
    x: np.ndarray
    frame: tuple  # size of a frame, (y, x)
    middle: tuple  # of it, (x, y)
    coarse: placement.Grid
    x_grid: placement.Grid
    u_grid: placement.Grid
    mask: np.ndarray
    spacing: tuple
    reference: float  # angle of the reference lattice, radians
    edge_width: float
    sigma: float | None


def truth_block(x, u, poses, *, view, kind):
    """One kind of map of some frames."""
    return np.stack([_frame(*of_frame, view, kind) for of_frame in zip(x, u, poses, strict=True)])


def _frame(x, u, row, view, kind):
    pose = pose_of(u, view.u_grid, row, view.coarse)
    pose_at = pose.shift, pose.angle
    material = placement.material_points(pose.v, view.coarse, view.y, view.x, *pose_at)
    inside = edges.inside(view.mask, view.spacing, material)
    if kind == "mask":
        return inside
    if view.sigma is None:
        maps = _maps(x, pose, view, kind, view.y, view.x, material)
    else:
        maps = _windowed(x, pose, view, kind)
    if kind == "strain":
        maps = _strain(maps)
    return np.where(inside, maps, np.nan)


def _maps(x, pose, view, kind, y, x_places, material):
    """x, u or F^-1 (four components) at points along y and x."""
    if kind == "x":
        return placement.sample(x, view.x_grid, material)
    turn = placement.turn(view.reference)
    if kind == "displacement":
        there = placement.unplaced(y, x_places, view.middle, 0.0)
        return there - np.tensordot(turn, material, 1)
    slopes = placement.inverse_gradient(pose.v, view.coarse, y, x_places, pose.angle)
    return np.tensordot(turn, slopes, 1).reshape(4, len(y), len(x_places))


def _windowed(x, pose, view, kind):
    """The same as means over the particle under a Gaussian window."""
    places, windows = [], []
    for at, length in ((view.y, view.frame[0]), (view.x, view.frame[1])):
        low, high = (max(0.0, at.min() - _REACH * view.sigma), at.max() + _REACH * view.sigma)
        high = min(high, length)
        n = max(2, int(np.ceil((high - low) / view.sigma * _PER_SIGMA)) + 1)
        fine = np.linspace(low, high, n)
        ends = np.ones(n)
        ends[[0, -1]] = 0.5  # the trapezoidal rule
        places.append(fine)
        windows.append(np.exp(-((at[:, None] - fine) ** 2) / (2 * view.sigma**2)) * ends)
    material = placement.material_points(pose.v, view.coarse, *places, pose.shift, pose.angle)
    share = edges.share_at(edges.edge_of(view.mask, view.spacing, view.edge_width), material)
    maps = _maps(x, pose, view, kind, *places, material)
    weight = windows[0] @ share @ windows[1].T
    total = windows[0] @ (maps * share) @ windows[1].T
    return total / np.where(weight > 0, weight, np.nan)


def _strain(inverse):
    """exx, eyy, exy and rotation from the four components of F^-1."""
    a, b, c, d = inverse
    det = a * d - b * c
    xx, xy, yx, yy = d / det - 1, -b / det, -c / det, a / det - 1
    return np.stack([xx, yy, (xy + yx) / 2, (xy - yx) / 2])


def check_inside(view):
    if not placement.covers(view.coarse, view.y, view.x):
        raise ValueError(
            "the signal axes reach beyond the frame that was simulated: their offsets or scales "
            "have been changed, so that it is not known where its points are."
        )
