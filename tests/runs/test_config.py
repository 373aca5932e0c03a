import time

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir

from pneumo.errors import InputError
from pneumo.runs import config
from pneumo.runs.overrides import run_overrides
from pneumo.runs.setting_names import STUDY
from pneumo.sweep.settings import instantiate_trusted

CHOICES = [
    f"{path.parent.name}={path.stem}"
    for path in sorted((ROOT / "conf").glob("*/*.yaml"))
    if not path.stem.startswith("_") and path.parent.name not in ("search", "pruner", "pool", "size")
]
NEEDED = {
    "data=siim_png": ["data.root=somewhere"],
    "data=siim_dicom": ["data.root=somewhere"],
    "data=nih": ["data.root=somewhere"],
    "model=timm": ["model.name=resnet18"],
    "data=table": ["data.root=somewhere", "data.table=images.csv"],
    "data=folders": ["data.root=somewhere"],
}


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_of_every_group_composes_and_is_built(composed, choice):
    experiment = composed(choice, *NEEDED.get(choice, []))
    group, _name = choice.split("=")
    if group not in ("experiment", "debug"):
        assert callable(getattr(experiment, group))


def test_the_configuration_of_train_py_composes_in_a_program_that_hydra_started():
    with initialize_config_dir(str(ROOT / "conf")):
        assert config.compose_train(["seed=3"]).seed == 3
        assert compose("sweep").seed == 0, "Hydra goes on as before"


@pytest.mark.parametrize("choice", CHOICES)
def test_every_yaml_opens_with_a_command_that_chooses_it(choice):
    group, name = choice.split("=")
    lines = (ROOT / "conf" / group / f"{name}.yaml").read_text().splitlines()
    command = next(line for line in lines if not line.startswith("# @package"))
    assert command.startswith(f"# python train.py {choice}"), command


def test_what_sweep_yaml_adds_never_enters_a_run(composed):
    with initialize_config_dir(str(ROOT / "conf")):
        added = set(compose("sweep")) - set(compose("train"))
    assert added == set(STUDY)
    alone, of_a_study = composed("fit.rescue=false"), composed("n_trials=7", "search=full", primary="sweep")
    assert of_a_study.identity == alone.identity
    assert "n_trials" not in of_a_study.yaml
    assert not {name.split(".")[0] for name in of_a_study.parameters} & added


def test_overrides_of_a_run_are_kept_without_those_of_its_study():
    typed = ["n_trials=3", "loss=bce", "search.enqueue=[]", "++loss.gamma=1", "trial=4"]
    assert run_overrides(typed) == ["loss=bce", "++loss.gamma=1"]


def test_the_reports_experiments_are_the_reports(composed):
    report = composed("experiment=report_normalised")
    assert (report.fit.batch_size, report.fit.epochs, report.data.num_workers) == (6, 50, 4)
    assert (report.optimizer.lr, report.optimizer.momentum) == (0.001, 0.9)
    assert report.loss.n_outputs == 2
    assert report.augment.crop == 224 / 512
    assert (report.model.freeze, report.model.pretrained, report.data.normalise) == (
        "none",
        "imagenet",
        "train",
    )
    plateau = composed("experiment=report_plateau").schedule
    assert (plateau.plateau_patience, plateau.stop_patience) == (5, 5)
    finetune = composed("experiment=report_finetune")
    assert (finetune.model.freeze, finetune.fit.epochs) == ("backbone", 20)
    enhanced = composed("experiment=report_enhanced")
    assert (enhanced.loss.n_outputs, enhanced.fit.accumulation_steps) == (1, 8)


def test_an_experiment_can_be_changed_in_one_place(composed):
    changed = composed("experiment=report_raw", "augment=safe", "model=tiny", "model.pretrained=null")
    assert changed.augment.crop == 1
    assert changed.fit.batch_size == 6


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=nih"], r"data.root must be given: data.root=\.\.\."),
        (["fit.batch_size=0"], "fit.batch_size must be at least 1, got 0"),
        (["optimizer.lr=1e300"], r"optimizer.lr must be a number from -1e\+18 to 1e\+18, got 1e\+300"),
        (["data.n_images=1000000000000"], "data.n_images must be at least 20 and at most 10000000, got 1000"),
        (["model.width=1000000"], "model.width must be at least 1 and at most 10000, got 1000000"),
        (["optimizer.beta1=1"], "optimizer.beta1 must be at least 0 and below 1, got 1"),
        (["optimizer=sgd", "optimizer.momentum=-1"], "optimizer.momentum must be at least 0 and below 1"),
        (
            ["optimizer=sgd", "optimizer.momentum=0", "optimizer.nesterov=true"],
            "optimizer.nesterov=true needs a momentum above 0",
        ),
        (["augment.rotation_degrees=1000"], "augment.rotation_degrees must be at least 0 and at most 180"),
        (["augment.shear_degrees=90"], "augment.shear_degrees must be at least 0 and below 90"),
        (["fit.batch_size=many"], "fit.batch_size must be a whole number, got 'many'"),
        (["seed=-1"], "seed must be from 0 to 4294967295, got -1"),
        (["seed=5000000000"], "seed must be from 0 to 4294967295, got 5000000000"),
        (["seed=true"], "seed must be a whole number, got True"),
        (["tta=[hflip]"], r"tta must be a text, got \['hflip'\]"),
        (["tracking.name=[1]"], r"tracking.name must be a text or null, got \[1\]"),
        (["tracking.experiment=null"], "tracking.experiment must be a text, got None"),
        (["+loss._partial_=true"], "loss._partial_ is not a setting"),
        (["loss._target_=pneumo.components.losses.InputError"], "loss"),
        (["resume=" + "9" * 400], "is no file, and no run"),
        (["optimizer.lr=fast"], "optimizer.lr must be a number, got 'fast'"),
        (["augment.relabel=maybe"], "augment.relabel must be true or false, got 'maybe'"),
        (
            ["schedule.stop_patience=soon"],
            "schedule.stop_patience must be a whole number or null, got 'soon'",
        ),
        (["data.split=patients"], "data.split .*patients"),
        (["+loss.gamma=2"], "loss.gamma is not a setting of the chosen loss, but of loss=focal"),
        (["loss.gamma=2"], "loss.gamma is not a setting of the chosen loss, but of loss=focal"),
        (["+fit.epoch=2"], r"fit.epoch is not a setting. Did you mean fit.epochs\?"),
        (["++fit.epoch=2"], r"Did you mean fit.epochs\?"),
        (["fit.epoch=2"], r"Did you mean fit.epochs\?"),
        (["+trainer.max_epochs=3"], r"trainer.max_epochs is not a setting. Did you mean fit.epochs\?"),
        (["+optimizer.lrr=1"], r"Did you mean optimizer.lr\?"),
        (["+lr=1"], r"lr is not a setting. Did you mean optimizer.lr\?"),
        (["+tracking.nam=mine"], r"Did you mean tracking.name\?"),
        (["+zzz=1"], "zzz is not a setting$"),
        (["study.name=mine"], r"study.name is not a setting. Did you mean study\?"),
        (["+fit.epochs=3"], "fit.epochs has a value already: write fit.epochs=..., once and without"),
        (["+loss=bce"], "loss has a value already"),
        (["+experiment=recommended"], "experiment has a value already"),
        (["n_trials=3"], "n_trials is a setting of a study"),
        (
            ["loss=bcee"],
            r"is not a choice; there are bce, ce, combined, focal, weighted_bce. Did you mean loss=bce\?$",
        ),
        (["loss=zzz"], "loss=zzz is not a choice; there are bce, ce, combined, focal, weighted_bce$"),
        (
            ["fit.epochs", "2"],
            "^'fit.epochs' has no value: write fit.epochs=VALUE, without blanks around the =$",
        ),
        (["fit.epochs=", "2"], "^'2' has no value: write NAME=VALUE"),
        (["data\n"], r"^'data\\n' has no value: write NAME=VALUE, without blanks around the =$"),
        (
            ["data=folders", "data.patient_pattern=^(.+?)__"],
            r"__ cannot be read: a text .* quotes, 'data.patient_pattern=\"\^\(.\+\?\)__\"'$",
        ),
        (["data.store_dir=a(b"], """ quotes, 'data.store_dir=\"a\\(b\"'$"""),
        (["tracking.also=[csw]"], "tracking.also must name some of tensorboard, csv, wandb, got 'csw'"),
        (["~fit.epochs"], r"fit.epochs must be given: fit.epochs=\.\.\."),
        (["~tracking"], r"tracking must be given"),
        (["loss._target_=os.system"], "loss: .*os.system"),
    ],
)
def test_a_wrong_value_or_name_is_refused_in_one_line(overrides, message):
    with pytest.raises(InputError, match=message) as refused:
        config.load(config.compose_train(overrides))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"_target_": "harmful.Loss"},
        {"_target_": "harmful"},
        {"_target_": "pneumo.components.losses.Bce", "label_smoothing": {"_target_": "harmful.Loss"}},
        {
            "_target_": "pneumo.components.losses.Bce",
            "label_smoothing": [{"a": {"_target_": "harmful.Loss"}}],
        },
    ],
)
@pytest.mark.parametrize("door", ["a component", "a stored run", "a pruner"])
def test_a_module_that_may_not_be_named_is_not_even_imported(tmp_path, monkeypatch, composed, settings, door):
    (tmp_path / "harmful.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\nclass Loss: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    doors = {
        "a component": lambda: config.instantiate_component("loss", settings),
        "a stored run": lambda: config.from_yaml(composed().yaml, {}, {"loss": settings}),
        "a pruner": lambda: instantiate_trusted(
            "pruner", settings, ("optuna.pruners.*", "pneumo.components.losses.*")
        ),
    }
    with pytest.raises(InputError, match="harmful"):
        doors[door]()
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("target", [None, 5])
def test_a_component_without_a_class_is_refused(target):
    with pytest.raises(InputError, match=f"loss._target_ must name a class, got {target}"):
        config.instantiate_component("loss", {"_target_": target})


def test_ones_own_component_works_once_it_is_trusted(composed, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from pneumo.components.losses import Bce\n\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Doubled(Bce):\n"
        "    def __call__(self, logits, labels):\n"
        "        return 2 * super().__call__(logits, labels)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"mine.Doubled"):
        composed("loss._target_=mine.Doubled")
    monkeypatch.setenv("PNEUMO_TRUST", "mine.*")
    assert type(composed("loss._target_=mine.Doubled").loss).__name__ == "Doubled"


def test_what_does_not_change_the_weights_is_not_part_of_the_identity(composed):
    one = composed()
    for beside in (
        "fit.test=false",
        "fit.pictures=false",
        "data.num_workers=0",
        "tracking.name=x",
        "tta=hflip",
    ):
        assert composed(beside).identity == one.identity, beside
    for part in ("seed=1", "fit.epochs=3", "loss=focal", "data.split_seed=1"):
        assert composed(part).identity != one.identity, part


def test_composing_imports_nothing_heavy():
    import subprocess
    import sys

    started = time.perf_counter()
    code = (
        "import train, sys; print([m for m in ('torch', 'mlflow', 'pandas', 'optuna') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", f"{time.perf_counter() - started:.1f} s"


def test_flat_names_nested_settings_with_dots():
    assert config.flatten({"a": {"b": 1, "c": {"d": None}}, "e": [1, 2]}) == [
        ("a.b", 1),
        ("a.c.d", None),
        ("e", "[1, 2]"),
    ]


@pytest.mark.parametrize(
    ("group", "content", "message"),
    [
        ("loss", "- a\n", "loss"),
        ("loss", "a: [\n", r"random.yaml, line 2, is not valid YAML: "),
        ("loss", "a: \x00\n", "random.yaml is not valid YAML: "),
        ("loss", "a: \xff\n", "conf/loss/random.yaml is not UTF-8: "),
        ("loss", "_target_: pneumo.components.losses.math.pi\n", "loss"),
        ("experiment", "# @package _global_\noptimizer: [1]\n", "In 'experiment/random'"),
        ("experiment", "# @package _global_\noptimizer: 1\n", "optimizer must hold settings, got 1"),
        ("experiment", "# @package _global_\nfit: null\n", "fit"),
        ("experiment", "defaults: {a: b}\n", "defaults must be a list"),
    ],
)
def test_a_file_that_is_no_choice_is_refused_in_one_line(group, content, message, workdir):
    path = workdir / "conf" / group / "random.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=message) as refused:
        config.load(config.compose_train([f"{group}=random"]))
    assert "\n" not in str(refused.value)
