"""Runs the receiver on its own port, and its metrics on another."""

import asyncio.constants
import logging
import resource
import signal
import ssl
from collections.abc import Callable
from typing import Final

import structlog
import uvicorn

from config.settings import Settings
from workers.errors import InputError
from workers.exporter.server import FleetMetrics
from workers.ledger.migrate import check_version
from workers.metrics import REGISTRY, serve_metrics
from workers.receiver.app import make_app
from workers.receiver.protocol import HEAD_BYTES, HEAD_SECONDS, guarded
from workers.resources import Resources

log = structlog.get_logger(__name__)

MOST_CONNECTIONS: Final = 1000
#: Files that are no connections of callers: ledger, broker, log, and what Python opens.
OTHER_FILES: Final = 64


def serve(resources: Resources, *, fleet_metrics: bool = False) -> None:
    """Serves until SIGTERM or SIGINT; requests under way are answered first. Its metrics may have the fleet's as well.

    Raises InputError when it can't listen where the settings say, or can't use what they name.
    """
    check_version(resources.ledger)
    settings = resources.settings
    host, port = settings.receiver_host, settings.receiver_port
    config = configured(resources)
    _start_metrics(resources, fleet_metrics=fleet_metrics)
    log.info("receiver_starts", host=host, port=port, tls=config.is_ssl)
    server = uvicorn.Server(config)
    # It would say of each stranger what our own line says better.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
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


def configured(resources: Resources) -> uvicorn.Config:
    """How uvicorn serves the receiver; raises InputError for a certificate or a library that can't be used."""
    settings = resources.settings
    return uvicorn.Config(
        make_app(resources),
        # Uvicorn resolves and binds by itself: on a socket of ours that does not name its protocol, asyncio would
        # leave Nagle's algorithm on, and answers would wait for acknowledgements.
        host=settings.receiver_host,
        port=settings.receiver_port,
        http=guarded(settings.receiver_read_seconds, _most_connections()),
        loop="asyncio",
        ws="none",
        log_config=None,
        access_log=False,  # its lines hold the callback token
        server_header=False,
        # Without a list of ours it would believe whatever comes over loopback.
        proxy_headers=bool(settings.receiver_trusted_proxies),
        forwarded_allow_ips=list(settings.receiver_trusted_proxies),
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_graceful_shutdown=20,
        timeout_keep_alive=30,
        ssl_context_factory=_tls(settings),
    )


def _tls(settings: Settings) -> Callable[..., ssl.SSLContext] | None:
    certificate, key = settings.receiver_tls_certificate, settings.receiver_tls_key
    if certificate is None:
        return None
    # Uvicorn has no setting for it, and a minute is long for somebody who only wants to hold a connection.
    asyncio.constants.SSL_HANDSHAKE_TIMEOUT = min(HEAD_SECONDS, settings.receiver_read_seconds)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for name, path in (("CERTIFICATE", certificate), ("KEY", key)):
        if path is None or not path.is_file():
            raise InputError(f"RETROSCRIBE_RECEIVER_TLS_{name} is {path}, where there is no file: correct the path.")
    try:
        # A key with a passphrase would be asked for on a terminal that nobody sits at.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        why = getattr(error, "reason", None) or type(error).__name__
        raise InputError(
            f"The certificate {certificate} and the key {key} can't be used ({why}): give two PEM files that belong "
            "together, the key without a passphrase and readable to this user."
        ) from None
    return lambda *_: context


def _most_connections() -> int:
    """As many as there may be files, after asking for as many as this user may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + OTHER_FILES
    soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_FILES))


def _start_metrics(resources: Resources, *, fleet_metrics: bool) -> None:
    host, port = resources.settings.metrics_host, resources.settings.metrics_port
    if not port:
        return
    if fleet_metrics:
        REGISTRY.register(FleetMetrics(resources))
    try:
        serve_metrics(host, port)
    except OSError as error:
        # Transcripts are worth more than figures about them.
        advice = "free the port, or set RETROSCRIBE_METRICS_PORT to another one or to 0"
        log.warning("metrics_not_served", host=host, port=port, why=error.strerror, advice=advice)
