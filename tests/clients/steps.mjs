// The official TypeScript clients, both of their generations, go through every step workflow.
// Arguments: URL of the endpoint, then the command of the stdio server. Prints one JSON document.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Client as OldClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as OldHttp } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { StdioClientTransport as OldStdio } from "@modelcontextprotocol/sdk/client/stdio.js";

const [url, command, ...args] = process.argv.slice(2);
const who = { name: "typescript", version: "1" };
const stdio = { command, args, env: { ...process.env } };

const ways = {
  "v2 modern http": () => [new Client(who, { versionNegotiation: { mode: "auto" } }), new StreamableHTTPClientTransport(new URL(url))],
  "v2 legacy http": () => [new Client(who), new StreamableHTTPClientTransport(new URL(url))],
  "v2 modern stdio": () => [new Client(who, { versionNegotiation: { mode: "auto" } }), new StdioClientTransport(stdio)],
  "v1 http": () => [new OldClient(who), new OldHttp(new URL(url))],
  "v1 stdio": () => [new OldClient(who), new OldStdio(stdio)],
};

const output = (step) => ({
  summary: `did ${step}`,
  artifacts: [{ type: "markdown", title: `${step}.md`, content: `# ${step}` }],
  references: ["src/lib.rs"],
  confidence: 0.9,
});

// The words of each dialect, and where an answer says what comes next.
const dialects = {
  "seed 003": {
    execution: "execution_id",
    start: (name) => ({ workflow_name: name }),
    submit: (token, step) => ({ token, output: output(step) }),
    next: (answer) => [answer.new_token, answer.step_name],
  },
  "seed 001": {
    execution: "task_id",
    start: (name) => ({ template_name: name, request: "continue" }),
    submit: (token, step) => ({ step_token: token, model_output_so_far: output(step) }),
    next: (answer) => [answer.new_step_token, answer.next_step_contract?.step_name],
  },
};

async function call(client, name, args) {
  const result = await client.callTool({ name, arguments: args });
  if (result.isError) throw new Error(`${name}: ${JSON.stringify(result.structuredContent)}`);
  return result.structuredContent;
}

async function walk(client, dialect, name) {
  const steps = [];
  let answer = await call(client, "workflow_next_step", { ...dialect.start(name) });
  while (answer.workflow_state !== "completed") {
    const [token, step] = dialect.next(answer);
    if (!token) {
      answer = await call(client, "workflow_control", { [dialect.execution]: answer.execution_id, action: "approve" });
      continue;
    }
    steps.push(step);
    answer = await call(client, "workflow_next_step", dialect.submit(token, step));
  }
  return steps;
}

async function go([client, transport]) {
  await client.connect(transport);
  const { tools } = await client.listTools();
  const { resources } = await client.listResources();
  // Throws where an address is none.
  resources.forEach((resource) => new URL(resource.uri));
  const listed = await client.readResource({ uri: "midex://workflow/available_workflows" });
  const names = JSON.parse(listed.contents[0].text).map((workflow) => workflow.name);
  const walks = {};
  for (const [words, dialect] of Object.entries(dialects)) {
    for (const name of names) walks[`${name}, ${words}`] = await walk(client, dialect, name);
  }
  await client.close();
  return { tools: tools.map((tool) => tool.name), workflows: names, walks };
}

const report = {};
for (const [name, connect] of Object.entries(ways)) report[name] = await go(connect());
console.log(JSON.stringify(report));
process.exit(0);
