import "@/globals";
import { createRoot } from "react-dom/client";
import { StreamingDemo } from "@/hooks/StreamingDemo";

const section = document.body.appendChild(document.createElement("section"));
createRoot(section).render(<StreamingDemo />);
