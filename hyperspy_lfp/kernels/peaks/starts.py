"""Where fits of peaks start: the linear part of the model is solved for a grid of the rest."""

import numpy as np
from scipy import special

from hyperspy_lfp.kernels.peaks.model import BLOCK, GAUSS, Layout

#: Positions and widths of the search for starts. The linear part of the model is solved for each
#: pair of positions, so that no two peaks are missed for want of a start.
_POSITIONS, _WIDTHS = 32, 5
#: Relative error of the search's templates, whose eta and width are not those of the peaks: what
#: keeps a strong peak's shape from being taken for a second peak beside it.
_SHAPE = 0.1
#: The best single peak in two, for what the grid does not resolve: two equal ones, a weak one at
#: either side; in the tailed model a tail to either side.
_SPLITS = (
    ((-0.3, 0.3, 0.5), (-0.1, 0.7, 0.8), (-0.7, 0.1, 0.2)),
    ((-0.1, 0.7, 0.8), (0.1, -0.7, 0.8)),
)


def starts(data, layout, rows, eta):
    """Starts (s, N, q): the best places of a grid, the background and areas solved for."""
    data = data.rows(rows)
    m = data.y.shape[1]
    eta = 0.5 if eta is None else eta
    place = np.linspace(0.5, m - 0.5, min(m, _POSITIONS))
    widths = np.geomspace(max(1.5, 1.5 * (place[1] - place[0])), max(3.0, m / 2.5), _WIDTHS)
    plain, weight = _search_weights(data)
    shapes = [_templates(place, width, eta, m) for width in widths]
    blocks = [slice(i, i + BLOCK) for i in range(0, len(rows), BLOCK)]
    parts = [
        [_normal_equations(data.y[b], weight[b], shape, data.fraction) for shape in shapes]
        for b in blocks
    ]

    def pick(best, number):
        found = [best(part, number) for part in parts]
        return [
            tuple(np.concatenate(a) for a in zip(*f, strict=True)) for f in zip(*found, strict=True)
        ]

    def start(one_or_two, which, at):
        return _start(data, plain, one_or_two, place, widths, shapes, which, at)

    if layout.n_peaks == 1:
        return np.stack([start(layout, *p) for p in pick(_best_single, 2)])
    picks = pick(_best_pairs, 2)
    if layout.model == "tailed":
        picks += [(which, at[:, ::-1]) for which, at in picks]
    starts = [start(layout, *p) for p in picks]
    single = start(Layout("one", "linear", 1), *pick(_best_single, 1)[0])
    starts += [_split(single, layout, *how) for how in _SPLITS[layout.model == "tailed"]]
    if m > 2 * _POSITIONS:
        starts.append(_greedy(data, plain, weight, layout, eta))
    starts = np.stack(starts)
    starts[:, :, layout.eta] = eta
    if layout.model == "graded":  # the ends of an even density lie outside of two equal peaks
        middle = starts[:, :, :2].mean(axis=2, keepdims=True)
        starts[:, :, :2] = middle + 1.4 * (starts[:, :, :2] - middle)
    if layout.model == "tailed":  # the middle of the tail is a third of its length away
        starts[:, :, 1] += starts[:, :, 1] - starts[:, :, 0]
    return starts


def _greedy(data, plain, weight, layout, eta):
    """The best narrow peak at any bin, and the best one beside it: for the grid's gaps."""
    n, m = data.y.shape
    place = np.arange(m) + 0.5
    widths = np.geomspace(1.5, max(3.0, 2.0 * m / _POSITIONS), 4)
    base = np.stack([1 - data.fraction, data.fraction])
    own = (weight[:, None] * base) @ base.T
    own += 1e-9 * np.trace(own, axis1=1, axis2=2)[:, None, None] * np.eye(2)
    line = np.linalg.solve(own, ((weight * data.y) @ base.T)[..., None])[..., 0] @ base
    rest, shapes, at = data.y - line, [], np.empty((n, 2), int)
    gains = []
    for width in widths:
        shape = _templates(place, width, eta, m)
        value, size = (weight * rest) @ shape.T, np.maximum(weight @ (shape**2).T, 1e-300)
        gains.append(np.maximum(value, 0) ** 2 / size)
        shapes.append(shape)
    gains = np.stack(gains, axis=1)
    which = gains.max(axis=2).argmax(axis=1)
    at[:, 0] = gains[np.arange(n), which].argmax(axis=1)
    for i, row in enumerate(weight):
        shape = shapes[which[i]]
        first = shape[at[i, 0]]
        u, a, c = (row * rest[i]) @ first, row @ first**2, shape @ (row * first)
        value, size = shape @ (row * rest[i]) - c * u / a, shape**2 @ row - c**2 / a
        far = np.abs(place - place[at[i, 0]]) > widths[which[i]]
        gain = np.where(far & (value > 0), value**2 / np.maximum(size, 1e-9 * a), -np.inf)
        at[i, 1] = gain.argmax()
    return _start(data, plain, layout, place, widths, shapes, which, at)


def _search_weights(data):
    """Weights of the bins, and those in which a bin is known no better than a template's shape."""
    padded = np.pad(data.y, ((0, 0), (1, 1)), mode="edge")
    smooth = np.abs(padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
    if data.weight is None:
        # a pattern of few counts in wide gaps must not get all the weight in the gaps
        variance = np.maximum(smooth, np.maximum(0.1 * smooth.mean(1, keepdims=True), 1e-12))
    else:
        variance = 1 / np.where(data.used, data.weight, 1)
    return data.used / variance, data.used / (variance + (_SHAPE * smooth) ** 2)


def _templates(place, width, eta, m):
    x = (np.arange(m + 1.0) - place[:, None]) / width
    gauss, lorentz = special.erf(GAUSS * x) / 2, np.arctan(2 * x) / np.pi
    return np.diff(gauss + eta * (lorentz - gauss))


def _normal_equations(y, weight, shape, fraction):
    """Of one or two templates, after the background has been fitted out.

    The diagonal (N, p), the right-hand side (N, p), and what couples each pair (N, pairs).
    """
    base = np.stack([1 - fraction, fraction])
    own = (weight[:, None] * base) @ base.T
    # frames of which one side is missing do not determine both ends
    own += 1e-9 * np.trace(own, axis1=1, axis2=2)[:, None, None] * np.eye(2)
    cross = np.stack([weight @ (b * shape).T for b in base], axis=1)
    solved = np.linalg.solve(own, cross)
    first, second = np.triu_indices(len(shape), 1)
    diagonal = weight @ (shape**2).T - (cross * solved).sum(axis=1)
    coupling = weight @ (shape[first] * shape[second]).T
    for b in (0, 1):
        coupling -= cross[:, b, first] * solved[:, b, second]
    weighted = weight * y
    value = weighted @ shape.T - np.einsum("nbp,nb->np", solved, weighted @ base.T)
    return np.maximum(diagonal, 1e-300), value, coupling


def _best_single(equations, number):
    gains = np.stack([np.maximum(value, 0) ** 2 / own for own, value, _ in equations], axis=1)
    at = gains.argmax(axis=2)  # (N, widths)
    order = np.argsort(-gains.max(axis=2), axis=1)
    rows = np.arange(len(at))
    return [(order[:, i], at[rows, order[:, i]][:, None]) for i in range(number)]


def _best_pairs(equations, number):
    first, second = np.triu_indices(equations[0][0].shape[1], 1)
    gains, at = [], []
    for own, value, c in equations:
        a, b, u, v = own[:, first], own[:, second], value[:, first], value[:, second]
        det = np.maximum(a * b - c**2, 1e-9 * a * b)
        up, vp = b * u - c * v, a * v - c * u  # areas times the determinant
        gain = np.where((up > 0) & (vp > 0), (up * u + vp * v) / det, -np.inf)
        best = gain.argmax(axis=1)
        gains.append(gain[np.arange(len(best)), best])
        at.append(np.stack([first[best], second[best]], axis=1))
    gains, at = np.stack(gains, axis=1), np.stack(at, axis=1)
    order = np.argsort(-gains, axis=1)
    rows = np.arange(len(at))
    return [(order[:, i], at[rows, order[:, i]]) for i in range(number)]


def _start(data, weight, layout, place, widths, shapes, which, at):
    """Parameters of the picked places, the linear ones solved for."""
    n_peaks = at.shape[1]
    shapes = np.stack(shapes)[which[:, None], at]  # (N, P, m)
    base = np.broadcast_to(
        np.stack([1 - data.fraction, data.fraction]), (len(at), 2, len(data.fraction))
    )
    design = np.concatenate([shapes, base], axis=1)
    normal = (design * weight[:, None]) @ np.swapaxes(design, 1, 2)
    scale = np.maximum(np.einsum("nii->ni", normal), 1e-300)
    normal += 1e-9 * scale[:, None] * np.eye(n_peaks + 2)
    linear = np.linalg.solve(normal, (design @ (weight * data.y)[..., None]))[..., 0]
    total = np.abs(data.y).sum(axis=1, keepdims=True)
    theta = np.zeros((len(at), layout.size))
    theta[:, layout.positions] = place[at]
    theta[:, layout.areas] = np.maximum(linear[:, :n_peaks], 1e-3 * total)
    theta[:, layout.widths] = np.log(widths[which])[:, None]
    theta[:, layout.eta] = 0.5
    theta[:, -2:] = linear[:, n_peaks:]
    if layout.background == "power" or data.weight is None:
        mean = total / data.y.shape[1]
        theta[:, -2:] = np.maximum(theta[:, -2:], 1e-2 * mean)
    return theta


def _split(single, layout, first, second, part):
    """One peak in two: at so many of its widths from it, the first with this part of its area."""
    theta = np.zeros((len(single), layout.size))
    width = np.exp(single[:, 2])
    theta[:, 0], theta[:, 1] = single[:, 0] + first * width, single[:, 0] + second * width
    theta[:, 2], theta[:, 3] = part * single[:, 1], (1 - part) * single[:, 1]
    theta[:, layout.widths] = np.log(0.85 * width)[:, None]
    theta[:, -2:] = single[:, -2:]
    return theta
