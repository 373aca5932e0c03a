"""Where a run comes from: the version of pneumo with its uncommitted changes, the host and the process."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pneumo
from pneumo.display.address import hidden
from pneumo.runs.search_path import OWN
from pneumo.runs.tracking import process_mark

PACKAGE = Path(__file__).parents[1]
COPIED = PACKAGE / "origin.json"  # is there where `save` has put it, beside a copy of this code
LONGEST_PATCH = 1_000_000  # characters


def origin_tags() -> dict[str, str]:
    """The tags of a run that say where it comes from. Of git they say "unknown" where pneumo is not in a
    checkout, as in a virtual environment that lies within a repository of something else."""
    return {
        "pneumo_version": pneumo.__version__,
        **git_tags(),
        "host": socket.gethostname(),
        "process": process_mark(os.getpid()),
    }


def git_tags() -> dict[str, str]:
    if COPIED.is_file():
        tags: dict[str, str] = json.loads(COPIED.read_text())["tags"]
        return tags
    commit = git("rev-parse", "HEAD").strip() if is_checkout() else ""
    return {
        "git_commit": commit or "unknown",
        "git_dirty": str(bool(uncommitted_files())).lower() if commit else "unknown",
    }


def save(package: Path) -> None:
    """Writes what git says of this code into a copy of the package that git does not know."""
    content = {"tags": git_tags(), "changes": uncommitted_changes()}
    (package / COPIED.name).write_text(json.dumps(content))


def is_checkout() -> bool:
    """Whether this code is in a git repository that tracks it."""
    return bool(git("ls-files", "--", "__init__.py"))


def uncommitted_files() -> list[str]:
    """What `git status` says of files that git tracks and of new files in conf/. Other new files, such as a
    database of studies, do not change what a run does."""
    changed = git("status", "--porcelain", "--untracked-files=no")
    return [*changed.splitlines(), *new_configuration_files()]


def new_configuration_files() -> list[str]:
    """The files of conf/ that git neither tracks nor ignores, relative to the top of the repository."""
    listed = git("ls-files", "-z", "--others", "--exclude-standard", "--full-name", "--", str(OWN))
    return [file for file in listed.split("\0") if file]


def uncommitted_changes() -> str:
    """A patch, for `git apply`, of the `uncommitted_files`; empty where there are none. Passwords are hidden;
    a very long patch is cut, and says so."""
    if COPIED.is_file():
        return str(json.loads(COPIED.read_text())["changes"])
    if not is_checkout():
        return ""
    patch = git("diff", "HEAD", "--no-color", "--no-ext-diff")
    top = git("rev-parse", "--show-toplevel").strip()
    for file in new_configuration_files():
        patch += git("-C", top, "diff", "--no-index", "--no-color", "--no-ext-diff", "--", os.devnull, file)
    patch = hidden(patch)
    if len(patch) > LONGEST_PATCH:
        return f"{patch[:LONGEST_PATCH]}\n# cut here: the patch has {len(patch):,} characters\n"
    return patch


def git(*arguments: str) -> str:
    """What a git command in the folder of this code prints; empty where there is no repository or no git."""
    try:
        command = ["git", "-C", str(PACKAGE), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError:
        return ""
    return done.stdout
