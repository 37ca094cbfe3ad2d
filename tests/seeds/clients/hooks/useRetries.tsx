import { useEffect, useState } from "react";

// Gives up after some errors in the life of one connection.
export function useSSE(url: string) {
  const [error, setError] = useState<Error | null>(null);
  useEffect(() => {
    const source = new EventSource(url);
    let errors = 0;
    source.addEventListener("error", () => {
      errors += 1;
      if (errors < 5) return;
      setError(new Error("gave up"));
      source.close();
    });
    return () => source.close();
  }, [url]);
  return { error };
}
