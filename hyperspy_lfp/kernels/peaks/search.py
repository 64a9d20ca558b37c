"""Damped scoring of all frames and all starts at once, and what neighbours in time offer."""

from typing import NamedTuple

import numpy as np
from scipy import special

from hyperspy_lfp.kernels.peaks.model import BLOCK, evaluate

#: Decrease of the deviance that the next step promises where the iteration ends: the parameters
#: are then within 1e-3 of their standard errors.
_TOLERANCE = 1e-7
_MAX_ITERATIONS = 100
#: A peak that is hardly there has a flat likelihood, in which the last decimals take hundreds of
#: iterations: after the first number of them, within 3 % of the standard errors is enough.
_PATIENCE, _LOOSE_TOLERANCE = 40, 1e-3
#: Iterations after which starts that go to the place of the best are dropped, and more of them
#: after which only the best start of a frame goes on.
_TRIAL, _SECOND_TRIAL = 4, 12
#: A neighbour's solution is taken over when it lowers the deviance by so much (1 is one standard
#: error of one parameter).
_IMPROVEMENT = 1e-3
_ROUNDS = 4
#: Solutions that are nearer than this part of a width, in position and width, are the same one.
_NEAR = 0.2


class State(NamedTuple):
    theta: np.ndarray  # (N, q)
    deviance: np.ndarray  # (N,)
    damping: np.ndarray  # (N,)
    done: np.ndarray  # (N,)

    @classmethod
    def empty(cls, n, q):
        fill = np.full(n, np.inf)
        return cls(np.full((n, q), np.nan), fill, np.full(n, 1e-2), np.zeros(n, bool))

    def put(self, rows, other):
        for mine, theirs in zip(self, other, strict=True):
            mine[rows] = theirs

    def pick(self, rows):
        return State(*(a[rows] for a in self))


def best_of(data, layout, rows, starts, lower, upper, best):
    """Iterate several starts (s, N, q) of each row, and to the end the best that is left."""
    place = np.tile(np.arange(len(rows)), len(starts))
    trial = _climb(data, layout, rows[place], starts.reshape(-1, layout.size), lower, upper, _TRIAL)
    first = trial.deviance.reshape(len(starts), -1).argmin(axis=0) * len(rows)
    first += np.arange(len(rows))
    # what goes to the same place needs no second look, nor does anything where the best already
    # leaves no more than noise; else another start may overtake it
    other = np.isfinite(trial.deviance)
    other &= _elsewhere(trial.theta, trial.theta[first[place]], layout)
    freedom = data.used[rows].sum(axis=1) - layout.size
    other &= (trial.deviance[first] > freedom + 3 * np.sqrt(2 * freedom))[place]
    other[first] = True
    place, trial = place[other], trial.pick(other)
    trial = _resume(data, layout, rows[place], trial, lower, upper, _SECOND_TRIAL)
    order = np.lexsort((trial.deviance, place))
    winner = order[np.searchsorted(place[order], np.arange(len(rows)))]
    final = _resume(data, layout, rows, trial.pick(winner), lower, upper, _MAX_ITERATIONS)
    best.put(rows, final)


def _resume(data, layout, rows, state, lower, upper, max_iterations):
    return _climb(
        data, layout, rows, state.theta, lower, upper, max_iterations, state.damping, state.done
    )


def from_neighbours(data, layout, rows, lower, upper, best):
    """Start again from the frames before and after while that is better anywhere."""
    changed = np.ones(len(data.y), bool)
    usable = np.zeros(len(data.y), bool)
    usable[rows] = True
    for _ in range(_ROUNDS):
        now = np.zeros_like(changed)
        for side in (-1, 1):
            at = rows + side
            inside = (at >= 0) & (at < len(usable))
            target, source = rows[inside], at[inside]
            keep = usable[source] & changed[source]
            keep &= _elsewhere(best.theta[target], best.theta[source], layout)
            target, source = target[keep], source[keep]
            if not target.size:
                continue
            start = np.clip(best.theta[source], lower[target], upper[target])
            trial = _climb(data, layout, target, start, lower, upper, _TRIAL)
            better = trial.deviance < best.deviance[target] - _IMPROVEMENT
            if better.any():
                at, part = target[better], trial.pick(better)
                final = _resume(data, layout, at, part, lower, upper, _MAX_ITERATIONS)
                best.put(target[better], final)
                now[target[better]] = True
        changed = now
        if not changed.any():
            break


def _elsewhere(theta, other, layout):
    """Whether other parameters are so different that they can lead to another maximum."""
    width = np.exp(theta[:, layout.widths]).min(axis=1, keepdims=True)
    far = np.abs(theta[:, layout.positions] - other[:, layout.positions]) > _NEAR * width
    wide = np.abs(theta[:, layout.widths] - other[:, layout.widths]) > _NEAR
    return far.any(axis=1) | wide.any(axis=1)


def _climb(data, layout, rows, theta, lower, upper, max_iterations, damping=None, done=None):
    """Damped scoring of a batch, in blocks."""
    state = State.empty(len(rows), layout.size)
    state.theta[:] = theta
    if damping is not None:
        state.damping[:] = damping
    if done is not None:
        state.done[:] = done
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        part = state.pick(block)
        index = rows[block]
        _climb_block(data.rows(index), layout, part, lower[index], upper[index], max_iterations)
    return state


def _climb_block(data, layout, state, lower, upper, max_iterations):
    mean, slopes = evaluate(state.theta, layout, data.fraction)
    state.deviance[:] = _deviance(data, mean)
    go = np.flatnonzero(~state.done)
    data, mean, slopes = data.rows(go), mean[go], slopes[go]
    for iteration in range(max_iterations):
        tolerance = _TOLERANCE if iteration < _PATIENCE else _LOOSE_TOLERANCE
        if not go.size:
            break
        theta = state.theta[go]
        step, promise = _step(data, theta, mean, slopes, state.damping[go], lower[go], upper[go])
        _limit(step, theta, layout)
        trial = np.clip(theta + step, lower[go], upper[go])
        trial_mean, trial_slopes = evaluate(trial, layout, data.fraction)
        deviance = _deviance(data, trial_mean)
        better = deviance <= state.deviance[go]
        took = go[better]
        state.theta[took], state.deviance[took] = trial[better], deviance[better]
        mean[better], slopes[better] = trial_mean[better], trial_slopes[better]
        damping = np.where(better, state.damping[go] / 5, state.damping[go] * 4)
        state.damping[go] = np.clip(damping, 1e-9, 1e12)
        # so much damping that no step can be seen any more: this is the floor of rounding
        finished = (promise < tolerance) & (better | (promise < 1e-3 * tolerance))
        finished |= (damping > 1e9) & (promise < 1e-9 * np.maximum(1, state.deviance[go]))
        state.done[go[finished]] = True
        stay = ~finished & (damping < 1e12)
        if not stay.all():
            go, data, mean, slopes = go[stay], data.rows(stay), mean[stay], slopes[stay]


def weights_of(data, mean):
    return data.used / mean if data.weight is None else data.weight


def _deviance(data, mean):
    rest = data.y - mean
    if data.weight is not None:
        return (data.weight * rest**2).sum(axis=1)
    positive = mean > 0
    safe = np.where(positive, mean, 1.0)
    terms = special.xlogy(data.y, np.where(data.y > 0, data.y, 1) / safe) - rest
    bad = (data.used & ~positive).any(axis=1)
    return np.where(bad, np.inf, 2 * (data.used * terms).sum(axis=1))


def _step(data, theta, mean, slopes, damping, lower, upper):
    """Damped scoring step, and the decrease of the deviance that the undamped one promises."""
    weight = weights_of(data, mean)
    weighted = slopes * weight[:, None]
    normal = weighted @ np.swapaxes(slopes, 1, 2)
    gradient = (weighted @ (data.y - mean)[..., None])[..., 0]
    held = (theta <= lower) & (gradient <= 0) | (theta >= upper) & (gradient >= 0)
    diagonal = np.einsum("nii->ni", normal)
    held |= diagonal <= 0
    free = ~held
    scale = np.where(free, np.sqrt(np.where(free, diagonal, 1)), 1)
    gradient = np.where(free, gradient / scale, 0)
    normal = normal / (scale[:, :, None] * scale[:, None]) * (free[:, :, None] & free[:, None])
    eye = np.eye(theta.shape[1])
    # in units of the diagonal a relative 1e-12 is rounding, and keeps the system regular
    matrix = normal + eye * np.where(free, damping[:, None] + 1e-12, 1)[:, None]
    step = np.linalg.solve(matrix, gradient[..., None])[..., 0]
    promise = (gradient * step).sum(axis=1) * (1 + damping)
    return step / scale, promise


def _limit(step, theta, layout):
    """No step across more than a width, nor a width by more than a factor of two."""
    width = np.exp(theta[:, layout.widths])
    at = step[:, layout.positions]
    np.clip(at, -width, width, out=at)
    by = step[:, layout.widths]
    np.clip(by, -0.7, 0.7, out=by)
