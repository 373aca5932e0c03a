"""The command line `pneumo VERB ...`: every verb with its arguments, options, help and place in the overview.

This module alone knows typer. What a verb does is a plain function in a module of its own, which is imported
when the verb is called: torch and MLflow take seconds to load, and the help must not wait for them.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

import pneumo
from pneumo.display.address import STORAGE, hidden
from pneumo.errors import InputError

WRONG_USAGE, INTERRUPTED = 2, 130  # exit codes; 1 is an input error
TRAIN, EVALUATE, USE = "Train", "Evaluate a run", "Use a run"  # panels of the help
STUDIES, DATA = "Studies and the report", "Data"


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
        return super().parse_args(ctx, args)


class HydraVerb(TyperCommand):
    """A command whose words and options, --help too, are all Hydra's, which reads them from sys.argv."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        sys.argv = [ctx.command_path, *args]
        return []


app = typer.Typer(
    help="Train pneumothorax detectors, evaluate, use and compare them, and read their studies and data.",
    epilog="RUN is a run id, or best: the finished run of the highest validation AUROC. "
    "pneumo VERB --help shows all options of a verb and an example.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="check: Find duplicates, leaks, unreadable files in a data set.")
app.add_typer(data_app, name="data", rich_help_panel=DATA)


def option(help: str, metavar: str | None = None, default: str | bool = True, **more: Any) -> Any:
    """`default`: what the help shows where the default in the signature is None."""
    return typer.Option(help=help, metavar=metavar, show_default=default, **more)


def argument(help: str, metavar: str, default: str | bool = False) -> Any:
    return typer.Argument(help=help, metavar=metavar, show_default=default)


def column(role: str, default: str) -> Any:
    return option(f"Column of {role}.", "COLUMN", default)


RUNS = """Runs, and Hydra overrides: data=NAME names another data set, data.KEY=VALUE changes it.
data.root=FOLDER alone says where the run's own images are now."""
SPLIT = "The images to evaluate. common: those in the test split both when the run was trained and now."
HARD = "Column of data.patients_csv that marks hard negatives, such as chest tubes; needs that table."
JSON = "Print the metrics as one JSON document, and all else on stderr."

Words = Annotated[list[str], argument(RUNS, "RUN [data=...]")]
Run = Annotated[str, argument("A run id, or best.", "RUN")]
Study = Annotated[str, argument("The study's name.", "NAME")]
Split = Literal["train", "val", "test", "all", "common"]
Tta = Literal["none", "hflip", "scales", "hflip_scales"]
EvalSplit = Annotated[Split | None, option(SPLIT, default="test, or all of another data set")]
EvalTta = Annotated[Tta, option("Test-time augmentation, averaged over its transforms.")]
HardNegatives = Annotated[str | None, option(HARD, "COLUMN", "none")]
Storage = Annotated[
    str | None, option("The database of the studies.", "URL", "study.db in this folder", envvar=STORAGE)
]
AsJson = Annotated[bool, typer.Option("--json", help=JSON)]


def main() -> None:
    """Runs the command of sys.argv and exits: 0 done, 1 input error, 2 wrong usage, 130 Ctrl-C."""
    words = sys.argv[1:]
    try:
        if code := invoke(words):
            sys.exit(code)
    except typer.TyperException as error:
        print(hidden(usage_message(error), words), file=sys.stderr)
        sys.exit(error.exit_code)
    except (InputError, OSError) as error:  # a disk may be full
        sys.exit(hidden(str(error), words))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def invoke(words: Sequence[str]) -> int:
    """The exit code of a command, which is 0 or 130. TyperException: no such verb or option. InputError: what
    the verb was given cannot be used."""
    overview = not words or list(words) == ["help"]
    command = typer.main.get_command(app)
    code = command.main(["--help"] if overview else list(words), prog_name="pneumo", standalone_mode=False)
    return code or 0


def usage_message(error: typer.TyperException) -> str:
    """One line, with the nearest options to a misspelt one."""
    if nearest := getattr(error, "possibilities", None):
        return f"{error.message}. Did you mean {' or '.join(sorted(nearest))}?"
    return error.format_message().replace("Value error, ", "")  # pydantic's


def call(as_json: bool, verb: Callable[..., Mapping[str, Any]], *given: Any) -> Mapping[str, Any]:
    """The metrics that a verb returns. With `as_json` they are all that is printed on stdout, and what is not
    known is null."""
    if not as_json:
        return verb(*given)
    from pneumo.evaluation.report import nan_as_none

    with redirect_stdout(sys.stderr):
        metrics = verb(*given)
    print(json.dumps(nan_as_none(dict(metrics)), indent=1, allow_nan=False))
    return metrics


# The verbs, in the order of the help. A new one: a module of this package, and a function here that calls it.
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


@verb("evaluate", EVALUATE, "pneumo evaluate best --split val --tta hflip")
def evaluate(
    words: Words,
    split: EvalSplit = None,
    tta: EvalTta = "none",
    hard_negatives: HardNegatives = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a run, or several as an ensemble, on any images."""
    runs, overrides = runs_and_overrides(words)
    from pneumo.cli.evaluate import evaluate
    from pneumo.inference.dataset_predictions import EvalRequest

    call(as_json, evaluate, runs, EvalRequest(overrides, split, tta, hard_negatives))


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
    from pneumo.cli.evaluate import compare
    from pneumo.inference.dataset_predictions import EvalRequest

    call(as_json, compare, *runs, EvalRequest(overrides, split, tta, hard_negatives))


@verb("score", EVALUATE, "pneumo score predictions.csv --score probability --label truth")
def score(
    file: Annotated[Path, argument("A row for each image.", "FILE.csv")],
    score: Annotated[str | None, column("the predicted probability, 0 to 1", "score")] = None,
    label: Annotated[str | None, column("the label, 0 or 1", "label")] = None,
    image: Annotated[str | None, column("the image id", "image_id")] = None,
    patient: Annotated[str | None, column("the patient id", "patient_id")] = None,
    hard_negatives: Annotated[str | None, column("flags of hard negatives", "hard_negative")] = None,
    threshold: Annotated[
        float | None, option("Positive from this score.", default="best F1 on rows of split val, else .5")
    ] = None,
    patients_csv: Annotated[
        Path | None, option("Table of what FILE.csv lacks: patient_id, view, sex, age.", "FILE", "none")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate the predictions of any model, from a CSV file."""
    columns = {"score": score, "label": label, "image": image, "patient": patient}
    columns["hard_negatives"] = hard_negatives
    from pneumo.cli.score import score as score_file

    call(as_json, score_file, file, columns, threshold, patients_csv)


@verb("predict", USE, "pneumo predict best radiographs/ --out scores.csv --heatmaps maps/")
def predict(
    run: Run,
    paths: Annotated[list[str], argument("PNG, JPEG or DICOM files, or folders.", "PATH")],
    out: Annotated[Path, option("The CSV file to write.", "FILE")] = Path("predictions.csv"),
    heatmaps: Annotated[Path | None, option("Where to write a heat map of each.", "FOLDER", "none")] = None,
    tta: Annotated[Tta | None, option("Test-time augmentation.", default="that of the run")] = None,
    as_json: AsJson = False,
) -> None:
    """Predict pneumothorax on image files, into a CSV file."""
    from pneumo.cli.predict import predict

    call(as_json, predict, run, paths, out, heatmaps, tta)


@verb("promote", USE, "pneumo promote best --alias champion")
def promote(
    run: Run,
    alias: Annotated[str, option("Alias that the new version gets.")] = "champion",
    name: Annotated[str, option("Name of the registered model.")] = "pneumo",
) -> None:
    """Register the model of a run in MLflow, ready to be served."""
    from pneumo.cli.promote import promote

    promote(run, name, alias)


@verb("reproduce", USE, "pneumo reproduce 458c264d13be4cd282430ab3157961d8")
def reproduce(
    run_id: Annotated[str, argument("32 hexadecimal digits.", "RUN_ID")], as_json: AsJson = False
) -> None:
    """Train a run again and compare every epoch with the original."""
    from pneumo.cli.reproduce import reproduce

    call(as_json, reproduce, run_id)


@verb("study", STUDIES, "pneumo study report --storage sqlite:///study.db")
def study(name: Study, storage: Storage = None, as_json: AsJson = False) -> None:
    """Show the results of a study, and write them as pages."""
    url = storage or local_storage()
    from pneumo.cli.study import show_study

    call(as_json, show_study, url, name)


@verb("confirm", STUDIES, "pneumo confirm report --top 3 --seeds 5")
def confirm(
    name: Study,
    top: Annotated[int, option("How many of the best trials to train again.", min=1)] = 5,
    seeds: Annotated[int, option("Fresh seeds for each of them.", min=1)] = 5,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Train the best of a study with fresh seeds; test it once."""
    url = storage or local_storage()
    from pneumo.cli.confirm import confirm

    call(as_json, confirm, url, name, top, seeds)


@verb("report", STUDIES, "pneumo report --study conclusions --out report")
def report(
    study: Annotated[str | None, option("A study whose results to add.", "NAME", "none")] = None,
    storage: Storage = None,
    out: Annotated[str, option("Name of the files, without .html and .md.", "NAME")] = "report",
    as_json: AsJson = False,
) -> None:
    """Write the 2024 report beside its runs, as one HTML page."""
    url = storage or local_storage() if study else None
    from pneumo.report2024.page import report

    call(as_json, report, out, study, url)


@verb("check", DATA, "pneumo data check data=siim_dicom data.root=/data/siim --verify", data_app)
def data_check(
    words: Annotated[
        list[str] | None, argument("Hydra overrides that name the data set.", "data=...", "data=phantom")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read also files that look unchanged.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read a whole data set: counts, duplicates, leaks, lesions, unreadable files."""
    from pneumo.cli.data_check import check, refuse_unusable

    refuse_unusable(call(as_json, check, words or [], verify))


def runs_and_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names of runs, and the overrides of data. WrongUsageError: no run, or another word with an =."""
    runs = [word for word in words if "=" not in word]
    overrides = [word for word in words if "=" in word]
    if others := [word for word in overrides if word.split("=")[0].lstrip("+~").split(".")[0] != "data"]:
        raise WrongUsageError(f"{others[0]}: only data=NAME and data.KEY=VALUE can be given here")
    if not runs:
        raise WrongUsageError("Missing argument 'RUN': a run id, or best.")
    return runs, overrides


def local_storage() -> str:
    """The address of study.db in this folder. InputError: there is none, which must not be made by
    looking."""
    path = Path.cwd() / "study.db"
    if not path.exists():
        raise InputError(f"There is no study.db in {Path.cwd()}: give --storage URL or set {STORAGE}")
    return f"sqlite:///{path}"
