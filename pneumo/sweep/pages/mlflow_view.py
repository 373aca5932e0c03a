"""A study in MLflow's own pages: the view of its runs, and the description of the run above them."""

from collections.abc import Collection

import optuna
from optuna.study import StudyDirection

from pneumo.runs import tracking
from pneumo.runs.mlflow_pages import charts_path, file_link, runs_path, study_view_state
from pneumo.sweep import attributes
from pneumo.sweep.objective import logged_name


def store(study: optuna.Study, experiment_id: str, searched: Collection[str]) -> None:
    """Stores the view of a study's trials with the settings that it searches, at the study's begin."""
    objective = study.user_attrs[attributes.OBJECTIVE][0]
    metric = logged_name(objective)
    runs = f"tags.{attributes.STUDY_ID} = '{study.user_attrs[attributes.STUDY_ID]}' and tags.trial != ''"
    is_minimised = study.directions[0] == StudyDirection.MINIMIZE
    state = study_view_state(runs, metric, is_minimised, sorted(searched))
    tracking.share_view(experiment_id, name(study), state)


def name(study: optuna.Study) -> str:
    return f"study-{study.user_attrs[attributes.STUDY_ID][:8]}"


def links(study: optuna.Study, experiment_id: str) -> str:
    """Markdown of where the runs of a study are compared."""
    return (
        f"[Its runs, the best first](#{runs_path(experiment_id, name(study))}) · "
        f"[parallel coordinates and learning curves](#{charts_path(experiment_id, name(study))})"
    )


def picture(run_id: str, path: str, caption: str) -> str:
    """Markdown of an image among a run's files."""
    return f"![{caption}]({file_link(run_id, path)})"
