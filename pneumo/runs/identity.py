"""What a thing is, computed from its content: the images of a data set and their split, a configuration, a
study.

Two things are the same when their identities are equal, wherever they lie, whatever they are called and in
whatever order their rows come. Everything that reuses something made earlier (a cache, a checkpoint, a run, a
study) asks here first; FORMAT is part of every identity, so that a later way of computing one is never taken
for this one.
"""

# N images; hashes are those of data/contents, 64 bits as int64, 0 where there is nothing to hash

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
TRAIN, VAL, TEST = 1, 2, 4  # of `Images.split`; an image of fit.few_images is in all three

BESIDE = (  # parameters that do not decide what is learned
    *("resume", "tta", "data.store_dir", "data.num_workers"),
    *("fit.test", "fit.pictures", "fit.checkpoint_minutes", "fit.profile", "model.allow_leak"),
)
PLACES = ("data.root", "data.patients_csv")  # where the data lie; what lies there is compared by content


def text_hashes(names: Iterable[object], namespace: str = "") -> Hashes:
    """(N,) of texts; 0 for those that are missing."""
    texts = (f"{namespace}\0{name}" if isinstance(name, str) else None for name in names)
    return np.array(
        [0 if text is None else hash_of(text.encode(errors="surrogatepass")) for text in texts], np.int64
    )


def counted_noun(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class Columns:
    """Of a dataclass whose fields are arrays: they as tensors, which a checkpoint can hold, and back."""

    def state(self) -> "dict[str, Tensor]":
        import torch

        return {one.name: torch.from_numpy(getattr(self, one.name)) for one in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_state(cls, state: "Mapping[str, Tensor]") -> Self:
        return cls(**{one.name: state[one.name].numpy() for one in fields(cls)})  # type: ignore[arg-type]


# ---- images


@dataclass(frozen=True)
class DatasetIdentity(Columns):
    """What is known of a data set's images, a row each in ascending order of `image`: hashes of the image id,
    the patient id, the image file's content and the description of its lesion (0: none), the label (0 or 1)
    and in which splits it is (TRAIN, VAL and TEST added up)."""

    image: Hashes
    patient: Hashes
    content: Hashes
    lesion: Hashes
    label: Hashes
    split: Hashes

    @classmethod
    def of(cls, dataset: "Dataset") -> Self:
        """Of a data set that is ready, (N,) each."""
        cohort, split = dataset.cohort, dataset.split
        member = np.zeros(len(cohort), np.int64)
        for bit, name in ((TRAIN, "train"), (VAL, "val"), (TEST, "test")):
            member[np.asarray(getattr(split, name), int)] |= bit
        order = order_of(cohort)
        columns = (
            text_hashes(cohort.table["image_id"], cohort.namespace),
            text_hashes(cohort.table["patient_id"], cohort.namespace),
            *dataset.store.digests.T,
            dataset.labels.astype(np.int64),
            member,
        )
        return cls(*(column[order] for column in columns))

    @property
    def data(self) -> dict[str, str]:
        """The identity of the data by aspect, 16 hex digits each."""
        return {
            "images": digest(self.image)[:16],
            "contents": digest(self.image, self.content)[:16],
            "labels": digest(self.image, self.label)[:16],
            "lesions": digest(self.image, self.lesion)[:16],
            "patients": digest(self.image, self.patient)[:16],
        }

    @property
    def data_identity(self) -> str:
        """Of images, labels, lesions and patients, as a tag: 1-0123456789abcdef."""
        return f"{FORMAT}-{digest(self.data)[:16]}"

    @property
    def aspects(self) -> dict[str, str]:
        """The identity of data and split by aspect: what differs can be named where these alone are kept."""
        return {**self.data, "split": self.split_identity}

    @property
    def split_identity(self) -> str:
        """Of which image is in which split, with its label, as a tag."""
        return f"{FORMAT}-{digest(self.image, self.label, self.split)[:16]}"

    @property
    def test_identity(self) -> str:
        """Of the images of the test split, as a tag: looks at them are counted by it."""
        return f"{FORMAT}-{digest(np.sort(self.content[self.among(TEST)]))[:16]}"

    def among(self, split: int) -> Mask:
        """(N,) whether each image is in TRAIN, VAL or TEST."""
        return (self.split & split) > 0

    def where(self, image: Hashes) -> tuple[Hashes, Mask]:
        """(M,) rows of these image ids, and whether each is there."""
        if not len(self.image):
            return np.zeros(len(image), np.int64), np.zeros(len(image), bool)
        rows = np.minimum(np.searchsorted(self.image, image), len(self.image) - 1)
        return rows, self.image[rows] == image

    def split_of(self, others: "DatasetIdentity", split: int) -> Mask:
        """(N of others,) whether each of the others' images is in this split here."""
        at, there = self.where(others.image)
        return there & self.among(split)[at] if len(self.image) else there


def order_of(cohort: "Cohort") -> Hashes:
    """(N,) the row in the cohort of each row of `Images`."""
    return np.argsort(text_hashes(cohort.table["image_id"], cohort.namespace), kind="stable")


def differences(then: DatasetIdentity, now: DatasetIdentity, shared_only: bool = False) -> list[str]:
    """What differs between the images then and now, a line for each kind of difference; empty where they are
    the same images, labels, lesions and patients in the same split. `shared_only`: of the images that are in
    both, and whatever their split."""
    lines = []
    at, there = then.where(now.image)
    gone = int((~now.where(then.image)[1]).sum())
    if gone and not shared_only:
        lines.append(f"{counted_noun(gone, 'image')} {'is' if gone == 1 else 'are'} gone")
    if (new := int((~there).sum())) and not shared_only:
        renamed = int(np.isin(now.content[~there], then.content).sum())
        known = f", {renamed:,} of them with the content of an earlier one" if renamed else ""
        lines.append(f"{counted_noun(new, 'image')} {'is' if new == 1 else 'are'} new{known}")
    for name, what in (
        ("label", "labels"),
        ("content", "pixels"),
        ("lesion", "lesion masks"),
        ("patient", "patients"),
    ):
        differ = getattr(then, name)[at[there]] != getattr(now, name)[there]
        if differ.any():
            lines.append(f"{what} of {counted_noun(int(differ.sum()), 'image')} differ")
    if (moved := int((then.split[at[there]] != now.split[there]).sum())) and not shared_only:
        lines.append(f"{counted_noun(moved, 'image')} {'is' if moved == 1 else 'are'} in another split")
    return lines


def differing_aspects(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Words for the aspects that differ; of other images nothing more can be said."""
    names = {"contents": "pixels", "lesions": "lesion masks", "split": "the split"}
    differing = [names.get(aspect, aspect) for aspect in now if then.get(aspect) != now[aspect]]
    return ["images"] if "images" in differing else differing


def trained_on(then: DatasetIdentity, now: DatasetIdentity) -> list[str]:
    """What of the validation and test images of now was in the training split then."""
    before = then.split_of(now, TRAIN)
    return [
        f"{int((before & here).sum()):,} of the {int(here.sum()):,} {name} images of now were trained on"
        for bit, name in ((VAL, "validation"), (TEST, "test"))
        for here in [now.among(bit)]
        if (before & here).any()
    ]


def unchanged_rows(then: DatasetIdentity, now: DatasetIdentity, split: int) -> Mask:
    """(N of now,) whether an image was in VAL or TEST then, with the content and the label it has now."""
    at, there = then.where(now.image)
    same = there.copy()
    same[there] = (
        then.among(split)[at[there]]
        & (then.content[at[there]] == now.content[there])
        & (then.label[at[there]] == now.label[there])
    )
    return same


def in_test_then(then: DatasetIdentity, now: DatasetIdentity) -> Mask:
    """(N of now,) whether an image was in the test split then, by its id or by its content."""
    test = then.among(TEST)
    return np.isin(now.image, then.image[test]) | np.isin(now.content, then.content[test])


# ---- what weights have been trained on


@dataclass(frozen=True)
class SeenImages(Columns):
    """Hashes of all images that some weights have been trained on, also before they came to their last run:
    (M,) image ids, contents and patients, ascending, each once."""

    image: Hashes
    content: Hashes
    patient: Hashes

    @classmethod
    def nothing(cls) -> Self:
        return cls(*(np.zeros(0, np.int64) for _ in fields(cls)))

    def and_of(self, images: DatasetIdentity) -> "SeenImages":
        """With the training images of a run."""
        train = images.among(TRAIN)
        return SeenImages(
            *(
                np.setdiff1d(np.union1d(getattr(self, one.name), getattr(images, one.name)[train]), [0])
                for one in fields(self)
            )
        )

    def among(self, images: DatasetIdentity) -> Mask:
        """(N,) whether each image has been trained on: by its id or by its content."""
        return np.isin(images.image, self.image) | np.isin(images.content, self.content)


def leaked_images(seen: SeenImages, images: DatasetIdentity) -> str | None:
    """What of the validation and test images the weights have been trained on, else of which of their
    patients they have seen other images, where the split itself keeps these apart; None where it is
    nothing."""
    held_out = {"validation": images.among(VAL), "test": images.among(TEST)}
    trained = seen.among(images)
    counts = {name: int((trained & here).sum()) for name, here in held_out.items()}
    if any(counts.values()):
        return " and ".join(
            f"{count:,} of {int(held_out[name].sum()):,} {name} images" for name, count in counts.items()
        )
    shared = images.patient[images.among(TRAIN)]  # by the split itself
    known = np.isin(images.patient, np.setdiff1d(seen.patient, shared)) & (images.patient != 0)
    patients = {
        name: len(np.unique(images.patient[known & here]))
        for name, here in held_out.items()
        if (known & here).any()
    }
    if patients:
        return " and ".join(f"{count:,} {name} patients" for name, count in patients.items())
    return None


# ---- configurations

RENAMED: dict[str, str] = {}  # what a class of ours was called when runs were stored -> its name now


def configuration(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters (dotted name -> value) that decide what is learned: classes by their names without
    modules, a file of weights by its content, without what has no effect and without where the data lie.

    Applied to parameters as they were stored by an earlier version, it gives what this version would."""
    kept = {}
    for name, value in parameters.items():
        if name in BESIDE or name in PLACES or name.startswith("tracking."):
            continue
        if name.endswith("_target_"):
            value = class_name(str(value))
        elif name == "model.pretrained" and isinstance(value, str):
            value = content_of(value)
        kept[name] = value
    return kept


def configuration_hash(parameters: Mapping[str, Any]) -> str:
    """12 hex digits; the same of the values and of their texts, as MLflow keeps them."""
    kept = {name: str(value) for name, value in configuration(parameters).items()}
    return hashlib.sha256(json.dumps([FORMAT, kept], sort_keys=True).encode()).hexdigest()[:12]


def class_name(target: str) -> str:
    """`Bce` of pneumo.components.losses.Bce, as it is called now; of another package's class also the
    package: `mypkg.Bce`."""
    package, _, rest = target.partition(".")
    name = rest.rpartition(".")[2]
    if name and package != "pneumo":
        return f"{package}.{name}"
    return RENAMED.get(name or package, name or package)


def content_of(name: str) -> str:
    """A file by its content; anything else, a run id say, as it is."""
    path = Path(name)
    if not path.is_file():
        return name
    with path.open("rb") as file:
        return f"file {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Of two configurations' parameters, a line for each that differs."""
    then, now = configuration(then), configuration(now)
    return [
        f"{name}: then {then.get(name, 'not there')}, now {now.get(name, 'not there')}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]


# ---- studies


def new_study_id() -> str:
    """For a study that begins: its name may be another's too."""
    return uuid.uuid4().hex
