"""Computes identities from content: of the images of a data set, of their split, of a configuration.

Two things are the same if their identities are equal, whatever their paths, names and order of rows are. All
code that reuses a result (a cache, a checkpoint, a run, a study) compares identities first. FORMAT is part of
each, so that identities that are computed in different ways are never equal.
"""

# N images; hashes are those of data/contents, 64 bits as int64, 0 where there is no content

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from pneumo.data.contents import FORMAT, digest, hash_of

if TYPE_CHECKING:
    from torch import Tensor

    from pneumo.data.cohort import Cohort
    from pneumo.data.dataset import Dataset

Hashes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
TRAIN, VAL, TEST = 1, 2, 4  # bits of `DatasetIdentity.split`; an image of fit.few_images has all three

BESIDE = (  # parameters that do not affect the weights
    *("resume", "tta", "data.store_dir", "data.num_workers"),
    *("fit.test", "fit.pictures", "fit.checkpoint_minutes", "fit.profile", "model.allow_leak"),
)
# later parameters, with the value at which all is as it was without them
ADDED: dict[str, Any] = {
    "data.style": "default",
    "data.positive": None,
    "fit.rescue": False,
    "model.stem_width": None,
}
PLACES = ("data.root", "data.patients_csv")  # paths of data, which are compared by content
COLUMNS = (
    "data.columns."  # begins the names of columns, of which the cells are compared, not what they are called
)


def text_hashes(names: Iterable[object], namespace: str = "") -> Hashes:
    """(N,) hashes of texts; 0 for those that are missing."""
    texts = (f"{namespace}\0{name}" if isinstance(name, str) else None for name in names)
    return np.array(
        [0 if text is None else hash_of(text.encode(errors="surrogatepass")) for text in texts], np.int64
    )


def images_are(number: int) -> str:
    """1 image is, 2,000 images are."""
    return f"{number:,} image{' is' if number == 1 else 's are'}"


@dataclass(frozen=True)
class Columns:
    """A dataclass whose fields are arrays; it is stored in checkpoints as tensors."""

    def state(self) -> "dict[str, Tensor]":
        """The fields as tensors, by name."""
        import torch

        return {column.name: torch.from_numpy(getattr(self, column.name)) for column in fields(self)}

    @classmethod
    def from_state(cls, state: "Mapping[str, Tensor]") -> Self:
        """The inverse of `state`."""
        return cls(**{column.name: state[column.name].numpy() for column in fields(cls)})


# ---- images


@dataclass(frozen=True)
class DatasetIdentity(Columns):
    """The images of a data set, (N,) each, in ascending order of `image`: hashes of the image id, the patient
    id, the content of the image file and its lesion (0: none), the label (0 or 1), and the sum of TRAIN, VAL
    and TEST over the splits that contain the image."""

    image: Hashes
    patient: Hashes
    content: Hashes
    lesion: Hashes
    label: Hashes
    split: Hashes

    @classmethod
    def of(cls, dataset: "Dataset") -> Self:
        """Computes the identity of a loaded data set."""
        cohort, split = dataset.cohort, dataset.split
        member = np.zeros(len(cohort), np.int64)
        for bit, name in ((TRAIN, "train"), (VAL, "val"), (TEST, "test")):
            member[np.asarray(getattr(split, name), int)] |= bit
        order = order_of(cohort)
        columns = (
            text_hashes(cohort.table["image_id"], cohort.namespace),
            text_hashes(cohort.table["patient_id"], cohort.patient_namespace),
            *dataset.store.digests.T,
            dataset.labels.astype(np.int64),
            member,
        )
        return cls(*(column[order] for column in columns))

    @property
    def data(self) -> dict[str, str]:
        """The identity of each aspect of the data, 16 hexadecimal digits."""
        columns = {
            "images": (),
            "contents": (self.content,),
            "labels": (self.label,),
            "lesions": (self.lesion,),
            "patients": (self.patient,),
        }
        return {aspect: digest(self.image, *column)[:16] for aspect, column in columns.items()}

    @property
    def data_identity(self) -> str:
        """The identity of images, labels, lesions and patients, such as 1-0123456789abcdef."""
        return f"{FORMAT}-{digest(self.data)[:16]}"

    @property
    def aspects(self) -> dict[str, str]:
        """The identity of each aspect of the data and of the split, of which a study stores nothing else."""
        return {**self.data, "split": self.split_identity}

    @property
    def split_identity(self) -> str:
        """The identity of which image, with its label, is in which split."""
        return f"{FORMAT}-{digest(self.image, self.label, self.split)[:16]}"

    @property
    def test_identity(self) -> str:
        """The identity of the images of the test split, by which its evaluations are counted."""
        return f"{FORMAT}-{digest(np.sort(self.content[self.among(TEST)]))[:16]}"

    def among(self, split: int) -> Mask:
        """(N,) whether each image is in TRAIN, VAL or TEST."""
        return (self.split & split) > 0

    def where(self, image: Hashes) -> tuple[Hashes, Mask]:
        """(M,) rows of these hashes of image ids, and (M,) whether each is there."""
        if not len(self.image):
            return np.zeros(len(image), np.int64), np.zeros(len(image), bool)
        rows = np.minimum(np.searchsorted(self.image, image), len(self.image) - 1)
        return rows, self.image[rows] == image

    def split_of(self, others: "DatasetIdentity", split: int) -> Mask:
        """(N of others,) whether each image of `others` is in this split of this data set."""
        at, there = self.where(others.image)
        return there & self.among(split)[at] if len(self.image) else there


def order_of(cohort: "Cohort") -> Hashes:
    """(N,) the row in the cohort of each row of its `DatasetIdentity`."""
    return np.argsort(text_hashes(cohort.table["image_id"], cohort.namespace), kind="stable")


def differences(then: DatasetIdentity, now: DatasetIdentity, shared_only: bool = False) -> list[str]:
    """What differs between two data sets, a line for each kind of difference in images, labels, lesions,
    patients and split. `shared_only` compares the images that both contain, without their split."""
    lines = []
    at, shared = then.where(now.image)
    before = at[shared]
    if not shared_only:
        if gone := int((~now.where(then.image)[1]).sum()):
            lines.append(f"{images_are(gone)} gone")
        if new := int((~shared).sum()):
            renamed = int(np.isin(now.content[~shared], then.content).sum())
            known = f", {renamed:,} of them with the content of an earlier one" if renamed else ""
            lines.append(f"{images_are(new)} new{known}")
    aspects = {"label": "labels", "content": "pixels", "lesion": "lesion masks", "patient": "patients"}
    for column, name in aspects.items():
        if differ := int((getattr(then, column)[before] != getattr(now, column)[shared]).sum()):
            lines.append(f"{name} of {differ:,} image{'' if differ == 1 else 's'} differ")
    moved = int((then.split[before] != now.split[shared]).sum())
    if moved and not shared_only:
        lines.append(f"{images_are(moved)} in another split")
    return lines


def differing_aspects(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names of the aspects that differ; if the images do, `images` alone, as all others then differ."""
    names = {"contents": "pixels", "lesions": "lesion masks", "split": "the split"}
    differing = [names.get(aspect, aspect) for aspect in now if then.get(aspect) != now[aspect]]
    return ["images"] if "images" in differing else differing


def trained_on(then: DatasetIdentity, now: DatasetIdentity) -> list[str]:
    """How many of the current validation and test images were in the training split then, a line for each."""
    trained = then.split_of(now, TRAIN)
    splits = {"validation": now.among(VAL), "test": now.among(TEST)}
    return [
        f"{int((trained & rows).sum()):,} of the {int(rows.sum()):,} current {name} images were trained on"
        for name, rows in splits.items()
        if (trained & rows).any()
    ]


def unchanged_rows(then: DatasetIdentity, now: DatasetIdentity, split: int) -> Mask:
    """(N of now,) whether each image was in `split` then, with its present content and label."""
    at, shared = then.where(now.image)
    before, same = at[shared], shared.copy()
    same[shared] = then.among(split)[before]
    for column in ("content", "label"):
        same[shared] &= getattr(then, column)[before] == getattr(now, column)[shared]
    return same


def in_test_then(then: DatasetIdentity, now: DatasetIdentity) -> Mask:
    """(N of now,) whether each image was in the test split then, by its id or by its content."""
    test = then.among(TEST)
    return np.isin(now.image, then.image[test]) | np.isin(now.content, then.content[test])


# ---- images that weights have been trained on


@dataclass(frozen=True)
class SeenImages(Columns):
    """All images that weights have been trained on, in their last run or before: the unique hashes of image
    ids, of contents and of patients, each ascending."""

    image: Hashes
    content: Hashes
    patient: Hashes

    @classmethod
    def nothing(cls) -> Self:
        """The images of weights that have not been trained."""
        return cls(*(np.zeros(0, np.int64) for _ in fields(cls)))

    def and_of(self, images: DatasetIdentity) -> "SeenImages":
        """These images and the training images of a run."""
        train = images.among(TRAIN)
        pairs = [(getattr(self, column.name), getattr(images, column.name)[train]) for column in fields(self)]
        return SeenImages(*(np.setdiff1d(np.union1d(seen, new), [0]) for seen, new in pairs))

    def among(self, images: DatasetIdentity) -> Mask:
        """(N,) whether each image has been trained on, by its id or by its content."""
        return np.isin(images.image, self.image) | np.isin(images.content, self.content)


def leaked_images(seen: SeenImages, images: DatasetIdentity) -> str | None:
    """How many validation and test images weights have been trained on; if none, how many patients of these
    images, apart from those that the split itself shares with training. None if neither."""
    held_out = {"validation": images.among(VAL), "test": images.among(TEST)}
    trained = seen.among(images)
    if any((trained & rows).any() for rows in held_out.values()):
        return " and ".join(
            f"{int((trained & rows).sum()):,} of {int(rows.sum()):,} {name} images"
            for name, rows in held_out.items()
        )
    shared = np.append(images.patient[images.among(TRAIN)], 0)
    known = np.isin(images.patient, np.setdiff1d(seen.patient, shared))
    patients = {name: len(np.unique(images.patient[known & rows])) for name, rows in held_out.items()}
    return " and ".join(f"{count:,} {name} patients" for name, count in patients.items() if count) or None


# ---- configurations

RENAMED: dict[str, str] = {}  # former name of a component, in stored runs -> its current name


def configuration(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, by dotted name, that affect the weights: classes by their names without modules, and a
    file of weights by its content. Parameters that an earlier version stored give the same result."""
    kept = {}
    for name, value in parameters.items():
        if name in BESIDE or name in PLACES or name.startswith(("tracking.", COLUMNS)):
            continue
        if name in ADDED and str(value) == str(ADDED[name]):
            continue
        if name.endswith("_target_"):
            value = class_name(str(value))
        elif name == "model.pretrained" and isinstance(value, str):
            value = content_of(value)
        kept[name] = value
    return kept


def configuration_hash(parameters: Mapping[str, Any]) -> str:
    """12 hexadecimal digits; equal for values and for their texts, which MLflow stores."""
    kept = {name: str(value) for name, value in configuration(parameters).items()}
    return hashlib.sha256(json.dumps([FORMAT, kept], sort_keys=True).encode()).hexdigest()[:12]


def class_name(target: str) -> str:
    """The current name of a class: Bce for pneumo.components.losses.Bce, mypkg.Bce for mypkg.losses.Bce."""
    package, _, rest = target.partition(".")
    name = rest.rpartition(".")[2]
    if name and package != "pneumo":
        return f"{package}.{name}"
    return RENAMED.get(name or package, name or package)


def content_of(name: str) -> str:
    """The hash of the file of this name; the name itself, a run id for example, if there is no such file."""
    path = Path(name)
    if not path.is_file():
        return name
    with path.open("rb") as file:
        return f"file {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each parameter that differs between two configurations."""
    then, now = configuration(then), configuration(now)
    return [
        f"{name}: then {then.get(name, 'not there')}, now {now.get(name, 'not there')}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]


# ---- studies


def new_study_id() -> str:
    """A unique id for a new study, since several studies can have the same name."""
    return uuid.uuid4().hex
