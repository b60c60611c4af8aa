// What all charts are drawn with: scales, axes, markers, and the words at the pointer.

const LETTER = 6.6;

/** Round steps over a range, at most about so many. */
function steps(from, to, most) {
  const width = to - from || 1;
  const rough = width / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * (1 - 1e-9));
  const ticks = [];
  for (let at = Math.ceil(from / step - 1e-9); at * step <= to + 1e-9 * width; at += 1) ticks.push(at * step);
  return ticks;
}

/** The range of some numbers with room, and its steps. */
function rangeOf(values, withZero, most) {
  let from = withZero ? 0 : Infinity;
  let to = withZero ? 0 : -Infinity;
  for (const value of values) {
    if (value === null) continue;
    from = Math.min(from, value);
    to = Math.max(to, value);
  }
  if (from > to) [from, to] = [0, 1];
  const room = to > from ? 0.06 * (to - from) : Math.max(0.05 * Math.abs(to), 1e-3);
  from = from >= 0 ? Math.max(0, from - room) : from - room;
  if (withZero) from = Math.min(0, from);
  to += room;
  return { from, to, ticks: steps(from, to, most).map((at) => [at, tickText(at)]) };
}

/** Maps a range to pixels. */
function scale({ from, to }, begin, end) {
  const width = to - from || 1;
  return (value) => begin + ((value - from) / width) * (end - begin);
}

/** Text cut to so many pixels. */
function cut(text, pixels) {
  const most = Math.max(4, Math.floor(pixels / LETTER));
  return text.length <= most ? text : text.slice(0, most - 1) + "…";
}

/** The plane of a small chart with its axes: { plane, x, y, width, height }. */
function plane({ width, height, x, y, xLabel, yLabel, names }) {
  const longest = Math.max(...y.ticks.map(([, text]) => text.length), 1);
  const room = names ? Math.min(longest * LETTER + 12, Math.max(96, width * 0.42)) : Math.max(40, longest * LETTER + 12);
  const left = room + (yLabel ? 18 : 0);
  const right = 14;
  const top = 10;
  const bottom = xLabel ? 44 : 26;
  const svg = s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
  const across = scale(x, left, width - right);
  const up = names ? scale(y, top, height - bottom) : scale(y, height - bottom, top);
  const axes = s("g", { class: "axes" });
  for (const [at, text] of y.ticks) {
    const place = up(at);
    if (!names) axes.append(s("line", { class: "grid", x1: left, x2: width - right, y1: place, y2: place }));
    const label = s("text", { x: left - 8, y: place, dy: "0.35em", "text-anchor": "end" }, cut(text, room - 8));
    label.append(s("title", {}, text));
    axes.append(label);
  }
  let last = -Infinity;
  for (const [at, text] of x.ticks) {
    const place = across(at);
    axes.append(s("line", { class: "grid", x1: place, x2: place, y1: top, y2: height - bottom }));
    const half = (text.length * LETTER) / 2;
    if (place - half > last + 4) {
      axes.append(s("text", { x: place, y: height - bottom + 16, "text-anchor": "middle" }, text));
      last = place + half;
    }
  }
  axes.append(s("line", { class: "base", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
  axes.append(s("line", { class: "base", x1: left, x2: left, y1: top, y2: height - bottom }));
  const name = (text, attributes) => axes.append(s("text", { class: "name", "text-anchor": "middle", ...attributes }, text));
  if (xLabel) name(cut(xLabel, width - left), { x: (left + width - right) / 2, y: height - 8 });
  if (yLabel) {
    const middle = (top + height - bottom) / 2;
    name(cut(yLabel, height - bottom - top), { x: 12, y: middle, transform: `rotate(-90 12 ${middle})` });
  }
  svg.append(axes);
  return { svg, x: across, y: up, left, right: width - right, top, bottom: height - bottom };
}

/** The marker of a series: another shape for each, so that colour is not the only sign. */
function marker(style, x, y, size = 4.5) {
  const place = { class: `mark s${style % 8}`, transform: `translate(${x} ${y})` };
  const r = size;
  switch (style % 8) {
    case 0: return s("circle", { ...place, r });
    case 1: return s("rect", { ...place, x: -r, y: -r, width: 2 * r, height: 2 * r });
    case 2: return s("path", { ...place, d: `M0 ${-r - 1}L${r + 1} ${r}L${-r - 1} ${r}Z` });
    case 3: return s("path", { ...place, d: `M0 ${-r - 1}L${r + 1} 0L0 ${r + 1}L${-r - 1} 0Z` });
    case 4: return s("path", { ...place, d: `M0 ${r + 1}L${r + 1} ${-r}L${-r - 1} ${-r}Z` });
    case 5: return s("circle", { ...place, class: `mark hollow s5`, r });
    case 6: return s("rect", { ...place, x: -r - 1, y: -r / 2, width: 2 * r + 2, height: r });
    default: return s("rect", { ...place, x: -r / 2, y: -r - 1, width: r, height: 2 * r + 2 });
  }
}

/** The marker of what was measured. */
function star(x, y, kind) {
  const arms = [[6, 0], [0, 6], [4.3, 4.3], [4.3, -4.3]].map(([a, b]) => `M${x - a} ${y - b}L${x + a} ${y + b}`);
  return s("path", { class: `star ${kind}`, d: arms.join("") });
}

/** A sign of the legend with its name. */
function legendEntry(sign, name) {
  return h("li", {}, s("svg", { class: "sign", width: 22, height: 14, viewBox: "0 0 22 14", "aria-hidden": "true" }, sign), name);
}

// --- The words at the pointer -------------------------------------------------------------------------------------------

const tip = document.getElementById("tip");

/** Shows some words while the pointer is over an element. */
function tells(element, ...lines) {
  element.addEventListener("pointerenter", (event) => {
    tip.replaceChildren(...lines.filter((line) => line).map((line) => h("div", {}, line)));
    tip.hidden = false;
    moveTip(event);
  });
  element.addEventListener("pointermove", moveTip);
  element.addEventListener("pointerleave", () => { tip.hidden = true; });
  return element;
}

function moveTip(event) {
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(event.clientX + 14, innerWidth - width - 8);
  const below = event.clientY + 16 + height < innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${below ? event.clientY + 16 : event.clientY - height - 12}px`;
}
