"""A study of many finished trials in PostgreSQL, written at once rather than one by one."""

import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
from optuna.distributions import CategoricalDistribution, FloatDistribution, distribution_to_json

from pneumo.sweep import attributes
from pneumo.sweep.storage import open_study

STUDY = "many"
EPOCHS = 12
SPACE = {  # of search=report
    "optimizer.lr": FloatDistribution(1e-4, 1e-1, log=True),
    "fit.accumulation_steps": CategoricalDistribution((1, 2, 4, 8)),
    "fit.batch_size": CategoricalDistribution((6, 16, 32, 64)),
    "loss": CategoricalDistribution(("ce", "bce", "weighted_bce", "focal", "combined")),
}
METRICS = {f"val/metric_{number}": 0.123456789 for number in range(33)}  # as many as a run has
TABLES = {
    "trials": "trial_id, number, study_id, state, datetime_start, datetime_complete",
    "trial_params": "trial_id, param_name, param_value, distribution_json",
    "trial_values": "trial_id, objective, value, value_type",
    "trial_intermediate_values": "trial_id, step, intermediate_value, intermediate_value_type",
    "trial_user_attributes": "trial_id, key, value_json",
    "trial_heartbeats": "trial_id, heartbeat",
}


def fill(url: str, n_trials: int) -> None:
    """Makes a study of so many trials in an empty database. Three of each hundred are the attempts of one
    that crashed each time."""
    open_study(url, STUDY, ["maximize"]).close()
    rows = [row for number in range(n_trials) for row in of_trial(number)]
    with psycopg.connect(url, autocommit=True) as connection:
        for table, columns in TABLES.items():
            with connection.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for name, values in rows:
                    if name == table:
                        copy.write_row(values)
        connection.execute("SELECT setval('trials_trial_id_seq', %s)", (n_trials,))
        connection.execute("ANALYZE")


def of_trial(number: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The rows of a trial, each with its table."""
    drawn, key, at = random.Random(number), number + 1, "2026-01-01 00:00:00"
    has_failed = number % 100 < 3
    yield "trials", (key, number, 1, "FAIL" if has_failed else "COMPLETE", at, at)
    internal = [10 ** drawn.uniform(-4, -1), drawn.randrange(4), drawn.randrange(4), drawn.randrange(5)]
    for (name, distribution), value in zip(SPACE.items(), internal, strict=True):
        yield "trial_params", (key, name, value, distribution_to_json(distribution))
    auroc = 0.9 - 0.03 * (np.log10(internal[0]) + 2.5) ** 2 + drawn.gauss(0, 0.02)
    if not has_failed:
        yield "trial_values", (key, 0, auroc, "FINITE")
    for step in range(1, EPOCHS + 1):
        yield "trial_intermediate_values", (key, step, auroc - 0.3 / step + drawn.gauss(0, 0.01), "FINITE")
    known = user_attributes(number)
    if has_failed:
        first = number - number % 100
        known |= {attributes.FAILURE: "crash"} | (
            {attributes.ATTEMPTS: list(range(first, number))} if number > first else {}
        )
    for name, attribute in known.items():
        yield "trial_user_attributes", (key, name, json.dumps(attribute))
    yield "trial_heartbeats", (key, at)


def user_attributes(number: int) -> dict[str, Any]:
    """What the end of a trial leaves."""
    return {
        attributes.PROCESS: "node17:12345:1700000000.00",
        attributes.RUN_ID: f"{number:032x}",
        attributes.CONFIG_HASH: f"{number:064x}",
        attributes.EFFECTIVE_BATCH: 32,
        attributes.EPOCHS: EPOCHS,
        attributes.OVERRIDES: [f"{name}=0.00123" for name in SPACE],
        attributes.METRICS: METRICS,
    }
