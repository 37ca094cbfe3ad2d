// The account of a resumed stream: what it got, compared with a witness that was never dropped. Pure.
//
// Both read the same stream from the same cursor on. Each event that one of them has and the other
// lacks is pending for a while, since they are two connections; after that it is missing or twice.

const PENDING_MS = 3_000;

export class Account {
  #pending = new Map(); // event -> {balance, sinceMs}
  received = 0;
  witnessed = 0;

  /** Note an event of the stream that is dropped and resumed. */
  receive(event, nowMs) {
    this.received += 1;
    this.#note(event, 1, nowMs);
  }

  /** Note an event of the witness. */
  witness(event, nowMs) {
    this.witnessed += 1;
    this.#note(event, -1, nowMs);
  }

  /** Return how many events are missing, came twice, or are still under way. */
  result(nowMs) {
    const result = { missing: 0, twice: 0, pending: 0 };
    for (const { balance, sinceMs } of this.#pending.values()) {
      if (nowMs - sinceMs < PENDING_MS) result.pending += Math.abs(balance);
      else if (balance < 0) result.missing -= balance;
      else result.twice += balance;
    }
    return result;
  }

  #note(event, change, nowMs) {
    const balance = (this.#pending.get(event)?.balance ?? 0) + change;
    if (balance === 0) this.#pending.delete(event);
    else this.#pending.set(event, { balance, sinceMs: nowMs });
  }
}
