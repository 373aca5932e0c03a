"""A file is known by its bytes: it is read once, and again when it may have changed."""

import os
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from conditions import fill, small_disk

from pneumo.data import contents as module
from pneumo.data.contents import CONTENT, NAME, PATH, UNREADABLE, contents


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files need not lie untouched for two seconds before they are remembered."""
    monkeypatch.setattr(module, "SETTLED_SECONDS", -1.0)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}").write_bytes(bytes([number]) * 5_000)
    return sorted(folder.iterdir())


def own(path: Path) -> int:
    return int.from_bytes(blake2b(path.read_bytes(), digest_size=8).digest(), "little", signed=True)


def remembered(store_dir: Path) -> np.ndarray:
    return np.load(store_dir / NAME)


def forged(store_dir: Path, number: int) -> None:
    """Another hash is remembered for all files, as if each had held something else when it was read."""
    known = remembered(store_dir)
    known[:, CONTENT] = number
    np.save(store_dir / NAME, known)


def test_a_hash_is_blake2b_of_the_bytes_and_nothing_else(files: list[Path], tmp_path: Path) -> None:
    found = contents(files, tmp_path / "stores").hashes
    assert found.tolist() == [own(path) for path in files]
    files[0].rename(tmp_path / "elsewhere")
    assert contents([tmp_path / "elsewhere"], None).hashes[0] == found[0]


@pytest.mark.usefixtures("settled")
def test_an_unchanged_file_is_not_read_again_unless_that_is_asked_for(
    files: list[Path], tmp_path: Path
) -> None:
    contents(files, tmp_path)
    forged(tmp_path, 7)
    assert contents(files, tmp_path).hashes.tolist() == [7] * 20
    verified = contents(files, tmp_path, verify=True)
    assert verified.hashes.tolist() == [own(path) for path in files]
    assert verified.changed.all()
    assert verified.unnoticed.all()
    mended = contents(files, tmp_path)
    assert mended.hashes.tolist() == verified.hashes.tolist()
    assert not mended.changed.any()


def rewritten(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"x" * path.stat().st_size)
    other.replace(path)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", [rewritten, replaced])
def test_other_bytes_of_the_same_size_and_time_of_change_are_noticed(
    files: list[Path], tmp_path: Path, change
) -> None:
    contents(files, tmp_path)
    before = files[3].stat()
    change(files[3])
    os.utime(files[3], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (files[3].stat().st_size, files[3].stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    found = contents(files, tmp_path)
    assert found.hashes[3] == own(files[3])
    assert np.flatnonzero(found.changed).tolist() == [3]
    assert not found.unnoticed.any()


def test_a_file_written_a_moment_ago_is_not_trusted(files: list[Path], tmp_path: Path) -> None:
    contents(files, tmp_path)
    assert not (tmp_path / NAME).exists()


@pytest.mark.usefixtures("settled")
def test_a_file_that_cannot_be_read_is_said_to_be_and_not_remembered(
    files: list[Path], tmp_path: Path
) -> None:
    found = contents([*files, tmp_path / "nowhere"], tmp_path).hashes
    assert found[-1] == UNREADABLE
    assert len(remembered(tmp_path)) == len(files)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("broken", [b"", b"no array", b"\x93NUMPY\x01\x00", "half"])
def test_a_damaged_memory_is_begun_anew(files: list[Path], tmp_path: Path, broken) -> None:
    contents(files, tmp_path)
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole[: len(whole) // 2] if broken == "half" else broken)
    assert contents(files, tmp_path).hashes.tolist() == [own(path) for path in files]
    assert len(remembered(tmp_path)) == len(files)


@pytest.mark.usefixtures("settled")
def test_the_memory_keeps_one_row_a_path_and_forgets_what_was_not_asked_for(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents(files, tmp_path)
    rewritten(files[0])
    contents(files, tmp_path)
    assert len(remembered(tmp_path)) == 20
    known = remembered(tmp_path)
    known[:, module.DAY] -= 100
    np.save(tmp_path / NAME, known)
    monkeypatch.setattr(module, "MOST_REMEMBERED", 12)
    contents(files[:5], tmp_path)
    known = remembered(tmp_path)
    assert len(known) == 12
    asked = {module.hash_of(os.fsencode(path)) for path in files[:5]}
    assert asked <= set(known[:, PATH].tolist())


def test_several_processes_remember_all_that_each_has_read(files: list[Path], tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pneumo.data import contents;"
        "contents.SETTLED_SECONDS = -1.0;"
        "[contents.contents([Path(one)], Path(sys.argv[1])) for one in sys.argv[2:]]"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), *map(str, files[first::4])])
        for first in range(4)
    ]
    assert [process.wait(timeout=60) for process in started] == [0] * 4
    assert sorted(remembered(tmp_path)[:, CONTENT].tolist()) == sorted(own(path) for path in files)
    assert not list(tmp_path.glob(f".{NAME}.*"))


@pytest.mark.usefixtures("settled")
def test_a_disk_that_is_full_costs_only_the_memory(files: list[Path]) -> None:
    with small_disk(1) as disk:
        fill(disk)
        assert contents(files, disk).hashes.tolist() == [own(path) for path in files]
        assert not list(disk.glob(f".{NAME}.*"))
        (disk / "filler").unlink()
        contents(files, disk)
        assert len(remembered(disk)) == 20


def test_a_folder_that_cannot_be_written_to_costs_only_the_memory(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "stores").write_text("a file where the folder should be")
    assert contents(files, tmp_path / "stores").hashes.tolist() == [own(path) for path in files]
