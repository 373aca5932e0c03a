"""pneumo VERB ARGUMENT [key=value ...]: what is asked of data, studies and runs that are there."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pneumo.errors import InputError

USAGE = """\
pneumo study NAME                      a study's answers; also as study.md and study.html
pneumo confirm NAME [top=5] [seeds=5]  its best again with fresh seeds, then the test split, once
pneumo reproduce RUN_ID                a logged run again, and whether it comes out the same
pneumo data check [data=...]           reads a whole data set: twins, leaks, lesions, unreadable files

The study is looked for where sweep.py keeps it: storage=..., else PNEUMO_STORAGE, else study.db here."""
OPTIONS: dict[str, dict[str, Any]] = {
    "study": {"storage": None},
    "confirm": {"storage": None, "top": 5, "seeds": 5},
    "reproduce": {},
}


def main() -> None:
    try:
        told(sys.argv[1:])
    except InputError as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        sys.exit(130)


def told(words: Sequence[str]) -> None:
    """InputError: no such verb or option."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE)
        return
    verb, *rest = words
    if verb == "data":
        if rest[:1] != ["check"]:
            raise InputError(f"pneumo data is followed by check\n\n{USAGE}")
        from pneumo.datacheck import check

        check(rest[1:])
        return
    if verb not in OPTIONS:
        raise InputError(f"pneumo {verb}: there is no such verb\n\n{USAGE}")
    if not rest or "=" in rest[0]:
        raise InputError(f"pneumo {verb} needs a name\n\n{USAGE}")
    options = chosen(verb, rest[1:])
    if verb == "reproduce":
        from pneumo.reproduce import reproduce

        reproduce(rest[0])
        return
    url = options.pop("storage") or os.environ.get("PNEUMO_STORAGE") or default_storage()
    if verb == "study":
        from pneumo.sweep.answers import answer

        answer(url, rest[0])
    else:
        from pneumo.sweep.confirm import confirm

        confirm(url, rest[0], **options)


def chosen(verb: str, words: Sequence[str]) -> dict[str, Any]:
    """The verb's options, where they are given as such. InputError: one is unknown or of the wrong kind."""
    options = dict(OPTIONS[verb])
    for word in words:
        name, _, value = word.partition("=")
        if name not in options:
            known = ", ".join(options) or "none"
            raise InputError(f"pneumo {verb}: no option {word!r}; there are: {known}")
        if isinstance(options[name], int) and not (value.isdecimal() and int(value) > 0):
            raise InputError(f"pneumo {verb}: {name} must be a whole number of at least 1, got {value!r}")
        options[name] = int(value) if isinstance(options[name], int) else value
    return options


def default_storage() -> str:
    """InputError: there is no file, which must not be made by looking."""
    path = Path.cwd() / "study.db"
    if not path.exists():
        raise InputError(
            f"There is no study.db in {Path.cwd()}; storage=... or PNEUMO_STORAGE say where it is"
        )
    return f"sqlite:///{path}"
