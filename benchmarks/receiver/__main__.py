"""The receiver as its command runs it; BENCH_TOGETHER changes how many events one transaction may take."""

import os

from config.logging import configure_logging
from workers.receiver import inbox
from workers.receiver.server import serve
from workers.resources import get_resources

if __name__ == "__main__":
    configure_logging("json")
    if together := os.environ.get("BENCH_TOGETHER"):
        inbox.MOST_TOGETHER = int(together)
    serve(get_resources())
