"""Configure JupyterHub so that each user's server uses its own role in one PostgreSQL store.

For spawners that start servers as system users (LocalProcessSpawner). docs/how-to/jupyterhub.md
explains it and describes containers. Copy it into your jupyterhub_config.py, or load it there with
load_subconfig.
"""

import asyncio
import hashlib
import os
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from sqlalchemy import make_url

c = get_config()  # noqa: F821 - JupyterHub's

# The store, with the owner of its tables as the user, whose password is in the hub's ~/.pgpass.
OWNER_URL = os.environ.get("AXON_OWNER_URL", "postgresql+psycopg://axon_owner@db.example/axon")
# The folder of the users' passfiles. Each server reads only its own; nobody can list the folder.
PASSFILES = Path(os.environ.get("AXON_PASSFILES", "/srv/jupyterhub/axon"))

PASSFILES.mkdir(parents=True, exist_ok=True)
PASSFILES.chmod(0o711)


def role_of(user: str) -> str:
    """Return the role of a hub user: a digest for names that are too long or not simple."""
    if re.fullmatch("[a-z0-9_-]{1,50}", user):
        return f"hub_{user}"
    return f"hubuser_{hashlib.sha256(user.encode()).hexdigest()[:32]}"


async def give_role(spawner) -> None:
    """Create the user's role at the first spawn, and start the server with it."""
    user = spawner.user.name
    role = role_of(user)
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("jupyter-axon"),
        "init-db",
        f"--store-url={OWNER_URL}",
        f"--user={user}={role}",
        f"--passfiles={PASSFILES}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    if process.returncode:  # start the server anyway: it opens the store as soon as it can
        spawner.log.error("axon: no role for %s: %s", user, errors.decode(errors="replace"))
    passfile = PASSFILES / f"{role}.pgpass"
    with suppress(LookupError, OSError):  # the servers run as the hub's own user
        shutil.chown(passfile, user)
    url = make_url(OWNER_URL).set(username=role).update_query_dict({"passfile": str(passfile)})
    option = "--AxonNotebooks.store_url="
    spawner.args = [argument for argument in spawner.args if not argument.startswith(option)]
    spawner.args.append(option + url.render_as_string())


c.Spawner.pre_spawn_hook = give_role
