"""`pneumo compare RUN RUN`: its arguments, options and help."""

from pneumo.cli.app import (
    EVALUATE,
    AsJson,
    EvalSplit,
    EvalTta,
    HardNegatives,
    Words,
    WrongUsageError,
    call,
    verb,
)
from pneumo.cli.run_arguments import runs_and_overrides


@verb("compare", EVALUATE, "pneumo compare calm-heron-412 best --split val")
def compare(
    words: Words,
    split: EvalSplit = None,
    tta: EvalTta = None,
    hard_negatives: HardNegatives = None,
    as_json: AsJson = False,
) -> None:
    """Compare how two runs rank the same images, paired."""
    if (given := len([word for word in words if "=" not in word])) != 2:
        raise WrongUsageError(f"pneumo compare needs two runs, got {given}")
    runs, overrides = runs_and_overrides(words, as_json)
    from pneumo.cli.actions.evaluate import compare
    from pneumo.inference.dataset_predictions import EvalRequest

    call(as_json, compare, *runs, EvalRequest(overrides, split, tta, hard_negatives))
