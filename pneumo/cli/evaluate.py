"""`pneumo evaluate RUN ...`: its arguments, options and help."""

from pneumo.cli.app import (
    EVALUATE,
    AsJson,
    EvalSplit,
    EvalTta,
    HardNegatives,
    Words,
    call,
    verb,
)
from pneumo.cli.run_arguments import runs_and_overrides


@verb("evaluate", EVALUATE, "pneumo evaluate best --split val --tta hflip")
def evaluate(
    words: Words,
    split: EvalSplit = None,
    tta: EvalTta = "none",
    hard_negatives: HardNegatives = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a run, or several as an ensemble, on any images."""
    runs, overrides = runs_and_overrides(words, as_json)
    from pneumo.cli.actions.evaluate import evaluate
    from pneumo.inference.dataset_predictions import EvalRequest

    call(as_json, evaluate, runs, EvalRequest(overrides, split, tta, hard_negatives))
