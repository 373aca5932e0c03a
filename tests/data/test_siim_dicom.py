"""SIIM's first release: nested DICOM folders and run-length codes become one table, or are refused by row."""

import gzip
import os
import sys
from pathlib import Path

import dicoms
import numpy as np
import pytest

from pneumo.data.decode.dicom import header
from pneumo.data.decode.header import Header
from pneumo.data.decode.images import FilePixels
from pneumo.data.files import find_files
from pneumo.data.sources.siim import SiimDicom, read_rle
from pneumo.errors import InputError

HEADER = "ImageId, EncodedPixels\n"
ROWS = "a,0 512\nb, -1\na, 2048 512\nc,-1\n"
PIXELS = np.full((8, 8), 90, np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "siim"
    for number, (name, sex) in enumerate((("a", "F"), ("b", "M"), ("c", "O"))):
        place = folder / "dicom-images-train" / f"1.{number}" / f"2.{number}" / f"{name}.dcm"
        patient = {"PatientID": f"P{number % 2}", "PatientSex": sex, "PatientAge": "061Y"}
        dicoms.save(place, PIXELS + number, ViewPosition="PA", **patient)
    (folder / "train-rle.csv").write_text(HEADER + ROWS)
    return folder


def source(root: Path, **fields: object) -> SiimDicom:
    told = {
        "images": "dicom-images-train",
        "table": "train-rle.csv",
        "store_dir": str(root.parent / "stores"),
    }
    return SiimDicom(root=str(root), image_side_px=8, **{**told, **fields})


def refused(root: Path, **fields: object) -> str:
    with pytest.raises(InputError) as error:
        source(root, **fields)()
    return str(error.value)


def test_nested_folders_codes_and_headers_become_one_row_an_image(root: Path) -> None:
    cohort = source(root)()
    table = cohort.table
    assert table["image_id"].tolist() == ["a", "b", "c"]
    assert table["label"].tolist() == [1, 0, 0]
    assert table["where"].tolist() == ["train-rle.csv row 2", "train-rle.csv row 3", "train-rle.csv row 5"]
    assert table["patient_id"].tolist() == ["P0", "P1", "P0"]
    assert table["sex"].tolist()[:2] == ["F", "M"]
    assert table["sex"].isna().tolist() == [False, False, True]
    assert table["age"].tolist() == [61.0] * 3
    assert (cohort.notes, cohort.skipped) == ((), ())
    assert isinstance(cohort.pixels, FilePixels)
    assert cohort.pixels.images[0].rle == ("0 512", "2048 512")


def test_lesions_of_several_rows_are_united_at_siims_size(root: Path) -> None:
    (block,) = source(root)().pixels.blocks(8)
    assert block.pixels[:, 0, 0].tolist() == [90, 91, 92]
    assert block.has_mask.tolist() == [True, False, False]
    # the second run starts 2,048 past the end of the first in its own code: both lie in the first columns,
    # rows 0 to 511 of columns 0 and 2, each 1/128 of the width of a shrunken pixel
    assert block.masks[0][:4, 0].tolist() == [4] * 4
    assert not block.masks[0][4:].any()
    assert not block.masks[0][:, 1:].any()


@pytest.mark.parametrize(
    "content",
    [
        (HEADER + ROWS).encode(),
        ("ImageId,EncodedPixels\n" + ROWS).encode(),
        ("\ufeff" + HEADER + ROWS).encode(),
        ROWS.encode(),
        ("\ufeff" + ROWS).encode(),
        (HEADER + ROWS).replace("\n", "\r\n").encode(),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_copy_of_the_annotations_says_the_same(tmp_path: Path, content: bytes, zipped: bool) -> None:
    path = tmp_path / ("rle.csv.gz" if zipped else "rle.csv")
    path.write_bytes(gzip.compress(content) if zipped else content)
    table = read_rle(path)
    assert table["ImageId"].tolist() == ["a", "b", "a", "c"]
    assert table["EncodedPixels"].tolist() == ["0 512", "-1", "2048 512", "-1"]


def test_a_gzipped_table_is_found_without_being_named(root: Path) -> None:
    (root / "train-rle.csv.gz").write_bytes(gzip.compress((HEADER + ROWS).encode()))
    (root / "train-rle.csv").unlink()
    assert source(root)().table["where"].iloc[0] == "train-rle.csv.gz row 2"


def test_patients_may_come_from_a_table_instead(root: Path) -> None:
    (root / "patients.csv").write_text("ImageId,patient_id\na,7\nb,7\nc,8\n")
    assert source(root, patients_csv="patients.csv")().table["patient_id"].tolist() == ["7", "7", "8"]


def test_an_image_that_no_row_names_is_said_not_refused(root: Path) -> None:
    dicoms.save(root / "dicom-images-train" / "9" / "z.dcm", PIXELS)
    (note,) = source(root)().notes
    assert note == "1 images have no row in train-rle.csv, e.g. dicom-images-train/9/z.dcm"


def test_a_row_without_an_image_is_refused_or_left_out(root: Path) -> None:
    with (root / "train-rle.csv").open("a") as table:
        table.write("gone,-1\n")
    assert "row 6  dicom-images-train/**/gone.dcm is not there" in refused(root)
    cohort = source(root, on_error="skip")()
    assert len(cohort) == 3
    assert cohort.skipped == ("train-rle.csv row 6: dicom-images-train/**/gone.dcm is not there",)


def test_what_is_no_radiograph_is_refused_by_row_before_anything_is_decoded(root: Path) -> None:
    dicoms.save(root / "dicom-images-train" / "1.1" / "2.1" / "b.dcm", PIXELS, Modality="CT")
    place = "dicom-images-train/1.1/2.1/b.dcm"
    assert f"row 3  {place} has the modality CT; radiographs are CR, DX, DR, RG" in refused(root)
    assert source(root, on_error="skip")().table["image_id"].tolist() == ["a", "c"]


def test_a_truncated_header_is_refused_by_row(root: Path) -> None:
    path = root / "dicom-images-train" / "1.1" / "2.1" / "b.dcm"
    path.write_bytes(path.read_bytes()[:200])
    assert "row 3  dicom-images-train/1.1/2.1/b.dcm names no transfer syntax" in refused(root)


def test_an_image_that_lies_in_two_folders_is_refused(root: Path) -> None:
    dicoms.save(root / "dicom-images-train" / "9" / "b.dcm", PIXELS)
    assert (
        "row 3  b.dcm lies in 2 folders: dicom-images-train/1.1/2.1/b.dcm and dicom-images-train/9/b.dcm"
        in refused(root)
    )


def test_an_image_both_with_and_without_a_lesion_is_refused(root: Path) -> None:
    with (root / "train-rle.csv").open("a") as table:
        table.write("a,-1\n")
    assert 'image "a" has label 1 in train-rle.csv row 2 and 0 in train-rle.csv row 6' in refused(root)


@pytest.mark.parametrize(
    ("code", "said"),
    [("5 2 7", "has 3 numbers, must be pairs"), ("1048570 9", "out of the range of the 1,048,576 pixels")],
)
def test_a_wrong_code_is_a_problem_of_its_row(root: Path, code: str, said: str) -> None:
    (root / "train-rle.csv").write_text(HEADER + f"a,{code}\nb,-1\n")
    (block,) = source(root)().pixels.blocks(8)
    assert list(block.problems) == [0]
    assert said in block.problems[0]


def test_links_out_of_the_root_are_refused_and_not_opened(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = dicoms.save(root.parent / "outside.dcm", PIXELS)
    link = root / "dicom-images-train" / "1.1" / "2.1" / "b.dcm"
    link.unlink()
    link.symlink_to(outside)
    opened: list[str] = []

    def headers(folder: Path, paths: list[str]) -> list[Header]:
        opened.extend(paths)
        return [header(folder, path) for path in paths]

    monkeypatch.setattr("pneumo.data.decode.dicom.headers", headers)
    assert "b.dcm is a link that leads out of" in refused(root)
    assert opened == ["dicom-images-train/1.0/2.0/a.dcm", "dicom-images-train/1.2/2.2/c.dcm"]


def test_a_linked_folder_is_not_followed_and_said(root: Path) -> None:
    (root / "dicom-images-train" / "again").symlink_to(root / "dicom-images-train")
    said = "dicom-images-train/again: a link to a folder, which is not followed"
    assert said in refused(root)
    assert source(root, on_error="skip")().notes == (f"folder may not be read: {said}",)


def test_a_folder_without_permission_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, scan = str(root / "dicom-images-train" / "1.1"), os.scandir

    def scandir(path: str) -> object:
        if os.fspath(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)  # the superuser may look into any
    said = "dicom-images-train/1.1: Permission denied"
    assert refused(root) == f"{root}: 1 folders may not be read:\n  folder may not be read: {said}"
    cohort = source(root, on_error="skip")()
    assert cohort.table["image_id"].tolist() == ["a", "c"]
    assert f"folder may not be read: {said}" in cohort.notes


@pytest.mark.skipif(sys.platform == "win32", reason="file names there have no line breaks")
def test_names_with_line_breaks_and_umlauts_work_and_are_told_on_one_line(root: Path) -> None:
    dicoms.save(root / "dicom-images-train" / "Größe\nzwei" / "ä\nö.dcm", PIXELS)
    (root / "train-rle.csv").write_text(HEADER + 'a,0 512\n"ä\nö",-1\n"weg\nweg",-1\n', encoding="utf-8")
    assert "row 4  dicom-images-train/**/weg\\nweg.dcm is not there\n" in refused(root)
    cohort = source(root, on_error="skip")()
    assert cohort.table["image_id"].tolist() == ["a", "ä\nö"]
    blocks = list(cohort.pixels.blocks(8))
    assert not blocks[0].problems


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("ImageId,Pixels,More\na,-1,x\n", 'no column "EncodedPixels"; it has: ImageId, Pixels, More'),
        ("ImageId,EncodedPixels,ImageId\na,-1,b\n", 'has the column "ImageId" twice'),
        ("ImageId,EncodedPixels\nü,-1\n".encode("latin-1"), "dicom-images-train/**/ü.dcm is not there"),
        (HEADER.encode("utf-16")[:-1], "is not UTF-8 text (byte 0x0a): save it again as UTF-8"),
        (HEADER, "has no rows"),
    ],
)
def test_a_table_of_another_kind_is_refused_by_name(root: Path, content: str | bytes, said: str) -> None:
    (root / "train-rle.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    assert said in refused(root)


def test_missing_folders_and_tables_are_named(root: Path) -> None:
    assert 'data.images: no folder "nope" in' in refused(root, images="nope")
    assert "must be relative to data.root" in refused(root, images=str(root))
    assert "none.csv is not there" in refused(root, table="none.csv")
    (root / "empty").mkdir()
    assert 'no .dcm file below "empty"' in refused(root, images="empty")


def test_headers_that_name_another_body_part_are_said(root: Path) -> None:
    place = root / "dicom-images-train" / "1.1" / "2.1" / "b.dcm"
    dicoms.save(place, PIXELS, BodyPartExamined="HIP")
    dicoms.save(root / "dicom-images-train" / "1.2" / "2.2" / "c.dcm", PIXELS, BodyPartExamined="CHEST")
    assert source(root)().notes == ("1 headers name another body part than the chest: HIP (1)",)


def test_hidden_and_other_files_are_no_images(tmp_path: Path) -> None:
    for name in ("x/._a.dcm", "x/a.dcm", "x/y/B.DCM", "x/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_files(tmp_path, "x", ".dcm").files == ("x/a.dcm", "x/y/B.DCM")
