// Where the service is: at the root of its host, or below a path that a proxy gives it.

const ROOT = new URL("../../../../", import.meta.url).pathname;

/** A path of the service, such as "wall", as a browser asks for it: "/wall", or "/trust/wall". */
export const at = (path = "") => `${ROOT}${path}`;
