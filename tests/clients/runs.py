"""The official Python client on runs, in both eras of the protocol and on both roads.

Arguments: URL of the endpoint, the folder in which the agent's gates are opened, then the command of
the stdio server. Prints one JSON document. Way N has the issues 10N to 10N+3; the agent of each
stands at a gate until this script opens it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

from mcp.client import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, Request, RequestParams, ResourceTemplateReference, Result

Answer = dict[str, Any]
ENDS = {"completed", "failed", "cancelled"}
URL, GATES, *COMMAND = sys.argv[1:]


def open_gate(issue: int) -> None:
    (Path(GATES) / f"open-plan-{issue}").write_text("")


async def call(client: Client, name: str, arguments: Answer, **more: Any) -> Answer:
    result = await client.call_tool(name, arguments, **more)
    if result.is_error:
        raise RuntimeError(f"{name}: {result.structured_content}")
    return result.structured_content


async def ended(client: Client, run: str, **more: Any) -> Answer:
    """Waits in pieces, as clients with a time limit have to."""
    while True:
        state = await call(client, "wait_adw_workflow", {"adw_id": run, "timeout_s": 20}, **more)
        if state["ended"]:
            return state


async def held(client: Client, issue: int) -> str:
    started = await call(client, "trigger_adw_workflow", {"issue_number": issue, "phases": ["plan"]})
    return started["adw_id"]


async def completed(client: Client, issue: int, heard: asyncio.Event) -> Answer:
    run = await held(client, issue)
    again = await call(client, "trigger_adw_workflow", {"issue_number": issue, "phases": ["plan"]})
    assert (again["adw_id"], again["already_running"]) == (run, True), again
    address = f"adw://runs/{run}"
    is_modern = client.protocol_version >= "2026-07-28"
    subscribes = bool(client.server_capabilities.resources.subscribe)
    progress: list[str] = []

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        progress.append(message or "")
        open_gate(issue)

    async with AsyncExitStack() as stack, asyncio.timeout(300):
        if is_modern:
            listening = client.listen(resource_subscriptions=[address])
            events = await stack.enter_async_context(listening)
        elif subscribes:
            await client.subscribe_resource(address)
        end = await ended(client, run, progress_callback=on_progress)
        if is_modern:
            assert (await anext(events)).uri == address
            heard.set()
        elif subscribes:
            await heard.wait()
            await client.unsubscribe_resource(address)
    texts = []
    for part in ("", "/state", "/log/plan"):
        texts.append((await client.read_resource(address + part)).contents[0].text)
    template = ResourceTemplateReference(type="ref/resource", uri="adw://runs/{adw_id}")
    known = (await client.complete(template, {"name": "adw_id", "value": run[:2]})).completion.values
    prompt = await client.get_prompt("diagnose_run", {"adw_id": run})
    return {
        "status": end["status"],
        "read": json.loads(texts[0])["status"],
        "state": json.loads(texts[1])["adw_id"] == run,
        "log": len(texts[2]) > 0,
        "completion": run in known,
        "prompt": run in prompt.messages[0].content.text,
        "progress": len(progress) > 0,
        "subscribed": is_modern or subscribes,
        "heard": heard.is_set(),
    }


async def cancelled(client: Client, issue: int) -> str:
    run = await held(client, issue)
    await call(client, "cancel_adw_workflow", {"adw_id": run})
    return (await ended(client, run))["status"]


async def refused(client: Client) -> Answer:
    unknown = await client.call_tool("get_adw_state", {"adw_id": "00000000"})
    assert unknown.is_error
    try:
        await client.call_tool("no_such_tool", {})
    except MCPError as error:
        return {"run": unknown.structured_content["error"]["code"], "tool": error.code}
    raise RuntimeError("a tool that is not there was called")


class TaskParams(RequestParams):
    task_id: str


class GetTask(Request[TaskParams, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"
    name_param = "taskId"


class CancelTask(Request[TaskParams, Literal["tasks/cancel"]]):
    method: Literal["tasks/cancel"] = "tasks/cancel"
    name_param = "taskId"


class Created(Result):
    result_type: Literal["task"]
    task_id: str
    status: str
    poll_interval_ms: int


class Task(Result):
    task_id: str
    status: str
    result: Answer | None = None


class Tasks(ClientExtension):
    """SEP-2663 out of the client's own parts: it brings the seam, not the extension."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, issue: int) -> None:
        self.issue = issue
        self.seen: list[str] = []

    def claims(self) -> list[ResultClaim[Created]]:
        return [ResultClaim(result_type="task", model=Created, resolve=self.resolve)]

    async def resolve(self, created: Created, context: ClaimContext) -> CallToolResult:
        open_gate(self.issue)
        task = await settled(context.session, created, self.seen)
        return CallToolResult.model_validate(task.result)


async def settled(session: Any, created: Created, seen: list[str]) -> Task:
    while True:
        task = await session.send_request(GetTask(params=TaskParams(task_id=created.task_id)), Task)
        assert task.task_id == created.task_id
        seen.append(task.status)
        if task.status in ENDS:
            return task
        await asyncio.sleep(created.poll_interval_ms / 1000)


async def tasks(client: Client, extension: Tasks) -> Answer:
    """A run as a task: waited for by the client itself, and cancelled."""
    arguments = {"issue_number": extension.issue, "phases": ["plan"]}
    done = await call(client, "trigger_adw_workflow", arguments)
    arguments = {"issue_number": extension.issue + 1, "phases": ["plan"]}
    created = await client.session.call_tool("trigger_adw_workflow", arguments, allow_claimed=True)
    assert isinstance(created, Created), created
    await client.session.send_request(CancelTask(params=TaskParams(task_id=created.task_id)), Result)
    end = await settled(client.session, created, [])
    state = await call(client, "get_adw_state", {"adw_id": created.task_id})
    return {
        "first": extension.seen[0],
        "result": done["status"],
        "cancelled": end.status,
        "run": state["status"],
    }


async def go(issue: int, how: Any, mode: str) -> Answer:
    heard = asyncio.Event()

    async def on_message(message: Any) -> None:
        if getattr(message, "method", None) == "notifications/resources/updated":
            heard.set()

    async with Client(how(), mode=mode, cache=None, message_handler=on_message) as client:
        report: Answer = {"revision": client.protocol_version, "server": client.server_info.name}
        names = {tool.name for tool in (await client.list_tools()).tools}
        report["tools"] = {"trigger_adw_workflow", "wait_adw_workflow", "get_usage"} <= names
        report["completed"] = await completed(client, issue, heard)
        report["cancelled"] = await cancelled(client, issue + 1)
        report["refused"] = await refused(client)
    if report["revision"] >= "2026-07-28":
        extension = Tasks(issue + 2)
        async with Client(how(), mode=mode, cache=None, extensions=[extension]) as client:
            await client.list_tools()
            report["tasks"] = await tasks(client, extension)
    return report


async def main() -> None:
    def stdio() -> Any:
        return stdio_client(StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env=dict(os.environ)))

    ways: list[tuple[str, Any, str]] = [
        ("http auto", lambda: URL, "auto"),
        ("http legacy", lambda: URL, "legacy"),
        ("stdio auto", stdio, "auto"),
        ("stdio legacy", stdio, "legacy"),
    ]
    going = [go(10 * (n + 1), how, mode) for n, (_, how, mode) in enumerate(ways)]
    reports = await asyncio.gather(*going)
    print(json.dumps({name: report for (name, _, _), report in zip(ways, reports, strict=True)}))


asyncio.run(main())
