"""Tables, run-length codes, PNG and DICOM files with bytes changed at random: never a traceback, a hang or a
silently wrong label."""

import csv
import gzip
import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from fuzzing import fuzzed, mutated, mutations, no_hang
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pneumo.data.cohort import Cohort
from pneumo.data.decode.images import UnreadableError, load_grey
from pneumo.data.decode.lesion_rle import decode_rle
from pneumo.data.sources.table import Table
from pneumo.errors import InputError

TABLES = [
    b"image,label,patient\na.png,0,p\nb.png,1,q\nc.png,1.0,\nd.png,0,r\n",
    b'\xef\xbb\xbfimage, label ,patient\r\n"a.png",0,p\r\n\r\nb.png,"1","q, r"\r\nc.png,1,\r\n',
    b'patient,label,image\n"two\nlines",0,a.png\nq,1,b.png\nq,1,b.png\nr,0,"sub/e.png"\n',
]
TABLE_TOKENS = (
    *(b"0", b"1", b"1.0", b"2", b"-1", b" ", b",", b",,", b"\n", b"\r", b"\r\n", b'"', b'""', b"\0", b"\t"),
    *(b"a.png", b"label", b"\xff\xfe", b"\xc2\xa0", b"\xef\xbb\xbf", b"#", b";", b"nan", b"1e0", b"\x1a"),
)
LABELS = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}
LABELS |= dict.fromkeys("pty+", 1) | dict.fromkeys("nf-", 0)  # the usual spellings of one character


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    (folder / "sub").mkdir()
    for name in ("a.png", "b.png", "c.png", "d.png", "sub/e.png"):
        Image.new("L", (8, 8)).save(folder / name)
    return folder


def naive_rows(content: bytes) -> list[dict[str, str]]:
    """Cell by cell, by another reader than ours."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252")
    lines = csv.reader(io.StringIO(text, newline=""))
    header, *rows = [[cell.strip() for cell in line] for line in lines]
    header = [re.sub(r"[\W_]+", "", name).lower() for name in header]
    filled = [row for row in rows if any(row)]
    return [dict(zip(header, row + [""] * (len(header) - len(row)), strict=True)) for row in filled]


def naive_labels(rows: list[dict[str, str]]) -> dict[str, set[int | None]]:
    """What the rows of each image say; None for what is no label."""
    said: dict[str, set[int | None]] = {}
    for row in rows:
        said.setdefault(row["image"], set()).add(LABELS.get(row["label"].lower()))
    return said


def taken(root: Path, name: str, content: bytes, on_error: str, **fields: object) -> Cohort | None:
    """None: refused, in words."""
    (root / name).write_bytes(content)
    columns = {"image": "image", "label": "label", "patient": "patient"}
    try:
        with no_hang():
            return Table(
                root=str(root),
                table=name,
                image_side_px=8,
                on_error=on_error,
                **{"columns": columns, **fields},
            )()
    except InputError:
        return None


@fuzzed
@given(mutations(TABLES, *TABLE_TOKENS), st.sampled_from(["raise", "skip"]))
def test_a_changed_table_is_refused_or_read_to_the_labels_that_it_holds(
    root: Path, content: bytes, on_error: str
) -> None:
    cohort = taken(root, "t.csv", content, on_error)
    if cohort is not None:
        agrees_with(cohort, content, on_error)


def agrees_with(cohort: Cohort, content: bytes, on_error: str) -> None:
    said = naive_labels(naive_rows(content))
    labels = dict(zip(cohort.table["image_id"], cohort.table["label"], strict=True))
    if on_error == "raise":
        assert {image: {label} for image, label in labels.items()} == said
    else:
        assert {image: said[image] - {None} for image in labels} == {
            i: {label} for i, label in labels.items()
        }


@fuzzed
@given(mutations([gzip.compress(TABLES[0], mtime=0)]), st.sampled_from(["raise", "skip"]))
def test_a_changed_gzip_is_refused_or_read_to_the_labels_that_it_holds(
    root: Path, content: bytes, on_error: str
) -> None:
    cohort = taken(root, "t.csv.gz", content, on_error)
    if cohort is not None:
        agrees_with(cohort, gzip.decompress(content), on_error)


CODES = [b"0 2 3 4 5 6", b"-1", b" 17 3 1 1 1 1 8 8", b"63 1"]
CODE_TOKENS = (b"-", b"+", b"_", b".", b" ", b"\t", b"\n", b"e", b"0", b"9" * 30, b"\xd9\xa3", b"\xc2\xb2")


def naive_mask(text: str) -> list[list[int]] | None:
    """(8, 8), pixel by pixel down one column after another; None: it is no code of such a mask."""
    numbers = [int(word) for word in re.findall(r"\S+", text) if re.fullmatch("-?[0-9]+", word)]
    if len(numbers) != len(text.split()) or len(numbers) % 2 or any(number < 0 for number in numbers):
        return None
    mask, at = [[0] * 8 for _ in range(8)], 0
    for offset, length in zip(numbers[::2], numbers[1::2], strict=True):
        at += offset
        if at + length > 64:
            return None
        for _ in range(length):
            mask[at % 8][at // 8] = 255
            at += 1
    return mask


@fuzzed
@given(mutations(CODES, *CODE_TOKENS))
def test_a_changed_code_is_refused_or_gives_the_mask_that_it_says(content: bytes) -> None:
    text = content.decode("utf-8", "ignore")
    expected = [[0] * 8] * 8 if text.strip() in ("", "-1") else naive_mask(text)
    try:
        with no_hang():
            mask = decode_rle([text], 8, 8).tolist()
    except UnreadableError:
        mask = None
    assert mask == expected


def png(mode: str) -> bytes:
    deep = np.arange(256, dtype=np.uint16).reshape(16, 16) * 16
    grey = Image.fromarray((deep // 16).astype(np.uint8))
    buffer = io.BytesIO()
    (Image.fromarray(deep) if mode == "I;16" else grey.convert(mode)).save(buffer, "png")
    return buffer.getvalue()


def with_checksums(content: bytes) -> bytes:
    """A PNG whose chunks are as changed as before, but whose checksums are right."""
    whole, at = content[:8], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        body = content[at + 4 : at + 8 + length]
        whole += content[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return whole


PNGS = [png(mode) for mode in ("L", "RGB", "P", "1", "LA", "I;16")]
PNG_TOKENS = (b"\0", b"\xff", b"IEND", b"IDAT", b"PLTE", b"tRNS", b"acTL", b"\0\0\xff\xff", b"zTXt", b"\x10")


def is_a_picture_or_refused(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    refused = None
    try:
        with no_hang():
            grey = load_grey(folder, name)
    except UnreadableError as error:
        refused = str(error)
    if refused is not None:
        assert refused.startswith(f"{name} ")
        return
    assert grey.dtype == np.uint8
    assert grey.ndim == 2
    assert grey.size


@fuzzed
@given(mutations(PNGS, *PNG_TOKENS), st.booleans())
def test_a_changed_png_is_refused_or_a_picture(root: Path, content: bytes, checked: bool) -> None:
    is_a_picture_or_refused(root, "x.png", with_checksums(content) if checked else content)


def dicom() -> bytes:
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    dataset.PatientID, dataset.Modality = "p", "CR"
    dataset.Rows = dataset.Columns = 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME1"
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    dataset.PixelData = (np.arange(64, dtype=np.uint16) * 64).tobytes()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def radiograph() -> bytes:
    return dicom()


@fuzzed
@given(st.data())
@pytest.mark.filterwarnings("ignore")  # pydicom tells of what is odd
def test_a_changed_dicom_is_refused_or_a_picture(root: Path, radiograph: bytes, data: st.DataObject) -> None:
    head = data.draw(st.booleans())  # the pixels are dull
    split = len(radiograph) - 128
    changed = data.draw(
        mutated(radiograph[128:split] if head else radiograph, (b"\0", b"\xff", b"OB", b"US"))
    )
    content = radiograph[:128] + changed + radiograph[split:] if head else changed
    is_a_picture_or_refused(root, "x.dcm", content)


SYNTAXES = ["JPEGLosslessSV1", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless"]


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Files of 16 bits: there GDCM ends its process over some changes."""
    import dicoms

    folder, deep = tmp_path_factory.mktemp("dicom"), np.arange(4096, dtype=np.uint16).reshape(64, 64)
    return [dicoms.save(folder / syntax, deep, syntax).read_bytes() for syntax in SYNTAXES]


@fuzzed
@given(st.data())
@pytest.mark.filterwarnings("ignore")  # pydicom tells of what is odd
def test_a_changed_compressed_dicom_is_refused_or_a_picture(
    root: Path, compressed: list[bytes], data: st.DataObject
) -> None:
    whole = data.draw(st.sampled_from(compressed))
    pixels = whole.index(b"\xe0\x7f\x10\x00")
    changed = data.draw(mutated(whole[pixels:], (b"\0", b"\xff", b"\xff\xc4", b"\xff\xda")))
    is_a_picture_or_refused(root, "x.dcm", whole[:pixels] + changed)
