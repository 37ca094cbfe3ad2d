const source = new EventSource(`/api/sse/backtest/jobs?limit=10&token=${firebaseToken}`);

source.addEventListener("snapshot", (event) => console.log(JSON.parse(event.data).jobs));
source.addEventListener("job_added", (event) => console.log(JSON.parse(event.data).job));
source.close();
