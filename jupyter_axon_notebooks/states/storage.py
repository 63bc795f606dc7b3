"""The storage of state files: writing, reading, removing, and access checks."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path, PurePath
from typing import BinaryIO, Final

from ..atomic_files import temporary_name
from ..errors import AxonError, InvalidData, NotFound
from ..repository import States
from .folders import Folder, convert_os_errors, free_bytes, make_folders, no_space
from .layout import (
    MARKS,
    Part,
    can_name_folders,
    check_id,
    is_path_text,
    split_state_path,
    state_name,
)
from .roots import add_known_root, former_roots
from .writer import StateWriter, remove_if_empty, write_mark

#: Bytes that must stay free: the store, which may be on the same disk, must record the checkpoint.
_RESERVE: Final = 16 << 20
#: Attempts to open a writer while other processes remove its empty folder.
_MAX_ATTEMPTS: Final = 100

_OPEN_ERRORS: Final = {
    errno.ELOOP: "leads through a symbolic link",
    errno.ENOTDIR: "leads through a symbolic link, or through something that is not a folder",
    errno.EISDIR: "expected a regular file, found something else",
    errno.ENAMETOOLONG: "is too long",
}


class StateStorage(States):
    """The storage of state files, in a folder on a local or shared disk.

    The files are ``<root>/<notebook_id>/<checkpoint_id>/{model,optimizer}.<extension>``. Many
    threads and processes may use it at once.

    Parameters
    ----------
    root : Path
        The folder of the state files, created when the first one is written. Symbolic links in this
        path are followed, but none below it.
    other_roots : sequence of Path
        Further folders whose files clients may register, and in which missing files are looked for.
        Read only.
    store_id : str
        The ``mark_id`` of the store that records the checkpoints. Garbage collection removes only
        folders with this mark, so that stores and users can share a root.
    data_folder : Path, optional
        The folder of this package in Jupyter's data folder, where the roots in use are listed.
    """

    def __init__(
        self,
        root: Path,
        *,
        other_roots: Sequence[Path] = (),
        store_id: str = "",
        data_folder: Path | None = None,
    ) -> None:
        self._root = os.path.abspath(root)
        self._other_roots = [os.path.abspath(other) for other in other_roots]
        self._data_folder = data_folder
        self._is_listed = data_folder is None
        #: The store whose marked folders garbage collection may remove.
        self.store_id = store_id

    @property
    def root(self) -> str:
        """The folder of the state files."""
        return self._root

    # Paths in records

    def recorded_path(self, path: str, notebook_id: str) -> str:
        """Return the path to record in notebook ``notebook_id`` for the state file at ``path``.

        For a file in the folder of the notebook it is relative to the root, with slashes, so that
        the root can be moved. Otherwise it is ``path`` itself.
        """
        for root in (self._root, os.path.realpath(self._root)):
            names = _names_below(path, root)
            if names is not None and names[0] == notebook_id and ".." not in names:
                return "/".join(names)
        return path

    def full_path(self, recorded: str) -> str:
        """Return the absolute path of a recorded path: the inverse of :meth:`recorded_path`.

        Accesses no file: :meth:`find_path` finds files that are now below another root.
        """
        if not recorded or os.path.isabs(recorded):
            return recorded
        return os.path.join(self._root, *recorded.split("/"))

    def find_former_root(self, path: str, notebook_id: str) -> str | None:
        """Return a root that was used before and has the state file at ``path``, or None.

        This is for messages; nothing is read from there.
        """
        names = split_state_path(path)
        if self._data_folder is None or names is None or names[0] != notebook_id:
            return None
        own = os.path.realpath(self._root)
        former = former_roots(self._data_folder)
        roots = (root for root in former if os.path.realpath(root) != own)
        return next((root for root in roots if os.path.isfile(os.path.join(root, *names))), None)

    # Writing

    def open_writer(
        self,
        notebook_id: str,
        checkpoint_id: str,
        part: Part,
        *,
        format: str | None = None,
        expected_size: int | None = None,
    ) -> StateWriter:
        """Open a writer of one state file.

        Parameters
        ----------
        format : str, optional
            ``safetensors``, ``torch``, ``keras``, ``skops``, …; it determines the extension, which
            is ``bin`` for unknown formats.
        expected_size : int, optional
            The number of bytes to be written, if known.

        Raises
        ------
        InvalidData
            If an id cannot name a folder.
        NoSpace
            If there is no space for ``expected_size`` bytes and a small reserve.
        StateError
            If the folder cannot be written.
        """
        check_id(notebook_id, "$.notebook_id")
        check_id(checkpoint_id, "$.checkpoint_id")
        state_name(part, format)
        if self._data_folder is not None and not self._is_listed:
            self._is_listed = True
            add_known_root(self._data_folder, self._root)
        expected = expected_size or 0
        with convert_os_errors("write", self._root):
            make_folders(self._root)
            free = free_bytes(self._root)
            if free is not None and free < expected + _RESERVE:
                raise no_space(self._root, expected + _RESERVE)
            for _ in range(_MAX_ATTEMPTS):
                with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as opened:
                    root = opened.enter_context(Folder(self._root))
                    notebook = opened.enter_context(root.make(notebook_id))
                    folder = opened.enter_context(notebook.make(checkpoint_id))
                    try:
                        with folder.locked():
                            if not folder.names():
                                write_mark(folder, self.store_id)
                            writer = StateWriter(
                                root, folder, part, format, expected, self.store_id
                            )
                    except OSError:
                        with contextlib.suppress(OSError):
                            remove_if_empty(root, notebook_id, checkpoint_id)
                        raise
                    opened.pop_all()  # the writer closes the other folders
                    with notebook:
                        _sync_all(writer, notebook, root)
                    return writer
            raise OSError(errno.EAGAIN, "another process keeps removing the folder")

    def mark_recorded(self, notebook_id: str, checkpoint_id: str) -> None:
        """Remove the marks from the folder of a recorded checkpoint.

        Garbage collection then keeps its files, even if the store is restored from a backup without
        the checkpoint. Errors are suppressed: the record protects the files as well.
        """
        with (
            contextlib.suppress(OSError),
            self._open_folder(notebook_id, checkpoint_id) as (_, folder),
            folder.locked(),
        ):
            for name in MARKS.intersection(folder.names()):
                folder.unlink(name)

    def mark_unrecorded(self, notebook_id: str, checkpoint_id: str | None = None) -> None:
        """Mark the folder of a checkpoint, or of a notebook, whose record is about to be deleted.

        If this process is killed before it removes the files, garbage collection removes them.
        Errors are suppressed: the files are kept then.
        """
        with (
            contextlib.suppress(OSError),
            self._open_folder(notebook_id, checkpoint_id) as (_, folder),
            contextlib.nullcontext() if checkpoint_id is None else folder.locked(),
        ):
            write_mark(folder, self.store_id)

    @contextlib.contextmanager
    def _open_folder(
        self, notebook_id: str, checkpoint_id: str | None = None
    ) -> Iterator[tuple[Folder, Folder]]:
        """Open the root, and the folder of a notebook or checkpoint; raise OSError if missing."""
        if not can_name_folders(notebook_id, checkpoint_id):
            raise FileNotFoundError(errno.ENOENT, "no folder can have this name")
        with Folder(self._root) as root, root.enter(notebook_id) as notebook:
            if checkpoint_id is None:
                yield root, notebook
            else:
                with notebook.enter(checkpoint_id) as folder:
                    yield root, folder

    # Reading

    def validate_path(
        self, path: str, notebook_id: str, *, field: str = "$.model_state_path"
    ) -> str:
        """Return the real path of a state file that a client registers in notebook ``notebook_id``.

        It must be the absolute path of a regular file that is inside a configured root after all
        links are followed. Inside ``root`` it must be in the folder of this notebook, so that
        clients cannot register state files of other users.

        Raises
        ------
        InvalidData
            At ``field``, if it violates one of these rules.
        """
        if not is_path_text(path):
            raise InvalidData(field, "expected a path, got text that is not a valid path")
        if not os.path.isabs(path):
            raise InvalidData(field, f"expected an absolute path, got {path!r}")
        resolved = os.path.realpath(path)
        is_own = _names_below(resolved, os.path.realpath(self._root)) is not None
        if is_own and os.path.basename(resolved).startswith("."):
            raise InvalidData(field, "is an internal file of the server, not a state file")
        try:
            self._open(resolved, notebook_id, field).close()
        except NotFound:
            raise InvalidData(field, f"there is no file {path}") from None
        except InvalidData:
            raise
        except AxonError as error:
            raise InvalidData(field, str(error)) from error
        return resolved

    def open(self, path: str, notebook_id: str, *, field: str = "$.model_state_path") -> BinaryIO:
        """Open the state file with the recorded ``path`` of notebook ``notebook_id`` for reading.

        If it is missing, the same path below the other roots is tried, since the folder may have
        been moved. All rules of :meth:`validate_path` are checked again, on the opened file.

        Raises
        ------
        NotFound
            If the file does not exist.
        InvalidData
            At ``field``, if the path leads out of the roots or to another notebook's folder.
        StateError
            If the file cannot be read.
        """
        return self._find(path, notebook_id, field)[1]

    def find_path(self, path: str, notebook_id: str) -> str:
        """Return the path of the state file that :meth:`open` opens; raise the same errors."""
        found, file = self._find(path, notebook_id, "$.model_state_path")
        file.close()
        return found

    def can_read(self, path: str, notebook_id: str) -> bool:
        """Return whether the state file with the recorded ``path`` can be read."""
        try:
            self.open(path, notebook_id).close()
        except AxonError:
            return False
        return True

    def owns(self, path: str, notebook_id: str, checkpoint_id: str) -> bool:
        """Return whether ``path`` is a state file of this checkpoint that exists below this root.

        Machines that share a store may have different roots with different files.
        """
        names = split_state_path(path)
        if names is None or names[:2] != (notebook_id, checkpoint_id):
            return False
        own = [os.path.join(root, *names) for root in (self._root, os.path.realpath(self._root))]
        if self.full_path(path) in own:
            return os.path.lexists(own[0])
        try:
            return self.find_path(path, notebook_id) in own
        except AxonError:
            return False

    def candidate_paths(self, path: str, notebook_id: str) -> list[str]:
        """Return the paths that :meth:`open` tries: the recorded one, then one below each root."""
        full = self.full_path(path)
        for names in (_names_below(full, self._root), split_state_path(path)):
            if names is not None and names[0] == notebook_id and ".." not in names:
                roots = (self._root, *self._other_roots)
                return list(dict.fromkeys([full, *(os.path.join(root, *names) for root in roots)]))
        return [full]

    def _find(self, path: str, notebook_id: str, field: str) -> tuple[str, BinaryIO]:
        if not path:
            raise NotFound("state file", "(none recorded)")
        if not is_path_text(path):
            raise InvalidData(field, "expected a path, got text that is not a valid path")
        errors: list[AxonError] = []
        candidates = self.candidate_paths(path, notebook_id)
        for candidate in candidates:
            try:
                return candidate, self._open(candidate, notebook_id, field)
            except AxonError as error:
                errors.append(error)
        first, *others = errors
        all_missing = all(isinstance(error, NotFound) for error in others)
        if isinstance(first, _OutsideRoots) and others and all_missing:
            raise NotFound("state file", f"{candidates[1]} (recorded as {path})")
        raise first

    def _open(self, path: str, notebook_id: str, field: str) -> BinaryIO:
        check_id(notebook_id, "$.notebook_id")
        start, names = self._split_at_root(path, field)
        try:
            with convert_os_errors("read", os.path.dirname(path)):
                return os.fdopen(self._open_below(start, names, notebook_id, field), "rb")
        except AxonError as error:
            cause = error.__cause__
            if isinstance(cause, FileNotFoundError):
                raise NotFound("state file", path) from None
            if isinstance(cause, OSError) and (reason := _OPEN_ERRORS.get(cause.errno or 0)):
                raise InvalidData(field, reason) from None
            raise

    def _split_at_root(self, path: str, field: str) -> tuple[str, tuple[str, ...]]:
        """Return the real root that contains ``path``, preferably ``root``, and the names below."""
        own = os.path.realpath(self._root)
        for root in (self._root, *self._other_roots):
            real = os.path.realpath(root)
            for spelling in (root, real):
                names = _names_below(path, spelling)
                if names is None:
                    continue
                if ".." in names:
                    raise InvalidData(field, "must not contain `..`")
                inside = _names_below(os.path.join(real, *names), own)
                return (real, names) if inside is None else (own, inside)
        roots = ", ".join((self._root, *self._other_roots))
        raise _OutsideRoots(field, f"must lie inside one of the configured folders ({roots})")

    def _open_below(self, start: str, names: tuple[str, ...], notebook_id: str, field: str) -> int:
        """Open the file at ``names`` below ``start`` without following links."""
        try:
            own = os.stat(self._root)
        except OSError:
            own = None

        def is_root(folder: Folder) -> bool:
            # Not by path, which may have several spellings on a disk that ignores case.
            return own is not None and os.path.samestat(folder.stat(), own)

        with contextlib.ExitStack() as opened:
            folder = opened.enter_context(Folder(start))
            for name in names[:-1]:
                if is_root(folder) and name != notebook_id:
                    raise InvalidData(field, "lies in the folder of another notebook")
                folder = opened.enter_context(folder.enter(name))
            if is_root(folder):
                raise InvalidData(field, "lies in no notebook's folder")
            return folder.open(names[-1])

    # Removing

    def remove_checkpoint(self, notebook_id: str, checkpoint_id: str) -> None:
        """Remove all state files of a checkpoint, if there are any; links are not followed.

        Raises StateError if they cannot be removed.
        """
        if not can_name_folders(checkpoint_id):  # the id of a record from an archive
            return
        with self._convert_removal_errors(), self._open_folder(notebook_id) as (root, notebook):
            notebook.remove_tree(checkpoint_id)
            root.rmdir(notebook_id)

    def remove_notebook(self, notebook_id: str) -> None:
        """Remove the state files of a notebook; see :meth:`remove_checkpoint`."""
        if can_name_folders(notebook_id):
            with self._convert_removal_errors(), Folder(self._root) as root:
                root.remove_tree(notebook_id)

    def stage_removal(
        self, notebook_id: str, checkpoint_id: str, names: Collection[str]
    ) -> list[str]:
        """Rename the state files ``names`` that exist to temporary names, and return these.

        This is fast, whatever their size. :meth:`remove_staged` removes them; if it is not called,
        garbage collection does. Raises StateError if they cannot be renamed.
        """
        staged: list[str] = []
        with (
            self._convert_removal_errors(),
            self._open_folder(notebook_id, checkpoint_id) as (_, folder),
            folder.locked(),
        ):
            for name in names:
                temporary = temporary_name(name.partition(".")[0])
                with contextlib.suppress(FileNotFoundError):
                    folder.replace(name, temporary)
                    staged.append(temporary)
        return staged

    def remove_staged(self, notebook_id: str, checkpoint_id: str, names: Collection[str]) -> None:
        """Remove staged files, and the checkpoint's folder if it is empty then.

        Raises StateError if they cannot be removed.
        """
        with (
            self._convert_removal_errors(),
            self._open_folder(notebook_id, checkpoint_id) as (root, folder),
        ):
            for name in names:
                folder.unlink(name)
            remove_if_empty(root, notebook_id, checkpoint_id)

    @contextlib.contextmanager
    def _convert_removal_errors(self) -> Iterator[None]:
        with (
            convert_os_errors("remove", self._root),
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
        ):
            yield

    def measure(self, progress: Callable[[int], None] = lambda _count: None) -> int:
        """Return the total size of all files below the root in bytes, without following links.

        This takes some seconds for 100,000 checkpoints. ``progress`` is called with the number of
        files after each file; it may raise an exception to stop.
        """
        total = count = 0
        for folder, _, names in os.walk(self._root):
            for name in names:
                # Files that are removed meanwhile do not count.
                with contextlib.suppress(OSError):
                    found = os.lstat(os.path.join(folder, name))
                    total += found.st_size if stat.S_ISREG(found.st_mode) else 0
                count += 1
                progress(count)
        return total


class _OutsideRoots(InvalidData):
    """A path is in none of the configured folders."""


def _names_below(path: str, root: str) -> tuple[str, ...] | None:
    try:
        return PurePath(path).relative_to(root).parts or None
    except ValueError:
        return None


def _sync_all(writer: StateWriter, *folders: Folder) -> None:
    """Sync folders, also old ones, which the process that created them may not have synced yet."""
    try:
        for folder in folders:
            folder.sync()
    except OSError:
        writer.abort()
        raise
