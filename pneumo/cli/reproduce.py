"""`pneumo reproduce RUN`: its arguments, options and help."""

from pneumo.cli.app import USE, Among, AsJson, Run, call, verb
from pneumo.cli.run_arguments import only_run


@verb("reproduce", USE, "pneumo reproduce calm-heron-412")
def reproduce(run: Run, among: Among = None, as_json: AsJson = False) -> None:
    """Train a run again and compare every epoch with the original."""
    run_id = only_run(run, among, as_json)
    from pneumo.cli.actions.reproduce import reproduce

    call(as_json, reproduce, run_id)
