"""`pneumo study NAME`: its arguments, options and help."""

from pneumo.cli.app import STUDIES, AsJson, Storage, Study, call, local_storage, verb


@verb("study", STUDIES, "pneumo study report --storage sqlite:///study.db")
def study(name: Study, storage: Storage = None, as_json: AsJson = False) -> None:
    """Show the results of a study, and write them as pages."""
    url = storage or local_storage()
    from pneumo.cli.actions.study import show_study

    call(as_json, show_study, url, name)
