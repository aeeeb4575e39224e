"""Takes one figure out of a report, as the README's picture was made:

    python tools/report_figure.py experiments/results/cifar10_one_shot/vae-seed0/report.html probabilities \
        docs/assets/sampler.svg
"""

import re
import sys
from pathlib import Path


def main(report: str, figure: str, output: str) -> None:
    page = Path(report).read_text(encoding="utf-8")
    found = re.search(rf'<figure id="fig-{figure}">.*?(<svg.*?</svg>)', page, re.DOTALL)
    if found is None:
        raise SystemExit(f"{report}: no figure fig-{figure}")
    on_white = found[1].replace("<svg ", '<svg style="background: #fff" ', 1)  # pages may be dark
    Path(output).write_text(on_white + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
