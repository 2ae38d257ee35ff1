"""Data of real models and annotators that lie beside some checkouts; tests that need them skip elsewhere."""

import os
from pathlib import Path

SHARED = Path(os.environ.get("SKMLMC_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
