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
  return new Refused(response.status, detail, seconds > 0 ? seconds * 1000 : undefined, problem.reason);
}

export class Api {
  #session;
  #serverTime = null;

  constructor(session) {
    this.#session = session;
  }

  /** The edge's clock at its first answer, as a Date; this computer's clock may be wrong. */
  get serverTime() {
    return this.#serverTime ?? new Date();
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
    this.#serverTime ??= date === null ? null : new Date(date);
    if (!response.ok) throw await refusalOf(response);
    return response;
  }
}
