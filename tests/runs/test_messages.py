"""What a run prints of its settings."""

from dataclasses import replace

from pneumo.runs.messages import model_line, second_attempt_message

PLAN = "# @package _global_\ndefaults:\n- auto\nplan: false\naugment:\n  shift: 0.05\n"


def test_a_second_attempt_shows_its_own_rate_and_what_it_changes(composed):
    experiment = composed("optimizer.lr=.3", "augment=safe", "model.width=4")
    first, second = (
        model_line(experiment, experiment.model(1), 16, is_second) for is_second in (False, True)
    )
    assert "adamw 3e-1" in first
    assert "second attempt" not in first
    assert "adamw 1e-3" in second
    assert "second attempt with augment.rotation_degrees=0 " in second
    assert "optimizer.lr=0.001" in second


def test_a_plan_with_distortions_is_not_called_mirroring_alone(composed):
    experiment = composed("model.width=4")
    plain, planned = (
        model_line(one, one.model(1), 16) for one in (experiment, replace(experiment, plan=PLAN))
    )
    assert planned == f"{plain} and the plan's distortions"


def test_a_second_attempt_from_pretrained_weights_does_not_promise_new_ones(composed):
    assert " and new weights; " in second_attempt_message(composed())
    said = second_attempt_message(composed("model=resnet18", "model.pretrained=imagenet"))
    assert " and the weights of model.pretrained=imagenet; " in said
    assert "new weights" not in said
