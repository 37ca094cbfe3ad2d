// Numbers and times as people read them. Pure.

const MISSING = "–";

/** Format a fraction as a percentage: 0.0612 is "6.12 %". */
export const percent = (share, digits = 2) =>
  Number.isFinite(share) ? `${(share * 100).toFixed(digits)} %` : MISSING;

/** Write the fractions with four decimals in a message as percentages. */
export const inPercent = (message) =>
  message
    .replace(/(?<![\d.])-?\d+\.\d{4}(?![\d.])/g, (text) => percent(Number(text)))
    .replaceAll("<=", "≤");

/** Format a number: integers as they are, others with three decimals. */
export function number(value) {
  if (typeof value !== "number") return String(value ?? MISSING);
  return Number.isInteger(value) ? value.toLocaleString("en") : value.toFixed(3);
}

/** Format a duration in milliseconds: "0.4 s", "12 s", "3 min", "2 h", "5 days". */
export function duration(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 1) return `${seconds.toFixed(1)} s`;
  if (seconds < 100) return `${Math.floor(seconds)} s`;
  if (seconds < 6000) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172_800
    ? `${Math.floor(seconds / 3600)} h`
    : `${Math.floor(seconds / 86_400)} days`;
}

/** Return the day of an RFC 3339 time. */
export const day = (time) => (time ? time.slice(0, 10) : MISSING);

/** Format an RFC 3339 time in the local time zone: the clock today, else with the date. */
export function localTime(time, now = new Date()) {
  if (!time) return MISSING;
  const at = new Date(time);
  const clock = at.toLocaleTimeString("en-GB");
  return at.toDateString() === now.toDateString() ? clock : `${isoDay(at)} ${clock}`;
}

function isoDay(at) {
  const two = (value) => String(value).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

/** Return the words for a metric: "var_95" is "VaR 95 %". */
export function metricName(metric) {
  const found = /^(var|es)_(\d\d)$/.exec(metric ?? "");
  if (found) return `${found[1] === "var" ? "VaR" : "ES"} ${found[2]} %`;
  return (metric ?? "").replaceAll("_", " ");
}
