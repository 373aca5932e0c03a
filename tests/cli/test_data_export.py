"""`pneumo data export` writes layouts that are read with the labels, patients, pixels and masks they had."""

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pneumo.cli.app import INTERRUPTED, invoke
from pneumo.data import export
from pneumo.data.dataset import Dataset, load_unsplit
from pneumo.errors import InputError
from pneumo.runs import config

PHANTOM = ["data.n_images=60", "data.image_side_px=64"]


def loaded(*overrides: str) -> Dataset:
    source = config.load(config.compose_train(overrides)).data
    return load_unsplit(source, lambda done, total: None)


def by_pixels(dataset: Dataset) -> dict[bytes, tuple[int, object, bytes]]:
    """The label, patient and lesion of each image."""
    masks = dataset.store.masks(np.arange(len(dataset.cohort)))
    table = dataset.cohort.table
    return {
        np.asarray(pixels).tobytes(): (label, patient, mask.tobytes())
        for pixels, label, patient, mask in zip(
            dataset.store.pixels, table["label"], table["patient_id"], masks, strict=True
        )
    }


@pytest.mark.parametrize("layout", export.LAYOUTS)
def test_an_export_is_read_as_what_was_exported(
    workdir: Path, capsys: pytest.CaptureFixture[str], layout: str
) -> None:
    invoke(["data", "export", "my demo", *PHANTOM, "--layout", layout])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("train ")]
    words = shlex.split(line.removeprefix("train"))
    assert words[:2] == ["pneumo", "train"]
    exported, phantom = loaded(*words[2:]), loaded(*PHANTOM)
    assert len(exported.cohort) == 60
    assert by_pixels(exported) == by_pixels(phantom)
    assert exported.cohort.notes == ()


@pytest.mark.parametrize("layout", export.LAYOUTS)
def test_an_export_can_be_checked_and_ends_with_the_command_that_trains(
    workdir: Path, capsys: pytest.CaptureFixture[str], layout: str
) -> None:
    invoke(["data", "export", "demo", *PHANTOM, "--layout", layout])
    said = capsys.readouterr().out.splitlines()
    (check,) = [shlex.split(line.removeprefix("check")) for line in said if line.startswith("check ")]
    invoke(check[1:])
    checked = capsys.readouterr().out.splitlines()
    assert checked[-1] == said[-1]  # the same command
    assert "under 1 s to decode 60 images, once, and 1 MB at 64 px in stores (estimated from 32" in checked[0]
    assert "for the 12 of model=tiny (estimated from " in checked[-2]
    assert checked[-2].endswith("images on cpu)")


def test_what_has_no_lesions_patients_or_plain_ids_is_exported_too(workdir: Path) -> None:
    invoke(["data", "export", "one", *PHANTOM])
    table = (workdir / "one" / "images.csv").read_text().replace("phantom-0-p", "ä/ö__")
    (workdir / "one" / "images.csv").write_text(table)
    read = ["data=table", "data.root=one", "data.table=images.csv", "data.image_side_px=64"]
    invoke(["data", "export", "two", *read, "data.columns.mask=none", "--layout", "folders"])
    assert sorted(path.name for path in (workdir / "two").iterdir()) == ["normal", "pneumothorax"]
    again = ["data=folders", "data.root=two", "data.image_side_px=64"]
    before, after = loaded(*read), loaded(*again, f'data.patient_pattern="{export.PATIENT_PATTERN}"')
    pairs = {key: (values[1], by_pixels(after)[key][1]) for key, values in by_pixels(before).items()}
    assert len(set(pairs.values())) == before.cohort.table["patient_id"].nunique()  # one name for each
    invoke(["data", "export", "three", *read, "data.columns.patient=none", "--layout", "folders"])
    assert not list((workdir / "three").rglob("*__*"))


def test_positives_without_a_lesion_are_exported_as_siim_png_too(workdir: Path) -> None:
    invoke(["data", "export", "one", *PHANTOM])
    table = pd.read_csv(workdir / "one" / "images.csv")
    positive = table.index[table["label"] == 1]
    table.loc[positive[:2], "mask"] = None
    table.to_csv(workdir / "one" / "images.csv", index=False)
    read = ["data=table", "data.root=one", "data.table=images.csv", "data.image_side_px=64"]
    invoke(["data", "export", "two", *read, "--layout", "siim_png"])
    again = ["data=siim_png", "data.root=two", "data.image_side_px=64", "data.patients_csv=patients.csv"]
    assert by_pixels(loaded(*again)) == by_pixels(loaded(*read))


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(workdir: Path) -> None:
    (workdir / "full").mkdir()
    (workdir / "full" / "mine.txt").touch()
    (workdir / "file").touch()
    with pytest.raises(InputError, match="full is not empty"):
        invoke(["data", "export", "full", *PHANTOM])
    with pytest.raises(InputError, match="file is a file"):
        invoke(["data", "export", "file", *PHANTOM])
    assert sorted(path.name for path in workdir.rglob("*")) == ["file", "full", "mine.txt"]
    (workdir / "empty").mkdir()
    invoke(["data", "export", "empty", *PHANTOM])
    assert (workdir / "empty" / "images.csv").is_file()


def test_nothing_half_written_stays(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, written = export._save, []

    def save_a_few(pixels: np.ndarray, path: Path) -> None:
        written.append(path)
        if len(written) == 9:
            raise KeyboardInterrupt
        if len(written) == 19:
            raise OSError(28, "No space left on device")
        save(pixels, path)

    def nothing_is_left() -> bool:
        return not list(workdir.rglob("*.png")) and not (workdir / "deep" / "demo").exists()

    monkeypatch.setattr(export, "_save", save_a_few)
    assert invoke(["data", "export", "deep/demo", *PHANTOM]) == INTERRUPTED
    assert nothing_is_left()
    with pytest.raises(InputError, match=r"deep/demo cannot be written .No space left on device"):
        invoke(["data", "export", "deep/demo", *PHANTOM])
    assert len(written) == 19
    assert nothing_is_left()


def test_json_has_the_overrides_that_read_it(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    invoke(["data", "export", "demo", *PHANTOM, "--json"])
    result = json.loads(capsys.readouterr().out)
    assert (result["images"], result["layout"]) == (60, "table")
    assert result["overrides"] == [
        *("data=table", "data.root=demo", "data.table=images.csv", "data.image_side_px=64")
    ]
