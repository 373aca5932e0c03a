"""Runs that are logged to MLflow as a training logs them, without training."""

import os

import mlflow
from mlflow.entities import Metric, Param, RunTag

from pneumo.runs import best, tracking
from pneumo.runs.tracking import process_mark

DATA = {"phantom": "aaaa1111", "table": "bbbb2222"}  # names and identities


def logged(name, val_auroc=0.9, status="FINISHED", parameters=(), metrics=(), started_ms=None, **tags):
    """The id of a run that can be `best`, unless what is given says otherwise."""
    data = tags.get("data", "phantom")
    all_tags = {
        **{"data": data, "data_identity": DATA.get(data, "cccc3333"), "model": "tiny", "loss": "bce"},
        **{"collapsed": "false", "leak_risk": "none", "overrides": "", "checkpoints": "/nowhere"},
        **{"process": process_mark(os.getpid()), **tags},
    }
    values = {
        **{"best/val_auroc": val_auroc, "threshold": 0.5, "split/val_images": 420, "split/val_positives": 93},
        **{"split/train_images": 1960, "split/test_images": 420, **dict(metrics)},
    }
    client = mlflow.MlflowClient()
    run_id = client.create_run("0", run_name=name, start_time=started_ms).info.run_id
    client.log_batch(
        run_id,
        metrics=[Metric(key, value, 0, 0) for key, value in values.items() if value is not None],
        params=[Param(key, str(value)) for key, value in dict(parameters).items()],
        tags=[RunTag(key, str(value)) for key, value in all_tags.items() if value is not None],
    )
    if status != "RUNNING":
        client.set_terminated(run_id, status)
    return run_id


def let_small_runs_compete(monkeypatch):
    """From now on runs of a few epochs on few images, which collapse, can be `best`."""
    every = best.obstacles
    small = ("few positives", "collapsed")
    monkeypatch.setattr(best, "obstacles", lambda run: [word for word in every(run) if word not in small])


def other_run(name, **tags):
    """The id of a finished run that is no training, such as an ensemble or a study's parent."""
    run_id = tracking.create_parent_run("Default", name, tags)
    tracking.end_run(run_id, "FINISHED")
    return run_id
