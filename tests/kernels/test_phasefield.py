"""The phase field against closed forms: energy, kinetics, diffusion, interfaces, voltage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import erfc, expit

from hyperspy_lfp.kernels.mechanics import elasticity
from hyperspy_lfp.kernels.phasefield import energy, kinetics, runge_kutta, solver, system
from hyperspy_lfp.kernels.phasefield.elastic import elastic_operator
from hyperspy_lfp.kernels.phasefield.grid import build_grid, gradient_operator, walls

SPACING = (1.0, 0.7)  # y, x
DRIVEN = system.Galvanostatic(5e-3)


def make_problem(
    shape=(4, 5),
    shift=0.0,
    interaction=3.0,
    kappa=2.0,
    mean_field=0.0,
    law=kinetics.butler_volmer,
    rate_constant=0.05,
    diffusivity=0.0,
    control=DRIVEN,
    spacing=SPACING,
    mask=None,
):
    grid = build_grid(np.ones(shape, dtype=bool) if mask is None else mask, spacing)
    of_faces = np.ones(len(grid.faces))
    of_cells = np.ones(grid.size)
    made = energy.make_energy(
        shift * of_cells,
        interaction * of_cells,
        gradient_operator(kappa * of_faces, grid),
        mean_field,
    )
    return system.Problem(
        grid, made, law, rate_constant * of_cells, diffusivity * of_faces, control
    )


def diffusion_only(**settings):
    return make_problem(
        rate_constant=0.0, diffusivity=0.4, control=system.Potentiostatic(0.0), **settings
    )


def some_compositions(size, seed=0):
    return np.random.default_rng(seed).uniform(0.05, 0.95, size)


# --- grid ---


def test_faces_join_neighbours_in_the_mask_only():
    mask = np.array([[1, 1, 0], [0, 1, 1]], dtype=bool)
    grid = build_grid(mask, SPACING)
    assert sorted(map(tuple, grid.faces)) == [(0, 1), (1, 2), (2, 3)]
    assert walls([1, 1, 2, 2], grid).sum() == 1
    on_map = grid.on_map(np.arange(4.0))
    np.testing.assert_array_equal(on_map, [[0, 1, np.nan], [np.nan, 2, 3]])


def test_laplacian_of_cosine_without_flux_is_its_discrete_eigenvalue():
    grid = build_grid(np.ones((6, 8), dtype=bool), SPACING)
    mode, squared = cosine_mode((6, 8), (2, 3))
    applied = gradient_operator(np.ones(len(grid.faces)), grid) @ mode
    np.testing.assert_allclose(applied, squared * mode, atol=1e-13)


def cosine_mode(shape, numbers):
    """A mode without flux at the edge, and its squared wave number on the grid."""
    parts, squared = [], 0.0
    for n, k, h in zip(shape, numbers, SPACING, strict=True):
        phase = np.pi * k / n
        parts.append(np.cos(phase * (np.arange(n) + 0.5)))
        squared += (2 - 2 * np.cos(phase)) / h**2
    return np.outer(*parts).ravel(), squared


# --- energy ---


def test_chemical_potential_is_the_derivative_of_the_free_energy():
    problem = make_problem(shift=0.7, mean_field=3.4)
    x = some_compositions(problem.grid.size)
    h = 1e-5
    numerical = [
        (
            energy.free_energy(x + h * e, problem.energy)
            - energy.free_energy(x - h * e, problem.energy)
        )
        / (2 * h)
        for e in np.eye(len(x))
    ]
    # third derivatives are below 1/x^2 = 400, rounding of a sum of 20 terms over h
    bound = 400 * h**2 / 6 + 100 * np.finfo(float).eps / h
    mu = energy.chemical_potential(x, x.mean(), problem.energy)
    np.testing.assert_allclose(mu, numerical, atol=bound)


@given(st.floats(2.02, 8.0))
def test_binodal_has_equal_potentials_and_lies_outside_the_spinodal(omega):
    x = energy.binodal(omega)
    # rounding of x, magnified by the slope of the logarithm
    assert np.log(x / (1 - x)) + omega * (1 - 2 * x) == pytest.approx(0, abs=1e-11)
    unstable = energy.spinodal(omega)
    assert 0 < x < unstable < 0.5
    assert 1 / (unstable * (1 - unstable)) == pytest.approx(2 * omega)


@pytest.mark.parametrize("omega", [0.0, 1.0, 2.0])
def test_no_binodal_where_nothing_separates(omega):
    assert np.isnan(energy.binodal(omega))


def test_interface_has_the_width_and_energy_of_the_regular_solution():
    r"""gamma = int sqrt(2 kappa f) dx, slope of the middle sqrt(2 f(1/2) / kappa)."""
    omega, kappa, length = 3.0, 6.0, 24.0
    bottom = energy.binodal(omega)

    def excess(x):
        def density(x):
            return x * np.log(x) + (1 - x) * np.log(1 - x) + omega * x * (1 - x)

        return density(x) - density(bottom)

    gamma = quad(lambda x: np.sqrt(2 * kappa * max(excess(x), 0)), bottom, 1 - bottom)[0]
    slope = np.sqrt(2 * excess(0.5) / kappa)
    errors = []
    for n in (24, 48):
        h = length / n
        problem = diffusion_only(shape=(1, n), interaction=omega, kappa=kappa, spacing=(1.0, h))
        at = (np.arange(n) + 0.5) * h - length / 2
        course = solver.integrate(problem, expit(at), [0.0, 2e4, 1e5], 1e-3)
        x = course.x[-1]
        assert np.abs(x - course.x[-2]).max() < 1e-6  # equilibrium
        below = energy.free_energy(np.full(n, bottom), problem.energy)
        found = (energy.free_energy(x, problem.energy) - below) * h
        steepest = (x[n // 2] - x[n // 2 - 1]) / h
        errors.append([found / gamma - 1, steepest / slope - 1])
    # second order: the error falls to a quarter; a third leaves room for the next order
    assert np.all(np.abs(errors[1]) < np.abs(errors[0]) / 3)
    # a central difference across the middle, where kappa x''' = (4 - 2 Omega) x', is wrong by
    # h^2 (2 Omega - 4) / (24 kappa); twice that
    assert np.all(np.abs(errors[0]) < (2 * omega - 4) / kappa / 12)


# --- kinetics ---

LAWS = {
    "butler_volmer": kinetics.butler_volmer,
    "hump": kinetics.hump,
    "marcus": kinetics.marcus(8.3),
}


@pytest.mark.parametrize("name", LAWS)
def test_derivatives_of_rate_laws(name):
    law = LAWS[name]
    x, mu, mu_e = (np.array(v) for v in ([0.05, 0.4, 0.9], [-2.0, 0.3, 3.0], [1.0, 0.1, -1.0]))
    values = law(x, mu, mu_e)
    numerical = kinetics.from_function(lambda *at: law(*at)[0])(x, mu, mu_e)
    for value, other in zip(values, numerical, strict=True):
        # central differences with a step of the cube root of the rounding
        np.testing.assert_allclose(value, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", LAWS)
def test_rate_laws_vanish_in_equilibrium_and_follow_the_exchange_rate(name):
    x, mu = np.array([0.1, 0.5, 0.8]), np.array([-1.0, 0.5, 2.0])
    rate, _, of_mu, of_mu_e = LAWS[name](x, mu, mu.copy())
    exchange = 2 * x * np.sqrt(1 - x) if name == "hump" else (1 - x) * np.exp(mu / 2)
    np.testing.assert_allclose(rate, 0, atol=1e-15)
    np.testing.assert_allclose(of_mu, -exchange)
    np.testing.assert_allclose(of_mu_e, exchange)


def test_marcus_formula_is_within_its_five_percent_of_the_integral():
    """Zeng et al. claim less than 5 % for reasonable parameters: the default among them."""
    for reorganisation in (8.3, 10.0, 15.0):

        def one_way(eta, reorganisation=reorganisation):
            return quad(
                lambda e: (
                    np.exp(-((e - reorganisation - eta) ** 2) / (4 * reorganisation)) * expit(-e)
                ),
                -60,
                120,
                limit=400,
                points=[0, reorganisation + eta],
            )[0]

        def net(eta):
            return one_way(-eta) - one_way(eta)

        eta = np.array([0.5, 2.0, 6.0, 12.0, 25.0])
        exact = np.array([net(v) for v in eta])
        root = np.sqrt(1 + np.sqrt(reorganisation) + eta**2)
        width = 2 * np.sqrt(reorganisation)
        formula = (
            np.sqrt(np.pi * reorganisation)
            * np.tanh(eta / 2)
            * erfc((reorganisation - root) / width)
        )
        ratio = kinetics.marcus(reorganisation)(0.5, 0.0, -eta)[0] / formula
        np.testing.assert_allclose(ratio, ratio[0])  # ours is the formula, scaled
        np.testing.assert_allclose(np.abs(exact), formula, rtol=0.05)


# --- elasticity ---

CONSTANTS = (157.4, 175.8, 154.0, 37.8, 49.05, 51.6, 51.2, 53.25, 32.7)
EIGENSTRAIN = (0.052, 0.0375, -0.0192)


@pytest.mark.parametrize("condition", elasticity.CONDITIONS)
def test_elastic_potential_is_minus_eigenstrain_times_stress(condition):
    mask = np.ones((5, 6), dtype=bool)
    mask[0, :2] = False
    medium = elasticity.orthotropic_medium(CONSTANTS, EIGENSTRAIN, (1, 0), condition)
    mesh = elasticity.build_mesh(mask, SPACING, medium)
    operator = elastic_operator(mesh)
    np.testing.assert_array_equal(operator, operator.T)
    # a uniform composition is free of stress, and no other has less energy
    scale = np.abs(operator).max()
    np.testing.assert_allclose(operator @ np.ones(len(operator)), 0, atol=1e-12 * scale)
    assert np.linalg.eigvalsh(operator)[0] > -1e-12 * scale
    x = some_compositions(len(operator))
    u = elasticity.displacements(x[:, None], mesh)
    strain = elasticity.element_strain(u, mesh)[..., 0]
    elastic = strain - medium.eigenstrain[:, None] * x
    stress = medium.stiffness @ elastic
    expected = -medium.eigenstrain @ stress
    if medium.along_beam is not None:
        coupling, c22, free = medium.along_beam
        along = u[-1] - free * x
        expected -= coupling @ medium.eigenstrain * along
        expected -= free * (coupling @ elastic + c22 * along)
    np.testing.assert_allclose(operator @ x, expected, atol=1e-12 * scale)


# --- the system ---


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("control", [system.Galvanostatic(5e-3), system.Potentiostatic(1.3, 40.0)])
def test_jacobian_solves_what_the_residual_changes(dense, control):
    """J^-1 times the numerical derivative of the residual along a direction gives it back."""
    mask = np.ones((4, 5), dtype=bool)
    mask[0, 3:] = False
    problem = make_problem(
        mask=mask, mean_field=3.4, diffusivity=0.3, shift=0.4, kappa=2.2, control=control
    )
    if dense:
        full = problem.energy._replace(operator=problem.energy.operator.toarray())
        problem = problem._replace(energy=full)
    n, stage = problem.grid.size, 0.7
    random = np.random.default_rng(1)
    x, base = random.uniform(0.2, 0.8, (2, n))
    mu_e, mean = 0.8, 0.45

    def lacking(state):
        at, potential, average = state[:n], state[n], state[n + 1]
        rate = system.rate_of_change(at, potential, average, problem)
        return system.residual(at, potential, average, base, 0.5, stage, problem, rate)

    state = np.concatenate([x, [mu_e, mean]])
    solve = system.factorise(
        system.linearise(x, mu_e, mean, problem), stage, problem, system.build_pattern(problem)
    )
    for direction in random.standard_normal((3, n + 2)):
        h = 1e-5
        change = (lacking(state + h * direction) - lacking(state - h * direction)) / (2 * h)
        # an h^2 of third derivatives up to 1/x^3 = 125 times the stiffness of the grid
        np.testing.assert_allclose(solve(change), direction, atol=1e-6)


def test_diffusion_conserves_lithium():
    problem = diffusion_only(mean_field=3.4)
    x = some_compositions(problem.grid.size)
    rate = system.rate_of_change(x, 0.0, x.mean(), problem)
    assert abs(rate.sum()) < 1e-13 * np.abs(rate).sum()


# --- the solver ---


def test_runge_kutta_weights_satisfy_the_conditions_of_their_order():
    g = runge_kutta.GAMMA
    a = np.zeros((4, 4))
    for i, row in enumerate(runge_kutta.STAGES, 1):
        a[i, :i], a[i, i] = row, g
    b, c, lower = a[3], a.sum(axis=1), np.array(runge_kutta.EMBEDDED)
    np.testing.assert_allclose(c[1:], runge_kutta.TIMES, rtol=1e-14)
    np.testing.assert_allclose(
        [b.sum(), b @ c, b @ c**2, b @ a @ c], [1, 1 / 2, 1 / 3, 1 / 6], rtol=1e-14
    )
    np.testing.assert_allclose([lower.sum(), lower @ c], [1, 1 / 2], rtol=1e-14)


def test_one_uniform_cell_has_the_voltage_of_butler_volmer():
    """With E = exp(mu_e / 2): rate / (k (1 - x)) = E - exp(mu) / E."""
    k, rate, omega = 0.05, 5e-3, 3.0
    problem = make_problem(
        shape=(3, 3), interaction=omega, rate_constant=k, control=system.Galvanostatic(rate)
    )
    times = np.linspace(0, 180, 19)
    course = solver.integrate(problem, np.full(9, 0.02), times)
    x = 0.02 + rate * times
    mu = np.log(x / (1 - x)) + omega * (1 - 2 * x)
    drive = rate / (k * (1 - x))
    exact = 2 * np.log((drive + np.sqrt(drive**2 + 4 * np.exp(mu))) / 2)
    np.testing.assert_allclose(course.x, np.broadcast_to(x[:, None], course.x.shape), atol=1e-12)
    np.testing.assert_allclose(course.mu_e, exact, atol=1e-8)


@pytest.mark.parametrize("omega, mean", [(0.0, 0.3), (3.0, 0.5), (3.0, 0.1)])
def test_a_small_wave_grows_or_decays_at_the_linearised_rate(omega, mean):
    """-D x(1-x) q^2 [1/(x(1-x)) - 2 Omega + kappa q^2], the Cahn-Hilliard dispersion."""
    shape, kappa, size = (6, 8), 0.3, 1e-4
    problem = diffusion_only(shape=shape, interaction=omega, kappa=kappa)
    mode, squared = cosine_mode(shape, (1, 2))
    free = mean * (1 - mean)
    rate = -0.4 * free * squared * (1 / free - 2 * omega + kappa * squared)
    last = 1 / abs(rate)
    course = solver.integrate(problem, mean + size * mode, [0.0, last], 1e-8)
    found = (course.x[-1] - mean) @ mode / (mode @ mode) / size
    # second order in the amplitude; the tolerance of some hundred steps of 1e-8 in 1e-4
    assert found == pytest.approx(np.exp(rate * last), rel=3e-3)
    assert course.x[-1].mean() == pytest.approx(mean, abs=1e-14)


@settings(max_examples=8, deadline=None)
@given(
    st.floats(-1.0, 4.0),
    st.floats(0.0, 5.0),
    st.floats(1e-3, 1e-2),
    st.sampled_from(["butler_volmer", "hump"]),
    st.integers(0, 100),
)
def test_lithium_balance_to_rounding(omega, mean_field, rate, name, seed):
    problem = make_problem(
        interaction=omega,
        mean_field=mean_field,
        law=LAWS[name],
        diffusivity=0.2,
        control=system.Galvanostatic(rate),
    )
    x = 0.1 + 0.05 * some_compositions(problem.grid.size, seed)
    times = np.linspace(0, 0.7 / rate, 8)
    course = solver.integrate(problem, x, times, 1e-3)
    np.testing.assert_allclose(course.x.mean(axis=1), x.mean() + rate * times, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(course.times, times)
    assert course.x.min() > 0 and course.x.max() < 1


def two_domains(**settings):
    """A corner that fills differently, without gradients: smooth in time."""
    problem = make_problem(shape=(2, 2), kappa=0.0, **settings)
    interaction = np.array([0.0, 2.5, 2.5, 2.5])
    return problem._replace(energy=problem.energy._replace(interaction=interaction))


TIMES = np.linspace(0, 160, 9)


@pytest.fixture(scope="module")
def exact():
    return solver.integrate(two_domains(), np.full(4, 0.05), TIMES, fixed_steps=160)


def test_third_order_in_the_length_of_the_step(exact):
    errors = []
    for steps in (10, 20, 40):
        course = solver.integrate(two_domains(), np.full(4, 0.05), TIMES, fixed_steps=steps)
        errors.append([np.abs(course.x - exact.x).max(), np.abs(course.mu_e - exact.mu_e).max()])
    order = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(order > 2.7), order


def test_tolerance_bounds_the_error_of_a_stable_course(exact):
    for tolerance in (1e-4, 1e-6):
        course = solver.integrate(two_domains(), np.full(4, 0.05), TIMES, tolerance)
        # errors of the steps add up, at worst all with one sign
        assert np.abs(course.x - exact.x).max() < tolerance * course.steps


def test_second_order_in_the_size_of_cells():
    """A smooth start, relaxing; the errors are those against the finest."""
    found = []
    for n in (8, 16, 32, 64):
        problem = diffusion_only(shape=(1, n), interaction=1.0, kappa=4.0, spacing=(1.0, 16 / n))
        edges = np.linspace(0, 1, n + 1)
        # means over the cells
        start = 0.5 + 0.2 * np.diff(np.sin(np.pi * edges)) * n / np.pi
        x = solver.integrate(problem, start, [0.0, 15.0], 1e-8).x[-1]
        found.append(x.reshape(8, -1).mean(axis=1))
    errors = [np.abs(f - found[-1]).max() for f in found[:-1]]
    order = np.log2(np.array(errors[:-1]) / errors[1:])
    # against the next but one finer grid the ratios are (64-1)/(16-1) and (16-1)/(4-1)
    assert order[0] > np.log2(63 / 15) - 0.2 and order[1] > np.log2(15 / 3) - 0.2


def test_symmetric_particle_stays_symmetric():
    y, x = np.mgrid[-2.5:3, -2.5:3]
    later = 2 * np.exp(-(x**2 + y**2) / 4).ravel()
    problem = make_problem(
        shape=(6, 6), spacing=(1.0, 1.0), interaction=1.5, diffusivity=0.02, shift=later
    )
    course = solver.integrate(problem, np.full(36, 0.1), np.linspace(0, 120, 5), 1e-3)
    maps = problem.grid.on_map(course.x)
    assert np.ptp(maps[2]) > 0.1
    for other in (maps[:, ::-1], maps[:, :, ::-1], maps.swapaxes(1, 2)):
        # Newton's method ends at 1e-11; some hundred steps
        np.testing.assert_allclose(maps, other, atol=1e-8)


def test_delithiation_mirrors_lithiation_where_the_kinetics_are_symmetric():
    law = kinetics.from_function(
        lambda x, mu, mu_e: 2 * np.sqrt(x * (1 - x)) * np.sinh((mu_e - mu) / 2)
    )
    x = 0.1 + 0.1 * some_compositions(20)
    times = np.linspace(0, 120, 5)
    into = make_problem(law=law, diffusivity=0.1, interaction=2.5, shift=0.3)
    out = make_problem(
        law=law, diffusivity=0.1, interaction=2.5, shift=-0.3, control=system.Galvanostatic(-5e-3)
    )
    first = solver.integrate(into, x, times)
    second = solver.integrate(out, 1 - x, times)
    np.testing.assert_allclose(second.x, 1 - first.x, atol=1e-7)
    np.testing.assert_allclose(second.mu_e, -first.mu_e, atol=1e-6)


def test_dense_operator_gives_what_the_sparse_one_gives():
    problem = two_domains(diffusivity=0.2, mean_field=2.0)
    operator = gradient_operator(np.full(len(problem.grid.faces), 2.0), problem.grid)
    operator = operator + problem.energy.operator
    both = [
        solver.integrate(
            problem._replace(energy=problem.energy._replace(operator=o)),
            np.full(4, 0.1),
            np.linspace(0, 100, 3),
            fixed_steps=20,
        )
        for o in (operator.tocsr(), operator.toarray())
    ]
    np.testing.assert_allclose(both[0].x, both[1].x, atol=1e-9)
    np.testing.assert_allclose(both[0].mu_e, both[1].mu_e, atol=1e-7)


def test_potential_is_what_is_given_less_what_the_resistance_takes():
    problem = two_domains(control=system.Potentiostatic(3.0, 200.0))
    course = solver.integrate(problem, np.full(4, 0.05), np.linspace(0, 100, 11))
    # the mean over a stage, whose end is the output: to the rounding of Newton's method
    np.testing.assert_allclose(course.mu_e, 3.0 - 200 * course.mean_rate, atol=1e-6)
    assert np.all(np.diff(course.x.mean(axis=1)) > 0)


def test_time_to_reach_a_mean():
    problem = two_domains(control=system.Potentiostatic(4.0))
    x = np.full(4, 0.05)
    found = solver.time_to_reach(problem, x, 0.6, 1e5, 1e-5)
    course = solver.integrate(problem, x, [0.0, found], 1e-5)
    # the tolerance of a step, times some tens of them
    assert course.x[-1].mean() == pytest.approx(0.6, abs=5e-4)
    assert np.isnan(solver.time_to_reach(problem, x, 0.9999999, 1e4))


def test_a_rate_that_the_kinetics_cannot_reach_stops_with_what_there_is():
    """Towards x = 1 the exchange rate vanishes, and Marcus' rate saturates."""
    problem = make_problem(law=kinetics.marcus(8.3), control=system.Galvanostatic(0.5))
    times = np.linspace(0, 1.8, 19)
    with pytest.raises(solver.ConvergenceError, match=r"time .*, mean composition .*residual") as e:
        solver.integrate(problem, np.full(20, 0.05), times)
    assert 0 < e.value.time < 1.8
    course = e.value.course
    assert 1 < len(course.times) < 19 and course.times[-1] <= e.value.time
    np.testing.assert_allclose(course.x.mean(axis=1), 0.05 + 0.5 * course.times, atol=1e-12)


def test_a_rate_out_of_reach_from_the_start():
    problem = make_problem(law=kinetics.marcus(8.3), control=system.Galvanostatic(1e4))
    with pytest.raises(ValueError, match="no potential within"):
        solver.integrate(problem, np.full(20, 0.05), [0.0, 1e-5])
