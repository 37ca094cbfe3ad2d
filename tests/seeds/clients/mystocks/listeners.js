// Listeners that are removed when the page no longer needs them.
useEffect(() => {
  const listeners = { connected: handleConnected, training_progress: handleProgress };
  const source = new EventSource(url);
  const each = Object.entries(listeners);
  each.forEach(([name, listener]) => source.addEventListener(name, listener));
  return () => {
    each.forEach(([name, listener]) => source.removeEventListener(name, listener));
    source.close();
  };
}, [url]);
