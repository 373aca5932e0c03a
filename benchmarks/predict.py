"""python benchmarks/predict.py: pneumo predict on 2,000 and on 500 files, which must take the same memory.

The model is the default one after two epochs on 64 images; the files are PNG of 512 x 512. The speed is that
over the 1,500 files between, without the time that is spent once."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from rows import Row, end
from runs import surroundings, trained

FEW, MANY, SIDE_PX = 500, 2000, 512
MEASURED = """
import resource, sys, time
from pneumo.cli.app import invoke
began = time.perf_counter()
invoke(["predict", *sys.argv[1:]])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print("MEASURED", time.perf_counter() - began, peak)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        run, films = Path(temporary, "run"), Path(temporary, "films")
        trained(run, "debug=fast", "fit.pictures=false")
        films.mkdir()
        files = drawn(films)
        (few_seconds, few_mb), (seconds, mb) = (measured(run, files[:count]) for count in (FEW, MANY))
    rate = (MANY - FEW) / (seconds - few_seconds)
    end(
        [
            Row(f"predict, {SIDE_PX} px PNG, files/s", f"{rate:.0f}"),
            Row(
                f"its memory at {MANY:,} files, MB",
                f"{mb:.0f}",
                f"{FEW} files {few_mb:.0f}",
                mb / few_mb,
                digits=3,
                at_most=1.02,
            ),
        ]
    )


def drawn(folder: Path) -> list[str]:
    random = np.random.default_rng(0)
    for number in range(MANY):
        coarse = Image.fromarray(random.integers(0, 256, (32, 32), np.uint8))
        coarse.resize((SIDE_PX, SIDE_PX)).save(folder / f"{number:05}.png", compress_level=1)
    return [str(path) for path in sorted(folder.iterdir())]


def measured(folder: Path, files: list[str]) -> tuple[float, float]:
    """Seconds and peak MB of a process of its own, in the folder of the run."""
    command = [sys.executable, "-c", MEASURED, "best", *files, "--out", "out.csv"]
    said = subprocess.run(
        command, cwd=folder, env=surroundings(), capture_output=True, text=True, check=True
    ).stdout
    _, seconds, peak = said.splitlines()[-1].split()
    return float(seconds), float(peak)


if __name__ == "__main__":
    main()
