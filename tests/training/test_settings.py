import pytest

from pneumo.errors import InputError
from pneumo.training.settings import TrainerSettings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "fit.epochs must be at least 1, got 0"),
        ({"accumulation_steps": -1}, "fit.accumulation_steps must be at least 1, got -1"),
        ({"ema_decay": 1.0}, "fit.ema_decay must be above 0 and below 1, or null, got 1.0"),
        ({"few_images": 1}, "fit.few_images must be at least 2, or null, got 1"),
        ({"checkpoint_minutes": 0}, "fit.checkpoint_minutes must be above 0, or null, got 0"),
        ({"clip_norm": 0}, "fit.clip_norm must be above 0, or null, got 0"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(options, message):
    with pytest.raises(InputError) as refused:
        TrainerSettings(**{"epochs": 1, "batch_size": 1} | options)
    assert str(refused.value) == message
