"""The home of state files: writing, reading, removing, measuring, and what may be reached from outside."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path, PurePath
from typing import BinaryIO, Final

from ..atomic_files import temporary_name
from ..errors import AxonError, InvalidData, NotFound
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
from .roots import add_known_root, former_roots, paths_below
from .writer import StateWriter, drop_if_empty, mark

#: Bytes left free beside a state file: the store, perhaps on the same disk, must be able to record it.
RESERVE: Final = 16 << 20

#: How often a writer begins again when another process removes its folder as empty between two steps.
_TRIES: Final = 100


class StateStorage:
    """State files at ``<root>/<notebook_id>/<checkpoint_id>/{model,optimizer}.<ext>``.

    Safe to use from many threads and processes at once.

    Parameters
    ----------
    root : Path
        Where state files are written; made with the first one. Links on the way to it are followed, links
        below it never are.
    other_roots : sequence of Path
        Further folders whose files a client may register, and in which files are looked for that are not below ``root``.
        Only read.
    store_id : str
        What tells the store that records these checkpoints, and whose records it shows, from others: its
        ``mark_id``. A sweep removes only folders written under the same one, so pointing the server at another store
        never costs the weights of the first, nor does sharing the root with users whose records one is not shown.
    former_store_id : str, optional
        What earlier releases wrote in place of ``store_id``: its ``former_mark_id``. Swept as well, and never written.
    data_folder : Path, optional
        This project's folder in Jupyter's data folder, which keeps a list of the roots that were written to.
    """

    def __init__(
        self,
        root: Path,
        *,
        other_roots: Sequence[Path] = (),
        store_id: str = "",
        former_store_id: str | None = None,
        data_folder: Path | None = None,
    ) -> None:
        self._root = os.path.abspath(root)
        self._other_roots = [os.path.abspath(other) for other in other_roots]
        self._store_id = store_id
        self._store_ids = {store_id} if former_store_id is None else {store_id, former_store_id}
        self._data_folder = data_folder
        self._is_noted = data_folder is None

    @property
    def root(self) -> str:
        """The folder it all lies in."""
        return self._root

    @property
    def store_ids(self) -> set[str]:
        """The ids of this store in the marks of unrecorded files."""
        return self._store_ids

    def recorded_path(self, path: str, notebook_id: str) -> str:
        """Return what the record of ``notebook_id`` is to say of the state file at ``path``.

        Relative to the root, with slashes, where the file lies in the folder of this notebook, so that the root can be moved;
        of any other file the path itself.
        """
        for root in (self._root, os.path.realpath(self._root)):
            names = _names_below(path, root)
            if names is not None and names[0] == notebook_id and ".." not in names:
                return "/".join(names)
        return path

    def full_path(self, recorded: str) -> str:
        """Return the absolute path that a record means; the opposite of :meth:`recorded_path`.

        Looks at no file: :meth:`locate` says where the file is, should it have been recorded below another root.
        """
        if not recorded or os.path.isabs(recorded):
            return recorded
        return os.path.join(self._root, *recorded.split("/"))

    def open_writer(
        self,
        notebook_id: str,
        checkpoint_id: str,
        part: Part,
        *,
        format: str | None = None,
        expected_size: int | None = None,
        beside: StateWriter | None = None,
    ) -> StateWriter:
        """A writer of one state file.

        Parameters
        ----------
        format : str, optional
            ``safetensors``, ``torch``, ``keras``, ``skops``, …; gives the file its extension. Any text will do:
            an unknown format is ``bin``.
        expected_size : int, optional
            Bytes that will come, where that is known.
        beside : StateWriter, optional
            One of another part of this checkpoint, not done yet: the disk need not be waited for again.

        Raises
        ------
        InvalidData
            If an id cannot name a folder.
        NoSpace
            If there is no room for ``expected_size`` bytes and a small reserve.
        StateError
            If the folder cannot be written.
        """
        check_id(notebook_id, "$.notebook_id")
        check_id(checkpoint_id, "$.checkpoint_id")
        state_name(part, format)
        with convert_os_errors("write", self._root):
            make_folders(self._root)
            if self._data_folder is not None and not self._is_noted:
                self._is_noted = True
                add_known_root(self._data_folder, self._root)
            needed = (expected_size or 0) + RESERVE
            free = free_bytes(self._root)
            if free is not None and free < needed:
                raise no_space(self._root, needed, free)
            for _ in range(_TRIES):
                with contextlib.suppress(FileNotFoundError):
                    return self._writer(
                        notebook_id, checkpoint_id, part, format, expected_size or 0, beside
                    )
            raise OSError(errno.EAGAIN, "another process keeps removing the folder")

    def _writer(
        self,
        notebook_id: str,
        checkpoint_id: str,
        part: Part,
        format: str | None,
        expected: int,
        beside: StateWriter | None,
    ) -> StateWriter:
        with contextlib.ExitStack() as opened:
            root = opened.enter_context(Folder(self._root))
            home = opened.enter_context(root.make(notebook_id))
            folder = opened.enter_context(home.make(checkpoint_id))
            try:
                with folder.locked():
                    if not folder.names():
                        mark(folder, self._store_id)
                    writer = StateWriter(root, folder, part, format, expected, self._store_id)
            except OSError:
                with contextlib.suppress(OSError):
                    drop_if_empty(root, notebook_id, checkpoint_id)
                raise
            opened.pop_all()  # from here on the writer closes the folders
        with home:
            if beside is not None and beside.is_beside(writer):
                return writer
            try:
                # Even those that were there: whoever made them a moment ago may not have come to it yet.
                home.sync()
                root.sync()
            except OSError:
                writer.abort()
                raise
        return writer

    def validate_path(
        self, path: str, notebook_id: str, *, field: str = "$.model_state_path"
    ) -> str:
        """The real path of a state file that a client names, if the record of ``notebook_id`` may point there.

        It must be an absolute path to a regular file inside a configured root, after all links are followed;
        inside ``root``, in the folder of this very notebook, or one could register another's weights.

        Raises
        ------
        InvalidData
            At ``field``, naming the rule that is broken.
        """
        if not is_path_text(path):
            raise InvalidData(field, "expected a path, got text that cannot be one")
        if not os.path.isabs(path):
            raise InvalidData(field, f"expected an absolute path, got {path!r}")
        resolved = os.path.realpath(path)
        if os.path.basename(resolved).startswith(".") and self._is_own(resolved):
            raise InvalidData(field, "names a file of the server's own, not a state file")
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
        """Open the state file at ``path``, which a record of ``notebook_id`` gives, for reading.

        A file that is not there, or may not be read there, is looked for at the same place below the other roots: the folder
        of the state files was moved, or copied to another machine, since the path was recorded.

        Whatever was checked when the path was recorded holds now: no link is followed below the root, and what
        is read is what was checked.

        Raises
        ------
        NotFound
            If it is gone.
        InvalidData
            At ``field``, if the path leads out of the roots or to another notebook's folder.
        StateError
            If it cannot be read.
        """
        return self._find(path, notebook_id, field)[1]

    def find_path(self, path: str, notebook_id: str) -> str:
        """Return where the state file is that :meth:`open` opens; raises as it does."""
        found, file = self._find(path, notebook_id, "$.model_state_path")
        file.close()
        return found

    def _find(self, path: str, notebook_id: str, field: str) -> tuple[str, BinaryIO]:
        if not path:
            raise NotFound("state file", "(none recorded)")
        if not is_path_text(path):
            raise InvalidData(field, "expected a path, got text that cannot be one")
        errors: list[AxonError] = []
        places = self.candidate_paths(path, notebook_id)
        for place in places:
            try:
                return place, self._open(place, notebook_id, field)
            except AxonError as error:
                errors.append(error)
        first, *others = errors
        if (
            isinstance(first, _Outside)
            and others
            and all(isinstance(error, NotFound) for error in others)
        ):
            raise NotFound("state file", f"{places[1]} (recorded as {path})")
        raise first

    def candidate_paths(self, path: str, notebook_id: str) -> list[str]:
        """Return where the state file at ``path`` is looked for, one after the other: there, then below each root."""
        full = self.full_path(path)
        for names in (_names_below(full, self._root), split_state_path(path)):
            if names is not None and names[0] == notebook_id and ".." not in names:
                break
        else:
            return [full]
        below = [os.path.join(root, *names) for root in (self._root, *self._other_roots)]
        return list(dict.fromkeys([full, *below]))

    def _open(self, path: str, notebook_id: str, field: str) -> BinaryIO:
        check_id(notebook_id, "$.notebook_id")
        start, names = self._beneath(path, field)
        try:
            with convert_os_errors("read", os.path.dirname(path)):
                return os.fdopen(self._descend(start, names, notebook_id, field), "rb")
        except AxonError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise NotFound("state file", path) from None
            if isinstance(error.__cause__, OSError) and (
                reason := _BROKEN_RULE.get(error.__cause__.errno or 0)
            ):
                raise InvalidData(field, reason) from None
            raise

    def _beneath(self, path: str, field: str) -> tuple[str, tuple[str, ...]]:
        """The real root that ``path`` lies in, by its text, and the names from there to it; ours before others."""
        own = os.path.realpath(self._root)
        for root in (self._root, *self._other_roots):
            real = os.path.realpath(root)
            for form in (root, real):
                names = _names_below(path, form)
                if names is None:
                    continue
                if ".." in names:
                    raise InvalidData(field, "must not contain `..`")
                inside = _names_below(os.path.join(real, *names), own)
                return (real, names) if inside is None else (own, inside)
        roots = ", ".join((self._root, *self._other_roots))
        raise _Outside(field, f"must lie inside one of the configured folders ({roots})")

    def _descend(self, start: str, names: tuple[str, ...], notebook_id: str, field: str) -> int:
        """A descriptor of the file ``names`` lead to. Every folder on the way is held open, none is a link."""
        try:
            own = os.stat(self._root)
        except OSError:
            own = None
        with contextlib.ExitStack() as opened:
            folder = opened.enter_context(Folder(start))
            for name in names[:-1]:
                # By identity: on a disk that ignores case, a root's path has more than one spelling.
                if own is not None and os.path.samestat(folder.stat(), own) and name != notebook_id:
                    raise InvalidData(field, "lies in the folder of another notebook")
                folder = opened.enter_context(folder.enter(name))
            if own is not None and os.path.samestat(folder.stat(), own):
                raise InvalidData(field, "lies in no notebook's folder")
            return folder.open(names[-1])

    def _is_own(self, resolved: str) -> bool:
        return _names_below(resolved, os.path.realpath(self._root)) is not None

    def can_read(self, path: str, notebook_id: str) -> bool:
        """Whether the state file at ``path``, which a record of ``notebook_id`` gives, can be read."""
        try:
            self.open(path, notebook_id).close()
        except AxonError:
            return False
        return True

    def list_former_roots(self) -> list[str]:
        """Return the other roots that files may have been left below, by what the data folder knows."""
        own = os.path.realpath(self._root)
        roots = [] if self._data_folder is None else former_roots(self._data_folder)
        return [root for root in roots if os.path.realpath(root) != own]

    def find_former_root(self, path: str, notebook_id: str) -> str | None:
        """Return the first of :meth:`former_roots` below which the state file at ``path`` is; it is read nowhere there."""
        places = paths_below(self.list_former_roots(), path, notebook_id)
        return next((root for root, place in places.items() if os.path.isfile(place)), None)

    def mark_recorded(self, notebook_id: str, checkpoint_id: str) -> None:
        """Note that the record of a checkpoint is stored: no sweep removes its files from now on.

        Not even should the store be set back to an older state, from a backup, that does not know the checkpoint.
        Where it cannot be noted, nothing is lost: the record still vouches for the files.
        """
        if not can_name_folders(notebook_id, checkpoint_id):
            return
        with (
            contextlib.suppress(OSError),
            Folder(self._root) as root,
            root.enter(notebook_id) as home,
            home.enter(checkpoint_id) as folder,
            folder.locked(),
        ):
            for name in MARKS.intersection(folder.names()):
                folder.unlink(name)

    def mark_unrecorded(self, notebook_id: str, checkpoint_id: str | None = None) -> None:
        """Note that the record of a checkpoint, or of a notebook with all of its own, is about to be removed.

        Whoever is to remove the files afterwards may be killed before: then a sweep does it, once it finds no record.
        Where it cannot be noted, they would stay.
        """
        if not can_name_folders(notebook_id, *([] if checkpoint_id is None else [checkpoint_id])):
            return
        with (
            contextlib.suppress(OSError),
            Folder(self._root) as root,
            root.enter(notebook_id) as home,
        ):
            if checkpoint_id is None:
                mark(home, self._store_id)
                return
            with home.enter(checkpoint_id) as folder, folder.locked():
                mark(folder, self._store_id)

    def remove_checkpoint(self, notebook_id: str, checkpoint_id: str) -> None:
        """Remove all state files of a checkpoint; none is fine. What lies behind a link stays.

        A record that was loaded may have an id that names no folder: there is nothing to remove then.

        Raises
        ------
        StateError
            If they cannot be removed.
        """
        if not can_name_folders(notebook_id, checkpoint_id):
            return
        with (
            convert_os_errors("remove", self._root),
            contextlib.suppress(FileNotFoundError),
            Folder(self._root) as root,
            contextlib.suppress(NotADirectoryError),
            root.enter(notebook_id) as home,
        ):
            home.remove_tree(checkpoint_id)
            root.rmdir(notebook_id)

    def remove_notebook(self, notebook_id: str) -> None:
        """Remove all state files of all checkpoints of a notebook, as :meth:`remove_checkpoint` does."""
        if not can_name_folders(notebook_id):
            return
        with (
            convert_os_errors("remove", self._root),
            contextlib.suppress(FileNotFoundError),
            Folder(self._root) as root,
        ):
            root.remove_tree(notebook_id)

    def owns(self, path: str, notebook_id: str, checkpoint_id: str) -> bool:
        """Whether ``path`` means a finished state file that is there, in the folder of this very checkpoint below this root.

        A store may be shared with machines that have roots of their own: what is not here may be there. Where ids cannot name
        folders, there is none.
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

    def stage_removal(
        self, notebook_id: str, checkpoint_id: str, names: Collection[str]
    ) -> list[str]:
        """Give those state files of a checkpoint that are there the names of temporary files; these names.

        Quick, whatever their size. A sweep removes such files, should nobody come to it before.

        Raises
        ------
        StateError
            When they cannot be renamed.
        """
        aside: list[str] = []
        if not can_name_folders(notebook_id, checkpoint_id):
            return aside
        with (
            convert_os_errors("remove", self._root),
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            Folder(self._root) as root,
            root.enter(notebook_id) as home,
            home.enter(checkpoint_id) as folder,
            folder.locked(),
        ):
            for name in names:
                temporary = temporary_name(name.partition(".")[0])
                with contextlib.suppress(FileNotFoundError):
                    folder.replace(name, temporary)
                    aside.append(temporary)
        return aside

    def remove_staged(self, notebook_id: str, checkpoint_id: str, names: Collection[str]) -> None:
        """Remove files that were set aside, and the checkpoint's folder if that leaves it empty.

        Raises as :meth:`set_aside` does.
        """
        if not can_name_folders(notebook_id, checkpoint_id):
            return
        with (
            convert_os_errors("remove", self._root),
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            Folder(self._root) as root,
        ):
            with root.enter(notebook_id) as home, home.enter(checkpoint_id) as folder:
                for name in names:
                    folder.unlink(name)
            drop_if_empty(root, notebook_id, checkpoint_id)

    def measure(self, progress: Callable[[int], None] = lambda _seen: None) -> int:
        """Bytes in all files under the root, unfinished ones too; links count nothing.

        Looks at every file: some seconds for 100,000 checkpoints. ``progress`` is given the number of files looked at
        so far, after each; what it raises ends the look.
        """
        used = 0
        for seen, size in enumerate(_sizes(self._root), 1):
            used += size
            progress(seen)
        return used


class _Outside(InvalidData):
    """A path leads to none of the configured folders."""


def _names_below(path: str, root: str) -> tuple[str, ...] | None:
    try:
        return PurePath(path).relative_to(root).parts or None
    except ValueError:
        return None


def _sizes(folder: str) -> Iterator[int]:
    pending = [folder]
    while pending:
        # What goes, or cannot be read, while we look does not count.
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        yield entry.stat(follow_symlinks=False).st_size


_BROKEN_RULE: Final = {
    errno.ELOOP: "leads through a symbolic link",
    errno.ENOTDIR: "leads through something that is no folder, or a symbolic link",
    errno.EISDIR: "expected a regular file, found something else",
    errno.ENAMETOOLONG: "is too long",
}
