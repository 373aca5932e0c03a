import itertools

import pytest
import torch

from pneumo.components.schedules import Constant, Cosine, OneCycle, Plateau, one_cycle, warm_cosine
from pneumo.errors import InputError


def optimizer(lr=1.0):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr)


def rates(schedule, steps):
    own = optimizer()
    lr_controller = schedule(own, steps)
    seen = []
    for _ in range(steps):
        seen.append(own.param_groups[0]["lr"])
        own.step()
        lr_controller.after_step()
    return seen


def test_one_cycle_rises_from_a_25th_to_the_peak_and_falls_to_nothing():
    assert one_cycle(0, warmup=0.3) == pytest.approx(1 / 25)
    assert one_cycle(0.3, warmup=0.3) == 1
    assert one_cycle(0.65, warmup=0.3) == pytest.approx(0.5)
    assert one_cycle(1, warmup=0.3) == pytest.approx(0)


def test_one_cycle_is_torchs():
    own = optimizer()
    theirs = torch.optim.lr_scheduler.OneCycleLR(own, 1.0, total_steps=101, cycle_momentum=False)
    expected = []
    for _ in range(100):
        expected.append(own.param_groups[0]["lr"])
        own.step()
        theirs.step()
    assert rates(OneCycle(), 100) == pytest.approx(expected, abs=0.03)  # its phases end a step earlier


def test_cosine_warms_up_in_a_line_and_falls_to_nothing():
    seen = rates(Cosine(warmup_share=0.1), 99)
    assert seen[:9] == pytest.approx([0.1 * (i + 1) for i in range(9)])
    assert seen[9] == pytest.approx(1)
    assert all(a > b for a, b in itertools.pairwise(seen[9:]))
    assert seen[-1] < 0.001
    assert warm_cosine(1.0, 0.1) == pytest.approx(0)


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize("schedule", [OneCycle(), Cosine(), Constant(), OneCycle(warmup_share=0.0)], ids=repr)
def test_every_rate_is_positive_however_short_the_training(schedule, steps):
    assert all(rate > 0 for rate in rates(schedule, steps))


def test_the_rate_drops_after_the_plateau_and_training_stops_later():
    own = optimizer()
    lr_controller = Plateau(factor=0.1, plateau_patience=2, stop_patience=4)(own, 100)
    told = []
    for is_best in (True, True, False, False, False, False):
        stop = lr_controller.after_epoch(is_best)
        told.append((round(own.param_groups[0]["lr"], 6), stop))
    assert told == [(1.0, False), (1.0, False), (1.0, False), (1.0, False), (0.1, False), (0.1, True)]


def test_any_schedule_stops_when_asked_to():
    lr_controller = OneCycle(stop_patience=2)(optimizer(), 10)
    assert [lr_controller.after_epoch(best) for best in (True, True, False, False)] == [
        False,
        False,
        False,
        True,
    ]


def test_without_patience_training_never_stops():
    lr_controller = Constant()(optimizer(), 10)
    assert not any(lr_controller.after_epoch(False) for _ in range(50))


@pytest.mark.parametrize("schedule", [OneCycle(), Cosine(), Constant(), Plateau()], ids=repr)
def test_a_schedule_goes_on_from_its_saved_state(schedule, tmp_path):
    def advance(lr_controller, own, n):
        for _ in range(n):
            own.step()
            lr_controller.after_step()
        lr_controller.after_epoch(True)

    own = optimizer()
    lr_controller = schedule(own, 20)
    advance(lr_controller, own, 7)
    torch.save({"pace": lr_controller.state_dict(), "optimizer": own.state_dict()}, tmp_path / "state.pt")
    advance(lr_controller, own, 5)

    again = optimizer()
    resumed = schedule(again, 20)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    again.load_state_dict(state["optimizer"])
    resumed.load_state_dict(state["pace"])
    advance(resumed, again, 5)
    assert again.param_groups[0]["lr"] == own.param_groups[0]["lr"]
    assert resumed.state_dict() == lr_controller.state_dict()


def test_a_schedule_goes_on_from_a_state_that_holds_its_best_auroc():
    own = optimizer()
    lr_controller = Plateau(factor=0.1, plateau_patience=2, stop_patience=4)(own, 100)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer(), mode="max", factor=0.1, patience=2, threshold=0
    )
    for auroc in (0.7, 0.7, 0.6):
        theirs.step(auroc)
    lr_controller.load_state_dict({"scheduler": theirs.state_dict(), "best": 0.7, "epochs_since_best": 2})
    assert [lr_controller.after_epoch(False), own.param_groups[0]["lr"]] == [False, pytest.approx(0.1)]
    assert lr_controller.after_epoch(False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneCycle(warmup_share=1.0), "schedule.warmup_share must be at least 0 and below 1, got 1.0"),
        (lambda: Constant(stop_patience=0), "schedule.stop_patience must be at least 1, or null, got 0"),
        (lambda: Plateau(factor=1.0), "schedule.factor must be above 0 and below 1, got 1.0"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(make, message):
    with pytest.raises(InputError) as refused:
        make()
    assert str(refused.value) == message
