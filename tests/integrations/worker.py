"""One worker of a study that several processes share."""

import sys

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from vaenas.integrations.optuna import VAENASSampler

SLOTS, CHOICES = 6, 5


def open_storage(kind: str, path: str) -> BaseStorage:
    return RDBStorage(f"sqlite:///{path}") if kind == "sqlite" else JournalStorage(JournalFileBackend(path))


def hits(trial: optuna.Trial) -> float:
    """How many parameters are right."""
    return float(sum(trial.suggest_int(f"x{i}", 0, CHOICES - 1) == i % CHOICES for i in range(SLOTS)))


if __name__ == "__main__":
    kind, path, trials = sys.argv[1:]
    # as in the simplest script: the same seed everywhere, so that only the storage keeps workers apart
    study = optuna.load_study(study_name="shared", storage=open_storage(kind, path), sampler=VAENASSampler(seed=0))
    study.optimize(hits, n_trials=int(trials))
