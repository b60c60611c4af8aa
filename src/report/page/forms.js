// The forms of charts. Each takes a figure, its table and the width there is, and answers { legend, panels, words, rows }:
// small charts with titles, words for those who do not see them, and the rows that are drawn.

const MOST_MARKERS = 40;
/** Measured points further than so many times the simulated range outside of it are drawn at its edge. */
const FAR = 1.5;

/** How many small charts stand beside each other. */
function columnsFor(width, count, least) {
  const most = Math.max(1, Math.min(count, Math.floor((width + 16) / least), 3));
  // Four beside each other in threes would leave one alone.
  return count === 4 && most === 3 ? 2 : most;
}

function rowWords(table, row) {
  const cell = table.columns.findIndex((column) => column.name === "cell");
  const seeds = table.columns.findIndex((column) => column.name === "seeds");
  const from = cell === 0 ? 1 : 0;
  return table.columns
    .slice(from, seeds > from ? seeds : from)
    .map((column, at) => `${column.name.split(".").pop()} ${table.rows[row][from + at]}`)
    .join(", ");
}

const FORMS = {
  lines(figure, table, width) {
    const { x, y, stepped } = figure;
    const visible = figure.panels
      .map((panel) => ({
        ...panel,
        series: panel.series
          .map((series) => ({ ...series, points: series.points.filter(([row]) => isShown(table, row)) }))
          .filter((series) => series.points.length > 0),
      }))
      .filter((panel) => panel.series.length > 0);
    const across = columnsFor(width, visible.length, x.categories ? 460 : 380);
    const each = (width - 16 * (across - 1)) / across;
    const ends = [];
    const drawn = new Set();
    for (const panel of visible) {
      for (const series of panel.series) {
        for (const [row] of series.points) {
          const value = numberAt(table, row, series.column);
          const half = numberAt(table, row, series.ci) || 0;
          if (value !== null) ends.push(value - half, value + half);
          drawn.add(row);
        }
      }
      if (panel.level) ends.push(panel.level[0]);
    }
    const most = Math.max(...ends);
    const least = Math.min(...ends);
    const near = (value) => value <= most + FAR * Math.max(most - least, 0.1 * most) && value >= least - FAR * Math.max(most - least, 0.1 * most);
    const measured = visible.flatMap((panel) => (panel.published || []).map((point) => point.y).filter(near));
    const numbers = rangeOf([...ends, ...measured], stepped || y === "p-value", each < 420 ? 4 : 6);
    const panels = visible.map((panel) => {
      const svg = x.categories ? pointRows(panel, figure, table, each, numbers) : curves(panel, figure, table, each, numbers);
      return { title: panel.title, svg };
    });
    const legend = new Map();
    for (const series of visible.flatMap((panel) => panel.series)) {
      if (series.name) legend.set(series.name, legendEntry(marker(series.style, 11, 7), series.name));
    }
    const level = visible.find((panel) => panel.level);
    if (level) {
      const line = s("line", { class: "level", x1: 0, x2: 22, y1: 7, y2: 7 });
      legend.set("level", legendEntry(line, `${level.level[1]} (${tickText(level.level[0])})`));
    }
    if (visible.some((panel) => (panel.published || []).length)) {
      legend.set("measured", legendEntry(star(11, 7, ""), "measured; an arrow where it lies off the scale"));
    }
    const words = visible.map((panel) => {
      const of = panel.series.map((series) => seriesWords(series, table));
      return (panel.title ? `${panel.title}: ` : "") + of.join("; ");
    });
    return { legend: [...legend.values()], panels, across, words: words.join(". "), rows: [...drawn] };
  },

  bars(figure, table, width) {
    const visible = figure.panels
      .map((panel) => ({ ...panel, bars: panel.bars.filter((bar) => isShown(table, bar.row)) }))
      .filter((panel) => panel.bars.length > 0);
    const across = figure.shares ? 1 : columnsFor(width, visible.length, 420);
    const each = (width - 16 * (across - 1)) / across;
    const draw = figure.shares ? lyingBars : standingBars;
    const panels = visible.map((panel) => ({ title: panel.title, svg: draw(panel, figure, table, each) }));
    const legend = figure.parts.map((part) =>
      legendEntry(s("rect", { class: `part p-${part.kind}`, x: 4, y: 0, width: 14, height: 14, rx: 2 }), part.name));
    if (figure.mark) legend.push(legendEntry(s("line", { class: "stroke", x1: 2, x2: 20, y1: 7, y2: 7 }), figure.mark[1]));
    const rows = visible.flatMap((panel) => panel.bars.map((bar) => bar.row));
    const words = rows.slice(0, 6).map((row) => barWords(figure, table, row)).join("; ");
    return { legend, panels, across, words, rows };
  },

  waterfall(figure, table, width, state) {
    const rows = figure.rows.filter(([row]) => isShown(table, row));
    if (rows.length === 0) return { legend: [], panels: [], across: 1, words: "", rows: [] };
    const [row, name] = rows.find(([row]) => row === state.row) || rows[0];
    const svg = waterfall(figure, table, row, width);
    return {
      legend: [],
      panels: [{ title: "", svg }],
      across: 1,
      words: figure.steps.map((part) => `${part.name} ${said(table, row, part.column)}`).join(", "),
      rows: [row],
      choices: rows,
      choice: row,
      name,
    };
  },

  heat(figure, table, width) {
    const visible = figure.panels
      .map((panel) => ({ ...panel, cells: panel.cells.filter(([row]) => isShown(table, row)) }))
      .filter((panel) => panel.cells.length > 0);
    const widest = Math.max(...visible.map((panel) => panel.across.length), 1);
    const across = columnsFor(width, visible.length, widest > 12 ? 640 : 420);
    const each = (width - 16 * (across - 1)) / across;
    const panels = visible.map((panel) => ({ title: panel.title, svg: heatMap(panel, figure, table, each) }));
    const rows = visible.flatMap((panel) => panel.cells.map(([row]) => row));
    const peaks = visible.map((panel) => {
      const [row, x, y] = panel.cells.reduce((a, b) =>
        (numberAt(table, b[0], figure.column) || 0) > (numberAt(table, a[0], figure.column) || 0) ? b : a);
      return `${panel.title ? panel.title + ": " : ""}${panel.cells.length} pairs; most ${figure.y} at ${panel.axes[1]} ${panel.down[y]}, ${panel.axes[0]} ${panel.across[x]}: ${said(table, row, figure.column)}`;
    });
    return { legend: [], panels, across, words: peaks.join(". "), rows };
  },

  front(figure, table, width) {
    const rows = figure.rows.filter(([row]) => isShown(table, row));
    const [x, y] = [figure.x_column[0], figure.y_column[0]];
    const best = unbeaten(table, rows, x, y);
    const legend = [
      legendEntry(marker(2, 11, 7), "no other is better in both"),
      legendEntry(marker(0, 11, 7), "another is better in both, or as good"),
    ];
    if (figure.recommended !== null) legend.push(legendEntry(s("circle", { class: "ring", cx: 11, cy: 7, r: 6 }), "recommended"));
    const names = new Map(rows);
    const words = best.map((row) => `${names.get(row)}: ${said(table, row, x)}, ${said(table, row, y)}`).join("; ");
    const panels = rows.length ? [{ title: "", svg: frontChart(figure, table, rows, best, width) }] : [];
    return { legend, panels, across: 1, words: `Not beaten: ${words}`, rows: rows.map(([row]) => row) };
  },

  ranges(figure, table, width) {
    const visible = figure.panels
      .map(([title, rows]) => ({ title, rows: rows.filter(([row]) => isShown(table, row)) }))
      .filter((panel) => panel.rows.length > 0);
    const panels = visible.map((panel) => ({ title: panel.title, svg: rangeRows(panel.rows, figure, table, width) }));
    const legend = [
      legendEntry(s("rect", { class: "range", x: 2, y: 2, width: 18, height: 10 }), "middle 90 % of what is simulated"),
      legendEntry(star(11, 7, ""), "observed"),
      legendEntry(star(11, 7, "bad"), "observed outside of it"),
    ];
    const all = visible.flatMap((panel) => panel.rows.map(([row]) => row));
    const outside = all.filter((row) => isOutside(figure, table, row)).length;
    return { legend, panels, across: 1, words: `${all.length} checks, ${outside} observations outside of the simulated range`, rows: all };
  },
};

function seriesWords(series, table) {
  const said = series.points
    .map(([row]) => [numberAt(table, row, series.column), row])
    .filter(([value]) => value !== null);
  if (said.length === 0) return series.name;
  const low = said.reduce((a, b) => (b[0] < a[0] ? b : a));
  const high = said.reduce((a, b) => (b[0] > a[0] ? b : a));
  const at = (point) => shownAt(table, point[1], series.column);
  const range = low[0] === high[0] ? at(low) : `${at(low)} to ${at(high)}`;
  return `${series.name ? series.name + " " : ""}${range} over ${said.length} points`;
}

function drawPoint(group, series, table, row, place, horizontal) {
  const value = numberAt(table, row, series.column);
  if (value === null) return;
  const half = numberAt(table, row, series.ci);
  const [x, y] = place(value);
  if (half) {
    const [a, b] = [place(value - half), place(value + half)];
    const cap = horizontal ? [0, 3] : [3, 0];
    group.append(s("path", {
      class: `whisker s${series.style % 8}`,
      d: `M${a[0]} ${a[1]}L${b[0]} ${b[1]}M${a[0] - cap[0]} ${a[1] - cap[1]}L${a[0] + cap[0]} ${a[1] + cap[1]}M${b[0] - cap[0]} ${b[1] - cap[1]}L${b[0] + cap[0]} ${b[1] + cap[1]}`,
    }));
  }
  const mark = marker(series.style, x, y);
  mark.setAttribute("data-row", row);
  mark.setAttribute("data-column", series.column);
  group.append(tells(mark, rowWords(table, row) || series.name, said(table, row, series.column)));
}

function published(group, panel, place, inside) {
  for (const point of panel.published || []) {
    const [x, y, off] = inside(place(point.y, point));
    const kind = point.style === null ? "" : `s${point.style % 8}`;
    const sign = star(x, y, kind);
    group.append(tells(sign, point.name, tickText(Math.round(point.y * 1e4) / 1e4)));
    if (off) {
      const arrow = off === "up" ? `M${x - 5} ${y + 12}l5 -5l5 5` : off === "right" ? `M${x - 12} ${y - 5}l5 5l-5 5` : "";
      if (arrow) group.append(s("path", { class: `off ${kind}`, d: arrow }));
      const text = tickText(Math.round(point.y));
      const at = off === "up" ? { x: x + 10, y: y + 4 } : { x: x - 10, y: y + 4, "text-anchor": "end" };
      group.append(s("text", { class: "value", ...at }, text));
    }
  }
}

function curves(panel, figure, table, width, numbers) {
  const x = { from: figure.x.range[0], to: figure.x.range[1], ticks: figure.x.ticks };
  const height = width < 460 ? 260 : 320;
  const frame = plane({ width, height, x, y: numbers, xLabel: figure.x.label, yLabel: figure.y });
  const group = s("g", {});
  if (panel.level) {
    const at = frame.y(panel.level[0]);
    group.append(tells(s("line", { class: "level", x1: frame.left, x2: frame.right, y1: at, y2: at }), `${panel.level[1]}: ${tickText(panel.level[0])}`));
  }
  for (const series of panel.series) {
    let path = "";
    let before = null;
    for (const [row, at] of series.points) {
      const value = numberAt(table, row, series.column);
      if (value === null) continue;
      const [px, py] = [frame.x(at), frame.y(value)];
      if (before === null) path += `M${px} ${py}`;
      else path += figure.stepped ? `L${px} ${before}L${px} ${py}` : `L${px} ${py}`;
      before = py;
    }
    const line = s("path", { class: `line s${series.style % 8}`, d: path });
    group.append(figure.stepped ? tells(line, series.name) : line);
  }
  for (const series of panel.series) {
    if (figure.stepped || series.points.length > MOST_MARKERS) continue;
    for (const [row, at] of series.points) drawPoint(group, series, table, row, (value) => [frame.x(at), frame.y(value)], false);
  }
  const inside = ([px, py]) => (py < frame.top ? [px, frame.top + 6, "up"] : py > frame.bottom ? [px, frame.bottom - 6, "down"] : [px, py, ""]);
  published(group, panel, (value, point) => [frame.x(point.x), frame.y(value)], inside);
  frame.svg.append(group);
  return frame.svg;
}

function pointRows(panel, figure, table, width, numbers) {
  const used = new Set(panel.series.flatMap((series) => series.points.map(([, at]) => at)));
  const kept = figure.x.ticks.filter(([at]) => used.has(at));
  const order = new Map(kept.map(([at], place) => [at, place]));
  const y = { from: -0.5, to: kept.length - 0.5, ticks: kept.map(([, text], place) => [place, text]) };
  const many = panel.series.length;
  const height = kept.length * (14 + 12 * many) + 60;
  const frame = plane({ width, height, x: numbers, y, xLabel: figure.y, yLabel: "", names: true });
  const group = s("g", {});
  for (let at = 1; at < kept.length; at += 1) {
    const between = frame.y(at - 0.5);
    group.append(s("line", { class: "grid", x1: frame.left, x2: frame.right, y1: between, y2: between }));
  }
  if (panel.level) {
    const at = frame.x(panel.level[0]);
    group.append(s("line", { class: "level", x1: at, x2: at, y1: frame.top, y2: frame.bottom }));
  }
  const shift = (number) => ((number - (many - 1) / 2) * 0.7) / many;
  panel.series.forEach((series, number) => {
    for (const [row, at] of series.points) {
      drawPoint(group, series, table, row, (value) => [frame.x(value), frame.y(order.get(at) + shift(number))], true);
    }
  });
  const inside = ([px, py]) => (px > frame.right ? [frame.right - 6, py, "right"] : [Math.max(px, frame.left), py, ""]);
  const place = (value, point) => {
    const number = panel.series.findIndex((series) => series.style === point.style);
    return [frame.x(value), frame.y((order.get(point.x) ?? -1) + (number < 0 ? 0 : shift(number)))];
  };
  published(group, { published: (panel.published || []).filter((point) => order.has(point.x)) }, place, inside);
  frame.svg.append(group);
  return frame.svg;
}

function barWords(figure, table, row) {
  const whole = figure.parts.reduce((sum, part) => sum + (numberAt(table, row, part.column) || 0), 0) || 1;
  const parts = figure.parts
    .map((part) => [part.name, numberAt(table, row, part.column) || 0])
    .filter(([, tokens]) => tokens > 0)
    .map(([name, tokens]) => `${name} ${((100 * tokens) / whole).toFixed(1)} %`);
  const of = rowWords(table, row);
  return (of ? of + ": " : "") + parts.join(", ");
}

function barParts(group, figure, table, bar, rectangle) {
  const whole = figure.parts.reduce((sum, part) => sum + (numberAt(table, bar.row, part.column) || 0), 0) || 1;
  let begin = 0;
  for (const part of figure.parts) {
    const tokens = numberAt(table, bar.row, part.column) || 0;
    if (tokens <= 0) continue;
    const block = s("rect", { class: `part p-${part.kind}`, ...rectangle(begin, begin + tokens, whole) });
    const share = ((100 * tokens) / whole).toFixed(1);
    group.append(tells(block, bar.label, `${part.name}: ${said(table, bar.row, part.column)} (${share} %)`, bar.event || ""));
    begin += tokens;
  }
  return begin;
}

function lyingBars(panel, figure, table, width) {
  const ticks = [0, 0.2, 0.4, 0.6, 0.8, 1].map((at) => [at, `${Math.round(at * 100)} %`]);
  const y = { from: -0.5, to: panel.bars.length - 0.5, ticks: panel.bars.map((bar, at) => [at, bar.label]) };
  const height = panel.bars.length * (panel.bars.length > 40 ? 17 : 22) + 56;
  const frame = plane({ width, height, x: { from: 0, to: 1, ticks }, y, xLabel: figure.y, yLabel: "", names: true });
  const group = s("g", {});
  panel.bars.forEach((bar, at) => {
    const [top, bottom] = [frame.y(at - 0.36), frame.y(at + 0.36)];
    barParts(group, figure, table, bar, (begin, end, whole) => {
      const [a, b] = [frame.x(begin / whole), frame.x(end / whole)];
      return { x: a, y: top, width: Math.max(0, b - a), height: bottom - top };
    });
  });
  frame.svg.append(group);
  return frame.svg;
}

function standingBars(panel, figure, table, width) {
  const whole = (bar) => figure.parts.reduce((sum, part) => sum + (numberAt(table, bar.row, part.column) || 0), 0);
  const numbers = rangeOf(panel.bars.map(whole), true, 5);
  const every = Math.max(1, Math.ceil(panel.bars.length / (width < 460 ? 6 : 12)));
  const ticks = panel.bars.map((bar, at) => [at, bar.label]).filter((_, at) => at % every === 0);
  const x = { from: -0.5, to: panel.bars.length - 0.5, ticks };
  const frame = plane({ width, height: 300, x, y: numbers, xLabel: panel.x, yLabel: figure.y });
  const group = s("g", {});
  panel.bars.forEach((bar, at) => {
    const [left, right] = [frame.x(at - 0.4), frame.x(at + 0.4)];
    const top = barParts(group, figure, table, bar, (begin, end) => {
      const [a, b] = [frame.y(begin), frame.y(end)];
      return { x: left, y: b, width: right - left, height: Math.max(0, a - b) };
    });
    if (figure.mark) {
      const height = frame.y(figure.mark[0].reduce((sum, column) => sum + (numberAt(table, bar.row, column) || 0), 0));
      group.append(s("line", { class: "stroke", x1: left - 1, x2: right + 1, y1: height, y2: height }));
    }
    if (bar.event) {
      const [px, py] = [frame.x(at), frame.y(top) - 3];
      group.append(tells(s("path", { class: "event", d: `M${px} ${py}l-4 -7h8Z` }), `call ${bar.label}`, bar.event));
    }
  });
  frame.svg.append(group);
  return frame.svg;
}

function waterfall(figure, table, row, width) {
  let left = 0;
  const bars = [];
  for (const part of figure.steps) {
    const tokens = numberAt(table, row, part.column) || 0;
    const whole = part.kind === "all" || part.kind === "read";
    if (part.kind === "all") left = tokens;
    else if (part.kind !== "read") left -= tokens;
    if (whole || tokens > 0) bars.push({ part, tokens, from: whole ? 0 : left, to: whole ? tokens : left + tokens });
  }
  const all = bars[0].tokens || 1;
  const numbers = rangeOf([0, all * (width < 460 ? 1.3 : 1.15)], true, width < 460 ? 3 : 6);
  const y = { from: -0.5, to: bars.length - 0.5, ticks: bars.map(({ part }, at) => [at, part.name]) };
  const frame = plane({ width, height: bars.length * 34 + 56, x: numbers, y, xLabel: figure.y, yLabel: "", names: true });
  const group = s("g", {});
  bars.forEach(({ part, tokens, from, to }, at) => {
    const share = `${((100 * tokens) / all).toFixed(1)} %`;
    const place = { x: frame.x(from), y: frame.y(at - 0.34), width: Math.max(1, frame.x(to) - frame.x(from)), height: frame.y(at + 0.34) - frame.y(at - 0.34) };
    group.append(tells(s("rect", { class: `part p-${part.kind}`, ...place }), part.name, `${said(table, row, part.column)} (${share})`));
    const words = width < 460 ? share : `${tickText(Math.round(tokens))} (${share})`;
    group.append(s("text", { class: "value", x: frame.x(to) + 6, y: frame.y(at), dy: "0.35em" }, words));
    if (at + 1 < bars.length && part.kind !== "read") {
      const edge = frame.x(part.kind === "all" ? to : from);
      group.append(s("line", { class: "joint", x1: edge, x2: edge, y1: frame.y(at + 0.34), y2: frame.y(at + 0.66) }));
    }
  });
  frame.svg.append(group);
  return frame.svg;
}

function heatMap(panel, figure, table, width) {
  const number = (row) => numberAt(table, row, figure.column) || 0;
  const most = Math.max(...panel.cells.map(([row]) => number(row)), Number.MIN_VALUE);
  const every = Math.max(1, Math.ceil(panel.across.length / Math.max(4, Math.floor(width / 60))));
  const ticks = panel.across.map((name, at) => [at, name]).filter((_, at) => at % every === 0);
  const x = { from: -0.5, to: panel.across.length - 0.5, ticks };
  const y = { from: -0.5, to: panel.down.length - 0.5, ticks: panel.down.map((name, at) => [at, name]) };
  const frame = plane({ width, height: panel.down.length * 26 + 60, x, y, xLabel: panel.axes[0], yLabel: "", names: true });
  const group = s("g", {});
  for (const [row, across, down] of panel.cells) {
    const share = number(row) / most;
    const place = { x: frame.x(across - 0.48), y: frame.y(down - 0.46), width: frame.x(across + 0.48) - frame.x(across - 0.48), height: frame.y(down + 0.46) - frame.y(down - 0.46) };
    const block = s("rect", { class: "heat", ...place, rx: 2, "fill-opacity": (0.07 + 0.93 * share).toFixed(3) });
    group.append(tells(block, `${panel.axes[1]} ${panel.down[down]}, ${panel.axes[0]} ${panel.across[across]}`, `${figure.y}: ${said(table, row, figure.column)}`));
    const words = tickText(Number.isInteger(number(row)) ? number(row) : Number(number(row).toPrecision(2))).replace(/^0\./, ".");
    if (place.width > words.length * 6.6 + 4) {
      group.append(s("text", { class: share > 0.5 ? "in dark" : "in", x: place.x + place.width / 2, y: place.y + place.height / 2, dy: "0.35em", "text-anchor": "middle" }, words));
    }
  }
  frame.svg.append(group);
  return frame.svg;
}

/** The rows that no other beats in both numbers, from the left to the right. */
function unbeaten(table, rows, x, y) {
  const points = rows
    .map(([row]) => [numberAt(table, row, x), numberAt(table, row, y), row])
    .filter(([a, b]) => a !== null && b !== null)
    .sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  let best = Infinity;
  return points.filter(([, b]) => b < best && ((best = b), true)).map(([, , row]) => row);
}

function frontChart(figure, table, rows, best, width) {
  const [[x, xci], [y, yci]] = [figure.x_column, figure.y_column];
  const ends = (column, ci) => rows.flatMap(([row]) => {
    const half = numberAt(table, row, ci) || 0;
    return [numberAt(table, row, column) - half, numberAt(table, row, column) + half];
  });
  const across = rangeOf(ends(x, xci), false, width < 460 ? 4 : 7);
  const up = rangeOf(ends(y, yci), false, 6);
  const frame = plane({ width, height: width < 460 ? 300 : 400, x: across, y: up, xLabel: figure.x, yLabel: figure.y });
  const at = (row) => [frame.x(numberAt(table, row, x)), frame.y(numberAt(table, row, y))];
  const group = s("g", {});
  group.append(s("path", { class: "line s2", d: best.map((row, n) => `${n ? "L" : "M"}${at(row).join(" ")}`).join("") }));
  for (const [row] of rows) {
    const [px, py] = at(row);
    const [dx, dy] = [numberAt(table, row, xci) || 0, numberAt(table, row, yci) || 0];
    const wide = frame.x(across.from + dx) - frame.x(across.from);
    const high = frame.y(up.from) - frame.y(up.from + dy);
    group.append(s("path", { class: "whisker faint", d: `M${px - wide} ${py}H${px + wide}M${px} ${py - high}V${py + high}` }));
  }
  let order = 0;
  const named = new Set();
  for (const [row, name] of [...rows].sort((a, b) => best.includes(a[0]) - best.includes(b[0]))) {
    const [px, py] = at(row);
    const mark = marker(best.includes(row) ? 2 : 0, px, py);
    mark.setAttribute("data-row", row);
    group.append(tells(mark, name, said(table, row, x), said(table, row, y)));
    if (row === figure.recommended) group.append(s("circle", { class: "ring", cx: px, cy: py, r: 10 }));
    if ((best.includes(row) || row === figure.recommended) && !named.has(name)) {
      named.add(name);
      const right = px + name.length * LETTER + 18 < frame.right;
      const lift = order % 2 ? 15 : -8;
      order += 1;
      group.append(s("text", { class: "value", x: right ? px + 10 : px - 10, y: py + lift, "text-anchor": right ? "start" : "end" }, cut(name, right ? 400 : px - frame.left)));
    }
  }
  frame.svg.append(group);
  return frame.svg;
}

function isOutside(figure, table, row) {
  const [low, , high, observed] = figure.columns.map((column) => numberAt(table, row, column));
  return observed !== null && low !== null && high !== null && (observed < low || observed > high);
}

function rangeRows(rows, figure, table, width) {
  const narrow = width < 520;
  const y = { from: -0.5, to: rows.length - 0.5, ticks: rows.map(([, name], at) => [at, name]) };
  const frame = plane({ width, height: rows.length * 24 + 40, x: { from: 0, to: 1, ticks: [] }, y, xLabel: "", yLabel: "", names: true });
  const group = s("g", {});
  rows.forEach(([row, name], at) => {
    const numbers = figure.columns.map((column) => numberAt(table, row, column));
    if (numbers.some((number) => number === null)) return;
    const [low, middle, high, observed] = numbers;
    const least = Math.min(...numbers);
    const wide = Math.max(...numbers) - least || 1;
    const place = (value) => frame.x(0.05 + ((narrow ? 0.9 : 0.55) * (value - least)) / wide);
    const words = [`observed ${tickText(observed)}`, `simulated ${tickText(low)} to ${tickText(high)}, median ${tickText(middle)}`];
    const bar = s("rect", { class: "range", x: place(low), y: frame.y(at - 0.3), width: Math.max(3, place(high) - place(low)), height: frame.y(at + 0.3) - frame.y(at - 0.3), rx: 2 });
    group.append(tells(bar, name, ...words));
    group.append(s("line", { class: "joint", x1: place(middle), x2: place(middle), y1: frame.y(at - 0.3), y2: frame.y(at + 0.3) }));
    group.append(tells(star(place(observed), frame.y(at), isOutside(figure, table, row) ? "bad" : ""), name, ...words));
    if (!narrow) {
      const text = `${tickText(observed)} in ${tickText(low)} to ${tickText(high)}`;
      group.append(s("text", { class: "value", x: frame.right, y: frame.y(at), dy: "0.35em", "text-anchor": "end" }, text));
    }
  });
  frame.svg.append(group);
  return frame.svg;
}
