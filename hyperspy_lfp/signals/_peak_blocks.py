"""What `SpotProfile.fit` does to the profiles of a series."""

import numpy as np

from hyperspy_lfp.kernels._arrays import to_host
from hyperspy_lfp.kernels.patterns.profile_moments import profile_moments
from hyperspy_lfp.kernels.peaks import phases
from hyperspy_lfp.kernels.peaks.fit import fit_peaks

SHAPES = {"pseudo-voigt": None, "gaussian": 0.0, "lorentzian": 1.0}
#: What a SpotTrack holds, in the order of its parameter axis. `single` is the fit of one peak,
#: `pair` that of two; which of them counts in a frame says `n_peaks`.
PARAMETERS = (
    "n_peaks",
    "log_odds",
    *(
        f"single_{name}{end}"
        for name in ("position", "fwhm", "area", "eta")
        for end in ("", "_error")
    ),
    *(
        f"pair_{name}_{i}{end}"
        for i in (1, 2)
        for name in ("position", "fwhm", "area")
        for end in ("", "_error")
    ),
    "pair_eta",
    "pair_eta_error",
    "area_covariance",
    "reduced_chi_square",
    "flags",
    *(
        f"{name}{end}"
        for name in ("centroid", "spread", "skewness", "content")
        for end in ("", "_error")
    ),
)


def fit_block(profiles, variance, k, number, shape, counts, scale_errors):
    """Parameters against time, (n, parameter, time), of profiles (n, time, bins)."""
    profiles, variance = to_host(profiles), to_host(variance)
    out = np.full((len(profiles), len(PARAMETERS), profiles.shape[1]), np.nan)
    for values, noise, result in zip(profiles, variance, out, strict=True):
        for name, row in _fit(values, noise, k, number, shape, counts, scale_errors).items():
            result[PARAMETERS.index(name)] = row
    return out


def _fit(values, noise, k, number, shape, counts, scale_errors):
    options = {"eta": SHAPES[shape], "scale_errors": scale_errors}
    if counts and (values[np.isfinite(values)] < 0).any():
        # no Poisson law gives negative counts: a dark frame was subtracted, whose noise nobody
        # told, so that no bin can be said to be surer than another
        counts, noise = False, np.full_like(noise, np.nan)
        options["scale_errors"] = True
    if not counts:
        options["variance"] = _usable(noise, values)
        # a bin whose noise is not known does not count
        values = np.where(np.isfinite(options["variance"]), values, np.nan)
        options["variance"] = np.where(np.isfinite(values), options["variance"], 1.0)
    if number == "auto":
        one, two, choice, _ = phases.fit_one_or_two(values, k, **options)
        choice = phases.with_neighbours(choice, two)
        pair = choice.n_peaks == 2
        found = _of_single(one) | _of_pair(two)
        found |= {
            "n_peaks": choice.n_peaks,
            "log_odds": choice.log_odds,
            "reduced_chi_square": np.where(pair, two.reduced_chi_square, one.reduced_chi_square),
            "flags": np.where(pair, two.flags, one.flags),
        }
    else:
        fit = fit_peaks(values, k, "one" if number == 1 else "two", **options)
        found = _of_single(fit) if number == 1 else _of_pair(fit)
        found |= {
            "n_peaks": np.where(np.isfinite(fit.position).all(axis=1), number, 0),
            "reduced_chi_square": fit.reduced_chi_square,
            "flags": fit.flags,
        }
    moments = profile_moments(values, k, variance=options.get("variance"))
    if options["scale_errors"]:
        scale = np.sqrt(found["reduced_chi_square"])
        errors = {n: getattr(moments, n) * scale for n in moments._fields if n.endswith("_error")}
        moments = moments._replace(**errors)
    spread = np.sqrt(np.maximum(moments.variance, 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        spread_error = moments.variance_error / (2 * spread)
    found |= {
        "centroid": moments.centroid,
        "centroid_error": moments.centroid_error,
        "spread": spread,
        "spread_error": spread_error,
        "skewness": moments.skewness,
        "skewness_error": moments.skewness_error,
        "content": moments.area,
        "content_error": moments.area_error,
    }
    return found


def _usable(noise, values):
    """Variances that are positive; all equal where none is known."""
    if not np.isfinite(noise).any():
        return np.where(np.isfinite(values), 1.0, np.nan)
    return np.where(noise > 0, noise, np.nan)


def _of_single(fit):
    found = {}
    for name in ("position", "fwhm", "area"):
        found[f"single_{name}"] = getattr(fit, name)[:, 0]
        found[f"single_{name}_error"] = getattr(fit, f"{name}_error")[:, 0]
    found["single_eta"], found["single_eta_error"] = fit.eta, fit.eta_error
    return found


def _of_pair(fit):
    found = {}
    for i in (0, 1):
        for name in ("position", "fwhm", "area"):
            found[f"pair_{name}_{i + 1}"] = getattr(fit, name)[:, i]
            found[f"pair_{name}_{i + 1}_error"] = getattr(fit, f"{name}_error")[:, i]
    found["pair_eta"], found["pair_eta_error"] = fit.eta, fit.eta_error
    first, second = (fit.names.index(name) for name in _areas(fit.names))
    found["area_covariance"] = fit.covariance[:, first, second]
    return found


def _areas(names):
    return [name for name in names if "area" in name][:2]
