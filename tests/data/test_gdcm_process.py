"""DICOM files that GDCM decodes in other processes, which may die, stay idle and be shared by threads."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import dicoms
import numpy as np
import psutil
import pytest

from pneumo.data.decode import gdcm_process
from pneumo.data.decode.grayscale import UnreadableError
from pneumo.data.decode.images import load_grey

NOISE = np.random.default_rng(0).integers(0, 256, (40, 30), np.uint8)


def grey(path: Path) -> np.ndarray:
    return load_grey(path.parent, path.name)


def test_a_decoder_that_dies_on_a_file_costs_this_file_alone(tmp_path: Path, monkeypatch) -> None:
    path = dicoms.save(tmp_path / "a.dcm", NOISE, "JPEGLosslessSV1")
    assert (grey(path) == NOISE).all()
    with monkeypatch.context() as patch:
        patch.setattr(gdcm_process, "SERVING", "import os; input(); os.abort()")
        gdcm_process.stop_all()
        with pytest.raises(UnreadableError, match=r"^a\.dcm cannot be decoded: .* that the decoder died$"):
            grey(path)
    assert not gdcm_process.idle
    assert (grey(path) == NOISE).all()


@pytest.mark.parametrize("is_waited_for", [True, False])
def test_a_decoder_that_died_while_it_was_idle_costs_no_file(tmp_path: Path, is_waited_for: bool) -> None:
    path = dicoms.save(tmp_path / "a.dcm", NOISE, "JPEGLosslessSV1")
    assert (grey(path) == NOISE).all()
    assert gdcm_process.idle
    for decoder in gdcm_process.idle:
        decoder.kill()
        if is_waited_for:
            decoder.wait()
    assert (grey(path) == NOISE).all()


def test_a_relative_path_is_that_of_the_folder_in_which_it_is_asked_for(tmp_path: Path, monkeypatch) -> None:
    for name, pixels in (("one", NOISE), ("two", 255 - NOISE)):
        dicoms.save(tmp_path / name / "a.dcm", pixels, "JPEGLosslessSV1")
    gdcm_process.stop_all()
    for name, pixels in (("one", NOISE), ("two", 255 - NOISE)):
        monkeypatch.chdir(tmp_path / name)
        assert (load_grey(Path(), "a.dcm") == pixels).all()


def test_a_decoder_runs_no_file_of_the_folder_in_which_it_is_started(tmp_path: Path, monkeypatch) -> None:
    path = dicoms.save(tmp_path / "a.dcm", NOISE, "JPEGLosslessSV1")
    (tmp_path / "json.py").write_text("open('was run', 'w')")
    monkeypatch.chdir(tmp_path)
    gdcm_process.stop_all()
    assert (grey(path) == NOISE).all()
    assert not (tmp_path / "was run").exists()


def test_threads_decode_side_by_side_and_each_gets_its_own(tmp_path: Path) -> None:
    paths = [dicoms.save(tmp_path / f"{n}.dcm", NOISE + np.uint8(n), "JPEGLSLossless") for n in range(12)]
    with ThreadPoolExecutor(4) as pool:
        for n, decoded in enumerate(pool.map(grey, paths)):
            assert (decoded == NOISE + np.uint8(n)).all()


def test_decoders_end_with_their_process(tmp_path: Path) -> None:
    path = dicoms.save(tmp_path / "a.dcm", NOISE, "JPEGLSLossless")
    code = (
        "import os, sys, signal; from pathlib import Path; from pneumo.data.decode import gdcm_process, "
        "images;images.load_grey(Path(sys.argv[1]), 'a.dcm'); print(gdcm_process.idle[0].pid, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, path.parent], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(done.stdout)).wait(timeout=20)
