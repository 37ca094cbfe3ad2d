// The page: one connection for all its streams (a browser opens six to a host at most), and what
// each event changes on the screen.

import { VarChart } from "./chart.js";
import { ResumableStream } from "./stream.js";

const HISTORY_S = 60; // what is shown at once when the page opens
const ALERTS_MAX = 200;
const RUNS_MAX = 3;

const $ = (id) => document.getElementById(id);
const chart = new VarChart($("chart"));
const portfolios = new Map();
let received = 0;
let asOf = "";

function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const percent = (share, digits = 2) =>
  share === null || share === undefined ? "–" : `${(share * 100).toFixed(digits)} %`;

function onMeasure(measure) {
  portfolios.set(measure.portfolio_id, measure);
  if (measure.as_of > asOf) asOf = measure.as_of;
  chart.add(measure);
  scheduleRender();
}

function onAlert(alert) {
  const list = $("alerts");
  list.querySelector(".empty")?.remove();
  const item = element("li", "", { "data-transition": alert.transition_id });
  const when = alert.as_of ?? "";
  item.append(
    element("time", when.slice(0, 10), { datetime: when }),
    element("strong", alert.entity_id),
    element("span", alert.state, { class: "state", "data-severity": alert.severity }),
    element("span", alert.message, { class: "what" }),
  );
  // Partitions are caught up with side by side, so history comes in no order but each portfolio's.
  const older = [...list.children].find((other) => other.firstElementChild.dateTime <= when);
  list.insertBefore(item, older ?? null);
  while (list.children.length > ALERTS_MAX) list.lastElementChild.remove();
}

function onRun(root, id, run, numbers) {
  root.querySelector(".empty")?.remove();
  let card = [...root.children].find((child) => child.dataset.run === id);
  if (!card) {
    card = element("article", "", { class: "run", "data-run": id });
    card.append(element("h3", id), element("progress", "", { max: "100" }), element("p"), element("p"));
    card.lastElementChild.className = "numbers";
    root.prepend(card);
    while (root.children.length > RUNS_MAX) root.lastElementChild.remove();
  }
  const [, bar, message, shown] = card.children;
  card.dataset.status = run.status;
  bar.value = run.progress;
  message.textContent = `${run.status} · ${run.message}`;
  shown.replaceChildren(
    ...Object.entries(numbers ?? {}).map(([name, value]) =>
      element("span", `${name.replaceAll("_", " ")} ${Number.isInteger(value) ? value : value.toFixed(3)}`),
    ),
  );
}

function onGap(gap) {
  const lost = gap.partitions.reduce((sum, one) => sum + Math.max(0, one.to_offset - one.from_offset), 0);
  $("notice").textContent = `The log no longer holds what came before (${gap.reason}, ${lost} records); going on from what there is.`;
  $("notice").hidden = false;
}

function onState(state) {
  $("connection").dataset.state = state;
  const words = { live: "live", connecting: "coming back", lost: "lost, trying again" };
  $("connection-text").textContent = words[state];
}

function portfolioRow(measure) {
  const used = measure.utilisation;
  const row = element("tr", "", {
    class: used > 1 ? "over" : used > 0.85 ? "near" : "",
    "data-portfolio": measure.portfolio_id,
  });
  const name = element("td", measure.portfolio_id);
  const swatch = element("span", "", { class: "swatch" });
  swatch.style.background = chart.colourOf(measure.portfolio_id);
  name.prepend(swatch);
  const bar = element("div", "", { class: "bar" });
  const track = element("span");
  const fill = element("i");
  fill.style.width = `${Math.min(100, Math.max(0, (used ?? 0) * 100))}%`;
  track.append(fill);
  bar.append(track, element("b", percent(used, 0)));
  const last = element("td");
  last.append(bar);
  const es = element("td", percent(measure.es_95), { class: "roomy" });
  row.append(name, element("td", percent(measure.var_95)), es, element("td", percent(measure.threshold)), last);
  return row;
}

let renderDue = false;
function scheduleRender() {
  if (renderDue) return;
  renderDue = true;
  requestAnimationFrame(() => {
    renderDue = false;
    $("received").textContent = received.toLocaleString("en");
    $("as-of").textContent = asOf.slice(0, 10) || "–";
    const measures = [...portfolios.values()].sort((a, b) => (b.utilisation ?? 0) - (a.utilisation ?? 0));
    $("over").textContent = `${measures.filter((one) => one.utilisation > 1).length} of ${measures.length}`;
    $("portfolios").replaceChildren(...measures.map(portfolioRow));
  });
}

const counted = (handle) => (data) => {
  received += 1;
  handle(data);
  scheduleRender();
};

for (const button of document.querySelectorAll("[data-show]")) {
  button.addEventListener("click", () => {
    for (const other of document.querySelectorAll("[data-show]")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    chart.show(button.dataset.show);
  });
}

$("origin").textContent = location.origin;

const query = new URLSearchParams({ from: new Date(Date.now() - HISTORY_S * 1000).toISOString() });
for (const topic of ["alerts", "backtest", "dashboard", "measures", "training"]) query.append("topic", topic);

new ResumableStream(
  `/api/v1/sse/streams?${query}`,
  {
    risk_measure: counted(onMeasure),
    risk_alert: counted(onAlert),
    training_progress: counted((run) => onRun($("training"), run.task_id, run, run.metrics)),
    backtest_progress: counted((run) => onRun($("backtest"), run.backtest_id, run, run.results)),
    dashboard_update: counted((update) => {
      if (update.window_s <= 1) $("rate").textContent = Math.round(update.counts.risk_measures_per_s ?? 0);
    }),
    gap: onGap,
  },
  onState,
);
