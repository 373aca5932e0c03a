"""`pneumo data check` reports duplicates, leaks, lesions and bad files, and leaves a store."""

from pathlib import Path

import dicoms
import numpy as np
import pytest
from PIL import Image

from pneumo.cli.app import invoke
from pneumo.data import contents
from pneumo.data.audit import duplicate_rows
from pneumo.errors import InputError
from pneumo.runs import config


def test_images_equal_in_every_pixel_are_duplicates_and_others_are_not() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 8, 8), np.uint8)
    pixels[5], pixels[4], pixels[6] = pixels[1], pixels[0], pixels[1]
    pixels[2] = pixels[1]
    pixels[2, 7, 7] ^= 1
    assert [rows.tolist() for rows in duplicate_rows(pixels)] == [[0, 4], [1, 5, 6]]
    assert duplicate_rows(pixels[:3]) == ()


def test_the_phantom_is_whole_and_its_crop_is_not(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    invoke(["data", "check", "data.n_images=160", "data.image_side_px=64"])
    said = capsys.readouterr().out
    assert "phantom at 64 px, read in" in said
    assert "no patient in two of them" in said
    assert "no two images have equal pixels" in said
    assert "none 0.0% · report " in said
    assert "all 160 can be read" in said
    invoke(["data", "check", "data.n_images=160", "data.image_side_px=64"])
    assert "read before" in capsys.readouterr().out  # as a training would find it


def test_every_augment_is_checked() -> None:
    assert config.choices_of("augment") == ["flip", "none", "report", "safe", "strong"]


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """60 images of 60 patients, of which two share their pixels over the parts of a given split, one patient
    lies in both, one file is cut short, one is a CT and one has no row."""
    root, random = tmp_path / "messy", np.random.default_rng(0)
    rows = ["ImageId,EncodedPixels,part"]
    for number in range(60):
        pixels = random.integers(0, 256, (16, 16), np.uint8)
        pixels = np.full((16, 16), 7, np.uint8) if number in (3, 44) else pixels
        said = {"PatientID": f"P{min(number, 58)}", "Modality": "CT" if number == 9 else "CR"}
        path = dicoms.save(root / "dicom-images-train" / str(number) / f"i{number}.dcm", pixels, **said)
        if number == 10:
            path.write_bytes(path.read_bytes()[:-100])
        part = "train" if number < 30 or number == 58 else "val" if number < 45 else "test"
        rows.append(f"i{number},{'512 99999' if number % 2 else -1},{part}")
    dicoms.save(root / "dicom-images-train" / "z" / "z.dcm", np.zeros((16, 16), np.uint8))
    (root / "train-rle.csv").write_text("\n".join(rows))
    return root


def test_each_fault_of_a_folder_is_reported(
    messy: Path, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["data.split=column", "data.split_column=part", "data.image_side_px=16"]
    with pytest.raises(InputError) as error:
        invoke(["data", "check", "data=siim_dicom", f"data.root={messy}", *given])
    said = capsys.readouterr().out
    assert "2 images have the same pixels as another, e.g. train-rle.csv row 5 = train-rle.csv row 46" in said
    assert "2 images have the same pixels as one with the other label" in said
    assert "2 images have the same pixels as one in another split" in said
    assert "1 patients lie in more than one split of the column part" in said
    assert "29 annotated; share of the image: median 9.53%" in said  # 99,999 / 1024**2; i9 is left out
    assert "1 images have no row in train-rle.csv, e.g. dicom-images-train/z/z.dcm" in said
    assert "2 rows cannot be used:" in str(error.value)
    assert "row 11: dicom-images-train/9/i9.dcm has the modality CT" in str(error.value)
    assert "row 12: dicom-images-train/10/i10.dcm is truncated: 156 of 256 bytes of pixels" in str(
        error.value
    )


def test_a_file_that_changed_unnoticed_is_found_by_verify_and_then_read(
    workdir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "SETTLED_SECONDS", -1.0)
    rows = ["image,label"]
    for number in range(30):
        Image.new("L", (16, 16), number).save(workdir / f"{number}.png")
        rows.append(f"{number}.png,{number % 2}")
    (workdir / "t.csv").write_text("\n".join(rows))
    words = [
        "data",
        "check",
        "data=table",
        f"data.root={workdir}",
        "data.table=t.csv",
        "data.image_side_px=8",
    ]
    invoke([*words, "--verify"])
    assert "30 files read again; 0 hold other bytes than before" in capsys.readouterr().out
    known = np.load(workdir / "stores" / contents.NAME)  # as a disk that was set back would leave it
    of_3 = contents.hash_of((workdir / "3.png").read_bytes())
    known[known[:, contents.CONTENT] == of_3, contents.CONTENT] = 7
    np.save(workdir / "stores" / contents.NAME, known)
    invoke(words)
    assert "verified" not in capsys.readouterr().out
    invoke([*words, "--verify"])
    said = capsys.readouterr().out
    assert "30 files read again; 1 hold other bytes than before" in said
    assert "1 of them changed with size, times and inode as they were\n  3.png\n" in said
    invoke([*words, "--verify"])
    assert "30 files read again; 0 hold other bytes than before" in capsys.readouterr().out


def test_a_split_that_cannot_be_made_is_reported_and_the_rest_still_checked(
    messy: Path, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (messy / "train-rle.csv").read_text().splitlines()
    (messy / "train-rle.csv").write_text("\n".join([lines[0], lines[1], lines[2], lines[3]]))
    invoke(["data", "check", "data=siim_dicom", f"data.root={messy}", "data.image_side_px=16"])
    said = capsys.readouterr().out
    assert "split     none: data.split=patient: " in said
    assert "all 3 can be read" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data", "check", "loss=bce"], "takes data=... and data.KEY=..., got 'loss=bce'"),
        (["data", "check", "data=nope"], "data=nope is not a choice; there are folders, nih"),
        (["data", "check", "data.nope=1"], "data.nope is not a setting"),
        (["data", "check", "data=siim_dicom"], "data.root must be given: data.root=..."),
        (["data", "check", "data=siim_dicom", "data.root=/nowhere"], "data.root: /nowhere is not there"),
    ],
)
def test_what_cannot_be_checked_is_refused_in_a_line(workdir: Path, words: list[str], said: str) -> None:
    with pytest.raises(InputError) as error:
        invoke(words)
    assert said in str(error.value)
    assert not list(workdir.iterdir())


def test_rows_that_cannot_be_used_are_in_their_order(workdir: Path) -> None:
    rows = "\n".join(f"{number}.png,{number % 2}" for number in range(40))
    words = table_of(
        workdir, f"image,label\n{rows}".replace("30.png,0", "none.png,0").replace("9.png,1", "9.png,2")
    )
    (workdir / "11.png").write_bytes(b"no picture")
    with pytest.raises(InputError) as error:
        invoke(words)
    lines = str(error.value).splitlines()[1:]
    assert [line.partition(":")[0] for line in lines] == [
        "  t.csv row 11",
        "  t.csv row 13",
        "  t.csv row 32",
    ]


def table_of(workdir: Path, text: str) -> list[str]:
    """The words that check a table of 40 images."""
    for number in range(40):
        Image.new("L", (16, 16), number).save(workdir / f"{number}.png")
    (workdir / "t.csv").write_text(text)
    return [
        "data",
        "check",
        "data=table",
        f"data.root={workdir}",
        "data.table=t.csv",
        "data.image_side_px=64",
    ]


def test_columns_are_said_and_patients_are_used(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "\n".join(f"{number}.png;{number // 2:03d};{number // 2 % 2}" for number in range(40))
    words = table_of(workdir, "Filename;Subject ID;has_pneumo\n" + rows)
    invoke(words)
    said = capsys.readouterr().out
    columns = "image=Filename, label=has_pneumo, patient=Subject ID; semicolons between its cells"
    assert f"columns   {columns}\n" in said
    assert "no patient in two of them" in said
    assert "looks like patients" not in said
    train = " ".join(["train     pneumo train", *words[2:]])
    assert said.splitlines()[-1] == train


@pytest.mark.parametrize(
    ("column", "more"), [("patient", ["data.columns.patient=none"]), ("patient", None), ("who", [])]
)
def test_patients_that_are_not_used_are_never_passed_over(
    workdir: Path, capsys: pytest.CaptureFixture[str], column: str, more: list[str] | None
) -> None:
    rows = "\n".join(f"{number}.png,q{number // 2},{number // 2 % 2}" for number in range(40))
    words = table_of(workdir, f"image,{column},label\n{rows}")
    invoke([*words, *(["data.columns.patient=null"] if more is None else more)])  # null, as in older runs
    said = capsys.readouterr().out
    assert "columns   image=image, label=label\n" in said
    used = f"data.columns.patient={column}"
    assert (
        f'the column "{column}" looks like patients (20 values for 40 images) and is not used: {used}' in said
    )
    assert "data.columns.patient=COLUMN or data.patients_csv=FILE names the patients" in said


def test_the_command_leaves_out_what_cannot_be_used_or_is_not_there_yet(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "\n".join(f"{number}.png,{number % 2}" for number in range(40))
    words = table_of(workdir, f"image,label\n{rows}\nnone.png,1")
    for on_error in ([], ["data.on_error=skip", "data.on_error=raise"]):
        with pytest.raises(InputError, match="1 rows cannot be used"):
            invoke([*words, *on_error])
        train = capsys.readouterr().out.splitlines()[-1]
        assert train == " ".join(["train     pneumo train", *words[2:], "data.on_error=skip"])
    invoke([*words, "data.on_error=skip"])  # as asked for, so that check && train goes on
    said = capsys.readouterr().out
    assert (
        "files     1 rows cannot be used and are left out:\n  t.csv row 42: none.png is not there\n" in said
    )
    assert said.splitlines()[-1] == train
    invoke(table_of(workdir, "image,label\n0.png,1\n1.png,0\n2.png,0"))
    assert "train     not yet: data.split=patient: " in capsys.readouterr().out
