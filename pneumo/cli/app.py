"""The command line `pneumo VERB ...`: how its words are parsed, and what its verbs share.

Each verb has a file in this folder with its arguments, options and help, and one in `actions` with what it
does. The second is imported when the verb is called: torch and MLflow take seconds to load, and the help must
not wait for them.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

import pneumo
from pneumo.cli import mlflow_errors
from pneumo.cli.garbage import collect_as_by_default, collect_rarely
from pneumo.display.address import STORAGE, hidden
from pneumo.display.console import silence_stdout
from pneumo.errors import InputError, TooLittleMemoryError
from pneumo.interrupts import repeat_lost_interrupts
from pneumo.runs.run_name import WAYS

WRONG_USAGE, INTERRUPTED = 2, 130  # exit codes; 1 is an input error
TRAIN, EVALUATE, USE = "Train", "Evaluate a run", "Use a run"  # panels of the help
STUDIES, DATA = "Studies and the report", "Data"
SELECTORS = ("data", "study")  # first parts of the settings that verbs take
VERBS = (  # beside train and sweep; a module each, in the order of the help
    *("runs", "evaluate", "compare", "score", "predict", "promote", "reproduce"),
    *("study", "confirm", "report", "data_check", "data_export"),
)


class WrongUsageError(typer.TyperException):
    """Words that do not make a command; the message names the word and what it should be."""

    exit_code = WRONG_USAGE


class Verb(TyperCommand):
    """A command that refuses an option in the spelling of a Hydra override, and names the option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = {option: param for param in self.params for option in param.opts}
        takes_overrides = any(param.name == "words" for param in self.params)
        for word in args[: args.index("--")] if "--" in args else args:
            key, equals, value = word.partition("=")
            name = key if takes_overrides else key.removeprefix("data.")
            option = f"--{name.replace('_', '-')}"
            if equals and option in options:
                spelling = option if getattr(options[option], "is_flag", False) else f"{option} {value}"
                raise WrongUsageError(f"{word}: this is an option now: {spelling}")
            if takes_overrides and key.startswith("--") and key[2:].split(".")[0] in SELECTORS:
                raise WrongUsageError(
                    f"{word} is no option: write {word[2:] if equals else f'{key[2:]}=VALUE'}, without dashes"
                )
        return super().parse_args(ctx, args)


class HydraVerb(TyperCommand):
    """A command whose words and options, --help too, are all Hydra's, which reads them from sys.argv."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        sys.argv = [ctx.command_path, *args]
        return []


app = typer.Typer(
    help="Train pneumothorax detectors, evaluate, use and compare them, and read their studies and data.",
    epilog=f"RUN is {WAYS}: the finished run of the highest validation AUROC. pneumo runs lists them. "
    "pneumo VERB --help shows all options of a verb and an example.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(
    help="check: Find duplicates, leaks, unreadable files in a data set. export: Write one as PNG files."
)
app.add_typer(data_app, name="data", rich_help_panel=DATA)


def option(help: str, metavar: str | None = None, default: str | bool = True, **more: Any) -> Any:
    """`default`: what the help shows where the default in the signature is None."""
    return typer.Option(help=help, metavar=metavar, show_default=default, **more)


def argument(help: str, metavar: str, default: str | bool = False, **more: Any) -> Any:
    return typer.Argument(help=help, metavar=metavar, show_default=default, **more)


def column(role: str, default: str) -> Any:
    return option(f"Column of {role}.", "COLUMN", default)


RUNS = """Runs, and Hydra overrides: data=NAME names another data set, data.KEY=VALUE changes it.
data.root=FOLDER alone says where the run's own images are now. study=NAME says which runs best is among."""
SPLIT = "The images to evaluate. common: those in the test split both when the run was trained and now."
HARD = "Column of data.patients_csv that marks hard negatives, such as chest tubes; needs that table."
JSON = "Print the metrics as one JSON document, and all else on stderr."

Words = Annotated[list[str], argument(RUNS, "RUN [data=...]")]
Run = Annotated[str, argument(f"A run: {WAYS}.", "RUN")]
Among = Annotated[list[str] | None, argument("Which runs best is among.", "[data=NAME] [study=NAME]")]
Study = Annotated[str, argument("The study's name.", "NAME")]
Split = Literal["train", "val", "test", "all", "common"]
Tta = Literal["none", "hflip", "scales", "hflip_scales"]
EvalSplit = Annotated[Split | None, option(SPLIT, default="test, or all of another data set")]
EvalTta = Annotated[
    Tta | None, option("Test-time augmentation, averaged over its transforms.", default="that of the run")
]
HardNegatives = Annotated[str | None, option(HARD, "COLUMN", "none")]
Storage = Annotated[
    str | None, option("The database of the studies.", "URL", "study.db in this folder", envvar=STORAGE)
]
AsJson = Annotated[bool, typer.Option("--json", help=JSON)]


def main() -> None:
    """Runs the command of sys.argv and exits: 0 done, 1 input error, 2 wrong usage, 130 Ctrl-C."""
    words = sys.argv[1:]
    repeat_lost_interrupts()
    collect_rarely()
    try:
        if code := invoke(words):
            sys.exit(code)
    except typer.TyperException as error:
        print(hidden(usage_message(error), words), file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # as in pneumo study report | head
        silence_stdout()
    except (InputError, TooLittleMemoryError, OSError) as error:  # a disk may be full
        sys.exit(hidden(str(error), words))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if (away := mlflow_errors.explained(error)) is None:
            raise
        sys.exit(hidden(str(away), words))


def invoke(words: Sequence[str]) -> int:
    """The exit code of a command, which is 0 or 130. TyperException: no such verb or option. InputError: what
    the verb was given cannot be used."""
    for name in VERBS:
        import_module(f"pneumo.cli.{name}")
    overview = not words or list(words) == ["help"]
    command = typer.main.get_command(app)
    code = command.main(["--help"] if overview else list(words), prog_name="pneumo", standalone_mode=False)
    return code or 0


def usage_message(error: typer.TyperException) -> str:
    """One line, with the nearest options to a misspelt one."""
    if nearest := getattr(error, "possibilities", None):
        return f"{error.message}. Did you mean {' or '.join(sorted(nearest))}?"
    message = error.format_message().replace("Value error, ", "")  # pydantic's
    lacks_paths = getattr(getattr(error, "param", None), "name", None) == "paths"
    return f"{message} The first word is RUN: {WAYS}." if lacks_paths else message


def call(as_json: bool, verb: Callable[..., Mapping[str, Any]], *given: Any) -> Mapping[str, Any]:
    """The metrics that a verb returns. With `as_json` they are all that is printed on stdout, and what is not
    known is null."""
    collect_as_by_default()
    if not as_json:
        return verb(*given)
    from pneumo.evaluation.report import nan_as_none

    with redirect_stdout(sys.stderr):
        metrics = verb(*given)
    print(json.dumps(nan_as_none(dict(metrics)), indent=1, allow_nan=False))
    return metrics


def verb(name: str, panel: str, example: str, parent: typer.Typer = app) -> Callable[..., Any]:
    """Registers a function as a verb; its docstring is the help, of which the overview shows the first
    line."""
    return parent.command(name, cls=Verb, rich_help_panel=panel, epilog=f"Example: {example}")


def print_version(wanted: bool) -> None:
    """Prints the version and exits."""
    if wanted:
        print(pneumo.__version__)
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=print_version, is_eager=True),
    ] = False,
) -> None:
    """--version prints the version and exits."""


@app.command("train", cls=HydraVerb, rich_help_panel=TRAIN)
def train() -> None:
    """Train one run: pneumo train loss=bce schedule=plateau"""
    from pneumo.cli.train import main

    main()


@app.command("sweep", cls=HydraVerb, rich_help_panel=TRAIN)
def sweep() -> None:
    """Run a study of many trainings: pneumo sweep -m n_trials=20"""
    from pneumo.cli.sweep import main

    main()


def local_storage() -> str:
    """The address of study.db in this folder. InputError: there is none, which must not be made by
    looking."""
    path = Path.cwd() / "study.db"
    if not path.exists():
        raise InputError(
            f"There is no study.db in {Path.cwd()}: go to the folder of the study, give --storage URL, "
            f"or set {STORAGE}"
        )
    return f"sqlite:///{path}"
