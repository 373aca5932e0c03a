"""Every source gives the same kind of table; the SIIM, NIH and phantom sources read what is really there."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo.data.cohort import CORE, Cohort
from pneumo.data.decode.images import FilePixels, ImageFile
from pneumo.data.sources.nih import Nih
from pneumo.data.sources.phantom import Phantom
from pneumo.data.sources.siim import SiimPng, read_rle
from pneumo.data.sources.table import Table
from pneumo.errors import InputError


def draw(path: Path, value: int = 9) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), value).save(path)


@pytest.fixture
def siim(tmp_path: Path) -> Path:
    """Four pictures whose file names lie about their labels."""
    for release in ("train", "test"):
        rows = [f"0_{release}_1_.png,{release}.0,0", f"1_{release}_0_.png,{release}.1,1"]
        (tmp_path / f"stage_1_{release}_images.csv").write_text(
            "\n".join(["new_filename,ImageId,has_pneumo", *rows])
        )
        for number in range(2):
            draw(tmp_path / "png_images" / f"{number}_{release}_{1 - number}_.png")
        draw(tmp_path / "png_masks" / f"1_{release}_0_.png", 255)
    return tmp_path


@pytest.fixture
def nih(tmp_path: Path) -> Path:
    (tmp_path / "Data_Entry_2017.csv").write_text(
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
        "1_0.png,No Finding,0,1,058Y,M,PA\n"
        "1_1.png,Effusion|Pneumothorax,1,1,414Y,M,AP\n"
        "2_0.png,Effusion,0,2,12,F,AP\n"
    )
    draw(tmp_path / "images_001" / "images" / "1_0.png")
    draw(tmp_path / "images_001" / "images" / "1_1.png")
    draw(tmp_path / "images_002" / "images" / "2_0.png")
    return tmp_path


def nih_source(root: Path, **fields: object) -> Nih:
    chosen = {"table": "Data_Entry_2017.csv", "images": "images_*/images", **fields}
    return Nih(root=str(root), image_side_px=8, **chosen)


def test_siim_labels_come_from_the_tables_never_from_file_names(siim: Path) -> None:
    cohort = SiimPng(root=str(siim), image_side_px=8)()
    assert cohort.table["image_id"].tolist() == ["train.0", "train.1", "test.0", "test.1"]
    assert cohort.table["label"].tolist() == [0, 1, 0, 1]
    assert cohort.table["where"].iloc[2] == "stage_1_test_images.csv row 2"


def test_siim_reads_masks_of_positives_only(siim: Path) -> None:
    pixels = SiimPng(root=str(siim), image_side_px=8)().pixels
    assert isinstance(pixels, FilePixels)
    masks = [picture.mask for picture in pixels.images]
    assert masks == [None, "png_masks/1_train_0_.png", None, "png_masks/1_test_0_.png"]


def test_siims_own_release_can_be_the_split(siim: Path) -> None:
    cohort = SiimPng(root=str(siim), image_side_px=8, split="column", split_column="release")()
    assert cohort.table["release"].tolist() == ["train", "train", "test", "test"]


def test_a_missing_siim_mask_or_table_is_named(siim: Path) -> None:
    (siim / "png_masks" / "1_test_0_.png").unlink()
    with pytest.raises(
        InputError, match=r"stage_1_test_images.csv: 1 of 2 .*\n  row 3  png_masks/1_test_0_.png is"
    ):
        SiimPng(root=str(siim), image_side_px=8)()
    (siim / "stage_1_test_images.csv").unlink()
    with pytest.raises(InputError, match=r"stage_1_test_images.csv is not there"):
        SiimPng(root=str(siim), image_side_px=8)()


def test_problems_in_two_tables_are_told_together(siim: Path) -> None:
    for name in ("0_train_1_.png", "0_test_1_.png"):
        (siim / "png_images" / name).unlink()
    with pytest.raises(InputError) as error:
        SiimPng(root=str(siim), image_side_px=8)()
    assert str(error.value).splitlines()[:3] == [
        f"{siim}: 2 of 4 rows cannot be used:",
        "  stage_1_train_images.csv row 2  png_images/0_train_1_.png is not there",
        "  stage_1_test_images.csv row 2   png_images/0_test_1_.png is not there",
    ]


def test_nih_reads_findings_patients_and_twelve_folders(nih: Path) -> None:
    cohort = nih_source(nih)()
    assert cohort.table["label"].tolist() == [0, 1, 0]
    assert cohort.table["patient_id"].tolist() == ["1", "1", "2"]
    assert cohort.table["view"].tolist() == ["PA", "AP", "AP"]
    assert cohort.table["sex"].tolist() == ["M", "M", "F"]
    np.testing.assert_allclose(cohort.table["age"].to_numpy(float), [58, np.nan, 12])
    assert isinstance(cohort.pixels, FilePixels)
    assert cohort.pixels.images[2] == ImageFile("images_002/images/2_0.png")


def test_any_nih_finding_can_be_asked_for_and_an_unknown_one_names_those_there(nih: Path) -> None:
    assert nih_source(nih, finding="Effusion")().table["label"].tolist() == [0, 1, 1]
    with pytest.raises(InputError, match=r'data.finding is "Oedema"; .* has: Effusion, Pneumothorax'):
        nih_source(nih, finding="Oedema")()


def test_nih_names_what_is_missing(nih: Path) -> None:
    with pytest.raises(InputError, match=r'data.images: no folder "pictures" in'):
        nih_source(nih, images="pictures")()
    with pytest.raises(InputError, match=r"must be relative to data.root"):
        nih_source(nih, images="/pictures/*")()
    (nih / "images_002" / "images" / "2_0.png").unlink()
    with pytest.raises(InputError, match=r"row 4  images_\*/images/2_0.png is not there"):
        nih_source(nih)()


def table_source(root: Path, text: str, **fields: object) -> Table:
    (root / "t.csv").write_text(text)
    for name in "abc":
        draw(root / "pictures" / f"{name}.png")
        draw(root / "masks" / f"{name}.png", 255)
    return Table(root=str(root), table="t.csv", images="pictures", image_side_px=8, **fields)


def test_a_table_may_call_its_columns_anything(tmp_path: Path) -> None:
    text = "file,sick,who,lesion,how\na.png,1,p,a.png,AP\nb.png,0,q,b.png,PA\nc.png,1,q,,PA\n"
    columns = {
        "image": "file",
        "label": "sick",
        "patient": "who",
        "mask": "lesion",
        "view": "how",
        "rle": None,
    }
    cohort = table_source(tmp_path, text, columns=columns, masks="masks")()
    assert cohort.table["view"].tolist() == ["AP", "PA", "PA"]
    assert isinstance(cohort.pixels, FilePixels)
    assert list(cohort.pixels.images) == [
        ImageFile("pictures/a.png", mask="masks/a.png"),
        ImageFile("pictures/b.png"),  # a negative has no lesion to draw
        ImageFile("pictures/c.png"),
    ]


def test_columns_a_table_does_not_name_are_not_read(tmp_path: Path) -> None:
    columns = {"image": "image", "label": "label", "mask": None, "rle": "none"}
    text = "image,label,mask,rle,row,file\na.png,1,x,y,1,z\nb.png,0,,,2,\n"
    cohort = table_source(tmp_path, text, columns=columns)()
    assert cohort.table["where"].tolist() == ["t.csv row 2", "t.csv row 3"]
    assert isinstance(cohort.pixels, FilePixels)
    assert list(cohort.pixels.images) == [ImageFile("pictures/a.png"), ImageFile("pictures/b.png")]


def test_codes_of_several_rows_belong_to_one_image_and_can_be_its_label(tmp_path: Path) -> None:
    columns = {"image": "image", "rle": "EncodedPixels"}
    text = "image, EncodedPixels\na.png,0 3\nb.png,-1\na.png, 9 2\n"
    cohort = table_source(tmp_path, text, columns=columns, rle_side_px=1024)()
    assert cohort.table["label"].tolist() == [1, 0]
    assert cohort.notes == ()
    assert isinstance(cohort.pixels, FilePixels)
    assert cohort.pixels.images[0] == ImageFile("pictures/a.png", rle=("0 3", "9 2"), rle_side_px=1024)


def test_a_negative_with_a_lesion_is_refused(tmp_path: Path) -> None:
    columns = {"image": "image", "label": "label", "rle": "rle"}
    source = table_source(tmp_path, "image,label,rle\na.png,0,0 3\nb.png,1,0 3\n", columns=columns)
    with pytest.raises(InputError, match="row 2  label is 0, but its run-length code has a lesion"):
        source()


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data.root: .*/nowhere is not there"):
        SiimPng(root=str(tmp_path / "nowhere"), image_side_px=8)()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"data.root: .*/file is not a folder"):
        SiimPng(root=str(tmp_path / "file"), image_side_px=8)()


def test_a_missing_split_column_names_those_there(siim: Path) -> None:
    with pytest.raises(
        InputError, match='no column "fold"; it has: new_filename, ImageId, has_pneumo, release'
    ):
        SiimPng(root=str(siim), image_side_px=8, split="column", split_column="fold")()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"split": "pateint"}, "data.split must be one of patient, image, column, folds, got 'pateint'"),
        ({"normalise": "zscore"}, "must be one of half, train, none, imagenet"),
        ({"on_error": "ignore"}, "must be one of raise, skip"),
        ({"image_side_px": 0}, "must be at least 64 and at most 1024, got 0"),
        ({"image_side_px": 96.5}, "must be a whole number"),
        ({"image_side_px": 32}, "data.image_side_px must be at least 64 and at most 1024, got 32"),
        ({"folds": 2}, "data.folds must be at least 3, got 2"),
        ({"fold": 5}, "data.fold is 5, must be below data.folds=5"),
        ({"split": "column"}, "needs data.split_column"),
        ({"num_workers": -1}, "data.num_workers must be at least 0, got -1"),
    ],
)
def test_a_wrong_field_is_refused_with_its_choices(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Phantom(**{"image_side_px": 128, **fields})


@pytest.mark.parametrize(
    "columns",
    [
        {"label": "label"},
        {"image": "image"},
        {"image": "i", "label": "l", "mask": "m", "rle": "r"},
        {"img": "i"},
    ],
)
def test_a_table_must_name_the_columns_that_matter(columns: dict[str, str | None]) -> None:
    with pytest.raises(InputError, match=r"data\.columns"):
        Table(root="x", table="t.csv", image_side_px=8, columns=columns)


def test_the_phantom_is_a_source_like_any_other() -> None:
    source = Phantom(image_side_px=64, n_images=24)
    cohort = source()
    assert cohort.table.columns.tolist() == list(CORE)
    assert len(cohort) == 24
    blocks = list(cohort.pixels.blocks(64))
    has_mask = np.concatenate([block.has_mask for block in blocks])
    assert (has_mask == (cohort.table["label"] == 1)).all()
    assert sum(len(block.pixels) for block in blocks) == 24
    assert sum(len(block.masks) for block in blocks) == has_mask.sum()


def test_equal_digests_of_the_phantom_are_equal_pictures_and_only_those() -> None:
    def drawn(**fields: int) -> tuple[Cohort, np.ndarray, np.ndarray]:
        """The cohort, its digests and its pixels."""
        cohort = Phantom(image_side_px=64, **{"n_images": 40, **fields})()
        pixels = np.concatenate([block.pixels for block in cohort.pixels.blocks(64)])
        return cohort, cohort.pixels.digests(), pixels

    cohort, digests, pixels = drawn()
    assert (drawn()[1] == digests).all()
    assert len(set(digests[:, 0].tolist())) == 40
    assert ((digests[:, 1] != 0) == (cohort.table["label"] == 1)).all()
    for other in ({"seed": 1}, {"n_images": 41}):
        cohort_2, digests_2, pixels_2 = drawn(**other)
        assert cohort_2.namespace != cohort.namespace
        alike = (digests_2[:40] == digests).all(axis=1)
        assert (alike == (pixels_2[:40] == pixels).all(axis=(1, 2))).all()
        assert alike.sum() < 40


@pytest.mark.parametrize(
    "text",
    [
        "ImageId, EncodedPixels\nx,1 2\ny,-1\nx,5 1\n",
        "ImageId,EncodedPixels\nx, 1 2\ny, -1\nx, 5 1\n",
        "\ufeffx,1 2\ny,-1\nx,5 1\n",
    ],
)
def test_siim_annotations_are_read_however_the_copy_is_written(tmp_path: Path, text: str) -> None:
    (tmp_path / "rle.csv").write_text(text)
    table = read_rle(tmp_path / "rle.csv")
    assert table["ImageId"].tolist() == ["x", "y", "x"]
    assert table["EncodedPixels"].tolist() == ["1 2", "-1", "5 1"]


def test_sources_are_imported_without_torch_and_pillow() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import sys, pneumo.data.sources; print({'torch', 'PIL'} & set(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "set()"
