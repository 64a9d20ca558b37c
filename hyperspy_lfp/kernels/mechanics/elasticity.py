r"""Strain of a particle whose composition varies: coherent lattice, free edge.

Lithium changes the lattice lengths that a piece of crystal would have by itself, the eigenstrain
:math:`e_0\,(x - x_\mathrm{ref})`. A coherent particle cannot follow it everywhere, and is
stressed [Khachaturyan]_:

.. math::
    \nabla\cdot\sigma = 0, \qquad \sigma = C\,[\varepsilon - e_0\,(x - x_\mathrm{ref})], \qquad
    \varepsilon = \operatorname{sym}\nabla u, \qquad \sigma\,n = 0 \text{ on the edge.}

The problem is solved in the image plane, with one of two conditions along the beam, which is
crystal axis b (index 2):

- *plane stress*, a foil thinner than the composition's variations are long: :math:`\sigma_{b\cdot}
  = 0` everywhere, and the stiffness in the plane is :math:`C'_{ij} = C_{ij} - C_{i2}C_{2j}/C_{22}`;
- *generalised plane strain*, a thick particle: :math:`\varepsilon_{bb}` is uniform, and
  :math:`\sigma_{bb}` vanishes on average.

Finite elements: each pixel of the map is a bilinear rectangle (Q4, 2 × 2 Gauss points) with
uniform composition, one sparse factorisation :math:`K` a mask. Elements that touch in a corner
only would be a hinge: pieces of the mask that no edge connects have nodes of their own, and are
three degrees of freedom short each, which are fixed (a rigid motion strains nothing).

What geometric phase analysis then reads, the slopes of the plane that fits u best under a Gaussian
window as the edge cuts it (`hyperspy_lfp.kernels.gpa.lockin`), is `window_slopes`; off the edge it
is the displacement gradient smoothed by that Gaussian.

Host only: SciPy's sparse matrices.

.. [Khachaturyan] A. G. Khachaturyan, Theory of Structural Transformations in Solids, Wiley (1983)
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu

#: The conditions along the beam.
CONDITIONS = ("plane stress", "generalised plane strain")
#: In-plane components of a stress in Voigt order with b along the beam: aa, cc, ac.
_IN_PLANE = (0, 2, 4)
_ALONG_BEAM = 1
#: Gauss points of [-1, 1], exact for the cubic polynomials of a Q4 stiffness.
_GAUSS = np.array([-1.0, 1.0]) / np.sqrt(3.0)
#: Corners of an element in the order of its nodes, (y, x).
_CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))
#: Exponents below which a Gaussian weight is zero: denormal numbers are slow and change nothing.
_NEGLIGIBLE = 60.0


class Medium(NamedTuple):
    """Stiffness and eigenstrain in the image axes, (x, y) order.

    Components are in Voigt order xx, yy, xy; strains with twice the tensor shear.
    """

    stiffness: np.ndarray  # (3, 3)
    eigenstrain: np.ndarray  # (3,), per unit composition
    along_beam: tuple | None  # (coupling (3,), C22, eigenstrain), or None for plane stress


class Mesh(NamedTuple):
    """A particle as finite elements, with its factorised stiffness."""

    mask: np.ndarray  # (ny, nx) bool
    spacing: tuple  # (dy, dx)
    medium: Medium
    labels: np.ndarray  # (n,) which piece an element belongs to, from 0
    nodes: np.ndarray  # (n, 4), (lower, upper) y by (lower, upper) x
    n_nodes: int
    load: sparse.csr_array  # (degrees of freedom, n): forces of unit composition
    free: np.ndarray  # of the degrees of freedom, those that are not fixed
    factor: object  # of the stiffness of the free ones

    @property
    def n_pieces(self):
        return int(self.labels.max()) + 1


def stiffness_matrix(constants):
    """Stiffness of an orthorhombic crystal in its own axes, Voigt order.

    Parameters
    ----------
    constants : sequence of 9 floats
        C11, C22, C33, C44, C55, C66, C12, C13, C23, in any one unit.

    Returns
    -------
    array of shape (6, 6)

    Raises
    ------
    ValueError
        If there are not nine, or the crystal would not be stable.

    Examples
    --------
    >>> from hyperspy_lfp.kernels.mechanics.elasticity import stiffness_matrix
    >>> stiffness_matrix([139, 198, 173, 37, 51, 48, 73, 53, 46])[0, :3]
    array([139.,  73.,  53.])
    """
    c = np.asarray(constants, dtype=float)
    if c.shape != (9,):
        raise ValueError(
            f"constants={constants!r} must be the nine elastic constants "
            "C11, C22, C33, C44, C55, C66, C12, C13, C23."
        )
    matrix = np.diag(c[:6])
    for value, (i, j) in zip(c[6:], ((0, 1), (0, 2), (1, 2)), strict=True):
        matrix[i, j] = matrix[j, i] = value
    if not np.isfinite(c).all() or np.linalg.eigvalsh(matrix)[0] <= 0:
        raise ValueError(
            f"constants={constants!r} are not those of a stable crystal: the stiffness matrix "
            "must be positive definite. Their order is C11, C22, C33, C44, C55, C66, C12, C13, C23."
        )
    return matrix


def orthotropic_medium(constants, eigenstrain, a_direction, condition="plane stress"):
    """An orthorhombic crystal with axis b along the beam.

    Parameters
    ----------
    constants : sequence of 9 floats
        As of `stiffness_matrix`. For another zone axis, permute the crystal axes so that the beam
        is along the second one.
    eigenstrain : sequence of 3 floats
        Strain of a free crystal along a, b and c per unit composition.
    a_direction : sequence of 2 floats
        Axis a in the image, (x, y) order, of any length. Axis c is perpendicular; its sign does
        not matter.
    condition : {"plane stress", "generalised plane strain"}

    Returns
    -------
    Medium

    Raises
    ------
    ValueError
        For constants of no stable crystal, an unknown condition, or no direction.
    """
    if condition not in CONDITIONS:
        raise ValueError(f"condition={condition!r} is unknown; use one of {', '.join(CONDITIONS)}.")
    full = stiffness_matrix(constants)
    e_a, e_b, e_c = (float(e) for e in eigenstrain)
    length = np.hypot(*np.asarray(a_direction, dtype=float))
    if not length > 0:
        raise ValueError(f"a_direction={a_direction!r} must be a vector (x, y) that is not zero.")
    cos, sin = np.asarray(a_direction, dtype=float) / length
    # strains from the image axes to (a, c), where a = (cos, sin) and c = (-sin, cos)
    turn = np.array(
        [
            [cos**2, sin**2, cos * sin],
            [sin**2, cos**2, -cos * sin],
            [-2 * cos * sin, 2 * cos * sin, cos**2 - sin**2],
        ]
    )
    plane = full[np.ix_(_IN_PLANE, _IN_PLANE)]
    coupling, c22 = full[list(_IN_PLANE), _ALONG_BEAM], full[_ALONG_BEAM, _ALONG_BEAM]
    free = np.linalg.solve(turn, [e_a, e_c, 0.0])
    if condition == "plane stress":
        plane = plane - np.outer(coupling, coupling) / c22
        return Medium(turn.T @ plane @ turn, free, None)
    return Medium(turn.T @ plane @ turn, free, (turn.T @ coupling, c22, e_b))


def build_mesh(mask, spacing, medium):
    """Finite elements on the pixels of a mask; factorises their stiffness.

    Parameters
    ----------
    mask : bool array of shape (ny, nx)
    spacing : (float, float)
        Size of a pixel, (dy, dx), any unit of length.
    medium : Medium

    Returns
    -------
    Mesh
    """
    pieces, _ = ndimage.label(mask)
    labels = pieces[mask] - 1
    nodes, n_nodes = _number_nodes(mask, labels)
    stiffness, load = _assemble(nodes, n_nodes, labels, spacing, medium)
    free = _free(mask, labels, nodes, stiffness.shape[0])
    inner = stiffness[free][:, free].tocsc()
    # symmetric and positive definite: no pivoting, and an ordering for symmetric matrices
    factor = splu(
        inner, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    return Mesh(mask, tuple(spacing), medium, labels, nodes, n_nodes, load, free, factor)


def displacements(x, mesh):
    """Displacement of the nodes, and the strain along the beam.

    Parameters
    ----------
    x : array of shape (n, k)
        Composition of the elements less that of the reference, as many as there are pixels in
        the mask, in its order.
    mesh : Mesh

    Returns
    -------
    array of shape (degrees of freedom, k)
        x of all nodes, y of all nodes and, for generalised plane strain, the strain along the beam
        of each piece. Up to a rigid motion of each piece.
    """
    force = mesh.load @ x
    solution = np.zeros_like(force)
    solution[mesh.free] = mesh.factor.solve(np.ascontiguousarray(force[mesh.free]))
    return solution


def displacements_adjoint(weights, mesh):
    """Adjoint of `displacements`: from the degrees of freedom to the elements."""
    solution = np.zeros_like(weights)
    # the stiffness is its own adjoint
    solution[mesh.free] = mesh.factor.solve(np.ascontiguousarray(weights[mesh.free]))
    return mesh.load.T @ solution


def element_strain(u, mesh):
    """Mean strain of each element, (3, n, k): xx, yy, and twice the tensor shear xy."""
    b = _strain_matrix(0.0, 0.0, mesh.spacing)
    return np.einsum("in,enk->iek", b, u[_degrees(mesh.nodes, mesh.n_nodes)])


def _number_nodes(mask, labels):
    """Corners of the elements, numbered piece by piece: (n, 4), and how many there are."""
    rows, columns = np.nonzero(mask)
    width = mask.shape[1] + 1
    corner = [(rows + i) * width + columns + j for i, j in _CORNERS]
    key = np.stack(corner, axis=1) + (labels * width * (mask.shape[0] + 1))[:, None]
    unique, nodes = np.unique(key, return_inverse=True)
    return nodes.reshape(key.shape), len(unique)


def _degrees(nodes, n_nodes):
    """Degrees of freedom of each element, (n, 8): x of its nodes, then y."""
    return np.concatenate([nodes, nodes + n_nodes], axis=1)


def _strain_matrix(eta, xi, spacing):
    """Strain at local coordinates (y, x) in [-1, 1] from the 8 displacements: (3, 8)."""
    dy, dx = spacing
    low_y, low_x = (1 - eta) / 2, (1 - xi) / 2
    of_x = np.outer([low_y, 1 - low_y], [-1 / dx, 1 / dx]).ravel()
    of_y = np.outer([-1 / dy, 1 / dy], [low_x, 1 - low_x]).ravel()
    zero = np.zeros(4)
    return np.array([[*of_x, *zero], [*zero, *of_y], [*of_y, *of_x]])


def _assemble(nodes, n_nodes, labels, spacing, medium):
    """Stiffness and the forces of unit composition; all elements are alike."""
    points = [_strain_matrix(eta, xi, spacing) for eta in _GAUSS for xi in _GAUSS]
    area = spacing[0] * spacing[1]
    stiffness = sum(b.T @ medium.stiffness @ b for b in points) * area / 4
    mean = sum(points) / 4
    force = mean.T @ medium.stiffness @ medium.eigenstrain * area
    dofs = _degrees(nodes, n_nodes)
    size = 2 * n_nodes
    if medium.along_beam is not None:
        coupling, c22, free = medium.along_beam
        dofs = np.concatenate([dofs, size + labels[:, None]], axis=1)
        size += int(labels.max()) + 1
        column = mean.T @ coupling * area
        stiffness = np.block(
            [[stiffness, column[:, None]], [column[None], np.array([[c22]]) * area]]
        )
        force = np.append(
            force + column * free, (coupling @ medium.eigenstrain + c22 * free) * area
        )
    n, m = dofs.shape
    rows, columns = np.repeat(dofs, m, axis=1).ravel(), np.tile(dofs, (1, m)).ravel()
    matrix = sparse.coo_array((np.tile(stiffness.ravel(), n), (rows, columns)), (size, size))
    elements = np.repeat(np.arange(n), m)
    load = sparse.coo_array((np.tile(force, n), (dofs.ravel(), elements)), (size, n))
    return matrix.tocsr(), load.tocsr()


def _free(mask, labels, nodes, size):
    """Degrees of freedom that stay when the rigid motions of each piece are fixed."""
    n_nodes = nodes.max() + 1
    rows, columns = np.nonzero(mask)
    place = np.empty((n_nodes, 2))
    for k, (i, j) in enumerate(_CORNERS):
        place[nodes[:, k]] = np.stack([rows + i, columns + j], axis=1)
    fixed = []
    for piece in range(labels.max() + 1):
        own = np.unique(nodes[labels == piece])
        # a far one, so that rounding turns nothing; x fixed if it lies along y and the reverse
        first = own[0]
        away = place[own] - place[first]
        second = np.hypot(*away.T).argmax()
        along_y = abs(away[second, 0]) >= abs(away[second, 1])
        fixed += [first, first + n_nodes, own[second] + (0 if along_y else n_nodes)]
    return np.setdiff1d(np.arange(size), fixed)


class Windows(NamedTuple):
    """Gaussian windows on elements of a mesh, as its edge cuts them.

    Along each axis the columns of the operators are the lower and the upper corners of the pixels:
    an element has its own value at each of its corners.
    """

    elements: np.ndarray  # (m,) those with a window
    rows: np.ndarray  # (m,) of `along_y` and `along_x`
    columns: np.ndarray
    along_y: np.ndarray  # (2, rows, 2 ny): weight, and weight times distance
    along_x: np.ndarray  # (2, columns, 2 nx)
    slopes: np.ndarray  # (2, 3, m): from the tests 1, x, y to the slopes along x and y


def plan_windows(mesh, sigma, step=1):
    """The windows of geometric phase analysis at the centres of the elements.

    Parameters
    ----------
    mesh : Mesh
    sigma : float
        Standard deviation, the unit of length of the mesh's spacing. One of far less than a pixel
        takes the mean gradient of each element.
    step : int
        Only each so many'th row and column of the map has windows.

    Returns
    -------
    Windows
    """
    places = [np.arange(0, n, step) for n in mesh.mask.shape]
    powers_y, powers_x = (
        _window_matrix(n, at, d, sigma)
        for n, at, d in zip(mesh.mask.shape, places, mesh.spacing, strict=True)
    )
    rows, columns = np.nonzero(mesh.mask)
    elements = np.flatnonzero((rows % step == 0) & (columns % step == 0))
    rows, columns = rows[elements] // step, columns[elements] // step
    windows = Windows(elements, rows, columns, powers_y[:2], powers_x[:2], None)
    ones = _at_corners(np.ones((mesh.n_nodes, 1)), mesh)
    one, x, y, xx, xy, yy = (
        _at_elements(_along(powers_y[i], powers_x[j], ones), mesh, windows)[:, 0]
        for i, j in ((0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0))
    )
    moments = np.stack([[one, x, y], [x, xx, xy], [y, xy, yy]])
    # slopes per this length make the system well scaled
    unit = max(sigma, *mesh.spacing)
    scale = np.array([1, 1 / unit, 1 / unit])
    both = scale[:, None] * scale
    inverse = np.linalg.inv(np.moveaxis(moments * both[..., None], -1, 0)) * both
    return windows._replace(slopes=np.moveaxis(inverse[:, 1:], 0, -1))


def window_slopes(u, mesh, windows):
    """Slopes of the planes that fit the displacement best under each window.

    Parameters
    ----------
    u : array of shape (degrees of freedom, k)
    mesh : Mesh
    windows : Windows

    Returns
    -------
    array of shape (2, 2, m, k)
        Displacement gradient, component and derivative in (x, y) order.
    """
    (plain_y, first_y), (plain_x, first_x) = windows.along_y, windows.along_x
    out = np.empty((2, 2, len(windows.elements), u.shape[1]))
    for component in (0, 1):
        own = u[component * mesh.n_nodes : (component + 1) * mesh.n_nodes]
        corners = _at_corners(own, mesh)
        for n, (y, x) in enumerate(((plain_y, plain_x), (plain_y, first_x), (first_y, plain_x))):
            test = _at_elements(_along(y, x, corners), mesh, windows)
            for j in (0, 1):
                term = windows.slopes[j, n][:, None] * test
                out[component, j] = term if n == 0 else out[component, j] + term
    return out


def window_slopes_adjoint(gradient, mesh, windows):
    """Adjoint of `window_slopes`, from (2, 2, m, k) to (degrees of freedom, k)."""
    (plain_y, first_y), (plain_x, first_x) = windows.along_y, windows.along_x
    out = np.zeros((mesh.load.shape[0], gradient.shape[-1]))
    for component in (0, 1):
        corners = 0.0
        for n, (y, x) in enumerate(((plain_y, plain_x), (plain_y, first_x), (first_y, plain_x))):
            test = sum(windows.slopes[j, n][:, None] * gradient[component, j] for j in (0, 1))
            shape = (mesh.n_pieces, len(y), len(x), test.shape[-1])
            maps = np.zeros(shape)
            maps[mesh.labels[windows.elements], windows.rows, windows.columns] = test
            corners = corners + _along(y.T, x.T, maps)
        out[component * mesh.n_nodes : (component + 1) * mesh.n_nodes] = _from_corners(
            corners, mesh
        )
    return out


def _window_matrix(size, places, spacing, sigma):
    """Integrals of weight times distance to the 0, 1, 2 over a line of pixels: (3, places, 2 size).

    With the shape functions of the lower and upper corner of each pixel, by Gauss points.
    """
    points = (np.arange(size) + 0.5)[:, None] * spacing + _GAUSS * spacing / 2
    distance = points - ((places + 0.5) * spacing)[:, None, None]
    # relative to the nearest point: a window of no width is that of its own pixel
    nearest = spacing / (2 * np.sqrt(3.0))
    exponent = (distance**2 - nearest**2) / (2 * sigma**2)
    weight = np.where(exponent < _NEGLIGIBLE, np.exp(-np.minimum(exponent, _NEGLIGIBLE)), 0.0)
    corners = np.stack([(1 - _GAUSS) / 2, (1 + _GAUSS) / 2], axis=1)  # (point, corner)
    return np.stack([(weight * distance**k @ corners).reshape(len(places), -1) for k in range(3)])


def _along(y, x, maps):
    """Operators along y and x, applied to maps of shape (pieces, y, x, k)."""
    return np.matmul(x, np.stack([np.tensordot(y, m, 1) for m in maps]))


def _at_elements(maps, mesh, windows):
    """Of maps of shape (pieces, rows, columns, k), where the windows are: (m, k)."""
    return maps[mesh.labels[windows.elements], windows.rows, windows.columns]


def _at_corners(u, mesh):
    """From (nodes, k) to the corners of the elements, (pieces, 2 ny, 2 nx, k)."""
    ny, nx = mesh.mask.shape
    maps = np.zeros((mesh.n_pieces, ny, 2, nx, 2, u.shape[1]))
    rows, columns = np.nonzero(mesh.mask)
    for n, (i, j) in enumerate(_CORNERS):
        maps[mesh.labels, rows, i, columns, j] = u[mesh.nodes[:, n]]
    return maps.reshape(mesh.n_pieces, 2 * ny, 2 * nx, -1)


def _from_corners(maps, mesh):
    """Adjoint of `_at_corners`."""
    ny, nx = mesh.mask.shape
    maps = maps.reshape(mesh.n_pieces, ny, 2, nx, 2, -1)
    rows, columns = np.nonzero(mesh.mask)
    values = [maps[mesh.labels, rows, i, columns, j] for i, j in _CORNERS]
    owner = mesh.nodes.T.ravel()
    gather = sparse.coo_array((np.ones(len(owner)), (owner, np.arange(len(owner)))))
    return gather.tocsr() @ np.concatenate(values)
