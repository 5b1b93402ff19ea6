"use strict";
// Draws the figures from the data block of this page, filters and sorts, and hands out downloads. No request leaves it.
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const figures = new Map(data.figures.map((figure) => [figure.id, figure]));
  for (const figure of data.figures) {
    figure.rows = figure.values.map((values) => Object.fromEntries(values.map((value, i) => [figure.keys[i], value])));
  }
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const views = new Map();

  // ---- charts -------------------------------------------------------------------------------------------------------

  const theme = () => data.themes[dark.matches ? "dark" : "light"];

  // Data stay as they are: a label that looks like a token is still a label.
  function paint(node, colors) {
    if (Array.isArray(node)) return node.map((item) => paint(item, colors));
    if (node && typeof node === "object") {
      return Object.fromEntries(
        Object.entries(node).map(([key, value]) => [key, key === "datasets" ? value : paint(value, colors)]),
      );
    }
    return typeof node === "string" && node.startsWith("@") ? (colors[node] ?? node) : node;
  }

  function filteredRows(figure, filter) {
    return figure.rows.filter(
      (row) =>
        (!row.model || filter.model.has(row.model)) &&
        (!row.engine || filter.engine.has(row.engine)) &&
        (row.memory_mb === null || row.memory_mb === undefined || filter.memory.has(String(row.memory_mb))) &&
        (!row.experiment || filter.experiment.has(row.experiment)),
    );
  }

  // Fewer memory sizes are written out where there is less room.
  function relabel(node, labels) {
    if (!node || typeof node !== "object") return;
    if (node.axis?.labelExpr) node.axis.labelExpr = labels;
    for (const value of Object.values(node)) relabel(value, labels);
  }

  function chartFor(figure, rows, { width, titled }) {
    const chart = structuredClone(figure.chart);
    const colors = theme();
    const config = structuredClone(data.config);
    Object.assign(config.legend, chart.config?.legend);
    if (titled) {
      chart.width = figure.chart.width;
    } else {
      delete chart.title;
      chart.width = "container";
      // A narrow screen stacks the legend and writes fewer labels.
      config.legend.columns = Math.max(1, Math.min(figure.legend_columns, Math.floor(width / figure.legend_width)));
      if (width < 480) {
        relabel(chart, figure.narrow_labels);
        config.legend.labelLimit = width - 60;
      }
    }
    chart.config = config;
    chart.datasets = { rows };
    return paint(chart, colors);
  }

  async function draw(figure) {
    const block = document.getElementById(figure.id);
    const box = document.getElementById(`${figure.id}-chart`);
    if (!box || block.hidden || block.closest("details:not([open])")) return;
    const rows = filteredRows(figure, currentFilter());
    const message = block.querySelector(".filtered-out");
    message.hidden = rows.length > 0;
    box.hidden = rows.length === 0;
    views.get(figure.id)?.finalize();
    views.delete(figure.id);
    if (rows.length === 0) return;
    try {
      const result = await window.vegaEmbed(box, chartFor(figure, rows, { width: box.clientWidth, titled: false }), {
        actions: false,
        renderer: "svg",
        ast: true,
        logLevel: 1, // errors: a filter may leave a layer without rows
        tooltip: { theme: dark.matches ? "dark" : "light" },
      });
      views.set(figure.id, result);
      block.classList.add("drawn");
    } catch (error) {
      // The still picture takes its place.
      block.classList.add("failed");
      console.error(figure.id, error);
    }
  }

  // A layer without a mark is an image without a name to a screen reader. Vega writes the role again whenever it renders,
  // as it does by itself when the window changes.
  new MutationObserver(() => {
    document.querySelectorAll(".chart g[role]:empty").forEach((layer) => layer.removeAttribute("role"));
  }).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["role"] });

  let round = 0;
  async function drawAll() {
    const mine = ++round;
    delete document.documentElement.dataset.figures;
    document.documentElement.dataset.scheme = dark.matches ? "dark" : "light";
    for (const figure of data.figures) {
      if (mine !== round) return;
      await draw(figure);
    }
    if (mine === round) document.documentElement.dataset.figures = "drawn";
  }

  // ---- other traffic ------------------------------------------------------------------------------------------------

  const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
  const cents = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  const number = (value) => (value === null ? "unknown" : short.format(value));
  const dollars = (value) => `$${value >= 1 || value === 0 ? cents.format(value) : short.format(value)}`;
  const percent = (share) => (share === null ? "unknown" : `${short.format(100 * share)}%`);

  function latency(ms) {
    return ms === null ? "unknown" : ms < 0 ? "no answer" : `${number(ms)} ms`;
  }

  function showWhatIf() {
    const panel = document.getElementById("what-if-form");
    const sliders = [...panel.querySelectorAll("input")];
    for (const slider of sliders) {
      const text = JSON.parse(slider.dataset.steps)[slider.value];
      slider.setAttribute("aria-valuetext", text);
      slider.nextElementSibling.value = text;
    }
    const place = sliders.reduce((before, slider, axis) => before * data.what_if.steps[axis] + Number(slider.value), 0);
    const [name, strategy, kept, meets, missed, low, high, cold, p99, ...usd] = data.what_if.answers[place];
    const result = document.getElementById("what-if-result");
    const write = (selector, text) => { result.querySelector(selector).textContent = text; };
    const own = sliders.every((slider) => slider.value === slider.defaultValue);
    const none = name === undefined;
    result.querySelector("dl").hidden = none;
    const state = none || meets ? "" : " Provisional: too little was measured to be sure.";
    write(".kicker", `${own ? "This run's own traffic: the answer above." : "The answer there."}${state}`);
    write("h3", none ? "No measured function meets the goal there." : answerText(name, strategy, kept));
    write(".strategies", none ? "" : strategiesText(usd));
    if (none) return;
    write("[data-tile=usd]", dollars(usd[strategy]));
    write("[data-tile=p99]", latency(p99));
    write("[data-tile=missed]", percent(missed));
    write("[data-tile=interval]", low === null ? "" : `${short.format(100 * low)} to ${percent(high)}`);
    write("[data-tile=cold]", percent(cold));
  }

  function answerText(name, strategy, kept) {
    const environments = kept > 0 ? ` (${kept} ${kept === 1 ? "environment" : "environments"})` : "";
    return `${data.what_if.names[name]}, ${data.what_if.strategies[strategy]}${environments}`;
  }

  function strategiesText(usd) {
    const known = [...usd.keys()].filter((strategy) => usd[strategy] !== null);
    const prices = known.map((strategy) => `${data.what_if.strategies[strategy]} ${dollars(usd[strategy])}`);
    return `The same function, per month: ${prices.join(", ")}.`;
  }

  if (data.what_if) {
    const panel = document.getElementById("what-if-form");
    panel.addEventListener("input", showWhatIf);
    panel.addEventListener("submit", (event) => event.preventDefault());
    panel.addEventListener("reset", () => setTimeout(showWhatIf));
    showWhatIf();
  }

  // ---- filter -------------------------------------------------------------------------------------------------------

  const form = document.getElementById("filters");
  const status = document.getElementById("filter-status");

  function currentFilter() {
    const chosen = (name) =>
      new Set([...form.querySelectorAll(`input[name="${name}"]:checked`)].map((input) => input.value));
    return {
      model: chosen("model"),
      engine: chosen("engine"),
      memory: chosen("memory"),
      experiment: chosen("experiment"),
    };
  }

  function applyFilter() {
    const filter = currentFilter();
    let shownFigures = 0;
    for (const block of document.querySelectorAll(".figure")) {
      const images = block.dataset.images.split(" ").filter(Boolean).map((image) => image.split("/"));
      const experiment = block.dataset.experiment;
      block.hidden =
        (images.length > 0 &&
          !images.some(([model, engine]) => filter.model.has(model) && filter.engine.has(engine))) ||
        (experiment !== "" && !filter.experiment.has(experiment));
      shownFigures += block.hidden ? 0 : 1;
    }
    for (const row of document.querySelectorAll("tr[data-model], tr[data-memory], tr[data-experiment]")) {
      const { model, engine, memory, experiment } = row.dataset;
      row.hidden =
        (model !== undefined && !filter.model.has(model)) ||
        (engine !== undefined && !filter.engine.has(engine)) ||
        (memory !== undefined && !filter.memory.has(memory)) ||
        (experiment !== undefined && form.querySelector(`input[name="experiment"][value="${experiment}"]`) !== null &&
          !filter.experiment.has(experiment));
    }
    for (const cell of document.querySelectorAll("th[data-experiment], td[data-experiment]")) {
      cell.hidden = !filter.experiment.has(cell.dataset.experiment);
    }
    const all = document.querySelectorAll(".figure").length;
    const functions = document.querySelectorAll("#overview tbody tr");
    const shown = [...functions].filter((row) => !row.hidden).length;
    status.textContent = `${shown} of ${functions.length} functions, ${shownFigures} of ${all} figures`;
    return drawAll();
  }

  form.addEventListener("change", applyFilter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(applyFilter));

  // ---- tables that sort ---------------------------------------------------------------------------------------------

  function sortKey(row, column) {
    const cell = row.cells[column];
    if (!cell) return null;
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    return cell.classList.contains("number") ? null : cell.textContent.trim();
  }

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  }

  function sortBy(table, header, column) {
    const descending = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row, place) => ({ row, place, key: sortKey(row, column) }));
    // What has no number goes last either way.
    rows.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;
      return (descending ? -1 : 1) * compare(a.key, b.key) || a.place - b.place;
    });
    body.append(...rows.map((entry) => entry.row));
  }

  // Where a header has two lines, the columns are those of the last line, after the headers that span both.
  function columnHeaders(table) {
    const lines = [...table.tHead.rows];
    if (lines.length === 1) return [...lines[0].cells];
    const spanning = [...lines[0].cells].filter((cell) => cell.rowSpan > 1);
    return [...spanning, ...lines[lines.length - 1].cells];
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    columnHeaders(table).forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => sortBy(table, header, column));
    });
  }

  // ---- downloads ----------------------------------------------------------------------------------------------------

  function save(name, blob) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  function csvField(value) {
    if (value === null || value === undefined) return "";
    const text = String(value);
    // A spreadsheet takes a text that begins like this for a formula.
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  function csv(figure) {
    const keys = figure.columns.map((column) => column.key);
    const lines = [keys, ...filteredRows(figure, currentFilter()).map((row) => keys.map((key) => row[key]))];
    return lines.map((line) => line.map(csvField).join(",")).join("\n") + "\n";
  }

  // The picture that is handed out carries title and badge, which the page shows next to it.
  async function picture(figure, kind) {
    const away = document.createElement("div");
    const rows = filteredRows(figure, currentFilter());
    const result = await window.vegaEmbed(away, chartFor(figure, rows, { titled: true }), {
      actions: false,
      renderer: "svg",
      ast: true,
      logLevel: 1,
    });
    try {
      if (kind === "svg") return new Blob([await result.view.toSVG()], { type: "image/svg+xml" });
      const canvas = await result.view.toCanvas(2);
      return await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    } finally {
      result.finalize();
    }
  }

  for (const button of document.querySelectorAll("button[data-download]")) {
    button.addEventListener("click", async () => {
      const figure = figures.get(button.dataset.figure);
      const kind = button.dataset.download;
      const blob =
        kind === "csv" ? new Blob([csv(figure)], { type: "text/csv" }) : await picture(figure, kind);
      save(`${figure.id}.${kind}`, blob);
    });
  }

  // ---- life ---------------------------------------------------------------------------------------------------------

  dark.addEventListener("change", drawAll);
  // A folded figure has no width to be drawn in.
  document.querySelectorAll("details.more-figures").forEach((more) => more.addEventListener("toggle", drawAll));
  if (window.matchMedia("(max-width: 60rem)").matches) form.querySelector("details").open = false;
  let width = document.documentElement.clientWidth;
  let timer = 0;
  window.addEventListener("resize", () => {
    if (document.documentElement.clientWidth === width) return;
    width = document.documentElement.clientWidth;
    clearTimeout(timer);
    timer = setTimeout(drawAll, 150);
  });
  applyFilter();
})();
