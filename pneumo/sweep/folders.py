"""Where a study's files lie."""

from contextlib import suppress
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from pneumo.errors import InputError
from pneumo.runs import checkpoint
from pneumo.runs.tracking import CHECKPOINTS
from pneumo.sweep.storage import STUDY_ID

STUDIES = Path("outputs/studies")


def folder_of(study: optuna.Study, named: Path | None = None) -> Path:
    """outputs/studies/NAME-1a2b3c4d, with the first digits of the study's id, so that another study of the
    same name has another. A study that was begun in the folder that is `named` without them, as all once
    were, goes on in it."""
    named = named or STUDIES / study.study_name
    if has_begun_in(study, named):
        return named
    return named.with_name(f"{named.name}-{study.user_attrs[STUDY_ID][:8]}")


def has_begun_in(study: optuna.Study, folder: Path) -> bool:
    """Whether the last checkpoint of a trial there is of this study's run."""
    for trial in reversed(study.get_trials(deepcopy=False)):
        path = folder / str(trial.number) / CHECKPOINTS / checkpoint.LAST
        if path.is_file():
            return is_of(trial, path)
    return False


def is_of(trial: FrozenTrial, path: Path) -> bool:
    with suppress(InputError):
        return bool(checkpoint.read(path)["run_id"] == trial.user_attrs.get("run_id"))
    return False
