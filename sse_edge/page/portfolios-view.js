// The table of portfolios: VaR, expected shortfall, and the use of each limit.

import { pressable } from "./chart.js";
import { $, element, setText, syncChildren, throttled } from "./dom.js";
import { percent } from "./format.js";
import { bar, setBar, swatch } from "./svg.js";

const DRAW_MS = 250;
const SORT_MS = 10_000; // rows that change places all the time cannot be read
const NEAR = 0.85;

export class PortfoliosView {
  #book;
  #open;
  #order = "name";
  #sorted = [];
  #sortedMs = -Infinity;
  #draw = throttled(DRAW_MS, () => this.#redraw());

  /**
   * @param {import("./measures.js").MeasureBook} book
   * @param {(name: string) => void} open shows a portfolio's own view
   */
  constructor(book, open) {
    this.#book = book;
    this.#open = open;
    pressable("[data-order]", (button) => {
      this.#order = button.dataset.order;
      this.#sortedMs = -Infinity;
      this.#draw();
    });
  }

  /** Show what the book has, soon. */
  update() {
    this.#draw();
  }

  #redraw() {
    const nowMs = performance.now();
    if (nowMs - this.#sortedMs > SORT_MS || this.#sorted.length !== this.#book.size) {
      this.#sorted = this.#book.sorted(this.#order).map((measure) => measure.portfolio_id);
      this.#sortedMs = nowMs;
    }
    syncChildren(
      $("portfolios"),
      this.#sorted,
      (name) => name,
      (name) => this.#row(name),
      (row, name) => update(row, this.#book.of(name)),
    );
  }

  #row(name) {
    const link = element(
      "button",
      { type: "button", class: "link", onclick: () => this.#open(name) },
      swatch(name),
      name,
    );
    const used = element("div", { class: "bar" }, bar(), element("b"));
    return element(
      "tr",
      { "data-portfolio": name },
      element("th", { scope: "row" }, link),
      element("td", { class: "var" }),
      element("td", { class: "roomy" }),
      element("td"),
      element("td", { class: "used" }, used),
    );
  }
}

function update(row, measure) {
  const used = measure.utilisation;
  row.classList.toggle("over", used > 1);
  row.classList.toggle("near", used > NEAR && used <= 1);
  const [, value, shortfall, limit] = row.children;
  const missing = measure.status === "insufficient_data" ? `${measure.observations} days` : "–";
  setText(value, Number.isFinite(measure.var_95) ? percent(measure.var_95) : missing);
  setText(shortfall, percent(measure.es_95));
  setText(limit, percent(measure.threshold));
  setText(row.querySelector("b"), percent(used, 0));
  setBar(row.querySelector("svg:not(.swatch)"), used);
}
