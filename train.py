"""python train.py [group=choice ...] [key=value ...]: one training run, into MLflow."""

import signal
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pneumo import config
from pneumo.console import Terminal
from pneumo.errors import InputError, NonFiniteLossError


@hydra.main(config_path="conf", config_name="train", execution_whitelist=config.trusted())
def main(composed: DictConfig) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: cleanly, resumable
    try:
        with Terminal().waiting("loading"):
            experiment = config.load(composed)
            from pneumo.run import run  # the heaviest comes after what can be refused

        run(experiment, Path(HydraConfig.get().runtime.output_dir))
    except (InputError, NonFiniteLossError, OSError) as error:  # a disk that is full is no fault of ours
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
