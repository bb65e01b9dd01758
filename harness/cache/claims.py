"""Who is making what: processes on any machines that share a cache claim parts of the work, and a claim of a process that is gone
lapses. Each kind of claims implements Claims."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from harness.cache.contract import ImageCache, checked_key
from harness.cache.folder import FolderCache
from harness.cache.redis import RedisCache
from harness.records.owner import LARGEST_OWNER, Owner, ended, myself, owner_in
from harness.records.regular_files import open_regular

BEAT_SECONDS: Final = 10.0
STALE_SECONDS: Final = 60.0
"""A claim that shows no sign of life for so long lapses."""
FORGOTTEN: Final = 10
"""After so many times as long a worker that ends removes it, also one of another machine."""
_PREFIX: Final = "sweetspot:claim:"
_IF_MINE: Final = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call({command}) else return 0 end"


class ClaimError(RuntimeError):
    """Claims cannot be kept; the message says where, why, and what to do."""


class Claims(Protocol):
    """Claims of this process beside those of others. They hold until they are given back, or the process ends. Two processes may
    both hold one for a moment after one of them stood still: what they make must be the same whoever makes it."""

    def take(self, key: str) -> bool:
        """Whether the claim is this process's now. Raises ClaimError where claims cannot be kept."""

    def give_back(self, key: str) -> None:
        """Gives a claim back; does nothing if it lapsed."""

    def holder(self, key: str) -> str:
        """Who else holds a claim, in words; empty if nobody does."""

    def close(self) -> None:
        """Gives everything back."""


def open_claims(cache: ImageCache, *, beat_seconds: float = BEAT_SECONDS, stale_seconds: float = STALE_SECONDS) -> Claims:
    """The claims beside the images of a cache."""
    if isinstance(cache, RedisCache):
        return RedisClaims(cache.client, cache.where, beat_seconds=beat_seconds, stale_seconds=stale_seconds)
    if isinstance(cache, FolderCache):
        return FolderClaims(cache.root / "claims", beat_seconds=beat_seconds, stale_seconds=stale_seconds)
    raise ClaimError("without a shared cache nothing can be claimed; give its address with --shared-cache")


@dataclass(kw_only=True)
class _Beating:
    """A thread that shows every `seconds` that claims are alive."""

    seconds: float
    beat: Callable[[str], None]
    keys: set[str] = field(default_factory=set)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def add(self, key: str) -> None:
        self.keys.add(key)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name="claims")
            self._thread.start()

    def end(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(self.seconds)

    def _run(self) -> None:
        while not self._ended.wait(self.seconds):
            for key in sorted(self.keys):
                with suppress(Exception):  # the next beat may get through; else the claim lapses
                    self.beat(key)


class FolderClaims:
    """Claims as files with their owner. A file appears at once with all its content, by a hard link where the file system has
    them.

    A living owner touches its file; others compare what they see of it with what they saw before, by their own clock, so that
    clocks of machines may differ. Touching needs no room on the disk. A file that is opened is asked for at the server of a
    network file system, while the answer to a mere stat may be as old as a minute.
    """

    def __init__(self, root: Path, *, beat_seconds: float = BEAT_SECONDS, stale_seconds: float = STALE_SECONDS,
                 now: Callable[[], float] = time.monotonic) -> None:
        self.root, self.owner, self._stale, self._now = root, myself(), stale_seconds, now
        self._seen: dict[str, tuple[object, float]] = {}
        """By key: what a claim of another looked like, and since when."""
        self._beating = _Beating(seconds=beat_seconds, beat=lambda key: os.utime(self._path(key)))

    def take(self, key: str) -> bool:
        """Makes the claim's file, unless there is one that shows signs of life."""
        with self._saying():
            self.root.mkdir(parents=True, exist_ok=True)
            if not self._made(key) and not (self._lapsed(key) and self._made(key)) and not self._is_mine(key):
                return False
        self._seen.pop(key, None)
        self._beating.add(key)
        return True

    def give_back(self, key: str) -> None:
        """Removes the claim's file if it is this process's."""
        self._beating.keys.discard(key)
        with suppress(OSError):
            if self._is_mine(key):
                self._path(key).unlink(missing_ok=True)

    def holder(self, key: str) -> str:
        """The process that the claim's file names."""
        with suppress(OSError):
            return str(self._read(key)[0] or "a process that is not on record")
        return ""

    def close(self) -> None:
        """Removes this process's files, and those that processes left which are gone."""
        self._beating.end()
        for key in sorted(self._beating.keys):
            self.give_back(key)
        with suppress(OSError):
            self._sweep()

    def _sweep(self) -> None:
        """Removes claims that nobody asks for again, as all that they were for is made: of processes of this machine that ended,
        and those without a sign of life for long, by the clock of the file system."""
        if not any(self.root.glob("*.claim")):
            return
        own = self._beside("now", self.owner.token)
        try:
            own.touch()
            now = own.stat().st_mtime
        finally:
            own.unlink(missing_ok=True)
        for path in self.root.glob("*.claim"):
            with suppress(OSError, ValueError):  # gone by now, or a file of somebody else
                owner, _ = self._read(path.stem)
                silent = now - path.stat().st_mtime
                if owner is not None and (ended(owner, self.owner) or silent > FORGOTTEN * self._stale):
                    self._moved(path.stem, owner)

    def _made(self, key: str) -> bool:
        """Whether this process's file could be put into place, where none was."""
        path, own = self._path(key), self._beside(key, self.owner.token)
        try:
            own.write_text(self.owner.text, encoding="utf-8")
            try:
                os.link(own, path)
            except FileExistsError:
                # A server whose answer was lost is asked a second time, and finds the link that it made.
                return own.stat().st_nlink == 2
            except OSError:  # no hard links here
                with suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
                    file.write(self.owner.text)
                    return True
                return False
            return True
        finally:
            with suppress(OSError):
                own.unlink(missing_ok=True)

    def _lapsed(self, key: str) -> bool:
        """Whether the claim's file is gone, or its owner is, in which case it was moved out of the way."""
        try:
            owner, sign = self._read(key)
        except FileNotFoundError:
            if not os.path.lexists(self._path(key)):
                return True
            owner, sign = None, None  # a link to nowhere
        since = self._seen.get(key)
        if since is None or since[0] != sign:
            self._seen[key] = since = sign, self._now()
        if self._now() - since[1] < self._stale and not (owner is not None and ended(owner, self.owner)):
            return False
        return self._moved(key, owner)

    def _moved(self, key: str, lapsed: Owner | None) -> bool:
        """Moves a lapsed claim out of the way. Of several that try, one succeeds. What another made meanwhile goes back."""
        path, aside = self._path(key), self._beside(key, f"{self.owner.token}-{secrets.token_hex(4)}")
        try:
            path.rename(aside)
        except FileNotFoundError:
            if not aside.exists():
                return True
        try:
            with suppress(FileNotFoundError):
                if self._owner_of(aside)[0] != lapsed:
                    with suppress(OSError):
                        os.link(aside, path)
                    return False
            return True
        finally:
            with suppress(OSError):
                aside.unlink(missing_ok=True)

    def _is_mine(self, key: str) -> bool:
        with suppress(FileNotFoundError):
            return self._read(key)[0] == self.owner
        return False

    def _read(self, key: str) -> tuple[Owner | None, object]:
        return self._owner_of(self._path(key))

    def _owner_of(self, path: Path) -> tuple[Owner | None, object]:
        """The owner that a file names, None if it names none or cannot be read, and what changes with every sign of life. Raises
        FileNotFoundError if the file does not exist."""
        try:
            with open_regular(path) as file:
                status, text = os.fstat(file.fileno()), file.read(LARGEST_OWNER)
        except FileNotFoundError:
            raise
        except OSError:  # a pipe, a folder, or a file of somebody else
            return None, None
        owner = None
        with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            owner = owner_in(text)
        return owner, (status.st_mtime_ns, status.st_ino, text)

    @contextmanager
    def _saying(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ClaimError(f"{self.root}: cannot claim work there ({error.strerror or type(error).__name__}); all workers need "
                             "to write to this folder, and room on its disk") from error

    def _path(self, key: str) -> Path:
        return self.root / f"{checked_key(key)}.claim"

    def _beside(self, key: str, token: str) -> Path:
        return self.root / f".{key}.{token}.tmp"


class RedisClaims:
    """Claims as strings with a time to live, which a living owner prolongs; the server's clock alone counts."""

    def __init__(self, client: Any, where: str, *, beat_seconds: float = BEAT_SECONDS,
                 stale_seconds: float = STALE_SECONDS) -> None:
        self._client, self._where, self.owner = client, where, myself()
        self._milliseconds = round(stale_seconds * 1000)
        self._beating = _Beating(seconds=beat_seconds, beat=self._beat)

    def take(self, key: str) -> bool:
        """Sets the string unless there is one."""
        place = _PREFIX + checked_key(key)
        set_now = self._ask("SET", place, self.owner.text, "NX", "PX", self._milliseconds) is not None
        # Where the first answer was lost, the client has asked a second time and found what it set.
        if not set_now and self._ask("GET", place) != self.owner.text.encode():
            return False
        self._beating.add(key)
        return True

    def give_back(self, key: str) -> None:
        """Deletes the string if it is this process's."""
        self._beating.keys.discard(key)
        with suppress(ClaimError):
            self._if_mine(key, "'del', KEYS[1]")

    def holder(self, key: str) -> str:
        """The process that the string names."""
        text = self._ask("GETRANGE", _PREFIX + checked_key(key), 0, LARGEST_OWNER)
        with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return str(owner_in(text))
        return "a process that is not on record" if text else ""

    def close(self) -> None:
        """Deletes this process's strings."""
        self._beating.end()
        for key in sorted(self._beating.keys):
            self.give_back(key)

    def _beat(self, key: str) -> None:
        self._if_mine(key, f"'pexpire', KEYS[1], {self._milliseconds}")

    def _if_mine(self, key: str, command: str) -> None:
        self._ask("EVAL", _IF_MINE.format(command=command), 1, _PREFIX + checked_key(key), self.owner.text)

    def _ask(self, *words: Any) -> Any:
        from redis import RedisError

        try:
            return self._client.execute_command(*words)
        except (RedisError, OSError) as error:
            raise ClaimError(f"{self._where}: cannot claim work there ({type(error).__name__} at {words[0]}); all workers need "
                             "to reach this server, and it must take new entries") from error
