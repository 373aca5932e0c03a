"""`pneumo evaluate RUN ...`: its arguments, options and help."""

from typing import Annotated, Literal

from pneumo.cli.app import (
    EVALUATE,
    AsJson,
    EvalSplit,
    EvalTta,
    HardNegatives,
    Words,
    call,
    option,
    verb,
)
from pneumo.cli.run_arguments import runs_and_overrides

MAPS = "Whether saliency maps are compared with the annotated lesions, which takes most of the time."
Maps = Annotated[Literal["all", "none"], option(MAPS)]


@verb("evaluate", EVALUATE, "pneumo evaluate best --split val --tta hflip")
def evaluate(
    words: Words,
    split: EvalSplit = None,
    tta: EvalTta = None,
    hard_negatives: HardNegatives = None,
    maps: Maps = "all",
    as_json: AsJson = False,
) -> None:
    """Evaluate a run, or several as an ensemble, on any images."""
    runs, overrides = runs_and_overrides(words, as_json)
    from pneumo.cli.actions.evaluate import evaluate
    from pneumo.inference.dataset_predictions import EvalRequest

    call(as_json, evaluate, runs, EvalRequest(overrides, split, tta, hard_negatives), maps == "all")
