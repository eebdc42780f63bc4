"""The parts, one process each, as production starts them, and migrate, sandbox, schema."""

import json
import os
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from config import queues
from config.logging import configure_logging
from config.settings import Settings, load_settings
from workers.cli.common import existing_resources
from workers.ledger.engine import Ledger

Role = StrEnum("Role", list(queues.ROLES))  # type: ignore[misc]  # made from the one table of roles


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    for command in (worker, beat, receiver, exporter, flower):
        app.command(rich_help_panel="Parts")(command)
    app.command("migrate", rich_help_panel="Parts")(migrate_ledger)
    app.command(rich_help_panel="Trying out")(sandbox)
    app.command()(schema)


def worker(
    role: Annotated[Role, typer.Option(help="Which queues it consumes.")],
    threads: Annotated[int | None, typer.Option(min=1, max=256, help="Tasks at a time; default: by role.")] = None,
) -> None:
    """Runs one worker process."""
    # A thread that comes back from SQLite or a socket waits this long for one that computes. With the default of 5 ms
    # a transaction of a dozen statements took 50 ms while it held the ledger's write lock.
    sys.setswitchinterval(0.0005)
    _checked_settings(calls_api=True)
    from workers import dispatch
    from workers.app import app
    from workers.pipeline.acceptance import take_spooled
    from workers.resources import get_resources

    # What a worker on this machine was told by the API, and could not write down before it ended.
    take_spooled(get_resources(), by=f"start of worker {role}")
    dispatch.prepare_to_consume(first=queues.ROLES[role] if role == "live" else ())
    # Celery warns root of pickled messages; ours are JSON only.
    warnings.filterwarnings("ignore", message=r"(?s).*superuser privileges")
    app.worker_main(
        [
            "--quiet",
            "worker",
            f"--queues={','.join(queues.ROLES[role])}",
            "--pool=threads",
            f"--concurrency={threads or queues.THREADS[role]}",
            f"--hostname={role}.{os.getpid()}@%h",
            "--without-gossip",
            "--without-mingle",
        ]
    )


def beat() -> None:
    """Runs Celery beat, which asks for the pump each second and the sweep each 5 s; one a fleet is enough."""
    load_settings()
    from workers.app import app

    # The schedule is in the code and its intervals are seconds: nothing needs to be remembered in a file.
    app.start(["--quiet", "beat", "--scheduler=celery.beat:Scheduler", "--pidfile="])


def receiver(
    fleet_metrics: Annotated[
        bool,
        typer.Option("--fleet-metrics", help="Its metrics have the fleet's too, so that no exporter is needed beside."),
    ] = False,
) -> None:
    """Runs the webhook receiver, the only part that faces the internet."""
    settings = _checked_settings(calls_api=False)
    configure_logging(settings.log_format)
    from workers.receiver.server import serve
    from workers.resources import get_resources

    serve(get_resources(), fleet_metrics=fleet_metrics)


def exporter() -> None:
    """Serves the fleet's figures to Prometheus: ledger, limits, API calls, queues and workers; one is enough."""
    from workers.exporter.server import serve

    resources = existing_resources()
    configure_logging(resources.settings.log_format)
    serve(resources)


def flower() -> None:
    """Runs the Flower pages, which show workers and tasks."""
    load_settings()
    # Kubernetes sets it to tcp://... where a service is called flower, and Flower would take it for its option.
    os.environ.pop("FLOWER_PORT", None)
    from config import flowerconfig
    from workers.app import app

    app.start(["flower", f"--conf={flowerconfig.__file__}"])


def migrate_ledger() -> None:
    """Brings the ledger's schema up to date; run it once before a new version starts."""
    from workers.ledger.migrate import migrate

    ledger = Ledger(load_settings().effective_database_url)
    before, after = migrate(ledger)
    ledger.close()
    typer.echo(f"The ledger is at schema {after}" + ("." if before == after else f", it was at {before or 'none'}."))


def sandbox(
    port: Annotated[int, typer.Option(help="Port that it listens on, 0 for a free one.")] = 8900,
    host: Annotated[
        str, typer.Option(help="Address that it listens on; whoever reaches it may set its faults.")
    ] = "127.0.0.1",
    rate: Annotated[float, typer.Option(help="Submissions a second; media look-ups get twice that.")] = 10.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same catalogue, transcripts and ids.")] = 1,
    processing_seconds: Annotated[float, typer.Option(help="Median time of a transcription.")] = 2.0,
    never_finish: Annotated[float, typer.Option(help="Share of transcriptions that never finish, 0 to 1.")] = 0.0,
    count: Annotated[int, typer.Option(help="How many recordings the catalogue has.")] = 300,
    buckets: Annotated[str, typer.Option(help="separate, or shared: all calls draw on one limit.")] = "separate",
    limiter: Annotated[
        str, typer.Option(help="How the limits count: token-bucket, fixed-second, sliding-second or minute.")
    ] = "token-bucket",
    faults: Annotated[str, typer.Option(help="Faults as PUT /_sandbox/faults takes them, in JSON.")] = "{}",
    signature: Annotated[
        str, typer.Option(help="Sign webhooks: standard-webhooks:SECRET or x-hub-signature-256:SECRET.")
    ] = "",
    write_manifest: Annotated[Path | None, typer.Option(help="Write the catalogue to this CSV file first.")] = None,
) -> None:
    """Runs a local stand-in for the transcription API, with its limits and its faults."""
    from workers.sandbox.catalogue import write_manifest as write
    from workers.sandbox.config import SandboxConfig
    from workers.sandbox.server import serve

    configure_logging("console")
    config = SandboxConfig(
        host=host,
        port=port,
        rate=rate,
        seed=seed,
        processing_seconds=processing_seconds,
        never_finish=never_finish,
        count=count,
        buckets=buckets,
        limiter=limiter,
        faults=faults,
        signature=signature,
    )
    if write_manifest is not None:
        write(write_manifest, config)
        typer.echo(f"# {count} media ids are in {write_manifest}")
    serve(config, announce=typer.echo)


def schema(
    of_receiver: Annotated[
        bool, typer.Option("--receiver", help="The receiver's OpenAPI document instead, for who sends it events.")
    ] = False,
) -> None:
    """Prints the JSON schema of the enqueue message that other apps send."""
    if of_receiver:
        from workers.receiver.app import openapi_document
        from workers.resources import Resources

        typer.echo(json.dumps(openapi_document(Resources(load_settings())), indent=2))
        return
    from workers.intake.entries import message_schema

    typer.echo(json.dumps(message_schema(), indent=2))


def _checked_settings(*, calls_api: bool) -> Settings:
    """The settings, after what would otherwise fail each task has been looked at."""
    from workers.ledger.migrate import check_version

    settings = load_settings()
    if calls_api:
        settings.genesys.credentials()
    if settings.callback_base_url or not calls_api:
        _ = settings.signing_secrets
    ledger = Ledger(settings.effective_database_url)
    check_version(ledger)
    ledger.close()
    return settings
