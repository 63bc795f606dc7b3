"""The command group: finds commands, and turns errors into messages and exit codes."""

from __future__ import annotations

import importlib
import warnings
from typing import Any, Final

import click

from .._version import __version__
from ..errors import AxonError, NotFound, StoreError
from ..printable import printable
from .output import note

FAILED, WRONG_USAGE, NOT_FOUND, NO_STORE, INTERRUPTED = 1, 2, 3, 4, 130

#: Where each command is: module and name. Modules are imported when their command is run or
#: described.
_COMMANDS: Final = {
    "best": ("checkpoints", "best"),
    "bundle": ("archives", "bundle"),
    "checkpoints": ("checkpoints", "checkpoints"),
    "compare": ("runs", "compare"),
    "delete-run": ("runs", "delete_run"),
    "diff": ("provenance", "diff"),
    "doctor": ("doctor", "doctor"),
    "dump": ("archives", "dump"),
    "edit-run": ("runs", "edit_run"),
    "export": ("records", "export_record"),
    "export-runs": ("runs", "export"),
    "import": ("records", "import_files"),
    "init-db": ("database", "init_db"),
    "list": ("records", "list_records"),
    "load": ("archives", "load"),
    "pin": ("checkpoints", "pin"),
    "provenance": ("provenance", "provenance"),
    "prune": ("pruning", "prune"),
    "recover": ("recovery", "recover"),
    "restore": ("checkpoints", "restore"),
    "runs": ("runs", "runs"),
    "show": ("records", "show"),
    "unpin": ("checkpoints", "unpin"),
}
_EXIT_CODES = (
    "Exit codes: 0 success, 1 failure or problem found, 2 wrong usage or configuration, "
    "3 not found, 4 the store cannot be used, 130 interrupted."
)


class _Failure(click.ClickException):
    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(printable(message))
        self.exit_code = exit_code  # type: ignore[misc]  # click leaves it to instances elsewhere


class CommandGroup(click.Group):
    """A group whose commands are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all commands, sorted."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click
        """Return a command, or None if there is none of that name."""
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"{__package__}.{module}"), name)
        command.name = cmd_name
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and turn its errors into messages and exit codes."""
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except NotFound as error:
            raise _Failure(str(error), NOT_FOUND) from error
        except StoreError as error:
            raise _Failure(str(error), NO_STORE) from error
        except AxonError as error:
            raise _Failure(str(error), FAILED) from error
        except click.ClickException as error:
            error.message = printable(error.message, keep="\n")  # type: ignore[misc]  # click
            raise
        except BrokenPipeError:
            raise  # click ends quietly when the reader of the output is gone
        except OSError as error:
            place = f": {error.filename}" if error.filename is not None else ""
            raise _Failure(f"{error.strerror or error}{place}", FAILED) from error
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if not issubclass(category, (DeprecationWarning, PendingDeprecationWarning)):
        note(f"Warning: {message}")


@click.group(
    cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXIT_CODES
)
@click.version_option(__version__, prog_name="jupyter axon")
def commands() -> None:
    """Work with training-notebook records and their checkpoints.

    Commands use the store that the Jupyter server is configured with, whether or not a server is
    running.
    """
