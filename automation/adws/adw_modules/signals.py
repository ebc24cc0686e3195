"""SIGINT, SIGTERM and SIGHUP become one exception, once.

The first signal raises `Interrupted` where the program is. Later ones are noted and do nothing, so that
the unwinding (kill the agent's tree, save the state) is never cut short and the exit code is never lost.
Inside `shield()` a first signal waits until the shield ends. An exception that is raised in a place where
Python swallows it (a finaliser) is raised again by `check()`, which every process start calls.
"""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from adw_modules.errors import Interrupted


class _Pending:
    caught = 0
    shields = 0
    unwinding = False


_P = _Pending()
_ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _handle(signum: int, _frame: FrameType | None) -> None:
    if _P.caught:
        return
    _P.caught = signum
    if _P.shields == 0 and not _P.unwinding:
        raise Interrupted(signum)


def install() -> None:
    """Take the signals over. SIGHUP stays ignored where the caller ignored it (nohup)."""
    for number in _ALL:
        if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue
        signal.signal(number, _handle)


def unwind() -> None:
    """From now on a signal is only noted: the phase is ending."""
    _P.unwinding = True


def ignore_all() -> None:
    """Ignore them for good, just before the process leaves with its exit code."""
    for number in _ALL:
        signal.signal(number, signal.SIG_IGN)


def check() -> None:
    """Raise a signal that came while it could not be raised."""
    if _P.caught and not _P.unwinding and _P.shields == 0:
        raise Interrupted(_P.caught)


@contextlib.contextmanager
def shield() -> Iterator[None]:
    """Let the body end before a signal takes effect. For short bodies only."""
    _P.shields += 1
    try:
        yield
    finally:
        _P.shields -= 1
    check()
