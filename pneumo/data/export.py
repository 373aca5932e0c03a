"""Writes the pictures of a data set as a folder in one of the layouts that a source reads."""

# N images; pixels and masks uint8

import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pneumo.data.cohort import Cohort
from pneumo.data.dataset import Dataset
from pneumo.errors import InputError

LAYOUTS = ("table", "folders", "siim_png")
PATIENT_PATTERN = "^(.+?)__"  # of the file names of the layout of folders


@dataclass(frozen=True)
class Files:
    """Where each image (N,) is written, relative to the folder of the export, and its mask if it has one."""

    images: list[str]
    masks: list[str]
    tables: Mapping[str, pd.DataFrame]  # by file name
    overrides: Mapping[str, str]  # of data.KEY=VALUE, with which the export is read
    without_lesion: Collection[str] = ()  # masks that the layout needs though no lesion is annotated


def need_empty(folder: Path) -> None:
    """InputError: the folder is there and not empty, or is no folder."""
    if folder.is_dir():
        if any(folder.iterdir()):
            raise InputError(f"{folder} is not empty: choose another folder to export to")
    elif os.path.lexists(folder):
        raise InputError(f"{folder} is a file: choose another folder to export to")


def export(
    dataset: Dataset, folder: Path, layout: str, on_progress: Callable[[int, int], None]
) -> Mapping[str, str]:
    """Writes all images and lesion masks of a data set as PNG files, with their tables, and returns the
    settings with which `data=LAYOUT` reads them. The folder is there when all of it is written, or not at
    all. InputError: it is not empty, or cannot be written to."""
    need_empty(folder)
    files = {"table": _table, "folders": _folders, "siim_png": _siim_png}[layout](dataset)
    partial = folder.absolute().with_name(f".{folder.absolute().name}.{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        _write(dataset, files, partial, on_progress)
        for name, table in files.tables.items():
            table.to_csv(partial / name, index=False)
        partial.replace(folder.absolute())
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return files.overrides


def _write(dataset: Dataset, files: Files, folder: Path, on_progress: Callable[[int, int], None]) -> None:
    store = dataset.store
    for number, (image, mask) in enumerate(zip(files.images, files.masks, strict=True)):
        _save(store.pixels[number], folder / image)
        if store.has_mask[number] or mask in files.without_lesion:
            _save(store.masks(np.array([number]))[0], folder / mask)
        on_progress(number + 1, len(files.images))


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path)


def _table(dataset: Dataset) -> Files:
    table, names = dataset.cohort.table, _names(dataset.cohort)
    images, masks = [f"images/{name}.png" for name in names], [f"masks/{name}.png" for name in names]
    columns = {
        "image": images,
        "patient": table["patient_id"],
        "label": table["label"],
        "mask": [mask if there else "" for mask, there in zip(masks, dataset.store.has_mask, strict=True)],
        "view": table["view"],
        "age": table["age"],
        "sex": table["sex"],
    }
    known = {name: cells for name, cells in columns.items() if not pd.Series(cells).isna().all()}
    if not dataset.store.has_mask.any():
        del known["mask"]
    return Files(images, masks, {"images.csv": pd.DataFrame(known)}, {"table": "images.csv"})


def _folders(dataset: Dataset) -> Files:
    table, overrides = dataset.cohort.table, {}
    patients = table["patient_id"]
    if patients.notna().any():
        overrides["patient_pattern"] = PATIENT_PATTERN
    if dataset.store.has_mask.any():
        overrides["masks"] = "masks"
    prefixes = ["" if pd.isna(patient) else f"{patient}__" for patient in _file_names(patients)]
    names = [f"{prefix}{name}" for prefix, name in zip(prefixes, _names(dataset.cohort), strict=True)]
    classes = ["pneumothorax" if label else "normal" for label in table["label"]]
    images = [f"{class_name}/{name}.png" for class_name, name in zip(classes, names, strict=True)]
    return Files(images, [f"masks/{name}.png" for name in names], {}, overrides)


def _siim_png(dataset: Dataset) -> Files:
    cohort = dataset.cohort
    table, tables, overrides = cohort.table, {}, {}
    releases = np.full(len(cohort), "train", dtype=object)
    releases[dataset.split.test] = "test"
    names = [
        f"{number}_{release}_{label}_.png"
        for number, (release, label) in enumerate(zip(releases, table["label"], strict=True))
    ]
    rows = pd.DataFrame({"new_filename": names, "ImageId": table["image_id"], "has_pneumo": table["label"]})
    for release in ("train", "test"):
        tables[f"stage_1_{release}_images.csv"] = rows[releases == release]
    if table["patient_id"].notna().any():
        of_patients = table[["image_id", "patient_id", "view", "age", "sex"]]
        tables["patients.csv"] = of_patients.dropna(axis=1, how="all")
        overrides["patients_csv"] = "patients.csv"
    images, masks = [f"png_images/{name}" for name in names], [f"png_masks/{name}" for name in names]
    positives = {mask for mask, label in zip(masks, table["label"], strict=True) if label}
    return Files(images, masks, tables, overrides, positives)


def _names(cohort: Cohort) -> list[str]:
    """Returns names of files (N,) that are unique: those of the image ids, as far as these can be."""
    stems = cohort.table["image_id"].map(
        lambda name: re.sub(r"\.(png|jpe?g|dcm|tiff?)$", "", name, flags=re.I)
    )
    names = stems.str.replace(r"[^\w.-]+", "-", regex=True).str.strip("-.")
    width = len(str(len(names)))
    if names.str.lower().duplicated().any() or (names == "").any() or (names.str.len() > 100).any():
        return [f"{number:0{width}}" for number in range(1, len(names) + 1)]
    return names.tolist()


def _file_names(patients: pd.Series) -> pd.Series:
    """Returns patients (N,) as parts of file names: their ids, or numbers where one is no name of a file."""
    if patients.dropna().str.fullmatch(r"(?!.*__)[\w.-]{1,60}(?<!_)").all():
        return patients
    numbers, _ = pd.factorize(patients)
    return pd.Series([f"P{number + 1}" for number in numbers], index=patients.index).where(patients.notna())
