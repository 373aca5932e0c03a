"""Reads the header of a DICOM file, and its pixels as grey.

Pixels are shown as viewers do: stored values, modality LUT or rescale, VOI LUT or else the first window or
else the range of the detector, 8 bits, and MONOCHROME1 inverted. This is computed once for each stored value
and then looked up for the pixels.

Pillow decodes JPEG baseline and JPEG 2000 (other threads run meanwhile), GDCM decodes JPEG-LS, lossless and
12-bit JPEG in another process (`gdcm_process`), and pydicom RLE. The size in a stream is checked first, since
GDCM does not notice a stream that is smaller than its header says.

H and W are the size of a file; L is the number of stored values from its smallest to its largest.
"""

import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import uid
from pydicom.encaps import generate_frames
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut, apply_windowing

from pneumo.data.decode import body_part, gdcm_process
from pneumo.data.decode.grayscale import Pixel, UnreadableError, detector_top, eight_bits, need_size
from pneumo.data.decode.header import Header
from pneumo.errors import one_line

Floats = npt.NDArray[np.float64]

RADIOGRAPHY = ("CR", "DX", "DR", "RG")
SAYS_NOTHING = ("", "OT", "SC")  # images that were converted to DICOM later
GREY = ("MONOCHROME1", "MONOCHROME2")
HEADER = (
    *("PatientID", "ViewPosition", "PatientAge", "PatientSex", "BodyPartExamined", "Modality"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated"),
    "PresentationIntentType",
)
TEXTS = {  # of body part and view: the name here -> the attribute (of a sequence, the code's meaning)
    **{name: name for name in (*body_part.SERIES_TEXTS, *body_part.STUDY_TEXTS, *body_part.VIEW_TEXTS)},
    **{"AnatomicRegion": "AnatomicRegionSequence", "ViewCode": "ViewCodeSequence"},
}
LONGEST_TEXT = 64  # characters, as DICOM has it for one line
DECODERS = {
    uid.JPEGBaseline8Bit: "pillow",
    uid.JPEGExtended12Bit: "gdcm",
    **dict.fromkeys((uid.JPEG2000, uid.JPEG2000Lossless), "pillow"),
    **dict.fromkeys((uid.JPEGLossless, uid.JPEGLosslessSV1), "gdcm"),
    **dict.fromkeys((uid.JPEGLSLossless, uid.JPEGLSNearLossless), "gdcm"),
}
START_OF_FRAME = {*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7}
READERS = 8  # threads, which wait for headers on a network disk
FAR = 1e12  # beyond any window

# pydicom's warnings on invalid headers do not help a user; what matters is refused below
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
warnings.filterwarnings("ignore", module=r"pydicom\.")


def headers(root: Path, paths: list[str]) -> list[Header]:
    """Returns the headers of files, in order, like `header`."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="header") as pool:
        return list(pool.map(lambda path: header(root, path), paths))


def header(root: Path, path: str) -> Header:
    """Returns the header of a file. It raises nothing: what is wrong is in `problem`."""
    try:
        dataset = _opened(root / path, stop_before_pixels=True, specific_tags=[*HEADER, *TEXTS.values()])
        patient, view, age, sex, part = (str(dataset.get(name) or "").strip() for name in HEADER[:5])
        problem = _problem(dataset)
        texts = {name: _text(dataset, key) for name, key in TEXTS.items()}
        flags = body_part.not_frontal_chest(texts), _unprocessed(dataset)
    except UnreadableError as error:
        return Header(problem=f"{path} {error}")
    except Exception as error:  # on a broken file pydicom raises nearly anything
        return Header(problem=f"{path} is not a readable DICOM file ({error})")
    return Header(
        patient, view, age, sex, part, problem and f"{path} {problem}", "; ".join(filter(None, flags))
    )


def _text(dataset: pydicom.Dataset, name: str) -> str:
    text = dataset.get(name)
    if name.endswith("Sequence"):
        text = text[0].get("CodeMeaning") if text else ""
    return one_line(str(text or "").strip())[:LONGEST_TEXT]


def _unprocessed(dataset: pydicom.Dataset) -> str:
    """Returns the text of a header that says its values are those of the detector, which are no image to look
    at, or "" if it does not."""
    intent = _text(dataset, "PresentationIntentType")
    is_raw = intent.upper() == "FOR PROCESSING"
    return f'header: PresentationIntentType "{intent}", not for presentation' if is_raw else ""


def load(path: Path) -> Pixel:
    """Returns the image (H, W) as uint8, bright where the body is dense. Raises UnreadableError, and errors
    of pydicom."""
    if problem := _problem(_opened(path, stop_before_pixels=True)):
        raise UnreadableError(problem)
    dataset = _opened(path)
    by_gdcm = DECODERS.get(dataset.file_meta.TransferSyntaxUID) == "gdcm"
    return _shown(gdcm_process.decoded(path) if by_gdcm else stored(path), dataset)


def _opened(path: Path, **options: Any) -> pydicom.FileDataset:
    try:
        syntax = read_file_meta_info(path).get("TransferSyntaxUID")
    except InvalidDicomError:
        raise UnreadableError("is not a DICOM file: it has no DICM at byte 128") from None
    if syntax is None:
        raise UnreadableError("names no transfer syntax, so it is truncated or not a DICOM file")
    if syntax == uid.DeflatedExplicitVRLittleEndian:  # would be inflated whole before its header is seen
        raise UnreadableError(f"is deflated as a whole ({syntax.name}, {syntax}), which is not read")
    return pydicom.dcmread(path, **options)


def _problem(dataset: pydicom.Dataset) -> str:
    """Returns the reason why the image of a header cannot be read, or ""."""
    modality = str(dataset.get("Modality") or "").strip()
    if modality not in RADIOGRAPHY + SAYS_NOTHING:
        return f"has the modality {modality}; radiographs are {', '.join(RADIOGRAPHY)}"
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        return f"has {frames:,} frames; one can be read"
    colours = str(dataset.get("PhotometricInterpretation") or "")
    if not colours:
        return "holds no image: its header has no PhotometricInterpretation"
    if dataset.get("SamplesPerPixel", 1) != 1 or colours not in GREY:
        return f'is in colour ("{colours}"); {" and ".join(GREY)} can be read'
    if (bits := dataset.get("BitsAllocated")) not in (8, 16):
        return f"has {bits} bits a pixel; 8 to 16 can be read"
    if not (dataset.get("Rows") and dataset.get("Columns")):
        return "has no rows and columns in its header"
    try:
        need_size(dataset.Rows, dataset.Columns)
    except UnreadableError as error:
        return str(error)
    return ""


def stored(path: Path) -> gdcm_process.Stored:
    """Returns the values (H, W) that the detector stored, decoded in this process. Raises UnreadableError."""
    dataset = _opened(path)
    syntax = dataset.file_meta.TransferSyntaxUID
    if not dataset.get("PixelData"):
        raise UnreadableError(f"is truncated: its {path.stat().st_size:,} bytes hold no whole pixel data")
    wanted = dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8
    if not syntax.is_compressed and len(dataset.PixelData) < wanted:
        raise UnreadableError(f"is truncated: {len(dataset.PixelData):,} of {wanted:,} bytes of pixels")
    plugin, bits = DECODERS.get(syntax, ""), 0
    if syntax in DECODERS:  # their streams hold their own size
        stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
        bits = _coded_bits(stream, dataset)
    if syntax == uid.JPEGExtended12Bit and bits <= 8:
        plugin = "pillow"
    options: dict[str, Any] = {"decoding_plugin": plugin}
    if dataset.BitsAllocated == 8:
        options["bits_stored"] = 8  # GDCM ends the process with fewer
    try:
        if syntax == uid.JPEGExtended12Bit and bits > 8:
            return _twelve_bits(stream, dataset)
        numbers, _ = get_decoder(syntax).as_array(dataset, raw=True, **options)
    except Exception:  # of several decoders, each with its own
        raise UnreadableError(
            f"cannot be decoded: {syntax.name} ({syntax}), {dataset.get('BitsStored')} bits"
        ) from None
    return numbers


def _twelve_bits(stream: bytes, dataset: pydicom.Dataset) -> gdcm_process.Stored:
    """Returns the values (H, W) of a lossy 12-bit JPEG, decoded by GDCM, which pydicom does not use for them.
    Values above the bits stored are clipped, since they would indicate a larger detector."""
    import gdcm  # only imported in the processes of the decoders

    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(stream)
    fragments.AddFragment(fragment)
    pixel_data = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    pixel_data.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((dataset.Columns, dataset.Rows, 1))
    image.SetDataElement(pixel_data)
    grey = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, 0))
    numbers = np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), np.uint16)
    cut_off: gdcm_process.Stored = np.minimum(numbers, 2**dataset.BitsStored - 1)
    return cut_off.reshape(dataset.Rows, dataset.Columns)


def _coded_bits(stream: bytes, dataset: pydicom.Dataset) -> int:
    """Of a pixel in a JPEG, JPEG-LS or JPEG 2000 stream. Raises UnreadableError where it is cut short, or of
    another size than its header says."""
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        height, width, bits = _coded_size(stream)
    except (struct.error, IndexError):
        raise UnreadableError(f"cannot be decoded: no {syntax.name} ({syntax}) in its pixel data") from None
    if (height, width) != (dataset.Rows, dataset.Columns):
        raise UnreadableError(
            f"holds {width:,} x {height:,} pixels, its header says {dataset.Columns:,} x {dataset.Rows:,}"
        )
    if bits > dataset.BitsAllocated:
        raise UnreadableError(f"holds {bits} bits a pixel, its header says {dataset.BitsAllocated}")
    if b"\xff\xd9" not in stream[-16:]:  # GDCM would fill up what is missing; after it comes padding only
        raise UnreadableError(f"is truncated: its {syntax.name} stream has no end")
    return bits


def _coded_size(stream: bytes) -> tuple[int, int, int]:
    """Returns height, width and bits, from SIZ of a JPEG 2000 codestream or the frame header of other
    JPEGs."""
    codestream = stream.find(b"\xff\x4f\xff\x51")
    if codestream == 0 or stream[4:8] == b"jP  ":
        right, bottom, left, top = struct.unpack_from(">4I", stream, codestream + 8)
        return bottom - top, right - left, (stream[codestream + 42] & 0x7F) + 1
    at = 2  # past SOI
    while stream[at + 1] not in START_OF_FRAME:
        (length,) = struct.unpack_from(">H", stream, at + 2)
        at += 1 if stream[at + 1] == 0xFF else 2 + length  # a marker may have fill bytes before it
    bits, height, width = struct.unpack_from(">B2H", stream, at + 4)
    return height, width, bits


def _shown(stored: npt.NDArray[np.integer[Any]], dataset: pydicom.Dataset) -> Pixel:
    least = int(stored.min())
    numbers = np.arange(least, int(stored.max()) + 1)
    shares = _shares(numbers, dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shares = 1 - shares
    shown: Pixel = eight_bits(shares)[np.subtract(stored, least, dtype=np.int32)]
    return shown


def _shares(numbers: npt.NDArray[np.int64], dataset: pydicom.Dataset) -> Floats:
    """Returns (L,) stored values as (L,) shares of full brightness, before MONOCHROME1 is inverted."""
    values, (dark, bright) = _measured(numbers, dataset)
    if tables := dataset.get("VOILUTSequence"):
        values, bright = _looked_up(values, tables[0], dataset)
        return values / bright
    if _has_window(dataset):
        with np.errstate(over="ignore"):  # in a sigmoid, whose limit is right
            dark, bright = apply_windowing(np.array([-FAR, FAR]), dataset)
            values = apply_windowing(values, dataset)
    return np.asarray((values - dark) / (bright - dark))


def _has_window(dataset: pydicom.Dataset) -> bool:
    """Whether a header has a window that can be applied: its width is 1 or more, or above 0 where its
    function is not LINEAR. An empty function becomes LINEAR, as DICOM has it for a missing one."""
    if dataset.get("WindowCenter") is None or dataset.get("WindowWidth") is None:
        return False
    if not dataset.get("VOILUTFunction"):
        dataset.VOILUTFunction = "LINEAR"
    width = float(np.ravel(dataset.WindowWidth)[0])
    return width >= 1 if dataset.VOILUTFunction.upper() == "LINEAR" else width > 0


def _measured(numbers: npt.NDArray[np.int64], dataset: pydicom.Dataset) -> tuple[Floats, Floats]:
    """Returns (L,) stored values after modality LUT or rescale, and the ends of the detector's range."""
    if tables := dataset.get("ModalityLUTSequence"):
        values, top = _looked_up(numbers, tables[0], dataset)
        return values, np.array([0, top])
    if dataset.get("PixelRepresentation"):
        half = 2 ** (dataset.BitsStored - 1)
        ends = np.array([-half, half - 1])
    else:
        ends = np.array([0, detector_top(numbers)])
    rescaled = apply_modality_lut(np.concatenate([numbers, ends]), dataset).astype(np.float64)
    return rescaled[:-2], np.sort(rescaled[-2:])


def _looked_up(
    values: npt.NDArray[Any], item: pydicom.Dataset, dataset: pydicom.Dataset
) -> tuple[Floats, float]:
    """Returns entries of a lookup table, and the largest possible one. pydicom's own lookup wraps at 256 if a
    table of 8 bits has more entries, and does not support modality tables of 10 to 14 bits."""
    n_entries, first, bits = (int(number) for number in item.LUTDescriptor)
    table, order = item["LUTData"], "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    raw = np.frombuffer(table.value, order + "u2") if table.VR == "OW" else table.value
    entries = np.asarray(raw, np.float64)[: n_entries or 2**16]
    places = np.clip(np.rint(values).astype(np.int64) - first, 0, len(entries) - 1)
    return entries[places], 2**bits - 1
