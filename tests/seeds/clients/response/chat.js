const source = new EventSource("/chat-stream");

function show(text) {
  const line = document.createElement("p");
  line.textContent = text;
  document.getElementById("messages").append(line);
}

source.addEventListener("join", (event) => show(`${event.data} joined the chat`));
source.addEventListener("leave", (event) => show(`${event.data} left the chat`));
source.addEventListener("message", (event) => {
  const { user, message } = JSON.parse(event.data);
  show(`${user}: ${message}`);
});
