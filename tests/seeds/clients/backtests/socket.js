useEffect(() => {
  const socket = new WebSocket(`/ws/backtest/${jobId}?token=${token}`);
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.type === "progress") setProgress(message);
  };
  return () => socket.close();
}, [jobId, token]);
