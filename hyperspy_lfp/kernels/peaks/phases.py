r"""One phase or two: from fitted peaks to a verdict and to molar fractions.

**Evidence.** With the Bayesian information criterion of the four models of
`hyperspy_lfp.kernels.peaks.fit` the odds of two phases are

.. math:: \ln O = -\tfrac12 B_2 - \ln(e^{-B_1/2} + e^{-B_g/2} + e^{-B_t/2}).

At a vanishing second peak the likelihood ratio has no chi-square distribution, so the threshold is
not the criterion's own zero but calibrated on simulated single phases (`EVIDENCE`).

**Verdict.** With the positions p and the fraction f of the second peak the mean position
:math:`p_1(1 - f) + p_2 f` changes from frame to frame by exactly

.. math:: \underbrace{(1 - \bar f)\Delta p_1 + \bar f\Delta p_2}_\text{moved}
          + \underbrace{(\bar p_2 - \bar p_1)\Delta f}_\text{exchanged},

where bars are means of the two frames. A solid solution moves, two phases exchange.

**Fractions.** The intensity of a spot is no measure of amount: a mole of phase 2 diffracts r times
what a mole of phase 1 does, so that the molar fraction is :math:`A_2/(A_2 + r A_1)`. For (200) of
LiFePO4 against FePO4 r is 1/11.6 in a thin crystal, and depends on the thickness.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from hyperspy_lfp.kernels.peaks.fit import fit_peaks
from hyperspy_lfp.kernels.peaks.model import MODELS

#: Least log odds of two phases. At most 3 % of simulated single phases, sharp or smeared by a
#: gradient, are beyond it (benchmarks/peaks.py --calibrate), and 7 % where the compositions pile up
#: at both ends of a range of one width: that is two phases but for what is between them.
EVIDENCE = 2.0
#: Two peaks are apart by so many standard errors, and by this part of their width: nearer than
#: that, what two peaks fit better is the shape of one.
_APART, _SPLITTING = 3.0, 0.5
#: Two areas are there if they are so many standard errors.
_DETECTION = 3.0
#: Prior probability that a frame has another number of phases than the frame before.
_SWITCH = 0.05
#: Most log odds that one frame can add: no single frame outweighs all the others.
_MOST_EVIDENCE = 12.0
#: Of what has changed, a part that is smaller than this is not worth a name.
_SHARE = 0.1
#: Frames through which the local movement is fitted.
_WINDOW = 5

LABELS = ("unchanged", "solid solution", "two-phase", "mixed", "undetermined", "no data")


class Choice(NamedTuple):
    """One peak or two in each frame, (n,) each."""

    n_peaks: np.ndarray  # 0: no data or no peak
    log_odds: np.ndarray  # of two phases against one peak; at most 0 if two are not apart
    bic_gain: np.ndarray  # of two peaks against one
    smeared_gain: np.ndarray  # of two peaks against the better of the smeared ones; NaN without
    splitting: np.ndarray  # in widths


def dispersion(*fits):
    """Variance of the noise as a multiple of the stated: median over the frames of the best fit.

    Cameras and resampling give noise that is proportional to the stated, not equal to it; then the
    deviance has to be divided by this before models are compared.
    """
    reduced = np.array([fit.reduced_chi_square for fit in fits])
    reduced = reduced[:, np.isfinite(reduced).all(axis=0)]
    return float(np.median(reduced.min(axis=0))) if reduced.size else np.nan


def choose_model(one, two, *smeared, noise=1.0):
    """Decide between one and two peaks in each frame.

    Parameters
    ----------
    one, two : PeakFit
        Fits of the same profiles.
    *smeared : PeakFit
        Fits of the models "graded" and "tailed". Without them a composition gradient passes for
        two phases.
    noise : float
        `dispersion` of the noise.

    Returns
    -------
    Choice
    """
    size = np.log(np.maximum(one.n_bins, 1))

    def criterion(fit):
        return fit.deviance / noise + fit.n_parameters * size

    b1, b2 = criterion(one), criterion(two)
    others = [criterion(fit) for fit in smeared]
    with np.errstate(invalid="ignore"):
        log_odds = -b2 / 2 - np.logaddexp.reduce([-b1 / 2, *(-b / 2 for b in others)])
        smeared_gain = np.min(others, axis=0) - b2 if others else np.full_like(b1, np.nan)
        both = (two.area > _DETECTION * two.area_error * np.sqrt(noise)).all(axis=1)
        gap = np.diff(two.position, axis=1)[:, 0]
        splitting = gap / two.fwhm.mean(axis=1)
        variance = two.covariance[:, 0, 0] + two.covariance[:, 1, 1] - 2 * two.covariance[:, 0, 1]
        apart = (gap > _APART * np.sqrt(noise * variance)) & (splitting > _SPLITTING)
        log_odds = np.where(both & apart, log_odds, np.minimum(log_odds, 0))
        found = log_odds > EVIDENCE
    n_peaks = np.where(found, 2, np.isfinite(one.position[:, 0]).astype(int))
    return Choice(n_peaks, log_odds, b1 - b2, smeared_gain, splitting)


def fit_one_or_two(profiles, k, **options):
    """Fit one peak and two, and decide, with the smeared models for comparison.

    Parameters
    ----------
    profiles, k
        As in `fit_peaks`.
    **options
        Of `fit_peaks`: variance, background, shared_width, eta, scale_errors.

    Returns
    -------
    one, two : PeakFit
    choice : Choice
    noise : float
        `dispersion` of the noise. Less than 1 is not believed: it would sharpen the evidence.
    """
    fits = [fit_peaks(profiles, k, model, **options) for model in MODELS]
    noise = dispersion(*fits)
    return *fits[:2], choose_model(*fits, noise=max(noise, 1.0)), noise


def two_phase_probability(log_odds, switch=_SWITCH):
    """Probability of two phases in each frame, given all frames.

    A hidden Markov chain of two states whose prior is to stay; forward-backward algorithm
    (Rabiner, Proc. IEEE 77 (1989) 257, doi:10.1109/5.18626). Zero evidence is `EVIDENCE`.

    Parameters
    ----------
    log_odds : array of shape (n,)
        NaN for a frame that tells nothing.
    switch : float
        Prior probability of a change from one frame to the next.

    Returns
    -------
    array of shape (n,)
    """
    if not 0 < switch < 1:
        raise ValueError(f"switch is a probability between 0 and 1, not {switch}")
    evidence = np.clip(np.nan_to_num(log_odds - EVIDENCE), -_MOST_EVIDENCE, _MOST_EVIDENCE)
    likelihood = np.exp(np.stack([-evidence, evidence], axis=1) / 2)
    move = np.array([[1 - switch, switch], [switch, 1 - switch]])
    forward, backward = np.ones_like(likelihood), np.ones_like(likelihood)
    state = np.array([0.5, 0.5])
    for i, value in enumerate(likelihood):
        state = (state @ move) * value
        forward[i] = state = state / state.sum()
    state = np.ones(2)
    for i in range(len(likelihood) - 2, -1, -1):
        state = move @ (likelihood[i + 1] * state)
        backward[i] = state = state / state.sum()
    both = forward * backward
    return both[:, 1] / both.sum(axis=1)


def with_neighbours(choice, two):
    """The same choice with what the frames before and after say: see `two_phase_probability`.

    A second peak in one frame alone is noise, and a weak one between frames that have it is there.

    Parameters
    ----------
    choice : Choice
    two : PeakFit
        Of two peaks.

    Returns
    -------
    Choice
    """
    likely = two_phase_probability(choice.log_odds) > 0.5
    seen = np.isfinite(two.position).all(axis=1) & (choice.splitting > _SPLITTING)
    n_peaks = np.where(likely & seen, 2, np.minimum(choice.n_peaks, 1))
    return choice._replace(n_peaks=np.where(choice.n_peaks == 0, 0, n_peaks))


class Transformation(NamedTuple):
    """Verdict on a transformation, and what it rests on.

    `moved` and `exchanged` are cumulative over time in units of position; their errors are those
    of one frame.
    """

    verdict: str  # one of LABELS
    labels: np.ndarray  # (n,) str: the same of each frame and its neighbours
    probability: np.ndarray  # (n,): of two phases
    moved: np.ndarray  # (n,): change of the mean position by peaks that move
    exchanged: np.ndarray  # (n,): by intensity that goes from one peak to the other
    moved_range: float
    exchanged_range: float
    jumped_range: float  # the part of `exchanged` that happened between two frames of one peak
    moved_error: float
    exchanged_error: float


def transformation(
    position, position_error, pair, pair_error, fraction, fraction_error, fwhm, log_odds
):
    """Solid solution, two phases, or both.

    Parameters
    ----------
    position, position_error : array of shape (n,)
        Of the one peak, frames in the order of time.
    pair, pair_error : array of shape (n, 2)
        Of the two peaks, in the order of k.
    fraction, fraction_error : array of shape (n,)
        Of the second peak, in intensity or better in moles.
    fwhm : array of shape (n,)
        Of the one peak. What goes further than its own width between two frames was not followed:
        it jumped, and nobody saw how.
    log_odds : array of shape (n,)
        Of `choose_model`.

    Returns
    -------
    Transformation
        ``"solid solution"``: one peak moved by more than its error allows. ``"two-phase"``: two
        peaks exchanged intensity. ``"mixed"``: each of these was more than a tenth.
        ``"unchanged"``: neither. ``"undetermined"``: most of the change happened between frames, or
        one peak moved by less than its width, as two phases that are not resolved do as well.
    """
    position, fraction = np.asarray(position, float), np.asarray(fraction, float)
    pair, pair_error = np.asarray(pair, float), np.asarray(pair_error, float)
    probability = two_phase_probability(np.asarray(log_odds, float))
    two = (probability > 0.5) & np.isfinite(pair).all(axis=1) & np.isfinite(fraction)
    known = np.flatnonzero(two | np.isfinite(position))
    n = len(position)
    moved, exchanged, jumped = np.zeros(n), np.zeros(n), np.zeros(n)
    for before, after in pairwise(known):
        parts = _change(before, after, two, position, pair, fraction, fwhm)
        moved[after], exchanged[after], jumped[after] = parts
    moved, exchanged, jumped = (np.cumsum(a) for a in (moved, exchanged, jumped))
    blend = np.hypot((1 - fraction) * pair_error[:, 0], fraction * pair_error[:, 1])
    step_error = np.where(two, blend, position_error)
    swap_error = np.where(two, np.diff(pair, axis=1)[:, 0] * fraction_error, np.nan)
    error, swap = _median(step_error[known]), _median(swap_error[two])
    ranges = [float(np.ptp(a)) if n else 0.0 for a in (moved, exchanged, jumped)]
    verdict = _verdict(*ranges, error, swap, len(known))
    if verdict == "solid solution" and ranges[0] < _median(np.asarray(fwhm, float)[known]):
        # two phases that are nearer than a width are one peak, which moves as they exchange
        verdict = "undetermined"
    missing = np.ones(n, bool)
    missing[known] = False
    moving = _moving(moved, step_error, known, ranges[0] + ranges[1])
    labels = np.select(
        [missing, two & moving, two, moving],
        ["no data", "mixed", "two-phase", "solid solution"],
        "unchanged",
    )
    gone = np.where(missing, np.nan, 0)
    return Transformation(
        verdict, labels, probability, moved + gone, exchanged + gone, *ranges, error, swap
    )


def _median(values):
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else 0.0


def _change(before, after, two, position, pair, fraction, fwhm):
    """Moved, exchanged, and the part of the latter that jumped, from one frame to another."""
    if not (two[before] or two[after]):
        change = position[after] - position[before]
        followed = abs(change) <= np.nanmax([fwhm[before], fwhm[after]])
        return (change, 0.0, 0.0) if followed else (0.0, change, change)
    ends = []
    for i, other in ((before, after), (after, before)):
        if two[i]:
            ends.append((*pair[i], fraction[i]))
        else:  # the one peak is the nearer of the other frame's two, the missing one has not moved
            nearer = int(np.argmin(np.abs(pair[other] - position[i])))
            places = pair[other].copy()
            places[nearer] = position[i]
            ends.append((*places, float(nearer)))
    (p1, p2, f), (q1, q2, g) = ends
    mean = (f + g) / 2
    moved = (1 - mean) * (q1 - p1) + mean * (q2 - p2)
    return moved, (p2 + q2 - p1 - q1) / 2 * (g - f), 0.0


def _verdict(moved, exchanged, jumped, moved_error, exchanged_error, n):
    if n < 2:
        return "no data"
    # the range of n values of pure noise, and three standard errors on top
    noise = 2 * np.sqrt(2 * np.log(n)) + 3
    moves, exchanges = moved > noise * moved_error, exchanged > noise * exchanged_error
    if exchanges and jumped > 0.5 * (moved + exchanged):
        return "undetermined"
    total = moved + exchanged
    moves &= moved > _SHARE * total
    exchanges &= exchanged > _SHARE * total
    if moves and exchanges:
        return "mixed"
    return "solid solution" if moves else "two-phase" if exchanges else "unchanged"


def _moving(moved, error, known, total):
    """Where a line through some frames climbs beyond its error and a visible part of the whole."""
    moving = np.zeros(len(moved), bool)
    if len(known) < 3:
        return moving
    for at, i in enumerate(known):
        low = min(max(0, at - _WINDOW // 2), max(0, len(known) - _WINDOW))
        span = known[low : low + _WINDOW]
        x = np.arange(len(span)) - (len(span) - 1) / 2
        slope = (x * moved[span]).sum() / (x**2).sum()
        spread = np.sqrt((x**2 * np.nan_to_num(error[span]) ** 2).sum()) / (x**2).sum()
        far = abs(slope) * (len(span) - 1) > 0.05 * total
        moving[i] = far and abs(slope) > _DETECTION * spread
    return moving


# --- amounts -------------------------------------------------------------------------------------


def intensity_fraction(area, area_error, covariance=0.0):
    """Part of the second peak in the intensity, A2 / (A1 + A2), and its standard error.

    Parameters
    ----------
    area, area_error : array of shape (n, 2)
    covariance : array of shape (n,), optional
        Of the two areas.
    """
    return molar_fraction(area, area_error, 1.0, covariance=covariance)


def molar_fraction(area, area_error, ratio, ratio_error=0.0, covariance=0.0):
    """Molar fraction of the second peak's phase, and its standard error.

    Parameters
    ----------
    area, area_error : array of shape (n, 2)
    ratio : float or array of shape (n,)
        Intensity of a mole of the second phase over that of a mole of the first. In a thin crystal
        `structure_factor_ratio`; where electrons are scattered more than once, from a calculation
        with the thickness or from the areas before and after.
    ratio_error : float or array
        Its standard error.
    covariance : array of shape (n,), optional
        Of the two areas.

    Returns
    -------
    fraction, error : array of shape (n,)
        NaN where there is no intensity.

    Raises
    ------
    ValueError
        Ratio not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_lfp.kernels.peaks.phases import molar_fraction
    >>> fraction, error = molar_fraction(np.array([[100.0, 50.0]]), np.array([[1.0, 1.0]]), 0.5)
    >>> fraction
    array([0.5])
    """
    area, area_error = np.asarray(area, dtype=float), np.asarray(area_error, dtype=float)
    ratio = np.asarray(ratio, dtype=float)
    if not (ratio > 0).all():
        raise ValueError(f"ratio is that of two intensities and positive, not {ratio}")
    first, second = area[..., 0], area[..., 1]
    total = second + ratio * first
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.where(total > 0, total, np.nan)
        by_first, by_second = -ratio * second / total**2, ratio * first / total**2
        variance = (by_first * area_error[..., 0]) ** 2 + (by_second * area_error[..., 1]) ** 2
        variance += 2 * by_first * by_second * covariance
        variance += (first * second / total**2 * ratio_error) ** 2
        return second / total, np.sqrt(variance)


def structure_factor_ratio(first, second, first_volume=1.0, second_volume=1.0):
    """Intensity of a mole of the second phase over that of a mole of the first, thin crystals.

    The integrated intensity of a crystal is proportional to its volume and ``|F|^2/V^2``, V the
    volume of a cell; a mole is N cells of volume V each, so that ``|F|^2/V`` is left.

    Parameters
    ----------
    first, second : complex
        Structure factors of equal numbers of formula units.
    first_volume, second_volume : float
        Volumes of their cells.
    """
    if first == 0:
        raise ValueError("the first structure factor is zero: its phase is not in this reflection")
    return abs(second) ** 2 / abs(first) ** 2 * first_volume / second_volume


def mean_composition(fraction, fraction_error, composition, composition_error):
    """Composition of a mixture, x1 (1 - f) + x2 f, and its standard error.

    Parameters
    ----------
    fraction, fraction_error : array of shape (n,)
        Molar fraction of the second phase.
    composition, composition_error : array of shape (n, 2)
        Of the two phases.

    Returns
    -------
    x, error : array of shape (n,)
    """
    first, second = composition[..., 0], composition[..., 1]
    variance = ((1 - fraction) * composition_error[..., 0]) ** 2
    variance = variance + (fraction * composition_error[..., 1]) ** 2
    variance = variance + ((second - first) * fraction_error) ** 2
    return first + fraction * (second - first), np.sqrt(variance)
