"use strict";
// The board's page: everything that a user has named is set as text, nothing is ever parsed as HTML.
// A cell's numbers, in the order that orchestrator/leaderboard/html.py (_numbers) writes them:
const MEAN = 0, SD = 1, GAIN = 2, LOW = 3, HIGH = 4, FIRST = 5, LAST = 6, OVER = 7, OVER_LOW = 8, OVER_HIGH = 9, PAPER = 10;
const WHY = 11;
const LEAD = "lead"; // the choice of test set that stands for the mean over those that the board is sorted by
const FIGURES = ["board", "differences", "images", "plane", "violin", "validation", "budget", "trials", "front"];
const SVG = "http://www.w3.org/2000/svg";
const DATA = JSON.parse(document.getElementById("data").textContent);

// ---- elements

function make(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function draw(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function choice(label, options, chosen, changed) {
  const select = make("select", { onchange: () => changed(select.value) });
  for (const [value, text] of options) select.append(make("option", { value, selected: value === chosen }, text));
  return make("label", {}, label, select);
}

// ---- numbers in words

function fixed(value, digits, sign) {
  if (value === null || value === undefined) return "–";
  const number = Number(value);
  if (!Number.isFinite(number)) return Number.isNaN(number) ? "not a number" : number > 0 ? "∞" : "−∞";
  return (sign && number >= 0 ? "+" : "") + number.toFixed(digits);
}

function rank(cell) {
  if (!cell || cell[FIRST] == null) return "–";
  const places = cell[FIRST] === cell[LAST] ? `${cell[FIRST]}` : `${cell[FIRST]}–${cell[LAST]}`;
  return (cell[FIRST] === 1 ? "*" : "") + places;
}

function span(low, high, digits, sign) {
  return low == null ? "" : `[${fixed(low, digits, sign)}, ${fixed(high, digits, sign)}]`;
}

function cellOf(row, set, metric) {
  if (set === LEAD) return row.mean;
  const found = row.cells.find(([s, m]) => s === Number(set) && m === metric);
  return found ? found[2] : null;
}

// ---- drawings

function whisker(cell, ends) {
  const [from, to] = ends, width = 120, at = (value) => 6 + ((value - from) / (to - from || 1)) * (width - 12);
  const said = `mean ${cell[MEAN]}, interval ${cell[LOW]} to ${cell[HIGH]}`;
  const made = draw("svg", { width, height: 14, viewBox: `0 0 ${width} 14`, role: "img", "aria-label": said });
  made.append(draw("line", { class: "line", x1: at(cell[LOW]), x2: at(cell[HIGH]), y1: 7, y2: 7 }));
  made.append(draw("circle", { class: "fill", cx: at(cell[MEAN]), cy: 7, r: 3.5 }));
  return made;
}

function deciding(lines) {
  // the ends of y for the second half of a run, where the whole would leave that less than a quarter of the axis
  const points = lines.flatMap((line) => line.x.map((x, i) => [x, line.y[i]])).filter(([, y]) => y !== null);
  const end = Math.max(...points.map(([x]) => x)), ys = points.map(([, y]) => y);
  const late = points.filter(([x]) => 2 * x > end).map(([, y]) => y);
  const low = Math.min(...late), high = Math.max(...late), room = 0.08 * (high - low);
  return high > low && 4 * (high - low) < Math.max(...ys) - Math.min(...ys) ? [low - room, high + room] : null;
}

function plot(lines, { title, xlabel, ends, level }) {
  // lines: [{x, y, kind, label}], y with gaps as null; ends: [x0, x1, y0, y1] where they are fixed; level: bicubic's y
  const width = 420, height = 190, left = 52, right = 10, top = 10, bottom = 34;
  const xs = lines.flatMap((line) => line.x), ys = lines.flatMap((line) => line.y.filter((y) => y !== null));
  if (!ys.length) return null;
  const late = ends ? null : deciding(lines);
  const [x0, x1, y0, y1] = ends || [Math.min(...xs), Math.max(...xs), ...(late || [Math.min(...ys), Math.max(...ys)])];
  const across = (x) => left + ((x - x0) / (x1 - x0 || 1)) * (width - left - right);
  const down = (y) => height - bottom - ((y - y0) / (y1 - y0 || 1)) * (height - top - bottom);
  const made = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": title });
  made.append(draw("path", { class: "axis", d: `M${left} ${top}V${height - bottom}H${width - right}` }));
  for (const [y, anchor] of [[y0, "end"], [y1, "end"]])
    made.append(draw("text", { x: left - 5, y: down(y) + 4, "text-anchor": anchor }, Number(y.toPrecision(4))));
  for (const [x, anchor] of [[x0, "start"], [x1, "end"]])
    made.append(draw("text", { x: across(x), y: height - bottom + 14, "text-anchor": anchor }, Number(x.toPrecision(5))));
  made.append(draw("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, xlabel));
  const inside = draw("svg", { x: left, y: top, width: width - left - right, height: height - top - bottom, viewBox: `${left} ${top} ${width - left - right} ${height - top - bottom}` });
  made.append(inside); // what lies beyond the axis is cut off
  let said = title + (late ? "; the first validations lie beyond the axis" : "");
  if (level !== undefined) {
    const shown = y0 <= level && level <= y1;
    said += `; bicubic ${Number(level.toPrecision(4))}${shown ? ", dotted" : level > y1 ? ", above the axis" : ", below the axis"}`;
    if (shown) inside.append(draw("path", { class: "line c", d: `M${left} ${down(level)}H${width - right}` }));
  }
  for (const line of lines) {
    let path = "", pen = "M";
    line.x.forEach((x, i) => {
      if (line.y[i] === null) { pen = "M"; return; }
      path += `${pen}${across(x).toFixed(1)} ${down(line.y[i]).toFixed(1)}`;
      pen = "L";
    });
    const drawn = draw("path", { class: `line ${line.kind || ""}`, d: path });
    drawn.append(draw("title", {}, line.label));
    inside.append(drawn);
    if (line.x.length === 1 && line.y[0] !== null)
      made.append(draw("circle", { class: "fill", cx: across(line.x[0]), cy: down(line.y[0]), r: 3 }));
  }
  return make("figure", {}, make("figcaption", {}, said), made);
}

function levels(schedule) {
  // which steps of the noise process are practised, and where pictures are drawn, on one axis from 1 to T
  const width = 420, left = 80, right = 12, rows = [["practised", schedule.practised, ""], ["sampled", schedule.sampled, "b"]];
  const at = (t) => left + ((t - 1) / (schedule.T - 1 || 1)) * (width - left - right);
  const title = `Noise levels of T = ${schedule.T}: practised ${schedule.practised.join(" to ")}, validations drawn by `
    + `${schedule.sampler} in ${schedule.steps} steps from ${schedule.sampled[1]} down to ${schedule.sampled[0]}`
    + (schedule.jump ? `, with a jump from T to ${schedule.jump}` : "");
  const made = draw("svg", { viewBox: `0 0 ${width} 76`, width, height: 76, role: "img", "aria-label": title });
  rows.forEach(([name, [from, to], kind], i) => {
    const y = 10 + 22 * i;
    made.append(draw("text", { x: 0, y: y + 9 }, name));
    made.append(draw("path", { class: "axis", d: `M${left} ${y + 6}H${width - right}` }));
    made.append(draw("rect", { class: `fill ${kind}`, x: at(from), y, width: Math.max(at(to) - at(from), 2), height: 12, rx: 2 }));
  });
  if (schedule.jump) made.append(draw("path", { class: "line b", d: `M${at(schedule.T)} 52Q${(at(schedule.T) + at(schedule.jump)) / 2} 66 ${at(schedule.jump)} 52` }));
  made.append(draw("text", { x: left, y: 72 }, "1 (least noise)"));
  made.append(draw("text", { x: width - right, y: 72, "text-anchor": "end" }, `T = ${schedule.T}`));
  return make("figure", {}, make("figcaption", {}, title), made);
}

function picture(found) {
  const what = found.name.replaceAll("_", " ") + (found.run ? ` of ${DATA.runs[found.run]}` : "");
  return make("figure", { class: "wide" }, make("img", { src: found.src, alt: what, loading: "lazy" }), make("figcaption", {}, what));
}

function comparison(found, row) {
  // two crops over each other and an edge between them, moved by a range input: by mouse, finger and arrow keys
  const panels = found.panels, name = `${row.model} × ${row.objective}`;
  const mine = panels.findIndex((p) => p.label === name || p.label.startsWith(`${name} `));
  let chosen = [Math.max(panels.findIndex((p) => p.label === "bicubic"), 0), mine < 0 ? panels.length - 1 : mine];
  const under = make("img", {}), over = make("img", {}), edge = make("div", { class: "edge" });
  const range = make("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "Edge between the two pictures", oninput: move });
  const caption = make("figcaption", { "aria-live": "polite" });
  const options = panels.map((panel, i) => [String(i), panel.label]);
  function move() {
    over.style.clipPath = `inset(0 0 0 ${range.value}%)`;
    edge.style.left = `calc(${range.value}% - 1px)`;
  }
  function show() {
    [under, over].forEach((image, i) => { image.src = `data:image/png;base64,${panels[chosen[i]].png}`; image.alt = panels[chosen[i]].label; });
    caption.textContent = chosen.map((i) => `${panels[i].label} ${panels[i].scores}`.trim()).join("  |  ");
  }
  const side = (label, i) => choice(label, options, String(chosen[i]), (value) => { chosen[i] = Number(value); show(); });
  show();
  move();
  return make("figure", { class: "wide" }, make("h3", {}, `${found.set} ×${found.scale}: where the methods differ most`),
    make("div", { class: "controls" }, side("Left", 0), side("Right", 1)),
    make("div", { class: "slider" }, under, over, edge), range, caption);
}

// ---- what a row opens

function pairs(title, found, kind) {
  const names = Object.keys(found);
  if (!names.length) return null;
  const body = names.map((name) => make("tr", {}, make("td", {}, name), make("td", {}, String(found[name]))));
  return make("div", {}, make("h3", {}, title), make("table", { class: kind || "config" }, make("tbody", {}, ...body)));
}

function scores(board, row) {
  const head = ["", "mean", "sd", "rank", "interval", "over bicubic", ...(board.baseline ? [`over ${board.baseline}`] : []), "paper"];
  const body = row.cells.map(([set, number, cell]) => {
    const metric = board.metrics[number], d = metric.digits;
    const over = cell[OVER] == null ? "–" : `${fixed(cell[OVER], d, true)} ${span(cell[OVER_LOW], cell[OVER_HIGH], d, true)}`;
    const values = [`${board.sets[set].title} ${metric.name}`, fixed(cell[MEAN], d), fixed(cell[SD], d), rank(cell), span(cell[LOW], cell[HIGH], d) || "–", fixed(cell[GAIN], d, true), ...(board.baseline ? [over] : []), fixed(cell[PAPER], d)];
    return make("tr", {}, ...values.map((value) => make("td", {}, value)));
  });
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...head.map((name) => make("th", { scope: "col" }, name)))), make("tbody", {}, ...body));
  return make("div", { class: "wide" }, make("h3", {}, "All scores"), make("div", { class: "scroll" }, table));
}

function curves(found, bicubic) {
  const metrics = [...new Set(found.flatMap((curve) => Object.keys(curve.y)))].filter((name) => !name.startsWith("ema."));
  return metrics.map((metric) => plot(
    found.flatMap((curve) => ["", "ema."].filter((kept) => curve.y[kept + metric]).map((kept) => (
      { x: curve.x, y: curve.y[kept + metric], kind: kept ? "b" : "", label: `seed ${curve.seed}${kept ? ", averaged weights" : ""}` }))),
    { title: `Validation ${metric}, a line a seed${found.some((c) => c.y[`ema.${metric}`]) ? "; dashed: averaged weights" : ""}`, xlabel: "optimiser steps", level: bicubic[metric] }));
}

function schedule(found) {
  if (found.unknown) return [make("p", { class: "faint" }, `Schedule: this version cannot read the config (${found.unknown})`)];
  const made = [];
  if (found.alpha) made.push(plot([{ x: found.alpha.map(([x]) => x), y: found.alpha.map(([, y]) => y), label: "α" }], { title: `α over the run (${found.shape}): 0 the noise-free pair, 1 the real one`, xlabel: "fraction of the run", ends: [0, 1, 0, 1] }));
  if (found.practised) made.push(levels(found));
  return made;
}

function opened(board, row) {
  const found = DATA.behind[row.behind] || {}, common = DATA.behind[DATA.common[row.run]] || {};
  const again = row.fingerprints.map(([seed, name]) => make("p", {}, `seed ${seed}: `, make("code", {}, `python -m orchestrator.replay ${name}`)));
  const about = make("div", {}, make("h3", {}, row.name),
    make("p", {}, `target ${row.target}, loss ${row.loss}, ${row.weights} weights, ${row.precision}` + (row.drawn ? `, drawn by ${row.drawn}` : "") + (row.run ? `, run ${DATA.runs[row.run]}` : "")),
    row.twin ? make("p", {}, `the same weights as ${row.twin}, which is counted`) : null,
    row.folder ? make("p", {}, "weights of its first seed: ", make("code", {}, row.folder)) : null,
    row.use ? make("p", {}, "photographs by it: ", make("code", {}, row.use)) : null,
    again.length ? make("details", {}, make("summary", {}, "run it again"), ...again) : null);
  const drawn = [...curves(found.curves || [], (DATA.bicubic[row.run] || {})[`x${board.scale}`] || {}), ...schedule(found.schedule || {})];
  const config = found.config ? pairs("Config, where it differs within the run", found.config) : null;
  const shared = common.config && row.trained ? make("details", {}, make("summary", {}, "config that all rows of the run share"), pairs("", common.config)) : null;
  const columns = [[about, ...drawn], [pairs("Cost and search", row.cost)], [config, shared]].map((column) => column.filter(Boolean));
  const parts = [...columns.filter((column) => column.length).map((column) => make("div", {}, ...column)), scores(board, row)];
  const here = (item) => item.run === row.run && item.scale === board.scale && board.sets.some((set) => set.name === item.set);
  for (const item of DATA.crops.filter(here)) parts.push(comparison(item, row));
  for (const item of DATA.pictures.filter((p) => here(p) && ["comparison", "draws", "l", "sigma"].includes(p.kind))) {
    if (item.kind !== "sigma" || item.name.endsWith(`_${row.model}_${row.objective}`)) parts.push(picture(item));
  }
  return make("div", { class: "inside" }, ...parts);
}

// ---- a board

const FILTERS = [["network", (r) => r.model], ["target", (r) => r.target], ["loss", (r) => r.loss], ["objective", (r) => r.objective],
  ["weights", (r) => r.weights], ["run", (r) => (r.run ? DATA.runs[r.run] : "")], ["scale", (r, b) => b.at], ["protocol", (r, b) => b.protocol + (b.data ? `, data ${b.data}` : "")]];
const asked = { words: "" };

function passes(row, board) {
  const words = asked.words.toLowerCase().split(/\s+/).filter(Boolean), name = row.name.toLowerCase();
  return words.every((word) => name.includes(word))
    && FILTERS.every(([key, of]) => !asked[key] || of(row, board) === asked[key] || (!row.trained && !["scale", "protocol"].includes(key)));
}

function columnsOf(board, view) {
  const metric = board.metrics[view.metric], d = metric.digits, number = (i) => (c) => (c && c[i] != null ? Number(c[i]) : null);
  const all = [
    { name: "seeds", text: (c, r) => r.seeds ?? "–", value: (c, r) => r.seeds },
    { name: `${metric.name}${metric.unit ? ` (${metric.unit})` : ""}`, text: (c) => fixed(c && c[MEAN], d), value: number(MEAN), high: metric.higher },
    { name: "rank", text: rank, value: number(FIRST) },
    { name: "interval", text: (c) => (c ? span(c[LOW], c[HIGH], d) : "") || "–", value: number(LOW), high: metric.higher },
    { name: "", drawn: true, value: number(LOW) },
    { name: "sd", text: (c) => fixed(c && c[SD], d), value: number(SD) },
    { name: "over bicubic", text: (c) => fixed(c && c[GAIN], d, true), value: number(GAIN), high: metric.higher },
    { name: `over ${board.baseline}`, text: (c) => (c && c[OVER] != null ? `${fixed(c[OVER], d, true)} ${span(c[OVER_LOW], c[OVER_HIGH], d, true)}` : "–"), value: number(OVER), high: metric.higher },
    { name: "paper", text: (c) => fixed(c && c[PAPER], d), value: number(PAPER), high: metric.higher },
    { name: "parameters", text: (c, r) => (r.cost.parameters ? Number(r.cost.parameters).toLocaleString("en") : "–"), value: (c, r) => (r.cost.parameters ? Number(r.cost.parameters) : null) },
  ];
  return all.filter((column, i) => i < 2 || board.rows.some((r) => column.value(cellOf(r, view.set, view.metric), r) !== null));
}

function boardOf(board) {
  const one = board.sets.findIndex((set) => board.sortedBy.length === 1 && set.title === board.sortedBy[0]);
  const view = { set: one < 0 ? LEAD : String(one), metric: board.metrics.findIndex((m) => m.name === board.lead), sort: null, down: true };
  view.metric = Math.max(view.metric, 0);
  const table = make("table"), controls = make("div", { class: "controls" }), why = make("p", { class: "faint" });
  const title = `${board.at}, ${board.protocol}${board.data ? `, trained on data ${board.data}` : ""}`;

  function pick() {
    const sets = board.sets.map((set, i) => [String(i), set.title]);
    if (one < 0) sets.unshift([LEAD, `mean of ${board.sortedBy.join(", ")}`]);
    const metrics = board.metrics.map((m, i) => [String(i), `${m.name}: ${m.about}`]);
    controls.replaceChildren(
      choice("Test set", sets, view.set, (value) => { view.set = value; if (value === LEAD) view.metric = board.metrics.findIndex((m) => m.name === board.lead); render(); }),
      choice("Metric", metrics, String(view.metric), (value) => { view.metric = Number(value); if (view.set === LEAD && board.metrics[view.metric].name !== board.lead) view.set = "0"; render(); }));
  }

  function ordered(columns) {
    const rows = board.rows.filter((row) => passes(row, board));
    const column = view.sort === "name" ? null : columns.find((c) => c.name === view.sort);
    if (view.sort === "name") return rows.sort((a, b) => (view.down ? 1 : -1) * a.name.localeCompare(b.name));
    if (!column) return rows;
    const value = new Map(rows.map((row) => [row, column.value(cellOf(row, view.set, view.metric), row)]));
    const sign = view.down ? -1 : 1; // rows without a value are last, whichever way one sorts
    return rows.sort((a, b) => (value.get(a) === null) - (value.get(b) === null) || sign * (value.get(a) - value.get(b)) || 0);
  }

  function head(columns) {
    const line = make("tr");
    for (const column of [{ name: "name", shown: "model × objective" }, ...columns]) {
      const on = view.sort === column.name, sorted = on ? (view.down === (column.name !== "name") ? "descending" : "ascending") : "none";
      const sort = () => {
        view.down = on ? !view.down : column.name === "name" || column.high === true;
        view.sort = column.name;
        render();
        table.querySelectorAll("thead button").forEach((b) => { if (b.dataset.name === column.name) b.focus(); });
      };
      const mark = on ? (sorted === "descending" ? " ↓" : " ↑") : "";
      line.append(make("th", { scope: "col", "aria-sort": column.drawn ? null : sorted },
        column.drawn ? "" : make("button", { type: "button", "data-name": column.name, onclick: sort }, (column.shown || column.name) + mark)));
    }
    return make("thead", {}, line);
  }

  function lineOf(row, columns, ends) {
    const cell = cellOf(row, view.set, view.metric), best = Boolean(cell && cell[FIRST] === 1);
    const open = make("button", { type: "button", "aria-expanded": "false" }, row.name);
    const line = make("tr", { class: [best ? "best" : "", row.trained ? "" : "reference"].join(" ").trim() || null }, make("td", {}, open));
    for (const column of columns) {
      const shown = column.drawn ? (cell && cell[LOW] != null ? whisker(cell, ends) : "") : column.text(cell, row);
      line.append(make("td", { title: column.name === "rank" && cell && cell[WHY] ? cell[WHY] : null }, shown));
    }
    let detail = null;
    open.addEventListener("click", () => {
      if (detail) { detail.remove(); detail = null; } else {
        detail = make("tr", { class: "detail" }, make("td", { colspan: columns.length + 1 }, opened(board, row)));
        line.after(detail);
      }
      open.setAttribute("aria-expanded", String(Boolean(detail)));
    });
    return line;
  }

  function render() {
    pick();
    const columns = columnsOf(board, view), rows = ordered(columns);
    const cells = board.rows.map((row) => cellOf(row, view.set, view.metric)).filter((cell) => cell && cell[LOW] != null);
    const ends = [Math.min(...cells.map((c) => c[LOW])), Math.max(...cells.map((c) => c[HIGH]))];
    const body = make("tbody", {}, ...rows.map((row) => lineOf(row, columns, ends)));
    table.replaceChildren(make("caption", { class: "faint" }, `${rows.length} of ${board.rows.length} rows`), head(columns), body);
    const reasons = [...new Set(board.rows.filter((r) => r.trained).map((r) => cellOf(r, view.set, view.metric)).filter((c) => c && c[WHY]).map((c) => c[WHY]))];
    why.textContent = reasons.length ? `No rank: ${reasons.join("; ")}.` : "";
    section.hidden = !rows.some((row) => row.trained) && Object.values(asked).some(Boolean);
    return section.hidden ? 0 : rows.filter((row) => row.trained).length;
  }

  const figures = DATA.pictures.filter((p) => p.scale === board.scale && FIGURES.includes(p.kind) && (!p.set || board.sets.some((s) => s.name === p.set)))
    .sort((a, b) => FIGURES.indexOf(a.kind) - FIGURES.indexOf(b.kind));
  const shown = figures.length ? make("details", {}, make("summary", {}, `figures of ×${board.scale} (${figures.length})`)) : null;
  if (shown) shown.addEventListener("toggle", () => { if (shown.childElementCount === 1) shown.append(...figures.map(picture)); });
  const section = make("section", { "aria-label": title }, make("h2", {}, title), controls, make("div", { class: "scroll board" }, table), why,
    make("ul", { class: "notes" }, ...board.notes.map((note) => make("li", {}, note))), shown);
  return { section, render };
}

// ---- the page

const boards = DATA.boards.map(boardOf);

function renderAll() {
  const shown = boards.map((board) => board.render()).reduce((sum, count) => sum + count, 0);
  const all = DATA.boards.flatMap((board) => board.rows).filter((row) => row.trained).length;
  document.getElementById("count").textContent = `${shown} of ${all} trained rows; * may be best; click a row for its curves, schedule, config and pictures.`;
}

function start() {
  const names = Object.values(DATA.runs), form = document.getElementById("filters");
  const apart = DATA.boards.length > 1 ? " Rows of another scale, protocol or other training images stand on a board of their own; no ranking holds both." : "";
  const missing = DATA.leftOut.length ? ` Pictures without room in this page: ${DATA.leftOut.join(", ")}.` : "";
  document.getElementById("runs").textContent = `${names.length} run${names.length > 1 ? "s" : ""} on ${DATA.boards.length} board${DATA.boards.length > 1 ? "s" : ""}.${apart}${missing}`;
  const words = make("input", { type: "search", placeholder: "part of a name", oninput: () => { asked.words = words.value; renderAll(); } });
  form.append(make("label", {}, "Search", words));
  for (const [key, of] of FILTERS) {
    const values = [...new Set(DATA.boards.flatMap((board) => board.rows.filter((row) => row.trained).map((row) => of(row, board))))].filter(Boolean).sort();
    if (values.length > 1) form.append(choice(key[0].toUpperCase() + key.slice(1), [["", "all"], ...values.map((v) => [v, v])], "", (value) => { asked[key] = value; renderAll(); }));
  }
  form.append(make("button", { type: "reset" }, "Clear"));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => { for (const key of Object.keys(asked)) asked[key] = ""; setTimeout(renderAll); });
  document.getElementById("boards").append(...boards.map((board) => board.section));
  renderAll();
}

start();
