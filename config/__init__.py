"""What can be set: settings, Celery's configuration, queue and task names, logging."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "config" / "_guard.py"))["check"]()
