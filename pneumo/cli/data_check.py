"""`pneumo data check [data=...]`: its arguments, options and help."""

from dataclasses import replace
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
    """Read a whole data set: counts, duplicates, leaks, lesions, unreadable files.

    Exit code 1 where rows cannot be used, unless data.on_error=skip leaves them out."""
    from pneumo.cli.actions.data_words import source_of

    source = source_of(words or [], "check")
    cohort = replace(source, on_error="skip")()
    from pneumo.cli.actions.data_check import check, refuse_unusable  # torch comes after what can be refused

    result = call(as_json, check, words or [], source, cohort, verify)
    if source.on_error == "raise":
        refuse_unusable(result)
