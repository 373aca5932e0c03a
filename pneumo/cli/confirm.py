"""`pneumo confirm NAME`: its arguments, options and help."""

from typing import Annotated

from pneumo.cli.app import STUDIES, AsJson, Storage, Study, call, local_storage, option, verb


@verb("confirm", STUDIES, "pneumo confirm report --top 3 --seeds 5")
def confirm(
    name: Study,
    top: Annotated[int, option("How many of the best trials to train again.", min=1)] = 5,
    seeds: Annotated[int, option("Fresh seeds for each of them.", min=1)] = 5,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Train the best of a study with fresh seeds; test it once."""
    url = storage or local_storage()
    from pneumo.cli.actions.confirm import confirm

    call(as_json, confirm, url, name, top, seeds)
