"""Store URLs: what they name, and how they are shown."""

from __future__ import annotations

import os
import re
from pathlib import Path

import sqlalchemy as sa

#: What of a URL is never shown; also as parameters after the question mark.
_SECRETS = (
    *("password", "passwd", "sslpassword"),
    *("oauth_client_secret", "scram_client_key", "scram_server_key"),
)
_HIDDEN = "***"


def shown_url(url: str) -> str:
    """``url`` without the secrets that may be in it."""
    try:
        parsed = sa.engine.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        # What cannot be told apart may be a password.
        scheme = re.match(r"[\w+.-]*:", url)
        return f"{scheme[0] if scheme else ''}{_HIDDEN}" if re.search("[@?]", url) else url
    secrets = {name: _HIDDEN for name in parsed.query if name.lower() in _SECRETS}
    if parsed.password is None and not secrets:
        return url
    return parsed.update_query_dict(secrets).render_as_string(hide_password=True)


def has_secret(url: sa.URL) -> bool:
    """Whether ``url`` carries a password, or what serves as one."""
    return url.password is not None or any(name.lower() in _SECRETS for name in url.query)


def file_of(url: str) -> Path | None:
    """The file that a store at ``url`` is kept in, wherever links lead to it; None for another kind of store.

    SQLite keeps its log beside that one, not beside a link to it.
    """
    named = named_file(url)
    return None if named is None else Path(os.path.realpath(named))


def named_file(url: str) -> Path | None:
    """The file that ``url`` names, which may be a link; None for another kind of store."""
    path = url.removeprefix("sqlite:///")
    return Path(path).absolute() if path and path != url else None


def unknown_kind(url: str) -> str:
    """What is wrong with the URL of no kind of store."""
    return (
        f"store_url starts with {shown_url(url).split(':', 1)[0]!r}; expected sqlite:///<path to a file>, "
        "postgresql+psycopg://<user>@<host>/<database> or memory://"
    )
