// Tables that can be sorted and searched; every number with its interval, every column with its unit.

const FIRST_ROWS = 60;
/** What is shown of a summary before one asks for all. */
const MAIN_COLUMNS = [
  "token_hit_ratio", "request_hit_ratio", "ceiling_lifetime_ratio", "ttft_p95_ms", "total_p95_ms", "overflow_share", "cost_usd",
  "saving_ratio", "requests", "token_hit_ratio_vs_baseline", "cost_usd_vs_baseline",
];

/** The columns that hold the interval of another are shown with that one. */
function ownColumns(table) {
  const intervals = new Set(table.columns.map((column) => column.ci).filter((ci) => ci !== undefined));
  return table.columns.map((_, at) => at).filter((at) => !intervals.has(at));
}

/** Of many columns those that say which row it is, and the main numbers. */
function mainColumns(table) {
  const own = ownColumns(table);
  const seeds = table.columns.findIndex((column) => column.name === "seeds");
  const main = own.filter((at) => at <= seeds || MAIN_COLUMNS.includes(table.columns[at].name));
  return own.length > 16 && main.length > 2 ? main : own;
}

let tableCount = 0;

/** A table as an element; `rows` are the rows it may show, asked for anew whenever the filter changes. */
function tableView(table, { caption, columns, rows, searchable }) {
  const state = { sort: null, down: false, query: "", all: false, columns };
  const id = `t${(tableCount += 1)}`;
  const body = h("tbody", {});
  const head = h("tr", {});
  const count = h("p", { class: "count", role: "status" });
  const more = h("button", { type: "button", class: "quiet", onclick: () => { state.all = true; draw(); } });

  function order(a, b) {
    const [left, right] = [table.rows[a][state.sort], table.rows[b][state.sort]];
    // Missing is last, whichever way.
    if (left === "" || right === "") return (left === "") - (right === "");
    const [x, y] = [Number(left), Number(right)];
    const by = Number.isFinite(x) && Number.isFinite(y) ? x - y : left < right ? -1 : left > right ? 1 : 0;
    return state.down ? -by : by;
  }

  function heading(at) {
    const { name, unit, meaning } = table.columns[at];
    const sorted = state.sort === at;
    const press = () => {
      state.down = sorted ? !state.down : false;
      state.sort = at;
      draw();
      head.querySelector(`[data-column="${at}"]`).focus();
    };
    const sign = h("span", { class: "sort", "aria-hidden": "true" }, sorted ? (state.down ? "▼" : "▲") : "");
    const words = [label(name), unit ? h("span", { class: "unit" }, unit) : null, sign];
    const button = h("button", { type: "button", "data-column": at, title: meaning || name, onclick: press }, words);
    return h("th", { scope: "col", "aria-sort": sorted ? (state.down ? "descending" : "ascending") : "none" }, button);
  }

  function cell(row, at) {
    const isNumber = numberAt(table, row, at) !== null;
    const plain = ["cell", "seeds", "seed", "call"].includes(table.columns[at].name) || table.columns[at].name.includes(".");
    const text = table.rows[row][at] ?? "";
    return h("td", { class: isNumber ? "number" : "", "data-column": table.columns[at].name }, plain ? text : shownAt(table, row, at));
  }

  function draw() {
    head.replaceChildren(...state.columns.map(heading));
    const query = state.query.toLowerCase();
    let shown = rows().filter((row) => !query || state.columns.some((at) => (table.rows[row][at] ?? "").toLowerCase().includes(query)));
    if (state.sort !== null) shown = [...shown].sort(order);
    const kept = state.all ? shown : shown.slice(0, FIRST_ROWS);
    body.replaceChildren(...kept.map((row) => h("tr", {}, state.columns.map((at) => cell(row, at)))));
    const all = table.rows.length;
    count.textContent = shown.length === all ? `${all} rows` : `${shown.length} of ${all} rows`;
    more.hidden = kept.length === shown.length;
    more.textContent = `Show all ${shown.length} rows`;
  }

  const tools = [];
  if (searchable) {
    const find = (event) => { state.query = event.target.value; draw(); };
    tools.push(h("label", { for: `${id}q` }, "Search"), h("input", { id: `${id}q`, type: "search", class: "search", oninput: find, autocomplete: "off" }));
    const own = ownColumns(table);
    if (own.length > columns.length) {
      const toggle = (event) => { state.columns = event.target.checked ? own : columns; draw(); };
      tools.push(h("label", { class: "check" }, h("input", { type: "checkbox", onchange: toggle }), ` all ${own.length} columns`));
    }
  }
  const grid = h("table", {}, h("caption", {}, caption), h("thead", {}, head), body);
  const scroll = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, grid);
  draw();
  return { element: h("div", { class: "table" }, h("div", { class: "tools" }, tools, count), scroll, more), draw };
}

/** Values under names as a table of this page's own. */
function plainTable(file, names, rows) {
  return { file, columns: names.map((name) => ({ name, unit: "", meaning: "" })), rows };
}
