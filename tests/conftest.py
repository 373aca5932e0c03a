import os
import shutil
from contextlib import chdir, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import settings
from postgres import database, postgres  # noqa: F401, fixtures

from pneumo.components.augment import Augment
from pneumo.components.losses import Bce
from pneumo.components.models import Tiny
from pneumo.components.optimizers import AdamW
from pneumo.components.schedules import Constant
from pneumo.data.batches import Batches
from pneumo.data.normalise import FIXED
from pneumo.data.split import Split
from pneumo.data.store import Store
from pneumo.runs import config, tracking
from pneumo.runs.callback import RunCallback
from pneumo.runs.experiment import Experiment
from pneumo.runs.run import run
from pneumo.runs.tracker import Tracker
from pneumo.training.device import Accelerator
from pneumo.training.distributed import SINGLE_PROCESS
from pneumo.training.ema import ModelEma
from pneumo.training.settings import TrainerSettings
from pneumo.training.state import TrainState
from pneumo.training.trainer import Trainer

ROOT = Path(__file__).parents[1]
SMALL = ["data.n_images=160", "data.image_side_px=64", "model.width=8", "fit.pictures=false"]

settings.register_profile("no clock", deadline=None)  # a busy machine is no failure
settings.load_profile("no clock")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start: small networks wait for each other
torch.set_num_threads(1)


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    """An empty working directory, whose runs and stores go with it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """The path of an MLflow database without runs, which takes seconds to make."""
    folder = tmp_path_factory.mktemp("empty")
    with chdir(folder):
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        tracking.connect()
    return folder / "mlflow.db"


@pytest.fixture
def store(empty_database, workdir):
    """The working directory, with an MLflow database without runs that is connected."""
    shutil.copy(empty_database, workdir)
    tracking.connect()
    return workdir


@pytest.fixture
def composed():
    """Overrides -> Experiment, through the same door as train.py."""

    def load(*overrides: str, primary: str = "train") -> Experiment:
        with initialize_config_dir(str(ROOT / "conf")):
            return config.load(compose(primary, list(overrides)))

    return load


class Named(RunCallback):
    def on_start(self, run_id, split_hash, history):
        self.run_id = run_id


@contextmanager
def dying_in_epoch(monkeypatch: pytest.MonkeyPatch, epoch: int):
    """Inside the block, a run dies after it has kept this epoch and before it logs it."""

    class Died(BaseException):
        pass

    log = Tracker.log

    def dying(self, metrics, step=0, of_run=None):
        if step == epoch:
            raise Died
        log(self, metrics, step, of_run)

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "log", dying)
        with pytest.raises(Died):
            yield


@pytest.fixture(scope="session")
def one_run(tmp_path_factory):
    """(folder of the store, run id, experiment) of one small run."""
    folder = tmp_path_factory.mktemp("run")
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow leaves there what it was last told
    with chdir(folder):
        with initialize_config_dir(str(ROOT / "conf")):
            small = [*SMALL, "model.width=4", "fit.epochs=1", "fit.precision=fp32"]  # bf16 rounds by batch
            experiment = config.load(compose("train", small))
        callback = Named()
        run(experiment, folder / "out", callback)
    return folder, callback.run_id, experiment


@pytest.fixture
def there(one_run, monkeypatch):
    """In the run's folder; its id."""
    folder, run_id, _ = one_run
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(folder)
    tracking.connect()
    return run_id


def store_of(pixels: np.ndarray, masks: np.ndarray | None = None) -> Store:
    """pixels (N, H, W); masks (N, H, W), empty ones for none."""
    masks = np.zeros_like(pixels) if masks is None else masks
    has = masks.any(axis=(1, 2))
    mask_of = np.where(has, has.cumsum() - 1, -1)
    digests = np.stack([np.arange(1, len(pixels) + 1), has.astype(np.int64)], axis=1)
    return Store(pixels, mask_of, masks[has], digests, key="test", folder=Path("nowhere"), build_seconds=None)


def parts(n_train: int, n_val: int) -> Split:
    rows = np.arange(n_train + n_val)
    return Split(
        train=rows[:n_train],
        val=rows[n_train:],
        test=rows[n_train:],
        hash="test",
        leak_risk=None,
        notes=(),
        patient_memory_auc=0.5,
        numbers={},
    )


def fit_on_squares(
    n_train=32,
    n_val=16,
    side=16,
    model=None,
    optimizer=None,
    schedule=None,
    processes=SINGLE_PROCESS,
    **options,
):
    """(Trainer, TrainState) on a few bright and dark squares, in fp32 on the CPU."""
    random = np.random.default_rng(0)
    labels = np.arange(n_train + n_val) % 2
    pixels = random.integers(0, 120, (len(labels), side, side), np.uint8)
    pixels[labels == 1, 2:6, 2:6] += 100
    fit_options = {
        "epochs": 2,
        "batch_size": 8,
        "precision": "fp32",
        "device": "cpu",
        "channels_last": False,
    }
    settings = TrainerSettings(**fit_options | options.pop("settings", {}))
    accelerator = options.pop("accelerator", Accelerator.chosen("cpu", settings.precision))
    trainer = Trainer(
        settings=settings,
        accelerator=accelerator,
        loss=options.pop("loss", Bce()),
        augment=options.pop("augment", Augment()),
        normalise=FIXED["half"],
        batches=Batches(options.pop("store", store_of(pixels)), labels, accelerator.device, num_workers=0),
        split=options.pop("split", parts(n_train, n_val)),
        image_ids=np.array([f"image-{i}" for i in range(len(labels))]),
        seed=options.pop("seed", 0),
        processes=processes,
    )
    assert not options
    torch.manual_seed(0)
    network = (model or Tiny(width=4))(trainer.loss.n_outputs).to(accelerator.device)
    rate = (optimizer or AdamW(lr=1e-2))(network, trainer.effective_batch)
    lr_controller = (schedule or Constant())(rate, settings.epochs * trainer.steps_per_epoch())
    decay = settings.ema_decay
    ema = None if decay is None else ModelEma(network, decay)
    return trainer, TrainState(network, rate, lr_controller, accelerator.scaler(), settings.batch_size, ema)


@pytest.fixture
def small_fit():
    """Options -> (Trainer, TrainState)."""
    return fit_on_squares
