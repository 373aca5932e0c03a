"""The ways to name a run, and which runs can be the best."""

import subprocess
import sys

import mlflow
import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from logged_runs import logged, other_run

from pneumo.errors import InputError
from pneumo.runs import config
from pneumo.runs.best import best_run
from pneumo.runs.named_run import described_run, named_run
from pneumo.runs.overrides import quoted_run_names
from pneumo.runs.query import split_number


def refused(name, **more):
    with pytest.raises(InputError) as error:
        named_run(name, **more)
    return str(error.value)


def test_a_run_has_its_id_the_first_digits_of_it_and_its_name(store):
    run_id, other = logged("calm-heron-412"), logged("wise-rook-55")
    digits = next(n for n in range(4, 33) if run_id[:n] != other[:n])
    for name in (run_id, run_id[:digits], run_id[:8], run_id[:8].upper(), "calm-heron-412"):
        assert named_run(name).run_id == run_id
    assert described_run(named_run(run_id)) == (
        f"calm-heron-412 · phantom · val AUROC .900 of 420 images · {run_id[:8]}"
    )


def test_several_runs_of_a_name_are_listed_with_digits_that_tell_them_apart(store):
    ids = [logged("mine", auroc, data=data) for auroc, data in ((0.8, "phantom"), (0.7, "table"))]
    said = refused("mine").splitlines()
    assert said[0] == "2 runs are called mine. Name one by the first digits of its id:"
    assert [line.split()[0] for line in said[1:]] == [ids[1][:8], ids[0][:8]]
    assert [line.split(" · ")[1:] for line in said[1:]] == [
        ["table", "val AUROC .700 of 420 images"],
        ["phantom", "val AUROC .800 of 420 images"],
    ]
    assert named_run(said[1].split()[0]).run_id == ids[1]


def test_a_name_of_digits_that_another_id_begins_with_is_not_guessed(store):
    run_id = logged("one")
    logged(run_id[:6])
    assert refused(run_id[:6]).startswith(f"2 runs are called {run_id[:6]}.")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("calm-heron-421", "has no run calm-heron-421. Did you mean calm-heron-412?"),
        ("heron", "has no run heron. Did you mean calm-heron-412?"),
        ("bets", "has no run bets. Did you mean best?"),
        ("xyz", "has no run xyz; `pneumo runs` lists those that there are"),
        ("0" * 32, f"has no run {'0' * 32}"),
        ('it\'s "mine"', "has no run it's"),
        (" ", "is not a run: give a name, an id or its first digits, latest, or best"),
    ],
)
def test_what_is_not_there_is_said_in_a_line_with_the_nearest_names(store, name, said):
    logged("calm-heron-412")
    message = refused(name)
    assert said in message
    assert "\n" not in message


def test_without_any_runs_nothing_is_near(store):
    assert refused("calm") == "MLflow at mlflow.db has no run calm: it has none at all, train one first"
    assert "has no finished run: train one first" in refused("latest")
    assert "has no finished run: train one first" in refused("best")


def test_in_a_folder_without_runs_no_database_is_made(workdir):
    assert refused("best").startswith(
        f"There is no mlflow.db in {workdir}, so the run 'best' cannot be found"
    )
    assert not list(workdir.iterdir())


def test_latest_is_the_latest_finished_training(store):
    logged("first", started_ms=1000)
    wanted = logged("second", started_ms=2000)
    logged("running", status="RUNNING", started_ms=3000)
    logged("failed", status="FAILED", started_ms=4000)
    other_run("ensemble of 2")
    other_run("report", study="report")
    assert named_run("latest").run_id == wanted


# ---- best

UNFIT = {
    "not finished": {"status": "KILLED"},
    "collapsed": {"collapsed": "true"},
    "leaking": {"leak_risk": "patients about as many as images; pretrained on 9 of 22 test images"},
    "debug": {"overrides": "loss=ce debug=fast"},
    "reproduction": {"reproduces": "0" * 32},
    "few images": {"parameters": {"fit.few_images": 16}},
    "few positives": {"metrics": {"split/val_positives": 19}},
}


@pytest.mark.parametrize("why", UNFIT)
def test_a_run_that_cannot_be_compared_is_not_the_best_and_why_is_said(store, why):
    logged("unfit", 1.0, **UNFIT[why])
    said = {
        "few positives": "with fewer than 20 positive validation images",
        "reproduction": "made by pneumo reproduce",
    }.get(why, why)
    assert f"can be chosen as best: of 1, left out are 1 {said}. Name one by" in refused("best")
    fit = logged("fit", 0.7, leak_risk="no patients known")
    assert named_run("best").run_id == fit


def test_reasons_are_counted(store):
    for number in range(2):
        logged(f"c{number}", collapsed="true")
    logged("few", metrics={"split/val_positives": 3})
    assert "of 3, left out are 2 collapsed, 1 with fewer than 20 positive validation images" in refused(
        "best"
    )


def test_a_toy_run_of_other_data_does_not_take_the_place_of_the_best(store):
    phantom = logged("phantom's", 0.97)
    logged("toy", 1.0, data="table", metrics={"split/val_positives": 2, "split/val_images": 6})
    assert named_run("best").run_id == phantom


def test_where_all_runs_of_some_data_have_collapsed_best_asks_before_it_takes_one_of_other_data(store):
    phantom = logged("phantom's", 0.97)
    logged("a check", 0.5, data="nih", collapsed="true", overrides="debug=fast")
    assert named_run("best").run_id == phantom
    logged("mine", 0.5, data="table", collapsed="true", metrics={"split/val_positives": 9})
    for of in (None, "table", "nih"):
        heading, line = refused("best", where_several=of).splitlines()
        said = "No run of table can be best, since they collapsed. To take other data, name them:"
        assert heading == said
        assert line.split()[0] == "best@phantom"
    assert named_run("best@phantom").run_id == phantom
    assert named_run("best", where_several="phantom").run_id == phantom
    better = logged("mine too", 0.8, data="table")
    assert named_run("best", where_several="table").run_id == better


def test_of_several_data_sets_best_asks_and_each_line_names_its_best(store):
    ids = {data: logged(f"of-{data}", 0.9, data=data) for data in ("phantom", "table")}
    logged("worse", 0.8, data="table")
    heading, *lines = refused("best").splitlines()
    assert heading == "There are runs of 2 data sets, whose AUROCs cannot be compared. Name one:"
    named = {line.split()[0] for line in lines}
    assert named == {"best@phantom", "best@table"}
    for name in named:
        assert named_run(name).run_id == ids[name.partition("@")[2]]
    assert named_run("best", {"data": "table"}).run_id == ids["table"]
    assert named_run("best", where_several="phantom").run_id == ids["phantom"]
    assert "2 data sets" in refused("best", where_several="nih")


def test_data_sets_of_one_name_are_told_apart_by_their_identity(store):
    one, other = logged("one", data_identity="aaaa1111222"), logged("other", data_identity="dddd4444555")
    named = [line.split()[0] for line in refused("best@phantom").splitlines()[1:]]
    assert named == ["best@dddd444455", "best@aaaa111122"]
    assert [named_run(name).run_id for name in named] == [other, one]


def test_what_differs_between_data_sets_of_one_name_is_said(store):
    for name, style in (("one", "default"), ("other", "crisp")):
        logged(name, parameters={"data.style": style, "data.seed": 0}, data_identity=f"{style[0]}" * 10)
    lines = refused("best@phantom").splitlines()[1:]
    assert sorted(line.split(", ")[2].split(":")[0] for line in lines) == [
        "data.style=crisp",
        "data.style=default",
    ]


def test_best_of_a_study_is_of_its_name_or_id_and_not_of_data_of_that_name(store):
    inside = logged("report-3", 0.8, study="report", study_id="f00d")
    logged("outside", 0.9)
    assert named_run("best", {"study": "report"}).run_id == inside
    assert named_run("best@f00d").run_id == inside
    assert "has no finished run of phantom" in refused("best", among={"study": "phantom"})
    assert "there are runs of phantom" in refused("best@siim")


def test_sizes_of_a_split_are_read_from_parameters_or_as_older_versions_logged_them_from_metrics(store):
    key = "split/val_positives"
    for place in ({"metrics": {key: 25}}, {"parameters": {key: 25}}):
        run = named_run(logged("run", **{"metrics": {key: None}, **place}))
        assert split_number(run, "val_positives") == 25
    assert split_number(run, "val_patients") is None


# ---- in a configuration


def experiment(*overrides):
    with initialize_config_dir(str(ROOT / "conf")):
        return config.load(compose("train", quoted_run_names(overrides)))


def test_a_run_in_a_configuration_is_replaced_by_its_id(store):
    run_id = logged("calm-heron-412")
    for name in ("latest", "best", "best@phantom", "calm-heron-412", run_id[:8]):
        loaded = experiment(f"model.pretrained={name}", f"resume={name}")
        assert (loaded.model.pretrained, loaded.resume) == (run_id, run_id)
        assert loaded.parameters["model.pretrained"] == run_id
        assert f"pretrained: {run_id}" in loaded.yaml, "best may be another run when it is reproduced"


def test_files_and_the_words_of_a_setting_are_no_runs(workdir):
    (workdir / "latest").write_bytes(b"")
    for value in ("imagenet", "weights.pth", "there/weights", "latest", "f" * 32):
        assert experiment("model=resnet18", f"model.pretrained={value}").model.pretrained == value
    assert experiment("resume=auto").resume == "auto"
    with pytest.raises(InputError, match=r"^model\.pretrained=mine is no file, and no run: There is no "):
        experiment("model.pretrained=mine")


@pytest.mark.parametrize("digits", ["12345678", "1234e567", "00001234"])
def test_digits_that_hydra_would_read_as_a_number_name_a_run(store, digits):
    run_id = logged(digits)
    assert experiment(f"model.pretrained={digits}").model.pretrained == run_id


def test_a_name_is_found_without_torch(store):
    logged("calm-heron-412")
    program = (
        "import sys; from pneumo.runs import tracking, named_run; tracking.connect()\n"
        "assert named_run.named_run('best').name == named_run.named_run('calm-heron-412').name\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_deleted_run_has_no_name(store):
    run_id = logged("calm-heron-412")
    mlflow.MlflowClient().delete_run(run_id)
    assert "it has none at all" in refused("calm-heron-412")
    with pytest.raises(InputError, match="has no finished run"):
        best_run()
