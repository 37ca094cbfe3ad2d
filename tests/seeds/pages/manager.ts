import { sseManager } from "@/backtests/manager";

Object.assign(globalThis, { sseManager });
