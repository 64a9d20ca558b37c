"""Particles in vacuum: masks of pixels, found or given, and the windows they cut.

Truth is a closed form or a plain sum over pixels. Distances to the edge of a particle are positive
inside. The rim is what lies between half a sigma and one and a half from the edge: further out
too little of a window is left, further in a window is nearly whole.
"""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.special import erf

from hyperspy_lfp.kernels.gpa import lattice, lockin
from hyperspy_lfp.kernels.gpa.lockin import plane_wave_fit
from hyperspy_lfp.kernels.gpa.plan import plan_lockin
from hyperspy_lfp.kernels.gpa.windows import mask_weights, masked_windows

NAMES = ("square", "rotated", "hexagonal", "oblique")
SHAPE = (271, 298)
SIGMA = 20.6  # two spacings, the default resolution
CENTRE = (132.4, 153.2)  # (y, x) of the particles, on no pixel
#: A gate for the error of the strain at edges, from shared/gpa.md; at the border of a frame it
#: holds for windows of one spacing, and here they are two wide.
BORDER = 2e-3
#: What a deviation of statistics may be, in standard errors.
UNLIKELY = 4


def _coordinates(shape=SHAPE):
    return np.mgrid[: shape[0], : shape[1]].astype(float)


def _disc(radius=5 * SIGMA, shape=SHAPE, centre=CENTRE):
    y, x = _coordinates(shape)
    return radius - np.hypot(y - centre[0], x - centre[1])


def _rectangle(degrees=17.0, half=(5 * SIGMA, 4.5 * SIGMA), shape=SHAPE, centre=CENTRE):
    along, across = _turned(degrees, shape, centre)
    return np.minimum(half[0] - np.abs(along), half[1] - np.abs(across))


def _turned(degrees, shape=SHAPE, centre=CENTRE):
    """Coordinates along axes that are turned clockwise, from the centre."""
    y, x = _coordinates(shape)
    y, x = y - centre[0], x - centre[1]
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return x * c + y * s, -x * s + y * c


PARTICLES = {"disc": _disc, "rectangle": _rectangle}
#: How the mask comes to the fit.
KNOWN = ("given", "found")


def _plan(synthetic, g, sigma=SIGMA, shape=SHAPE, positions=None):
    positions = synthetic.positions(shape, sigma) if positions is None else positions
    sigma = tuple(np.broadcast_to(np.asarray(sigma, dtype=float), 2))
    return plan_lockin(shape, np.asarray(g)[:, ::-1], sigma, positions)


def _at(array, plan):
    """Values of an array of pixels (..., y, x) next to the samples."""
    rows, columns = (np.rint(a.positions).astype(int) for a in plan[:2])
    return array[..., rows[:, None], columns]


def _fit(frames, plan, distance, known):
    if known == "given":
        return plane_wave_fit(frames, plan, distance > 0)
    return plane_wave_fit(frames, plan, find_edges=known == "found")


def _in_vacuum(fringes, distance, vacuum=1.0):
    return np.where(distance > 0, 1 + fringes, vacuum)


def _rim(distance, plan, sigma=SIGMA):
    at = _at(distance, plan)
    return (at > 0.5 * sigma) & (at < 1.5 * sigma)


def _fixed_window(image, g, plan):
    """The displacement gradient of a lock-in whose window nothing moves: what a mask is for."""
    y, x = _coordinates(image.shape)
    gradients = []
    for v in g:
        wave = (image - image.mean()) * np.exp(-2j * np.pi * (v[0] * x + v[1] * y))
        value, along_x, along_y = (
            gaussian_filter(wave.real, SIGMA, order, mode="constant", truncate=5)
            + 1j * gaussian_filter(wave.imag, SIGMA, order, mode="constant", truncate=5)
            for order in (0, (0, 1), (1, 0))
        )
        gradients.append(_at(np.stack([along_x / value, along_y / value]).imag, plan))
    return -np.einsum("ik,kjyx->ijyx", np.linalg.inv(g), gradients) / (2 * np.pi)


# --- the normal equations, against a sum over pixels ---

#: Windows of unequal width, in a frame that is neither square nor even.
UNEQUAL = (11.0, 16.0)
ODD = (131, 158)
TERMS = ((0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0))  # exponents (y, x)


def _weights(kind):
    """A turned rectangle, a band along one border and a corner, with smooth random weights."""
    y, x = _coordinates(ODD)
    inside = _rectangle(-23.0, (55, 40), ODD, (60, 70)) > 0
    inside |= (y < 20) | ((y > 100) & (x > 120))
    if kind == "mask":
        return inside.astype(float)
    smooth = gaussian_filter(np.random.default_rng(0).random(ODD), 3)
    return inside * (smooth - smooth.min()) / np.ptp(smooth)


def _by_hand(weights, plan, degree, at):
    """Share of the window, condition, rows of the inverse and gains (x, y) at one place."""
    u = [(np.arange(n) - p) / s for n, p, s in zip(ODD, at, UNEQUAL, strict=True)]
    whole = np.outer(*(np.exp(-(v**2) / 2) * a.weight for v, a in zip(u, plan[:2], strict=True)))
    window = whole * weights / whole.sum()
    terms = TERMS[: {1: 3, 2: 6}[degree]]
    model = np.stack([(u[0] ** i)[:, None] * u[1] ** j for i, j in terms]).reshape(len(terms), -1)
    system = (model * window.ravel()) @ model.T
    noise = (model * window.ravel() ** 2) @ model.T
    condition = np.linalg.cond(system)
    if condition > 1e12:
        return window.sum(), condition, None, None
    rows = np.linalg.inv(system)[:3]
    gains = [rows[i] @ noise @ rows[i] / UNEQUAL[2 - i] ** 2 for i in (1, 2)]
    return window.sum(), condition, rows, gains


@pytest.mark.parametrize("kind", ["mask", "weights"])
@pytest.mark.parametrize("degree", [1, 2])
def test_windows_are_those_of_a_sum_over_pixels(synthetic, degree, kind):
    weights = _weights(kind)
    positions = [np.linspace(0, n - 1, int(2 * n / s)) for n, s in zip(ODD, UNEQUAL, strict=True)]
    plan = _plan(synthetic, synthetic.lattice("rotated").g, UNEQUAL, ODD, positions)
    windows = masked_windows(weights, plan, np, degree)
    assert windows.terms == TERMS[: {1: 3, 2: 6}[degree]]
    place = {p: i for i, p in enumerate(zip(windows.rows, windows.columns, strict=True))}
    middle = tuple(len(p) // 2 for p in positions)
    # six times the noise of a whole window, that of the middle of the frame
    along_y, along_x = (a.noise_gain[:, m] for a, m in zip(plan[:2], middle, strict=True))
    limit = 36 * np.array([along_y[0] * along_x[1], along_y[1] * along_x[0]])
    whole, errors = 0, []
    for i, y in enumerate(positions[0]):
        for j, x in enumerate(positions[1]):
            share, condition, rows, gains = _by_hand(weights, plan, degree, (y, x))
            found = np.array([gain[i, j] for gain in windows.gains])
            if windows.missing[i, j]:
                assert share < 0.101 or condition > 1e5 or np.any(gains > 0.99 * limit)
                continue
            assert share > 0.099 and np.all(gains < 1.01 * limit)
            if (i, j) not in place:
                # as good as whole: less than a thousandth of its weight is missing, at
                # distances of three sigma, where squares count ten times as much
                assert share > 1 - 2e-3
                np.testing.assert_allclose(found, gains, rtol=0.02)
                whole += 1
                continue
            error = np.abs(windows.solution[place[i, j]] - rows).max() / np.abs(rows).max()
            errors.append([error, *np.abs(found / gains - 1)])
    assert len(errors) > 150
    assert np.median(errors, axis=0).max() < 1e-3
    # windows end at 5 sigma, where 1e-5 of their moments is left: a condition number of hundreds
    # makes up to a percent of it, far less than the noise itself is known to
    assert np.max(errors) < 1e-2
    assert whole > 0 or kind == "weights"


@pytest.mark.parametrize("degree", [1, 2])
def test_windows_of_all_pixels_are_whole(synthetic, degree):
    plan = _plan(synthetic, synthetic.lattice("rotated").g, UNEQUAL, ODD)
    windows = masked_windows(np.ones(ODD), plan, np, degree)
    assert len(windows.rows) == 0 and not windows.missing.any()
    np.testing.assert_allclose(
        windows.gains[0][10, 10], plan.y.noise_gain[0][10] * plan.x.noise_gain[1][10]
    )


def test_few_dead_pixels_change_nothing_far_from_them(synthetic):
    plan = _plan(synthetic, synthetic.lattice("rotated").g, UNEQUAL, ODD)
    weights = np.ones(ODD)
    weights[60:66, 70:76] = 0
    windows = masked_windows(weights, plan, np, 2)
    at = [a.positions for a in plan[:2]]
    distance = np.hypot(
        (at[0][windows.rows] - 63) / UNEQUAL[0], (at[1][windows.columns] - 73) / UNEQUAL[1]
    )
    assert 0 < len(windows.rows) and distance.max() < 5
    assert not windows.missing.any()


# --- weights of the pixels ---


@pytest.mark.parametrize("degrees", [0.0, 90.0, 31.0])
def test_weights_rise_from_the_edge(synthetic, degrees):
    """An edge under a Gaussian is an error function; half of it is outside."""
    plan = _plan(synthetic, synthetic.lattice("rotated").g)
    distance, _ = _turned(degrees)
    weights = mask_weights(distance > 0, plan, np)
    assert weights.shape == SHAPE and weights.dtype == np.float32
    assert not weights[distance <= 0].any()
    first_stage = np.sqrt(plan.x.tuning[0])
    inside = distance > 0
    if degrees == 31.0:  # where the border cuts a slanted edge, its window is no straight one
        inside &= synthetic.border([np.arange(n) for n in SHAPE], SHAPE) > 4 * first_stage
    # linear between nodes a first width apart: an eighth of the curvature
    error = weights[inside] - erf(distance[inside] / first_stage / np.sqrt(2))
    assert np.abs(error).max() < 0.5 / 8 + 0.5 / first_stage
    assert weights[distance > 5 * first_stage].min() > 1 - 1e-4
    if degrees == 31.0:
        return
    along = weights[SHAPE[0] // 2] if degrees == 0 else weights[:, SHAPE[1] // 2]
    assert np.all(np.diff(along) >= -1e-6)


def test_weights_of_isolated_dead_pixels(synthetic):
    """Each is zero itself and takes 2 / (2 pi sigma_1^2) off its neighbours, a fiftieth."""
    plan = _plan(synthetic, synthetic.lattice("rotated").g, 10.3)
    dead = np.zeros(SHAPE, dtype=bool)
    dead[7::40, 11::40] = True
    dead[0, 0] = True
    weights = mask_weights(~dead, plan, np)
    assert not weights[dead].any()
    assert weights[~dead].min() > 0.9  # the corner pixel is there a quarter of the window
    inner = ~dead & (synthetic.border([np.arange(n) for n in SHAPE], SHAPE) > 25)
    assert weights[inner].min() > 1 - 1.1 * 2 / (2 * np.pi * plan.x.tuning[0])


def test_weights_of_all_and_of_no_pixels(synthetic):
    plan = _plan(synthetic, synthetic.lattice("rotated").g)
    np.testing.assert_allclose(mask_weights(np.ones(SHAPE, bool), plan, np), 1, atol=1e-5)
    assert not mask_weights(np.zeros(SHAPE, bool), plan, np).any()


# --- the strain next to an edge ---


def _tolerance(name):
    """Rms error of a strain of 2 % at the rim: only neighbouring spots leak in.

    Those of a square lattice are 1.4 / d apart and may cost 5 % of the strain; for a third beam
    at 1 / d it is the gate.
    """
    return 0.05 * 0.02 if name in ("square", "rotated") else BORDER


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("particle", PARTICLES)
@pytest.mark.parametrize("name", NAMES)
def test_uniform_strain_of_a_particle(synthetic, name, particle, known):
    """2 % and 3 degrees off g: the rim reads what the middle reads."""
    reference = synthetic.lattice(name)
    f = synthetic.rotation_matrix(3.0) @ np.diag([1.02, 1.0])
    fringes = synthetic.image(SHAPE, synthetic.deformed(reference, f).waves, mean=0.0)
    distance = PARTICLES[particle]()
    plan = _plan(synthetic, reference.g)
    image = _in_vacuum(fringes, distance)
    c = _fit(image, plan, distance, known)
    error = synthetic.strain(c, reference.g, SIGMA) - synthetic.strain_of(f)[:, None, None]
    valid = np.isfinite(error[0])
    rim = _rim(distance, plan)
    assert valid[_at(distance, plan) > 0.9 * SIGMA].mean() > 0.95
    assert not valid[_at(distance, plan) < 0].any()
    tolerance = _tolerance(name)
    assert np.all(synthetic.rms(error[:, rim & valid]) <= tolerance)
    inner = _at(distance, plan) > 1.5 * SIGMA
    assert np.all(synthetic.rms(error[:, inner]) <= tolerance / 5)


@pytest.mark.parametrize("particle", PARTICLES)
def test_a_fixed_window_would_not_do(synthetic, particle):
    """The same rim, demodulated with g under the whole window: the lattice looks like g's."""
    reference = synthetic.lattice("rotated")
    f = synthetic.rotation_matrix(3.0) @ np.diag([1.02, 1.0])
    fringes = synthetic.image(SHAPE, synthetic.deformed(reference, f).waves, mean=0.0)
    distance = PARTICLES[particle]()
    plan = _plan(synthetic, reference.g)
    e = _fixed_window(_in_vacuum(fringes, distance), reference.g, plan)
    error = lattice.strain_components(e, "lattice") - synthetic.strain_of(f)[:, None, None]
    # more than a tenth of the strain
    assert np.max(synthetic.rms(error[:, _rim(distance, plan)])) > 0.1 * 0.02


def _varying(synthetic, name, particle, field):
    """A frame whose strain along one axis varies across the particle, and that strain."""
    degrees = 17.0 if particle == "rectangle" else 0.0
    along, _ = _turned(degrees)
    axis = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])
    if field == "linear":
        slope = 0.02 / (5 * SIGMA)
        push, strain = slope * along**2 / 2, slope * along
    else:
        q = 2 * np.pi / (30 * SIGMA)
        push, strain = -0.02 / q * np.cos(q * along), 0.02 * np.sin(q * along)
    waves = synthetic.lattice(name).waves
    fringes = synthetic.image(SHAPE, waves, lambda x, y: (push * axis[0], push * axis[1]), mean=0.0)
    return fringes, axis, strain


def _slope(found, true):
    return np.polyfit(true, found, 1)[0]


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("field", ["linear", "sine"])
@pytest.mark.parametrize("particle", PARTICLES)
@pytest.mark.parametrize("name", NAMES)
def test_varying_strain_up_to_the_rim(synthetic, name, particle, field, known):
    """Of a strain that varies across the particle 95 % are there at the rim."""
    fringes, axis, strain = _varying(synthetic, name, particle, field)
    g = synthetic.lattice(name).g
    distance = PARTICLES[particle]()
    plan = _plan(synthetic, g)
    c = _fit(_in_vacuum(fringes, distance), plan, distance, known)
    e, _ = lattice.deformation(c, g, SIGMA)
    found = np.einsum("i,ijyx,j->yx", axis, e, axis)
    valid = _rim(distance, plan) & np.isfinite(found)
    # an edge that is found a third of a sigma inside takes a third of the rim
    assert valid.sum() > 0.66 * _rim(distance, plan).sum()
    true = _at(strain, plan)
    assert 0.95 <= _slope(found[valid], true[valid]) <= 1.05
    # and where the strain is largest, at both ends of the particle
    ends = valid & (np.abs(true) > 0.6 * np.abs(true[valid]).max())
    assert 0.95 <= _slope(found[ends], true[ends]) <= 1.05
    assert synthetic.rms((found - true)[valid]) <= _tolerance(name)


@pytest.mark.parametrize("particle", PARTICLES)
def test_without_a_mask_the_rim_is_flat(synthetic, particle):
    """What the tests above would find if nothing were masked."""
    fringes, axis, strain = _varying(synthetic, "rotated", particle, "linear")
    g = synthetic.lattice("rotated").g
    distance = PARTICLES[particle]()
    plan = _plan(synthetic, g)
    image = _in_vacuum(fringes, distance)
    whole, _ = lattice.deformation(plane_wave_fit(image, plan), g, SIGMA)
    for e in (whole, _fixed_window(image, g, plan)):
        found = np.einsum("i,ijyx,j->yx", axis, e, axis)
        valid = _rim(distance, plan) & np.isfinite(found)
        assert _slope(found[valid], _at(strain, plan)[valid]) < 0.75


@pytest.mark.parametrize("drift", [(0.4, -0.3), (7.7, 3.1), (-1234.56, 98765.4)])
@pytest.mark.parametrize("known", KNOWN)
def test_drift_of_the_lattice_is_no_strain(synthetic, drift, known):
    """Other fringes at the edge, the same strain; interior and rim each within its gate."""
    reference = synthetic.lattice("oblique")
    fringes = synthetic.image(SHAPE, reference.waves, lambda x, y: drift, mean=0.0)
    distance = _disc()
    plan = _plan(synthetic, reference.g)
    strain = synthetic.strain(
        _fit(_in_vacuum(fringes, distance), plan, distance, known), reference.g, SIGMA
    )
    valid = _rim(distance, plan) & np.isfinite(strain[0])
    assert np.all(synthetic.rms(strain[:, valid]) <= BORDER)
    assert np.all(synthetic.rms(strain[:, _at(distance, plan) > 1.5 * SIGMA]) <= BORDER / 10)
    # a window hardly reaches so far
    assert np.abs(strain[:, _at(distance, plan) > 4.5 * SIGMA]).max() <= BORDER / 100


@pytest.mark.parametrize("vacuum", [0.0, 1.7])
@pytest.mark.parametrize("known", KNOWN)
def test_brightness_of_the_vacuum_is_no_strain(synthetic, vacuum, known):
    """A step of three to nine amplitudes at the edge."""
    reference = synthetic.lattice("rotated")
    fringes = synthetic.image(SHAPE, reference.waves, mean=0.0)
    distance = _rectangle()
    plan = _plan(synthetic, reference.g)
    image = _in_vacuum(fringes, distance, vacuum)
    strain = synthetic.strain(_fit(image, plan, distance, known), reference.g, SIGMA)
    valid = _rim(distance, plan) & np.isfinite(strain[0])
    assert np.all(synthetic.rms(strain[:, valid]) <= BORDER)


# --- where too little is left ---


@pytest.mark.parametrize("known", KNOWN)
def test_outside_of_a_particle_is_nan(synthetic, known):
    g, waves = synthetic.lattice("rotated")
    random = np.random.default_rng(1)
    distance = _rectangle()
    image = _in_vacuum(synthetic.image(SHAPE, waves, mean=0.0), distance)
    plan = _plan(synthetic, g)
    c = _fit(image + 0.05 * random.standard_normal(SHAPE), plan, distance, known)
    finite = np.isfinite(c[:, :3]).all(axis=(0, 1))
    assert (finite == np.isfinite(c[:, :3]).any(axis=(0, 1))).all()
    at = _at(distance, plan)
    assert not finite[at < 0].any()
    assert finite[at > 1.2 * SIGMA].all()
    # the corners, where a quarter of a window is left at most
    along, across = (_at(np.abs(a), plan) for a in _turned(17.0))
    corner = (along > 4.6 * SIGMA) & (across > 4.1 * SIGMA)
    assert corner.sum() >= 4 and not finite[corner].any()


@pytest.mark.parametrize("known", KNOWN)
def test_strip_that_is_thinner_than_the_window(synthetic, known):
    """Across 0.8 sigma there are two fringes, and no slope of a parabola that is worth its name.

    One that is found looks wider: what comes of it must not be worse than it says.
    """
    g, waves = synthetic.lattice("rotated")
    _, across = _turned(17.0)
    strip = 0.4 * SIGMA - np.abs(across)
    disc = _disc(3.5 * SIGMA, centre=(135.0, 80.0))
    distance = np.maximum(strip, disc)
    image = _in_vacuum(synthetic.image(SHAPE, waves, mean=0.0), distance)
    plan = _plan(synthetic, g)
    image = image + 0.05 * np.random.default_rng(1).standard_normal(SHAPE)
    c = _fit(image, plan, distance, known)
    finite = np.isfinite(c[:, :3]).all(axis=(0, 1))
    alone = _at(disc, plan) < -1.5 * SIGMA
    assert (_at(strip, plan)[alone] > 0).sum() > 10
    assert finite[_at(disc, plan) > 1.2 * SIGMA].all()
    if known == "given":
        assert not finite[alone].any()
        return
    variance = np.stack([c[:, 3].real, c[:, 3].imag]) / 2 / np.abs(c[:, 0]) ** 2
    slack = 2 * np.pi / synthetic.SPACING * BORDER
    error = np.abs(lattice.phase_gradient(c))
    assert np.all(error[..., alone & finite] < 5 * np.sqrt(variance[..., alone & finite]) + slack)


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("kind", ["disc", "rectangle", "strip"])
def test_nothing_finite_is_noise(synthetic, kind, known):
    """Six times the noise of a whole window at most, counted over many frames."""
    g, waves = synthetic.lattice("rotated")
    distance = {
        "disc": _disc,
        "rectangle": _rectangle,
        "strip": lambda: 1.2 * SIGMA - np.abs(_turned(17.0)[1]),
    }[kind]()
    image = _in_vacuum(synthetic.image(SHAPE, waves, mean=0.0), distance)
    random = np.random.default_rng(3)
    frames = image + 0.1 * random.standard_normal((60, *SHAPE))
    plan = _plan(synthetic, g)
    gradient = lattice.phase_gradient(_fit(frames, plan, distance, known))
    assert np.isfinite(gradient).any()
    # found masks differ from frame to frame: places that most of them have
    often = np.isfinite(gradient).sum(axis=1) > 30
    centred = gradient - np.nanmean(np.where(often[:, None], gradient, 0), axis=1, keepdims=True)
    noise = np.sqrt(np.nanmean(np.where(often[:, None], centred, 0) ** 2, axis=1))
    # 8 pi sigma^4 is what the derivative of a Gaussian does to white noise; amplitude 0.1
    interior = 0.1 / 0.1 / np.sqrt(8 * np.pi * SIGMA**4)
    # 60 frames measure a standard deviation to 9 %
    assert noise.max() < 6 * interior * (1 + UNLIKELY * 0.09)
    assert noise.max() > 1.5 * interior  # up to the rim, where there is more of it


@pytest.mark.parametrize("known", KNOWN)
def test_edge_through_the_middle_of_the_frame(synthetic, known):
    """What is too noisy does not depend on what happens to lie in the middle of the frame."""
    g, waves = synthetic.lattice("rotated")
    _, x = _coordinates((151, 400))
    wide = 1 + (x < 151.0) * synthetic.image((151, 400), waves, mean=0.0)
    rows = np.linspace(0, 150, 21)
    columns = np.arange(0.0, 300.0, 6.0)
    finite = []
    for width in (300, 400):
        image = wide[:, :width]
        for shift in (0, 1, 2):  # the sample in the middle lies outside, at the edge or inside
            chosen = columns[: len(columns) - shift]
            plan = _plan(synthetic, g, SIGMA, image.shape, [rows, chosen])
            c = _fit(image, plan, 151.0 - x[:, :width], known)
            finite.append(np.isfinite(c[0, 0])[:, : len(columns) - 2])
    for other in finite[1:]:
        np.testing.assert_array_equal(other, finite[0])
    # but for the corners that edge and border make
    assert finite[0][4:-4, columns[:-2] < 151 - 0.9 * SIGMA].all()


@pytest.mark.parametrize("sigma", [8.0, SIGMA])
def test_a_dead_pixel_in_a_particle_hardly_matters(synthetic, sigma):
    """Not to where the fit is possible, nor to what it finds: the local model stays the same."""
    g, waves = synthetic.lattice("rotated")
    distance = _disc(110.0)
    image = _in_vacuum(synthetic.image(SHAPE, waves, mean=0.0), distance)
    image += 0.05 * np.random.default_rng(5).standard_normal(SHAPE)
    plan = _plan(synthetic, g, sigma)
    mask = distance > 0
    expected = plane_wave_fit(image, plan, mask)
    image[130, 150] = np.nan
    c = plane_wave_fit(image, plan, mask)
    np.testing.assert_array_equal(np.isfinite(c[:, 0]), np.isfinite(expected[:, 0]))
    # the pixel and what its neighbours lose in weight, two more, times the height of a window;
    # that of the value of a parabola is twice as high
    gone = 0.6 * 3 * 2 / (2 * np.pi * sigma**2)
    change = np.abs(c[:, 0] - expected[:, 0])
    assert np.nanmax(change) < gone
    far = _at(np.hypot(*(a - c for a, c in zip(_coordinates(), (130, 150), strict=True))), plan)
    far = (far > 6 * sigma) & np.isfinite(change[0])
    assert np.all(change[:, far] < 1e-3 * gone)


def test_nan_pixels_inside_and_outside_of_a_mask(synthetic):
    """Outside they are not looked at; inside they are left out, as many as they may be."""
    g, waves = synthetic.lattice("rotated")
    distance = _disc()
    fringes = synthetic.image(SHAPE, waves, mean=0.0)
    plan = _plan(synthetic, g)
    mask = distance > 0
    expected = plane_wave_fit(1 + fringes, plan, mask)
    outside = np.where(mask, 1 + fringes, np.nan)
    np.testing.assert_array_equal(plane_wave_fit(outside, plan, mask), expected)
    _, x = _coordinates()
    end = CENTRE[1] + 2 * SIGMA
    half = np.where(x > end, np.nan, 1 + fringes)
    c = plane_wave_fit(half, plan, mask)
    finite = np.isfinite(c[0, 0])
    at = _at(np.minimum(distance, end - x), plan)
    assert not finite[at < 0].any() and finite[at > 1.2 * SIGMA].all()
    strain = synthetic.strain(c, g, SIGMA)
    valid = np.isfinite(strain[0])
    assert np.all(synthetic.rms(strain[:, valid & (at > 0.5 * SIGMA)]) <= BORDER)
    assert np.isnan(plane_wave_fit(np.full(SHAPE, np.nan), plan, mask)).all()


# --- masks and stacks ---


def test_a_mask_of_all_pixels_is_no_mask(synthetic):
    """But for rounding: the mean is taken off in another way."""
    g, waves = synthetic.lattice("oblique")
    image = synthetic.image(ODD, waves, lambda x, y: (0.3 * np.sin(y / 20), 0.0))
    plan = _plan(synthetic, g, UNEQUAL, ODD)
    c = plane_wave_fit(image, plan, np.ones(ODD, dtype=bool))
    expected = plane_wave_fit(image, plan)
    np.testing.assert_allclose(c[:, 0], expected[:, 0], atol=1e-6 * 0.2)
    np.testing.assert_allclose(c[:, 1:3], expected[:, 1:3], atol=1e-6 * 0.2)


def test_masks_of_a_stack_are_those_of_its_frames(synthetic):
    g, waves = synthetic.lattice("rotated")
    random = np.random.default_rng(2)
    frames = synthetic.image(SHAPE, waves) + 0.2 * random.standard_normal((2, 2, *SHAPE))
    distances = [_disc(), _rectangle(), _disc(70.0), _rectangle(60.0)]
    masks = np.stack([d > 0 for d in distances]).reshape(2, 2, *SHAPE)
    frames[1, 0, 100:110, 120] = np.nan
    plan = _plan(synthetic, g)
    together = plane_wave_fit(frames, plan, masks)
    one_for_all = plane_wave_fit(frames, plan, masks[0, 1])
    for i in np.ndindex(2, 2):
        np.testing.assert_array_equal(together[i], plane_wave_fit(frames[i], plan, masks[i]))
        np.testing.assert_array_equal(one_for_all[i], plane_wave_fit(frames[i], plan, masks[0, 1]))
    particles = np.where(masks, frames, 1.0)
    found = plane_wave_fit(particles, plan, find_edges=True)
    for i in np.ndindex(2, 2):
        alone = plane_wave_fit(particles[i], plan, find_edges=True)
        np.testing.assert_array_equal(found[i], alone)


def test_a_given_mask_comes_before_a_found_one(synthetic):
    g, waves = synthetic.lattice("rotated")
    image = _in_vacuum(synthetic.image(SHAPE, waves, mean=0.0), _disc())
    plan = _plan(synthetic, g)
    mask = _rectangle(half=(60.0, 60.0)) > 0
    given = plane_wave_fit(image, plan, mask)
    np.testing.assert_array_equal(plane_wave_fit(image, plan, mask, find_edges=True), given)


def test_input_and_mask_are_left_alone(synthetic):
    g, waves = synthetic.lattice("rotated")
    image = _in_vacuum(synthetic.image(SHAPE, waves, mean=0.0), _disc())
    mask = _disc() > 0
    image.setflags(write=False)
    mask.setflags(write=False)
    plan = _plan(synthetic, g)
    first = plane_wave_fit(image, plan, mask)
    plane_wave_fit(image, plan, ~mask)
    plane_wave_fit(image, plan, find_edges=True)
    np.testing.assert_array_equal(plane_wave_fit(image, plan, mask), first)


# --- edges that are found ---


@pytest.fixture
def found_masks(monkeypatch):
    """The masks that fits find, in order; None where there is no edge."""
    masks = []
    original = lockin.crystal_mask

    def remember(*args, **kwargs):
        masks.append(original(*args, **kwargs))
        return masks[-1]

    monkeypatch.setattr(lockin, "crystal_mask", remember)
    return masks


#: Smooth amplitudes that change by a factor of two over a particle, (along, across) the edge.
AMPLITUDES = {
    "constant": lambda across, along: 1.0,
    "across": lambda across, along: 1 + np.clip(across / (10 * SIGMA), 0, 1),
    "falling": lambda across, along: 2 - np.clip(across / (10 * SIGMA), 0, 1),
    "along": lambda across, along: 1.5 + 0.5 * np.sin(along / (3 * SIGMA)),
}


@pytest.mark.parametrize("amplitude", AMPLITUDES)
@pytest.mark.parametrize("degrees", [0.0, 90.0, 180.0, 36.0])
def test_found_edge_is_where_it_is(synthetic, found_masks, degrees, amplitude):
    """A straight edge, to a fifth of a sigma all along."""
    reference = synthetic.lattice("rotated")
    f = synthetic.rotation_matrix(2.0) @ np.diag([1.02, 0.99])
    fringes = synthetic.image(SHAPE, synthetic.deformed(reference, f).waves, mean=0.0)
    across, along = _turned(degrees)
    across = across + 2.5 * SIGMA + 0.3  # most of the frame
    image = _in_vacuum(AMPLITUDES[amplitude](across, along) * fringes, across)
    plane_wave_fit(image, _plan(synthetic, reference.g), find_edges=True)
    (found,) = found_masks
    wrong = found != (across > 0)
    # nearer to the border it cuts the windows as well
    wrong &= synthetic.border([np.arange(n) for n in SHAPE], SHAPE) > 2.5 * SIGMA
    assert np.abs(across[wrong]).max(initial=0) < 0.2 * SIGMA


@pytest.mark.parametrize("particle", PARTICLES)
@pytest.mark.parametrize("name", NAMES)
def test_found_particle_is_the_particle(synthetic, found_masks, name, particle):
    """To a third of a sigma, corners aside: a round edge fills less of a window than a straight."""
    g, waves = synthetic.lattice(name)
    distance = PARTICLES[particle]()
    image = _in_vacuum(synthetic.image(SHAPE, waves, mean=0.0), distance)
    image = image + 0.05 * np.random.default_rng(0).standard_normal(SHAPE)
    plane_wave_fit(image, _plan(synthetic, g), find_edges=True)
    (found,) = found_masks
    wrong = found != (distance > 0)
    if particle == "rectangle":
        along, across = (np.abs(a) for a in _turned(17.0))
        wrong &= ~((along > 3.5 * SIGMA) & (across > 3 * SIGMA))
    assert np.abs(distance[wrong]).max() < 0.33 * SIGMA


def test_two_phases_are_one_crystal(synthetic):
    """One has a third of the amplitude of the other: nothing of it is vacuum."""
    g, waves = synthetic.lattice("rotated")
    for degrees in (0.0, 40.0):
        across, _ = _turned(degrees)
        image = synthetic.image(
            SHAPE, waves, modulation=lambda x, y, a=across: np.where(a > 0, 1.0, 1 / 3)
        )
        plan = _plan(synthetic, g)
        c = plane_wave_fit(image, plan, find_edges=True)
        np.testing.assert_array_equal(c, plane_wave_fit(image, plan))
        assert np.isfinite(c).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_frame_full_of_lattice_has_no_edges(synthetic, name, noise):
    """Bit by bit what comes out if none are looked for."""
    reference = synthetic.lattice(name, "gaussians")
    f = synthetic.rotation_matrix(3.0) @ np.diag([1.04, 1.0])
    image = synthetic.image(SHAPE, synthetic.deformed(reference, f).waves)
    image = image + noise * np.random.default_rng(4).standard_normal(SHAPE)
    for sigma in (9.0, SIGMA, 60.0):
        plan = _plan(synthetic, reference.g, sigma)
        c = plane_wave_fit(image, plan, find_edges=True)
        np.testing.assert_array_equal(c, plane_wave_fit(image, plan))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["noise", "constant", "zero", "nan", "one bright pixel"])
def test_frames_without_a_lattice(synthetic, kind):
    """No exception and no warning; nothing that is finite is infinite."""
    g = synthetic.lattice("rotated").g
    frame = {
        "noise": np.random.default_rng(0).poisson(3.0, SHAPE),
        "constant": np.full(SHAPE, 7, dtype=np.uint16),
        "zero": np.zeros(SHAPE, dtype=np.float32),
        "nan": np.full(SHAPE, np.nan),
        "one bright pixel": np.where(_disc() == _disc().max(), 1000.0, 0.0),
    }[kind]
    plan = _plan(synthetic, g)
    for mask, find_edges in ((None, True), (_disc() > 0, False)):
        c = plane_wave_fit(frame, plan, mask, find_edges=find_edges)
        assert c.shape == (2, 4, len(plan.y.positions), len(plan.x.positions))
        assert not np.isinf(c).any()


# --- a lattice far from the given g ---


@pytest.mark.parametrize("turn", [0.2, 1.0, 1.5, 1.7, 3.0])
@pytest.mark.parametrize("direction", [-40.0, 0.0, 40.0])
def test_given_vectors_that_are_off(synthetic, direction, turn):
    """So many radians across a sigma: what comes out is as if g had been right.

    Outwards and aside, since what is more than a quarter of g off is another reflection.
    """
    reference = synthetic.lattice("square", "gaussians")
    aside = reference.g @ synthetic.rotation_matrix(direction)
    aside *= turn / SIGMA / np.linalg.norm(aside, axis=1, keepdims=True)
    random = np.random.default_rng(6)
    image = synthetic.image(SHAPE, reference.waves) + 0.02 * random.standard_normal(SHAPE)
    local = []
    for off in (np.zeros((2, 2)), aside):
        g = reference.g + off / (2 * np.pi)
        c = plane_wave_fit(image, _plan(synthetic, g))
        # the reciprocal lattice itself, whatever g was
        gradient = np.moveaxis(lattice.phase_gradient(c), 0, 1)
        local.append(g[:, :, None, None] + gradient / (2 * np.pi))
    plan = _plan(synthetic, reference.g)
    inside = synthetic.border([a.positions for a in plan[:2]], SHAPE) >= 5 * SIGMA
    difference = (local[1] - local[0])[:, :, inside] / np.linalg.norm(reference.g[0])
    assert np.abs(difference).max() < 3e-6
    assert np.all(synthetic.rms(difference) < 1e-6)


def _noise_of_gradient(image, plan, truth, frames, seed):
    """Mean and standard deviation of the error of the local reciprocal lattice; Poisson noise."""
    random = np.random.default_rng(seed)
    noisy = random.poisson(100 * image, (frames, *image.shape)).astype(np.uint16)
    gradient = lattice.phase_gradient(plane_wave_fit(noisy, plan))  # (2, n, K, y, x)
    error = np.moveaxis(gradient, 0, 2) / (2 * np.pi) - truth[:, :, None, None]
    return error.mean(axis=(0, 3, 4)), np.sqrt(np.mean(error**2))


def test_large_strain_costs_no_precision(synthetic):
    """8 % and 5 degrees under Poisson noise: no bias, and the noise is that of zero strain.

    That of the phase: of the same window on fringes of the same contrast.
    """
    reference = synthetic.lattice("rotated")
    f = synthetic.rotation_matrix(5.0) @ np.diag([1.08, 1.0])
    positions = [np.arange(3 * SIGMA, n - 3 * SIGMA, 1.5 * SIGMA) for n in (331, 350)]
    plan = _plan(synthetic, reference.g, SIGMA, (331, 350), positions)
    noise, frames = [], 60
    # the noise has a correlation of sqrt(2) sigma: samples 1.5 sigma apart are half independent
    independent = frames * 4 * len(positions[0]) * len(positions[1]) / 2
    for seed, deformed in enumerate((reference, synthetic.deformed(reference, f))):
        image = synthetic.image((331, 350), deformed.waves)
        truth = deformed.g - reference.g
        bias, rms = _noise_of_gradient(image, plan, truth, frames, seed)
        noise.append(rms)
        assert np.abs(bias).max() < UNLIKELY * rms / np.sqrt(independent / 4)
    limit = 1 / (2 * np.pi) / np.sqrt(4 * np.pi * SIGMA**4 * 100 * 0.2**2)  # gpa.md
    error = np.sqrt(0.5 / independent)
    assert noise[0] == pytest.approx(limit, rel=UNLIKELY * error)
    assert noise[1] == pytest.approx(limit, rel=UNLIKELY * error)
    assert noise[1] / noise[0] == pytest.approx(1, abs=UNLIKELY * np.sqrt(2) * error)


@pytest.mark.parametrize("known", ["none", "given", "found"])
def test_every_frame_has_its_own_rotation(synthetic, known):
    """Up to 6 degrees and 4 %, particles and whole frames: each is read right."""
    reference = synthetic.lattice("rotated")
    turns = [-6.0, -2.5, 0.0, 1.0, 4.0, 6.0]
    deformations = [
        synthetic.rotation_matrix(t) @ np.diag([1 + t / 150, 1 - t / 300]) for t in turns
    ]
    distance = _disc()
    frames = [
        synthetic.image(SHAPE, synthetic.deformed(reference, f).waves, mean=0.0)
        for f in deformations
    ]
    if known == "none":
        frames = 1 + np.stack(frames)
    else:
        frames = np.stack([_in_vacuum(frame, distance) for frame in frames])
    plan = _plan(synthetic, reference.g)
    c = _fit(frames, plan, distance, known)
    strain = synthetic.strain(c, reference.g, SIGMA)
    at = _at(distance, plan)
    truth = np.stack([synthetic.strain_of(f) for f in deformations], axis=1)
    error = strain - truth[..., None, None]
    assert np.abs(error[..., at > 4.5 * SIGMA]).max() < 5e-5
    assert np.all(synthetic.rms(error[..., at > 1.5 * SIGMA]) < BORDER / 10)


# --- noise ---


def _film(random, shape):
    """An amorphous film: noise with a band around the spots, as a contrast transfer makes it."""
    white = random.standard_normal(shape)
    band = gaussian_filter(white, (0, 1, 1), mode="wrap")
    return band - gaussian_filter(white, (0, 3, 3), mode="wrap")


def _draw(kind, image, number, random):
    shape = (number, *image.shape)
    if kind == "poisson":
        return random.poisson(100 * image, shape).astype(np.uint16)
    if kind == "gaussian":
        return (100 * image + 10 * random.standard_normal(shape)).astype(np.float32)
    return 100 * image + 30 * _film(random, shape)


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.parametrize("kind", ["poisson", "gaussian", "film"])
@pytest.mark.parametrize(
    ("particle", "known"), [("disc", "given"), ("rectangle", "found"), ("small", "given")]
)
def test_predicted_variance_in_a_particle(synthetic, particle, known, kind):
    """Gate: between 0.9 and 1.1 of the actual rms, at the rim as in the interior."""
    g, waves = synthetic.lattice("rotated")
    # a small one leaves most of the frame to the vacuum
    distance = _disc(2.5 * SIGMA) if particle == "small" else PARTICLES[particle]()
    frames = 120 if particle == "small" else 60
    image = _in_vacuum(synthetic.image(SHAPE, waves, mean=0.0), distance)
    plan = _plan(synthetic, g)
    c = _fit(_draw(kind, image, frames, np.random.default_rng(12)), plan, distance, known)
    gradient = np.moveaxis(lattice.phase_gradient(c), 0, 2)  # (n, K, 2, y, x)
    actual = gradient - np.nanmean(gradient, axis=0)  # the rim's bias is no noise
    actual = actual * np.sqrt(frames / (frames - 1))
    predicted = np.stack([c[:, :, 3].real, c[:, :, 3].imag], axis=2)
    predicted = predicted / 2 / (np.abs(c[:, :, 0]) ** 2)[:, :, None]
    at = _at(distance, plan)
    for where in ((at > 0.7 * SIGMA) & (at < 1.5 * SIGMA), at > 1.5 * SIGMA):
        there = np.isfinite(actual) & where
        assert there.sum() > 0.9 * frames * 4 * where.sum()
        # some 7 independent places, 4 slopes, 60 frames: 2 % of the rms; in a small one 3 %
        ratio = np.sqrt(predicted[there].mean() / np.mean(actual[there] ** 2))
        assert 0.9 < ratio < 1.1


@pytest.mark.parametrize("known", KNOWN)
def test_three_reflections_in_a_particle_reach_the_limit(synthetic, known):
    """Weighted least squares over three equal hexagonal g: 29 % less noise than two, the bound.

    Where the window is whole, whatever lies beyond.
    """
    g, waves = synthetic.lattice("hexagonal")
    three = np.vstack([g, g[0] - g[1]])
    distance = _disc(5.5 * SIGMA)
    image = _in_vacuum(synthetic.image(SHAPE, waves, mean=0.0), distance)
    frames, dose = 80, 100
    # white noise: that of counts is correlated between spots by the spot at their difference
    noise = np.random.default_rng(9).standard_normal((frames, *SHAPE)) * np.sqrt(dose)
    plan = _plan(synthetic, three)
    c = _fit(dose * image + noise, plan, distance, known)
    inner = _at(distance, plan) > 3.5 * SIGMA
    rms = {}
    # a disc of 2 sigma holds one independent place or more
    error = np.sqrt(0.5 / (4 * frames * 1))
    for k in (2, 3):
        e, _ = lattice.deformation(c[:, :k], three[:k], SIGMA)
        rms[k] = np.sqrt(np.mean((e - e.mean(axis=2, keepdims=True))[..., inner] ** 2))
        m = 0.2**2 * three[:k].T @ three[:k]
        limit = np.sqrt(np.trace(np.linalg.inv(m)) / 2 / (16 * np.pi**3 * SIGMA**4 * dose))
        assert rms[k] == pytest.approx(limit, rel=UNLIKELY * error)
    # both from the same frames
    assert rms[3] / rms[2] == pytest.approx(np.sqrt(0.5), rel=UNLIKELY * error)
