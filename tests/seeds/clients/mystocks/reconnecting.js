// Opens a new connection after an error, and waits twice as long before each.
class ReconnectingSSE {
  reconnectDelay = 1000;

  constructor(url) {
    this.url = url;
    this.connect();
  }

  connect() {
    const source = (this.eventSource = new EventSource(this.url));
    source.addEventListener("connected", () => (this.reconnectDelay = 1000));
    source.addEventListener("error", () => {
      source.close();
      setTimeout(() => this.connect(), this.reconnectDelay);
      this.reconnectDelay = Math.min(2 * this.reconnectDelay, 30000);
    });
  }
}
