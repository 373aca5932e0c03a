"""Weights of a run as a start of another: images that one was trained on and the other would be judged by."""

import shutil
from pathlib import Path

import pytest
from changing import images_of_split, predictions_of, train, world

from pneumo.errors import InputError
from pneumo.runs import checkpoint, query
from pneumo.runs.checkpoint import BEST, LAST
from pneumo.runs.query import checkpoint_file

__all__ = ["train", "world"]  # fixtures


@pytest.mark.parametrize("given", ["run id", "best.pt", "a copy of best.pt"])
def test_weights_that_were_trained_on_images_of_now_are_refused(world, train, workdir, given):
    one = train()
    path = checkpoint_file(one, BEST)
    if given == "a copy of best.pt":
        path = Path(shutil.copy(path, workdir / "anything.bin"))
    pretrained = f"model.pretrained={one if given == 'run id' else path}"
    with pytest.raises(
        InputError, match=r"has been trained on \d+ of \d+ validation images and \d+ of \d+ test"
    ):
        train("data.split_seed=7", pretrained)
    tags = query.find_run(train("data.split_seed=7", pretrained, "model.allow_leak=true")).data.tags
    assert tags["leak_risk"].startswith("pretrained on ")
    assert query.find_run(train("seed=2", pretrained)).data.tags["leak_risk"] == "none", "the same split"


def test_a_leak_is_counted_image_by_image(world, train, workdir):
    one = train()
    trained = set(images_of_split(world, one, "train"))
    with pytest.raises(InputError) as refused:
        train("data.split_seed=7", f"model.pretrained={one}")
    other = train("data.split_seed=7")
    val, test = (set(predictions_of(other, part)["image_id"]) for part in ("val", "test"))
    said = (
        f"{len(trained & val)} of {len(val)} validation images and {len(trained & test)} of {len(test)} test"
    )
    assert said in str(refused.value)


def test_a_leak_is_inherited_through_a_run_in_between(world, train):
    one = train("data.split=folds", "data.fold=0")
    two = train("data.split=folds", "data.fold=1", f"model.pretrained={one}", "model.allow_leak=true")
    three = ("data.split=folds", "data.fold=2", f"model.pretrained={two}")
    with pytest.raises(InputError, match="has been trained on"):
        train(*three)
    with pytest.raises(InputError, match="has been trained on"):
        train("data.split=folds", "data.fold=1", f"model.pretrained={two}")


def test_weights_of_an_older_checkpoint_say_that_their_images_are_not_known(world, train, workdir, capsys):
    one = train()
    state = checkpoint.read(checkpoint_file(one, BEST))
    old = {name: value for name, value in state.items() if name not in ("format", "images", "seen")}
    checkpoint.write(old, workdir / "old.pt")
    same = train("seed=3", f"model.pretrained={workdir / 'old.pt'}")
    assert query.find_run(same).data.tags["leak_risk"] == "none", "its split was this one"
    other = train("data.split_seed=7", f"model.pretrained={workdir / 'old.pt'}")
    assert "not known" in query.find_run(other).data.tags["leak_risk"]


def test_a_checkpoint_of_a_later_format_is_refused(world, train, workdir):
    path = checkpoint_file(train(), LAST)
    checkpoint.write({**checkpoint.read(path), "format": checkpoint.FORMAT + 1}, path)
    with pytest.raises(InputError, match=r"has the checkpoint format 2, of a later version of pneumo"):
        train(f"resume={path}")
