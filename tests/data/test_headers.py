"""The header of a DICOM file is read once, and again when the bytes of the file may have changed."""

import json
import os
from pathlib import Path

import dicoms
import numpy as np
import pytest

from pneumo.data import contents as contents_module
from pneumo.data import headers as module
from pneumo.data.contents import contents
from pneumo.data.decode import dicom
from pneumo.data.headers import NAME, headers_of

PATHS = [f"{number}.dcm" for number in range(4)]
PIXELS = np.full((8, 8), 90, np.uint8)


def save(root: Path, path: str, patient: str) -> None:
    """A file whose size does not depend on the patient, whose id has two characters."""
    dicoms.save(root / path, PIXELS, PatientID=patient, SOPInstanceUID="1.2.3")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, path in enumerate(PATHS):
        save(tmp_path / "images", path, f"P{number}")
    return tmp_path / "images"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the files whose headers are read. Files need not lie untouched for two seconds."""
    monkeypatch.setattr(contents_module, "SETTLED_SECONDS", -1.0)
    paths: list[str] = []
    read = dicom.header

    def header(root: Path, path: str) -> object:
        paths.append(path)
        return read(root, path)

    monkeypatch.setattr(dicom, "header", header)
    return paths


def patients(root: Path, paths: list[str] = PATHS) -> list[str]:
    return [header.patient_id for header in headers_of(root, paths, root.parent / "stores")]


def test_headers_are_read_once_and_are_the_same_when_they_are_kept(root: Path, opened: list[str]) -> None:
    first = headers_of(root, PATHS, root.parent / "stores")
    assert [header.patient_id for header in first] == ["P0", "P1", "P2", "P3"]
    assert sorted(opened) == PATHS
    assert headers_of(root, PATHS, root.parent / "stores") == first
    assert headers_of(root, PATHS[::-1], root.parent / "stores") == first[::-1]
    assert sorted(opened) == PATHS


def test_a_file_of_the_same_size_and_time_of_change_but_other_bytes_is_read_again(
    root: Path, opened: list[str]
) -> None:
    patients(root)
    opened.clear()
    before = (root / "1.dcm").stat()
    save(root, "1.dcm", "Q7")
    os.utime(root / "1.dcm", ns=(before.st_atime_ns, before.st_mtime_ns))
    after = (root / "1.dcm").stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert patients(root) == ["P0", "Q7", "P2", "P3"]
    assert opened == ["1.dcm"]


def test_other_bytes_that_only_a_verification_notices_have_another_header(
    root: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents_module, "_state", lambda path: (1, 1))  # no file ever looks changed
    patients(root)
    save(root, "1.dcm", "Q7")
    assert patients(root) == ["P0", "P1", "P2", "P3"]
    assert contents([root / path for path in PATHS], root.parent / "stores", verify=True).unnoticed.sum() == 1
    assert patients(root) == ["P0", "Q7", "P2", "P3"]


def test_a_moved_data_set_is_not_read_again(root: Path, opened: list[str]) -> None:
    patients(root)
    opened.clear()
    moved = root.rename(root.with_name("elsewhere"))
    assert patients(moved) == ["P0", "P1", "P2", "P3"]
    assert opened == []


def test_a_file_that_cannot_be_used_is_tried_each_time_and_named_by_its_path(
    root: Path, opened: list[str]
) -> None:
    (root / "1.dcm").write_bytes(b"no DICOM")
    (root / "2.dcm").unlink()
    for _ in range(2):
        opened.clear()
        found = headers_of(root, PATHS, root.parent / "stores")
        assert found[1].problem == "1.dcm is not a DICOM file: it has no DICM at byte 128"
        assert "2.dcm" in found[2].problem
    assert sorted(opened) == ["1.dcm", "2.dcm"]


def test_a_file_that_is_written_to_while_it_is_read_is_not_kept(
    root: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = dicom.headers

    def late(folder: Path, paths: list[str]) -> object:
        save(root, "1.dcm", "Q7")
        return read(folder, paths)

    monkeypatch.setattr(dicom, "headers", late)
    patients(root)
    kept = json.loads((root.parent / "stores" / NAME).read_text())["headers"]
    assert sorted(texts[0] for texts in kept.values()) == ["P0", "P2", "P3"]


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"made_by": [0, "0"], "headers": {"1": []}}', "cut"])
def test_a_damaged_file_or_one_of_another_version_is_replaced(
    root: Path, opened: list[str], damage: str
) -> None:
    patients(root)
    file = root.parent / "stores" / NAME
    whole = file.read_text()
    file.write_text(whole[:-20] if damage == "cut" else damage)
    assert patients(root) == ["P0", "P1", "P2", "P3"]
    assert json.loads(file.read_text()) == json.loads(whole)


def test_the_oldest_are_forgotten_when_there_are_too_many(
    root: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 3)
    patients(root, PATHS[:2])
    patients(root, PATHS[2:])
    opened.clear()
    assert patients(root, PATHS[2:]) == ["P2", "P3"]
    assert opened == []


def test_headers_are_read_where_nothing_can_be_kept(root: Path, opened: list[str]) -> None:
    (root.parent / "stores").write_text("a file, not a folder")
    assert patients(root) == ["P0", "P1", "P2", "P3"]
