#!/usr/bin/env node
// Prisma's query engine 5.17 in its WebAssembly build, behind the command line and the HTTP interface of the native one.
//
// LiteLLM reaches its database through `prisma` for Python, which needs the native engine from Prisma's own server.
// Where that cannot be reached, peers.py copies this file beside npm's @prisma/client, which carries the same engine as
// WebAssembly. The client speaks GraphQL; that build only JSON: so each question is translated, and its answer back.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");

const VERSION = "393aa359c9ad4a4bb28630fb5613f9c281cde053"; // 5.17.0, which prisma for Python 0.15 expects
if (process.argv.includes("--version")) {
  console.log(`query-engine ${VERSION}`);
  process.exit(0);
}

const { parse } = require("graphql");
const { Pool } = require("pg");
const { PrismaPg } = require("@prisma/adapter-pg");
const { bindAdapter } = require("@prisma/driver-adapter-utils");
const runtime = path.join(path.dirname(require.resolve("@prisma/client/package.json")), "runtime");
const build = require(path.join(runtime, "query_engine_bg.postgresql.js"));

const ACTIONS = [
  "findUnique", "findFirst", "findMany", "createOne", "createMany", "updateOne", "updateMany",
  "deleteOne", "deleteMany", "upsertOne", "aggregate", "groupBy", "queryRaw", "executeRaw",
];
const OR_THROW = "OrThrow";
const CONNECTIONS = 10; // LiteLLM's own default for one worker
const TEXT_LIKE = { 19: 25, 1003: 1009 }; // PostgreSQL's `name` and `name[]`, which this version's adapter does not know

const queryable = Object.getPrototypeOf(PrismaPg.prototype);
const performIO = queryable.performIO;
queryable.performIO = async function (query) {
  const result = await performIO.call(this, query);
  for (const field of (result.ok && result.value.fields) || []) {
    field.dataTypeID = TEXT_LIKE[field.dataTypeID] || field.dataTypeID;
  }
  return result;
};

function readValue(node) {
  switch (node.kind) {
    case "NullValue":
      return null;
    case "IntValue":
      return Number.isSafeInteger(Number(node.value)) ? Number(node.value) : { $type: "BigInt", value: node.value };
    case "FloatValue":
      return Number(node.value);
    case "ListValue":
      return node.values.map(readValue);
    case "ObjectValue":
      return Object.fromEntries(node.fields.map((field) => [field.name.value, readValue(field.value)]));
    default:
      return node.value;
  }
}

function readArguments(field) {
  return Object.fromEntries((field.arguments || []).map((one) => [one.name.value, readValue(one.value)]));
}

function readSelection(set) {
  const selection = {};
  for (const field of set ? set.selections : []) {
    const isPlain = !field.selectionSet && !(field.arguments && field.arguments.length);
    selection[field.name.value] = isPlain || {
      arguments: readArguments(field),
      selection: field.selectionSet && readSelection(field.selectionSet),
    };
  }
  return selection;
}

function translate(text) {
  const field = parse(text, { noLocation: true }).definitions[0].selectionSet.selections[0];
  const name = field.name.value;
  const isThrowing = name.endsWith(OR_THROW);
  const bare = isThrowing ? name.slice(0, -OR_THROW.length) : name;
  const action = ACTIONS.find((one) => bare.startsWith(one));
  const query = { arguments: readArguments(field), selection: readSelection(field.selectionSet) };
  const question = { modelName: bare.slice(action.length) || undefined, action: action + (isThrowing ? OR_THROW : "") };
  return { question: { ...question, query }, key: (field.alias || field.name).value };
}

function withoutTypes(value) {
  if (Array.isArray(value)) return value.map(withoutTypes);
  if (!value || typeof value !== "object") return value;
  if ("$type" in value) return value.$type === "BigInt" ? Number(value.value) : value.value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, withoutTypes(inner)]));
}

function openJson(value) {
  (value.types || []).forEach((type, at) => {
    if (type !== "json") return;
    for (const row of value.rows) if (typeof row[at] === "string") row[at] = JSON.parse(row[at]);
  });
}

function answer(result, key) {
  if (!result.data) return result;
  const [value] = Object.values(result.data);
  if (value && value.columns) openJson(value);
  return { ...result, data: { [key]: withoutTypes(value) } };
}

function complain(error) {
  const message = String(error.message || error);
  return { errors: [{ error: message, user_facing_error: { message, is_panic: false } }] };
}

async function connect() {
  let url = process.env.DATABASE_URL;
  for (const one of JSON.parse(process.env.OVERWRITE_DATASOURCES || "[]")) url = one.url || url;
  const pool = new Pool({ connectionString: url.replace(/\?.*/, ""), max: CONNECTIONS });
  const module = new WebAssembly.Module(fs.readFileSync(path.join(runtime, "query_engine_bg.postgresql.wasm")));
  build.__wbg_set_wasm(new WebAssembly.Instance(module, { "./query_engine_bg.js": build }).exports);
  const options = {
    datamodel: fs.readFileSync(process.env.PRISMA_DML_PATH, "utf8"),
    logLevel: "error",
    logQueries: false,
    configDir: ".",
    env: process.env,
    ignoreEnvVarErrors: true,
    datasourceOverrides: {},
    engineProtocol: "json",
  };
  const engine = new build.QueryEngine(options, () => {}, bindAdapter(new PrismaPg(pool)));
  await engine.connect("{}");
  return engine;
}

async function handle(engine, request, body) {
  const [where] = request.url.split("?");
  if (where === "/status") return { status: "ok" };
  if (where === "/metrics") return { counters: [], gauges: [], histograms: [] };
  if (where === "/transaction/start") return JSON.parse(await engine.startTransaction(body, "{}"));
  if (where !== "/") {
    const [, , id, verb] = where.split("/");
    const end = verb === "commit" ? engine.commitTransaction(id, "{}") : engine.rollbackTransaction(id, "{}");
    return JSON.parse((await end) || "{}");
  }
  const transaction = request.headers["x-transaction-id"];
  const asked = JSON.parse(body);
  const all = (asked.batch || [asked]).map((one) => translate(one.query));
  if (!asked.batch) {
    return answer(JSON.parse(await engine.query(JSON.stringify(all[0].question), "{}", transaction)), all[0].key);
  }
  const batch = { batch: all.map((one) => one.question), transaction: asked.transaction ? {} : undefined };
  const said = JSON.parse(await engine.query(JSON.stringify(batch), "{}", transaction));
  return said.errors ? said : { batchResult: said.batchResult.map((one, at) => answer(one, all[at].key)) };
}

connect().then((engine) => {
  const server = http.createServer((request, response) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", async () => {
      const said = await handle(engine, request, Buffer.concat(parts).toString()).catch(complain);
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify(said));
    });
  });
  server.keepAliveTimeout = 600_000;
  server.listen(Number(process.argv[process.argv.indexOf("-p") + 1]));
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));
