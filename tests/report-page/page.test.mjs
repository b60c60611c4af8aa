// The page of a report as a person uses it: filters, tables, themes; its numbers are those of the CSV files, it asks for nothing
// from anywhere, it is open to those who do not see it, and text stays text.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { accessibilityFaults, openBrowser, openPage } from "./browser.mjs";
import { HOSTILE, cachecast, damaged, hostile, rowsOf, sweep } from "./results.mjs";

let folder;
let results;
let browser;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "report-results-"));
  results = sweep(folder);
  browser = await openBrowser();
});

after(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

const open = (file = join(results, "report.html"), size) => openPage(browser.context, file, size);
const chip = (page, path, value) => page.locator(`[data-path="${path}"] .chip`, { hasText: new RegExp(`^${value}$`) });
const summary = (page) => page.locator('details[data-file="summary.csv"]');
const column = (page, name) => summary(page).locator(`tbody td[data-column="${name}"]`).allTextContents();

test("numbers in the page are those of the file", async () => {
  const { page, complaints } = await open();
  const rows = rowsOf(join(results, "summary.csv"));
  const shown = await column(page, "token_hit_ratio");
  const said = rows.map((row) => `${Number(row.token_hit_ratio).toFixed(4)} ±${Number(row.token_hit_ratio_ci95).toFixed(4)}`);
  assert.equal(shown.length, 40);
  assert.deepEqual(shown, said);
  const best = Math.max(...rows.map((row) => Number(row.token_hit_ratio)));
  assert.equal(await page.locator(".tile strong").first().textContent(), best.toFixed(4));
  assert.deepEqual(complaints, []);
  await page.close();
});

test("points stand where the file says", async () => {
  const { page } = await open();
  const rows = rowsOf(join(results, "summary.csv"));
  for (const [figure, name] of [["token_hit_ratio", "token_hit_ratio"], ["cost", "cost_usd"]]) {
    const points = await page.locator(`#figure-${figure} .mark[data-row]`).evaluateAll((marks) =>
      marks.map((mark) => [Number(mark.dataset.row), Number(mark.getAttribute("transform").match(/[ ,]([-\d.]+)\)/)[1])]));
    assert.equal(points.length, 40, "a point for each row");
    const values = points.map(([row, y]) => [Number(rows[row][name]), y]).sort((a, b) => a[0] - b[0]);
    const [[low, bottom], [high, top]] = [values[0], values.at(-1)];
    for (const [value, y] of values) {
      const expected = bottom + ((value - low) / (high - low)) * (top - bottom);
      assert.ok(Math.abs(y - expected) < 0.01, `${figure}: ${value} stands at ${y}, not at ${expected}`);
    }
  }
  await page.close();
});

test("a filter leaves out rows of charts and tables", async () => {
  const { page, complaints } = await open();
  const marks = page.locator("#figure-token_hit_ratio .mark[data-row]");
  assert.equal(await marks.count(), 40);
  await chip(page, "client.retention", "24h").click();
  assert.equal(await chip(page, "client.retention", "in_memory").getAttribute("aria-pressed"), "false");
  assert.equal(await marks.count(), 20);
  assert.deepEqual([...new Set(await column(page, "client.retention"))], ["24h"]);
  await chip(page, "provider.routing.rule", "pool").click();
  await chip(page, "client.key.buckets", "8").click();
  await chip(page, "client.key.buckets", "32").click();
  assert.deepEqual(await column(page, "client.key.buckets"), ["8", "32"]);
  assert.equal(await page.locator(".filters .count").textContent(), "2 of 40 rows shown");
  const rows = rowsOf(join(results, "summary.csv")).filter((row) =>
    row["client.retention"] === "24h" && row["provider.routing.rule"] === "pool" && ["8", "32"].includes(row["client.key.buckets"]));
  assert.deepEqual(await column(page, "cell"), rows.map((row) => row.cell));
  await page.locator("#figure-token_hit_ratio summary").click();
  await page.locator("#figure-token_hit_ratio tbody tr").first().waitFor();
  assert.equal(await page.locator("#figure-token_hit_ratio tbody tr").count(), 2, "the chart's own table follows");
  for (let left = 3; left > 0; left -= 1) await page.locator(".filter .quiet:visible").first().click();
  assert.equal(await marks.count(), 40);
  assert.deepEqual(complaints, []);
  await page.close();
});

test("a table sorts and searches", async () => {
  const { page } = await open();
  const header = summary(page).locator('th button', { hasText: "token hit ratio" }).first();
  await header.click();
  const numbers = async () => (await column(page, "token_hit_ratio")).map((text) => Number(text.split(" ")[0]));
  const up = await numbers();
  assert.deepEqual(up, [...up].sort((a, b) => a - b));
  assert.ok(up[0] < up.at(-1));
  await header.click();
  assert.deepEqual(await numbers(), [...up].sort((a, b) => b - a));
  assert.equal(await summary(page).locator('th[aria-sort="descending"]').count(), 1);
  await summary(page).locator("input[type=search]").fill("pool");
  assert.deepEqual([...new Set(await column(page, "provider.routing.rule"))], ["pool"]);
  assert.match(await summary(page).locator(".count").textContent(), /^20 of 40 rows$/);
  await summary(page).locator("input[type=checkbox]").check();
  assert.equal((await column(page, "wait_p95_ms")).length, 20, "all columns on request");
  await page.close();
});

test("the theme is one's own choice and is kept", async () => {
  const { page, complaints } = await open();
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.emulateMedia({ colorScheme: "light" });
  const light = await ground();
  await page.locator(".theme label", { hasText: "dark" }).click();
  const dark = await ground();
  assert.notEqual(dark, light);
  await page.reload();
  assert.equal(await ground(), dark, "kept");
  await page.locator(".theme label", { hasText: "auto" }).click();
  assert.equal(await ground(), light);
  await page.emulateMedia({ colorScheme: "dark" });
  assert.equal(await ground(), dark, "auto follows the system");
  assert.deepEqual(complaints, []);
  await page.close();
});

test("an accessibility checker finds nothing, in both themes, narrow, and wide and filtered", async () => {
  for (const [width, colorScheme] of [[390, "light"], [390, "dark"], [1280, "light"], [1280, "dark"]]) {
    const { page } = await open(undefined, { width, height: 900 });
    await page.emulateMedia({ colorScheme });
    await page.evaluate(() => document.querySelectorAll("details").forEach((details) => { details.open = true; }));
    if (width > 1000) await chip(page, "provider.routing.rule", "pool").click();
    assert.deepEqual(await accessibilityFaults(page), [], `${width} ${colorScheme}`);
    await page.close();
  }
});

test("every chart has words and a table, an SVG and a CSV file", async () => {
  const { page } = await open();
  const figures = await page.locator("figure").all();
  assert.ok(figures.length >= 12, `${figures.length} figures`);
  const files = readdirSync(results);
  for (const figure of figures) {
    const drawing = figure.locator('[role="img"]');
    assert.ok((await drawing.getAttribute("aria-label")).length > 5);
    const words = await page.locator(`[id="${await drawing.getAttribute("aria-describedby")}"]`).textContent();
    assert.ok(words.length > 20, words);
    await figure.locator("summary").click();
    // It is filled once it is open.
    await figure.locator("tbody tr").first().waitFor();
    const links = await figure.locator(".files a").evaluateAll((links) => links.map((link) => link.getAttribute("href")));
    assert.ok(links.length === 2 && links.every((link) => files.includes(link)), links.join());
  }
  await page.close();
});

test("nothing is wider than a phone, and paper has no buttons", async () => {
  for (const width of [390, 1280, 1920]) {
    const { page } = await open(undefined, { width, height: 900 });
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${width}`);
    await page.emulateMedia({ media: "print" });
    assert.equal(await page.locator(".theme, .copy, .side nav").filter({ visible: true }).count(), 0);
    await page.close();
  }
});

test("the command that is shown makes the same results", async () => {
  const { page } = await open();
  const command = await page.locator(".command code").textContent();
  assert.equal(command, "cachecast sweep scenarios/bucket-cardinality.toml --seeds 3 --report");
  const again = join(folder, "again");
  cachecast(join(import.meta.dirname, "../.."), ...command.split(" ").slice(1), "--quiet", "--out", again);
  for (const file of readdirSync(results).filter((file) => file !== "report.html")) {
    assert.deepEqual(readFileSync(join(again, file)), readFileSync(join(results, file)), file);
  }
  await page.locator("#origin ~ .table .quiet").click();
  const tags = await page.locator("#origin ~ .table tbody td[data-column=says]").allTextContents();
  assert.ok(["doc", "fit", "guess", "scenario"].every((tag) => tags.includes(tag)), "every tag is there");
  await page.close();
});

test("hostile names stay text", async () => {
  const out = hostile(folder);
  const { page, complaints } = await open(join(out, "report.html"));
  await page.evaluate(() => document.querySelectorAll("details").forEach((details) => { details.open = true; }));
  await page.waitForTimeout(200);
  assert.equal(await page.evaluate(() => globalThis.taken), undefined);
  assert.equal(await page.locator("img, b, i, iframe").count(), 0);
  assert.equal(await page.locator("script").count(), 2);
  assert.equal(await page.locator("h1").textContent(), HOSTILE);
  assert.ok((await page.title()).startsWith("a'\"<b>&"), await page.title());
  assert.ok((await page.locator("pre.card").textContent()).includes(HOSTILE));
  const bodies = await page.locator("td").allTextContents();
  assert.ok(bodies.filter((text) => text === HOSTILE).length > 3, "keys and values are shown as they are");
  assert.ok((await page.locator(".chip").allTextContents()).includes(HOSTILE));
  await chip(page, "client.key.buckets", "8").click();
  await page.locator("#figure-token_hit_ratio .mark[data-row]").first().hover();
  assert.deepEqual(complaints, []);
  await page.close();
  for (const file of readdirSync(out).filter((file) => file.endsWith(".svg"))) {
    const { page, complaints } = await open(join(out, file));
    assert.equal(await page.evaluate(() => document.documentElement.localName), "svg", `${file} is well-formed`);
    assert.equal(await page.evaluate(() => globalThis.taken), undefined);
    assert.equal(await page.evaluate(() => document.querySelectorAll("img, script").length), 0, file);
    assert.deepEqual(complaints, [], file);
    await page.close();
  }
});

test("of a damaged folder it says what is missing and shows the rest", async () => {
  const { page, complaints } = await open(join(damaged(folder, results), "report.html"));
  const said = (await page.locator(".problems li").allTextContents()).join("\n");
  for (const words of [
    "summary.csv: has no column ttft_p95_ms",
    "inside_minutes.csv: is empty",
    "inside_calls.csv: 1 rows do not fit the header",
    "about.json: these results are of version 0.0.1",
  ]) assert.ok(said.includes(words), `${words}\n${said}`);
  assert.equal(await page.locator("#figure-ttft_p95, #figure-front, #figure-minutes, #figure-fleet").count(), 0);
  assert.equal(await page.locator("#figure-token_hit_ratio .mark[data-row]").count(), 40);
  assert.equal(await page.locator("#figure-session").count(), 1);
  assert.equal((await column(page, "token_hit_ratio")).length, 40);
  assert.deepEqual(complaints, []);
  assert.deepEqual(await accessibilityFaults(page), []);
  await page.close();
});
