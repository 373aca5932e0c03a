"""Studies in memory, made by hand or sampled from a known surface."""

import math

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from pneumo.sweep.attributes import DUPLICATE_OF

LOSSES = ["ce", "bce"]
RATES = FloatDistribution(1e-4, 1e-1, log=True)
BATCHES, STEPS = (CategoricalDistribution(choices) for choices in ([6, 16, 32, 64], [1, 2, 4, 8]))
SPACE = {
    "optimizer.lr": RATES,
    "fit.batch_size": BATCHES,
    "fit.accumulation_steps": STEPS,
    "loss": CategoricalDistribution(LOSSES),
}


def study_in_memory(objectives=("val/auroc",), directions=("maximize",), name="s"):
    study = optuna.create_study(directions=list(directions), study_name=name)
    study.set_user_attr("objective", list(objectives))
    study.set_user_attr("study_id", "0123456789abcdef" * 2)
    return study


def best_rate(batch):
    """Of the known surface: it grows as the square root of the batch, from 1e-3 at 6."""
    return 1e-3 * np.sqrt(np.asarray(batch) / 6)


def on_known_surface(n_trials, seed=0, noise=0.01, sign=1, height=0.1):
    """Trials at random settings; `height` is what a rate that is ten times too high or too low costs."""
    random = np.random.default_rng(seed)
    study = study_in_memory(directions=["maximize" if sign > 0 else "minimize"])
    for _ in range(n_trials):
        params = {
            "optimizer.lr": float(10 ** random.uniform(-4, -1)),
            "fit.batch_size": int(random.choice(BATCHES.choices)),
            "fit.accumulation_steps": int(random.choice(STEPS.choices)),
            "loss": str(random.choice(LOSSES)),
        }
        batch = params["fit.batch_size"] * params["fit.accumulation_steps"]
        off = math.log10(params["optimizer.lr"] / best_rate(batch))
        value = 0.9 - height * off**2 - 0.05 * (params["loss"] == "bce") + noise * random.normal()
        study.add_trial(create_trial(params=params, distributions=SPACE, value=sign * value))
    return study


def add(study, lr, values, curve=(), state=TrialState.COMPLETE, batch=16, loss="ce", **attributes):
    """A trial; `curve` is its objective after each epoch."""
    study.add_trial(
        create_trial(
            params={"optimizer.lr": lr, "fit.batch_size": batch, "fit.accumulation_steps": 1, "loss": loss},
            distributions=SPACE,
            values=values,
            state=state,
            intermediate_values=dict(enumerate(curve, start=1)),
            user_attrs=attributes,
        )
    )


def with_duplicate(objectives=("val/auroc",), directions=("maximize",)):
    """#0 to #4 complete, #5 takes over the result of #1, #6 pruned, #7 failed; the first objective is best at
    #1."""
    study = study_in_memory(objectives, directions)
    known = {"epochs": 3, "overrides": ["loss=ce", "optimizer.lr=0.003"]}
    for number, value in enumerate([0.7, 0.9, 0.8, 0.6, 0.85]):
        values = [value if directions[0] == "maximize" else -value, 10.0 + number][: len(directions)]
        marks = {**known, "run_id": f"{number}" * 32, "process": "here:1:2.0"}
        add(study, 10 ** (-3.5 + number / 2), values, [0.5, values[0]], loss=LOSSES[number % 2], **marks)
    copied = study.trials[1]
    marks = {DUPLICATE_OF: 1, "run_id": "1" * 32}
    add(study, copied.params["optimizer.lr"], copied.values, [0.5, copied.values[0]], loss="bce", **marks)
    add(study, 0.09, None if len(directions) > 1 else [0.55], [0.55], TrialState.PRUNED, **known)
    add(study, 0.05, None, [], TrialState.FAIL, failure="non-finite")
    return study
