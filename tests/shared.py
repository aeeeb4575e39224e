"""Where the real data lies."""

import os
from pathlib import Path

SHARED_DATA = Path(os.environ.get("VAENAS_SHARED_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")).resolve()
