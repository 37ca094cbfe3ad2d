// One stream of the edge that is never given up: it reconnects, and resumes at the last id.
//
// It reads the response with fetch instead of EventSource, which hides heartbeats, the status of a
// refusal and the raw bytes, and sends no Authorization header.

import { refusalOf } from "./api.js";
import { SILENCE_MS_MAX } from "./health.js";
import { SseParser } from "./sse-parser.js";

const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 10_000;
const WATCH_MS = 500;

export class Connection {
  #path;
  #session;
  #onFrame;
  #onChange;
  #attempt = null; // the AbortController of the present attempt
  #retry = null; // the timer of the next one
  #watch = null;
  #retryMs = RETRY_MS_MIN;
  #serverRetryMs = null;
  #failure = null; // what the stream itself said before it ended
  #heardMs = performance.now();
  #attemptedMs = 0;
  #isClosed = false;
  #unsubscribe;

  phase = "connecting";
  reason;
  status;
  detail;
  retryInMs;
  /** The cursor after the last frame that was handled. */
  lastId = "";
  /** How often the stream was opened. */
  opened = 0;

  /**
   * @param {string} path the stream's path with its query
   * @param {{session: import("./session.js").Session, onFrame: (frame: object) => void,
   *   onChange?: () => void, lastId?: string}} options
   */
  constructor(path, { session, onFrame, onChange = () => {}, lastId = "" }) {
    this.#path = path;
    this.#session = session;
    this.#onFrame = onFrame;
    this.#onChange = onChange;
    this.lastId = lastId;
    this.#unsubscribe = session.onChange(() => this.#onToken());
  }

  /** Open the stream. */
  open() {
    this.#watch ??= setInterval(() => this.#check(), WATCH_MS);
    this.#run();
  }

  /** Close it for good. */
  close() {
    this.#isClosed = true;
    this.#unsubscribe();
    clearInterval(this.#watch);
    this.drop();
    this.#set("ended");
  }

  /** Cut the connection, as a lost network would; `open` resumes it. */
  drop() {
    clearTimeout(this.#retry);
    this.#attempt?.abort();
    this.#attempt = null;
    this.#set("offline");
  }

  /** The milliseconds since the edge was last heard, be it a heartbeat. */
  get silentMs() {
    return performance.now() - this.#heardMs;
  }

  async #run() {
    clearTimeout(this.#retry);
    this.#attempt?.abort();
    const attempt = (this.#attempt = new AbortController());
    this.#attemptedMs = performance.now();
    this.#failure = null;
    if (this.phase === "refused") this.#set("connecting");
    try {
      await this.#read(attempt.signal);
      if (attempt === this.#attempt) this.#ended();
    } catch (error) {
      if (attempt === this.#attempt) this.#failed(error);
    }
  }

  async #read(signal) {
    const resumed = this.lastId ? { "Last-Event-ID": this.lastId } : {};
    const response = await fetch(this.#path, {
      headers: { Accept: "text/event-stream", ...this.#session.headers, ...resumed },
      signal,
      cache: "no-store",
    });
    this.#heard();
    if (response.status === 204) {
      this.close();
      return;
    }
    if (!response.ok) throw await refusalOf(response);
    this.opened += 1;
    const parser = new SseParser();
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) return;
      this.#heard();
      for (const frame of parser.feed(value)) this.#take(frame);
    }
  }

  #take(frame) {
    if (frame.retry !== null) this.#serverRetryMs = frame.retry;
    const problem = frame.event === "error" && frame.data ? dataOf(frame) : null;
    if (problem?.reason) {
      this.#failure = problem.reason;
    } else if (this.phase !== "open") {
      this.#retryMs = RETRY_MS_MIN;
      this.#set("open");
    }
    this.#onFrame(frame);
    // The id counts once the frame has been handled.
    if (frame.id !== null) this.lastId = frame.id;
  }

  #ended() {
    if (this.#isClosed) return;
    if (this.#failure === null) this.#set("connecting");
    else this.#set("unavailable", { reason: this.#failure });
    this.#again(this.#serverRetryMs ?? this.#retryMs);
  }

  #failed(error) {
    if (error.status === 401) {
      this.#set("refused", error); // until there is another token
      return;
    }
    const waitMs = error.retryInMs ?? this.#retryMs;
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MS_MAX);
    if (error.status === 503) this.#set("unavailable", { reason: error.reason ?? "no_broker" });
    else if (error.status) this.#set("refused", { ...error, retryInMs: waitMs });
    else this.#set("offline");
    this.#again(waitMs);
  }

  #again(afterMs) {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#run(), afterMs);
  }

  /** Give up an attempt that hangs: another node may answer. */
  #check() {
    const { phase } = this;
    if (phase === "ended" || this.#attempt === null) return;
    const waitedMs = performance.now() - this.#attemptedMs;
    if (this.silentMs > SILENCE_MS_MAX && waitedMs > SILENCE_MS_MAX && phase !== "refused") {
      this.#run();
    }
    this.#onChange();
  }

  #onToken() {
    if (this.phase === "refused" && !this.#isClosed) this.#run();
  }

  #heard() {
    this.#heardMs = performance.now();
  }

  #set(phase, { reason, status, detail, retryInMs } = {}) {
    Object.assign(this, { phase, reason, status, detail, retryInMs });
    this.#onChange();
  }
}

/** Return the data of a frame of the MyStocks dialect, without its envelope. */
export function dataOf(frame) {
  try {
    const envelope = JSON.parse(frame.data);
    return envelope.data ?? envelope;
  } catch {
    return null;
  }
}
