"""Full disks, folders that may not be read, tables in odd encodings: said in a line, nothing half-made."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conditions import fill, nobody, small_disk
from conftest import ROOT, SMALL
from PIL import Image

from pneumo.data.cohort import Cohort
from pneumo.data.sources.table import Table
from pneumo.data.store import FORMAT, ROOM_TO_SPARE_BYTES, Store, open_store
from pneumo.data.tables import read_table
from pneumo.errors import InputError
from pneumo.runs import checkpoint

NAMES = ("a.png", "b.png")


def pictures(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names or NAMES:
        Image.new("L", (8, 8)).save(folder / name)
    return folder


def cohort(root: Path, table: bytes | str, **fields: object) -> Cohort:
    (root / "t.csv").write_bytes(table.encode() if isinstance(table, str) else table)
    return Table(root=str(root), table="t.csv", image_side_px=8, **fields)()


def opened(of: Cohort, stores: Path, on_progress=lambda done, total: None) -> Store:
    return open_store(of, 8, stores, "raise", on_progress)[1]


GOOD = "image,label\na.png,0\nb.png,1\n"


@pytest.mark.parametrize("name", ["röntgen 肺.png", "two\nlines.png", "a,b.png", 'say "ah".png', "-1.png"])
def test_a_name_of_any_signs_is_taken_and_its_picture_found(tmp_path: Path, name: str) -> None:
    root = pictures(tmp_path / "root", name, "b.png")
    quoted = name.replace('"', '""')
    taken = cohort(root, f'image,label\n"{quoted}",1\nb.png,0\n')
    assert taken.table["image_id"].tolist() == [name, "b.png"]
    assert taken.table["label"].tolist() == [1, 0]
    assert len(opened(taken, tmp_path / "stores").pixels) == 2


@pytest.mark.parametrize(("name", "shown"), [("x\ny.png", r"x\ny.png"), ("x\x1b[31m.png", r"x\x1b[31m.png")])
def test_a_name_that_cannot_be_seen_is_shown_with_escapes(tmp_path: Path, name: str, shown: str) -> None:
    root = pictures(tmp_path / "root")
    with pytest.raises(InputError) as error:
        cohort(root, f'{GOOD}"{name}",1\n')
    assert str(error.value).splitlines()[1] == f"  row 4  {shown} is not there"
    taken = cohort(root, f'{GOOD}"{name}",1\n', on_error="skip")
    assert taken.skipped == (f"t.csv row 4: {shown} is not there",)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8-sig", ""),
        ("utf-16", "; UTF-16"),
        ("utf-32", "; UTF-32"),
        ("latin-1", "; Latin-1 text"),
        ("cp1252", "; Latin-1 text"),
    ],
)
def test_another_encoding_is_read_and_named_as_such(tmp_path: Path, encoding: str, said: str) -> None:
    root = pictures(tmp_path / "root", "é.png", "b.png")
    taken = cohort(root, "image,label\né.png,0\nb.png,1\n".encode(encoding))
    assert taken.table["image_id"].tolist() == ["é.png", "b.png"]
    assert taken.columns == "image=image, label=label" + said


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_two_bytes_a_sign_are_refused_even_where_they_are_utf8(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(InputError, match=r"t.csv is not UTF-8 text \(zero bytes in its header\)"):
        cohort(pictures(tmp_path / "root"), GOOD.encode(encoding))


def test_a_million_rows_are_read_and_checked(tmp_path: Path) -> None:
    root = pictures(tmp_path / "root", *(f"{number}.png" for number in range(10)))
    rows = "".join(f"{number}.png,{number % 2}\n" for number in range(10))
    taken = cohort(root, "image,label\n" + rows * 100_000)
    assert taken.table["label"].tolist() == [0, 1] * 5
    assert taken.notes == ("999,990 rows repeat an image and are ignored",)


def test_a_million_rows_that_are_wrong_for_one_reason_are_told_in_one_line(tmp_path: Path) -> None:
    root = pictures(tmp_path / "root")
    with pytest.raises(InputError) as error:
        cohort(root, GOOD + "x.png,1\n" * 1_000_000)
    lines = str(error.value).splitlines()
    assert lines[0].endswith("1,000,000 of 1,000,002 rows cannot be used:")
    assert lines[1] == "  row 4  x.png is not there (1,000,000 rows)"
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("closed", "said"),
    [
        ("root", "data.root: {root} may not be read"),
        ("root/t.csv", "{root}/t.csv cannot be read: Permission denied"),
        ("root/sub", "row 3  sub/c.png is in a folder that may not be read"),
        ("root/a.png", "row 2  a.png is not a readable image"),
        (".", "data.root: {root} is not there"),
    ],
)
def test_what_may_not_be_read_is_named(closed: str, said: str) -> None:
    with nobody() as folder:
        root = pictures(folder / "root")
        pictures(root / "sub", "c.png")
        (root / "t.csv").write_text("image,label\na.png,0\nsub/c.png,1\n")
        (folder / closed).chmod(0)
        try:
            with pytest.raises(InputError) as error:
                opened(Table(root=str(root), table="t.csv", image_side_px=8)(), folder / "stores")
        finally:
            (folder / closed).chmod(0o755)
        assert said.format(root=root) in str(error.value)


@pytest.mark.parametrize(
    ("closed", "said"),
    [("stores", "stores cannot be written to"), (".", r"stores cannot be made \(Permission denied\)")],
)
def test_a_store_folder_that_may_not_be_written_is_named(closed: str, said: str) -> None:
    with nobody() as folder:
        taken = cohort(pictures(folder / "root"), GOOD)
        if closed == "stores":
            (folder / closed).mkdir()
        (folder / closed).chmod(0o555)
        try:
            with pytest.raises(InputError, match=said):
                opened(taken, folder / "stores")
        finally:
            (folder / closed).chmod(0o755)


def test_a_whole_store_that_may_only_be_read_is_opened() -> None:
    with nobody() as folder:
        taken = cohort(pictures(folder / "root"), GOOD)
        opened(taken, folder / "stores")
        (folder / "stores").chmod(0o555)
        try:
            assert opened(taken, folder / "stores").build_seconds is None
        finally:
            (folder / "stores").chmod(0o755)


def test_a_disk_that_fills_up_under_a_store_is_said_to_and_nothing_stays(tmp_path: Path) -> None:
    taken = cohort(pictures(tmp_path / "root", *(f"{n}.png" for n in range(200))), table_of(200))
    with small_disk(ROOM_TO_SPARE_BYTES // 2**20 + 8) as disk:
        stores = disk / "stores"
        with pytest.raises(
            InputError, match=r"data.store_dir: .* cannot be written \(No space left on device\)"
        ):
            opened(taken, stores, lambda done, total: None if (disk / "filler").exists() else fill(disk))
        assert [path.name for path in stores.iterdir() if path.suffix != ".lock"] == []
        (disk / "filler").unlink()
        assert len(opened(taken, stores).pixels) == 200


def table_of(n_images: int) -> str:
    return "image,label\n" + "".join(f"{number}.png,{number % 2}\n" for number in range(n_images))


@pytest.mark.parametrize("change", [{"key": "0" * 64}, {"bytes": {}}, {"problems": []}, None])
def test_a_store_of_another_version_is_built_again(tmp_path: Path, change: dict[str, object] | None) -> None:
    taken = cohort(pictures(tmp_path / "root"), GOOD)
    store = opened(taken, tmp_path / "stores")
    meta = store.folder / "meta.json"
    meta.write_text("[]" if change is None else json.dumps({**json.loads(meta.read_text()), **change}))
    assert opened(taken, tmp_path / "stores").build_seconds is not None


def test_a_store_of_a_later_format_has_another_place(tmp_path: Path, monkeypatch) -> None:
    taken = cohort(pictures(tmp_path / "root"), GOOD)
    store = opened(taken, tmp_path / "stores")
    monkeypatch.setattr("pneumo.data.store.FORMAT", FORMAT + 1)
    assert opened(taken, tmp_path / "stores").folder != store.folder


def test_a_disk_that_is_full_leaves_the_last_good_checkpoint_and_is_said() -> None:
    state = {"model": {"w": torch.zeros(100)}, "config": {}, "run_id": "x"}
    with small_disk(1) as disk:
        checkpoint.write(state, disk / "last.pt")
        with pytest.raises(
            OSError, match=r"last.pt cannot be written \(No space left on device\); the one be"
        ):
            checkpoint.write({**state, "model": {"w": torch.ones(10**6)}}, disk / "last.pt")
        assert torch.equal(checkpoint.read(disk / "last.pt")["model"]["w"], torch.zeros(100))
        assert [path.name for path in disk.iterdir()] == ["last.pt"]


TRAIN = [sys.executable, str(ROOT / "train.py"), *SMALL, "model.width=4"]


def test_a_run_whose_disk_fills_up_says_so_and_goes_on_when_there_is_room(workdir: Path) -> None:
    with small_disk(4) as disk:
        command = [*TRAIN, "fit.epochs=60", f"hydra.run.dir={disk}/out"]
        said = []
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if line.strip().startswith("2/60"):
                fill(disk)
        assert process.wait() == 1, "".join(said)
        full = r"(best|last)\.pt cannot be written \(No space left on device\); the one before is whole"
        assert re.search(full, "".join(said))
        assert "Traceback" not in "".join(said)
        assert len(checkpoint.read(disk / "out" / "checkpoints" / "last.pt")["history"]) >= 1
        (disk / "filler").unlink()
        again = subprocess.run([*command, "resume=auto"], capture_output=True, text=True, timeout=200)
        assert again.returncode == 0, again.stdout + again.stderr
        assert "resumed   after epoch" in again.stdout


class Evil:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("option", ["resume", "model.pretrained"])
def test_a_pickle_in_a_checkpoints_place_is_refused_and_never_executed(
    composed, workdir: Path, option: str
) -> None:
    from pneumo.runs.run import run

    evil, mark = workdir / "evil.pt", workdir / "executed"
    for content in (pickle.dumps(Evil(mark), protocol=2), None):
        if content is None:
            torch.save({"model": Evil(mark), "config": {}, "run_id": "x"}, evil)
        else:
            evil.write_bytes(content)
        with pytest.raises(InputError, match=r"evil.pt is not a file of weights"):
            run(composed(*SMALL, f"{option}={evil}"), workdir / "out")
        assert not mark.exists()
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists(), "it would have worked"


def test_a_checkpoint_of_another_model_is_refused_before_anything_is_trained(composed, workdir: Path) -> None:
    from pneumo.runs.run import run

    run(composed(*SMALL, "fit.epochs=1"), workdir / "out")
    last = workdir / "out" / "checkpoints" / "last.pt"
    with pytest.raises(InputError, match=r"model.width: then 8, now 4"):
        run(composed(*SMALL, "fit.epochs=1", "model.width=4", f"resume={last}"), workdir / "again")
    with pytest.raises(InputError, match=r"last.pt"):
        run(composed(*SMALL, "fit.epochs=1", "model.width=4", f"model.pretrained={last}"), workdir / "again")
    assert not (workdir / "again").exists()


def test_a_table_is_read_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a,b\n1e0,"NA"\n007, true\n')
    table = read_table(tmp_path / "t.csv")
    assert np.array_equal(table.to_numpy(), [["1e0", "NA"], ["007", "true"]])
