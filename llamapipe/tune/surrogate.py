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

__all__ = ["Surrogate", "preload"]

# Of the natural logarithm of each parameter, with coordinates within 0..1: (mean, deviation). Amplitudes and noise are
# variances, in units of that of y.
_AMPLITUDE_PRIOR = (0.0, 1.0)
_LENGTH_PRIOR = (0.5, 1.0)
_NOISE_PRIOR = (-7.0, 1.5)
# Beside features y is in its own unit, and the process models the little that they leave.
_WEIGHT_PRIOR = (0.0, 0.5)
_REST_PRIOR = (-5.0, 1.5)
_REST_NOISE_PRIOR = (-8.5, 1.5)
_LOG_BOUND = 12.0


class Surrogate:
    """Fitted to observations; needs at least one.

    ``features`` F (n, k) say what is known of the structure: y is a weighted sum of them, each weight normal around
    zero with a deviation of about one, and a process of its own on what that leaves. `predict` then wants them too.
    """

    def __init__(
        self,
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        s: NDArray[np.float64],
        features: NDArray[np.float64] | None = None,
    ) -> None:
        self._centre, self._unit = 0.0, 1.0
        if features is None:
            self._centre = float(np.mean(y))
            # One observation, or equal ones, say nothing of the spread: their own noise is the best guess.
            self._unit = float(np.std(y)) or float(np.mean(s)) or 1.0
        num_features = 0 if features is None else features.shape[1]
        self._regressor = _maker()(x.shape[1], num_features, (s / self._unit) ** 2 + 1e-8)
        with warnings.catch_warnings():
            # A parameter at its bound, or a search that ends early: the priors keep it sensible all the same.
            warnings.simplefilter("ignore")
            self._regressor.fit(_joined(x, features), (y - self._centre) / self._unit)

    def predict(
        self, z: NDArray[np.float64], features: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation, (m,) each, of the value itself: without the noise of measuring it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of variances that rounding makes negative: they are taken for zero
            mean, deviation = self._regressor.predict(_joined(z, features), return_std=True)
        return mean * self._unit + self._centre, np.maximum(deviation, 1e-9) * self._unit

    def covariance(self, z: NDArray[np.float64], features: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Posterior covariance (m, m) of the values at z."""
        _, covariance = self._regressor.predict(_joined(z, features), return_cov=True)
        found: NDArray[np.float64] = covariance * self._unit**2
        return found

    @property
    def noise(self) -> float:
        """Standard deviation of what the kernel takes for noise beyond that of the observations."""
        return float(np.sqrt(self._regressor.noise_ or 0.0)) * self._unit


def _joined(x: NDArray[np.float64], features: NDArray[np.float64] | None) -> NDArray[np.float64]:
    return x if features is None else np.concatenate([x, features], axis=1)


def preload() -> None:
    """Import what the first fit would have to wait for, which takes about a second. May be called from any thread."""
    _maker()


@lru_cache(maxsize=1)
def _maker() -> Any:
    """Made on first use: scikit-optimize takes a second to import."""
    from skopt.learning import GaussianProcessRegressor
    from skopt.learning.gaussian_process.kernels import ConstantKernel, DotProduct, Exponentiation, Matern, WhiteKernel

    class OnColumns(Exponentiation):  # type: ignore[misc]  # scikit-optimize has no types
        """A kernel that looks at some columns only. Of `Exponentiation` it keeps how parameters are handed on."""

        def __init__(self, kernel: Any, exponent: tuple[int, int]) -> None:
            self.kernel = kernel
            self.exponent = exponent  # (start, stop) of the columns; parameters are copied by these names

        def __call__(self, x: Any, y: Any = None, eval_gradient: bool = False) -> Any:
            columns = slice(*self.exponent)
            return self.kernel(x[:, columns], None if y is None else y[:, columns], eval_gradient)

        def diag(self, x: Any) -> Any:
            return self.kernel.diag(x[:, slice(*self.exponent)])

    class Regressor(GaussianProcessRegressor):  # type: ignore[misc]
        """scikit-optimize's, with priors on the kernel's parameters."""

        def __init__(self, kernel: Any, alpha: NDArray[np.float64], priors: NDArray[np.float64]) -> None:
            super().__init__(kernel=kernel, alpha=alpha, noise="gaussian")
            self.priors = priors  # (2, parameters)

        def log_marginal_likelihood(
            self, theta: NDArray[np.float64] | None = None, eval_gradient: bool = False, clone_kernel: bool = True
        ) -> Any:
            found = super().log_marginal_likelihood(theta, eval_gradient, clone_kernel)
            means, deviations = self.priors
            if theta is None or len(theta) != len(means):
                return found
            away = (theta - means) / deviations
            if not eval_gradient:
                return found - 0.5 * float(away @ away)
            value, gradient = found
            return value - 0.5 * float(away @ away), gradient - away / deviations

    def make(columns: int, num_features: int, alpha: NDArray[np.float64]) -> Any:
        bounds = (np.exp(-_LOG_BOUND), np.exp(_LOG_BOUND))
        rest, noise = (_REST_PRIOR, _REST_NOISE_PRIOR) if num_features else (_AMPLITUDE_PRIOR, _NOISE_PRIOR)
        matern = Matern(np.ones(columns), [bounds] * columns, nu=2.5)
        kernel = ConstantKernel(np.exp(rest[0]), bounds) * OnColumns(matern, (0, columns))
        priors = [rest, *([_LENGTH_PRIOR] * columns), noise]
        if num_features:
            weighted = OnColumns(DotProduct(1e-6, "fixed"), (columns, columns + num_features))
            kernel = ConstantKernel(1.0, bounds) * weighted + kernel
            priors.insert(0, _WEIGHT_PRIOR)
        return Regressor(kernel + WhiteKernel(np.exp(noise[0]), bounds), alpha, np.array(priors).T)

    return make
