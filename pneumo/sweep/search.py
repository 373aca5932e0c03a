"""What a study searches: the space or the design of conf/search, changed by the command line."""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pneumo.errors import InputError
from pneumo.runs.overrides import override_key
from pneumo.sweep.design.ablation import AblationDesign, build_design
from pneumo.sweep.search_space import SearchSpace, build_space
from pneumo.sweep.settings import StudySettings

Search = SearchSpace | AblationDesign


def build_search(settings: StudySettings, composed: DictConfig, arguments: Sequence[str]) -> Search:
    """InputError: the search is not valid."""
    ignored = ("pool", "workers", "dry_run")
    arguments = [line for line in arguments if override_key(line).split(".")[0] not in ignored]
    search, choices = settings.search, composed.hydra.runtime.choices
    enqueue = search["enqueue"]
    if not isinstance(enqueue, list) or not all(isinstance(given, Mapping) for given in enqueue):
        example = "[{optimizer.lr: 0.01}]"
        raise InputError(f"search.enqueue must be a list of trials such as {example}, got {enqueue!r}")
    always: Any = OmegaConf.to_container(composed.hydra.sweeper.params or OmegaConf.create({}))
    of_yaml = (search["conditional"], search["exists_where"], enqueue)
    try:
        if search["design"] is not None:
            return build_design(search["design"], arguments, choices["data"], search["exists_where"])
        return build_space(always, *of_yaml, arguments, dict(choices))
    except InputError:
        raise
    except Exception as error:  # a file of conf/search may hold anything in place of names and lists
        text = " ".join(str(error).split())
        raise InputError(
            f"search={choices.get('search')} is not valid: {type(error).__name__}: {text}"
        ) from error
