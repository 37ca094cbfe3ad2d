// The moving chart: VaR of each portfolio over the replayed days, and the limits as dashed lines.

import uPlot from "/assets/vendor/uPlot.esm.js";

const KEPT_DAYS = 2200;
const DAY_S = 86_400;

export const colour = (index) => `var(--s${(index % 9) + 1})`;

const computed = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class VarChart {
  #root;
  #names = [];
  #days = new Map(); // day (seconds) -> Map(portfolio -> {var, utilisation})
  #limits = new Map(); // portfolio -> limit
  #show = "var";
  #plot = null;
  #due = false;

  constructor(root) {
    this.#root = root;
    new ResizeObserver(() => this.#resize()).observe(root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#rebuild());
  }

  /** Take a measure in; it is drawn with the next frame. */
  add(measure) {
    const { portfolio_id: name, var_95: value, threshold, utilisation } = measure;
    if (value === null) return;
    const day = Math.floor(Date.parse(measure.as_of) / 1000 / DAY_S) * DAY_S;
    if (!this.#days.has(day)) this.#days.set(day, new Map());
    this.#days.get(day).set(name, { var: value * 100, utilisation: utilisation * 100 });
    this.#limits.set(name, threshold * 100);
    if (!this.#names.includes(name)) {
      this.#names = [...this.#names, name].sort();
      this.#rebuild();
    }
    this.#draw();
  }

  /** The colour of a portfolio's line. */
  colourOf(name) {
    return colour(Math.max(0, this.#names.indexOf(name)));
  }

  /** Show VaR in percent of net asset value, or of its limit. */
  show(what) {
    this.#show = what;
    this.#rebuild();
  }

  #draw() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#plot?.setData(this.#data());
    });
  }

  #data() {
    let days = [...this.#days.keys()].sort((a, b) => a - b);
    const oldest = days.at(-1) - KEPT_DAYS * DAY_S;
    for (const day of days) if (day < oldest) this.#days.delete(day);
    days = days.filter((day) => day >= oldest);
    const values = this.#names.map((name) =>
      days.map((day) => this.#days.get(day).get(name)?.[this.#show]),
    );
    return [days, ...values];
  }

  #rebuild() {
    this.#plot?.destroy();
    this.#plot = null;
    if (this.#names.length === 0) return;
    const ink = computed("--quiet");
    const line = computed("--line");
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line } };
    const percent = (value) => (value == null ? "–" : `${value.toFixed(2)} %`);
    const series = this.#names.map((name, index) => ({
      label: name,
      stroke: computed(`--s${(index % 9) + 1}`),
      width: 1.5,
      spanGaps: true,
      points: { show: false },
      value: (_, value) => percent(value),
    }));
    this.#plot = new uPlot(
      {
        ...this.#size(),
        series: [{ label: "day", value: "{YYYY}-{MM}-{DD}" }, ...series],
        axes: [axis, { ...axis, values: (_, ticks) => ticks.map((tick) => `${tick} %`) }],
        scales: { y: { range: (_, low, high) => [0, Math.max(high ?? 0, this.#highestLimit()) * 1.08] } },
        cursor: { points: { size: 6 } },
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
        hooks: { draw: [(plot) => this.#drawLimits(plot)] },
      },
      this.#data(),
      this.#root,
    );
  }

  #highestLimit() {
    return this.#show === "var" ? Math.max(0, ...this.#limits.values()) : 100;
  }

  #drawLimits(plot) {
    const limits = this.#show === "var" ? new Set(this.#limits.values()) : new Set([100]);
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = computed("--bad");
    ctx.lineWidth = devicePixelRatio;
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.textAlign = "right";
    ctx.textBaseline = "bottom";
    ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
    for (const limit of limits) {
      const y = plot.valToPos(limit, "y", true);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      ctx.fillText(`limit ${+limit.toFixed(2)} %`, bbox.left + bbox.width - 4, y - 2 * devicePixelRatio);
    }
    ctx.restore();
  }

  #size() {
    const width = this.#root.clientWidth;
    return { width, height: width < 600 ? 240 : 320 };
  }

  #resize() {
    if (this.#plot && this.#root.clientWidth !== this.#plot.width) this.#plot.setSize(this.#size());
  }
}
