#!/usr/bin/env python3
"""A model on loopback for real agent programs: `stub_model.py SCRIPT FOLDER`.

It speaks Anthropic messages, OpenAI responses and chat completions, and Gemini, streamed and whole, and plays the
turns of SCRIPT. FOLDER/port gets its port once it listens, FOLDER/requests.jsonl one line for each request that was
answered or refused (what was asked, what was played). Standard library only; it ends when its standard input does.

SCRIPT is {"roles": {ROLE: [TURN, …]}}. The role is told by the first words of the phase's prompt (`ROLES`), and is
`other` where none of them is in the request. Which turn is played is told by how many results of tools the request
carries, so nothing is kept between requests and agents do not disturb each other; the last turn repeats. A request
that offers no tools is a side request (a title, a topic) and is answered with "ok".

A TURN may hold
  text          what the model says
  shell         a command for the agent's own shell
  write         {"path", "text"}: a file, by the agent's own tool for that
  read          a file, by the agent's own tool for that
  mcp, input    a tool of the MCP server `adwd`; "$last:KEY" in the input is the last value of KEY that was seen
  usage         {"input", "output", "cached", "created"}: tokens; 10 and 5 where it says nothing
  error         {"status", "type", "message"}: an HTTP error instead of an answer
  times         how often this turn fails or is cut before it is played as if it were whole: the one thing kept
  cut           "start": the connection is closed in the middle of the first words; "end": before the last event
  hang          no answer at all, until the agent gives up
  gate          NAME: creates FOLDER/at-NAME, and goes on once FOLDER/open-NAME exists
"""

import contextlib
import json
import os
import re
import shlex
import sys
import threading
import time
import uuid
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SCRIPT, FOLDER = sys.argv[1:3]
LOCK = threading.Lock()
FAILED: Counter[str] = Counter()
ROLES = {
    "Classify one issue of this repository": "classifier",
    "Write the implementation plan for one issue": "planner",
    "Implement the plan below": "implementor",
    "Review a change of this repository": "reviewer",
}
# An agent's own tools: by what is to be done, names and inputs in the order in which they are looked for.
SHELLS = {
    "Bash": lambda text: {"command": text, "description": "as planned"},
    "bash": lambda text: {"command": text, "description": "as planned"},
    "run_shell_command": lambda text: {"command": text},
    "exec_command": lambda text: {"cmd": text},
    "shell_command": lambda text: {"command": text},
    "shell": lambda text: {"command": ["sh", "-c", text]},
}
WRITERS = {
    "Write": lambda path, text: {"file_path": path, "content": text},
    "write": lambda path, text: {"filePath": path, "content": text},
    "write_file": lambda path, text: {"file_path": path, "content": text},
}
READERS = {"Read": "file_path", "read": "filePath", "read_file": "file_path"}
MCP_PREFIXES = ("mcp__adwd__", "mcp__adwd", "mcp_adwd_", "adwd_", "")


class Cut(Exception):
    """The connection is to be closed now."""


def load() -> dict[str, list[dict[str, Any]]]:
    """Read the script anew with each request, so that a test can change it."""
    with open(SCRIPT, encoding="utf-8") as stream:
        roles: dict[str, list[dict[str, Any]]] = json.load(stream)["roles"]
    return roles


def note(entry: dict[str, Any]) -> None:
    with LOCK, open(os.path.join(FOLDER, "requests.jsonl"), "a", encoding="utf-8") as stream:
        stream.write(json.dumps({"at": time.time(), **entry}) + "\n")


def filled(value: Any, seen: str) -> Any:
    if isinstance(value, dict):
        return {key: filled(item, seen) for key, item in value.items()}
    if isinstance(value, str) and value.startswith("$last:"):
        key = re.escape(value.removeprefix("$last:"))
        hits = re.findall(rf'\\*"{key}\\*"\s*:\s*\\*"([^"\\]+)', seen)
        return hits[-1] if hits else value
    return value


def absolute(path: str, seen: str) -> str:
    """Claude and others want whole paths; the folder stands in what they tell the model of their environment."""
    if path.startswith("/"):
        return path
    found = re.search(r"(?:[Ww]orking directory|workspace directories?)[^/]{0,40}?(/[^\s\\\"`<]+)", seen)
    return os.path.join(found.group(1).rstrip("."), path) if found else path


def calls_of(turn: dict[str, Any], offered: list[str], seen: str) -> list[dict[str, Any]]:
    """Put what is to be done into calls of tools that are offered; an unknown one is called all the same."""

    def first(names: Any) -> str:
        names = list(names)
        return next((name for name in names if name in offered), names[0])

    calls = []
    if "shell" in turn:
        name = first(SHELLS)
        calls.append({"name": name, "input": SHELLS[name](turn["shell"])})
    if "read" in turn:
        name = first(READERS)
        calls.append({"name": name, "input": {READERS[name]: absolute(turn["read"], seen)}})
    if "write" in turn:
        path, text = turn["write"]["path"], turn["write"]["text"]
        if "apply_patch" in offered and not any(name in offered for name in WRITERS):
            lines = "".join(f"+{line}\n" for line in text.splitlines())
            patch = f"*** Begin Patch\n*** Add File: {path}\n{lines}*** End Patch"
            calls.append({"name": "apply_patch", "input": {"input": patch}, "free": patch})
        elif any(name in offered for name in WRITERS):
            name = first(WRITERS)
            calls.append({"name": name, "input": WRITERS[name](absolute(path, seen), text)})
        else:
            name = first(SHELLS)
            calls.append({"name": name, "input": SHELLS[name](f"printf %s {shlex.quote(text)} >{shlex.quote(path)}")})
    if "call" in turn:
        calls.append({"name": turn["call"], "input": turn.get("input", {})})
    if "mcp" in turn:
        name = first(prefix + turn["mcp"] for prefix in MCP_PREFIXES)
        calls.append({"name": name, "input": filled(turn.get("input", {}), seen)})
    return calls


def wait_at(gate: str) -> None:
    with open(os.path.join(FOLDER, f"at-{gate}"), "w", encoding="utf-8"):
        pass
    while not os.path.exists(os.path.join(FOLDER, f"open-{gate}")):
        time.sleep(0.05)


def tokens(turn: dict[str, Any]) -> tuple[int, int, int, int]:
    usage = turn.get("usage", {})
    return usage.get("input", 10), usage.get("output", 5), usage.get("cached", 0), usage.get("created", 0)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    turn: dict[str, Any]

    def log_message(self, *args: Any) -> None:
        """Say nothing: requests.jsonl has it all."""

    def body(self) -> Any:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            raw = b""
            while size := int(self.rfile.readline().split(b";")[0].strip() or b"0", 16):
                raw += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            raw = self.rfile.read(int(self.headers.get("content-length", 0) or 0))
        if self.headers.get("content-encoding") == "gzip":
            import gzip

            raw = gzip.decompress(raw)
        try:
            return json.loads(raw or b"{}")
        except ValueError:
            return {"unreadable": len(raw), "encoding": self.headers.get("content-encoding")}

    def whole(self, value: Any, status: int = 200) -> None:
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def stream(self, events: list[tuple[str | None, Any]]) -> None:
        """Send events; a turn that is cut ends in the middle of one, or before the last."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        cut = self.turn.get("cut")
        for at, (name, value) in enumerate(events):
            text = (f"event: {name}\n" if name else "") + "data: "
            text += value if isinstance(value, str) else json.dumps(value)
            if (cut == "start" and at == min(2, len(events) - 1)) or (cut == "end" and at == len(events) - 1):
                self.wfile.write(text[: len(text) // 2].encode() if cut == "start" else b"")
                raise Cut
            self.wfile.write(f"{text}\n\n".encode())
            self.wfile.flush()

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        if self.path.split("?")[0].endswith("/models"):
            model = {"id": "stub-model", "object": "model", "type": "model", "display_name": "stub"}
            return self.whole({"object": "list", "data": [model], "models": []})
        return self.whole({"ok": True})

    def do_POST(self) -> None:
        body, path = self.body(), self.path.split("?")[0]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, Cut):
            if path.endswith("/count_tokens"):
                self.whole({"input_tokens": 42})
            elif ":countTokens" in path:
                self.whole({"totalTokens": 42})
            elif path.endswith("/messages"):
                self.anthropic(body)
            elif path.endswith("/responses"):
                self.openai(body)
            elif path.endswith("/chat/completions"):
                self.chat(body)
            elif "enerateContent" in path:
                self.gemini(body, streamed="stream" in path)
            else:
                note({"path": path, "unknown": True})
                self.whole({})

    def play(self, body: Any, offered: list[str], results: int) -> list[dict[str, Any]] | None:
        """Choose the turn; the calls it makes, or None where the request is answered already."""
        seen = json.dumps(body, ensure_ascii=False)
        role = next((role for words, role in ROLES.items() if words in seen), "other")
        if not offered:
            self.turn = {"text": "ok"}
            note({"path": self.path, "role": "side"})
            return []
        turns = load().get(role) or [{"text": "hello from the stub"}]
        at = min(results, len(turns) - 1)
        self.turn = turn = dict(turns[at])
        if "times" in turn:
            with LOCK:
                FAILED[f"{role} {at}"] += 1
                if FAILED[f"{role} {at}"] > turn["times"]:
                    for key in ("error", "cut", "hang"):
                        turn.pop(key, None)
        calls = calls_of(turn, offered, seen)
        note({"path": self.path, "role": role, "turn": at, "calls": calls, "offered": offered, "body": body})
        if "gate" in turn:
            wait_at(turn["gate"])
        if turn.get("hang"):
            while not self.gone():
                time.sleep(0.05)
            self.close_connection = True
            return None
        if "error" in turn:
            told = turn["error"]
            error = {"type": told.get("type", "api_error"), "message": told.get("message", "stub error")}
            status = told.get("status", 500)
            self.whole({"type": "error", "error": {**error, "code": status, "status": error["type"]}}, status)
            return None
        return calls

    def gone(self) -> bool:
        """Tell whether the agent has closed its end."""
        import select
        import socket

        ready, _, _ = select.select([self.connection], [], [], 0)
        try:
            return bool(ready) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def anthropic(self, body: Any) -> None:
        blocks = [m["content"] for m in body.get("messages", []) if isinstance(m.get("content"), list)]
        results = sum(part.get("type") == "tool_result" for block in blocks for part in block)
        calls = self.play(body, [tool.get("name", "") for tool in body.get("tools", [])], results)
        if calls is None:
            return None
        content: list[dict[str, Any]] = [{"type": "text", "text": self.turn["text"]}] if self.turn.get("text") else []
        for call in calls:
            ident = f"toolu_{uuid.uuid4().hex[:20]}"
            content.append({"type": "tool_use", "id": ident, "name": call["name"], "input": call["input"]})
        stop = "tool_use" if calls else "end_turn"
        given, made, cached, created = tokens(self.turn)
        usage = {"input_tokens": given, "output_tokens": made}
        usage |= {"cache_read_input_tokens": cached, "cache_creation_input_tokens": created}
        message = {"id": f"msg_{uuid.uuid4().hex[:20]}", "type": "message", "role": "assistant"}
        message |= {"model": body.get("model", "stub"), "stop_sequence": None, "usage": usage}
        if not body.get("stream"):
            return self.whole({**message, "content": content, "stop_reason": stop})
        events: list[tuple[str | None, Any]] = []

        def add(kind: str, **more: Any) -> None:
            events.append((kind, {"type": kind, **more}))

        add("message_start", message={**message, "content": [], "stop_reason": None})
        for at, part in enumerate(content):
            if part["type"] == "text":
                add("content_block_start", index=at, content_block={"type": "text", "text": ""})
                delta = {"type": "text_delta", "text": part["text"]}
            else:
                add("content_block_start", index=at, content_block={**part, "input": {}})
                delta = {"type": "input_json_delta", "partial_json": json.dumps(part["input"])}
            add("content_block_delta", index=at, delta=delta)
            add("content_block_stop", index=at)
        add("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage=usage)
        add("message_stop")
        return self.stream(events)

    def openai(self, body: Any) -> None:
        items = body.get("input", [])
        results = 0
        if isinstance(items, list):
            results = sum(str(item.get("type", "")).endswith("call_output") for item in items)
        offered: dict[str, tuple[str | None, str, str]] = {}

        def learn(tools: Any, space: str | None = None) -> None:
            for tool in tools or []:
                if isinstance(tool.get("tools"), list) and tool.get("name"):
                    learn(tool["tools"], tool["name"])
                else:
                    name = tool.get("name") or tool.get("type", "")
                    offered[(space or "") + name] = (space, name, tool.get("type", ""))

        learn(body.get("tools"))
        calls = self.play(body, list(offered), results)
        if calls is None:
            return None
        out: list[dict[str, Any]] = []
        if self.turn.get("text"):
            part = {"type": "output_text", "text": self.turn["text"], "annotations": []}
            message = {"type": "message", "id": f"msg_{uuid.uuid4().hex[:16]}", "role": "assistant"}
            out.append({**message, "status": "completed", "content": [part]})
        for call in calls:
            space, name, kind = offered.get(call["name"], (None, call["name"], "function"))
            if call["name"] not in offered and name.startswith(MCP_PREFIXES[0]):
                # Behind `tool_search`: a model that has searched calls it by its namespace.
                space, name = MCP_PREFIXES[0].rstrip("_"), name.removeprefix(MCP_PREFIXES[0])
            ids = {"call_id": f"call_{uuid.uuid4().hex[:16]}", "name": name, "status": "completed"}
            if kind == "custom":
                out.append({"type": "custom_tool_call", "id": f"ctc_{uuid.uuid4().hex[:16]}", **ids, "input": call["free"]})
                continue
            item = {"type": "function_call", "id": f"fc_{uuid.uuid4().hex[:16]}", **ids}
            out.append({**item, "arguments": json.dumps(call["input"]), **({"namespace": space} if space else {})})
        given, made, cached, created = tokens(self.turn)
        details = {"cached_tokens": cached, "cache_write_tokens": created}
        usage = {"input_tokens": given + cached + created, "input_tokens_details": details}
        usage |= {"output_tokens": made, "output_tokens_details": {"reasoning_tokens": 0}}
        usage |= {"total_tokens": given + cached + created + made}
        answer = {"id": f"resp_{uuid.uuid4().hex}", "object": "response", "created_at": int(time.time())}
        answer |= {"model": body.get("model"), "status": "completed", "output": out, "usage": usage, "error": None}
        if not body.get("stream"):
            return self.whole(answer)
        events: list[tuple[str | None, Any]] = []

        def add(kind: str, **more: Any) -> None:
            events.append((kind, {"type": kind, "sequence_number": len(events), **more}))

        add("response.created", response={**answer, "status": "in_progress", "output": [], "usage": None})
        for at, item in enumerate(out):
            add("response.output_item.added", output_index=at, item={**item, "status": "in_progress"})
            if item["type"] == "message":
                where = {"item_id": item["id"], "output_index": at, "content_index": 0}
                add("response.output_text.delta", **where, delta=item["content"][0]["text"])
            add("response.output_item.done", output_index=at, item=item)
        add("response.completed", response=answer)
        return self.stream(events)

    def chat(self, body: Any) -> None:
        results = sum(message.get("role") == "tool" for message in body.get("messages", []))
        offered = [tool.get("function", {}).get("name", "") for tool in body.get("tools", [])]
        calls = self.play(body, offered, results)
        if calls is None:
            return None
        made = []
        for at, call in enumerate(calls):
            function = {"name": call["name"], "arguments": json.dumps(call["input"])}
            made.append({"index": at, "id": f"call_{uuid.uuid4().hex[:16]}", "type": "function", "function": function})
        end = "tool_calls" if made else "stop"
        given, out, cached, _ = tokens(self.turn)
        usage = {"prompt_tokens": given + cached, "completion_tokens": out, "total_tokens": given + cached + out}
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": body.get("model")}
        message = {"role": "assistant", "content": self.turn.get("text"), **({"tool_calls": made} if made else {})}
        if not body.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": end}
            return self.whole({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
        head["object"] = "chat.completion.chunk"
        return self.stream(
            [
                (None, {**head, "choices": [{"index": 0, "delta": message, "finish_reason": None}]}),
                (None, {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": end}], "usage": usage}),
                (None, "[DONE]"),
            ]
        )

    def gemini(self, body: Any, *, streamed: bool) -> None:
        parts = [part for content in body.get("contents", []) for part in content.get("parts", [])]
        declared = [tool.get("functionDeclarations", []) for tool in body.get("tools", [])]
        offered = [function.get("name", "") for functions in declared for function in functions]
        calls = self.play(body, offered, sum("functionResponse" in part for part in parts))
        if calls is None:
            return None
        out: list[dict[str, Any]] = [{"text": self.turn["text"]}] if self.turn.get("text") else []
        out += [{"functionCall": {"name": call["name"], "args": call["input"]}} for call in calls]
        given, made, cached, _ = tokens(self.turn)
        usage = {"promptTokenCount": given + cached, "candidatesTokenCount": made}
        usage |= {"totalTokenCount": given + cached + made}
        candidate = {"index": 0, "content": {"role": "model", "parts": out}, "finishReason": "STOP"}
        answer = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "stub"}
        return self.stream([(None, answer)]) if streamed else self.whole(answer)


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fresh = os.path.join(FOLDER, "port.new")
    with open(fresh, "w", encoding="utf-8") as stream:
        stream.write(str(server.server_address[1]))
    os.replace(fresh, os.path.join(FOLDER, "port"))
    sys.stdin.read()


if __name__ == "__main__":
    main()
