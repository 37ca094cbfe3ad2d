// The desk's chart: VaR of each portfolio by day, its legend, and the same as a table.

import { $, css, element, setText, syncChildren, throttled } from "./dom.js";
import { percent } from "./format.js";
import { lineOf } from "./palette.js";
import { drawLevel, keepFitting, plotOptions, uPlot } from "./plot.js";
import { swatch } from "./svg.js";

const LINES_MAX = 12;
const DRAW_MS = 200; // five times a second is smooth enough, and calm
const CHOOSE_MS = 30_000; // lines that come and go all the time cannot be followed
const TABLE_DAYS = 20;
const DAY_S = 86_400;
const DOUBLE_CLICK_MS = 300;

export class Chart {
  #book;
  #open;
  #root = $("chart");
  #plot = null;
  #names = [];
  #show = "var";
  #days = 366;
  #zoomed = false;
  #chosenMs = -Infinity;
  #emphasized = null;
  #opening = null;
  #draw = throttled(DRAW_MS, () => this.#redraw());

  /**
   * @param {import("./measures.js").MeasureBook} book
   * @param {(name: string) => void} open shows a portfolio's own view
   */
  constructor(book, open) {
    this.#book = book;
    this.#open = open;
    keepFitting(this.#root, { plot: () => this.#plot, rebuild: () => this.#rebuild() });
    this.#root.addEventListener("dblclick", () => this.#unzoom());
    this.#root.addEventListener("click", () => this.#openNearest());
    pressable("[data-show]", (button) => {
      this.#show = button.dataset.show;
      this.#rebuild();
      this.#draw();
    });
    pressable("[data-days]", (button) => {
      this.#days = Number(button.dataset.days);
      this.#unzoom();
    });
    $("chart-table").addEventListener("toggle", this.#draw);
  }

  /** Draw what the book has, soon. */
  update() {
    this.#draw();
  }

  #redraw() {
    if (this.#root.clientWidth === 0) return; // another view is shown
    const hasChanged = this.#choose();
    if (hasChanged || !this.#plot) {
      this.#rebuild();
    } else {
      this.#plot.setData(this.#data(), !this.#zoomed);
    }
    this.#root.dataset.daysShown = this.#plot?.data[0].length ?? 0;
    this.#updateLegend();
    this.#updateTable();
  }

  /** Choose the portfolios to draw; return whether they are others than before. */
  #choose() {
    const nowMs = performance.now();
    const isFull = this.#names.length === LINES_MAX;
    if (isFull && (this.#zoomed || nowMs - this.#chosenMs < CHOOSE_MS)) return false;
    this.#chosenMs = nowMs;
    const nearest = this.#book.sorted("used").slice(0, LINES_MAX);
    const names = nearest.map((measure) => measure.portfolio_id).sort();
    if (String(names) === String(this.#names)) return false;
    this.#names = names;
    return true;
  }

  #data() {
    const columns = this.#book.columns(this.#names, this.#show);
    if (this.#days === 0) return columns;
    const first = columns[0].findIndex((day) => day >= columns[0].at(-1) - this.#days * DAY_S);
    return first <= 0 ? columns : columns.map((column) => column.slice(first));
  }

  #rebuild() {
    this.#plot?.destroy();
    this.#plot = null;
    if (this.#names.length === 0) return;
    const series = this.#names.map((name) => {
      const { colour, dash } = lineOf(name);
      return {
        label: name,
        stroke: css(`--c${colour}`),
        dash,
        width: 1.75,
        spanGaps: true,
        points: { show: this.#data()[0].length === 1 },
      };
    });
    this.#plot = new uPlot(
      {
        ...plotOptions(this.#root),
        series: [{}, ...series],
        scales: {
          y: { range: (_, low, high) => [0, Math.max(high ?? 0, this.#level() ?? 0, 1) * 1.08] },
        },
        cursor: { points: { size: 7 }, drag: { x: true, y: false }, focus: { prox: 24 } },
        focus: { alpha: 0.35 },
        hooks: {
          draw: [(plot) => this.#drawLimit(plot)],
          setSeries: [
            (_, index) => this.#emphasize(index === null ? null : this.#names[index - 1]),
          ],
          setSelect: [(plot) => (this.#zoomed = plot.select.width > 0)],
          setScale: [(plot, key) => key === "x" && this.#nameRange(plot.scales.x)],
        },
      },
      this.#data(),
      this.#root,
    );
  }

  /** The limit of the portfolio that is hovered or focused, in the unit of the chart. */
  #level() {
    if (this.#show === "utilisation") return 100;
    const limit = this.#book.of(this.#emphasized)?.threshold;
    return Number.isFinite(limit) ? limit * 100 : null;
  }

  #drawLimit(plot) {
    const level = this.#level();
    if (level === null) return;
    const whose = this.#emphasized && this.#show === "var" ? ` of ${this.#emphasized}` : "";
    drawLevel(plot, level, `limit${whose} ${+level.toFixed(2)} %`, css("--bad"));
  }

  #emphasize(name) {
    if (name === this.#emphasized) return;
    this.#emphasized = name ?? null;
    this.#root.dataset.limitOf = name ?? "";
    this.#plot?.redraw(false);
  }

  /** Show a portfolio among the others: its limit, and its line above the rest. */
  #hover(name) {
    this.#emphasize(name);
    if (!this.#plot) return;
    const index = name === null ? null : this.#names.indexOf(name) + 1;
    this.#plot.setSeries(index, { focus: name !== null }, false);
    if (!this.#zoomed) this.#plot.setData(this.#plot.data);
  }

  /** Show the portfolio under the pointer; in a zoomed chart, unless a second click follows. */
  #openNearest() {
    const name = this.#emphasized;
    clearTimeout(this.#opening);
    if (!name) return;
    if (!this.#zoomed) this.#open(name);
    else this.#opening = setTimeout(() => this.#open(name), DOUBLE_CLICK_MS);
  }

  /** Write down which days are drawn. */
  #nameRange({ min, max }) {
    const dayOf = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 10);
    if (min === null || max === null) return;
    this.#root.dataset.firstDay = dayOf(min);
    this.#root.dataset.lastDay = dayOf(max);
  }

  #unzoom() {
    clearTimeout(this.#opening);
    this.#zoomed = false;
    this.#rebuild();
    this.#draw();
  }

  #updateLegend() {
    syncChildren(
      $("legend"),
      this.#names,
      (name) => name,
      (name) => {
        const button = element(
          "button",
          { type: "button", onclick: () => this.#open(name) },
          swatch(name),
          name,
          element("b"),
        );
        for (const event of ["mouseenter", "focus"])
          button.addEventListener(event, () => this.#hover(name));
        for (const event of ["mouseleave", "blur"])
          button.addEventListener(event, () => this.#hover(null));
        return element("li", {}, button);
      },
      (item, name) => {
        const measure = this.#book.of(name);
        const share =
          this.#show === "var" ? percent(measure.var_95) : percent(measure.utilisation, 0);
        setText(item.querySelector("b"), share);
        item.classList.toggle("over", measure.utilisation > 1);
      },
    );
  }

  #updateTable() {
    const details = $("chart-table");
    if (!details.open) return;
    const [days, ...columns] = this.#book.columns(this.#names, this.#show);
    const head = element(
      "tr",
      {},
      element("th", { scope: "col" }, "Day"),
      ...this.#names.map((name) => element("th", { scope: "col" }, name)),
    );
    const rows = days.slice(-TABLE_DAYS).map((seconds, at) => {
      const place = Math.max(0, days.length - TABLE_DAYS) + at;
      const cells = columns.map((column) =>
        element("td", {}, percent(column[place] === null ? NaN : column[place] / 100)),
      );
      return element(
        "tr",
        {},
        element("th", { scope: "row" }, new Date(seconds * 1000).toISOString().slice(0, 10)),
        ...cells,
      );
    });
    const table = element(
      "table",
      {},
      element("thead", {}, head),
      element("tbody", {}, ...rows.reverse()),
    );
    details.querySelector(".scroll").replaceChildren(table);
  }
}

/** Let one button of a group be pressed, and call back with it. */
export function pressable(selector, onPress) {
  const buttons = [...document.querySelectorAll(selector)];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      onPress(button);
    });
  }
}
