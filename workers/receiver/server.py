"""Runs the receiver on its own port."""

import structlog
import uvicorn

from workers.ledger.migrate import check_version
from workers.receiver.app import make_app
from workers.resources import Resources

log = structlog.get_logger(__name__)


def serve(resources: Resources) -> None:
    """Serves until SIGTERM or SIGINT; requests under way are answered first."""
    check_version(resources.ledger)
    log.info("receiver_starts", host=resources.settings.receiver_host, port=resources.settings.receiver_port)
    config = uvicorn.Config(
        make_app(resources),
        host=resources.settings.receiver_host,
        port=resources.settings.receiver_port,
        log_config=None,
        access_log=False,  # its lines hold the callback token
        server_header=False,
        timeout_graceful_shutdown=20,
        timeout_keep_alive=30,
    )
    uvicorn.Server(config).run()
