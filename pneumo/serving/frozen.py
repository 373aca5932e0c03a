"""What a run's validation split decides for good."""

import io

import pandas as pd

from pneumo import archive
from pneumo.evidence.calibration import temperature
from pneumo.serving.decision import Decision, log_odds
from pneumo.trained import Trained


def decision(trained: Trained) -> Decision:
    """From the run's own predictions. InputError: they are gone."""
    table = pd.read_csv(io.StringIO(archive.text_of(trained.run_id, "predictions.csv")))
    val = table[table["split"] == "val"]
    fitted = temperature(log_odds(val["score"].to_numpy()), val["label"].to_numpy())
    return Decision(trained.threshold, fitted)
