// Requests to the edge that are answered with JSON.

const ANSWER_MS = 15_000;

/** The edge refused a request; `status` and `detail` say why. */
export class Refused extends Error {
  constructor(status, detail, retryInMs, reason) {
    super(detail);
    Object.assign(this, { status, detail, retryInMs, reason });
  }
}

/** Make an error of a refused response, with the words of its problem+json. */
export async function refusalOf(response) {
  const problem = await response.json().catch(() => ({}));
  const seconds = Number(response.headers.get("Retry-After"));
  const detail = problem.detail ?? problem.title ?? response.statusText;
  return new Refused(
    response.status,
    detail,
    seconds > 0 ? seconds * 1000 : undefined,
    problem.reason,
  );
}

export class Api {
  #session;
  /** By how many milliseconds the edge's clock is ahead of this computer's, to a second or so. */
  aheadMs = 0;

  constructor(session) {
    this.#session = session;
  }

  /** The time of the edge's clock, in milliseconds; this computer's may be wrong. */
  now() {
    return Date.now() + this.aheadMs;
  }

  /**
   * Get JSON.
   * @throws {Refused} the edge refuses
   * @throws {TypeError|DOMException} the edge does not answer
   */
  async get(path) {
    return (await this.#request("GET", path)).json();
  }

  /** Post JSON, and return the response; throws as `get` does. */
  async post(path, body, headers = {}) {
    return this.#request("POST", path, JSON.stringify(body), {
      "Content-Type": "application/json",
      ...headers,
    });
  }

  async #request(method, path, body, headers = {}) {
    const response = await fetch(path, {
      method,
      body,
      headers: { Accept: "application/json", ...this.#session.headers, ...headers },
      signal: AbortSignal.timeout(ANSWER_MS),
      cache: "no-store",
    });
    const date = response.headers.get("Date");
    if (date !== null) this.aheadMs = Date.parse(date) - Date.now();
    if (!response.ok) throw await refusalOf(response);
    return response;
  }
}
