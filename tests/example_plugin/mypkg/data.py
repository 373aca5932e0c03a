from dataclasses import dataclass

import pandas as pd

from pneumo.data.cohort import Cohort
from pneumo.data.sources import OnDisk


@dataclass(kw_only=True)
class TwoFolders(OnDisk):
    """PNG files in the folders `pneumothorax` and `normal`, named PATIENT_NUMBER.png."""

    def __call__(self) -> Cohort:
        files = sorted(path.relative_to(self.folder()) for path in self.folder().glob("*/*.png"))
        table = pd.DataFrame({"image": map(str, files)}, index=range(1, len(files) + 1))
        draft = self.draft(table, "the folders", image=table["image"]).assign(
            image_id=table["image"],
            label=["1" if path.parent.name == "pneumothorax" else "0" for path in files],
            patient_id=[path.stem.split("_")[0] for path in files],
        )
        return self.cohort("two_folders", draft, "label")
