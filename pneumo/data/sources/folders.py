"""Folders of images, one for each class, without a table."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import ClassVar

import pandas as pd

from pneumo.data.cohort import Cohort
from pneumo.data.columns import MOST_SHARE
from pneumo.data.files import counted, has_image, image_files
from pneumo.data.labels import meaning, positive_name
from pneumo.data.locate import alike, folders_of, stem_of
from pneumo.data.sources.base import COLUMN_VALUES, OnDisk
from pneumo.data.validate import NO_ROW
from pneumo.errors import InputError, hydra_word, one_line

MASKS = ("mask", "masks", "segmentation", "segmentations", "lesions")  # no classes
OF_RUNS = ("mlruns", "outputs", "multirun")  # no classes either; runs leave them where they are started
MASK_ENDINGS = ("", "_mask", "-mask", "_seg", "-seg")
LIKELY_PATIENT = r"^(.+?)[_-]"  # proposed where it gives fewer patients than images


@dataclass(kw_only=True)
class Folders(OnDisk):
    """A folder for each class, in `images` under root, such as pos/ and neg/. `positive` names the positive
    one, where that cannot be known. `patient_pattern` is a regular expression that is searched for in the
    name of a file and whose group is the patient. `masks` is a folder that holds the lesions of positive
    images under the same names. Where the folders of classes lie in folders train, val and test, these are
    the column `part` for split=column."""

    names_patients: ClassVar[str] = "data.patient_pattern=REGEX or data.patients_csv=FILE"

    images: str = "."
    positive: str | int | None = None
    patient_pattern: str | None = None
    masks: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patient_pattern is None:
            return
        try:
            pattern = re.compile(self.patient_pattern)
        except re.error as error:
            message = f"data.patient_pattern is {self.patient_pattern!r}, no regular expression: {error}"
            raise InputError(message) from None
        if not pattern.groups:
            raise InputError(
                f"data.patient_pattern is {self.patient_pattern!r}, must have a group for the patient, as in "
                "'^([^_]+)_'"
            )

    def __call__(self) -> Cohort:
        root = self.folder()
        files, left_out = self._files(root)
        positive = positive_name(sorted(files["class"].unique()), str(root / self.images), self.positive)
        is_positive = files["class"] == positive
        draft = self.draft(files, "", image=files["path"]).assign(
            image_id=files["path"],
            file=files["path"],
            row=NO_ROW,
            label=is_positive.map({True: "1", False: "0"}),
        )
        others = ", ".join(sorted(set(files["class"]) - {positive}))
        columns, notes = [f"{positive} is positive, {others} negative"], []
        if left_out:
            notes.append(f"left out: {counted(left_out)}")
        names = files["path"].map(lambda path: PurePosixPath(path).name)
        if self.patient_pattern is None:
            notes += self._proposed_pattern(names)
        else:
            draft["patient_id"] = patients = self._patients(names)
            columns.append(
                f"patient={self.patient_pattern} of the file name, e.g. {patients.dropna().iloc[0]}"
            )
            if unknown := int(patients.isna().sum()):
                example = one_line(names[patients.isna()].iloc[0])
                notes.append(f"{unknown:,} file names do not match data.patient_pattern, e.g. {example}")
        if self.masks is not None:
            draft["mask"], lacking = self._masks(root, files[is_positive])
            columns.append(f"mask={self.masks}")
            notes += lacking
        elif unused := sorted(path.name for path in root.iterdir() if path.name.lower() in MASKS):
            notes.append(f"the folder {unused[0]} is not used: data.masks={unused[0]}")
        cohort = self.cohort("folders", draft, "the folder")
        return replace(cohort, columns="; ".join(columns), notes=(*notes, *cohort.notes))

    def _files(self, root: Path) -> tuple[pd.DataFrame, Counter[str]]:
        """Returns the path of each file, its class, its paths below `images` and in the folder of its class,
        and perhaps its part, and how many of what else is there. InputError: there are no two folders of
        images."""
        tops = [root / folder for folder in folders_of(root, self.images, "data.images")]
        parts = {part: top for top in tops for part in self._subfolders(root, top)}
        are_parts = bool(parts) and all(folder.name.lower() in COLUMN_VALUES for folder in parts)
        rows, left_out = [], Counter[str]()
        for above, top in (parts if are_parts else dict(zip(tops, tops, strict=True))).items():
            classes = self._subfolders(root, above)
            if len(classes) < 2:
                raise InputError(self._no_classes(above, classes))
            if self.positive is None and (deeper := self._deeper_classes(root, classes)):
                raise InputError(
                    f"data.images: the folders of {above} are no classes, but those of {deeper} are: "
                    f"data.images={Path(self.images, deeper.name)}?"
                )
            for folder in classes:
                found, others = image_files([str(folder)])
                left_out += others
                for path in map(Path, found):
                    inside, below = str(path.relative_to(folder)), str(path.relative_to(top))
                    rows.append((str(path.relative_to(root)), folder.name, below, inside, above.name))
        files = pd.DataFrame(rows, columns=["path", "class", "below", "inside", "part"])
        return files if are_parts else files.drop(columns="part"), left_out

    def _subfolders(self, root: Path, above: Path) -> list[Path]:
        """Returns the folders that may be classes, sorted: those that hold images, which are no masks."""
        masks = {root / self.masks} if self.masks is not None else set()
        return sorted(
            path
            for path in above.iterdir()
            if path.is_dir()
            and not path.name.startswith(".")
            and path.name.lower() not in (*MASKS, *OF_RUNS)
            and path not in masks
            and has_image(path)
        )

    def _deeper_classes(self, root: Path, folders: Sequence[Path]) -> Path | None:
        """Returns the one of these folders whose own folders are named as classes are, where their names are
        not; None: there is none."""
        if any(meaning(folder.name) for folder in folders):
            return None
        found = [
            folder
            for folder in folders
            if {meaning(inner.name) for inner in self._subfolders(root, folder)} >= {"0", "1"}
        ]
        return found[0] if len(found) == 1 else None

    def _no_classes(self, above: Path, there: Sequence[Path]) -> str:
        """Returns that a folder does not hold two classes, and which of its folders does."""
        text = f"data.images: {above} must have a folder for each class, such as pos/ and neg/; it has "
        if not there:
            return f"{text}no folder"
        inside = self._subfolders(above, there[0])
        better = Path(self.images, there[0].name)
        hint = f": data.images={better}?" if len(inside) > 1 else ""
        return f"{text}{there[0].name}/ alone{hint}"

    def _patients(self, names: pd.Series) -> pd.Series:
        """Returns the patient of each file, missing where its name does not match. InputError: none does."""
        matches = [re.search(str(self.patient_pattern), name) for name in names]
        patients = [next(filter(None, match.groups()), None) if match else None for match in matches]
        if not any(patients):
            raise InputError(
                f"data.patient_pattern={self.patient_pattern!r} matches none of the {len(names):,} file "
                f"names, e.g. {one_line(names.iloc[0])}"
            )
        return pd.Series(patients, index=names.index, dtype=object)

    def _proposed_pattern(self, names: pd.Series) -> list[str]:
        """Returns a note on file names that look as if they began with the patient."""
        first = names.str.extract(LIKELY_PATIENT)[0]
        n_values = first.nunique()
        if self.patients_csv or first.isna().any() or not 2 < n_values <= MOST_SHARE * len(names):
            return []
        pattern = hydra_word("data.patient_pattern", LIKELY_PATIENT)
        return [
            f"file names begin with {n_values:,} different texts before _ or -, as in "
            f"{one_line(names.iloc[0])}; if these are patients: {pattern}"
        ]

    def _masks(self, root: Path, files: pd.DataFrame) -> tuple[pd.Series, list[str]]:
        """Returns the mask of each of these files, missing where there is none, and a note on those.
        InputError: none has one."""
        assert self.masks is not None
        there = {
            _without_ending(str(Path(path).relative_to(root / folder))): str(Path(path).relative_to(root))
            for folder in folders_of(root, self.masks, "data.masks")
            for path in image_files([str(root / folder)])[0]
        }

        def mask_of(path: str, below: str, inside: str) -> str | None:
            names = (_without_ending(name) for name in (below, inside, PurePosixPath(path).name))
            each = (there.get(f"{name}{ending}") for name in names for ending in MASK_ENDINGS)
            return next(filter(None, each), None)

        paths = zip(files["path"], files["below"], files["inside"], strict=True)
        masks = pd.Series([mask_of(*names) for names in paths], index=files.index, dtype=object)
        lacking = int(masks.isna().sum())
        if lacking == len(masks):
            raise InputError(
                f"data.masks: none of {len(masks):,} positive images has a mask of its name in "
                f"{root / self.masks}, e.g. {one_line(files['path'].iloc[0])}"
            )
        return masks, [f"{lacking:,} of {len(masks):,} positive images have no mask"] if lacking else []


def _without_ending(name: str) -> str:
    """Returns what is alike of a path without the ending of an image."""
    return str(PurePosixPath(alike(name)).with_name(stem_of(name)))
