const source = new EventSource("/process/stream");

source.onopen = () => console.log("opened");
source.onmessage = (event) => {
  const data = JSON.parse(event.data);
  switch (data.event) {
    case "routing_started":
      return console.log("Analyzing");
    case "routing_completed":
      return console.log("to", data.agent_name, data.confidence);
    case "response_chunk":
      return console.log("piece", event.data);
    case "completed":
      console.log("Done!");
      source.close();
  }
};
source.onerror = () => {
  console.error("SSE error");
  source.close();
};
