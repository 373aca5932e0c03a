"""A store is whole or not there, follows what went in, and survives kills and rivals."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo.data.cohort import Cohort, PixelBlock
from pneumo.data.sources.table import Table
from pneumo.data.store import Store, open_store
from pneumo.data.validate import REMEDY
from pneumo.errors import InputError

IMAGES = 30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    rows = ["image,label,rle"]
    for number in range(IMAGES):
        Image.new("L", (16, 16), number).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{int(number % 3 == 0)},{f'{number * 8} 16' if number % 6 == 0 else ''}")
    (folder / "t.csv").write_text("\n".join(rows))
    return folder


def cohort_of(root: Path) -> Cohort:
    columns = {"image": "image", "label": "label", "rle": "rle"}
    return Table(root=str(root), table="t.csv", image_side_px=8, columns=columns)()


def opened(root: Path, on_error: str = "raise", side_px: int = 8) -> tuple[Cohort, Store]:
    return open_store(cohort_of(root), side_px, root.parent / "stores", on_error, lambda done, total: None)


def folders(root: Path) -> list[str]:
    stores = root.parent / "stores"
    return sorted(path.name for path in stores.iterdir() if path.is_dir()) if stores.is_dir() else []


def test_a_store_holds_every_row_in_order_and_its_mask(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumo.data.decode.images.BLOCK_ROWS", 7)
    _, store = opened(root)
    assert store.pixels.shape == (IMAGES, 8, 8)
    assert store.pixels.dtype == np.uint8
    assert store.pixels[:, 3, 3].tolist() == list(range(IMAGES))
    assert np.flatnonzero(store.has_mask).tolist() == [0, 6, 12, 18, 24]
    masks = store.masks(np.array([1, 12, 0, 12]))
    assert masks[0].sum() == 0
    assert masks[2].tolist() == [[128] + [0] * 7] * 8  # one of sixteen columns
    assert (masks[1] == masks[3]).all()
    assert masks[1].tolist() == [[0, 0, 0, 128, 0, 0, 0, 0]] * 8  # the code "96 16": the seventh


def test_a_second_opening_decodes_nothing(root: Path) -> None:
    _, first = opened(root)
    _, second = opened(root)
    assert first.build_seconds is not None
    assert second.build_seconds is None
    assert second.key == first.key
    assert (second.pixels == first.pixels).all()


def test_progress_reaches_the_total(root: Path) -> None:
    seen: list[tuple[int, int]] = []
    open_store(cohort_of(root), 8, root.parent / "s", "raise", lambda done, total: seen.append((done, total)))
    assert seen[-1] == (IMAGES, IMAGES)


def test_a_changed_file_or_side_or_code_rebuilds(root: Path) -> None:
    keys = {opened(root)[1].key, opened(root, side_px=4)[1].key}
    Image.new("L", (16, 16), 200).save(root / "3.png")
    _, changed = opened(root)
    assert changed.build_seconds is not None
    assert changed.pixels[3, 0, 0] == 200
    keys.add(changed.key)
    table = root / "t.csv"
    table.write_text(table.read_text().replace("48 16", "48 32"))
    keys.add(opened(root)[1].key)
    assert len(keys) == 4


def test_other_bytes_of_the_same_path_size_and_time_are_other_pixels(root: Path) -> None:
    for number in range(IMAGES):  # uncompressed, so that any grey has one size
        Image.new("L", (16, 16), number).save(root / f"{number}.png", "bmp")
    opened(root)
    before = (root / "3.png").stat()
    Image.new("L", (16, 16), 200).save(root / "3.png", "bmp")
    os.utime(root / "3.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    after = (root / "3.png").stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert opened(root)[1].pixels[3, 0, 0] == 200


def test_a_data_set_that_was_moved_renamed_and_touched_is_not_decoded_again(root: Path) -> None:
    _, store = opened(root)
    moved = root.rename(root.parent / "moved")
    table = (moved / "t.csv").read_text()
    for number in range(IMAGES):
        (moved / f"{number}.png").rename(moved / f"film{number}.png").touch()
        table = table.replace(f"\n{number}.png", f"\nfilm{number}.png")
    (moved / "t.csv").write_text(table)
    cohort, again = opened(moved)
    assert cohort.table["image_id"].iloc[0] == "film0.png"
    assert again.build_seconds is None
    assert again.key == store.key


def test_a_file_that_changes_between_hashing_and_decoding_is_refused_and_nothing_stays(root: Path) -> None:
    def meanwhile(done: int, total: int) -> None:
        Image.new("L", (16, 16), 250).save(root / "29.png")

    with pytest.raises(InputError, match=r"1 of 30 images changed while they were read, e.g. t.csv row 31: "):
        open_store(cohort_of(root), 8, root.parent / "stores", "raise", meanwhile)
    assert folders(root) == []
    assert opened(root)[1].pixels[29, 0, 0] == 250


def test_the_digests_are_of_the_files_bytes_and_the_codes_of_the_rows_that_remain(root: Path) -> None:
    (root / "7.png").write_bytes(b"no picture")
    for _ in range(2):
        _, store = opened(root, on_error="skip")
        assert store.digests.dtype == np.int64
        assert store.digests.shape == (IMAGES - 1, 2)
        files = [root / f"{number}.png" for number in range(IMAGES) if number != 7]
        of_bytes = [hashlib.blake2b(file.read_bytes(), digest_size=8).digest() for file in files]
        assert store.digests[:, 0].astype("<i8").tobytes() == b"".join(of_bytes)
        assert ((store.digests[:, 1] != 0) == store.has_mask).all()
        assert len(set(store.digests[store.has_mask, 1].tolist())) == 5


def test_a_label_changes_no_pixel_and_no_key(root: Path) -> None:
    key = opened(root)[1].key
    table = root / "t.csv"
    table.write_text(table.read_text().replace("1.png,0", "1.png,1"))
    assert opened(root)[1].key == key


def test_rows_that_cannot_be_decoded_are_told_and_nothing_stays(root: Path) -> None:
    whole = (root / "4.png").read_bytes()
    (root / "4.png").write_bytes(whole[:50])
    (root / "7.png").write_bytes(b"no picture")
    with pytest.raises(InputError) as error:
        opened(root)
    assert str(error.value).splitlines() == [
        f"{root}/t.csv: 2 of 30 rows cannot be used:",
        "  row 6  4.png is not a readable image (truncated after 50 bytes)",
        "  row 9  7.png is not a readable image (no image format is recognised in its 10 bytes)",
        REMEDY,
    ]
    assert folders(root) == []


def test_skip_leaves_them_out_of_cohort_and_store_and_remembers_them(root: Path) -> None:
    (root / "6.png").write_bytes(b"no picture")
    for built in (True, False):
        cohort, store = opened(root, on_error="skip")
        assert (store.build_seconds is not None) == built
        assert len(cohort) == len(store.pixels) == IMAGES - 1
        assert cohort.table["image_id"].iloc[6] == "7.png"
        assert store.pixels[6, 0, 0] == 7
        assert np.flatnonzero(store.has_mask).tolist() == [0, 11, 17, 23]
        assert cohort.skipped[0].startswith("t.csv row 8: 6.png is not a readable image")
    with pytest.raises(InputError, match="1 of 30 rows cannot be used"):
        opened(root, on_error="raise")


def test_a_row_that_was_left_out_is_told_by_the_name_it_has_now(root: Path) -> None:
    (root / "6.png").write_bytes(b"no picture")
    opened(root, on_error="skip")
    (root / "6.png").rename(root / "new.png")
    table = root / "t.csv"
    table.write_text(table.read_text().replace("\n6.png", "\nnew.png"))
    cohort, store = opened(root, on_error="skip")
    assert store.build_seconds is None
    assert cohort.skipped[0].startswith("t.csv row 8: new.png is not a readable image")


def test_skip_does_not_hide_that_nothing_can_be_decoded(root: Path) -> None:
    for number in range(IMAGES):
        (root / f"{number}.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="30 of 30 rows cannot be used"):
        opened(root, on_error="skip")


def test_a_store_that_lost_bytes_is_built_again(root: Path) -> None:
    _, store = opened(root)
    with (store.folder / "pixels.npy").open("r+b") as file:
        file.truncate(500)
    _, again = opened(root)
    assert again.build_seconds is not None
    assert again.pixels[:, 0, 0].tolist() == list(range(IMAGES))


def test_a_folder_that_cannot_be_made_is_named(root: Path) -> None:
    (root.parent / "stores").touch()
    with pytest.raises(InputError, match=r"data.store_dir: .*stores cannot be made"):
        opened(root)


def test_room_is_needed_for_each_image_and_each_lesion(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumo.data.store.ROOM_TO_SPARE_BYTES", 0)
    usage = shutil.disk_usage(root)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage._replace(free=(IMAGES + 5) * 8**2 - 1))
    with pytest.raises(InputError, match="the pixel store of 30 images at 8 px takes"):
        opened(root)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage._replace(free=(IMAGES + 5) * 8**2))
    opened(root)


@pytest.mark.parametrize(("side_px", "said"), [(8, 0), (22, 0), (32, 1)])
def test_images_that_are_enlarged_to_twice_their_pixels_or_more_are_said(
    root: Path, side_px: int, said: int
) -> None:
    for _ in ("built", "opened"):
        _, store = opened(root, side_px=side_px)  # the files have 16 x 16 pixels
        assert len(store.notes) == said
        assert all("data.image_side_px=16" in note and "1/4 of the time" in note for note in store.notes)


def test_too_little_room_is_said_before_anything_is_decoded(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pneumo.data.store.ROOM_TO_SPARE_BYTES", 2**60)
    with pytest.raises(InputError, match=r"GiB free, the pixel store of 30 images at 8 px takes"):
        opened(root)


@dataclass(frozen=True)
class Slow:
    """Pixels that take their time, and leave a line for every block they draw."""

    log: Path
    seconds: float = 0.0
    fails: list[int] = field(default_factory=list)

    def digests(self, store_dir: Path | None = None) -> np.ndarray:
        return np.ones((IMAGES, 2), np.int64)

    def blocks(self, side_px: int) -> Iterator[PixelBlock]:
        for number in range(IMAGES):
            with self.log.open("a") as log:
                log.write(f"{os.getpid()}\n")
            time.sleep(self.seconds)
            pixels = np.full((1, side_px, side_px), number, np.uint8)
            yield PixelBlock(pixels, pixels[:0], np.zeros(1, bool), {})


def build_slowly(root: Path, seconds: float) -> Store:
    cohort = cohort_of(root)
    slow = Cohort("slow", cohort.table, Slow(root.parent / "log", seconds))
    return open_store(slow, 8, root.parent / "stores", "raise", lambda done, total: None)[1]


def other_process(root: Path, seconds: float) -> subprocess.Popen[bytes]:
    code = f"from test_store import *; build_slowly(Path({str(root)!r}), {seconds})"
    here = str(Path(__file__).parent)
    return subprocess.Popen([sys.executable, "-c", code], cwd=here)


def lines(root: Path) -> list[str]:
    log = root.parent / "log"
    return log.read_text().splitlines() if log.exists() else []


def test_a_killed_build_is_never_taken_for_a_whole_one(root: Path) -> None:
    builder = other_process(root, seconds=0.2)
    try:
        while len(lines(root)) < 5:
            assert builder.poll() is None
            time.sleep(0.02)
    finally:
        builder.send_signal(signal.SIGKILL)
        builder.wait()
    (left,) = folders(root)
    assert left.endswith(".partial")
    store = build_slowly(root, seconds=0)
    assert store.build_seconds is not None
    assert store.pixels[:, 0, 0].tolist() == list(range(IMAGES))
    assert folders(root) == [store.folder.name]


def test_of_two_builders_one_builds_and_the_other_opens(root: Path) -> None:
    rivals = [other_process(root, seconds=0.05) for _ in range(2)]
    assert [rival.wait(timeout=60) for rival in rivals] == [0, 0]
    assert len(lines(root)) == IMAGES
    assert len(set(lines(root))) == 1
    assert build_slowly(root, seconds=0).build_seconds is None


def test_an_interrupted_build_leaves_nothing(root: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_store(cohort_of(root), 8, root.parent / "stores", "raise", interrupt)
    assert folders(root) == []


def test_a_store_says_what_is_in_it(root: Path) -> None:
    _, store = opened(root)
    meta = json.loads((store.folder / "meta.json").read_text())
    assert meta["key"] == store.key
    assert meta["side_px"] == 8
    assert store.folder.name == f"table-8-{store.key[:12]}"
