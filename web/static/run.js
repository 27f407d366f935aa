// A run's page: follows the run's event stream, draws its series, appends its log.
"use strict";

const COLOURS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7", "--c8"];
const DASHES = [undefined, [5, 4], [2, 3]];
const SPELLED = ["NaN", "Infinity", "-Infinity"];
const SERIES_PER_REQUEST = 64;

const page = document.getElementById("run");
const base = `/api/v1/runs/${page.dataset.run}`;
// Which charts there are, in which order and units, is the table of domain/series.py.
const chartsElement = document.getElementById("charts");
const CHARTS = JSON.parse(chartsElement.dataset.charts);
const charts = new Map();

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

async function fetchJson(address) {
  const answer = await fetch(address, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`the lab answered ${answer.status}`);
  return answer.json();
}

async function fetchPoints(names) {
  const points = {};
  for (let start = 0; start < names.length; start += SERIES_PER_REQUEST) {
    const some = names.slice(start, start + SERIES_PER_REQUEST);
    const query = some.map((name) => `name=${encodeURIComponent(name)}`).join("&");
    Object.assign(points, (await fetchJson(`${base}/metrics/history?${query}&max_points=800`)).series);
  }
  return points;
}

async function redraw() {
  const note = document.getElementById("curves-note");
  try {
    const { items } = await fetchJson(`${base}/metrics`);
    if (!items.length) return;
    const points = await fetchPoints(items.map((series) => series.name));
    for (const chart of CHARTS) {
      const lines = items.filter((series) => series.chart === chart.name).sort(byPlace(chart));
      if (lines.length) draw(chart, lines, points);
    }
    note.textContent = "by optimiser step; click a name to hide it";
  } catch (error) {
    note.textContent = `The curves cannot be read: ${error.message}.`;
  } finally {
    page.dataset.drawn = "yes";
  }
}

function byPlace(chart) {
  const place = ({ name }) => (chart.series.includes(name) ? chart.series.indexOf(name) : Infinity);
  return (one, other) => (place(one) === place(other) ? 0 : place(one) - place(other));
}

function scaled(value, chart, logarithmic) {
  if (SPELLED.includes(value)) return null;
  const number = value * chart.factor;
  return logarithmic && number <= 0 ? null : number;
}

function columns(shown) {
  const tables = shown.lines.map(({ name }) => {
    const { steps, values } = shown.points[name];
    return [steps, values.map((value) => scaled(value, shown.chart, shown.logarithmic))];
  });
  // Nulls stay gaps in a curve; steps that only another series has become undefined and do not.
  return tables.length > 1 ? uPlot.join(tables) : tables[0];
}

function draw(chart, lines, points) {
  const shown = charts.get(chart.name) || { chart, logarithmic: false, frame: addFrame(chart) };
  const names = lines.map((line) => line.name).join();
  const isSame = shown.plot && shown.names === names;
  Object.assign(shown, { lines, points, names });
  charts.set(chart.name, shown);
  if (!isSame) {
    if (shown.plot) shown.plot.destroy();
    plot(shown);
    return;
  }
  shown.plot.setData(columns(shown));
  tellLast(shown.plot);
}

function addFrame(chart) {
  const frame = document.createElement("section");
  frame.className = "chart card";
  frame.dataset.chart = chart.name;
  const head = document.createElement("div");
  head.className = "chart-head";
  const title = document.createElement("h3");
  title.id = `chart-${chart.name}`;
  title.textContent = chart.title;
  frame.setAttribute("aria-labelledby", title.id);
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "log";
  button.title = "Logarithmic axis";
  button.setAttribute("aria-label", `Logarithmic axis: ${chart.title}`);
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => toggleScale(chart.name, button));
  head.append(title, button);
  frame.append(head);
  chartsElement.insertBefore(frame, frameAfter(chart));
  new ResizeObserver(() => {
    const shown = charts.get(chart.name);
    if (shown && shown.plot) shown.plot.setSize({ width: inner(frame), height: 210 });
  }).observe(frame);
  return frame;
}

function frameAfter(chart) {
  const later = CHARTS.slice(CHARTS.indexOf(chart) + 1).map((other) => other.name);
  return [...chartsElement.children].find((frame) => later.includes(frame.dataset.chart)) || null;
}

function inner(frame) {
  const style = getComputedStyle(frame);
  return Math.max(120, frame.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight));
}

function toggleScale(name, button) {
  const shown = charts.get(name);
  shown.logarithmic = !shown.logarithmic;
  button.setAttribute("aria-pressed", String(shown.logarithmic));
  rebuild(shown);
}

function rebuild(shown) {
  const visible = shown.plot.series.map((series) => series.show);
  shown.plot.destroy();
  plot(shown);
  visible.forEach((show, index) => { if (index && !show) shown.plot.setSeries(index, { show: false }); });
}

function written(value) {
  return Math.abs(value) >= 1000 ? value.toFixed(0) : String(Number(value.toPrecision(4)));
}

function plot(shown) {
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const missing = shown.logarithmic ? "not above 0" : "not a finite number";
  const legend = (value) => (value === undefined ? "–" : value === null ? missing : written(value));
  const lines = shown.lines.map(({ name, label }, index) => ({
    label,
    stroke: colour(COLOURS[index % COLOURS.length]),
    width: 1.6,
    dash: DASHES[Math.floor(index / COLOURS.length) % DASHES.length],
    points: { show: shown.points[name].steps.length < 40, size: 4 },
    value: (_, value) => legend(value),
  }));
  shown.plot = new uPlot({
    width: inner(shown.frame),
    height: 210,
    cursor: { sync: { key: "run" }, drag: { x: true, y: false }, points: { size: 6 } },
    scales: { x: { time: false }, y: { distr: shown.logarithmic ? 3 : 1 } },
    axes: [{ ...axis, space: 60, size: 30 }, { ...axis, size: 52, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : written(tick))) }],
    // Without a pointer over it the legend tells the last point.
    hooks: { setLegend: [(u) => { if (u.legend.idxs.every((index) => index === null)) tellLast(u); }] },
    series: [{ label: "step", value: (_, value) => (value === null || value === undefined ? "–" : String(value)) }, ...lines],
  }, columns(shown), shown.frame);
  tellLast(shown.plot);
}

function tellLast(u) {
  const lastOf = (column) => column.findLastIndex((value) => value !== undefined);
  const indices = u.data.map(lastOf);
  if (indices[0] >= 0) u.setLegend({ idxs: indices.map((index) => (index < 0 ? null : index)) }, false);
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
const onMetrics = atMostEvery(2000, redraw);

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
    redraw();
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
redraw();
if (page.dataset.live === "yes") listen();
