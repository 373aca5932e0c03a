"""`pneumo data export FOLDER [data=...]`: its arguments, options and help."""

from pathlib import Path
from typing import Annotated, Literal

from pneumo.cli.app import DATA, AsJson, WrongUsageError, argument, call, data_app, option, verb

Layout = Literal["table", "folders", "siim_png"]


@verb("export", DATA, "pneumo data export demo data.n_images=400 --layout folders", data_app)
def data_export(
    folder: Annotated[Path, argument("A folder that is not there yet, or is empty.", "FOLDER")],
    words: Annotated[
        list[str] | None, argument("Hydra overrides that name the data set.", "data=...", "data=phantom")
    ] = None,
    layout: Annotated[Layout, option("How the files are arranged: as which data= reads them.")] = "table",
    as_json: AsJson = False,
) -> None:
    """Write a data set as PNG files with masks and tables, to see a layout that can be trained on."""
    if "=" in folder.parts[0]:
        raise WrongUsageError(f"Missing argument 'FOLDER': {folder} is a setting; a folder comes first")
    from pneumo.cli.actions.data_export import export_to

    call(as_json, export_to, folder, words or [], layout)
