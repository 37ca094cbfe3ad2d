// The page: the truth first, from the edge's views; then live, by one connection for all channels.

import { AlertBook } from "./alerts.js";
import { AlertsView } from "./alerts-view.js";
import { Api } from "./api.js";
import { Chart } from "./chart.js";
import { Connection, dataOf } from "./connection.js";
import { DebugView } from "./debug-view.js";
import { $ } from "./dom.js";
import { HEARTBEAT_S } from "./health.js";
import { MeasureBook } from "./measures.js";
import { joined } from "./parts.js";
import { PortfolioView } from "./portfolio-view.js";
import { PortfoliosView } from "./portfolios-view.js";
import { RunsView } from "./runs-view.js";
import { Session } from "./session.js";
import { SignIn } from "./sign-in.js";
import { StatusView } from "./status-view.js";

// The stream begins before the views were read, so that nothing lies between: while returns stream
// in, processors write histories every ten seconds only.
const OVERLAP_MS = 15_000;
const RECENT_MS = 3_600_000; // alerts of the last hour are shown, or of the log's whole time if few
const RECENT_MIN = 20;
const QUIET_MS = 700;
const REPLAY_MS_MAX = 10_000;
const RETRY_MS = 2_000;

const session = new Session();
const api = new Api(session);
const measures = new MeasureBook();
const alerts = new AlertBook();
const status = new StatusView(measures);
const signIn = new SignIn(session, api);

const show = (name) => {
  location.hash = `#/portfolio/${encodeURIComponent(name)}`;
};
const chart = new Chart(measures, show);
const alertsView = new AlertsView(alerts, measures, api, show);
const portfoliosView = new PortfoliosView(measures, show);
const runsView = new RunsView();
const portfolioView = new PortfolioView(measures, api, session);
const debugView = new DebugView(api, session);

let connection = null;
let isLoaded = false;

const HANDLERS = {
  risk_measure(measure, timestamp) {
    measures.add(measure, timestamp);
    status.countMeasure();
    chart.update();
    portfoliosView.update();
    portfolioView.update();
  },
  risk_alert(alert, timestamp) {
    alerts.add(alert, timestamp);
    alertsView.update();
  },
  training_progress(run) {
    runsView.add("training", run.task_id, { ...run, numbers: run.metrics });
  },
  backtest_progress(run) {
    runsView.add("backtest", run.backtest_id, { ...run, numbers: run.results });
  },
  gap(gap) {
    status.notify(gapWords(gap));
    load().catch(() => {}); // an alert may have been cleared in the gap
  },
  challenge(challenge) {
    signIn.renew(challenge);
  },
};

function onEvent(frame) {
  const handle = HANDLERS[frame.event];
  if (!handle || frame.data === null) return;
  const envelope = JSON.parse(frame.data);
  if (frame.id !== null) status.countEvent();
  handle(envelope.data, envelope.timestamp);
}

function gapWords({ reason, partitions }) {
  const lost = partitions.reduce(
    (sum, gap) => sum + Math.max(0, gap.to_offset - gap.from_offset),
    0,
  );
  const why = {
    expired: "have expired",
    topic_recreated: "are of a topic that was made anew",
    future: "lie beyond the end of the log",
  };
  return `${lost.toLocaleString("en")} records ${why[reason] ?? reason}: the log no longer has them. The page goes on with what there is.`;
}

/** Read what holds now: open alerts, newest measures, a year of history. */
async function load() {
  const [open, newest, histories] = await Promise.all([
    api.get("/api/v1/alerts"),
    api.get("/api/v1/measures"),
    api.get("/api/v1/measures/history"),
  ]);
  alerts.load(open);
  measures.load(newest, histories);
  // What may take longer, and is there already in the main.
  loadRuns().catch(() => {});
  loadRecent(RECENT_MS).catch(() => {});
}

/** Read the runs that have not ended. */
async function loadRuns() {
  const [training, backtests] = await Promise.all([
    api.get("/trainmodel/running"),
    api.get("/api/backtesting/jobs?status_filter=running&limit=5"),
  ]);
  for (const run of training)
    runsView.addOlder("training", run.task_id, { ...run, numbers: run.metrics });
  for (const { job_id: id, message, symbol, ...job } of backtests) {
    runsView.addOlder("backtest", id, { ...job, message: message ?? symbol });
  }
}

/** Read the transitions of a time that has passed, until the stream is at its end. */
async function loadRecent(agoMs) {
  const from = agoMs === null ? "earliest" : new Date(api.now() - agoMs).toISOString();
  await new Promise((resolve) => {
    const finish = () => {
      clearTimeout(quiet);
      clearTimeout(deadline);
      replay.close();
      resolve();
    };
    let quiet = null;
    const deadline = setTimeout(finish, REPLAY_MS_MAX);
    const replay = new Connection(`/api/v1/sse/alerts?${new URLSearchParams({ from })}`, {
      session,
      onFrame(frame) {
        clearTimeout(quiet);
        quiet = setTimeout(finish, QUIET_MS);
        if (frame.event === "risk_alert") onEvent({ ...frame, id: null });
      },
    });
    replay.open();
  });
  if (agoMs !== null && alerts.recent.length < RECENT_MIN) await loadRecent(null);
}

/** Follow all channels from a little before the views were read, by the edge's clock. */
function follow(readMs) {
  const from = new Date(readMs + api.aheadMs - OVERLAP_MS).toISOString();
  const query = new URLSearchParams({ from, heartbeat: HEARTBEAT_S, client_id: "page" });
  for (const topic of ["alerts", "backtest", "measures", "training"]) query.append("topic", topic);
  connection = new Connection(`/api/v1/sse/streams?${query}`, {
    session,
    onFrame: joined(onEvent),
    onChange,
  });
  connection.open();
}

function onChange() {
  if (connection === null) return;
  status.show(connection);
  signIn.show(
    connection.phase === "refused" && connection.status === 401 ? connection.detail : null,
  );
}

async function start() {
  const readMs = Date.now();
  try {
    await load();
  } catch (error) {
    const phase =
      error.status === undefined ? "offline" : error.status === 503 ? "unavailable" : "refused";
    status.show({
      phase,
      silentMs: 0,
      status: error.status,
      detail: error.detail,
      reason: error.reason,
      retryInMs: RETRY_MS,
    });
    signIn.show(error.status === 401 ? error.detail : null);
    if (error.status !== 401) setTimeout(start, error.retryInMs ?? RETRY_MS);
    return;
  }
  isLoaded = true;
  signIn.show(null);
  route();
  chart.update();
  alertsView.update();
  portfoliosView.update();
  runsView.update();
  follow(readMs);
}

/** Show the view that the address names. */
function route() {
  const [, view = "", name = ""] = location.hash.split("/");
  const portfolio = view === "portfolio" ? decodeURIComponent(name) : null;
  const views = {
    desk: view !== "debug" && portfolio === null,
    portfolio: portfolio !== null,
    debug: view === "debug",
  };
  const isReady = views.debug || isLoaded;
  $("loading").hidden = isReady || !$("sign-in").hidden;
  for (const [id, isShown] of Object.entries(views)) $(id).hidden = !isShown || !isReady;
  for (const [id, isHere] of [
    ["to-desk", views.desk],
    ["to-debug", views.debug],
  ]) {
    if (isHere) $(id).setAttribute("aria-current", "page");
    else $(id).removeAttribute("aria-current");
  }
  document.title = portfolio === null ? "Tapewire" : `${portfolio} · Tapewire`;
  if (views.portfolio && isLoaded) portfolioView.open(portfolio);
  else portfolioView.close();
  if (views.debug) debugView.open();
  else debugView.close();
  if (views.desk) chart.update();
}

addEventListener("hashchange", () => {
  route();
  scrollTo(0, 0);
  $("main").focus({ preventScroll: true });
});
session.onChange(() => {
  if (!isLoaded) start();
});
$("origin").textContent = location.origin;
route();
start();
