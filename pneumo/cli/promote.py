"""`pneumo promote RUN`: its arguments, options and help."""

from typing import Annotated

from pneumo.cli.app import USE, Among, Run, option, verb
from pneumo.cli.run_arguments import only_run


@verb("promote", USE, "pneumo promote best --alias champion")
def promote(
    run: Run,
    among: Among = None,
    alias: Annotated[str, option("Alias that the new version gets.")] = "champion",
    name: Annotated[str, option("Name of the registered model.")] = "pneumo",
) -> None:
    """Register the model of a run in MLflow, ready to be served."""
    run_id = only_run(run, among)
    from pneumo.cli.actions.promote import promote

    promote(run_id, name, alias)
