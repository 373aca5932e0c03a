"""The data set that the words of `pneumo data` name, and the command that trains on it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pneumo.errors import InputError
from pneumo.runs import config, setting_names
from pneumo.runs.overrides import override_key

if TYPE_CHECKING:
    from pneumo.data.sources.base import Source


def source_of(overrides: Sequence[str], verb: str) -> "Source":
    """Returns the source that overrides of data name. InputError: there are others, or values are not
    valid."""
    if without := [word for word in overrides if "=" not in word and not word.startswith("~")]:
        raise InputError(setting_names.unreadable_word(without[0]))
    if others := [word for word in overrides if override_key(word).split(".")[0] != "data"]:
        raise InputError(f"pneumo data {verb} takes data=... and data.KEY=..., got {others[0]!r}")
    return config.load_data(config.compose_train(overrides))


def last_of_each(overrides: Sequence[str]) -> list[str]:
    """Returns the overrides without those whose key is given another value after them."""
    keys = [override_key(word) for word in overrides]
    return [word for number, word in enumerate(overrides) if keys[number] not in keys[number + 1 :]]


def train_command(words: Sequence[str]) -> str:
    """Returns the command that trains with these words, which are quoted for the shell."""
    command = "python train.py" if Path("train.py").is_file() else "pneumo train"
    return " ".join([command, *words])
