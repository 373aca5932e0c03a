"""DICOM files made on the spot, of any transfer syntax that can be written here."""

import io
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

BY_GDCM = {
    "JPEGLossless": gdcm.TransferSyntax.JPEGLosslessProcess14,
    "JPEGLosslessSV1": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "JPEGLSLossless": gdcm.TransferSyntax.JPEGLSLossless,
    "JPEGLSNearLossless": gdcm.TransferSyntax.JPEGLSNearLossless,
    "JPEG2000Lossless": gdcm.TransferSyntax.JPEG2000Lossless,
    "JPEG2000": gdcm.TransferSyntax.JPEG2000,
    "RLELossless": gdcm.TransferSyntax.RLELossless,
}


def made(pixels: np.ndarray, syntax: str = "ExplicitVRLittleEndian", **said: Any) -> Dataset:
    """(H, W) uint8, uint16 or int16 -> a radiograph; `said` are header values by keyword, None for none."""
    bits = pixels.dtype.itemsize * 8
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = getattr(uid, syntax)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = uid.ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    header = {
        "Modality": "CR",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    for name, value in (header | said).items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.HighBit = dataset.BitsStored - 1
    order = ">" if syntax == "ExplicitVRBigEndian" else "<"
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    dataset["PixelData"].VR = "OW" if bits == 16 else "OB"
    if syntax == "JPEGBaseline8Bit":
        jpeg = io.BytesIO()
        Image.fromarray(pixels).save(jpeg, "jpeg", quality=95)
        dataset.PixelData = encapsulate([jpeg.getvalue()])
    return dataset


def save(path: Path, pixels: np.ndarray, syntax: str = "ExplicitVRLittleEndian", **said: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if syntax not in BY_GDCM:
        made(pixels, syntax, **said).save_as(path, enforce_file_format=True)
        return path
    made(pixels, **said).save_as(path, enforce_file_format=True)
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(BY_GDCM[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path


def retold(path: Path, **said: Any) -> Path:
    """The same file with other header values."""
    dataset = pydicom.dcmread(path)
    for name, value in said.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    return path
