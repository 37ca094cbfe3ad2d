// A parser of text/event-stream. Pure.
//
// It exists beside the browser's EventSource because a page wants to see what that hides: comments,
// blocks without data, the raw bytes, and the status of a refused request.

/**
 * @typedef {{event: string, data: string|null, id: string|null, retry: number|null,
 *   isComment: boolean, raw: string, bytes: number}} Frame
 */

export class SseParser {
  #decoder = new TextDecoder();
  #rest = "";
  #lines = [];

  /** Take the next bytes, cut anywhere, and return the frames that they complete. */
  feed(bytes) {
    const frames = [];
    const text = this.#rest + this.#decoder.decode(bytes, { stream: true });
    // A CR at the end may be the first half of CR LF.
    const end = text.endsWith("\r") ? text.length - 1 : text.length;
    const lines = text.slice(0, end).split(/\r\n|\r|\n/);
    this.#rest = lines.pop() + text.slice(end);
    for (const line of lines) {
      if (line === "") {
        if (this.#lines.length > 0) frames.push(frameOf(this.#lines));
        this.#lines = [];
      } else if (line.startsWith(":") && this.#lines.length === 0) {
        frames.push(frameOf([line])); // a heartbeat: no blank line follows it
      } else {
        this.#lines.push(line);
      }
    }
    return frames;
  }
}

function frameOf(lines) {
  const frame = { event: "message", data: null, id: null, retry: null };
  for (const line of lines) {
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") frame.event = value;
    else if (field === "data") frame.data = frame.data === null ? value : `${frame.data}\n${value}`;
    else if (field === "id" && !value.includes("\0")) frame.id = value;
    else if (field === "retry" && /^\d+$/.test(value)) frame.retry = Number(value);
  }
  const raw = lines.join("\n");
  const isComment = lines.every((line) => line.startsWith(":"));
  return {
    ...frame,
    isComment,
    raw,
    bytes: new TextEncoder().encode(raw).length + (isComment ? 1 : 2),
  };
}
