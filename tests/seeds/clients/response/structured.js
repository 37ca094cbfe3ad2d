const source = new EventSource("/structured-events");

source.onmessage = (event) => console.log("unnamed:", event.data);
source.addEventListener("welcome", (event) => console.log("Welcome:", event.data));
source.addEventListener("status", (event) => {
  console.log(`Progress: ${JSON.parse(event.data).progress}%`);
});
source.addEventListener("complete", () => {
  console.log("completed");
  source.close();
});
