"""`pneumo promote RUN`: its arguments, options and help."""

from typing import Annotated

from pneumo.cli.app import USE, Run, option, verb


@verb("promote", USE, "pneumo promote best --alias champion")
def promote(
    run: Run,
    alias: Annotated[str, option("Alias that the new version gets.")] = "champion",
    name: Annotated[str, option("Name of the registered model.")] = "pneumo",
) -> None:
    """Register the model of a run in MLflow, ready to be served."""
    from pneumo.cli.actions.promote import promote

    promote(run, name, alias)
