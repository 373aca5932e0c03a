"""`pneumo runs [FILTER ...]`: its arguments, options and help."""

from typing import Annotated, Literal

import typer

from pneumo.cli.app import EVALUATE, argument, option, verb
from pneumo.runs.run_name import check_runs_are_here

FILTERS = """KEY=VALUE, where KEY is a column, a tag or a parameter and VALUE may contain *: loss=bce
study=report state=finished optimizer.lr=1e-3. Other words are parts of names."""


@verb("runs", EVALUATE, "pneumo runs loss=bce state=finished --sort val")
def runs(
    filters: Annotated[list[str] | None, argument(FILTERS, "[FILTER ...]")] = None,
    sort: Annotated[
        Literal["when", "val", "test", "name"], option("The latest first, the highest AUROC, or by name.")
    ] = "when",
    trials: Annotated[bool, option("List the trials of studies too.", default="only with study=")] = False,
    limit: Annotated[
        int | None, option("At most so many.", "N", "30; all with --json and --csv", min=1)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of all columns.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a CSV table of all columns.")] = False,
) -> None:
    """List training runs: how good they are, and what to call them."""
    check_runs_are_here("there are no runs to list")
    from pneumo.cli.actions.runs import list_runs

    list_runs(filters or [], sort, trials, limit, "json" if as_json else "csv" if as_csv else "table")
