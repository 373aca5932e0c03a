"""A DICOM file is shown as a viewer shows it, or refused by name before it costs anything."""

import base64
import random
from pathlib import Path

import dicoms
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from pneumo.data.decode.dicom import header
from pneumo.data.decode.grayscale import MAX_PIXELS, UnreadableError
from pneumo.data.decode.images import header_flag, load_grey

NOISE = np.random.default_rng(0).integers(0, 256, (40, 30), np.uint8)
DEEP = np.random.default_rng(0).integers(0, 4096, (40, 30), np.uint16)
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def grey(path: Path) -> np.ndarray:
    return load_grey(path.parent, path.name)


def shown(folder: Path, pixels: np.ndarray, **said: object) -> np.ndarray:
    return grey(dicoms.save(folder / "a.dcm", pixels, **said))


def refused(path: Path) -> str:
    with pytest.raises(UnreadableError) as error:
        grey(path)
    return str(error.value)


# of files that are meant to be broken; pytest takes away the filter that the room sets when it is imported
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

LOSSLESS = [
    *("ImplicitVRLittleEndian", "ExplicitVRLittleEndian", "ExplicitVRBigEndian", "RLELossless"),
    *("JPEGLossless", "JPEGLosslessSV1", "JPEGLSLossless", "JPEG2000Lossless"),
]


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_every_lossless_syntax_gives_back_each_pixel(tmp_path: Path, syntax: str) -> None:
    assert (grey(dicoms.save(tmp_path / "a.dcm", NOISE, syntax)) == NOISE).all()
    deep = grey(dicoms.save(tmp_path / "b.dcm", DEEP, syntax, BitsStored=12))
    assert (deep == np.rint(DEEP / 4095 * 255)).all()


@pytest.mark.parametrize("syntax", ["JPEGBaseline8Bit", "JPEGLSNearLossless", "JPEG2000"])
def test_every_lossy_syntax_comes_close(tmp_path: Path, syntax: str) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint8)
    found = grey(dicoms.save(tmp_path / "a.dcm", smooth, syntax)).astype(int)
    assert np.abs(found - smooth).max() <= 4


# 16 x 24 pixels, by libjpeg-turbo 3.1; its own decoder comes within 1 of DRAWN_12, as the test asks
JPEG_12 = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUV"
    "DA8XGBYUGBIUFRT/wQALDAAQABgBAREA/8QAFgABAQEAAAAAAAAAAAAAAAAADAYO/8QAHBAAAQMFAAAAAAAAAAAAAAAAAAsaR2eEpMLh"
    "/9oACAEBAAA/AAESVREFpqaGKfH1Ay+h3VKoiC01LV8fUDL6DSkqiILTUZavj6gZfT//2Q=="
)
DOWN, ACROSS = np.mgrid[:16, :24]
DRAWN_12 = np.where((DOWN // 8 + ACROSS // 8) % 2, np.minimum(4095 - DOWN * 100, 4095), ACROSS * 150)


def of_12_bits(path: Path, stream: bytes = JPEG_12, **said: object) -> Path:
    dataset = dicoms.made(DRAWN_12.astype(np.uint16), "JPEGExtended12Bit", **{"BitsStored": 12, **said})
    dataset.PixelData = encapsulate([stream])
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_a_jpeg_of_12_bits_is_read(tmp_path: Path) -> None:
    found = grey(of_12_bits(tmp_path / "a.dcm"))
    assert np.abs(found - DRAWN_12 / 4095 * 255).max() <= 0.5 + 255 / 4095
    negative = grey(of_12_bits(tmp_path / "b.dcm", PhotometricInterpretation="MONOCHROME1"))
    assert (negative == 255 - found).all()


def test_what_a_lossy_code_overshoots_does_not_darken_the_film(tmp_path: Path) -> None:
    found = grey(of_12_bits(tmp_path / "a.dcm", BitsStored=10))
    assert np.abs(found - np.minimum(DRAWN_12, 1023) / 1023 * 255).max() <= 1


def test_a_jpeg_of_8_bits_may_be_called_extended(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint8)
    dataset = dicoms.made(smooth, "JPEGBaseline8Bit")
    dataset.file_meta.TransferSyntaxUID = uid.JPEGExtended12Bit
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert np.abs(grey(tmp_path / "a.dcm").astype(int) - smooth).max() <= 4


def test_a_broken_jpeg_of_12_bits_ends_no_process_but_its_decoder(tmp_path: Path) -> None:
    choose, refused = random.Random(0), []
    for _ in range(60):
        broken = bytearray(JPEG_12)
        for _ in range(2):
            broken[choose.randrange(2, len(broken) - 2)] = choose.randrange(256)
        try:
            assert grey(of_12_bits(tmp_path / "a.dcm", bytes(broken))).shape == DRAWN_12.shape
        except UnreadableError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert all(said.startswith("a.dcm ") for said in refused)
    assert (grey(of_12_bits(tmp_path / "a.dcm"))[0, :3] == [0, 9, 19]).all()


def test_monochrome1_is_the_negative(tmp_path: Path) -> None:
    assert (shown(tmp_path, NOISE, PhotometricInterpretation="MONOCHROME1") == 255 - NOISE).all()


def test_numbers_without_a_window_are_shown_as_in_a_png(tmp_path: Path) -> None:
    for top in (255, 1023, 4095, 16383, 65535):
        numbers = np.linspace(0, top, 64).astype(np.uint16).reshape(8, 8)
        Image.fromarray(numbers).save(tmp_path / "a.png")
        assert (shown(tmp_path, numbers) == load_grey(tmp_path, "a.png")).all()


def test_a_window_is_worked_out_by_hand(tmp_path: Path) -> None:
    # C.11.2.1.2.1: (x - (c - .5)) / (w - 1) + .5 = (x - 100) / 200 + .5
    numbers = np.array([[0, 50], [100, 150], [200, 4000]], np.uint16)
    found = shown(tmp_path, numbers, WindowCenter=100.5, WindowWidth=201)
    assert found.tolist() == [[0, 64], [128, 191], [255, 255]]


def test_of_several_windows_the_first_counts(tmp_path: Path) -> None:
    several = shown(tmp_path, RAMP, WindowCenter=[700, 2000], WindowWidth=[500, 9])
    assert (several == shown(tmp_path, RAMP, WindowCenter=700, WindowWidth=500)).all()


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_agree_with_pydicoms_own(tmp_path: Path, function: str) -> None:
    said = {"WindowCenter": 900, "WindowWidth": 700, "VOILUTFunction": function}
    dataset = dicoms.made(RAMP, BitsStored=12, RescaleSlope=2, RescaleIntercept=-1000, **said)
    theirs = apply_voi_lut(apply_modality_lut(RAMP, dataset), dataset)  # from -1000 to 7190
    found = shown(tmp_path, RAMP, BitsStored=12, RescaleSlope=2, RescaleIntercept=-1000, **said)
    np.testing.assert_allclose(found, (theirs + 1000) / 8190 * 255, atol=0.51)


def test_an_empty_window_function_is_linear(tmp_path: Path) -> None:
    said = {"WindowCenter": 900, "WindowWidth": 700}
    empty = shown(tmp_path, RAMP, VOILUTFunction="", **said)
    assert (empty == shown(tmp_path, RAMP, VOILUTFunction="LINEAR", **said)).all()


@pytest.mark.parametrize(("function", "width"), [(None, 0), ("LINEAR", 0.5), ("", 0), ("SIGMOID", 0)])
def test_a_window_without_a_width_is_none(tmp_path: Path, function: str | None, width: float) -> None:
    found = shown(tmp_path, RAMP, WindowCenter=900, WindowWidth=width, VOILUTFunction=function)
    assert (found == shown(tmp_path, RAMP)).all()


def test_a_window_that_is_not_linear_may_be_narrower_than_1(tmp_path: Path) -> None:
    said = {"WindowCenter": 900, "WindowWidth": 0.5, "VOILUTFunction": "LINEAR_EXACT"}
    assert (shown(tmp_path, RAMP, **said) != shown(tmp_path, RAMP)).any()


def test_a_rescale_that_falls_turns_bright_to_dark(tmp_path: Path) -> None:
    said = {"BitsStored": 12, "RescaleSlope": -1, "RescaleIntercept": 4095}
    plain = shown(tmp_path, RAMP, BitsStored=12)
    assert (shown(tmp_path, RAMP, **said) == 255 - plain).all()
    windowed = shown(tmp_path, RAMP, WindowCenter=2048, WindowWidth=4096, **said)
    assert np.abs(windowed.astype(int) - (255 - plain)).max() <= 1


def test_signed_numbers_are_shown_over_their_range(tmp_path: Path) -> None:
    numbers = np.array([[-2048, -1024], [0, 2047]], np.int16)
    assert shown(tmp_path, numbers, BitsStored=12).tolist() == [[0, 64], [128, 255]]


def table(entries: list[int], first: int, bits: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "US", entries)
    return item


def test_a_table_of_8_bits_may_have_thousands_of_entries(tmp_path: Path) -> None:
    entries = [number >> 4 for number in range(4096)]
    found = shown(tmp_path, RAMP, BitsStored=12, VOILUTSequence=[table(entries, 0, 8)])
    assert (found == RAMP >> 4).all()


def test_a_voi_table_goes_before_a_window_and_ends_in_its_ends(tmp_path: Path) -> None:
    numbers = np.array([[0, 10], [11, 12], [13, 999]], np.uint16)
    item = table([0, 1023, 512, 255], 10, 10)
    found = shown(tmp_path, numbers, VOILUTSequence=[item], WindowCenter=1, WindowWidth=2)
    assert found.tolist() == [[0, 0], [255, 128], [64, 64]]


def test_a_modality_table_is_applied_first(tmp_path: Path) -> None:
    numbers = np.array([[0, 1], [2, 3]], np.uint8)
    found = shown(tmp_path, numbers, ModalityLUTSequence=[table([4095, 0, 2048, 1024], 0, 12)])
    assert found.tolist() == [[255, 0], [128, 64]]


@settings(max_examples=25)
@given(st.integers(1, 3000), st.integers(2, 3000), st.booleans())
def test_a_window_never_turns_the_order_of_brightness(centre: int, width: int, negative: bool) -> None:
    from pneumo.data.decode.dicom import _shown

    kind = "MONOCHROME1" if negative else "MONOCHROME2"
    said = {"WindowCenter": centre, "WindowWidth": width, "PhotometricInterpretation": kind}
    found = _shown(RAMP, dicoms.made(RAMP, BitsStored=12, **said)).ravel().astype(int)
    steps = np.diff(found)
    assert (steps <= 0).all() if negative else (steps >= 0).all()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"Modality": "CT"}, "a.dcm has the modality CT; radiographs are CR, DX, DR, RG"),
        ({"Modality": "MR"}, "has the modality MR"),
        ({"Modality": "MG"}, "has the modality MG"),
        ({"NumberOfFrames": 12}, "a.dcm has 12 frames; one can be read"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, 'a.dcm is in colour ("RGB")'),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, 'is in colour ("PALETTE COLOR")'),
        ({"BitsAllocated": 32}, "has 32 bits a pixel; 8 to 16 can be read"),
        ({"Rows": None}, "has no rows and columns in its header"),
        (
            {"PhotometricInterpretation": None},
            "a.dcm holds no image: its header has no PhotometricInterpretation",
        ),
    ],
)
def test_what_is_no_radiograph_is_refused_by_name_in_its_header(
    tmp_path: Path, said: dict[str, object], why: str
) -> None:
    path = dicoms.save(tmp_path / "a.dcm", NOISE, **said)
    assert why in refused(path)
    assert why in header(tmp_path, "a.dcm").problem


@pytest.mark.parametrize("modality", ["CR", "DX", "DR", "RG", "OT", None])
def test_radiographs_and_what_says_nothing_are_read(tmp_path: Path, modality: str | None) -> None:
    assert shown(tmp_path, NOISE, Modality=modality).shape == (40, 30)
    assert header(tmp_path, "a.dcm").problem == ""


def test_a_header_says_who_and_how_and_hides_no_gap(tmp_path: Path) -> None:
    said = {"PatientID": " P7 ", "PatientAge": "058Y", "PatientSex": "F", "ViewPosition": "AP"}
    dicoms.save(tmp_path / "a.dcm", NOISE, **said, BodyPartExamined="CHEST")
    found = header(tmp_path, "a.dcm")
    assert (found.patient_id, found.age, found.sex, found.view) == ("P7", "058Y", "F", "AP")
    assert (found.body_part, found.problem) == ("CHEST", "")
    dicoms.save(tmp_path / "b.dcm", NOISE)
    assert (header(tmp_path, "b.dcm").patient_id, header(tmp_path, "b.dcm").view) == ("", "")


@pytest.mark.parametrize(
    ("said", "flag"),
    [
        (
            {"PresentationIntentType": "FOR PROCESSING"},
            'header: PresentationIntentType "FOR PROCESSING", not for presentation',
        ),
        (
            {"PresentationIntentType": "FOR PROCESSING", "BodyPartExamined": "HAND"},
            'header: BodyPartExamined "HAND"; header: PresentationIntentType "FOR PROCESSING", not for '
            "presentation",
        ),
        ({"PresentationIntentType": "FOR PRESENTATION"}, ""),
    ],
)
def test_values_of_the_detector_that_are_no_image_to_look_at_yet_are_flagged(
    tmp_path: Path, said: dict[str, object], flag: str
) -> None:
    dicoms.save(tmp_path / "a.dcm", NOISE, **said)
    assert header(tmp_path, "a.dcm").flag == header_flag(tmp_path, "a.dcm") == flag


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    path = dicoms.save(tmp_path / "a.dcm", NOISE, Rows=60_000, Columns=65_000)
    said = refused(path)
    assert said == (f"a.dcm is 65,000 x 60,000 pixels (3,900,000,000); from 1 to {MAX_PIXELS:,} can be read")
    assert header(tmp_path, "a.dcm").problem == said


@pytest.mark.parametrize(
    "syntax", ["JPEGBaseline8Bit", "JPEGLosslessSV1", "JPEGLSLossless", "JPEG2000Lossless"]
)
@pytest.mark.parametrize("rows", [10, 41])
def test_a_stream_of_another_size_than_its_header_is_refused(tmp_path: Path, syntax: str, rows: int) -> None:
    path = dicoms.retold(dicoms.save(tmp_path / "a.dcm", NOISE, syntax), Rows=rows)
    assert refused(path) == f"a.dcm holds 30 x 40 pixels, its header says 30 x {rows}"


@pytest.mark.parametrize(
    "syntax", ["JPEGBaseline8Bit", "JPEGLosslessSV1", "JPEGLSLossless", "JPEG2000Lossless"]
)
def test_a_stream_without_its_end_is_truncated(tmp_path: Path, syntax: str) -> None:
    path = dicoms.save(tmp_path / "a.dcm", NOISE, syntax)
    dataset = pydicom.dcmread(path)
    stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([stream[: len(stream) // 2]])
    dataset.save_as(path)
    assert "a.dcm is truncated: its JPEG" in refused(path)


def test_seven_bits_stored_in_eight_are_decoded(tmp_path: Path) -> None:
    path = dicoms.save(tmp_path / "a.dcm", NOISE >> 1, "JPEGLosslessSV1")
    assert (grey(dicoms.retold(path, BitsStored=7, HighBit=6)) == NOISE >> 1).all()


@pytest.mark.parametrize("syntax", ["ExplicitVRLittleEndian", "RLELossless", "JPEGLSLossless"])
def test_a_truncated_file_is_refused_wherever_it_is_cut(tmp_path: Path, syntax: str) -> None:
    whole = dicoms.save(tmp_path / "a.dcm", NOISE, syntax).read_bytes()
    for kept in [*range(0, 600, 7), *range(600, len(whole) - 8, 97)]:
        (tmp_path / "a.dcm").write_bytes(whole[:kept])
        assert refused(tmp_path / "a.dcm").startswith("a.dcm ")
    (tmp_path / "a.dcm").write_bytes(whole[:-200])
    assert "is truncated" in refused(tmp_path / "a.dcm")


def test_a_file_with_broken_bytes_never_raises_anything_else(tmp_path: Path) -> None:
    whole, choose = bytearray(dicoms.save(tmp_path / "a.dcm", NOISE).read_bytes()), random.Random(0)
    refused = []
    for _ in range(150):
        broken = whole.copy()
        for _ in range(3):
            broken[choose.randrange(len(broken) - NOISE.size)] = choose.randrange(256)
        (tmp_path / "a.dcm").write_bytes(broken)
        found = header(tmp_path, "a.dcm").problem
        assert found == "" or found.startswith("a.dcm ")
        try:
            grey(tmp_path / "a.dcm")
        except UnreadableError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert all(said.startswith("a.dcm ") for said in refused)


@pytest.mark.parametrize(
    ("syntax", "said"),
    [
        ("MPEG2MPML", "a.dcm cannot be decoded: MPEG2 Main Profile / Main Level (1.2.840.10008.1.2.4.100)"),
        ("HTJ2KLossless", "High-Throughput JPEG 2000"),
        ("DeflatedExplicitVRLittleEndian", "(Deflated Explicit VR Little Endian, 1.2.840.10008.1.2.1.99)"),
    ],
)
def test_what_cannot_be_decoded_names_its_transfer_syntax(tmp_path: Path, syntax: str, said: str) -> None:
    dataset = dicoms.made(NOISE, syntax)
    if syntax != "DeflatedExplicitVRLittleEndian":
        dataset.PixelData = encapsulate([bytes(100)])
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert said in refused(tmp_path / "a.dcm")


def test_dicom_is_known_by_its_content_and_by_its_name(tmp_path: Path) -> None:
    dicoms.save(tmp_path / "a.png", NOISE)
    assert (load_grey(tmp_path, "a.png") == NOISE).all()
    Image.fromarray(NOISE).save(tmp_path / "b.dcm", "png")
    assert refused(tmp_path / "b.dcm") == "b.dcm is not a DICOM file: it has no DICM at byte 128"
