"""`mlflow models serve` answers files posted to it."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from dicoms import save
from mlflow_server import kill
from test_predict import chest, png, table
from test_promote import promoted

from pneumo.cli import app

__all__ = ["promoted"]  # a fixture


@pytest.fixture
def address(promoted, tmp_path):
    """Of a server of the champion, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/pneumo@champion"]
    where = ["--env-manager", "local", "--host", "127.0.0.1", "-p", str(port)]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{Path.cwd() / 'mlflow.db'}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # MLflow calls uvicorn by its name
    }
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([*command, *where], env=environment, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 120
            while not answers(f"http://127.0.0.1:{port}/ping"):
                assert server.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < until
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            kill(server)


def answers(url):
    try:
        urllib.request.urlopen(url).close()
    except (urllib.error.URLError, ConnectionError):
        return False
    return True


def posted(address, *contents):
    """(status, what it answers) to (name, bytes)."""
    data = [[base64.b64encode(content).decode(), name] for name, content in contents]
    body = json.dumps({"dataframe_split": {"columns": ["image", "name"], "data": data}}).encode()
    asked = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_png_and_a_dicom_are_answered_as_predict_does_and_a_bad_one_with_400(address, promoted, tmp_path):
    film = np.kron(chest(16), np.ones((4, 4), np.uint8))
    hip = save(tmp_path / "hip.dcm", film, BodyPartExamined="HIP")
    files = [png(tmp_path / "film.png", film), save(tmp_path / "film.dcm", film, "JPEGLossless"), hip]
    app.invoke(["predict", promoted, *map(str, files), "--out", str(tmp_path / "out.csv")])
    status, answer = posted(address, *((file.name, file.read_bytes()) for file in files))
    assert status == 200
    for said, row in zip(answer["predictions"], table(tmp_path / "out.csv"), strict=True):
        assert said["score"] == pytest.approx(float(row["score"]), abs=0.02)  # predict may be in bfloat16
        assert (said["decision"], said["flag"]) == (row["decision"], row["flag"])
    assert [said["flag"] for said in answer["predictions"]] == ["", "", 'header: BodyPartExamined "HIP"']

    cut = files[0].read_bytes()[:300]
    status, answer = posted(address, ("film.png", files[0].read_bytes()), ("cut.png", cut))
    assert status == 400
    assert "cut.png is not a readable image" in answer["message"]

    ct = save(tmp_path / "ct.dcm", film, Modality="CT").read_bytes()
    status, answer = posted(address, ("ct.dcm", ct))
    assert status == 400
    assert "ct.dcm has the modality CT" in answer["message"]

    status, _ = posted(address)
    assert status == 400
