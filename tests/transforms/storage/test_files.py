"""Files: whole or not at all, on a disk and on an object store, and one kind of error wherever they lie."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textmint.transforms.storage import files
from textmint.transforms.storage.files import FoundFile

from tests.support.mem_store import MemFileSystem

REMOTE = "mem://bucket/data"


@pytest.fixture(params=["disk", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, store: dict[str, bytes]) -> str:
    """An empty folder on a disk, and one on an object store."""
    return str(tmp_path / "data") if request.param == "disk" else REMOTE


def everything_under(folder: str) -> dict[str, bytes]:
    """Returns the contents of all files by path in the folder, hidden and half written ones too."""
    if not files.is_local(folder):
        return {path.removeprefix(f"{folder}/"): content for path, content in MemFileSystem.objects.items()}
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


# --- where they lie


def test_disks_and_stores_are_told_apart(tmp_path: Path) -> None:
    assert files.is_local(str(tmp_path))
    assert files.is_local("relative/folder")
    assert not files.is_local(REMOTE)
    assert not files.is_local("gs://bucket/folder")


def test_paths_are_joined(folder: str) -> None:
    assert files.join(folder, "a", "b.txt") == f"{folder}/a/b.txt"


def test_the_name_is_what_follows_the_last_slash() -> None:
    assert FoundFile("gs://b/c/d.parquet", 1).name == "d.parquet"
    assert FoundFile("/x/e", 1).name == "e"
    # On a disk a name may hold a backslash; it must not pass for the file behind it.
    assert FoundFile("/x/e\\d.parquet", 1).name == "e\\d.parquet"


# --- writing and reading


@pytest.mark.parametrize("durable", [False, True])
def test_what_is_written_is_read_and_replaced(folder: str, durable: bool) -> None:
    path = files.join(folder, "a", "b", "c.bin")
    for content in (b"first \x00\xff", b"", b"z" * 100_000):
        files.write_file(path, content, durable=durable)
        assert files.read_file(path) == content
        assert everything_under(folder) == {"a/b/c.bin": content}
    with files.open_file(path) as file:
        assert file.read(3) == b"zzz"
    assert files.exists(path)


@pytest.mark.parametrize(
    ("count", "end"), [(0, b""), (1, b"9"), (4, b"6789"), (10, b"0123456789"), (99, b"0123456789")]
)
def test_the_end_is_read(folder: str, count: int, end: bytes) -> None:
    path = files.join(folder, "a")
    files.write_file(path, b"0123456789")
    assert files.read_end(path, count) == end
    files.write_file(path, b"")
    assert files.read_end(path, count) == b""


@pytest.mark.parametrize("read", [files.read_file, files.open_file, lambda path: files.read_end(path, 8)])
def test_what_is_not_there_is_file_not_found(folder: str, read: Callable[[str], Any]) -> None:
    with pytest.raises(FileNotFoundError):
        read(files.join(folder, "none"))
    assert not files.exists(files.join(folder, "none"))


class ClientError(Exception):
    """As google.api_core.exceptions.NotFound, which Beam's gs:// file system raises as it is: no OSError."""


def break_client(monkeypatch: pytest.MonkeyPatch, *methods: str) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ClientError("503\nGET https://store")

    for method in methods:
        monkeypatch.setattr(MemFileSystem, method, fail)


@pytest.mark.parametrize("read", [files.read_file, files.open_file, lambda path: files.read_end(path, 8)])
def test_an_object_that_is_not_there_is_file_not_found_whatever_the_client_raises(
    store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, read: Callable[[str], Any]
) -> None:
    break_client(monkeypatch, "open")
    with pytest.raises(FileNotFoundError):
        read(f"{REMOTE}/none")
    store[f"{REMOTE}/some"] = b"1"
    with pytest.raises(OSError, match="ClientError: 503 GET") as raised:
        read(f"{REMOTE}/some")
    assert not isinstance(raised.value, FileNotFoundError)


@pytest.mark.parametrize(
    ("method", "act"),
    [
        ("create", lambda: files.write_file(f"{REMOTE}/a", b"1")),
        ("rename", lambda: files.move_file(f"{REMOTE}/some", f"{REMOTE}/b")),
        ("delete", lambda: files.delete_files([f"{REMOTE}/some"])),
        ("exists", lambda: files.exists(f"{REMOTE}/some")),
        ("_list", lambda: files.list_files(REMOTE)),
        ("_list", lambda: files.list_folders(REMOTE, "")),
    ],
)
def test_a_clients_own_errors_are_os_errors(
    store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, method: str, act: Callable[[], Any]
) -> None:
    store[f"{REMOTE}/some"] = b"1"
    break_client(monkeypatch, method)
    with pytest.raises(OSError):
        act()


def test_reading_may_fail_midway(store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def read(self) -> bytes:
            raise ClientError("reset")

    monkeypatch.setattr(MemFileSystem, "open", lambda *args, **kwargs: Broken())
    with pytest.raises(OSError, match="ClientError: reset"):
        files.read_file(f"{REMOTE}/a")


# --- whole or not at all


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            files.write_file(str(path), b"new", durable=True)
    assert everything_under(str(tmp_path)) == {"a": b"old"}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda self, target: full(0))
        with pytest.raises(OSError, match="No space"):
            files.write_file(str(path), b"new")
    assert everything_under(str(tmp_path)) == {"a": b"old"}


def test_nobody_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, bytes]] = []
    real = Path.replace

    def look(self: Path, target: Path) -> Path:
        seen.append(everything_under(str(tmp_path)))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", look)
    files.write_file(str(tmp_path / "ledger" / "a"), b"new")
    ((name, content),) = seen[0].items()
    assert content == b"new"
    assert Path(name).name.startswith("_")  # as all that is no file of the ledger


def test_a_durable_file_and_its_name_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[bool, bool]] = []  # is it a folder, is the file there by its name
    real = os.fsync

    def look(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), (tmp_path / "a").exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    files.write_file(str(tmp_path / "a"), b"1", durable=True)
    assert synced == [(False, False), (True, True)]  # the content, then the renaming
    synced.clear()
    files.write_file(str(tmp_path / "a"), b"2")
    assert synced == []


@pytest.mark.parametrize("length", [1, 200, 255])
def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path, length: int) -> None:
    path = str(tmp_path / ("n" * length))
    files.write_file(path, b"1")
    assert files.read_file(path) == b"1"


def test_two_threads_may_write_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has all that it wrote there when it renames it, and neither fails."""
    path = tmp_path / "a"
    both = threading.Barrier(2, timeout=5)
    real = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: (both.wait(), real(self, target))[1])
    failures: list[BaseException] = []

    def write(content: bytes) -> None:
        try:
            files.write_file(str(path), content)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(letter * 1000,)) for letter in (b"x", b"y")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert everything_under(str(tmp_path)) in ({"a": b"x" * 1000}, {"a": b"y" * 1000})


def test_a_store_that_fails_has_nothing_of_the_object(store: dict[str, bytes]) -> None:
    MemFileSystem.broken.add("create a")
    with pytest.raises(OSError, match="out of order"):
        files.write_file(f"{REMOTE}/a", b"1")
    assert store == {}


@pytest.fixture
def store_with_folders(store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """As HDFS: a file is seen while it grows, and one that is there is not replaced."""
    create, rename = MemFileSystem.create, MemFileSystem.rename

    def refuse(path: str) -> None:
        if path in store:
            raise ClientError(f"{path} is there already")

    def create_new(self: Any, path: str, *args: Any, **kwargs: Any) -> Any:
        refuse(path)
        file = create(self, path, *args, **kwargs)
        store[path] = b""
        return file

    def rename_new(self: Any, sources: list[str], destinations: list[str]) -> None:
        for destination in destinations:
            refuse(destination)
        rename(self, sources, destinations)

    monkeypatch.setattr(MemFileSystem, "has_dirs", lambda self: True)
    monkeypatch.setattr(MemFileSystem, "create", create_new)
    monkeypatch.setattr(MemFileSystem, "rename", rename_new)
    yield store


def test_a_store_with_folders_renames_too(store_with_folders: dict[str, bytes]) -> None:
    path = f"{REMOTE}/a"
    for content in (b"1", b"2"):
        MemFileSystem.log.clear()
        files.write_file(path, content)
        assert store_with_folders == {path: content}
        created = [line for line in MemFileSystem.log if line.startswith("create")]
        assert all("/_part-" in line for line in created)
    MemFileSystem.broken.add("rename")
    with pytest.raises(OSError):
        files.write_file(f"{REMOTE}/b", b"3")
    assert store_with_folders == {path: b"2"}


# --- listing


def test_files_are_listed_by_path_with_their_sizes(folder: str) -> None:
    for name in ("b.json", "a.json", "A.json", "a.txt", "_x.json", "sub/deep.json"):
        files.write_file(files.join(folder, name), name.encode())
    listed = files.list_files(folder, "*.json")
    assert listed == [
        FoundFile(files.join(folder, name), len(name)) for name in ("A.json", "_x.json", "a.json", "b.json")
    ]
    assert [file.name for file in files.list_files(folder)] == ["A.json", "_x.json", "a.json", "a.txt", "b.json"]
    assert files.list_files(folder, "*.parquet") == []


def test_folders_are_listed_by_name(folder: str) -> None:
    for name in ("refresh=b/1", "refresh=a/1", "refresh=a/2", "other/1", "refresh=file"):
        files.write_file(files.join(folder, name), b"1")
    assert files.list_folders(folder, "refresh=") == ["refresh=a", "refresh=b"]
    assert files.list_folders(folder, "refresh=a") == ["refresh=a"]
    assert files.list_folders(folder, "") == ["other", "refresh=a", "refresh=b"]
    assert files.list_folders(folder, "none") == []


def test_a_folder_that_is_absent_holds_nothing(folder: str) -> None:
    assert files.list_files(folder) == []
    assert files.list_folders(folder, "") == []
    assert files.list_files(files.join(folder, "deeper", "still"), "*.json") == []
    assert files.list_folders(files.join(folder, "deeper", "still"), "x") == []


def test_a_file_is_no_folder(folder: str) -> None:
    path = files.join(folder, "a")
    files.write_file(path, b"1")
    assert files.list_files(path) == []
    assert files.list_folders(path, "") == []


@pytest.mark.parametrize("name", ["run[1]", "run*", "run?", "[", "a[!b]"])
def test_a_folders_own_name_is_no_pattern(folder: str, name: str) -> None:
    """Else its ledger would not be found, and be paid for again."""
    mine, other = files.join(folder, name), files.join(folder, "run1")
    for each in (mine, other):
        files.write_file(files.join(each, "refresh=a", "x"), each.encode())
        files.write_file(files.join(each, "y"), each.encode())
    assert files.list_files(mine) == [FoundFile(files.join(mine, "y"), len(mine.encode()))]
    assert files.list_folders(mine, "refresh=") == ["refresh=a"]


def test_what_goes_away_while_it_is_listed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "none")

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name, self._entry = entry.name, entry

        def is_file(self) -> bool:
            return self._entry.is_file()

        def stat(self) -> os.stat_result:
            if self.name == "a":
                (tmp_path / "a").unlink()
            return os.stat(self._entry.path)

    class Entries:
        def __init__(self, folder: str) -> None:
            self._found = list(real(folder))

        def __enter__(self) -> Iterator[Any]:
            return iter(map(Entry, self._found))

        def __exit__(self, *error: object) -> None:
            pass

    real = os.scandir
    monkeypatch.setattr(os, "scandir", Entries)
    assert [file.name for file in files.list_files(str(tmp_path))] == ["b"]


# --- moving and deleting


def test_a_file_is_moved_over_another(folder: str) -> None:
    source, destination = files.join(folder, "a"), files.join(folder, "new", "b")
    files.write_file(destination, b"old")
    files.write_file(source, b"1")
    files.move_file(source, destination)
    assert everything_under(folder) == {"new/b": b"1"}
    with pytest.raises(OSError):
        files.move_file(source, destination)
    assert everything_under(folder) == {"new/b": b"1"}


def test_a_file_is_moved_to_a_folder_that_is_not_there(folder: str) -> None:
    files.write_file(files.join(folder, "a"), b"1")
    files.move_file(files.join(folder, "a"), files.join(folder, "x", "y", "a"))
    assert everything_under(folder) == {"x/y/a": b"1"}


def test_files_are_deleted_whether_they_are_there_or_not(folder: str) -> None:
    paths = [files.join(folder, name) for name in ("a", "b", "c")]
    files.write_file(paths[0], b"1")
    files.write_file(paths[2], b"1")
    files.delete_files(paths[:2])
    assert set(everything_under(folder)) == {"c"}
    files.delete_files(iter(paths))
    files.delete_files([])
    assert everything_under(folder) == {}


def test_what_somebody_else_deletes_at_the_same_moment_is_no_error(
    store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_file(f"{REMOTE}/a", b"1")
    delete = MemFileSystem.delete

    def late(self: Any, paths: list[str]) -> None:
        store.clear()
        delete(self, paths)

    monkeypatch.setattr(MemFileSystem, "delete", late)
    files.delete_files([f"{REMOTE}/a"])


def test_what_cannot_be_deleted_is_an_error(store: dict[str, bytes], tmp_path: Path) -> None:
    files.write_file(f"{REMOTE}/a", b"1")
    MemFileSystem.broken.add("delete")
    with pytest.raises(OSError):
        files.delete_files([f"{REMOTE}/a"])
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        files.delete_files([str(tmp_path / "folder")])
