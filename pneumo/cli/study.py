"""`pneumo study [NAME]`: its arguments, options and help."""

from typing import Annotated

from pneumo.cli.app import STUDIES, AsJson, Storage, argument, call, local_storage, verb

Name = Annotated[str | None, argument("The study's name; without it, the studies are listed.", "[NAME]")]


@verb("study", STUDIES, "pneumo study report --storage sqlite:///study.db")
def study(name: Name = None, storage: Storage = None, as_json: AsJson = False) -> None:
    """Show the results of a study, and write them as pages; or list the studies."""
    url = storage or local_storage()
    if name is None:
        from pneumo.cli.actions.studies import list_studies

        call(as_json, list_studies, url)
        return
    from pneumo.cli.actions.study import show_study

    call(as_json, show_study, url, name)
