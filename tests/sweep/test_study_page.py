"""The page of a study: its order, its charts, and how a browser shows them."""

import json
import re
import sys
from datetime import datetime, timedelta

import pytest
from conftest import ROOT
from optuna.trial import TrialState, create_trial
from sampled_studies import add, on_known_surface, study_in_memory, with_duplicate
from test_conclusions import studied

from pneumo.display import pages
from pneumo.display.pages import Link
from pneumo.runs.identity import configuration, configuration_hash
from pneumo.sweep.pages import charts, command, page, scales, static_plots

sys.path.insert(0, str(ROOT / "docs"))
import screenshots

needs_a_browser = pytest.mark.skipif(
    screenshots.browser() is None, reason="no chromium here: apt-get install chromium"
)
WIDTHS = (360, 1400)
MARKS = """[...document.querySelectorAll(".chart")].map(chart => [
    chart.ariaLabel, chart.querySelectorAll(".points path, .scatterlayer path, .heatmaplayer image").length
])"""
NUMBERS = ["What mattered", "What pruning saved", "The ten best", "All trials"]


def figures(study, title):
    """The figures of the section of this title, as plotly's JSON."""
    (section,) = [section for section in charts.of_study(study) if section.title == title]
    return [json.loads(chart.figure.to_json()) for row in section.plots.values() for chart in row]


def hovered(figure):
    """The first lines of what the points say, without those of other marks."""
    texts = [text for trace in figure["data"] for text in trace.get("text") or []]
    return [text.split("<br>")[0] for text in texts if text]


def test_the_page_begins_with_the_state_the_command_and_pictures_and_folds_the_numbers():
    sections = page.sections(with_duplicate(), address="http://at/{}".format)
    first = sections[0]
    assert first.title == "Study s"
    assert first.text == [
        "7 trials done: 6 complete (1 of them taken over from equal ones), 1 pruned, 1 failed "
        "(1 non-finite); 0 s of training",
        "Best: #1, lr 1e-3 · batch 16 x 1 · bce: val/auroc .900",
    ]
    assert first.command == "pneumo train loss=ce optimizer.lr=0.003"
    titles = [section.title for section in sections if not section.folded]
    assert titles[1] == "History and learning curves"
    assert titles[-4:] == ["Importances", "Slices", "Parallel coordinates", "Timeline"]
    assert [section.title for section in sections[-4:]] == NUMBERS
    assert all(section.folded for section in sections[-4:])


def known_settings(study, *changes):
    """The study, which knows the settings of train.py with these changes, and the hash of its best trial."""
    parameters = command.composed([*study.trials[1].user_attrs["overrides"], *changes])
    kept = {n: v for n, v in configuration(parameters).items() if not n.startswith(("loss.", "optimizer.lr"))}
    study.set_user_attr("identity", {"settings": kept})
    best = study.trials[1]
    best.user_attrs["config_hash"] = configuration_hash(parameters)
    return best


@pytest.mark.parametrize(
    ("changes", "added"),
    [
        ([], ""),
        (["fit.epochs=5"], " fit.epochs=5"),
        (["fit.rescue=false"], " fit.rescue=false"),  # as sweep.yaml does
        (["model.stem_width=null", "fit.clip_norm=2"], " fit.clip_norm=2 model.stem_width=null"),
    ],
)
def test_the_command_of_the_best_trial_sets_what_the_search_file_does(changes, added):
    study = with_duplicate()
    best = known_settings(study, *changes)
    assert command.command(study, best) == f"pneumo train loss=ce optimizer.lr=0.003{added}"
    assert command.missing(best, command.command_words(study, best)) == []


@pytest.mark.parametrize("words", [["model=resnet18", "model.pretrained=null"], ["loss.label_smoothing=0.1"]])
def test_a_command_that_lacks_what_the_search_file_sets_says_so(words):
    study = with_duplicate()
    best = known_settings(study, *words)
    (sentence,) = command.missing(best, command.command_words(study, best))
    assert sentence == "Here, the command does not compose to all that #1 had: see the study's search file."


def test_words_that_do_not_compose_here_are_still_a_command():
    study = with_duplicate()
    best = known_settings(study)
    best.user_attrs["overrides"] = ["experiment=of_another_folder"]
    assert command.command(study, best) == "pneumo train experiment=of_another_folder"
    assert len(command.missing(best, command.command_words(study, best))) == 1


def test_the_best_trials_link_to_their_runs_in_mlflow_where_it_can_be_reached():
    study = with_duplicate()
    (table,) = [s for s in page.sections(study, "http://at/{}".format) if s.title == "The ten best"]
    assert table.rows[0][-1] == Link("11111111", f"http://at/{'1' * 32}")
    (table,) = [s for s in page.sections(study) if s.title == "The ten best"]
    assert table.rows[0][-1] == "11111111"


def test_no_chart_shows_a_result_twice_that_was_taken_over():
    study = with_duplicate()
    for section in charts.of_study(study):
        for row in section.plots.values():
            for chart in row:
                assert not re.search("#5[: ]", chart.figure.to_json()), section.title


def test_a_point_says_its_trial_its_value_and_its_parameters():
    (history, *_) = figures(with_duplicate(), "History and learning curves")
    complete = next(trace for trace in history["data"] if trace["name"] == "complete")
    assert complete["text"][1] == "#1: .900<br>lr 1e-3<br>batch 16 x 1<br>bce"


@pytest.mark.parametrize(("direction", "best"), [("maximize", [0.7, 0.9, 0.9, 0.9, 0.9]), ("minimize", None)])
def test_the_best_so_far_follows_the_direction(direction, best):
    study = study_in_memory(["val/x"], [direction])
    for number, value in enumerate([0.7, 0.9, 0.8, 0.6, 0.85]):
        add(study, 10 ** (-3.5 + number / 2), [value])
    (history,) = figures(study, "History and learning curves")
    line = next(trace for trace in history["data"] if trace["name"] == "best so far")
    values = charts.history(study.trials, 0, "val/x", study.directions[0]).figure.data[-1].y
    assert list(values) == (best or [0.7, 0.7, 0.7, 0.6, 0.6])
    assert line["name"] == "best so far"


def test_of_learning_curves_the_pruned_are_grey_and_the_best_has_a_colour_of_its_own():
    *_, curves = figures(with_duplicate(), "History and learning curves")
    colors = {trace["name"]: trace["line"]["color"] for trace in curves["data"]}
    assert colors == {"pruned": charts.GREY, "others": charts.SKY, "best, #1": charts.ORANGE}
    assert {text for text in hovered(curves) if "epoch 1" in text}


def test_of_several_objectives_each_has_its_history_and_the_pareto_front_is_marked():
    study = with_duplicate(["val/auroc", "fit_seconds"], ["maximize", "minimize"])
    course = figures(study, "History and learning curves")
    assert [figure["layout"]["yaxis"]["title"]["text"] for figure in course[:2]] == [
        "val/auroc",
        "fit_seconds",
    ]
    (front,) = figures(study, "Pareto front")
    marked = next(trace for trace in front["data"] if trace["name"] == "Pareto front")
    # .7 after 10 s and .9 after 11 s; the others are worse than .9 and take longer
    assert sorted(text.split(":")[0] for text in marked["text"]) == ["#0", "#1"]
    (lines,) = figures(study, "Parallel coordinates")
    names = [note["text"] for note in lines["layout"]["annotations"] if note["text"].startswith("<b>")]
    assert names[-2:] == ["<b>val/auroc</b>", "<b>fit_seconds</b>"]


def test_a_logarithmic_scale_has_plain_decades():
    assert scales.ticks(with_duplicate().trials[0].distributions["optimizer.lr"]) == (
        pytest.approx([0, 1 / 3, 2 / 3, 1]),
        ["1e-4", "1e-3", "1e-2", "1e-1"],
    )
    assert scales.decades(2e-3, 5e-3) == [2e-3, 5e-3]


def test_workers_are_counted_by_what_they_train_at_the_same_time_not_by_their_processes():
    study, start = study_in_memory(), datetime(2026, 1, 1)
    for number, (host, begin, end) in enumerate([("a", 0, 2), ("a", 1, 3), ("a", 4, 5), ("b", 0, 1)]):
        trial = create_trial(value=0.5, user_attrs={"process": f"{host}:{number}:{begin}.0"})
        trial.datetime_start = start + timedelta(minutes=begin)
        trial.datetime_complete = start + timedelta(minutes=end)
        study.add_trial(trial)
    lanes = charts.lanes_of(study.trials)
    assert lanes == {0: "a, 1", 1: "a, 2", 2: "a, 1", 3: "b, 1"}


def test_a_design_has_its_forest_plot_alone():
    study = studied()
    assert [section.title for section in page.sections(study)[:2]] == ["Study conclusions", "What helps"]
    assert not any("History" in section.title for section in page.sections(study))
    ((caption, content),) = static_plots.of_study(study)
    assert caption == "What helps report"
    assert content.startswith(b"\x89PNG")


def test_a_study_without_a_complete_trial_has_a_page():
    study = study_in_memory()
    assert "0 trials done" in pages.html(page.sections(study))
    add(study, 1e-3, [0.5], [0.5], TrialState.PRUNED)
    assert "1 trials done" in pages.html(page.sections(study))


def test_the_files_for_mlflow_are_pictures_whatever_the_objectives():
    several = with_duplicate(["val/auroc", "fit_seconds"], ["maximize", "minimize"])
    for study, also in ((with_duplicate(), "Learning curves"), (several, "Pareto front")):
        files = dict(static_plots.of_study(study))
        assert {"History", "Importances", "Slices", "Parallel coordinates", also} <= files.keys()
        assert all(content.startswith(b"\x89PNG") for content in files.values())


def test_the_files_for_mlflow_leave_out_what_was_taken_over_and_keep_the_numbers():
    copy = static_plots.readable(with_duplicate())
    assert [trial.number for trial in copy.trials if trial.state == TrialState.COMPLETE] == [0, 1, 2, 3, 4]
    assert copy.best_trial.number == 1
    assert set(copy.best_params) == {"lr", "batch size", "accumulation steps", "loss"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Pages of different studies, as files."""
    folder = tmp_path_factory.mktemp("pages")
    studies = {
        "surface": on_known_surface(16),
        "several": with_duplicate(["val/auroc", "fit_seconds"], ["maximize", "minimize"]),
        "duplicate": with_duplicate(directions=["minimize"]),
    }
    for name, study in studies.items():
        (folder / f"{name}.html").write_text(pages.html(page.sections(study, "http://at/{}".format)))
    return folder


def test_a_page_is_smaller_than_6_mb_and_loads_nothing(written):
    for path in written.iterdir():
        assert path.stat().st_size < 6e6
        tags = re.sub(
            r"<script>.*?</script>|<script [^>]*>.*?</script>", "", path.read_text(), flags=re.DOTALL
        )
        assert not re.findall(r'src="(?!data:)', tags)


@needs_a_browser
@pytest.mark.parametrize("name", ["surface", "several", "duplicate"])
def test_a_browser_draws_every_chart_without_an_error_a_request_or_an_overflow(written, name):
    wrong = []
    with screenshots.a_page() as tab:
        tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("request", lambda request: wrong.append(request.url) if "http" in request.url[:5] else None)
        for width in WIDTHS:
            tab.set_viewport_size({"width": width, "height": 900})
            tab.goto(f"file://{written / name}.html")
            tab.locator(".chart").last.wait_for(state="attached")
            tab.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
            tab.wait_for_function(
                "[...document.querySelectorAll('.chart')].every(c => c.querySelector('svg'))"
            )
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            marks = tab.evaluate(MARKS)
            assert len(marks) >= 8
            assert [label for label, number in marks if not number] == []
    assert wrong == []
