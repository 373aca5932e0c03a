"""What only a GPU can show."""

import io
import warnings

import numpy as np
import pytest
import torch
from conftest import fit_on_squares, store_of

from pneumo.components.augment import Augment
from pneumo.components.models import Tiny
from pneumo.components.optimizers import AdamW, Sgd
from pneumo.training.device import Accelerator

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def fit(precision, device="cuda", **options):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (48, 32, 32), np.uint8)
    masks = np.zeros_like(pixels)
    masks[1::2, 4:12, 4:12] = 255
    return fit_on_squares(
        store=store_of(pixels, masks),
        model=Tiny(width=4, mask_head=True),
        augment=Augment(rotation_degrees=10, flip=0.5, contrast=0.2, crop=0.8),
        accelerator=Accelerator.chosen(device, precision),
        **options,
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_an_epoch_waits_for_the_gpu_only_to_read_its_sums(precision):
    trainer, train_state = fit(precision)
    trainer.train_epoch(train_state, 1, lambda done, total: None, lambda state: None)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            trainer.train_epoch(train_state, 2, lambda done, total: None, lambda state: None)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = {f"{one.filename}:{one.lineno}" for one in found if "called a synchronizing" in str(one.message)}
    assert len(waits) == 2, waits  # losses and correct predictions
    assert all("epoch_metrics.py" in where for where in waits), waits


@pytest.mark.parametrize("optimizer", [AdamW(lr=1e-2), Sgd(lr=1e-2)])
def test_a_step_that_float16_skips_leaves_the_optimizer_as_it_was(optimizer):
    trainer, train_state = fit("fp16", optimizer=optimizer)
    train_state.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40)  # the first steps overflow
    reports = list(trainer.epochs(train_state))
    assert np.isfinite([report.metrics["train/loss"] for report in reports]).all()


def test_the_first_loss_on_the_gpu_is_that_of_the_cpu():
    losses = []
    for device in ("cuda", "cpu"):
        trainer, train_state = fit("fp32", device=device, n_train=8, n_val=40)
        metrics = trainer.train_epoch(train_state, 1, lambda done, total: None, lambda state: None)
        losses.append(metrics["train/loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


@pytest.mark.parametrize(("first", "second"), [("cuda", "cpu"), ("cpu", "cuda")])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_checkpoint_of_one_device_is_continued_on_another(first, second, precision):
    trainer, train_state = fit(precision if first == "cuda" else "fp32", device=first)
    trainer.train_epoch(train_state, 1, lambda done, total: None, lambda state: None)
    elsewhere, continued = fit(precision if second == "cuda" else "fp32", device=second)
    kept = io.BytesIO()
    torch.save(train_state.state_dict(), kept)
    kept.seek(0)
    continued.load_state_dict(torch.load(kept, map_location="cpu", weights_only=True))
    loss = elsewhere.train_epoch(continued, 2, lambda done, total: None, lambda state: None)["train/loss"]
    assert np.isfinite(loss)
