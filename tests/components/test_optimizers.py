import pytest
import torch

from pneumo.components.models import Tiny
from pneumo.components.optimizers import AdamW, Sgd
from pneumo.errors import InputError


@pytest.mark.parametrize("settings", [Sgd(weight_decay=0.1), AdamW(weight_decay=0.1)], ids=["sgd", "adamw"])
@pytest.mark.parametrize("freeze", ["none", "backbone", "batchnorm"])
def test_every_trainable_parameter_is_owned_once_and_no_other(settings, freeze):
    model = Tiny(freeze=freeze)(1)
    owned = [id(p) for group in settings(model, 16).param_groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_norms_and_biases_do_not_decay():
    model = Tiny()(1)
    decay = {
        id(p): group["weight_decay"]
        for group in AdamW(weight_decay=0.1)(model, 16).param_groups
        for p in group["params"]
    }
    for name, p in model.named_parameters():
        assert decay[id(p)] == (0.1 if p.ndim > 1 else 0), name


def test_the_rate_follows_the_effective_batch_as_said():
    assert Sgd(lr=0.1).resolved_lr(64) == 0.1
    assert Sgd(lr=0.1, scale_lr="linear", reference_batch=16).resolved_lr(64) == pytest.approx(0.4)
    assert AdamW(lr=0.1, scale_lr="sqrt", reference_batch=16).resolved_lr(64) == pytest.approx(0.2)
    optimizer = Sgd(lr=0.1, scale_lr="linear", reference_batch=16)(Tiny()(1), 8)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.05])


def test_sgd_is_the_reports_by_default():
    optimizer = Sgd()(Tiny()(1), 6)
    assert isinstance(optimizer, torch.optim.SGD)
    assert (optimizer.defaults["lr"], optimizer.defaults["momentum"]) == (0.001, 0.9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "optimizer.lr must be above 0, got 0.0"),
        ({"weight_decay": -1.0}, "optimizer.weight_decay must be at least 0, got -1.0"),
        ({"scale_lr": "cubic"}, "optimizer.scale_lr must be one of none, linear, sqrt, got 'cubic'"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(options, message):
    with pytest.raises(InputError) as refused:
        AdamW(**options)
    assert str(refused.value) == message
