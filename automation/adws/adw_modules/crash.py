"""Death on demand, for tests of what a crash leaves. Inert without ADW_TEST_CRASH, which no daemon in use sets.

The points stand in one table, `src/crash/mod.rs`; how they are armed is told in `src/crash/switch.rs`.
"""

import os

FOLDER = os.environ.get("ADW_TEST_CRASH", "")


def here(point: str, detail: str = "") -> None:
    """Die here where a test has armed the point, as `kill -9` would have it."""
    if not FOLDER:
        return
    import contextlib

    name = os.path.join(FOLDER, f"{point}.{detail}" if detail else point)
    with contextlib.suppress(OSError):
        os.rename(f"{name}@1", f"{name}.reached")
        os.kill(os.getpid(), 9)
    for count in range(2, 10):
        with contextlib.suppress(OSError):
            os.rename(f"{name}@{count}", f"{name}@{count - 1}")
            return
