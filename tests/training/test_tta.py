"""Predictions over the transforms of test-time augmentation."""

import numpy as np
import pytest
import torch

from pneumo.errors import InputError
from pneumo.training.predict import TTA, tta_transforms


def test_a_prediction_that_does_not_fit_is_made_in_smaller_batches(small_fit, monkeypatch):
    trainer, train_state = small_fit()
    whole = trainer.predict(train_state.model, trainer.split.val, tta_transforms("none"))
    forward = train_state.model.forward

    def narrow(images):
        if len(images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(images)

    monkeypatch.setattr(train_state.model, "forward", narrow)
    again = trainer.predict(train_state.model, trainer.split.val, tta_transforms("none"))
    assert again.scores == pytest.approx(whole.scores, abs=1e-6)


def test_the_best_model_does_not_depend_on_the_batch_it_is_evaluated_in(small_fit):
    trainer, train_state = small_fit()
    list(trainer.epochs(train_state))
    together = trainer.predict(train_state.model, trainer.split.val, tta_transforms("none"))
    alone = [
        trainer.predict(train_state.model, trainer.split.val[i : i + 1], tta_transforms("none")).scores[0]
        for i in range(16)
    ]
    assert together.scores == pytest.approx(np.array(alone), abs=1e-6)


@pytest.mark.parametrize("name", TTA)
def test_views_are_deterministic_and_averaged_on_logits(small_fit, name):
    trainer, train_state = small_fit()
    first, again = (
        trainer.predict(train_state.model, trainer.split.val, tta_transforms(name)) for _ in range(2)
    )
    assert np.array_equal(first.scores, again.scores)
    each = [trainer.predict(train_state.model, trainer.split.val, [view]).logits for view in TTA[name]]
    assert first.logits == pytest.approx(np.mean(each, axis=0), abs=1e-6)


def test_an_unknown_view_is_refused_with_those_there_are():
    with pytest.raises(InputError, match="none, hflip, scales, hflip_scales, got 'vflip'"):
        tta_transforms("vflip")
