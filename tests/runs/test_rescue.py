"""A run that does not learn begins again, once, wherever it was stopped in between."""

import os
import signal
import subprocess
import sys
from contextlib import chdir
from dataclasses import replace

import mlflow
import pytest
import torch
from conftest import SMALL

from pneumo.inference.model import load_model
from pneumo.runs import diagnosis, run_recorder
from pneumo.runs import run as run_module
from pneumo.runs.checkpoint import BEST, LAST, CheckpointWriter, read
from pneumo.runs.rescue import safer_setting, second_attempt
from pneumo.runs.restore import restore
from pneumo.runs.run import run
from pneumo.training import plateau
from pneumo.training.state import TrainState

DEAD = [*SMALL, "model.width=4", "fit.epochs=4", "optimizer.lr=.3", "fit.precision=fp32"]
SOON = """
from pneumo.cli.train import main
from pneumo.runs import diagnosis
from pneumo.training import plateau

plateau.FEWEST_STEPS, diagnosis.FEW_POSITIVES = 1, 0
main()
"""


@pytest.fixture
def soon(monkeypatch):
    """A plateau is told after two epochs, however short, and few patients are no reason."""
    monkeypatch.setattr(plateau, "FEWEST_STEPS", 1)
    monkeypatch.setattr(diagnosis, "FEW_POSITIVES", 0)


def only_run():
    (found,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    return found


def steps(run_id, metric):
    points = mlflow.MlflowClient().get_metric_history(run_id, metric)
    assert len({point.step for point in points}) == len(points), "no step is logged twice"
    return {point.step: point.value for point in points}


def kept(folder):
    """What a checkpoint holds of the training, without its clocks."""
    state = read(folder / "checkpoints" / LAST)
    for name in ("history", "abandoned"):
        for metrics in state[name]:
            del metrics["epoch_seconds"], metrics["images_per_second"]
    tensors = {name: state["model"][name] for name in state["model"]}
    return tensors, (
        state["history"],
        state["abandoned"],
        state["best_epoch"],
        state["optimizer"]["param_groups"],
    )


def equal(one, other):
    tensors, others = one[0], other[0]
    return one[1] == other[1] and all(torch.equal(value, others[name]) for name, value in tensors.items())


def test_a_run_that_does_not_learn_begins_again_once_and_both_attempts_stay_visible(
    composed, workdir, soon, capsys
):
    metrics = run(composed(*DEAD), workdir / "out")
    logged, said = only_run(), capsys.readouterr().out
    assert said.count("NOT LEARNING: for 2 epochs the training loss") == 2, "of each attempt"
    assert said.count("It begins again with optimizer.lr=0.001 fit.clip_norm=1 and new weights") == 1
    assert logged.info.status == "FINISHED"
    assert logged.data.tags["rescued_at_epoch"] == "2"
    setting = safer_setting(composed(*DEAD))
    assert setting == {"optimizer.lr": pytest.approx(0.001), "fit.clip_norm": 1}
    assert {name: float(logged.data.tags[f"rescue/{name}"]) for name in setting} == setting
    assert logged.data.params["optimizer.lr"] == "0.3"
    assert logged.data.params["fit.rescue"] == "True"
    rates = steps(logged.info.run_id, "lr")
    assert list(rates) == [1, 2, 3, 4, 5, 6]
    assert rates[3] == pytest.approx(rates[1] / 300)
    curve = steps(logged.info.run_id, "val/auroc")
    state = read(workdir / "out" / "checkpoints" / LAST)
    assert [epoch["val/auroc"] for epoch in state["abandoned"] + state["history"]] == list(curve.values())
    assert metrics["best/epoch"] == state["best_epoch"] <= 4
    assert metrics["best/val_auroc"] == max(list(curve.values())[2:])
    assert read(workdir / "out" / "checkpoints" / BEST)["epoch"] == state["best_epoch"]


def test_the_second_attempt_has_the_pixels_of_the_first_whose_memory_is_released_before(
    composed, workdir, soon, monkeypatch
):
    happened = []

    def noted(name, function):
        return lambda *arguments, **options: (happened.append(name), function(*arguments, **options))[1]

    for name in ("Batches", "normaliser", "build_model"):
        monkeypatch.setattr(run_module, name, noted(name, getattr(run_module, name)))
    monkeypatch.setattr(TrainState, "release", noted("release", TrainState.release))
    run(composed(*DEAD), workdir / "out")
    assert happened == ["build_model", "normaliser", "Batches", "release", "build_model"]


def test_a_run_that_early_stopping_ends_on_a_plateau_begins_again(composed, workdir, soon, capsys):
    early = ["schedule=plateau", "schedule.stop_patience=3", "fit.epochs=50"]  # 17 otherwise
    run(composed(*DEAD, *early, "optimizer.lr=30"), workdir / "out")
    said = capsys.readouterr().out
    assert said.count("It begins again") == 1
    at = int(only_run().data.tags["rescued_at_epoch"])
    assert f"NOT LEARNING: for {at} epochs" in said
    assert 4 <= at < 17


def test_without_rescue_it_is_said_and_the_run_goes_on(composed, workdir, soon, capsys):
    run(composed(*DEAD, "fit.rescue=false"), workdir / "out")
    said = capsys.readouterr().out
    assert said.count("NOT LEARNING") == 1
    assert "begins again" not in said
    assert list(steps(only_run().info.run_id, "lr")) == [1, 2, 3, 4]
    assert "rescued_at_epoch" not in only_run().data.tags


def test_what_a_lower_rate_cannot_mend_does_not_begin_again(composed, workdir, soon, capsys):
    crop = ["augment=report", "optimizer.lr=1e-6", "fit.epochs=3"]
    run(composed(*DEAD, *crop), workdir / "out")
    said = capsys.readouterr().out
    assert "NOT LEARNING" in said
    assert "Likely: its crop loses the whole lesion in" in said
    assert "begins again" not in said


def test_the_second_attempt_learns_from_the_lesion_masks_and_its_model_is_read_again(composed, workdir, soon):
    run(composed(*DEAD, "model.mask_head=false"), workdir / "out")
    logged = only_run()
    assert logged.data.params["model.mask_head"] == "False"
    assert logged.data.tags["rescue/model.mask_head"] == "auto"
    assert load_model(logged.info.run_id).model.mask_head is not None
    assert restore(logged.info.run_id).evaluate(test=False)["val"].metrics["auroc"] == pytest.approx(
        logged.data.metrics["best/val_auroc"], abs=1e-6
    )


@pytest.mark.parametrize("without", ["model.freeze=backbone", "model=densenet121"])
def test_a_network_that_takes_no_mask_head_gets_none(composed, without):
    assert "model.mask_head" not in safer_setting(composed(without, "model.mask_head=false"))
    assert "model.mask_head" in safer_setting(composed("model=tiny", "model.mask_head=false"))


def test_a_second_attempt_has_the_identity_of_the_first_and_another_seed(composed):
    first = composed("optimizer.lr=.3", "fit.clip_norm=.5", "seed=7")
    second = second_attempt(first)
    assert second.identity == first.identity
    assert (second.optimizer.lr, second.fit.clip_norm) == (pytest.approx(0.001), 0.5)
    assert second.seed == second_attempt(first).seed != first.seed
    assert replace(second, seed=7, optimizer=first.optimizer, fit=first.fit) == first


def test_trials_overfitting_and_the_reports_recipe_do_not_begin_again_and_train_py_does(composed):
    assert composed().fit.rescue
    for choice in ("debug=overfit", "debug=fast", "experiment=report_raw"):
        assert not composed(choice).fit.rescue
    assert not composed(primary="sweep").fit.rescue


# ---- stopped anywhere


class Killed(BaseException):
    pass


def dying(monkeypatch, owner, name, call):
    """The process ends in this call of a method, from 1, before it does anything."""
    method, calls = getattr(owner, name), 0

    def counted(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == call:
            raise Killed
        return method(*arguments, **options)

    monkeypatch.setattr(owner, name, counted)


MOMENTS = {
    "in the second epoch": (TrainState, "finish_epoch", 2),
    "when the plateau is told": (run_recorder.messages, "plateau_message", 1),
    "before anything of the second attempt": (run_recorder.messages, "second_attempt_message", 1),
    "before the second attempt is kept": (CheckpointWriter, "save", 3),
    "when the best weights of the first are left": (CheckpointWriter, "remove_best", 2),
    "before the second attempt's first epoch": (TrainState, "finish_epoch", 3),
    "in the second attempt": (TrainState, "finish_epoch", 5),
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What the checkpoint of a run that nobody stops holds, by its further overrides."""
    done = {}

    def of(composed, *overrides):
        if overrides not in done:
            folder = tmp_path_factory.mktemp("whole")
            with chdir(folder):
                run(composed(*DEAD, *overrides), folder)
            os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow leaves there what it was last told
            done[overrides] = kept(folder)
        return done[overrides]

    return of


@pytest.mark.parametrize(
    ("moment", "more"),
    [
        *((moment, ()) for moment in MOMENTS),
        (list(MOMENTS)[-1], ("fit.ema_decay=.9", "schedule=plateau", "model.mask_head=false")),
    ],
)
def test_a_run_stopped_at_any_moment_goes_on_bit_equal(
    composed, workdir, soon, uninterrupted, monkeypatch, moment, more
):
    whole = uninterrupted(composed, *more)
    with monkeypatch.context() as patch:
        dying(patch, *MOMENTS[moment])
        with pytest.raises(Killed):
            run(composed(*DEAD, *more), workdir / "out")
    run(composed(*DEAD, *more, "resume=auto"), workdir / "again")
    assert whole[1][1], "it began again"
    assert equal(kept(workdir / "out"), whole)
    logged = only_run()
    assert list(steps(logged.info.run_id, "val/auroc")) == [1, 2, 3, 4, 5, 6]
    assert logged.data.tags["rescued_at_epoch"] == "2"


def test_no_best_weights_of_the_first_attempt_are_left_before_the_second_has_its_own(
    composed, workdir, soon, monkeypatch
):
    dying(monkeypatch, TrainState, "finish_epoch", 3)
    with pytest.raises(Killed):
        run(composed(*DEAD), workdir / "out")
    assert {path.name for path in (workdir / "out" / "checkpoints").iterdir()} == {LAST}


def test_best_weights_that_a_killed_process_left_of_the_first_attempt_are_removed_first(
    composed, workdir, soon, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        dying(patch, CheckpointWriter, "remove_best", 2)
        with pytest.raises(Killed):
            run(composed(*DEAD), workdir / "out")
    assert (workdir / "out" / "checkpoints" / BEST).exists()
    dying(monkeypatch, TrainState, "finish_epoch", 1)
    with pytest.raises(Killed):
        run(composed(*DEAD, "resume=auto"), workdir / "again")
    assert not (workdir / "out" / "checkpoints" / BEST).exists()
    assert "second attempt with optimizer.lr=0.001" in " ".join(capsys.readouterr().out.split())


def typed(workdir, *overrides, launcher=()):
    (workdir / "soon.py").write_text(SOON)
    command = [sys.executable, *launcher, "soon.py", *DEAD, *overrides]
    return subprocess.Popen(
        command,
        cwd=workdir,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def test_a_run_killed_with_sigkill_in_its_second_attempt_goes_on_bit_equal(
    composed, workdir, soon, uninterrupted
):
    whole = uninterrupted(composed)
    process = typed(workdir)
    for line in process.stdout:
        if line.startswith("It begins again"):
            process.send_signal(signal.SIGKILL)
            break
    process.communicate(timeout=60)
    again = typed(workdir, "resume=auto")
    said, _ = again.communicate(timeout=200)
    assert again.returncode == 0, said
    (last,) = workdir.glob("outputs/*/*/checkpoints/last.pt")
    assert equal(kept(last.parents[1]), whole)


def test_two_processes_begin_again_together(workdir):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    process = typed(workdir, "fit.batch_size=8", launcher=launcher)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert said.count("It begins again") == 1
    (last,) = workdir.glob("outputs/*/*/checkpoints/last.pt")
    state = read(last)
    assert (len(state["abandoned"]), len(state["history"])) == (2, 4)


def test_a_frozen_backbone_with_cached_features_begins_again(composed, workdir, soon, capsys):
    first = [*SMALL, "model.width=4", "fit.epochs=1"]
    run(composed(*first), workdir / "first")
    frozen = [
        f"model.pretrained={workdir}/first/checkpoints/best.pt",
        "model.freeze=backbone",
        "augment=none",
    ]
    run(composed(*DEAD, *frozen, "optimizer.lr=30"), workdir / "out")
    assert "begins again" in capsys.readouterr().out
    assert len(list((workdir / "stores").glob("*/features-*.npz"))) == 1, (
        "the same backbone, the same features"
    )


@pytest.mark.parametrize(
    ("optimizer", "lr"),
    [
        ("adamw optimizer.lr=1e-3", 1e-3 / 3),
        ("adamw optimizer.lr=9", 1e-3),  # a third of the default, .003
        ("sgd optimizer.lr=.3", 0.1),
        # of 256 images a step, where linear scaling is 16 times and that by the root 4 times
        ("adamw optimizer.lr=3e-3 optimizer.scale_lr=linear fit.batch_size=256", 1e-3 / 16),
        ("adamw optimizer.lr=3e-3 optimizer.scale_lr=sqrt fit.batch_size=256", 1e-3 / 4),
        (
            "adamw optimizer.lr=3e-5 optimizer.scale_lr=linear fit.batch_size=256",
            1e-5,
        ),  # 4.8e-4 is below .003
        ("adamw optimizer.lr=6e-3 optimizer.scale_lr=linear fit.batch_size=4", 2e-3),  # a quarter of .006
        ("sgd optimizer.lr=.3 optimizer.scale_lr=linear fit.batch_size=256", 0.1),
    ],
)
def test_the_rate_becomes_a_third_and_of_adamw_a_third_of_the_default_at_most(composed, optimizer, lr):
    experiment = composed(*f"optimizer={optimizer}".split())
    assert safer_setting(experiment)["optimizer.lr"] == pytest.approx(lr)


def test_the_safer_setting_saves_a_run_whose_rate_was_too_high(composed, workdir, soon):
    easy = ["fit.few_images=16", "augment=none", "fit.epochs=30", "schedule=constant", "fit.batch_size=4"]
    metrics = run(composed(*DEAD, *easy, "optimizer.lr=1"), workdir / "out")
    assert only_run().data.tags["rescued_at_epoch"] == "10"
    assert metrics["best/val_auroc"] > 0.9
