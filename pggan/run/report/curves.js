// The charts, from the data that charts.py makes.

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

function curves(all) {
  if (!all.charts.length) return;
  $("no-curves").hidden = true;
  $("hint").hidden = false;
  const draw = () => {
    $("curves-all").replaceChildren();
    const rooms = {};
    for (const chart of all.charts) {
      rooms[chart.group] ??= room(chart.group, all.charts.filter((other) => other.group === chart.group).length);
      drawn(chart, all, rooms[chart.group]);
    }
  };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

// Adds a group with room for `count` charts.
function room(name, count) {
  const group = $("curves-all").appendChild(document.createElement("div"));
  group.className = `group of-${count}`;
  group.appendChild(document.createElement("h3")).textContent = name;
  const place = group.appendChild(document.createElement("div"));
  place.className = "charts";
  return place;
}

const latest = (values) => values.findLastIndex((value) => value !== null);

// The index of the nearest value: figures of evaluations have none in most records.
function nearest(values, index) {
  for (let far = 0; far < values.length; far++) {
    if (values[index - far] != null) return index - far;
    if (values[index + far] != null) return index + far;
  }
  return index;
}

function drawn(chart, all, place) {
  const figure = place.appendChild(document.createElement("figure"));
  figure.className = "chart";
  figure.appendChild(document.createElement("figcaption")).textContent = chart.title;
  const columns = [all.data.kimg];
  const lines = [{ label: "kimg", value: (u, value) => plain(value ?? columns[0][columns[0].length - 1], 5) }];
  const bands = [];
  chart.series.forEach((series, number) => add(series, number, chart, all, { columns, lines, bands }));
  const options = {
    width: figure.clientWidth, height: 210, padding: [20, 12, 0, 0], series: lines, bands,
    cursor: { sync: { key: "run" }, dataIdx: (u, series, index) => (series ? nearest(columns[series], index) : index) },
    legend: { markers: { stroke: (u, line) => u.series[line].ink } },
    scales: { x: { time: false }, y: chart.log ? { distr: 3 } : { range: range(chart) } }, axes: axes(chart),
    hooks: { drawClear: [(u) => shade(u, all.fades)], draw: [(u) => mark(u, all.marks)], setSeries: [together] },
  };
  const plot = new uPlot(options, columns, figure);
  describe(plot, chart, all);
  new ResizeObserver(() => plot.setSize({ width: figure.clientWidth, height: 210 })).observe(figure);
}

// Adds a series to a chart: its line, its running mean and its band.
function add(series, number, chart, all, { columns, lines, bands }) {
  const values = all.data[series.key], stroke = color(`series-${number % 4}`), write = writer(chart);
  const said = (index) => {
    if (index < 0 || values[index] == null) return "–";
    const ends = series.low && [all.data[series.low][index], all.data[series.high][index]];
    const around = ends && ends[0] != null && ends[1] != null ? ` (${ends.map(write).join(" to ")})` : "";
    return write(values[index]) + around;
  };
  const quiet = { class: "end", spanGaps: true, points: { show: false } };
  const few = values.filter((value) => value !== null).length <= 60;
  columns.push(values);
  lines.push({
    label: series.name, ink: stroke, stroke: series.mean ? stroke + "4d" : stroke, width: series.mean ? 1 : 1.5,
    spanGaps: true, points: { show: few, size: 5 },
    paths: chart.step ? uPlot.paths.stepped({ align: 1 }) : undefined,
    value: (u, value, line, index) => said(index ?? latest(values)),
  });
  if (series.mean) {
    columns.push(all.data[series.mean]);
    lines.push({ ...quiet, label: series.mean, stroke, width: 2 });
  }
  if (!series.low) return;
  for (const end of [series.low, series.high]) {
    columns.push(all.data[end]);
    lines.push({ ...quiet, label: end, stroke: "transparent", width: 0 });
  }
  bands.push({ series: [lines.length - 1, lines.length - 2], fill: stroke + "33" });
}

// Hides or shows a series' mean and band together with its line.
function together(u, line, change) {
  if (line === null || change.show === undefined) return;
  for (let end = line + 1; u.series[end]?.class === "end"; end++) {
    if (u.series[end].show !== change.show) u.setSeries(end, { show: change.show });
  }
}

// The steps of axes in bytes and in time, which are not powers of ten.
const powers = (base, steps) => [0, 1, 2, 3, 4, 5].flatMap((power) => steps.map((step) => step * base ** power));
const increments = {
  bytes: powers(1024, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]),
  seconds: [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18000, 36000, 86400, 259200, 864000],
};

// The ends of an axis: those of the chart unless values lie beyond, else from the values.
const range = (chart) => (u, low, high) => {
  const [from, to] = low === 0 && high === 0 ? [0, 1] : uPlot.rangeNum(low ?? 0, high ?? 1, 0.1, true);
  return [chart.low === null ? from : Math.min(chart.low, low ?? 0), chart.high === null ? to : Math.max(chart.high, high ?? 1)];
};

function axes(chart) {
  const incrs = chart.names.length ? [1] : increments[chart.unit], write = writer(chart);
  const both = { stroke: () => color("soft"), font: "12px system-ui, sans-serif", ticks: { show: false } };
  const grid = { stroke: () => color("line"), width: 1 };
  return [
    { ...both, grid: { show: false }, size: 28, values: (u, splits) => splits.map((value) => plain(value, 5)) },
    {
      ...both, grid, size: chart.names.length ? 104 : 64, ...(incrs && { incrs }),
      values: (u, splits) => splits.map((value) => (value === null ? "" : write(value))),
    },
  ];
}

function shade(u, fades) {
  u.ctx.save();
  u.ctx.fillStyle = color("fade");
  for (const [from, to] of fades) {
    const [left, right] = [from, to].map((kimg) => within(u, u.valToPos(kimg, "x", true)));
    u.ctx.fillRect(left, u.bbox.top, right - left, u.bbox.height);
  }
  u.ctx.restore();
}

const within = (u, x) => Math.min(Math.max(x, u.bbox.left), u.bbox.left + u.bbox.width);

function mark(u, marks) {
  const { ctx, bbox } = u, scale = devicePixelRatio;
  ctx.save();
  ctx.font = `${11 * scale}px system-ui, sans-serif`;
  ctx.textAlign = "left";
  ctx.setLineDash([4 * scale, 3 * scale]);
  let free = -Infinity; // where the next label may begin; one that would overlap is left out
  for (const { kimg, action, label } of marks) {
    const x = u.valToPos(kimg, "x", true);
    if (x !== within(u, x)) continue;
    ctx.strokeStyle = ctx.fillStyle = color(action === "rollback" ? "bad" : "mark");
    ctx.lineWidth = scale;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    const wide = ctx.measureText(label).width, left = Math.min(x - wide / 2, bbox.left + bbox.width - wide);
    if (left < free) continue;
    ctx.fillText(label, left, bbox.top - 6 * scale);
    free = left + wide + 6 * scale;
  }
  ctx.restore();
}

// Describes the chart for screen readers, and lets the keyboard hide its lines.
function describe(plot, chart, all) {
  const values = chart.series.map(({ key, name }) => {
    const index = latest(all.data[key]);
    return index < 0 ? "" : `${name} ${writer(chart)(all.data[key][index])} at the end`;
  });
  const canvas = plot.root.querySelector("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Chart: ${chart.title}. ${values.join(", ")}`);
  for (const name of plot.root.querySelectorAll(".u-series:not(:first-child) th")) {
    name.tabIndex = 0;
    name.setAttribute("role", "button");
    name.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      name.click();
    });
  }
}
