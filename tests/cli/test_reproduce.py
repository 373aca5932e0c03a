"""`pneumo reproduce`: what is compared, and what the copy is called."""

import json

import pytest
from conftest import SMALL, Named

from pneumo.cli import app
from pneumo.cli.actions.reproduce import of_same_epochs, print_differences
from pneumo.display.console import Terminal
from pneumo.errors import PrunedError
from pneumo.runs import query
from pneumo.runs.run import run


class Pruned(Named):
    """Stops a run after its first epoch, as a study does."""

    def on_epoch_end(self, epoch, metrics, is_last):
        raise PrunedError("it is not among the best")


def test_of_a_run_that_its_study_stopped_the_epochs_that_it_had_are_compared(workdir, composed, capfd):
    callback = Pruned()
    with pytest.raises(PrunedError):
        run(
            composed(*SMALL, "model.width=4", "fit.epochs=2", "tracking.name=mine"), workdir / "out", callback
        )
    capfd.readouterr()
    app.invoke(["reproduce", "mine", "--json"])
    printed = capfd.readouterr()
    assert (
        "REPRODUCED: all 1 epochs of the original are equal to the last digit; the copy has 2 epochs"
        in printed.err
    )
    found = json.loads(printed.out)
    assert (found["original"], found["equal"], found["epochs"]) == (callback.run_id, True, 1)
    assert set(found["largest_difference"].values()) == {0}
    copy = query.find_run(found["run_id"])
    assert copy.data.tags["reproduces"] == callback.run_id
    assert copy.info.run_name != "mine"


def test_a_copy_with_fewer_epochs_than_its_original_is_not_equal(capsys):
    before = {name: {1: 0.5, 2: 0.25} for name in ("train/loss", "val/loss", "val/auroc")}
    now = {name: of_same_epochs({1: 0.5, 3: 0.75}, curve) for name, curve in before.items()}
    print_differences(before, now, dict.fromkeys(before, 0.0), 2, Terminal())
    said = capsys.readouterr().out
    assert "NOT EQUAL: val AUROC differs by up to .0000 in the 1 of its 2 epochs that the copy has" in said
