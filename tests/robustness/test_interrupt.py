"""The first Ctrl-C works while images are decoded, long before there is a run."""

import signal
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.runs.command import start


def test_the_first_interrupt_while_a_folder_is_decoded(tmp_path: Path):
    picture = tmp_path / "large.jpg"
    slope = np.linspace(0, 255, 4000).astype(np.uint8)
    Image.fromarray(np.repeat(slope[None], 3000, axis=0)).convert("RGB").save(picture)
    for name in ("a", "b"):
        (tmp_path / "images" / "train" / name).mkdir(parents=True)
        for i in range(300):  # a minute's work for one core
            (tmp_path / "images" / "train" / name / f"{i}.jpg").write_bytes(picture.read_bytes())

    search = start("--data", tmp_path / "images", "--output", tmp_path / "run", stdout=tmp_path / "out")
    begun = time.monotonic()
    while not [*(tmp_path / "cache").rglob(".*.tmp")]:
        assert search.poll() is None, search.communicate()[1]
        assert time.monotonic() - begun < 100
        time.sleep(0.05)
    time.sleep(0.5)
    assert search.poll() is None
    search.send_signal(signal.SIGINT)
    sent = time.monotonic()
    assert search.wait(60) == 130
    assert time.monotonic() - sent < 10  # the images under way end; none is begun
    assert "Traceback" not in search.communicate()[1]
    assert not (tmp_path / "run").exists()
    assert not [*(tmp_path / "cache").rglob(".*.tmp")]
