"""Store URLs: what they name, and how they are shown."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

#: What of a URL is never shown; also as parameters after the question mark.
_SECRETS = ("password", "passwd", "sslpassword")
_HIDDEN = "***"


def shown_url(url: str) -> str:
    """``url`` without the password that may be in it."""
    try:
        parsed = sa.engine.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        return f"{url.split(':', 1)[0]}:{_HIDDEN}" if "@" in url else url
    secrets = {name: _HIDDEN for name in parsed.query if name.lower() in _SECRETS}
    if parsed.password is None and not secrets:
        return url
    return parsed.update_query_dict(secrets).render_as_string(hide_password=True)


def has_secret(url: sa.URL) -> bool:
    """Whether ``url`` carries a password."""
    return url.password is not None or any(name.lower() in _SECRETS for name in url.query)


def file_of(url: str) -> Path | None:
    """The file that a store at ``url`` is kept in; None for another kind of store."""
    path = url.removeprefix("sqlite:///")
    return Path(path).absolute() if path and path != url else None
