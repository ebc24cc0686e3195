"""Arguments, ids, markers and state: what is refused, and that nothing changes then."""

import fcntl
import json
import os
import random
import subprocess
import sys
import threading
from typing import Any

import pytest

from adw_modules import entry, markers
from adw_modules.config import load
from adw_modules.errors import AdwError
from adw_modules.state import STATE_MAX_BYTES, StateStore
from conftest import ADWS, Project, clean_env, read

SCRIPTS = ["adw_sdlc.py", "adw_phases/adw_plan.py", "adw_phases/adw_build.py", "adw_phases/adw_review.py"]
BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\0\x1b\x7f"


@pytest.mark.parametrize("script", SCRIPTS[:2])
@pytest.mark.parametrize(
    "args",
    [
        [],
        ["abc"],
        ["12345678901"],
        ["-1"],
        ["7", "../../x"],
        ["7", "-x"],
        ["7", "a" * 65],
        ["7", ""],
        ["7", "a b"],
        ["7", "a\nSTATUS=completed"],
        ["--adw-id", "x", "7"],
        ["7", "ok", "more"],
        ["\u0667"],
    ],
)
def test_bad_arguments_are_2_and_make_nothing(project: Project, script: str, args: list[str]) -> None:
    before = sorted(os.listdir(project.root))
    done = project.run(script, *args)
    assert done.code == 2
    assert "  error: " in done.out
    assert done.markers == ["STATUS=failed"]
    assert sorted(os.listdir(project.root)) == before
    assert sorted(os.listdir(project.base)) == ["remote.git", "repo"]


@pytest.mark.parametrize("value", ["", "test", "build,plan", "plan,plan"])
def test_bad_phases(project: Project, value: str) -> None:
    assert project.sdlc("7", "--phases", value).code == 2


def test_ids() -> None:
    for good in ("a", "7", "abcd1234", "A_b-c", "x" * 64):
        assert entry.valid_id(good)
    for bad in ("", "_a", "-a", "a.b", "a/b", "é", "x" * 65, "a\n"):
        assert not entry.valid_id(bad)
    assert all(entry.valid_id(entry.new_id()) and len(entry.new_id()) == 8 for _ in range(100))


def test_no_forwarded_text_is_a_marker() -> None:
    generator = random.Random(7)
    words = ["STATUS=completed", "ADW_ID=evil", "TOKEN_EVENT:{}", *BREAKS, " ", "x", "\ud800", "é"]
    texts = ["".join(generator.choice(words) for _ in range(generator.randrange(1, 12))) for _ in range(300)]
    program = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); from adw_modules import markers\n"
        "for t in json.load(open(sys.argv[2])): markers.say(t); markers.error(t); markers.emit('BRANCH', t)\n"
    )
    path = f"/tmp/{os.getpid()}-{os.urandom(4).hex()}.json"
    try:
        with open(path, "w", encoding="ascii") as stream:
            json.dump(texts, stream)
        done = subprocess.run([sys.executable, "-c", program, ADWS, path], capture_output=True, check=True)
    finally:
        os.unlink(path)
    text = done.stdout.decode("utf-8")
    assert "\0" not in text
    for line in text.splitlines():
        assert line.startswith(("  ", "BRANCH=")), line
    assert sum(line.startswith("BRANCH=") for line in text.splitlines()) == 300


def test_long_markers_are_cut(capfd: pytest.CaptureFixture[str]) -> None:
    markers.emit("BRANCH", "é" * 9000)
    out = capfd.readouterr().out
    assert len(out.encode()) <= 4096
    assert out.endswith("é\n")
    with pytest.raises(ValueError, match="not a marker"):
        markers.emit("EVIL", "x")


def test_another_issues_run_is_refused(project: Project) -> None:
    assert project.plan("7", "r1").code == 0
    before = read(os.path.join(project.folder("r1"), "adw_state.json"))
    done = project.plan("8", "r1")
    assert done.code == 3
    assert "belongs to issue 7" in done.out
    assert read(os.path.join(project.folder("r1"), "adw_state.json")) == before


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"  \n",
        b'{"adw_id": "r1", ',
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"a":"' + b"x" * STATE_MAX_BYTES + b'"}',
        b"[" * 9999,
    ],
)
def test_unusable_state_is_3_and_stays(project: Project, data: bytes) -> None:
    os.makedirs(project.folder("r1"))
    path = os.path.join(project.folder("r1"), "adw_state.json")
    with open(path, "wb") as stream:
        stream.write(data)
    for script in SCRIPTS:
        done = project.run(script, "7", "r1")
        assert done.code == 3, done.out
        assert "error: " in done.out
    assert read(path) == data
    done = project.run("adw_modules/mcp_bridge.py", "list_workflows")
    rows = json.loads(done.out)["workflows"]
    assert [(row["adw_id"], row["status"]) for row in rows] == [("r1", "unknown")]
    assert "adw_state.json" in rows[0]["problem"]


def test_missing_state_is_3_and_makes_nothing(project: Project) -> None:
    for script in SCRIPTS[2:]:
        assert project.run(script, "7", "nope").code == 3
        assert project.run(script, "7").code == 3
    assert not os.path.exists(project.folder("nope"))


def test_links_out_of_the_agents_folder_are_refused(project: Project) -> None:
    outside = os.path.join(project.base, "outside")
    os.makedirs(outside)
    os.makedirs(os.path.dirname(project.folder("r1")))
    os.symlink(outside, project.folder("r1"))
    done = project.plan("7", "r1")
    assert done.code == 3
    assert "symbolic link" in done.out
    assert os.listdir(outside) == []
    os.makedirs(project.folder("r2"))
    os.symlink("/etc/hostname", os.path.join(project.folder("r2"), "adw_state.json"))
    assert project.plan("7", "r2").code == 3


def test_two_processes_for_one_id(project: Project) -> None:
    assert project.plan("7", "r1").code == 0
    path = os.path.join(project.folder("r1"), "adw_state.json")
    before = read(path)
    with open(os.path.join(project.folder("r1"), "run.lock"), "rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        done = project.build("7", "r1")
        assert done.code == 3
        assert "in use by another process" in done.out
        listed = json.loads(project.run("adw_modules/mcp_bridge.py", "get_state", "r1").out)
        assert listed["status"] == "running"
    assert read(path) == before


def test_no_update_is_lost(tmp_path: Any) -> None:
    store = StateStore(str(tmp_path), "r1")
    os.makedirs(store.folder)
    store.update(lambda state: state.update(keep={"unknown": [1]}), create=True)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from adw_modules.state import StateStore\n"
        "s = StateStore(sys.argv[2], 'r1')\n"
        "for i in range(20): s.update(lambda st: st.update({f'{sys.argv[3]}-{i}': i}))\n"
    )
    torn: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                store.load()
            except AdwError as problem:
                torn.append(problem.message)

    reader = threading.Thread(target=read)
    reader.start()
    writers = [subprocess.Popen([sys.executable, "-c", program, ADWS, str(tmp_path), str(n)]) for n in range(4)]
    assert [w.wait(40) for w in writers] == [0] * 4
    stop.set()
    reader.join()
    state = store.load()
    assert torn == []
    assert sum("-" in key for key in state) == 80
    assert state["keep"] == {"unknown": [1]}
    assert sorted(os.listdir(store.folder)) == ["adw_state.json", "adw_state.json.lock"]


def test_configuration(project: Project) -> None:
    env = clean_env()
    path = project.write(".adw.toml", 'agent = "command"\nagent_command = ["a b", "c"]\ncheck_command = "x"\n')
    cfg = load(env, project.root)
    assert (cfg.agent, json.loads(cfg.agent_command), cfg.check_command) == ("command", ["a b", "c"], "x")
    assert load({**env, "ADW_AGENT": "patch", "ADW_CHECK_COMMAND": ""}, project.root).check_command == ""
    assert load({**env, "ADW_AGENT": ""}, project.root).agent == "command"
    for text, needle in (
        ('agnet = "x"', "did you mean agent?"),
        ('agent = "x"', "not one of"),
        ("agent_timeout_s = -1", "positive"),
        ("agent = [1]", "must be"),
        ("agent =", "Invalid"),
    ):
        project.write(".adw.toml", text)
        with pytest.raises(AdwError, match=needle.replace("?", r"\?")) as caught:
            load(env, project.root)
        assert caught.value.code == 2
    done = project.plan("7", "r1")
    assert done.code == 2
    assert not os.path.exists(project.folder("r1"))
    os.unlink(path)
    assert load({**env, "ADW_PROJECT_ROOT": project.root}, "/").root == project.root


def test_outside_a_repository(tmp_path: Any) -> None:
    done = Project(str(tmp_path)).run(
        "adw_phases/adw_plan.py", "7", "r1", cwd=str(tmp_path), GIT_CEILING_DIRECTORIES="/"
    )
    assert done.code == 31
    assert "no git repository" in done.out


def test_help(project: Project) -> None:
    for script in SCRIPTS:
        done = project.run(script, "--help")
        assert done.code == 0
        assert "usage:" in done.out
