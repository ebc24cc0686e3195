"""Tell whether an issue is a feature, a bug or a chore, or nothing for this workflow."""

import re

from adw_modules.forge import Issue

CLOSED = frozenset({"closed", "done", "resolved", "merged", "rejected", "wontfix", "invalid"})
OUT_OF_SCOPE_LABELS = frozenset({"question", "wontfix", "won't fix", "duplicate", "invalid", "discussion"})
_LABELS = {
    "bug": "bug",
    "fix": "bug",
    "defect": "bug",
    "regression": "bug",
    "feature": "feature",
    "enhancement": "feature",
    "feature-request": "feature",
    "chore": "chore",
    "documentation": "chore",
    "docs": "chore",
    "dependencies": "chore",
    "maintenance": "chore",
    "refactor": "chore",
    "refactoring": "chore",
    "ci": "chore",
    "build": "chore",
    "test": "chore",
    "tests": "chore",
}
_PREFIXES = {
    "feat": "feature",
    "feature": "feature",
    "perf": "feature",
    "fix": "bug",
    "bug": "bug",
    "bugfix": "bug",
    "hotfix": "bug",
    "revert": "bug",
    "chore": "chore",
    "docs": "chore",
    "doc": "chore",
    "style": "chore",
    "refactor": "chore",
    "test": "chore",
    "tests": "chore",
    "build": "chore",
    "ci": "chore",
}
_BUG_WORDS = re.compile(
    r"\b(bug|fix(es|ed)?|broken|breaks?|crash(es|ed)?|fail(s|ed|ure)?|error|wrong|regression|incorrect|"
    r"does ?n[o']t work|leaks?|hangs?|typo)\b",
    re.IGNORECASE,
)
_CHORE_WORDS = re.compile(
    r"\b(docs?|documentation|readme|changelog|refactor\w*|clean ?up|upgrade|bump|dependenc\w+|rename|"
    r"lint\w*|format\w*|ci|tests?)\b",
    re.IGNORECASE,
)
CLASSES = ("feature", "bug", "chore")


def out_of_scope(issue: Issue) -> str:
    """Return why this issue is not worked on, or an empty string."""
    if issue.state in CLOSED:
        return f"issue {issue.number} is {issue.state}"
    for label in issue.labels:
        if label.strip().lower() in OUT_OF_SCOPE_LABELS:
            return f"issue {issue.number} has the label {label}"
    return ""


def by_labels(issue: Issue) -> str:
    """Return the class that the labels name, or an empty string."""
    for label in issue.labels:
        words = label.strip().lower()
        for key in (words, words.rpartition(":")[2].strip(), words.rpartition("/")[2].strip()):
            if key in _LABELS:
                return _LABELS[key]
    return ""


def by_prefix(title: str) -> str:
    """Return the class that a conventional prefix (`fix(parser)!: …`) names, or an empty string."""
    found = re.match(r"\s*([A-Za-z]+)(\([^)]*\))?!?:\s", title)
    return _PREFIXES.get(found.group(1).lower(), "") if found else ""


def by_words(title: str) -> str:
    """Return the class that the title's words suggest; feature where nothing does."""
    if _BUG_WORDS.search(title):
        return "bug"
    return "chore" if _CHORE_WORDS.search(title) else "feature"


def by_reply(text: str) -> tuple[str, str]:
    """Read an agent's answer: (class or "none", reason); ("", "") where it says nothing usable."""
    from adw_modules.agent import find_json

    data = find_json(text)
    word = str((data or {}).get("class", "")).strip().lower().lstrip("/")
    reason = str((data or {}).get("reason", "")).strip()
    if not word:
        found = re.findall(r"(?:^|[\s`*\"'])/?(feature|bug|chore|none|0)\b", text.lower())
        word = found[-1] if found else ""
    if word in {"none", "0", "out_of_scope", "out-of-scope"}:
        return "none", reason or "the agent found it out of scope"
    return (word, reason) if word in CLASSES else ("", "")
