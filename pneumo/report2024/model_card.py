"""A model card of the recommended run."""

from pneumo.display.format import compact, decimal
from pneumo.display.pages import Cell, Link, Section
from pneumo.evaluation import plots
from pneumo.evaluation.metric_names import METRICS
from pneumo.report2024.comparison import answers, commit, epochs, leak, size
from pneumo.report2024.rescored import RescoredRun, logged
from pneumo.runs.query import RunRecord

NOT_KNOWN = "not known"


def section(run: RunRecord | None, one: RescoredRun | None) -> Section:
    if run is None or one is None:
        return Section(
            "Model card", ["The recommended recipe was not run yet: there is no model to describe."]
        )
    rows: list[list[Cell]] = [["run", Link(run.name, run.address)], *facts(run)]
    at = decimal(run.metrics["threshold"], 2)
    text = ["What this network is, and what nobody knows of it. A drawn image is nobody's chest."]
    pictures = {}
    if len(one.scores):
        threshold, title = run.metrics["threshold"], one.part
        pictures[f"{run.name}: ranking on {one.part}"] = [
            plots.ranking(one.labels, one.scores, threshold, title)
        ]
        pictures[f"{run.name}: reliability, and answers at threshold {at}, the best F1 on validation"] = [
            plots.reliability(one.labels, {one.part: one.scores}, title),
            plots.confusion(one.labels, one.scores, threshold, title),
        ]
    scored = [
        [f"{one.part} {name.title}{f', at threshold {at}' if name.kind == 'threshold' else ''}", value]
        for key, name in METRICS.items()
        for value in [logged(run, f"{one.part}/{key}")]
        if value != "-"
    ]
    return Section("Model card", text, ["", "what is known"], [*rows, *scored, *limits(run, one)], pictures)


def facts(run: RunRecord) -> list[list[Cell]]:
    p, tags = run.parameters, run.tags
    side = p.get("data.image_side_px", "?")
    began = (
        f"weights from {p['model.pretrained']}" if p.get("model.pretrained") != "None" else "random weights"
    )
    return [
        [
            "network",
            f"{tags.get('model')}, {compact(round(run.metrics['trainable_parameters']))} trainable "
            f"parameters, began with {began}",
        ],
        ["takes", f"one frontal chest radiograph, grey, {side} x {side} px"],
        ["gives", "P(pneumothorax), a number from 0 to 1; no place in the image"],
        ["made by", f"python train.py {tags.get('overrides')}; version {commit(run)}"],
        [
            "trained with",
            f"{tags.get('loss')}, {tags.get('optimizer')}, {tags.get('schedule')}, augment "
            f"{tags.get('augment')}, {epochs(run)} epochs, {tags.get('fit_time', NOT_KNOWN)} of training",
        ],
        ["trained on", f"{tags.get('data')}: {size(run, 'train')}"],
        ["chosen on", f"val, by AUROC: {size(run, 'val')}"],
        ["judged on", f"test, once: {size(run, 'test')}" if "test/auroc" in run.metrics else "val alone"],
        [
            "one patient in two parts",
            leak(run),
        ],
    ]


def limits(run: RunRecord, one: RescoredRun) -> list[list[Cell]]:
    drawn = " (its images are drawn)" if run.tags.get("data") == "phantom" else ""
    return [
        ["called positive at P = .5", answers(run, one)],
        ["meant for", "research on how such a network is trained and judged"],
        ["not meant for", "patients: it is no medical device, and nobody tried it in a clinic"],
        ["other hospitals, other machines", NOT_KNOWN + drawn],
        ["by sex, age, view, size of lesion, chest tubes", f"pneumo evaluate {run.run_id}{drawn}"],
        ["who labelled the images, and how well they agree", f"{NOT_KNOWN}{drawn}"],
        ["harm by its mistakes", NOT_KNOWN],
        ["again", f"pneumo reproduce {run.run_id}"],
        ["to begin from", f"python train.py model.pretrained={run.run_id}"],
    ]
