"""What is read from the header of a DICOM file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Header:
    """Texts of a header ("" if missing), the reason why its image cannot be read ("" if it can), and as
    `flag` the text that contradicts a frontal chest radiograph to look at ("" if none does)."""

    patient_id: str = ""
    view: str = ""
    age: str = ""
    sex: str = ""
    body_part: str = ""
    problem: str = ""
    flag: str = ""
