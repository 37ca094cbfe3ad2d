const source = new EventSource("/live-counter");

source.onmessage = (event) => {
  document.getElementById("output").innerHTML += `${event.data}<br>`;
};
source.onerror = (event) => console.error("the stream has failed", event);
