"""pneumo VERB ARGUMENT [key=value ...]: what is asked of data, studies and runs that are there."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pneumo.errors import InputError

USAGE = """\
pneumo study NAME                      a study's answers; also as study.md and study.html
pneumo confirm NAME [top=5] [seeds=5]  its best again with fresh seeds, then the test split, once
pneumo reproduce RUN_ID                a logged run again, and whether it comes out the same
pneumo predict RUN PATH... [out=predictions.csv] [heatmaps=FOLDER] [tta=...]
                                       its scores of files and folders, PNG, JPEG or DICOM, as a CSV
pneumo promote RUN [alias=champion] [name=pneumo]
                                       its model into MLflow's registry, whole, to be served
pneumo data check [data=...]           reads a whole data set: twins, leaks, lesions, unreadable files

The study is looked for where sweep.py keeps it: storage=..., else PNEUMO_STORAGE, else study.db here."""


def main() -> None:
    try:
        told(sys.argv[1:])
    except (InputError, OSError) as error:  # a disk may be full
        sys.exit(f"{error}")
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
    from pneumo.sweep.answers import answer

    answer(url, name)


def confirm(words: list[str]) -> None:
    name, options = named("confirm", words, {"storage": None, "top": 5, "seeds": 5})
    url = storage(options)
    from pneumo.sweep.confirm import confirm

    confirm(url, name, options["top"], options["seeds"])


def reproduce(words: list[str]) -> None:
    run_id, _ = named("reproduce", words, {})
    from pneumo.reproduce import reproduce

    reproduce(run_id)


def predict(words: list[str]) -> None:
    run, rest = named_first("predict", words)
    given = [word for word in rest if word.partition("=")[0] in ("out", "heatmaps", "tta")]
    paths = [word for word in rest if word not in given]
    options = chosen("predict", given, {"out": "predictions.csv", "heatmaps": None, "tta": None})
    if not paths:
        raise InputError(f"pneumo predict needs files or folders\n\n{USAGE}")
    from pneumo.predicting import predict

    heatmaps = Path(options["heatmaps"]) if options["heatmaps"] else None
    predict(run, paths, Path(options["out"]), heatmaps, options["tta"])


def promote(words: list[str]) -> None:
    run, options = named("promote", words, {"alias": "champion", "name": "pneumo"})
    from pneumo.promote import promote

    promote(run, options["name"], options["alias"])


def data(words: list[str]) -> None:
    if words[:1] != ["check"]:
        raise InputError(f"pneumo data is followed by check\n\n{USAGE}")
    from pneumo.datacheck import check

    check(words[1:])


VERBS: dict[str, Callable[[list[str]], None]] = {
    verb.__name__: verb for verb in (study, confirm, reproduce, predict, promote, data)
}


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
    if url := options["storage"] or os.environ.get("PNEUMO_STORAGE"):
        return str(url)
    path = Path.cwd() / "study.db"
    if not path.exists():
        raise InputError(
            f"There is no study.db in {Path.cwd()}; storage=... or PNEUMO_STORAGE say where it is"
        )
    return f"sqlite:///{path}"
