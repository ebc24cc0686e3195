"""Personas: who an agent is, from the same files as the agents of step workflows.

Markdown with front matter that names the agent; the text below it is the persona. The project's own
`automation/content/agents` comes first, then the folder beside these scripts. Names that begin with `_` or `.`
are passed over, and a link is read only where it stays inside its folder.
"""

import os
from collections.abc import Iterator

from adw_modules.config import Config
from adw_modules.errors import USAGE, AdwError
from adw_modules.frontmatter import FENCE, scalar

FOLDER = "content/agents"
FILE_MAX_BYTES = 256 * 1024
FILES_MAX = 2000


def text_of(cfg: Config, phase: str) -> str:
    """Return the persona that the configuration names for a phase, or an empty string."""
    wanted = cfg.persona_of(phase)
    if not wanted:
        return ""
    known: dict[str, str] = {}
    for folder in folders(cfg):
        for name, body in _personas(folder):
            known.setdefault(name, body)
    if wanted not in known:
        names = ", ".join(sorted(known)) or "none; there are no agent files"
        message = f"persona: no agent is named {wanted!r}; known are {names} (looked in {_shown(cfg)})"
        raise AdwError(USAGE, "validation", message)
    return known[wanted]


def folders(cfg: Config) -> list[str]:
    """Return where personas are, the project's own first."""
    automation = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    own = os.path.join(cfg.root, "automation", FOLDER)
    built_in = os.path.join(automation, FOLDER)
    return [own] if os.path.realpath(own) == os.path.realpath(built_in) else [own, built_in]


def _shown(cfg: Config) -> str:
    return " and ".join(folders(cfg))


def _personas(folder: str) -> list[tuple[str, str]]:
    """Return names and texts; of two files of one name the one that is called so, then the first by path."""
    found = []
    for path in _files(folder):
        read = _read(path)
        if read:
            stem = os.path.basename(path).removesuffix(".md")
            found.append((stem != read[0], path, read))
    return [read for _, _, read in sorted(found)]


def _files(folder: str) -> Iterator[str]:
    real = os.path.realpath(folder)
    count = 0
    for base, dirs, names in os.walk(folder):
        dirs[:] = sorted(name for name in dirs if name[0] not in "_.")
        for name in sorted(names):
            path = os.path.join(base, name)
            if name[0] in "_." or not name.endswith(".md") or count == FILES_MAX:
                continue
            if os.path.isfile(path) and os.path.realpath(path).startswith(real + os.sep):
                count += 1
                yield path


def _read(path: str) -> tuple[str, str] | None:
    """Return name and persona of a file; None where it is no agent. The daemon tells what is wrong with it."""
    try:
        with open(path, encoding="utf-8-sig") as stream:
            text = stream.read(FILE_MAX_BYTES + 1)
    except (OSError, ValueError):
        return None
    lines = text.split("\n")
    if len(text) > FILE_MAX_BYTES or lines[0].rstrip() != FENCE:
        return None
    name = ""
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() == FENCE:
            body = "\n".join(lines[number + 1 :]).strip()
            return (name, body) if name and body else None
        if line.startswith("name:"):
            name = scalar(line.removeprefix("name:"))
    return None
