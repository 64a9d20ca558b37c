"""Another way from composition to measured strains, to test the package's against.

Nothing is shared with it: constant-strain triangles, four a cell, on cells of another size and
another origin than the pixels of the map; the particle and its composition are functions of
position; degrees of freedom are interleaved; rigid motions are held by soft springs. Geometric
phase analysis is a plane fitted by weighted least squares to the displacements of all triangles
around a pixel. All vectors are (x, y).
"""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

FEPO4 = (175.9, 153.6, 135.0, 38.8, 47.5, 55.6, 29.6, 54.0, 19.6)
LIFEPO4 = (138.9, 198.0, 173.0, 36.8, 50.6, 47.6, 72.8, 52.5, 45.8)
MEAN = tuple(np.mean([FEPO4, LIFEPO4], axis=0))
#: 10 % off, up and down: a common factor would change nothing.
OFF = tuple(np.multiply(MEAN, [0.9, 1.1, 1.1, 0.9, 0.9, 1.1, 0.9, 1.1, 0.9]))
#: From FePO4 to LiFePO4 along a, b, c.
EIGENSTRAIN = (0.0520, 0.0375, -0.0192)


def solve(inside, x, extent, cell, constants=OFF, thick=True, angle=0.0, offset=(0.37, 0.61)):
    """Triangles, their composition and their displacements.

    `inside` and `x` take arrays of x and y; `extent` is (x0, x1, y0, y1); `angle` that of axis a in
    the (x, y) axes, rad. Gives the centres, displacements and areas of the triangles.
    """
    x0, x1, y0, y1 = extent
    nx, ny = (int(np.ceil((b - a) / cell)) + 2 for a, b in ((x0, x1), (y0, y1)))
    gx = x0 - cell * offset[0] + cell * np.arange(nx)
    gy = y0 - cell * offset[1] + cell * np.arange(ny)
    corners = np.array([(p, q) for q in gy for p in gx])
    centres = np.array([(p + cell / 2, q + cell / 2) for q in gy[:-1] for p in gx[:-1]])
    points = np.concatenate([corners, centres])
    j, i = np.meshgrid(np.arange(nx - 1), np.arange(ny - 1))
    a = (i * nx + j).ravel()
    ring = [a, a + 1, a + 1 + nx, a + nx, a]
    middle = len(corners) + np.arange(len(centres))
    triangles = np.concatenate([np.stack([ring[k], ring[k + 1], middle], axis=1) for k in range(4)])
    at = points[triangles].mean(axis=1)
    kept = inside(at[:, 0], at[:, 1])
    triangles, at = triangles[kept], at[kept]
    value = x(at[:, 0], at[:, 1])

    p = points[triangles]
    one, two = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]
    twice = one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]
    gradients = np.stack(  # of the barycentric coordinates, (triangle, node, 2)
        [
            np.stack([p[:, b, 1] - p[:, c, 1], p[:, c, 0] - p[:, b, 0]], axis=1) / twice[:, None]
            for b, c in ((1, 2), (2, 0), (0, 1))
        ],
        axis=1,
    )
    tensor, coupling, c22 = _tensors(constants, thick, angle)
    cos, sin = np.cos(angle), np.sin(angle)
    axes = np.array([[cos, sin], [-sin, cos]])
    free = axes.T @ np.diag([EIGENSTRAIN[0], EIGENSTRAIN[2]]) @ axes
    area = twice / 2
    blocks = np.einsum("tnj,ijkl,tml,t->tnimk", gradients, tensor, gradients, area)
    stress = np.einsum("ijkl,kl->ij", tensor, free) + coupling * EIGENSTRAIN[1]
    force = np.einsum("tnj,ij,t->tni", gradients, stress, area * value)
    dofs = (2 * triangles[:, :, None] + np.arange(2)).reshape(len(triangles), 6)
    size = 2 * len(points) + 1
    rows, columns = np.repeat(dofs, 6, axis=1).ravel(), np.tile(dofs, 6).ravel()
    matrix = sparse.coo_array((blocks.ravel(), (rows, columns)), (size, size)).tocsr()
    load = np.bincount(dofs.ravel(), force.ravel(), minlength=size)
    if thick:
        side = np.einsum("tnj,ij,t->tni", gradients, coupling, area).ravel()
        column = np.bincount(dofs.ravel(), side, minlength=size)
        last = sparse.coo_array(([1.0], ([size - 1], [0])), (size, 1))
        border = sparse.csr_array(column[:, None])
        matrix = matrix + border @ last.T + last @ border.T
        matrix = matrix + last @ last.T * (c22 * area.sum())
        whole = (coupling * free).sum() + c22 * EIGENSTRAIN[1]
        load[-1] = whole * (area * value).sum()
    used = np.unique(dofs)
    if thick:
        used = np.append(used, size - 1)
    springs = sparse.diags(np.full(len(used), 1e-9 * constants[0]))
    u = np.zeros(size)
    system = (matrix[used][:, used] + springs).tocsc()
    u[used] = spsolve(system, load[used], permc_spec="MMD_AT_PLUS_A")
    return at, u[:-1].reshape(-1, 2)[triangles].mean(axis=1), area


def measure(at, u, area, positions, sigma):
    """Displacement gradients that geometric phase analysis finds at positions, (n, 2, 2)."""
    out = np.full((len(positions), 2, 2), np.nan)
    order = np.argsort(at[:, 1])
    at, u, area = at[order], u[order], area[order]
    for n, centre in enumerate(positions):
        low, high = np.searchsorted(at[:, 1], centre[1] + 4.5 * sigma * np.array([-1, 1]))
        d = at[low:high] - centre
        near = np.abs(d[:, 0]) < 4.5 * sigma
        d = d[near]
        w = area[low:high][near] * np.exp(-(d**2).sum(axis=1) / (2 * sigma**2))
        basis = np.column_stack([np.ones(len(d)), d])
        normal = basis.T @ (w[:, None] * basis)
        fit = np.linalg.solve(normal, basis.T @ (w[:, None] * u[low:high][near]))
        out[n] = fit[1:].T
    return out


def strains(mask, spacing, x, inside, sigma, cell=0.37, angle=0.0, **kwargs):
    """Measured strains along a and c, (2, ny, nx); the first pixel's corner is at (0, 0)."""
    ny, nx = mask.shape
    dy, dx = spacing
    solved = solve(inside, x, (0, nx * dx, 0, ny * dy), cell, angle=angle, **kwargs)
    rows, columns = np.nonzero(mask)
    positions = np.column_stack([(columns + 0.5) * dx, (rows + 0.5) * dy])
    gradient = measure(*solved, positions, sigma)
    cos, sin = np.cos(angle), np.sin(angle)
    out = np.full((2, ny, nx), np.nan)
    for i, v in enumerate(((cos, sin), (-sin, cos))):
        out[i, rows, columns] = np.einsum("i,nij,j->n", v, gradient, v)
    return out


def noise(shape, spacing, sigma, strain, angle, random):
    """Noise of strains along a and c as geometric phase analysis makes it, (2, ny, nx).

    White noise filtered by the derivative of a Gaussian, scaled to the standard deviation `strain`.
    """
    size = [4 * (n + int(np.ceil(8 * sigma / d))) for n, d in zip(shape, spacing, strict=True)]
    # four samples a pixel are white enough: the Gaussian passes nothing near Nyquist
    ky, kx = (np.fft.fftfreq(n, d / 4) * 2 * np.pi for n, d in zip(size, spacing, strict=True))
    ky = ky[:, None]
    out = []
    for vx, vy in ((np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))):
        gain = 1j * (vx * kx + vy * ky) * np.exp(-(sigma**2) * (kx**2 + ky**2) / 2)
        gain /= np.sqrt((np.abs(gain) ** 2).mean())
        field = np.fft.ifft2(np.fft.fft2(random.standard_normal(size)) * gain).real
        out.append(strain * field[::4, ::4][: shape[0], : shape[1]])
    return np.array(out)


def tensors_in_crystal(constants):
    """(2, 2, 2, 2) stiffness of the (a, c) plane, (2, 2) coupling to b, and C22, as they stand."""
    c11, c22, c33, _, c55, _, c12, c13, c23 = constants
    tensor = np.zeros((2, 2, 2, 2))
    tensor[0, 0, 0, 0], tensor[1, 1, 1, 1] = c11, c33
    tensor[0, 0, 1, 1] = tensor[1, 1, 0, 0] = c13
    for i, j in ((0, 1), (1, 0)):
        tensor[i, j, 0, 1] = tensor[i, j, 1, 0] = c55
    return tensor, np.diag([c12, c23]), c22


def _tensors(constants, thick, angle):
    tensor, coupling, c22 = tensors_in_crystal(constants)
    if not thick:
        tensor = tensor - np.einsum("ij,kl->ijkl", coupling, coupling) / c22
        coupling = np.zeros((2, 2))
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])  # columns are a and c
    tensor = np.einsum("ia,jb,kc,ld,abcd->ijkl", turn, turn, turn, turn, tensor)
    return tensor, turn @ coupling @ turn.T, c22
