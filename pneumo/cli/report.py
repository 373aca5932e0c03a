"""`pneumo report`: its arguments, options and help."""

from typing import Annotated

from pneumo.cli.app import STUDIES, AsJson, Storage, call, local_storage, option, verb


@verb("report", STUDIES, "pneumo report --study conclusions --out report")
def report(
    study: Annotated[str | None, option("A study whose results to add.", "NAME", "none")] = None,
    storage: Storage = None,
    out: Annotated[str, option("Name of the files, without .html and .md.", "NAME")] = "report",
    as_json: AsJson = False,
) -> None:
    """Write the 2024 report beside its runs, as one HTML page."""
    url = storage or local_storage() if study else None
    from pneumo.report2024.page import report

    call(as_json, report, out, study, url)
