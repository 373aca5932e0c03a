"""Calls a command that Hydra configures; a configuration that cannot be composed is explained in one line."""

import logging
import os
import sys
import traceback
from collections.abc import Callable

from hydra.errors import HydraException

from pneumo.cli import mlflow_errors
from pneumo.cli.garbage import collect_rarely
from pneumo.cli.torchrun import exit_with
from pneumo.display.address import hidden
from pneumo.display.console import silence_stdout
from pneumo.errors import InputError
from pneumo.interrupts import repeat_lost_interrupts
from pneumo.runs.setting_names import check_options, explained

WRONG_USAGE, INTERRUPTED = 2, 130  # exit codes; 130 after Ctrl-C


def run(command: Callable[[], object]) -> None:
    """Calls what `hydra.main` decorates. Exits with code 1 where Hydra cannot compose the configuration, with
    2 where a word is an option that it does not have, and with 130 where it is interrupted."""
    repeat_lost_interrupts()
    collect_rarely()
    logging.raiseExceptions = False  # a full disk is told of once, not in a traceback by each log as well
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # else Hydra prints its own message and exits
    try:
        check_options(sys.argv[1:])
    except InputError as error:
        exit_with(hidden(f"\n{error}"), WRONG_USAGE)
    try:
        command()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # as in pneumo train --help | head
        silence_stdout()
    except Exception as error:
        if (away := mlflow_errors.explained(error)) is not None:
            exit_with(hidden(f"\n{away}"))
        if is_of_pneumo(error) and not isinstance(error, HydraException):
            raise
        exit_with(hidden(f"\n{explained(error)}"))


def is_of_pneumo(error: Exception) -> bool:
    """Whether the error was raised after Hydra had composed the configuration and called a function of
    pneumo's. Hydra itself raises whatever its parts do: of YAML, OmegaConf or Python."""
    _, *inner = traceback.walk_tb(error.__traceback__)
    return any(str(frame.f_globals.get("__name__")).startswith("pneumo.") for frame, _ in inner)
