"""What a paper on such a model is asked to say, and what the project knows of it.

The numbers are the items of CLAIM (2024 update) and of TRIPOD+AI (2024); the words are ours."""

from pneumo.display.format import compact, decimal
from pneumo.display.pages import Section
from pneumo.report2024.comparison import commit, leak, size
from pneumo.report2024.model_card import NOT_KNOWN
from pneumo.runs.query import RunRecord

SAMPLE = "all that there were: not calculated"
FIGURES = "AUROC of the scores first, sensitivity at fixed specificity; never accuracy alone"
ROBUST = "over seeds and settings: pneumo confirm, studies; over other images: not known"
ASKED = (  # what, CLAIM, TRIPOD+AI, answer
    ("that a learned model is reported", "1", "1", "deep learning, a convolutional network"),
    ("a summary", "2", "2", "the first lines of this page"),
    ("why, and what for", "3", "3a, 3b", "to see why a published recipe failed; it has no clinical role"),
    ("known inequalities of care", "-", "3c", NOT_KNOWN),
    ("aims", "4", "4", "which recipe learns, and whether each of the report's conclusions holds"),
    ("looking back or ahead", "5", "-", "back: at images that were there before"),
    ("kind of study", "6", "4", "made and judged within one set of images"),
    ("where the images come from, and when", "7", "5a, 5b", "{data}; dates: {unknown}"),
    ("place of care, and who was taken in", "8", "6a, 6b", "{unknown}"),
    ("treatments they had", "-", "6c", "{unknown}"),
    (
        "how images were prepared",
        "9",
        "7",
        "squashed to {side} x {side} px, 8-bit grey, normalised: {normalise}",
    ),
    ("parts of the data that were selected", "10", "-", "every image that can be read"),
    ("how names were taken out", "11", "-", "{unknown}; the program keeps no more than the ids it is given"),
    ("what was missing", "12", "11", "rows that cannot be used: {on_error}; nothing is filled in"),
    ("how images were taken", "13", "9a, 9b", "{unknown}"),
    ("what counts as positive", "14", "8a", "the label of the data set: pneumothorax or none"),
    ("why that", "15", "8a", NOT_KNOWN),
    ("who labelled, knowing what", "16", "8b, 8c", "{unknown}"),
    ("how the test images were labelled", "17", "8b", "as all others"),
    ("whether labellers agree", "18", "-", "{unknown}"),
    ("other inputs, and who judged them", "-", "9c", "none: pixels alone"),
    (
        "how images were divided",
        "19",
        "12a, 16",
        "by {split}, stratified, seed {split_seed}; split {split_hash}",
    ),
    ("by what the parts are apart", "20", "12a", "one patient in two parts: {leak}"),
    ("why so many images", "21", "10", SAMPLE),
    (
        "the model in full",
        "22",
        "12c, 22",
        "{model}, {parameters} trainable parameters; config.yaml in the run",
    ),
    ("programs and versions", "23", "12c", "version {version}; PyTorch, as requirements.lock pins it"),
    ("how its weights began", "24", "12c", "{began}"),
    ("how it was trained", "25", "12b, 12c", "{trained}; every setting in the run"),
    ("how the final one was chosen", "26", "12c", "the epoch of the highest validation AUROC"),
    ("several models together", "27", "12c", "none"),
    ("too few positives, and what was done", "-", "13", "{prevalence} positive in training; loss {loss}"),
    ("what was done for fairness", "-", "14", "nothing"),
    (
        "what comes out, and its cut-off",
        "28",
        "15",
        "P(pneumothorax); {threshold}, the best F1 on validation",
    ),
    ("which figures", "28", "12e", FIGURES),
    ("how sure they are", "29", "12e, 23a", "95% intervals, patients resampled 2,000 times"),
    ("differences between places", "-", "12d, 23b", NOT_KNOWN),
    ("how robust it is", "30", "12e", ROBUST),
    ("why it answers as it does", "31", "-", "pneumo evaluate RUN: maps against drawn lesions"),
    ("judged on images of the same source", "32", "12a", "{judged}"),
    ("judged on images from elsewhere", "33", "12a", "pneumo evaluate RUN data=...: not on this page"),
    ("corrected afterwards", "-", "12f, 24", "no"),
    ("how an answer is computed", "-", "12g", "one pass over one image; views averaged: {tta}"),
    ("ethics", "-", "17", "{unknown}"),
    ("registered as a trial", "34", "18d", "it is no trial"),
    ("how many people and images", "35", "20a, 21", "{sizes}"),
    (
        "who they are, part by part",
        "36",
        "20b, 20c",
        "prevalence as above; age, sex, view: pneumo data check",
    ),
    ("the figures", "37", "23a", "{part} AUROC {auroc}; all in the model card"),
    ("how precise they are", "38", "23a", "intervals in the model card"),
    ("where it errs", "39", "-", "its confusion matrix in the model card; predictions.csv in the run"),
    ("what it means", "-", "25", "the first lines; docs/conclusions.md"),
    ("limits", "40", "26", "one network, one seed, one set of images{drawn}"),
    (
        "what it would change in practice",
        "41",
        "27a, 27b, 27c",
        "nothing: it met neither readers nor patients",
    ),
    ("a protocol", "42", "18c", "none was registered; designs of studies: conf/search"),
    ("data, program, model to be had", "43", "18e, 18f", "program and settings; the checkpoint in the run"),
    ("money and interests", "44", "18a, 18b", NOT_KNOWN),
    ("patients and public taking part", "-", "19", "none"),
)


def section(run: RunRecord | None, part: str, auroc: str) -> Section:
    """Of the recommended run, which may not be there; `auroc`: of that part, with its interval."""
    known = facts(run) | {"part": part, "auroc": auroc} if run else {}
    rows = [
        [
            what,
            claim,
            tripod,
            answer.format(**known) if run or "{" not in answer else "no recommended run yet",
        ]
        for what, claim, tripod, answer in ASKED
    ]
    text = (
        "Of the recommended run. Where the project cannot know, it says so. The numbers are the items of "
        "CLAIM (2024) and TRIPOD+AI (2024) that ask; the words are ours, theirs are to be read there."
    )
    return Section(
        "Check-list after CLAIM and TRIPOD+AI", [text], ["asked", "CLAIM", "TRIPOD+AI", "here"], rows
    )


def facts(run: RunRecord) -> dict[str, str]:
    p, tags, metrics = run.parameters, run.tags, run.metrics
    drawn = tags.get("data") == "phantom"
    tested = "test/auroc" in metrics
    pretrained = p.get("model.pretrained", "None")
    return {
        "data": f"{tags.get('data')}{', drawn by the program' if drawn else ''}",
        "unknown": "does not apply (drawn images)" if drawn else NOT_KNOWN,
        "drawn": ", and drawn ones" if drawn else "",
        "side": p.get("data.image_side_px", "?"),
        "normalise": p.get("data.normalise", "?"),
        "on_error": {"raise": "refused", "skip": "left out, listed in the run"}.get(
            p.get("data.on_error", ""), NOT_KNOWN
        ),
        "split": p.get("data.split", "?"),
        "split_seed": p.get("data.split_seed", "?"),
        "split_hash": tags.get("split_hash", "?"),
        "leak": leak(run),
        "model": tags.get("model", "?"),
        "parameters": compact(round(metrics["trainable_parameters"])),
        "version": commit(run),
        "began": "at random" if pretrained == "None" else f"from {pretrained}",
        "trained": f"{tags.get('optimizer')}, {tags.get('schedule')}, augment {tags.get('augment')}",
        "prevalence": f"{metrics['split/train_prevalence']:.1%}",
        "loss": tags.get("loss", "?"),
        "threshold": f"positive from {decimal(metrics['threshold'], 2)}",
        "judged": "the test split, once, at the end" if tested else "val alone",
        "tta": p.get("tta", "?"),
        "sizes": "; ".join(f"{part} {size(run, part)}" for part in ("train", "val", "test")),
    }
