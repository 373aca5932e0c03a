"""pneumo VERB ARGUMENT [key=value ...]: what is asked of data, studies and runs that are there."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pneumo.display.address import STORAGE, hidden
from pneumo.errors import InputError

USAGE = """\
pneumo evaluate RUN ... [split=test] [tta=none] [data=...]   everything about a run, or several as one
pneumo compare RUN RUN [split=test] [tta=none] [data=...]    which ranks the same images better
pneumo score FILE.csv [score=...] [label=...] [patient=...]  the same of anybody's predictions
pneumo predict RUN PATH... [out=predictions.csv] [heatmaps=FOLDER] [tta=...]
                                       its scores of files and folders, PNG, JPEG or DICOM, as a CSV
pneumo promote RUN [alias=champion] [name=pneumo]
                                       its model into MLflow's registry, whole, to be served
pneumo report [study=NAME]             the report, its runs again and the recommended one: report.html and .md
pneumo study NAME                      a study's answers; also as study.md and study.html
pneumo confirm NAME [top=5] [seeds=5]  its best again with fresh seeds, then the test split, once
pneumo reproduce RUN_ID                a logged run again, and whether it comes out the same
pneumo data check [data=...] [verify=true]
                                       reads a whole data set: duplicates, leaks, lesions, unreadable files;
                                       with verify, also files that do not look changed since the last time

The study is looked for where sweep.py keeps it: storage=..., else PNEUMO_STORAGE, else study.db here."""


def main() -> None:
    try:
        told(sys.argv[1:])
    except (InputError, OSError) as error:  # a disk may be full
        sys.exit(hidden(str(error), sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)


def told(words: Sequence[str]) -> None:
    """InputError: no such verb or option."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE)
        return
    verb, *rest = words
    if verb not in VERBS:
        raise InputError(f"pneumo {verb}: there is no such verb\n\n{USAGE}")
    VERBS[verb](rest)


def study(words: list[str]) -> None:
    name, options = named("study", words, {"storage": None})
    url = storage(options)
    from pneumo.cli.study import answer

    answer(url, name)


def confirm(words: list[str]) -> None:
    name, options = named("confirm", words, {"storage": None, "top": 5, "seeds": 5})
    url = storage(options)
    from pneumo.cli.confirm import confirm

    confirm(url, name, options["top"], options["seeds"])


def reproduce(words: list[str]) -> None:
    run_id, _ = named("reproduce", words, {})
    from pneumo.cli.reproduce import reproduce

    reproduce(run_id)


def report(words: list[str]) -> None:
    options = chosen("report", words, {"study": None, "storage": None, "out": "report"})
    url = storage(options) if options["study"] else None
    from pneumo.report2024.page import report

    report(options["out"], options["study"], url)


def predict(words: list[str]) -> None:
    run, rest = named_first("predict", words)
    given = [word for word in rest if word.partition("=")[0] in ("out", "heatmaps", "tta")]
    paths = [word for word in rest if word not in given]
    options = chosen("predict", given, {"out": "predictions.csv", "heatmaps": None, "tta": None})
    if not paths:
        raise InputError(f"pneumo predict needs files or folders\n\n{USAGE}")
    from pneumo.cli.predict import predict

    heatmaps = Path(options["heatmaps"]) if options["heatmaps"] else None
    predict(run, paths, Path(options["out"]), heatmaps, options["tta"])


def promote(words: list[str]) -> None:
    run, options = named("promote", words, {"alias": "champion", "name": "pneumo"})
    from pneumo.cli.promote import promote

    promote(run, options["name"], options["alias"])


def data(words: list[str]) -> None:
    if words[:1] != ["check"]:
        raise InputError(f"pneumo data is followed by check\n\n{USAGE}")
    from pneumo.cli.data_check import check

    given = [word for word in words[1:] if word.partition("=")[0] == "verify"]
    options = chosen("data check", given, {"verify": "false"})
    if options["verify"] not in ("true", "false"):
        raise InputError(f"pneumo data check: verify must be true or false, got {options['verify']!r}")
    check([word for word in words[1:] if word not in given], options["verify"] == "true")


def evaluate(words: list[str]) -> None:
    names, options = runs("evaluate", words)
    from pneumo.cli.evaluate import evaluate
    from pneumo.inference.dataset_predictions import EvalRequest

    evaluate(names, EvalRequest(**options))


def compare(words: list[str]) -> None:
    names, options = runs("compare", words)
    if len(names) != 2:
        raise InputError(f"pneumo compare needs two runs, got {len(names)}")
    from pneumo.cli.evaluate import compare
    from pneumo.inference.dataset_predictions import EvalRequest

    compare(names[0], names[1], EvalRequest(**options))


def score(words: list[str]) -> None:
    path, options = named("score", words, SCORE_OPTIONS)
    from pneumo.cli.score import score

    score(Path(path), options)


SCORE_OPTIONS: dict[str, Any] = dict.fromkeys(
    ("score", "label", "image", "patient", "hard_negatives", "threshold", "data.patients_csv")
)
VERBS: dict[str, Callable[[list[str]], None]] = {
    verb.__name__: verb
    for verb in (evaluate, compare, score, predict, promote, report, study, confirm, reproduce, data)
}


def runs(verb: str, words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The runs that a verb is given, and on which images: data=... among the options are `overrides`."""
    names = [word for word in words if "=" not in word]
    if not names:
        raise InputError(f"pneumo {verb} needs a run id, or best\n\n{USAGE}")
    given = [word for word in words if "=" in word]
    overrides = [word for word in given if word.split("=")[0].split(".")[0] == "data"]
    rest = [word for word in given if word not in overrides]
    options = chosen(verb, rest, {"split": None, "tta": "none", "hard_negatives": None})
    return names, {"overrides": overrides, **options}


def named(verb: str, words: Sequence[str], options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name that a verb is given, and its options."""
    name, rest = named_first(verb, words)
    return name, chosen(verb, rest, options)


def named_first(verb: str, words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The name that a verb is given, and what follows it."""
    if not words or "=" in words[0]:
        raise InputError(f"pneumo {verb} needs a name\n\n{USAGE}")
    return words[0], words[1:]


def chosen(verb: str, words: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
    """The verb's options, where they are given as such. InputError: one is unknown or of the wrong kind."""
    options = dict(options)
    for word in words:
        name, _, value = word.partition("=")
        if name not in options:
            known = ", ".join(options) or "none"
            raise InputError(f"pneumo {verb}: no option {word!r}; there are: {known}")
        if isinstance(options[name], int) and not (value.isdecimal() and int(value) > 0):
            raise InputError(f"pneumo {verb}: {name} must be a whole number of at least 1, got {value!r}")
        options[name] = int(value) if isinstance(options[name], int) else value
    return options


def storage(options: dict[str, Any]) -> str:
    """The address of the studies. InputError: there is no file, which must not be made by looking."""
    if url := options["storage"] or os.environ.get(STORAGE):
        return str(url)
    path = Path.cwd() / "study.db"
    if not path.exists():
        raise InputError(
            f"There is no study.db in {Path.cwd()}; storage=... or PNEUMO_STORAGE say where it is"
        )
    return f"sqlite:///{path}"
