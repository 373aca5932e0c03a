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
    runs_and_overrides,
    verb,
)


@verb("compare", EVALUATE, "pneumo compare RUN_ID best --split val")
def compare(
    words: Words,
    split: EvalSplit = None,
    tta: EvalTta = "none",
    hard_negatives: HardNegatives = None,
    as_json: AsJson = False,
) -> None:
    """Compare how two runs rank the same images, paired."""
    runs, overrides = runs_and_overrides(words)
    if len(runs) != 2:
        raise WrongUsageError(f"pneumo compare needs two runs, got {len(runs)}")
    from pneumo.cli.actions.evaluate import compare
    from pneumo.inference.dataset_predictions import EvalRequest

    call(as_json, compare, *runs, EvalRequest(overrides, split, tta, hard_negatives))
