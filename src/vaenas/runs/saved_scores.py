"""Scores that a killed run does not have to ask for again."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import torch

from vaenas import parallel
from vaenas.evaluation.supernet import Evaluate
from vaenas.files import writing
from vaenas.search.evaluated_set import EvaluatedSet
from vaenas.search.supernet_training import SupernetTrainer
from vaenas.spaces.space import Population, Scores


class SavedScores:
    """Scores of populations on a supernet's weights as they are, each computed once and in a file as soon as it is.

    A line of the file is signed with a digest of the weights: scores of others, or a torn line, are never taken. The
    file holds those of one state of the weights alone. Of several processes each computes its part, the first writes.
    """

    def __init__(self, evaluate: Evaluate, trainer: SupernetTrainer) -> None:
        self.evaluate, self.trainer = evaluate, trainer
        self.file: Path | None = None
        self._lines: list[str] = []  # of the run that is resumed
        self._step, self._weights, self._mode = -1, "", "w"
        self._known = EvaluatedSet(0)

    def open(self, file: Path) -> None:
        """From now on in this file, with what it holds already."""
        self.file = file
        if parallel.is_main() and file.is_file():
            with suppress(OSError):  # then they are computed again
                self._lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        self._lines = self.trainer.fabric.broadcast(self._lines)

    def __call__(self, population: Population) -> Scores:
        """Scores of (n, s), (n,)."""
        if self._step != self.trainer.step_count:
            self._forget(population.shape[1])
        new = self._known.missing(population)
        if len(new):
            scores, mine = torch.zeros(len(new)), parallel.local_chunk(torch.arange(len(new)))
            scores[mine] = self.evaluate(new[mine])
            scores = parallel.all_reduce_sum(scores)
            self._known.add(new, scores)
            if self.file is not None and parallel.is_main():
                body = json.dumps([new.tolist(), scores.tolist()])
                with writing(self.file), self.file.open(self._mode, encoding="utf-8") as file:
                    file.write(f"\n{self._signature(body)} {body}")  # the line break first: the last line may be torn
                self._mode = "a"
        return self._known.lookup(population)

    def _forget(self, slots: int) -> None:
        """All scores of other weights: but for those of the resumed run that are of these."""
        digest = hashlib.sha256()
        for tensor in self.trainer.network.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        self._step, self._weights = self.trainer.step_count, self.trainer.fabric.broadcast(digest.hexdigest())
        self._known, self._mode, lines, self._lines = EvaluatedSet(slots), "w", self._lines, []
        for signature, _, body in (line.partition(" ") for line in lines):
            if signature == self._signature(body):
                self._known.add(*map(torch.tensor, json.loads(body)))
                self._mode = "a"

    def _signature(self, body: str) -> str:
        return hashlib.sha256(f"{self._weights} {body}".encode()).hexdigest()
