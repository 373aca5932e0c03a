"""`pneumo sweep`, and sweep.py in a checkout: a study of many training runs, configured by Hydra, into
MLflow."""

import os
import signal
import sys

import hydra
from omegaconf import DictConfig

from pneumo.cli import hydra_command
from pneumo.cli.garbage import collect_as_by_default
from pneumo.display.address import refuse_passwords
from pneumo.errors import InputError
from pneumo.interrupts import interrupt_once
from pneumo.runs import config, search_path
from pneumo.runs.overrides import quoted_run_names
from pneumo.sweep import workers


def main() -> None:
    """Reads the overrides from sys.argv. Exit codes: 0 done, 1 an error that is explained, 130
    interrupted."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        sys.exit("A sweep is not for torchrun: workers=N starts N processes, each with trials of its own")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: cleanly, to be gone on with
    if workers.NUMBER in os.environ:
        interrupt_once()
    try:
        refuse_passwords(sys.argv[1:])  # before Hydra writes the overrides into files
    except InputError as error:
        sys.exit(f"\n{error}")
    sys.argv[1:] = quoted_run_names(sys.argv[1:])
    search_path.register()
    hydra_command.run(sweep)


@hydra.main(
    config_path=str(search_path.OWN), config_name="sweep", execution_whitelist=config.trusted_targets()
)
def sweep(composed: DictConfig) -> float | list[float] | None:
    """One trial; Hydra's sweeper calls it for each."""
    from pneumo.sweep.job import job

    collect_as_by_default()
    return job(composed)


if __name__ == "__main__":
    main()
