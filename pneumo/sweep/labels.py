"""Trials, parameters and values of a study as short texts, for the terminal, tables and plots."""

from collections import Counter
from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState

from pneumo.display.format import decimal, duration, scientific
from pneumo.sweep import attributes
from pneumo.sweep.search_space import Value

STATE = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
ABBREVIATED = {"optimizer.lr": "lr", "optimizer.weight_decay": "decay", "model.dropout": "dropout"}
BATCH, STEPS = "fit.batch_size", "fit.accumulation_steps"


def parameters(values: Mapping[str, Value]) -> str:
    """E.g. `lr 1e-3 · batch 6 x 1 · ce`, the batch as size x accumulation steps."""
    texts = []
    batch = [key for key in values if key in (BATCH, STEPS)]
    for key, value in values.items():
        if len(batch) == 2 and key in batch:
            if key == batch[0]:
                texts.append(f"batch {values[BATCH]} x {values[STEPS]}")
        elif isinstance(value, float):
            texts.append(f"{name(key)} {scientific(value) if 0 < value < 0.01 else f'{value:.3g}'}")
        elif isinstance(value, str) and "." not in key:
            texts.append(value)
        else:
            texts.append(f"{name(key)} {value}")
    return " · ".join(texts)


def outcome(trial: FrozenTrial) -> str:
    """E.g. `.931`, `.931 as #3`, `pruned at 3/10` or `failed (non-finite)`."""
    known = trial.user_attrs
    if attributes.DUPLICATE_OF in known:
        return f"{value(trial)} as #{known[attributes.DUPLICATE_OF]}"
    if trial.state == TrialState.COMPLETE:
        return value(trial)
    if trial.state == TrialState.PRUNED:
        if failure := known.get(attributes.FAILURE):
            return f"{failure} (kept as a constraint)"
        return f"pruned at {trial.last_step or 0}/{known.get(attributes.EPOCHS, '?')}"
    return f"failed ({known.get(attributes.FAILURE, 'crash')})"


def value(trial: FrozenTrial) -> str:
    return ", ".join(each_value(trial))


def each_value(trial: FrozenTrial) -> list[str]:
    return [number(one) for one in trial.values or []]


def number(value: float) -> str:
    """Of an objective: .957, or 2:09 of seconds."""
    return decimal(value) if abs(value) <= 1 else duration(value)


def seconds(trial: FrozenTrial) -> float:
    return trial.duration.total_seconds() if trial.duration is not None else 0.0


def trial_line(trial: FrozenTrial, remark: str = "") -> str:
    columns = f"{parameters(trial.params):<58}  {outcome(trial):<18} {duration(seconds(trial)):>6}"
    return f" #{trial.number:<3}  {columns}  {remark}".rstrip()


def counts(trials: Sequence[FrozenTrial]) -> str:
    """E.g. `13 complete (1 of them taken over from equal ones), 6 pruned, 2 failed (2 crash), 1 stopped`."""
    complete, pruned, ended = ([t for t in trials if t.state == state] for state in STATE)
    failed = [trial for trial in ended if trial.user_attrs.get(attributes.FAILURE) != "stopped"]
    stopped = f", {len(ended) - len(failed)} stopped" if len(ended) > len(failed) else ""
    duplicates = sum(attributes.DUPLICATE_OF in trial.user_attrs for trial in complete)
    copied = f" ({duplicates} of them taken over from equal ones)" if duplicates else ""
    return (
        f"{len(complete)} complete{copied}, {len(pruned)} pruned{failures(pruned)}, "
        f"{len(failed)} failed{failures(failed)}{stopped}"
    )


def failures(trials: Sequence[FrozenTrial]) -> str:
    kinds = Counter(kind for t in trials if (kind := t.user_attrs.get(attributes.FAILURE)))
    return f" ({', '.join(f'{n} {kind}' for kind, n in kinds.most_common())})" if kinds else ""


def class_name(sampler_or_pruner: object) -> str:
    """E.g. `TPE` for a TPESampler, `median` for a MedianPruner."""
    name = type(sampler_or_pruner).__name__
    for ending in ("Sampler", "Pruner"):
        name = name.removesuffix(ending)
    return {"Nop": "no", "SuccessiveHalving": "successive halving"}.get(
        name, name if name.isupper() else name.lower()
    )


def names(space: Mapping[str, str]) -> str:
    """E.g. `lr, batch size, loss`."""
    return ", ".join(map(name, space))


def name(parameter: str) -> str:
    """E.g. `lr` for optimizer.lr."""
    return ABBREVIATED.get(parameter, parameter.removeprefix("fit.").replace("_", " "))
