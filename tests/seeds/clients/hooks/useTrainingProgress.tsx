import { useEffect, useState } from "react";
import type { Data } from "./stream";

declare const ProgressBar: (props: { value: number }) => any;

export function useTrainingProgress(taskId: string) {
  const [progress, setProgress] = useState<Data | null>(null);
  const [isConnected, setIsConnected] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  useEffect(() => {
    const source = new EventSource(
      `http://localhost:8000/api/v1/sse/training?client_id=client-${taskId}`,
    );
    source.addEventListener("connected", () => {
      setIsConnected(true);
      setError(null);
    });
    source.addEventListener("training_progress", (event) =>
      setProgress(JSON.parse(event.data).data),
    );
    source.addEventListener("error", () => {
      setIsConnected(false);
      setError(new Error("the connection has failed"));
    });
    return () => source.close();
  }, [taskId]);
  return { progress, isConnected, error };
}

export function TrainingProgressBar({ taskId }: { taskId: string }) {
  const { progress } = useTrainingProgress(taskId);
  if (progress === null) return <div>waiting for the first report</div>;
  return (
    <div>
      <ProgressBar value={progress.progress} />
      <p>{progress.message}</p>
      {progress.metrics && (
        <p>
          {progress.metrics.loss} {progress.metrics.accuracy}
        </p>
      )}
    </div>
  );
}
