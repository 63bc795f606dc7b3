"""Parsing and redaction of store URLs."""

from __future__ import annotations

import os
import re
from pathlib import Path

import sqlalchemy as sa

#: Parameters of a URL whose values are secret.
_SECRETS = (
    *("password", "passwd", "sslpassword"),
    *("oauth_client_secret", "scram_client_key", "scram_server_key"),
)
_HIDDEN = "***"


def shown_url(url: str) -> str:
    """Return ``url`` with its secrets replaced by ``***``."""
    try:
        parsed = sa.engine.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        # Any part of a URL that cannot be parsed may be a password.
        scheme = re.match(r"[\w+.-]*:", url)
        return f"{scheme[0] if scheme else ''}{_HIDDEN}" if re.search("[@?]", url) else url
    secrets = {name: _HIDDEN for name in parsed.query if name.lower() in _SECRETS}
    if parsed.password is None and not secrets:
        return url
    return parsed.update_query_dict(secrets).render_as_string(hide_password=True)


def has_secret(url: sa.URL) -> bool:
    """Return whether ``url`` contains a password or another secret."""
    return url.password is not None or any(name.lower() in _SECRETS for name in url.query)


def file_of(url: str) -> Path | None:
    """Return the file of the store at ``url`` with links resolved, as SQLite names its log.

    None if the store is not in a file.
    """
    path = named_file(url)
    return None if path is None else Path(os.path.realpath(path))


def named_file(url: str) -> Path | None:
    """Return the path in ``url``, which may be a link; None if the store is not in a file."""
    path = url.removeprefix("sqlite:///")
    return Path(path).absolute() if path and path != url else None


def unsupported_url(url: str) -> str:
    """Return the error message for a URL that no engine supports."""
    return (
        f"store_url starts with {shown_url(url).split(':', 1)[0]!r}; expected "
        "sqlite:///<path to a file>, postgresql+psycopg://<user>@<host>/<database> or memory://"
    )
