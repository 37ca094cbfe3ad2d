export { JobCard } from "./cards";
