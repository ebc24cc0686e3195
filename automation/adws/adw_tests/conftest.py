"""A hermetic project for each test: a repository, a bare remote, issues, and the scripts as processes."""

import atexit
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

ADWS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYCACHE = tempfile.mkdtemp(prefix="adw-tests-")  # each module is compiled once, not once per process
atexit.register(shutil.rmtree, PYCACHE, ignore_errors=True)
DIFF = """--- a/a.txt
+++ b/a.txt
@@ -1 +1,2 @@
 hello
+goodbye
"""


def clean_env(**extra: str) -> dict[str, str]:
    kept = ("PATH", "LANG", "TMPDIR")
    env = {k: os.environ[k] for k in kept if k in os.environ}
    env.update(
        HOME="/nonexistent",
        GIT_CONFIG_GLOBAL="/dev/null",
        GIT_CONFIG_NOSYSTEM="1",
        PYTHONPYCACHEPREFIX=PYCACHE,
        **extra,
    )
    return env


def git(cwd: str, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=cwd, env=clean_env(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def markers(self) -> list[str]:
        return [line for line in self.out.split("\n") if line and not line.startswith(" ")]

    def last(self, key: str) -> str:
        found = [line.partition("=")[2] for line in self.markers if line.startswith(key + "=")]
        return found[-1] if found else ""


@dataclass
class Project:
    base: str
    env: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> str:
        return os.path.join(self.base, "repo")

    @property
    def remote(self) -> str:
        return os.path.join(self.base, "remote.git")

    def issue(
        self, number: int, title: str = "Say goodbye", body: str = "", diff: str = DIFF, head: str = ""
    ) -> None:
        text = f"---\ntitle: {title}\n{head}---\n{body}\n"
        if diff:
            text += f"\n```diff\n{diff}```\n"
        self.write(f"issues/{number}.md", text)

    def write(self, name: str, text: str) -> str:
        path = os.path.join(self.root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        return path

    def program(self, name: str, text: str) -> str:
        path = os.path.join(self.base, name)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(textwrap.dedent(text).lstrip())
        os.chmod(path, stat.S_IRWXU)
        return path

    def environment(self, extra: dict[str, str]) -> dict[str, str]:
        return {**clean_env(), **self.env, **extra}

    def start(self, script: str, *args: str, cwd: str = "", **extra: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, os.path.join(ADWS, script), *args],
            cwd=cwd or self.root,
            env=self.environment(extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *args: str, cwd: str = "", **extra: str) -> Done:
        process = self.start(script, *args, cwd=cwd, **extra)
        out, err = process.communicate(timeout=50)
        return Done(process.returncode, out, err)

    def plan(self, *args: str, **extra: str) -> Done:
        return self.run("adw_phases/adw_plan.py", *args, **extra)

    def build(self, *args: str, **extra: str) -> Done:
        return self.run("adw_phases/adw_build.py", *args, **extra)

    def review(self, *args: str, **extra: str) -> Done:
        return self.run("adw_phases/adw_review.py", *args, **extra)

    def sdlc(self, *args: str, **extra: str) -> Done:
        return self.run("adw_sdlc.py", *args, **extra)

    def folder(self, adw_id: str) -> str:
        return os.path.join(self.root, "automation/agents", adw_id)

    def state(self, adw_id: str) -> dict[str, Any]:
        with open(os.path.join(self.folder(adw_id), "adw_state.json"), encoding="utf-8") as stream:
            value: dict[str, Any] = json.load(stream)
        return value

    def tree(self, number: str, adw_id: str) -> str:
        return os.path.join(self.root, f"automation/trees/adw-{number}-{adw_id}")

    def remote_head(self, branch: str) -> str:
        return git(self.root, "ls-remote", self.remote, f"refs/heads/{branch}").partition("\t")[0]

    def branches(self) -> list[str]:
        return git(self.root, "branch", "--format=%(refname:short)").split("\n")


@pytest.fixture
def project(template: str, tmp_path: Any) -> Project:
    shutil.copytree(template, str(tmp_path), dirs_exist_ok=True)
    made = Project(str(tmp_path))
    path = os.path.join(made.root, ".git/config")
    made.write(".git/config", read(path).decode().replace(template, made.base))
    return made


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = Project(str(tmp_path_factory.mktemp("template")))
    git(made.base, "init", "-q", "--bare", "-b", "main", "remote.git")
    git(made.base, "init", "-q", "-b", "main", "repo")
    made.write("a.txt", "hello\n")
    made.issue(7)
    git(made.root, "add", "a.txt")
    git(made.root, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "init")
    git(made.root, "remote", "add", "origin", made.remote)
    git(made.root, "push", "-q", "origin", "main")
    return made.base


def alive(needle: str) -> list[int]:
    """Return the pids of living processes whose command line holds this text."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as stream:
                line = stream.read().replace(b"\0", b" ").decode("utf-8", "replace")
            with open(f"/proc/{name}/stat", "rb") as stream:
                state = stream.read().rpartition(b")")[2].split()[0]
        except OSError:
            continue
        if needle in line and state != b"Z":
            found.append(int(name))
    return found


def wait_for(condition: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def sleeper() -> Iterator[str]:
    """A number of seconds that no other process sleeps; whatever still sleeps it is ended afterwards."""
    name = f"{600 + int.from_bytes(os.urandom(2), 'big') / 65536:.6f}"
    yield name
    for pid in alive(f"sleep {name}"):
        os.kill(pid, signal.SIGKILL)
