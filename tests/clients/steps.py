"""The official Python client goes through every step workflow, in both eras of the protocol.

Arguments: URL of the endpoint, then the command of the stdio server. Prints one JSON document.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from pydantic import AnyUrl

Answer = dict[str, Any]


def output(step: str) -> Answer:
    return {
        "summary": f"did {step}",
        "artifacts": [{"type": "markdown", "title": f"{step}.md", "content": f"# {step}"}],
        "references": ["src/lib.rs"],
        "confidence": 0.9,
    }


class Seed003:
    execution = "execution_id"

    def start(self, name: str) -> Answer:
        return {"workflow_name": name}

    def submit(self, token: str, step: str) -> Answer:
        return {"token": token, "output": output(step)}

    def next(self, answer: Answer) -> tuple[str | None, str | None]:
        return answer.get("new_token"), answer.get("step_name")


class Seed001:
    execution = "task_id"

    def start(self, name: str) -> Answer:
        return {"template_name": name, "request": "continue"}

    def submit(self, token: str, step: str) -> Answer:
        return {"step_token": token, "model_output_so_far": output(step)}

    def next(self, answer: Answer) -> tuple[str | None, str | None]:
        contract = answer.get("next_step_contract") or {}
        return answer.get("new_step_token"), contract.get("step_name")


async def call(client: Client, name: str, arguments: Answer) -> Answer:
    result = await client.call_tool(name, arguments)
    if result.is_error:
        raise RuntimeError(f"{name}: {result.structured_content}")
    return result.structured_content


async def walk(client: Client, dialect: Seed001 | Seed003, name: str) -> list[str]:
    steps = []
    answer = await call(client, "workflow_next_step", dialect.start(name))
    while answer["workflow_state"] != "completed":
        token, step = dialect.next(answer)
        if token is None or step is None:
            approve = {dialect.execution: answer["execution_id"], "action": "approve"}
            answer = await call(client, "workflow_control", approve)
            continue
        steps.append(step)
        answer = await call(client, "workflow_next_step", dialect.submit(token, step))
    return steps


async def go(client: Client) -> Answer:
    async with client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        for resource in (await client.list_resources()).resources:
            AnyUrl(str(resource.uri))
        listed = await client.read_resource("midex://workflow/available_workflows")
        names = [workflow["name"] for workflow in json.loads(listed.contents[0].text)]
        walks = {}
        for words, dialect in (("seed 003", Seed003()), ("seed 001", Seed001())):
            for name in names:
                walks[f"{name}, {words}"] = await walk(client, dialect, name)
        return {"tools": tools, "workflows": names, "walks": walks}


async def main() -> None:
    url, command, *args = sys.argv[1:]
    server = StdioServerParameters(command=command, args=args, env=dict(os.environ))
    report = {
        "modern http": await go(Client(url, mode="2026-07-28")),
        "legacy http": await go(Client(url, mode="legacy")),
        "modern stdio": await go(Client(stdio_client(server), mode="2026-07-28")),
        "legacy stdio": await go(Client(stdio_client(server), mode="legacy")),
    }
    print(json.dumps(report))


asyncio.run(main())
