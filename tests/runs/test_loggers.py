"""Loggers beside MLflow: what they write, that a resumed run doubles nothing, and that none ends a run."""

import csv
import math
import struct
from pathlib import Path

import matplotlib
import mlflow
import pytest
import wandb
from conftest import SMALL, dying_in_epoch
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pneumo.errors import InputError
from pneumo.runs import loggers
from pneumo.runs.loggers import FurtherLoggers, LoggedRun
from pneumo.runs.loggers.csv import CsvLogger
from pneumo.runs.loggers.wandb import is_logged_in
from pneumo.runs.resume import config_hash
from pneumo.runs.run import run

EPOCHS = [{"train/loss": 0.7, "val/auroc": 0.5}, {"train/loss": 0.6, "val/auroc": 0.625}]
RESULTS = {"test/auroc": 0.75}


def logged_run(folder, history=()):
    parameters = {"optimizer.lr": 0.003, "model": "tiny", "fit.clip_norm": None}
    return LoggedRun("0" * 32, "calm-owl-1", "pneumo", folder, parameters, history)


def stopped_and_resumed(name, folder):
    """Logs an epoch, is stopped, and is resumed from a checkpoint that has a second one, to the end."""
    warnings = []
    first = FurtherLoggers([name], logged_run(folder), warnings.append)
    first.log_epoch(1, EPOCHS[0])
    first.close()
    second = FurtherLoggers([name], logged_run(folder, EPOCHS), warnings.append)
    second.log_epoch(3, EPOCHS[0])
    second.log_picture("pictures/3-curves.png", Figure())
    second.log_results(RESULTS)
    second.close()
    assert warnings == []


def table(path):
    return list(csv.reader(path.read_text().splitlines()))


def test_csv_has_a_row_an_epoch_also_of_a_resumed_run(tmp_path):
    stopped_and_resumed("csv", tmp_path)
    assert table(tmp_path / "metrics.csv") == [
        ["epoch", "train/loss", "val/auroc"],
        ["1", "0.7", "0.5"],
        ["2", "0.6", "0.625"],
        ["3", "0.7", "0.5"],
    ]
    assert ["optimizer.lr", "0.003"] in table(tmp_path / "parameters.csv")
    assert table(tmp_path / "results.csv") == [["name", "value"], ["test/auroc", "0.75"]]


def test_tensorboard_has_each_epoch_once_a_picture_and_the_parameters(tmp_path):
    stopped_and_resumed("tensorboard", tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("val/auroc")] == [(1, 0.5), (2, 0.625), (3, 0.5)]
    assert [event.value for event in events.Scalars("test/auroc")] == [0.75]
    assert events.Tags()["images"] == ["pictures/3-curves"]
    assert "_hparams_/session_start_info" in events.summary_metadata


def test_wandb_without_a_login_keeps_each_epoch_once_in_its_folder(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delattr(matplotlib, "pyplot", raising=False)  # as in a process that has not imported it
    stopped_and_resumed("wandb", tmp_path)
    wandb.teardown()  # ends wandb's service, as the end of a process does; until then it may still write
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    assert [step for file in files for step in steps_of(file)] == [1, 2, 3]
    assert list(tmp_path.glob("wandb/offline-run-*/files/media/images/pictures/3-curves*.png"))


def steps_of(file):
    """The steps with a validation AUROC in a file that wandb wrote."""
    from wandb.proto.wandb_internal_pb2 import Record

    steps = []
    for content in records(file.read_bytes()):
        record = Record()
        record.ParseFromString(content)
        names = {"/".join(item.nested_key) or item.key for item in record.history.item}
        steps += [record.history.step.num] if "val/auroc" in names else []
    return steps


def records(content, header=7, block=32768):
    """The records of a log in LevelDB's format: in each block, pieces after a checksum of 4 bytes, a length
    of 2, and a kind (4 is the last piece of a record, 1 its only one)."""
    at, begun = header, b""
    while at + 7 <= len(content):
        if block - at % block < 7:
            at += block - at % block
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        begun += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield begun
            begun = b""


@pytest.mark.parametrize(
    ("environment", "netrc", "expected"),
    [
        ({}, "", False),
        ({"WANDB_API_KEY": "k" * 40}, "", True),
        ({}, "machine api.wandb.ai login user password secret", True),
        ({}, "machine elsewhere.org login user password secret", False),
        ({"WANDB_BASE_URL": "https://elsewhere.org"}, "machine elsewhere.org login u password p", True),
    ],
)
def test_wandb_is_online_only_where_it_has_a_key(tmp_path, monkeypatch, environment, netrc, expected):
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").write_text(netrc)
    for name, value in {"NETRC": str(tmp_path / "netrc"), **environment}.items():
        monkeypatch.setenv(name, value)
    assert is_logged_in() == expected


def test_an_unknown_logger_and_a_missing_package_are_named_before_the_data_are_read(
    composed, workdir, monkeypatch
):
    with pytest.raises(InputError, match=r"some of tensorboard, csv, wandb, got 'tensorbord'$"):
        run(composed(*SMALL, "tracking.also=[tensorbord]"), workdir / "out")
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^tracking.also=\[wandb\] needs wandb: pip install 'pn"):
        run(composed(*SMALL, "tracking.also=[csv,wandb]"), workdir / "out")
    with pytest.raises(InputError, match=r"must be a list of names, such as \[csv\], got 'csv'"):
        composed("tracking.also=csv")
    assert not list(workdir.iterdir())


def test_further_loggers_are_no_part_of_the_configuration_that_a_run_is_found_by(composed):
    assert config_hash(composed()) == config_hash(composed("tracking.also=[csv]"))


def test_a_logger_that_fails_is_closed_and_left_out_with_one_warning_and_the_run_finishes(
    composed, workdir, monkeypatch, capsys
):
    def full(self, epoch, metrics):
        raise OSError("No space left on device")

    closed = []
    monkeypatch.setattr(CsvLogger, "log_epoch", full)
    monkeypatch.setattr(CsvLogger, "close", lambda self: closed.append(self))
    run(composed(*SMALL, "fit.epochs=2", "tracking.also=[csv]"), workdir / "out")
    said = capsys.readouterr()
    warning = "tracking.also: csv has failed and is left out from now on: No space left on device"
    assert (said.out + said.err).count(warning) == 1
    assert len(closed) == 1
    (logged,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert logged.info.status == "FINISHED"


def test_a_run_that_is_resumed_continues_its_csv_in_its_own_folder(composed, workdir, monkeypatch):
    words = [*SMALL, "fit.epochs=3", "tracking.also=[csv]"]
    with dying_in_epoch(monkeypatch, 2):
        run(composed(*words), workdir / "out")
    assert [row[0] for row in table(workdir / "out" / "metrics.csv")] == ["epoch", "1"]
    run(composed(*words, "resume=auto"), workdir / "again")
    rows = table(workdir / "out" / "metrics.csv")
    assert [row[0] for row in rows] == ["epoch", "1", "2", "3"]
    assert all(math.isfinite(float(value)) for row in rows[1:] for value in row)
    assert not (workdir / "again" / "metrics.csv").exists()
    (logged,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    column = rows[0].index("val/auroc")
    last = mlflow.MlflowClient().get_metric_history(logged.info.run_id, "val/auroc")[-1].value
    assert float(rows[3][column]) == last
    assert (Path("out") / "results.csv").exists()
