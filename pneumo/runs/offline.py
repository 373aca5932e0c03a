"""Figures that could not be logged yet: a file of lines, in the order in which they came."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

UNSENT = "unsent.jsonl"


@dataclass(frozen=True)
class QueuedMetrics:
    """One call: figures by their MLflow names."""

    metrics: Mapping[str, float]
    step: int
    at_ms: int  # since 1970

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Self:
        """A line as it was written; older versions called the metrics figures."""
        return cls(line.get("metrics", line.get("figures")), line["step"], line["at_ms"])


@dataclass(frozen=True)
class OfflineQueue:
    """The file exists while something waits in it."""

    path: Path

    def add(self, entry: QueuedMetrics) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(entry)) + "\n")

    def entries(self) -> list[QueuedMetrics]:
        """The oldest first."""
        try:
            lines = self.path.read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        # a line that a full disk cut off is the last; the checkpoint's history holds its epoch
        return [QueuedMetrics.of(json.loads(line)) for line in lines if line.endswith("\n")]

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
