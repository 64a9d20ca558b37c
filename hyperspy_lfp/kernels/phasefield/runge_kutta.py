r"""Coefficients of the Runge-Kutta method ESDIRK3(2)4L[2]SA.

One explicit and three implicit stages with one diagonal, third order, L-stable, and stiffly
accurate: the end of a step is its last stage, and fulfils algebraic constraints as exactly as that
does [Kennedy2003]_.

References
----------
.. [Kennedy2003] C. A. Kennedy, M. H. Carpenter, Additive Runge-Kutta schemes for
   convection-diffusion-reaction equations, Appl. Numer. Math. 44 (2003) 139,
   doi:10.1016/S0168-9274(02)00138-1
"""

import numpy as np

#: Diagonal of the method: the root of x^3 - 3 x^2 + 3 x / 2 - 1 / 6 that makes it L-stable.
GAMMA = 0.43586652150845899942
#: Times of its implicit stages.
TIMES = (2 * GAMMA, 3 / 5, 1.0)


def _weights():
    """Weights of the stages before, for each implicit stage; the last are those of the step.

    They follow from the conditions of third order, that the second stage is of second order, and
    the times.
    """
    second, third, _ = TIMES
    powers = np.array([[1.0, 1, 1], [0, second, third], [0, second**2, third**2]])
    step = np.linalg.solve(powers, [1 - GAMMA, 1 / 2 - GAMMA, 1 / 3 - GAMMA])
    # sum of b_i a_ij c_j = 1/6
    inner = 1 / 6 - GAMMA / 2 - GAMMA * (step[1] * second + step[2] * third)
    middle = inner / (step[2] * second)
    return (GAMMA,), (third - GAMMA - middle, middle), tuple(step)


STAGES = _weights()
#: Weights of the embedded method of second order.
EMBEDDED = (
    2756255671327 / 12835298489170,
    -10771552573575 / 22201958757719,
    9247589265047 / 10645013368117,
    2193209047091 / 5459859503100,
)
