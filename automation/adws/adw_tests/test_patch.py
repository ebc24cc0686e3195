"""Unified diffs: what is found in an issue, what is refused, and how it is applied."""

import os

import pytest

from adw_modules import patch
from adw_modules.errors import AdwError
from conftest import DIFF, Project, git

NEW = "diff --git a/n.txt b/n.txt\nnew file mode 100644\n--- /dev/null\n+++ b/n.txt\n@@ -0,0 +1 @@\n+new\n"


def test_extract() -> None:
    assert patch.extract(f"a\n```diff\n{DIFF}```\nb\n```patch\n{NEW}```\n", "1") == DIFF + NEW
    assert patch.extract(f"```sh\nls\n```\n```\n{DIFF}```\n", "1") == DIFF
    assert patch.extract(f"~~~~ diff x\r\n{DIFF}~~~~", "1") == DIFF
    assert patch.extract(f"```diff\n{DIFF}", "1") == DIFF
    indented = "".join(f"  {line}\n" for line in DIFF.splitlines())
    assert patch.extract(f"- item\n\n  ```diff\n{indented}  ```\n", "1") == DIFF
    for body in ("nothing", "```sh\nls\n```", "```diff\njust words\n```", ""):
        with pytest.raises(AdwError) as caught:
            patch.extract(body, "1")
        assert caught.value.code == 22


def test_parse() -> None:
    text = (
        DIFF
        + NEW
        + "diff --git a/old b/moved\nsimilarity index 100%\nrename from old\nrename to moved\n"
        + "--- a/gone\n+++ /dev/null\n@@ -1,2 +0,0 @@\n---- x\n-y\n"
    )
    files = patch.parse(text)
    assert [(f.path, f.kind, len(f.added), len(f.removed)) for f in files] == [
        ("a.txt", "modify", 1, 0),
        ("n.txt", "add", 1, 0),
        ("moved", "rename", 0, 0),
        ("gone", "delete", 0, 2),
    ]
    assert patch.touched(files) == ["a.txt", "gone", "moved", "n.txt", "old"]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "b/../../x",
        "b/.git/hooks/post-commit",
        "b/sub/.GIT/config",
        "b/.git./config",
        "b/git~1/config",
        "b/a//b",
        "b/a\\b",
        "b/a\x1bb",
        '"b/q\\303"',
    ],
)
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(AdwError) as caught:
        patch.parse(f"--- /dev/null\n+++ {path}\n@@ -0,0 +1 @@\n+x\n")
    assert caught.value.code == 22


def test_other_things_that_are_refused() -> None:
    link = "diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc\n"
    for text in (
        link,
        "@@ -1 +1 @@\n-a\n+b\n",
        "--- a/x\n+++ b/x\n@@ -1,9 +1 @@\n a\n",
        "--- a/x\n+++ b/x\n@@ ? @@\n",
    ):
        with pytest.raises(AdwError):
            patch.parse(text)


def test_no_writing_through_links(project: Project) -> None:
    os.symlink("/tmp", os.path.join(project.root, "out"))
    git(project.root, "add", "out")
    git(project.root, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "link")
    git(project.root, "push", "-q", "origin", "main")
    project.issue(8, diff="--- /dev/null\n+++ b/out/evil.txt\n@@ -0,0 +1 @@\n+x\n")
    done = project.plan("8", "r1")
    assert done.code == 22
    assert "symbolic link" in done.out
    assert not os.path.exists("/tmp/evil.txt")


def test_apply_is_idempotent_and_merges_moved_context(project: Project) -> None:
    files = patch.parse(DIFF)
    assert patch.apply(project.root, DIFF, files) == "applied"
    assert patch.apply(project.root, DIFF, files) == "already"
    assert git(project.root, "diff", "--cached", "--name-only") == "a.txt"


def test_conflicting_three_way_is_taken_back(project: Project) -> None:
    blob = git(project.root, "rev-parse", "HEAD:a.txt")[:7]
    with open(os.path.join(project.root, "a.txt"), "w", encoding="utf-8") as stream:
        stream.write("other\n")
    git(project.root, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "other")
    text = f"diff --git a/a.txt b/a.txt\nindex {blob}..0000001 100644\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-hello\n+bye\n"
    with pytest.raises(AdwError, match="does not apply"):
        patch.apply(project.root, text, patch.parse(text))
    assert git(project.root, "status", "--porcelain", "-uno") == ""
