"""git_dirty and the patch of what is not committed, in real repositories."""

import shutil
import subprocess
from pathlib import Path

import pytest

from pneumo.runs import origin


def git(folder: Path, *arguments: str) -> str:
    named = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    return subprocess.run(
        ["git", "-C", str(folder), *named, *arguments], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A committed repository with a package and a configuration, in place of pneumo's own."""
    root = tmp_path / "a folder"
    (root / "pneumo").mkdir(parents=True)
    (root / "conf" / "loss").mkdir(parents=True)
    (root / "pneumo" / "__init__.py").write_text("LR = 1\n")
    (root / "conf" / "loss" / "bce.yaml").write_text("a: 1\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "first")
    monkeypatch.setattr(origin, "PACKAGE", root / "pneumo")
    monkeypatch.setattr(origin, "OWN", root / "conf")
    return root


def dirty() -> str:
    return origin.origin_tags()["git_dirty"]


def test_a_commit_without_changes_is_clean(checkout):
    assert origin.origin_tags()["git_commit"] == git(checkout, "rev-parse", "HEAD").strip()
    assert dirty() == "false"
    assert origin.uncommitted_changes() == ""


def test_a_file_that_git_does_not_track_makes_nothing_dirty(checkout):
    for name in ("study.db", "notes.txt", "predictions.csv"):
        (checkout / name).write_text("new")
    assert dirty() == "false"
    assert origin.uncommitted_changes() == ""


@pytest.mark.parametrize("staged", [False, True])
def test_a_changed_file_is_dirty_and_its_patch_makes_the_same_change_elsewhere(checkout, tmp_path, staged):
    shutil.copytree(checkout, tmp_path / "elsewhere")
    (checkout / "pneumo" / "__init__.py").write_text("LR = 2\n")
    (checkout / "conf" / "loss" / "neu è.yaml").write_text("a: 2\n")
    if staged:
        git(checkout, "add", ".")
    assert dirty() == "true"
    (tmp_path / "patch").write_text(origin.uncommitted_changes())
    git(tmp_path / "elsewhere", "apply", str(tmp_path / "patch"))
    assert (tmp_path / "elsewhere" / "pneumo" / "__init__.py").read_text() == "LR = 2\n"
    assert (tmp_path / "elsewhere" / "conf" / "loss" / "neu è.yaml").read_text() == "a: 2\n"


def test_a_deleted_file_is_dirty(checkout):
    (checkout / "conf" / "loss" / "bce.yaml").unlink()
    assert dirty() == "true"
    assert "-a: 1" in origin.uncommitted_changes()


def test_what_git_ignores_in_conf_is_not_dirty(checkout):
    (checkout / ".git" / "info" / "exclude").write_text("*.bak\n")
    (checkout / "conf" / "bce.yaml.bak").write_text("a: 3\n")
    assert dirty() == "false"


def test_a_password_in_a_change_is_not_kept(checkout):
    (checkout / "conf" / "loss" / "bce.yaml").write_text("storage: postgresql://me:s3cret@host/db\n")
    assert "s3cret" not in origin.uncommitted_changes()


def test_a_repository_that_does_not_track_pneumo_is_not_taken_for_its_own(checkout, monkeypatch):
    installed = checkout / ".venv" / "pneumo"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    monkeypatch.setattr(origin, "PACKAGE", installed)
    assert origin.origin_tags()["git_commit"] == "unknown"
    assert dirty() == "unknown"
    assert origin.uncommitted_changes() == ""


def test_without_git_nothing_is_known(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert dirty() == "unknown"
