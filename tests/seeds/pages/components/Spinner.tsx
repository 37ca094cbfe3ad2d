export { Spinner } from "./cards";
