// A stream that is never given up: the browser's EventSource, and a new one where that gives up.
//
// EventSource comes back by itself after a loss of connection, with the last id in its header. It
// stops for good when an answer is not a stream (a proxy's error page, say); then a new one goes on
// from the same id.

const AGAIN_MS_MIN = 500;
const AGAIN_MS_MAX = 10_000;

export class ResumableStream {
  #path;
  #handlers;
  #onState;
  #source = null;
  #lastId = "";
  #againMs = AGAIN_MS_MIN;

  /**
   * @param {string} path the stream's path with its query
   * @param {Record<string, (data: any) => void>} handlers by event name; they get the parsed data
   * @param {(state: "connecting"|"live"|"lost") => void} onState told of every change
   */
  constructor(path, handlers, onState) {
    this.#path = path;
    this.#handlers = handlers;
    this.#onState = onState;
    this.#open();
  }

  /** The cursor of the newest event that was handled. */
  get lastEventId() {
    return this.#lastId;
  }

  #open() {
    const url = new URL(this.#path, location.href);
    if (this.#lastId) url.searchParams.set("last_event_id", this.#lastId);
    const source = new EventSource(url);
    this.#source = source;
    source.addEventListener("connected", () => {
      this.#againMs = AGAIN_MS_MIN;
      this.#onState("live");
    });
    source.addEventListener("error", (event) => {
      // The server's own `error` event has data; the browser's has none.
      if (event.data !== undefined) return;
      this.#onState(source.readyState === EventSource.CLOSED ? "lost" : "connecting");
      if (source.readyState === EventSource.CLOSED) {
        setTimeout(() => this.#open(), this.#againMs);
        this.#againMs = Math.min(this.#againMs * 2, AGAIN_MS_MAX);
      }
    });
    for (const [name, handle] of Object.entries(this.#handlers)) {
      source.addEventListener(name, (event) => {
        handle(JSON.parse(event.data).data);
        if (event.lastEventId) this.#lastId = event.lastEventId;
      });
    }
  }
}
