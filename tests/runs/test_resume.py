"""A run that was stopped goes on from its last checkpoint, or is refused by name."""

import shutil
from pathlib import Path

import mlflow
import pytest
import torch
from conftest import SMALL, dying_in_epoch

from pneumo.errors import InputError
from pneumo.runs import checkpoint, query
from pneumo.runs.checkpoint import BEST, LAST
from pneumo.runs.run import run

QUICK = [*SMALL, "fit.epochs=2"]


def only_run():
    (found,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    return found


def test_a_checkpoint_of_another_configuration_is_refused_with_what_differs(composed, workdir):
    run(composed(*QUICK), workdir / "out")
    last = workdir / "out" / "checkpoints" / LAST
    with pytest.raises(InputError, match=r"optimizer.lr: then 0.003, now 0.001"):
        run(composed(*QUICK, "optimizer.lr=1e-3", f"resume={last}"), workdir / "again")


def test_epochs_that_were_kept_but_not_logged_are_logged_on_resume(composed, workdir, monkeypatch):
    with dying_in_epoch(monkeypatch, 2):
        run(composed(*SMALL, "fit.epochs=3"), workdir / "out")
    run(composed(*SMALL, "fit.epochs=3", "resume=auto"), workdir / "again")
    logged = only_run()
    history = mlflow.MlflowClient().get_metric_history(logged.info.run_id, "val/auroc")
    assert [point.step for point in history] == [1, 2, 3]
    assert logged.info.status == "FINISHED"


def test_a_run_whose_folder_is_gone_goes_on_from_mlflow_with_its_best_weights(composed, workdir, monkeypatch):
    with dying_in_epoch(monkeypatch, 3):
        run(composed(*SMALL, "fit.epochs=3"), workdir / "out")
    best = checkpoint.read(workdir / "out" / "checkpoints" / BEST)
    shutil.rmtree(workdir / "out")
    run(composed(*SMALL, "fit.epochs=3", "resume=auto"), workdir / "again")
    logged, folder = only_run(), workdir / "again" / "checkpoints"
    assert logged.info.status == "FINISHED"
    assert logged.data.tags["checkpoints"] == str(folder)
    again = checkpoint.read(folder / BEST)
    assert again["epoch"] == best["epoch"]
    assert all(torch.equal(again["model"][name], best["model"][name]) for name in best["model"])


@pytest.fixture
def backup(composed, workdir, monkeypatch):
    """The last checkpoint of a run of three epochs that died in the third, copied without the best one; the
    run's own folder is gone."""
    with dying_in_epoch(monkeypatch, 3):
        run(composed(*SMALL, "fit.epochs=3"), workdir / "out")
    (workdir / "backup").mkdir()
    last = shutil.copy(workdir / "out" / "checkpoints" / LAST, workdir / "backup")
    shutil.rmtree(workdir / "out")
    return Path(last)


def test_a_copied_checkpoint_without_the_best_weights_gets_them_from_mlflow(composed, workdir, backup):
    run(composed(*SMALL, "fit.epochs=3", f"resume={backup}"), workdir / "again")
    logged, best = only_run(), checkpoint.read(backup.with_name(BEST))
    assert logged.info.status == "FINISHED"
    assert best["run_id"] == logged.info.run_id
    assert best["epoch"] == checkpoint.read(backup)["best_epoch"]


@pytest.mark.parametrize("there", ["nothing", "weights of another epoch"])
def test_a_checkpoint_whose_best_weights_are_gone_is_refused_before_the_data_are_read(
    composed, workdir, backup, there, monkeypatch
):
    logged = only_run()
    best = query.find_checkpoint(logged, BEST)
    if there == "nothing":
        shutil.rmtree(mlflow.artifacts.download_artifacts(logged.info.artifact_uri))
        reason = f"Run {logged.info.run_id} has no best.pt"
    else:
        checkpoint.write({**checkpoint.read(best), "epoch": 9}, best)
        monkeypatch.setattr(query, "find_checkpoint", lambda *_: best)
        reason = f"that of its run, {best}, is of epoch 9"
    monkeypatch.setattr("pneumo.runs.callback.RunCallback.dataset", lambda *_: pytest.fail("read"))
    with pytest.raises(InputError) as refused:
        run(composed(*SMALL, "fit.epochs=3", f"resume={backup}"), workdir / "again")
    said = str(refused.value)
    assert said.startswith(f"{backup} cannot be resumed without best.pt beside it: {reason}")
    assert "\n" not in said


def test_a_run_is_not_resumed_by_another_number_of_processes(composed, workdir):
    run(composed(*QUICK), workdir / "out")
    last = workdir / "out" / "checkpoints" / LAST
    checkpoint.write({**checkpoint.read(last), "processes": 2}, last)
    with pytest.raises(InputError, match="in another number of processes: 2 then, 1 now"):
        run(composed(*QUICK, f"resume={last}"), workdir / "again")


def test_resume_auto_passes_over_what_it_cannot_continue_and_says_so(composed, workdir, monkeypatch, capsys):
    for name in ("damaged", "elsewhere"):
        with dying_in_epoch(monkeypatch, 1):
            run(composed(*QUICK), workdir / name)
    (workdir / "damaged" / "checkpoints" / LAST).write_bytes(b"not a checkpoint")
    found = mlflow.search_runs(search_all_experiments=True, output_format="list")
    (moved,) = [one for one in found if one.data.tags["checkpoints"].endswith("elsewhere/checkpoints")]
    client = mlflow.MlflowClient()
    client.set_tag(moved.info.run_id, "process", "other-host:7:1.00")
    client.update_run(moved.info.run_id, "RUNNING")
    run(composed(*QUICK, "resume=auto"), workdir / "again")
    said = " ".join(capsys.readouterr().out.split())
    assert f"{moved.info.run_id}, which may still be running on other-host; if it is not, resume=" in said
    assert "last.pt" in said
    assert "nothing: there is no unfinished run" in said


def test_resume_auto_starts_afresh_when_there_is_nothing_to_resume(composed, workdir):
    run(composed(*QUICK, "resume=auto"), workdir / "out")
    run(composed(*QUICK, "resume=auto"), workdir / "again")
    assert len(mlflow.search_runs(search_all_experiments=True)) == 2
