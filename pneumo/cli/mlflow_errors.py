"""Explains an error of MLflow that nothing else has explained."""

import sys

from pneumo.errors import AwayError


def explained(error: Exception) -> AwayError | None:
    """The error as one line that names server and cause; None where it is not MLflow's, or of another kind.
    MLflow takes seconds to import, which a command that does without it need not wait for."""
    if (tracking := sys.modules.get("pneumo.runs.tracking")) is None:
        return None
    if not isinstance(error, tracking.MlflowError) or tracking.cause_of(error) is None:
        return None
    away: AwayError = tracking.unreachable(error)
    return away
