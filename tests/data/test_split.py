"""Splits keep patients apart, come out even, and the sentinel sees a leak."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pneumo.data.cohort import Cohort
from pneumo.data.sources.phantom import Phantom
from pneumo.data.split import BINS, Split, deal, split_cohort
from pneumo.errors import InputError


def cohort(patients: list[str | None], labels: list[int], **columns: list[str]) -> Cohort:
    count = len(labels)
    table = pd.DataFrame(
        {
            "image_id": [f"i{number}" for number in range(count)],
            "patient_id": pd.Series(patients, dtype=object),
            "label": labels,
            "where": [f"t.csv row {number + 2:,}" for number in range(count)],
            **columns,
        }
    )
    return Cohort("made", table, pixels=None)


def clustered(images: int, seed: int = 0) -> Cohort:
    """Patients of 1 to 61 images, the positives among those with many, as in SIIM-ACR."""
    random = np.random.default_rng(seed)
    patients: list[str | None] = []
    labels: list[int] = []
    while len(labels) < images:
        count = min(int(random.pareto(1.3)) + 1, 61)
        rate = random.beta(0.3, 0.6 if count > 3 else 2.5)
        patients += [f"p{len(labels)}"] * count
        labels += (random.random(count) < rate).astype(int).tolist()
    return cohort(patients[:images], labels[:images])


def split(of: Cohort, how: str = "patient", seed: int = 0, **fields: object) -> Split:
    return split_cohort(of, Phantom(image_side_px=128, split=how, split_seed=seed, **fields))


def parts_of(made: Split) -> dict[int, str]:
    return {int(row): name for name in ("train", "val", "test") for row in getattr(made, name)}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1)), min_size=1, max_size=200),
    st.lists(st.integers(1, 6), min_size=1, max_size=5),
    st.integers(0, 3),
)
def test_dealing_never_parts_a_group(images: list[tuple[int, int]], bins: list[int], seed: int) -> None:
    groups, labels = np.array(images).T
    part = deal(groups, labels, bins, seed)
    assert part.shape == groups.shape
    assert set(part) <= set(range(len(bins)))
    assert all(len(set(part[groups == group])) == 1 for group in set(groups))


@pytest.mark.parametrize("seed", range(5))
def test_a_patient_split_is_disjoint_whole_and_even(seed: int) -> None:
    made_from = clustered(2800, seed)
    made = split(made_from, seed=seed)
    assert sorted(parts_of(made)) == list(range(2800))
    patients = made_from.table["patient_id"]
    sets = [set(patients.iloc[rows]) for rows in (made.train, made.val, made.test)]
    assert sum(map(len, sets)) == len(set.union(*sets))
    prevalence = made_from.table["label"].mean()
    for name, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        assert made.numbers[f"split/{name}_images"] == pytest.approx(2800 * share, rel=0.03)
        assert made.numbers[f"split/{name}_prevalence"] == pytest.approx(prevalence, abs=0.02)


def test_large_patients_are_tested_on_as_often_as_small_ones() -> None:
    made_from = clustered(6000)
    groups, labels = made_from.groups(), made_from.table["label"].to_numpy()
    sizes = np.bincount(groups)
    largest = np.isin(groups, np.argsort(sizes)[-20:])
    tested = [len(set(groups[largest & (deal(groups, labels, BINS, seed) == 2)])) / 20 for seed in range(40)]
    assert np.mean(tested) == pytest.approx(3 / 20, abs=0.04)


def test_a_seed_repeats_its_split_and_another_makes_another() -> None:
    of = clustered(500)
    assert split(of, seed=1).hash == split(of, seed=1).hash != split(of, seed=2).hash


def test_a_few_positive_patients_still_reach_every_part() -> None:
    patients: list[str | None] = [f"p{number // 4}" for number in range(1000)]
    of = cohort(patients, [int(number < 28) for number in range(1000)])  # seven positive patients
    for seed in range(20):
        made = split(of, seed=seed)
        assert min(made.numbers[f"split/{name}_positives"] for name in ("train", "val", "test")) >= 4


def test_memory_of_patients_is_a_half_by_patient_and_more_by_image() -> None:
    of = clustered(2800)
    apart, leaky = split(of), split(of, "image")
    assert (apart.patient_memory_auc, apart.numbers["split/patient_memory_auc_val"]) == (0.5, 0.5)
    assert apart.leak_risk is None
    assert leaky.patient_memory_auc > 0.65
    assert leaky.leak_risk == "image split"
    assert "patients lie in more than one split" in leaky.notes[0]


def test_memory_of_patients_is_what_scikit_learn_computes() -> None:
    of = clustered(600)
    made = split(of, "image")
    table = of.table
    train = table.iloc[made.train]
    memory = train.groupby("patient_id")["label"].mean()
    test = table.iloc[made.test]
    scores = test["patient_id"].map(memory).fillna(train["label"].mean())
    assert made.patient_memory_auc == pytest.approx(roc_auc_score(test["label"], scores))


def test_every_image_is_tested_on_in_one_fold_and_validated_on_in_another() -> None:
    of = clustered(800)
    made = [split(of, "folds", folds=4, fold=fold) for fold in range(4)]
    assert sorted(np.concatenate([one.test for one in made])) == list(range(800))
    assert sorted(np.concatenate([one.val for one in made])) == list(range(800))
    for fold in range(4):
        assert made[fold].val.tolist() == made[(fold + 1) % 4].test.tolist()


def test_a_column_says_the_parts() -> None:
    says = ["train", "Valid", "test", "validation"] * 10
    of = cohort(
        [f"p{number}" for number in range(40)], [int(number % 8 < 4) for number in range(40)], fold=says
    )
    made = split(of, "column", split_column="fold")
    assert (made.train % 4).tolist() == [0] * 10
    assert (made.val % 2).tolist() == [1] * 20
    assert (made.test % 4).tolist() == [2] * 10


def test_a_column_without_val_gives_one_from_train_by_patient() -> None:
    base = clustered(3000)
    says = ["test" if int(patient[1:]) % 5 == 0 else "train" for patient in base.table["patient_id"]]
    of = cohort(base.table["patient_id"].tolist(), base.table["label"].tolist(), release=says)
    made = split(of, "column", split_column="release")
    assert made.test.tolist() == [row for row, said in enumerate(says) if said == "test"]
    assert len(made.val) / (len(made.val) + len(made.train)) == pytest.approx(0.15 / 0.85, abs=0.01)
    assert made.leak_risk is None


def test_patients_shared_by_a_column_are_counted() -> None:
    says = ["train", "val", "test", "train"] * 10
    of = cohort(
        [f"p{number // 2}" for number in range(40)], [int(number % 8 < 4) for number in range(40)], s=says
    )
    made = split(of, "column", split_column="s")
    assert made.leak_risk == "patients shared by the column"
    assert made.notes[0].startswith("20 patients lie in more than one split of the column s")


def test_an_unknown_value_of_the_column_is_refused_by_row() -> None:
    of = cohort(["p", "q", "r"], [0, 1, 0], s=["train", "dev", "test"])
    with pytest.raises(
        InputError, match=r't.csv row 3: s is "dev", must be train, val or test \(1 such rows\)'
    ):
        split(of, "column", split_column="s")


def test_a_part_of_one_class_is_refused_with_its_counts() -> None:
    of = cohort([f"p{number}" for number in range(50)], [1] + [0] * 49)
    with pytest.raises(InputError, match=r"data.split=patient: .* images, 0 of them positive; it needs both"):
        split(of)


@pytest.mark.parametrize(
    ("how", "patients", "cause"),
    [
        (
            "patient",
            ["a", "b"] * 30,
            "of 2 patients 1 have positive images and 1 negative ones, too few for 3 splits",
        ),
        (
            "folds",
            list("abcd") * 15,
            "of 4 patients 2 have positive images and 2 negative ones, too few for 5 folds",
        ),
        ("patient", [None] * 60, None),
    ],
)
def test_too_few_patients_are_named_as_why_a_part_has_one_class(
    how: str, patients: list[str | None], cause: str | None
) -> None:
    labels = [number % 2 for number in range(60)] if cause else [1] + [0] * 59
    with pytest.raises(InputError) as error:
        split(cohort(patients, labels), how)
    assert cause in str(error.value) if cause else "patients" not in str(error.value)


def test_unknown_patients_are_said_loudly() -> None:
    labels = [int(number % 4 == 0) for number in range(100)]
    none = split(cohort([None] * 100, labels))
    assert none.leak_risk == "no patients known"
    assert "no patient is known" in none.notes[0]
    assert none.numbers["split/train_patients"] == 0
    some = split(cohort([None] * 10 + [f"p{number // 3}" for number in range(90)], labels))
    assert some.leak_risk == "some patients unknown"
    assert some.notes == ("10 of 100 images have no known patient; each counts as its own",)


def test_as_many_patients_as_images_is_suspicious() -> None:
    labels = [int(number % 4 == 0) for number in range(300)]
    made = split(cohort([f"uuid-{number}" for number in range(300)], labels))
    assert made.leak_risk == "patients about as many as images"
    assert "300 images of 300 patients" in made.notes[0]


def test_the_hash_does_not_depend_on_the_order_of_rows() -> None:
    says = ["train", "val", "test", "train"] * 5
    labels = [int(number % 8 < 4) for number in range(20)]
    patients: list[str | None] = [f"p{number}" for number in range(20)]
    forward = cohort(patients, labels, s=says)
    backward = Cohort("made", forward.table.iloc[::-1].reset_index(drop=True), forward.pixels)
    assert split(forward, "column", split_column="s").hash == split(backward, "column", split_column="s").hash
