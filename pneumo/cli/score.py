"""`pneumo score FILE.csv`: its arguments, options and help."""

from pathlib import Path
from typing import Annotated

from pneumo.cli.app import EVALUATE, AsJson, argument, call, column, option, verb


@verb("score", EVALUATE, "pneumo score predictions.csv --score probability --label truth")
def score(
    file: Annotated[Path, argument("A row for each image.", "FILE.csv")],
    score: Annotated[str | None, column("the predicted probability, 0 to 1", "score")] = None,
    label: Annotated[str | None, column("the label, 0 or 1", "label")] = None,
    image: Annotated[str | None, column("the image id", "image_id")] = None,
    patient: Annotated[str | None, column("the patient id", "patient_id")] = None,
    hard_negatives: Annotated[str | None, column("flags of hard negatives", "hard_negative")] = None,
    threshold: Annotated[
        float | None, option("Positive from this score.", default="best F1 on rows of split val, else .5")
    ] = None,
    patients_csv: Annotated[
        Path | None, option("Table of what FILE.csv lacks: patient_id, view, sex, age.", "FILE", "none")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate the predictions of any model, from a CSV file."""
    columns = {"score": score, "label": label, "image": image, "patient": patient}
    columns["hard_negatives"] = hard_negatives
    from pneumo.cli.actions.score import score as score_file

    call(as_json, score_file, file, columns, threshold, patients_csv)
