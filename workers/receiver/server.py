"""Runs the receiver on its own port."""

import signal

import structlog
import uvicorn

from workers.errors import InputError
from workers.ledger.migrate import check_version
from workers.receiver.app import make_app
from workers.resources import Resources

log = structlog.get_logger(__name__)


def serve(resources: Resources) -> None:
    """Serves until SIGTERM or SIGINT; requests under way are answered first.

    Raises InputError when it can't listen where the settings say.
    """
    check_version(resources.ledger)
    host, port = resources.settings.receiver_host, resources.settings.receiver_port
    log.info("receiver_starts", host=host, port=port)
    config = uvicorn.Config(
        make_app(resources),
        # Uvicorn resolves and binds by itself: on a socket of ours that does not name its protocol, asyncio would
        # leave Nagle's algorithm on, and answers would wait for acknowledgements.
        host=host,
        port=port,
        ws="none",
        log_config=None,
        access_log=False,  # its lines hold the callback token
        server_header=False,
        timeout_graceful_shutdown=20,
        timeout_keep_alive=30,
    )
    server = uvicorn.Server(config)
    # Uvicorn raises the signal that ended it once more, and a clean stop would look like a crash to who started it.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        server.run()
    except SystemExit:
        if server.started:
            raise
        raise InputError(
            f"The receiver can't listen on {host}:{port}, the line above says why: free the port, or set "
            "RETROSCRIBE_RECEIVER_HOST and RETROSCRIBE_RECEIVER_PORT to others."
        ) from None
