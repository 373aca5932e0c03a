"""python benchmarks/chaos/disk_full.py: the disk is full at one write after the other.

A training run, or in every third round a study of two trials, has its working directory and its temporary
files on a small tmpfs, in which only k more bytes fit, for growing k. The command must end with a clear
line, and what it wrote before must be whole: once there is room again, the same command goes on from the
last good state to weights that are bit-equal to those of a run that had room. It needs root, to mount the
tmpfs.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from commands import ROOT, SMALL, Findings, arguments, carry_out, environment, faults_of_study, runs_in, sweep
from kills import equal_weights, weights

from pneumo.sweep.storage import open_study

SIZE = 64 * 2**20
EPOCHS, N_TRIALS = 2, 2
TRAIN = [sys.executable, str(ROOT / "train.py"), *SMALL, f"fit.epochs={EPOCHS}", "hydra.run.dir=out"]
LIMIT_SECONDS = 600
WAITS = "hydra.sweeper.storage_minutes"  # for a database that cannot be written, before it gives up


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A tmpfs of SIZE bytes at a new folder."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def used(disk: Path) -> int:
    """Bytes that are taken on a disk."""
    return int(
        subprocess.run(["df", "-B1", "--output=used", disk], capture_output=True, text=True).stdout.split()[1]
    )


def said(command: list[str], disk: Path) -> "subprocess.CompletedProcess[str]":
    stores = str(disk.parent / "stores")
    env = environment(TMPDIR=str(disk / "tmp"), PNEUMO_STORES=stores, MPLCONFIGDIR=str(disk.parent))
    (disk / "tmp").mkdir(exist_ok=True)
    return subprocess.run(command, cwd=disk, env=env, capture_output=True, text=True, timeout=LIMIT_SECONDS)


def faults_of_words(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """What is wrong with how a command ended that had too little room."""
    text = done.stdout + done.stderr
    faults = ["a traceback"] if "Traceback" in text else []
    if done.returncode not in (0, 1):
        faults.append(f"exit code {done.returncode}")
    if done.returncode and not re.search(
        r"No space left|disk (I/O error|is full)|full|cannot be written", text
    ):
        faults.append("does not say that the disk is full")
    return [f"{fault}: ...{text[-1500:]}" for fault in faults]


def faults_of_round(
    number: int, room: int, study: bool, place: Path, expected: dict[str, torch.Tensor]
) -> tuple[list[str], int]:
    """What is wrong after a round with so many bytes of room, and the exit code of the command that had
    too little."""
    with small_disk(place / str(number)) as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(SIZE - used(disk) - room))
        of_study = [f"n_trials={N_TRIALS}", f"fit.epochs={EPOCHS}", "study=s", f"{WAITS}=.2"]
        command = sweep(*of_study) if study else TRAIN
        first = said(command, disk)
        ballast.unlink()
        faults = faults_of_words(first)
        again = said(command if study else [*command, "resume=auto"], disk)
        if again.returncode or "Traceback" in again.stdout + again.stderr:
            faults.append(f"does not go on: ...{(again.stdout + again.stderr)[-1500:]}")
        elif study:
            trials = open_study(f"sqlite:///{disk}/study.db", "s", directions=None).trials()
            runs = runs_in(f"sqlite:///{disk}/mlflow.db")
            faults += faults_of_study(trials, runs, N_TRIALS, EPOCHS)
        elif not equal_weights(weights(disk), expected):
            faults.append("other weights")
        return faults, first.returncode


def main() -> int:
    given = arguments(__doc__, rounds=30)
    findings, refused = Findings("disk full"), 0
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        with small_disk(place / "whole") as disk:
            done = said(TRAIN, disk)
            if done.returncode:
                sys.exit(done.stdout + done.stderr)
            needed, expected = used(disk), weights(disk)
        for number in range(given.rounds):
            room = needed * (number + 1) // (given.rounds + 1)
            faults, code = faults_of_round(number, room, number % 3 == 2, place, expected)
            refused += code != 0
            findings.add(f"round {number}, room for {room:,} of {needed:,} bytes", faults)
    return findings.finish(f"{given.rounds} rounds, the disk too small in {refused}")


if __name__ == "__main__":
    carry_out(main)
