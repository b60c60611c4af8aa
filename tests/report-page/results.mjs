// Folders of results to look at: what the program writes, and what is wrong with folders in the world.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

const REPOSITORY = resolve(import.meta.dirname, "../..");
const PROGRAM = resolve(process.env.CACHECAST ?? join(REPOSITORY, "target/release/cachecast"));

if (!existsSync(PROGRAM)) throw new Error(`${PROGRAM} is not there: cargo build --release first, or name it in CACHECAST`);

export function cachecast(folder, ...words) {
  return execFileSync(PROGRAM, words, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** The shipped sweep over bucket counts, with fewer seeds. */
export function sweep(folder) {
  const out = join(folder, "bucket-cardinality");
  cachecast(REPOSITORY, "sweep", "scenarios/bucket-cardinality.toml", "--seeds", "3", "--report", "--quiet", "--out", out);
  return out;
}

/** Rows of a CSV file without quotes around commas, as objects. */
export function rowsOf(file) {
  const [header, ...lines] = readFileSync(file, "utf8").trimEnd().split("\n").map((line) => line.split(","));
  return lines.map((fields) => Object.fromEntries(header.map((name, at) => [name, fields[at]])));
}

/** Text that is markup to whoever takes it for that. */
export const HOSTILE = "</script><img src=x onerror=\"globalThis.taken=1\">&lt;\u2028\u2029'\"`${1}{{data}}";

/** A sweep whose title, workload and file are hostile, and in whose files keys and values were made so too. */
export function hostile(folder) {
  const name = "a'\"<b>&\u2028{{data}}";
  const scenario = join(folder, `${name}.toml`);
  const workload = JSON.stringify(HOSTILE).replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");
  writeFileSync(scenario, `
title = ${workload}
duration = "5m"
seeds = 2
[client.key]
strategy = "buckets"
[client.workload.${workload}]
arrivals = { process = "poisson", rate = "30/min" }
[client.workload.${workload}.shared_prefix]
prefix_tokens = 3000
tail_tokens = 100
output_tokens = 50
[provider]
profile = "openai-classic"
[[sweep.axis]]
path = "client.key.buckets"
values = [1, 2, 8]
[[sweep.axis]]
path = "provider.routing.rule"
values = ["home", "pool"]
`);
  const out = join(folder, `out <i>&"' ${"\u2028"}`);
  cachecast(folder, "sweep", scenario, "--report", "--quiet", "--out", out);
  const field = `"${HOSTILE.replaceAll('"', '""')}"`;
  const replace = (file, from, to) => {
    const path = join(out, file);
    writeFileSync(path, readFileSync(path, "utf8").replaceAll(from, to));
  };
  replace("summary.csv", ",pool,", `,${field},`);
  replace("inside_fleet.csv", ",bucket-0,", `,${field},`);
  replace("inside_minutes.csv", ",bucket-0,", `,${field},`);
  writeFileSync(join(out, "card.txt"), HOSTILE);
  cachecast(folder, "report", out, "--quiet");
  return out;
}

/** A folder of which much is missing: a column, a file's content, and what it says of its version. */
export function damaged(folder, whole) {
  const out = join(folder, "damaged");
  mkdirSync(out);
  const copy = (file, change) => writeFileSync(join(out, file), change(readFileSync(join(whole, file), "utf8")));
  const without = (name) => (text) => {
    const lines = text.trimEnd().split("\n").map((line) => line.split(","));
    const at = lines[0].indexOf(name);
    return lines.map((fields) => fields.filter((_, place) => place !== at).join(",")).join("\n") + "\n";
  };
  copy("summary.csv", without("ttft_p95_ms"));
  copy("inside.csv", (text) => text);
  copy("inside_minutes.csv", () => "");
  copy("inside_calls.csv", (text) => `${text}1,2,3\n`);
  copy("about.json", (text) => text.replace(/"version": "[^"]*"/, '"version": "0.0.1"'));
  cachecast(folder, "report", out, "--quiet");
  return out;
}
