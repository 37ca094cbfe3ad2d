// The access token of this tab. It is kept in sessionStorage, and never stays in the address.

const KEY = "tapewire.token";

export class Session {
  #token;
  #listeners = new Set();

  constructor() {
    const address = new URL(location.href);
    const given = address.searchParams.get("token");
    if (given !== null) {
      address.searchParams.delete("token");
      history.replaceState(history.state, "", address);
    }
    this.#token = given || sessionStorage.getItem(KEY) || "";
    if (given) sessionStorage.setItem(KEY, given);
  }

  get token() {
    return this.#token;
  }

  /** Use another token from now on; an empty one signs out. */
  set token(token) {
    this.#token = token;
    if (token) sessionStorage.setItem(KEY, token);
    else sessionStorage.removeItem(KEY);
    for (const listener of this.#listeners) listener();
  }

  /** Call back when the token changes; the returned function ends that. */
  onChange(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The headers of a request. */
  get headers() {
    return this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
  }
}
