"""The page in a real browser: no message on the console, every figure visible, no label over another."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vaenas.report import write_report

from .conftest import MakeRun
from .test_report import FIGURES

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=3000",
    "--dump-dom",
]

# Runs in the browser on a copy of the page: sizes of figures, and pairs of texts of one figure that lie on each other.
MEASURE = """
<script>
const found = {wide: document.documentElement.scrollWidth > window.innerWidth, figures: {}, overlaps: [], outside: []};
for (const figure of document.querySelectorAll("figure")) {
  const svg = figure.querySelector("svg"), frame = svg.getBoundingClientRect();
  const style = getComputedStyle(svg);
  found.figures[figure.id] = {width: frame.width, height: frame.height,
    visible: style.visibility === "visible" && style.display !== "none" && svg.checkVisibility()};
  const texts = [...svg.querySelectorAll("text")].filter(t => t.textContent.trim());
  const boxes = texts.map(t => t.getBoundingClientRect());
  boxes.forEach((a, i) => {
    const words = texts[i].textContent;
    if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.top < frame.top - 1 || a.bottom > frame.bottom + 1)
      found.outside.push(figure.id + ": " + words);
    for (let j = 0; j < i; j++) {
      const b = boxes[j];
      const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (x > 1 && y > 3)  // a line's box is higher than its letters
        found.overlaps.push(figure.id + ": " + words + " / " + texts[j].textContent);
    }
  });
}
const out = document.createElement("pre");
out.id = "measured";
out.textContent = JSON.stringify(found);
document.body.append(out);
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium binary found: apt-get install chromium")
@pytest.mark.parametrize(("sampler", "width"), [("vae", 1280), ("vae", 600), ("uniform", 1280)])
def test_page_in_chromium(make_run: MakeRun, tmp_path: Path, sampler: str, width: int):
    page = write_report(make_run(sampler=sampler)).read_text(encoding="utf-8")
    copy = tmp_path / "copy.html"
    allowed = page.replace("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';")  # for ours
    copy.write_text(allowed.replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
    done = subprocess.run([*command, copy.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    measured = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert measured, done.stderr
    found = json.loads(measured[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))

    expected = FIGURES if sampler == "vae" else ["fig-training", "fig-evolution", "fig-pareto", "fig-architecture"]
    assert list(found["figures"]) == expected
    for name, box in found["figures"].items():
        assert box["visible"], name
        assert box["width"] > 300, name
        assert box["height"] > 60, name
    assert found["overlaps"] == []
    assert found["outside"] == []
    assert not found["wide"]
