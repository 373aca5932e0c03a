"""python benchmarks/page.py: runs the benchmarks of a training one after the other and writes
docs/benchmarks.md, with the machine. Exits with the number of those that missed what is asked for."""

import platform
import re
import subprocess
import sys
from pathlib import Path

import psutil
import torch

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
RUNS = {
    "A training step against a bare loop": ["step.py"],
    "ResNet-50 against plain fp32": ["step.py", "--resnet50"],
    "Input, store, bootstrap": ["pipeline.py"],
    "A frozen backbone": ["frozen.py"],
    "Host memory": ["memory.py"],
}


def processor() -> str:
    try:
        (name, *_) = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except (OSError, ValueError):
        return platform.processor() or platform.machine()
    return str(name)


def main() -> None:
    cores = psutil.cpu_count()
    memory = psutil.virtual_memory().total / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none: nothing on a GPU was measured"
    parts = [
        "# Benchmarks",
        "`make bench` writes this page: ratios, both sides of each in one run.",
        f"{processor()}, {cores} cores, {memory:.0f} GiB, torch {torch.__version__}. GPU: {gpu}.",
    ]
    missed = 0
    for title, command in RUNS.items():
        print(f"{title} ...", flush=True)
        done = subprocess.run(
            [sys.executable, str(HERE / command[0]), *command[1:]], capture_output=True, text=True
        )
        said = (done.stdout + (done.stderr if done.returncode else "")).strip()
        print(said, flush=True)
        missed += done.returncode != 0
        (purpose,) = re.findall(r'^"""python \S+: (.*?)"""', (HERE / command[0]).read_text(), re.DOTALL)
        about = " ".join(purpose.split())
        verdict = "" if done.returncode == 0 else "\n\n**Missed.**"
        parts.append(f"## {title}\n\n{about[0].upper()}{about[1:]}\n\n```\n{said}\n```{verdict}")
    PAGE.write_text("\n\n".join(parts) + "\n")
    sys.exit(missed)


if __name__ == "__main__":
    main()
