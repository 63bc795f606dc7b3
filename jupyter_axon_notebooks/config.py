"""The configuration of the server extension and the command line: ``c.AxonNotebooks``."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from traitlets import Bool, Dict, Enum, Int, List, TraitError, Unicode, default, validate
from traitlets.config import Configurable

from .defaults import default_states_root, default_url, default_user
from .repository.starter import STARTER_CELLS

_MIB = 1024 * 1024


class AxonNotebooks(Configurable):
    """The configuration of jupyter-axon-notebooks."""

    store_url = Unicode(
        help="""
        The URL of the store: sqlite:///<absolute path>,
        postgresql+psycopg://<user>@<host>/<database> for a database that several servers may share
        (as on a hub), or memory:// to keep nothing when the server stops.

        The URL must not have a password, because all kernels receive it. PostgreSQL's client takes
        passwords from ~/.pgpass, or from the passfile that PGPASSFILE or ?passfile=/path in the URL
        names. Other settings of libpq, such as ?sslmode=verify-full, also go into the URL.

        The default is axon_notebooks/axon.db in Jupyter's data directory.
        """
    ).tag(config=True)

    user_id = Unicode(
        help="""
        The acting user, who owns the records that are created.

        The default is the JupyterHub user, or else the login name of the operating system.
        """
    ).tag(config=True)

    identity_from_request = Bool(
        False,
        help="""
        Take the acting user from the identity of each request instead of user_id.

        For a server that several users share, with an identity provider that knows them. Leave it
        off with token authentication, where user names are random.
        """,
    ).tag(config=True)

    admin_users = List(
        Unicode(), help="Users who may see and change the records of all users."
    ).tag(config=True)

    states_root = Unicode(
        help="""
        The folder for the state files of checkpoints.

        The default is axon_notebooks/states in Jupyter's data directory. Records have paths
        relative to it: to use another folder, move its content there first.
        """
    ).tag(config=True)

    extra_states_roots = List(
        Unicode(),
        help="""
        Further folders in which clients may register existing state files.

        The files are read, never written and never removed. Servers and commands also look here for
        state files that are not below states_root; kernels do not.
        """,
    ).tag(config=True)

    embed_notebook_id = Bool(
        True,
        help="""
        Write the record's id into the notebook's metadata (axon.notebook_id) when it is saved.

        A notebook that is moved outside Jupyter is recognized by this id.
        """,
    ).tag(config=True)

    exclude = List(
        Unicode(),
        help="""
        Notebooks that are not recorded when they are saved, and whose files are not changed.

        Each is a shell pattern for the path below the server's root folder, such as "private/*" or
        "*-scratch.ipynb"; * matches slashes too. Records that exist already stay.
        """,
    ).tag(config=True)

    history_limit = Int(
        100,
        min=1,
        allow_none=True,
        help="""
        The number of versions to keep of each notebook, besides those of checkpoints; None keeps
        all.

        Older versions are removed in the background. A server removes only versions of the
        notebooks of user_id, or of all notebooks if identity_from_request is on.
        """,
    ).tag(config=True)

    starter_cells = List(
        Dict(per_key_traits={"cell_type": Enum(["code", "markdown"]), "source": Unicode()}),
        help="""
        The cells of a notebook that is created without cells.

        Each is {"cell_type": "code" or "markdown", "source": "..."}.
        """,
    ).tag(config=True)

    system_metrics = Bool(
        True,
        help="""
        Log the load of processors, memory and graphics cards while a run logs values.

        For kernels that this server starts. Others read the environment variable
        AXON_SYSTEM_METRICS.
        """,
    ).tag(config=True)

    max_body_size = Int(
        64 * _MIB,
        min=1024,
        help="The largest JSON body in bytes. State files are streamed and have no limit.",
    ).tag(config=True)

    @default("store_url")
    def _default_store_url(self) -> str:
        return default_url()

    @default("user_id")
    def _default_user_id(self) -> str:
        return default_user()

    @default("states_root")
    def _default_states_root(self) -> str:
        return default_states_root()

    @default("starter_cells")
    def _default_starter_cells(self) -> list[dict[str, str]]:
        return [{"cell_type": kind, "source": source} for kind, source in STARTER_CELLS]

    @validate("store_url")
    def _validate_store_url(self, proposal: dict[str, str]) -> str:
        url = proposal["value"]
        file = url.removeprefix("sqlite:///")
        if file != url and not Path(file).is_absolute():
            raise TraitError(
                f"AxonNotebooks.store_url is {url!r}; expected sqlite:/// and an absolute path"
            )
        return url

    @validate("starter_cells")
    def _validate_starter_cells(
        self, proposal: dict[str, list[dict[str, str]]]
    ) -> list[dict[str, str]]:
        for cell in proposal["value"]:
            if cell.keys() != {"cell_type", "source"}:
                raise TraitError(
                    f"AxonNotebooks.starter_cells has {cell!r}; expected cell_type and source"
                )
        return proposal["value"]

    @validate("states_root")
    def _validate_states_root(self, proposal: dict[str, str]) -> str:
        return _absolute("states_root", proposal["value"])

    @validate("extra_states_roots")
    def _validate_extra_states_roots(self, proposal: dict[str, list[str]]) -> list[str]:
        return [_absolute("extra_states_roots", root) for root in proposal["value"]]

    def is_excluded(self, path: str) -> bool:
        """Return whether saves of the notebook at a contents path are ignored."""
        return any(fnmatchcase(path, pattern.strip("/")) for pattern in self.exclude)

    def acting_user(self, username: str | None) -> str:
        """Return the acting user of a request by ``username``; None stands for no request."""
        return username if self.identity_from_request and username is not None else self.user_id

    def starter_templates(self) -> list[tuple[str, str]]:
        """Return type and source of each starter cell."""
        return [(cell["cell_type"], cell["source"]) for cell in self.starter_cells]


def _absolute(trait: str, root: str) -> str:
    path = Path(root).expanduser()
    if not path.is_absolute():
        raise TraitError(f"AxonNotebooks.{trait} has {root!r}; expected an absolute path")
    return str(path)
