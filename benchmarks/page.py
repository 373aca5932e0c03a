"""python benchmarks/page.py: runs the benchmarks of a training one after the other and writes this machine's
section of docs/benchmarks.md; those of other machines stay. The exit code is the number of scripts that
missed what is required."""

import os
import platform
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import torch
from rows import HEADER, table
from step import has_bf16

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
INTRODUCTION = """# Benchmarks

This page compares the speed and memory of pneumo with plain implementations of the same work, on each machine
that was measured, for those who want to know what a training costs. `make bench` writes the section of the
present machine anew; both sides of every ratio come from one run."""
HOW = "How it is measured"
SCRIPTS = (
    "start.py",
    "step.py",
    "two_processes.py",
    "lift_off.py",
    "pipeline.py",
    "frozen.py",
    "memory.py",
    "evaluation.py",
    "predict.py",
    "gpu.py",
)


def accelerator() -> str:
    memory = psutil.virtual_memory().total / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    bf16 = "" if has_bf16() else " without AVX512-BF16"
    return f"{processor()}{bf16}, {os.cpu_count()} cores, {memory:.0f} GiB, {gpu}, torch {torch.__version__}"


def processor() -> str:
    try:
        (name, *_) = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except (OSError, ValueError):
        return platform.processor() or platform.machine()
    return str(name)


def cells(said: str) -> list[list[str]]:
    """Of the rows of the table in what a script said."""
    lines = [line for line in said.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def purpose(script: str) -> str:
    (text,) = re.findall(r'^"""python \S+: (.*?)"""', (HERE / script).read_text(), re.DOTALL)
    item = f"- `{script}`: {' '.join(text.split())}"
    return textwrap.fill(item, 119, subsequent_indent="  ", break_on_hyphens=False)


def with_section(page: str, title: str, body: str) -> str:
    """The page with one machine's section first, and how all was measured last."""
    _, *found = re.split(r"^## ", page, flags=re.MULTILINE)
    sections = {name.strip(): text.strip() for name, _, text in (part.partition("\n") for part in found)}
    how = "\n".join(purpose(script) for script in SCRIPTS)
    sections = {title: body} | {n: t for n, t in sections.items() if n not in (title, HOW)} | {HOW: how}
    return "\n\n".join([INTRODUCTION, *(f"## {name}\n\n{text}" for name, text in sections.items())]) + "\n"


def main() -> None:
    rows = [list(HEADER)]
    missed = 0
    for script in SCRIPTS:
        print(f"{script} ...", flush=True)
        done = subprocess.run([sys.executable, str(HERE / script)], capture_output=True, text=True)
        print(done.stdout + (done.stderr if done.returncode else ""), flush=True)
        missed += done.returncode != 0
        rows += cells(done.stdout) or [[script, "**failed**", "", "", ""]]
    PAGE.write_text(with_section(PAGE.read_text(), accelerator(), table(rows)))
    sys.exit(missed)


if __name__ == "__main__":
    main()
