"""A Gaussian process over the points of a space: what a value is likely to be where nothing was measured.

Notation: X (n, d) coordinates of what was observed, y (n,) values, s (n,) their standard deviations, Z (m, d) where
to predict. The kernel is a Matern 5/2 with a length scale for every column, after scikit-optimize. Its parameters are
the most probable ones under weak priors (maximum a posteriori): with five observations the likelihood alone would
take any landscape for noise.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Surrogate"]

# Of the natural logarithm of each parameter, with y standardised and coordinates within 0..1: (mean, deviation).
_AMPLITUDE_PRIOR = (0.0, 1.0)
_LENGTH_PRIOR = (0.5, 1.0)
_NOISE_PRIOR = (-7.0, 1.5)
_LOG_BOUND = 10.0


class Surrogate:
    """Fitted to observations; needs at least one."""

    def __init__(self, x: NDArray[np.float64], y: NDArray[np.float64], s: NDArray[np.float64]) -> None:
        self._centre = float(np.mean(y))
        # One observation, or equal ones, say nothing of the spread: their own noise is the best guess.
        self._unit = float(np.std(y)) or float(np.mean(s)) or 1.0
        self._x = x
        columns = x.shape[1]
        self._regressor = _regressor_class()(columns, (s / self._unit) ** 2 + 1e-8)
        with warnings.catch_warnings():
            # A parameter at its bound, or a search that ends early: the priors keep it sensible all the same.
            warnings.simplefilter("ignore")
            self._regressor.fit(x, (y - self._centre) / self._unit)

    def predict(self, z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation, (m,) each, of the value itself: without the noise of measuring it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of variances that rounding makes negative: they are taken for zero
            mean, deviation = self._regressor.predict(z, return_std=True)
        return mean * self._unit + self._centre, np.maximum(deviation, 1e-9) * self._unit

    def covariance(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Posterior covariance (m, m) of the values at z."""
        _, covariance = self._regressor.predict(z, return_cov=True)
        found: NDArray[np.float64] = covariance * self._unit**2
        return found

    @property
    def noise(self) -> float:
        """Standard deviation of what the kernel takes for noise beyond that of the observations."""
        return float(np.sqrt(self._regressor.noise_ or 0.0)) * self._unit


@lru_cache(maxsize=1)
def _regressor_class() -> Any:
    """Made on first use: scikit-optimize takes a second to import."""
    from skopt.learning import GaussianProcessRegressor
    from skopt.learning.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    class Regressor(GaussianProcessRegressor):  # type: ignore[misc]
        """scikit-optimize's, with priors on the kernel's parameters."""

        def __init__(self, columns: int, alpha: NDArray[np.float64]) -> None:
            bounds = (np.exp(-_LOG_BOUND), np.exp(_LOG_BOUND))
            super().__init__(
                kernel=ConstantKernel(1.0, bounds) * Matern(np.ones(columns), [bounds] * columns, nu=2.5)
                + WhiteKernel(np.exp(_NOISE_PRIOR[0]), bounds),
                alpha=alpha,
                noise="gaussian",
            )
            self.columns = columns

        def log_marginal_likelihood(
            self, theta: NDArray[np.float64] | None = None, eval_gradient: bool = False, clone_kernel: bool = True
        ) -> Any:
            found = super().log_marginal_likelihood(theta, eval_gradient, clone_kernel)
            if theta is None or len(theta) != self.columns + 2:
                return found
            priors = [_AMPLITUDE_PRIOR] + [_LENGTH_PRIOR] * self.columns + [_NOISE_PRIOR]
            means, deviations = np.array(priors).T
            away = (theta - means) / deviations
            if not eval_gradient:
                return found - 0.5 * float(away @ away)
            value, gradient = found
            return value - 0.5 * float(away @ away), gradient - away / deviations

    return Regressor
