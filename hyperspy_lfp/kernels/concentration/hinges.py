r"""A course as few straight pieces: continuous, piecewise linear, its corners found in the data.

Plateaus stay flat, corners stay sharp and rises stay steep, where any smoothing of fixed width
would round them all. Corners are added one by one where they explain most, then taken away while
that costs less than chance would, then moved to where they fit best: Friedman's multivariate
adaptive regression splines [1]_ in one dimension, on whitened data.

References
----------
.. [1] Friedman, Annals of Statistics 19 (1991) 1, doi:10.1214/aos/1176347963.
"""

import numpy as np

from hyperspy_lfp.kernels.concentration.serial_noise import straight_line, whiten

#: Most corners, and most places where they are looked for.
_MOST = 12
_PLACES = 100
#: What a corner must explain, in units of sigma^2 log(n): two, one for its slope and one for its
#: place, which is Schwarz's criterion.
_PRICE = 2.0
#: Where all corners together explain less than this (in sigma^2), adding stops.
_NOTHING = 2.0


def hinge_basis(times, corners):
    """A straight line and a hinge max(0, t - corner) for each corner, shape (n, 2 + k)."""
    hinges = np.maximum(times[:, None] - np.asarray(corners, dtype=float), 0)
    return np.concatenate([straight_line(times), hinges], axis=1)


class HingeFit:
    """Least squares fits of hinges to one series.

    Parameters
    ----------
    times, x, scale : array of shape (n,)
        Times in units of the median interval, and the standard deviations c of the frames.
    sigma, rho : float
        Noise, see `hyperspy_lfp.kernels.concentration.serial_noise`.
    """

    def __init__(self, times, x, scale, sigma, rho):
        self.times, self.gaps = times, np.diff(times)
        self.scale, self.sigma, self.rho = scale, sigma, rho
        self.data = self._white(x)
        step = max(1, int(np.ceil(len(times) / _PLACES)))
        self.places = times[1:-1:step]
        self.step = step

    def _white(self, series):
        scale = self.scale.reshape((-1,) + (1,) * (series.ndim - 1))
        return whiten(series / scale, self.gaps, self.rho) / self.sigma

    def misfit(self, corners):
        """Chi squared."""
        q, _ = np.linalg.qr(self._white(hinge_basis(self.times, corners)))
        return ((self.data - q @ (q.T @ self.data)) ** 2).sum()

    def course(self, corners):
        """Fitted series."""
        basis = hinge_basis(self.times, corners)
        return basis @ np.linalg.lstsq(self._white(basis), self.data, rcond=None)[0]

    def search(self, fixed=()):
        """Corners of the best fit, those in `fixed` first: these are moved, but not given up."""
        corners = self._add(list(fixed))
        corners = self._remove(corners, len(fixed))
        return self._move(corners, len(fixed))

    def _add(self, corners):
        q, _ = np.linalg.qr(self._white(hinge_basis(self.times, corners)))
        rest = self.data - q @ (q.T @ self.data)
        hinges = self._white(np.maximum(self.times[:, None] - self.places, 0))
        # a hinge of which less than this is new lies between corners that are there already
        least = 1e-6 * (hinges**2).sum(axis=0)
        hinges -= q @ (q.T @ hinges)
        most = min(_MOST, (len(self.times) - 2) // 4)
        while len(corners) < most:
            norm = (hinges**2).sum(axis=0)
            new = norm > least
            gain = np.where(new, (hinges.T @ rest) ** 2 / np.where(new, norm, 1), 0)
            best = int(np.argmax(gain))
            if gain[best] < _NOTHING:
                break
            direction = hinges[:, best] / np.sqrt(norm[best])
            rest = rest - direction * (direction @ rest)
            hinges -= np.outer(direction, direction @ hinges)
            corners.append(float(self.places[best]))
        return corners

    def _remove(self, corners, n_fixed):
        misfit = self.misfit(corners)
        price = _PRICE * np.log(len(self.times))
        while len(corners) > n_fixed:
            without = [corners[:i] + corners[i + 1 :] for i in range(n_fixed, len(corners))]
            misfits = [self.misfit(c) for c in without]
            best = int(np.argmin(misfits))
            if misfits[best] - misfit > price:
                break
            misfit, corners = misfits[best], without[best]
        return corners

    def _move(self, corners, n_fixed):
        misfit = self.misfit(corners)
        for step in (self.step, -self.step, self.step / 2, -self.step / 2) * 2:
            for i in range(len(corners)):
                moved = [*corners[:i], corners[i] + step, *corners[i + 1 :]]
                inside = self.times[0] < moved[i] < self.times[-1]
                if not inside or moved[:n_fixed] != sorted(moved[:n_fixed]):
                    continue
                found = self.misfit(moved)
                if found < misfit:
                    misfit, corners = found, moved
        return corners
