"""A file of the metrics that could not be logged while MLflow was away: one JSON line a call."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

UNSENT = "unsent.jsonl"


@dataclass(frozen=True)
class QueuedMetrics:
    """The metrics of one call, by their MLflow names."""

    metrics: Mapping[str, float]
    step: int
    at_ms: int  # since 1970


@dataclass(frozen=True)
class OfflineQueue:
    """The queue of one run. Its file exists only while metrics wait in it."""

    path: Path

    def add(self, *entries: QueuedMetrics) -> None:
        """Appends a line for each."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.writelines(json.dumps(asdict(entry)) + "\n" for entry in entries)

    def entries(self) -> list[QueuedMetrics]:
        """The metrics that wait, oldest first. A last line that a full disk cut off is left out, as the
        checkpoint has its epoch."""
        try:
            lines = self.path.read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        entries = [json.loads(line) for line in lines if line.endswith("\n")]
        # older versions called the metrics figures
        return [
            QueuedMetrics(one.get("metrics", one.get("figures")), one["step"], one["at_ms"])
            for one in entries
        ]

    def clear(self) -> None:
        """Removes the file."""
        self.path.unlink(missing_ok=True)
