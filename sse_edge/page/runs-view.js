// Training runs and backtests: what runs now, and the last that ended.

import { $, element, setText, syncChildren } from "./dom.js";
import { number } from "./format.js";

const SHOWN_MAX = 8;
const ENDED = new Set(["completed", "failed", "cancelled"]);

export class RunsView {
  #runs = new Map(); // by kind and id; the one that changed last is last

  /** Show a run's last report. */
  add(kind, id, { status, progress, message, numbers }) {
    const key = `${kind} ${id}`;
    this.#runs.delete(key);
    this.#runs.set(key, { key, kind, id, status, progress, message, numbers: numbers ?? {} });
    while (this.#runs.size > SHOWN_MAX) this.#runs.delete(this.#oldest());
    this.update();
  }

  /** Show a run's report unless a later one is shown: it comes from a view, beside the stream. */
  addOlder(kind, id, report) {
    if (!this.#runs.has(`${kind} ${id}`)) this.add(kind, id, report);
  }

  /** Show the runs, or that there are none. */
  update() {
    const list = $("runs");
    if (this.#runs.size === 0) {
      list.replaceChildren(element("p", { class: "empty" }, "Nothing has run lately."));
      return;
    }
    const rank = (run) => (ENDED.has(run.status) ? 1 : 0);
    const runs = [...this.#runs.values()].reverse().sort((a, b) => rank(a) - rank(b));
    syncChildren(list, runs, (run) => run.key, card, update);
  }

  #oldest() {
    const all = [...this.#runs.values()];
    return (all.find((run) => ENDED.has(run.status)) ?? all[0]).key;
  }
}

function card(run) {
  return element(
    "article",
    { class: "run", "data-run": run.id },
    element("h3", {}, run.id),
    element("progress", { max: 100, "aria-label": `Progress of ${run.id}` }),
    element("p"),
    element("p", { class: "numbers" }),
  );
}

function update(made, { kind, status, progress, message, numbers }) {
  const [, bar, words, shown] = made.children;
  made.dataset.status = status;
  bar.setAttribute("value", progress);
  setText(words, [kind, status, message].filter(Boolean).join(" · "));
  const entries = Object.entries(numbers).filter(([, value]) => typeof value !== "object");
  syncChildren(
    shown,
    entries,
    ([name]) => name,
    () => element("span"),
    (span, [name, value]) => setText(span, `${name.replaceAll("_", " ")} ${number(value)}`),
  );
}
