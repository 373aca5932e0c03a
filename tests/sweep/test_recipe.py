"""The recipe that `pneumo confirm` writes composes to what was confirmed, or is not written."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from sweeps import output_of, runs, study, swept, trials

from pneumo.cli.actions.confirm import differences
from pneumo.errors import InputError
from pneumo.runs import config
from pneumo.runs.recipe import from_recipe, to_recipe
from pneumo.runs.restore import experiment_of
from pneumo.runs.setting_names import GROUPS

__all__ = ["swept"]  # a fixture


SHAPING = [
    ["data.split_seed=3", "data.split=image", "data.normalise=train", "data.n_images=300"],
    ["data=table", "data.root=/x", "data.table=t.csv", "data.columns.label=y", "data.patients_csv=p.csv"],
    ["data=nih", "data.root=/x", "data.finding=Effusion", "data.images=a*"],
    ["debug=overfit", "tta=hflip", "fit.ema_decay=0.9", "fit.clip_norm=1.0", "fit.device=cpu"],
    ["debug=profile", "model=resnet18", "model.dropout=0.3", "optimizer=sgd", "optimizer.lr=1e-5"],
    ["experiment=report_finetune", "model.pretrained=null", "loss=focal", "loss.gamma=3"],
    ["augment=strong", "augment.relabel=true", "schedule=plateau", "loss.label_smoothing=0.1"],
]


SHIPPED = [[f"experiment={name}"] for name in config.choices_of("experiment")]


def chosen(*overrides):
    """The experiment of train.py, with the names of its choices."""
    with initialize_config_dir(str(ROOT / "conf")):
        whole = compose("train", list(overrides), return_hydra_config=True)
    choices = {group: whole.hydra.runtime.choices[group] for group in GROUPS}
    return config.load(OmegaConf.masked_copy(whole, [key for key in whole if key != "hydra"]), choices)


@pytest.mark.parametrize("overrides", [*SHIPPED, *SHAPING])
def test_a_recipe_composes_to_the_experiment_it_was_made_of(overrides):
    wanted = chosen(*overrides, "seed=7")
    found = from_recipe(to_recipe(wanted), wanted.choices)
    assert found.identity == {**wanted.identity, "seed": 0}
    assert found.tta == wanted.tta
    assert differences(wanted, found) == []


def test_a_recipe_of_a_run_from_before_there_was_rescue_composes_to_one_without():
    wanted = chosen("fit.rescue=false")
    older = OmegaConf.create(wanted.yaml)
    del older.fit.rescue
    parameters = {name: value for name, value in wanted.parameters.items() if name != "fit.rescue"}
    before = replace(wanted, yaml=OmegaConf.to_yaml(older), parameters=parameters)
    found = from_recipe(to_recipe(before), before.choices)
    assert not found.fit.rescue
    assert differences(before, found) == []


def test_what_a_recipe_loses_is_named():
    assert differences(chosen("data.split_seed=3", "tta=hflip", "seed=7"), chosen("data.normalise=none")) == [
        "data.normalise: then half, now none",
        "data.split_seed: then 3, now 0",
        "tta: confirmed hflip, composed none",
    ]


def test_a_recipe_of_a_choice_that_is_not_there_is_refused():
    wanted = chosen()
    wanted.choices["model"] = "mine"
    with pytest.raises(InputError, match="mine"):
        to_recipe(wanted)


def test_the_written_recipe_trains_what_was_confirmed_and_says_what_it_is(swept, monkeypatch, capfd):
    mine = ["experiment=report_bce", "debug=fast", "data.split_seed=3", "data.normalise=train", "tta=hflip"]
    shipped = (ROOT / "conf" / "experiment" / "best.yaml").read_bytes()
    code, printed = swept("n_trials=1", "model=tiny", "model.pretrained=null", "search.enqueue=[]", *mine)
    assert code == 0, printed
    printed = output_of(monkeypatch, capfd, "confirm", "s", "--top", "1", "--seeds", "1")
    assert "python train.py --config-dir recipes experiment=confirmed/best" in printed
    assert (ROOT / "conf" / "experiment" / "best.yaml").read_bytes() == shipped

    command = [sys.executable, str(ROOT / "train.py"), "--config-dir", "recipes", "experiment=confirmed/best"]
    done = subprocess.run([*command, "--cfg", "job"], capture_output=True, text=True, check=True)
    (trial,) = trials()
    wanted = experiment_of(trial.user_attrs["run_id"])
    found = config.from_yaml(done.stdout, wanted.choices, {})
    assert found.identity == wanted.identity
    assert found.tta == "hflip"

    header = Path("recipes/experiment/confirmed/best.yaml").read_text()
    tags = runs(f"attributes.run_id = '{trial.user_attrs['run_id']}'")[0].data.tags
    tested = study().user_attrs["tested"]["run_id"]
    for word in (study().user_attrs["study_id"], tags["config_hash"], tags["split_hash"], tested, "trial 0"):
        assert word in header
