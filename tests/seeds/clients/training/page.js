const taskId = "your-task-id";
const source = new EventSource(`/trainmodel/stream/${taskId}`);

source.onmessage = (event) => {
  const data = JSON.parse(event.data);
  if (data.type === "heartbeat") return;
  updateProgressBar(data.progress);
  updateStatusText(data.status, data.message);
  if (["SUCCESS", "FAILURE"].includes(data.status)) source.close();
};
source.onerror = () => console.error("the connection has failed");
