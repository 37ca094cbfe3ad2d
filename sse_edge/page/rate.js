// Events per second over the last seconds. Pure: the time comes in as an argument.

const WINDOW_MS = 5_000;

export class RateMeter {
  #times = [];

  /** Count an event at a time in milliseconds. */
  add(nowMs) {
    this.#times.push(nowMs);
  }

  /** Return the events per second; it falls to zero when nothing comes any more. */
  value(nowMs) {
    const first = this.#times.findIndex((time) => time > nowMs - WINDOW_MS);
    this.#times = first < 0 ? [] : this.#times.slice(first);
    return this.#times.length / (WINDOW_MS / 1000);
  }
}
