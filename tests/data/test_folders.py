"""Folders of classes: labels by folder, patients by file name, masks in a folder beside."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo.data.cohort import Cohort
from pneumo.data.decode.images import FilePixels, ImageFile
from pneumo.data.sources.folders import Folders
from pneumo.data.store import open_store
from pneumo.errors import InputError
from pneumo.runs import config


def draw(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number + 9).save(root / name)


def source(root: Path, **fields: object) -> Folders:
    return Folders(root=str(root), image_side_px=8, **fields)


def images(cohort: Cohort) -> list[ImageFile]:
    assert isinstance(cohort.pixels, FilePixels)
    return list(cohort.pixels.images)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    draw(tmp_path, "pos/p1_a.png", "pos/p2_a.PNG", "neg/p1_b.png", "neg/deep/p3_a.jpg", "masks/p1_a_mask.png")
    (tmp_path / "neg" / "Thumbs.db").touch()
    return tmp_path


def test_labels_are_those_of_the_folders(root: Path) -> None:
    cohort = source(root)()
    labels = dict(zip(cohort.table["image_id"], cohort.table["label"], strict=True))
    assert labels == {"neg/deep/p3_a.jpg": 0, "neg/p1_b.png": 0, "pos/p1_a.png": 1, "pos/p2_a.PNG": 1}
    assert cohort.columns == "pos is positive, neg negative"
    assert cohort.table["patient_id"].isna().all()
    assert cohort.table["where"].tolist() == cohort.table["image_id"].tolist()


def test_a_root_that_is_one_folder_too_high_is_refused_with_the_one_that_is_meant(tmp_path: Path) -> None:
    draw(tmp_path, "mine/pos/a.png", "mine/neg/b.png", "pictures/c.png", "pictures/d.png")
    with pytest.raises(InputError, match=r"but those of .*mine are: data.images=mine\?"):
        source(tmp_path)()
    assert len(source(tmp_path, images="mine")().table) == 2


def test_what_is_left_out_or_not_used_is_said(root: Path) -> None:
    notes = source(root)().notes
    assert "left out: 1 .db" in notes
    assert "the folder masks is not used: data.masks=masks" in notes
    (proposed,) = [note for note in notes if "if these are patients" in note]
    assert "3 different texts before _ or -" in proposed
    assert proposed.endswith("""'data.patient_pattern="^(.+?)[_-]"'""")


def test_patients_are_what_the_pattern_finds_in_file_names(root: Path) -> None:
    cohort = source(root, patient_pattern=r"^p(\d+)_")()
    assert cohort.table["patient_id"].tolist() == ["1", "3", "1", "2"]
    some = source(root, patient_pattern=r"(p[12])_")()
    assert some.table["patient_id"].isna().sum() == 1
    assert "1 file names do not match data.patient_pattern, e.g. p3_a.jpg" in some.notes
    with pytest.raises(InputError, match=r"'X\(y\)' matches none of the 4 file names, e.g. p1_b.png"):
        source(root, patient_pattern="X(y)")()


@pytest.mark.parametrize(("pattern", "said"), [("(", "no regular expression"), ("a", "must have a group")])
def test_a_pattern_that_finds_no_patient_is_refused(root: Path, pattern: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        source(root, patient_pattern=pattern)


def test_masks_are_those_of_the_names_of_positive_images(root: Path) -> None:
    draw(root, "masks/p1_b.png")  # of a negative
    cohort = source(root, masks="masks")()
    masks = {image.image: image.mask for image in images(cohort) if image.mask}
    assert masks == {"pos/p1_a.png": "masks/p1_a_mask.png"}
    assert "1 of 2 positive images have no mask" in cohort.notes
    (root / "masks" / "p1_a_mask.png").rename(root / "masks" / "x.png")
    with pytest.raises(InputError, match="none of 2 positive images has a mask of its name"):
        source(root, masks="masks")()


def test_masks_may_lie_in_folders_of_classes_too(tmp_path: Path) -> None:
    draw(tmp_path, "img/pos/1.png", "img/neg/1.png", "seg/pos/1.png", "seg/neg/1.png")
    cohort = source(tmp_path, images="img", masks="seg")()
    assert [image.mask for image in images(cohort)] == [None, "seg/pos/1.png"]


def test_a_pattern_reads_all_its_folders_with_their_masks(tmp_path: Path) -> None:
    draw(tmp_path, *(f"part_{part}/{name}/{part}.png" for part in (1, 2) for name in ("pos", "neg")))
    draw(tmp_path, "masks_1/pos/1.png", "masks_2/pos/2.png")
    for pattern in ("part_*", str(tmp_path / "part_*")):
        cohort = source(tmp_path, images=pattern, masks="masks_*")()
        assert cohort.table["label"].tolist() == [0, 1, 0, 1]
        assert [image.mask for image in images(cohort)] == [
            None,
            "masks_1/pos/1.png",
            None,
            "masks_2/pos/2.png",
        ]


def test_masks_are_found_below_images_that_are_named_by_their_whole_path(tmp_path: Path) -> None:
    draw(tmp_path, "img/pos/1.png", "img/neg/1.png", "seg/pos/1.png")
    cohort = source(tmp_path, images=str(tmp_path / "img"), masks="seg")()
    assert [image.mask for image in images(cohort)] == [None, "seg/pos/1.png"]


def test_folders_of_train_and_test_are_a_column_for_the_split(tmp_path: Path) -> None:
    names = [f"{part}/{folder}/1.png" for part in ("train", "test") for folder in ("NORMAL", "PTX")]
    draw(tmp_path, *names)
    cohort = source(tmp_path, split="column", split_column="part")()
    assert cohort.table["image_id"].tolist() == sorted(names)
    assert cohort.table["part"].tolist() == ["test", "test", "train", "train"]
    assert cohort.table["label"].tolist() == [0, 1, 0, 1]


def test_which_folder_is_positive_is_named_where_it_is_not_known(tmp_path: Path) -> None:
    draw(tmp_path, "a/1.png", "b/1.png", "c/1.png")
    with pytest.raises(
        InputError, match=r"which of a, b, c is positive is not known; name it: data.positive=a "
    ):
        source(tmp_path)()
    assert source(tmp_path, positive="b")().table["label"].tolist() == [0, 1, 0]


def test_a_folder_named_by_a_number_can_be_the_positive_one(tmp_path: Path) -> None:
    draw(tmp_path, "1/a.png", "2/b.png")
    with pytest.raises(InputError, match=r"name it: data.positive=1 or data.positive=2$"):
        source(tmp_path)()
    words = ["data=folders", f"data.root={tmp_path}", "data.image_side_px=8", "data.positive=2"]
    assert config.load(config.compose_train(words)).data().table["label"].tolist() == [0, 1]


def test_one_folder_is_no_class_and_the_folder_above_classes_is_proposed(tmp_path: Path) -> None:
    draw(tmp_path, "data/pos/1.png", "data/neg/1.png")
    with pytest.raises(InputError, match=r"it has data/ alone: data.images=data\?"):
        source(tmp_path)()
    with pytest.raises(InputError, match="it has no folder"):
        source(tmp_path, images="data/pos")()


def test_files_that_cannot_be_read_are_listed_by_their_path(root: Path, tmp_path: Path) -> None:
    (root / "neg" / "p1_b.png").write_bytes(b"no picture")  # a store in the root is no class
    with pytest.raises(InputError) as error:
        open_store(source(root)(), 8, tmp_path / "stores", "raise", lambda done, total: None)
    lines = str(error.value).splitlines()
    assert lines[0] == f"{root}: 1 of 4 images cannot be used:"
    assert lines[1].startswith("  neg/p1_b.png is not a readable image")
    cohort, _ = open_store(source(root)(), 8, tmp_path / "stores", "skip", lambda done, total: None)
    assert len(cohort) == 3
    assert np.unique(cohort.table["label"]).tolist() == [0, 1]
