// The measures of all portfolios: the newest of each, and its VaR day by day. Pure.

const DAY_S = 86_400;
export const DAYS_MAX = 2_200; // how much history the chart keeps while days stream in

const secondsOf = (day) => Date.parse(`${day.slice(0, 10)}T00:00:00Z`) / 1000;

/** The lap of a replay that a measure is of; 0 for returns that are observed. */
const lapOf = ({ event_id: id }) => Number(/\/lap-(\d+)$/.exec(id ?? "")?.[1] ?? 0);

export class MeasureBook {
  #newest = new Map();
  #var = new Map(); // portfolio -> Map(day in seconds -> VaR 95 as of that day)
  #days = new Set();
  #lastDay = 0;

  /** Take the newest measures and a year of history, as the edge's views have them. */
  load(newest, histories) {
    for (const { portfolio_id: name, days, var_95: forecasts } of histories) {
      // The forecast for a day is the VaR as of the day before.
      for (let at = 0; at + 1 < days.length; at += 1) this.#put(name, days[at], forecasts[at + 1]);
    }
    for (const measure of newest) this.add(measure, measure.changed_at);
  }

  /**
   * Take a measure in. One that is older in the log than the newest changes only the history.
   *
   * A measure of an earlier day that comes later in the log begins a history anew, as when a demo
   * replays its days once more. The old line ends then.
   * @param {object} measure the data of an event `risk_measure`
   * @param {string} at the log's time of its record
   */
  add(measure, at) {
    const { portfolio_id: name, as_of: asOf } = measure;
    const known = this.#newest.get(name);
    if (known && at < known.at) {
      if (asOf <= known.as_of) this.#put(name, asOf, measure.var_95);
      return;
    }
    if (known && asOf < known.as_of) this.#restart(name);
    this.#newest.set(name, { ...measure, at });
    this.#put(name, asOf, measure.var_95);
  }

  get size() {
    return this.#newest.size;
  }

  /** The newest measure of a portfolio. */
  of(name) {
    return this.#newest.get(name);
  }

  /** The newest measures, by name, or the one nearest to its limit first. */
  sorted(by = "name") {
    const all = [...this.#newest.values()];
    const byName = (a, b) => (a.portfolio_id < b.portfolio_id ? -1 : 1);
    if (by === "name") return all.sort(byName);
    return all.sort((a, b) => (b.utilisation ?? -1) - (a.utilisation ?? -1) || byName(a, b));
  }

  /**
   * The time of the newest return of any portfolio. While a demo replays its days once more, those
   * portfolios do not count that have no return of this lap yet.
   */
  get asOf() {
    const all = [...this.#newest.values()];
    const lap = Math.max(0, ...all.map(lapOf));
    const times = all.filter((measure) => lapOf(measure) === lap).map(({ as_of: time }) => time);
    return times.reduce((newest, time) => (time > newest ? time : newest), "");
  }

  /** How many portfolios exceed their limit. */
  get overLimit() {
    return [...this.#newest.values()].filter((measure) => measure.utilisation > 1).length;
  }

  /**
   * Return the columns of a chart: days in seconds, then a column for each name.
   * @param {string[]} names
   * @param {"var"|"utilisation"} what VaR in percent of net asset value, or of the present limit
   */
  columns(names, what) {
    const last = secondsOf(this.asOf); // later days are of the lap before
    const days = [...this.#days].filter((day) => day <= last).sort((a, b) => a - b);
    const columns = names.map((name) => {
      const values = this.#var.get(name) ?? new Map();
      const limit = this.#newest.get(name)?.threshold;
      const scale = what === "var" ? 100 : 100 / limit;
      return days.map((day) => (values.has(day) ? values.get(day) * scale : null));
    });
    return [days, ...columns];
  }

  #put(name, day, value) {
    if (!Number.isFinite(value)) return;
    const at = secondsOf(day);
    if (!this.#var.has(name)) this.#var.set(name, new Map());
    this.#var.get(name).set(at, value);
    this.#days.add(at);
    if (at > this.#lastDay) this.#lastDay = at;
    if (this.#days.size > DAYS_MAX) this.#forget(this.#lastDay - DAYS_MAX * DAY_S);
  }

  #restart(name) {
    this.#var.delete(name);
    this.#days = new Set();
    for (const values of this.#var.values()) for (const day of values.keys()) this.#days.add(day);
    this.#lastDay = Math.max(0, ...this.#days);
  }

  #forget(before) {
    for (const day of this.#days) if (day < before) this.#days.delete(day);
    for (const values of this.#var.values()) {
      for (const day of values.keys()) if (day < before) values.delete(day);
    }
  }
}
