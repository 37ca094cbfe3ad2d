// One portfolio: its figures, VaR by method, returns with exceptions, model backtest and limits.

import { transition } from "./alerts-view.js";
import { Connection, dataOf } from "./connection.js";
import { $, css, element, setText, syncChildren, throttled } from "./dom.js";
import { day, localTime, metricName, number, percent } from "./format.js";
import { limitHistory } from "./limits.js";
import { drawLevel, keepFitting, plotOptions, uPlot } from "./plot.js";
import { details, methodsTable, scrollable, table, testsTable } from "./portfolio-tables.js";
import { swatch } from "./svg.js";

const DRAW_MS = 500;
const HISTORY_MS = 2_000; // how often the history is read, while it is behind the measure
const TRANSITIONS_MAX = 2_000;
const ROWS_MAX = 30;

export class PortfolioView {
  #book;
  #api;
  #session;
  #root = $("portfolio");
  #name = null;
  #parts = {};
  #plot = null;
  #history = null;
  #historyMs = -Infinity;
  #historyTimer = null;
  #limits = null;
  #transitions = [];
  #alerts = null;
  #draw = throttled(DRAW_MS, () => this.#redraw());

  constructor(book, api, session) {
    this.#book = book;
    this.#api = api;
    this.#session = session;
  }

  /** Show a portfolio. */
  open(name) {
    this.close();
    this.#name = name;
    this.#build();
    this.#root.classList.add("pending");
    this.#ready(name);
    const query = new URLSearchParams({ entity_id: name, from: "earliest" });
    this.#alerts = new Connection(`/api/v1/sse/alerts?${query}`, {
      session: this.#session,
      onFrame: (frame) => this.#onFrame(frame),
    });
    this.#alerts.open();
    this.#draw();
  }

  /** Show nothing, and follow nothing. */
  close() {
    this.#alerts?.close();
    this.#plot?.destroy();
    this.#alerts = this.#plot = this.#name = this.#history = this.#limits = null;
    this.#historyMs = -Infinity;
    clearTimeout(this.#historyTimer);
    this.#transitions = [];
  }

  /** Show what has changed, soon. */
  update() {
    if (this.#name !== null) this.#draw();
  }

  #onFrame(frame) {
    if (frame.event !== "risk_alert") return;
    this.#transitions.push({ ...dataOf(frame), at: JSON.parse(frame.data).timestamp });
    if (this.#transitions.length > TRANSITIONS_MAX) this.#transitions.shift();
    this.#draw();
  }

  /** Show the parts together, once there is something in them. */
  async #ready(name) {
    await Promise.all([this.#loadLimits(), this.#loadHistory()]);
    if (name !== this.#name) return;
    this.#redraw();
    this.#drawHistory();
    this.#root.classList.remove("pending");
  }

  async #loadLimits() {
    const name = this.#name;
    const found = await this.#api
      .get(`/api/v1/limits/${encodeURIComponent(name)}`)
      .catch(() => null);
    if (name === this.#name) this.#limits = found;
    this.#draw();
  }

  /**
   * Read the history, unless it was read just now, and again while it is behind the measure: a
   * processor writes it some seconds later, after the last event that the page may ever get.
   */
  async #loadHistory() {
    const nowMs = performance.now();
    if (nowMs - this.#historyMs < HISTORY_MS || !this.#isBehind()) return;
    this.#historyMs = nowMs;
    clearTimeout(this.#historyTimer);
    const name = this.#name;
    if (this.#book.of(name))
      this.#historyTimer = setTimeout(() => this.#loadHistory(), HISTORY_MS);
    const query = new URLSearchParams({ portfolio_id: name });
    const found = await this.#api.get(`/api/v1/measures/history?${query}`).catch(() => null);
    if (name !== this.#name || !found?.length) return;
    [this.#history] = found;
    this.#drawHistory();
  }

  #isBehind() {
    const newest = this.#book.of(this.#name)?.as_of.slice(0, 10);
    return this.#history === null || (newest && this.#history.days.at(-1) !== newest);
  }

  #build() {
    const name = this.#name;
    const part = (key, made) => (this.#parts[key] = made);
    const card = (title, ...children) =>
      element(
        "section",
        { class: "card", "aria-label": title },
        element("h2", {}, title),
        ...children,
      );
    const head = element(
      "section",
      { class: "card wide", "aria-label": name },
      element("a", { href: "#/" }, "← Desk"),
      element("h2", { tabindex: -1, id: "portfolio-name" }, swatch(name), name),
      part("facts", element("dl", { class: "facts" })),
    );
    const chart = card(
      "Returns and forecast",
      part(
        "plot",
        element("div", {
          class: "plot",
          role: "img",
          "aria-label": `Returns of ${name}, the VaR that was forecast for each day, and the exceptions; a table follows`,
        }),
      ),
      part("summary", element("p", { class: "hint" })),
      part("table", details("Exceptions as a table")),
    );
    chart.classList.add("wide");
    this.#root.replaceChildren(
      head,
      chart,
      card("VaR by method, one day", part("methods", scrollable("Table of methods"))),
      card("Model backtest", part("tests", scrollable("Table of forecasts"))),
      card("Limits", part("limits", scrollable("Tables of limits"))),
      card(
        "Alert transitions",
        part(
          "alerts",
          scrollable("Transitions of alerts", element("ol", { class: "transitions" })),
        ),
      ),
    );
    keepFitting(this.#parts.plot, { plot: () => this.#plot, rebuild: () => this.#drawHistory() });
  }

  #redraw() {
    const measure = this.#book.of(this.#name);
    if (this.#name === null) return;
    this.#loadHistory();
    if (measure) {
      this.#drawFacts(measure);
      this.#parts.methods.replaceChildren(methodsTable(measure));
      this.#parts.tests.replaceChildren(testsTable(measure));
    } else {
      this.#parts.facts.replaceChildren(
        element("p", { class: "empty" }, "No measure of this portfolio is known."),
      );
    }
    this.#parts.limits.replaceChildren(...this.#limitsShown(measure));
    this.#showTransitions();
  }

  #showTransitions() {
    const list = this.#parts.alerts.firstElementChild;
    const newest = this.#transitions.slice(-ROWS_MAX).reverse();
    syncChildren(
      list,
      newest,
      (event) => event.transition_id,
      transition,
      () => {},
    );
    if (newest.length === 0)
      list.replaceChildren(element("li", { class: "empty" }, "No alert in the last 90 days."));
  }

  #drawFacts(measure) {
    const facts = {
      "VaR 95 %": percent(measure.var_95),
      "ES 95 %": percent(measure.es_95),
      "VaR 99 %": percent(measure.var_99),
      "ES 99 %": percent(measure.es_99),
      limit: percent(measure.threshold),
      used: percent(measure.utilisation, 0),
      volatility: percent(measure.volatility, 1),
      drawdown: percent(measure.drawdown, 1),
      "data as of": day(measure.as_of),
      days: number(measure.observations),
    };
    const rows = Object.entries(facts);
    const list = this.#parts.facts;
    if (list.children.length !== rows.length) {
      list.replaceChildren(
        ...rows.map(([name]) => element("div", {}, element("dt", {}, name), element("dd"))),
      );
    }
    rows.forEach(([, value], at) => setText(list.children[at].lastElementChild, value));
  }

  #drawHistory() {
    const history = this.#history;
    if (!history || !this.#parts.plot.clientWidth) return;
    const days = history.days.map((text) => Date.parse(`${text}T00:00:00Z`) / 1000);
    const returns = history.returns.map((value) => value * 100);
    const forecast = history.var_95.map((value) => (value === null ? null : -value * 100));
    const exceptions = new Set(history.exceptions);
    const exceeded = returns.map((value, at) => (exceptions.has(history.days[at]) ? value : null));
    this.#plot?.destroy();
    const bad = css("--bad");
    this.#plot = new uPlot(
      {
        ...plotOptions(this.#parts.plot),
        series: [
          {},
          {
            label: "return",
            stroke: css("--quiet"),
            fill: css("--line"),
            paths: uPlot.paths.bars({ size: [0.7, 6] }),
            points: { show: false },
          },
          { label: "-VaR 95 %", stroke: css("--accent"), width: 1.75, points: { show: false } },
          {
            label: "exception",
            stroke: bad,
            paths: () => null,
            points: { show: true, size: 7, fill: bad },
          },
        ],
        hooks: { draw: [(plot) => this.#drawLimit(plot)] },
      },
      [days, returns, forecast, exceeded],
      this.#parts.plot,
    );
    const judged = forecast.filter((value) => value !== null).length;
    const expected = (judged * 0.05).toFixed(1);
    const words = `Bars: returns. Line: the loss that was forecast not to be exceeded on 95 % of days. ${exceptions.size} exceptions in ${judged} days; ${expected} were to be expected.`;
    setText(this.#parts.summary, words);
    this.#parts.plot.dataset.lastDay = history.days.at(-1);
    const rows = history.days
      .map((text, at) => [text, returns[at], forecast[at]])
      .filter(([text]) => exceptions.has(text));
    const shown = rows
      .reverse()
      .map(([text, value, least]) => [text, `${value.toFixed(2)} %`, `${least.toFixed(2)} %`]);
    this.#parts.table.lastElementChild.replaceChildren(table(["Day", "Return", "Forecast"], shown));
  }

  #drawLimit(plot) {
    const limit = this.#book.of(this.#name)?.threshold;
    if (Number.isFinite(limit))
      drawLevel(plot, -limit * 100, `limit -${+(limit * 100).toFixed(2)} %`, css("--bad"));
  }

  #limitsShown(measure) {
    const own = this.#limits?.limits ?? [];
    const words = own.length
      ? `Set by ${this.#limits.set_by ?? "someone"} at ${localTime(this.#limits.set_at)}${this.#limits.comment ? `: ${this.#limits.comment}` : ""}`
      : "No limits of its own: the processors' defaults apply.";
    const rows = own.map(({ metric, limit, temporary, warn_ratio: warn, critical_ratio: critical }) => [
      metricName(metric),
      temporary
        ? `${percent(limit)}; ${percent(temporary.limit)} until ${localTime(temporary.valid_until)}, approved by ${temporary.approved_by}`
        : percent(limit),
      percent(warn, 0),
      percent(critical, 0),
    ]);
    const shown = [element("p", { class: "hint" }, words)];
    if (rows.length) shown.push(table(["Metric", "Limit", "Warning at", "Critical at"], rows));
    const periods = limitHistory(this.#transitions, measure).map(
      ({ limit, since, until, isNow, alerts }) => [
        percent(limit),
        day(since),
        isNow ? "now" : day(until),
        String(alerts),
      ],
    );
    return [...shown, table(["VaR 95 % limit", "Judged from", "Until", "Transitions"], periods)];
  }
}
