"""Front matter of Markdown files: the small part of YAML that issue files use.

`key: value`, quoted values, `[a, b]` lists and `- item` lists. Anything else is refused with its line.
"""

from adw_modules.errors import FORGE, AdwError

Value = str | list[str]
FENCE = "---"


def scalar(text: str) -> str:
    """Take one value out of its quotes and off its comment."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        inner = text[1:-1]
        return inner.replace('\\"', '"').replace("\\\\", "\\") if text[0] == '"' else inner.replace("''", "'")
    return text.split(" #", 1)[0].rstrip()


def _value(text: str) -> Value:
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        return [scalar(item) for item in text[1:-1].split(",") if item.strip()]
    return scalar(text)


def parse(text: str, name: str) -> tuple[dict[str, Value], str]:
    """Split a file into its front matter (empty if there is none) and its body."""
    lines = text.removeprefix("\ufeff").splitlines(keepends=True)
    if not lines or lines[0].strip() != FENCE:
        return {}, text.removeprefix("\ufeff")
    fields: dict[str, Value] = {}
    last = ""
    for number, raw in enumerate(lines[1:], start=2):
        line = raw.strip()
        if line == FENCE:
            return fields, "".join(lines[number:]).lstrip("\r\n")
        if not line or line.startswith("#"):
            continue
        if line.startswith("- ") or line == "-":
            items = fields.get(last)
            if not last or (isinstance(items, str) and items):
                raise AdwError(FORGE, "validation", f"{name}, line {number}: a list item without a key")
            fields[last] = [*(items if isinstance(items, list) else []), scalar(line[1:])]
            continue
        key, colon, value = line.partition(":")
        if not colon or not key.strip() or raw[:1].isspace():
            message = f"{name}, line {number}: expected `key: value`, a list item or {FENCE}, found {line!r}"
            raise AdwError(FORGE, "validation", message)
        last = key.strip().lower()
        fields[last] = _value(value)
    raise AdwError(FORGE, "validation", f"{name}, line 1: the front matter has no closing {FENCE}")


def text_of(value: Value | None) -> str:
    """Return a field as one string."""
    if value is None:
        return ""
    return value if isinstance(value, str) else ", ".join(value)


def list_of(value: Value | None) -> list[str]:
    """Return a field as a list; a string is split at commas."""
    items = value.split(",") if isinstance(value, str) else value or []
    return [item.strip() for item in items if item.strip()]


def quote(text: str) -> str:
    """Write a value so that `parse` reads it back."""
    flat = " ".join(text.split())
    return '"' + flat.replace("\\", "\\\\").replace('"', '\\"') + '"'
