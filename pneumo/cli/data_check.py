"""`pneumo data check [data=...]`: its arguments, options and help."""

from typing import Annotated

import typer

from pneumo.cli.app import DATA, AsJson, argument, call, data_app, verb


@verb("check", DATA, "pneumo data check data=siim_dicom data.root=/data/siim --verify", data_app)
def data_check(
    words: Annotated[
        list[str] | None, argument("Hydra overrides that name the data set.", "data=...", "data=phantom")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read also files that look unchanged.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read a whole data set: counts, duplicates, leaks, lesions, unreadable files."""
    from pneumo.cli.actions.data_check import check, refuse_unusable

    refuse_unusable(call(as_json, check, words or [], verify))
