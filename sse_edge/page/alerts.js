// The open alerts and the last transitions. Pure.
//
// Alerts arrive as rows of the open ones (GET /api/v1/alerts) and as events, in any order and perhaps
// twice. A transition is applied once, and only if it is not older than what is known of the alert.

const RANK = { critical: 0, high: 1, medium: 2, low: 3 };
const CLOSING = new Set(["cleared", "stale_cleared"]);
const RECENT_MAX = 100;
const KNOWN_MAX = 5_000; // closed alerts and transitions are forgotten beyond this

/** Whether an alert is over after a transition. */
export const isClosing = (state) => CLOSING.has(state);

export class AlertBook {
  #alerts = new Map(); // by alert id; closed ones stay, so that an older event does not reopen them
  #seen = new Set();
  #recent = [];

  /** Replace the open alerts by the rows of the view. */
  load(rows) {
    const listed = new Set(rows.map((row) => row.alert_id));
    for (const [id, alert] of this.#alerts) {
      if (!listed.has(id)) this.#alerts.set(id, { ...alert, isOpen: false });
    }
    for (const row of rows) {
      const known = this.#alerts.get(row.alert_id);
      this.#alerts.set(row.alert_id, merge(known, { ...row, at: row.changed_at }));
    }
  }

  /** Apply a transition: the data of an event `risk_alert`, and the log's time of its record. */
  add(event, at) {
    if (event.transition_id && this.#seen.has(event.transition_id)) return;
    this.#seen.add(event.transition_id);
    this.#forgetOldest();
    const known = this.#alerts.get(event.alert_id);
    if (!known || known.at <= at) this.#alerts.set(event.alert_id, merge(known, { ...event, at }));
    this.#insert({ ...event, at });
  }

  /** The open alerts by portfolio: the most severe first, then by name. */
  get groups() {
    const groups = new Map();
    for (const alert of this.#alerts.values()) {
      if (!alert.isOpen) continue;
      if (!groups.has(alert.entity_id)) groups.set(alert.entity_id, []);
      groups.get(alert.entity_id).push(alert);
    }
    const found = [...groups].map(([portfolio, alerts]) => ({
      portfolio,
      alerts: alerts.sort((a, b) => rankOf(a) - rankOf(b) || (a.alert_id < b.alert_id ? -1 : 1)),
    }));
    const before = (a, b) => rankOf(a.alerts[0]) - rankOf(b.alerts[0]);
    return found.sort((a, b) => before(a, b) || (a.portfolio < b.portfolio ? -1 : 1));
  }

  /** The number of open alerts by severity, the most severe first. */
  get counts() {
    const counts = Object.fromEntries(Object.keys(RANK).map((severity) => [severity, 0]));
    for (const { isOpen, severity } of this.#alerts.values()) {
      if (isOpen) counts[severity] = (counts[severity] ?? 0) + 1;
    }
    return counts;
  }

  /** The last transitions, the newest first. */
  get recent() {
    return this.#recent;
  }

  #forgetOldest() {
    if (this.#seen.size > KNOWN_MAX) this.#seen.delete(this.#seen.values().next().value);
    if (this.#alerts.size <= KNOWN_MAX) return;
    const closed = [...this.#alerts.values()].find((alert) => !alert.isOpen);
    if (closed) this.#alerts.delete(closed.alert_id);
  }

  #insert(transition) {
    const place = this.#recent.findIndex((other) => other.at <= transition.at);
    this.#recent.splice(place < 0 ? this.#recent.length : place, 0, transition);
    if (this.#recent.length > RECENT_MAX) this.#recent.length = RECENT_MAX;
  }
}

const rankOf = (alert) => RANK[alert.severity] ?? RANK.low;

function merge(known, change) {
  const isAck = change.state === "acknowledged" || change.acknowledged === true;
  const comment = isAck ? change.message.replace(/^acknowledged:?\s*/, "") : (known?.comment ?? "");
  const isOpen = !isClosing(change.state);
  return {
    ...known,
    ...change,
    // An acknowledgement is about the alert that was raised: its own words say nothing of the cause.
    message: isAck ? (known?.message ?? "") : change.message,
    comment,
    acknowledged: isOpen && (isAck || (known?.acknowledged ?? false)),
    isOpen,
  };
}
