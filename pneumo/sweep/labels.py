"""What the terminal says of a study."""

from collections import Counter
from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState

from pneumo.display.format import decimal, duration, scientific
from pneumo.sweep.search_space import Value

STATE = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
ABBREVIATED = {"optimizer.lr": "lr", "optimizer.weight_decay": "decay", "model.dropout": "dropout"}
BATCH, STEPS = "fit.batch_size", "fit.accumulation_steps"


def parameters(values: Mapping[str, Value]) -> str:
    """lr 1e-3 · batch 6 x 1 · ce"""
    left = dict(values)
    words = []
    for key, value in values.items():
        if key not in left:
            continue
        if key in (BATCH, STEPS) and BATCH in left and STEPS in left:
            words.append(f"batch {left.pop(BATCH)} x {left.pop(STEPS)}")
            continue
        del left[key]
        if isinstance(value, float):
            words.append(f"{name(key)} {scientific(value) if 0 < value < 0.01 else f'{value:.3g}'}")
        elif isinstance(value, str) and "." not in key:
            words.append(value)
        else:
            words.append(f"{name(key)} {value}")
    return " · ".join(words)


def result(trial: FrozenTrial) -> str:
    """.931, pruned after 3 epochs, failed (non-finite)"""
    attributes = trial.user_attrs
    if "duplicate_of" in attributes:
        return f"{value(trial)} as #{attributes['duplicate_of']}"
    if trial.state == TrialState.COMPLETE:
        return value(trial)
    if trial.state == TrialState.PRUNED:
        if attributes.get("failure"):
            return f"{attributes['failure']} (kept as a constraint)"
        return f"pruned at {trial.last_step or 0}/{attributes.get('epochs', '?')}"
    return f"failed ({attributes.get('failure', 'crash')})"


def value(trial: FrozenTrial) -> str:
    return ", ".join(each_value(trial))


def each_value(trial: FrozenTrial) -> list[str]:
    return [decimal(number) if abs(number) <= 1 else duration(number) for number in trial.values or []]


def seconds(trial: FrozenTrial) -> float:
    if trial.datetime_start is None or trial.datetime_complete is None:
        return 0.0
    return (trial.datetime_complete - trial.datetime_start).total_seconds()


def line(trial: FrozenTrial, note: str = "") -> str:
    spent = duration(seconds(trial))
    done = f" #{trial.number:<3}  {parameters(trial.params):<58}  {result(trial):<18} {spent:>6}"
    return f"{done}  {note}".rstrip()


def counts(trials: Sequence[FrozenTrial]) -> str:
    """13 complete (1 a duplicate), 6 pruned, 1 failed (non-finite)"""
    by_state = {state: [t for t in trials if t.state == state] for state in STATE}
    complete, pruned, failed = by_state.values()
    words = [f"{len(complete)} complete" + tallied("duplicate", complete)]
    words.append(f"{len(pruned)} pruned" + tallied("failure", pruned))
    words.append(f"{len(failed)} failed" + tallied("failure", failed))
    return ", ".join(words)


def tallied(attribute: str, trials: Sequence[FrozenTrial]) -> str:
    if attribute == "duplicate":
        n = sum("duplicate_of" in trial.user_attrs for trial in trials)
        return f" ({n} of them taken over from equal ones)" if n else ""
    kinds = Counter(t.user_attrs[attribute] for t in trials if t.user_attrs.get(attribute))
    return f" ({', '.join(f'{n} {kind}' for kind, n in kinds.most_common())})" if kinds else ""


def class_name(thing: object) -> str:
    """TPE of a TPESampler"""
    name = type(thing).__name__
    for ending in ("Sampler", "Pruner"):
        name = name.removesuffix(ending)
    return {"Nop": "no"}.get(name, name if name.isupper() else name.lower())


def names(space: Mapping[str, str]) -> str:
    """lr, batch size, loss"""
    return ", ".join(map(name, space))


def name(parameter: str) -> str:
    """lr of optimizer.lr"""
    return ABBREVIATED.get(parameter, parameter.removeprefix("fit.").replace("_", " "))
