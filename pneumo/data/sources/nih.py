"""NIH ChestX-ray14: its table and its PNG files."""

from dataclasses import dataclass

import pandas as pd

from pneumo.data.cohort import Cohort
from pneumo.data.sources.base import OnDisk, _described
from pneumo.data.tables import known, need_columns, read_table
from pneumo.errors import InputError


@dataclass(kw_only=True)
class Nih(OnDisk):
    """ChestX-ray14's table and pictures; positive are those whose report mentions `finding`."""

    table: str
    images: str
    finding: str = "Pneumothorax"

    def __call__(self) -> Cohort:
        path = self.folder() / self.table
        table = read_table(path)
        need_columns(table, path, ["Image Index", "Finding Labels", "Patient ID"])
        findings = table["Finding Labels"].str.split("|").map(lambda named: [one.strip() for one in named])
        there = sorted({one for named in findings for one in named} - {"", "No Finding"})
        if self.finding not in there:
            raise InputError(f'data.finding is "{self.finding}"; {path} has: {", ".join(there)}')
        label = findings.map(lambda named: "" if named == [""] else str(int(self.finding in named)))
        draft = self._draft(table, self.table, image=self._places(table["Image Index"])).assign(
            image_id=table["Image Index"],
            label=label,
            patient_id=known(table["Patient ID"]),
            **_described(table, view="View Position", age="Patient Age", sex="Patient Gender"),
        )
        return self._from_draft("nih", draft, "Finding Labels")

    def _places(self, names: pd.Series) -> pd.Series:
        """Where each picture lies: `images` may be a pattern, since the release has twelve folders."""
        root = self.folder()
        try:
            folders = sorted(folder for folder in root.glob(self.images) if folder.is_dir())
        except (NotImplementedError, ValueError):
            raise InputError(f'data.images is "{self.images}", must be relative to data.root') from None
        if not folders:
            raise InputError(f'data.images: no folder "{self.images}" in {root}')
        place_of = {
            file.name: str(file.relative_to(root))
            for folder in reversed(folders)
            for file in folder.iterdir()
        }
        return names.map(lambda name: place_of.get(name, f"{self.images}/{name}" if name else ""))
