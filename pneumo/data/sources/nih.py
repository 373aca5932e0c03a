"""NIH ChestX-ray14: a table and PNG files."""

from dataclasses import dataclass

import pandas as pd

from pneumo.data.cohort import Cohort
from pneumo.data.sources.base import OnDisk
from pneumo.data.tables import need_columns, read_patients, read_table
from pneumo.errors import InputError


@dataclass(kw_only=True)
class Nih(OnDisk):
    """ChestX-ray14. An image is positive if its labels include `finding`."""

    table: str
    images: str
    finding: str = "Pneumothorax"

    def __call__(self) -> Cohort:
        path = self.folder() / self.table
        table = read_table(path)
        need_columns(table, path, ["Image Index", "Finding Labels", "Patient ID"])
        findings = table["Finding Labels"].str.split("|").map(lambda cell: [name.strip() for name in cell])
        there = sorted({name for names in findings for name in names} - {"", "No Finding"})
        if self.finding not in there:
            raise InputError(f'data.finding is "{self.finding}"; {path} has: {", ".join(there)}')
        label = findings.map(lambda names: "" if names == [""] else str(int(self.finding in names)))
        draft = self.draft(table, self.table, image=self._paths(table["Image Index"])).assign(
            image_id=table["Image Index"],
            label=label,
            **read_patients(
                table, patient_id="Patient ID", view="View Position", age="Patient Age", sex="Patient Gender"
            ),
        )
        return self.cohort("nih", draft, "Finding Labels")

    def _paths(self, names: pd.Series) -> pd.Series:
        """Returns the path of each image; `images` may be a pattern, since the release has twelve folders."""
        root = self.folder()
        try:
            folders = sorted(folder for folder in root.glob(self.images) if folder.is_dir())
        except (NotImplementedError, ValueError):
            raise InputError(f'data.images is "{self.images}", must be relative to data.root') from None
        if not folders:
            raise InputError(f'data.images: no folder "{self.images}" in {root}')
        files = (file for folder in reversed(folders) for file in folder.iterdir())
        paths = {file.name: str(file.relative_to(root)) for file in files}
        return names.map(lambda name: paths.get(name, f"{self.images}/{name}" if name else ""))
