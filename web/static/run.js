// A run's page: follows the run's event stream, draws its series, appends its log.
"use strict";

const GROUPS = [
  { title: "Accuracy", match: /accuracy/, percent: true },
  { title: "Loss", match: /loss/ },
  { title: "Mask S", match: /^mask\// },
  { title: "Radius in grey levels", match: /^epsilon\//, scale: 255 },
  { title: "Learning rate", match: /learning_rate/ },
  { title: "Images per second", match: /images_per_second/ },
  { title: "Constant maps", match: /^cam\//, percent: true },
  { title: "Other", match: /./ },
];
const COLOURS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6"];
const SPELLED = { NaN: null, Infinity: null, "-Infinity": null };

const page = document.getElementById("run");
const base = `/api/v1/runs/${page.dataset.run}`;
const charts = new Map();

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function grouped(names) {
  const groups = new Map();
  for (const name of names.filter((n) => !n.startsWith("eval/"))) {
    const group = GROUPS.find((g) => g.match.test(name));
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(name);
  }
  return groups;
}

async function fetchJson(address) {
  const answer = await fetch(address, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${answer.status} ${address}`);
  return answer.json();
}

async function redraw() {
  const { items } = await fetchJson(`${base}/metrics`);
  const names = items.map((one) => one.name);
  const groups = grouped(names);
  const wanted = [...groups.values()].flat().slice(0, 64);
  if (!wanted.length) return;
  const query = wanted.map((name) => `name=${encodeURIComponent(name)}`).join("&");
  const { series } = await fetchJson(`${base}/metrics/history?${query}&max_points=800`);
  document.getElementById("curves-note").textContent = "by optimiser step; click a name to hide it";
  for (const group of GROUPS.filter((g) => groups.has(g))) draw(group, groups.get(group), series);
}

function table(points, group, logarithmic) {
  const factor = group.percent ? 100 : group.scale || 1;
  const values = points.values.map((value) => {
    const number = value in SPELLED ? null : value * factor;
    return logarithmic && number !== null && number <= 0 ? null : number;
  });
  return [points.steps, values];
}

function draw(group, names, series) {
  const known = charts.get(group.title);
  const logarithmic = known ? known.logarithmic : false;
  const tables = names.filter((n) => series[n]).map((n) => table(series[n], group, logarithmic));
  const data = tables.length > 1 ? uPlot.join(tables) : tables[0];
  if (known && known.names.join() === names.join()) {
    known.series = series;
    known.plot.setData(data);
    tellLast(known.plot);
    return;
  }
  const frame = known ? known.frame : addFrame(group, names, series);
  const chart = { frame, names, series, logarithmic, group };
  chart.plot = plot(chart, data);
  charts.set(group.title, chart);
}

function addFrame(group) {
  const frame = document.createElement("div");
  frame.className = "chart card";
  const head = document.createElement("div");
  head.className = "chart-head";
  const title = document.createElement("h3");
  title.textContent = group.percent ? `${group.title}, %` : group.title;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "log";
  button.title = "Logarithmic axis";
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => toggleScale(group.title, button));
  head.append(title, button);
  frame.append(head);
  document.getElementById("charts").append(frame);
  new ResizeObserver(() => {
    const chart = charts.get(group.title);
    if (chart && chart.plot) chart.plot.setSize({ width: inner(frame), height: 210 });
  }).observe(frame);
  return frame;
}

function inner(frame) {
  const style = getComputedStyle(frame);
  return Math.max(120, frame.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight));
}

function toggleScale(title, button) {
  const chart = charts.get(title);
  chart.logarithmic = !chart.logarithmic;
  button.setAttribute("aria-pressed", String(chart.logarithmic));
  rebuild(chart);
}

function rebuild(chart) {
  const shown = chart.plot.series.map((one) => one.show);
  chart.plot.destroy();
  const tables = chart.names.map((n) => table(chart.series[n], chart.group, chart.logarithmic));
  chart.plot = plot(chart, tables.length > 1 ? uPlot.join(tables) : tables[0]);
  shown.forEach((show, index) => { if (index && !show) chart.plot.setSeries(index, { show: false }); });
}

function written(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) >= 1000 ? value.toFixed(0) : String(Number(value.toPrecision(4)));
}

function plot(chart, data) {
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const lines = chart.names.map((name, index) => ({
    label: name,
    stroke: colour(COLOURS[index % COLOURS.length]),
    width: 1.6,
    dash: index >= COLOURS.length ? [5, 4] : undefined,
    spanGaps: true,
    points: { show: chart.series[name].steps.length < 40, size: 4 },
    value: (_, value) => written(value),
  }));
  const made = new uPlot({
    width: inner(chart.frame),
    height: 210,
    cursor: { sync: { key: "run" }, drag: { x: true, y: false }, points: { size: 6 } },
    scales: { x: { time: false }, y: { distr: chart.logarithmic ? 3 : 1 } },
    axes: [{ ...axis, space: 60, size: 30 }, { ...axis, size: 52, values: (_, ticks) => ticks.map((t) => (t === null ? "" : written(t))) }],
    // Without a pointer over it the legend tells the last point.
    hooks: { setLegend: [(u) => { if (u.legend.idxs.every((i) => i === null)) tellLast(u); }] },
    series: [{ label: "step", value: (_, value) => (value === null ? "–" : String(value)) }, ...lines],
  }, data, chart.frame);
  tellLast(made);
  return made;
}

function tellLast(u) {
  const lastOf = (column) => column.findLastIndex((value) => value !== null && value !== undefined);
  const idxs = u.data.map(lastOf);
  if (idxs[0] >= 0) u.setLegend({ idxs: idxs.map((i) => (i < 0 ? null : i)) }, false);
}

// ---- log -----------------------------------------------------------------------------------------

const log = document.getElementById("log");
const follow = document.getElementById("follow");
const MAX_LINES = 2000;

function say(line) {
  document.getElementById("log-empty")?.remove();
  const row = document.createElement("div");
  row.className = `line ${line.level}`;
  const time = document.createElement("time");
  time.dateTime = line.at;
  time.textContent = new Date(line.at).toLocaleTimeString([], { hour12: false });
  const text = document.createElement("span");
  text.textContent = line.message;
  row.append(time, text);
  log.append(row);
  while (log.children.length > MAX_LINES) log.firstElementChild.remove();
  if (follow.checked) log.scrollTop = log.scrollHeight;
}

// ---- the stream ----------------------------------------------------------------------------------

function atMostEvery(milliseconds, action) {
  let timer = null;
  let last = 0;
  return () => {
    if (timer) return;
    const wait = Math.max(0, last + milliseconds - Date.now());
    timer = setTimeout(() => { timer = null; last = Date.now(); action(); }, wait);
  };
}

const refresh = (name) => () => htmx.trigger(document.body, name);
const onState = atMostEvery(300, refresh("lab:state"));
const onProgress = atMostEvery(1000, refresh("lab:progress"));
const onFiles = atMostEvery(10000, refresh("lab:files"));
const onMetrics = atMostEvery(2000, () => redraw().catch(() => {}));

let cursor = page.dataset.cursor;
let source = null;

function listen() {
  if (source) return;
  source = new EventSource(`${base}/stream?last_event_id=${encodeURIComponent(cursor)}`);
  const on = (name, action) => source.addEventListener(name, (event) => {
    cursor = event.lastEventId || cursor;
    action(event);
  });
  on("log", (event) => say(JSON.parse(event.data)));
  on("state", onState);
  on("progress", () => { onProgress(); onFiles(); });
  on("metrics", onMetrics);
  on("end", () => {
    hangUp();
    page.dataset.live = "no";
    refresh("lab:end")();
    redraw().catch(() => {});
  });
}

function hangUp() {
  if (source) source.close();
  source = null;
}

// A hidden tab keeps no connection: browsers allow few of them to one host.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) hangUp();
  else if (page.dataset.live === "yes") listen();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(rebuild));
follow.addEventListener("change", () => { if (follow.checked) log.scrollTop = log.scrollHeight; });
log.scrollTop = log.scrollHeight;
redraw().catch(() => {});
if (page.dataset.live === "yes") listen();
