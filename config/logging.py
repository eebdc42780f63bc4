"""How log lines look: one event a line, static names, ids beside them."""

import json
import logging
import logging.handlers
import sys
from pathlib import Path
from typing import Literal

import structlog

AUDIT_LOGGER = "retroscribe.audit"

# These tell of every request or connection, and the first of them writes URLs, in which ids and secrets may stand.
_CHATTY = (
    "httpx",
    "httpcore",
    "alembic",
    "celery.app.trace",
    "celery.beat",
    "celery.worker.strategy",
    "tornado.access",
    "uvicorn.access",
    "uvicorn.error",
)


def configure_logging(
    form: Literal["console", "json"], *, level: int = logging.INFO, audit: Path | None = None
) -> None:
    """Sends all log lines to standard error in the given form, and the audit records to the file `audit`.

    The file is opened anew when the operator's log rotation has moved it away.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Tracebacks without the values of variables, in which secrets may stand.
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    last: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()] if form == "json" else [plain]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *last,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    _configure_audit(audit)


def write_audit(record: dict[str, object]) -> None:
    """Writes one audit record as one JSON line; never transcript text."""
    logging.getLogger(AUDIT_LOGGER).info(json.dumps(record, ensure_ascii=False))


def _configure_audit(path: Path | None) -> None:
    logger = logging.getLogger(AUDIT_LOGGER)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers[:] = []
    if path is not None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handler = logging.handlers.WatchedFileHandler(path, delay=True, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
