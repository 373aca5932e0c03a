"""The response surface of a study: its objective as a smooth function of learning rate, effective batch and
loss.

A Gaussian process (Rasmussen and Williams, 2006, chapter 2) with a Matern kernel of nu = 2.5, a length scale
for each dimension (the logarithm of the rate, that of the effective batch, and one for each loss) and white
noise. Amplitude, length scales and noise maximise the likelihood; that they are uncertain too is left out.
Other parameters that the study searches are part of the noise.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from pneumo.sweep.attributes import DUPLICATE_OF, EFFECTIVE_BATCH, FAILURE
from pneumo.sweep.labels import BATCH, STEPS

if TYPE_CHECKING:
    from sklearn.gaussian_process import GaussianProcessRegressor

Array = NDArray[np.float64]

RATE, LOSS = "optimizer.lr", "loss"
MIN_TRIALS = 8  # below, so many hyperparameters say nothing
UNKNOWN_SD = 0.8  # of the sd that is assumed before any trial: where more of it is left, it is not known
N_RATES, N_BATCHES, N_DRAWS = 41, 13, 200
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Point:
    """A trial on the surface: its objective, as of `observations`."""

    trial: FrozenTrial
    rate: float
    batch: float
    loss: str
    value: float


@dataclass(frozen=True)
class Surface:
    """What is predicted on a grid of losses, effective batches and learning rates. Arrays are (losses,
    batches, rates) in units of the objective. `best_rates` is (losses, batches, 3) with the `QUANTILES` of
    the rate at which the objective is best, `exponents` (losses, 3) with those of its growth, rate ~
    batch ** exponent."""

    points: Sequence[Point]
    losses: Sequence[str]
    batches: Array
    rates: Array
    mean: Array
    sd: Array
    prior_sd: float
    noise_sd: float
    best_rates: Array
    exponents: Array
    is_minimised: bool

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """(losses, batches, rates): where the trials have taught something."""
        known: NDArray[np.bool_] = self.sd < UNKNOWN_SD * self.prior_sd
        return known

    @property
    def is_best_known(self) -> NDArray[np.bool_]:
        """(losses, batches): where the best rate is known to within half of the searched range, in
        logarithms, and the surface is known there."""
        low, best, high = np.log(np.moveaxis(self.best_rates, -1, 0))
        narrow = high - low < 0.5 * np.log(self.rates[-1] / self.rates[0])
        nearest = np.abs(np.log(self.rates) - best[..., None]).argmin(axis=-1)
        there = np.take_along_axis(self.is_known, nearest[..., None], -1)[..., 0]
        known: NDArray[np.bool_] = narrow & there
        return known


def is_searched(study: optuna.Study) -> bool:
    """Whether the study searches the learning rate, and the batch size or the accumulation."""
    names = {name for trial in study.get_trials(deepcopy=False) for name in trial.params}
    return RATE in names and not names.isdisjoint({BATCH, STEPS})


def observations(study: optuna.Study) -> list[Point]:
    """The complete and pruned trials, each result once. A pruned one counts with its last value and the
    median rise of the complete ones from that epoch to their result: without it, what was pruned would be
    unknown, and with its last value alone, worse than it is."""
    found = []
    trials = [t for t in study.get_trials(deepcopy=False) if RATE in t.params]
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    for trial in trials:
        known = trial.user_attrs
        if DUPLICATE_OF in known or FAILURE in known or not trial.values:
            continue
        value = trial.values[0]
        if trial.state == TrialState.PRUNED:
            epoch = trial.last_step or 0
            then = [(t.values[0], t.intermediate_values.get(epoch)) for t in complete]
            rises = [final - before for final, before in then if before is not None]
            value += float(np.median(rises)) if rises else 0.0
        product = trial.params.get(BATCH, 1) * trial.params.get(STEPS, 1)
        batch = float(known.get(EFFECTIVE_BATCH, product))
        rate = float(trial.params[RATE])
        if rate > 0 and np.isfinite(value):
            found.append(Point(trial, rate, batch, str(trial.params.get(LOSS, "")), value))
    return found


def fitted(study: optuna.Study) -> Surface | None:
    """The surface over the range of rates and batches that the trials have; None with fewer than
    `MIN_TRIALS`, or where they do not differ in one of the two or in their values. The first of several
    objectives counts."""
    points = observations(study)
    rates, batches, values = (
        np.array([getattr(p, name) for p in points]) for name in ("rate", "batch", "value")
    )
    if len(points) < MIN_TRIALS or min(len(set(each)) for each in (rates, batches, values)) < 2:
        return None
    losses = sorted({point.loss for point in points})
    sign = -1.0 if study.directions[0] == StudyDirection.MINIMIZE else 1.0
    codes = np.array([losses.index(point.loss) for point in points])
    scale = Scale(rates, batches, len(losses))
    middle, unit = float(values.mean()), float(values.std())
    process = fit(scale.inputs(rates, batches, codes), sign * (values - middle) / unit)
    noise, amplitude = process.kernel_.k2.noise_level, process.kernel_.k1.k1.constant_value  # variances

    grid_rates = np.geomspace(rates.min(), rates.max(), N_RATES)
    grid_batches = np.geomspace(batches.min(), batches.max(), N_BATCHES)
    shape = (N_BATCHES, N_RATES)
    batch_grid, rate_grid = (each.ravel() for each in np.meshgrid(grid_batches, grid_rates, indexing="ij"))
    random = np.random.default_rng(0)
    mean, sd, best, exponents = [], [], [], []
    for code in range(len(losses)):
        at = scale.inputs(rate_grid, batch_grid, np.full(batch_grid.size, code))
        level, covariance = process.predict(at, return_cov=True)
        covariance = covariance - noise * np.eye(len(at))  # of the surface, not of another trial on it
        draws = random.multivariate_normal(level, covariance, N_DRAWS, method="eigh", check_valid="ignore")
        best_rates = grid_rates[draws.reshape(N_DRAWS, *shape).argmax(axis=-1)]
        slopes = np.polyfit(np.log(grid_batches), np.log(best_rates).T, 1)[0]
        mean.append(middle + unit * sign * level.reshape(shape))
        sd.append(unit * np.sqrt(np.maximum(np.diag(covariance), 0)).reshape(shape))
        best.append(np.quantile(best_rates, QUANTILES, axis=0).T)
        exponents.append(np.quantile(slopes, QUANTILES))
    return Surface(
        points,
        losses,
        grid_batches,
        grid_rates,
        np.array(mean),
        np.array(sd),
        unit * amplitude**0.5,
        unit * noise**0.5,
        np.array(best),
        np.array(exponents),
        sign < 0,
    )


@dataclass(frozen=True)
class Scale:
    """What the process sees of a setting: the logarithms of rate and effective batch, each from 0 to 1 over
    the trials, and a column for each loss, 1 where it is that one."""

    rates: Array
    batches: Array
    n_losses: int

    def inputs(self, rates: Array, batches: Array, codes: NDArray[np.int_]) -> Array:
        """(n, 2), or (n, 2 + losses) where there are several."""
        columns: list[Array] = [
            (np.log(each) - np.log(all_.min())) / np.log(all_.max() / all_.min())
            for each, all_ in ((rates, self.rates), (batches, self.batches))
        ]
        if self.n_losses > 1:
            columns += list(np.eye(self.n_losses)[codes].T)
        return np.stack(columns, axis=1)


def fit(inputs: Array, values: Array) -> "GaussianProcessRegressor":
    """The process of standardised values with the likeliest hyperparameters within bounds. These keep few
    trials from making it flat, free of noise and known everywhere: a length scale is at most the whole
    searched range (1), and the variance of the noise at least .03 of that of the values."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    n_losses = inputs.shape[1] - 2
    lengths, bounds = [0.5] * 2 + [1.0] * n_losses, [(0.3, 1.0)] * 2 + [(0.5, 10.0)] * n_losses
    surface = ConstantKernel(1.0, (0.05, 20.0)) * Matern(lengths, bounds, nu=2.5)
    process = GaussianProcessRegressor(
        surface + WhiteKernel(0.1, (0.03, 2.0)), n_restarts_optimizer=4, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a hyperparameter at its bound is no fault
        return process.fit(inputs, values)
