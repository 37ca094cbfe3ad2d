// Whether the page is live, and in words what is wrong if it is not. Pure.

import { duration } from "./format.js";

export const HEARTBEAT_S = 5; // what the page asks the edge for
const GRACE_MS = 1_500;

/** How long a live connection may be silent: two heartbeats and a little. */
export const SILENCE_MS_MAX = 2 * HEARTBEAT_S * 1000 + GRACE_MS;

const REASONS = {
  no_broker: "The edge cannot reach Kafka. What you see is the last that it had; trying again.",
  draining: "This node is shutting down; moving to another one.",
  full: "This node has no room for another stream; trying again.",
  no_keys: "The edge cannot read the keys of the token issuer; trying again.",
};

/**
 * @param {{phase: "connecting"|"open"|"offline"|"unavailable"|"refused"|"ended", reason?: string,
 *   status?: number, detail?: string, retryInMs?: number, silentMs: number}} connection
 * @returns {{state: "live"|"connecting"|"stale"|"lost"|"signin", text: string, isLive: boolean}}
 */
export function healthOf(connection) {
  const { phase, silentMs } = connection;
  if (phase === "refused" && connection.status === 401) {
    return found("signin", "Sign in to see live data.");
  }
  if (phase === "refused") return found("lost", refusal(connection));
  if (phase === "unavailable") {
    return found("lost", REASONS[connection.reason] ?? `The edge answers: ${connection.reason}.`);
  }
  if (phase === "offline") return found("lost", "No connection to the edge; trying again.");
  if (silentMs > SILENCE_MS_MAX) {
    return found(
      "stale",
      `Nothing heard from the edge for ${duration(silentMs)}: figures may be old.`,
    );
  }
  return phase === "open" ? found("live", "Live") : found("connecting", "Connecting");
}

const found = (state, text) => ({ state, text, isLive: state === "live" });

function refusal({ status, detail, retryInMs }) {
  const again = retryInMs === undefined ? "" : ` Trying again in ${duration(retryInMs)}.`;
  if (status === 429) return `Too many connections or requests: ${detail}.${again}`;
  if (status === 403) return `This is not yours to see: ${detail}.${again}`;
  return `The edge refuses the stream (${status}): ${detail}.${again}`;
}
