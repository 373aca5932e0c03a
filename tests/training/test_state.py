"""What training changes: the best epoch, and a state that an older version saved."""

import copy

import pytest
import torch

from pneumo.components.schedules import OneCycle
from pneumo.training.device import Accelerator
from pneumo.training.state import EpochProgress


def test_the_moving_average_is_what_a_naive_loop_makes_of_the_steps(small_fit):
    trainer, train_state = small_fit(settings={"ema_decay": 0.5, "epochs": 2})
    expected, n = [value.clone() for value in train_state.model.state_dict().values()], 0

    def follow(*_):
        nonlocal n
        n += 1
        decay = min(0.5, (1 + n) / (10 + n))
        for index, value in enumerate(train_state.model.state_dict().values()):
            averaged = decay * expected[index] + (1 - decay) * value
            expected[index] = averaged if value.is_floating_point() else value.clone()

    train_state.optimizer.register_step_post_hook(follow)
    list(trainer.epochs(train_state))
    for own, wanted in zip(train_state.evaluated.state_dict().values(), expected, strict=True):
        assert torch.allclose(own.double(), wanted.double(), atol=1e-6)


def test_of_epochs_with_the_same_auroc_the_one_with_the_lower_loss_is_the_best(small_fit):
    _, train_state = small_fit(schedule=OneCycle(stop_patience=2), settings={"epochs": 9})
    told = []
    for auroc, loss in ((0.9, 0.1), (1.0, 0.6), (1.0, 0.3), (1.0, 0.3), (0.9, 0.1)):
        assert not train_state.stopped
        told.append(train_state.finish_epoch({"val/auroc": auroc, "val/loss": loss}))
    assert told == [True, True, True, False, False]
    assert train_state.best_epoch == 3
    assert train_state.stopped


def test_a_checkpoint_without_a_best_epoch_goes_on_from_the_first_of_the_highest_auroc(small_fit):
    _, train_state = small_fit()
    state = train_state.state_dict()
    del state["best_epoch"]
    state["history"] = [{"val/auroc": auroc, "val/loss": loss} for auroc, loss in ((0.9, 2.0), (0.9, 1.0))]
    train_state.load_state_dict(state)
    assert train_state.best_epoch == 1, "whose weights best.pt holds"
    assert train_state.finish_epoch({"val/auroc": 0.9, "val/loss": 1.5})


def test_a_checkpoint_within_an_epoch_of_one_sum_for_all_processes_goes_on(small_fit):
    before = {"windows": 2, "lr": 0.1, "seconds": 3.0, "loss": 8.0, "right": 9.0, "images": 16.0}
    assert EpochProgress.of(before) == EpochProgress(2, 0.1, 3.0, [(8.0, 9.0, 16.0)])
    trainer, whole = small_fit(settings={"checkpoint_minutes": 1e-9, "epochs": 1})
    states = []
    for _ in trainer.epochs(
        whole, keep=lambda train_state: states.append(copy.deepcopy(train_state.state_dict()))
    ):
        pass
    state = states[1]
    loss, right, images = state["within"].pop("sums")[0]
    state["within"] |= {"loss": loss, "right": right, "images": images}
    trainer, second = small_fit(settings={"epochs": 1})
    second.load_state_dict(state)
    list(trainer.epochs(second))
    assert second.history[0]["train/loss"] == whole.history[0]["train/loss"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_a_training_of_another_precision_goes_on_with_the_loss_scale_of_a_beginning(small_fit, dtype):
    of_cpu = Accelerator(torch.device("cpu"), torch.bfloat16)
    _, before = small_fit(accelerator=of_cpu)
    _, now = small_fit(accelerator=Accelerator(torch.device("cpu"), dtype))
    fresh = now.scaler.state_dict()
    now.load_state_dict(before.state_dict())
    assert now.scaler.state_dict() == fresh


@pytest.mark.parametrize(("then", "now"), [(None, True), (True, None), (False, True)])
def test_a_training_that_goes_on_keeps_the_kernels_of_its_own_device(small_fit, then, now):
    states = []
    for fused in (then, now):
        trainer, train_state = small_fit(settings={"epochs": 3})
        groups = train_state.optimizer.param_groups
        train_state.optimizer = torch.optim.AdamW(
            [{k: v for k, v in group.items() if k in ("params", "weight_decay")} for group in groups],
            lr=groups[0]["lr"],
            fused=fused,
        )
        states.append(train_state)
    first, second = states
    next(trainer.epochs(first))
    second.load_state_dict(first.state_dict())
    assert [group["fused"] for group in second.optimizer.param_groups] == [now, now]
    assert first.optimizer.param_groups[0]["fused"] == then, "what was saved is not changed"
    next(trainer.epochs(second))
    steps = {float(state["step"]) for state in second.optimizer.state.values()}
    assert steps == {2 * trainer.steps_per_epoch()}


def test_a_training_that_is_released_holds_no_gradients_and_no_moments(small_fit):
    trainer, train_state = small_fit(settings={"ema_decay": 0.9})
    next(trainer.epochs(train_state))
    assert train_state.optimizer.state
    train_state.release()
    assert not train_state.optimizer.state
    assert all(parameter.grad is None for parameter in train_state.model.parameters())
