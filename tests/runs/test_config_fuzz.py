"""Random overrides of train.py and sweep.py, and random YAML files in every config group: a run or a study
that could begin, or one line; never a traceback, and no program that a file names is started."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from fuzzing import fuzzed, mutations, no_hang
from hypothesis import given
from hypothesis import strategies as st

from pneumo.cli import sweep, train
from pneumo.errors import InputError
from pneumo.runs import planner, search_path, setting_names
from pneumo.runs import run as run_module
from pneumo.sweep.search_space import SearchSpace

CONF = ROOT / "conf"
OF_RUN = ("data", "augment", "model", "optimizer", "loss", "schedule", "experiment", "debug")
OF_STUDY = ("search", "pruner", "pool", "size")
CHOICES = {
    group: sorted(path.stem for path in (CONF / group).glob("[!_]*.yaml")) for group in (*OF_RUN, *OF_STUDY)
}
RUN_KEYS = [*setting_names.names_in_conf(), "plan", "hydra.job.name", "hydra.verbose", "hydra.mode"]
STUDY_KEYS = [
    *setting_names.of_study(),
    *("search.enqueue", "search.conditional", "search.exists_where", "search.design", "size", "pool.workers"),
    *("pruner.n_startup_trials", "pruner._target_", "pool._target_", "hydra.sweeper.params"),
    *("hydra.sweeper.sampler.seed", "hydra.sweeper.heartbeat_seconds", "hydra.sweeper.storage_minutes"),
    *("hydra.sweeper.sampler._target_", "hydra.sweeper.sampler.n_startup_trials", "hydra.sweep.dir"),
    *("hydra/sweeper/sampler", "hydra/launcher"),
]
VALUES = (
    *("", "null", "nan", ".nan", "inf", "-inf", "-1", "0", "1", "3", "0.5", "1e400", "1e-320", "9" * 400),
    *("-" + "9" * 30, "0x10", "1_000", "1e5", "true", "False", "yes", "''", '""', "' '", "a", "none", "auto"),
    *("[]", "[1,2]", "[[1]]", "[null]", "[a,b]", "{}", "{a:1}", "{a:{b:[1,{c:2}]}}", "{1:2}", "[{}]"),
    *("${seed}", "${nope}", "${fit}", "${fit.epochs}", "${oc.env:NOPE}", "${oc.env:HOME}", "${", "${}", "$"),
    *("${now:%H}", "${hydra:job.num}", "${oc.decode:'['}", "${oc.create:{a:1}}", "${.lr}", "${..seed}"),
    *(
        "???",
        "é",
        "日本",
        "a b",
        "'a",
        'a"',
        "\\",
        "\n",
        "\t",
        "a\nb",
        "=",
        "a=b",
        ",",
        "1,2",
        "a,b,",
        "~",
        "@",
    ),
    *("choice(1,2)", "choice()", "interval(0,1)", "interval(1,0)", "range(1,5)", "range(5,1)", "glob(*)"),
    *("tag(log,interval(1e-5,1e-2))", "tag(log,interval(0,1))", "interval(nan,1)", "int(1.5)", "shuffle(a)"),
    *(
        "{_target_:os.system,command:'touch started'}",
        "os.system",
        "pneumo.components.losses.Bce",
        "val/auroc",
    ),
    *(
        "[val/auroc,fit_seconds]",
        "latest",
        "best",
        "0123456789abcdef0123456789abcdef",
        "x.pt",
        "../x",
        "12e3",
    ),
)
words = st.sampled_from(VALUES) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8
)


def misspelt(key: str) -> st.SearchStrategy[str]:
    """The key with one character too few, too many, or another one, or with a part too many or too few."""
    at = st.integers(0, len(key) - 1)
    one = st.sampled_from("abz_./@0-é")
    return st.one_of(
        at.map(lambda i: key[:i] + key[i + 1 :]),
        st.builds(lambda i, c: key[:i] + c + key[i:], at, one),
        st.builds(lambda i, c: key[:i] + c + key[i + 1 :], at, one),
        st.sampled_from([f"{key}.x", f"x.{key}", key.rpartition(".")[2], key.partition(".")[0], key.upper()]),
    )


def overrides_of(keys: list[str]) -> st.SearchStrategy[list[str]]:
    """One to three overrides: mostly known settings with any value, some misspelt, and choices of groups."""
    key = st.sampled_from(keys)
    names = st.one_of(key, key, key, key.flatmap(misspelt))
    sign = st.sampled_from(["", "", "", "+", "++", "~"])
    equals = st.sampled_from(["=", "=", "=", "=", ""])
    settings = st.builds(lambda *parts: "".join(parts), sign, names, equals, words)
    group = st.sampled_from(sorted(CHOICES))
    known = group.flatmap(lambda g: st.sampled_from(CHOICES[g]).map(lambda choice: f"{g}={choice}"))
    package = st.builds(lambda g, p, w: f"{g}@{p}={w}", group, st.sampled_from([*keys, "x"]), words)
    return st.lists(st.one_of(settings, settings, settings, known, package), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Path]:
    """A working directory in which nothing is trained: what a run or a study does first is replaced by
    noting that it would begin."""
    place = tmp_path_factory.mktemp("fuzz")
    (place / "mlflow.db").write_bytes(empty_database.read_bytes())
    for group in CHOICES:
        (place / "conf" / group).mkdir(parents=True)
    plugins = search_path.plugins()  # looked up in every installed package, which takes most of the time
    extremes = SearchSpace.extremes

    def no_data(*_: object) -> None:
        raise InputError("the data are not read here")

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(search_path, "plugins", lambda: plugins)
        patch.setattr(planner, "load_dataset", no_data)
        patch.setattr(run_module, "run", lambda *_: None)
        patch.setattr(SearchSpace, "extremes", lambda space: extremes(space)[:2])
        yield place


COMMANDS = {
    "train": (train.main, ["hydra.run.dir=out"]),
    "sweep": (sweep.main, ["-m", "dry_run=true", "hydra.sweep.dir=out"]),
}


def begins_or_says_why(command: str, given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    main, always = COMMANDS[command]
    monkeypatch.setattr(sys, "argv", [f"{command}.py", *always, *given])
    said: object = None
    try:
        with no_hang():
            main()
    except SystemExit as refused:
        said = refused.code
    if said:
        assert isinstance(said, str), said
        assert said.strip()
        assert "\n" not in said.strip(), said
        assert not re.search(r"Traceback|HYDRA_FULL_ERROR", said), said
    assert not Path("started").exists(), "a program that the configuration names"


@fuzzed
@given(overrides_of(RUN_KEYS))
def test_random_overrides_of_a_run_make_one_or_are_refused_in_one_line(
    folder: Path, given: list[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        begins_or_says_why("train", given, patch)


@fuzzed
@given(overrides_of([*STUDY_KEYS, *STUDY_KEYS, *RUN_KEYS]))
def test_random_overrides_of_a_study_make_one_or_are_refused_in_one_line(
    folder: Path, given: list[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        begins_or_says_why("sweep", given, patch)


YAML_TOKENS = (
    *(
        b"- ",
        b": ",
        b"\n",
        b"\n  ",
        b"#",
        b"!!python/object:os.system ",
        b"&a ",
        b"*a",
        b"<<: *a",
        b"'",
        b'"',
    ),
    *(
        b"???",
        b"${seed}",
        b"${nope}",
        b"[",
        b"]",
        b"{",
        b"}",
        b"|",
        b">",
        b"\t",
        b"---\n",
        b"null",
        b"~",
        b"\xff",
    ),
    *(
        b"_target_: os.system\n",
        b"command: touch started\n",
        b"_partial_: true\n",
        b"_args_: [1]\n",
        b"0",
        b".",
    ),
    *(
        b"defaults: [nope]\n",
        b"defaults: {a: b}\n",
        b"# @package _global_\n",
        b"# @package a.b\n",
        b"\xc3\xa9",
    ),
    *(
        b"_self_",
        b"override /loss: bce",
        b"1: 2\n",
        b"? [a]\n",
        b"nan",
        b"-1",
        b"1e999",
        b"9999999999999999999",
    ),
)


@st.composite
def files(draw: st.DrawFn, groups: tuple[str, ...]) -> tuple[str, bytes]:
    """A config group, and a changed copy of a file of it or of another group."""
    group = draw(st.sampled_from(groups))
    origin = group if draw(st.integers(0, 4)) else draw(st.sampled_from(sorted(CHOICES)))
    contents = [path.read_bytes() for path in sorted((CONF / origin).glob("*.yaml"))]
    if origin == "search":
        contents = [one for one in contents if len(one) < 2000]  # a design of a hundred arms takes seconds
    return group, draw(mutations(contents, *YAML_TOKENS))


def chosen_file_begins_or_says_why(command: str, group: str, content: bytes) -> None:
    path = Path("conf", group, "random.yaml")
    path.write_bytes(content)
    words = [f"{'+' if group == 'size' else ''}{group}=random"]
    with pytest.MonkeyPatch.context() as patch:
        begins_or_says_why(command, words, patch)
    path.unlink()


@fuzzed
@given(files(OF_RUN))
def test_a_random_file_in_a_group_of_a_run_makes_one_or_is_refused_in_one_line(
    folder: Path, given: tuple[str, bytes]
) -> None:
    chosen_file_begins_or_says_why("train", *given)


@fuzzed
@given(files((*OF_STUDY, *OF_RUN)))
def test_a_random_file_in_a_group_of_a_study_makes_one_or_is_refused_in_one_line(
    folder: Path, given: tuple[str, bytes]
) -> None:
    chosen_file_begins_or_says_why("sweep", *given)
