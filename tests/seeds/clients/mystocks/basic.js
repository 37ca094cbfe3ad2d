// Logs what a training reports; the browser reconnects by itself.
const source = new EventSource("http://localhost:8000/api/v1/sse/training");

source.addEventListener("connected", (event) => {
  const { data } = JSON.parse(event.data);
  console.log("connected:", data.client_id, data.message);
});
source.addEventListener("training_progress", (event) => {
  const { data } = JSON.parse(event.data);
  console.log(`${data.progress}% ${data.status}`, data.message);
  console.log("loss and accuracy:", data.metrics.loss, data.metrics.accuracy);
});
source.addEventListener("error", () => console.error("the connection has failed"));
