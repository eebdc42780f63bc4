"""The part of a checkup that is about the API: who we are to it, what it says of that, and what it lets us do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from config.genesys import GenesysSettings
from workers.errors import RateLimited, RetroscribeError, Retryable
from workers.ledger import controls
from workers.limits.guard import permitted
from workers.model import CallClass
from workers.pipeline.checkup_http import Ask
from workers.pipeline.finding import Finding, ok, warning, wrong
from workers.pipeline.poll import ask_route
from workers.pipeline.way_back import NO_WAY, WayBack, way_back
from workers.resources import Resources

PERMIT_SECONDS: Final = 10.0
SCOPES: Final[frozenset[str]] = frozenset(GenesysSettings.model_fields["scopes"].default.split())


def check_credentials(resources: Resources) -> Finding:
    resources.settings.genesys.credentials()
    return ok("credentials", "GENESYS_CLIENT_ID and GENESYS_CLIENT_SECRET are set")


def check_api(resources: Resources, ask: Ask) -> Finding:
    url = resources.settings.genesys.base_url
    ask(url)  # any answer will do: there is nothing to be found without a path
    return ok("api", f"{url} answers")


def check_token(resources: Resources) -> Finding:
    """Whether the credentials get an access token, tried even when the fleet has one that hides a wrong secret."""
    try:
        with _impatient(resources):
            resources.tokens.get()
            if not _has_fetched(resources):
                with permitted(resources.limiter, CallClass.TOKEN):
                    resources.client.fetch_token()
    except RateLimited:
        found = f"not tried: there was no leave to fetch an access token within {PERMIT_SECONDS:g} s"
        return warning("token", found, "Wait until the gate for tokens is open, see limits, and look again.")
    except Retryable as error:
        return wrong("token", str(error), "Check the network and GENESYS_TOKEN_URL, then look again.", unreachable=True)
    return ok("token", "the credentials were tried just now and get an access token")


def check_scopes(resources: Resources) -> Finding:
    """Whether the scopes that are needed are asked for and, where the API says so, granted."""
    missing = " and ".join(sorted(SCOPES.difference(resources.settings.genesys.scopes.split())))
    if missing:
        return wrong("scopes", f"{missing} is not asked for", f"Add {missing} to GENESYS_SCOPES, or leave it unset.")
    grant = resources.client.last_grant if _has_fetched(resources) else None
    granted = grant.scopes if grant else None
    if granted is None:
        return ok("scopes", f"{' and '.join(sorted(SCOPES))} are asked for; the API does not say what it grants")
    if missing := " and ".join(sorted(SCOPES - granted)):
        fix = f"Grant {missing} to the OAuth client under Admin > Integrations > OAuth."
        return wrong("scopes", f"the API's answer does not grant {missing}", fix)
    return ok("scopes", f"{' and '.join(sorted(SCOPES))} are granted")


def _has_fetched(resources: Resources) -> bool:
    """Whether this process has fetched a token itself; the client is built for the first call."""
    return "client" in vars(resources) and resources.client.last_grant is not None


@contextmanager
def _impatient(resources: Resources) -> Iterator[None]:
    """A closed gate would be waited for up to a minute."""
    impatience = threading.Timer(PERMIT_SECONDS, resources.stopping.set)
    impatience.start()
    try:
        yield
    finally:
        impatience.cancel()


def check_halt(resources: Resources) -> Finding:
    with resources.ledger.read() as tx:
        standing = controls.halt(tx, resources.client_key)
    if standing is None:
        return ok("halt", "none stands")
    since, probe = (
        datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds") for at in (standing.since, standing.next_probe_at)
    )
    found = f"nothing is submitted since {since} ({standing.reason}), next probe {probe}: {standing.detail}"
    return wrong("halt", found, "Mend the OAuth client; the probe each minute then lifts the halt by itself.")


def check_results(resources: Resources) -> Finding:
    with suppress(RetroscribeError), _impatient(resources):  # why the API can't be asked, other lines say
        ask_route(resources)
    with resources.ledger.read() as tx:
        route = controls.status_route(tx, resources.client_key)
        way = way_back(tx, resources)
    if way == WayBack.NONE:
        return wrong("results", f"there is no way back ({route.why if route else ''})", NO_WAY)
    if way == WayBack.UNPROVED:
        found = "by status look-ups only, none of which was answered yet: one recording goes first and shows it"
        return warning("results", found, "Set RETROSCRIBE_PUBLIC_URL, so that the API can call the receiver.")
    if way == WayBack.POLLING:
        return ok("results", "come by status look-ups")
    if route is not None and not route.works:
        found = f"come by webhook only, the API has no status route ({route.why})"
        return warning("results", found, "Keep the receiver up: nothing makes up for a webhook that is lost.")
    return ok("results", "come by webhook, and by a status look-up where one is lost")


def check_limits(resources: Resources) -> Finding:
    states = [resources.limiter.snapshot(call_class) for call_class in CallClass]
    found = ", ".join(
        f"{one.call_class} {one.rate:.3g} of {one.configured:g}/s"
        + (f" (gate closed for {one.gate_seconds:.1f} s: {one.gate_reason})" if one.gate_seconds else "")
        for one in states
    )
    if any(one.gate_seconds for one in states):
        fix = (
            "Wait, a gate opens by itself; if it keeps closing, see who else uses the limit and whether the API is up."
        )
        return warning("limits", found, fix)
    return ok("limits", f"{found}, gates open")
