"""conf/search, conf/pruner and the settings of a study."""

import optuna
import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from pneumo.errors import InputError
from pneumo.sweep.design.rates import RatePruner
from pneumo.sweep.search import build_search
from pneumo.sweep.settings import load_settings


def choices(group):
    return [p.stem for p in sorted((ROOT / "conf" / group).glob("*.yaml")) if not p.stem.startswith("_")]


@pytest.fixture
def load():
    """Overrides -> (settings, plan), as the sweeper sees them."""

    def make(*overrides):
        with initialize_config_dir(str(ROOT / "conf")):
            composed = compose("sweep", list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(composed)
        settings = load_settings(composed, composed.hydra.sweeper)
        return settings, build_search(settings, composed, list(overrides))

    yield make
    HydraConfig.instance().cfg = None


@pytest.mark.parametrize("search", [name for name in choices("search") if name != "conclusions"])
def test_every_search_begins_with_a_setting_that_it_could_sample(load, composed, search):
    _, plan = load(f"search={search}")
    study = optuna.create_study()
    study.enqueue_trial(plan.queue[0])
    values = plan.suggest(study.ask())
    assert plan.queue[0].items() <= values.items()
    assert plan.notes == []
    composed(*plan.overrides(values), primary="sweep")


def test_the_default_search_begins_with_the_reports_four_values_and_those_of_train_yaml(load, composed):
    _, plan = load()
    default = composed()
    assert plan.queue == [
        {"optimizer.lr": 1e-3, "fit.accumulation_steps": 1, "fit.batch_size": 6, "loss": "ce"},
        {
            "optimizer.lr": default.optimizer.lr,
            "fit.accumulation_steps": default.fit.accumulation_steps,
            "fit.batch_size": default.fit.batch_size,
            "loss": "bce",
        },
    ]
    assert HydraConfig.get().runtime.choices["loss"] == "bce"


def test_another_beginning_is_one_override(load):
    _, plan = load("search.enqueue=[]")
    assert plan.queue == []
    _, plan = load("search.enqueue=[{optimizer.lr: 0.01}]")
    assert plan.queue == [{"optimizer.lr": 0.01}]


@pytest.mark.parametrize("pruner", choices("pruner"))
def test_every_pruner_is_made(load, pruner):
    settings, _ = load(f"pruner={pruner}")
    others = {"none": "NopPruner", "halving": "SuccessiveHalvingPruner"}
    expected = others.get(pruner, f"{pruner.title()}Pruner")
    assert type(settings.make_pruner()).__name__ == expected


@pytest.mark.parametrize("group", ["search", "pruner", "search=conclusions size"])
def test_every_yaml_of_a_study_opens_with_its_command(group):
    folder = group.split()[-1]
    for name in choices(folder):
        lines = (ROOT / "conf" / folder / f"{name}.yaml").read_text().splitlines()
        command = next(line for line in lines if not line.startswith("# @package"))
        assert command.startswith(f"# python sweep.py -m {group}={name}"), command


@pytest.mark.parametrize("size", choices("size"))
def test_every_size_of_a_design_has_as_many_seeds_in_each_style(load, size):
    _, design = load("search=conclusions", f"size={size}")
    assert design.seeds % len(design.styles) == 0
    assert design.tuned_arms
    assert any(words.startswith("data.image_side_px=") for words in design.fixed)


def test_several_objectives_are_not_pruned_and_designs_only_where_they_choose_a_rate(load):
    settings, _ = load("objective=[val/auroc,fit_seconds]")
    assert isinstance(settings.make_pruner(), optuna.pruners.NopPruner)
    assert settings.directions == ["maximize", "minimize"]
    settings, _ = load("search=conclusions")
    assert isinstance(settings.make_pruner(), RatePruner)


def test_the_sampler_is_seeded_by_the_number_of_existing_trials(load):
    settings, _ = load("hydra.sweeper.sampler.seed=5")
    sampled = []
    for n_existing in (0, 0, 7):
        study = optuna.create_study(sampler=settings.make_sampler(n_existing))
        sampled.append(study.ask().suggest_float("x", 0, 1))
    assert sampled[0] == sampled[1] != sampled[2]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective=val/loss", "losses of different kinds cannot be compared"),
        ("objective=test/auroc", "objective must be one of val/"),
        ("objective=val/aurocc", "objective must be one of val/"),
        ("objective=fit_seconds", "the fastest model learns nothing"),
        ("objective=val/specificity", "a model that calls nothing a pneumothorax reaches 1.0"),
        ("objective=val/recall", "try val/sensitivity_at_90_specificity or val/auroc"),
        ("objective=[val/precision,fit_seconds]", "objective=val/precision: a model that finds a single"),
        ("objective=[]", "objective must name a metric"),
        ("objective=[[1]]", "objective must name a metric"),
        ("hydra.sweeper.heartbeat_seconds=0", "heartbeat_seconds must be at least 1, got 0"),
        ("hydra.sweeper.storage_minutes=nan", "storage_minutes must be a number of at least 0, got nan"),
        ("~search.design", "search.design must be given"),
        ("search.conditional=5", "search=report is not valid: TypeError"),
        (
            "search.enqueue=5",
            "search.enqueue must be a list of trials such as [{optimizer.lr: 0.01}], got 5",
        ),
        ("search.enqueue=null", "search.enqueue must be a list of trials such as "),
        ("search.enqueue=[5]", "[{optimizer.lr: 0.01}], got [5]"),
        ("search.design=5", "search=report is not valid: "),
        ("n_trials=0", "n_trials must be at least 1, got 0"),
        ("workers=two", "workers must be auto, or at least 1, got 'two'"),
        ("workers=0", "workers must be auto, or at least 1, got 0"),
        ("hours=-1", "hours must be above 0, got -1"),
        ("max_failure_rate=2", "max_failure_rate must be from 0 to 1, got 2"),
        ("storage=postgresql://me:secret@127.0.0.1/x", "PNEUMO_STORAGE"),
    ],
)
def test_invalid_settings_are_refused(load, override, message):
    with pytest.raises(InputError) as refused:
        load(override)
    assert message in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("other", ["val/auroc", "val/recall"])
def test_specificity_is_an_objective_beside_another_metric(load, other):
    settings, _ = load(f"objective=[val/specificity,{other}]")
    assert settings.directions == ["maximize", "maximize"]


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("search=conclusions", "patience=5: a design has no best trial to wait for"),
        ("objective=[val/auroc,fit_seconds]", "patience=5: several objectives have no best trial"),
    ],
)
def test_patience_is_refused_where_there_is_no_best_trial(load, which, message):
    with pytest.raises(InputError, match=message):
        load(which, "patience=5")


@pytest.mark.parametrize(
    ("override", "make", "message"),
    [
        ("~pruner._target_", "make_pruner", "pruner._target_ must be given"),
        ("pruner._target_=optuna.pruners.warnings.warn", "make_pruner", "pruner"),
        ("pool._target_=pneumo.sweep.pools.local.Work", "make_pool", "pool"),
        (
            "hydra.sweeper.sampler.seed=x",
            "make_sampler",
            "sampler.seed must be a whole number or null, got 'x'",
        ),
        (
            "hydra/sweeper/sampler=grid",
            "make_sampler",
            "optuna.samplers.GridSampler cannot be used with a study of pneumo",
        ),
        ("~hydra.sweeper.sampler._target_", "make_sampler", "_target_ must be given"),
    ],
)
def test_what_makes_no_pruner_pool_or_sampler_is_refused(load, override, make, message):
    settings, _ = load(override)
    with pytest.raises(InputError, match=message) as refused:
        getattr(settings, make)(*([0] if make == "make_sampler" else []))
    assert "\n" not in str(refused.value)


def test_a_large_seed_of_the_sampler_stays_within_numpys(load):
    settings, _ = load("hydra.sweeper.sampler.seed=123456789012")
    assert 0 <= optuna.create_study(sampler=settings.make_sampler(3)).ask().suggest_float("x", 0, 1) <= 1
