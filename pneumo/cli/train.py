"""`pneumo train`, and train.py in a checkout: one training run, configured by Hydra, into MLflow."""

import signal
import sys
from pathlib import Path

import hydra
import psutil
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pneumo.cli import hydra_command
from pneumo.cli.garbage import collect_as_by_default
from pneumo.cli.torchrun import IS_FIRST, exit_after_another, exit_with
from pneumo.display.address import hidden, refuse_passwords
from pneumo.display.console import Terminal
from pneumo.errors import InputError, NonFiniteLossError, PeerError, TooLittleMemoryError
from pneumo.runs import config, search_path
from pneumo.runs.overrides import quoted_run_names

# of torchrun's processes, the first alone has an output folder
WITHOUT_OUTPUT = ["hydra.run.dir=.", "hydra.output_subdir=null", "hydra.job_logging.root.handlers=[]"]


def main() -> None:
    """Reads the overrides from sys.argv. Exit codes: 0 done, 1 an error that is explained, 130
    interrupted."""
    if not IS_FIRST:
        sys.argv += WITHOUT_OUTPUT
    try:
        refuse_passwords(sys.argv[1:])  # before Hydra writes the overrides into files
    except InputError as error:
        exit_with(f"\n{error}")
    sys.argv[1:] = quoted_run_names(sys.argv[1:])
    search_path.register()
    hydra_command.run(train)


@hydra.main(
    config_path=str(search_path.OWN), config_name="train", execution_whitelist=config.trusted_targets()
)
def train(composed: DictConfig) -> None:
    """The run of a composed configuration."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: cleanly, resumable
    try:
        with Terminal().waiting("loading"):
            config.load(composed)
            from pneumo.runs.callback import RunCallback
            from pneumo.runs.planner import planned
            from pneumo.runs.run import run  # the heaviest comes after what can be refused
        collect_as_by_default()

        hydra = HydraConfig.get()
        experiment = planned(composed, hydra.overrides.task, Terminal(quiet=not IS_FIRST))
        callback = RunCallback()
        callback.began = psutil.Process().create_time()
        run(experiment, Path(hydra.runtime.output_dir), callback)
    except InputError as error:
        exit_with(hidden(f"\n{error}"))
    except (NonFiniteLossError, TooLittleMemoryError, OSError) as error:  # a disk may be full
        sys.exit(hidden(f"\n{error}"))
    except PeerError as error:
        exit_after_another(f"\n{error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
