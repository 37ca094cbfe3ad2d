// The limits that a portfolio has had, as its alerts and its newest measure tell them. Pure.

/**
 * Return the limits of a metric in the order of time: each with the first and last day that it is
 * known to have held, and the transitions that were judged by it.
 * @param {object[]} transitions the data of events `risk_alert`, the oldest first
 * @param {object|undefined} measure the newest measure
 */
export function limitHistory(transitions, measure) {
  const entries = transitions
    .filter((event) => event.metric_name === "var_95" && Number.isFinite(event.threshold))
    .map((event) => ({ limit: event.threshold, at: event.as_of }));
  if (Number.isFinite(measure?.threshold))
    entries.push({ limit: measure.threshold, at: measure.as_of, isNow: true });
  const periods = [];
  for (const { limit, at, isNow } of entries) {
    const last = periods.at(-1);
    if (last?.limit === limit)
      Object.assign(last, { until: at, isNow, alerts: last.alerts + (isNow ? 0 : 1) });
    else periods.push({ limit, since: at, until: at, isNow, alerts: isNow ? 0 : 1 });
  }
  return periods.reverse();
}
