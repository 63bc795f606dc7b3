"""What can be configured, under ``c.AxonNotebooks``; read by the server extension and the command line alike."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from traitlets import Bool, Dict, Enum, Int, List, TraitError, Unicode, default, validate
from traitlets.config import Configurable

from .defaults import default_states_root, default_url, default_user
from .repository import STARTER_CELLS

#: Bytes in a mebibyte.
_MIB = 1024 * 1024


class AxonNotebooks(Configurable):
    """The configuration of jupyter-axon-notebooks."""

    store_url = Unicode(
        help="""
        Where records are kept: sqlite:///<absolute path>; postgresql+psycopg://<user>@<host>/<database>, which many
        servers may share, as on a hub; or memory:// to forget them when the server stops.

        A URL with a password in it is refused, since every kernel is given it. PostgreSQL's client takes passwords from
        a passfile, ~/.pgpass or the one that PGPASSFILE or ?passfile=/path in the URL names; other settings of libpq,
        as ?sslmode=verify-full, go into the URL as well.

        By default axon_notebooks/axon.db in Jupyter's data folder.
        """
    ).tag(config=True)

    user_id = Unicode(
        help="""
        Who acts: the owner of the records that are made.

        By default the JupyterHub user, else the name of the operating system's login.
        """
    ).tag(config=True)

    identity_from_request = Bool(
        False,
        help="""
        Take the acting user from each request's identity instead of user_id.

        For a server that several users share, with an identity provider that knows them. With token authentication
        leave it off: a token's user name is random.
        """,
    ).tag(config=True)

    admin_users = List(
        Unicode(), help="Users who may see and change the records of everybody."
    ).tag(config=True)

    states_root = Unicode(
        help="""
        The folder of the state files of checkpoints. By default axon_notebooks/states in Jupyter's data folder.

        Records name files relative to it: to use another folder, move what is in it there, then change this.
        """
    ).tag(config=True)

    extra_states_roots = List(
        Unicode(),
        help="""
        Further folders in which a client may name state files that are there already.

        They are read from there, never written and never removed. Servers and commands also look here for state files
        that are not below states_root; kernels do not.
        """,
    ).tag(config=True)

    embed_notebook_id = Bool(
        True,
        help="""
        Put the record's id into a notebook's metadata (axon.notebook_id) when it is saved.

        It is how a notebook that was moved outside Jupyter is known again.
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
        How many versions of a notebook are kept, besides those that its checkpoints refer to. None keeps all.

        Older ones are removed in the background, of the notebooks of user_id only, or of everybody's where
        identity_from_request is on: on a store that several servers share, each looks after its own user's.
        """,
    ).tag(config=True)

    starter_cells = List(
        Dict(per_key_traits={"cell_type": Enum(["code", "markdown"]), "source": Unicode()}),
        help="""
        The cells of a notebook that is created without any, each {"cell_type": "code" or "markdown", "source": …}.
        """,
    ).tag(config=True)

    max_body_size = Int(
        64 * _MIB,
        min=1024,
        help="The largest JSON body that is read, in bytes. State files are streamed and have no such limit.",
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
    def _absolute_file(self, proposal: dict[str, str]) -> str:
        url = proposal["value"]
        file = url.removeprefix("sqlite:///")
        if file != url and not Path(file).is_absolute():
            raise TraitError(
                f"AxonNotebooks.store_url is {url!r}; expected sqlite:/// and an absolute path"
            )
        return url

    @validate("starter_cells")
    def _whole_cells(self, proposal: dict[str, list[dict[str, str]]]) -> list[dict[str, str]]:
        for cell in proposal["value"]:
            if cell.keys() != {"cell_type", "source"}:
                raise TraitError(
                    f"AxonNotebooks.starter_cells has {cell!r}; expected cell_type and source"
                )
        return proposal["value"]

    @validate("states_root")
    def _one_absolute(self, proposal: dict[str, str]) -> str:
        return _absolute("states_root", proposal["value"])

    @validate("extra_states_roots")
    def _all_absolute(self, proposal: dict[str, list[str]]) -> list[str]:
        return [_absolute("extra_states_roots", root) for root in proposal["value"]]

    def is_excluded(self, path: str) -> bool:
        """Return whether saves of the notebook at a contents path are ignored."""
        return any(fnmatchcase(path, pattern.strip("/")) for pattern in self.exclude)

    def acting_user(self, username: str | None) -> str:
        """Who acts in a request with the identity ``username``; None: outside of any request."""
        return username if self.identity_from_request and username is not None else self.user_id

    def starter_templates(self) -> list[tuple[str, str]]:
        """Type and source of each starter cell."""
        return [(cell["cell_type"], cell["source"]) for cell in self.starter_cells]


def _absolute(trait: str, root: str) -> str:
    path = Path(root).expanduser()
    if not path.is_absolute():
        raise TraitError(f"AxonNotebooks.{trait} has {root!r}; expected an absolute path")
    return str(path)
