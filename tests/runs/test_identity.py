"""What a thing is, from its content: hand-made images and configurations."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pneumo.data.contents import digest
from pneumo.runs import config, identity
from pneumo.runs.identity import TEST, TRAIN, VAL, DatasetIdentity, SeenImages, text_hashes

SPLITS = {"train": TRAIN, "val": VAL, "test": TEST}


def images(rows):
    """Of {image id: (patient, content, lesion, label, split)}, in ascending order of the hashed id."""
    names = sorted(rows, key=lambda name: int(text_hashes([name])[0]))
    patient, content, lesion, label, split = zip(*(rows[name] for name in names), strict=True)
    return DatasetIdentity(
        text_hashes(names),
        text_hashes(patient),
        text_hashes(content),
        text_hashes(lesion),
        np.array(label, np.int64),
        np.array([SPLITS[one] for one in split], np.int64),
    )


def table(n=12):
    """Two thirds train, the rest val and test; each third image positive with a lesion."""
    splits = ["train"] * (2 * n // 3) + ["val"] * (n // 6) + ["test"] * (n // 6)
    return {
        f"i{k}": (f"p{k // 2}", f"c{k}", f"l{k}" if k % 3 == 0 else None, int(k % 3 == 0), splits[k])
        for k in range(n)
    }


ROW = st.tuples(
    st.sampled_from([None, "p1", "p2", "p3"]),
    st.sampled_from(["c1", "c2", "c3"]),
    st.sampled_from([None, "l1"]),
    st.sampled_from([0, 1]),
    st.sampled_from(["train", "val", "test"]),
)
TABLES = st.dictionaries(st.sampled_from([f"i{k}" for k in range(8)]), ROW, min_size=1)


@given(TABLES, TABLES)
def test_changes_name_and_count_what_a_row_by_row_comparison_finds(then, now):
    said = identity.differences(images(then), images(now))
    shared = then.keys() & now.keys()
    expected = {
        "gone": len(then.keys() - now.keys()),
        "new": len(now.keys() - then.keys()),
        "patients": sum(then[name][0] != now[name][0] for name in shared),
        "pixels": sum(then[name][1] != now[name][1] for name in shared),
        "lesion masks": sum(then[name][2] != now[name][2] for name in shared),
        "labels": sum(then[name][3] != now[name][3] for name in shared),
        "another split": sum(then[name][4] != now[name][4] for name in shared),
    }
    assert len(said) == sum(count > 0 for count in expected.values())
    for word, count in expected.items():
        lines = [line for line in said if word in line.replace("renamed", "")]
        assert len(lines) == (count > 0), (word, said)
        assert not count or f"{count} image" in lines[0]


@given(TABLES, st.randoms())
def test_the_order_of_rows_does_not_matter(rows, random):
    names = list(rows)
    random.shuffle(names)
    one, other = images(rows), images({name: rows[name] for name in names})
    assert (one.data_identity, one.split_identity, one.test_identity) == (
        other.data_identity,
        other.split_identity,
        other.test_identity,
    )


@pytest.mark.parametrize(
    ("position", "value", "aspect"),
    [(0, "p9", "patients"), (1, "c9", "contents"), (2, "l9", "lesions"), (3, 1, "labels")],
)
def test_what_changes_has_another_identity_and_the_rest_the_same(position, value, aspect):
    then = table()
    row = list(then["i1"])
    row[position] = value
    one, other = images(then), images({**then, "i1": tuple(row)})
    assert {name for name in one.data if one.data[name] != other.data[name]} == {aspect}
    assert one.data_identity != other.data_identity
    assert (one.split_identity == other.split_identity) == (aspect != "labels")


def test_another_split_of_the_same_images_is_the_same_data():
    then = table()
    now = {**then, "i0": (*then["i0"][:4], "test")}
    assert images(then).data_identity == images(now).data_identity
    assert images(then).split_identity != images(now).split_identity
    assert identity.differences(images(then), images(now)) == ["1 image is in another split"]
    assert identity.trained_on(images(then), images(now)) == [
        "1 of the 3 current test images were trained on"
    ]


def test_a_renamed_image_is_said_to_be_known_by_its_content():
    then = table()
    now = {("renamed" if name == "i0" else name): row for name, row in then.items()}
    assert identity.differences(images(then), images(now)) == [
        "1 image is gone",
        "1 image is new, 1 of them with the content of an earlier one",
    ]


def test_only_what_was_held_out_and_is_the_same_is_unchanged():
    then = table()
    now = dict(then)
    now["i10"] = (*then["i10"][:3], 1 - then["i10"][3], "test")  # another label
    now["i0"] = (*then["i0"][:4], "test")  # trained on before
    now["new"] = ("p99", "c99", None, 0, "test")
    found = identity.unchanged_rows(images(then), images(now), TEST)
    assert set(images(now).image[found]) == set(text_hashes(["i11"]))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("p50", "c50", None, 0, "test"), None),
        (("p50", "c3", None, 0, "test"), "0 of 0 validation images and 1 of 1 test images"),
        (("p1", "c50", None, 0, "val"), "1 validation patients"),
        ((None, "c50", None, 0, "test"), None),
    ],
    ids=["another image", "another name, the same content", "another image of a patient", "patient unknown"],
)
def test_a_leak_is_found_by_content_and_by_patient(row, said):
    seen = SeenImages.nothing().and_of(images(table()))
    assert identity.leaked_images(seen, images({"new": row})) == said


def test_a_leak_is_found_by_the_name_of_an_image_that_was_encoded_anew():
    seen = SeenImages.nothing().and_of(images(table()))
    now = images({"i0": ("p70", "encoded anew", None, 1, "test"), "i11": ("p71", "c11", None, 0, "test")})
    assert identity.leaked_images(seen, now) == "0 of 0 validation images and 1 of 2 test images"


def test_weights_remember_the_images_of_every_run_they_came_through():
    first = images({f"a{k}": (f"pa{k}", f"ca{k}", None, 0, "train") for k in range(3)})
    second = images({f"b{k}": (None, f"cb{k}", None, 0, "train") for k in range(2)})
    seen = SeenImages.nothing().and_of(first).and_of(second)
    assert (len(seen.image), len(seen.content), len(seen.patient)) == (5, 5, 3)
    back = SeenImages.from_state(seen.state())
    assert all(np.array_equal(getattr(seen, one.name), getattr(back, one.name)) for one in fields(SeenImages))
    assert identity.leaked_images(back, images({"a1": ("px", "cx", None, 1, "test")})) is not None


def test_the_same_id_in_two_namings_is_two_images():
    assert text_hashes(["phantom-1"], "phantom 1 0") != text_hashes(["phantom-1"], "phantom 1 1")
    assert text_hashes([None, float("nan")]).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        ((1,), ("1",)),
        ((True,), (1,)),
        ((["a", "b"],), ("a", "b")),
        ((np.zeros((2, 3)),), (np.zeros((3, 2)),)),
        ((np.zeros(2, np.int32),), (np.zeros(2, np.float32),)),
        (({"a": 1},), (["a", 1],)),
    ],
)
def test_different_things_have_different_digests(one, other):
    assert digest(*one) != digest(*other)


def test_a_digest_is_of_values_not_of_memory():
    array = np.arange(6.0).reshape(2, 3)
    assert digest(array) == digest(torch.from_numpy(np.asfortranarray(array)))


# ---- configurations


def test_a_class_is_known_by_its_name_and_another_package_s_also_by_the_package():
    assert identity.class_name("pneumo.components.losses.Bce") == "Bce"
    assert identity.class_name("pneumo.components.losses.Bce") == "Bce"
    assert identity.class_name("Bce") == "Bce"
    assert identity.class_name("mine.losses.Bce") == identity.class_name("mine.moved.Bce") == "mine.Bce"
    assert identity.class_name("mine.Bce") == "mine.Bce"


def test_a_run_without_rescue_has_the_configuration_of_one_from_before_there_was_rescue():
    before = {"seed": 0, "optimizer.lr": 0.003}
    assert identity.configuration({**before, "fit.rescue": False}) == before
    for off in (False, "False"):  # as MLflow stores it
        assert identity.configuration_hash({**before, "fit.rescue": off}) == identity.configuration_hash(
            before
        )
    assert identity.differing(before, {**before, "fit.rescue": True}) == [
        "fit.rescue: then not there, now True"
    ]


def test_where_classes_and_data_lie_does_not_make_another_configuration():
    then = {
        "loss._target_": "pneumo.components.losses.Bce",
        "data.root": "/a",
        "data.store_dir": "s",
        "seed": 0,
    }
    now = {"loss._target_": "pneumo.elsewhere.Bce", "data.root": "/b", "data.num_workers": 9, "seed": 0}
    assert identity.configuration_hash(then) == identity.configuration_hash(now)
    assert identity.differing(then, now) == []
    assert identity.differing(then, {**now, "seed": 1}) == ["seed: then 0, now 1"]
    assert identity.configuration_hash(then) != identity.configuration_hash({**now, "seed": 1})


def test_a_configuration_of_before_styles_is_that_of_the_default_style():
    then = {"data.seed": 0, "resume": None, "fit.clip_norm": None}
    now = {**then, "data.style": "default"}
    assert identity.configuration_hash(then) == identity.configuration_hash(now)
    assert identity.differing(then, {**then, "data.style": "faint"}) == [
        "data.style: then not there, now faint"
    ]
    assert identity.differing(then, {**now, "fit.clip_norm": 1.0}) == ["fit.clip_norm: then None, now 1.0"]


def test_a_configuration_as_mlflow_keeps_it_has_the_same_hash(composed):
    parameters = composed("loss=focal", "optimizer.lr=1e-3", "fit.ema_decay=.99").parameters
    texts = {name: str(value) for name, value in parameters.items()}
    assert identity.configuration_hash(parameters) == identity.configuration_hash(texts)


def test_a_file_of_weights_is_known_by_its_content(tmp_path):
    one, copy, other = tmp_path / "one.pt", tmp_path / "copy.pt", tmp_path / "other.pt"
    for path, content in ((one, b"w"), (copy, b"w"), (other, b"v")):
        path.write_bytes(content)
    hash_of = {
        path: identity.configuration_hash({"model.pretrained": str(path)}) for path in (one, copy, other)
    }
    assert hash_of[one] == hash_of[copy] != hash_of[other]


def test_a_class_that_was_moved_or_renamed_is_found_for_a_stored_configuration(composed, monkeypatch):
    now = composed("loss=focal")
    moved = now.yaml.replace("pneumo.components.losses.Focal", "pneumo.before.losses.Focal")
    assert "pneumo.before" in moved
    assert config.from_yaml(moved, now.choices, {}).loss == now.loss
    monkeypatch.setitem(identity.RENAMED, "FocalLoss", "Focal")
    renamed = now.yaml.replace("pneumo.components.losses.Focal", "pneumo.components.losses.FocalLoss")
    before = config.from_yaml(renamed, now.choices, {})
    assert before.loss == now.loss
    assert before.identity == now.identity
