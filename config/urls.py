"""URLs in settings: which are taken, and how Celery wants them spelt."""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit


def kombu_url(url: str) -> str:
    """The form that kombu takes of a URL that redis-py takes: it spells a Unix socket differently."""
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    query = "&".join(re.sub(r"^db=", "virtual_host=", part) for part in parts.query.split("&") if part)
    return f"redis+socket://{parts.path}" + (f"?{query}" if query else "")


def http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https URL, such as https://api.mypurecloud.com")
    return value.rstrip("/")


def search_url(value: str | None) -> str | None:
    known = with_scheme(value, ("sqlite", "https", "http"))
    if known is None or known.startswith("sqlite"):
        return known
    parts = urlsplit(http_url(known))
    if parts.username is not None or parts.password is not None:
        raise ValueError("must have neither user nor password: give them as RETROSCRIBE_SEARCH_USER and _PASSWORD")
    if parts.query or parts.fragment:
        raise ValueError("must end before ? and #, such as https://search.internal:9200")
    if parts.scheme == "http" and not is_loopback(known):
        raise ValueError("must be https unless its host is loopback: transcripts go there")
    return known.rstrip("/")


def with_scheme(value: str | None, schemes: tuple[str, ...]) -> str | None:
    if value is not None and value.partition("://")[0].lower() not in schemes:
        raise ValueError(f"must begin with {', '.join(f'{scheme}://' for scheme in schemes)}")
    return value


def broker_url(value: str | None) -> str | None:
    """The broker's URL as it is; raises ValueError with what is wrong with it."""
    with_scheme(value, ("redis", "rediss", "unix", "amqp", "amqps"))
    if value is None or not value.lower().startswith("amqp"):
        return value
    try:
        parts = urlsplit(value)
        usable = bool(parts.hostname) and (parts.port or 1) > 0 and ";" not in value and "@" not in parts.path
    except ValueError:  # the port is no number, or what stands there is the rest of a password
        usable = False
    if not usable or parts.query or parts.fragment:
        raise ValueError(
            "must be one URL, amqp://user:password@host:5672/vhost, in which any sign of the password other than a "
            "letter or digit is written as % and two hex digits"
        )
    return value


def is_loopback(url: str) -> bool:
    return is_loopback_host(urlsplit(url).hostname or "")


def is_loopback_host(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
