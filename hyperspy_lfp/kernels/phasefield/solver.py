r"""Adaptive implicit integration of the phase field.

The constrained equations (`hyperspy_lfp.kernels.phasefield.system`) are integrated by an implicit
Runge-Kutta method of third order (`hyperspy_lfp.kernels.phasefield.runge_kutta`); the embedded
second order gives the error that sets the length of the step.

Stages are solved by Newton's method, with a factorisation that is kept while it converges well,
and steps shortened so that compositions stay within 0 and 1.

Host only: SciPy's sparse matrices.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

from hyperspy_lfp.kernels.phasefield.runge_kutta import EMBEDDED, GAMMA, STAGES, TIMES
from hyperspy_lfp.kernels.phasefield.system import (
    Galvanostatic,
    build_pattern,
    factorise,
    linearise,
    rate_of_change,
    residual,
)

#: Newton's method ends when its next change of x and of mu_e would be below these: near rounding,
#: far below any error of the step.
_CHANGE_X, _CHANGE_MU = 1e-11, 1e-9
_ITERATIONS = 25
#: Change of an iteration relative to the one before, above which the Jacobian is made anew.
_SLOW = 0.2
#: A change of x or of mu_e (kT) beyond this leads nowhere.
_DIVERGED = 1e6
#: How much of the way to 0 or 1 a Newton step may go.
_FRACTION = 0.9
#: A step is made so much shorter than its error allows, and is changed by these factors at most.
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 4.0
#: Shortest step relative to the whole duration: shorter ones are lost in rounding of the time.
_SHORTEST = 1e-12
_MOST_STEPS = 200_000
#: Potential within which mu_e is looked for at the start, kT: beyond it exp overflows.
_WIDEST = 600.0


class Course(NamedTuple):
    """Compositions and potential at the output times."""

    times: np.ndarray  # (t,)
    x: np.ndarray  # (t, n)
    mu_e: np.ndarray  # (t,) kT
    mean_rate: np.ndarray  # (t,) rate of change of the mean
    steps: int
    rejected: int
    factorisations: int


class ConvergenceError(RuntimeError):
    """The solver could not go on.

    Attributes
    ----------
    course : Course
        What it had until then.
    time, mean : float
        Where it stopped.
    residual : float
        Largest residual of the last stage that it tried.
    """

    def __init__(self, message, course, time, mean, residual):
        super().__init__(message)
        self.course, self.time, self.mean, self.residual = course, time, mean, residual


class _State(NamedTuple):
    time: float
    x: np.ndarray
    mu_e: float
    slope: np.ndarray  # rate of change of the cells


def integrate(problem, x, times, tolerance=1e-4, fixed_steps=None):
    """Follow a particle through time.

    Parameters
    ----------
    problem : Problem
    x : array of shape (n,)
        Composition at the first time, within 0 and 1.
    times : array of shape (t,)
        Increasing; each is the end of a step.
    tolerance : float
        Largest error of x of any cell in one step.
    fixed_steps : int, optional
        So many equal steps between two times instead, for studies of convergence.

    Returns
    -------
    Course

    Raises
    ------
    ConvergenceError
        If the step would be too short, or there are too many.
    """
    run = _Run(problem, x, times[0], times[-1], tolerance)
    rows = [run.state]
    for number, stop in enumerate(times[1:], 1):
        try:
            if fixed_steps:
                for end in np.linspace(times[number - 1], stop, fixed_steps + 1)[1:]:
                    run.step_to(end)
            else:
                run.advance(stop)
        except _Stuck as stuck:
            course = run.course(rows)
            raise ConvergenceError(
                str(stuck), course, run.state.time, float(run.state.x.mean()), run.last_residual
            ) from None
        rows.append(run.state)
    return run.course(rows)


def time_to_reach(problem, x, mean, longest, tolerance=1e-4):
    """When the mean composition arrives at a value; NaN if it has not by the longest time.

    Parameters
    ----------
    problem : Problem
    x : array of shape (n,)
    mean, longest : float
    tolerance : float
    """
    run = _Run(problem, x, 0.0, longest, tolerance)
    sign = np.sign(mean - x.mean())
    while run.state.time < longest:
        before = run.state
        try:
            run.one_step(longest)
        except _Stuck as stuck:
            raise ConvergenceError(
                str(stuck),
                run.course([before]),
                before.time,
                float(before.x.mean()),
                run.last_residual,
            ) from None
        if sign * (run.state.x.mean() - mean) >= 0:
            return _crossing(before, run.state, mean)
    return np.nan


def starting_potential(problem, x):
    """Potential of the electrons that drives the first moment.

    Raises
    ------
    ValueError
        If no potential gives the rate that is wanted.
    """
    mean = x.mean()
    control = problem.control

    def lacking(mu_e):
        rate = rate_of_change(x, mu_e, mean, problem).mean()
        if isinstance(control, Galvanostatic):
            return rate - control.rate
        return mu_e - control.mu_e + control.resistance * rate

    with np.errstate(over="ignore", invalid="ignore"):
        width = 1.0
        while width < _WIDEST:
            low, high = lacking(-width), lacking(width)
            if low <= 0 <= high:
                return brentq(lacking, -width, width, xtol=1e-13, rtol=1e-14)
            width *= 1.5
    raise ValueError(
        f"no potential within {_WIDEST:g} kT drives the rate {control}: the rate constants are too "
        "small for it, or the rate law saturates below it."
    )


class _Stuck(Exception):
    """The solver cannot go on from here."""


class _Run:
    """State of an integration: where it is, and the factorisation and step that it keeps."""

    def __init__(self, problem, x, start, end, tolerance):
        self.problem, self.tolerance = problem, tolerance
        self.start, self.start_mean = float(start), float(np.mean(x))
        self.shortest = _SHORTEST * (end - start)
        self.pattern = build_pattern(problem)
        x = np.array(x, dtype=float)
        mu_e = starting_potential(problem, x)
        self.state = _State(
            float(start), x, mu_e, rate_of_change(x, mu_e, self.start_mean, problem)
        )
        #: a guess that the error of the first step corrects
        self.length = 1e-4 * (end - start)
        self.solve, self.solve_stage = None, None
        self.steps = self.rejected = self.factorisations = 0
        self.last_residual = 0.0

    def course(self, rows):
        """The states at the output times as arrays."""
        return Course(
            np.array([row.time for row in rows]),
            np.array([row.x for row in rows]),
            np.array([row.mu_e for row in rows]),
            np.array([row.slope.mean() for row in rows]),
            self.steps,
            self.rejected,
            self.factorisations,
        )

    def advance(self, stop):
        """Adaptive steps to a time."""
        while self.state.time < stop:
            self.one_step(stop)

    def one_step(self, stop):
        """One step of an accepted error, at most to a time."""
        while True:
            left = stop - self.state.time
            # two like steps rather than a long and a very short one
            length = left if left <= self.length else min(self.length, left / 2)
            result = self._try(length)
            if result is None:
                self.length = length / 4
            else:
                state, error = result
                ratio = error / self.tolerance
                factor = _SAFETY * max(ratio, 1e-12) ** (-1 / 3)
                change = min(max(factor, _SHRINK), _GROW)
                if ratio <= 1:
                    # a step cut short by an output time says nothing against a longer one
                    self.length = max(length * change, min(self.length, length * _GROW))
                    end = stop if length == left else state.time
                    self._accept(state._replace(time=end))
                    return
                self.length = length * min(change, 1.0)
            self.rejected += 1
            if self.length < self.shortest:
                raise _Stuck(self._why("the step has become too short"))

    def step_to(self, end):
        """One step of given length, whatever its error."""
        result = self._try(end - self.state.time)
        if result is None:
            raise _Stuck(self._why("Newton's method does not converge in a step of fixed length"))
        self._accept(result[0]._replace(time=float(end)))

    def _accept(self, state):
        self.state = state
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise _Stuck(self._why(f"more than {_MOST_STEPS} steps"))

    def _why(self, reason):
        return (
            f"{reason} at time {self.state.time:.6g}, mean composition "
            f"{self.state.x.mean():.6g}, after {self.steps} steps; largest residual "
            f"{self.last_residual:.3g}"
        )

    def _try(self, length):
        """A step: the new state and its largest error; None if Newton's method fails."""
        now, stage = self.state, GAMMA * length
        slopes, mu_e = [now.slope], now.mu_e
        x = now.x
        for weights, at in zip(STAGES, TIMES, strict=True):
            base = now.x + length * sum(w * s for w, s in zip(weights, slopes, strict=True))
            guess = x if len(slopes) == 1 else base + stage * slopes[-1]
            time = now.time + at * length
            solved = self._newton(self._inside(guess, x), mu_e, base, stage, time)
            if solved is None:
                return None
            x, mu_e = solved
            slopes.append((x - base) / stage)
        wrong = sum(
            (w - v) * s for w, v, s in zip((*STAGES[2], GAMMA), EMBEDDED, slopes, strict=True)
        )
        error = length * np.abs(wrong).max()
        return _State(now.time + length, x, mu_e, slopes[-1]), error

    @staticmethod
    def _inside(guess, x):
        """A guess that keeps away from 0 and 1 as far as the state before allows."""
        return np.clip(guess, 0.1 * x, 1 - 0.1 * (1 - x))

    def _newton(self, x, mu_e, base, stage, time):
        problem = self.problem
        wanted = self._wanted(time)
        mean = x.mean() if wanted is None else wanted
        before = np.inf
        if self.solve is not None and self.solve_stage != stage:
            self.solve = None
        for _ in range(_ITERATIONS):
            try:
                with np.errstate(over="raise", invalid="raise", divide="raise"):
                    local = linearise(x, mu_e, mean, problem)
                    lacking = residual(x, mu_e, mean, base, wanted, stage, problem, local.rate)
                    if self.solve is None:
                        self.solve = factorise(local, stage, problem, self.pattern)
                        self.solve_stage = stage
                        self.factorisations += 1
                    change = -self.solve(lacking)
            except (FloatingPointError, RuntimeError):  # overflow, or a singular matrix
                self.solve = None
                return None
            self.last_residual = float(np.abs(lacking).max())
            if not np.abs(change).max() < _DIVERGED:  # nor if it is not a number
                self.solve = None
                return None
            share = _share(x, change[:-2])
            x = x + share * change[:-2]
            mu_e, mean = mu_e + share * change[-2], mean + share * change[-1]
            size = max(np.abs(change[:-2]).max() / _CHANGE_X, abs(change[-2]) / _CHANGE_MU)
            # of the first iteration nothing is known but its size
            ratio, before = (size / before if np.isfinite(before) else 0.5), size
            if share == 1 and ratio < 1 and size * ratio / (1 - ratio) < 1:
                return x, mu_e
            if ratio > _SLOW or share < 1:
                self.solve = None
        return None

    def _wanted(self, time):
        control = self.problem.control
        if not isinstance(control, Galvanostatic):
            return None
        return self.start_mean + control.rate * (time - self.start)


def _share(x, change):
    """How much of a Newton step keeps every composition within 0 and 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(change < 0, -x / change, (1 - x) / change)
    room = np.min(np.where(change == 0, np.inf, room))
    return 1.0 if room > 1 / _FRACTION else _FRACTION * room


def _crossing(before, after, mean):
    """Time at which the mean, a cubic between two states, has a value."""
    length = after.time - before.time
    (m0, m1), (s0, s1) = (
        (a(before), a(after)) for a in (lambda s: s.x.mean(), lambda s: s.slope.mean() * length)
    )

    def lacking(t):
        t2, t3 = t * t, t * t * t
        return (
            (2 * t3 - 3 * t2 + 1) * m0
            + (t3 - 2 * t2 + t) * s0
            + (3 * t2 - 2 * t3) * m1
            + (t3 - t2) * s1
            - mean
        )

    return float(before.time + length * brentq(lacking, 0.0, 1.0))
