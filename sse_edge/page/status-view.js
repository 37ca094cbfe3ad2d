// The head of the page: whether it is live, how old its last event is, and the rates.

import { $, setText } from "./dom.js";
import { day, duration } from "./format.js";
import { healthOf } from "./health.js";
import { RateMeter } from "./rate.js";

const TICK_MS = 500;

export class StatusView {
  #measures;
  #events = new RateMeter();
  #measured = new RateMeter();
  #lastEventMs = null;
  #health = { state: "connecting", text: "Connecting", isLive: false };
  #notice = "";

  /** @param {import("./measures.js").MeasureBook} measures */
  constructor(measures) {
    this.#measures = measures;
    setInterval(() => this.#tick(), TICK_MS);
    $("bar-close").addEventListener("click", () => this.notify(""));
  }

  /** Count an event of the log. */
  countEvent() {
    this.#lastEventMs = performance.now();
    this.#events.add(this.#lastEventMs);
  }

  /** Count a measure, beside the event that it is. */
  countMeasure() {
    this.#measured.add(performance.now());
  }

  /** Show the state of the connection. */
  show(connection) {
    this.#health = healthOf(connection);
    const { state, text } = this.#health;
    document.body.dataset.state = $("connection").dataset.state = state;
    setText(
      $("connection-text"),
      {
        live: "Live",
        connecting: "Connecting",
        stale: "Stale",
        lost: "Not live",
        signin: "Signed out",
      }[state],
    );
    $("connection").title = text;
    this.#showBar();
  }

  /** Say something that a person should read, until it is closed. */
  notify(text) {
    this.#notice = text;
    this.#showBar();
  }

  #showBar() {
    if (!$("renewal").hidden) return; // it asks for something more urgent
    const { state, text } = this.#health;
    const problem = state === "stale" || state === "lost" ? text : "";
    setText($("bar-text"), problem || this.#notice);
    $("bar").hidden = !problem && !this.#notice;
    $("bar-close").hidden = Boolean(problem);
  }

  #tick() {
    const nowMs = performance.now();
    const age = this.#lastEventMs === null ? "–" : duration(nowMs - this.#lastEventMs);
    setText($("age"), this.#lastEventMs === null ? age : `${age} ago`);
    setText($("rate"), this.#events.value(nowMs).toFixed(1));
    setText($("measure-rate"), this.#measured.value(nowMs).toFixed(1));
    setText($("as-of"), day(this.#measures.asOf));
    setText(
      $("over"),
      this.#measures.size ? `${this.#measures.overLimit} of ${this.#measures.size}` : "–",
    );
  }
}
