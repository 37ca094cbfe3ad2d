function monitorTask(taskId) {
  const source = new EventSource(`/trainmodel/stream/${taskId}`);
  source.onmessage = (event) => handleStatusUpdate(JSON.parse(event.data));
  source.onerror = () => {
    source.close();
    startPolling(taskId);
  };
}
