"""Recognises which columns of a table hold the images, labels, patients and so on, by their usual names."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from pneumo.errors import InputError

AUTO, NONE = "auto", "none"

# Names without case and separators: "Patient ID", "patient_id" and "PatientID" are all patientid. The first
# name of a role is preferred to its others.
NAMES: Mapping[str, tuple[str, ...]] = {
    "image": (
        *("image", "images", "imageid", "imageindex", "imagename", "imagefile", "imagefilename", "imagepath"),
        *("filename", "file", "filepath", "fileid", "path", "relpath", "img", "imgid", "imgname", "imgpath"),
        *(
            "imgfile",
            "newfilename",
            "dicom",
            "dicomid",
            "dicomfile",
            "dicompath",
            "dcm",
            "dcmfile",
            "dcmpath",
        ),
        *("png", "pngfile", "pngpath", "jpg", "jpgfile", "jpgpath", "picture", "xray", "radiograph"),
        *("sopinstanceuid", "bild", "datei", "dateiname"),
    ),
    "patient": (
        *("patient", "patientid", "patients", "patientnr", "patientno", "patientnumber", "patientname"),
        *("patientkey", "patientuid", "patientcode", "patid", "patno", "ptid", "pid", "subject", "subjectid"),
        *("subjectno", "subjectnumber", "subjid", "mrn", "medicalrecordnumber", "case", "caseid", "caseno"),
        *("person", "personid", "participant", "participantid", "pseudonym", "patientennummer"),
    ),
    "label": (
        *("label", "labels", "target", "targets", "haspneumo", "haspneumothorax", "ispneumothorax", "pneumo"),
        *("pneumothorax", "ptx", "class", "classlabel", "classname", "diagnosis", "finding", "findings"),
        *("findinglabels", "groundtruth", "gt", "truth", "outcome", "result", "y", "positive", "ispositive"),
    ),
    "mask": (
        *("mask", "masks", "maskpath", "maskfile", "maskfilename", "maskname", "segmentation"),
        *("segmentationpath", "segmentationfile", "segpath", "lesionmask"),
    ),
    "rle": ("rle", "encodedpixels", "rlemask", "maskrle", "runlength", "runlengthcode", "runlengthencoding"),
    "view": ("view", "viewposition", "viewpos", "projection"),
    "age": ("age", "patientage", "ageyears", "ageinyears", "alter"),
    "sex": ("sex", "gender", "patientsex", "patientgender", "geschlecht"),
}
OF_PEOPLE = re.compile(r"id|nr|no|num|number|key|uid|who|name|code|pat|pt|person|study|exam|accession", re.I)
DATE = r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*"
FEWEST_PATIENTS, FEWEST_SHARE, MOST_SHARE = 5, 0.05, 0.95  # of the images, of a column of patients


def plain(name: str) -> str:
    """The name without case and separators: patientid of "Patient ID"."""
    return re.sub(r"[\W_]+", "", name).lower()


def named_columns(
    table: pd.DataFrame, path: Path, chosen: Mapping[str, str | None], setting: str = "data.columns."
) -> dict[str, str]:
    """Returns the column of each role that has one. `chosen` gives each role the name of a column, or "auto"
    to recognise it, or "none" or None where there is none. A name matches another of other case and
    separators.

    InputError: a column that is named is not there or for two roles, or several columns may have a role that
    is recognised."""
    taken: dict[str, str] = {}
    for role, name in chosen.items():
        if name not in (None, NONE, AUTO):
            named = _of_name(table, path, str(name))
            if others := [other for other, column in taken.items() if column == named]:
                raise InputError(of_two_roles(path, named, others[0], role, setting))
            taken[role] = named
    for role, name in chosen.items():
        if name == AUTO:
            free = [str(column) for column in table if column not in taken.values()]
            if column := _recognised(path, role, free, setting):
                taken[role] = column
    return {role: taken[role] for role in chosen if role in taken}


def recognised(columns: Sequence[str], role: str) -> list[str]:
    """Returns the columns that may have a role by their names: the one whose name is preferred, or all."""
    matches = [column for column in columns if plain(column) in NAMES[role]]
    return [column for column in matches if plain(column) == NAMES[role][0]] or matches


def of_two_roles(path: Path, column: str, role: str, other: str, setting: str = "data.columns.") -> str:
    """Returns the message about a column that cannot have both roles."""
    return (
        f'{path}: "{column}" cannot be both the {role} and the {other}; name another column for one of them: '
        f"{setting}{role}=COLUMN or {setting}{other}=COLUMN"
    )


def _recognised(path: Path, role: str, columns: Sequence[str], setting: str) -> str | None:
    matches = recognised(columns, role)
    if len(matches) > 1:
        both = " and ".join(f'"{column}"' for column in matches)
        options = [*(f"{setting}{role}={column}" for column in matches)]
        options += [f"{setting}{role}={NONE}"] if role not in ("image", "label") else []
        raise InputError(f"{path}: {both} may all hold the {role}; choose one: {' or '.join(options)}")
    return matches[0] if matches else None


def _of_name(table: pd.DataFrame, path: Path, name: str) -> str:
    if name in table.columns:
        return name
    alike = [str(column) for column in table if plain(str(column)) == plain(name) != ""]
    if len(alike) == 1:
        return alike[0]
    raise InputError(f'{path} has no column "{name}"; it has: {", ".join(table.columns)}')


def unused_patients(table: pd.DataFrame, used: Sequence[str], images: pd.Series) -> str | None:
    """Returns the name of a column that is not used and looks as if it held patients, by its name or because
    it has the same values for several images: identifiers, neither numbers with decimals, nor dates, nor one
    value for nearly every image or for most of them."""
    free = [str(column) for column in table if column not in used]
    if named := recognised(free, "patient"):
        return named[0]
    n_images = images.nunique()
    for column in free:
        cells = table[column]
        if (cells == "").mean() > 1 - MOST_SHARE:
            continue
        values = cells[cells != ""]
        distinct = values.nunique()
        if not max(FEWEST_PATIENTS, FEWEST_SHARE * n_images) <= distinct <= MOST_SHARE * n_images:
            continue
        numbers = values.str.fullmatch(r"[-+]?\d+([.,]\d+)?")
        if values.str.fullmatch(DATE).any() or values[numbers].str.contains("[.,]").any():
            continue
        if not numbers.all() or OF_PEOPLE.search(column):
            return column
    return None
