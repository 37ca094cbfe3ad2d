// A page that follows a training: its bar, and what its hook knows of the connection.
import "@/globals";
import { createRoot } from "react-dom/client";
import { TrainingProgressBar, useTrainingProgress } from "@/hooks/useTrainingProgress";

function State({ taskId }: { taskId: string }) {
  const { isConnected, error } = useTrainingProgress(taskId);
  return <p data-connected={isConnected}>{error && `Error: ${error.message}`}</p>;
}

const section = document.body.appendChild(document.createElement("section"));
createRoot(section).render(
  <>
    <TrainingProgressBar taskId="t-1" />
    <State taskId="t-1" />
  </>,
);
