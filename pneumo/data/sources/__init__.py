"""Data sources: each is a dataclass whose fields are its configuration and whose call gives a `Cohort`."""

from pneumo.data.sources.base import OnDisk, Source
from pneumo.data.sources.folders import Folders
from pneumo.data.sources.nih import Nih
from pneumo.data.sources.phantom import Phantom
from pneumo.data.sources.siim import SiimDicom, SiimPng
from pneumo.data.sources.table import Table

__all__ = ["Folders", "Nih", "OnDisk", "Phantom", "SiimDicom", "SiimPng", "Source", "Table"]
