export { ErrorMessage } from "./cards";
