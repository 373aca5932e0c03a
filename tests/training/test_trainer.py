"""The training loop: accumulation, seeds, memory, resuming within an epoch, relabelling."""

import copy

import numpy as np
import pytest
import torch
from conftest import store_of

from pneumo.components.augment import Augment
from pneumo.components.losses import Bce, Combined, CrossEntropy, Focal, WeightedBce
from pneumo.components.models import Tiny
from pneumo.components.optimizers import Sgd
from pneumo.components.schedules import OneCycle
from pneumo.errors import InputError, NonFiniteLossError, TooLittleMemoryError
from pneumo.training.examples import Examples

JITTER = Augment(rotation_degrees=10, flip=0.5, brightness=0.2)


def weights(train_state):
    return torch.cat([p.detach().flatten() for p in train_state.model.parameters()])


def finished(trainer, train_state):
    return list(trainer.epochs(train_state))


@pytest.mark.parametrize("loss", [Bce(), CrossEntropy(), Focal(), WeightedBce(positive_weight=3)], ids=repr)
def test_accumulating_4x8_equals_one_batch_of_32(small_fit, loss):
    def trained(batch_size, accumulation_steps):
        trainer, train_state = small_fit(
            n_train=76,  # the last window is a short one: 12 images, in batches of 8 and 4
            model=Tiny(width=4, freeze="batchnorm"),
            optimizer=Sgd(lr=0.05),
            augment=JITTER,
            loss=loss,
            settings={"batch_size": batch_size, "accumulation_steps": accumulation_steps, "clip_norm": 1.0},
        )
        finished(trainer, train_state)
        return weights(train_state)

    assert torch.allclose(trained(8, 4), trained(32, 1), atol=1e-6)


def test_the_last_short_window_is_stepped(small_fit):
    trainer, train_state = small_fit(
        n_train=20, settings={"batch_size": 8, "accumulation_steps": 2, "epochs": 1}
    )
    steps = []
    train_state.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    finished(trainer, train_state)
    assert len(steps) == trainer.steps_per_epoch() == 2


@pytest.mark.parametrize("loss", [Bce(), CrossEntropy(), Focal(), Combined()], ids=repr)
def test_eight_images_can_be_learned_by_heart(small_fit, loss):
    trainer, train_state = small_fit(n_train=8, n_val=8, loss=loss, settings={"epochs": 100, "batch_size": 8})
    finished(trainer, train_state)
    assert train_state.history[-1]["train/accuracy"] == 1
    assert train_state.history[-1]["train/loss"] < 0.5 * train_state.history[0]["train/loss"]


def test_the_same_seed_gives_the_same_weights_and_another_does_not(small_fit):
    one, two, other = (small_fit(augment=JITTER, seed=seed) for seed in (0, 0, 1))
    for trainer, train_state in (one, two, other):
        finished(trainer, train_state)
    assert torch.equal(weights(one[1]), weights(two[1]))
    assert not torch.equal(weights(one[1]), weights(other[1]))


def test_two_plus_two_epochs_equal_four(small_fit):
    options = {
        "augment": JITTER,
        "model": Tiny(width=4, dropout=0.3),
        "schedule": OneCycle(),
        "settings": {"epochs": 4},
    }
    trainer, whole = small_fit(**options)
    finished(trainer, whole)

    trainer, first = small_fit(**options)
    reports = trainer.epochs(first)
    next(reports), next(reports)
    state = copy.deepcopy(first.state_dict())
    trainer, second = small_fit(**options)
    torch.rand(7)  # whatever else drew random numbers in between
    second.load_state_dict(state)
    finished(trainer, second)
    assert torch.equal(weights(whole), weights(second))
    clockless = [
        {k: v for k, v in metrics.items() if "second" not in k} for metrics in whole.history + second.history
    ]
    assert clockless[:4] == clockless[4:]


@pytest.mark.parametrize("at_step", [1, 4, 6])
def test_a_training_left_within_an_epoch_goes_on_bit_equal(small_fit, at_step):
    options = {
        "augment": JITTER,
        "model": Tiny(width=4, dropout=0.3),
        "schedule": OneCycle(),
        "settings": {"epochs": 2, "checkpoint_minutes": 1e-9, "ema_decay": 0.9},
    }
    states = []
    trainer, whole = small_fit(**options)
    for _ in trainer.epochs(
        whole, keep=lambda train_state: states.append(copy.deepcopy(train_state.state_dict()))
    ):
        pass
    assert len(states) == 2 * 3  # 4 steps an epoch; after the last the epoch is done

    trainer, second = small_fit(**options)
    second.load_state_dict(states[at_step - 1])
    finished(trainer, second)
    assert torch.equal(weights(whole), weights(second))
    for one, other in zip(whole.history, second.history, strict=True):
        assert all(one[name] == other[name] for name in one if "second" not in name)
    averages = [train_state.ema.state_dict()["model"] for train_state in (whole, second)]
    assert all(torch.equal(averages[0][name], averages[1][name]) for name in averages[0])


class Gpu(Bce):
    """Holds so many images at once."""

    room = 3

    def __call__(self, logits, labels):
        if logits.requires_grad and len(logits) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().__call__(logits, labels)


def test_a_batch_that_does_not_fit_is_halved_and_learns_the_same(small_fit):
    def trained(loss):
        trainer, train_state = small_fit(
            n_train=44,  # the last window is a short one
            model=Tiny(width=4, freeze="batchnorm"),
            optimizer=Sgd(lr=0.05),
            augment=JITTER,
            loss=loss,
            settings={"batch_size": 10, "accumulation_steps": 2, "clip_norm": 1.0},
        )
        finished(trainer, train_state)
        return train_state

    roomy, narrow = trained(Bce()), trained(Gpu())
    assert torch.allclose(weights(roomy), weights(narrow), atol=1e-6)
    assert (roomy.micro_batch, narrow.micro_batch) == (10, 3)
    assert roomy.history[-1]["train/loss"] == pytest.approx(narrow.history[-1]["train/loss"], abs=1e-6)
    _fit, again = small_fit(optimizer=Sgd(lr=0.05))
    again.load_state_dict({**again.state_dict(), "micro_batch": narrow.state_dict()["micro_batch"]})
    assert again.micro_batch == 3  # a resumed one need not run into it again


def test_a_loss_over_the_batch_does_not_change_where_the_batch_is_halved(small_fit, monkeypatch):
    def trained(room):
        trainer, train_state = small_fit(
            n_train=44,
            model=Tiny(width=4, freeze="batchnorm", dropout=0),
            optimizer=Sgd(lr=0.05),
            augment=JITTER,
            loss=Combined(),
            settings={"batch_size": 10, "accumulation_steps": 2},
        )
        forward = train_state.model.forward

        def narrow(images, **options):
            if torch.is_grad_enabled() and len(images) > room:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return forward(images, **options)

        monkeypatch.setattr(train_state.model, "forward", narrow)
        finished(trainer, train_state)
        return train_state

    roomy, tight = trained(room=10), trained(room=3)
    assert tight.micro_batch == 3
    assert torch.allclose(weights(roomy), weights(tight), atol=1e-6)
    assert roomy.history[-1]["train/loss"] == pytest.approx(tight.history[-1]["train/loss"], abs=1e-6)


def test_train_and_validation_loss_of_the_same_images_are_the_same_though_it_is_over_batches(small_fit):
    trainer, train_state = small_fit(
        n_train=256,
        n_val=0,
        model=Tiny(width=4, freeze="backbone"),
        optimizer=Sgd(lr=1e-12),
        loss=Combined(),
        settings={"batch_size": 2, "epochs": 1},
    )
    object.__setattr__(trainer.split, "val", trainer.split.train)
    (report,) = finished(trainer, train_state)
    assert report.metrics["val/loss"] == pytest.approx(report.metrics["train/loss"], abs=0.01)


def test_a_single_image_that_does_not_fit_is_said_clearly(small_fit):
    class Full(Gpu):
        room = 0

    trainer, train_state = small_fit(loss=Full(), model=Tiny(width=4, freeze="batchnorm"))
    with pytest.raises(TooLittleMemoryError, match="Out of memory with a single image on cpu: a smaller"):
        finished(trainer, train_state)


def test_another_error_is_not_taken_for_too_little_memory(small_fit):
    class Broken(Bce):
        def __call__(self, logits, labels):
            raise RuntimeError("shapes do not match")

    trainer, train_state = small_fit(loss=Broken())
    with pytest.raises(RuntimeError, match="shapes do not match"):
        finished(trainer, train_state)
    assert train_state.micro_batch == 8


def test_reports_come_one_an_epoch_and_the_best_is_marked(small_fit):
    trainer, train_state = small_fit(settings={"epochs": 3})
    reports = finished(trainer, train_state)
    assert [report.epoch for report in reports] == [1, 2, 3]
    aurocs = [report.metrics["val/auroc"] for report in reports]
    assert aurocs[train_state.best_epoch - 1] == max(aurocs)
    assert reports[train_state.best_epoch - 1].is_best
    assert {"train/loss", "train/accuracy", "val/loss", "val/hard_auroc", "lr", "images_per_second"} <= set(
        reports[0].metrics
    )


def test_a_schedule_that_stops_ends_the_training(small_fit):
    trainer, train_state = small_fit(
        model=Tiny(width=4, freeze="backbone"),
        optimizer=Sgd(lr=1e-12),
        schedule=OneCycle(stop_patience=2),
        settings={"epochs": 50},
    )
    finished(trainer, train_state)
    assert train_state.stopped
    assert len(train_state.history) == 3


def test_a_loss_that_is_not_finite_names_epoch_batch_and_images(small_fit):
    class Broken(Bce):
        def __call__(self, logits, labels):
            return super().__call__(logits, labels) * (float("nan") if len(logits) == 4 else 1)

    trainer, train_state = small_fit(n_train=36, loss=Broken())  # four batches of 8 and one of 4
    with pytest.raises(NonFiniteLossError, match=r"nan in epoch 1, batch 5: images image-\d+, image-"):
        finished(trainer, train_state)


def test_any_number_of_batches_an_epoch_is_fine(small_fit):
    for n_batches in (19, 20, 21, 40):
        trainer, train_state = small_fit(n_train=2 * n_batches, settings={"batch_size": 2, "epochs": 1})
        assert np.isfinite(finished(trainer, train_state)[0].metrics["train/loss"])


def test_relabelling_makes_negatives_of_crops_that_lost_the_lesion(small_fit):
    pixels = np.zeros((48, 16, 16), np.uint8)
    masks = np.zeros_like(pixels)
    masks[np.arange(48) % 2 == 1, :2, :2] = 255  # in the corner: most half-side crops miss it
    seen = []

    class Watching(Bce):
        def __call__(self, logits, labels):
            seen.append(labels)
            return super().__call__(logits, labels)

    for relabel in (False, True):
        seen.clear()
        trainer, train_state = small_fit(
            augment=Augment(crop=0.5, relabel=relabel),
            store=store_of(pixels, masks),
            loss=Watching(),
            settings={"epochs": 1},
        )
        finished(trainer, train_state)
        labels = torch.cat(seen[:4])
        assert not labels.isnan().any()
        assert (labels.sum() == 16) == (not relabel)
        assert len(labels) == 32 or relabel
    assert 0 <= labels.sum() < 8


def test_a_window_whose_first_batch_has_no_label_does_not_step_on_an_old_gradient(small_fit):
    trainer, train_state = small_fit(settings={"accumulation_steps": 2, "epochs": 1})
    numbers, told = iter(range(100)), []
    examples, dropping = trainer.examples, train_state.optimizer.zero_grad

    def without_some(batch, draws, with_masks):
        whole = examples(batch, draws, with_masks)
        kept = 0 if next(numbers) == 2 else len(whole.labels)  # the first batch of the second of two windows
        return Examples(whole.inputs[:kept], whole.labels[:kept])

    def told_to_drop(**options):
        told.append("drop")
        dropping(**options)

    object.__setattr__(trainer, "examples", without_some)
    train_state.optimizer.zero_grad = told_to_drop
    train_state.optimizer.register_step_pre_hook(lambda *_: told.append("step"))
    finished(trainer, train_state)
    assert told == ["drop", "step", "drop", "step"]


def test_without_masks_relabelling_leaves_the_labels_alone(small_fit):
    trainer, _training = small_fit(augment=Augment(crop=0.5, relabel=True))
    examples = trainer.examples(next(trainer.batches.of(trainer.split.train, 8)), torch.rand(8, 14))
    assert examples.labels.tolist() == [0, 1] * 4


def test_batches_through_loader_processes_are_the_same(small_fit):
    trainer, train_state = small_fit(augment=JITTER)
    finished(trainer, train_state)
    fit_again, again = small_fit(augment=JITTER)
    fit_again.batches._workers = 2
    finished(fit_again, again)
    assert torch.equal(weights(train_state), weights(again))


def test_bf16_learns_too(small_fit):
    trainer, train_state = small_fit(settings={"precision": "bf16", "epochs": 8})
    finished(trainer, train_state)
    assert train_state.history[-1]["val/auroc"] > 0.9


def test_a_batch_of_one_image_whose_last_map_is_one_pixel_is_one_line(small_fit):
    trainer, state = small_fit(n_train=17, model=Tiny(width=4, stem_width=4))  # 17 = 8 + 8 + 1, of 16 px
    with pytest.raises(InputError, match="A batch of one image cannot be normalised"):
        finished(trainer, state)
