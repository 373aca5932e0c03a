"""What the documents say is there, is there."""

import re

import pytest
from conftest import ROOT

from pneumo.runs.setting_names import GROUPS, STUDY

README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    "group", ["data", "augment", "model", "loss", "optimizer", "schedule", "experiment", "debug"]
)
def test_the_readme_names_every_choice_of_every_group(group):
    (cell,) = re.findall(rf"^\| `{group}=` \| ([^|]*) \|", README, re.MULTILINE)
    there = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml") if not path.stem.startswith("_")}
    assert set(cell.replace("*", "").split()) == there


def test_the_page_on_studies_names_every_search_and_pruner():
    page = (ROOT / "docs" / "sweep.md").read_text()
    for group in ("search", "pruner"):
        for path in (ROOT / "conf" / group).glob("[!_]*.yaml"):
            assert re.search(rf"\b{path.stem}\b", page), path.stem


@pytest.mark.parametrize("page", ["README.md", "docs/sweep.md", "docs/cluster.md"])
def test_every_key_of_a_study_that_a_page_sets_is_there(page):
    text = (ROOT / page).read_text()
    for line in re.findall(r"python sweep\.py.*", text):
        for key in re.findall(r"(?<!\S)'?([a-z_]+)=", line.split("#")[0]):
            assert key in (*STUDY, *GROUPS, "resume"), f"{key} in: {line}"


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
)
def test_links_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_page_on_own_components_shows_the_package_that_is_tested():
    page = (ROOT / "docs" / "extending.md").read_text()
    shown = re.findall(r"```\w+\n# (\S+)\n(.*?)```", page, re.DOTALL)
    package = ROOT / "tests" / "example_plugin"
    kept = {
        str(path.relative_to(package)): path.read_text() for path in package.rglob("*.*") if path.is_file()
    }
    kept = {name: text for name, text in kept.items() if name.endswith((".py", ".yaml", ".toml"))}
    del kept["mypkg/__init__.py"]
    assert dict(shown) == kept
