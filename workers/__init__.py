"""What the tasks run on: pipeline, API adapter, limiter, ledger, search, receiver, command."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "config" / "_guard.py"))["check"]()
