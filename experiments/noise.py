"""How well can Macro's best architecture be known at all? From its three published trainings of each architecture.

    python experiments/noise.py --data-root ../shared/data                                      (seconds)

Printed and written to results/noise/table.json: the standard deviation of one training, and of the truth (the mean of
three) among the best 200 architectures; Kendall's tau of one training with the mean of the two others, over all 6,561
architectures and over the top tenth by these two; what these say of the architecture that is best by one; truth
and rank of the architecture that a ridge surrogate to the truth's log error puts first. A search can't be asked for
more than a training of every architecture would give.
"""

import argparse
import json
from pathlib import Path

import torch

from vaenas.evaluation.rank import kendall_tau
from vaenas.search.surrogate import RidgeSurrogate
from vaenas.spaces.macro import macro_space

RESULTS = Path(__file__).parent / "results" / "noise"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    published = json.loads((options.data_root / "nas-bench-macro/nas-bench-macro_cifar10.json").read_text())
    space, codes = macro_space(), list(published)
    runs = torch.tensor([published[code]["test_acc"] for code in codes], dtype=torch.float64)  # (6561, 3), percent
    truth = runs.mean(1)
    top = truth >= truth.quantile(0.9)

    def rank(i: int) -> int:
        return 1 + int((truth > truth[i]).sum())

    def first(scores: torch.Tensor) -> dict[str, object]:
        i = int(scores.argmax())
        return {"code": codes[i], "truth": float(truth[i]), "rank": rank(i)}

    one_training = []
    for run in range(3):
        one, others = runs[:, run], runs[:, [other for other in range(3) if other != run]].mean(1)
        best = others >= others.quantile(0.9)  # chosen without `one`, whose noise would bias tau downwards
        taus = {"kendall": kendall_tau(one, others), "kendall_top": kendall_tau(one[best], others[best])}
        one_training.append({**first(one), "others": float(others[one.argmax()]), **taus})
    error = -(1 - truth / 100).log()
    fit = RidgeSurrogate(space, population := space.decode(codes), error)(population)
    content = {
        "deviation": float(runs.var(1).mean().sqrt()),
        "best 200": float(truth.sort().values[-200:].std()),
        "one training": one_training,
        "ridge surrogate": {
            **first(fit),
            "kendall": kendall_tau(fit, truth),
            "kendall_top": kendall_tau(fit[top], truth[top]),
        },
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "table.json").write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
