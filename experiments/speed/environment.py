"""Import this before torch: it puts the project and tools/ on the path, and sets up threads as train.py does."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
# Waiting threads spin only briefly. OpenMP reads this when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
