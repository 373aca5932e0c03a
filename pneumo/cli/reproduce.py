"""`pneumo reproduce RUN_ID`: its arguments, options and help."""

from typing import Annotated

from pneumo.cli.app import USE, AsJson, argument, call, verb


@verb("reproduce", USE, "pneumo reproduce 458c264d13be4cd282430ab3157961d8")
def reproduce(
    run_id: Annotated[str, argument("32 hexadecimal digits.", "RUN_ID")], as_json: AsJson = False
) -> None:
    """Train a run again and compare every epoch with the original."""
    from pneumo.cli.actions.reproduce import reproduce

    call(as_json, reproduce, run_id)
