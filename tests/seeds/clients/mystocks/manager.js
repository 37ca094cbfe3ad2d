// Several channels, each with a connection of its own.
const connections = new Map();

function connect(channel, { onConnect, onError, ...handlers }) {
  const source = new EventSource(`http://localhost:8000/api/v1/sse/${channel}`);
  source.addEventListener("connected", (event) => onConnect?.(JSON.parse(event.data)));
  for (const [name, handler] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => handler(JSON.parse(event.data)));
  }
  source.addEventListener("error", () => {
    console.error("cannot connect to", channel);
    onError?.();
  });
  connections.set(channel, source);
}

connect("training", { training_progress: updateTrainingUI });
connect("alerts", { risk_alert: showRiskAlert });
connect("dashboard", { dashboard_update: updateDashboard });
addEventListener("beforeunload", () => connections.forEach((source) => source.close()));
