// The field for an access token: to sign in, and to renew a stream whose token is about to expire.

import { $, setText } from "./dom.js";

export class SignIn {
  #session;
  #api;
  #challenge = null;

  /**
   * @param {import("./session.js").Session} session
   * @param {import("./api.js").Api} api
   */
  constructor(session, api) {
    this.#session = session;
    this.#api = api;
    $("sign-in").addEventListener("submit", (event) => {
      event.preventDefault();
      const token = $("token").value.trim();
      $("token").value = "";
      setText($("sign-in-error"), "");
      session.token = token;
    });
    $("renewal").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send($("fresh-token").value.trim());
    });
    $("sign-out").addEventListener("click", () => {
      session.token = "";
      location.reload();
    });
    this.#showSignOut();
    session.onChange(() => this.#showSignOut());
  }

  /** Ask for a token, with the reason why the last one does not do; null hides the field. */
  show(detail) {
    const form = $("sign-in");
    const isAsked = detail !== null;
    // Without a token there is nothing to complain about yet.
    setText($("sign-in-error"), isAsked && this.#session.token ? `${detail}.` : "");
    if (form.hidden === !isAsked) return;
    form.hidden = !isAsked;
    $("main").classList.toggle("signed-out", isAsked);
    $("loading").hidden = $("loading").hidden || isAsked;
    if (!isAsked) return;
    $("bar").hidden = $("renewal").hidden = true; // too late for that
    $("token").focus();
  }

  /** Renew a stream: by the cookie, where there is no token, else by asking for a fresh token. */
  async renew({ url, seconds }) {
    this.#challenge = url;
    if (!this.#session.token && (await this.#accepted(url, ""))) return;
    setText(
      $("bar-text"),
      `Your token expires in ${seconds} s. Paste a fresh one to stay signed in.`,
    );
    $("bar").hidden = $("renewal").hidden = false;
    $("fresh-token").focus();
  }

  async #send(token) {
    if (await this.#accepted(this.#challenge, token)) {
      $("fresh-token").value = "";
      $("bar").hidden = $("renewal").hidden = true;
    }
  }

  async #accepted(url, token) {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    try {
      await this.#api.post(url, {}, headers);
    } catch (error) {
      setText(
        $("bar-text"),
        `The token is not accepted: ${error.detail ?? "the edge does not answer"}.`,
      );
      return false;
    }
    if (token) this.#session.token = token;
    return true;
  }

  #showSignOut() {
    $("sign-out").hidden = !this.#session.token;
  }
}
