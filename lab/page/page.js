"use strict";
// Asks the lab what it is doing and shows it. Rows are kept by name, so that a button keeps its focus.

const EVERY_MS = 500;
const GONE_FOR_MS = 5000; // how long an environment that has ended is still shown

const byId = (id) => document.getElementById(id);
const environments = new Map(); // id -> {environment, goneAt}
const rows = new Map(); // function name -> {row, cells}

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function remember(living, now) {
  const present = new Set();
  for (const one of living) {
    present.add(one.id);
    environments.set(one.id, { environment: one, goneAt: null });
  }
  for (const [id, known] of environments) {
    if (present.has(id)) continue;
    known.goneAt ??= now;
    if (now - known.goneAt > GONE_FOR_MS) environments.delete(id);
  }
}

function chips(name) {
  const found = [...environments.values()].filter(({ environment }) => environment.function.split(":")[0] === name);
  return found.map(({ environment, goneAt }) => {
    const state = goneAt === null ? environment.state : "gone";
    const chip = element("span", `${environment.id.slice(0, 6)} ${state} · ${environment.invocations}`);
    chip.className = `environment ${state}`;
    chip.title = `${environment.invocations} invocations, ${Math.round(environment.peak_mb)} MB at most`;
    return chip;
  });
}

async function invoke(name, button) {
  button.disabled = true;
  const begun = performance.now();
  try {
    const answer = await fetch(`/2015-03-31/functions/${encodeURIComponent(name)}/invocations`, {
      method: "POST",
      body: byId("event").value,
    });
    const error = answer.headers.get("X-Amz-Function-Error");
    const took = `${answer.status}${error ? ` ${error}` : ""}, ${(performance.now() - begun).toFixed(1)} ms`;
    byId("answer").textContent = `${name}: ${took}\n${await answer.text()}`;
  } catch (error) {
    byId("answer").textContent = `${name}: no answer (${error.message})`;
  } finally {
    button.disabled = false;
  }
}

function newRow(one) {
  const row = element("tr");
  const name = element("td");
  const button = element("button", "Invoke");
  button.setAttribute("aria-label", `Invoke ${one.name}`);
  button.addEventListener("click", () => invoke(one.name, button));
  const cells = {
    name,
    memory: element("td", "", "number"),
    timeout: element("td", "", "number"),
    environments: element("td"),
  };
  const action = element("td");
  action.append(button);
  row.append(name, cells.memory, cells.timeout, cells.environments, action);
  return { row, cells, shown: "" };
}

function showFunction(one) {
  const known = rows.get(one.name) ?? newRow(one);
  rows.set(one.name, known);
  const shown = JSON.stringify(one);
  if (known.shown !== shown) {
    known.shown = shown;
    known.cells.memory.textContent = one.memory_mb;
    known.cells.timeout.textContent = one.timeout_s;
    const links = one.addresses.flatMap((url) => {
      const link = element("a", url);
      link.href = url;
      return [element("br"), link];
    });
    known.cells.name.replaceChildren(element("strong", one.name), ...links);
  }
  known.cells.environments.replaceChildren(...chips(one.name));
  return known.row;
}

function showFunctions(functions) {
  const names = new Set(functions.map((one) => one.name));
  for (const [name, { row }] of rows) {
    if (names.has(name)) continue;
    row.remove();
    rows.delete(name);
  }
  const body = byId("functions");
  functions.forEach((one, index) => {
    const row = showFunction(one);
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] ?? null);
  });
  byId("no-functions").hidden = functions.length > 0;
}

function showInvocation(one) {
  const row = element("tr");
  const { report } = one;
  const failed = one.function_error ? report.error_type ?? "function error" : "ok";
  const result = report.status === "timeout" ? "timed out" : failed;
  const init = report.init_duration_ms ?? report.restore_duration_ms;
  row.append(
    element("td", new Date(one.ended_at_s * 1000).toLocaleTimeString()),
    element("td", one.function),
    element("td", one.environment_id.slice(0, 6)),
    element("td", result, one.function_error ? "reset" : ""),
    element("td", init === null ? "" : init.toFixed(1), "number"),
    element("td", report.duration_ms.toFixed(1), "number"),
    element("td", report.billed_duration_ms, "number"),
    element("td", report.max_memory_used_mb, "number"),
  );
  return row;
}

function show(seen) {
  const { limits } = seen;
  const scale = seen.time_scale === 1 ? "" : `, time scale ${seen.time_scale}`;
  const how = `CPU ${limits.cpu}, memory ${limits.memory}, freezing ${limits.freezer}`;
  byId("facts").textContent = `${seen.host}. Limits in force: ${how} (${limits.driver}${scale}).`;
  remember(seen.environments, performance.now());
  showFunctions(seen.functions);
  byId("invocations").replaceChildren(...seen.invocations.map(showInvocation));
}

async function refresh() {
  try {
    const answer = await fetch("activity");
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    show(await answer.json());
    byId("lost").textContent = "";
  } catch (error) {
    byId("lost").textContent = `The lab does not answer (${error.message}). What you see is its last state.`;
  }
  setTimeout(refresh, document.hidden ? EVERY_MS * 10 : EVERY_MS);
}

refresh();
