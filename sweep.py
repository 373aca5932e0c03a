"""python sweep.py -m [search=choice ...] [key=value ...]: a study of many training runs, into MLflow."""

import os
import signal
import sys

import hydra
from omegaconf import DictConfig

from pneumo.display.address import refuse_passwords
from pneumo.errors import InputError
from pneumo.runs import config


@hydra.main(config_path="conf", config_name="sweep", execution_whitelist=config.trusted())
def main(composed: DictConfig) -> float | list[float] | None:
    from pneumo.sweep.objective import job

    return job(composed)


if __name__ == "__main__":
    if os.environ.get("WORLD_SIZE", "1") != "1":
        sys.exit("sweep.py is not for torchrun: workers=N starts N processes, each with trials of its own")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: cleanly, to be gone on with
    try:
        refuse_passwords(sys.argv[1:])  # before Hydra writes down what it is told
    except InputError as error:
        sys.exit(f"\n{error}")
    main()
