"""`pneumo promote RUN`: the model of a run, exported and registered in MLflow's model registry."""

import base64
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from pneumo.data.decode.images import as_png
from pneumo.display.console import Terminal
from pneumo.display.format import decimal_or_dash
from pneumo.errors import InputError
from pneumo.inference import registry
from pneumo.inference.model import decision_of, load_model
from pneumo.inference.onnx_export import export, noise
from pneumo.runs import query, tracking
from pneumo.runs.best import VAL_AUROC


def promote(run: str, name: str, alias: str) -> None:
    """Registers the model of `run` as a new version of `name` and moves `alias` to it. InputError: no such
    run, a name or an alias that MLflow does not take, a package is missing, or the network cannot be
    exported."""
    tracking.connect()
    registry.need_names(name, alias)
    model = load_model(run)
    frozen = decision_of(model)
    terminal = Terminal()
    terminal.say("model", f"run {model.run_id} · {model.experiment.choices['model']} · {model.side_px} px")
    for caution in model.cautions:
        terminal.warn(f"          {caution}")
    with tempfile.TemporaryDirectory() as folder:
        network, settings = Path(folder) / "network.onnx", Path(folder) / "settings.json"
        with terminal.waiting("exporting"):
            difference = export(model, network)
        size_mb = network.stat().st_size / 1e6
        terminal.say("onnx", f"{size_mb:.1f} MB, scores within {difference:.1e} of torch's")
        decision = {
            "side_px": model.side_px,
            "threshold": frozen.threshold,
            "scaling": asdict(frozen.scaling),
        }
        settings.write_text(json.dumps(decision))
        with terminal.waiting("registering"):
            image = example(model.side_px)
            replaced = replaced_version(name, alias, model.run_id)  # while the alias is still on it
            try:
                version = registry.register(model.run_id, name, alias, network, settings, image)
            except tracking.MlflowError as error:
                raise tracking.unreachable(error) from None
    terminal.say("decision", f"positive from {frozen.threshold:.3g} · probability {frozen.scaling}")
    terminal.say("registry", f"{name} version {version}, @{alias} · {tracking.store_name()}")
    if replaced:
        terminal.say("replaces", replaced)
    terminal.say("next", f"mlflow models serve -m models:/{name}@{alias} --env-manager local -p 5001")


def replaced_version(name: str, alias: str, run_id: str) -> str:
    """What to say of the version that loses the alias to a new one of the run; "" where none of another run
    does."""
    before = registry.run_under(name, alias)
    if before is None or before[1] == run_id:
        return ""
    version, other = before
    try:
        of = described(other)
    except InputError:
        of = f"run {other}, which MLflow has no more"
    return f"version {version}, of {of}; this is {described(run_id)}"


def described(run_id: str) -> str:
    """A run's name and validation AUROC, which are of other images where its data are others."""
    run = query.find_run(run_id)
    return f"{run.info.run_name}, val AUROC {decimal_or_dash(run.data.metrics.get(VAL_AUROC, float('nan')))}"


def example(side_px: int) -> str:
    """A PNG of noise in base64, as MLflow's input example."""
    return base64.b64encode(as_png(noise(1, side_px)[0, 0].numpy())).decode()
