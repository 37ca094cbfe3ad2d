// The panel of alerts: the open ones by portfolio, acknowledged in place, and the last transitions.

import { isClosing } from "./alerts.js";
import { $, element, setText, syncChildren, throttled } from "./dom.js";
import { day, inPercent, localTime, metricName, percent } from "./format.js";
import { sign, swatch } from "./svg.js";

const DRAW_MS = 1_000; // a list that jumps about cannot be read
const NEWS_MS = 5_000;
const RECENT_SHOWN = 40;

export class AlertsView {
  #book;
  #measures;
  #api;
  #open;
  #draw = throttled(DRAW_MS, () => this.#redraw());
  #announce = throttled(NEWS_MS, () => setText($("alerts-news"), this.#news()));

  /**
   * @param {import("./alerts.js").AlertBook} book
   * @param {import("./measures.js").MeasureBook} measures
   * @param {import("./api.js").Api} api
   * @param {(name: string) => void} open shows a portfolio's own view
   */
  constructor(book, measures, api, open) {
    this.#book = book;
    this.#measures = measures;
    this.#api = api;
    this.#open = open;
  }

  /** Show what the book has, soon. */
  update() {
    this.#draw();
    this.#announce();
  }

  #redraw() {
    const { groups, counts, recent } = this.#book;
    setText(
      $("alerts-count"),
      String(Object.values(counts).reduce((sum, count) => sum + count, 0)),
    );
    syncChildren(
      $("alerts-severities"),
      Object.entries(counts).filter(([, count]) => count > 0),
      ([severity]) => severity,
      ([severity]) => element("span", {}, sign(severity), " ", element("span")),
      (made, [severity, count]) => setText(made.lastElementChild, `${count} ${severity}`),
    );
    const list = $("open-alerts");
    syncChildren(
      list,
      groups,
      (group) => group.portfolio,
      (group) => this.#group(group),
      (made, group) => this.#updateGroup(made, group),
    );
    if (groups.length === 0)
      list.replaceChildren(element("p", { class: "empty" }, "No alert is open."));
    syncChildren(
      $("recent-alerts"),
      recent.slice(0, RECENT_SHOWN),
      (event) => event.transition_id,
      transition,
      () => {},
    );
  }

  #news() {
    const count = Object.values(this.#book.counts).reduce((sum, each) => sum + each, 0);
    const { critical } = this.#book.counts;
    return `${count} open alerts${critical ? `, ${critical} of them critical` : ""}`;
  }

  #group({ portfolio }) {
    const name = element(
      "button",
      { type: "button", class: "link", onclick: () => this.#open(portfolio) },
      swatch(portfolio),
      portfolio,
    );
    return element(
      "section",
      { class: "group", "data-portfolio": portfolio, "aria-label": `Alerts of ${portfolio}` },
      element("h3", {}, name, " ", element("span", { class: "count" })),
      element("ul"),
    );
  }

  #updateGroup(made, { alerts }) {
    setText(made.querySelector(".count"), String(alerts.length));
    syncChildren(
      made.querySelector("ul"),
      alerts,
      (alert) => alert.alert_id,
      (alert) => this.#alert(alert),
      (item, alert) => this.#updateAlert(item, alert),
    );
  }

  #alert(alert) {
    const button = element(
      "button",
      { type: "button", class: "quiet", onclick: () => this.#ask(item, alert) },
      "Acknowledge",
    );
    const item = element(
      "li",
      { class: "alert", "data-alert": alert.alert_id },
      element("span", { class: "sign" }),
      element("span", { class: "words" }),
      button,
      element("span", { class: "when" }),
      element("span", { class: "ack-text" }),
    );
    return item;
  }

  #updateAlert(item, alert) {
    const place = item.querySelector(".sign");
    if (place.dataset.of !== alert.severity) {
      place.dataset.of = alert.severity;
      place.replaceChildren(sign(alert.severity, alert.severity));
    }
    item.dataset.state = alert.state;
    setText(item.querySelector(".words"), wordsOf(alert, this.#measures.of(alert.entity_id)));
    setText(item.querySelector(".when"), whenOf(alert));
    const said = alert.comment ? `Acknowledged: ${alert.comment}` : "Acknowledged";
    setText(item.querySelector(".ack-text"), alert.acknowledged ? said : "");
    item.querySelector("button.quiet").hidden =
      alert.acknowledged || item.querySelector("form") !== null;
    if (alert.acknowledged) item.querySelector("form")?.remove();
  }

  #ask(item, alert) {
    const button = item.querySelector("button.quiet");
    button.hidden = true;
    const input = element("input", {
      "aria-label": `Comment on the alert of ${alert.entity_id}`,
      placeholder: "Comment",
      maxlength: 1000,
    });
    const problem = element("p", { class: "error", role: "alert" });
    const close = () => {
      form.remove();
      button.hidden = false;
      button.focus();
    };
    const form = element(
      "form",
      {},
      input,
      element("button", { type: "submit" }, "Acknowledge"),
      element("button", { type: "button", class: "quiet", onclick: close }, "Cancel"),
      problem,
    );
    form.addEventListener("keydown", (event) => event.key === "Escape" && close());
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const submit = form.querySelector("[type=submit]");
      submit.disabled = true;
      try {
        await this.#api.post(`/api/v1/alerts/${encodeURIComponent(alert.alert_id)}/ack`, {
          comment: input.value,
        });
        setText(problem, "Sent; it shows here as soon as it is in the log.");
      } catch (error) {
        submit.disabled = false;
        setText(problem, `Not acknowledged: ${error.detail ?? "the edge does not answer"}.`);
      }
    });
    item.append(form);
    input.focus();
  }
}

/** Say what an open alert is about, with the newest measure if it has one. */
function wordsOf(alert, measure) {
  const metric = alert.rule_id ?? alert.metric_name;
  const value = measure?.[metric];
  if (alert.message) return inPercent(alert.message);
  if (!Number.isFinite(value)) return `${metricName(metric)} ${alert.level ?? ""}`;
  const limit = metric === "var_95" ? `, limit ${percent(measure.threshold)}` : "";
  return `${metricName(metric)} ${alert.level ?? "alert"}: now ${percent(value)}${limit}`;
}

/** The replayed or observed day, and the real time of the transition. */
const whenOf = (alert) => `data of ${day(alert.as_of)} · ${alert.state} ${localTime(alert.at)}`;

/** An item of a list of transitions: a cleared alert has another sign, and is quieter. */
export function transition(event) {
  const closing = isClosing(event.state);
  const kind = closing
    ? "cleared"
    : event.state === "acknowledged"
      ? "acknowledged"
      : event.severity;
  const state = element("span", { class: "state" }, event.state.replaceAll("_", " "));
  const words = element(
    "span",
    { "data-closing": closing },
    event.entity_id,
    " ",
    state,
    ": ",
    inPercent(event.message),
  );
  return element(
    "li",
    { "data-state": event.state },
    sign(kind, closing ? "cleared" : event.severity),
    words,
    element("span", { class: "when" }, `data of ${day(event.as_of)} · ${localTime(event.at)}`),
  );
}
