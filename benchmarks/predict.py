"""pneumo predict: files a second, and the peak of memory at 500 and at 2,000 files, which must not grow.

python benchmarks/predict.py RUN [side_px=512], in the folder of the runs."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

COUNTS = (500, 2000)
MEASURED = """
import resource, sys, time
from pneumo import cli
began = time.perf_counter()
cli.told(["predict", *sys.argv[1:]])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print("MEASURED", time.perf_counter() - began, peak)
"""


def main(run: str, side_px: int = 512) -> None:
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(max(COUNTS)):
            coarse = Image.fromarray(random.integers(0, 256, (32, 32), np.uint8))
            coarse.resize((side_px, side_px)).save(Path(folder) / f"{number:05}.png", compress_level=1)
        files = [str(path) for path in sorted(Path(folder).glob("*.png"))]
        found = {count: measured(run, files[:count], Path(folder) / "out.csv") for count in COUNTS}
    for count, (seconds, peak_mb) in found.items():
        print(f"{count:>6,} files  {count / seconds:>6.0f} files/s  {peak_mb:>6.0f} MB at most")
    few, many = (found[count] for count in COUNTS)
    print(f"memory, {COUNTS[1]:,} to {COUNTS[0]:,} files: {many[1] / few[1]:.3f}")
    rate = (COUNTS[1] - COUNTS[0]) / (many[0] - few[0])
    print(f"without what is paid once: {rate:.0f} files/s")


def measured(run: str, files: list[str], out: Path) -> tuple[float, float]:
    """Seconds and peak MB of a process of its own."""
    command = [sys.executable, "-c", MEASURED, run, *files, f"out={out}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    _, seconds, peak = said.splitlines()[-1].split()
    return float(seconds), float(peak)


if __name__ == "__main__":
    main(sys.argv[1], *(int(word.partition("=")[2]) for word in sys.argv[2:]))
