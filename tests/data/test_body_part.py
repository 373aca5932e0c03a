"""A DICOM header that names another part of the body than the chest, or a lateral view, is heard."""

from pathlib import Path

import numpy as np
import pytest
from dicoms import made, save
from pydicom.dataset import Dataset

from pneumo.data.decode.body_part import names_chest, not_frontal_chest
from pneumo.data.decode.dicom import header
from pneumo.inference.radiograph import read_radiograph

FILM = np.tile(np.linspace(40, 250, 80).astype(np.uint8), (80, 1))

ELSEWHERE = [
    *(
        "HIP",
        "HAND",
        "ABDOMEN",
        "KNEE",
        "SKULL",
        "PELVIS",
        "EXTREMITY",
        "LSPINE",
        "TSPINE",
        "SHOULDER",
        "FOOT",
    ),
    *(
        "Hüfte links",
        "L-Fuß_2 ap",
        "Beckenübersicht",
        "Abdomen-Übersicht",
        "Handgelenk",
        "BWS",
        "Brustwirbelsäule",
    ),
    *(
        "Genou droit",
        "hanche",
        "Épaule",
        "Rachis thoracique",
        "Mano",
        "CADERA",
        "columna torácica",
        "Tornozelo",
    ),
    *(
        "RT HAND 3 VIEWS",
        "XR HIP 2V",
        "Thoracic spine",
        "KUB",
        "C-SPINE",
        "Кисть",
        "Тазобедренный сустав",
        "腹部",
    ),
    *("Grudnoj kregosłup", "胸椎", "Грудной отдел позвоночника", "무릎"),
]
CHEST = [
    *("CHEST", "Thorax", "TORAX", "Tórax PA", "TORACE", "LUNG", "RIBS", "POUMON", "Radiographie pulmonaire"),
    *(
        "Brust",
        "Brustkorb",
        "Lunge",
        "Rö-Thorax p.a.",
        "Hemithorax",
        "CHESTABDPELV",
        "Chest and abdomen",
        "CXR",
    ),
    *("Płuca", "Klatka piersiowa", "ОГК легкие", "Грудная клетка", "胸部", "흉부", "Göğüs", "Neck and chest"),
]
UNKNOWN = ["", "GENERAL", "PORTABLE AP", "C-ARM", "supine", "Abteilung 3", "XYZ", "overhead", "hand-held"]


@pytest.mark.parametrize("text", ELSEWHERE)
def test_another_part_is_heard_in_common_languages(text: str) -> None:
    for name in ("BodyPartExamined", "SeriesDescription", "StudyDescription"):
        assert not_frontal_chest({name: text}) == f'header: {name} "{text}"'
    assert not names_chest(text)


@pytest.mark.parametrize("text", CHEST)
def test_the_chest_is_not_flagged_in_common_languages(text: str) -> None:
    assert names_chest(text)
    assert not_frontal_chest({"BodyPartExamined": text}) == ""
    assert not_frontal_chest({"SeriesDescription": text, "StudyDescription": "HIP"}) == ""


@pytest.mark.parametrize("text", UNKNOWN)
def test_what_is_not_known_decides_nothing(text: str) -> None:
    assert not_frontal_chest({"BodyPartExamined": text, "StudyDescription": text}) == ""
    assert not_frontal_chest({"BodyPartExamined": text, "StudyDescription": "HIP"}) != ""


@pytest.mark.parametrize(
    ("said", "flag"),
    [
        (
            {"BodyPartExamined": "CHEST", "SeriesDescription": "ABDOMEN"},
            'header: SeriesDescription "ABDOMEN"',
        ),
        ({"BodyPartExamined": "HAND", "SeriesDescription": "CHEST PA"}, 'header: BodyPartExamined "HAND"'),
        ({"BodyPartExamined": "CHEST", "StudyDescription": "ABDOMEN"}, ""),
        ({"SeriesDescription": "CHEST PA", "StudyDescription": "ACUTE ABDOMEN"}, ""),
        ({"StudyDescription": "ACUTE ABDOMEN WITH CHEST"}, ""),
        ({"AnatomicRegion": "Hip"}, 'header: AnatomicRegion "Hip"'),
        ({"ProtocolName": "Knie ap", "StudyDescription": "Thorax"}, 'header: ProtocolName "Knie ap"'),
    ],
)
def test_the_series_goes_before_the_study_and_contradictions_are_flagged(
    said: dict[str, str], flag: str
) -> None:
    assert not_frontal_chest(said) == flag


@pytest.mark.parametrize(
    ("said", "lateral"),
    [
        ({"ViewPosition": "LL"}, True),
        ({"ViewPosition": "LATERAL"}, True),
        ({"ViewCode": "left lateral"}, True),
        ({"SeriesDescription": "Chest lat"}, True),
        ({"SeriesDescription": "Thorax seitlich"}, True),
        ({"ProtocolName": "Thorax de profil"}, True),
        ({"ViewPosition": "AP"}, False),
        ({"ViewPosition": "LLD"}, False),
        ({"ViewPosition": "PA", "SeriesDescription": "CHEST LAT"}, False),
        ({"SeriesDescription": "Chest PA and lateral"}, False),
        ({"SeriesDescription": "left lateral decubitus"}, False),
        ({"SeriesDescription": "bilateral"}, False),
        ({"StudyDescription": "CHEST 2V LATERAL"}, False),  # a film of the study, not this one
    ],
)
def test_a_lateral_view_is_heard_where_nothing_says_frontal(said: dict[str, str], lateral: bool) -> None:
    assert not_frontal_chest({"BodyPartExamined": "CHEST", **said}).endswith(", a lateral view") == lateral


def test_a_hip_with_the_pixels_of_a_film_is_flagged_by_its_header(tmp_path: Path) -> None:
    assert read_radiograph(save(tmp_path / "a.dcm", FILM, BodyPartExamined="CHEST"), 64).flag == ""
    hip = save(tmp_path / "b.dcm", FILM, BodyPartExamined="HIP")
    assert read_radiograph(hip, 64).flag == 'header: BodyPartExamined "HIP"'
    blank = save(tmp_path / "c.dcm", np.full_like(FILM, 100), StudyDescription="Hand")
    assert read_radiograph(blank, 64).flag == 'header: StudyDescription "Hand"; nearly one shade'


def test_codes_in_sequences_and_texts_in_other_alphabets_are_read(tmp_path: Path) -> None:
    region, view = Dataset(), Dataset()
    region.CodeMeaning, view.CodeMeaning = "Chest", "lateral"
    said = {"AnatomicRegionSequence": [region], "ViewCodeSequence": [view], "StudyDescription": "Кисть"}
    dataset = made(FILM, SpecificCharacterSet="ISO_IR 192", **said)
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert header(tmp_path, "a.dcm").flag == 'header: ViewCode "lateral", a lateral view'
    del dataset.AnatomicRegionSequence, dataset.ViewCodeSequence
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert header(tmp_path, "a.dcm").flag == 'header: StudyDescription "Кисть"'
