"""The command that trains with the setting of a trial."""

import shlex
from collections.abc import Sequence
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial

from pneumo.errors import InputError
from pneumo.runs import config
from pneumo.runs.identity import ADDED, configuration, configuration_hash
from pneumo.runs.overrides import is_within, override_key
from pneumo.sweep import attributes
from pneumo.sweep.search_space import override


def command(study: optuna.Study, best: FrozenTrial) -> str:
    """The command that trains with a trial's setting, as far as words can say it; empty for a study that does
    not know its overrides."""
    return command_line(command_words(study, best))


def command_line(words: Sequence[str]) -> str:
    return shlex.join(["pneumo", "train", *words]) if words else ""


def command_words(study: optuna.Study, best: FrozenTrial) -> list[str]:
    """What was typed and sampled for a trial, then what sweep.yaml and the search file set otherwise than
    train.yaml, as search=quick does fit.epochs. A choice of a group or a file of weights that they set is
    missing, and where the words do not compose here, so are all of these."""
    words = best.user_attrs.get(attributes.OVERRIDES) or []
    identity = study.user_attrs.get(attributes.IDENTITY)
    try:
        now = composed(words) if words and identity else {}
    except InputError:
        return words
    given = {override_key(word) for word in words}
    added = {name: value for name, value in ADDED.items() if not is_within(name, given)}
    then = {**added, **identity["settings"]} if identity else {}
    before = {**ADDED, **configuration(now)}
    changed = [name for name in now if name in then and name in before and then[name] != before[name]]
    return [*words, *(override(name, then[name]) for name in changed if is_word(name, then[name]))]


def is_word(name: str, value: object) -> bool:
    """Whether an override can set a value of an identity, which knows classes and files by other texts."""
    return not name.endswith("_target_") and not str(value).startswith("file ")


def composed(words: Sequence[str]) -> dict[str, Any]:
    """The parameters of train.py with these words, by dotted name. InputError: they do not compose here."""
    whole = config.compose_train(words)
    config.replace_run_names(whole)
    kept = [str(key) for key in whole if key not in config.NO_SETTINGS]
    return dict(config.flatten(config.to_plain(OmegaConf.masked_copy(whole, kept))))


def missing(best: FrozenTrial, words: Sequence[str]) -> list[str]:
    """A sentence where the words do not compose to a trial's configuration here."""
    wanted = best.user_attrs.get(attributes.CONFIG_HASH)
    try:
        is_whole = not words or wanted in (None, configuration_hash(composed(words)))
    except InputError:
        is_whole = False
    lacking = (
        f"Here, the command does not compose to all that #{best.number} had: see the study's search file."
    )
    return [] if is_whole else [lacking]
