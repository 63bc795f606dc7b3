"""The command above all commands: finds them, and turns what they raise into a line and an exit code."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from typing import Any

import click

from .._version import __version__
from ..errors import AxonError, NotFound, StoreError
from ..printable import printable
from . import commands as _commands
from .output import note

FAILED, WRONG_USAGE, NOT_FOUND, NO_STORE, INTERRUPTED = 1, 2, 3, 4, 130


class _Failure(click.ClickException):
    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(printable(message))
        self.exit_code = exit_code  # type: ignore[misc]  # click leaves it to instances elsewhere


class Commands(click.Group):
    """A group whose commands are the modules of a package, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names of all commands, sorted."""
        return sorted(
            _command_name(module.name) for module in pkgutil.iter_modules(_commands.__path__)
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; None where there is none."""
        if cmd_name not in self.list_commands(ctx):
            return None
        names = {
            _command_name(module.name): module.name
            for module in pkgutil.iter_modules(_commands.__path__)
        }
        module: Any = importlib.import_module(f"{_commands.__name__}.{names[cmd_name]}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
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
            error.message = printable(error.message, keep="\n")  # type: ignore[misc]
            raise
        except BrokenPipeError:
            raise  # whoever read the output has had enough, which click knows
        except OSError as error:
            place = f": {error.filename}" if error.filename is not None else ""
            raise _Failure(f"{error.strerror or error}{place}", FAILED) from error
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None


def _command_name(module: str) -> str:
    return module.removesuffix("_").replace("_", "-")


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if not issubclass(category, (DeprecationWarning, PendingDeprecationWarning)):
        note(f"Warning: {message}")


_EXIT_CODES = (
    "Exit codes: 0 done, 1 failed or problem found, 2 wrong usage or configuration, "
    "3 not found, 4 the store cannot be used, 130 interrupted."
)


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXIT_CODES
)
@click.version_option(__version__, prog_name="jupyter axon")
def commands() -> None:
    """Training-notebook records and their checkpoints.

    Works on the store that the Jupyter server is configured with, whether or not a server runs.
    """
