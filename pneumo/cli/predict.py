"""`pneumo predict RUN PATH ...`: its arguments, options and help."""

from pathlib import Path
from typing import Annotated

from pneumo.cli.app import SELECTORS, USE, AsJson, Run, Tta, argument, call, option, verb
from pneumo.cli.run_arguments import key_of, run_among
from pneumo.data.files import need_there
from pneumo.runs.run_name import check_run_name

PATHS = "PNG, JPEG or DICOM files, or folders; data=NAME and study=NAME say which runs best is among."


@verb("predict", USE, "pneumo predict best radiographs/ --out scores.csv --heatmaps maps/")
def predict(
    run: Run,
    paths: Annotated[list[str], argument(PATHS, "PATH")],
    out: Annotated[Path, option("The CSV file to write.", "FILE")] = Path("predictions.csv"),
    heatmaps: Annotated[Path | None, option("Where to write a heat map of each.", "FOLDER", "none")] = None,
    tta: Annotated[Tta | None, option("Test-time augmentation.", default="that of the run")] = None,
    as_json: AsJson = False,
) -> None:
    """Predict pneumothorax on image files, into a CSV file."""
    check_run_name(run)
    need_there([word for word in paths if key_of(word) not in SELECTORS])  # before MLflow is imported
    run_id, paths = run_among(run, paths, as_json)
    from pneumo.cli.actions.predict import predict

    call(as_json, predict, run_id, paths, out, heatmaps, tta)
