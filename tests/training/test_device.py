"""What a device without float64 asks of training."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pneumo.components.augment import Augment
from pneumo.components.losses import Bce, Combined, CrossEntropy, Focal, WeightedBce
from pneumo.components.models import Tiny
from pneumo.errors import TooLittleMemoryError
from pneumo.training.device import Accelerator, is_out_of_memory
from pneumo.training.predict import TTA, mean_logits

LOSSES = [
    Bce(),
    Bce(label_smoothing=0.1),
    WeightedBce(positive_weight=3),
    CrossEntropy(),
    Focal(),
    Combined(),
]


class NoFloat64(TorchDispatchMode):
    """Fails where an operation makes a float64 tensor on another device than the CPU, as MPS does."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.device.type != "cpu":
                assert tensor.dtype != torch.float64, f"{function} makes float64 on {tensor.device}"
        return made


class Shapes(Accelerator):
    """A device that works out shapes and types alone."""

    def precision(self):
        return nullcontext()  # autocast does not know it


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_training_and_its_answers_make_no_float64_on_a_device(small_fit, loss):
    with NoFloat64():
        trainer, train_state = small_fit(
            accelerator=Shapes(torch.device("meta"), torch.float32),
            loss=loss,
            model=Tiny(width=4, dropout=0.1),
            augment=Augment(
                rotation_degrees=10, flip=0.5, brightness=0.2, contrast=0.2, gamma=0.2, erase=0.5
            ),
            settings={"ema_decay": 0.9, "clip_norm": 1.0},
        )
        (batch,) = trainer.batches.of(trainer.split.train[:8], 8)
        draws = trainer.augment.draw(8, torch.Generator())
        (seen,) = trainer._backward(train_state, [(batch, draws)], in_window=8)
        assert seen[1].device.type == "meta"
        trainer.step(train_state, correction=0.5)
        trainer.augment.surviving(batch.images, draws.to("meta"))
        for views in TTA.values():
            logits = mean_logits(train_state.evaluated, batch.images, trainer.eval_transform, views)
            trainer.loss.probability(logits)


def test_what_does_not_fit_is_tried_with_half_of_the_images_and_other_errors_are_raised():
    accelerator, tried = Accelerator.chosen("cpu", "fp32"), []

    def holds_three(size):
        tried.append(size)
        if size > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return f"{size} at once"

    assert accelerator.with_size_that_fits(holds_three, 21) == "3 at once"
    assert tried == [21, 11, 6, 3]

    def holds_none(size):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(TooLittleMemoryError, match="Out of memory with a single image on cpu"):
        accelerator.with_size_that_fits(holds_none, 4)
    with pytest.raises(RuntimeError, match="another fault"):
        accelerator.with_size_that_fits(lambda size: fails("another fault"), 4)


def fails(message):
    raise RuntimeError(message)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (RuntimeError("MPS backend out of memory (MPS allocated: 17 GB, max allowed: 18 GB)"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (torch.OutOfMemoryError("CUDA ran out"), True),
        (MemoryError(), True),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (OSError("out of memory"), False),
    ],
)
def test_too_little_memory_is_known_as_each_device_says_it(error, is_one):
    assert is_out_of_memory(error) == is_one


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_each_device_gets_back_what_is_not_used(kind, monkeypatch):
    called = []
    for name in ("cuda", "mps"):
        monkeypatch.setattr(getattr(torch, name), "empty_cache", partial(called.append, name))
    Accelerator(torch.device(kind), torch.float32).forget()
    assert called == [kind]
