// The data of the page, and how its numbers are written. Text of the data is only ever set as text, never as markup.

const DATA = JSON.parse(document.getElementById("data").textContent);
const TABLES = new Map(DATA.tables.map((table) => [table.file, table]));

/** An element with attributes and children; strings become text. */
function h(name, attributes, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same for a drawing. */
function s(name, attributes, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) {
      element.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
  }
  return element;
}

/** A field as a number, or null. */
function numberAt(table, row, column) {
  const text = column === null || column === undefined ? "" : table.rows[row][column];
  const value = text === "" || text === undefined ? NaN : Number(text);
  return Number.isFinite(value) ? value : null;
}

/** So many decimal places suit a number of this unit. */
function placesOf(value, unit) {
  const size = Math.abs(value);
  if (unit === "share") return 4;
  if (unit === "ms") return size >= 100 || Number.isInteger(value) ? 0 : 1;
  if (unit === "s") return 2;
  if (unit.startsWith("USD")) return size >= 1000 ? 0 : size >= 10 ? 2 : 4;
  if (Number.isInteger(value)) return 0;
  return size >= 1000 ? 0 : size >= 10 ? 1 : size >= 0.01 ? 3 : 5;
}

function fixed(value, places) {
  const text = Math.abs(value).toFixed(places);
  const [whole, rest] = text.split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  const sign = value < 0 && Number(text) !== 0 ? "−" : "";
  return sign + grouped + (rest ? "." + rest : "");
}

/** A number with its interval, without its unit. */
function shownAt(table, row, column) {
  const value = numberAt(table, row, column);
  if (value === null) return table.rows[row][column] ?? "";
  const { unit, ci } = table.columns[column];
  const half = numberAt(table, row, ci);
  // Where no unit says how exact a number is, its interval does.
  const exact = half && unit === "" ? Math.min(6, 1 - Math.floor(Math.log10(half))) : 0;
  const places = Math.max(placesOf(value, unit), exact);
  return fixed(value, places) + (half === null ? "" : " ±" + fixed(half, places));
}

/** The same with its unit. */
function said(table, row, column) {
  const unit = table.columns[column].unit;
  return shownAt(table, row, column) + (unit && unit !== "share" ? " " + unit : "");
}

/** A number as it stands at an axis. */
function tickText(value) {
  const size = Math.abs(value);
  const round = (number) => String(Math.round(number * 1e6) / 1e6);
  if (size >= 1e9) return round(value / 1e9) + "G";
  if (size >= 1e6) return round(value / 1e6) + "M";
  if (size >= 1e4) return round(value / 1e3) + "k";
  return round(value);
}

/** A column's name for a person, without the unit, which is said beside it. */
function label(name) {
  return name.includes(".") ? name : name.replace(/_(ms|s|us|usd)(?=$|_vs_)/, "").replaceAll("_", " ");
}

// --- What is left out -------------------------------------------------------------------------------------------------

const FILTER = DATA.filter;
const FILTERED = FILTER ? TABLES.get(FILTER.file) : null;
/** For each column of the filter, the values that are shown. */
const chosen = new Map();
if (FILTER) {
  for (const [column] of FILTER.columns) chosen.set(column, new Set(FILTERED.rows.map((row) => row[column])));
}

/** The row of the filtered table that belongs to a cell. */
const rowOfCell = new Map();
if (FILTERED) {
  const cell = FILTERED.columns.findIndex((column) => column.name === "cell");
  if (cell >= 0) FILTERED.rows.forEach((row, at) => rowOfCell.set(row[cell], at));
}

/** Whether a row of any table is shown: by its own values, or by those of its cell. */
function isShown(table, row) {
  if (!FILTER) return true;
  const fields = table.rows[row];
  const cell = table === FILTERED ? -1 : table.columns.findIndex((column) => column.name === "cell");
  for (const [column] of FILTER.columns) {
    const name = FILTERED.columns[column].name;
    let value;
    if (table === FILTERED) value = fields[column];
    else {
      const own = table.columns.findIndex((known) => known.name === name);
      if (own >= 0) value = fields[own];
      else if (cell >= 0 && rowOfCell.has(fields[cell])) value = FILTERED.rows[rowOfCell.get(fields[cell])][column];
    }
    if (value !== undefined && !chosen.get(column).has(value)) return false;
  }
  return true;
}
