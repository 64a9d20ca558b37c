r"""Chemical potential of a coherent particle in elastic equilibrium.

The elastic energy of a particle that is free at its edge is quadratic in the composition of its
elements; with the equilibrium displacement :math:`u = K^{-1}Lx`
(`hyperspy_lfp.kernels.mechanics.elasticity`)

.. math::
    U = \tfrac12 A\,(e_0\cdot C\,e_0)\,x^Tx - \tfrac12 x^T L^T K^{-1} L\,x,

and its derivative per area A of an element is :math:`\mu_\mathrm{el} = -e_0:\sigma`. A uniform
composition is free of stress.

Host only: SciPy's sparse matrices.
"""

import numpy as np

from hyperspy_lfp.kernels.mechanics.elasticity import displacements


def elastic_operator(mesh):
    """Dense symmetric operator from compositions to the elastic chemical potential.

    Parameters
    ----------
    mesh : Mesh
        Of plane stress or generalised plane strain.

    Returns
    -------
    array of shape (n, n)
        In the unit of the stiffness of the medium, an energy per volume.
    """
    n = mesh.load.shape[1]
    relaxed = mesh.load.T @ displacements(np.eye(n), mesh) / (mesh.spacing[0] * mesh.spacing[1])
    operator = clamped_energy(mesh.medium) * np.eye(n) - relaxed
    # rounding of the factorisation
    return (operator + operator.T) / 2


def clamped_energy(medium):
    """Twice the energy per volume of unit composition that may not strain at all."""
    e0 = medium.eigenstrain
    energy = e0 @ medium.stiffness @ e0
    if medium.along_beam is not None:
        coupling, c22, along = medium.along_beam
        energy += along * (2 * coupling @ e0 + c22 * along)
    return float(energy)
