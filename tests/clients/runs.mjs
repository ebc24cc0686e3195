// The official TypeScript clients, both of their generations, on runs.
// Arguments: URL of the endpoint, the folder in which the agent's gates are opened, then the command
// of the stdio server. Prints one JSON document. Way N has the issues 10N and 10N+1; the agent of
// each stands at a gate until this script opens it.
import { writeFileSync } from "node:fs";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Client as OldClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as OldHttp } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { StdioClientTransport as OldStdio } from "@modelcontextprotocol/sdk/client/stdio.js";
import { ResourceUpdatedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";

const [url, gates, command, ...args] = process.argv.slice(2);
const who = { name: "typescript", version: "1" };
const auto = { versionNegotiation: { mode: "auto" } };
const stdio = { command, args, env: { ...process.env } };

// A client of the second generation, with what differs from the first.
function second(transport, options) {
  const client = new Client(who, options);
  return {
    client,
    transport,
    call: (name, args, options) => client.callTool({ name, arguments: args }, options),
    onUpdated: (heard) => client.setNotificationHandler("notifications/resources/updated", heard),
    revision: () => client.getNegotiatedProtocolVersion(),
  };
}

function first(transport) {
  const client = new OldClient(who);
  // It keeps what was negotiated with its transport alone, and with HTTP only.
  let revision;
  const keep = transport.setProtocolVersion?.bind(transport);
  transport.setProtocolVersion = (version) => {
    revision = version;
    keep?.(version);
  };
  return {
    client,
    transport,
    call: (name, args, options) => client.callTool({ name, arguments: args }, undefined, options),
    onUpdated: (heard) => client.setNotificationHandler(ResourceUpdatedNotificationSchema, heard),
    revision: () => revision,
  };
}

const ways = {
  "v2 http auto": () => second(new StreamableHTTPClientTransport(new URL(url)), auto),
  "v2 http legacy": () => second(new StreamableHTTPClientTransport(new URL(url))),
  "v2 stdio auto": () => second(new StdioClientTransport(stdio), auto),
  "v2 stdio legacy": () => second(new StdioClientTransport(stdio)),
  "v1 http legacy": () => first(new OldHttp(new URL(url))),
  "v1 stdio legacy": () => first(new OldStdio(stdio)),
};

const open = (issue) => writeFileSync(`${gates}/open-plan-${issue}`, "");

async function call(way, name, args, options) {
  // The clients' own minute is too short for a machine that is busy with other tests.
  const result = await way.call(name, args, { timeout: 300_000, ...options });
  if (result.isError) throw new Error(`${name}: ${JSON.stringify(result.structuredContent)}`);
  return result.structuredContent;
}

// Waits in pieces, as clients with a time limit have to.
async function ended(way, adw_id, onprogress) {
  for (;;) {
    const state = await call(way, "wait_adw_workflow", { adw_id, timeout_s: 20 }, { onprogress });
    if (state.ended) return state;
  }
}

const trigger = (way, issue) =>
  call(way, "trigger_adw_workflow", { issue_number: issue, phases: ["plan"] });

// Subscribes in the words of the revision; answers how to end it, or nothing where there is no way.
async function subscribe(way, uri) {
  if (way.revision() >= "2026-07-28") {
    const stream = await way.client.listen({ resourceSubscriptions: [uri] });
    return () => stream.close();
  }
  if (!way.client.getServerCapabilities().resources.subscribe) return undefined;
  await way.client.subscribeResource({ uri });
  return () => way.client.unsubscribeResource({ uri });
}

async function completed(way, issue) {
  const { client } = way;
  const { adw_id } = await trigger(way, issue);
  const again = await trigger(way, issue);
  if (again.adw_id !== adw_id || !again.already_running) throw new Error(JSON.stringify(again));
  let hear;
  const heard = new Promise((resolve) => (hear = resolve));
  way.onUpdated(({ params }) => params.uri === `adw://runs/${adw_id}` && hear(true));
  const unsubscribe = await subscribe(way, `adw://runs/${adw_id}`);
  let progress = 0;
  const end = await ended(way, adw_id, () => {
    progress += 1;
    open(issue);
  });
  const updated = unsubscribe ? await heard : false;
  await unsubscribe?.();
  const read = async (uri) => (await client.readResource({ uri })).contents[0].text;
  const ref = { type: "ref/resource", uri: "adw://runs/{adw_id}" };
  const argument = { name: "adw_id", value: adw_id.slice(0, 2) };
  const { completion } = await client.complete({ ref, argument });
  const prompt = await client.getPrompt({ name: "diagnose_run", arguments: { adw_id } });
  return {
    status: end.status,
    read: JSON.parse(await read(`adw://runs/${adw_id}`)).status,
    state: JSON.parse(await read(`adw://runs/${adw_id}/state`)).adw_id === adw_id,
    log: (await read(`adw://runs/${adw_id}/log/plan`)).length > 0,
    completion: completion.values.includes(adw_id),
    prompt: prompt.messages[0].content.text.includes(adw_id),
    progress: progress > 0,
    subscribed: unsubscribe !== undefined,
    heard: updated,
  };
}

async function cancelled(way, issue) {
  const { adw_id } = await trigger(way, issue);
  await call(way, "cancel_adw_workflow", { adw_id });
  return (await ended(way, adw_id)).status;
}

async function refused(way) {
  const unknown = await way.call("get_adw_state", { adw_id: "00000000" });
  if (!unknown.isError) throw new Error("a run that is not there was told of");
  const tool = await way.call("no_such_tool", {}).then(() => "answered", (error) => error.code);
  return { run: unknown.structuredContent.error.code, tool };
}

async function go(way, issue) {
  await way.client.connect(way.transport);
  const { tools } = await way.client.listTools();
  const names = tools.map((tool) => tool.name);
  const wanted = ["trigger_adw_workflow", "wait_adw_workflow", "get_usage"];
  const report = {
    revision: way.revision(),
    server: way.client.getServerVersion().name,
    tools: wanted.every((name) => names.includes(name)),
    completed: await completed(way, issue),
    cancelled: await cancelled(way, issue + 1),
    refused: await refused(way),
  };
  await way.client.close();
  return report;
}

const names = Object.keys(ways);
const reports = await Promise.all(names.map((name, n) => go(ways[name](), 10 * (n + 1))));
console.log(JSON.stringify(Object.fromEntries(names.map((name, n) => [name, reports[n]]))));
process.exit(0);
