// The page: what is on it, in which order, and what changes when one chooses something.

const main = document.getElementById("main");
const redraws = [];

function redraw() {
  tip.hidden = true;
  for (const draw of redraws) draw();
}

// --- The theme ----------------------------------------------------------------------------------------------------------

const THEMES = ["auto", "light", "dark"];

function remembered() {
  try { return THEMES.includes(localStorage.getItem("cachecast-theme")) ? localStorage.getItem("cachecast-theme") : "auto"; } catch { return "auto"; }
}

function setTheme(theme) {
  if (theme === "auto") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", theme);
  try { localStorage.setItem("cachecast-theme", theme); } catch { /* A page from a file may have no memory. */ }
}

function themeChoice() {
  const now = remembered();
  setTheme(now);
  const option = (theme) => h("label", {},
    h("input", { type: "radio", name: "theme", value: theme, checked: theme === now, onchange: () => setTheme(theme) }),
    h("span", {}, theme));
  return h("fieldset", { class: "theme" }, h("legend", { class: "hidden" }, "Theme"), THEMES.map(option));
}

// --- The head -----------------------------------------------------------------------------------------------------------

function seedsSaid(about) {
  if (about.seeds === 1) return `seed ${about.seed}`;
  return `seeds ${about.seed} to ${about.seed + about.seeds - 1}`;
}

function drawHead() {
  const { about } = DATA;
  const facts = about
    ? [`cachecast ${about.verb}`, about.name, seedsSaid(about), `version ${about.version}`]
    : [`results in ${DATA.folder}`, `drawn by version ${DATA.version}`];
  const asked = { fit: "What is the provider doing?", replay: "What would other choices have done?" };
  const title = about ? asked[about.verb] || about.title || about.name : DATA.folder;
  document.getElementById("top").append(
    h("div", { class: "bar" }, h("span", { class: "brand" }, brand(), "cachecast"), themeChoice()),
    h("div", { class: "lead" }, h("h1", {}, title), h("ul", { class: "facts" }, facts.map((fact) => h("li", {}, fact)))),
  );
}

function brand() {
  const bar = (x, y, height) => s("rect", { x, y, width: 4, height, rx: 1 });
  return s("svg", { class: "logo", width: 20, height: 20, viewBox: "0 0 20 20", "aria-hidden": "true" }, bar(1, 11, 8), bar(6, 7, 12), bar(11, 3, 16), s("path", { d: "M17 1v18" }));
}

function drawProblems() {
  if (DATA.problems.length === 0) return;
  main.append(h("section", { class: "problems", "aria-labelledby": "problems" },
    h("h2", { id: "problems" }, "What is missing here"),
    h("ul", {}, DATA.problems.map((problem) => h("li", {}, problem)))));
}

function drawTiles() {
  if (DATA.tiles.length === 0) return;
  const tile = ({ label, file, row, column, of }) => {
    const table = TABLES.get(file);
    const [value, half] = shownAt(table, row, column).split(" ±");
    const { unit } = table.columns[column];
    const detail = [half ? `±${half}` : "", unit && unit !== "share" ? unit : ""].filter(Boolean).join(" ");
    return h("div", { class: "tile" }, h("dt", {}, label), h("dd", {}, h("strong", {}, value), " ", h("span", { class: "half" }, detail)), of ? h("dd", { class: "of" }, of) : null);
  };
  main.append(h("section", { "aria-labelledby": "short" }, h("h2", { id: "short", class: "hidden" }, "In short"), h("dl", { class: "tiles" }, DATA.tiles.map(tile))));
}

function drawCard() {
  if (!DATA.card) return;
  main.append(h("section", { "aria-labelledby": "card" }, h("h2", { id: "card" }, "The recommendation"),
    h("pre", { class: "card", tabindex: "0", role: "region", "aria-label": "The recommendation in words" }, DATA.card)));
}

// --- The filter ---------------------------------------------------------------------------------------------------------

function filterGroup([column, name]) {
  const values = [...new Set(FILTERED.rows.map((row) => row[column]))];
  const all = () => chosen.get(column).size === values.length;
  const buttons = values.map((value) => h("button", {
    type: "button",
    class: "chip",
    "aria-pressed": "true",
    onclick: () => {
      const set = chosen.get(column);
      // The first choice among all is for one, not against one.
      if (all() && values.length > 1) chosen.set(column, new Set([value]));
      else if (set.has(value)) set.delete(value);
      else set.add(value);
      if (chosen.get(column).size === 0) chosen.set(column, new Set(values));
      press();
      redraw();
    },
  }, value === "" ? "(nothing)" : value));
  const reset = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => { chosen.set(column, new Set(values)); press(); redraw(); } }, "all");
  function press() {
    buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(chosen.get(column).has(values[at]))));
    reset.hidden = all();
  }
  return h("fieldset", { class: "filter", "data-path": FILTERED.columns[column].name },
    h("legend", { title: FILTERED.columns[column].name }, name), h("div", { class: "chips" }, buttons, reset));
}

function drawSide(sections) {
  const side = document.getElementById("side");
  const links = sections.map(([id, name]) => h("li", {}, h("a", { href: `#${id}` }, name)));
  side.append(h("nav", { "aria-label": "Contents" }, h("ul", {}, links)));
  if (!FILTER) return;
  const count = h("p", { class: "count", role: "status" });
  const draw = () => {
    const shown = FILTERED.rows.filter((_, row) => isShown(FILTERED, row)).length;
    count.textContent = `${shown} of ${FILTERED.rows.length} rows shown`;
  };
  redraws.push(draw);
  draw();
  const wide = matchMedia("(min-width: 1100px)").matches;
  const body = h("details", { class: "filters", open: wide }, h("summary", {}, h("h2", {}, "Filter")), h("p", { class: "hint" }, "Charts and tables show what is chosen. A first choice picks one value, further ones add to it."), FILTER.columns.map(filterGroup), count);
  side.append(body);
}

// --- Charts -------------------------------------------------------------------------------------------------------------

/** Links to files of the folder, where the page stands there. */
function files(...names) {
  if (!DATA.beside) return null;
  const link = (name) => h("a", { href: encodeURIComponent(name) }, name.split(".").pop().toUpperCase());
  return h("p", { class: "files" }, names.map((name) => [link(name), " "]));
}

function drawFigure(figure) {
  const table = TABLES.get(figure.file);
  if (!table) return null;
  const state = { row: null };
  const id = `figure-${figure.id}`;
  const area = h("div", { class: "area" });
  const legend = h("ul", { class: "legend" });
  const words = h("p", { class: "hidden", id: `${id}-words` });
  const picker = h("div", { class: "picker" });
  let rows = [];
  let view = null;
  const more = h("button", { type: "button", class: "quiet", onclick: () => { state.all = true; draw(); } });
  const details = h("details", {}, h("summary", {}, "The numbers of this chart"));
  const columns = figureColumns(figure, table);
  details.addEventListener("toggle", () => {
    if (details.open && !view) {
      view = tableView(table, { caption: figure.title, columns, rows: () => rows, searchable: false });
      details.append(view.element);
    }
  });
  const drawing = h("div", { class: "drawing", role: "img", "aria-label": figure.title, "aria-describedby": `${id}-words` }, area);
  const element = h("figure", { class: "card-like", id },
    h("figcaption", {}, h("h3", {}, figure.title), h("p", {}, figure.says)),
    picker, legend, drawing, words, more,
    h("div", { class: "below" }, details, files(`${figure.id}.svg`, figure.file)));

  function draw() {
    const width = Math.max(260, Math.floor(element.clientWidth ? element.clientWidth - 34 : 720));
    const drawn = FORMS[figure.form](figure, table, width, state);
    rows = [...new Set(drawn.rows)];
    legend.replaceChildren(...drawn.legend);
    legend.hidden = drawn.legend.length === 0;
    area.style.gridTemplateColumns = `repeat(${drawn.across}, minmax(0, 1fr))`;
    const most = state.all ? Infinity : Math.max(6, 4 * drawn.across);
    more.hidden = drawn.panels.length <= most;
    more.textContent = `Show all ${drawn.panels.length} small charts`;
    const panels = drawn.panels.slice(0, most).map(({ title, svg }) => h("div", { class: "panel" }, title ? h("p", { class: "panel-title" }, title) : null, svg));
    area.replaceChildren(...panels);
    if (panels.length === 0) area.append(h("p", { class: "nothing" }, "Nothing of this chart is chosen."));
    words.textContent = drawn.panels.length === 0 ? "Nothing of this chart is chosen." : drawn.words;
    if (drawn.choices && drawn.choices.length > 1) {
      const choose = (event) => { state.row = Number(event.target.value); draw(); };
      const options = drawn.choices.map(([row, name]) => h("option", { value: row, selected: row === drawn.choice }, name));
      picker.replaceChildren(h("label", { for: `${id}-choice` }, "of "), h("select", { id: `${id}-choice`, onchange: choose }, options));
    } else picker.replaceChildren();
    if (view) view.draw();
  }
  redraws.push(draw);
  return { element, draw };
}

/** The columns of a chart's own table: what says which row it is, and what is drawn. */
function figureColumns(figure, table) {
  const at = (name) => table.columns.findIndex((column) => column.name === name);
  const drawn = new Set();
  const add = (column) => { if (column !== null && column !== undefined && column >= 0) drawn.add(column); };
  if (figure.form === "lines") figure.panels.forEach((panel) => panel.series.forEach((series) => add(series.column)));
  if (figure.form === "bars") { figure.parts.forEach((part) => add(part.column)); (figure.mark ? figure.mark[0] : []).forEach(add); ["change", "overflowed"].map(at).forEach(add); }
  if (figure.form === "waterfall") figure.steps.forEach((part) => add(part.column));
  if (figure.form === "heat") add(figure.column);
  if (figure.form === "front") { add(figure.x_column[0]); add(figure.y_column[0]); }
  if (figure.form === "ranges") figure.columns.forEach(add);
  const own = ownColumns(table);
  const first = own.findIndex((column) => drawn.has(column) || ["seeds", "requests"].includes(table.columns[column].name));
  const names = own.slice(0, Math.max(first, 1));
  return [...new Set([...names, ...own.filter((column) => drawn.has(column))])];
}

const INSIDE = new Set(["minutes", "session", "fleet", "machine"]);

function drawSection(id, title, says, children) {
  if (children.length === 0) return false;
  main.append(h("section", { "aria-labelledby": id }, h("h2", { id }, title), says ? h("p", { class: "says" }, says) : null, children));
  return true;
}

function insideSaid() {
  const inside = TABLES.get("inside.csv");
  if (!inside) return "";
  const column = (name) => inside.columns.findIndex((known) => known.name === name);
  const of = inside.rows.map((row) => `${row[column("why")] || `variant ${row[column("cell")]}`}: seed ${row[column("seed")]}, ${fixed(Number(row[column("seen_requests")]), 0)} requests in ${fixed(Number(row[column("until_s")]) / 60, 0)} minutes`);
  return `The first replication of ${inside.rows.length === 1 ? "the run" : "some variants"}, request by request (${of.join("; ")}).`;
}

// --- How it was made ------------------------------------------------------------------------------------------------------

function copyButton(text) {
  const button = h("button", { type: "button", class: "copy" }, "Copy");
  button.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(text); } catch {
      const field = h("textarea", { class: "hidden" });
      field.value = text;
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return button;
}

function drawOrigin() {
  const { about } = DATA;
  if (!about) return false;
  const rows = about.values.map(({ path, value, from, tag, source }) => [path, value, tag || from, source || ""]);
  const values = plainTable("values", ["path", "value", "says", "source"], rows);
  const all = () => rows.map((_, row) => row);
  const tags = ["doc", "fit", "guess"].map((tag) => `${rows.filter((row) => row[2] === tag).length} ${tag}`).join(", ");
  const view = tableView(values, { caption: "Every value of the scenario", columns: [0, 1, 2, 3], rows: all, searchable: true });
  return drawSection("origin", "How to make this again", "", [
    h("div", { class: "command" }, h("code", {}, about.command), copyButton(about.command)),
    h("p", { class: "says" }, `Version ${about.version}, ${seedsSaid(about)}. The same command gives the same bytes, on any machine and with any number of threads.`),
    h("details", {}, h("summary", {}, "The scenario, as a file"), h("pre", { tabindex: "0", role: "region", "aria-label": "The scenario as a file" }, about.scenario)),
    h("h3", {}, "Every value, and who says so"),
    h("p", { class: "says" }, `scenario and flag: set by you; default: cachecast's own; of the provider's profile ${tags} (documented by the vendor, fitted to measurements, guessed).`),
    view.element,
  ]);
}

// --- All of it ------------------------------------------------------------------------------------------------------------

function drawPage() {
  drawHead();
  drawProblems();
  drawTiles();
  drawCard();
  const figures = DATA.figures.map((figure) => [figure, drawFigure(figure)]).filter(([, drawn]) => drawn);
  const part = (inside) => figures.filter(([figure]) => INSIDE.has(figure.id) === inside).map(([, drawn]) => drawn.element);
  const sections = [];
  if (drawSection("charts", "Charts", "", part(false))) sections.push(["charts", "Charts"]);
  if (drawSection("inside", "Inside a run", insideSaid(), part(true))) sections.push(["inside", "Inside a run"]);
  const tables = DATA.tables.map((table, at) => {
    const rows = () => table.rows.map((_, row) => row).filter((row) => isShown(table, row));
    const view = tableView(table, { caption: `${table.file}: ${table.about}`, columns: mainColumns(table), rows, searchable: true });
    redraws.push(view.draw);
    return h("details", { class: "card-like", open: at === 0, "data-file": table.file },
      h("summary", {}, h("strong", {}, table.file), " ", table.about), view.element,
      files(table.file));
  });
  if (drawSection("tables", "Tables", "A click on a column's name sorts by it. ± is half of a 95 % interval.", tables)) sections.push(["tables", "Tables"]);
  if (drawOrigin()) sections.push(["origin", "How to make this again"]);
  if (DATA.card) sections.unshift(["card", "The recommendation"]);
  drawSide(sections);
  document.getElementById("foot").append(`Drawn by cachecast ${DATA.version} from the files in ${DATA.folder}. No network, no server: this page is all there is.`);
  redraw();
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    requestAnimationFrame(redraw);
  });
}

drawPage();
