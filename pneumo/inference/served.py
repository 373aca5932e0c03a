"""The registered model's own code, which MLflow runs wherever the model is loaded: no torch is needed there.

A row of its input is one file: `image`, its bytes in base64, and if wanted `name`, for messages."""

import base64
import binascii
import json
import tempfile
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

from pneumo.data.decode.grayscale import UnreadableError
from pneumo.errors import one_line
from pneumo.evaluation.platt import PlattScaling
from pneumo.inference.decision import Decision
from pneumo.inference.radiograph import Radiograph, read_radiograph

BATCH = 32  # images that the network is given at once


class Served(PythonModel):
    def load_context(self, context: Any) -> None:
        settings = json.loads(Path(context.artifacts["settings"]).read_text())
        self.side_px: int = settings["side_px"]
        self.decision = Decision(settings["threshold"], PlattScaling(**settings["scaling"]))
        self.network = onnxruntime.InferenceSession(
            context.artifacts["network"], providers=["CPUExecutionProvider"]
        )

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """A row for each: score, probability, decision, flag. MlflowException, which a server answers with
        400: one cannot be read."""
        if model_input.empty:
            raise refused("there is no image")
        names = model_input.get("name", pd.Series(index=model_input.index, dtype=object))
        radiographs = [
            self.read(image, f"image {number}" if pd.isna(name) else str(name))
            for number, (image, name) in enumerate(zip(model_input["image"], names, strict=True), 1)
        ]
        scores = self.scores(radiographs)
        return pd.DataFrame(
            {
                "score": scores,
                "probability": self.decision.probabilities(scores),
                "decision": self.decision.of(scores),
                "flag": [one.flag for one in radiographs],
            }
        )

    def read(self, image: object, name: str) -> Radiograph:
        if not isinstance(image, str):
            raise refused(f"{name} is not base64: there is no text")
        try:
            content = base64.b64decode(image, validate=True)
        except (binascii.Error, ValueError):
            raise refused(f"{name} is not base64") from None
        with tempfile.TemporaryDirectory() as folder:  # the readers of training take files
            path = Path(folder) / "image"
            path.write_bytes(content)
            try:
                return read_radiograph(path, self.side_px)
            except UnreadableError as problem:
                raise refused(str(problem).replace(path.name, name, 1)) from None

    def scores(self, radiographs: list[Radiograph]) -> np.ndarray:
        """(N,)"""
        images = np.stack([one.pixels for one in radiographs])[:, None]
        starts = range(0, len(radiographs), BATCH)
        parts = [self.network.run(["score"], {"images": images[i : i + BATCH]})[0] for i in starts]
        return np.concatenate(parts)


def refused(reason: str) -> MlflowException:
    return MlflowException(one_line(reason), error_code=INVALID_PARAMETER_VALUE)


mlflow.models.set_model(Served())
