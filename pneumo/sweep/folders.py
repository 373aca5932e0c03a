"""The folder of a study's files: checkpoints and Hydra's files of each trial, pages and results."""

from contextlib import suppress
from pathlib import Path

import optuna

from pneumo.errors import InputError
from pneumo.runs import checkpoint
from pneumo.runs.tracking import CHECKPOINTS
from pneumo.sweep.attributes import RUN_ID, STUDY_ID

STUDIES = Path("outputs/studies")


def folder_of(study: optuna.Study, folder: Path | None = None) -> Path:
    """E.g. outputs/studies/NAME-1a2b3c4d: the folder, by default outputs/studies/NAME, with the first
    digits of the study's id, so that studies of the same name have different ones. A study that an
    older version began in the folder without these digits continues there."""
    folder = folder or STUDIES / study.study_name
    if has_begun_in(study, folder):
        return folder
    return folder.with_name(f"{folder.name}-{study.user_attrs[STUDY_ID][:8]}")


def has_begun_in(study: optuna.Study, folder: Path) -> bool:
    """Whether the latest trial's checkpoint in the folder is of this study."""
    for trial in reversed(study.get_trials(deepcopy=False)):
        path = folder / str(trial.number) / CHECKPOINTS / checkpoint.LAST
        if path.is_file():
            with suppress(InputError):
                return bool(checkpoint.read(path)["run_id"] == trial.user_attrs.get(RUN_ID))
            return False
    return False
