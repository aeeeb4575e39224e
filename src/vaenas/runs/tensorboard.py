"""The run's numbers for TensorBoard."""

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Scalars of every record; a resumed run purges what came after its checkpoint."""

    def __init__(self, folder: Path, step: int) -> None:
        self.writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def add(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Numbers as they are, under "kind/name"; of lists of scores the mean."""
        if kind == "generation":
            step = values["generation"]
        for name, value in values.items():
            if isinstance(value, (int, float)):
                self.writer.add_scalar(f"{kind}/{name}", value, step)
            elif name in ("scores", "sampler", "uniform"):
                self.writer.add_scalar(f"{kind}/mean_{name}", sum(value) / len(value), step)

    def close(self) -> None:
        self.writer.close()
