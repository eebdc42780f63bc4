"""The Celery tasks, one thin file a step."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "config" / "_guard.py"))["check"]()
