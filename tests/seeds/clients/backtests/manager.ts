type Handlers = Record<string, (event: MessageEvent) => void>;

class SSEManager {
  #connections = new Map<string, EventSource>();

  connect(key: string, url: string, handlers: Handlers) {
    this.disconnect(key);
    const source = new EventSource(url);
    for (const [name, handler] of Object.entries(handlers)) source.addEventListener(name, handler);
    source.onerror = () => console.error("the connection has failed:", key);
    this.#connections.set(key, source);
    return source;
  }

  disconnect(key: string) {
    this.#connections.get(key)?.close();
    this.#connections.delete(key);
  }

  disconnectAll() {
    [...this.#connections.keys()].forEach((key) => this.disconnect(key));
  }

  isConnected(key: string) {
    return this.#connections.get(key)?.readyState === EventSource.OPEN;
  }
}

export const sseManager = new SSEManager();
