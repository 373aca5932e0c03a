import os
import pickle

import mlflow
import numpy as np
import pytest
import torch
from logged_runs import logged

from pneumo.errors import InputError
from pneumo.runs import checkpoint, query
from pneumo.runs.callback import RunCallback
from pneumo.runs.identity import DatasetIdentity, SeenImages

GOOD = {"model": {"w": torch.ones(3)}, "config": {}, "run_id": "x"}


def test_what_was_written_is_read_again(tmp_path):
    checkpoint.write(GOOD, tmp_path / "last.pt")
    assert torch.equal(checkpoint.read(tmp_path / "last.pt")["model"]["w"], torch.ones(3))


def test_a_write_that_breaks_off_leaves_the_last_good_one_and_nothing_else(tmp_path, monkeypatch):
    checkpoint.write(GOOD, tmp_path / "last.pt")

    def full_disk(state, file):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write({**GOOD, "model": {"w": torch.zeros(3)}}, tmp_path / "last.pt")
    assert torch.equal(checkpoint.read(tmp_path / "last.pt")["model"]["w"], torch.ones(3))
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is not a file of weights"), (b"text", "is not a file of weights"), (None, "is not there")],
)
def test_what_is_not_a_checkpoint_is_refused(content, message, tmp_path):
    path = tmp_path / "last.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        checkpoint.read(path)


def test_weights_of_somebody_else_are_no_checkpoint_of_ours(tmp_path):
    torch.save({"model": {}}, tmp_path / "theirs.pt")
    with pytest.raises(InputError, match="is not a checkpoint of a pneumo run"):
        checkpoint.read(tmp_path / "theirs.pt")


def test_a_pickle_in_its_place_is_never_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    (tmp_path / "last.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(InputError, match="is not a file of weights"):
        checkpoint.read(tmp_path / "last.pt")
    assert not (tmp_path / "executed").exists()


def test_another_configuration_is_named_value_by_value(tmp_path):
    state = {"config": {"seed": 0, "optimizer.lr": 0.003, "gone": 1}}
    with pytest.raises(InputError) as refused:
        checkpoint.refuse_other_config(state, {"seed": 1, "optimizer.lr": 0.003}, tmp_path / "last.pt")
    lines = str(refused.value).splitlines()[1:]
    assert [line.strip() for line in lines] == ["gone: then 1, now not there", "seed: then 0, now 1"]


def test_what_a_killed_process_left_half_written_is_taken_away(tmp_path):
    (tmp_path / ".last.pt.4711").write_bytes(b"half of it")
    nothing = SeenImages.nothing()
    images = DatasetIdentity(*(np.zeros(0, np.int64) for _ in range(6)))
    checkpoint.CheckpointWriter(tmp_path, "run", {}, images, "split", 1, nothing, RunCallback())
    assert list(tmp_path.iterdir()) == []


def in_closed_folder(monkeypatch, folder):
    """As if the folder were in the home of another user."""
    every = os.stat

    def stat(path, *args, **options):
        if str(path).startswith(str(folder)):
            raise PermissionError(13, "Permission denied", str(path))
        return every(path, *args, **options)

    monkeypatch.setattr(os, "stat", stat)


def unreadable(monkeypatch, folder):
    """As if the files in the folder were another user's, with mode 600."""
    every = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: not str(path).startswith(str(folder)) and every(path, mode)
    )


@pytest.mark.parametrize("other_user_s", [in_closed_folder, unreadable])
def test_where_the_file_of_a_checkpoint_may_not_be_read_its_copy_in_mlflow_is_used(
    other_user_s, store, monkeypatch
):
    home, copy = store / "home", store / "best.pt"
    home.mkdir()
    (home / "best.pt").write_text("the file")
    copy.write_text("the copy")
    run_id = logged("theirs", checkpoints=str(home))
    mlflow.MlflowClient().log_artifact(run_id, str(copy), "checkpoints")
    run = query.find_run(run_id)
    assert query.find_checkpoint(run, "best.pt").read_text() == "the file"
    other_user_s(monkeypatch, home)
    assert query.find_checkpoint(run, "best.pt").read_text() == "the copy"
